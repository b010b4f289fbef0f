"""Results on disk: append-only, found by their cell's key, one JSON line (a row) each.

A store is a folder with one file per data set and method. A job's rows are written in one append; a line that a kill
cut short is ignored on reading. The last row of a key counts.

There is no index that could be stale: a question that names keys or fields of the cell skips lines that cannot answer
it by looking at their bytes, and parses the rest.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from bench.errors import BenchError
from bench.experiment.result import Result
from bench.seeds import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from bench.experiment.cell import Cell

#: A row as parsed, before it is known to be wanted.
_Row = dict[str, Any]

#: A value that can be told from its bytes: a text without escapes, a whole number, or the beginning of anything else.
_VALUE = re.compile(rb'"[^"\\]*"|-?\d+(?=[,}\]])|[\[{tfn]')

#: Rows are a few thousand bytes long: a small buffer would cut most of them in two.
_READ_BYTES = 2**20

#: What a row must have: an outer field, or a field of its cell, and the values to choose from.
Wanted = Mapping[str, Collection[Any]]


class Store:
    """A folder of results."""

    def __init__(self, folder: str | Path) -> None:
        """Open the store in ``folder``, which is made with the first result; raises BenchError if it is a file."""
        self.folder = Path(folder)
        for place in (self.folder, *self.folder.parents):
            if place.exists():
                if not place.is_dir():
                    raise BenchError(f"the store cannot be {self.folder}: {place} is a file; name a folder")
                break

    def _path(self, dataset: str, method: str) -> Path:
        return self.folder / quote(dataset, safe="") / f"{quote(method, safe='')}.jsonl"

    def put(self, results: Sequence[Result]) -> None:
        """Append a job's results, flushed to the disk before it returns; raises BenchError if that cannot be done."""
        by_file: dict[Path, list[str]] = {}
        for result in results:
            path = self._path(result.cell.dataset, result.cell.method)
            by_file.setdefault(path, []).append(canonical_json(result.as_json()) + "\n")
        for path, lines in by_file.items():
            try:
                _append(path, "".join(lines).encode())
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
        field. Raises BenchError on a row that is no result.
        """
        return map(Result.from_json, self._rows(datasets, methods, keys, cell))

    def _rows(
        self,
        datasets: Collection[str] | None,
        methods: Collection[str] | None,
        keys: Collection[str] | None,
        cell: Wanted | None,
    ) -> Iterator[_Row]:
        fields = dict(cell or {})
        chosen = None if keys is None else frozenset(keys)
        wanted = fields if chosen is None else {"key": chosen, **fields}
        for path in self._files(datasets, methods):
            last = {row["key"]: row for row in _read(path, wanted) if chosen is None or row["key"] in chosen}
            for row in last.values():
                if all(row["cell"].get(name) in values for name, values in fields.items()):
                    yield row

    def newest(self, datasets: Collection[str], methods: Collection[str], preset: str) -> Iterator[Result]:
        """Yield, for each data set and method, the last result that ran well under a preset."""
        wanted = {"preset": {preset}, "status": {"ok"}}
        for path in self._files(datasets, methods):
            for row in _parsed(_may_have(wanted, reversed(path.read_bytes().splitlines()))):
                if row["status"] == "ok" and row["cell"]["preset"] == preset:
                    yield Result.from_json(row)
                    break

    def _files(self, datasets: Collection[str] | None, methods: Collection[str] | None) -> Iterator[Path]:
        """Yield the files of some data sets and methods, or of all, in order."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*/*.jsonl")):
            if datasets is not None and unquote(path.parent.name) not in datasets:
                continue
            if methods is not None and unquote(path.stem) not in methods:
                continue
            yield path

    def missing(self, cells: Iterable[Cell], retry_failed: bool = False) -> set[str]:
        """Return the keys of cells without a lasting result.

        A skipped cell is always open again; a failed one only with ``retry_failed``, since it would fail again.
        """
        wanted = {cell.key: cell for cell in cells}
        lasting = {"ok"} if retry_failed else {"ok", "failed"}
        methods = {cell.method for cell in wanted.values()}
        stored = self._rows({cell.dataset for cell in wanted.values()}, methods, wanted.keys(), None)
        return wanted.keys() - {row["key"] for row in stored if row["status"] in lasting}

    def frame(self) -> pd.DataFrame:
        """Return all results as a DataFrame, one column per cell field and metric (``all.nrmse_std`` and so on)."""
        import pandas as pd

        return pd.json_normalize([_flat(result) for result in self.rows()])


def _flat(result: Result) -> dict[str, Any]:
    cell = result.cell.as_json()
    return {"key": result.key, **cell, "status": result.status, "seconds": result.seconds, **result.metrics}


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


def _read(path: Path, wanted: Wanted) -> Iterator[_Row]:
    """Yield the rows of a file in order, without some of those that are not wanted."""
    with path.open("rb", buffering=_READ_BYTES) as stream:
        yield from _parsed(_may_have(wanted, stream))


def _parsed(lines: Iterable[bytes]) -> Iterator[_Row]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut short by a kill while it was written
        if isinstance(row, dict) and "key" in row and "cell" in row:
            yield row
