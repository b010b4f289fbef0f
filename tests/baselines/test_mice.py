"""Chained equations: against scikit-learn's imputer on numbers, and what the mixed chain must do on categories."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pandas as pd
import pytest

from bench.api import Attribute, BenchError, Budget, Context, Schema, Table, observed_statistics
from tests.classical import SMALL, Load, categorical_table, error, gaussian_table, module_of, run, split, views
from tests.truth import table_behind


@pytest.mark.filterwarnings("ignore:.*Early stopping criterion")
def test_mice_is_the_iterative_imputer_on_standardised_numbers(load: Load) -> None:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    train, test = views(gaussian_table())
    statistics = observed_statistics(train)
    mean, scale = statistics.mean, statistics.scale
    reference = IterativeImputer(
        max_iter=6, min_value=(statistics.minimum - mean) / scale, max_value=(statistics.maximum - mean) / scale
    ).fit((train.values().scalars - mean) / scale)
    expected = reference.transform((test.values().scalars - mean) / scale) * scale + mean
    found = run(load("mice")(None, Context(SMALL)), train, test)
    assert np.allclose(found, expected, rtol=1e-12, atol=0)
    floor = run(load("mean_mode")(), train, test)
    for column in range(4):
        assert error(test, found, column) < 0.7 * error(test, floor, column)


def test_mice_runs_the_same_without_fancyimpute_and_says_so(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = views(gaussian_table(100))
    with_it = load("mice")(None, Context(SMALL))
    expected = run(with_it, train, test)
    if importlib.util.find_spec("fancyimpute") is not None:
        assert with_it.diagnostics()[0]["library"].startswith("fancyimpute ")
    monkeypatch.setitem(sys.modules, "fancyimpute", None)
    without = load("mice")(None, Context(SMALL))
    assert run(without, train, test).tobytes() == expected.tobytes()
    assert without.diagnostics()[0]["library"].startswith("scikit-learn ")


@pytest.mark.parametrize("table", [gaussian_table(), categorical_table()], ids=["numbers", "categories"])
def test_mice_draws_spread_and_their_average_does_not(load: Load, table: Table) -> None:
    mice = load("mice")
    train, test = views(table, 0.5)
    found = {
        posterior: run(mice({"posterior": posterior, "imputations": 8}, Context(SMALL)), train, test)
        for posterior in ("point", "avg", "draw")
    }
    errors = {posterior: np.array([error(test, f, c) for c in range(3)]) for posterior, f in found.items()}
    assert (errors["avg"] < errors["draw"]).all()
    assert (errors["avg"] < 1.15 * errors["point"]).all()
    if table.schema.kinds == {"numeric"}:
        hidden = ~test.observed[0]
        for column in range(4):
            spread = {p: f[hidden[:, column], column].std() for p, f in found.items()}
            truth = table.scalars[:, column].std()
            assert spread["point"] < 0.95 * truth
            assert spread["draw"] == pytest.approx(truth, rel=0.25)


def test_mice_refuses_an_unknown_posterior(load: Load) -> None:
    train, _ = views(gaussian_table(20))
    with pytest.raises(BenchError, match="point, avg, draw, not 'median'"):
        load("mice")({"posterior": "median"}).fit(train, train, 0)


def test_mice_imputes_a_number_from_a_category_and_a_category_from_a_number(load: Load, tiny_table: Table) -> None:
    observed = np.ones((len(tiny_table), 4), dtype=bool)
    observed[32:36, 1] = observed[36:, 2] = False
    train, test = split(tiny_table, observed)
    found = run(load("mice")(None, Context(SMALL)), train, test)
    floor = run(load("mean_mode")(), train, test)
    assert error(test, found, 1) < 0.7 * error(test, floor, 1)
    assert error(test, found, 2) <= error(test, floor, 2)


def test_the_classifier_chain_beats_the_mode_and_regressed_codes(load: Load) -> None:
    train, test = views(categorical_table())
    found = run(load("mice")(None, Context(SMALL)), train, test)
    floor = run(load("mean_mode")(), train, test)
    as_numbers = Schema(tuple(Attribute(a.name, "numeric") for a in train.schema.attributes))
    table = Table(as_numbers, table_behind(train).scalars, {}, table_behind(train).present)
    rounded = np.round(run(load("mice")(None, Context(SMALL)), *views(table)))
    for column in range(3):
        assert error(test, found, column) < 0.6 * error(test, floor, column)
        assert error(test, found, column) < 0.8 * error(test, rounded, column)


def test_a_stronger_penalty_keeps_the_chain_nearer_to_the_mean(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({f"x{i}": rng.normal(size=50) for i in range(8)})
    frame["c"] = rng.choice(list("abcde"), 50)
    train, test = views(Table.from_frame(frame), 0.5)
    floor = run(load("mean_mode")(), train, test)

    def ratio() -> float:
        found = run(load("mice")(None, Context(Budget(sweeps=10))), train, test)
        return float(np.mean([error(test, found, column) / error(test, floor, column) for column in range(8)]))

    usual = ratio()
    assert usual < 1.5
    monkeypatch.setattr(module_of(load("mice")), "COEFFICIENT_VARIANCE", 1e-3)
    assert ratio() < min(1.05, usual)


def test_ridge_regression_is_least_squares_with_prior_rows(load: Load) -> None:
    rng = np.random.default_rng(9)
    inputs = rng.normal(size=(30, 3)) + 5.0
    target = inputs @ [1.0, -2.0, 0.5] + rng.normal(size=30) + 7.0
    module = module_of(load("mice"))
    ridge = module.RidgeRegression()
    ridge.fit(inputs, target)
    centred = inputs - inputs.mean(axis=0)
    prior = np.sqrt(1 / module.COEFFICIENT_VARIANCE) * np.eye(3)
    rows = np.vstack([centred, prior])
    coefficients = np.linalg.lstsq(rows, np.concatenate([target - target.mean(), np.zeros(3)]), rcond=None)[0]
    new = rng.normal(size=(4, 3)) + 5.0
    assert np.allclose(ridge.predict(new), target.mean() + (new - inputs.mean(axis=0)) @ coefficients)
    covariance = np.linalg.inv(rows.T @ rows)
    residual = target - ridge.predict(inputs)
    noise = residual @ residual / (30 - 1 - np.trace(centred @ covariance @ centred.T))
    offset = new - inputs.mean(axis=0)
    variance = noise * (1 + np.diag(offset @ covariance @ offset.T))
    assert np.allclose(ridge.deviation(new), np.sqrt(variance))


def test_the_truncated_normal_matches_scipy_and_keeps_its_limits(load: Load) -> None:
    from scipy.stats import truncnorm

    draw = module_of(load("mice")).truncated_normal
    uniform = np.linspace(0.01, 0.99, 25)
    mean, deviation = np.full(25, 0.3), np.full(25, 2.0)
    expected = truncnorm.ppf(uniform, (-1 - 0.3) / 2, (1.5 - 0.3) / 2, loc=0.3, scale=2.0)
    assert np.allclose(draw(mean, deviation, -1.0, 1.5, uniform), expected)
    far = draw(np.array([-1e3, 1e3, 0.0]), np.array([1.0, 1.0, 0.0]), -1.0, 1.5, np.full(3, 0.5))
    assert np.allclose(far, [-1.0, 1.5, 0.0])
