"""What lies behind a view: a method never sees it, a test compares with it."""

from __future__ import annotations

from bench.api import FloatArray, Incomplete, Table
from bench.data.schema import IntArray


def table_behind(view: Incomplete) -> Table:
    """Return the complete table that a view shows a part of."""
    return view._table


def rows_behind(view: Incomplete) -> IntArray:
    """Return which rows of its table each replica of a view has, [R, n]."""
    return view._rows


def folds_behind(view: Incomplete) -> IntArray | None:
    """Return the fold of each entry of a validation view, [R, n, M], -1 where it is never held out; else None."""
    return view._folds


def truth_behind(view: Incomplete, replica: int = 0) -> FloatArray:
    """Return one replica's scalars [n, S], hidden entries too."""
    scalars: FloatArray = table_behind(view).scalars[rows_behind(view)[replica]]
    return scalars


def some_rows_of(view: Incomplete, positions: slice) -> Incomplete:
    """Return what a view shows of some of its rows, by their positions in it."""
    return Incomplete(table_behind(view), rows_behind(view)[:, positions], view.observed[:, positions])
