"""Counts and comparisons over the cells of a table, for sentences: notes use them, and a test holds README to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.errors import BenchError, closest
from bench.report.cell import ReportCell
from bench.report.table import ReportTable


@dataclass(frozen=True)
class Judged:
    """Cells that were compared with the floor, and those of them that are no better."""

    cells: tuple[ReportCell, ...]
    no_better: tuple[ReportCell, ...]

    def __str__(self) -> str:
        return f"{len(self.no_better)} of {len(self.cells)}"


def judged(cells: Iterable[ReportCell], published: bool = False) -> Judged:
    """Return which of some cells, or of the published numbers beside them, were compared with the floor."""
    verdicts = [(cell, cell.published_verdict if published else cell.verdict) for cell in cells]
    compared = tuple(cell for cell, verdict in verdicts if verdict not in ("", "floor"))
    return Judged(compared, tuple(cell for cell, verdict in verdicts if verdict == "no better than floor"))


def row_cells(table: ReportTable, label: str, group: str | None = None) -> tuple[ReportCell, ...]:
    """Return the cells of the row of this label, under the shared header ``group`` if one is given.

    Raises BenchError if the table has no such row.
    """
    labels = [row.label for row in table.spec.rows]
    if label not in labels:
        raise BenchError(f"{table.spec.id} has no row '{label}'.{closest(label, labels)}")
    columns = table.spec.columns
    return tuple(
        cell
        for cell in table.cells
        if cell.spec.row == labels.index(label) and group in (None, columns[cell.spec.column].group)
    )


@dataclass(frozen=True)
class Compared:
    """Cells of a row whose mean is better than in another row, of all ``cells`` that both have.

    In those ``by_more_than_sd`` the difference is larger than either row's standard deviation.
    """

    cells: tuple[ReportCell, ...]
    better: tuple[ReportCell, ...]
    by_more_than_sd: tuple[ReportCell, ...]


def compared(table: ReportTable, label: str, other: str) -> Compared:
    """Compare the row ``label`` with the row ``other``, cell by cell. Raises BenchError if either is not there."""
    pairs = [
        (one, two)
        for one, two in zip(row_cells(table, label), row_cells(table, other), strict=True)
        if one.mean is not None and two.mean is not None
    ]
    better, clearly = [], []
    for one, two in pairs:
        sign = 1 if table.spec.best(one.spec.column) == "min" else -1
        gain = sign * ((two.mean or 0.0) - (one.mean or 0.0))
        if gain > 0:
            better.append(one)
        if None not in (one.sd, two.sd) and gain > max(one.sd or 0.0, two.sd or 0.0):
            clearly.append(one)
    return Compared(tuple(one for one, _ in pairs), tuple(better), tuple(clearly))


def means_text(cells: Sequence[ReportCell], digits: int) -> str:
    """Return the means of some cells with this many decimals, commas between them; a dash for none."""
    return ", ".join("–" if cell.mean is None else f"{cell.mean:.{digits}f}" for cell in cells)
