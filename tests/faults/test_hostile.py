"""What plug-ins do to their process and say of their errors, all in one run: each fails alone, or harms nobody."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Tally
from tests.run.test_failures import BROKEN, HOSTILE, LOADS
from tests.run.test_isolation import DEATHS, HARMS, NOISE
from tests.toys import (
    DATA,
    MEDIAN,
    ZEROS,
    command,
    command_environment,
    method_source,
    numbers_of,
    run_command,
    stored_rows,
    write_plugins,
)

pytestmark = pytest.mark.faults

NEIGHBOURS = ("column_median", "mean_mode", "vae")


@dataclass(frozen=True)
class Hostile:
    """Statements of ``fit``, and the status and the beginning of the reason of the row."""

    name: str
    fit: str
    status: str = "ok"
    reason: str = ""


def _all() -> list[Hostile]:
    failing = [*DEATHS, *HOSTILE]
    found = [
        Hostile(f"ends{n}", fit, "failed", why.replace("mine.py", f"ends{n}.py"))
        for n, (fit, why) in enumerate(failing)
    ]
    found += [Hostile(name, fit, "failed" if name == "patched" else "ok") for name, fit in HARMS.items()]
    started = "import subprocess; subprocess.Popen(['sleep', '78'])"
    return [
        *found,
        Hostile("noise", NOISE),
        Hostile("waits", "import threading; threading.Thread(target=time.sleep, args=(60,)).start()"),
        Hostile("starts", started),
        Hostile("starts_and_ends", f"{started}; os._exit(3)", "failed", "worker process died (exit code 3)"),
        Hostile("hangs", "time.sleep(60)", "failed", "no progress in 8.0 s, the limit of --job-timeout"),
        Hostile("spins", "while True: pass", "failed", "no progress in 8.0 s, the limit of --job-timeout"),
        Hostile("grows", "self.much = b'x' * 2**30; time.sleep(60)", "failed", "took 1."),
        Hostile("forks", "os.fork() or os._exit(0)"),
        Hostile("kills_group", "os.killpg(0, 9)", "failed", "worker process died (signal 9"),
        Hostile("kills_parent_pipe", "os.close(2); os.close(1); print('x' * 10**6)"),
        Hostile("threads_die", "import threading; threading.Thread(target=lambda: 1 / 0).start()"),
        Hostile("recurses", "import sys; sys.setrecursionlimit(10**9); f = lambda: f(); f()", "failed"),
        Hostile(
            "unlimited",
            "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3)); open('/dev/null')",
            "failed",
        ),
        Hostile("environment", "os.environ.clear()"),
        Hostile("modules", "sys.modules.clear()", "failed"),
    ]


FAULTS = _all()
LOADING = {f"load{n}": (load, said) for n, (load, said) in enumerate(LOADS)}
LOADING["load_hangs"] = ("import time; time.sleep(60)", "no progress in 8.0 s, the limit of --job-timeout")


@dataclass(frozen=True)
class Ran:
    """What a run gave: the exit code, what it printed, and its rows by method, without and with hostile plug-ins."""

    code: int
    printed: str
    alone: dict[str, dict[str, Any]]
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run the neighbours alone, and then everything."""
    folder = tmp_path_factory.mktemp("hostile")
    sources = {fault.name: method_source(fault.name, fit=fault.fit, impute=ZEROS) for fault in FAULTS}
    loads = {name: BROKEN.replace("broken", name).replace("LOAD", load) for name, (load, _) in LOADING.items()}
    write_plugins(folder / "plugins", data=DATA, column_median=MEDIAN, **sources, **loads)
    common = ("--seeds", 0, "--preset", "smoke", "--plugins", "plugins", "--workers", 2)
    limits = ("--job-timeout", "8s", "--job-memory", "1G")
    alone = run_command(
        "run", "--methods", ",".join(NEIGHBOURS), "--datasets", "toy_mixed", "--store", "alone", *common, folder=folder
    )
    assert alone.returncode == 0, alone.stdout + alone.stderr
    methods = ",".join([*sources, *NEIGHBOURS])
    datasets = ",".join(["toy_mixed", *loads])
    words = ("run", "--methods", methods, "--datasets", datasets, "--store", "store", *common, *limits)
    done = run_command(*words, folder=folder)
    rows = [
        {row["cell"]["method"]: row for row in stored_rows(folder / store).values()} for store in ("alone", "store")
    ]
    return Ran(done.returncode, done.stdout + done.stderr, *rows)


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_a_hostile_method_fails_alone(fault: Hostile, ran: Ran, tally: Tally) -> None:
    row = ran.rows.get(fault.name)
    problems = [] if row else ["lost: no row"]
    if row and (row["status"] != fault.status or not (row["reason"] or "").startswith(fault.reason)):
        problems.append(f"other: {row['status']}, {row['reason']}")
    tally.add("hostile plug-ins", problems)
    assert not problems


@pytest.mark.parametrize("name", LOADING)
def test_a_data_set_that_does_not_load_is_one_line(name: str, ran: Ran, tally: Tally) -> None:
    said = LOADING[name][1].replace("broken.py", f"{name}.py")
    told = [line for line in ran.printed.splitlines() if f"data set '{name}'" in line and said in line]
    problems = [] if told else ["other: nothing is said of it"]
    tally.add("hostile plug-ins", problems)
    assert not problems, ran.printed


def test_no_neighbour_is_harmed(ran: Ran, tally: Tally) -> None:
    problems = [
        f"harmed: {name}"
        for name in NEIGHBOURS
        if name not in ran.rows or numbers_of(ran.rows[name]) != numbers_of(ran.alone[name])
    ]
    problems += ["traceback: printed"] * ("Traceback (most recent call last)" in ran.printed)
    problems += [f"other: exit code {ran.code}"] * (ran.code != 1)
    tally.add("hostile plug-ins", problems, 0)
    assert not problems, ran.printed


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_an_output_that_is_not_utf_8_gets_the_table(encoding: str, tmp_path: Path, tally: Tally) -> None:
    done = subprocess.run(
        command("table", "6", "--shipped", "--published"),
        cwd=tmp_path,
        env=command_environment(tmp_path / "cache", PYTHONIOENCODING=encoding),
        capture_output=True,
        timeout=120,
        check=False,
    )
    problems = ["traceback: printed"] * (b"Traceback" in done.stderr)
    problems += [f"other: exit code {done.returncode}"] * (done.returncode != 0)
    problems += ["other: no table"] * (b"VSAE" not in done.stdout)
    tally.add("outputs", problems)
    assert not problems, done.stderr
