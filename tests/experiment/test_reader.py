"""Reading table specs: where they are found, what bad ones say, and that those of earlier versions are still read."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.experiment.reader import find_spec, load_spec
from tests.experiment.small_spec import SMALL, error_of, line_of

#: A spec as earlier versions had them: every row and column in full, sections called blocks, headings called stubs.
OLD = Path(__file__).with_name("old_table05.toml")


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
        "give it there, in its section or in [defaults]"
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
    assert error_of(SMALL.replace("[[sections]]", "[[blocks]", 1)).startswith("t.toml:11: not valid TOML: ")


def test_a_spec_of_an_earlier_version_is_the_same_table() -> None:
    old, new = load_spec(OLD), load_spec("table05")
    assert old.cells() == new.cells()
    assert (old.format, old.sections, old.rows, old.title) == (new.format, new.sections, new.rows, new.title)


def test_an_error_behind_an_old_key_names_its_line() -> None:
    text = SMALL.replace("[[sections]]", "[[blocks]]")
    wrong = text.replace("ratio = 0.4", "raito = 0.4")
    assert error_of(wrong) == f"t.toml:{line_of(wrong, 'raito')}: unknown key 'raito'. Did you mean 'ratio'?"
    heading = text.replace("[[blocks]]", "[format]\nstub = 3\n\n[[blocks]]", 1)
    assert error_of(heading).startswith(f"t.toml:{line_of(heading, 'stub')}: row_heading = 3: ")
    both = SMALL + '[[blocks]]\nlabel = "C"\ndataset = "c"\n'
    assert error_of(both) == (
        f"t.toml:{line_of(both, '[[blocks]]')}: 'blocks' is the old name of 'sections', which is given as well"
    )
