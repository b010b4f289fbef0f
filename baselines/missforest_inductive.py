"""MissForest fitted on the training rows alone: the like-for-like row beside missingpy's.

Stekhoven and Buehlmann 2012, with the same visiting order, starting values and stopping rule as ``missforest``, whose
page has the equations. The forests of every sweep are kept and replayed in order on other rows, as scikit-learn's
IterativeImputer does with its regressions: a later sweep's forests have learned from inputs that were already imputed
well, and rows that still hold the mean and mode are not such inputs. The parameter set ``last_sweep`` keeps and applies
the last sweep's forests alone, as many times; it needs less memory. Categories are predictors by their integer codes,
as in missingpy.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.api import (
    BoolArray,
    FloatArray,
    Incomplete,
    IntArray,
    Method,
    Values,
    fill_hidden,
    observed_statistics,
    original_scalars,
    seed_of,
    standardised_scalars,
)


class MissForestInductive(Method):
    """One random forest per column, swept until the completed training table changes more than in the sweep before."""

    name = "missforest_inductive"
    summary = "MissForest on scikit-learn forests, fitted on the training rows only"
    version = 1
    kinds = ("numeric", "categorical")
    protocols = ("inductive",)
    requires = ("sklearn",)
    # One forest per column on all others, in every sweep.
    max_attributes = 500
    max_width = 1000
    parameter_sets = {"default": {"replay": True}, "last_sweep": {"replay": False}}

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Sweep over the training rows and keep the forests of the sweeps before the change rose."""
        statistics = observed_statistics(train)
        self._statistics, self._seed = statistics, seed
        self._categorical = np.array([len(counts) > 0 for counts in statistics.level_counts], dtype=bool)
        self._forests: list[dict[int, Any]] = []
        replay = self.parameters.get("replay", True)
        observed = train.observed[0]
        vary = np.flatnonzero(~statistics.constant)
        # A column needs another one that varies to be predicted from.
        vary = vary if len(vary) > 1 else vary[:0]
        self._columns: IntArray = vary[np.argsort(-statistics.count[vary], kind="stable")]
        incomplete = [int(c) for c in self._columns if not observed[:, c].all()]
        completed = standardised_scalars(fill_hidden(train.values(), observed, statistics).scalars, statistics)
        last_change = {"numeric": np.inf, "categorical": np.inf}
        sweeps = self.context.budget.sweeps if incomplete else 0
        for sweep in range(sweeps):
            new, forests = completed.copy(), {}
            for position, column in enumerate(incomplete):
                self.context.progress(sweep * len(incomplete) + position, sweeps * len(incomplete), "forests")
                forests[column] = self._grown(new, observed, column, sweep)
                hidden = ~observed[:, column]
                new[hidden, column] = forests[column].predict(self._inputs(new[hidden], column))
            change = self._change(completed, new, observed)
            if not any(change[kind] < last_change[kind] for kind in change):
                break
            completed, last_change = new, change
            self._forests = [*self._forests, forests] if replay else [forests] * (sweep + 1)
        complete = [int(c) for c in self._columns if observed[:, c].all()]
        if complete:
            # Other rows may have holes in columns that the training rows show completely.
            forests = {column: self._grown(completed, observed, column, 0) for column in complete}
            self._forests = [grown | forests for grown in self._forests] or [forests]

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` imputed by the kept forests; ``draws`` is not used."""
        observed = data.observed[0]
        filled = fill_hidden(data.values(), observed, self._statistics).scalars
        scalars = standardised_scalars(filled, self._statistics)
        for forests in self._forests:
            for column in self._columns:
                self.context.stop()
                hidden = ~observed[:, column]
                if hidden.any():
                    scalars[hidden, column] = forests[int(column)].predict(self._inputs(scalars[hidden], column))
        imputed = original_scalars(scalars, self._statistics)
        return Values(np.where(observed[:, data.schema.scalar_indices], filled, imputed))

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return the number of sweeps whose forests were kept, and the trees per forest."""
        return [{"sweeps": len(self._forests), "trees": self.context.budget.trees}]

    def _inputs(self, scalars: FloatArray, column: int) -> FloatArray:
        """Return the predictors of ``column``: all other columns that vary."""
        return scalars[:, np.sort(self._columns[self._columns != column])]

    def _grown(self, scalars: FloatArray, observed: BoolArray, column: int, sweep: int) -> Any:
        """Return a forest for ``column`` fitted on the rows that observe it."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        self.context.stop()
        options = {
            "n_estimators": self.context.budget.trees,
            "n_jobs": 1,
            "random_state": seed_of("missforest_inductive", self._seed, column, sweep) % 2**32,
        }
        forest = (
            RandomForestClassifier(max_features="sqrt", **options)
            if self._categorical[column]
            else RandomForestRegressor(max_features=1.0, **options)
        )
        seen = observed[:, column]
        return forest.fit(self._inputs(scalars[seen], column), scalars[seen, column])

    def _change(self, old: FloatArray, new: FloatArray, observed: BoolArray) -> dict[str, float]:
        """Return how much a sweep changed the table, for each kind with hidden entries.

        Numbers: sum of squared changes over the sum of squares; categories: the share of hidden entries that changed.
        """
        change: dict[str, float] = {}
        hidden, categorical = ~observed[:, self._columns], self._categorical[self._columns]
        before, after = old[:, self._columns], new[:, self._columns]
        if hidden[:, ~categorical].any():
            moved = float(np.sum(np.square(after - before)[:, ~categorical]))
            size = float(np.sum(np.square(after)[:, ~categorical]))
            change["numeric"] = moved / size if size > 0 else 0.0
        if hidden[:, categorical].any():
            changed = np.count_nonzero((after != before)[:, categorical])
            change["categorical"] = changed / np.count_nonzero(hidden[:, categorical])
        return change
