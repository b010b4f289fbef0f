"""The metrics against closed forms, against a loop over entries, and in the cases where there is nothing to score."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from bench.api import AnyArray, Attribute, Schema, Table, Values
from bench.errors import BenchError
from bench.problem.metrics import METRICS, Reference, Scores, find_metric, reference_of, score


def table_of(scalars: ArrayLike, kinds: str, present: np.ndarray | None = None) -> Table:
    """Return a table of scalar columns; ``kinds`` has an n or a c (three levels) per column."""
    attributes = [
        Attribute(f"x{j}", "numeric") if kind == "n" else Attribute(f"x{j}", "categorical", levels=("a", "b", "c"))
        for j, kind in enumerate(kinds)
    ]
    numbers = np.asarray(scalars, dtype=float)
    return Table(Schema(tuple(attributes)), numbers, {}, ~np.isnan(numbers) if present is None else present)


def score_table(table: Table, imputed: np.ndarray, observed: np.ndarray) -> Scores:
    """Score imputed scalars of a whole table."""
    truth = Values(table.scalars, table.blocks)
    return score(truth, Values(imputed), observed, table.present, table.schema, reference_of(table))


def test_numeric_metrics_by_hand() -> None:
    table = table_of([[0, 10], [10, 30], [5, 20], [10, 30]], "nn")
    observed = np.array([[1, 1], [0, 1], [0, 0], [1, 0]], dtype=bool)
    imputed = table.scalars.copy()
    imputed[1, 0], imputed[2, 0], imputed[2, 1], imputed[3, 1] = 9.0, 8.0, 22.0, 30.0
    found = score_table(table, imputed, observed)
    # Errors -1 and 3 on a range of 10, 2 and 0 on a range of 20; scaled truths 1, .5 and .5, 1.
    deviations = [np.std([0, 10, 5, 10]), np.std([10, 30, 20, 30])]
    rmse = [math.sqrt(5), math.sqrt(2)]
    assert found.metrics["all"] == pytest.approx(
        {
            "nrmse_rel": math.sqrt(0.01 + 0.09 + 0.01) / math.sqrt(2.5),
            "nrmse_std": (rmse[0] / deviations[0] + rmse[1] / deviations[1]) / 2,
            "nrmse_range": (rmse[0] / 10 + rmse[1] / 20) / 2,
            "mse": (0.05 + 0.005) / 2,
            "mse_sum": 0.055,
            "mae": (0.2 + 0.05) / 2,
        }
    )
    assert found.attributes["x0"] == pytest.approx(
        {
            "entries": 2,
            "rmse": rmse[0],
            "nrmse_std": rmse[0] / deviations[0],
            "nrmse_range": rmse[0] / 10,
            "mse": 0.05,
            "mae": 0.2,
        }
    )
    assert found.counts == {"entries": 4, "rows": 4, "nothing_observed_rows": 1, "excluded_columns": 0}


def test_categorical_metrics_by_hand() -> None:
    table = table_of([[0, 1, 2], [1, 1, 2], [2, 0, 2], [0, 2, 2]], "ccc")
    observed = np.ones((4, 3), dtype=bool)
    observed[:, 0] = False
    observed[0, 1] = False
    imputed = table.scalars.copy()
    imputed[0, 0], imputed[0, 1] = 1.0, 2.0
    found = score_table(table, imputed, observed)
    assert found.metrics["all"] == pytest.approx({"pfc": (0.25 + 1.0) / 2, "pfc_pooled": 2 / 5})
    assert found.attributes == {"x0": {"entries": 4, "pfc": 0.25}, "x1": {"entries": 1, "pfc": 1.0}}


def test_images_and_features() -> None:
    schema = Schema((Attribute("photo", "image", shape=(1, 2)), Attribute("sound", "features", shape=(2,))))
    photo = np.array([[0, 255], [51, 102], [255, 255]], dtype=np.uint8)
    sound = np.array([[1.0, 2.0], [3.0, -4.0], [0.0, 0.0]], dtype=np.float32)
    truth = Values(np.empty((3, 0)), {"photo": photo, "sound": sound})
    imputed_photo = np.array([[0.5, 1.0], [0.2, 0.6], [0.0, 0.0]], dtype=np.float32)
    imputed = Values(np.empty((3, 0)), {"photo": imputed_photo, "sound": sound + np.float32(2)})
    observed = np.array([[0, 1], [0, 1], [1, 0]], dtype=bool)
    table = Table(schema, truth.scalars, truth.blocks, np.ones((3, 2), dtype=bool))
    found = score(truth, imputed, observed, table.present, schema, reference_of(table))
    photo_mse, photo_mae = (0.25 / 2 + 0.04 / 2) / 2, (0.5 / 2 + 0.2 / 2) / 2
    expected = {"mse": (photo_mse + 4) / 2, "mse_sum": photo_mse + 4, "mae": (photo_mae + 2) / 2}
    assert found.metrics["all"] == pytest.approx(expected, rel=1e-6)
    assert found.attributes["photo"] == pytest.approx({"entries": 2, "mse": photo_mse, "mae": photo_mae}, rel=1e-6)
    assert "nothing_observed" not in found.metrics


def test_many_images_are_scored_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.problem.metrics.BLOCK_ROWS", 3)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (20, 4)).astype(np.uint8)
    guess = rng.random((20, 4)).astype(np.float32)
    observed = rng.random((20, 1)) < 0.4
    schema = Schema((Attribute("photo", "image", shape=(4,)),))
    empty, nobody = np.empty((20, 0)), Reference(*(np.empty(0),) * 3)
    found = score(
        Values(empty, {"photo": photo}),
        Values(empty, {"photo": guess}),
        observed,
        np.ones((20, 1), bool),
        schema,
        nobody,
    )
    hidden = ~observed[:, 0]
    assert found.metrics["all"]["mse"] == pytest.approx(np.mean((photo[hidden] / 255 - guess[hidden]) ** 2), rel=1e-6)


def test_mean_imputation_scores_about_one_deviation() -> None:
    rng = np.random.default_rng(0)
    table = table_of(rng.lognormal(size=(4000, 6)) * [1, 10, 1e-3, 1e4, 3, 7], "nnnnnn")
    observed = rng.random((4000, 6)) < 0.5
    mean = np.nanmean(np.where(observed, table.scalars, np.nan), axis=0)
    imputed = np.where(observed, table.scalars, mean)
    assert score_table(table, imputed, observed).metrics["all"]["nrmse_std"] == pytest.approx(1.0, abs=0.05)
    zeros = np.where(observed, table.scalars, table.scalars.min(axis=0))
    assert score_table(table, zeros, observed).metrics["all"]["nrmse_rel"] == pytest.approx(1.0)


def mixed_problem(seed: int) -> tuple[Table, Values, np.ndarray]:
    """Return a table of every kind with cells the source does not have, imputed values, and an observed mask."""
    rng = np.random.default_rng(seed)
    rows = 60
    scalars = np.column_stack(
        [
            rng.lognormal(size=rows),
            rng.integers(0, 3, rows),
            np.full(rows, 0.1),
            rng.normal(-4, 9, rows),
            rng.random(rows),
        ]
    )
    scalars[:, 4] = rng.integers(0, 3, rows)
    table = table_of(scalars, "ncnnc")
    attributes = (
        *table.schema.attributes,
        Attribute("photo", "image", shape=(3,)),
        Attribute("f", "features", shape=(2,)),
    )
    blocks: dict[str, AnyArray] = {
        "photo": rng.integers(0, 256, (rows, 3)).astype(np.uint8),
        "f": rng.normal(size=(rows, 2)).astype(np.float32),
    }
    present = rng.random((rows, 7)) < 0.9
    scalars[~present[:, :5]] = np.nan
    table = Table(Schema(attributes), scalars, blocks, present)
    guess = np.column_stack(
        [rng.normal(size=rows), rng.integers(0, 3, rows), rng.normal(size=(rows, 2)), np.ones(rows)]
    )
    imputed = {"photo": rng.random((rows, 3)).astype(np.float32), "f": rng.normal(size=(rows, 2)).astype(np.float32)}
    observed = rng.random((rows, 7)) < 0.5
    observed[:12] = False
    return table, Values(guess, imputed), observed


def loop_over_entries(table: Table, imputed: Values, observed: np.ndarray, scope: str) -> dict[str, float]:
    """Return the metrics of one scope the slow way: one entry after the other."""
    squared: dict[str, list[float]] = {}
    absolute: dict[str, list[float]] = {}
    wrong: dict[str, list[float]] = {}
    over_deviation, over_range, error_length, truth_length = [], [], 0.0, 0.0
    for j, attribute in enumerate(table.schema.attributes):
        column = [table.scalars[r, j] for r in range(len(table)) if attribute.width and j < 5 and table.present[r, j]]
        errors = []
        for r in range(len(table)):
            seen = any(observed[r, k] and table.present[r, k] for k in range(len(table.schema)))
            if observed[r, j] or not table.present[r, j] or (scope == "something_observed" and not seen):
                continue
            if scope == "nothing_observed" and seen:
                continue
            if attribute.kind == "categorical":
                wrong.setdefault(attribute.name, []).append(float(table.scalars[r, j] != imputed.scalars[r, j]))
            elif attribute.kind == "numeric":
                low, high = min(column), max(column)
                if low == high:
                    continue
                errors.append(imputed.scalars[r, j] - table.scalars[r, j])
                scaled = errors[-1] / (high - low)
                squared.setdefault(attribute.name, []).append(scaled**2)
                absolute.setdefault(attribute.name, []).append(abs(scaled))
                error_length += scaled**2
                truth_length += ((table.scalars[r, j] - low) / (high - low)) ** 2
            else:
                unit = 255 if attribute.kind == "image" else 1
                for d in range(attribute.width):
                    error = imputed.blocks[attribute.name][r, d] - table.blocks[attribute.name][r, d] / unit
                    squared.setdefault(attribute.name, []).append(error**2)
                    absolute.setdefault(attribute.name, []).append(abs(error))
        if errors:
            rmse = math.sqrt(sum(e**2 for e in errors) / len(errors))
            mean = sum(column) / len(column)
            over_deviation.append(rmse / math.sqrt(sum((v - mean) ** 2 for v in column) / len(column)))
            over_range.append(rmse / (max(column) - min(column)))
    mse = [sum(values) / len(values) for values in squared.values()]
    pooled = [value for values in wrong.values() for value in values]
    return {
        "nrmse_rel": math.sqrt(error_length) / math.sqrt(truth_length),
        "nrmse_std": sum(over_deviation) / len(over_deviation),
        "nrmse_range": sum(over_range) / len(over_range),
        "pfc": sum(sum(values) / len(values) for values in wrong.values()) / len(wrong),
        "pfc_pooled": sum(pooled) / len(pooled),
        "mse": sum(mse) / len(mse),
        "mse_sum": sum(mse),
        "mae": sum(sum(values) / len(values) for values in absolute.values()) / len(absolute),
    }


@pytest.mark.parametrize("scope", ["all", "something_observed", "nothing_observed"])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_metric_agrees_with_a_loop_over_entries(seed: int, scope: str) -> None:
    table, imputed, observed = mixed_problem(seed)
    truth = table.take(np.arange(len(table)))
    found = score(truth, imputed, observed, table.present, table.schema, reference_of(table))
    expected = loop_over_entries(table, imputed, observed, scope)
    assert set(expected) == {metric.name for metric in METRICS}
    assert found.metrics[scope] == pytest.approx(expected, rel=1e-6)
    assert found.counts["excluded_columns"] == 1
    assert found.counts["entries"] == (table.present & ~observed).sum()
    assert found.counts["nothing_observed_rows"] >= 12


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    table, imputed, observed = mixed_problem(seed)
    order = np.random.default_rng(seed).permutation(len(table))
    reference = reference_of(table)
    truth, shuffled_truth = table.take(np.arange(len(table))), table.take(order)
    shuffled = Values(imputed.scalars[order], {name: block[order] for name, block in imputed.blocks.items()})
    first = score(truth, imputed, observed, table.present, table.schema, reference)
    second = score(shuffled_truth, shuffled, observed[order], table.present[order], table.schema, reference)
    assert first.counts == second.counts
    assert first.metrics.keys() == second.metrics.keys() and first.attributes.keys() == second.attributes.keys()
    for scope in first.metrics:
        assert second.metrics[scope] == pytest.approx(first.metrics[scope], rel=1e-9)
    for name in first.attributes:
        assert second.attributes[name] == pytest.approx(first.attributes[name], rel=1e-9)


def test_only_hidden_present_entries_count() -> None:
    table, imputed, observed = mixed_problem(3)
    truth, reference = table.take(np.arange(len(table))), reference_of(table)
    before = score(truth, imputed, observed, table.present, table.schema, reference)
    scored = table.present & ~observed
    elsewhere = Values(
        np.where(scored[:, :5], imputed.scalars, 1e9),
        {name: np.where(scored[:, [j]], imputed.blocks[name], 77) for j, name in [(5, "photo"), (6, "f")]},
    )
    after = score(truth, elsewhere, observed, table.present, table.schema, reference)
    assert after == before


def test_columns_without_variance_are_excluded_and_counted() -> None:
    table = table_of([[0.1, 1], [0.1, 2], [0.1, 3], [0.1, 4]], "nn")
    observed = np.array([[0, 1], [1, 0], [0, 0], [1, 1]], dtype=bool)
    imputed = table.scalars + 1.0
    found = score_table(table, imputed, observed)
    assert found.counts["excluded_columns"] == 1
    assert found.attributes["x0"] == pytest.approx({"entries": 2, "rmse": 1.0})
    assert found.metrics["all"]["nrmse_range"] == pytest.approx(1 / 3)
    assert found.metrics["all"]["nrmse_std"] == pytest.approx(1 / np.std([1, 2, 3, 4]))
    assert found.metrics["all"]["mse_sum"] == pytest.approx(1 / 9)
    observed[:, 0] = True
    assert score_table(table, imputed, observed).counts["excluded_columns"] == 0


def test_what_cannot_be_scored_is_absent() -> None:
    constant = table_of([[5.0, 0], [5.0, 1]], "nc")
    observed = np.array([[0, 1], [1, 1]], dtype=bool)
    found = score_table(constant, constant.scalars + 1, observed)
    assert found.metrics == {"all": {}, "something_observed": {}}
    assert found.attributes == {"x0": {"entries": 1, "rmse": 1.0}}
    everything = score_table(constant, constant.scalars, np.ones((2, 2), dtype=bool))
    assert everything.metrics == {} and everything.attributes == {} and everything.counts["entries"] == 0
    # The only hidden truth is the column's minimum: 0 on the min-max scale, so the relative error has no scale.
    lowest = table_of([[0.0], [1.0]], "n")
    found = score_table(lowest, np.array([[0.5], [1.0]]), np.array([[False], [True]]))
    assert "nrmse_rel" not in found.metrics["all"] and found.metrics["all"]["nrmse_range"] == 0.5


def test_reference_uses_present_cells_of_the_complete_table() -> None:
    table = table_of([[1, 0, np.nan], [np.nan, 1, np.nan], [4, 2, np.nan], [7, 0, np.nan]], "ncn")
    reference = reference_of(table)
    np.testing.assert_allclose(reference.minimum, [1, 0])
    np.testing.assert_allclose(reference.maximum, [7, 0])
    np.testing.assert_allclose(reference.deviation, np.array([np.std([1, 4, 7]), 0]))
    np.testing.assert_array_equal(reference.varies, [True, False])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_imputed_values_that_are_not_finite_are_named(bad: float) -> None:
    table, imputed, observed = mixed_problem(0)
    truth, reference = table.take(np.arange(len(table))), reference_of(table)
    scalars = imputed.scalars.copy()
    scalars[3, 3] = bad
    with pytest.raises(BenchError, match="attribute 'x3' are NaN or infinite"):
        score(truth, Values(scalars, imputed.blocks), observed, table.present, table.schema, reference)
    photo = imputed.blocks["photo"].copy()
    photo[0, 1] = bad
    with pytest.raises(BenchError, match="attribute 'photo' are NaN or infinite"):
        broken = Values(imputed.scalars, {**imputed.blocks, "photo": photo})
        score(truth, broken, observed, table.present, table.schema, reference)


def test_imputed_values_too_large_or_of_another_shape_are_refused() -> None:
    table = table_of([[1.0], [2.0]], "n")
    observed = np.array([[False], [True]])
    with pytest.raises(BenchError, match="attribute 'x0' are too large"):
        score_table(table, np.array([[1e200], [2.0]]), observed)
    with pytest.raises(BenchError, match="shape"):
        score_table(table, np.array([[1.0]]), observed)
    table, imputed, observed = mixed_problem(0)
    truth = table.take(np.arange(len(table)))
    with pytest.raises(BenchError, match="'f' is missing"):
        only_photo = Values(imputed.scalars, {"photo": imputed.blocks["photo"]})
        score(truth, only_photo, observed, table.present, table.schema, reference_of(table))


def test_scores_are_plain_json() -> None:
    table, imputed, observed = mixed_problem(0)
    found = score(
        table.take(np.arange(len(table))), imputed, observed, table.present, table.schema, reference_of(table)
    )
    plain = found.as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == {"metrics", "attributes", "counts"}
    assert list(plain["attributes"]) == list(table.schema.names)


def test_metrics_are_found_by_name() -> None:
    assert find_metric("pfc").kinds == ("categorical",)
    assert all(metric.better == "lower" and metric.summary for metric in METRICS)
    with pytest.raises(BenchError, match="unknown metric 'nrmse_sdt'. Did you mean 'nrmse_std'?"):
        find_metric("nrmse_sdt")
