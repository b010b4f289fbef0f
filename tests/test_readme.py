"""README's examples, executed as they are written.

Every line is run in order, in one folder with one store. Three things differ: lines that train do so under the preset
``smoke``; a ``run`` of whole tables, which takes minutes even then, is a ``--dry-run``; and what is named in
``PARSED_ALONE`` is not run but only parsed. Data come from a mirror; without one, lines that need data are left out.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.cli.app import app, main
from bench.run.store import Store

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Lines that are not run, and who runs what they do.
PARSED_ALONE = {"vsae-bench check vsae": "takes half a minute: tests/conformance/test_suite.py does it"}
#: Verbs that need no data.
DATALESS = ("--version", "list", "table", "check", "env")
#: Verbs that take a budget.
TRAINING = ("run", "tune", "plot")

Command = Callable[..., str]


def section(title: str) -> str:
    """Return the text below a heading of the second level, or before the first."""
    parts = re.split(r"^## (.*)\n", README, flags=re.M)
    return dict(zip(["", *parts[1::2]], parts[0::2], strict=True))[title]


def shell_lines(title: str) -> list[str]:
    """Return the commands of a section's shell blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", section(title), flags=re.M | re.S)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def as_executed(line: str) -> list[str]:
    """Return the words that are executed for a line: the preset is smoke, whole tables are a dry run."""
    words = shlex.split(line)[1:]
    if words[0] in TRAINING:
        if "--preset" in words:
            at = words.index("--preset")
            del words[at : at + 2]
        words += ["--preset", "smoke"]
    if words[0] == "run" and len(words) > 1 and not words[1].startswith("-"):
        words.append("--dry-run")
    return words


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Return a function that executes the words of a command in an empty folder and returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def execute(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["vsae-bench", *words])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        assert exited.value.code == 0, f"{shlex.join(words)}: {captured.out[-2000:]}{captured.err[-2000:]}"
        return captured.out

    return execute


def parse(words: list[str]) -> None:
    """Parse a command without running it; raises Click's usage error on a wrong name or option."""
    group: Any = typer.main.get_command(app)
    with group.make_context("vsae-bench", list(words)) as context:
        _, verb, rest = group.resolve_command(context, list(words))
        verb.make_context(words[0], rest, parent=context)


def execute_lines(lines: list[str], command: Command) -> dict[str, str]:
    """Execute lines in order and return what each printed; those that need data only if there is a mirror."""
    printed: dict[str, str] = {}
    for line in lines:
        words = as_executed(line)
        if line in PARSED_ALONE:
            parse(words)
        elif words[0] in DATALESS or os.environ.get("VSAE_BENCH_MIRROR"):
            printed[line] = command(*words)
    return printed


def test_what_is_installed_and_which_environments_run_are_there() -> None:
    lines = [*shell_lines(""), *shell_lines("Install")]
    installs = [line for line in lines if line.startswith("python -m pip install")]
    assert installs[0].endswith("&& tox -e paper") and lines[1] == "tox -e tests"
    tox = ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert {"testenv:paper", "testenv:tests"} <= set(tox.sections())
    words = shlex.split(installs[1])
    assert (ROOT / words[words.index("-c") + 1]).is_file()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert words[words.index("-e") + 1].strip(".[]") in extras


def test_the_commands_of_install_and_use_do_what_they_say(command: Command) -> None:
    lines = [line for line in shell_lines("Install") if line.startswith("vsae-bench ")] + shell_lines("Use")
    assert len(lines) > 15 and all(line.startswith("vsae-bench ") for line in lines)
    assert set(PARSED_ALONE) <= set(lines)
    printed = execute_lines(lines, command)
    assert "yeast" in printed["vsae-bench list"]
    if not os.environ.get("VSAE_BENCH_MIRROR"):
        pytest.skip("the rest needs the real data: set VSAE_BENCH_MIRROR to a folder that has it")
    assert set(printed) == set(lines) - set(PARSED_ALONE)
    assert all("would run" in text for line, text in printed.items() if "--dry-run" in as_executed(line))
    rows = list(Store(Path("results") / "local").rows())
    assert {row.status for row in rows} == {"ok"}
    assert {row.cell.parameter_set for row in rows} == {"default", "tuned"}
    drawn = {path.name.partition("_")[0] for path in (Path("results") / "rendered").glob("*.pdf")}
    assert {"ratios", "imputations", "samples", "generations", "training"} <= drawn
    assert any((Path("results") / "rendered").glob("table06*.tex"))


def test_the_example_method_passes_its_own_next_commands(command: Command, tmp_path: Path) -> None:
    (code,) = re.findall(
        r"^```python\n(# mine/column_median\.py\n.*?)^```", section("A method of your own"), re.M | re.S
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "column_median.py").write_text(code, encoding="utf-8")
    lines = shell_lines("A method of your own")
    check, run, table = lines
    printed = execute_lines([check], command)
    assert "FAILED" not in printed[check] and printed[check].rstrip().endswith("1 ok")
    if not os.environ.get("VSAE_BENCH_MIRROR"):
        pytest.skip("the rest needs the real data: set VSAE_BENCH_MIRROR to a folder that has it")
    assert "would run column_median on heart" in execute_lines([run], command)[run]
    # Its own cells of the table are few enough to be computed.
    words = [word for word in as_executed(run) if word != "--dry-run"]
    command(*words, "--methods", "column_median", "--datasets", "heart,yeast")
    assert {row.status for row in Store(Path("results") / "local").rows()} == {"ok"}
    assert "column_median" in execute_lines([table], command)[table]
