"""The one rule of model selection: the error on held-out observed validation entries, in units of the floor's.

Whatever chooses an epoch or a trial does so by ``relative_error``, and nothing that a mechanism hid is looked at. The
neural engine computes the same on its device, for all replicas of a stack at once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bench.data.schema import BoolArray, FloatArray
from bench.data.statistics import ObservedStatistics, observed_statistics
from bench.data.table import Values
from bench.data.view import Incomplete

if TYPE_CHECKING:
    import pandas as pd

#: Share of the observed validation entries that are held out.
HELD_OUT_SHARE = 0.2


def hold_out(observed: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Choose the observed validation entries [n, M] to hide for model selection.

    Each observed entry is chosen with probability 0.2, in rows that keep another observed attribute: where all would
    go, the one with the highest draw stays.
    """
    draw = np.where(observed, rng.random(observed.shape), -1.0)
    chosen = observed & (draw < HELD_OUT_SHARE)
    kept = np.zeros_like(observed)
    kept[np.arange(len(observed)), draw.argmax(axis=1)] = True
    return chosen & ~kept


def attribute_errors(imputed: Values, held_out: Incomplete, statistics: ObservedStatistics) -> FloatArray:
    """Return the summed error per attribute, [M], over the entries that a view of one replica shows.

    Squared error for numbers, images and features (mean over their dimensions, those of features standardised), wrong
    answers for categories.
    """
    schema, shown, truth = held_out.schema, held_out.observed[0], held_out.values()
    errors = np.zeros(len(schema))
    column_of = {int(index): column for column, index in enumerate(schema.scalar_indices)}
    for index, attribute in enumerate(schema.attributes):
        rows = shown[:, index]
        if attribute.kind == "categorical":
            column = column_of[index]
            errors[index] = np.count_nonzero(imputed.scalars[rows, column] != truth.scalars[rows, column])
        elif attribute.kind == "numeric":
            column = column_of[index]
            errors[index] = np.square(imputed.scalars[rows, column] - truth.scalars[rows, column]).sum()
        else:
            own, real = imputed.blocks[attribute.name][rows], truth.blocks[attribute.name][rows]
            scale = statistics.block_scale.get(attribute.name, 1.0)
            errors[index] = np.square((own.astype(np.float64) - real) / scale).mean(axis=1).sum()
    return errors


def floor_values(rows: int, statistics: ObservedStatistics) -> Values:
    """Return the floor (mean, mode or mean image of the observed training entries) for a number of rows."""
    blocks = {name: np.broadcast_to(mean, (rows, len(mean))) for name, mean in statistics.block_mean.items()}
    return Values(np.broadcast_to(statistics.fill, (rows, len(statistics.fill))), blocks)


def relative_error(imputed: Values, held_out: Incomplete, statistics: ObservedStatistics) -> float:
    """Return the mean over attributes of the error of imputed rows over the floor's, on what ``held_out`` shows.

    ``held_out`` is a view of one replica, ``statistics`` are those of its training rows. Squared errors enter as their
    root. Attributes where the floor is perfect or nothing is held out do not count.
    """
    errors = attribute_errors(imputed, held_out, statistics)
    floor = attribute_errors(floor_values(len(held_out), statistics), held_out, statistics)
    counts = floor > 0
    ratio = errors[counts] / floor[counts]
    categorical = np.array([attribute.kind == "categorical" for attribute in held_out.schema.attributes])
    return float(np.where(categorical[counts], ratio, np.sqrt(ratio)).sum() / max(1, int(counts.sum())))


def validation_error(imputed: pd.DataFrame | Values, train: Incomplete, validation: Incomplete) -> float | None:
    """Return the rule's error of the imputed rows of ``validation``; None if it is not finite.

    Both views are of one replica; ``validation`` has held-out entries.
    """
    values = imputed if isinstance(imputed, Values) else Values.from_frame(imputed, validation.schema)
    if not np.isfinite(values.scalars).all() or not all(np.isfinite(block).all() for block in values.blocks.values()):
        return None
    held_out = validation.held_out
    if held_out is None:
        raise ValueError("a validation view needs held-out entries")
    error = relative_error(values, held_out, observed_statistics(train))
    return error if math.isfinite(error) else None
