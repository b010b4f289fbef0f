"""Processes, kills, interruptions and time limits: nothing that was finished is lost, and the numbers stay the same."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.errors import Stopped
from bench.plugins.registry import Registry
from bench.run.isolation.workers import run_jobs
from bench.run.machine import Machine, StopRule
from bench.run.store import Store
from tests.toys import (
    DATA,
    MECHANISM,
    MEDIAN,
    PATIENT,
    ZEROS,
    Watcher,
    jobs_for,
    method_source,
    numbers_in,
    run_command,
    start_command,
    stored_rows,
    table_text,
    uninterrupted,
    wait_until,
    write_plugins,
)

#: A training of VSAE that keeps its state at each epoch, and whose epochs take a while.
SLOW_TRAINING = """
import time
import bench.neural.engine.trainer as training
training.CHECKPOINT_SECONDS, training.CHECKPOINT_SHARE = 0.0, float("inf")
run_epoch = training.Trainer.run_epoch
def slowly(self):
    time.sleep(0.05)
    run_epoch(self)
training.Trainer.run_epoch = slowly
"""

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")


def folder_with(tmp_path: Path, **sources: str) -> Path:
    return write_plugins(tmp_path / "plugins", data=DATA, **sources)


# Workers


def test_workers_give_the_very_rows_of_this_process(tmp_path: Path) -> None:
    registry = Registry.scan([folder_with(tmp_path, median=MEDIAN, patient=PATIENT.replace("0.05", "0.0"))])
    jobs = jobs_for(registry, ("vsae", "column_median", "patient"))
    found, watchers = [], []
    for workers in (0, 1, 2):
        store, watcher = Store(tmp_path / f"store{workers}"), Watcher()
        machine = Machine(workers=workers, checkpoints=store.folder / "checkpoints")
        assert run_jobs(jobs, machine, watcher, store.put) is None
        found.append(numbers_in(store.folder))
        watchers.append(watcher)
        assert list((store.folder / "checkpoints").glob("*")) == []
    assert {row["status"] for row in found[0].values()} == {"ok"}
    assert len(found[0]) == 9
    assert found[0] == found[1] == found[2]
    for watcher in watchers:
        assert sorted(watcher.begun) == sorted(job.key for job in jobs)
        patient = next(job.key for job in jobs if job.cells[0].method == "patient")
        assert watcher.stages[f"{patient} training"] == [(epoch, 30) for epoch in range(1, 31)]


def test_method_data_set_and_mechanism_of_a_users_folder_in_two_workers(tmp_path: Path) -> None:
    folder_with(tmp_path, stripes=MECHANISM, median=MEDIAN)
    (tmp_path / "toy.toml").write_text(table_text(("mean_mode",)).replace('"mcar"', '"stripes"'))
    done = run_command(
        "run",
        "toy.toml",
        "--preset",
        "smoke",
        "--plugins",
        "plugins",
        "--workers",
        2,
        "--store",
        "store",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = stored_rows(tmp_path / "store").values()
    assert {row["cell"]["method"] for row in rows} == {"mean_mode", "column_median"}
    assert {row["cell"]["dataset"] for row in rows} == {"toy_mixed", "toy_numbers"}
    assert {row["cell"]["mechanism"] for row in rows if row["cell"]["dataset"] == "toy_mixed"} == {"stripes"}
    assert {row["status"] for row in rows} == {"ok"}


def test_a_worker_that_dies_costs_its_own_job_only(tmp_path: Path) -> None:
    dying = method_source("dying", fit="os._exit(3) if seed == 1 else None", impute=ZEROS)
    killed = method_source("killed", fit="os.kill(os.getpid(), 9) if seed == 0 else time.sleep(0.2)", impute=ZEROS)
    registry = Registry.scan([folder_with(tmp_path, dying=dying, killed=killed, median=MEDIAN)])
    jobs = jobs_for(registry, ("dying", "killed", "column_median"))
    store, watcher = Store(tmp_path / "store"), Watcher()
    assert run_jobs(jobs, Machine(workers=2), watcher, store.put) is None
    by_cell = {(row["cell"]["method"], row["cell"]["seed"]): row for row in stored_rows(store.folder).values()}
    assert len(by_cell) == 9
    failed = {name: row["reason"] for name, row in by_cell.items() if row["status"] != "ok"}
    assert failed == {
        ("dying", 1): "worker process died (exit code 3)",
        ("killed", 0): "worker process died (signal 9; out of memory, perhaps)",
    }
    assert by_cell["dying", 1]["status"] == "failed"


def test_what_a_plugin_prints_in_a_worker_reaches_the_display_as_lines(tmp_path: Path) -> None:
    loud = method_source(
        "loud", fit="print('one', end=' '); print('two'); sys.stderr.write('10 %\\r20 %\\n')", impute=ZEROS
    )
    registry = Registry.scan([folder_with(tmp_path, loud=loud)])
    watcher = Watcher()
    assert run_jobs(jobs_for(registry, ("loud",)), Machine(workers=2), watcher, lambda results: None) is None
    lines = [line for line in watcher.lines if "loud" not in line]
    # Two workers print at the same time: the order between them is open.
    assert sorted(lines) == sorted(["one two", "20 %"] * 3)


def test_a_plugin_edited_during_the_run_ends_it_without_failed_rows(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, median=MEDIAN)
    registry = Registry.scan([folder])
    jobs = jobs_for(registry, ("column_median",))
    write_plugins(folder, median=MEDIAN + "\n# changed\n")
    for workers in (0, 2):
        store = Store(tmp_path / f"store{workers}")
        reason = run_jobs(jobs, Machine(workers=workers), Watcher(), store.put)
        assert reason is not None
        assert "median.py" in reason
        assert stored_rows(store.folder) == {}


# Kills


@unix_only
def test_a_training_killed_in_the_middle_goes_on_to_the_very_same_rows(tmp_path: Path) -> None:
    folder_with(tmp_path)
    words = (
        "run",
        "--methods",
        "vsae",
        "--datasets",
        "toy_mixed",
        "--preset",
        "smoke",
        "--plugins",
        "plugins",
        "--workers",
        0,  # the prelude slows this process only
        "--device",
        "cpu",
        "--store",
    )
    running = start_command(*words, "store", folder=tmp_path, prelude=SLOW_TRAINING)
    checkpoints = tmp_path / "store" / "checkpoints"
    wait_until(lambda: list(checkpoints.glob("*.pt")) or running.poll() is not None)
    time.sleep(0.2)
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert len(list(checkpoints.glob("*.pt"))) == 1
    assert stored_rows(tmp_path / "store") == {}
    resumed = run_command(*words, "store", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert len(numbers_in(tmp_path / "store")) == 3
    assert numbers_in(tmp_path / "store") == uninterrupted(tmp_path, ("vsae",))
    assert list(checkpoints.glob("*")) == []


@unix_only
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    folder_with(tmp_path, patient=PATIENT.replace('"epochs": 30', '"epochs": 2000'))
    running = start_command(
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
        folder=tmp_path,
    )
    checkpoints = tmp_path / "store" / "checkpoints"
    wait_until(lambda: len(list(checkpoints.glob("*.pt"))) == 2 or running.poll() is not None)
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) >= 2
    running.kill()
    running.communicate()
    psutil.wait_procs(children, timeout=10)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    kept = {path.name: path.read_bytes() for path in checkpoints.glob("*.pt")}
    time.sleep(0.3)
    assert kept == {path.name: path.read_bytes() for path in checkpoints.glob("*.pt")}


# Time budgets


def test_a_time_budget_stops_at_an_epoch_and_goes_on_next_time(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, patient=PATIENT.replace('"epochs": 30', '"epochs": 50'))
    registry = Registry.scan([folder])
    jobs = jobs_for(registry, ("patient",))
    whole, pieces = Store(tmp_path / "whole"), Store(tmp_path / "pieces")
    assert run_jobs(jobs, Machine(workers=0, checkpoints=whole.folder / "checkpoints"), Watcher(), whole.put) is None
    runs = 0
    while True:
        limit = time.time() + 3.0
        machine = Machine(workers=0, checkpoints=pieces.folder / "checkpoints", deadline=limit)
        reason = run_jobs(jobs, machine, Watcher(), pieces.put)
        assert time.time() < limit
        runs += 1
        assert runs < 30
        if reason is None:
            break
        assert reason == "the time budget is used up"
    assert runs > 2
    assert numbers_in(whole.folder) == numbers_in(pieces.folder)
    assert stored_rows(pieces.folder).popitem()[1]["diagnostics"]["resumed_from"] > 0


def test_a_time_budget_holds_in_workers_too_even_where_a_job_cannot_stop(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    stubborn = method_source("stubborn", fit=f"open({str(begun)!r}, 'w').close(); time.sleep(60)", impute=ZEROS)
    registry = Registry.scan([folder_with(tmp_path, stubborn=stubborn)])
    jobs = jobs_for(registry, ("stubborn",))
    store = Store(tmp_path / "store")
    began = time.time()
    reason = run_jobs(jobs, Machine(workers=2, deadline=began + 6.0), Watcher(), store.put)
    assert time.time() < began + 6.0
    assert reason is not None
    assert reason.startswith("the time budget is used up")
    if begun.exists():  # it does, unless workers need all that time to start
        assert reason.endswith("had no place to stop at and will start over")
    assert stored_rows(store.folder) == {}


def test_the_stop_rule_looks_ahead_by_the_longest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    rule = StopRule(deadline=120.0, requested=lambda: False)
    for at in (105.0, 106.0, 111.0):
        now[0] = at
        rule()
    # The longest step was 5 s, after 5 s of loading, and 2 s are kept free: 113 is the last time to continue.
    now[0] = 113.1
    with pytest.raises(Stopped, match="time budget"):
        rule()


def test_loading_does_not_count_as_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    rule = StopRule(deadline=120.0, requested=lambda: False)
    for at in (112.0, 113.0):
        now[0] = at
        rule()


def test_a_request_to_stop_is_heard() -> None:
    asked = [False]
    rule = StopRule(None, lambda: asked[0])
    rule()
    asked[0] = True
    with pytest.raises(Stopped, match="interrupted"):
        rule()
