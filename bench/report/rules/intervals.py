"""Intervals and tests for means over seeds that share rows, and the correction for many tests at once.

Every seed draws its own split of the same data, so that two seeds share most of their training rows and some of their
test rows: their values are not independent, and the usual variance of a mean is too small. Nadeau and Bengio,
"Inference for the generalization error", Machine Learning 52 (2003), Section 3, put ``1 / n + n_test / n_train`` in the
place of ``1 / n``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

#: Test rows per training row: a fifth of the rows is for the test in the suite's own splits, less in those of images.
TEST_TO_TRAINING = 0.25
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over so many runs with its squared standard error and the degrees of freedom of that."""

    mean: float
    squared_error: float
    freedom: float

    @classmethod
    def of_runs(cls, mean: float, sd: float, runs: int) -> Estimate:
        """Return the estimate that a mean and a sample standard deviation over runs that share rows are."""
        return cls(mean, sd**2 * (1 / runs + TEST_TO_TRAINING), runs - 1)

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Estimate:
        """Return the estimate of the mean of at least two values, one per seed."""
        return cls.of_runs(statistics.fmean(values), statistics.stdev(values), len(values))

    @classmethod
    def exactly(cls, mean: float) -> Estimate:
        """Return a number that is taken as it stands."""
        return cls(mean, 0.0, math.inf)

    def minus(self, other: Estimate) -> Estimate:
        """Return the difference of two independent estimates, with Welch's and Satterthwaite's degrees of freedom."""
        total = self.squared_error + other.squared_error
        parts = sum(part.squared_error**2 / part.freedom for part in (self, other))
        return Estimate(self.mean - other.mean, total, total**2 / parts if parts > 0 else math.inf)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Return the interval of Student's t around the mean."""
        from scipy.special import stdtrit

        half = 0.0
        if self.squared_error > 0:
            half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * math.sqrt(self.squared_error)
        return self.mean - half, self.mean + half

    def probability_above(self, bound: float = 0.0) -> float:
        """Return the p-value of the one-sided test that the mean is below ``bound``: small if it is clearly below.

        A mean without any spread is on one side for certain, and on neither at the bound itself.
        """
        from scipy.special import stdtr

        if self.squared_error > 0:
            return float(stdtr(self.freedom, (self.mean - bound) / math.sqrt(self.squared_error)))
        return 0.0 if self.mean < bound else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for being several, in the order given (Holm, Scand. J. Statist. 6, 1979).

    The k-th smallest of n is multiplied by n - k + 1, and none is below one that was smaller before.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, least = [0.0] * len(p_values), 0.0
    for position, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - position) * p_values[index]))
        adjusted[index] = least
    return adjusted
