"""How far imputed values are from the truth: NRMSE with every normaliser, PFC, MSE and MAE.

Scored are the entries that are present in the source and hidden by the mask. Range and standard deviation come from the
complete table: they enter these numbers and nothing a method ever sees. A metric with nothing to score is absent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from bench.data.kinds import Kind
from bench.data.schema import AnyArray, BoolArray, FloatArray, Schema
from bench.data.table import Table, Values, unit_scale
from bench.errors import BenchError, closest

#: Rows taken at a time where images are compared, to bound the memory.
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Metric:
    """A number that a table can print: its name, the attribute kinds it applies to, what it is, which way is better."""

    name: str
    kinds: tuple[Kind, ...]
    summary: str
    better: Literal["lower", "higher"] = "lower"


METRICS: tuple[Metric, ...] = (
    Metric("nrmse_rel", ("numeric",), "norm of the error / norm of the truth, all entries pooled on the min-max scale"),
    Metric("nrmse_std", ("numeric",), "RMSE / standard deviation of the column, mean over columns"),
    Metric("nrmse_range", ("numeric",), "RMSE / range of the column, mean over columns"),
    Metric("pfc", ("categorical",), "proportion falsely classified, mean over attributes"),
    Metric("pfc_pooled", ("categorical",), "proportion falsely classified, all entries pooled"),
    Metric("mse", ("numeric", "image", "features"), "mean squared error on the unit scale, mean over attributes"),
    Metric("mse_sum", ("numeric", "image", "features"), "mean squared error on the unit scale, summed over attributes"),
    Metric("mae", ("numeric", "image", "features"), "mean absolute error on the unit scale, mean over attributes"),
)


def find_metric(name: str) -> Metric:
    """Return the metric of this name; raises BenchError, with the closest name, if there is none."""
    known = {metric.name: metric for metric in METRICS}
    if name not in known:
        raise BenchError(f"unknown metric '{name}'.{closest(name, known)}")
    return known[name]


@dataclass(frozen=True, eq=False)
class Reference:
    """Minimum, maximum and standard deviation (ddof=0) of the complete table's numeric attributes, [numeric] each."""

    minimum: FloatArray
    maximum: FloatArray
    deviation: FloatArray

    @property
    def varies(self) -> BoolArray:
        """Whether each numeric attribute has variance; those without cannot be scaled."""
        varies: BoolArray = (self.maximum > self.minimum) & (self.deviation > 0)
        return varies


def reference_of(table: Table) -> Reference:
    """Return the reference statistics over the present cells of the complete table, 0 if a column has none."""
    columns = table.schema.scalar_columns("numeric")
    present = table.present[:, table.schema.of_kind("numeric")]
    numbers = np.where(present, table.scalars[:, columns], 0.0)
    count = np.maximum(present.sum(axis=0), 1)
    some = present.any(axis=0)
    minimum = np.where(some, np.min(numbers, axis=0, where=present, initial=np.inf), 0.0)
    maximum = np.where(some, np.max(numbers, axis=0, where=present, initial=-np.inf), 0.0)
    deviations = np.where(present, numbers - numbers.sum(axis=0) / count, 0.0)
    return Reference(minimum, maximum, np.sqrt(np.square(deviations).sum(axis=0) / count))


@dataclass(frozen=True)
class Scores:
    """What ``score`` found.

    ``metrics`` is scope -> metric -> number, with the scopes ``all``, ``something_observed`` (rows with an observed
    attribute) and ``nothing_observed`` (rows without one); a scope without scored entries is absent. ``attributes`` is
    attribute -> metric -> number over all rows, with ``entries`` the scored ones and ``rmse`` in the data's own unit.
    ``counts`` holds the scored entries, the rows, the rows with nothing observed, and the numeric columns that had
    scored entries but no variance and so are left out.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    attributes: dict[str, dict[str, float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the scores as plain JSON values."""
        return asdict(self)


def score(
    truth: Values, imputed: Values, observed: BoolArray, present: BoolArray, schema: Schema, reference: Reference
) -> Scores:
    """Score imputed values against the true ones in entries that are ``present`` and not ``observed``, both [n, M].

    Numbers are compared on the min-max scale of ``reference``, images on [0, 1] (uint8 divided by 255), features as
    they are. Raises BenchError where imputed values are NaN, infinite, or not of the truth's shape.
    """
    _require_complete(truth, imputed, schema)
    observed = observed & present
    scored = present & ~observed
    something: BoolArray = np.any(observed, axis=1)
    numeric = _NumericErrors.of(truth, imputed, scored, schema, reference)
    wrong = _wrong_categories(truth, imputed, schema)
    blocks = {
        index: _block_errors(truth.blocks[a.name], imputed.blocks[a.name], scored[:, index])
        for index, a in enumerate(schema.attributes)
        if a.kind in ("image", "features")
    }
    everyone = np.ones(len(scored), dtype=np.bool_)
    scopes = {"all": everyone, "something_observed": something, "nothing_observed": ~something}
    metrics: dict[str, dict[str, float]] = {}
    attributes: dict[str, dict[str, float]] = {}
    for scope, rows in scopes.items():
        entries = scored & rows[:, None]
        if not entries.any():
            continue
        found = _attribute_scores(numeric, wrong, blocks, entries, schema)
        if scope == "all":
            attributes = found
            _require_finite_scores(found)
        metrics[scope] = _table_scores(found, numeric, entries, schema)
    excluded = ~reference.varies & np.any(scored[:, schema.of_kind("numeric")], axis=0)
    counts = {
        "entries": int(scored.sum()),
        "rows": len(scored),
        "nothing_observed_rows": int((~something).sum()),
        "excluded_columns": int(excluded.sum()),
    }
    return Scores(metrics, attributes, counts)


@dataclass(frozen=True, eq=False)
class _NumericErrors:
    """Errors of the numeric attributes, in the data's unit and, like the truth, on the min-max scale; else 0."""

    raw: FloatArray
    scaled: FloatArray
    scaled_truth: FloatArray
    reference: Reference

    @classmethod
    def of(
        cls, truth: Values, imputed: Values, scored: BoolArray, schema: Schema, reference: Reference
    ) -> _NumericErrors:
        """Compare the numeric columns; those without variance get no scale and stay 0."""
        columns, where = schema.scalar_columns("numeric"), scored[:, schema.of_kind("numeric")]
        true_numbers = np.where(where, truth.scalars[:, columns], 0.0)
        raw = np.where(where, imputed.scalars[:, columns], 0.0) - true_numbers
        width = np.where(reference.varies, reference.maximum - reference.minimum, 1.0)
        scalable = where & reference.varies
        with np.errstate(over="ignore"):
            scaled = np.where(scalable, raw / width, 0.0)
            scaled_truth = np.where(scalable, (true_numbers - reference.minimum) / width, 0.0)
        return cls(raw, scaled, scaled_truth, reference)

    def by_attribute(self, entries: BoolArray, names: list[str]) -> dict[str, dict[str, float]]:
        """Return the scores of each numeric attribute with an entry; ``entries`` is [n, numeric]."""
        count = entries.sum(axis=0)
        divisor = np.maximum(count, 1)
        deviation = np.where(self.reference.varies, self.reference.deviation, 1.0)
        with np.errstate(over="ignore"):
            rmse = np.sqrt(np.square(self.raw).sum(axis=0, where=entries) / divisor)
            mse = np.square(self.scaled).sum(axis=0, where=entries) / divisor
            mae = np.abs(self.scaled).sum(axis=0, where=entries) / divisor
            by_deviation = rmse / deviation
        found: dict[str, dict[str, float]] = {}
        for j in np.flatnonzero(count):
            found[names[j]] = {"entries": int(count[j]), "rmse": float(rmse[j])}
            if self.reference.varies[j]:
                found[names[j]] |= {
                    "nrmse_std": float(by_deviation[j]),
                    "nrmse_range": float(np.sqrt(mse[j])),
                    "mse": float(mse[j]),
                    "mae": float(mae[j]),
                }
        return found

    def relative(self, entries: BoolArray) -> float | None:
        """Return the pooled norm of the error over that of the truth, None if the truth has no length."""
        length = float(np.sqrt(np.square(self.scaled_truth).sum(where=entries)))
        return float(np.sqrt(np.square(self.scaled).sum(where=entries))) / length if length > 0 else None


def _wrong_categories(truth: Values, imputed: Values, schema: Schema) -> BoolArray:
    """Return [n, categorical]: whether the imputed category is another than the true one."""
    columns = schema.scalar_columns("categorical")
    wrong: BoolArray = truth.scalars[:, columns] != imputed.scalars[:, columns]
    return wrong


def _block_errors(truth: AnyArray, imputed: AnyArray, scored: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the squared and the absolute error of each row, [n] each, mean over dimensions and 0 where not scored."""
    squared, absolute = np.zeros(len(scored)), np.zeros(len(scored))
    rows = np.flatnonzero(scored)
    for start in range(0, len(rows), BLOCK_ROWS):
        chunk = rows[start : start + BLOCK_ROWS]
        error = unit_scale(imputed[chunk]).astype(np.float64) - unit_scale(truth[chunk])
        with np.errstate(over="ignore"):
            squared[chunk] = np.square(error).mean(axis=1)
        absolute[chunk] = np.abs(error).mean(axis=1)
    return squared, absolute


def _attribute_scores(
    numeric: _NumericErrors,
    wrong: BoolArray,
    blocks: dict[int, tuple[FloatArray, FloatArray]],
    entries: BoolArray,
    schema: Schema,
) -> dict[str, dict[str, float]]:
    """Return attribute -> metric -> number for the attributes that have one of ``entries`` [n, M], in schema order."""
    names = schema.names
    numbers, categories = schema.of_kind("numeric"), schema.of_kind("categorical")
    found = numeric.by_attribute(entries[:, numbers], [names[i] for i in numbers])
    count = entries[:, categories].sum(axis=0)
    falsely = (wrong & entries[:, categories]).sum(axis=0)
    for j in np.flatnonzero(count):
        found[names[categories[j]]] = {"entries": int(count[j]), "pfc": float(falsely[j] / count[j])}
    for index, (squared, absolute) in blocks.items():
        rows = entries[:, index]
        if rows.any():
            found[names[index]] = {
                "entries": int(rows.sum()),
                "mse": float(squared[rows].mean()),
                "mae": float(absolute[rows].mean()),
            }
    return {name: found[name] for name in names if name in found}


def _table_scores(
    attributes: dict[str, dict[str, float]], numeric: _NumericErrors, entries: BoolArray, schema: Schema
) -> dict[str, float]:
    """Return metric -> number of a table from the scores of its attributes; what has nothing to score is absent."""
    found: dict[str, float] = {}
    relative = numeric.relative(entries[:, schema.of_kind("numeric")])
    if relative is not None:
        found["nrmse_rel"] = relative
    for metric in ("nrmse_std", "nrmse_range", "pfc", "mse", "mae"):
        each = [scores[metric] for scores in attributes.values() if metric in scores]
        if each:
            found[metric] = float(np.mean(each))
            if metric == "mse":
                found["mse_sum"] = float(np.sum(each))
    classified = [scores for scores in attributes.values() if "pfc" in scores]
    if classified:
        falsely = sum(scores["pfc"] * scores["entries"] for scores in classified)
        found["pfc_pooled"] = float(falsely / sum(scores["entries"] for scores in classified))
    return found


def _require_complete(truth: Values, imputed: Values, schema: Schema) -> None:
    """Raise BenchError unless the imputed values have the truth's shape and are finite everywhere."""
    if imputed.scalars.shape != truth.scalars.shape:
        raise BenchError(f"imputed scalars have shape {imputed.scalars.shape}, not {truth.scalars.shape}")
    broken = ~np.isfinite(imputed.scalars).all(axis=0)
    names = [schema.attributes[i].name for i in schema.scalar_indices[broken]]
    for attribute in schema.block_attributes:
        block = imputed.blocks.get(attribute.name)
        shape = truth.blocks[attribute.name].shape
        if block is None or block.shape != shape:
            found = "missing" if block is None else f"of shape {block.shape}"
            raise BenchError(f"the imputed block of attribute '{attribute.name}' is {found}; it must be {shape}")
        if not np.isfinite(block).all():
            names.append(attribute.name)
    if names:
        raise BenchError(f"imputed values of attribute '{names[0]}' are NaN or infinite{_and_others(names)}")


def _require_finite_scores(attributes: dict[str, dict[str, float]]) -> None:
    """Raise BenchError where imputed values are so far off that their squared error overflows."""
    names = [name for name, scores in attributes.items() if not np.isfinite(list(scores.values())).all()]
    if names:
        raise BenchError(f"imputed values of attribute '{names[0]}' are too large to be scored{_and_others(names)}")


def _and_others(names: list[str]) -> str:
    """Return how many more names there are, in brackets, or nothing."""
    return f" (and of {len(names) - 1} more)" if len(names) > 1 else ""
