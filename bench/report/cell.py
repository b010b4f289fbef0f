"""One cell of a report: the values of its seeds, or why there are none, and what it is compared with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.experiment.specs import TableCell
from bench.report.published import PublishedValue

#: ``ok`` has every seed, ``partial`` some. ``failed`` and ``skipped`` are results that say so, ``unscored`` ones have
#: nothing to score by this metric, ``missing`` was not run, ``unavailable`` is a method that is not installed,
#: ``unobtained`` a data set that is not here.
Status = Literal["ok", "partial", "failed", "skipped", "unscored", "missing", "unavailable", "unobtained"]
Verdict = Literal["", "floor", "better than floor", "no better than floor"]


@dataclass(frozen=True)
class ReportCell:
    """One cell: the values of its seeds in order, what is known if there are none, and what it is compared with.

    ``entries`` are the scored entries behind each value, None if a result does not say. ``floor`` is the mean of the
    floor's cell in the same column and section. ``mark`` is the letter of its footnote.
    """

    spec: TableCell
    status: Status
    digits: int
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    entries: tuple[int | None, ...] = ()
    reason: str = ""
    mark: str = ""
    content: str = ""
    subset: bool = False
    best: bool = False
    published: PublishedValue | None = None
    floor: float | None = None
    verdict: Verdict = ""
    published_verdict: Verdict = ""
    #: Seeds whose training ended no better than the floor on held-out observed entries.
    collapsed: tuple[int, ...] = ()
    #: Seeds whose chosen epoch lies in the last tenth of their training.
    undertrained: tuple[int, ...] = ()
    #: Seeds of which the last epoch was kept, whatever held-out entries say.
    kept_last: tuple[int, ...] = ()
    #: Engine and method version of the results, (0, 0) without any.
    version: tuple[int, int] = (0, 0)
    #: Other presets whose mean, by the same code, differs from this one by more than either standard deviation.
    disagreeing: tuple[str, ...] = ()
    #: Seeds whose results are of other code than a plug-in of the user has now.
    stale: tuple[int, ...] = ()
    #: Processor time per seed, in seconds, the mean over the seeds; None if a result does not say.
    processor_seconds: float | None = None
    #: What draws of these rows score, metric -> mean over the seeds; empty if the method draws none.
    draw_scores: Mapping[str, float] = field(default_factory=dict)
    #: How many values are of rows without a digest, which an older version stored.
    unverified: int = 0
    #: What the results warn of, such as an attribute never observed in training.
    warnings: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of seeds with a value."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean over seeds, None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds (divisor n - 1), None with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Our mean minus the published one, None if either is missing or they do not compare."""
        if self.mean is None or self.published is None or not self.spec.comparable or self.subset:
            return None
        return self.mean - self.published.mean
