"""One run at a time on a store: two would compute the same cells, and write each other's checkpoints."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BenchError


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a store's folder until the end of the block; the system releases it if the process dies.

    Raises BenchError if another process holds it. If the system has no such locks, nothing is held.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise BenchError(
                f"process {holder} is working on the store {folder}: wait for it, or name another with --store"
            ) from None
        except OSError:  # a file system without locks
            yield
            return
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
