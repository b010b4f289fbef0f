"""The door: rules that hold a table off every method alike, and what a result is to warn of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from bench.api import BenchError, Dataset, Kind, Table
from bench.data.door import notes_of, require_float32, require_kinds, require_rows, require_sound
from bench.data.parts import part_sizes
from bench.files.fetch import content_of, load_sound, load_table
from bench.problem.build import split_rows

NUMBERS: tuple[Kind, ...] = ("numeric",)
CATEGORIES: tuple[Kind, ...] = ("categorical",)
KINDS: tuple[Kind, ...] = ("numeric", "categorical")


def numbers(values: Any) -> Table:
    return Table.from_frame(pd.DataFrame({"a": values}))


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.0, 1e39], "'a' reaches 1e\\+39, more than float32 holds"),
        ([1e300] * 2, "'a' reaches 1e\\+300"),
        ([0.0, 1e-40], "'a' varies by 1e-40, less than float32 holds"),
    ],
)
def test_numbers_beyond_float32_are_refused(values: list[float], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        require_float32(numbers(values))


def test_numbers_far_from_zero_are_warned_of() -> None:
    spread = np.random.default_rng(0).normal(size=50)
    assert notes_of(numbers(spread + 1e8)) == []
    (told,) = notes_of(numbers(spread + 3e15))
    assert told.startswith("far from 0, so that float64") and "of a standard deviation: a; subtract" in told


def test_notes_are_bounded() -> None:
    table = Table.from_frame(pd.DataFrame({f"c{n}": ["1", "2"] * 4 for n in range(50)}))
    assert len(table.assumed) == 50
    assert len(notes_of(table)) == 11 and notes_of(table)[-1] == "40 more notes like these"


@pytest.mark.parametrize("rows", range(40))
def test_part_sizes_are_those_of_the_split(rows: int) -> None:
    table = Table.from_frame(pd.DataFrame({"a": np.arange(float(rows))}))
    split = split_rows(table, np.random.default_rng(0))
    assert part_sizes(rows) == (len(split.train), len(split.validation), len(split.test))
    if min(part_sizes(rows)) > 0:
        require_rows(table)
    else:
        with pytest.raises(BenchError, match=f"of its {rows} rows none is left for"):
            require_rows(table)


def test_undeclared_kinds_are_refused() -> None:
    with pytest.raises(BenchError, match="'a' is categorical, but the data set declares numeric only; add 'categor"):
        require_kinds(numbers(["x", "y"]), NUMBERS)
    with pytest.raises(BenchError, match="or make it a category with astype"):
        require_kinds(numbers([1, 2]), CATEGORIES)


def test_a_sound_table_passes(tiny_table: Table) -> None:
    require_sound(tiny_table, KINDS)
    assert notes_of(tiny_table) == []


class Few(Dataset):
    """Three rows."""

    name = "few"

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        return pd.DataFrame({"a": [1.0, 2.0, 3.0]})


class Raises(Dataset):
    """Has an error in it."""

    name = "raises"

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        raise KeyError("no such\ncolumn \x1b[31m")


class EmptyTarget(Dataset):
    """Has a target without a value."""

    name = "empty_target"
    target: ClassVar[str | None] = "t"

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame | Table:
        return pd.DataFrame({"a": np.arange(9.0), "t": [None] * 9})


@pytest.mark.parametrize("enter", [load_sound, content_of])
def test_the_door_names_the_data_set(enter: Callable[[Dataset], Any]) -> None:
    with pytest.raises(BenchError, match="data set 'few': of its 3 rows none is left for"):
        enter(Few())


def test_an_error_in_a_plug_in_is_one_line_with_its_place() -> None:
    with pytest.raises(BenchError) as caught:
        load_table(Raises())
    line = str(caught.value)
    assert line.startswith("data set 'raises' cannot be loaded: KeyError: ") and "(test_door.py:" in line
    assert line.isprintable()


def test_a_target_without_a_value_is_left_out_with_the_others() -> None:
    assert load_sound(EmptyTarget()).table.schema.names == ("a",)
