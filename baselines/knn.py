"""k nearest neighbours: the mean, or the vote, of the k nearest training rows that show the attribute.

Troyanskaya et al.: *Missing value estimation methods for DNA microarrays*, Bioinformatics 17, 2001. The squared
distance of two rows a and b is the mean over the set S of attributes that both show:

    d^2(a, b) = 1/|S| * sum over j in S of |z_aj - z_bj|^2,

where z is a standardised number or a one-hot category, each attribute scaled to a total variance of 1, so that all
weigh the same. Donors as near as the k-th take part too: ties are common among categories, and the order of the rows
must not decide. A row without a donor keeps the floor's value.

On numbers this is scikit-learn's KNNImputer, which knows neither categories nor weights per attribute, and keeps an
arbitrary few of tied donors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.api import (
    BenchError,
    BoolArray,
    FloatArray,
    Incomplete,
    Method,
    ObservedStatistics,
    Values,
    design_matrix,
    design_slices,
    fill_hidden,
    observed_statistics,
)

#: Distances held at a time (32 MB).
CHUNK_FLOATS = 2**22

#: Squared distances nearer to each other than this are a tie: rounding must not break it.
TIE = 1e-9


class NearestNeighbours(Method):
    """Keep the training rows; impute from the nearest ones."""

    name = "knn"
    summary = "Mean or vote of the nearest training rows (scikit-learn's KNNImputer, with categories)"
    version = 1
    kinds = ("numeric", "categorical")
    protocols = ("inductive",)
    tunable = {
        "neighbours": ("choice", 1, 2, 3, 5, 8, 12, 20, 30, 50, 80),
    }
    parameter_sets = {"default": {"neighbours": 5}}

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Encode the training rows; raises BenchError for fewer than one neighbour."""
        self._neighbours = int(self.parameters.get("neighbours", 5))
        if self._neighbours < 1:
            raise BenchError(f"knn: neighbours must be at least 1, not {self._neighbours}")
        self._statistics = observed_statistics(train)
        self._vary = np.flatnonzero(~self._statistics.constant)
        filled = fill_hidden(train.values(), train.observed[0], self._statistics)
        self._rows = Rows.of(filled.scalars, train.observed[0], self._statistics)

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` imputed from the training rows, some rows at a time; ``draws`` is not used."""
        values, observed, statistics = data.values(), data.observed[0], self._statistics
        filled = fill_hidden(values, observed, statistics)
        size = max(1, CHUNK_FLOATS // max(1, len(self._rows.seen)))
        for first in range(0, len(data), size):
            self.context.stop()
            self.context.progress(first, len(data), "rows")
            chunk = slice(first, first + size)
            self._impute(filled.scalars[chunk], observed[chunk])
        return Values(np.where(observed, values.scalars, filled.scalars))

    def _impute(self, scalars: FloatArray, observed: BoolArray) -> None:
        """Overwrite the hidden entries of rows given with the floor's values."""
        statistics, donors = self._statistics, self._rows
        distances = squared_distances(Rows.of(scalars, observed, statistics), donors)
        slices = design_slices(statistics.schema)
        for column in self._vary:
            hidden, shown = np.flatnonzero(~observed[:, column]), np.flatnonzero(donors.seen[:, column])
            near = nearest(distances[np.ix_(hidden, shown)], self._neighbours)
            some = near.any(axis=1)
            found = near[some] @ donors.design[np.ix_(shown, np.arange(slices[column].start, slices[column].stop))]
            if len(statistics.level_counts[column]):
                scalars[hidden[some], column] = found.argmax(axis=1)
            else:
                mean = found[:, 0] / near[some].sum(axis=1)
                scalars[hidden[some], column] = mean * statistics.scale[column] + statistics.mean[column]


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded rows, with 0 in hidden entries."""

    #: 1 if the row shows the column, [n, S].
    seen: FloatArray
    #: Design matrix, [n, D], and the same with each attribute scaled to a total variance of 1.
    design: FloatArray
    weighted: FloatArray
    #: Squared norm of each attribute in ``weighted``, [n, S].
    squares: FloatArray

    @classmethod
    def of(cls, filled: FloatArray, observed: BoolArray, statistics: ObservedStatistics) -> Rows:
        """Encode scalars [n, S] without NaN; constant and never observed columns count as hidden."""
        slices = design_slices(statistics.schema)
        widths = [where.stop - where.start for where in slices]
        seen = (observed & ~statistics.constant).astype(np.float64)
        design = design_matrix(filled, statistics) * np.repeat(seen, widths, axis=1)
        weights = np.ones(len(slices))
        for column in np.flatnonzero(~statistics.constant):
            counts = statistics.level_counts[column]
            if len(counts):
                weights[column] = 1 / (1 - np.sum(np.square(counts / counts.sum())))
        weighted = design * np.sqrt(np.repeat(weights, widths))
        squares = np.add.reduceat(weighted**2, [where.start for where in slices], axis=1)
        return cls(seen, design, weighted, squares)


def squared_distances(receivers: Rows, donors: Rows) -> FloatArray:
    """Return the mean squared distance over shared attributes, [n, m]; infinite if rows share none."""
    shared = receivers.seen @ donors.seen.T
    total = receivers.squares @ donors.seen.T + receivers.seen @ donors.squares.T
    total -= 2 * receivers.weighted @ donors.weighted.T
    return np.where(shared > 0, np.maximum(total, 0.0) / np.maximum(shared, 1.0), np.inf)


def nearest(distances: FloatArray, neighbours: int) -> FloatArray:
    """Return 1 for each row's ``neighbours`` smallest finite distances and those tied with the last, else 0, [n, m]."""
    if not distances.size:
        return np.zeros(distances.shape)
    last = min(neighbours, distances.shape[1]) - 1
    limit = np.partition(distances, last, axis=1)[:, [last]]
    return ((distances <= limit + TIE) & np.isfinite(distances)).astype(np.float64)
