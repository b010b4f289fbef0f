"""Scores of draws against closed forms, exact expectations and brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from bench.api import Attribute, BenchError, Schema, Table, Values
from bench.problem.draw_scores import (
    DRAW_METRICS,
    ENERGY_DRAWS,
    ENERGY_ROWS,
    DrawScores,
    DrawTotals,
    Points,
    brier_score,
    central_interval,
    crps,
    energy_distance,
    level_counts,
    log_score,
)
from bench.problem.metrics import reference_of

RNG = np.random.default_rng


def gaussian_crps(mean: float, deviation: float, truth: np.ndarray) -> np.ndarray:
    """Return the CRPS of a Gaussian in closed form (Gneiting and Raftery 2007, Eq. 21)."""
    z = (truth - mean) / deviation
    score: np.ndarray = deviation * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    return score


@pytest.mark.parametrize("count", [2, 10, 50])
def test_crps_of_gaussian_draws_is_the_closed_form_whatever_their_number(count: int) -> None:
    truth = np.array([-3.0, 0.0, 1.5, 2.0, 6.0])
    repetitions = 400_000 // count
    draws = RNG(count).normal(1.5, 2.0, (repetitions, len(truth), count))
    scores = crps(draws, np.tile(truth, (repetitions, 1)))
    error = scores.std(axis=0) / math.sqrt(repetitions)
    assert np.all(np.abs(scores.mean(axis=0) - gaussian_crps(1.5, 2.0, truth)) < 4 * error)
    assert np.all(error < 0.01)


def test_crps_is_the_double_sum_over_pairs_of_draws() -> None:
    draws, truth = RNG(0).normal(size=(6, 7)), RNG(1).normal(size=6)
    pairs = np.abs(draws[:, :, None] - draws[:, None, :]).sum(axis=(1, 2)) / (2 * 7 * 6)
    np.testing.assert_allclose(crps(draws, truth), np.abs(draws - truth[:, None]).mean(axis=1) - pairs, atol=1e-14)
    # Draws that are all the same have the absolute error.
    np.testing.assert_allclose(crps(np.full((1, 5), 3.0), np.array([1.0])), [2.0])


@pytest.mark.parametrize("count", [19, 50, 200])
def test_a_truth_from_the_distribution_of_its_draws_is_covered_as_often_as_the_interval_says(count: int) -> None:
    n = 40_000
    draws, truth = RNG(count).normal(size=(n, count)), RNG(count + 1).normal(size=n)
    for percent in (50, 90):
        low, high = central_interval(draws, percent)
        covered = ((low <= truth) & (truth <= high)).mean()
        assert covered == pytest.approx(percent / 100, abs=0.0075)
        assert np.all(low <= high)
    # Of many draws the ends are the quantiles.
    low, high = central_interval(RNG(0).normal(size=(1, 200_000)), 90)
    assert high[0] - low[0] == pytest.approx(2 * stats.norm.ppf(0.95), abs=0.02)


def test_few_draws_cover_no_more_than_their_range() -> None:
    draws = RNG(0).normal(size=(4, 10))
    low, high = central_interval(draws, 90)
    np.testing.assert_array_equal(low, draws.min(axis=1))
    np.testing.assert_array_equal(high, draws.max(axis=1))
    low, high = central_interval(draws, 50)
    np.testing.assert_allclose(low, np.quantile(draws, 0.25, axis=1, method="weibull"))
    np.testing.assert_allclose(high, np.quantile(draws, 0.75, axis=1, method="weibull"))


def test_brier_score_is_in_expectation_that_of_the_probabilities_whatever_the_number_of_draws() -> None:
    share, count = np.array([0.2, 0.5, 0.3]), 4
    outcomes = np.array([c for c in itertools.product(range(count + 1), repeat=3) if sum(c) == count])
    probability = stats.multinomial(count, share).pmf(outcomes)
    for truth in range(3):
        exact = np.sum((share - np.eye(3)[truth]) ** 2)
        expected = probability @ brier_score(outcomes, np.full(len(outcomes), truth))
        assert expected == pytest.approx(exact, abs=1e-12)


def test_scores_of_categories_by_hand() -> None:
    counts = level_counts(np.array([[0, 1, 1, 1], [2, 2, 2, 2]]), 3)
    np.testing.assert_array_equal(counts, [[1, 3, 0], [0, 0, 4]])
    by_hand = [(0.25**2 + 0.25**2) - (0.25 * 0.75 * 2) / 3, 2.0]
    np.testing.assert_allclose(brier_score(counts, np.array([1, 0])), by_hand)
    expected = [-math.log((3 + 1 / 3) / 5), -math.log((1 / 3) / 5)]
    np.testing.assert_allclose(log_score(counts, np.array([1, 0])), expected)
    # The smoothed shares are a distribution.
    shares = [math.exp(-log_score(counts[:1], np.array([level]))[0]) for level in range(3)]
    assert sum(shares) == pytest.approx(1.0)


def test_energy_distance_of_one_number_is_that_of_scipy() -> None:
    ours, theirs = RNG(0).normal(size=40), RNG(1).normal(0.5, 2, size=40)
    found = energy_distance([Points(ours[:, None], np.zeros((40, 0)))], Points(theirs[:, None], np.zeros((40, 0))))
    assert found == pytest.approx(stats.energy_distance(ours, theirs), abs=1e-12)


def test_energy_distance_sees_levels_and_whether_numbers_belong_together() -> None:
    codes = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    numbers = RNG(2).normal(size=(3, 2))
    truth = Points(numbers, codes)
    other = Points(numbers + 0.5, codes[::-1])

    def one_hot(points: Points) -> np.ndarray:
        parts = [points.numbers, *(np.eye(3)[points.codes[:, j].astype(int)] / math.sqrt(2) for j in range(2))]
        return np.concatenate(parts, axis=1)

    def mean(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.mean([np.linalg.norm(a - b) for a in first for b in second]))

    a, b = one_hot(other), one_hot(truth)
    assert energy_distance([other, truth], truth) == pytest.approx(
        math.sqrt(2 * mean(a, b) - mean(a, a) - mean(b, b)) / 2
    )
    # The same numbers column by column, but no longer in the same rows.
    x = RNG(3).normal(size=400)
    together, apart = np.stack([x, x], axis=1), np.stack([x, RNG(4).permutation(x)], axis=1)
    none = np.zeros((400, 0))
    assert energy_distance([Points(together, none)], Points(together, none)) == 0
    assert energy_distance([Points(apart, none)], Points(together, none)) > 0.2


# Whole tables


def mixed_table(rows: int, seed: int = 0) -> Table:
    """Return numbers on two scales, one that does not vary, and a category; some cells are not present."""
    rng = RNG(seed)
    attributes = (
        Attribute("a", "numeric"),
        Attribute("c", "categorical", levels=("x", "y", "z")),
        Attribute("b", "numeric"),
        Attribute("same", "numeric"),
    )
    scalars = np.stack(
        [rng.normal(5, 2, rows), rng.integers(0, 3, rows), rng.normal(0, 100, rows), np.ones(rows)], axis=1
    )
    return Table(Schema(attributes), scalars, {}, rng.random((rows, 4)) < 0.9)


def scores_of(table: Table, draws: np.ndarray, observed: np.ndarray, chunk: int) -> DrawScores | None:
    """Score draws [D, n, S] of a whole table, so many rows at a time."""
    totals = DrawTotals(table.schema, reference_of(table), len(table))
    for start in range(0, len(table), chunk):
        rows = np.arange(start, min(start + chunk, len(table)))
        totals.add(table.take(rows), draws[:, rows], observed[rows], table.present[rows])
    return totals.scores()


def drawn(table: Table, count: int, seed: int = 1) -> np.ndarray:
    """Return draws from each column's distribution."""
    rng = RNG(seed)
    shape = (count, len(table))
    columns = [rng.normal(5, 2, shape), rng.integers(0, 3, shape), rng.normal(0, 100, shape), np.ones(shape)]
    return np.stack(columns, axis=-1).astype(np.float64)


def test_a_calibrated_method_scores_what_its_distribution_says() -> None:
    table = mixed_table(6000)
    observed = RNG(2).random((6000, 4)) < 0.5
    found = scores_of(table, drawn(table, 50), observed, 1000)
    assert found is not None and found.draws == 50
    # E CRPS of a calibrated standard Gaussian is 1 / sqrt(pi); that of three levels alike has a Brier score of 2/3.
    assert found.metrics["crps"] == pytest.approx(1 / math.sqrt(math.pi), abs=0.02)
    assert found.metrics["coverage_50"] == pytest.approx(0.5, abs=0.02)
    assert found.metrics["coverage_90"] == pytest.approx(0.9, abs=0.015)
    for percent in (50, 90):
        # The expected r-th of 50 sorted Gaussians (Blom 1958), between the two that the end lies between.
        place = (1 + percent / 100) / 2 * 51
        below, above = (stats.norm.ppf((r - 0.375) / 50.25) for r in (math.floor(place), math.ceil(place)))
        width = 2 * (below + (place - math.floor(place)) * (above - below))
        assert found.metrics[f"width_{percent}"] == pytest.approx(width, abs=0.03)
    assert found.metrics["brier"] == pytest.approx(2 / 3, abs=0.02)
    assert found.metrics["log_score"] == pytest.approx(math.log(3), abs=0.03)
    assert found.metrics.keys() == {metric.name for metric in DRAW_METRICS}
    assert found.attributes.keys() == {"a", "b", "c"}
    hidden = table.present & ~observed
    assert found.attributes["c"]["entries"] == hidden[:, 1].sum()
    assert found.metrics["crps"] == pytest.approx((found.attributes["a"]["crps"] + found.attributes["b"]["crps"]) / 2)


def test_chunks_of_rows_change_nothing_and_neither_does_what_is_not_scored() -> None:
    table = mixed_table(ENERGY_ROWS + 123)
    observed = RNG(2).random((len(table), 4)) < 0.5
    draws = drawn(table, ENERGY_DRAWS + 3)
    whole = scores_of(table, draws, observed, len(table))
    assert whole is not None
    other = np.where((observed | ~table.present)[None], np.nan, draws)
    for chunk in (len(table), 100, 7):
        found = scores_of(table, other, observed, chunk)
        assert found is not None and found.attributes.keys() == whole.attributes.keys()
        assert found.metrics == pytest.approx(whole.metrics, rel=1e-12)
    rows = np.linspace(0, len(table) - 1, ENERGY_ROWS).round().astype(int)
    reference = reference_of(table)
    known = np.where(table.present, table.scalars, 0.0)

    def points(scalars: np.ndarray) -> Points:
        return Points(scalars[rows][:, [0, 2]] / reference.deviation[:2], scalars[rows][:, [1]])

    completed = [points(np.where(table.present & ~observed, own, known)) for own in draws[:ENERGY_DRAWS]]
    assert whole.metrics["energy_distance"] == pytest.approx(energy_distance(completed, points(known)))


def test_the_unit_of_a_column_does_not_matter() -> None:
    table = mixed_table(300)
    observed = RNG(2).random((300, 4)) < 0.5
    unit = np.array([1e-6, 1.0, 1e9, 1.0])
    other = Table(table.schema, table.scalars * unit, {}, table.present)
    draws = drawn(table, 20)
    first, second = scores_of(table, draws, observed, 300), scores_of(other, draws * unit, observed, 300)
    assert first is not None and second is not None
    assert second.metrics == pytest.approx(first.metrics, rel=1e-9)


def test_nothing_hidden_is_no_score_and_wrong_draws_are_refused() -> None:
    table = mixed_table(20)
    everything, nothing = np.ones((20, 4), dtype=bool), np.zeros((20, 4), dtype=bool)
    assert scores_of(table, drawn(table, 5), everything, 20) is None
    wrong = drawn(table, 5)
    wrong[2, :, 0] = np.nan
    with pytest.raises(BenchError, match="NaN"):
        scores_of(table, wrong, nothing, 20)
    wrong = drawn(table, 5)
    wrong[0, :, 1] = 3.0
    with pytest.raises(BenchError, match="no level's code"):
        scores_of(table, wrong, nothing, 20)
    wrong[0, :, 1], wrong[0, :, 0] = 0.0, 1e300
    with pytest.raises(BenchError, match="too large"):
        scores_of(table, wrong, nothing, 20)
    with pytest.raises(BenchError, match="1 draws cannot be scored"):
        scores_of(table, drawn(table, 1), nothing, 20)
    totals = DrawTotals(table.schema, reference_of(table), 20)
    totals.add(Values(table.scalars[:10]), drawn(table, 5)[:, :10], nothing[:10], table.present[:10])
    with pytest.raises(BenchError, match="4 draws cannot be scored beside 5"):
        totals.add(Values(table.scalars[10:]), drawn(table, 4)[:, 10:], nothing[10:], table.present[10:])
