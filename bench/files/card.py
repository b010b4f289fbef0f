"""A data set on a card: what its table holds, what part of it does what, whose it is and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bench.data.door import notes_of
from bench.data.frame import listed
from bench.data.kinds import KINDS
from bench.data.schema import Attribute
from bench.data.source import File
from bench.data.table import Table
from bench.files.advice import describe, lacking_files
from bench.files.fetch import LoadedTable, load_sound

if TYPE_CHECKING:
    from bench.plugins.contracts import Dataset

#: Categories that have their levels named, and levels that each has named.
MOST_CATEGORIES, MOST_LEVELS = 40, 10
#: Names in one line.
MOST_NAMES = 16


def card(dataset: Dataset, summary: str) -> list[str]:
    """Return the card of a data set as lines; what its files would tell is left out if they are not on this machine.

    Nothing is downloaded. Raises BenchError if the files are there and cannot be used, or what the plug-in raises.
    """
    lacking = lacking_files(dataset)
    lines = [f"{dataset.name}: {summary}"]
    lines += _fields([("rows", f"not known: {lacking}")]) if lacking else list(_contents(dataset))
    if dataset.stands_in_for:
        lines += _fields([("stands for", f"{dataset.stands_in_for}, if --stand-in is given; it is synthetic")])
    return [*lines, *_fields([("licence", dataset.licence or "not stated")]), *_sources(dataset)]


def _fields(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line for each word and what it says."""
    return [f"  {word:<12} {text}" for word, text in pairs]


def _contents(dataset: Dataset) -> Iterator[str]:
    """Yield what the table holds, with the target apart."""
    loaded = load_sound(dataset)
    table = loaded.table
    parts = zip(("train", "validation", "test"), table.part_sizes, strict=True)
    subset = ", a subset of the data set" if loaded.variant == "subset" else ""
    yield from _fields([("rows", f"{len(table)}: {', '.join(f'{size} {part}' for part, size in parts)}{subset}")])
    for kind in KINDS:
        own = [attribute for attribute in table.schema.attributes if attribute.kind == kind]
        if kind == "categorical" and own:
            yield from _fields([(kind, f"{len(own)}, with these levels")])
            yield from _levels(own)
        elif own:
            yield from _fields([(kind, f"{len(own)}: {listed([_shaped(a) for a in own], MOST_NAMES)}")])
    whole = loaded if dataset.target is None else load_sound(dataset, include_target=True)
    yield from _fields(
        [
            ("missing", _holes(table)),
            ("target", _target(dataset, whole.table)),
            ("content", f"sha256 {whole.table.content_hash} of the rows as read{_declared(dataset, whole)}"),
            *(("note", note) for note in notes_of(table)),
        ]
    )


def _shaped(attribute: Attribute) -> str:
    """Return the name of an attribute, with the shape of an image or feature vector."""
    return " ".join(filter(None, [attribute.name, "x".join(map(str, attribute.shape))]))


def _levels(categories: Sequence[Attribute]) -> Iterator[str]:
    """Yield the levels of each category, one line each."""
    shown = categories[:MOST_CATEGORIES]
    width = max(len(attribute.name) for attribute in shown)
    for attribute in shown:
        yield f"    {attribute.name:<{width}}  {len(attribute.levels)}: {listed(attribute.levels, MOST_LEVELS)}"
    if len(categories) > len(shown):
        yield f"    and {len(categories) - len(shown)} more"


def _holes(table: Table) -> str:
    """Return how many entries the source itself lacks, and of which attributes."""
    counts = (~table.present).sum(axis=0)
    holes = [f"{name} {count}" for name, count in zip(table.schema.names, counts, strict=True) if count]
    return f"{counts.sum()} of {table.present.size} entries: {listed(holes, MOST_NAMES)}" if holes else "nothing"


def _target(dataset: Dataset, whole: Table) -> str:
    """Return the column that is the prediction target."""
    if dataset.target is None:
        return "none"
    found = next((a for a in whole.schema.attributes if a.name == dataset.target), None)
    if found is None:
        return f"{dataset.target}, which has no values"
    levels = f", {len(found.levels)} levels: {listed(found.levels, MOST_LEVELS)}" if found.levels else ""
    return f"{found.name} ({found.kind}{levels}), left out unless a table includes it"


def _declared(dataset: Dataset, whole: LoadedTable) -> str:
    """Return whether the content hash is the one that a data set declares."""
    declared = dataset.subset_content_hashes if whole.variant == "subset" else (dataset.content_hash,)
    return ", as declared" if whole.table.content_hash in declared else ""


def _sources(dataset: Dataset) -> Iterator[str]:
    """Yield each file with its checksums and the state of its sources."""
    states = iter(describe(dataset))
    if not dataset.files:
        yield from _fields([("source", ", ".join(next(states)))])
    for file in dataset.files:
        yield from _fields([("file", file.name)])
        yield from (f"    {line}" for line in _checksums(file))
        for source in file.sources:
            _, state = next(states)
            yield f"    {source.label}: {state}"


def _checksums(file: File) -> list[str]:
    """Return the different checksums of a file's sources."""
    lines: dict[str, None] = {}
    for source in file.sources:
        for own in (source, *source.more):
            of = f" of {own.location}" if own.kind == "mirror" and source.more else ""
            mark = " (subset)" if source.subset else ""
            if own.sha256:
                lines.setdefault(f"sha256 {own.sha256}{of}{mark}")
            if own.content_sha256:
                lines.setdefault(f"sha256 {own.content_sha256} of its content, decompressed{mark}")
    return list(lines) or ["no checksum is declared"]
