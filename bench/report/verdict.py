"""What cells are compared with: the floor, the published number and each other; and the letters of their footnotes.

Everything is judged at the printed precision, so that no table says more than it shows.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from bench.errors import BenchError
from bench.experiment.specs import TableCell, TableSpec
from bench.report.cell import ReportCell, Verdict
from bench.report.published import Published, PublishedValue


def with_published(cells: Sequence[ReportCell], published: Published | None, spec: TableSpec) -> list[ReportCell]:
    """Put the published numbers beside cells; raises BenchError if one is asked for and not there."""
    return [replace(cell, published=_published(cell.spec, published, spec)) for cell in cells]


def _published(cell: TableCell, published: Published | None, spec: TableSpec) -> PublishedValue | None:
    if cell.published is None or not published:
        return None
    if cell.published not in published:
        raise BenchError(f"table spec '{spec.id}' asks for a published number that is not there: {cell.published}")
    return published[cell.published]


def with_floor(cells: Sequence[ReportCell], spec: TableSpec) -> list[ReportCell]:
    """Say of each cell, and of its published number, whether it is better than the floor.

    A cell is compared with the floor's values of the same seeds, the published number with the floor's mean.
    """
    floors = {
        (cell.spec.section, cell.spec.column): cell for cell in cells if cell.spec.row == spec.floor_row and cell.values
    }
    judged: list[ReportCell] = []
    for cell in cells:
        floor = floors.get((cell.spec.section, cell.spec.column))
        if floor is None or spec.best(cell.spec.column) == "none":
            judged.append(cell)
            continue
        sign = 1 if spec.best(cell.spec.column) == "min" else -1
        own: Verdict = "floor" if cell.spec.row == spec.floor_row else _verdict(cell, floor, sign)
        theirs = _published_verdict(cell, floor, sign)
        judged.append(replace(cell, floor=floor.mean, verdict=own, published_verdict=theirs))
    return judged


def _verdict(cell: ReportCell, floor: ReportCell, sign: int) -> Verdict:
    by_seed = dict(zip(floor.seeds, floor.values, strict=True))
    if cell.mean is None or not set(cell.seeds) <= by_seed.keys():
        return ""
    level = statistics.fmean(by_seed[seed] for seed in cell.seeds)
    better = sign * round(cell.mean, cell.digits) < sign * round(level, cell.digits)
    return "better than floor" if better else "no better than floor"


def _published_verdict(cell: ReportCell, floor: ReportCell, sign: int) -> Verdict:
    if cell.published is None or not cell.spec.comparable or floor.subset or floor.mean is None:
        return ""
    better = sign * cell.published.mean < sign * round(floor.mean, cell.published.decimals)
    return "better than floor" if better else "no better than floor"


def with_best(cells: Sequence[ReportCell], spec: TableSpec) -> list[ReportCell]:
    """Mark the best of each column and section among cells that have every seed; ties are all marked.

    A cell of other code than its method has now is not among them; a column may say that it has no best.
    """
    best: dict[tuple[int, int], float] = {}
    for cell in cells:
        direction = spec.best(cell.spec.column)
        if cell.status == "ok" and cell.mean is not None and not cell.stale and direction != "none":
            place, value = (cell.spec.section, cell.spec.column), round(cell.mean, cell.digits)
            pick = min if direction == "min" else max
            best[place] = pick(best.get(place, value), value)
    return [
        replace(
            cell,
            best=cell.status == "ok"
            and cell.mean is not None
            and not cell.stale
            and round(cell.mean, cell.digits) == best.get((cell.spec.section, cell.spec.column)),
        )
        for cell in cells
    ]


def with_footnotes(cells: Sequence[ReportCell]) -> tuple[list[ReportCell], tuple[tuple[str, str], ...]]:
    """Give each reason a letter, in the order of first use; returns the cells and the footnotes as (mark, text)."""
    letters: dict[str, str] = {}
    for cell in cells:
        if cell.reason and cell.reason not in letters:
            letters[cell.reason] = _letter(len(letters))
    marked = [replace(cell, mark=letters.get(cell.reason, "")) for cell in cells]
    return marked, tuple((mark, reason) for reason, mark in letters.items())


def _letter(index: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return letters
