"""The words of a table: cells, labels and notes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.experiment.reader import load_spec, parse_spec
from bench.experiment.specs import TableSpec
from bench.report import collect
from bench.report.latex import latex_table
from bench.report.markdown import markdown_table
from bench.report.text import cell_text, column_label, entry_notes, notes
from tests.report.golden import PUBLISHED, SPEC, seeds_of, stored


@pytest.mark.parametrize(("spread", "text"), [(0.0004, "0.300 ± Δ"), (0.0006, "0.300 ± 0.001"), (0.0, "0.300 ± Δ")])
def test_a_tiny_spread_prints_as_delta(spec: TableSpec, spread: float, text: str) -> None:
    table = collect(spec, seeds_of("vsae", "mushroom", "pfc", [0.3 - spread, 0.3, 0.3 + spread]))
    assert cell_text(table, table.cell(0, 1, 2)).text == text


def test_the_note_of_a_row_stands_under_the_tables_that_show_it() -> None:
    told = [note.text for note in notes(collect(load_spec("6"), []))]
    assert sum(text.startswith("GAIN: categories by softmax and cross-entropy") for text in told) == 1
    assert not any(note.text.startswith("GAIN:") for note in notes(collect(load_spec("5"), [])))


def test_a_note_says_how_many_entries_were_scored() -> None:
    text = SPEC.replace('metric = "nrmse_std"', 'metric = "mse"\nattribute = "text"\ncount_entries = true')
    text = text.replace('dataset = "mushroom"', 'dataset = "mushroom"\ncount_entries = true')
    rows = [
        stored("vsae", "yeast", seed, {}, attributes={"text": {"mse": 0.1, "entries": 12 + seed}, "sound": {}})
        for seed in (0, 2)
    ]
    rows += [stored("mean_mode", "yeast", 1, {}, attributes={"text": {"mse": 0.1, "entries": 9}})]
    rows += [replace(row, counts={"entries": 70}) for row in seeds_of("vsae", "mushroom", "pfc", [0.1])]
    table = collect(parse_spec(text, "t"), rows)
    assert entry_notes(table) == [
        "Scored entries of Yeast RMSE / SD: 12 (seed 0), 9 (seed 1), 14 (seed 2).",
        "Scored entries of Mushroom categorical: 70 (seed 0).",
    ]
    assert entry_notes(table)[0] in markdown_table(table)
    assert entry_notes(collect(parse_spec(SPEC, "t"), rows)) == []
    assert [column.count_entries for column in load_spec("11").columns] == [False, False, True]


def test_a_stand_in_is_marked_in_every_column_and_compares_with_nothing() -> None:
    spec = parse_spec(SPEC, "t").model_copy(update={"stand_ins": {"yeast": "made_up"}})
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.1] * 3) + seeds_of("vsae", "made_up", "nrmse_rel", [0.3] * 3)
    table = collect(spec, rows, PUBLISHED)
    cell = table.cell(0, 1, 0)
    assert cell.values == (0.3,) * 3
    assert (cell.published, cell.difference, cell.published_verdict) == (None, None, "")
    assert table.cell(0, 1, 2).published is not None
    assert [column_label(table, column).marks for column in range(3)] == ["§", "§", ""]
    told = "SYNTHETIC: made_up takes the place of yeast. It says nothing about that data set, and is never compared"
    assert f"- <sup>§</sup> {told}".replace("made_up", r"made\_up") in markdown_table(table, True)
    assert r"numerical\textsuperscript{\S{}}" in latex_table(table, True)
    assert "§" not in markdown_table(collect(parse_spec(SPEC, "t"), rows, PUBLISHED), True)
