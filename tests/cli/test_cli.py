"""The command line: instant where it can be, one clear line for bad input, and a run that does what it says."""

from __future__ import annotations

import inspect
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from bench.cli.app import app
from bench.experiment.result import Result
from tests.cli.conftest import Call
from tests.toys import (
    DATA,
    MEDIAN,
    ZEROS,
    command_environment,
    method_source,
    run_command,
    stored_rows,
    table_text,
    write_plugins,
)


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Instant


@pytest.mark.parametrize("words", [["--help"], ["list"], ["run", "--help"], ["plot", "samples", "--help"]])
def test_help_and_list_are_instant(tmp_path: Path, words: list[str]) -> None:
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'sklearn', 'scipy', 'pooch'}"
    prelude = f"import atexit, sys\natexit.register(lambda: print('HEAVY', sorted({heavy} & set(sys.modules))))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_command(*words, folder=tmp_path, prelude=prelude)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "HEAVY []"
    # 0.4 s is the aim on an idle machine.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.8


def test_the_version_is_shown_by_the_command_and_by_the_module(tmp_path: Path, call: Call) -> None:
    from bench import __version__

    assert call("--version") == (0, f"vsae-bench {__version__}\n", "")
    assert run_command("--version", folder=tmp_path).stdout == f"vsae-bench {__version__}\n"


def test_every_option_is_taken_and_fills_a_field_that_there_is() -> None:
    from dataclasses import fields

    from bench.cli.options import OPTIONS
    from bench.experiment.scope import Scope
    from bench.report.figures.drawing import Drawing
    from bench.run.request import Place

    filled = {option.fills for option in OPTIONS.values()} - {""}
    nouns = {"scope": Scope, "place": Place, "drawing": Drawing}
    there_are = {f"{noun}.{field.name}" for noun, made in nouns.items() for field in fields(made)}
    # The parameters of a grid's mechanism follow from a mask's file.
    assert filled == there_are - {"scope.mechanism_parameters"}
    taken = {name for command in commands(app) for name in inspect.signature(command).parameters}
    assert taken == {*OPTIONS, "version"}


def test_options_have_the_defaults_of_what_they_fill() -> None:
    from bench.cli.options import OPTIONS
    from bench.experiment.scope import Scope
    from bench.run.request import Place

    for noun, made in (("scope", Scope()), ("place", Place())):
        for name in ("preset", "parameters", "precision", "store", "shipped", "device", "threads", "time_budget"):
            option = OPTIONS[name]
            if option.fills.startswith(noun):
                default = option.default if option.read is None else option.read(option.default or ())
                assert getattr(made, option.fills.partition(".")[2]) == default


def commands(group: typer.Typer) -> list[Callable[..., Any]]:
    """Return the functions behind a group's commands, those of its groups and its own."""
    own = [command.callback for command in group.registered_commands if command.callback is not None]
    if group.registered_callback is not None and group.registered_callback.callback is not None:
        own.append(group.registered_callback.callback)
    return own + [one for inner in group.registered_groups for one in commands(inner.typer_instance or group)]


def test_no_arguments_show_the_help(call: Call) -> None:
    code, out, err = call()
    assert "Usage: " in out + err
    assert "Traceback" not in out + err


# Bad input

#: ``TOY`` and ``GRID`` stand for a table and a grid of one's own that are fine.
BAD_INPUT = {
    "run nosuch": "unknown table 'nosuch'",
    "run table66": "unknown table 'table66'. Did you mean 'table06'?",
    "run missing.toml": "table spec 'missing.toml' does not exist",
    "run plugins/data.py": "plugins/data.py:",
    "run broken.toml": "broken.toml:3: not valid TOML",
    "run wrong.toml": "wrong.toml:6: unknown key 'ratioo'. Did you mean 'ratio'?",
    "run ratio.toml": "ratio.toml:7: ratio = 1.2: input should be less than 1",
    "run picture.toml": "picture.toml: cannot be read as UTF-8 text",
    "TOY --methods mean_mood": "unknown method 'mean_mood'. Did you mean 'mean_mode'?",
    "TOY --methods mice": "toy has no method 'mice', only column_median, mean_mode",
    "TOY --datasets toy_mix": "unknown data set 'toy_mix'. Did you mean 'toy_mixed'?",
    "TOY --datasets yeast": "toy has no data set 'yeast', only toy_mixed, toy_numbers",
    "TOY --seeds 9-0": "--seeds takes numbers or a range such as 0-9 separated by commas, not '9-0'",
    "TOY --seeds 0-99999999999": "--seeds takes numbers or a range",
    "TOY --seeds one": "--seeds takes numbers separated by commas, not 'one'",
    "TOY --ratios 0.3": "--mechanisms and --ratios are for a grid of your own",
    "TOY --preset quik": "unknown preset 'quik'. Did you mean 'quick'?",
    "TOY --parameters litteral": "parameter set 'litteral'. Did you mean 'literal'?",
    "TOY --device gpu": "unknown device 'gpu'",
    "TOY --precision hihg": "unknown precision 'hihg'. Did you mean 'high'?",
    "TOY --time-budget 9x": "--time-budget takes a duration such as 9m, 90s or 1h30m, not '9x'",
    "TOY --time-budget 0": "--time-budget takes a duration",
    "TOY --time-budget -5m": "--time-budget takes a duration",
    "TOY --store toy.toml": "the store cannot be toy.toml: toy.toml is a file",
    "TOY --store toy.toml/x": "the store cannot be toy.toml/x: toy.toml is a file",
    "TOY --workers -1": "'--workers'",
    "TOY --stand-in": "--stand-in: no data set of toy has a stand-in",
    "TOY --threads none": "'--threads'",
    "run toy.toml --plugins nowhere": "nowhere does not exist; --plugins takes a folder",
    "run toy.toml --plugins empty": "no plug-in in ",
    "run toy.toml --frob": "No such option: --frob",
    "run toy.toml --preset": "requires an argument",
    "run": "name tables to run, or give --methods and --datasets",
    "run --methods mean_mode": "name tables to run, or give --methods and --datasets",
    "GRID --ratios 1.2": "--ratios: 1.2 is not between 0 and 1",
    "GRID --ratios nan": "--ratios: nan is not between 0 and 1",
    "GRID --ratios half": "--ratios takes numbers",
    "GRID --mechanisms mcra": "Did you mean 'mcar'?",
    "GRID --seeds=-1": "--seeds: -1 is negative",
    "run --plugins plugins --methods nobody --datasets toy_mixed": "unknown method 'nobody'",
    "run --plugins plugins --methods mean_mode --datasets nothing": "unknown data set 'nothing'",
    "table nosuch": "unknown table 'nosuch'",
    "compare nosuch": "unknown table 'nosuch'",
    "compare toy.toml --plugins plugins": "none of these tables has a published number to compare with",
    "compare 6 --require many": "--require takes a verdict and a number, such as 'reproduced>=3', not 'many'",
    "compare 6 --require reproducd>=3": "there is no verdict 'reproducd'. Did you mean 'reproduced'?",
    "table toy.toml --plugins plugins --preset quik": "unknown preset 'quik'",
    "table toy.toml --plugins plugins --precision low": "unknown precision 'low'",
    "table toy.toml --plugins plugins --output toy.toml": "--output: toy.toml is a file; name a folder",
    "table toy.toml --plugins plugins --store toy.toml": "the store cannot be toy.toml: toy.toml is a file",
    "table": "Missing argument",
    "data nosuch": "unknown data set 'nosuch'",
    "data heart toy_mixd --plugins plugins": "unknown data set 'toy_mixd'. Did you mean 'toy_mixed'?",
    "list --plugins nowhere": "nowhere does not exist",
    "frob": "No such command 'frob'",
}
SHORT = {
    "TOY": "run toy.toml --plugins plugins",
    "GRID": "run --plugins plugins --methods mean_mode --datasets toy_mixed",
}


def words_of(text: str) -> list[str]:
    """Return the words of a command in which ``SHORT`` stands for several."""
    return [word for part in text.split() for word in SHORT.get(part, part).split()]


@pytest.mark.parametrize("words", BAD_INPUT)
def test_bad_input_is_one_clear_line_and_writes_nothing(place: Path, call: Call, words: str) -> None:
    toml = table_text(("mean_mode",))
    (place / "broken.toml").write_text("id = 'x'\n\ntitle = \n")
    (place / "wrong.toml").write_text(toml.replace("ratio =", "ratioo =").replace("\n\n", "\n"))
    (place / "ratio.toml").write_text(toml.replace("ratio = 0.5", "ratio = 1.2"))
    (place / "picture.toml").write_bytes(bytes(range(256)))
    (place / "empty").mkdir()
    before = snapshot(place.parent)
    code, out, err = call(*words_of(words))
    assert code == 2, (out, err)
    assert err.startswith("vsae-bench: ")
    assert err.count("\n") == 1
    assert BAD_INPUT[words] in err
    assert "Traceback" not in out
    assert snapshot(place.parent) == before


# Plug-ins


def test_a_broken_plugin_is_listed_with_its_error_and_stops_nobody(place: Path, call: Call) -> None:
    write_plugins(place / "plugins", broken="from bench.api import Method\n\n\nclass Broken(Method:\n    pass\n")
    code, out, _ = call("list", "--plugins", "plugins")
    assert code == 0
    line = next(line for line in out.splitlines() if line.strip().startswith("broken"))
    assert "ERROR" in line
    assert "broken.py:4: SyntaxError" in line
    assert any(line.strip().startswith("column_median  ") and "ERROR" not in line for line in out.splitlines())
    words = ("run", "toy.toml", "--plugins", "plugins", "--preset", "smoke", "--workers", 1, "--store", "store")
    code, out, err = call(*words)
    assert (code, err) == (0, "")
    statuses = {(row["cell"]["method"], row["status"]) for row in stored_rows(place / "store").values()}
    assert statuses == {("broken", "skipped"), ("mean_mode", "ok"), ("column_median", "ok")}
    assert "skipped: broken on toy_mixed: " in out
    # It would be skipped again, so there is nothing to do until the file changes.
    before = snapshot(place / "store")
    assert call(*words)[0] == 0
    assert snapshot(place / "store") == before
    write_plugins(place / "plugins", broken=method_source("broken", impute=ZEROS))
    assert call(*words)[0] == 0
    assert {row["status"] for row in stored_rows(place / "store").values()} == {"ok"}


def test_list_shows_a_users_plugins_and_load_tries_them(place: Path, call: Call) -> None:
    assert call("list", "--load", "--plugins", "plugins")[0] == 0
    write_plugins(place / "plugins", late=method_source("late") + "\nraise RuntimeError('too late')\n")
    assert call("list", "--plugins", "plugins")[0] == 0
    code, out, _ = call("list", "--load", "--plugins", "plugins")
    assert code == 1
    assert "ERROR" in out
    assert "RuntimeError: too late" in out


def test_a_users_data_set_has_a_card(place: Path, call: Call) -> None:
    code, out, err = call("data", "toy_mixed", "--plugins", "plugins")
    assert (code, err) == (0, "")
    _, *lines, content, licence, source = out.splitlines()
    assert lines == [
        "toy_mixed: Sixty rows, mixed.",
        "  rows         60: 38 train, 10 validation, 12 test",
        "  numeric      3: first, second, third",
        "  categorical  1, with these levels",
        "    kind  3: high, low, middle",
        "  missing      nothing",
        "  target       none",
    ]
    assert content.startswith("  content      sha256 ")
    assert (licence, source) == ("  licence      not stated", "  source       the plug-in itself, needs no file")
    write_plugins(place / "plugins", data=DATA.replace("rng = ", "rng = None.none and "))
    code, out, err = call("data", "toy_mixed", "toy_numbers", "--plugins", "plugins")
    assert (code, err) == (1, "")
    assert "toy_mixed: data set 'toy_mixed' cannot be loaded: AttributeError: " in out
    assert "toy_numbers: Fifty rows of numbers." in out


def test_a_newcomers_method_runs_beside_the_others_in_two_workers(tmp_path: Path) -> None:
    """A whole folder of its own, three commands, another process each."""
    write_plugins(tmp_path / "plugins", data=DATA, median=MEDIAN)
    assert len(MEDIAN.strip().splitlines()) <= 30
    (tmp_path / "toy.toml").write_text(table_text(("mean_mode",)))
    own = ("--plugins", "plugins", "--store", "store")
    done = run_command("run", "toy.toml", "--preset", "smoke", "--workers", 2, *own, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rows: 12 ok" in done.stdout
    assert done.stdout.count("column_median on toy_mixed, mcar 0.5, seed ") == 3

    before = snapshot(tmp_path / "store")
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = run_command("run", "toy.toml", "--preset", "smoke", "--workers", 2, *own, folder=tmp_path)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert again.returncode == 0
    assert "12 cells in 12 jobs, 12 of them in store already" in again.stdout
    assert end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime < 4.0
    assert snapshot(tmp_path / "store") == before

    shown = run_command("table", "toy.toml", "--output", "out", *own, folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "column_median" in shown.stdout
    written = {path.suffix for path in (tmp_path / "out").iterdir() if path.stat().st_size > 0}
    assert {".tex", ".md", ".csv", ".png"} <= written
    for suffix in ("tex", "md", "csv"):
        text = (tmp_path / "out" / f"toy.{suffix}").read_text()
        assert "median" in text


# Runs


def test_a_dry_run_shows_the_jobs_and_writes_nothing(place: Path, call: Call) -> None:
    before = snapshot(place)
    code, out, err = call("run", "toy.toml", "--plugins", "plugins", "--dry-run", "--preset", "smoke")
    assert (code, err) == (0, "")
    assert "would run column_median on toy_numbers, mcar 0.5, seed 2: 1 row" in out
    assert "rows: none, 12 still to run" in out
    assert snapshot(place) == before


def test_a_rerun_says_what_changed(place: Path, call: Call) -> None:
    words = ("run", "toy.toml", "--plugins", "plugins", "--preset", "smoke", "--workers", 1, "--store", "store")
    assert call(*words)[0] == 0
    code, out, _ = call(*words, "--rerun", "--methods", "column_median", "--datasets", "toy_mixed")
    assert code == 0
    # Only what ran again is counted.
    assert "rerun: 3 rows identical, 0 different" in out
    path = place / "store" / "toy_mixed" / "mean_mode.jsonl"
    results = [Result.from_line(line) for line in path.read_bytes().splitlines()]
    scores = results[1].metrics["all"]
    other = {**results[1].metrics, "all": {**scores, "nrmse_std": scores["nrmse_std"] + 1e-9}}
    results[1] = replace(results[1], metrics=other)
    path.write_bytes(b"".join(result.as_line() for result in results))
    code, out, _ = call(*words, "--rerun", "--methods", "mean_mode", "--datasets", "toy_mixed")
    assert "rerun: 2 rows identical, 1 different" in out
    assert "differs: mean_mode on toy_mixed, seed 1" in out


def test_a_failure_is_told_kept_and_tried_again_when_asked_or_with_other_code(place: Path, call: Call) -> None:
    write_plugins(place / "plugins", bad=method_source("bad", fit="raise ValueError('no [luck]')"))
    words = (
        "run",
        "toy.toml",
        "--plugins",
        "plugins",
        "--preset",
        "smoke",
        "--workers",
        1,
        "--store",
        "store",
        "--datasets",
        "toy_mixed",
    )
    code, out, _ = call(*words)
    assert code == 1
    assert "failed: bad on toy_mixed: ValueError: no [luck]" in out
    assert "rows: 6 ok, 3 failed" in out
    code, out, _ = call(*words)
    assert code == 1
    assert "9 of them in store already" in out
    # What only looks different fails as before, and is not tried again.
    failing = method_source("bad", fit="raise ValueError('no [luck]')")
    write_plugins(place / "plugins", bad=f"# Mended?\n{failing}".replace("A method for tests", "It was mended"))
    code, out, _ = call(*words)
    assert code == 1
    assert "9 of them in store already" in out
    code, out, _ = call(*words, "--retry-failed")
    assert "9 jobs, 6 of them in store already" in out and "rows: 6 ok, 3 failed" in out
    write_plugins(place / "plugins", bad=method_source("bad", impute=ZEROS))
    code, out, _ = call(*words)
    assert code == 0
    assert "3 stored rows of bad: the plug-in's code is another now; computed again" in out
    assert "rows: 9 ok" in out


def test_stopping_early_counts_more_than_a_failed_row(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that continues while the code is 75 must not end because a row failed."""
    write_plugins(place / "plugins", bad=method_source("bad", fit="raise ValueError('no')"))
    words = ("run", "toy.toml", "--plugins", "plugins", "--preset", "smoke", "--workers", 1, "--store", "store")
    assert call(*words, "--methods", "bad")[0] == 1
    monkeypatch.setattr("bench.run.plan.run_jobs", lambda *arguments: "interrupted")
    code, out, _ = call(*words)
    assert code == 75
    assert "Run the same command again to continue." in out


def test_a_time_budget_that_is_over_before_anything_runs(place: Path, call: Call) -> None:
    words = ("run", "toy.toml", "--plugins", "plugins", "--preset", "smoke", "--workers", 1, "--store", "store")
    code, out, _ = call(*words, "--time-budget", "1s")
    assert code == 75
    assert "the time budget is used up. Run the same command again to continue." in out
    assert call(*words, "--time-budget", "10m")[0] == 0


def test_a_data_set_that_cannot_be_had_is_left_out(place: Path, call: Call) -> None:
    gone = "from bench.api import Dataset, BenchError\n\n\nclass Gone(Dataset):\n    name = 'gone'\n"
    gone += "    def load(self, files):\n        raise BenchError('no source of gone')\n"
    write_plugins(place / "plugins", gone=gone)
    words = ("run", "toy.toml", "--plugins", "plugins", "--preset", "smoke", "--workers", 1, "--store", "store")
    code, out, _ = call(*words, "--datasets", "gone,toy_mixed")
    assert code == 0
    assert "left out of toy: no source of gone" in out
    code, _, err = call(*words, "--datasets", "gone")
    assert code == 2
    assert err == "vsae-bench: nothing to run: no source of gone\n"


#: A data set whose one file is nowhere, a synthetic one that may take its place, and a table of it.
GONE = """
from bench.api import Dataset
from bench.data.source import File, Source


class Gone(Dataset):
    '''A data set that cannot be had.'''

    name = "gone"
    files = (File("gone.csv", (Source("mirror", "gone/gone.csv", sha256="0" * 64),)),)

    def load(self, files):
        raise AssertionError("there is nothing to load")
"""
IN_ITS_PLACE = """
import numpy as np
import pandas as pd
from bench.api import Dataset


class InItsPlace(Dataset):
    '''Sixty random numbers, twice.'''

    name = "in_its_place"
    stands_in_for = "gone"

    def load(self, files):
        return pd.DataFrame(np.random.default_rng(1).normal(size=(60, 2)), columns=["one", "two"])
"""
GONE_TABLE = """
id = "gone_table"
number = 6
title = "Gone."
label = "tab:gone"

[defaults]
mechanism = "mcar"
ratio = 0.5
metric = "nrmse_rel"
published = { dataset = "Yeast", attribute = "all", mechanism = "MCAR", metric = "nrmse", ratio = 0.5 }

[[blocks]]
dataset = "gone"

[[rows]]
label = "VSAE"
method = "mean_mode"
published = "VSAE"

[[columns]]
label = "numbers"
published = {}
"""


def one_line(text: str) -> str:
    """Return text without the line breaks of a narrow screen."""
    return " ".join(text.split())


def test_data_that_is_not_here_is_said_and_its_stand_in_runs_only_when_asked_for(place: Path, call: Call) -> None:
    write_plugins(place / "plugins", gone=GONE, in_its_place=IN_ITS_PLACE)
    (place / "gone.toml").write_text(GONE_TABLE)
    (place / "here.toml").write_text(GONE_TABLE.replace("gone_table", "here").replace('"gone"', '"toy_numbers"'))
    common = ("--plugins", "plugins", "--store", "store")
    words = ("--preset", "smoke", "--workers", 1, *common)
    advice = "--stand-in runs in_its_place, which is synthetic, in its place"
    code, out, _ = call("run", "gone.toml", "here.toml", "--methods", "mean_mode", *words)
    assert code == 0
    assert "left out of gone_table: data not obtained: data set 'gone' is not available; tried mirror" in out
    assert advice in out and "rows: 3 ok" in out
    code, _, err = call("run", "gone.toml", *words)
    assert code == 2
    assert err.startswith("vsae-bench: nothing to run: data not obtained: data set 'gone' is not available")
    assert err.count("\n") == 1 and advice in err
    code, out, _ = call("table", "gone.toml", "--published", *common)
    assert code == 0
    assert "no data a" in out and "First line: ours" in out
    assert (
        "a data not obtained: data set 'gone' lacks files. Fetch it with `vsae-bench data --fetch gone`, or by hand put"
        f" gone.csv as gone/gone.csv in a folder named by VSAE_BENCH_MIRROR. {advice[:20]}"
    ) in one_line(out)
    code, out, _ = call("run", "gone.toml", "--stand-in", *words)
    assert code == 0
    assert "rows: 6 ok" in out
    assert {row["cell"]["dataset"] for row in stored_rows(place / "store").values()} == {"toy_numbers", "in_its_place"}
    code, out, _ = call("table", "gone.toml", "--stand-in", "--published", "--output", "out", *common)
    assert code == 0
    assert "Gone. SYNTHETIC stand-in data." in out and "numbers §" in out and "±" in out
    assert "§ SYNTHETIC: in_its_place takes the place of gone." in one_line(out)
    assert "First line: ours" not in out
    assert (place / "out" / "gone_table_stand_in.md").is_file() and not (place / "out" / "gone_table.md").exists()
    # The rows of the stand-in are not those of the table.
    assert "no data" in call("table", "gone.toml", *common)[1]
    code, _, err = call("table", "6", "--stand-in")
    assert (code, err) == (2, "vsae-bench: --stand-in: no data set of table06 has a stand-in\n")


def test_a_pipe_that_closes_is_no_traceback(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        f"{sys.executable} -m bench list | head -1",
        shell=True,
        text=True,
        capture_output=True,
        cwd=tmp_path,
        env=command_environment(tmp_path),
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith("Methods")
    assert done.stderr == ""


def test_env_is_json(call: Call) -> None:
    code, out, _ = call("env")
    assert code == 0
    assert {"suite", "python", "processor", "cores", "memory_gib", "packages"} <= set(json.loads(out))


# Real data


def test_a_newcomers_method_stands_in_the_papers_table(
    mirror: Path, place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(mirror))
    (place / "plugins" / "data.py").unlink()
    words = ("--plugins", "plugins", "--store", "store")
    chosen = ("--datasets", "heart", "--methods", "mean_mode,column_median", "--preset", "smoke", "--workers", 1)
    code, out, _ = call("run", "table6", *chosen, *words)
    assert code == 0, out
    code, out, _ = call("table", "6", *words, "--output", "out", "--published")
    assert code == 0
    assert "column_median" in out
    assert "column" in (place / "out" / "table06.md").read_text()
