"""The one rule of model selection: the error on held-out observed validation entries, in units of the floor's.

Whatever chooses an epoch or a trial does so by ``validation_error``, and nothing that a mechanism hid is looked at. The
holes rotate: each observed entry of a row is in one of five folds, and fold after fold is hidden and imputed, as many
as it takes for a choice to rest on a thousand entries. The neural engine computes the same on its device, for all
replicas of a stack at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from bench.data.schema import BoolArray, FloatArray, IntArray
from bench.data.statistics import ObservedStatistics, observed_statistics
from bench.data.table import Values
from bench.data.view import Incomplete
from bench.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd

#: Folds that the observed entries of a row are dealt into.
FOLDS = 5
#: Entries that a choice should rest on: folds are added until there are so many.
ENOUGH_ENTRIES = 1000
#: Entries below which nothing is tuned: sixteen trials are more than so few can tell apart.
LEAST_ENTRIES = 200
#: The scale of a number is at least this share of its observed range: an entry of a nearly constant attribute would
#: outweigh all others.
SMALLEST_DEVIATION = 0.1
#: The scale of a category is at least this share of wrong answers, for the same reason.
SMALLEST_ERROR_RATE = 0.05


def deal_folds(observed: BoolArray, count: int, rng: np.random.Generator) -> IntArray:
    """Return the fold of each observed validation entry, [n, M]: 0 to ``count`` - 1, or -1 for never held out.

    The observed entries of a row are put in random order and dealt in turn to ``FOLDS`` folds from a random one on, of
    which the first ``count`` are used. A row with a single observed entry is left out: nothing would be left to impute
    it from.
    """
    draw = np.where(observed, rng.random(observed.shape), 2.0)
    position = draw.argsort(axis=1).argsort(axis=1)
    fold = (position + rng.integers(FOLDS, size=(len(observed), 1))) % FOLDS
    usable = observed & (observed.sum(axis=1, keepdims=True) > 1) & (fold < count)
    return np.where(usable, fold, -1).astype(np.int8)


def fold_count(rows: int, attributes: float, ratio: float) -> int:
    """Return how many folds hold ``ENOUGH_ENTRIES`` entries, at most all.

    ``rows`` are those of the validation part, ``attributes`` the entries of a row that are present on average. What
    counts is the number expected when each is hidden with probability ``ratio``: the same for all seeds and methods.
    """
    shown = 1 - ratio
    per_row = attributes * shown * (1 - ratio ** max(attributes - 1, 0.0))
    per_fold = rows * per_row / FOLDS
    return FOLDS if per_fold <= 0 else min(FOLDS, max(1, math.ceil(ENOUGH_ENTRIES / per_fold)))


def floor_scales(statistics: ObservedStatistics) -> FloatArray:
    """Return the floor's error on the observed training entries of each attribute, [M]: the unit of the rule's error.

    The root mean square error of a number or an image about its mean, the share of a category's levels that are not
    the mode; 1 for features, which are standardised. Bounded below, and 0 where the floor is perfect or nothing was
    observed: such an attribute does not count.
    """
    schema = statistics.schema
    scales = np.zeros(len(schema))
    column_of = {int(index): column for column, index in enumerate(schema.scalar_indices)}
    for index, attribute in enumerate(schema.attributes):
        if statistics.count[index] == 0:
            continue
        if attribute.kind == "categorical":
            counts = statistics.level_counts[column_of[index]]
            wrong = 1 - counts.max() / counts.sum()
            scales[index] = max(wrong, SMALLEST_ERROR_RATE) if wrong > 0 else 0.0
        elif attribute.kind == "numeric":
            column = column_of[index]
            spread = statistics.maximum[column] - statistics.minimum[column]
            deviation = statistics.standard_deviation[column]
            scales[index] = max(deviation, SMALLEST_DEVIATION * spread) if deviation > 0 else 0.0
        else:
            scales[index] = statistics.image_deviation.get(attribute.name, 1.0)
    return scales


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


def relative_error(errors: FloatArray, entries: IntArray, scales: FloatArray, categorical: BoolArray) -> float:
    """Return the mean over attributes of the error in units of the floor's.

    Summed ``errors``, the number of ``entries``, ``scales`` and whether an attribute is ``categorical`` are [M] each.
    Squared errors enter as their root. Attributes without a scale or without entries do not count; 0 if none does.
    """
    counts = (entries > 0) & (scales > 0)
    if not counts.any():
        return 0.0
    mean = errors[counts] / entries[counts]
    own = np.where(categorical[counts], mean, np.sqrt(mean))
    return float((own / scales[counts]).mean())


def validation_error(
    impute: Callable[[Incomplete], pd.DataFrame | Values], train: Incomplete, validation: Incomplete
) -> float | None:
    """Return the rule's error of what ``impute`` makes of each fold of ``validation``; None if it is not finite.

    Both views are of one replica. Raises ValueError if ``validation`` has no folds.
    """
    if not validation.folds:
        raise ValueError("a validation view needs folds of held-out entries")
    schema, statistics = validation.schema, observed_statistics(train)
    errors = np.zeros(len(schema))
    for fold in validation.folds:
        imputed = impute(fold.shown)
        values = imputed if isinstance(imputed, Values) else Values.from_frame(imputed, schema)
        if not np.isfinite(values.scalars).all() or not all(
            np.isfinite(block).all() for block in values.blocks.values()
        ):
            return None
        errors += attribute_errors(values, fold.held_out, statistics)
    entries = held_out_entries(validation)[0]
    categorical = np.array([attribute.kind == "categorical" for attribute in schema.attributes], dtype=np.bool_)
    error = relative_error(errors, entries, floor_scales(statistics), categorical)
    return error if math.isfinite(error) else None


def held_out_entries(validation: Incomplete) -> IntArray:
    """Return the number of entries of each attribute that are held out in all folds together, [R, M]."""
    entries = np.zeros((validation.replicas, len(validation.schema)), dtype=np.int64)
    for fold in validation.folds:
        entries += fold.held_out.observed.sum(axis=1)
    return entries


def require_enough(validation: Incomplete, dataset: str) -> None:
    """Raise BenchError if a replica of a data set holds out too few entries to choose between trials by."""
    entries = int(held_out_entries(validation).sum(axis=1).min())
    if entries < LEAST_ENTRIES:
        raise BenchError(
            f"'{dataset}' has {entries} held-out validation entries, and tuning needs {LEAST_ENTRIES} to choose by: run"
            " the methods on it with their defaults"
        )
