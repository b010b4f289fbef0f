"""Data whose best imputation is known in closed form: a linear-Gaussian model and a mixture of categoricals.

Given what a row shows, the model knows the distribution of what it hides. So the error of any imputation is taken in
expectation over the hidden truth, not on one draw of it: an imputation's error is then never below the optimum's, and
differences are seen on few rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.api import Attribute, BoolArray, Budget, Context, FloatArray, Incomplete, Schema, Table
from bench.problem.held_out import deal_folds


def distinct_patterns(observed: BoolArray) -> list[tuple[BoolArray, Any]]:
    """Return each distinct row of a mask [n, M] and the positions of the rows that have it."""
    patterns, inverse = np.unique(observed, axis=0, return_inverse=True)
    return [(pattern, np.flatnonzero(inverse.ravel() == index)) for index, pattern in enumerate(patterns)]


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """Rows ``x = (W z + noise e) / sqrt(1 + noise^2)`` with standard normal ``z`` and ``e``; every variance is 1."""

    table: Table
    #: Rows of unit length, [M, latent].
    loadings: FloatArray
    noise: float

    @property
    def covariance(self) -> FloatArray:
        """Covariance of a row, [M, M]; its mean is 0."""
        shared = self.loadings @ self.loadings.T + self.noise**2 * np.eye(len(self.loadings))
        covariance: FloatArray = shared / (1 + self.noise**2)
        return covariance

    def conditional(self, scalars: FloatArray, observed: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of every entry given the observed ones of its row, both [n, M].

        Hidden entries of ``scalars`` are not read.
        """
        covariance = self.covariance
        mean, variance = np.where(observed, scalars, 0.0), np.zeros(observed.shape)
        for pattern, rows in distinct_patterns(observed):
            seen, hidden = np.flatnonzero(pattern), np.flatnonzero(~pattern)
            between = covariance[np.ix_(seen, hidden)]
            coefficients = np.linalg.solve(covariance[np.ix_(seen, seen)], between)
            mean[np.ix_(rows, hidden)] = scalars[np.ix_(rows, seen)] @ coefficients
            variance[np.ix_(rows, hidden)] = np.diag(covariance)[hidden] - np.sum(between * coefficients, axis=0)
        return mean, variance

    def expected_error(self, imputed: FloatArray, scalars: FloatArray, observed: BoolArray) -> float:
        """Return the RMSE over hidden entries that ``imputed`` has in expectation given the observed ones."""
        mean, variance = self.conditional(scalars, observed)
        return float(np.sqrt(np.mean((variance + np.square(imputed - mean))[~observed])))

    def optimal_error(self, scalars: FloatArray, observed: BoolArray) -> float:
        """Return the least RMSE possible under a mask [n, M]: that of the conditional mean."""
        return self.expected_error(self.conditional(scalars, observed)[0], scalars, observed)

    def floor_error(self, scalars: FloatArray, observed: BoolArray) -> float:
        """Return the RMSE of the true mean."""
        return self.expected_error(np.zeros_like(scalars), scalars, observed)


def linear_gaussian(n: int, attributes: int, latent: int, noise: float, seed: int) -> LinearGaussian:
    """Draw ``n`` rows of a linear-Gaussian model; ``noise`` is relative to the signal's deviation of 1."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(attributes, latent))
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True)
    signal = rng.normal(size=(n, latent)) @ loadings.T
    numbers = (signal + noise * rng.normal(size=(n, attributes))) / np.sqrt(1 + noise**2)
    schema = Schema(tuple(Attribute(f"x{index}", "numeric") for index in range(attributes)))
    return LinearGaussian(Table(schema, numbers, {}, np.ones(numbers.shape, dtype=bool)), loadings, noise)


@dataclass(frozen=True, eq=False)
class CategoricalMixture:
    """Rows whose attributes are independent given a hidden component."""

    table: Table
    #: Probability of each component, [components].
    weights: FloatArray
    #: Probability of each level in each component, [attributes, components, levels].
    probabilities: FloatArray

    def posterior(self, scalars: FloatArray, observed: BoolArray) -> FloatArray:
        """Return the probability of every level of every entry given the observed ones of its row, [n, M, levels].

        Hidden entries of ``scalars`` are not read; the own value of an observed entry counts like any other's.
        """
        codes = np.where(observed, scalars, 0.0).astype(np.int64)
        component = np.tile(self.weights, (len(scalars), 1))
        for column, table in enumerate(self.probabilities):
            component *= np.where(observed[:, [column]], table[:, codes[:, column]].T, 1.0)
        component /= component.sum(axis=1, keepdims=True)
        posterior: FloatArray = np.einsum("nc,mcl->nml", component, self.probabilities)
        return posterior

    def expected_error(self, imputed: FloatArray, scalars: FloatArray, observed: BoolArray) -> float:
        """Return the PFC, all hidden entries pooled, that ``imputed`` has in expectation given the observed ones."""
        codes = imputed.astype(np.int64)[..., None]
        right = np.take_along_axis(self.posterior(scalars, observed), codes, axis=2)[..., 0]
        return float(np.mean(1 - right[~observed]))

    def optimal_error(self, scalars: FloatArray, observed: BoolArray) -> float:
        """Return the Bayes rate under a mask [n, M]: the PFC of the likeliest level."""
        return float(np.mean(1 - self.posterior(scalars, observed).max(axis=2)[~observed]))

    def floor_error(self, scalars: FloatArray, observed: BoolArray) -> float:
        """Return the PFC of each attribute's true mode."""
        marginal = np.einsum("c,mcl->ml", self.weights, self.probabilities)
        mode = np.tile(marginal.argmax(axis=1), (len(scalars), 1))
        return self.expected_error(mode, scalars, observed)


def categorical_mixture(n: int, attributes: int, levels: int, components: int, seed: int) -> CategoricalMixture:
    """Draw ``n`` rows of a mixture whose components each prefer another level of most attributes."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(components, 10.0))
    probabilities = rng.dirichlet(np.full(levels, 0.3), size=(attributes, components))
    component = rng.choice(components, size=n, p=weights)
    below = np.cumsum(probabilities, axis=2)[:, component, :-1] <= rng.random((attributes, n, 1))
    codes = below.sum(axis=2).T.astype(np.float64)
    names = tuple(f"level{level}" for level in range(levels))
    schema = Schema(tuple(Attribute(f"c{index}", "categorical", levels=names) for index in range(attributes)))
    return CategoricalMixture(Table(schema, codes, {}, np.ones(codes.shape, dtype=bool)), weights, probabilities)


Model = LinearGaussian | CategoricalMixture


@dataclass(frozen=True, eq=False)
class Holes:
    """The three views of an analytic model's table, 60 % of the rows for training and 20 % each for the others."""

    model: Model
    train: Incomplete
    validation: Incomplete
    test: Incomplete

    @classmethod
    def mcar(cls, model: Model, ratio: float, seed: int) -> Holes:
        """Hide each entry with probability ``ratio``; of the validation entries also those held out for selection."""
        rng = np.random.default_rng([seed, 1])
        observed = rng.random((len(model.table), len(model.table.schema))) >= ratio
        parts = np.split(np.arange(len(model.table)), [int(0.6 * len(model.table)), int(0.8 * len(model.table))])
        train, validation, test = ((rows[None], observed[rows][None]) for rows in parts)
        folds = deal_folds(validation[1][0], 1, rng)[None]
        table = model.table
        return cls(model, Incomplete(table, *train), Incomplete(table, *validation, folds), Incomplete(table, *test))

    def impute(self, method: type[Any], parameters: dict[str, Any] | None = None, budget: Budget | None = None) -> Any:
        """Return the fitted method and the scalars it imputes for the test rows."""
        budget = budget or Budget()
        fitted = method(parameters, Context(budget))
        fitted.fit(self.train, self.validation, 0)
        return fitted, fitted.impute(self.test, budget.draws).scalars

    def error(self, imputed: FloatArray) -> float:
        """Return the expected error of imputed test rows."""
        return self.model.expected_error(imputed, self.test.values().scalars, self.test.observed[0])

    @property
    def optimum(self) -> float:
        """The least error possible on the test rows."""
        return self.model.optimal_error(self.test.values().scalars, self.test.observed[0])

    @property
    def floor(self) -> float:
        """The error of the true mean or mode on the test rows."""
        return self.model.floor_error(self.test.values().scalars, self.test.observed[0])

    def share_of_gain(self, imputed: FloatArray) -> float:
        """Return how much of the way from the floor (0) to the optimum (1) an imputation goes."""
        return (self.floor - self.error(imputed)) / (self.floor - self.optimum)
