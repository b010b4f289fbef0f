"""Counts and comparisons over the cells of a table."""

from __future__ import annotations

import pytest

from bench.errors import BenchError
from bench.experiment.reader import parse_spec
from bench.report import ReportTable, collect
from bench.report.prose import compared, judged, means_text, row_cells
from tests.report.golden import SPEC, seeds_of


def test_what_was_compared_with_the_floor_is_counted(golden: ReportTable) -> None:
    assert str(judged(golden.cells, published=True)) == "1 of 2"
    assert str(judged(golden.cells)) == "0 of 5"


def test_cells_of_a_row_are_found_by_label_and_header(golden: ReportTable) -> None:
    assert means_text(row_cells(golden, "Mean/mode"), 2) == "0.42, 0.99, 0.41"
    assert means_text(row_cells(golden, "Forest", "Mushroom"), 3) == "–"
    with pytest.raises(BenchError, match=r"golden has no row 'Forrest'. Did you mean 'Forest'\?"):
        row_cells(golden, "Forrest")


@pytest.mark.parametrize("direction", ["min", "max"])
def test_rows_are_compared_in_columns_that_both_have(direction: str) -> None:
    text = SPEC.replace("[format]", f'[format]\nbest = "{direction}"')
    rows = [
        # Lower by 0.02, with a standard deviation of 0.01.
        *seeds_of("vsae", "mushroom", "pfc", [0.37, 0.38, 0.39]),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.40, 0.40, 0.40]),
        # Lower by less than the other row's standard deviation.
        *seeds_of("vsae", "yeast", "nrmse_rel", [0.30, 0.30, 0.30]),
        *seeds_of("mean_mode", "yeast", "nrmse_rel", [0.30, 0.32, 0.34]),
    ]
    table = collect(parse_spec(text, "t"), rows)
    lower, higher = compared(table, "VSAE_x", "Mean/mode"), compared(table, "Mean/mode", "VSAE_x")
    better, worse = (lower, higher) if direction == "min" else (higher, lower)
    assert [cell.spec.column for cell in better.cells] == [cell.spec.column for cell in worse.cells] == [0, 2]
    assert [cell.spec.column for cell in better.better] == [0, 2] and worse.better == ()
    assert [cell.spec.column for cell in better.by_more_than_sd] == [2] and worse.by_more_than_sd == ()
