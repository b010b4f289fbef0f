"""Table specs as types: how cells are merged from the parts of a table."""

from __future__ import annotations

from bench.experiment.reader import parse_spec
from tests.experiment.small_spec import SMALL


def test_cells_merge_defaults_section_row_and_column_in_this_order() -> None:
    spec = parse_spec(SMALL, "t.toml")
    cells = spec.cells()
    assert [(e.section, e.row, e.column) for e in cells] == [(b, r, c) for b in (0, 1) for r in (0, 1) for c in (0, 1)]
    assert [e.dataset for e in cells] == ["a"] * 4 + ["b"] * 4
    # The column's ratio wins over the section's, and the section's over the default.
    assert [e.ratio for e in cells] == [0.5, 0.3, 0.5, 0.3, 0.4, 0.3, 0.4, 0.3]
    assert cells[0].parameters == {"trees": 4, "depth": 2}
    assert cells[2].parameters == {"trees": 3, "depth": 2}
    assert [e.attribute for e in cells[:2]] == ["all", "label"]
    assert [e.include_target for e in cells[:2]] == [False, True]
    assert {e.protocol for e in cells} == {"inductive"}
    assert [spec.digits(0), spec.digits(1)] == [3, 1]
    assert spec.floor_row == 1
    assert spec.seeds == (0, 1, 2) and spec.repeat == "all"


def test_a_published_key_takes_its_parts_from_defaults_section_and_column() -> None:
    text = SMALL.replace('label = "tab:small"', 'label = "tab:small"\nnumber = 9')
    text = text.replace("[[sections]]", '[defaults.published]\nmechanism = "MCAR"\nratio = 0.5\n\n[[sections]]', 1)
    text = text.replace('dataset = "b"', 'dataset = "b"\npublished = { dataset = "Bee" }')
    text = text.replace('dataset = "a"', 'dataset = "a"\npublished = { dataset = "Ay" }')
    text = text.replace('label = "y"', 'label = "y"\npublished = { attribute = "all", metric = "pfc", ratio = 0.7 }')
    text = text.replace('method = "m"', 'method = "m"\npublished = "Em"')
    keys = [cell.published for cell in parse_spec(text, "t.toml").cells()]
    assert [key is None for key in keys] == [True, False, True, True, True, False, True, True]
    assert keys[5] is not None
    assert str(keys[5]) == "Table 9, Em, Bee/all, MCAR at 0.7, pfc"


def test_a_table_without_sections_has_one_without_a_label() -> None:
    text = SMALL[: SMALL.index("[[sections]]")] + SMALL[SMALL.index("[[rows]]") :]
    spec = parse_spec(text.replace("ratio = 0.5", 'ratio = 0.5\ndataset = "a"'), "t.toml")
    assert [section.label for section in spec.sections] == [""] and not spec.has_section_labels
    assert [(cell.section, cell.row, cell.column) for cell in spec.cells()] == [
        (0, r, c) for r in (0, 1) for c in (0, 1)
    ]
