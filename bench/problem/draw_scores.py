"""How good draws are as a distribution: what a root mean square error, which rewards the conditional mean, cannot tell.

All functions take draws [D, n] of n hidden entries, each entry's draws exchangeable with its truth if the method is
calibrated. Sources: Gneiting and Raftery, *Strictly proper scoring rules, prediction, and estimation*, JASA 102, 2007
(CRPS, Brier and logarithmic score); Ferro, *Fair scores for ensemble forecasts*, QJRMS 140, 2014 (the fair CRPS);
Szekely and Rizzo, *Energy statistics*, J. Stat. Plan. Inference 143, 2013.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.data.schema import BoolArray, FloatArray, IntArray, Schema
from bench.problem.metrics import Reference

#: Central intervals, by the share of the truth that they are to cover.
INTERVALS = (0.5, 0.9)
#: Rows that the energy distance is taken over at most: it compares all pairs.
ENERGY_ROWS = 400


def crps(draws: FloatArray, truth: FloatArray) -> FloatArray:
    """Return the fair continuous ranked probability score of numbers, [n], in their own unit; lower is better.

    ``mean_i |x_i - y| - sum_{i,j} |x_i - x_j| / (2 D (D - 1))``: its expectation over the draws is the CRPS of the
    distribution that they come from, whatever their number (Ferro 2014).
    """
    count = len(draws)
    ordered = np.sort(draws, axis=0)
    # Of ordered draws, sum over pairs of |x_i - x_j| = 2 sum_i (2 i - D + 1) x_(i), i from 0.
    weights = 2.0 * np.arange(count) - count + 1
    spread = np.tensordot(weights, ordered, axes=1) / max(1, count * (count - 1))
    score: FloatArray = np.abs(draws - truth).mean(axis=0) - spread
    return score


def interval(draws: FloatArray, share: float) -> tuple[FloatArray, FloatArray]:
    """Return the ends of the central interval that covers a ``share``, each [n].

    By quantiles at i / (D + 1) of the i-th draw: of one more draw from the same distribution they cover that share.
    """
    low, high = np.quantile(draws, [(1 - share) / 2, (1 + share) / 2], axis=0, method="weibull")
    return low, high


def level_frequencies(draws: FloatArray, levels: int) -> FloatArray:
    """Return the share of draws of each level, [n, levels], of codes [D, n]."""
    frequencies = np.stack([(draws == level).mean(axis=0) for level in range(levels)], axis=1)
    return np.asarray(frequencies, dtype=np.float64)


def brier(frequencies: FloatArray, truth: IntArray) -> FloatArray:
    """Return the Brier score ``sum_k (f_k - [y = k])^2`` of level frequencies [n, K] and codes [n]; lower is better."""
    hit = truth[:, None] == np.arange(frequencies.shape[1])
    score: FloatArray = np.square(frequencies - hit).sum(axis=1)
    return score


def log_score(frequencies: FloatArray, truth: IntArray, count: int) -> FloatArray:
    """Return the logarithmic score ``-log p_y`` in nats, [n], of the frequencies of ``count`` draws; lower is better.

    One more draw is spread evenly over the K levels, ``p_k = (D f_k + 1 / K) / (D + 1)``, so that a level which was
    never drawn costs ``log(K (D + 1))``.
    """
    levels = frequencies.shape[1]
    chosen = frequencies[np.arange(len(truth)), truth]
    score: FloatArray = -np.log((count * chosen + 1 / levels) / (count + 1))
    return score


def energy_distance(first: FloatArray, second: FloatArray) -> float:
    """Return ``sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|)`` of two samples of rows [n, d] and [m, d]; 0 if they agree."""
    from scipy.spatial.distance import cdist

    squared = 2 * cdist(first, second).mean() - cdist(first, first).mean() - cdist(second, second).mean()
    return float(np.sqrt(max(squared, 0.0)))


def score_draws(
    truth: FloatArray, draws: FloatArray, scored: BoolArray, schema: Schema, reference: Reference
) -> dict[str, Any]:
    """Return how good draws of scalars [D, n, S] are at entries to score [n, S], as plain JSON values.

    ``draws`` is their number. ``all`` has means over attributes of the means over entries: ``crps`` in standard
    deviations of the column (as RMSE / SD; an attribute that does not vary has none), ``coverage_50``, ``width_50`` and
    the same at 90 (widths in standard deviations), ``brier``, ``log_score``, and ``energy_distance`` of completed rows
    (the first draw) to true ones. ``attributes`` has each attribute's own.
    """
    attributes: dict[str, dict[str, float]] = {}
    deviation = dict(zip(schema.scalar_columns("numeric").tolist(), reference.deviation.tolist(), strict=True))
    for column, index in enumerate(schema.scalar_indices):
        attribute, entries = schema.attributes[index], scored[:, column]
        if not entries.any():
            continue
        own, true = draws[:, entries, column], truth[entries, column]
        if column not in deviation:
            frequencies, codes = level_frequencies(own, len(attribute.levels)), true.astype(np.int64)
            attributes[attribute.name] = {
                "brier": float(brier(frequencies, codes).mean()),
                "log_score": float(log_score(frequencies, codes, len(own)).mean()),
            }
        elif deviation[column] > 0:
            attributes[attribute.name] = _number_scores(own, true, deviation[column])
    found = {name: [own[name] for own in attributes.values() if name in own] for name in _names(attributes)}
    means = {name: float(np.mean(values)) for name, values in found.items()}
    distance = _distance(truth, draws[0], scored, schema, deviation)
    if distance is not None:
        means["energy_distance"] = distance
    return {"draws": len(draws), "all": means, "attributes": attributes} if attributes else {}


def _number_scores(draws: FloatArray, truth: FloatArray, deviation: float) -> dict[str, float]:
    scores = {"crps": float(crps(draws, truth).mean()) / deviation}
    for share in INTERVALS:
        low, high = interval(draws, share)
        name = f"{100 * share:.0f}"
        scores[f"coverage_{name}"] = float(((low <= truth) & (truth <= high)).mean())
        scores[f"width_{name}"] = float((high - low).mean()) / deviation
    return scores


def _names(attributes: dict[str, dict[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for own in attributes.values() for name in own))


def _distance(
    truth: FloatArray, drawn: FloatArray, scored: BoolArray, schema: Schema, deviation: dict[int, float]
) -> float | None:
    """Return the energy distance of completed rows to true ones, of those with a scored entry and no absent cell."""
    rows = np.flatnonzero(scored.any(axis=1) & ~np.isnan(truth).any(axis=1) & ~np.isnan(drawn).any(axis=1))
    rows = rows[:ENERGY_ROWS]
    if not len(rows):
        return None
    return energy_distance(*(_plain(part[rows], schema, deviation) for part in (drawn, truth)))


def _plain(scalars: FloatArray, schema: Schema, deviation: dict[int, float]) -> FloatArray:
    """Return rows in which two levels are as far apart as one standard deviation of a number, [n, d]."""
    parts: list[FloatArray] = []
    for column, index in enumerate(schema.scalar_indices):
        values, levels = scalars[:, column], schema.attributes[index].levels
        if column in deviation:
            parts.append((values / (deviation[column] or 1.0))[:, None])
        else:
            parts.append((values[:, None] == np.arange(len(levels))) / np.sqrt(2.0))
    return np.concatenate(parts, axis=1)
