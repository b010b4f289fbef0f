"""Ctrl-C and SIGTERM: the run ends cleanly, keeps what it has, and continues next time."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from bench.run.plan import NOT_FINISHED
from tests.toys import (
    DATA,
    MEDIAN,
    PATIENT,
    ZEROS,
    method_source,
    numbers_of,
    run_command,
    start_command,
    stored_rows,
    uninterrupted,
    wait_until,
    write_plugins,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))


def folder_with(tmp_path: Path, **sources: str) -> Path:
    return write_plugins(tmp_path / "plugins", data=DATA, **sources)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_everything_and_the_next_run_goes_on(tmp_path: Path, workers: int) -> None:
    folder_with(tmp_path, patient=PATIENT, median=MEDIAN)
    words = (
        "run",
        "--methods",
        "column_median,patient",
        "--datasets",
        "toy_mixed,toy_numbers",
        "--preset",
        "smoke",
        "--plugins",
        "plugins",
        "--workers",
        workers,
        "--store",
    )
    running = start_command(*words, "store", folder=tmp_path)
    checkpoints = tmp_path / "store" / "checkpoints"
    wait_until(lambda: list(checkpoints.glob("*.pt")) or running.poll() is not None)
    # As a terminal does it: to every process of the group.
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == NOT_FINISHED == 75
    assert "Traceback" not in out + err
    assert "stopping as soon as the running jobs have kept their state" in out
    assert "interrupted. Run the same command again to continue." in out
    finished_before = stored_rows(tmp_path / "store")
    assert "failed" not in {row["status"] for row in finished_before.values()}
    assert list(checkpoints.glob("*.pt"))
    resumed = run_command(*words, "store", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    rows = stored_rows(tmp_path / "store")
    assert len(rows) == 12
    assert all(rows[key] == row for key, row in finished_before.items())
    assert max(row["diagnostics"].get("resumed_from", 0) for row in rows.values()) > 0
    for dataset in ("toy_mixed", "toy_numbers"):
        whole = uninterrupted(tmp_path, ("column_median", "patient"), dataset)
        assert whole == {key: numbers_of(row) for key, row in rows.items() if row["cell"]["dataset"] == dataset}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_ctrl_c_ends_at_once_what_has_no_place_to_stop(tmp_path: Path, workers: int) -> None:
    stubborn = method_source("stubborn", fit="open(f'begun{seed}', 'w').close(); time.sleep(60)", impute=ZEROS)
    folder_with(tmp_path, stubborn=stubborn)
    running = start_command(
        "run",
        "--methods",
        "stubborn",
        "--datasets",
        "toy_mixed",
        "--preset",
        "smoke",
        "--plugins",
        "plugins",
        "--workers",
        workers,
        "--store",
        "store",
        folder=tmp_path,
    )
    wait_until(lambda: len(list(tmp_path.glob("begun*"))) == workers or running.poll() is not None)
    os.killpg(running.pid, signal.SIGINT)
    time.sleep(0.5)
    assert running.poll() is None
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == NOT_FINISHED
    assert "Traceback" not in out + err
    assert "interrupted at once" in out
    assert stored_rows(tmp_path / "store") == {}


def test_sigterm_is_a_request_to_stop_too(tmp_path: Path) -> None:
    """A batch queue sends it before its limit, to every process."""
    folder_with(tmp_path, patient=PATIENT)
    words = (
        "run",
        "--methods",
        "patient",
        "--datasets",
        "toy_mixed,toy_numbers",
        "--preset",
        "smoke",
        "--plugins",
        "plugins",
        "--workers",
        2,
        "--store",
        "store",
    )
    running = start_command(*words, folder=tmp_path)
    checkpoints = tmp_path / "store" / "checkpoints"
    wait_until(lambda: len(list(checkpoints.glob("*.pt"))) == 2 or running.poll() is not None)
    os.killpg(running.pid, signal.SIGTERM)
    out, err = running.communicate(timeout=60)
    assert running.returncode == NOT_FINISHED, out + err
    assert "Traceback" not in out + err
    assert stored_rows(tmp_path / "store") == {}
    assert len(list(checkpoints.glob("*.pt"))) == 2


def test_ctrl_c_before_anything_runs_is_one_line(tmp_path: Path) -> None:
    # A shell starts what it runs in the background with Ctrl-C ignored, these tests among it.
    prelude = (
        "import bench.experiment.expand as r, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "r.load_spec = lambda name: os.kill(os.getpid(), signal.SIGINT)"
    )
    done = run_command("run", "table6", folder=tmp_path, prelude=prelude)
    assert (done.returncode, done.stderr, done.stdout) == (130, "vsae-bench: interrupted\n", "")
