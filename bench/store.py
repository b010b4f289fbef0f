"""Rows on disk: append-only, content-addressed, one JSON line each.

A store is a folder with one file per data set and method. Only the runner writes, a job's rows in one append; a line
that a kill cut short is ignored on reading. The last row of a key counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from bench.errors import BenchError
from bench.streams import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from bench.experiment import Cell

Row = dict[str, Any]


class Store:
    """A folder of rows."""

    def __init__(self, folder: str | Path) -> None:
        """Open the store in ``folder``; it is made when the first row is put."""
        self.folder = Path(folder)
        for place in (self.folder, *self.folder.parents):
            if place.exists():
                if not place.is_dir():
                    raise BenchError(f"the store cannot be {self.folder}: {place} is a file; name a folder")
                break

    def _path(self, dataset: str, method: str) -> Path:
        return self.folder / quote(dataset, safe="") / f"{quote(method, safe='')}.jsonl"

    def put(self, rows: Sequence[Row]) -> None:
        """Append a job's rows, flushed to the disk before it returns; raises BenchError where that cannot be done."""
        by_file: dict[Path, list[Row]] = {}
        for row in rows:
            by_file.setdefault(self._path(row["cell"]["dataset"], row["cell"]["method"]), []).append(row)
        for path, lines in by_file.items():
            text = "".join(canonical_json(line) + "\n" for line in lines).encode()
            try:
                _append(path, text)
            except OSError as error:
                raise BenchError(f"rows cannot be written to {path}: {error.strerror or error}") from None

    def rows(self, datasets: Collection[str] | None = None, methods: Collection[str] | None = None) -> Iterator[Row]:
        """Yield the last row of every key, of some data sets and methods or of all."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.glob("*/*.jsonl")):
            if datasets is not None and unquote(path.parent.name) not in datasets:
                continue
            if methods is not None and unquote(path.stem) not in methods:
                continue
            yield from {row["key"]: row for row in _read(path)}.values()

    def missing(self, cells: Iterable[Cell], retry_failed: bool = False) -> set[str]:
        """Return the keys of cells without a lasting row.

        A skipped cell is always open again; a failed one only with ``retry_failed``, since it would fail again.
        """
        wanted = {cell.key: cell for cell in cells}
        lasting = {"ok"} if retry_failed else {"ok", "failed"}
        methods = {cell.method for cell in wanted.values()}
        stored = self.rows({cell.dataset for cell in wanted.values()}, methods)
        return wanted.keys() - {row["key"] for row in stored if row["status"] in lasting}

    def frame(self) -> pd.DataFrame:
        """Return all rows as a DataFrame, one column per cell field and metric (``all.nrmse_std`` and so on)."""
        import pandas as pd

        return pd.json_normalize([_flat(row) for row in self.rows()])


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    cell = dict(row["cell"])
    return {"key": row["key"], **cell, "status": row["status"], "seconds": row.get("seconds"), **row["metrics"]}


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


def _read(path: Path) -> Iterator[Row]:
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut short by a kill while it was written
        if isinstance(row, dict) and "key" in row:
            yield row
