"""Methods that have nothing wrong with them, and the outcome of every check on a toy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from bench.api import FloatArray, Incomplete, Kind, Method, StackedMethod, Values, fill_hidden, observed_statistics
from bench.conformance.method import METHOD_CHECKS
from bench.conformance.suite import Outcome, Tried, run_checks
from bench.conformance.tables import example_of
from bench.conformance.trial import Trial

MIXED = "numbers and categories"


class Sound(Method):
    """Mean, mode and mean image: it has nothing wrong with it, and the toys below one thing each."""

    name = "sound"
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical", "image", "features")

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        self.statistics = observed_statistics(train)
        self.train = train

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame | Values:
        return fill_hidden(data.values(), data.observed[0], self.statistics)


class SoundFrame(Sound):
    """The same by way of a DataFrame."""

    kinds = ("numeric", "categorical")

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame:
        columns = {}
        filled = fill_hidden(data.values(), data.observed[0], self.statistics).scalars
        for column, attribute in enumerate(data.schema.attributes):
            values = filled[:, column]
            columns[attribute.name] = [attribute.levels[int(v)] for v in values] if attribute.levels else values
        return pd.DataFrame(columns)


class SoundStack(StackedMethod):
    """The same for a stack."""

    kinds = Sound.kinds

    def fit_many(self, train: Incomplete, validation: Incomplete, seeds: Sequence[int]) -> None:
        self.statistics = [observed_statistics(train, replica) for replica in range(train.replicas)]

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        return [fill_hidden(data.values(r), data.observed[r], own) for r, own in enumerate(self.statistics)]


def edited(imputed: pd.DataFrame | Values, edit: Callable[[FloatArray], FloatArray]) -> Values:
    """Return imputed values with edited scalars."""
    assert isinstance(imputed, Values)
    return Values(edit(imputed.scalars.copy()), imputed.blocks)


def nudged(
    data: Incomplete, imputed: pd.DataFrame | Values, amount: float | np.floating[Any], column: int = 0
) -> Values:
    """Return imputed values with ``amount`` added to the hidden entries of a column."""
    hidden = ~data.observed[0][:, column]

    def edit(scalars: FloatArray) -> FloatArray:
        scalars[hidden, column] += amount
        return scalars

    return edited(imputed, edit)


def by_function(checks: Sequence[Callable[[Any], None]], trial: Any, path: Path = Path(__file__)) -> dict[str, Outcome]:
    """Return the outcome of checks on one trial by the name of their functions; the plug-in stands in ``path``."""
    found = run_checks(checks, [Tried(trial)], path)
    return {check.__name__: outcome for check, outcome in zip(checks, found, strict=True)}


def outcomes(method: type[Method], table: str = MIXED, protocol: str = "inductive") -> dict[str, Outcome]:
    """Return the outcome of every check of a method on one table."""
    path = Path(sys.modules[method.__module__].__file__ or "")
    return by_function(METHOD_CHECKS, Trial(method, protocol, example_of(table)), path)
