"""The suite's own tables: what the paper has is in them, and what stands beside it."""

from __future__ import annotations

import re

import pytest

from bench.experiment.reader import find_spec, load_spec, table_ids
from bench.report.published import read_published


def test_the_suites_tables_use_each_published_cell_and_no_other() -> None:
    published = read_published()
    assert len(published) == 146
    used = {cell.published for name in table_ids() for cell in load_spec(name).cells() if cell.published}
    assert used == set(published)


@pytest.mark.parametrize("name", table_ids())
def test_every_table_has_a_floor_and_the_papers_rows_in_the_papers_order(name: str) -> None:
    spec = load_spec(name)
    assert spec.id == name == find_spec(name).stem
    assert spec.seeds == (0, 1, 2)
    # Mean and mode are no draw.
    floor = "hot_deck" if name == "table_draws" else "mean_mode"
    assert spec.floor_row is not None and spec.rows[spec.floor_row].method == floor
    in_paper = list(dict.fromkeys(key.method for key in read_published() if key.table == spec.number))
    if spec.number is None:
        assert not any(cell.published for cell in spec.cells())
    else:
        assert [row.published for row in spec.rows if row.published] == in_paper
    for row in spec.rows:
        assert row.published is not None or row.reference or row.floor or spec.number is None


@pytest.mark.parametrize("number", range(7, 12))
def test_the_multi_modal_tables_have_a_ceiling_and_rows_for_the_large_budget_alone(number: int) -> None:
    rows = {row.method: row for row in load_spec(str(number)).rows}
    assert {"classifier"} <= {name for name, row in rows.items() if row.reference and row.presets is None}
    assert ("class_mean" in rows) == (number == 10)
    only_paper = {name for name, row in rows.items() if row.runs_under("paper") and not row.runs_under("quick")}
    assert only_paper == {"miwae", "gain", "misgan"}
    assert all(rows[name].reference for name in only_paper)


@pytest.mark.parametrize("number", [7, 10])
def test_rows_with_something_and_with_nothing_observed_stand_apart(number: int) -> None:
    """Each number of the paper's columns has one for each kind of row beside it: same data, ratio and metric."""
    cells = [cell for cell in load_spec(str(number)).cells() if cell.row == 0]
    pooled = [cell for cell in cells if cell.published]
    for scope in ("something_observed", "nothing_observed"):
        apart = [cell for cell in cells if cell.attribute == scope]
        assert [(e.dataset, e.ratio, e.metric) for e in apart] == [(e.dataset, e.ratio, e.metric) for e in pooled]
        assert not any(cell.published for cell in apart)
    assert len(cells) == 3 * len(pooled)


def test_tables_5_and_6_print_each_nrmse_in_standard_deviations_beside_it() -> None:
    for name in ("table05", "table06", "table_mixed"):
        spec = load_spec(name)
        cells = [cell for cell in spec.cells() if cell.section == 0 and cell.row == 0]
        pairs = [(a, b) for a, b in zip(cells, [*cells[1:], None], strict=True) if a.metric == "nrmse_rel"]
        assert pairs
        for pooled, companion in pairs:
            assert companion is not None and companion.published is None
            assert companion.metric == "nrmse_std"
            assert (companion.dataset, companion.mechanism) == (pooled.dataset, pooled.mechanism)


def test_table_6_has_both_phishing_sets_beside_the_one_published_column() -> None:
    cells = [cell for cell in load_spec("6").cells() if cell.dataset.startswith("phishing")]
    keys = {name: [e.published for e in cells if e.dataset == name] for name in ("phishing", "phishing_websites")}
    assert keys["phishing"] == keys["phishing_websites"]
    assert sum(key is not None for key in keys["phishing"]) == 5
    assert {e.protocol for e in cells if e.method == "missforest"} == {"transductive"}


@pytest.mark.parametrize("name", table_ids())
def test_the_ratios_that_a_caption_names_are_those_of_the_cells(name: str) -> None:
    spec = load_spec(name)
    named = re.search(r"missing ratio of (0\.\d)|missing ratios (0\.\d), (0\.\d) and (0\.\d)", spec.caption)
    assert named is not None
    assert sorted(float(ratio) for ratio in named.groups() if ratio) == sorted({cell.ratio for cell in spec.cells()})
