"""How good the draws of a method are: CRPS, Brier and log score, coverage and width of intervals, energy distance.

An error rewards the conditional mean, whatever a method knows of its spread. These scores are of the distribution: the
CRPS, the Brier and the log score are proper, which means that the true conditional distribution has the least of them
in expectation (Gneiting and Raftery: *Strictly proper scoring rules, prediction, and estimation*, JASA 102, 2007).

Numbers are in units of the column's standard deviation, the same as in ``nrmse_std``; columns without variance are left
out. Scored are the hidden entries of numbers and categories; images and features are not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.data.schema import BoolArray, FloatArray, IntArray, Schema
from bench.data.table import Values
from bench.errors import BenchError
from bench.problem.metrics import Metric, Reference

#: The central intervals that are scored, in percent.
LEVELS = (50, 90)
#: Rows and draws that the energy distance is taken of at most: its cost grows with the square of the rows.
ENERGY_ROWS, ENERGY_DRAWS = 500, 10

DRAW_METRICS: tuple[Metric, ...] = (
    Metric("crps", ("numeric",), "continuous ranked probability score / standard deviation, mean over columns"),
    Metric("coverage_50", ("numeric",), "share of numbers within the central 50 % of their draws, mean over columns"),
    Metric("coverage_90", ("numeric",), "share of numbers within the central 90 % of their draws, mean over columns"),
    Metric("width_50", ("numeric",), "width of the central 50 % interval / standard deviation, mean over columns"),
    Metric("width_90", ("numeric",), "width of the central 90 % interval / standard deviation, mean over columns"),
    Metric("brier", ("categorical",), "Brier score of the drawn levels' frequencies, 0 to 2, mean over attributes"),
    Metric("log_score", ("categorical",), "minus the log of the true level's smoothed frequency, mean over attributes"),
    Metric("energy_distance", ("numeric", "categorical"), "energy distance of completed rows from the true ones"),
)


# One entry


def crps(draws: FloatArray, truth: FloatArray) -> FloatArray:
    """Return the continuous ranked probability score of numbers [n] for their draws [n, D], by the fair estimator.

    With D draws x_i of F and a truth y,

        CRPS(F, y) = E|X - y| - E|X - X'| / 2,
        estimated as  mean_i |x_i - y| - sum_{i<j} |x_i - x_j| / (D (D - 1)),

    which is unbiased whatever D is: 10 draws and 50 estimate the same number (Ferro: *Fair scores for ensemble
    forecasts*, Q. J. R. Meteorol. Soc. 140, 2014). It is in the unit of the numbers; of one entry it may be below 0.
    """
    count = draws.shape[-1]
    ordered = np.sort(draws, axis=-1)
    # Of sorted draws, the sum of differences counts each by how many lie below it less how many lie above it.
    rank = 2.0 * np.arange(count) - (count - 1)
    score: FloatArray = np.abs(draws - truth[..., None]).mean(axis=-1) - ordered @ rank / (count * (count - 1))
    return score


def central_interval(draws: FloatArray, percent: float) -> tuple[FloatArray, FloatArray]:
    """Return the ends [n] of the central interval of draws [n, D]: their quantiles at (1 -+ percent / 100) / 2.

    The quantile at p stands at place p (D + 1) of the sorted draws (Hyndman and Fan: *Sample quantiles in statistical
    packages*, Am. Stat. 50, 1996, definition 6): a truth from the distribution of its draws lies below the r-th of D
    with probability r / (D + 1). It is no more extreme than the draws: 10 of them cover 82 % where 90 are asked for.
    """
    ordered, count = np.sort(draws, axis=-1), draws.shape[-1]

    def quantile(share: float) -> FloatArray:
        place = min(max(share * (count + 1) - 1.0, 0.0), count - 1.0)
        below = min(int(place), count - 2)
        value: FloatArray = ordered[..., below] + (place - below) * (ordered[..., below + 1] - ordered[..., below])
        return value

    tail = (1.0 - percent / 100) / 2
    return quantile(tail), quantile(1.0 - tail)


def level_counts(codes: IntArray, levels: int) -> IntArray:
    """Return how often each level was drawn, [n, levels], for drawn codes [n, D]."""
    rows = np.arange(len(codes))[:, None] * levels
    counted = np.bincount((rows + codes).ravel(), minlength=len(codes) * levels)
    return counted.reshape(len(codes), levels)


def brier_score(counts: IntArray, truth: IntArray) -> FloatArray:
    """Return the Brier score of categories [n] for the counts of their drawn levels [n, K], by the fair estimator.

    With the share f_k of level k among D draws and the true level y,

        sum_k (f_k - [k = y])^2 - sum_k f_k (1 - f_k) / (D - 1),

    where the second sum takes away what the finite number of draws adds (Brier: *Verification of forecasts expressed in
    terms of probability*, Mon. Weather Rev. 78, 1950; Ferro 2014, as in ``crps``). It goes from 0 to 2.
    """
    draws = counts.sum(axis=1)[:, None]
    share = counts / draws
    right = np.take_along_axis(share, truth[:, None], axis=1)[:, 0]
    squares = np.square(share).sum(axis=1)
    score: FloatArray = squares - 2.0 * right + 1.0 - (share * (1.0 - share) / (draws - 1)).sum(axis=1)
    return score


def log_score(counts: IntArray, truth: IntArray) -> FloatArray:
    """Return minus the log, in nats, of the true level's smoothed share, for counts of drawn levels [n, K].

    One pseudo-draw is shared out evenly among the K levels, so that a level that was never drawn costs a finite number:

        -log((c_y + 1/K) / (D + 1))

    (Perks: *Some observations on inverse probability including a new indifference rule*, J. Inst. Actuaries 73, 1947).
    It is the logarithmic score of Good: *Rational decisions*, JRSS B 14, 1952.
    """
    drawn = np.take_along_axis(counts, truth[:, None], axis=1)[:, 0]
    score: FloatArray = np.log(counts.sum(axis=1) + 1.0) - np.log(drawn + 1.0 / counts.shape[1])
    return score


# Whole rows


@dataclass(frozen=True, eq=False)
class Points:
    """Complete rows as points: numbers [n, A] in standard deviations, and codes of categories [n, C]."""

    numbers: FloatArray
    codes: FloatArray

    def mean_distance(self, other: Points) -> float:
        """Return the mean distance of all pairs of rows: the root of squared differences and of levels that differ."""
        from scipy.spatial.distance import cdist

        squares = cdist(self.numbers, other.numbers, "sqeuclidean") if self.numbers.shape[1] else 0.0
        if self.codes.shape[1]:
            squares = squares + self.codes.shape[1] * cdist(self.codes, other.codes, "hamming")
        return float(np.sqrt(squares).mean())


def energy_distance(completed: Sequence[Points], truth: Points) -> float:
    """Return the energy distance of the true rows from completed ones, mean over the completions.

    With rows X of a completion and Y of the truth,

        sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)

    over all pairs (Szekely and Rizzo: *Energy statistics: A class of statistics based on distances*, J. Stat. Plan.
    Inference 143, 2013); it is 0 if the rows are the same and ``scipy.stats.energy_distance`` of a single number. It
    sees what scores of single entries do not: whether the numbers of a row belong together.
    """
    within = truth.mean_distance(truth)
    squares = [2.0 * own.mean_distance(truth) - own.mean_distance(own) - within for own in completed]
    return float(np.mean(np.sqrt(np.maximum(squares, 0.0))))


# A table


@dataclass(frozen=True)
class DrawScores:
    """What the draws of one replica score: how many there were, metric -> number, and attribute -> metric -> number.

    A table's number is the mean over its attributes; those of an attribute have ``entries``, the scored ones.
    """

    draws: int
    metrics: dict[str, float]
    attributes: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, Any]:
        """Return the scores as plain JSON values; ``all`` holds the table's."""
        return {"draws": self.draws, "all": self.metrics, "attributes": self.attributes}


class DrawTotals:
    """Scores of draws that come in chunks of rows, of which only sums are kept."""

    def __init__(self, schema: Schema, reference: Reference, rows: int) -> None:
        """Start empty; ``rows`` are to come in all."""
        self._schema = schema
        self._draws = 0
        numbers = schema.scalar_columns("numeric")
        #: Columns of ``scalars`` that are scored, and what numbers are divided by.
        self._numbers, self._deviation = numbers[reference.varies], reference.deviation[reference.varies]
        self._categories = schema.scalar_columns("categorical")
        self._sums: dict[int, dict[str, float]] = {}
        self._seen = 0
        chosen = np.arange(rows) if rows <= ENERGY_ROWS else np.linspace(0, rows - 1, ENERGY_ROWS).round()
        self._of_energy: IntArray = chosen.astype(np.int64)
        self._points: list[list[Points]] = []

    def add(self, truth: Values, draws: FloatArray, observed: BoolArray, present: BoolArray) -> None:
        """Score draws [D, n, S] of the next n rows, in entries that are ``present`` and not ``observed``, both [n, M].

        Raises BenchError on draws that are NaN or infinite, fewer than two, or of another number than before.
        """
        schema, count = self._schema, len(draws)
        if count < 2 or (self._draws and count != self._draws):
            raise BenchError(f"{count} draws cannot be scored" + (f" beside {self._draws}" if self._draws else ""))
        self._draws = count
        columns = schema.scalar_indices
        scored = (present & ~observed)[:, columns]
        if not np.isfinite(draws[:, scored]).all():
            raise BenchError("draws are NaN or infinite")
        with np.errstate(over="ignore", invalid="ignore"):
            for column, deviation in zip(self._numbers, self._deviation, strict=True):
                rows = scored[:, column]
                if rows.any():
                    own = draws[:, rows, column].T / deviation
                    self._keep(column, _number_scores(own, truth.scalars[rows, column] / deviation))
            for column in self._categories:
                rows = scored[:, column]
                if rows.any():
                    levels = schema.attributes[columns[column]].width
                    self._keep(column, _category_scores(draws[:, rows, column].T, truth.scalars[rows, column], levels))
        self._keep_points(truth.scalars, draws, scored, present[:, columns])
        self._seen += len(scored)

    def _keep(self, column: int, scores: dict[str, FloatArray]) -> None:
        sums = self._sums.setdefault(int(column), {"entries": 0})
        sums["entries"] += len(next(iter(scores.values())))
        for name, values in scores.items():
            sums[name] = sums.get(name, 0.0) + float(values.sum())

    def _keep_points(self, truth: FloatArray, draws: FloatArray, scored: BoolArray, present: BoolArray) -> None:
        """Keep the chosen rows of the truth and of the first completions; what the source lacks is 0 in both."""
        rows = self._of_energy[(self._of_energy >= self._seen) & (self._of_energy < self._seen + len(truth))]
        rows = rows - self._seen
        known = np.where(present[rows], truth[rows], 0.0)
        completed = [np.where(scored[rows], own[rows], known) for own in draws[:ENERGY_DRAWS]]
        self._points.append([self._points_of(scalars) for scalars in (known, *completed)])

    def _points_of(self, scalars: FloatArray) -> Points:
        return Points(scalars[:, self._numbers] / self._deviation, scalars[:, self._categories])

    def scores(self) -> DrawScores | None:
        """Return the scores of all that was added, None if nothing was scored; raises BenchError if one overflows."""
        if not self._sums:
            return None
        names = [self._schema.names[index] for index in self._schema.scalar_indices]
        attributes = {
            names[column]: {"entries": int(sums["entries"])}
            | {name: total / sums["entries"] for name, total in sums.items() if name != "entries"}
            for column, sums in sorted(self._sums.items())
        }
        metrics: dict[str, float] = {}
        for metric in DRAW_METRICS:
            each = [scores[metric.name] for scores in attributes.values() if metric.name in scores]
            if each:
                metrics[metric.name] = float(np.mean(each))
        truth, *completed = (
            Points(np.concatenate([p.numbers for p in parts]), np.concatenate([p.codes for p in parts]))
            for parts in zip(*self._points, strict=True)
        )
        metrics["energy_distance"] = energy_distance(completed, truth)
        if not np.isfinite([*metrics.values()]).all():
            raise BenchError("draws are too large to be scored")
        return DrawScores(self._draws, metrics, attributes)


def _number_scores(draws: FloatArray, truth: FloatArray) -> dict[str, FloatArray]:
    """Return metric -> score [n] of numbers [n] for their draws [n, D], in standard deviations."""
    scores = {"crps": crps(draws, truth)}
    for percent in LEVELS:
        low, high = central_interval(draws, percent)
        scores[f"coverage_{percent}"] = ((low <= truth) & (truth <= high)).astype(np.float64)
        scores[f"width_{percent}"] = high - low
    return scores


def _category_scores(draws: FloatArray, truth: FloatArray, levels: int) -> dict[str, FloatArray]:
    """Return metric -> score [n] of codes [n] for their draws [n, D]; raises BenchError if one is no level's code."""
    codes, right = draws.astype(np.int64), truth.astype(np.int64)
    if (codes != draws).any() or codes.min() < 0 or codes.max() >= levels:
        raise BenchError("a drawn category is no level's code")
    counts = level_counts(codes, levels)
    return {"brier": brier_score(counts, right), "log_score": log_score(counts, right)}
