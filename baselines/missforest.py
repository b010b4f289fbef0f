"""MissForest as missingpy 0.2.0 implements it, through a bridge to today's libraries.

Stekhoven and Buehlmann: *MissForest: non-parametric missing value imputation for mixed-type data*, Bioinformatics 28,
2012. From the mean and the mode, sweep after sweep, a random forest per column predicts its hidden entries from all
other columns, those with the fewest holes first. The sweeps end when the completed table changes more than in the sweep
before, in numbers and in categories, and the table before that sweep is kept. Numbers are standardised first, so that
neither their unit nor a constant added to them matters:

    numbers:     sum of (x_new - x_old)^2 / sum of x_new^2
    categories:  changed hidden entries / hidden entries

missingpy is GPLv3 and written for scikit-learn before 0.24 and NumPy before 2.4. It is imported at run time, unedited,
as a private copy; every name that it expects and no longer finds is supplied from here and taken away again.

The method refits on the rows it is given, so it is transductive: training and test rows are imputed together.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from bench.api import (
    FloatArray,
    Incomplete,
    Method,
    Values,
    fill_hidden,
    observed_statistics,
    original_scalars,
    seed_of,
    standardised_scalars,
)


class MissForest(Method):
    """missingpy's MissForest on all rows it is given; a column that was never observed gets the floor's value."""

    name = "missforest"
    summary = "MissForest by missingpy: forests refitted on the rows to impute"
    version = 1
    kinds = ("numeric", "categorical")
    protocols = ("transductive",)
    requires = ("missingpy",)
    extra = "paper"
    # One forest per column on all others, in every sweep.
    max_attributes = 500
    max_width = 1000

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Keep the seed: missingpy fits its forests on the very rows it imputes."""
        self._seed = seed
        self._iterations = 0

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` imputed by forests that were fitted on it; ``draws`` is not used."""
        statistics, values, observed = observed_statistics(data), data.values(), data.observed[0]
        imputed = fill_hidden(values, observed, statistics).scalars
        # missingpy raises on a column without an observed entry, and a forest needs another column to predict from.
        kept = np.flatnonzero(~statistics.never_observed)
        if len(kept) < 2 or observed[:, kept].all():
            return Values(imputed)
        budget = self.context.budget
        categorical = np.flatnonzero(np.isin(kept, data.schema.scalar_columns("categorical")))
        imputer = load_missforest(self._watch(int((~observed[:, kept]).any(axis=0).sum())))(
            # It returns the matrix before its last iteration, so one more is asked for.
            max_iter=budget.sweeps + 1,
            n_estimators=budget.trees,
            n_jobs=1,
            random_state=seed_of("missforest", self._seed) % 2**32,
        )
        with np.errstate(invalid="ignore", divide="ignore"):
            completed = imputer.fit_transform(
                standardised_scalars(values.scalars, statistics)[:, kept],
                cat_vars=[int(c) for c in categorical] if len(categorical) else None,
            )
        self._iterations = int(imputer.iter_count_)
        standardised = standardised_scalars(imputed, statistics)
        standardised[:, kept] = completed
        imputed = original_scalars(standardised, statistics)
        return Values(np.where(observed, values.scalars, imputed))

    def _watch(self, columns: int) -> Callable[[], None]:
        """Return what to call before each forest: it stops when asked to, and reports."""
        total, done = (self.context.budget.sweeps + 1) * columns, 0

        def before_fit() -> None:
            nonlocal done
            self.context.stop()
            self.context.progress(done, total, "forests")
            done += 1

        return before_fit

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return the number of iterations missingpy ran; the values are those of the one before the last."""
        return [{"iterations": self._iterations, "trees": self.context.budget.trees}]


@dataclass
class Forest:
    """A scikit-learn forest that calls ``before_fit`` first."""

    estimator: Any
    before_fit: Callable[[], None]

    def fit(self, X: FloatArray, y: FloatArray) -> None:  # noqa: N803 (missingpy passes both by name)
        """Fit the forest."""
        self.before_fit()
        self.estimator.fit(X, y)

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predict the rows."""
        predicted: FloatArray = self.estimator.predict(rows)
        return predicted


def load_missforest(before_fit: Callable[[], None]) -> Any:
    """Import missingpy under the bridge and return its MissForest class, which calls ``before_fit`` before each forest.

    The modules belong to the returned class alone: ``sys.modules``, scikit-learn and NumPy are left as they were.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.utils.validation import check_array

    with _names_missingpy_expects():
        module: Any = importlib.import_module("missingpy.missforest")

    options_known = inspect.signature(check_array).parameters
    finite = "ensure_all_finite" if "ensure_all_finite" in options_known else "force_all_finite"

    def checked(array: FloatArray, *, force_all_finite: bool, **options: Any) -> FloatArray:
        result: FloatArray = check_array(array, **{finite: force_all_finite}, **options)
        return result

    def regressor(**options: Any) -> Forest:
        # "auto" meant every column for a regressor and the square root for a classifier.
        options |= {"criterion": _renamed(options["criterion"]), "max_features": _features(options, 1.0)}
        return Forest(RandomForestRegressor(**options), before_fit)

    def classifier(**options: Any) -> Forest:
        options |= {"max_features": _features(options, "sqrt")}
        return Forest(RandomForestClassifier(**options), before_fit)

    numpy = ModuleType("numpy")
    numpy.__dict__.update({name: getattr(np, name) for name in _NUMPY_NAMES}, in1d=np.isin)
    module.np = numpy
    module.check_array = checked
    module.RandomForestRegressor = regressor
    module.RandomForestClassifier = classifier
    module.print = _silent
    return module.MissForest


#: What missingpy's MissForest uses of NumPy, apart from ``in1d``, which NumPy 2.4 dropped.
_NUMPY_NAMES = (
    "any",
    "arange",
    "argsort",
    "array",
    "copy",
    "delete",
    "float64",
    "full",
    "inf",
    "isinf",
    "ix_",
    "nan",
    "nanmean",
    "ndarray",
    "setdiff1d",
    "sum",
    "take",
    "where",
)


def _silent(*_: object) -> None:
    """Print nothing."""


def _renamed(criterion: str) -> str:
    """Return today's name of a split criterion."""
    return "squared_error" if criterion == "mse" else criterion


def _features(options: dict[str, Any], meaning: float | str) -> Any:
    """Return ``max_features`` with ``auto`` replaced by what it meant."""
    return meaning if options["max_features"] == "auto" else options["max_features"]


@contextmanager
def _names_missingpy_expects() -> Iterator[None]:
    """Supply ``sklearn.neighbors.base`` while missingpy is imported, then restore everything the import touched."""
    from sklearn.metrics import pairwise
    from sklearn.neighbors import _base

    def own(name: str) -> bool:
        return name == "sklearn.neighbors.base" or name.split(".")[0] == "missingpy"

    before = {name: module for name, module in sys.modules.items() if own(name)}
    metrics, distances = list(pairwise._VALID_METRICS), dict(pairwise.PAIRWISE_DISTANCE_FUNCTIONS)
    base = ModuleType("sklearn.neighbors.base")
    base.__dict__.update(_get_weights=_base._get_weights, _check_weights=lambda weights: weights)
    for name in before:
        del sys.modules[name]
    sys.modules["sklearn.neighbors.base"] = base
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name in [name for name in sys.modules if own(name)]:
            del sys.modules[name]
        sys.modules.update(before)
        # Both are the very objects scikit-learn reads, so they are restored in place.
        pairwise._VALID_METRICS[:] = metrics
        pairwise.PAIRWISE_DISTANCE_FUNCTIONS.clear()
        pairwise.PAIRWISE_DISTANCE_FUNCTIONS.update(distances)
