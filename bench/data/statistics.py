"""Statistics of a view's observed entries, and the design matrix built from them.

The statistics come from observed entries only, so they may be taken from any view without looking at hidden values.
The floor fills with them, the selection rule divides by the floor's error, and the models scale with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.data.schema import AnyArray, BoolArray, FloatArray, IntArray, Schema
from bench.data.table import Values
from bench.data.view import Incomplete

__all__ = [
    "ObservedStatistics",
    "design_matrix",
    "design_slices",
    "fill_hidden",
    "observed_statistics",
    "original_scalars",
    "standardised_scalars",
]

#: Steps per standard deviation that standardised scalars are rounded to.
STEPS = 2.0**20


@dataclass(frozen=True, eq=False)
class ObservedStatistics:
    """What the observed entries of one replica say about each attribute; every value is finite.

    Arrays marked [S] follow the columns of ``scalars``, those marked [M] the attributes. The numeric fields of a
    categorical column, and of a numeric column that was never observed, are 0; ``mode`` is 0 in a numeric column and in
    a categorical one that was never observed.
    """

    schema: Schema
    #: Number of observed entries, [M].
    count: IntArray
    #: Mean of the observed numbers, [S].
    mean: FloatArray
    #: Their population standard deviation (divisor n), [S]; exactly 0 in a constant column.
    standard_deviation: FloatArray
    #: Smallest and largest observed number, [S].
    minimum: FloatArray
    maximum: FloatArray
    #: Code of the most frequent observed level (ties: the lowest code), [S].
    mode: IntArray
    #: Per column of ``scalars`` the observed count of each level, [K]; empty for a number.
    level_counts: tuple[IntArray, ...]
    #: Mean over the observed entries of each image (in [0, 1]) or feature attribute, [width]; 0 where never observed.
    block_mean: Mapping[str, FloatArray]
    #: Population standard deviation per dimension of each feature attribute, with 1 in place of 0, [width].
    block_scale: Mapping[str, FloatArray]
    #: Root mean square deviation of each image attribute's pixels from the mean image, with 1 in place of 0.
    image_deviation: Mapping[str, float]

    @cached_property
    def never_observed(self) -> BoolArray:
        """Attributes without a single observed entry, [M]: their fill is declared (0, level 0), not estimated."""
        never: BoolArray = self.count == 0
        return never

    @cached_property
    def scale(self) -> FloatArray:
        """Standard deviation [S], with 1 in place of 0: safe to divide by, and a constant column becomes 0."""
        return np.where(self.standard_deviation > 0, self.standard_deviation, 1.0)

    @cached_property
    def constant(self) -> BoolArray:
        """Columns of ``scalars`` with fewer than two distinct observed values, [S]: nothing to learn there."""
        one_number = self.standard_deviation == 0
        one_level = np.array([np.count_nonzero(counts) < 2 for counts in self.level_counts], dtype=bool)
        constant: BoolArray = one_number & one_level
        return constant

    @cached_property
    def fill(self) -> FloatArray:
        """The floor's value of each column of ``scalars``, [S]: the mean of a number, the mode of a category."""
        fill = self.mean.copy()
        categorical = self.schema.scalar_columns("categorical")
        fill[categorical] = self.mode[categorical]
        return fill


def observed_statistics(view: Incomplete, replica: int = 0) -> ObservedStatistics:
    """Return the statistics of one replica's observed entries."""
    schema, observed = view.schema, view.observed[replica]
    scalars = view.scalars(replica)
    scalar_observed = observed[:, schema.scalar_indices]
    columns = len(schema.scalar_indices)

    mean, deviation, minimum, maximum = (np.zeros(columns) for _ in range(4))
    numeric = schema.scalar_columns("numeric")
    if len(numeric) and len(view):
        moments = _moments(scalars[:, numeric], scalar_observed[:, numeric])
        mean[numeric], deviation[numeric], minimum[numeric], maximum[numeric] = moments

    mode = np.zeros(columns, dtype=np.int64)
    level_counts = [np.zeros(0, dtype=np.int64)] * columns
    categorical = schema.scalar_columns("categorical")
    if len(categorical):
        levels = np.array([len(schema.attributes[schema.scalar_indices[s]].levels) for s in categorical])
        counts = _level_counts(scalars[:, categorical], scalar_observed[:, categorical], levels)
        for position, column in enumerate(categorical):
            level_counts[column] = counts[position]
            mode[column] = counts[position].argmax() if len(counts[position]) else 0

    block_mean: dict[str, FloatArray] = {}
    block_scale: dict[str, FloatArray] = {}
    image_deviation: dict[str, float] = {}
    for attribute in schema.block_attributes:
        centre = _block_mean(view.observed_block(attribute.name, replica), attribute.width)
        block_mean[attribute.name] = centre
        squares = (np.square(chunk - centre) for chunk in view.observed_block(attribute.name, replica))
        spread = np.sqrt(_block_mean(squares, attribute.width))
        # Rounding leaves a constant beside its mean, and with a deviation just above 0.
        varies = spread > 1e-12 * np.abs(centre)
        if attribute.kind == "features":
            block_scale[attribute.name] = np.where(varies, spread, 1.0)
        else:
            image_deviation[attribute.name] = float(np.sqrt(np.square(spread).mean())) if varies.any() else 1.0
    return ObservedStatistics(
        schema=schema,
        count=observed.sum(axis=0, dtype=np.int64),
        mean=mean,
        standard_deviation=deviation,
        minimum=minimum,
        maximum=maximum,
        mode=mode,
        level_counts=tuple(level_counts),
        block_mean=block_mean,
        block_scale=block_scale,
        image_deviation=image_deviation,
    )


def _moments(numbers: FloatArray, observed: BoolArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return mean, deviation, minimum and maximum of the observed entries of each column; 0 where there are none."""
    count = observed.sum(axis=0)
    seen = count > 0
    divisor = np.maximum(count, 1)
    minimum = np.where(seen, np.min(numbers, axis=0, where=observed, initial=np.inf), 0.0)
    maximum = np.where(seen, np.max(numbers, axis=0, where=observed, initial=-np.inf), 0.0)
    mean = np.sum(numbers, axis=0, where=observed) / divisor
    # Rounding would leave the mean of equal numbers beside them, and a constant column a deviation above 0.
    mean = np.clip(mean, minimum, maximum)
    deviation = np.sqrt(np.sum(np.square(numbers - mean), axis=0, where=observed) / divisor)
    return mean, deviation, minimum, maximum


def _block_mean(chunks: Iterable[AnyArray], width: int) -> FloatArray:
    """Return the mean [width] over the rows of all chunks, 0 where there are none."""
    total, count = np.zeros(width), 0
    for chunk in chunks:
        total += chunk.sum(axis=0, dtype=np.float64)
        count += len(chunk)
    return total / max(count, 1)


def _level_counts(codes: FloatArray, observed: BoolArray, levels: IntArray) -> list[IntArray]:
    """Return the count of every level of each column, from one histogram over all columns."""
    ends = np.cumsum(levels)
    positions = np.where(observed, codes, 0.0).astype(np.int64) + (ends - levels)
    counts = np.bincount(positions[observed], minlength=int(ends[-1]))
    return np.split(counts.astype(np.int64), ends[:-1])


def fill_hidden(values: Values, observed: BoolArray, statistics: ObservedStatistics) -> Values:
    """Return ``values`` with every entry that is not ``observed`` ([n, M]) replaced by the floor's value.

    Observed entries come back bit-identical. Blocks stay float32.
    """
    schema = statistics.schema
    scalars = np.where(observed[:, schema.scalar_indices], values.scalars, statistics.fill)
    blocks: dict[str, AnyArray] = {}
    for index, attribute in enumerate(schema.attributes):
        if attribute.name in values.blocks:
            block = values.blocks[attribute.name]
            mean = statistics.block_mean[attribute.name].astype(block.dtype)
            blocks[attribute.name] = np.where(observed[:, index, None], block, mean)
    return Values(scalars, blocks)


def standardised_scalars(scalars: FloatArray, statistics: ObservedStatistics) -> FloatArray:
    """Return ``scalars`` [n, S] with numbers standardised, in steps of 2^-20 standard deviations; codes stay.

    The steps are finer than float32 and coarser than what float64 keeps of a number far from 0, so that a constant
    added to a column, or another unit, decides no comparison: forests cut between values.
    """
    standardised = scalars.copy()
    numeric = statistics.schema.scalar_columns("numeric")
    numbers = (scalars[:, numeric] - statistics.mean[numeric]) / statistics.scale[numeric]
    standardised[:, numeric] = np.rint(numbers * STEPS) / STEPS
    return standardised


def original_scalars(standardised: FloatArray, statistics: ObservedStatistics) -> FloatArray:
    """Return ``standardised`` scalars [n, S] in the data's own scale."""
    scalars = standardised.copy()
    numeric = statistics.schema.scalar_columns("numeric")
    scalars[:, numeric] = standardised[:, numeric] * statistics.scale[numeric] + statistics.mean[numeric]
    return scalars


def design_slices(schema: Schema) -> tuple[slice, ...]:
    """Return where each column of ``scalars`` lies in the design matrix: one column a number, K a category."""
    ends = np.cumsum([schema.attributes[index].width for index in schema.scalar_indices], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    return tuple(slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True))


def design_matrix(scalars: FloatArray, statistics: ObservedStatistics) -> FloatArray:
    """Return complete ``scalars`` [n, S] as a design matrix [n, D]: standardised numbers and one-hot categories."""
    schema = statistics.schema
    slices = design_slices(schema)
    matrix = np.zeros((len(scalars), slices[-1].stop if slices else 0))
    starts = np.array([where.start for where in slices], dtype=np.int64)
    numeric, categorical = schema.scalar_columns("numeric"), schema.scalar_columns("categorical")
    matrix[:, starts[numeric]] = (scalars[:, numeric] - statistics.mean[numeric]) / statistics.scale[numeric]
    hot = starts[categorical] + scalars[:, categorical].astype(np.int64)
    matrix[np.arange(len(scalars))[:, None], hot] = 1.0
    return matrix
