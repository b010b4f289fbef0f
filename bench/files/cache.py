"""The cache folder: where files are kept, how they are identified, and what was parsed from them before."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import inspect
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from bench.data.source import MOST_BYTES, File, Source, Variant
from bench.data.table import Table
from bench.errors import BenchError
from bench.files import arrays
from bench.paths import PACKAGE
from bench.seeds import digest

if TYPE_CHECKING:
    from bench.plugins.contracts import Dataset

CACHE_VARIABLE = "VSAE_BENCH_CACHE"
MIRROR_VARIABLE = "VSAE_BENCH_MIRROR"

#: Modules of the suite, below its package, that what a loaded table holds depends on, beside the data set's own.
READING_CODE = (
    "files/fetch.py",
    "files/candidates.py",
    "files/cache.py",
    "files/arrays.py",
    "files/text.py",
    "files/images.py",
    "files/npz.py",
    "files/shared.py",
    "data/door.py",
    "data/frame.py",
    "data/kinds.py",
    "data/parts.py",
    "data/schema.py",
    "data/source.py",
    "data/table.py",
    "seeds.py",
)


@dataclass(frozen=True, eq=False)
class LoadedTable:
    """A data set's table, whether it is all of it, and where it came from."""

    table: Table
    variant: Variant
    source: str


@dataclass(frozen=True)
class Content:
    """The identity of a data set's table, without the table."""

    content_hash: str
    variant: Variant
    source: str


def cache_folder() -> Path:
    """Return the folder that keeps downloads: ``VSAE_BENCH_CACHE``, else the platform's cache for ``vsae-bench``."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vsae-bench"))


def mirror_folder() -> Path | None:
    """Return the mirror folder named by ``VSAE_BENCH_MIRROR``, or None if it is not set."""
    named = os.environ.get(MIRROR_VARIABLE)
    return Path(named).expanduser().resolve() if named else None


def cached_path(dataset: Dataset, file: File, source: Source) -> Path:
    """Return where the file of a source is kept.

    It keeps the declared name, or the name it has there if its layout or its rows differ from those of the file.
    """
    folder = cache_folder() / (file.folder or dataset.name)
    if source.format == file.sources[0].format and not source.subset:
        return folder / file.name
    name = PurePosixPath(unquote(source.member or urlsplit(source.location).path)).name
    return folder / (f"subset-{name}" if source.subset else name)


# Hashes


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_sha256(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """Return the SHA-256 of what a gzip file holds, or of any other file itself.

    It is empty if the file is damaged or holds more than ``most_bytes``.
    """
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if not compressed:
        return file_sha256(path)
    hasher, size = hashlib.sha256(), 0
    try:
        with gzip.open(path, "rb") as content:
            while size <= most_bytes and (part := content.read(1 << 20)):
                hasher.update(part)
                size += len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return ""
    return hasher.hexdigest() if size <= most_bytes else ""


def expanded_size(path: Path, most_bytes: int = MOST_BYTES) -> int:
    """Return how many bytes a file holds once it is decompressed, or some number above ``most_bytes``.

    Nothing is kept in memory. A damaged file counts up to the damage: reading it says what is wrong.
    """
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            return path.stat().st_size
    size = 0
    with contextlib.suppress(EOFError, zlib.error, gzip.BadGzipFile), gzip.open(path, "rb") as content:
        while size <= most_bytes and (part := content.read(1 << 20)):
            size += len(part)
    return size


def decompressed(path: Path, most_bytes: int = MOST_BYTES) -> bytes:
    """Return what a file holds, decompressed if it is gzip. Raises BenchError if that is more than ``most_bytes``."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if compressed else path.open("rb") as content:
        held: bytes = content.read(most_bytes + 1)
    if len(held) > most_bytes:
        raise BenchError(f"{path} holds more than {most_bytes} bytes; declare most_bytes of its File if that is right")
    return held


def content_key(dataset: Dataset, include_target: bool, local_files: Mapping[str, Sequence[Path]]) -> str | None:
    """Return a hash of all that a loaded table depends on, or None if that cannot be told without loading it.

    These are the plug-in's source, the code that reads, and the local files (size and modification time) that each
    file of the data set, by name, may be read from.
    """
    try:
        plugin = inspect.getsourcefile(type(dataset))
    except (TypeError, OSError):
        return None
    if not local_files or plugin is None or not Path(plugin).is_file():
        return None
    states: list[list[str | int]] = []
    for paths in local_files.values():
        if not paths:
            return None
        for path in paths:
            state = path.stat()
            states.append([str(path), state.st_size, state.st_mtime_ns])
    code = [file_sha256(Path(plugin)), *(file_sha256(PACKAGE / name) for name in READING_CODE)]
    return digest([dataset.name, include_target, code, states])


# What was parsed before


def noted_content(dataset: Dataset, include_target: bool, key: str) -> Content | None:
    """Return the content noted under a key, or None."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(_note(dataset, include_target).read_text(encoding="utf-8"))
        if kept["key"] == key:
            return Content(kept["content_hash"], kept["variant"], kept["source"])
    return None


def note_content(dataset: Dataset, include_target: bool, key: str, content: Content) -> None:
    """Note the content of a data set under a key, if the cache can be written."""
    with contextlib.suppress(OSError):
        write_whole(_note(dataset, include_target), json.dumps({"key": key, **asdict(content)}).encode())


def _note(dataset: Dataset, include_target: bool) -> Path:
    return cache_folder() / dataset.name / f"content{'-with-target' if include_target else ''}.json"


def kept_table(dataset: Dataset, key: str) -> LoadedTable | None:
    """Return the table kept under a key, its images and features mapped from their files, or None."""
    kept = arrays.read(cache_folder() / dataset.name, key)
    return None if kept is None else LoadedTable(kept[0], kept[1]["variant"], kept[1]["source"])


def keep_table(dataset: Dataset, key: str, loaded: LoadedTable) -> LoadedTable:
    """Keep a table under a key and return it mapped from its files, or as it is if the cache cannot be written."""
    note = {"variant": loaded.variant, "source": loaded.source}
    with contextlib.suppress(OSError):
        arrays.write(cache_folder() / dataset.name, key, loaded.table, note)
    return kept_table(dataset, key) or loaded


# Writing


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give a folder on the same file system as ``parent`` for a download in progress, and remove it afterwards."""
    with tempfile.TemporaryDirectory(prefix=".download-", dir=parent) as folder:
        yield Path(folder)


def write_whole(target: Path, content: bytes) -> None:
    """Write a file in one step: a reader, or a second process that writes the same, never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(target.parent) as folder:
        whole = folder / target.name
        whole.write_bytes(content)
        whole.replace(target)
