"""Whatever a plug-in does to its process, its job fails and nothing else: the run goes on, and says what happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.errors import BenchError
from bench.experiment.result import Result
from bench.plugins.registry import Registry
from bench.run.isolation import process, workers
from bench.run.isolation.workers import run_jobs
from bench.run.machine import Machine
from bench.run.store import Store
from tests.toys import (
    DATA,
    MEDIAN,
    PATIENT,
    ZEROS,
    Watcher,
    command_environment,
    jobs_for,
    method_source,
    numbers_in,
    run_command,
    start_command,
    stored_rows,
    wait_until,
    write_plugins,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))


#: The toy data with enough rows to tune on.
MANY = DATA.replace("toy_", "many_").replace("60", "1500")


def folder_with(tmp_path: Path, **sources: str) -> Path:
    return write_plugins(tmp_path / "plugins", data=DATA, **sources)


def run_words(methods: str, *more: str) -> tuple[str, ...]:
    """Return the words of a run of methods on the toy data into the folder ``store``."""
    data = ("--datasets", "toy_mixed", "--plugins", "plugins")
    return ("run", "--methods", methods, *data, "--preset", "smoke", "--store", "store", *more)


def outcomes(
    tmp_path: Path, names: tuple[str, ...], machine: Machine | None = None, **sources: str
) -> dict[str, dict[str, Any]]:
    """Return the rows of methods on one seed by method, run by one worker at a time."""
    registry = Registry.scan([folder_with(tmp_path, **sources)])
    store = Store(tmp_path / "store")
    jobs = [job for name in names for job in jobs_for(registry, (name,), seeds=(0,))]
    assert run_jobs(jobs, machine or Machine(), Watcher(), store.put) is None
    return {row["cell"]["method"]: row for row in stored_rows(store.folder).values()}


# Deaths


#: Statements of ``fit``, and how the reason of the failed row begins.
DEATHS = [
    ("os._exit(0)", "worker process died (exit code 0)"),
    ("import ctypes; ctypes.string_at(0)", "worker process died (signal 11, Segmentation fault) at mine.py:18"),
    ("os.abort()", "worker process died (signal 6, Aborted) at mine.py:18"),
    ("os.close(0); os.closerange(3, 64); time.sleep(30)", "worker process died"),
]


@pytest.mark.parametrize(("fit", "reason"), DEATHS)
def test_a_process_that_ends_is_a_failed_row_and_the_run_goes_on(tmp_path: Path, fit: str, reason: str) -> None:
    rows = outcomes(tmp_path, ("mine", "column_median"), mine=method_source("mine", fit=fit), median=MEDIAN)
    assert rows["column_median"]["status"] == "ok"
    assert rows["mine"]["status"] == "failed"
    assert rows["mine"]["reason"].startswith(reason)
    assert (rows["mine"]["cause"], rows["mine"]["attempts"]) == ("environment", 1)


def test_a_thread_that_never_ends_does_not_keep_the_command(tmp_path: Path) -> None:
    fit = "import threading; threading.Thread(target=time.sleep, args=(60,)).start()"
    folder_with(tmp_path, mine=method_source("mine", fit=fit, impute=ZEROS))
    began = time.monotonic()
    words = run_words("mine", "--seeds", "0")
    done = run_command(*words, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 40
    assert [row["status"] for row in stored_rows(tmp_path / "store").values()] == ["ok"]


def test_what_a_job_started_ends_with_it(tmp_path: Path) -> None:
    fit = "import subprocess; subprocess.Popen(['sleep', '60'], start_new_session=False); os._exit(3)"
    rows = outcomes(tmp_path, ("mine",), mine=method_source("mine", fit=fit))
    assert rows["mine"]["reason"] == "worker process died (exit code 3)"
    asleep = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "60"]]
    assert not asleep


def test_a_run_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    fit = "import subprocess; subprocess.Popen(['sleep', '61']); open('begun', 'w').close(); time.sleep(60)"
    folder_with(tmp_path, mine=method_source("mine", fit=fit))
    words = run_words("mine", "--workers", "1")
    running = start_command(*words, folder=tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists() or running.poll() is not None)
    children = psutil.Process(running.pid).children(recursive=True)
    assert len(children) == 2
    running.kill()
    running.communicate()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]


def test_sigterm_twice_ends_at_once(tmp_path: Path) -> None:
    stubborn = method_source("stubborn", fit="open('begun', 'w').close(); time.sleep(60)", impute=ZEROS)
    folder_with(tmp_path, stubborn=stubborn)
    words = run_words("stubborn")
    running = start_command(*words, folder=tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists() or running.poll() is not None)
    running.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 75
    assert "interrupted at once" in out and "Traceback" not in out + err


def test_a_worker_killed_before_it_is_ready_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    class Doomed(process.Worker):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            started.append(self.pid)
            if len(started) == 1:
                os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(workers, "Worker", Doomed)
    rows = outcomes(tmp_path, ("column_median",), median=MEDIAN)
    assert rows["column_median"]["status"] == "ok"
    assert len(started) == 2


def test_workers_that_never_start_end_the_run_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BenchError, match=r"^worker processes do not start here: .*exit code 1.*try --workers 0$"):
        outcomes(tmp_path, ("column_median",), median=MEDIAN)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(BenchError, match=r"^worker processes do not start here .*FileNotFoundError.*try --workers 0$"):
        outcomes(tmp_path, ("column_median",), median=MEDIAN)


# State


HARMS = {
    "dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "gradients": "import torch; torch.set_grad_enabled(False)",
    "moved": "os.chdir('/')",
    "patched": "import bench.problem.metrics as m; m.score = None; np.where = None",
    "streams": "sys.stdout = sys.stderr = None; os.close(1); os.close(2)",
    "signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL); signal.raise_signal(signal.SIGINT)",
}


def test_what_a_plugin_changes_in_its_process_harms_no_other_method(tmp_path: Path) -> None:
    sources = {name: method_source(name, fit=harm, impute=ZEROS) for name, harm in HARMS.items()}
    alone = outcomes(tmp_path / "alone", ("vae",))
    rows = outcomes(tmp_path, (*HARMS, "vae"), Machine(workers=2), **sources)
    assert rows["vae"]["status"] == "ok"
    assert rows["vae"]["metrics"] == alone["vae"]["metrics"]
    assert {name: rows[name]["status"] for name in HARMS} == {**dict.fromkeys(HARMS, "ok"), "patched": "failed"}


NOISE = (
    "print('{\"answer\": {}}'); os.write(1, b'{\"results\": []}\\n\\xff\\n'); os.write(2, b'x' * 100000 + b'\\n');"
    " print('y' * 100000, end=''); os.system('echo echoed'); print(sys.stdin.read())"
)


def test_what_a_plugin_prints_is_no_answer(tmp_path: Path) -> None:
    registry = Registry.scan([folder_with(tmp_path, loud=method_source("loud", fit=NOISE, impute=ZEROS))])
    watcher = Watcher()
    results: list[Result] = []
    assert run_jobs(jobs_for(registry, ("loud",), seeds=(0,)), Machine(), watcher, results.extend) is None
    assert [result.status for result in results] == ["ok"]
    assert {'{"answer": {}}', '{"results": []}', "echoed"} <= set(watcher.lines)
    assert max(map(len, watcher.lines)) < 5000


def test_a_thread_that_ends_with_an_error_is_one_line(tmp_path: Path) -> None:
    fit = "import threading; threading.Thread(target=lambda: 1 / 0).start()"
    registry = Registry.scan([folder_with(tmp_path, mine=method_source("mine", fit=fit, impute=ZEROS))])
    watcher = Watcher()
    results: list[Result] = []
    assert run_jobs(jobs_for(registry, ("mine",), seeds=(0,)), Machine(), watcher, results.extend) is None
    assert [result.status for result in results] == ["ok"]
    assert "warning: a thread ended with ZeroDivisionError: division by zero (mine.py:18)" in watcher.lines
    assert not any("Traceback" in line for line in watcher.lines)


def test_a_worker_that_cannot_make_rows_says_why(tmp_path: Path) -> None:
    rows = outcomes(tmp_path, ("mine",), mine=method_source("mine", fit="sys.modules.clear()", impute=ZEROS))
    assert rows["mine"]["status"] == "failed"
    assert rows["mine"]["reason"].startswith("worker process gave no rows: ")
    assert "'results'" not in rows["mine"]["reason"]


# Limits


def test_silence_and_memory_beyond_their_limits_are_failed_rows(tmp_path: Path) -> None:
    hangs = method_source("hangs", fit="time.sleep(60)")
    grows = method_source("grows", fit="self.much = b'x' * 2**30; time.sleep(60)")
    talks = method_source(
        "talks", fit="[(time.sleep(0.25), self.context.progress(i, 40, 'walking')) for i in range(40)]", impute=ZEROS
    )
    machine = Machine(workers=2, silence=8.0, memory=1.0)
    rows = outcomes(tmp_path, ("hangs", "grows", "talks"), machine, hangs=hangs, grows=grows, talks=talks)
    assert rows["talks"]["status"] == "ok"
    reasons = {name: row["reason"] for name, row in rows.items() if row["status"] == "failed"}
    assert reasons["hangs"] == "no progress in 8.0 s, the limit of --job-timeout at hangs.py:18"
    assert reasons["grows"].startswith("took 1.") and "beyond the limit of --job-memory, 1 GiB" in reasons["grows"]
    assert {rows[name]["cause"] for name in reasons} == {"environment"}


def test_a_stack_has_as_much_time_as_its_replicas(tmp_path: Path) -> None:
    slow = PATIENT.replace('"pause": 0.05', '"pause": 2.5').replace('"epochs": 30', '"epochs": 1')
    registry = Registry.scan([folder_with(tmp_path, patient=slow)])
    results: list[Result] = []
    assert run_jobs(jobs_for(registry, ("patient",)), Machine(silence=2.0), Watcher(), results.extend) is None
    assert [result.status for result in results] == ["ok"] * 3


def test_a_hanging_job_does_not_outlast_the_time_budget(tmp_path: Path) -> None:
    folder_with(tmp_path, hangs=method_source("hangs", fit="time.sleep(60)"))
    words = run_words("hangs")
    began = time.monotonic()
    done = run_command(*words, "--workers", 1, "--time-budget", "8s", folder=tmp_path)
    assert time.monotonic() - began < 15
    assert done.returncode == 75
    assert "had no place to stop at and will start over" in done.stdout


# Later runs


def test_what_the_environment_failed_is_tried_again_at_most_twice(tmp_path: Path) -> None:
    dies = method_source("dies", fit="open('tries', 'a').write('x'); os._exit(1)")
    folder_with(
        tmp_path, dies=dies, bad=method_source("bad", fit="open('bad', 'a').write('x'); raise ValueError('no')")
    )
    words = run_words("dies,bad", "--seeds", "0")
    for attempts in (1, 2, 3, 3):
        assert run_command(*words, folder=tmp_path).returncode == 1
        assert (tmp_path / "tries").read_text() == "x" * attempts
        rows = {row["cell"]["method"]: row for row in stored_rows(tmp_path / "store").values()}
        assert (rows["dies"]["attempts"], rows["dies"]["cause"]) == (attempts, "environment")
    assert (tmp_path / "bad").read_text() == "x"
    assert rows["bad"]["cause"] == "method"
    assert run_command(*words, "--retry-failed", folder=tmp_path).returncode == 1
    assert (tmp_path / "tries").read_text() == "xxxx"


def test_a_job_whose_worker_is_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, patient=PATIENT)
    words = run_words("patient", "--workers", "1")
    running = start_command(*words, folder=tmp_path)
    wait_until(lambda: list((tmp_path / "store" / "checkpoints").glob("*.pt")) or running.poll() is not None)
    for child in psutil.Process(running.pid).children():
        child.kill()
    running.communicate(timeout=60)
    assert running.returncode == 1
    (first, *_) = stored_rows(tmp_path / "store").values()
    assert first["reason"] == "worker process died (signal 9; out of memory, perhaps)"
    assert run_command(*words, folder=tmp_path).returncode == 0
    rows = stored_rows(tmp_path / "store")
    assert min(row["diagnostics"]["resumed_from"] for row in rows.values()) > 0
    whole = Store(tmp_path / "whole")
    assert run_jobs(jobs_for(Registry.scan([folder]), ("patient",)), Machine(), Watcher(), whole.put) is None
    assert numbers_in(whole.folder) == numbers_in(tmp_path / "store")


# The other verbs


def test_tune_plot_and_check_outlive_a_method_that_ends_its_process(tmp_path: Path) -> None:
    extra = "tunable = {'fill': ('uniform', 0.0, 1.0)}\n    parameter_sets = {'default': {'fill': 0.0}}"
    dies = method_source("dies", fit="os._exit(0)", extra=extra)
    folder_with(
        tmp_path,
        dies=dies,
        flat=method_source("flat", impute=ZEROS),
        raises=method_source("raises", fit="1/0"),
        many=MANY,
    )
    died = "worker process died (exit code 0)"
    common = ("--plugins", "plugins")
    tuned = run_command("tune", "dies", "many_mixed", "--preset", "smoke", *common, folder=tmp_path)
    assert (tuned.returncode, tuned.stderr) == (2, f"vsae-bench: {died}\n")
    drawn = run_command(
        "plot", "imputations", "toy_mixed", "--methods", "dies", "--preset", "smoke", *common, folder=tmp_path
    )
    assert (drawn.returncode, drawn.stderr) == (2, f"vsae-bench: {died}\n")
    drawn = run_command(
        "plot", "imputations", "toy_mixed", "--methods", "raises", "--preset", "smoke", *common, folder=tmp_path
    )
    said = "vsae-bench: method 'raises' failed on toy_mixed: ZeroDivisionError: division by zero (raises.py:18)\n"
    assert (drawn.returncode, drawn.stderr) == (2, said)
    checked = run_command("check", "dies", "flat", *common, folder=tmp_path)
    assert (checked.returncode, checked.stderr) == (1, "")
    assert f"  FAILED  It survives its checks: {died}" in checked.stdout
    assert "method flat" in checked.stdout and checked.stdout.splitlines()[-1] == "1 ok, 1 failed"


def test_tuning_goes_on_after_a_data_set_that_does_not_load(tmp_path: Path) -> None:
    extra = "tunable = {'fill': ('uniform', 0.0, 1.0)}\n    parameter_sets = {'default': {'fill': 0.0}}"
    broken = DATA.replace("toy_", "broken_").replace("rng = np", "raise KeyError('no')\n        rng = np")
    folder_with(tmp_path, mine=method_source("mine", impute=ZEROS, extra=extra), broken=broken, many=MANY)
    words = ("tune", "mine", "broken_mixed,many_mixed", "--preset", "smoke", "--seeds", "0", "--plugins", "plugins")
    done = run_command(*words, "--store", "store", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        "failed: mine on broken_mixed: data set 'broken_mixed' cannot be loaded: KeyError: 'no' (broken.py:15)"
        in done.stdout
    )
    assert (tmp_path / "store" / "tuned" / "many_mixed" / "mine.json").is_file()


# Where it is called from


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """As in a notebook: what calls the suite is not executed again by a worker."""
    folder = folder_with(tmp_path, median=MEDIAN)
    script = tmp_path / "script.py"
    script.write_text(
        "print('once')\nfrom bench.cli.app import main\nimport sys\n"
        f"sys.argv[1:] = {['run', '--methods', 'column_median', '--datasets', 'toy_mixed', '--preset', 'smoke']!r}\n"
        f"sys.argv += ['--plugins', {str(folder)!r}, '--workers', '2', '--store', 'store']\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=command_environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("once") == 1
    assert len(stored_rows(tmp_path / "store")) == 3
