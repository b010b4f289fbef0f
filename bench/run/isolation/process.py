"""One worker process, seen from its parent: started as a module, spoken to in JSON lines, watched, ended as a whole.

The worker is ``python -m bench.worker``. Requests go to its standard input and answers come from its standard output;
what a plug-in prints goes elsewhere (see there), so that it cannot be taken for an answer. Each worker leads a process
group of its own: Ctrl-C in the terminal does not reach it, and whatever it started ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, NamedTuple

from bench.errors import clean_text
from bench.paths import PACKAGE
from bench.plugins.reader import PluginInfo
from bench.run.machine import KERNELS, NATIVE, THREAD_VARIABLES

#: Longest output line that is kept whole, and how many of the last ones are searched for where a process died.
LINE_BYTES, TAIL_LINES = 2**14, 60
#: Messages that wait to be taken; a worker that sends more has to wait.
WAITING_MESSAGES = 1000
#: A worker's own module search path, and what ``PYTHONPATH`` was, for what it starts itself.
PYTHONPATH_BEFORE = "VSAE_BENCH_PYTHONPATH_BEFORE"
_POSIX = os.name == "posix"

#: Plug-ins from outside the suite, by which workers are told apart: file and source.
Strangers = frozenset[tuple[str, str]]


def strangers_among(plugins: Sequence[PluginInfo]) -> Strangers:
    """Return the plug-ins that are not the suite's own: they share a worker with no others."""
    return frozenset((str(info.path), info.source_hash) for info in plugins if info.origin != "suite")


@dataclass(frozen=True, eq=False)
class Task:
    """What a worker is asked for: a message, the plug-ins it runs, and how many replicas are trained together."""

    message: dict[str, Any]
    plugins: tuple[PluginInfo, ...]
    replicas: int = 1

    @property
    def strangers(self) -> Strangers:
        """The plug-ins among them that are not the suite's own."""
        return strangers_among(self.plugins)


class Event(NamedTuple):
    """A message of a worker, or that it has none left (``{"closed": True}``)."""

    worker: Worker
    message: dict[str, Any]


Inbox = queue.Queue[Event]


def new_inbox() -> Inbox:
    """Return what several workers put their messages into."""
    return queue.Queue(WAITING_MESSAGES)


@dataclass(eq=False)
class Watch:
    """How long a task has been silent, in steps of at most a second: a machine that slept does not count."""

    began: float = field(default_factory=time.monotonic)
    silent: float = 0.0
    progressed: bool = False
    _last: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        """Note progress."""
        self.silent, self.progressed = 0.0, True

    def tick(self) -> None:
        """Let time pass."""
        now = time.monotonic()
        self.silent += min(now - self._last, 1.0)
        self._last = now


class Worker:
    """A process that does one task after the other; if it dies, only the task it has is lost."""

    def __init__(self, inbox: Inbox, strangers: Strangers, threads: int, kernels: str = NATIVE) -> None:
        """Start it. Raises OSError if the system starts no process."""
        self.strangers = strangers
        self.task: Task | None = None
        self.watch = Watch()
        self.ready = self.ended = False
        self._inbox = inbox
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._gone_since: float | None = None
        # Inherited until the worker has its own: SIGINT and SIGTERM may come at any moment.
        with _ignored(signal.SIGINT, signal.SIGTERM):
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(threads, kernels),
                start_new_session=_POSIX,
            )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._requests = self._process.stdin
        streams = (self._hear, self._process.stdout), (self._listen, self._process.stderr)
        self._readers = [threading.Thread(target=read, args=(stream,), daemon=True) for read, stream in streams]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def give(self, task: Task) -> None:
        """Hand over a task; it may be called before the process is ready."""
        self.task, self.watch = task, Watch()
        self._send({**task.message, "files": sorted(path for path, _ in task.strangers)})

    def ask_to_stop(self) -> None:
        """Ask for an end at the next place where the task can stop."""
        self._send({"stop": True})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):  # it died; its closed streams say so
            self._requests.write(json.dumps(message).encode() + b"\n")
            self._requests.flush()

    def died(self) -> bool:
        """Return whether the process has been dead for a second, though something it left behind holds its streams."""
        if self._process.poll() is None:
            return False
        self._gone_since = self._gone_since or time.monotonic()
        return time.monotonic() - self._gone_since > 1.0

    def why_it_died(self) -> str:
        """Return how the process ended and, if a plug-in's line is known that it was in, that line."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        if code is None:
            how = "closed its streams"
        elif code >= 0:
            how = f"exit code {code}"
        elif code == -9:
            how = "signal 9; out of memory, perhaps"
        else:
            how = f"signal {-code}, {signal.strsignal(-code) or 'unknown'}"
        self._readers[1].join(timeout=1)
        return f"worker process died ({how}){self.place()}"

    def last_line(self) -> str:
        """Return the last line the process printed, or nothing."""
        return next((line for line in reversed(self._tail) if line.strip()), "")

    def place(self) -> str:
        """Return ``" at file.py:12"`` if the process has told which line of its task's plug-ins it was in."""
        files = {str(info.path): info.path.name for info in (self.task.plugins if self.task else ())}
        for line in self._tail:
            found = re.match(r'  File "(.*)", line (\d+) in ', line)
            if found and found[1] in files:
                return f" at {files[found[1]]}:{found[2]}"
        return ""

    def ask_for_place(self) -> str:
        """Let a process that does not answer tell where it is, and return that."""
        if not hasattr(signal, "SIGUSR1"):
            return ""
        self._tail.clear()
        with contextlib.suppress(OSError):
            self._process.send_signal(signal.SIGUSR1)
        limit = time.monotonic() + 0.5
        while time.monotonic() < limit and not (found := self.place()):
            time.sleep(0.02)
        return found

    def memory_gib(self) -> float:
        """Return the resident memory of the process and of all it started, in GiB."""
        import psutil

        try:
            process = psutil.Process(self.pid)
            tree = [process, *process.children(recursive=True)]
        except psutil.Error:
            return 0.0
        total = 0
        for one in tree:
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
        return float(total / 2**30)

    def end(self) -> None:
        """End the process and all it started; it holds nothing that is not on the disk already."""
        self.ended = True
        with contextlib.suppress(OSError):
            if _POSIX:
                os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        with contextlib.suppress(OSError):
            self._requests.close()

    # In threads of their own

    def _hear(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict):
                break
            self._put(message)
        self._put({"closed": True})

    def _listen(self, stream: IO[bytes]) -> None:
        """Take what is printed past the protocol, line by line; what faulthandler says is kept to be searched."""
        dump = False
        while line := stream.readline(LINE_BYTES):
            text = clean_text(line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2], LINE_BYTES)
            self._tail.append(text)
            dump = dump or text.startswith(("Fatal Python error", "Current thread", "Thread 0x"))
            if dump:
                dump = not text.startswith("Extension modules")
            elif text.strip():
                self._put({"line": text})

    def _put(self, message: dict[str, Any]) -> None:
        while not self.ended:
            try:
                return self._inbox.put(Event(self, message), timeout=0.2)
            except queue.Full:
                continue


def _environment(threads: int, kernels: str = NATIVE) -> dict[str, str]:
    """Return the environment of a worker: this one's module search path, threads and kernels from the start."""
    # Those of the parent in the same order, so that nothing hides the standard library which does not here.
    path = [*(os.path.abspath(place) for place in sys.path), str(PACKAGE.parent)]
    changed = {variable: str(threads) for variable in THREAD_VARIABLES}
    before = os.environ.get("PYTHONPATH", "")
    return {
        **os.environ,
        **changed,
        **KERNELS[kernels],
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path)),
        PYTHONPATH_BEFORE: before,
    }


@contextlib.contextmanager
def _ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore signals for a moment, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
