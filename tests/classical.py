"""Tables, views and a loader for the tests of the classical methods."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from bench.api import Attribute, BoolArray, Budget, FloatArray, Incomplete, Method, Schema, Table, Values
from tests.truth import rows_behind, table_behind, truth_behind

Load = Callable[..., type[Method]]


NEEDS_MISSINGPY = pytest.mark.skipif(
    importlib.util.find_spec("missingpy") is None, reason="needs missingpy: pip install 'vsae-bench[paper]'"
)


SMALL = Budget(trees=5, sweeps=2)


QUICK = Budget(preset="quick", sweeps=4)


def views(table: Table, ratio: float = 0.4, seed: int = 0) -> tuple[Incomplete, Incomplete]:
    """Return a training view of the first 80 % of the rows and a test view of the others, missing at random."""
    observed = np.random.default_rng(seed).random((len(table), len(table.schema))) >= ratio
    return split(table, observed)


def split(table: Table, observed: BoolArray) -> tuple[Incomplete, Incomplete]:
    """Return the views of the first 80 % and of the other rows under one mask [n, M]."""
    parts = np.split(np.arange(len(table)), [int(0.8 * len(table))])
    train, test = (Incomplete(table, part[None], observed[part][None]) for part in parts)
    return train, test


def run(method: Method, train: Incomplete, test: Incomplete, seed: int = 1) -> FloatArray:
    """Return the imputed scalars of the test view; a transductive method is given both views as one."""
    if "transductive" in method.protocols:
        both = Incomplete(
            table_behind(train),
            np.concatenate([rows_behind(train), rows_behind(test)], axis=1),
            np.concatenate([train.observed, test.observed], axis=1),
        )
        method.fit(both, both, seed)
        return imputed(method, both)[-len(test) :] if len(test) else imputed(method, both)[:0]
    method.fit(train, train, seed)
    return imputed(method, test)


def imputed(method: Method, view: Incomplete) -> FloatArray:
    """Return the scalars a method imputes for a view."""
    values = method.impute(view, 10)
    assert isinstance(values, Values)
    return values.scalars


def module_of(loaded: type[Method]) -> ModuleType:
    """Return the module a plug-in was loaded as."""
    return sys.modules[loaded.__module__]


def error(test: Incomplete, found: FloatArray, column: int) -> float:
    """Return the RMSE of a number or the share of wrong levels of a category over one column's hidden entries."""
    hidden = ~test.observed[0][:, column]
    truth = truth_behind(test)[hidden, column]
    if test.schema.attributes[column].kind == "numeric":
        return float(np.sqrt(np.mean(np.square(found[hidden, column] - truth))))
    return float(np.mean(found[hidden, column] != truth))


def gaussian_table(rows: int = 500) -> Table:
    """Return four numbers driven by one common factor, on very different scales."""
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(rows, 1))
    numbers = factor * [1.0, -1.0, 1.0, 1.0] + 0.4 * rng.normal(size=(rows, 4))
    numbers = numbers * [1.0, 1e-6, 1e4, 10.0] + [0.0, 1.0, 5e5, -3.0]
    schema = Schema(tuple(Attribute(f"x{i}", "numeric") for i in range(4)))
    return Table(schema, numbers, {}, np.ones((rows, 4), dtype=bool))


def categorical_table(rows: int = 600) -> Table:
    """Return three categories that copy one hidden cause nine times in ten; the codes' order carries no meaning."""
    rng = np.random.default_rng(4)
    cause = rng.integers(0, 4, rows)
    orders = np.array([[0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2]])
    codes = np.stack([order[cause] for order in orders], axis=1)
    noisy = rng.random(codes.shape) < 0.1
    codes = np.where(noisy, rng.integers(0, 4, codes.shape), codes).astype(float)
    schema = Schema(tuple(Attribute(f"c{i}", "categorical", levels=("a", "b", "c", "d")) for i in range(3)))
    return Table(schema, codes, {}, np.ones(codes.shape, dtype=bool))


def nonlinear_table(rows: int = 400) -> Table:
    """Return a number, its square, its absolute value and a category that says which third it lies in."""
    rng = np.random.default_rng(5)
    number = rng.uniform(-2.0, 2.0, rows)
    level = np.where(np.abs(number) < 1.0, "near", "far")
    return Table.from_frame(
        pd.DataFrame(
            {
                "number": number,
                "square": number**2 + rng.normal(0, 0.05, rows),
                "size": np.abs(number) + rng.normal(0, 0.05, rows),
                "level": level,
            }
        )
    )


def missing_table(kind: str) -> tuple[FloatArray, list[int]]:
    """Return a small table with NaN in hidden entries, and its categorical columns."""
    table = {"numeric": gaussian_table(60), "categorical": categorical_table(60), "mixed": nonlinear_table(60)}[kind]
    scalars = table.scalars.copy()
    # Every column has another number of holes, so that the visiting order does not hang on ties.
    for column in range(scalars.shape[1]):
        scalars[np.random.default_rng(column).permutation(60)[: 10 + 3 * column], column] = np.nan
    return scalars, [int(c) for c in table.schema.scalar_columns("categorical")]


def table_for(name: str, rows: int = 60) -> tuple[Table, BoolArray]:
    """Return dependent numbers, and categories if the method takes them, and a mask [n, M] with 30 % hidden."""
    rng = np.random.default_rng(5)
    cause = rng.normal(size=rows)
    columns = [cause, 2 * cause + rng.normal(0, 0.3, rows), 1e4 - 500 * cause + rng.normal(0, 80, rows)]
    attributes = [Attribute(f"x{i}", "numeric") for i in range(3)]
    if name != "gaussian_em":
        levels = (np.digitize(cause, [-0.5, 0.5]), cause > rng.normal(0, 0.5, rows))
        columns += [codes.astype(np.float64) for codes in levels]
        attributes += [Attribute(f"c{i}", "categorical", levels=tuple("abc"[: 3 - i])) for i in range(2)]
    scalars = np.stack(columns, axis=1).astype(np.float64)
    table = Table(Schema(tuple(attributes)), scalars, {}, np.ones(scalars.shape, dtype=bool))
    return table, rng.random(scalars.shape) >= 0.3
