"""Scores of draws against closed forms, and that calibrated draws cover what they are to cover."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.data.schema import Attribute, Schema
from bench.data.table import Table
from bench.problem.draw_scores import (
    brier,
    crps,
    energy_distance,
    interval,
    level_frequencies,
    log_score,
    score_draws,
)
from bench.problem.metrics import reference_of


def test_crps_is_that_of_the_distribution_behind_the_draws() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([-2.0, 0.0, 0.7, 3.0])
    few = np.stack([crps(rng.normal(size=(5, 4)), truth) for _ in range(20_000)]).mean(axis=0)
    # Of N(0, 1): y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi), by Gneiting and Raftery.
    exact = truth * (2 * stats.norm.cdf(truth) - 1) + 2 * stats.norm.pdf(truth) - 1 / np.sqrt(np.pi)
    np.testing.assert_allclose(few, exact, atol=0.02)


def test_crps_of_draws_is_the_mean_over_pairs() -> None:
    draws, truth = np.array([[1.0], [4.0], [2.0]]), np.array([3.0])
    pairs = (abs(1 - 4) + abs(1 - 2) + abs(4 - 2)) * 2
    assert crps(draws, truth)[0] == pytest.approx((2 + 1 + 1) / 3 - pairs / (2 * 3 * 2))
    assert crps(np.full((7, 1), 2.5), np.array([3.0]))[0] == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_intervals_of_exchangeable_draws_cover_their_share(share: float) -> None:
    values = np.random.default_rng(1).gamma(2.0, size=(51, 40_000))
    low, high = interval(values[:50], share)
    assert ((low <= values[50]) & (values[50] <= high)).mean() == pytest.approx(share, abs=0.01)


def test_brier_and_logarithmic_score_by_hand() -> None:
    frequencies = level_frequencies(np.array([[0, 2], [0, 2], [1, 2], [0, 2]], dtype=float), 3)
    np.testing.assert_allclose(frequencies, [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]])
    truth = np.array([1, 2])
    np.testing.assert_allclose(brier(frequencies, truth), [0.75**2 + 0.75**2, 0.0])
    np.testing.assert_allclose(log_score(frequencies, truth, 4), -np.log([(1 + 1 / 3) / 5, (4 + 1 / 3) / 5]))
    never = log_score(np.array([[1.0, 0.0]]), np.array([1]), 4)
    assert never[0] == pytest.approx(np.log(2 * 5))


def test_energy_distance_in_one_dimension_is_scipys() -> None:
    rng = np.random.default_rng(2)
    first, second = rng.normal(size=30), rng.normal(1.0, 2.0, size=20)
    found = energy_distance(first[:, None], second[:, None])
    assert found == pytest.approx(stats.energy_distance(first, second))
    assert energy_distance(first[:, None], first[:, None]) == pytest.approx(0.0, abs=1e-7)


def test_only_scored_entries_count_and_numbers_are_in_deviations() -> None:
    rng = np.random.default_rng(3)
    schema = Schema(
        (Attribute("a", "numeric"), Attribute("c", "categorical", levels=("x", "y")), Attribute("k", "numeric"))
    )
    truth = np.column_stack([rng.normal(5.0, 10.0, 300), rng.integers(0, 2, 300), np.full(300, 3.0)])
    table = Table(schema, truth, {}, np.ones(truth.shape, dtype=bool))
    scored = rng.random(truth.shape) < 0.5
    draws = np.stack(
        [np.column_stack([rng.normal(5.0, 10.0, 300), rng.integers(0, 2, 300), truth[:, 2]]) for _ in range(50)]
    )
    draws[:, ~scored] = 1e9
    draws[0] = np.where(scored, draws[0], truth)
    found = score_draws(truth, draws, scored, schema, reference_of(table))
    # The expected CRPS of the right distribution N(m, s^2) is s / sqrt(pi); a fair coin's Brier score is a half.
    assert found["draws"] == 50 and set(found["attributes"]) == {"a", "c"}
    assert found["all"]["crps"] == pytest.approx(1 / np.sqrt(np.pi), rel=0.15)
    assert found["all"]["coverage_90"] == pytest.approx(0.9, abs=0.08)
    assert found["all"]["width_90"] == pytest.approx(2 * stats.norm.ppf(0.95), rel=0.1)
    assert found["all"]["brier"] == pytest.approx(0.5, abs=0.03)
    assert found["all"]["log_score"] == pytest.approx(np.log(2), abs=0.03)
    assert found["all"]["energy_distance"] < 0.3
    nothing = np.zeros(truth.shape, dtype=bool)
    assert score_draws(truth, draws, nothing, schema, reference_of(table)) == {}
