"""A method under one protocol and parameter set, on one generated table: it is asked as the runner asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from bench.conformance.require import complete_values, require_finite, require_levels, require_observed, require_same
from bench.conformance.tables import Example
from bench.data.statistics import fill_hidden, observed_statistics
from bench.data.table import Values
from bench.data.view import Incomplete
from bench.experiment.presets import budget_for
from bench.plugins.contracts import Context, Method
from bench.problem.complete import ask, complete

SEED = 2**62 + 5


@dataclass(frozen=True, eq=False)
class Run:
    """A method that has imputed, its values, and what it changed of what it was given, if anything."""

    method: Method
    values: Values
    changed: str


@dataclass(frozen=True, eq=False)
class Trial:
    """A method under one protocol and parameter set, on one generated table."""

    method: type[Method]
    protocol: str
    example: Example
    parameters: Mapping[str, Any] | None = None

    @cached_property
    def data(self) -> Incomplete:
        """What is imputed, of the first replica."""
        return self.example.replica(0).data_view(self.protocol)

    @cached_property
    def first_run(self) -> Run:
        """The method after it has imputed the first replica, and what came of it."""
        one, method = self.example.replica(0), self.instance()
        views = (one.train_view(self.protocol), one.validation_view(), one.data_view(self.protocol))
        masks = [view.observed.copy() for view in views]
        contents = replace(one.table).content_hash
        (values,) = answers(method, *views, [SEED])
        changed = ""
        if not all(np.array_equal(view.observed, mask) for view, mask in zip(views, masks, strict=True)):
            changed = "the mask of a view"
        elif replace(one.table).content_hash != contents:
            changed = "the data in the store"
        return Run(method, values, changed)

    @property
    def values(self) -> Values:
        """What the method imputes there."""
        return self.first_run.values

    def instance(self) -> Method:
        """Return a new instance of the method at the smoke budget."""
        return self.method(self.parameters, Context(budget_for("smoke", self.example.table.schema.kinds)))

    def impute(self, example: Example, learned: Example | None = None) -> Values:
        """Fit and impute the first replica of an example, fitted on that of ``learned`` if it is given."""
        known = (learned or example).replica(0)
        data = example.replica(0).data_view(self.protocol)
        views = (known.train_view(self.protocol), known.validation_view(), data)
        return answers(self.instance(), *views, [SEED])[0]


def answers(
    method: Method, fitted_on: Incomplete, validation: Incomplete, data: Incomplete, seeds: Sequence[int]
) -> list[Values]:
    """Return what a method imputes for each replica, completed as the runner does.

    Raises Failed unless each has the shape of the view.
    """
    answer = ask(method, fitted_on, validation, data, seeds, method.context.budget.draws)
    return [
        complete(complete_values(imputed, data), data, fitted_on, replica)[0]
        for replica, imputed in enumerate(answer.imputed)
    ]


def require_survived(trial: Trial, example: Example) -> Values:
    """Return what is imputed for an awkward table. Raises Failed unless it is valid and keeps observed entries."""
    values = trial.impute(example)
    require_finite(values, example.table.schema)
    require_levels(values, example.table.schema)
    require_observed(values, example.replica(0).data_view(trial.protocol))
    return values


def require_declared_fill(trial: Trial, example: Example, columns: Sequence[int]) -> None:
    """Raise Failed unless the hidden entries of ``columns``, never observed in training, hold the declared fill."""
    values = require_survived(trial, example)
    one = example.replica(0)
    data = one.data_view(trial.protocol)
    filled = fill_hidden(data.values(), data.observed[0], observed_statistics(one.train_view(trial.protocol)))
    entries = np.zeros(data.observed[0].shape, dtype=bool)
    entries[:, columns] = True
    require_same(data.schema, values, filled, "not the declared fill", entries)
