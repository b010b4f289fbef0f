"""What cells are judged by: the floor, the best of a column, the published numbers."""

from __future__ import annotations

import pytest

from bench.experiment.reader import load_spec, parse_spec
from bench.experiment.specs import TableSpec
from bench.report import collect, read_published
from bench.report.published import PublishedValue
from bench.report.text import cell_text, notes, published_cell
from tests.report.golden import PUBLISHED, SPEC, key, seeds_of, stored


def test_bold_is_the_best_of_all_complete_rows_ties_and_floor_included(spec: TableSpec) -> None:
    rows = [
        *seeds_of("forest", "mushroom", "pfc", [0.30004] * 3, protocol="transductive"),
        *seeds_of("vsae", "mushroom", "pfc", [0.1, 0.1]),
        *seeds_of("odd", "mushroom", "pfc", [0.31] * 3, overrides={"posterior": "draw"}),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.3] * 3),
    ]
    table = collect(spec, rows)
    assert [table.cell(0, row, 2).best for row in range(4)] == [True, False, False, True]
    highest = parse_spec(SPEC.replace("[format]", '[format]\nbest = "max"'), "t")
    table = collect(highest, rows)
    assert [table.cell(0, row, 2).best for row in range(4)] == [False, False, True, False]
    assert [table.cell(0, row, 2).verdict for row in (0, 1, 2)] == [
        "no better than floor",
        "no better than floor",
        "better than floor",
    ]


def test_cells_are_judged_by_the_floor_at_the_printed_precision(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "yeast", "nrmse_rel", [0.4199] * 3),
        *seeds_of("mean_mode", "yeast", "nrmse_rel", [0.42004] * 3),
        # On the one seed it has, this one is worse than the floor, and better than the floor's mean.
        stored("vsae", "mushroom", 0, {"pfc": 0.30}),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.25, 0.35, 0.45]),
    ]
    published = {**PUBLISHED, key("VSAE", "Yeast", "nrmse"): PublishedValue("0.420")}
    table = collect(spec, rows, published)
    assert table.cell(0, 1, 0).verdict == "no better than floor"
    assert table.cell(0, 1, 0).published_verdict == "no better than floor"
    assert table.cell(0, 0, 0).published_verdict == "no better than floor"
    assert table.cell(0, 1, 2).verdict == "no better than floor"
    assert table.cell(0, 3, 0).verdict == "floor"
    assert table.cell(0, 1, 0).difference == pytest.approx(-0.0001)
    assert table.cell(0, 1, 0).floor == pytest.approx(0.42004)
    assert table.cell(0, 1, 1).floor is None and table.cell(0, 1, 1).verdict == ""
    # The marks say the same: ours that is no better, and the paper's.
    assert cell_text(table, table.cell(0, 1, 0)).marks == "⊥"
    assert published_cell(table, table.cell(0, 1, 0)).marks == "○"
    told = "○ published value no better than our floor; ⊥ ours no better than the floor."
    assert notes(table, published=True)[0].endswith(told)
    assert notes(table)[0] == "⊥ ours no better than the floor."


@pytest.mark.parametrize(
    ("values", "mark", "meaning"),
    [
        ([0.419, 0.419, 0.4191], "=", "= reproduced"),
        ([0.30, 0.301, 0.302], "+", "+ better"),
        ([0.55, 0.551, 0.552], "−", "− worse"),
        ([0.30, 0.40, 0.55], "?", "? undecided"),
    ],
)
def test_the_verdict_on_a_published_number_is_a_mark_in_the_cell(
    spec: TableSpec, values: list[float], mark: str, meaning: str
) -> None:
    rows = [*seeds_of("vsae", "mushroom", "pfc", values), *seeds_of("mean_mode", "mushroom", "pfc", [0.6] * 3)]
    table = collect(spec, rows, PUBLISHED)
    cell = table.cell(0, 1, 2)
    assert cell_text(table, cell, published=True).marks == mark and cell_text(table, cell).marks == ""
    assert notes(table, published=True)[0] == f"Ours beside the paper's: {meaning}."


def test_numbers_that_do_not_compare_are_shown_and_not_judged() -> None:
    text = SPEC.replace('metric = "nrmse" }', 'metric = "nrmse", comparable = false }')
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.3] * 3) + seeds_of("mean_mode", "yeast", "nrmse_rel", [0.4] * 3)
    table = collect(parse_spec(text, "t"), rows, PUBLISHED)
    cell = table.cell(0, 1, 0)
    assert cell.published is not None and cell.difference is None and cell.published_verdict == ""
    assert all(not cell.published_verdict for cell in collect(load_spec("11"), [], read_published()).cells)
