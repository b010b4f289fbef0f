"""DataFrames at the door: what each kind of column becomes, what is refused, and how an imputed one is aligned."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.api import BenchError, Table, Values
from bench.data.kinds import Kind

ROWS = 8
CATEGORIES: tuple[Kind, ...] = ("categorical",)
BOTH: tuple[Kind, ...] = ("numeric", "categorical")


def table_of(column: Any, kinds: tuple[Kind, ...] = BOTH) -> Table:
    """Return the table of a column ``c`` beside a column ``x`` of numbers."""
    frame = pd.DataFrame({"x": np.arange(float(ROWS))})
    frame["c"] = column
    return Table.from_frame(frame, kinds)


@pytest.mark.parametrize(
    ("column", "values", "note"),
    [
        ([1, 2.5, None, 4, 5, 6, 7, 8], [1, 2.5, np.nan, 4, 5, 6, 7, 8], ""),
        (pd.array([1, None, 3, 4, 5, 6, 7, 8], dtype="Int64"), [1, np.nan, 3, 4, 5, 6, 7, 8], ""),
        ([Decimal(n) for n in range(ROWS)], list(range(ROWS)), "holds numbers as Python objects: taken as numeric"),
        (
            pd.Series([1, 2.5, None, 4, 5, 6, 7, 8], dtype=object),
            [1, 2.5, np.nan, 4, 5, 6, 7, 8],
            "holds numbers as Python objects",
        ),
        (
            ["1", "2.5", "?", "-4", "5e1", " 6", "", "8"],
            [1, 2.5, np.nan, -4, 50, 6, np.nan, 8],
            "holds numbers as text: taken as numeric, '' and '?' as missing",
        ),
        (pd.arrays.SparseArray([0.0] * 7 + [1.0]), [0] * 7 + [1], ""),
    ],
)
def test_columns_that_are_numbers(column: Any, values: list[float], note: str) -> None:
    table = table_of(column)
    assert [a.kind for a in table.schema.attributes] == ["numeric", "numeric"]
    np.testing.assert_array_equal(table.scalars[:, 1], values)
    np.testing.assert_array_equal(table.present[:, 1], ~np.isnan(values))
    assert len(table.assumed) == bool(note) and all(note in line for line in table.assumed)


@pytest.mark.parametrize(
    ("column", "levels", "note"),
    [
        (["b", "a", None, "b", "a", "a", "b", "b"], ("a", "b"), ""),
        ([True, False] * 4, ("False", "True"), ""),
        (pd.Categorical([2, 1] * 4, categories=[3, 2, 1]), ("3", "2", "1"), ""),
        ([b"a", b"b"] * 4, ("a", "b"), "holds bytes: taken as text"),
        ([1, "one", 2.5, "two"] * 2, ("1", "2.5", "one", "two"), "mixes numbers and text"),
        (["?", "a"] * 4, ("?", "a"), "has the level '?': if it means missing, make it NaN"),
    ],
)
def test_columns_that_are_categories(column: Any, levels: tuple[str, ...], note: str) -> None:
    table = table_of(column)
    assert table.schema.attributes[1].levels == levels
    assert len(table.assumed) == bool(note) and all(note in line for line in table.assumed)


def test_text_of_numbers_is_a_category_of_a_data_set_without_numbers() -> None:
    table = Table.from_frame(pd.DataFrame({"c": ["1", "0"] * 4}), CATEGORIES)
    assert table.schema.attributes[0].levels == ("0", "1") and not table.assumed


def test_an_identifier_is_warned_of() -> None:
    frame = pd.DataFrame({"id": [f"user{n}" for n in range(50)]})
    assert "'id' has 50 levels in 50 rows: an identifier?" in Table.from_frame(frame).assumed[0]


@pytest.mark.parametrize(
    "column", [[None] * ROWS, [np.nan] * ROWS, ["?", ""] * 4, pd.Categorical([None] * ROWS, categories=["a"])]
)
def test_a_column_without_a_value_is_left_out_and_told_of(column: Any) -> None:
    table = table_of(column)
    assert table.schema.names == ("x",)
    assert table.left_out == ("c",)
    assert table.assumed == ("left out, because they hold no value: c",)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (np.arange(ROWS) + 1j, "holds complex numbers"),
        ([1 + 2j, "a"] * 4, "holds complex numbers"),
        (pd.date_range("2020-01-01", periods=ROWS), "holds dates or durations"),
        (pd.date_range("2020-01-01", periods=ROWS, tz="UTC"), "holds dates or durations"),
        (pd.timedelta_range("1D", periods=ROWS), "holds dates or durations"),
        (pd.period_range("2020", periods=ROWS, freq="D"), "holds dates or durations"),
        ([datetime.date(2020, 1, 1)] * ROWS, "holds dates or durations"),
        ([[1, 2]] * ROWS, "holds values of type list"),
        ([{1: 2}] * ROWS, "holds values of type dict"),
        ([object()] * ROWS, "holds values of type object"),
        ([1.0, np.inf] * 4, "holds an infinite value"),
        (["1", "inf"] * 4, "holds an infinite value"),
        ([10**400, 1.5] * 4, "holds a number that no float can hold"),
        (["a", "b\udc80"] * 4, "is not valid Unicode"),
        (pd.Categorical([1, "1"] * 4, categories=[1, "1"]), "has two levels that are '1' as text"),
    ],
)
def test_columns_that_are_refused(column: Any, reason: str) -> None:
    with pytest.raises(BenchError) as caught:
        table_of(column)
    assert reason in str(caught.value) and "'c'" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a", "a"], "columns 0 and 1 are both named 'a'"),
        ([1, "1"], "columns 0 and 1 are both named '1'"),
        (["a", "b\x1b[31m"], "holds characters that do not print"),
        (pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]), "has 2 header levels"),
    ],
)
def test_names_that_are_refused(names: Any, reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        Table.from_frame(pd.DataFrame(np.ones((5, 2)), columns=names))


def test_names_that_are_numbers_become_text() -> None:
    table = Table.from_frame(pd.DataFrame(np.ones((5, 2))))
    assert table.schema.names == ("0", "1")
    assert table.assumed == ("columns whose names are no text are named 0, 1",)


@pytest.mark.parametrize("frame", [pd.DataFrame(), pd.DataFrame({"a": [None, None]})])
def test_nothing_to_read_is_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(BenchError, match="column"):
        Table.from_frame(frame)


# What a method imputed


def test_an_imputed_frame_is_aligned_by_its_index(tiny_table: Table) -> None:
    from bench.data.frame import scalars_to_frame

    frame = scalars_to_frame(tiny_table.scalars, tiny_table.schema)
    shuffled = Values.from_frame(frame.sample(frac=1, random_state=0), tiny_table.schema)
    np.testing.assert_array_equal(shuffled.scalars, tiny_table.scalars)


@pytest.mark.parametrize("index", [range(1, 41), [f"r{n}" for n in range(40)], [0] * 40, [*range(39), "a"]])
def test_another_index_is_refused(tiny_table: Table, index: Any) -> None:
    from bench.data.frame import scalars_to_frame

    frame = scalars_to_frame(tiny_table.scalars, tiny_table.schema)
    frame.index = pd.Index(index)
    with pytest.raises(BenchError, match=r"the index of the imputed DataFrame is not that of frame\(\), 0 to 39"):
        Values.from_frame(frame, tiny_table.schema)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f.assign(height="tall"), "column 'height' is not all numbers"),
        (lambda f: f.assign(height=1j), "column 'height' is not all numbers"),
        (lambda f: f.assign(height=np.inf), "column 'height' holds an infinite value"),
        (lambda f: f.assign(size="huge"), "column 'size' holds category 'huge'"),
        (lambda f: f.drop(columns="size"), "column 'size' is missing"),
        (lambda f: pd.concat([f, f["size"]], axis=1), "column 'size' is in the DataFrame 2 times"),
    ],
)
def test_imputed_frames_that_are_refused(tiny_table: Table, change: Any, reason: str) -> None:
    from bench.data.frame import scalars_to_frame

    frame = scalars_to_frame(tiny_table.scalars, tiny_table.schema)
    with pytest.raises(BenchError, match=reason):
        Values.from_frame(change(frame), tiny_table.schema)
