"""The verdict on the order of methods in a column whose unit is not known.

Two methods are *as published* if their paired difference over seeds lies clearly on the side of zero where the paper
has them, *against it* if on the other side, and *open* else: clearly is at 2.5 % on either side, after Holm's
correction for all pairs of the column. The order is reproduced if all pairs are as published, not reproduced if one is
against it, and undecided else. Lower is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from bench.report.cell import ReportCell
from bench.report.rules.intervals import CONFIDENCE, Estimate, holm

OrderVerdict = Literal["order reproduced", "order not reproduced", "undecided", "not run"]


@dataclass(frozen=True)
class Order:
    """The order of a column's methods: the pairs as published, against it and open, and Kendall's tau of the means.

    ``contradictions`` are the pairs against it as (the better one in the paper, the better one here).
    """

    verdict: OrderVerdict
    methods: int
    as_published: int
    against: int
    open: int
    rank_correlation: float | None
    contradictions: tuple[tuple[str, str], ...] = ()


def order_of(cells: Sequence[tuple[str, ReportCell]]) -> Order:
    """Return what holds of the published order of cells, given as (label, cell); those without a value count not."""
    known = [(label, cell) for label, cell in cells if cell.published is not None and cell.mean is not None]
    if len(known) < 2:
        return Order("not run", len(known), 0, 0, 0, None)
    pairs = [
        (one, two) if _published(one) < _published(two) else (two, one)
        for one, two in combinations(known, 2)
        if _published(one) != _published(two)
    ]
    # With the better one of the paper first, as published is a difference below zero.
    estimates = [_difference(one[1], two[1]) for one, two in pairs]
    rightly = holm([1.0 if estimate is None else estimate.probability_above() for estimate in estimates])
    wrongly = holm([1.0 if estimate is None else 1 - estimate.probability_above() for estimate in estimates])
    level = (1 - CONFIDENCE) / 2
    against = [pair for pair, p in zip(pairs, wrongly, strict=True) if p < level]
    as_published = sum(p < level for p in rightly)
    verdict: OrderVerdict = "undecided"
    if against:
        verdict = "order not reproduced"
    elif as_published == len(pairs):
        verdict = "order reproduced"
    return Order(
        verdict,
        len(known),
        as_published,
        len(against),
        len(pairs) - as_published - len(against),
        _rank_correlation(known),
        tuple((one[0], two[0]) for one, two in against),
    )


def _published(labelled: tuple[str, ReportCell]) -> float:
    """Return the published mean of a cell that has one."""
    assert labelled[1].published is not None
    return labelled[1].published.mean


def _difference(one: ReportCell, two: ReportCell) -> Estimate | None:
    """Return the paired difference of two cells over the seeds that both have, None for fewer than two."""
    first, second = (dict(zip(cell.seeds, cell.values, strict=True)) for cell in (one, two))
    paired = [first[seed] - second[seed] for seed in first if seed in second]
    return Estimate.of_values(paired) if len(paired) > 1 else None


def _rank_correlation(known: Sequence[tuple[str, ReportCell]]) -> float | None:
    """Return Kendall's tau-b of the published means and ours; None if all of one of them are equal."""
    from scipy.stats import kendalltau

    tau = float(kendalltau([_published(each) for each in known], [cell.mean for _, cell in known]).statistic)
    return tau if tau == tau else None
