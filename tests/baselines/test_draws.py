"""Draws of the classical methods against the distributions that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.api import BoolArray, Budget, Context, Incomplete, Table, Values, observed_statistics
from tests.classical import Load, categorical_table, gaussian_table, module_of, nonlinear_table, split

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


def test_latent_class_draws_have_the_posteriors_level_probabilities(load: Load) -> None:
    method, test = fitted(load, "latent_class", categorical_table(400), ratio=0.4)
    drawn = scalars_of(method.sample(test, 3000, 0))
    observed, scalars = test.observed[0], test.values().scalars
    mixture = method._mixture
    for row in range(6):
        # Bayes' rule, one component and one attribute at a time.
        joint = mixture.weight.copy()
        for column in np.flatnonzero(observed[row]):
            joint = joint * mixture.probabilities[column][int(scalars[row, column])]
        posterior = joint / joint.sum()
        for column in np.flatnonzero(~observed[row]):
            expected = mixture.probabilities[column] @ posterior
            found = np.bincount(drawn[:, row, column].astype(int), minlength=len(expected)) / len(drawn)
            np.testing.assert_allclose(found, expected, atol=0.04)


def test_mice_draws_vary_as_the_predictive_distribution_does_whatever_it_imputes(load: Load) -> None:
    table = gaussian_table(400)
    for name, data in (("numbers", table), ("numbers and categories", nonlinear_table(400))):
        method, test = fitted(load, "mice", data)
        before = method.impute(test, 1).scalars
        drawn = scalars_of(method.sample(test, 60, 0))
        assert np.array_equal(method.impute(test, 1).scalars, before), name
        hidden = ~test.observed[0][:, 0]
        error = np.sqrt(np.mean((before[hidden, 0] - data.scalars[test._rows[0]][hidden, 0]) ** 2))
        assert drawn[:, hidden, 0].std(axis=0).mean() == pytest.approx(error, rel=0.4), name
