"""A multivariate Gaussian fitted by EM, and its exact conditional mean.

Dempster, Laird and Rubin: *Maximum likelihood from incomplete data via the EM algorithm*, JRSS B 39, 1977. For each row
with observed entries o and hidden entries u, the E-step takes

    x_u = mu_u + S_uo S_oo^-1 (x_o - mu_o)        and the covariance  C_uu = S_uu - S_uo S_oo^-1 S_ou,

and the M-step takes the moments of the completed rows, with ``ridge`` added to every variance:

    mu = mean of x,        S = mean of (x - mu)(x - mu)' + C, plus ridge I.

The imputation is x_u. It is the best that any method linear in the observed numbers can do, and the optimum if the data
are Gaussian. EM works on the standardised columns that vary; a constant or never observed column keeps the floor's
value. It ends when mean and covariance move by less than ``TOLERANCE``, or after ``ITERATIONS_PER_SWEEP`` iterations
per sweep of the budget. ``ridge`` is in units of a column's own variance: it makes a copied column harmless, and costs
that much explained variance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.api import (
    BenchError,
    BoolArray,
    FloatArray,
    Incomplete,
    IntArray,
    Method,
    Values,
    fill_hidden,
    generator,
    observed_statistics,
)

ITERATIONS_PER_SWEEP = 50
TOLERANCE = 1e-4

#: Floats a chunk of rows may take for its matrices (32 MB).
CHUNK_FLOATS = 2**22


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean [D] and covariance [D, D] of the standardised columns."""

    mean: FloatArray
    covariance: FloatArray


@dataclass(frozen=True, eq=False)
class Expectation:
    """The E-step: expected values [n, D], summed covariance of the hidden ones [D, D], observed log-likelihood."""

    values: FloatArray
    hidden_covariance: FloatArray
    log_likelihood: float


def chunks_by_pattern(observed: BoolArray) -> Iterator[tuple[IntArray, BoolArray, IntArray]]:
    """Yield row positions, the distinct patterns [P, D] among them, and each row's pattern, in bounded chunks.

    Rows with one pattern stand together, so that each pattern's matrices are computed about once.
    """
    rows, columns = observed.shape
    packed = np.packbits(observed, axis=1)
    order = np.lexsort(packed.T)
    changes = np.any(packed[order[1:]] != packed[order[:-1]], axis=1)
    pattern = np.concatenate([[0], np.cumsum(changes)]).astype(np.int64)
    size = max(1, CHUNK_FLOATS // max(1, columns) ** 2)
    for first in range(0, rows, size):
        positions, local = order[first : first + size], pattern[first : first + size]
        local = local - local[0]
        leaders = positions[np.searchsorted(local, np.arange(local[-1] + 1))]
        yield positions, observed[leaders], local


def expectation(model: Gaussian, values: FloatArray, observed: BoolArray) -> Expectation:
    """Return the E-step for standardised rows [n, D]; hidden entries of ``values`` are not read.

    All patterns of a chunk at once: with identity in place of hidden rows and columns, the inverse of the covariance
    holds that of the observed block, and its determinant is the observed block's.
    """
    columns = observed.shape[1]
    identity = np.eye(columns)
    centred = np.where(observed, values - model.mean, 0.0)
    expected = np.empty_like(centred)
    hidden_covariance, log_likelihood = np.zeros((columns, columns)), 0.0
    for rows, patterns, own in chunks_by_pattern(observed):
        both = patterns[:, :, None] & patterns[:, None, :]
        block = np.where(both, model.covariance, identity)
        precision = np.where(both, np.linalg.inv(block), 0.0)
        coefficients = model.covariance @ precision
        either = patterns[:, :, None] | patterns[:, None, :]
        residual = np.where(either, 0.0, model.covariance - coefficients @ model.covariance)
        hidden_covariance += np.tensordot(np.bincount(own), residual, axes=1)
        shown = centred[rows]
        expected[rows] = np.einsum("nij,nj->ni", coefficients[own], shown)
        squared = np.einsum("ni,nij,nj->n", shown, precision[own], shown)
        determinant = np.linalg.slogdet(block)[1][own]
        log_likelihood -= 0.5 * float(np.sum(squared + determinant + patterns.sum(axis=1)[own] * np.log(2 * np.pi)))
    expected = np.where(observed, centred, expected) + model.mean
    return Expectation(expected, hidden_covariance, log_likelihood)


def conditional_draws(
    model: Gaussian, values: FloatArray, observed: BoolArray, draws: int, rng: np.random.Generator
) -> FloatArray:
    """Return draws [draws, n, D] of standardised rows given what they show, by Matheron's rule.

    For y from the model and the regression C of hidden on observed columns, ``y_h + C (x_o - y_o)`` has the conditional
    distribution of x_h, whatever the pattern.
    """
    rows, columns = values.shape
    root = np.linalg.cholesky(model.covariance)
    y = rng.normal(size=(draws, rows, columns)) @ root.T + model.mean
    gap = np.where(observed, values - y, 0.0) + model.mean
    # The E-step of ``mean + gap`` is the mean plus C times the gap in hidden columns; all draws of a pattern at once.
    every = np.tile(observed, (draws, 1))
    correction = expectation(model, gap.reshape(-1, columns), every).values.reshape(gap.shape) - model.mean
    drawn: FloatArray = np.where(observed, values, y + correction)
    return drawn


def maximisation(step: Expectation, ridge: float) -> Gaussian:
    """Return the M-step: the moments of the completed rows, ``ridge`` added to every variance."""
    mean = step.values.mean(axis=0)
    centred = step.values - mean
    scatter = centred.T @ centred + step.hidden_covariance
    covariance = scatter / len(step.values) + ridge * np.eye(len(mean))
    return Gaussian(mean, (covariance + covariance.T) / 2)


class GaussianEM(Method):
    """Fit mean and covariance on the observed training entries; impute the conditional mean."""

    name = "gaussian_em"
    summary = "Conditional mean of a multivariate Gaussian fitted by EM: the best linear imputation"
    version = 1
    kinds = ("numeric",)
    protocols = ("inductive",)
    #: If every row has a pattern of its own, each iteration inverts one matrix per row.
    max_attributes = 200
    tunable = {
        "ridge": ("log", 1e-6, 1.0),
    }
    parameter_sets = {"default": {"ridge": 1e-4}}

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Run EM on the training rows; raises BenchError for a ``ridge`` that is not positive."""
        self._seed = seed
        ridge = float(self.parameters.get("ridge", 1e-4))
        if not ridge > 0:
            raise BenchError(f"gaussian_em: ridge must be positive, not {ridge}")
        self._statistics = observed_statistics(train)
        self._vary = np.flatnonzero(~self._statistics.constant)
        columns = len(self._vary)
        self._model = Gaussian(np.zeros(columns), np.eye(columns))
        self._history: list[float] = []
        observed = train.observed[0][:, self._vary]
        kept = observed.any(axis=1)
        if not kept.any():
            return
        values, observed = self._standardised(train.values().scalars)[kept], observed[kept]
        total = ITERATIONS_PER_SWEEP * self.context.budget.sweeps
        for iteration in range(total):
            self.context.stop()
            self.context.progress(iteration, total, "iterations")
            step = expectation(self._model, values, observed)
            self._history.append(step.log_likelihood / len(values))
            before, self._model = self._model, maximisation(step, ridge)
            moved = max(
                np.abs(self._model.mean - before.mean).max(), np.abs(self._model.covariance - before.covariance).max()
            )
            if moved < TOLERANCE:
                break

    def _standardised(self, scalars: FloatArray) -> FloatArray:
        """Return the varying columns in standard deviations from the observed training mean."""
        statistics = self._statistics
        standardised: FloatArray = ((scalars - statistics.mean) / statistics.scale)[:, self._vary]
        return standardised

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` with the conditional mean in hidden entries; ``draws`` is not used."""
        statistics, values, observed = self._statistics, data.values(), data.observed[0]
        filled = fill_hidden(values, observed, statistics)
        if not len(self._vary) or not len(data):
            return filled
        self.context.stop()
        expected = expectation(self._model, self._standardised(filled.scalars), observed[:, self._vary]).values
        imputed = filled.scalars.copy()
        imputed[:, self._vary] = expected * statistics.scale[self._vary] + statistics.mean[self._vary]
        return Values(np.where(observed, values.scalars, imputed))

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        """Return draws of the hidden numbers from their normal distribution given the observed ones."""
        statistics, values, observed = self._statistics, data.values(), data.observed[0]
        filled = fill_hidden(values, observed, statistics)
        if not len(self._vary) or not len(data):
            return [filled] * draws
        shown = observed[:, self._vary]
        self.context.stop()
        rng = generator("gaussian_em draws", self._seed, seed)
        drawn = conditional_draws(self._model, self._standardised(filled.scalars), shown, draws, rng)
        drawn = drawn * statistics.scale[self._vary] + statistics.mean[self._vary]
        found = np.tile(filled.scalars, (draws, 1, 1))
        found[:, :, self._vary] = np.where(shown, found[:, :, self._vary], drawn)
        return [Values(own) for own in found]

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return the iterations made and the log-likelihood per row before the last one."""
        return [{"iterations": len(self._history), "log_likelihood": self._history[-1] if self._history else None}]
