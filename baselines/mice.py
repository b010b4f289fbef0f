"""Multiple imputation by chained equations, fitted on the training rows.

van Buuren and Groothuis-Oudshoorn: *mice: Multivariate imputation by chained equations in R*, J. Stat. Software 45,
2011. Hidden entries begin at the floor's values. Then, sweep after sweep, each column j is regressed on all others over
the rows that observe it, and its hidden entries are imputed again:

    number:    x_j = a + x_-j' b + noise,  b = (X'X + I/v)^-1 X'y,  predictive variance s^2 (1 + x'(X'X + I/v)^-1 x)
    category:  p(x_j = k | x_-j) = softmax_k(a_k + x_-j' b_k), with the same prior variance v of a coefficient.

Numbers alone go through fancyimpute's IterativeImputer, which is scikit-learn's class. It cannot mix regressors with
classifiers, so a table with categories goes through the chain below, on standardised numbers and one-hot categories.
Categories are never regressed as codes. The penalty is needed: a hidden number that was imputed from a column enters
that column's own regression, so on few rows unpenalised point imputation inflates its coefficients sweep by sweep.

``posterior`` says what is imputed: ``point`` the conditional mean or the likeliest level, ``draw`` one draw from the
predictive distribution, ``avg`` the mean of the draws (of the probabilities, for a category) of ``imputations``
independent chains.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.api import (
    BenchError,
    BoolArray,
    Context,
    FloatArray,
    Incomplete,
    IntArray,
    Method,
    ObservedStatistics,
    Values,
    design_matrix,
    design_slices,
    fill_hidden,
    generator,
    observed_statistics,
    seed_of,
)

POSTERIORS = ("point", "avg", "draw")
#: fancyimpute's and scikit-learn's default number of sweeps.
MOST_SWEEPS = 10
#: A linear sweep costs a fraction of a forest's, so the chain gets this many per sweep of the budget.
LINEAR_SWEEPS = 3
#: Prior variance of a coefficient on the standardised design, in both regressions of the mixed chain: scikit-learn's
#: default strength of its logistic and ridge regressions, untuned.
COEFFICIENT_VARIANCE = 1.0
#: Iterations of one logistic regression; warm starts carry the coefficients from sweep to sweep.
LOGISTIC_ITERATIONS = 25


class Mice(Method):
    """Chained equations fitted on the training rows; the fitted regressions then impute any rows."""

    name = "mice"
    summary = "Chained equations: ridge regression for numbers, logistic regression for categories"
    version = 1
    kinds = ("numeric", "categorical")
    protocols = ("inductive",)
    requires = ("sklearn",)
    extra = "paper"
    # Every regression keeps a matrix of its columns by its columns: memory grows with the third power of the width.
    max_attributes = 200
    max_width = 1000
    parameter_sets = {
        "default": {"posterior": "point", "imputations": 1},
        "avg": {"posterior": "avg", "imputations": 20},
        "draw": {"posterior": "draw"},
    }

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Fit the chains on the training rows; raises BenchError on an unknown ``posterior``."""
        posterior = self.parameters.get("posterior", "point")
        if posterior not in POSTERIORS:
            raise BenchError(f"mice: posterior must be one of {', '.join(POSTERIORS)}, not '{posterior}'")
        self._statistics = observed_statistics(train)
        self._seed = seed
        self._chains: list[NumericChain | MixedChain] = []
        self._library = "none: fewer than two columns vary"
        if np.count_nonzero(~self._statistics.constant) < 2:
            return
        sweeps = min(MOST_SWEEPS, LINEAR_SWEEPS * self.context.budget.sweeps)
        scalars, observed = train.values().scalars, train.observed[0]
        count = int(self.parameters.get("imputations", 20)) if posterior == "avg" else 1
        kind: type[NumericChain | MixedChain] = NumericChain if train.schema.kinds == {"numeric"} else MixedChain
        for index in range(count):
            chain = kind(self._statistics, posterior, sweeps, seed_of("mice", seed, index))
            chain.fit(scalars, observed, self.context)
            self._library = chain.library
            self._chains.append(chain)

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` imputed by at most ``draws`` of the fitted chains, averaged."""
        statistics, values, observed = self._statistics, data.values(), data.observed[0]
        filled = fill_hidden(values, observed, statistics)
        chains = self._chains[: max(draws, 1)]
        if not chains or not len(data):
            return filled
        total = np.zeros_like(design_matrix(filled.scalars, statistics))
        for chain in chains:
            self.context.stop()
            total += chain.complete(filled.scalars, observed)
        imputed = read_design(total / len(chains), statistics)
        return Values(np.where(observed, values.scalars, imputed))

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        """Return draws of the predictive distributions, whatever ``posterior`` says; the chains take turns."""
        statistics, values, observed = self._statistics, data.values(), data.observed[0]
        filled = fill_hidden(values, observed, statistics)
        found = [filled] * draws
        for index, chain in enumerate(self._chains[:draws] if len(data) else ()):
            self.context.stop()
            turns = range(index, draws, len(self._chains))
            rows, shown = np.tile(filled.scalars, (len(turns), 1)), np.tile(observed, (len(turns), 1))
            matrix = chain.complete(rows, shown, seed_of("mice draws", self._seed, seed, index))
            drawn = np.where(shown, rows, read_design(matrix, statistics))
            for turn, own in zip(turns, np.split(drawn, len(turns)), strict=True):
                found[turn] = Values(own)
        return found

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return which library ran, the number of chains and the sweeps each made."""
        return [{"library": self._library, "chains": len(self._chains), "sweeps": [c.swept for c in self._chains]}]


def read_design(matrix: FloatArray, statistics: ObservedStatistics) -> FloatArray:
    """Return the scalars [n, S] of a design matrix [n, D] of expectations.

    A number lies within the observed range; a category is its likeliest level. A constant or never observed column
    keeps the floor's value.
    """
    scalars = np.tile(statistics.fill, (len(matrix), 1))
    slices = design_slices(statistics.schema)
    for column in np.flatnonzero(~statistics.constant):
        where = slices[column]
        if len(statistics.level_counts[column]):
            scalars[:, column] = matrix[:, where].argmax(axis=1)
        else:
            number = matrix[:, where.start] * statistics.scale[column] + statistics.mean[column]
            scalars[:, column] = np.clip(number, statistics.minimum[column], statistics.maximum[column])
    return scalars


def iterative_imputer() -> tuple[type[Any], str]:
    """Return fancyimpute's IterativeImputer, or scikit-learn's own if fancyimpute is absent, and which it is."""
    try:
        import fancyimpute
    except ImportError:
        import sklearn
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (importing it is what enables the class)
        from sklearn.impute import IterativeImputer

        return IterativeImputer, f"scikit-learn {sklearn.__version__}"
    return fancyimpute.IterativeImputer, f"fancyimpute {fancyimpute.__version__}"


def _bayesian_ridge(before_fit: Callable[[], None]) -> Any:
    """Return a BayesianRidge that calls ``before_fit`` first, the one hook there is between IterativeImputer's fits."""
    from sklearn.linear_model import BayesianRidge

    def fit(self: Any, X: FloatArray, y: FloatArray, sample_weight: FloatArray | None = None) -> Any:  # noqa: N803
        before_fit()
        return BayesianRidge.fit(self, X, y, sample_weight)

    return type("StoppableBayesianRidge", (BayesianRidge,), {"fit": fit})()


@dataclass
class NumericChain:
    """IterativeImputer on the standardised columns that vary; its own rounds are replayed on other rows."""

    statistics: ObservedStatistics
    posterior: str
    sweeps: int
    seed: int
    library: str = ""
    swept: int = 0
    _imputer: Any = None

    def _standardised(self, scalars: FloatArray, observed: BoolArray) -> FloatArray:
        """Return the varying columns in standard deviations from the mean, NaN if hidden."""
        scaled = (scalars - self.statistics.mean) / self.statistics.scale
        standardised: FloatArray = np.where(observed, scaled, np.nan)[:, ~self.statistics.constant]
        return standardised

    def fit(self, scalars: FloatArray, observed: BoolArray, context: Context) -> None:
        """Fit on the training rows."""
        from sklearn.exceptions import ConvergenceWarning

        imputer, self.library = iterative_imputer()
        statistics, vary = self.statistics, ~self.statistics.constant
        total, done = self.sweeps * int(vary.sum()), 0

        def before_fit() -> None:
            nonlocal done
            context.stop()
            context.progress(done, total, "sweeps")
            done += 1

        self._imputer = imputer(
            estimator=_bayesian_ridge(before_fit),
            sample_posterior=self.posterior != "point",
            max_iter=self.sweeps,
            tol=1e-3,
            min_value=((statistics.minimum - statistics.mean) / statistics.scale)[vary],
            max_value=((statistics.maximum - statistics.mean) / statistics.scale)[vary],
            random_state=self.seed % 2**32,
        )
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            self._imputer.fit(self._standardised(scalars, observed))
        self.swept = int(self._imputer.n_iter_)

    def complete(self, filled: FloatArray, observed: BoolArray, draw_seed: int | None = None) -> FloatArray:
        """Return the design matrix [n, S] of rows given with the floor's values in hidden entries, as a mixed chain."""
        matrix, imputer, before = np.zeros_like(filled), self._imputer, self._imputer.sample_posterior
        # The imputer's generator moves on with every call; imputing twice must give the same values.
        seed = seed_of("mice impute", self.seed) if draw_seed is None else draw_seed
        imputer.random_state_ = np.random.RandomState(seed % 2**32)
        imputer.sample_posterior = before or draw_seed is not None
        matrix[:, ~self.statistics.constant] = imputer.transform(self._standardised(filled, observed))
        imputer.sample_posterior = before
        return matrix


@dataclass
class ColumnModel:
    """The regression of one column: which columns of the design matrix it writes and which it reads."""

    column: int
    where: slice
    inputs: IntArray
    estimator: Any
    #: Codes of the levels the classifier knows; None for a number.
    classes: IntArray | None
    #: Smallest and largest standardised number.
    limits: tuple[float, float]

    def expected(self, matrix: FloatArray) -> FloatArray:
        """Return the conditional mean [h, 1] or the level probabilities [h, K] of rows of the design matrix."""
        inputs = matrix[:, self.inputs]
        if self.classes is None:
            mean: FloatArray = np.clip(self.estimator.predict(inputs), *self.limits)[:, None]
            return mean
        probabilities = np.zeros((len(matrix), self.where.stop - self.where.start))
        probabilities[:, self.classes] = self.estimator.predict_proba(inputs)
        return probabilities

    def drawn(self, matrix: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return a draw, and what ``avg`` averages: the same draw of a number, the probabilities of a category."""
        uniform = rng.random(len(matrix))
        if self.classes is None:
            inputs = matrix[:, self.inputs]
            mean, deviation = self.estimator.predict(inputs), self.estimator.deviation(inputs)
            draw = truncated_normal(mean, deviation, *self.limits, uniform)[:, None]
            return draw, draw
        probabilities = self.expected(matrix)
        # The last class stands for the rounding of the sum of probabilities.
        above = np.cumsum(probabilities[:, self.classes], axis=1)[:, :-1] <= uniform[:, None]
        return np.eye(probabilities.shape[1])[self.classes[above.sum(axis=1)]], probabilities


class RidgeRegression:
    """Bayesian linear regression of a standardised number under the prior N(0, COEFFICIENT_VARIANCE) on coefficients.

    The prior is taken at unit noise, the most a standardised number can have; the predictive deviation uses the noise
    estimated from the residuals.
    """

    def fit(self, inputs: FloatArray, target: FloatArray) -> None:
        """Fit on rows [n, D] and their target [n]."""
        self._centre, self._mean = inputs.mean(axis=0), float(target.mean())
        centred = inputs - self._centre
        gram = centred.T @ centred
        self._covariance = np.linalg.inv(gram + np.eye(len(gram)) / COEFFICIENT_VARIANCE)
        self._coefficients = self._covariance @ (centred.T @ (target - self._mean))
        residual = target - self.predict(inputs)
        freedom = len(target) - 1 - float(np.sum(self._covariance * gram))
        self._noise = float(residual @ residual) / max(freedom, 1.0)

    def predict(self, inputs: FloatArray) -> FloatArray:
        """Return the predictive mean of rows, [h]."""
        return np.asarray(self._mean + (inputs - self._centre) @ self._coefficients)

    def deviation(self, inputs: FloatArray) -> FloatArray:
        """Return the predictive standard deviation of rows, [h]: noise and uncertain coefficients."""
        centred = inputs - self._centre
        deviation: FloatArray = np.sqrt(self._noise * (1.0 + np.sum(centred @ self._covariance * centred, axis=1)))
        return deviation


def truncated_normal(
    mean: FloatArray, deviation: FloatArray, low: float, high: float, uniform: FloatArray
) -> FloatArray:
    """Return draws from N(mean, deviation^2) within [low, high]: its distribution function inverted at ``uniform``.

    If the mean itself lies outside, the draw is the nearer limit, as in IterativeImputer: far tails do not invert.
    """
    from scipy.special import ndtr, ndtri

    deviation = np.maximum(deviation, 1e-12)
    below, above = ndtr((low - mean) / deviation), ndtr((high - mean) / deviation)
    draw = np.clip(mean + deviation * ndtri(below + uniform * (above - below)), low, high)
    return np.where((low <= mean) & (mean <= high), draw, np.clip(mean, low, high))


@dataclass
class MixedChain:
    """Chained equations over numbers and categories, on one design matrix that is completed column by column.

    In ``point`` mode a hidden category enters the other columns' regressions as its probabilities, which is the
    conditional mean of its one-hot code, as a hidden number enters as its conditional mean. The last sweep's models are
    kept. A column is visited in ascending order of its missing training entries.
    """

    statistics: ObservedStatistics
    posterior: str
    sweeps: int
    seed: int
    library: str = ""
    swept: int = 0
    _models: list[ColumnModel] = field(default_factory=list)

    def fit(self, scalars: FloatArray, observed: BoolArray, context: Context) -> None:
        """Fit on the training rows."""
        import sklearn
        from sklearn.exceptions import ConvergenceWarning

        self.library = f"scikit-learn {sklearn.__version__}"
        rng = generator("mice fit", self.seed)
        filled = np.where(observed, scalars, self.statistics.fill)
        matrix = design_matrix(filled, self.statistics)
        self._models = self._unfitted()
        total = self.sweeps * len(self._models)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            for sweep in range(self.sweeps):
                for position, model in enumerate(self._models):
                    context.stop()
                    context.progress(sweep * len(self._models) + position, total, "sweeps")
                    seen = observed[:, model.column]
                    target = matrix[seen, model.where.start] if model.classes is None else filled[seen, model.column]
                    model.estimator.fit(matrix[np.ix_(seen, model.inputs)], target)
                    self._write(model, matrix, ~seen, rng, self.posterior != "point")
                self.swept = sweep + 1

    def _unfitted(self) -> list[ColumnModel]:
        """Return one model for each column that varies, in visiting order."""
        from sklearn.linear_model import LogisticRegression

        statistics, slices = self.statistics, design_slices(self.statistics.schema)
        informative = np.zeros(slices[-1].stop, dtype=bool)
        vary = np.flatnonzero(~statistics.constant)
        for column in vary:
            levels = statistics.level_counts[column]
            informative[slices[column]] = levels > 0 if len(levels) else True
        models: list[ColumnModel] = []
        for column in vary[np.argsort(-statistics.count[vary], kind="stable")]:
            levels, where = statistics.level_counts[column], slices[column]
            inputs = informative.copy()
            inputs[where] = False
            logistic = LogisticRegression(C=COEFFICIENT_VARIANCE, max_iter=LOGISTIC_ITERATIONS, warm_start=True)
            estimator = logistic if len(levels) else RidgeRegression()
            ends = np.array([statistics.minimum[column], statistics.maximum[column]])
            low, high = (ends - statistics.mean[column]) / statistics.scale[column]
            classes = np.flatnonzero(levels) if len(levels) else None
            models.append(ColumnModel(int(column), where, np.flatnonzero(inputs), estimator, classes, (low, high)))
        return models

    def _write(
        self, model: ColumnModel, matrix: FloatArray, hidden: BoolArray, rng: np.random.Generator, draw: bool
    ) -> FloatArray | None:
        """Impute one column's hidden rows in ``matrix``; return what ``avg`` averages, None without hidden rows."""
        if not hidden.any():
            return None
        value, expected = model.drawn(matrix[hidden], rng) if draw else (model.expected(matrix[hidden]),) * 2
        matrix[hidden, model.where] = value
        return expected

    def complete(self, filled: FloatArray, observed: BoolArray, draw_seed: int | None = None) -> FloatArray:
        """Return the design matrix [n, D] of rows given with the floor's values in hidden entries.

        With ``draw_seed``, the seed of a random stream, hidden entries are draws, whatever ``posterior`` says.
        """
        rng = generator("mice impute", self.seed) if draw_seed is None else generator("mice draws", draw_seed)
        draw = self.posterior != "point" or draw_seed is not None
        matrix = design_matrix(filled, self.statistics)
        last: list[FloatArray | None] = []
        for _ in range(self.swept):
            last = [self._write(model, matrix, ~observed[:, model.column], rng, draw) for model in self._models]
        if self.posterior == "avg" and draw_seed is None:
            for model, expected in zip(self._models, last, strict=True):
                if expected is not None:
                    matrix[~observed[:, model.column], model.where] = expected
        return matrix
