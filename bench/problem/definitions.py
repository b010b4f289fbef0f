"""Every reading of an error that the paper leaves open: what an NRMSE divides by, on which scale, pooled or not.

``audit`` computes all of them from one imputation. The names are ``formula/pooling/scale``, as in
``norm/pooled/minmax`` (the suite's own ``nrmse_rel``), and ``pfc/columns`` and ``pfc/pooled``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bench.data.schema import BoolArray, FloatArray, Schema
from bench.problem.metrics import Reference

#: What a root mean squared error is divided by; ``x`` are the true values of the scored entries.
FORMULAS: Mapping[str, Callable[[FloatArray], float]] = {
    "norm": lambda x: float(np.sqrt(np.mean(np.square(x)))),
    "sd": lambda x: float(np.std(x)),
    "range": lambda x: float(np.ptp(x)),
    "mean": lambda x: float(abs(np.mean(x))),
    "none": lambda x: 1.0,
}
POOLINGS = ("pooled", "columns")
SCALES = ("raw", "minmax", "zscore")


def definitions() -> tuple[str, ...]:
    """Return the names of all definitions of an NRMSE that are not the same number for every table.

    Column by column, an error in standard deviations or ranges is the same on every scale; and of standardised values
    the mean is nothing to divide by.
    """
    return tuple(
        f"{formula}/{pooling}/{scale}"
        for formula in FORMULAS
        for pooling in POOLINGS
        for scale in SCALES
        if not (pooling == "columns" and formula in ("sd", "range") and scale != "raw")
        and not (formula == "mean" and scale == "zscore")
    )


def errors_by_definition(
    truth: FloatArray, imputed: FloatArray, scored: BoolArray, schema: Schema, reference: Reference
) -> dict[str, float]:
    """Return definition -> error of imputed scalars [n, S] in scored entries [n, M].

    Minimum, range and standard deviation are those of the complete table, as in ``bench.problem.metrics``, the mean
    is that of the rows given; numbers without variance are left out. A definition without entries, or with nothing to
    divide by, is absent.
    """
    found: dict[str, float] = {}
    numbers, where = schema.scalar_columns("numeric"), scored[:, schema.of_kind("numeric")] & reference.varies
    if where.any():
        for scale in SCALES:
            shift, unit = _scale(scale, truth[:, numbers], reference)
            true = (truth[:, numbers] - shift) / unit
            error = (imputed[:, numbers] - shift) / unit - true
            for name in definitions():
                formula, pooling, own = name.split("/")
                if own == scale and (value := _error(FORMULAS[formula], pooling, true, error, where)) is not None:
                    found[name] = value
    categories, where = schema.scalar_columns("categorical"), scored[:, schema.of_kind("categorical")]
    if where.any():
        wrong = (truth[:, categories] != imputed[:, categories]) & where
        counts = where.sum(axis=0)
        some = counts > 0
        found["pfc/columns"] = float(np.mean(wrong.sum(axis=0)[some] / counts[some]))
        found["pfc/pooled"] = float(wrong.sum() / counts.sum())
    return found


def _scale(name: str, truth: FloatArray, reference: Reference) -> tuple[FloatArray, FloatArray]:
    """Return what is taken from each column of the truth, and what it is then divided by."""
    if name == "raw":
        return np.zeros_like(reference.minimum), np.ones_like(reference.minimum)
    varies = reference.varies
    if name == "minmax":
        return reference.minimum, np.where(varies, reference.maximum - reference.minimum, 1.0)
    return np.nanmean(truth, axis=0), np.where(varies, reference.deviation, 1.0)


def _error(
    divisor: Callable[[FloatArray], float], pooling: str, true: FloatArray, error: FloatArray, where: BoolArray
) -> float | None:
    """Return a normalised root mean squared error, or None if there is nothing to divide by."""
    if pooling == "pooled":
        parts = [(error[where], true[where])]
    else:
        columns = np.flatnonzero(where.any(axis=0))
        parts = [(error[where[:, j], j], true[where[:, j], j]) for j in columns]
    values = []
    for own, truth in parts:
        by = divisor(truth)
        if not by > 0:
            return None
        values.append(float(np.sqrt(np.mean(np.square(own)))) / by)
    return float(np.mean(values))
