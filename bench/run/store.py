"""Results on disk: append-only, found by their cell's key, one JSON line (a row) each.

A store is a folder with one file per data set and method. A job's rows are written in one append. A line that a kill
cut short or that somebody edited is no row: it is left out and told. The last row of a key counts.

There is no index that could be stale: a question that names keys or fields of the cell skips lines that cannot answer
it by looking at their bytes, and parses the rest.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote

from bench.errors import BenchError
from bench.experiment.result import Result, Standing, is_stale, parsed_line
from bench.run.progress import counted
from bench.seeds import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from bench.experiment.cell import Cell

_Read = TypeVar("_Read")

#: A row as parsed, before it is known to be wanted.
_Row = dict[str, Any]

#: A value that can be told from its bytes: a text without escapes, a whole number, or the beginning of anything else.
_VALUE = re.compile(rb'"[^"\\]*"|-?\d+(?=[,}\]])|[\[{tfn]')

#: Rows are a few thousand bytes long: a small buffer would cut most of them in two.
_READ_BYTES = 2**20

#: What a row must have: an outer field, or a field of its cell, and the values to choose from.
Wanted = Mapping[str, Collection[Any]]


@dataclass(frozen=True)
class Damage:
    """A line of a store that is not read as a result: where it is, and what is wrong with it."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Conflict:
    """A cell whose results in two stores differ: the one that counts, and the one beneath it."""

    above: Result
    beneath: Result
    folders: tuple[Path, Path]

    @property
    def difference(self) -> float:
        """The largest relative difference between two metrics, infinite if they are not of the same names."""
        return largest_difference(self.above.metrics, self.beneath.metrics)

    def __str__(self) -> str:
        cell, (above, beneath) = self.above.cell, self.folders
        where = f"{cell.method} on {cell.dataset}, {cell.mechanism} {cell.ratio:g}, seed {cell.seed}"
        return f"{where}: {above} and {beneath} differ by {100 * self.difference:.2g} %"


class Store:
    """A folder of results, and folders beneath it that are only read.

    A result that ran well hides one of the same cell further down. ``damage`` and ``conflicts`` say what was found
    while results were read; a line that is damaged or edited is never a result.
    """

    def __init__(self, folder: str | Path, *beneath: str | Path) -> None:
        """Open the store in ``folder``, which is made with the first result; raises BenchError if one is a file."""
        self.folder = Path(folder)
        self.folders = tuple(dict.fromkeys((self.folder, *map(Path, beneath))))
        self._damage: dict[Path, dict[bytes, str]] = {}
        self._conflicts: dict[str, Conflict] = {}
        for each in self.folders:
            for place in (each, *each.parents):
                if place.exists():
                    if not place.is_dir():
                        raise BenchError(f"the store cannot be {each}: {place} is a file; name a folder")
                    break

    @property
    def damage(self) -> list[Damage]:
        """The lines met so far that are no results, in order."""
        found: list[Damage] = []
        for path, reasons in sorted(self._damage.items()):
            lines = enumerate(path.read_bytes().split(b"\n"), start=1)
            found += [Damage(path, number, reasons[line]) for number, line in lines if line in reasons]
        return found

    @property
    def conflicts(self) -> list[Conflict]:
        """The cells met so far whose results differ between two of the folders."""
        return list(self._conflicts.values())

    def told(self) -> list[str]:
        """Return, in a line each, what was met so far that is damaged, and where two folders differ."""
        told: list[str] = []
        damage, conflicts = self.damage, self.conflicts
        if damage:
            more = f"; and {len(damage) - 1} more, `vsae-bench verify` lists them" if len(damage) > 1 else ""
            told.append(f"left out, edited or damaged: {counted(len(damage), 'row')} ({damage[0]}{more})")
        if conflicts:
            worst = max(conflicts, key=lambda conflict: conflict.difference)
            told.append(f"{counted(len(conflicts), 'cell')} with two contents: the first store's count; {worst}")
        return told

    def _path(self, dataset: str, method: str) -> Path:
        return self.folder / quote(dataset, safe="") / f"{quote(method, safe='')}.jsonl"

    def put(self, results: Sequence[Result]) -> None:
        """Append a job's results, flushed to the disk before it returns; raises BenchError if that cannot be done."""
        by_file: dict[Path, list[bytes]] = {}
        for result in results:
            path = self._path(result.cell.dataset, result.cell.method)
            by_file.setdefault(path, []).append(result.as_line())
        for path, lines in by_file.items():
            try:
                _append(path, b"".join(lines))
            except OSError as error:
                raise BenchError(f"rows cannot be written to {path}: {error.strerror or error}") from None

    def rows(
        self,
        datasets: Collection[str] | None = None,
        methods: Collection[str] | None = None,
        keys: Collection[str] | None = None,
        cell: Wanted | None = None,
    ) -> Iterator[Result]:
        """Yield the last result of every key, of some data sets and methods or of all.

        ``keys`` and ``cell`` choose further: results of these keys, results whose cell has one of the values in each
        field.
        """
        fields = dict(cell or {})
        chosen = None if keys is None else frozenset(keys)
        wanted = fields if chosen is None else {"key": chosen, **fields}
        for paths in self._files(datasets, methods):
            layers = [self._last(path, wanted, chosen, fields, Result.from_line) for path in paths]
            yield from (layers[0] if len(layers) == 1 else self._merged(layers, paths)).values()

    def every(self) -> Iterator[Result]:
        """Yield every sound result of all folders, those that later ones of their key replace too."""
        for paths in self._files(None, None):
            for path in paths:
                with path.open("rb", buffering=_READ_BYTES) as stream:
                    found = (self._result(path, line, row) for line, row in self._parsed(path, stream))
                    yield from (result for result in found if result is not None)

    def _last(
        self,
        path: Path,
        wanted: Wanted,
        chosen: Collection[str] | None,
        fields: Wanted,
        read: Callable[[bytes, _Row], _Read],
    ) -> dict[str, _Read]:
        """Return the last sound row of each key in a file, as ``read`` makes of its line."""
        last: dict[str, _Read] = {}
        with path.open("rb", buffering=_READ_BYTES) as stream:
            for line, row in self._parsed(path, _may_have(wanted, stream)):
                if (chosen is None or row["key"] in chosen) and _has(row["cell"], fields):
                    try:
                        last[row["key"]] = read(line, row)
                    except BenchError as error:
                        self._note(path, line, error)
        return last

    def _standing(
        self, datasets: Collection[str], methods: Collection[str], keys: Collection[str]
    ) -> Iterator[Standing]:
        """Yield how the last row of each key stands, without reading all of it."""
        chosen = frozenset(keys)
        for (path,) in self._files(datasets, methods):
            yield from self._last(path, {"key": chosen}, chosen, {}, Standing.from_line).values()

    def _merged(self, layers: Sequence[Mapping[str, Result]], paths: Sequence[Path]) -> dict[str, Result]:
        """Return the results that count, from the highest layer to the lowest, and note where two differ."""
        merged: dict[str, Result] = {}
        origin: dict[str, Path] = {}
        for layer, path in zip(layers, paths, strict=True):
            for key, result in layer.items():
                above = merged.get(key)
                if above is None or (above.status != "ok" and result.status == "ok"):
                    merged[key], origin[key] = result, path
                elif above.status == result.status == "ok" and not same_numbers(above, result):
                    folders = origin[key].parent.parent, path.parent.parent
                    self._conflicts.setdefault(key, Conflict(above, result, folders))
        return merged

    def newest(self, datasets: Collection[str], methods: Collection[str], preset: str) -> Iterator[Result]:
        """Yield, for each data set and method, the last result that ran well under a preset."""
        wanted = {"preset": {preset}, "status": {"ok"}}
        for paths in self._files(datasets, methods):
            found = (self._newest(path, wanted, preset) for path in paths)
            yield from [result for result in found if result is not None][:1]

    def _newest(self, path: Path, wanted: Wanted, preset: str) -> Result | None:
        for line, row in self._parsed(path, _may_have(wanted, reversed(path.read_bytes().splitlines()))):
            if row.get("status") == "ok" and row["cell"].get("preset") == preset:
                result = self._result(path, line, row)
                if result is not None:
                    return result
        return None

    def _parsed(self, path: Path, lines: Iterable[bytes]) -> Iterator[tuple[bytes, _Row]]:
        """Yield lines with the rows that they hold; those that hold none are damaged."""
        for line in lines:
            if line.isspace() or not line:
                continue
            try:
                row = parsed_line(line)
            except BenchError as error:
                self._note(path, line, error)
                continue
            yield line, row

    def _result(self, path: Path, line: bytes, row: _Row) -> Result | None:
        try:
            return Result.from_line(line, row)
        except BenchError as error:
            self._note(path, line, error)
            return None

    def _note(self, path: Path, line: bytes, error: BenchError) -> None:
        self._damage.setdefault(path, {})[line.rstrip(b"\n")] = str(error)

    def _files(self, datasets: Collection[str] | None, methods: Collection[str] | None) -> Iterator[list[Path]]:
        """Yield the files of some data sets and methods, or of all, in order: one per folder that has it."""
        found: dict[tuple[str, str], list[Path]] = {}
        for folder in self.folders:
            for path in sorted(folder.glob("*/*.jsonl")):
                if datasets is not None and unquote(path.parent.name) not in datasets:
                    continue
                if methods is not None and unquote(path.stem) not in methods:
                    continue
                found.setdefault((path.parent.name, path.name), []).append(path)
        yield from found.values()

    def missing(
        self,
        cells: Iterable[Cell],
        retry_failed: bool = False,
        sources: Mapping[str, Mapping[str, str]] | None = None,
    ) -> set[str]:
        """Return the keys of cells without a lasting result.

        A skipped cell is always open again; a failed one only with ``retry_failed``, since it would fail again.
        ``sources`` are, by key, the hashes of the plug-ins' code: what another code gave does not last.
        """
        wanted = {cell.key: cell for cell in cells}
        lasting = {"ok"} if retry_failed else {"ok", "failed"}
        methods = {cell.method for cell in wanted.values()}
        datasets = {cell.dataset for cell in wanted.values()}
        stored: Iterable[Result | Standing] = (
            self.rows(datasets, methods, wanted.keys())
            if len(self.folders) > 1
            else self._standing(datasets, methods, wanted.keys())
        )
        current = sources or {}
        return wanted.keys() - {
            result.key
            for result in stored
            if result.status in lasting and not is_stale(result, current.get(result.key, {}))
        }

    def outdated(self, cells: Iterable[Cell]) -> list[str]:
        """Return, in at most two lines, which results were asked for as these cells are, but have another key, and why.

        A raised version, another budget or other data leave them behind: they are still in the store, and not read.
        """
        wanted = list(cells)
        by_request = {cell.request: cell for cell in wanted}
        keys = {cell.key for cell in wanted}
        asked: dict[str, set[Any]] = {
            "seed": {cell.seed for cell in wanted},
            "preset": {cell.preset for cell in wanted},
        }
        left: dict[str, dict[str, set[str]]] = {}
        for result in self.rows({c.dataset for c in wanted}, {c.method for c in wanted}, cell=asked):
            now = by_request.get(result.cell.request)
            if now is not None and result.status == "ok" and result.key not in keys:
                why = "; ".join(now.changes_from(result.cell))
                left.setdefault(why, {}).setdefault(result.cell.method, set()).add(result.key)
        lines = sorted(left.items(), key=lambda item: -sum(map(len, item[1].values())))
        told = [
            f"{counted(sum(map(len, methods.values())), 'stored row')} of {', '.join(sorted(methods))} no longer"
            f" {'answers' if sum(map(len, methods.values())) == 1 else 'answer'}: {why}"
            for why, methods in lines
        ]
        return told if len(told) <= 2 else [told[0], f"{told[1]} (and more, for {len(told) - 2} other reasons)"]

    def frame(self) -> pd.DataFrame:
        """Return all results as a DataFrame, one column per cell field and metric (``all.nrmse_std`` and so on)."""
        import pandas as pd

        return pd.json_normalize([_flat(result) for result in self.rows()])


def _flat(result: Result) -> dict[str, Any]:
    cell = result.cell.as_json()
    return {"key": result.key, **cell, "status": result.status, "seconds": result.seconds, **result.metrics}


def same_numbers(one: Result, other: Result) -> bool:
    """Return whether two results of a cell have the very same status, mask and scores."""
    return all(getattr(one, part) == getattr(other, part) for part in ("status", "mask_hash", "metrics", "attributes"))


def largest_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the largest relative difference between two results' metrics; infinite if their names differ."""
    if one.keys() != other.keys() or any(one[scope].keys() != other[scope].keys() for scope in one):
        return math.inf
    pairs = [(one[scope][name], other[scope][name]) for scope in one for name in one[scope]]
    if any((a is None) != (b is None) for a, b in pairs):
        return math.inf
    return max((abs(a - b) / max(abs(a), abs(b)) for a, b in pairs if a is not None and a != b), default=0.0)


def _has(cell: Mapping[str, Any], fields: Wanted) -> bool:
    """Return whether a cell has wanted values; one that cannot be told is left to the check of its row."""
    try:
        return all(cell.get(name) in values for name, values in fields.items())
    except TypeError:
        return True


def _append(path: Path, text: bytes) -> None:
    """Append whole lines to a file and wait for the disk; a line that was cut short before stays alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        if stream.tell() and not _ends_with_newline(path):
            text = b"\n" + text
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _may_have(wanted: Wanted, lines: Iterable[bytes]) -> Iterable[bytes]:
    """Return the lines without those that name a field and nowhere give it a wanted value.

    This looks at texts and whole numbers as ``put`` writes them. A line that names a field nowhere in this form stays,
    and so does one that names it in another part of the row: the parsed row still has to be looked at.
    """
    for name, values in wanted.items():
        if all(isinstance(value, str | int) and not isinstance(value, bool) for value in values):
            texts = frozenset(canonical_json(value).encode() for value in values)
            lines = filter(_line_test(f'"{name}":'.encode(), texts), lines)
    return lines


def _line_test(marker: bytes, texts: Collection[bytes]) -> Callable[[bytes], bool]:
    """Return a test of whether a value behind ``marker`` is among ``texts``, or cannot be told."""
    length, value_at = len(marker), _VALUE.match

    def passes(line: bytes) -> bool:
        at = line.find(marker)
        if at < 0:
            return True
        while at >= 0:
            value = value_at(line, at + length)
            if value is None or value.group() in texts:
                return True
            at = line.find(marker, value.end())
        return False

    return passes
