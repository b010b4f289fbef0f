"""Definitions of an error: each by hand on a small table, and the suite's own metrics among them."""

from __future__ import annotations

import numpy as np
import pytest

from bench.data.schema import Attribute, Schema
from bench.data.table import Table, Values
from bench.problem.definitions import definitions, errors_by_definition
from bench.problem.metrics import reference_of, score

SCHEMA = Schema((Attribute("a", "numeric"), Attribute("b", "numeric"), Attribute("k", "categorical", ("x", "y", "z"))))
TRUTH = np.array([[1.0, 10.0, 0], [2.0, 30.0, 1], [4.0, 20.0, 2], [5.0, 60.0, 1]])
IMPUTED = np.array([[2.0, 10.0, 1], [2.0, 20.0, 1], [4.0, 20.0, 0], [3.0, 80.0, 1]])
OBSERVED = np.array([[False, True, False], [True, False, True], [True, True, False], [False, False, False]])


def found() -> dict[str, float]:
    table = Table(SCHEMA, TRUTH, {}, np.ones((4, 3), dtype=np.bool_))
    return errors_by_definition(TRUTH, IMPUTED, ~OBSERVED, SCHEMA, reference_of(table))


def test_each_formula_is_that_of_its_name() -> None:
    errors, truth = np.array([1.0, -2.0, -10.0, 20.0]), np.array([1.0, 5.0, 30.0, 60.0])
    rmse = np.sqrt(np.mean(errors**2))
    own = found()
    assert own["none/pooled/raw"] == pytest.approx(rmse)
    assert own["norm/pooled/raw"] == pytest.approx(np.linalg.norm(errors) / np.linalg.norm(truth))
    assert own["sd/pooled/raw"] == pytest.approx(rmse / truth.std())
    assert own["range/pooled/raw"] == pytest.approx(rmse / 59)
    assert own["mean/pooled/raw"] == pytest.approx(rmse / 24)
    by_column = [np.sqrt(np.mean(np.square(e))) for e in (errors[:2], errors[2:])]
    assert own["none/columns/raw"] == pytest.approx(np.mean(by_column))
    assert own["range/columns/raw"] == pytest.approx((by_column[0] / 4 + by_column[1] / 30) / 2)
    # Ranges of the complete table are 4 and 50, from 1 and 10.
    assert own["none/pooled/minmax"] == pytest.approx(np.sqrt(np.mean((errors / [4, 4, 50, 50]) ** 2)))
    deviation = TRUTH[:, :2].std(axis=0).repeat(2)
    assert own["none/pooled/zscore"] == pytest.approx(np.sqrt(np.mean((errors / deviation) ** 2)))
    assert own["pfc/columns"] == own["pfc/pooled"] == pytest.approx(2 / 3)
    assert {name for name in own if not name.startswith("pfc")} == set(definitions())


def test_the_suites_own_metrics_are_among_them() -> None:
    table = Table(SCHEMA, TRUTH, {}, np.ones((4, 3), dtype=np.bool_))
    metrics = score(Values(TRUTH), Values(IMPUTED), OBSERVED, table.present, SCHEMA, reference_of(table)).metrics["all"]
    own = found()
    assert own["norm/pooled/minmax"] == pytest.approx(metrics["nrmse_rel"])
    assert own["none/columns/minmax"] == pytest.approx(metrics["nrmse_range"])
    assert own["none/columns/zscore"] == pytest.approx(metrics["nrmse_std"])
    assert (own["pfc/columns"], own["pfc/pooled"]) == pytest.approx((metrics["pfc"], metrics["pfc_pooled"]))


def test_a_definition_with_nothing_to_divide_by_is_absent() -> None:
    scored = np.zeros((4, 3), dtype=np.bool_)
    scored[0, 0] = True
    table = Table(SCHEMA, TRUTH, {}, np.ones((4, 3), dtype=np.bool_))
    own = errors_by_definition(TRUTH, IMPUTED, scored, SCHEMA, reference_of(table))
    assert "sd/pooled/raw" not in own and "pfc/columns" not in own
    assert own["none/pooled/raw"] == pytest.approx(1.0)
