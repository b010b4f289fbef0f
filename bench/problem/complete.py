"""What the suite does for every method: it asks no more than can be answered, and fills what no method can know.

The runner and the conformance suite both go through here, so that a method which passes the checks also runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.data.schema import BoolArray
from bench.data.statistics import fill_hidden, observed_statistics
from bench.data.table import Values
from bench.data.view import Incomplete
from bench.errors import BenchError, Stopped
from bench.plugins.contracts import Method, StackedMethod

if TYPE_CHECKING:
    import pandas as pd

#: Attributes named in a warning.
NAMED = 5


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method imputed for each replica, as it came.

    ``given`` is False if the method was not asked, or could not answer because nothing was observed to learn from:
    every hidden entry is then NaN, and the method has no diagnostics.
    """

    imputed: Sequence[pd.DataFrame | Values]
    given: bool = True


def ask(
    method: Method, fitted_on: Incomplete, validation: Incomplete, data: Incomplete, seeds: Sequence[int], draws: int
) -> Answer:
    """Fit a method and impute ``data``, the whole stack at once if the method stacks, else its one replica.

    A method is not asked about a table without rows. If no entry is observed in ``fitted_on``, it may raise whatever
    it likes: there is nothing to learn. Raises what the method raises otherwise, and BenchError if a stack does not
    return one imputation per replica.
    """
    if not len(data):
        return _no_answer(data)
    try:
        imputed = _fit_and_impute(method, fitted_on, validation, data, seeds, draws)
    except Stopped:
        raise
    except Exception:  # a method may raise anything
        if fitted_on.observed.any():
            raise
        return _no_answer(data)
    if len(imputed) != data.replicas:
        raise BenchError(f"method '{method.name}' returned {len(imputed)} imputations for {data.replicas} replicas")
    return Answer(imputed)


def _no_answer(data: Incomplete) -> Answer:
    return Answer([data.values(replica) for replica in range(data.replicas)], given=False)


def _fit_and_impute(
    method: Method, fitted_on: Incomplete, validation: Incomplete, data: Incomplete, seeds: Sequence[int], draws: int
) -> Sequence[pd.DataFrame | Values]:
    if isinstance(method, StackedMethod):
        method.fit_many(fitted_on, validation, seeds)
        return method.impute_many(data, draws)
    method.fit(fitted_on, validation, seeds[0])
    return [method.impute(data, draws)]


def complete(values: Values, data: Incomplete, fitted_on: Incomplete, replica: int = 0) -> tuple[Values, list[str]]:
    """Return imputed values with NaN filled by the floor where no method can know better, and the warnings to store.

    These are the hidden entries of attributes that ``fitted_on`` never shows (filled with 0 or the first level), and
    of rows of ``data`` that show nothing (filled with the mean, the mode or the mean image of ``fitted_on``). NaN in
    any other entry stays: that is a failure of the method. Values that need nothing filled come back as they are.
    """
    never = ~fitted_on.observed[replica].any(axis=0)
    observed = data.observed[replica]
    unknown = ~observed & (never | ~observed.any(axis=1, keepdims=True))
    warnings = _never_observed(data.schema.names, never)
    left = _is_nan(values, data) & unknown if unknown.any() else unknown
    if not left.any():
        return values, warnings
    filled = fill_hidden(values, ~left, observed_statistics(fitted_on, replica))
    rows = int(left[:, ~never].any(axis=1).sum())
    if rows:
        warnings.append(
            f"{rows} of {len(data)} rows show nothing, and the method left them NaN: filled with the mean, the mode or"
            " the mean image"
        )
    return filled, warnings


def _is_nan(values: Values, data: Incomplete) -> BoolArray:
    """Return which entries [n, M] hold a NaN."""
    schema = data.schema
    nan = np.zeros((len(data), len(schema)), dtype=np.bool_)
    nan[:, schema.scalar_indices] = np.isnan(values.scalars)
    for index, attribute in enumerate(schema.attributes):
        if attribute.name in values.blocks:
            nan[:, index] = np.isnan(values.blocks[attribute.name]).any(axis=1)
    return nan


def _never_observed(names: Sequence[str], never: BoolArray) -> list[str]:
    """Return a warning that names the attributes which no row shows, or nothing."""
    unseen = [name for name, is_never in zip(names, never, strict=True) if is_never]
    if not unseen:
        return []
    more = f" and {len(unseen) - NAMED} more" if len(unseen) > NAMED else ""
    return [f"never observed in training, so filled with 0 or the first level: {', '.join(unseen[:NAMED])}{more}"]
