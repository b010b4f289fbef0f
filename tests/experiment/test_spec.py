"""Table specs: the suite's own, how cells are merged, and what bad input says."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.experiment.spec import find_spec, key_lines, load_spec, parse_spec, table_ids
from bench.report.published import read_published

SMALL = """\
id = "small"
title = "Small."
label = "tab:small"

[defaults]
mechanism = "mcar"
ratio = 0.5
metric = "pfc"
parameters = { trees = 3, depth = 2 }

[[blocks]]
label = "A"
dataset = "a"

[[blocks]]
label = "B"
dataset = "b"
ratio = 0.4

[[rows]]
label = "one"
method = "m"
parameters = { trees = 4 }

[[rows]]
label = "floor"
method = "f"
floor = true

[[columns]]
group = "G"
label = "x"

[[columns]]
group = "G"
label = "y"
ratio = 0.3
attribute = "label"
include_target = true
digits = 1
"""


def error_of(text: str) -> str:
    """Return the one line that a bad spec ends with."""
    with pytest.raises(BenchError) as caught:
        parse_spec(text, "t.toml")
    message = str(caught.value)
    assert "\n" not in message
    return message


def line_of(text: str, part: str) -> int:
    """Return the line that the first occurrence of some text begins on."""
    return text[: text.index(part)].count("\n") + 1


def test_cells_merge_defaults_block_row_and_column_in_this_order() -> None:
    spec = parse_spec(SMALL, "t.toml")
    entries = spec.entries()
    assert [(e.block, e.row, e.column) for e in entries] == [(b, r, c) for b in (0, 1) for r in (0, 1) for c in (0, 1)]
    assert [e.dataset for e in entries] == ["a"] * 4 + ["b"] * 4
    # The column's ratio wins over the block's, and the block's over the default.
    assert [e.ratio for e in entries] == [0.5, 0.3, 0.5, 0.3, 0.4, 0.3, 0.4, 0.3]
    assert entries[0].parameters == {"trees": 4, "depth": 2}
    assert entries[2].parameters == {"trees": 3, "depth": 2}
    assert [e.attribute for e in entries[:2]] == ["all", "label"]
    assert [e.include_target for e in entries[:2]] == [False, True]
    assert {e.protocol for e in entries} == {"inductive"}
    assert [spec.digits(0), spec.digits(1)] == [3, 1]
    assert spec.floor_row == 1
    assert spec.seeds == (0, 1, 2) and spec.repeat == "all"


def test_a_published_key_takes_its_parts_from_defaults_block_and_column() -> None:
    text = SMALL.replace('label = "tab:small"', 'label = "tab:small"\nnumber = 9')
    text = text.replace("[[blocks]]", '[defaults.published]\nmechanism = "MCAR"\nratio = 0.5\n\n[[blocks]]', 1)
    text = text.replace('dataset = "b"', 'dataset = "b"\npublished = { dataset = "Bee" }')
    text = text.replace('dataset = "a"', 'dataset = "a"\npublished = { dataset = "Ay" }')
    text = text.replace('label = "y"', 'label = "y"\npublished = { attribute = "all", metric = "pfc", ratio = 0.7 }')
    text = text.replace('method = "m"', 'method = "m"\npublished = "Em"')
    keys = [entry.published for entry in parse_spec(text, "t.toml").entries()]
    assert [key is None for key in keys] == [True, False, True, True, True, False, True, True]
    assert keys[5] is not None
    assert str(keys[5]) == "Table 9, Em, Bee/all, MCAR at 0.7, pfc"


def test_the_suites_tables_use_each_published_cell_and_no_other() -> None:
    published = read_published()
    assert len(published) == 146
    used = {entry.published for name in table_ids() for entry in load_spec(name).entries() if entry.published}
    assert used == set(published)


@pytest.mark.parametrize("name", table_ids())
def test_every_table_has_a_floor_and_the_papers_rows_in_the_papers_order(name: str) -> None:
    spec = load_spec(name)
    assert spec.id == name == find_spec(name).stem
    assert spec.seeds == (0, 1, 2)
    assert spec.floor_row is not None and spec.rows[spec.floor_row].method == "mean_mode"
    in_paper = list(dict.fromkeys(key.method for key in read_published() if key.table == spec.number))
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
    entries = [entry for entry in load_spec(str(number)).entries() if entry.row == 0]
    pooled = [entry for entry in entries if entry.published]
    for scope in ("something_observed", "nothing_observed"):
        apart = [entry for entry in entries if entry.attribute == scope]
        assert [(e.dataset, e.ratio, e.metric) for e in apart] == [(e.dataset, e.ratio, e.metric) for e in pooled]
        assert not any(entry.published for entry in apart)
    assert len(entries) == 3 * len(pooled)


def test_tables_5_and_6_print_each_nrmse_in_standard_deviations_beside_it() -> None:
    for name in ("table05", "table06", "table_mixed"):
        spec = load_spec(name)
        entries = [entry for entry in spec.entries() if entry.block == 0 and entry.row == 0]
        pairs = [(a, b) for a, b in zip(entries, [*entries[1:], None], strict=True) if a.metric == "nrmse_rel"]
        assert pairs
        for pooled, companion in pairs:
            assert companion is not None and companion.published is None
            assert companion.metric == "nrmse_std"
            assert (companion.dataset, companion.mechanism) == (pooled.dataset, pooled.mechanism)


def test_table_6_has_both_phishing_sets_beside_the_one_published_column() -> None:
    entries = [entry for entry in load_spec("6").entries() if entry.dataset.startswith("phishing")]
    keys = {name: [e.published for e in entries if e.dataset == name] for name in ("phishing", "phishing_websites")}
    assert keys["phishing"] == keys["phishing_websites"]
    assert sum(key is not None for key in keys["phishing"]) == 5
    assert {e.protocol for e in entries if e.method == "missforest"} == {"transductive"}


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("table6", "table06"),
        ("table06", "table06"),
        ("6", "table06"),
        ("Table 6", "table06"),
        ("11", "table11"),
        ("mixed", "table_mixed"),
        ("table_mixed", "table_mixed"),
    ],
)
def test_a_table_is_found_by_any_of_its_names(name: str, stem: str) -> None:
    assert find_spec(name).stem == stem


def test_a_table_is_found_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL.replace("\n", "\r\n"), encoding="utf-8")
    assert load_spec(path).id == "small"
    with pytest.raises(BenchError, match=r"does not exist"):
        load_spec(tmp_path / "other.toml")


def test_an_unknown_table_names_the_closest() -> None:
    with pytest.raises(BenchError, match=r"unknown table 'tabel_mixed'. Did you mean 'table_mixed'\?"):
        load_spec("tabel_mixed")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ratio = 0.5", "ratio = 1.2", "ratio = 1.2: input should be less than 1"),
        ("ratio = 0.3", "ratio = 1.2", "ratio = 1.2: input should be less than 1"),
        ("ratio = 0.5", "ratio = 0", "input should be greater than 0"),
        ("ratio = 0.5", "ratio = nan", "ratio = nan"),
        ("ratio = 0.5", 'ratio = "0.5"', "ratio = '0.5': input should be a valid number"),
        ("ratio = 0.4", "raito = 0.4", "unknown key 'raito'. Did you mean 'ratio'?"),
        ("[[columns]]", "[[column]]", "unknown key 'column'. Did you mean 'columns'?"),
        ("digits = 1", "digits = 1.5", "digits = 1.5"),
        ("floor = true", 'floor = "yes"', "floor = 'yes'"),
        ('method = "f"', "method = 3", "method = 3: input should be a valid string"),
        ('method = "f"', 'metod = "f"', "unknown key 'metod'. Did you mean 'method'?"),
        ('metric = "pfc"', 'metric = "pfk"', "unknown metric 'pfk'. Did you mean 'pfc'?"),
        ("{ trees = 3, depth = 2 }", "{ when = 1979-05-27 }", "when"),
        ("floor = true", 'protocol = "both"', "protocol = 'both'"),
        ("floor = true", 'presets = ["paper", "papper"]', "unknown preset 'papper'. Did you mean 'paper'?"),
        ("floor = true", "presets = []", "presets = []"),
        ("floor = true", 'presets = "paper"', "presets = 'paper'"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(old: str, new: str, said: str) -> None:
    text = SMALL.replace(old, new, 1)
    message = error_of(text)
    assert message.startswith(f"t.toml:{line_of(text, new)}: ")
    assert said in message


def test_what_no_single_key_shows_is_named_with_its_line() -> None:
    text = SMALL.replace('dataset = "b"\n', "")
    assert error_of(text) == (
        f"t.toml:{line_of(text, '[[columns]]')}: column 'G x' has no 'dataset': "
        "give it there, in its block or in [defaults]"
    )
    text = SMALL.replace('method = "f"\n', "")
    assert error_of(text).startswith(f"t.toml:{line_of(text, '[[rows]]') + 5}: row 'floor' has no 'method'")
    text = SMALL.replace('method = "m"', 'method = "m"\nfloor = true')
    assert "only one row may be the floor" in error_of(text)
    text = SMALL.replace('label = "tab:small"', 'label = "tab:small"\nseeds = [0, 1, 0]')
    assert error_of(text) == "t.toml:4: 'seeds' names a seed twice"
    assert error_of(SMALL.replace('title = "Small."\n', "")) == "t.toml:1: 'title' is missing"


def test_broken_toml_is_named_with_its_line() -> None:
    assert error_of(SMALL.replace("ratio = 0.5", "ratio = ", 1)).startswith("t.toml:7: not valid TOML: ")
    unclosed = SMALL + "\nnotes = ["
    assert error_of(unclosed).startswith(f"t.toml:{line_of(unclosed, 'notes')}: not valid TOML: ")
    assert error_of(SMALL.replace("[[blocks]]", "[[blocks]", 1)).startswith("t.toml:11: not valid TOML: ")


def test_lines_of_keys_are_found_in_toml_that_looks_like_something_else() -> None:
    text = '''\
# [[rows]]
top = """
[[rows]]
ratio = 1
"""
many = [
  ["a = 1"],
  ["b"],
]
a.b = 1
[[rows]]
x = { y = 1, z = { w = 2 } }
[[rows]]   # second
"quoted key" = 1
[rows.inner]
deep = 1
[[rows.list]]
one = 1
[[rows.list]]
two = 2
[end]
last = 1
'''
    expected = {
        ("top",): 2,
        ("many",): 6,
        ("many", 0): 6,
        ("a", "b"): 10,
        ("rows", 0): 11,
        ("rows", 0, "x", "z", "w"): 12,
        ("rows", 1): 13,
        ("rows", 1, "quoted key"): 14,
        ("rows", 1, "inner", "deep"): 16,
        ("rows", 1, "list", 0, "one"): 18,
        ("rows", 1, "list", 1, "two"): 20,
        ("end", "last"): 22,
    }
    found = key_lines(text)
    assert {place: found[place] for place in expected} == expected
    assert ("ratio",) not in found and ("rows", 2) not in found
