"""Rows shared between tables and columns made from lists: what they stand for, and where their errors are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.experiment.reader import load_spec, parse_spec
from bench.experiment.specs import ColumnSpec, RowSpec, TableSpec
from bench.experiment.toml_lines import TomlText
from bench.paths import tables_folder
from tests.experiment.small_spec import line_of

ROWS = """\
[rows]
one = { label = "One", method = "m", parameters = { trees = 3, depth = 2 } }
two = { label = "Two", method = "n", reference = true }
floor = { label = "Floor", method = "f", floor = true }

[groups]
pair = [
  "one",
  "two",
]
"""

TABLE = """\
id = "mine"
title = "Mine."
label = "tab:mine"
rows = [
  "pair",
  { row = "one", label = "Changed", parameters = { trees = 9 } },
  { label = "Own", method = "o" },
  "floor",
]

[defaults]
mechanism = "mcar"

[[columns]]
group = "Alone"
label = "x"
dataset = "a"
ratio = 0.2
metric = "pfc"

[[columns]]
metric = "mse"
published = { metric = "mse" }
each = [
  [
    { group = "A", dataset = "a", published = { dataset = "Ay" } },
    { group = "B", dataset = "b", metric = "mae" },
  ],
  [{ label = "0.3", ratio = 0.3 }, { label = "0.5", ratio = 0.5 }],
]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a file of shared rows."""
    (tmp_path / "rows.toml").write_text(ROWS, encoding="utf-8")
    return tmp_path


def read(folder: Path, text: str = TABLE, rows: str | None = None) -> TableSpec:
    """Return the spec of a text beside shared rows."""
    if rows is not None:
        (folder / "rows.toml").write_text(rows, encoding="utf-8")
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_spec(path)


def test_rows_are_written_out(folder: Path) -> None:
    assert read(folder).rows == (
        RowSpec(label="One", method="m", parameters={"trees": 3, "depth": 2}),
        RowSpec(label="Two", method="n", reference=True),
        RowSpec(label="Changed", method="m", parameters={"trees": 9, "depth": 2}),
        RowSpec(label="Own", method="o"),
        RowSpec(label="Floor", method="f", floor=True),
    )


def test_columns_are_written_out_the_last_list_fastest(folder: Path) -> None:
    def column(group: str, label: str, metric: str, **published: str) -> ColumnSpec:
        fields = {"group": group, "label": label, "dataset": group.lower(), "ratio": float(label), "metric": metric}
        return ColumnSpec.model_validate({**fields, "published": {"metric": "mse", **published}})

    assert read(folder).columns == (
        ColumnSpec(group="Alone", label="x", dataset="a", ratio=0.2, metric="pfc"),
        column("A", "0.3", "mse", dataset="Ay"),
        column("A", "0.5", "mse", dataset="Ay"),
        column("B", "0.3", "mae"),
        column("B", "0.5", "mae"),
    )


def test_one_list_needs_no_list_around_it(folder: Path) -> None:
    text = TABLE[: TABLE.index("each = [")] + 'each = [\n  { label = "y" },\n  { label = "z" },\n]\n'
    text = text.replace('metric = "mse"\n', 'metric = "mse"\ndataset = "a"\nratio = 0.5\n', 1)
    assert [column.label for column in read(folder, text).columns] == ["x", "y", "z"]
    wrong = text.replace('{ label = "z" }', "{ labl = 3 }")
    with pytest.raises(BenchError) as caught:
        read(folder, wrong)
    message = f"{folder / 'mine.toml'}:{line_of(wrong, 'labl')}: unknown key 'labl'. Did you mean 'label'? (1 more)"
    assert str(caught.value) == message


def test_a_table_without_shared_rows_beside_it_names_those_of_the_suite(tmp_path: Path) -> None:
    text = TABLE.replace('"pair"', '"multimodal"').replace('row = "one"', 'row = "mice"')
    for spec in (read(tmp_path, text), parse_spec(text, "t")):
        assert [row.label for row in spec.rows[:2]] == ["AE", "VAE"]
        assert (spec.rows[10].label, spec.rows[10].method) == ("Changed", "mice")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"pair"', '"pear"', "no row or group 'pear' in ROWS. Did you mean 'pair'?"),
        ('row = "one"', 'row = "oen"', "no row or group 'oen' in ROWS. Did you mean 'one'?"),
        ('row = "one"', 'row = "pair"', "'row' names one row, and 'pair' is a group of 2"),
        ('label = "Changed"', "label = 3", "label = 3: input should be a valid string"),
        ("trees = 9", "trees = 1979-05-27", "1979"),
        ('label = "Own"', "lable = 'x'", "unknown key 'lable'. Did you mean 'label'?"),
        ('{ label = "Own", method = "o" }', '{ label = "Own" }', "row 'Own' has no 'method'"),
        ('metric = "mae"', 'metric = "maee"', "unknown metric 'maee'. Did you mean 'mae'?"),
        ("ratio = 0.3", "ratio = 1.3", "ratio = 1.3: input should be less than 1"),
        ('{ group = "B"', '{ gruop = "B"', "unknown key 'gruop'. Did you mean 'group'?"),
        ('{ dataset = "Ay" }', '{ datset = "Ay" }', "unknown key 'datset'. Did you mean 'dataset'?"),
        ("each = [", "eahc = [", "unknown key 'eahc'. Did you mean 'each'?"),
        ('group = "Alone"', "each = []", "'each' is a list of lists of columns' keys, none empty"),
        ('group = "Alone"', "each = [[]]", "'each' is a list of lists"),
        ('group = "Alone"', "each = 3", "'each' is a list of lists"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(folder: Path, old: str, new: str, said: str) -> None:
    text = TABLE.replace(old, new, 1)
    with pytest.raises(BenchError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'mine.toml'}:{line_of(text, new)}: ")
    assert said.replace("ROWS", str(folder / "rows.toml")) in message
    assert "\n" not in message


def test_a_wrong_key_in_a_part_of_several_columns_is_one_problem(folder: Path) -> None:
    with pytest.raises(BenchError) as caught:
        read(folder, TABLE.replace('{ group = "B"', '{ gruop = "B"'))
    assert str(caught.value).endswith("unknown key 'gruop'. Did you mean 'group'?")


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('method = "n"', "method = 3", 3, "method = 3: input should be a valid string"),
        ("reference = true", "refrence = true", 3, "unknown key 'refrence'. Did you mean 'reference'?"),
        ("reference = true", "floor = true", 4, "only one row may be the floor"),
        ("reference = true", 'presets = ["papper"]', 3, "unknown preset 'papper'. Did you mean 'paper'?"),
        ('method = "n", ', "", 3, "row 'Two' has no 'method'"),
        ('  "two"', '  "tow"', 9, "no row 'tow' in ROWS. Did you mean 'two'?"),
        ("[groups]", "[group]", 6, "unknown key 'group'. Did you mean 'groups'?"),
        ('{ label = "Two", method = "n", reference = true }', "3", 3, "'rows' holds rows by name"),
        ("reference = true", "reference = ", 3, "not valid TOML"),
    ],
)
def test_an_error_in_shared_rows_names_their_file_and_line(
    folder: Path, old: str, new: str, line: int, said: str
) -> None:
    with pytest.raises(BenchError) as caught:
        read(folder, rows=ROWS.replace(old, new, 1))
    message = str(caught.value)
    assert message.startswith(f"{folder / 'rows.toml'}:{line}: ")
    assert said.replace("ROWS", str(folder / "rows.toml")) in message


def test_the_suites_shared_rows_are_all_used() -> None:
    shared = TomlText("rows.toml", (tables_folder() / "rows.toml").read_text(encoding="utf-8")).value
    tables = "".join(path.read_text(encoding="utf-8") for path in tables_folder().glob("table*.toml"))
    grouped = {name for group in shared["groups"].values() for name in group}
    assert [name for name in shared["rows"] if f'"{name}"' not in tables and name not in grouped] == []
