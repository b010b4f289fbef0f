"""Which sources a data set's files are taken from, in what order, and whether a checksum vouches for what they gave.

What is tried, in order: 1. the mirror and the cache, complete sources only; 2. the mirror and the cache, subsets too;
3. downloads of complete sources; 4. downloads of subsets. So a subset is downloaded only after every complete source
has failed, and from then on stays until its cached file is deleted or a mirror has the complete file: data does not
change between two halves of one experiment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.data.source import Fetched, File, Source
from bench.errors import line_of
from bench.files.cache import MIRROR_VARIABLE, cached_path, content_sha256, expanded_size, file_sha256, mirror_folder
from bench.files.download import Unavailable, download

if TYPE_CHECKING:
    from bench.plugins.contracts import Dataset


@dataclass(frozen=True)
class Candidate:
    """A source to try for a file; ``local`` candidates (the mirror, a cached copy) need no network."""

    source: Source
    label: str
    local: bool
    cached: Path


@dataclass(frozen=True)
class Obtained:
    """The file of a candidate that could serve; ``vouched`` says that its checksum is a declared one."""

    candidate: Candidate
    file: Fetched
    vouched: bool


#: Which candidates each pass may use.
PASSES: tuple[Callable[[Candidate], bool], ...] = (
    lambda candidate: candidate.local and not candidate.source.subset,
    lambda candidate: candidate.local,
    lambda candidate: not candidate.source.subset,
    lambda candidate: True,
)


def candidates_of(dataset: Dataset, file: File) -> list[Candidate]:
    """Return what to try for a file, in order: the mirror, cached copies, downloads; complete ones first in each."""
    mirror: list[Candidate] = []
    cached: dict[Path, Candidate] = {}
    remote: list[Candidate] = []
    for source in file.sources:
        path = cached_path(dataset, file, source)
        if source.kind == "mirror":
            mirror.append(Candidate(source, source.label, True, path))
            continue
        if path.is_file() and path not in cached:
            cached[path] = Candidate(source, f"cached {path}" + (" (subset)" if source.subset else ""), True, path)
        remote.append(Candidate(source, source.label, False, path))
    return sorted([*mirror, *cached.values(), *remote], key=lambda candidate: candidate.source.subset)


def mirror_paths(source: Source) -> list[Path]:
    """Return the paths of all files of a source in the mirror folder. Raises Unavailable if one is not there."""
    folder = mirror_folder()
    if folder is None:
        raise Unavailable(f"{MIRROR_VARIABLE} is not set")
    if not folder.is_dir():
        raise Unavailable(f"{MIRROR_VARIABLE} names {folder}, which is not a folder")
    paths = [folder / own.location for own in (source, *source.more)]
    for path in paths:
        if not path.is_file():
            raise Unavailable(f"no file {path}")
    return paths


def local_files(dataset: Dataset) -> dict[str, list[Path]]:
    """Return by name which files of this machine each file of a data set may be read from, in order."""
    found: dict[str, list[Path]] = {}
    for file in dataset.files:
        paths: dict[Path, None] = {}
        for candidate in candidates_of(dataset, file):
            if candidate.source.kind == "mirror":
                with contextlib.suppress(Unavailable):
                    paths.update(dict.fromkeys(mirror_paths(candidate.source)))
            elif candidate.local:
                paths[candidate.cached] = None
        found[file.name] = list(paths)
    return found


class Selection:
    """The candidates of each file of a data set that are still to be tried, and why the others are not."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._open = {file.name: candidates_of(dataset, file) for file in dataset.files}
        self._obtained: dict[Candidate, Obtained] = {}
        #: Label and reason of each candidate that was struck off, in order.
        self.failures: list[tuple[str, str]] = []

    def choose(self, allowed: Callable[[Candidate], bool]) -> dict[str, Obtained] | None:
        """Return the first allowed candidate of each file that can serve, or None if some file has none left."""
        chosen: dict[str, Obtained] = {}
        for file in self._dataset.files:
            obtained = self._first_available(file, allowed)
            if obtained is None:
                return None
            chosen[file.name] = obtained
        return chosen

    def exhausted(self) -> list[str]:
        """Return the names of the files that have no candidate left."""
        return [name for name, candidates in self._open.items() if not candidates]

    def strike_off(self, name: str, candidate: Candidate, reason: str) -> None:
        """Do not try a candidate for the file of this name any more; what it gave is removed, unless from a mirror."""
        self.failures.append((candidate.label, reason + _discard(candidate)))
        self._open[name].remove(candidate)

    def _first_available(self, file: File, allowed: Callable[[Candidate], bool]) -> Obtained | None:
        """Return the first allowed candidate that can serve; those that cannot are struck off with their reason."""
        for candidate in [c for c in self._open[file.name] if allowed(c)]:
            if candidate not in self._obtained:
                try:
                    self._obtained[candidate] = _obtain(self._dataset, file, candidate)
                except Unavailable as reason:
                    self.failures.append((candidate.label, str(reason)))
                    self._open[file.name].remove(candidate)
                    continue
            return self._obtained[candidate]
        return None


def _obtain(dataset: Dataset, file: File, candidate: Candidate) -> Obtained:
    """Return the file of a candidate. Raises Unavailable."""
    source = candidate.source
    try:
        if source.kind == "mirror":
            paths = mirror_paths(source)
            declared = [[own] for own in (source, *source.more)]
        else:
            path = candidate.cached
            if not candidate.local:
                download(source, path, file.most_bytes)
            paths = [path]
            declared = [[other for other in file.sources if cached_path(dataset, file, other) == path]]
        vouched = [
            _vouched_within_bounds(path, own, dataset, file.most_bytes)
            for path, own in zip(paths, declared, strict=True)
        ]
        return Obtained(candidate, Fetched(paths[0], source, tuple(paths[1:])), all(vouched))
    except OSError as error:
        raise Unavailable(line_of(error)) from error


def _vouched_within_bounds(path: Path, declared: Sequence[Source], dataset: Dataset, most_bytes: int) -> bool:
    """Return ``_is_vouched_for``. Raises Unavailable if a file without a known checksum holds too much."""
    vouched = _is_vouched_for(path, declared, dataset, most_bytes)
    by_checksum = vouched and any(other.sha256 or other.content_sha256 for other in declared)
    if not by_checksum and expanded_size(path, most_bytes) > most_bytes:
        raise Unavailable(f"{path} holds more than the {most_bytes} bytes the data set allows")
    return vouched


def _has_checksum(path: Path, sources: Sequence[Source]) -> bool:
    """Return whether one of its sources declares the checksum of a file as it is."""
    files = {source.sha256 for source in sources} - {None}
    return bool(files) and file_sha256(path) in files


def _is_vouched_for(path: Path, sources: Sequence[Source], dataset: Dataset, most_bytes: int) -> bool:
    """Return whether one of its sources declares the checksum of a file, or of what it holds once decompressed.

    If neither the sources nor the data set declare any, there is nothing to compare the file with, and it is accepted.
    """
    contents = {source.content_sha256 for source in sources} - {None}
    if not contents and all(source.sha256 is None for source in sources):
        return not (dataset.content_hash or dataset.subset_content_hashes)
    return _has_checksum(path, sources) or (bool(contents) and content_sha256(path, most_bytes) in contents)


def _discard(candidate: Candidate) -> str:
    """Remove a file that must not be used, unless it is the user's mirror; return what to add to the reason."""
    if candidate.source.kind == "mirror":
        return ""
    with contextlib.suppress(OSError):
        candidate.cached.unlink(missing_ok=True)
    return "; removed"
