"""Intervals over seeds that share rows, and the correction for many tests, against written-out arithmetic and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.report.rules.intervals import TEST_TO_TRAINING, Estimate, holm


def test_the_variance_of_a_mean_is_nadeau_and_bengios() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    estimate = Estimate.of_values(values)
    variance = sum((value - 4.0) ** 2 for value in values) / 3
    assert estimate.mean == 4.0 and estimate.freedom == 3
    assert estimate.squared_error == pytest.approx(variance * (1 / 4 + 0.25))
    # Without the second term it is the usual t-test.
    usual = Estimate(4.0, variance / 4, 3)
    low, high = stats.t.interval(0.95, 3, loc=4.0, scale=math.sqrt(variance / 4))
    assert usual.interval() == pytest.approx((low, high))
    assert usual.probability_above(5.0) == pytest.approx(stats.ttest_1samp(values, 5.0, alternative="less").pvalue)
    assert estimate.interval()[0] < low and TEST_TO_TRAINING == 0.25


def test_it_is_the_correlated_t_test_of_those_who_teach_it() -> None:
    """Of one run of five folds the test part is a fifth: the correction of the suite's own splits."""
    from baycomp import CorrelatedTTest

    one, two = np.array([0.3, 0.5, 0.45, 0.6, 0.2]), np.array([0.35, 0.58, 0.44, 0.69, 0.3])
    one_is_higher, two_is_higher = CorrelatedTTest.probs(one, two, rope=0)
    estimate = Estimate.of_values(list(one - two))
    assert estimate.probability_above() == pytest.approx(one_is_higher)
    assert estimate.probability_above() == pytest.approx(1 - two_is_higher)


def test_a_difference_has_welchs_interval() -> None:
    one, two = [1.0, 2.0, 4.0, 9.0], [3.0, 3.5, 5.0]
    parts = [Estimate(sum(v) / len(v), stats.tvar(v) / len(v), len(v) - 1) for v in (one, two)]
    difference = parts[0].minus(parts[1])
    welch = stats.ttest_ind(one, two, equal_var=False)
    assert difference.freedom == pytest.approx(welch.df)
    expected = welch.confidence_interval(0.95)
    assert difference.interval() == pytest.approx((expected.low, expected.high))


def test_a_number_taken_as_it_stands_adds_nothing() -> None:
    estimate = Estimate.of_values([1.0, 2.0, 4.0])
    shifted = estimate.minus(Estimate.exactly(1.0))
    assert shifted.freedom == pytest.approx(2)
    assert shifted.interval() == pytest.approx(tuple(bound - 1.0 for bound in estimate.interval()))
    same = Estimate.of_values([2.0, 2.0, 2.0])
    assert same.interval() == (2.0, 2.0)
    assert (same.probability_above(2.5), same.probability_above(2.0)) == (0.0, 1.0)


def test_holm_multiplies_step_by_step_and_never_falls() -> None:
    # Holm's own procedure by hand: .01 * 4, .02 * 3, .03 * 2, .04 * 1, each at least the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
