"""Draws of the classical methods against the distributions that they come from."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bench.api import BoolArray, Budget, Context, Incomplete, Table, Values, observed_statistics
from bench.problem.draw_scores import DrawTotals
from bench.problem.metrics import reference_of
from tests.analytic import categorical_mixture, linear_gaussian
from tests.classical import Load, categorical_table, gaussian_table, module_of, nonlinear_table, split
from tests.truth import truth_behind

CLASSICAL = ("gaussian_em", "latent_class", "mice", "hot_deck")


def fitted(load: Load, name: str, table: Table, ratio: float = 0.3, **parameters: Any) -> tuple[Any, Incomplete]:
    observed: BoolArray = np.asarray(np.random.default_rng(5).random(table.present.shape) >= ratio)
    train, test = split(table, observed)
    cls = load(name)
    method = cls({**cls.parameter_sets["default"], **parameters}, Context(Budget(sweeps=2)))
    method.fit(train, test, 3)
    return method, test


def scalars_of(draws: list[Values]) -> Any:
    return np.stack([values.scalars for values in draws])


@pytest.mark.parametrize("name", CLASSICAL)
def test_draws_keep_what_is_observed_and_follow_their_seed(load: Load, name: str) -> None:
    method, test = fitted(load, name, gaussian_table(200) if name == "gaussian_em" else nonlinear_table(200))
    drawn, again, other = (scalars_of(method.sample(test, 4, seed)) for seed in (1, 1, 2))
    shown = test.values().scalars
    observed = test.observed[0]
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)
    assert all(np.array_equal(one[observed], shown[observed]) for one in drawn)
    assert np.isfinite(drawn).all() and not np.array_equal(drawn[0], drawn[1])


def test_gaussian_draws_have_the_conditional_mean_and_covariance(load: Load) -> None:
    method, test = fitted(load, "gaussian_em", gaussian_table(400), ratio=0.5)
    gaussian, statistics = method._model, observed_statistics(test)
    rng = np.random.default_rng(0)
    observed = np.array([[True, False, False, True], [False, False, True, False]])[:, : len(gaussian.mean)]
    rows = rng.normal(size=observed.shape)
    drawn = module_of(load("gaussian_em")).conditional_draws(gaussian, rows, observed, 40_000, rng)
    for row, seen in enumerate(observed):
        o, h = np.flatnonzero(seen), np.flatnonzero(~seen)
        regression = gaussian.covariance[np.ix_(h, o)] @ np.linalg.inv(gaussian.covariance[np.ix_(o, o)])
        mean = gaussian.mean[h] + regression @ (rows[row, o] - gaussian.mean[o])
        covariance = gaussian.covariance[np.ix_(h, h)] - regression @ gaussian.covariance[np.ix_(o, h)]
        np.testing.assert_allclose(drawn[:, row, h].mean(axis=0), mean, atol=0.03)
        np.testing.assert_allclose(np.cov(drawn[:, row, h].T), covariance, atol=0.03)
        assert np.array_equal(drawn[:, row, o], np.broadcast_to(rows[row, o], (40_000, len(o))))
    assert statistics.count.min() > 0


def test_latent_class_draws_have_the_joint_posterior_of_all_hidden_levels(load: Load) -> None:
    method, test = fitted(load, "latent_class", categorical_table(400), ratio=0.5)
    drawn = scalars_of(method.sample(test, 3000, 0))
    observed, scalars = test.observed[0], test.values().scalars
    mixture = method._mixture
    several = np.flatnonzero((~observed).sum(axis=1) >= 2)[:8]
    assert len(several) == 8
    for row in several:
        # Bayes' rule, one component and one attribute at a time.
        joint = mixture.weight.copy()
        for column in np.flatnonzero(observed[row]):
            joint = joint * mixture.probabilities[column][int(scalars[row, column])]
        posterior = joint / joint.sum()
        hidden = np.flatnonzero(~observed[row])
        for levels in itertools.product(range(4), repeat=len(hidden)):
            together = posterior.copy()
            for column, level in zip(hidden, levels, strict=True):
                together = together * mixture.probabilities[column][level]
            found = np.all(drawn[:, row, hidden] == levels, axis=1).mean()
            assert found == pytest.approx(together.sum(), abs=0.04)


def test_mice_draws_vary_as_the_predictive_distribution_does_whatever_it_imputes(load: Load) -> None:
    table = gaussian_table(400)
    for name, data in (("numbers", table), ("numbers and categories", nonlinear_table(400))):
        method, test = fitted(load, "mice", data)
        before = method.impute(test, 1).scalars
        drawn = scalars_of(method.sample(test, 60, 0))
        assert np.array_equal(method.impute(test, 1).scalars, before), name
        hidden = ~test.observed[0][:, 0]
        error = np.sqrt(np.mean((before[hidden, 0] - truth_behind(test)[hidden, 0]) ** 2))
        assert drawn[:, hidden, 0].std(axis=0).mean() == pytest.approx(error, rel=0.4), name


def scored(method: Any, test: Incomplete, table: Table) -> dict[str, float]:
    """Return what fifty draws of a test view by a fitted method score."""
    totals = DrawTotals(table.schema, reference_of(table), len(test))
    present = np.ones((len(test), len(table.schema)), dtype=bool)
    totals.add(Values(truth_behind(test)), scalars_of(method.sample(test, 50, 0)), test.observed[0], present)
    found = totals.scores()
    assert found is not None
    return found.metrics


def test_the_right_model_covers_what_its_intervals_say_and_scores_best(load: Load) -> None:
    model = linear_gaussian(8000, 5, 2, 0.5, seed=1)
    method, test = fitted(load, "gaussian_em", model.table, ratio=0.5)
    found = scored(method, test, model.table)
    assert found["coverage_50"] == pytest.approx(0.5, abs=0.02)
    assert found["coverage_90"] == pytest.approx(0.9, abs=0.012)
    # The CRPS of N(m, v) for a truth from it is sqrt(v / pi) in expectation; columns have a deviation of 1.
    _, variance = model.conditional(truth_behind(test), test.observed[0])
    hidden = ~test.observed[0]
    optimum = np.mean([np.sqrt(variance[hidden[:, j], j] / np.pi).mean() for j in range(5)])
    assert found["crps"] == pytest.approx(optimum, rel=0.03)
    # Blind draws are calibrated too, and wider: what coverage alone cannot tell, the CRPS does.
    blind = scored(*fitted(load, "hot_deck", model.table, ratio=0.5), model.table)
    assert blind["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert blind["crps"] > 1.2 * found["crps"] and blind["width_90"] > 1.2 * found["width_90"]
    assert blind["energy_distance"] > 1.5 * found["energy_distance"]


def test_the_right_mixture_has_the_brier_score_of_its_posterior(load: Load) -> None:
    model = categorical_mixture(4000, 8, 3, 3, seed=2)
    method, test = fitted(load, "latent_class", model.table, ratio=0.5, components=3)
    posterior = model.posterior(truth_behind(test), test.observed[0])
    hidden = ~test.observed[0]
    # In expectation over the truth: 1 - sum p^2, and the entropy.
    brier = np.mean([(1 - np.square(posterior[hidden[:, j], j]).sum(axis=1)).mean() for j in range(8)])
    found = scored(method, test, model.table)
    assert found["brier"] == pytest.approx(brier, rel=0.05)
