"""Nearest neighbours, against scikit-learn and a loop over pairs of rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.impute import KNNImputer

from bench.api import Attribute, FloatArray, Incomplete, Schema, Table, observed_statistics
from tests.analytic import Holes, linear_gaussian
from tests.classical import Load, module_of, run, split, table_for


def test_knn_is_scikit_learns_on_numbers(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    holes = Holes.mcar(linear_gaussian(400, 6, 2, 0.5, seed=1), 0.6, seed=2)
    statistics = observed_statistics(holes.train)
    for neighbours in (1, 5):
        reference = KNNImputer(n_neighbors=neighbours)
        reference.fit((holes.train.values().scalars - statistics.mean) / statistics.scale)
        shown = (holes.test.values().scalars - statistics.mean) / statistics.scale
        expected = reference.transform(shown) * statistics.scale + statistics.mean
        _, found = holes.impute(load("knn"), {"neighbours": neighbours})
        assert (~holes.test.observed[0]).all(axis=1).any()
        assert np.allclose(found, expected, rtol=1e-9)
        # A few rows at a time give the same.
        monkeypatch.setattr(module_of(load("knn")), "CHUNK_FLOATS", 7 * len(holes.train))
        assert np.allclose(holes.impute(load("knn"), {"neighbours": neighbours})[1], expected, rtol=1e-9)


def test_knn_is_the_loop_over_pairs_of_rows_on_mixed_columns(load: Load) -> None:
    train, test = split(*table_for("knn", 120))
    found = run(load("knn")({"neighbours": 3}), train, test)
    statistics = observed_statistics(train)
    donors, receivers = train.values().scalars, test.values().scalars

    def distance(a: FloatArray, b: FloatArray) -> float:
        total, shared = 0.0, 0
        for column in range(5):
            if np.isnan(a[column]) or np.isnan(b[column]):
                continue
            shared += 1
            if column < 3:
                total += ((a[column] - b[column]) / statistics.scale[column]) ** 2
            elif a[column] != b[column]:
                share = statistics.level_counts[column] / statistics.level_counts[column].sum()
                total += 2 / (1 - np.sum(share**2))
        return total / shared if shared else np.inf

    for row, receiver in enumerate(receivers):
        distances = np.array([distance(receiver, donor) for donor in donors])
        for column in np.flatnonzero(np.isnan(receiver)):
            usable = np.flatnonzero(~np.isnan(donors[:, column]) & np.isfinite(distances))
            if not len(usable):
                assert found[row, column] == pytest.approx(statistics.fill[column])
                continue
            limit = np.sort(distances[usable])[:3][-1]
            chosen = donors[usable[distances[usable] <= limit + 1e-9], column]
            if column < 3:
                assert found[row, column] == pytest.approx(chosen.mean(), rel=1e-9)
            else:
                assert found[row, column] == np.bincount(chosen.astype(int)).argmax()


def test_tied_donors_all_vote(load: Load) -> None:
    """Six donors equal in the shown column: five say 1, the first one 0, and no order of rows makes that a 0."""
    schema = Schema(tuple(Attribute(name, "categorical", levels=("p", "q")) for name in ("shown", "hidden")))
    for first in range(6):
        codes = np.array([[0.0, 1.0]] * 6 + [[1.0, 0.0]] * 3 + [[0.0, 0.0]])
        codes[first, 1] = 0.0
        observed = np.ones((10, 2), dtype=bool)
        observed[9, 1] = False
        table = Table(schema, codes, {}, np.ones((10, 2), dtype=bool))
        train, test = (Incomplete(table, rows[None], observed[rows][None]) for rows in (np.arange(9), np.array([9])))
        assert run(load("knn")({"neighbours": 1}), train, test)[0, 1] == 1.0
