"""Which results belong together in a table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from bench.errors import BenchError
from bench.experiment.reader import parse_spec
from bench.experiment.specs import TableSpec
from bench.report import collect
from bench.report.csv import csv_table
from bench.report.markdown import markdown_table
from tests.report.golden import PUBLISHED, SPEC, seeds_of, stored


def test_parameter_sets_are_never_mixed_but_a_method_without_parameters_is_in_all(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3),
        *seeds_of("vsae", "mushroom", "pfc", [0.3] * 3, parameter_set="literal"),
        *seeds_of("forest", "mushroom", "pfc", [0.2] * 3, protocol="transductive"),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.4] * 3, parameters={}),
    ]
    table = collect(spec, rows, parameter_set="literal")
    assert [table.cell(0, row, 2).mean for row in range(4)] == [None, pytest.approx(0.3), None, pytest.approx(0.4)]
    assert collect(spec, rows).cell(0, 1, 2).mean == pytest.approx(0.1)
    assert "parameter set literal" in markdown_table(table)


def test_precisions_are_never_mixed_and_a_method_without_torch_is_in_all(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3),
        *seeds_of("vsae", "mushroom", "pfc", [0.3] * 3, precision="medium"),
        *seeds_of("forest", "mushroom", "pfc", [0.2] * 3, protocol="transductive"),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.4] * 3, parameters={}),
    ]
    for precision, expected in (("highest", 0.1), ("medium", 0.3), ("high", None)):
        table = collect(spec, rows, precision=precision, torch_methods={"vsae", "odd"})
        found = [table.cell(0, row, 2).mean for row in range(4)]
        ours = None if expected is None else pytest.approx(expected)
        assert found == [pytest.approx(0.2), ours, None, pytest.approx(0.4)]
        assert {line["precision"] for line in csv.DictReader(io.StringIO(csv_table(table)))} == {precision}
        assert ("precision" in markdown_table(table)) is (precision != "highest")
    with pytest.raises(BenchError, match="unknown precision 'medum'. Did you mean 'medium'"):
        collect(spec, rows, precision="medum")


def test_a_row_shows_only_rows_with_exactly_its_overrides_protocol_and_repetition(spec: TableSpec) -> None:
    odd = seeds_of("odd", "mushroom", "pfc", [0.2] * 3, overrides={"posterior": "draw"})
    assert collect(spec, odd).cell(0, 2, 2).mean == pytest.approx(0.2)
    for overrides in ({"posterior": "draw", "sweeps": 2}, {}):
        rows = seeds_of("odd", "mushroom", "pfc", [0.2] * 3, overrides=overrides)
        assert collect(spec, rows).cell(0, 2, 2).status == "missing"
    others: list[dict[str, Any]] = [
        {"protocol": "transductive"},
        {"repeat": "initialisation"},
        {"include_target": True},
        {"ratio": 0.3},
    ]
    for changes in others:
        rows = seeds_of("vsae", "mushroom", "pfc", [0.2] * 3, **changes)
        assert collect(spec, rows).cell(0, 1, 2).status == "missing"


def test_contents_of_a_data_set_are_never_mixed_and_the_full_one_wins(spec: TableSpec) -> None:
    part = {"variant": "subset", "content": "part"}
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3, **part),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.2] * 3, **part),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.4] * 3),
    ]
    table = collect(spec, rows, PUBLISHED)
    assert table.cell(0, 1, 2).status == "missing"
    assert table.cell(0, 3, 2).mean == pytest.approx(0.4)
    assert not table.column_is_subset(2)
    # With the full data failed, the subset is what there is.
    failed = [stored("vsae", "mushroom", 0, status="failed", reason="x")]
    table = collect(spec, rows[:6] + failed, PUBLISHED)
    assert table.cell(0, 1, 2).mean == pytest.approx(0.1)
    assert table.column_is_subset(2)
    assert table.cell(0, 1, 2).difference is None and table.cell(0, 1, 2).published_verdict == ""
    assert table.cell(0, 1, 2).verdict == "better than floor"


def test_versions_and_budgets_are_never_mixed(spec: TableSpec) -> None:
    old = seeds_of("vsae", "mushroom", "pfc", [0.1] * 3)
    floor = seeds_of("mean_mode", "mushroom", "pfc", [0.2] * 3)
    new = stored("vsae", "mushroom", 0, {"pfc": 0.3}, method_version=2)
    cell = collect(spec, [*old, *floor, new]).cell(0, 1, 2)
    assert cell.values == (0.3,) and cell.status == "partial"
    # Another engine or mechanism makes other holes: every row of the column has to be of the new one.
    for changes in ({"engine": 2}, {"mechanism_version": 2}):
        newer = stored("vsae", "mushroom", 0, {"pfc": 0.3}, **changes)
        table = collect(spec, [newer, *old, *floor])
        assert table.cell(0, 1, 2).values == (0.3,) and table.cell(0, 3, 2).status == "missing"
    other = stored("vsae", "mushroom", 0, {"pfc": 0.3}, budget={"steps": 31})
    assert collect(spec, [other, *old, *floor]).cell(0, 1, 2).values == (0.1, 0.1, 0.1)


def test_mechanism_parameters_that_the_spec_does_not_tell_apart_are_an_error(spec: TableSpec) -> None:
    rows = [
        *seeds_of("vsae", "mushroom", "pfc", [0.1] * 3, mechanism_parameters={"share": 0.3}),
        *seeds_of("vsae", "mushroom", "pfc", [0.2] * 3, mechanism_parameters={"share": 0.5}),
    ]
    with pytest.raises(BenchError, match="rows of 'mushroom' under 'mcar' with different parameters"):
        collect(spec, rows)
    named = parse_spec(SPEC.replace("ratio = 0.5\n", "ratio = 0.5\nmechanism_parameters = { share = 0.5 }\n", 1), "t")
    assert collect(named, rows).cell(0, 1, 2).mean == pytest.approx(0.2)
    overrides: list[dict[str, float]] = [{}] * 3 + [{"share": 0.5}] * 3
    rows = [
        replace(row, cell=replace(row.cell, mechanism_overrides=own)) for row, own in zip(rows, overrides, strict=True)
    ]
    assert collect(spec, rows).cell(0, 1, 2).mean == pytest.approx(0.1)
