"""Advice on data: where each file can come from, what its state is now, which files are missing and how to get them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from bench.data.source import File
from bench.files.cache import MIRROR_VARIABLE, cached_path
from bench.files.candidates import Candidate, candidates_of, mirror_paths
from bench.files.download import Unavailable

if TYPE_CHECKING:
    from bench.plugins.contracts import Dataset


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
                    state = f"found at {' and '.join(map(str, mirror_paths(source)))}"
                except Unavailable as reason:
                    state = str(reason)
            else:
                path = cached_path(dataset, file, source)
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


def not_available(dataset: Dataset, failures: Sequence[tuple[str, str]], exhausted: Collection[str] = ()) -> str:
    """Return the one line that says which sources were tried, why each failed, and where to put the files by hand.

    ``exhausted`` names the files that none of their sources gave.
    """
    tried = "; ".join(f"{label}: {reason}" for label, reason in failures)
    lacking = _lacking(dataset)
    wanted = [file for file in dataset.files if file in lacking or file.name in exhausted]
    places = _places(dataset, wanted or dataset.files, in_cache=True)
    return f"data set '{dataset.name}' is not available; tried {tried}. To place it by hand, put {'; '.join(places)}"


def _lacking(dataset: Dataset) -> list[File]:
    """Return the files of a data set that would need a download."""
    return [file for file in dataset.files if not any(_is_there(c) for c in candidates_of(dataset, file))]


def _is_there(candidate: Candidate) -> bool:
    """Return whether a candidate needs no download."""
    if candidate.source.kind != "mirror":
        return candidate.local
    with contextlib.suppress(Unavailable):
        return bool(mirror_paths(candidate.source))
    return False


def _places(dataset: Dataset, files: Sequence[File], in_cache: bool) -> list[str]:
    """Return where to put files by hand and where they come from, one text per folder or file."""
    # Files that lie beside each other on the web, in the cache and in the mirror are named together.
    folders: dict[tuple[str, str, str], list[tuple[str, tuple[str, str, str]]]] = {}
    for file in files:
        origin = next((s for s in file.sources if s.kind == "url"), None)
        web = "" if origin is None else origin.location
        part = "" if origin is None or origin.member is None else f", member {origin.member}"
        kept = cached_path(dataset, file, file.sources[0])
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
