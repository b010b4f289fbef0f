"""Every published number gets one verdict, whatever cells of ours stand beside it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache

import pytest

from bench.experiment.expand import sets_of
from bench.experiment.reader import load_spec, parse_spec, table_ids
from bench.paths import shipped_rows_folder
from bench.plugins.registry import Registry
from bench.report import ReportTable, asked_of_store, collect, read_published
from bench.report.rules.cells import MARKS, VERDICTS
from bench.report.verdicts.compare import as_json, judge, require
from bench.report.verdicts.page import order_line, ours_text, reasons, summary
from bench.run.store import Store
from tests.report.golden import PUBLISHED, SPEC, seeds_of

TWO_CANDIDATES = SPEC.replace(
    'published = { dataset = "Yeast", metric = "nrmse" }', 'published = { dataset = "Mushroom", metric = "pfc" }'
).replace('metric = "nrmse_rel"', 'metric = "nrmse_std"')


def golden(*rows: object, text: str = SPEC) -> ReportTable:
    """Return the golden table from rows."""
    return collect(parse_spec(text, "t"), [row for own in rows for row in own], PUBLISHED)  # type: ignore[attr-defined]


@cache
def shipped() -> tuple[ReportTable, ...]:
    """Return all tables of the paper from the rows that ship."""
    known = {name: sets_of(info) for name, info in Registry.scan().methods.items()}
    specs = [spec for spec in map(load_spec, table_ids()) if spec.number is not None]
    store = Store(shipped_rows_folder())
    return tuple(
        collect(spec, store.rows(**asked_of_store(spec)), read_published(), known_methods=known) for spec in specs
    )


def test_every_published_number_has_one_verdict() -> None:
    judged = judge(shipped())
    assert Counter(judgement.key for judgement in judged.judgements) == Counter(dict.fromkeys(read_published(), 1))
    assert sum(judged.counts.values()) == len(read_published()) == 146
    # Of NRMSE, whose unit is not known, the order is judged: five methods in seven columns.
    unknown = [judgement for judgement in judged.judgements if judgement.key.metric == "nrmse"]
    assert len(unknown) == 35 and {judgement.verdict for judgement in unknown} <= {"not comparable", "not run"}
    assert len(judged.orders) == 7 and all(own.order.methods == 5 for own in judged.orders)


def test_the_floor_in_vsaes_place_changes_verdicts() -> None:
    """A suite that could not tell VSAE from the mean would be no judge."""
    changed = []
    for table in shipped():
        row = next(index for index, row in enumerate(table.spec.rows) if row.label == "VSAE")
        cells = []
        for cell in table.cells:
            floor = table.cell(cell.spec.section, table.spec.floor_row or 0, cell.spec.column)
            own = cell.spec.row == row and cell.values and floor.values
            cells.append(replace(cell, values=floor.values, seeds=floor.seeds) if own else cell)
        changed.append(replace(table, cells=tuple(cells)))
    before, after = judge(shipped()), judge(changed)
    moved = [
        (one.key.dataset, one.key.attribute)
        for one, two in zip(before.judgements, after.judgements, strict=True)
        if one.verdict != two.verdict
    ]
    assert before.counts != after.counts and moved
    assert {key.method for key in (one.key for one in before.judgements)} > {"VSAE"}


def test_cells_that_disagree_leave_a_number_undecided() -> None:
    rows = (
        seeds_of("vsae", "mushroom", "pfc", [0.30, 0.301, 0.302]),
        seeds_of("mean_mode", "mushroom", "pfc", [0.6] * 3),
        seeds_of("vsae", "yeast", "nrmse_std", [0.50, 0.501, 0.502]),
        seeds_of("mean_mode", "yeast", "nrmse_std", [0.6] * 3),
    )
    judged = judge([golden(*rows, text=TWO_CANDIDATES)])
    (vsae,) = (one for one in judged.judgements if one.key.method == "VSAE")
    assert [own.comparison.verdict for own in vsae.candidates] == ["worse", "better"]
    assert vsae.verdict == "undecided" and "Mushroom categorical: better" in vsae.why
    assert any("may be either of ours" in line for line in reasons(judged))


def test_json_says_all_of_it() -> None:
    judged = judge(shipped())
    told = json.loads(json.dumps(as_json(judged), allow_nan=False))
    assert told["counts"] == judged.counts and len(told["numbers"]) == 146 and len(told["orders"]) == 7
    number = next(each for each in told["numbers"] if each["dataset"] == "Mushroom" and each["method"] == "VSAE")
    (ours,) = number["ours"]
    assert number["published"] == {"mean": 0.416, "sd": 0.009, "sd_below": None}
    assert ours["low"] <= ours["difference"] <= ours["high"] and ours["seeds"] == [0, 1, 2]
    assert ours["interval"][0] < ours["mean"] < ours["interval"][1] and ours["floor"] > ours["mean"]
    assert ours["command"] == (
        "vsae-bench run table06 --methods vsae --datasets mushroom --preset quick --seeds 0,1,2 --rerun"
    )


def test_demands() -> None:
    judged = judge([golden(seeds_of("vsae", "mushroom", "pfc", [0.3] * 3))])
    assert judged.counts["not run"] == 4
    assert require(judged, [("not run", ">=", 4), ("better", "=", 0), ("worse", "<=", 2)]) == []
    assert require(judged, [("better", ">=", 1)]) == ["required better >= 1, and it is 0"]


def test_lines_for_people() -> None:
    assert set(MARKS) == set(VERDICTS)
    judged = judge(shipped())
    assert summary(judged)[0].startswith("146 published numbers: ")
    assert summary(judged)[1].startswith("7 orders: ")
    (line,) = (order_line(own) for own in judged.orders if own.column == "Heart (mixed) numerical")
    assert line.startswith("Heart (mixed) numerical, order of 5 methods: ") and "Kendall's tau +" in line
    lonely = judge([golden(seeds_of("vsae", "mushroom", "pfc", [0.3]))]).judgements
    assert sorted(ours_text(own.candidates[0]) for own in lonely) == ["-", "-", "-", "0.300"]


@pytest.mark.parametrize("number", [7, 10])
def test_published_images_are_no_better_than_the_mean_image(number: int) -> None:
    images = [one for one in judge(shipped()).judgements if one.key.table == number and one.key.metric == "mse"]
    assert {one.verdict for one in images} == {"no better than the floor in the paper"}
