"""The verdict on one published number: the one place of its rules.

A number is *reproduced* if all of the 95 % interval of our mean less the published one lies within a margin: a tenth of
the distance from our floor to the published value, and at least half a unit of its last printed digit. It is *better*
or *worse* if all of the interval lies beyond the margin, and *undecided* else. A published standard deviation that is
printed as a number counts as that of three runs; one that is only bounded enters nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from bench.report.cell import ReportCell
from bench.report.published import PublishedValue
from bench.report.rules.intervals import Estimate

Verdict = Literal[
    "reproduced",
    "better",
    "worse",
    "undecided",
    "no better than the floor in the paper",
    "not comparable",
    "no data",
    "not run",
    "failed",
]
#: In the order of a summary.
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)
#: The sign of each verdict, in tables and in lists; colour and words only repeat it.
MARKS: Final[dict[Verdict, str]] = {
    "reproduced": "=",
    "better": "+",
    "worse": "−",
    "undecided": "?",
    "no better than the floor in the paper": "○",
    "not comparable": "/",
    "no data": ".",
    "not run": ".",
    "failed": "×",
}
#: The share of the distance from the floor to the published value that a reproduced value may be away from it.
MARGIN = 0.1
#: Runs behind a published mean.
PUBLISHED_RUNS = 3
#: The published metric whose unit is not known: nobody says what it divides by.
UNKNOWN_UNIT = "nrmse"
WHY_UNKNOWN_UNIT = "the paper does not say what its NRMSE divides by: the order of the methods is judged instead"


@dataclass(frozen=True)
class Comparison:
    """A published number beside ours: the verdict, why, and the interval of ours less the published one.

    ``difference``, ``low``, ``high`` and ``margin`` are None if the two were not compared in value.
    """

    verdict: Verdict
    why: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None


def comparison_of(cell: ReportCell, lower_is_better: bool = True) -> Comparison | None:
    """Return what holds of the published number beside a cell; None if there is none."""
    published = cell.published
    if published is None or cell.spec.published is None:
        return None
    if cell.status == "unobtained":
        return Comparison("no data", cell.reason)
    if cell.mean is None:
        return Comparison("failed" if cell.status == "failed" else "not run", cell.reason)
    if not cell.spec.comparable:
        return Comparison("not comparable", "computed on other data than the paper's, see the table's notes")
    if cell.subset:
        return Comparison("not comparable", "only a subset of this data set could be had")
    if cell.spec.published.metric == UNKNOWN_UNIT:
        return Comparison("not comparable", WHY_UNKNOWN_UNIT)
    if cell.floor is None:
        return Comparison("not run", "the floor was not run, which says what a difference is worth")
    if cell.published_verdict == "no better than floor":
        return Comparison("no better than the floor in the paper")
    return _compared(cell, published, cell.floor, lower_is_better)


def _compared(cell: ReportCell, published: PublishedValue, floor: float, lower_is_better: bool) -> Comparison:
    """Return what the values of a cell say of the published number."""
    margin = max(MARGIN * abs(floor - published.mean), 0.5 * 10.0**-published.decimals)
    if cell.n < 2:
        return Comparison("undecided", "one seed", cell.values[0] - published.mean, margin=margin)
    theirs = (
        Estimate.exactly(published.mean)
        if published.sd is None
        else Estimate.of_runs(published.mean, published.sd, PUBLISHED_RUNS)
    )
    difference = Estimate.of_values(cell.values).minus(theirs)
    low, high = difference.interval()
    verdict, why = verdict_of(low, high, margin, lower_is_better)
    return Comparison(verdict, why and f"{why} (n = {cell.n})", difference.mean, low, high, margin)


def verdict_of(low: float, high: float, margin: float, lower_is_better: bool = True) -> tuple[Verdict, str]:
    """Return the verdict on an interval of ours less the published value, and why it is undecided if it is."""
    least, most = (low, high) if lower_is_better else (-high, -low)
    if -margin <= least and most <= margin:
        return "reproduced", ""
    if most < -margin:
        return "better", ""
    if least > margin:
        return "worse", ""
    return "undecided", "too few seeds for the margin" if high - low > 2 * margin else "the interval crosses the margin"
