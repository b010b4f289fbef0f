"""The one place for errors: outputs that take no UTF-8 or nothing at all, systems that lack a module, bugs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.cli.app import BAD_INPUT, BUG
from bench.errors import BenchError, line_of, printable
from bench.run.request import Place, parse_duration
from tests.toys import DATA, command, command_environment, run_command, table_text, write_plugins


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_output_that_is_not_utf8_has_all_that_it_can(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "toy.toml").write_text(table_text(("mean_mode",), more='caption = "Δ ± 中 ≥"'), "utf-8")
    environment = command_environment(tmp_path, PYTHONIOENCODING=encoding)
    words = command("table", "toy.toml")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, env=environment, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"A toy" in done.stdout and b"?" in done.stdout


def test_a_full_disk_behind_the_output_is_one_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("list"),
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=command_environment(tmp_path),
            check=False,
            timeout=60,
        )
    assert done.returncode == BAD_INPUT
    assert done.stderr == "vsae-bench: reading or writing failed: No space left on device\n"


def test_a_reader_that_left_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" | true', "sh", *command("list")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=command_environment(tmp_path),
        check=False,
        timeout=60,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("module", ["resource", "fcntl"])
def test_a_system_without_posix_is_told_which_ones_there_are(tmp_path: Path, module: str) -> None:
    write_plugins(tmp_path / "plugins", data=DATA)
    words = ("run", "--methods", "mean_mode", "--datasets", "toy_numbers", "--plugins", "plugins", "--preset", "smoke")
    done = run_command(*words, folder=tmp_path, prelude=f"import sys\nsys.modules[{module!r}] = None")
    assert done.returncode == BAD_INPUT
    assert done.stderr == (
        f"vsae-bench: Python's module '{module}' is missing: vsae-bench runs on Linux and macOS (on Windows, in WSL)\n"
    )


@pytest.mark.parametrize("words", [("run", "--store", "/proc/store"), ("table", "toy.toml", "--output", "/proc/out")])
def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    write_plugins(tmp_path / "plugins", data=DATA)
    (tmp_path / "toy.toml").write_text(table_text(("mean_mode",)), "utf-8")
    grid = ("--methods", "mean_mode", "--datasets", "toy_numbers", "--preset", "smoke")
    more = grid if words[0] == "run" else ()
    done = run_command(*words, *more, "--plugins", "plugins", folder=tmp_path)
    assert done.returncode == BAD_INPUT
    assert done.stderr.startswith("vsae-bench: /proc/") and done.stderr.count("\n") == 1


def test_a_bug_is_one_line_and_its_traceback_can_be_had(tmp_path: Path) -> None:
    prelude = "import bench.cli.list as l\nimport bench.plugins.registry as r\nr.Registry.scan = None"
    done = run_command("list", folder=tmp_path, prelude=prelude)
    assert done.returncode == BUG
    assert done.stderr.startswith("vsae-bench: unexpected TypeError: ") and done.stderr.count("\n") == 1
    environment = command_environment(tmp_path, VSAE_BENCH_TRACEBACK="1")
    assert "Traceback" in run_command("list", folder=tmp_path, prelude=prelude, environment=environment).stderr


# Texts of strangers


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ± text", "plain ± text"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\r\nb\tc", "a  b c"),
        ("caf\udce9", r"caf\udce9"),
        ("\u202eright to left", r"\u202eright to left"),
        ("\x9bcontrol", r"\x9bcontrol"),
    ],
)
def test_texts_are_shown_and_not_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_errors_are_one_line_whatever_their_text_does() -> None:
    class Awkward(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert line_of(Awkward()) == "(its text cannot be had)"
    assert line_of(ValueError()) == "ValueError"
    assert line_of(ValueError("a\nb")) == "a b"
    assert len(line_of(ValueError("x" * 10**6))) == 4096


@pytest.mark.parametrize("text", ["9" * 400, f"{'9' * 400}h", "0", "1e400h"])
def test_durations_are_bounded(text: str) -> None:
    with pytest.raises(BenchError, match="--time-budget takes a duration") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 200


def test_threads_are_bounded() -> None:
    with pytest.raises(BenchError, match="--threads takes at most 1024"):
        Place(threads=10**9).require_valid()
