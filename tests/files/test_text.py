"""Readers of delimited text, tables of numbers, and what is computed of feature sequences."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from bench.api import BenchError, in_units_of, mean_over_steps, read_numbers, typed_frame
from bench.files.text import level_of
from tests.sources import COLUMNS


def test_levels_are_found_in_any_notation_of_a_number() -> None:
    assert level_of("1.0", ("0", "1")) == "1"
    assert level_of("-1", ("-1", "1")) == "-1"
    assert level_of("?", ("a", "?")) == "?"
    assert level_of("?", ("a", "b")) is None
    for text in ("2.0", "1.5", "nan", "a"):
        with pytest.raises(ValueError, match="none of 0, 1"):
            level_of(text, ("0", "1"))


def test_typed_frame_declares_levels_and_names_what_does_not_fit() -> None:
    frame = typed_frame([["1", "red", "?"], ["", "", "yes"]], COLUMNS)
    assert list(frame["colour"].cat.categories) == ["blue", "green", "red"]
    assert frame["size"].dtype == np.float64
    np.testing.assert_array_equal(frame.isna(), [[False, False, True], [True, True, False]])
    with pytest.raises(BenchError, match="data row 2, column 'colour': 'pink' is none of blue, green, red"):
        typed_frame([["1", "red", "no"], ["1", "pink", "no"]], COLUMNS)
    with pytest.raises(BenchError, match="data row 1, column 'size'"):
        typed_frame([["one", "red", "no"]], COLUMNS)
    with pytest.raises(BenchError, match="data row 2 has 2 fields instead of 3"):
        typed_frame([["1", "red", "no"], ["1", "red"]], COLUMNS)


def test_numbers_may_be_quoted_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"1.5","-2"\n"0.0","1e3"\n')
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.csv"), [[1.5, -2], [0, 1000]])
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"1,2\n"))
    np.testing.assert_array_equal(read_numbers(tmp_path / "b.csv.gz"), [[1, 2]])
    (tmp_path / "a.csv").write_text("1,2\n1,x\n")
    with pytest.raises(BenchError, match="a.csv is not a table of numbers"):
        read_numbers(tmp_path / "a.csv")


def test_mean_over_steps_leaves_padding_out() -> None:
    sequences = np.zeros((3, 4, 2))
    sequences[0, 2:] = [[1, 2], [3, 0]]
    sequences[1] = [[1, 1], [1, 1], [1, 1], [5, 1]]
    np.testing.assert_array_equal(mean_over_steps(sequences), [[2, 1], [2, 1], [0, 0]])


def test_unit_is_a_percentile_of_the_reference() -> None:
    reference = np.stack([np.linspace(-100, 100, 201), np.zeros(201)], axis=1)
    scaled = in_units_of(np.array([[50.0, 3.0]]), reference, 100)
    np.testing.assert_array_equal(scaled, [[0.5, 3.0]])
    assert in_units_of(np.array([[50.0, 3.0]]), reference, 99)[0, 0] == pytest.approx(50 / 99, rel=0.01)
