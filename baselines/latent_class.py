"""Latent class analysis: a finite mixture fitted by EM, with independent attributes within a component.

Lazarsfeld and Henry: *Latent structure analysis*, 1968; EM as in Dempster, Laird and Rubin 1977. With K components,

    p(x_o) = sum over k of w_k * product over observed j of p(x_j | k),

where p(x_j | k) is categorical for a category and Gaussian for a number (with numbers it is the mixed latent class
model). The E-step takes the responsibilities r_nk = p(k | x_o), the M-step the weighted frequencies and moments. The
imputation is E[x_j | x_o] for a number and the likeliest level for a category.

Everything a component says about a row is linear in the row's features (the number, its square, whether it is seen;
one indicator per level), and hidden attributes have features 0: each step of EM is two matrix products.

Every component holds ``smoothing`` pseudo-observations of each attribute, distributed as the attribute is over all
observed training entries: the Dirichlet prior of a category, and what keeps a variance from vanishing. Of ``restarts``
seeded starts the one with the highest observed log-likelihood is kept. A start ends after ``ITERATIONS_PER_SWEEP``
iterations per sweep of the budget, or when the objective rises by less than ``TOLERANCE`` per row.
"""

from __future__ import annotations

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
    ObservedStatistics,
    Values,
    fill_hidden,
    generator,
    observed_statistics,
)

ITERATIONS_PER_SWEEP = 50
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Features:
    """The features of the columns that vary: numbers, their squares, whether seen, the levels of each category."""

    statistics: ObservedStatistics
    numeric: IntArray
    categorical: IntArray

    @classmethod
    def of(cls, statistics: ObservedStatistics) -> Features:
        """Lay out the columns of ``scalars`` that vary."""
        vary = ~statistics.constant
        schema = statistics.schema
        numeric, categorical = schema.scalar_columns("numeric"), schema.scalar_columns("categorical")
        return cls(statistics, numeric[vary[numeric]], categorical[vary[categorical]])

    @property
    def levels(self) -> list[slice]:
        """The columns of each category's levels."""
        ends = 3 * len(self.numeric) + np.cumsum(
            [0, *(len(self.statistics.level_counts[column]) for column in self.categorical)]
        )
        return [slice(int(a), int(b)) for a, b in zip(ends[:-1], ends[1:], strict=True)]

    def matrix(self, scalars: FloatArray, observed: BoolArray) -> FloatArray:
        """Return the features [n, F] of rows; hidden entries of ``scalars`` are not read."""
        statistics, numeric = self.statistics, self.numeric
        seen = observed[:, numeric].astype(np.float64)
        numbers = (scalars[:, numeric] - statistics.mean[numeric]) / statistics.scale[numeric]
        numbers = np.where(observed[:, numeric], numbers, 0.0)
        indicators = []
        for column in self.categorical:
            codes = np.where(observed[:, column], scalars[:, column], -1.0)
            indicators.append(codes[:, None] == np.arange(len(statistics.level_counts[column])))
        return np.concatenate([numbers, numbers**2, seen, *indicators], axis=1)


@dataclass(frozen=True, eq=False)
class Mixture:
    """The fitted components: weight [K], mean and variance [numbers, K], and probabilities [levels, K] per category."""

    weight: FloatArray
    mean: FloatArray
    variance: FloatArray
    probabilities: tuple[FloatArray, ...]

    def log_joint(self, features: FloatArray) -> FloatArray:
        """Return log p(component, observed entries), [n, K], for features [n, F]."""
        constant = -0.5 * (self.mean**2 / self.variance + np.log(2 * np.pi * self.variance))
        parts = [self.mean / self.variance, -0.5 / self.variance, constant, *(np.log(p) for p in self.probabilities)]
        joint: FloatArray = features @ np.concatenate(parts, axis=0) + np.log(self.weight)
        return joint

    def responsibilities(self, features: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return p(component | observed entries) [n, K] and log p(observed entries) [n]."""
        joint = self.log_joint(features)
        highest = joint.max(axis=1, keepdims=True)
        share = np.exp(joint - highest)
        total = share.sum(axis=1, keepdims=True)
        return share / total, (highest + np.log(total))[:, 0]


def estimate(
    counts: FloatArray, sizes: FloatArray, layout: Features, marginal: FloatArray, smoothing: float
) -> Mixture:
    """Return the mixture with these summed features [F, K] and rows [K] per component, pseudo-observations added."""
    numbers = len(layout.numeric)
    total = counts + smoothing * marginal[:, None]
    seen = total[2 * numbers : 3 * numbers]
    mean = total[:numbers] / seen
    variance = total[numbers : 2 * numbers] / seen - mean**2
    probabilities = tuple(total[where] / total[where].sum(axis=0) for where in layout.levels)
    weight = sizes + smoothing
    return Mixture(weight / weight.sum(), mean, np.maximum(variance, 1e-12), probabilities)


class LatentClass(Method):
    """Fit the mixture on the training rows; impute the expected number and the likeliest level."""

    name = "latent_class"
    summary = "Mixture of independent categories (and Gaussian numbers) fitted by EM"
    version = 1
    kinds = ("numeric", "categorical")
    protocols = ("inductive",)
    max_width = 10_000
    tunable = {
        "components": ("choice", 5, 10, 20, 40, 80),
        "smoothing": ("log", 0.1, 10.0),
    }
    parameter_sets = {"default": {"components": 20, "restarts": 4, "smoothing": 1.0}}

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Run EM from every start; raises BenchError for parameters that are not positive."""
        parameters = {**self.parameter_sets["default"], **self.parameters}
        for name, value in parameters.items():
            if not value > 0:
                raise BenchError(f"latent_class: {name} must be positive, not {value}")
        self._seed, self._statistics = seed, observed_statistics(train)
        self._layout = Features.of(self._statistics)
        self._mixture: Mixture | None = None
        self._log_likelihoods: list[float] = []
        self._iterations: list[int] = []
        features = self._layout.matrix(train.values().scalars, train.observed[0])
        features = features[features.any(axis=1)]
        if not len(features) or not features.shape[1]:
            return
        marginal = self.marginal
        smoothing, components = float(parameters["smoothing"]), int(parameters["components"])
        iterations, restarts = ITERATIONS_PER_SWEEP * self.context.budget.sweeps, int(parameters["restarts"])
        for start in range(restarts):
            rng = generator("latent_class", seed, start)
            rows = rng.choice(len(features), components, replace=components > len(features))
            sizes = np.full(components, len(features) / components)
            # Each component starts at one row, drawn to the marginal by at least as much.
            mixture = estimate(features[rows].T, sizes, self._layout, marginal, max(smoothing, 1.0))
            last = -np.inf
            for iteration in range(iterations):
                self.context.stop()
                self.context.progress(start * iterations + iteration, restarts * iterations, "iterations")
                share, log_density = mixture.responsibilities(features)
                objective = float(log_density.sum() + penalty(mixture, marginal, smoothing)) / len(features)
                if objective - last < TOLERANCE:
                    break
                last = objective
                mixture = estimate(features.T @ share, share.sum(axis=0), self._layout, marginal, smoothing)
            log_likelihood = float(mixture.responsibilities(features)[1].mean())
            if not self._log_likelihoods or log_likelihood > max(self._log_likelihoods):
                self._mixture = mixture
            self._log_likelihoods.append(log_likelihood)
            self._iterations.append(iteration + 1)

    @property
    def marginal(self) -> FloatArray:
        """The features of one pseudo-observation of each attribute, [F]; every level has a positive share."""
        numbers = len(self._layout.numeric)
        shares = []
        for column in self._layout.categorical:
            counts = self._statistics.level_counts[column] + 1.0
            shares.append(counts / counts.sum())
        return np.concatenate([np.zeros(numbers), np.ones(2 * numbers), *shares])

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` imputed by the mixture; ``draws`` is not used."""
        statistics, values, observed = self._statistics, data.values(), data.observed[0]
        filled = fill_hidden(values, observed, statistics)
        if self._mixture is None or not len(data):
            return filled
        self.context.stop()
        layout, mixture = self._layout, self._mixture
        share, _ = mixture.responsibilities(layout.matrix(filled.scalars, observed))
        imputed = filled.scalars.copy()
        numeric = layout.numeric
        imputed[:, numeric] = share @ mixture.mean.T * statistics.scale[numeric] + statistics.mean[numeric]
        for column, probabilities in zip(layout.categorical, mixture.probabilities, strict=True):
            imputed[:, column] = (share @ probabilities.T).argmax(axis=1)
        return Values(np.where(observed, values.scalars, imputed))

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        """Return draws from the mixture: a component by its posterior, then each hidden entry given the component."""
        statistics, values, observed = self._statistics, data.values(), data.observed[0]
        filled = fill_hidden(values, observed, statistics)
        if self._mixture is None or not len(data):
            return [filled] * draws
        layout, mixture = self._layout, self._mixture
        share, _ = mixture.responsibilities(layout.matrix(filled.scalars, observed))
        rng = generator("latent_class draws", self._seed, seed)
        found = []
        for _ in range(draws):
            component = drawn_levels(share, rng)
            drawn, numeric = filled.scalars.copy(), layout.numeric
            e = rng.normal(size=(len(data), len(numeric)))
            numbers = mixture.mean[:, component].T + np.sqrt(mixture.variance[:, component].T) * e
            drawn[:, numeric] = numbers * statistics.scale[numeric] + statistics.mean[numeric]
            for column, probabilities in zip(layout.categorical, mixture.probabilities, strict=True):
                drawn[:, column] = drawn_levels(probabilities[:, component].T, rng)
            found.append(Values(np.where(observed, values.scalars, drawn)))
        return found

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return the observed log-likelihood per training row and the iterations of every start."""
        return [{"log_likelihoods": self._log_likelihoods, "iterations": self._iterations}]


def drawn_levels(probabilities: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return a code per row [n], drawn from its probabilities [n, K], which sum to 1."""
    below = np.cumsum(probabilities, axis=1)[:, :-1] <= rng.random(len(probabilities))[:, None]
    return np.asarray(below.sum(axis=1), dtype=np.int64)


def penalty(mixture: Mixture, marginal: FloatArray, smoothing: float) -> float:
    """Return the log-density of the pseudo-observations: with it, the objective that no iteration lowers."""
    expected = mixture.log_joint(marginal[None])[0]
    return smoothing * float(expected.sum())
