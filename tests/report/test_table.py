"""From results to the cells of a table: presets, seeds, spread, and what has no number."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from bench.errors import BenchError
from bench.experiment.reader import load_spec, parse_spec, table_ids
from bench.experiment.result import Result
from bench.experiment.specs import TableSpec
from bench.paths import shipped_rows_folder
from bench.report import ReportCell, ReportTable, asked_of_store, collect
from bench.report.csv import csv_table
from bench.report.latex import latex_table
from bench.report.markdown import markdown_table
from bench.report.text import cell_text, notes
from bench.run.store import Store
from tests.report.golden import PUBLISHED, SPEC, golden_rows, seeds_of, stored


def test_the_order_of_the_rows_changes_nothing(spec: TableSpec, golden: ReportTable) -> None:
    assert collect(spec, reversed(golden_rows()), PUBLISHED) == golden


def test_the_spread_is_the_sample_standard_deviation(spec: TableSpec) -> None:
    cell = collect(spec, seeds_of("vsae", "mushroom", "pfc", [0.1, 0.2, 0.4])).cell(0, 1, 2)
    assert cell.mean == pytest.approx(0.7 / 3)
    # Squared deviations sum to 0.14 / 3; the divisor is n - 1 = 2.
    assert cell.sd == pytest.approx((0.14 / 3 / 2) ** 0.5)
    assert cell.n == 3 and cell.seeds == (0, 1, 2) and cell.status == "ok"


def test_the_processor_time_of_a_seed_is_its_share_of_its_job(spec: TableSpec) -> None:
    """A job of three seeds and one of a seed alone: (9 / 3 + 9 / 3 + 6) / 3 seconds per seed."""
    rows = seeds_of("vsae", "mushroom", "pfc", [0.1, 0.2, 0.4])
    stack = tuple(row.key for row in rows)
    timed = [replace(row, processor_seconds=9.0, stack=stack) for row in rows[:2]]
    timed.append(replace(rows[2], processor_seconds=6.0, stack=(rows[2].key,)))
    table = collect(spec, timed)
    assert table.cell(0, 1, 2).processor_seconds == pytest.approx(4.0)
    (record,) = (line for line in csv.DictReader(io.StringIO(csv_table(table))) if line["mean"])
    assert float(record["processor_seconds"]) == pytest.approx(4.0)
    # One that does not say leaves the mean unknown.
    assert collect(spec, [*timed[:2], rows[2]]).cell(0, 1, 2).processor_seconds is None


def test_presets_are_never_mixed(spec: TableSpec) -> None:
    quick = seeds_of("vsae", "mushroom", "pfc", [0.1, 0.1, 0.1]) + seeds_of("mean_mode", "mushroom", "pfc", [0.2] * 3)
    paper = seeds_of("vsae", "mushroom", "pfc", [0.5, 0.5, 0.5], preset="paper")
    fullest = collect(spec, quick + paper)
    assert fullest.preset == "quick"
    assert fullest.cell(0, 1, 2).mean == pytest.approx(0.1)
    chosen = collect(spec, quick + paper, preset="paper")
    assert chosen.preset == "paper"
    assert chosen.cell(0, 1, 2).mean == 0.5
    assert chosen.cell(0, 3, 2).status == "missing"
    assert collect(spec, quick, preset="smoke").cell(0, 1, 2).status == "missing"
    with pytest.raises(BenchError, match="unknown preset 'papper'. Did you mean 'paper'"):
        collect(spec, quick, preset="papper")


def test_a_number_that_another_preset_moves_beyond_the_spread_is_marked(spec: TableSpec) -> None:
    floor = seeds_of("mean_mode", "mushroom", "pfc", [0.6] * 3)
    quick = [*seeds_of("vsae", "mushroom", "pfc", [0.30, 0.31, 0.32]), *floor]

    def shown(values: list[float], **changes: object) -> tuple[tuple[str, ...], str]:
        other = seeds_of("vsae", "mushroom", "pfc", values, **{"preset": "paper", **changes})
        table = collect(spec, [*quick, *other])
        assert table.preset == "quick"
        cell = table.cell(0, 1, 2)
        return cell.disagreeing, cell_text(table, cell).marks

    assert shown([0.20, 0.21, 0.22]) == (("paper",), "≠")
    assert shown([0.30, 0.31, 0.335]) == ((), "")
    # More than one spread, less than the other.
    assert shown([0.20, 0.28, 0.36]) == ((), "")
    assert shown([0.20]) == shown([0.1, 0.1, 0.1], preset="smoke") == ((), "")
    assert shown([0.20, 0.21, 0.22], method_version=2) == shown([0.2, 0.2, 0.2], engine=2) == ((), "")
    table = collect(spec, [*quick, *seeds_of("vsae", "mushroom", "pfc", [0.2] * 3, preset="paper")], preset="quick")
    assert "≠ another number under paper, by more than the spread." in notes(table)
    (record,) = (line for line in csv.DictReader(io.StringIO(csv_table(table))) if line["disagreeing_presets"])
    assert (record["row"], record["disagreeing_presets"]) == ("VSAE_x", "paper")


def test_equally_full_presets_give_way_to_more_seeds_and_then_to_the_larger_budget(spec: TableSpec) -> None:
    def rows(preset: str, count: int) -> list[Result]:
        return seeds_of("vsae", "mushroom", "pfc", [0.1] * count, preset=preset)

    assert collect(spec, rows("smoke", 3) + rows("paper", 3) + rows("quick", 3)).preset == "paper"
    assert collect(spec, rows("smoke", 2) + rows("quick", 3) + rows("paper", 2)).preset == "quick"
    assert collect(spec, rows("smoke", 3) + rows("quick", 3)).preset == "quick"
    assert collect(spec, []).preset is None


@pytest.mark.parametrize("preset", [None, "quick", "paper"])
@pytest.mark.parametrize("name", table_ids())
def test_what_a_store_is_asked_for_gives_the_table_that_all_of_its_rows_give(name: str, preset: str | None) -> None:
    store, spec = Store(shipped_rows_folder()), load_spec(name)
    one_seed = spec.model_copy(update={"seeds": spec.seeds[1:2]})
    for asking in (spec, one_seed):
        question = asked_of_store(asking)
        asked, every = list(store.rows(**question)), store.rows(question["datasets"], question["methods"])
        assert collect(asking, asked, None, preset) == collect(asking, every, None, preset)
    assert {row.cell.seed for row in store.rows(**asked_of_store(one_seed))} <= {1}
    if name == "table06" and preset != "paper":
        assert 0 < len(asked) < len(list(store.rows())) / 2


def test_what_has_no_number_says_why(spec: TableSpec) -> None:
    rows = [
        *(stored("vsae", "mushroom", s, status="skipped", reason="data not obtained") for s in range(3)),
        *seeds_of("mean_mode", "mushroom", "mse", [0.1] * 3),
        stored("vsae", "yeast", 0, status="failed", reason="A"),
        stored("vsae", "yeast", 1, {"nrmse_rel": 0.1, "nrmse_std": float("nan")}),
        stored("vsae", "yeast", 2, status="failed", reason="B"),
    ]
    table = collect(spec, rows, known_methods={"vsae": {"default"}, "mean_mode": {"default"}, "forest": {"default"}})
    marks = dict(table.footnotes)

    def shown(row: int, column: int) -> tuple[str, str, str]:
        cell = table.cell(0, row, column)
        return cell.status, cell_text(table, cell).text, marks.get(cell.mark, "")

    assert shown(0, 2) == ("missing", "–", "")
    assert shown(2, 2) == ("unavailable", "n/a", "")
    assert shown(1, 2) == ("skipped", "—", "skipped: data not obtained")
    assert shown(3, 2) == ("unscored", "—", "no 'pfc' of 'all' to score")
    partial = "n = 1 of 3 seeds: seed 0 failed: A; seed 2 failed: B"
    assert shown(1, 0) == ("partial", "0.100", partial)
    failed = "seed 0 failed: A; seed 1 no 'nrmse_std' of 'all' to score; seed 2 failed: B"
    assert shown(1, 1) == ("failed", "—", failed)
    assert len({mark for mark, _ in table.footnotes}) == len(table.footnotes) == 4
    for text in (latex_table(table), markdown_table(table)):
        assert "n/a method not available" in text and "data not obtained" in text


def test_a_failure_that_was_mended_by_a_rerun_is_no_failure(spec: TableSpec) -> None:
    failed = [stored("vsae", "mushroom", s, status="failed", reason="x") for s in range(3)]
    mended = seeds_of("vsae", "mushroom", "pfc", [0.1] * 3)
    for rows in (failed + mended, mended + failed):
        assert collect(spec, rows).cell(0, 1, 2).status == "ok"


def test_a_row_of_other_presets_is_left_out_unless_it_was_run() -> None:
    text = SPEC.replace('method = "odd"', 'method = "odd"\npresets = ["paper"]')
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.3] * 3) + seeds_of("mean_mode", "yeast", "nrmse_rel", [0.4] * 3)
    odd = seeds_of("odd", "yeast", "nrmse_rel", [0.2] * 3, overrides={"posterior": "draw"})
    labels = ["Forest", "VSAE_x", "Mean/mode"]
    table = collect(parse_spec(text, "t"), rows)
    assert [row.label for row in table.spec.rows] == labels
    assert (table.cell(0, 1, 0).best, table.cell(0, 2, 0).verdict) == (True, "floor")
    assert "Odd" not in markdown_table(table)
    table = collect(parse_spec(text, "t"), [*rows, *odd])
    assert [row.label for row in table.spec.rows] == [*labels[:2], "Odd", labels[2]]
    assert table.cell(0, 2, 0).best
    large = [replace(row, cell=replace(row.cell, preset="paper")) for row in rows]
    assert len(collect(parse_spec(text, "t"), large).spec.rows) == 4
    assert len(collect(parse_spec(text, "t"), []).spec.rows) == 4


def test_data_that_is_not_here_is_said_where_there_are_no_rows(spec: TableSpec) -> None:
    rows = seeds_of("vsae", "yeast", "nrmse_rel", [0.3] * 3)
    table = collect(spec, rows, unobtained={"yeast": "put it there", "mushroom": "ask for it"})
    assert {cell.status for cell in table.cells if cell.spec.dataset == "mushroom"} == {"unobtained"}
    assert table.cell(0, 1, 0).values == (0.3,) * 3 and table.cell(0, 1, 0).mark == ""
    text = markdown_table(table)
    assert "| no data<sup>b</sup> |" in text
    assert "b data not obtained: ask for it" in text


def test_scores_come_from_a_scope_or_from_an_attribute() -> None:
    text = SPEC.replace('metric = "nrmse_rel"', 'metric = "mse"\nattribute = "image"')
    text = text.replace('metric = "nrmse_std"', 'metric = "mse"\nattribute = "nothing_observed"')
    rows = seeds_of("vsae", "yeast", "mse", [9.0] * 3, attributes={"image": {"mse": 0.1}})
    rows = [replace(row, metrics={**row.metrics, "nothing_observed": {"mse": 0.2}}) for row in rows]
    table = collect(parse_spec(text, "t"), rows)
    assert table.cell(0, 1, 0).values == (0.1,) * 3
    assert table.cell(0, 1, 1).values == (0.2,) * 3


def test_a_cell_without_values_has_no_mean(spec: TableSpec) -> None:
    cell = ReportCell(spec.cells()[0], "missing", 3)
    assert cell.mean is None and cell.sd is None and cell.n == 0 and cell.difference is None


def test_results_of_other_code_are_marked_and_never_the_best(spec: TableSpec) -> None:
    values = seeds_of("vsae", "mushroom", "pfc", [0.1, 0.2, 0.3])
    rows = [replace(result, plugin_sources={"method": "old"}) for result in values]
    rows += seeds_of("mean_mode", "mushroom", "pfc", [0.7, 0.8, 0.9], parameters={})
    for code, stale in (
        ({}, ()),
        ({("method", "vsae"): "old"}, ()),
        ({("method", "vsae"): "new", ("method", "other"): "x"}, (0, 1, 2)),
    ):
        table = collect(spec, rows, code=code)
        cell, floor = table.cell(0, 1, 2), table.cell(0, 3, 2)
        assert cell.mean == pytest.approx(0.2)
        assert (cell.stale, cell.best, floor.best) == (stale, not stale, bool(stale))
        told = [note for note in notes(table) if "not of its code as it is now" in note]
        assert len(told) == bool(stale)
        assert all("a vsae, seeds 0, 1, 2: not of its code as it is now; run it again" in note for note in told)


def test_values_of_rows_without_a_digest_are_counted_in_one_note(spec: TableSpec) -> None:
    rows = seeds_of("vsae", "mushroom", "pfc", [0.1, 0.2, 0.3])
    assert not any("unverified" in note for note in notes(collect(spec, rows)))
    older = [replace(rows[0], verified=False), *rows[1:]]
    (told,) = (note for note in notes(collect(spec, older)) if "unverified" in note)
    assert told.endswith("unverified: 1 of 3 values are of rows that an older version stored, without a digest.")


DRAWS = """
id = "draws"
title = "Draws"
label = "tab:draws"
rows = [
  { label = "One", method = "one" },
  { label = "Two", method = "two" },
  { label = "Blind", method = "hot_deck", floor = true },
]
columns = [
  { label = "CRPS", metric = "crps" },
  { label = "in 90 %", metric = "coverage_90", best = "none" },
  { label = "CRPS of a", metric = "crps", attribute = "a" },
  { label = "PFC", metric = "pfc" },
]
[defaults]
dataset = "yeast"
mechanism = "mcar"
ratio = 0.5
"""


def with_draws(method: str, crps: float, coverage: float) -> list[Result]:
    """Return rows of three seeds with what their draws score."""
    rows = []
    for seed in range(3):
        own = {"crps": crps + 0.01 * seed, "coverage_90": coverage, "energy_distance": 0.5}
        draws = {"draws": 50, "all": own, "attributes": {"a": {"entries": 7, "crps": 2 * crps}}}
        rows.append(stored(method, "yeast", seed, {"pfc": 0.3}, draws=draws, parameters={}))
    return rows


def test_scores_of_draws_are_columns_of_a_table_and_of_its_csv() -> None:
    rows = [*with_draws("one", 0.2, 0.95), *with_draws("hot_deck", 0.4, 0.9)]
    # The second method draws nothing, and its row is of a time before draws were scored.
    rows += seeds_of("two", "yeast", "pfc", [0.1] * 3, parameters={})
    table = collect(parse_spec(DRAWS, "t"), rows)
    assert table.cell(0, 0, 0).mean == pytest.approx(0.21)
    assert table.cell(0, 0, 1).values == (0.95,) * 3
    assert table.cell(0, 0, 2).mean == pytest.approx(0.4)
    assert (table.cell(0, 1, 0).status, table.cell(0, 1, 3).status) == ("unscored", "ok")
    assert "no 'crps' of 'all' to score" in table.cell(0, 1, 0).reason
    # A coverage has no best, and is no better or worse than the floor's.
    assert [table.cell(0, row, 0).best for row in range(3)] == [True, False, False]
    assert not any(table.cell(0, row, 1).best for row in range(3))
    assert (table.cell(0, 0, 0).verdict, table.cell(0, 0, 1).verdict) == ("better than floor", "")
    records = list(csv.DictReader(io.StringIO(csv_table(table))))
    by_cell = {(record["row"], record["column"]): record for record in records}
    # Whatever the metric of a column is, the scores of draws stand beside it.
    assert float(by_cell["One", "PFC"]["crps"]) == pytest.approx(0.21)
    assert by_cell["One", "PFC"]["energy_distance"] == "0.5" and by_cell["One", "PFC"]["brier"] == ""
    assert float(by_cell["One", "CRPS of a"]["crps"]) == pytest.approx(0.4)
    assert by_cell["Two", "PFC"]["crps"] == by_cell["Two", "PFC"]["coverage_90"] == ""
