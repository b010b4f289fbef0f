"""A store is held by one process at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.run.lock import held

pytest.importorskip("fcntl")

HOLD = """
import pathlib, sys
from bench.run.lock import held

with held(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_holds_the_store(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert other.stdout is not None and other.stdin is not None
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BenchError, match=f"process {other.pid} is working on the store"), held(tmp_path):
            pass
    finally:
        other.stdin.close()
        other.wait(timeout=30)
        other.stdout.close()
    with held(tmp_path):
        pass


def test_it_is_free_again_after_the_block_and_after_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    with pytest.raises(ZeroDivisionError), held(folder):
        raise ZeroDivisionError
    with held(folder):
        assert (folder / ".lock").is_file()
