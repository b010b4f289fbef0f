"""MissForest by missingpy, against its algorithm written again, and the bridge that leaves no trace."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from bench.api import (
    Budget,
    Context,
    FloatArray,
    Incomplete,
    observed_statistics,
    original_scalars,
    seed_of,
    standardised_scalars,
)
from tests.classical import NEEDS_MISSINGPY, Load, error, imputed, missing_table, module_of, nonlinear_table, run, views


def restated(numbers: FloatArray, categorical: list[int], trees: int, iterations: int, seed: int) -> list[FloatArray]:
    """Return the table before each iteration of missingpy's algorithm and after the last, written here again."""
    hidden = np.isnan(numbers)
    current = numbers.copy()
    columns = numbers.shape[1]
    numeric = [c for c in range(columns) if c not in categorical]
    for column in categorical:
        levels, counts = np.unique(numbers[~hidden[:, column], column], return_counts=True)
        current[hidden[:, column], column] = levels[counts.argmax()]
    for column, mean in zip(numeric, np.nanmean(numbers[:, numeric], axis=0), strict=True):
        current[hidden[:, column], column] = mean
    tables, last = [current.copy()], [np.inf, np.inf]
    for _ in range(iterations):
        for column in np.argsort(hidden.sum(axis=0)):
            holes = hidden[:, column]
            if not holes.any():
                continue
            others = np.delete(current, column, axis=1)
            forest = (
                RandomForestClassifier(trees, random_state=seed)
                if column in categorical
                else RandomForestRegressor(trees, random_state=seed)
            )
            current[holes, column] = forest.fit(others[~holes], current[~holes, column]).predict(others[holes])
        before = tables[-1]
        tables.append(current.copy())
        moved = np.sum((current - before)[:, numeric] ** 2) / np.sum(current[:, numeric] ** 2) if numeric else np.inf
        changed = np.sum((current != before)[:, categorical]) / hidden[:, categorical].sum() if categorical else np.inf
        if moved >= last[0] and changed >= last[1]:
            break
        last = [moved, changed]
    return tables


@pytest.mark.parametrize("name", ["missforest_inductive", pytest.param("missforest", marks=NEEDS_MISSINGPY)])
def test_forests_beat_the_floor_and_the_linear_chain_where_nothing_is_linear(load: Load, name: str) -> None:
    train, test = views(nonlinear_table(), 0.25)
    found = run(load(name)(None, Context(Budget(trees=10, sweeps=3))), train, test)
    floor = run(load("mean_mode")(), train, test)
    for column in (1, 2, 3):
        assert error(test, found, column) < 0.7 * error(test, floor, column)


@NEEDS_MISSINGPY
@pytest.mark.parametrize("kind", ["numeric", "categorical", "mixed"])
def test_the_bridge_agrees_with_missingpys_algorithm_written_anew(load: Load, kind: str) -> None:
    scalars, categorical = missing_table(kind)
    missforest = module_of(load("missforest")).load_missforest(lambda: None)
    for iterations in (1, 2, 10):
        imputer = missforest(max_iter=iterations, n_estimators=4, n_jobs=1, random_state=3)
        found = imputer.fit_transform(scalars, cat_vars=categorical or None)
        tables = restated(scalars, categorical, 4, iterations, 3)
        assert imputer.iter_count_ == len(tables) - 1
        # The matrix before its last iteration: with one iteration, the mean and mode.
        assert np.array_equal(found, tables[-2])
    assert not np.array_equal(tables[1], tables[0])


@NEEDS_MISSINGPY
def test_the_method_asks_for_one_iteration_more_than_its_sweeps(load: Load) -> None:
    scalars, categorical = missing_table("mixed")
    table = nonlinear_table(60)
    everything = Incomplete(table, np.arange(60)[None], ~np.isnan(scalars)[None])
    method = load("missforest")(None, Context(Budget(trees=4, sweeps=1)))
    method.fit(everything, everything, 8)
    statistics = observed_statistics(everything)
    standardised = standardised_scalars(scalars, statistics)
    expected = restated(standardised, categorical, 4, 1, seed_of("missforest", 8) % 2**32)[1]
    found = imputed(method, everything)
    hidden = np.isnan(scalars)
    assert np.array_equal(found[hidden], original_scalars(expected, statistics)[hidden])
    assert np.array_equal(found[~hidden], scalars[~hidden])
    assert method.diagnostics() == [{"iterations": 2, "trees": 4}]


@NEEDS_MISSINGPY
def test_the_bridge_leaves_no_trace(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.metrics import pairwise

    module = module_of(load("missforest"))

    def state() -> tuple[Any, ...]:
        return (
            {name for name in sys.modules if name.startswith(("missingpy", "sklearn.neighbors"))},
            sys.modules.get("missingpy"),
            list(pairwise._VALID_METRICS),
            dict(pairwise.PAIRWISE_DISTANCE_FUNCTIONS),
            hasattr(np, "in1d"),
            hasattr(sys.modules["sklearn.neighbors"], "base"),
            RandomForestRegressor().criterion,
        )

    before = state()
    first = module.load_missforest(lambda: None)
    scalars, _ = missing_table("numeric")
    first(max_iter=2, n_estimators=1, n_jobs=1).fit_transform(scalars)
    assert state() == before
    assert "missingpy" not in sys.modules
    assert "sklearn.neighbors.base" not in sys.modules
    assert "masked_euclidean" not in pairwise._VALID_METRICS
    assert capsys.readouterr() == ("", "")
    # Two bridges share no state: each class watches its own forests.
    counts = [0, 0]

    def counter(index: int) -> Callable[[], None]:
        def count() -> None:
            counts[index] += 1

        return count

    classes = [module.load_missforest(counter(index)) for index in range(2)]
    classes[0](max_iter=1, n_estimators=1, n_jobs=1).fit_transform(scalars)
    assert counts == [4, 0]


@NEEDS_MISSINGPY
def test_auto_means_all_columns_for_numbers_and_the_square_root_for_categories(load: Load) -> None:
    missforest = module_of(load("missforest")).load_missforest(lambda: None)
    names = missforest.__init__.__globals__
    regressor = names["RandomForestRegressor"](n_estimators=1, criterion="mse", max_features="auto").estimator
    classifier = names["RandomForestClassifier"](n_estimators=1, criterion="gini", max_features="auto").estimator
    assert (regressor.max_features, regressor.criterion) == (1.0, "squared_error")
    assert (classifier.max_features, classifier.criterion) == ("sqrt", "gini")
    assert names["RandomForestRegressor"](criterion="mse", max_features=2).estimator.max_features == 2
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(40, 9)), rng.integers(0, 2, 40)
    assert regressor.fit(rows, rows[:, 0]).estimators_[0].max_features_ == 9
    assert classifier.fit(rows, codes).estimators_[0].max_features_ == 3
