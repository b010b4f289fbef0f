"""The words of a table: cells, labels and notes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.experiment.reader import load_spec, parse_spec, table_ids
from bench.experiment.specs import TableSpec
from bench.report import collect, read_published
from bench.report.latex import latex_table
from bench.report.markdown import markdown_table
from bench.report.text import MOST_REASONS, cell_text, column_label, entry_notes, notes
from tests.report.golden import PUBLISHED, SPEC, filled, seeds_of, stored


@pytest.mark.parametrize(("spread", "text"), [(0.0004, "0.300 ± Δ"), (0.0006, "0.300 ± 0.001"), (0.0, "0.300 ± Δ")])
def test_a_tiny_spread_prints_as_delta(spec: TableSpec, spread: float, text: str) -> None:
    table = collect(spec, seeds_of("vsae", "mushroom", "pfc", [0.3 - spread, 0.3, 0.3 + spread]))
    assert cell_text(table, table.cell(0, 1, 2)).text == text


def test_the_note_of_a_row_stands_under_the_tables_that_show_it() -> None:
    told = notes(collect(load_spec("6"), []))
    assert sum("GAIN: categories by softmax and cross-entropy" in text for text in told) == 1
    assert not any("GAIN:" in note for note in notes(collect(load_spec("5"), [])))


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
    assert entry_notes(table)[0] not in markdown_table(table)
    extended = table.spec.model_copy(update={"extended_notes": ("More.",)})
    assert entry_notes(table)[0] in markdown_table(replace(table, spec=extended))
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
    assert f"- § {told}".replace("made_up", r"made\_up") in markdown_table(table, True)
    assert r"numerical\textsuperscript{\S{}}" in latex_table(table, True)
    assert "§" not in markdown_table(collect(parse_spec(SPEC, "t"), rows, PUBLISHED), True)


def test_a_table_in_the_papers_layout_has_at_most_five_short_notes() -> None:
    for name in table_ids():
        spec = load_spec(name).in_paper_layout()
        for rows in ([], filled(spec)):
            told = notes(collect(spec, rows, read_published()), published=True)
            assert len(told) <= 5 and all(len(note) < 480 for note in told), name


def test_many_reasons_are_cut_and_counted(spec: TableSpec) -> None:
    rows = [
        stored(method, data, seed, status="failed", reason=f"{method} {seed} {'broke ' * 40}")
        for method, data in (("vsae", "yeast"), ("vsae", "mushroom"), ("mean_mode", "yeast"), ("mean_mode", "mushroom"))
        for seed in range(1 + (data == "yeast"))
    ] + [stored("forest", "yeast", 0, status="failed", reason="it broke", protocol="transductive")]
    table = collect(spec, rows)
    assert len(table.footnotes) > MOST_REASONS
    (told,) = (note for note in notes(table) if "broke" in note)
    assert f"{len(table.footnotes) - MOST_REASONS} more reasons in the CSV" in told and len(told) < 900


@pytest.mark.parametrize(
    ("diagnostics", "mark"),
    [
        ({"best_epoch": 98, "epochs": 100, "best_validation_error": 0.5}, "↗"),
        ({"best_epoch": 50, "epochs": 100, "best_validation_error": 0.995}, "↓"),
        ({"best_epoch": 100, "epochs": 100, "chosen_by": "last epoch"}, "#"),
        ({"best_epoch": 50, "epochs": 100, "best_validation_error": 0.5}, ""),
    ],
)
def test_a_training_is_marked_in_its_cell(spec: TableSpec, diagnostics: dict[str, object], mark: str) -> None:
    rows = seeds_of("vsae", "mushroom", "pfc", [0.3] * 3)
    rows[1] = replace(rows[1], diagnostics=diagnostics)
    table = collect(spec, rows)
    assert cell_text(table, table.cell(0, 1, 2)).marks == mark
    assert sum(note.startswith(f"In at least one seed: {mark}") for note in notes(table)) == bool(mark)
