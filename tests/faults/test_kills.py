"""SIGKILL at random moments: the run that comes after has every row, and each is what it is without any kill."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.run.store import Store
from tests.faults.harness import Tally
from tests.toys import DATA, MEDIAN, PATIENT, command, command_environment, numbers_of, write_plugins

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")]

#: How many kills; a number, however many stores that takes.
KILLS = int(os.environ.get("VSAE_BENCH_KILLS", "200"))
#: Stores that are killed at side by side.
LANES = 3
#: What is killed: the command, one of its workers, or a worker with all it started.
TARGETS = ("main processes", "workers", "process groups")
#: Runs that a store may take until it is complete: far more than it ever takes.
MOST_RUNS = 60

#: The same as ``MEDIAN`` under another name, in a file of its own: a neighbour.
STEADY = MEDIAN.replace("ColumnMedian", "Steady").replace("column_median", "steady")
#: Starts a process of its own, which has to end with it.
FAMILY = STEADY.replace("Steady", "Family").replace('"steady"', '"family"')
FAMILY = FAMILY.replace("self.fill = {}", "import subprocess; self.fill = {}; subprocess.Popen(['sleep', '77'])")
WALK = PATIENT.replace('"pause": 0.05', '"pause": 0.03')

#: Methods of the stores in turn: a network takes longer to import than to train, and is not in every one.
STORES: tuple[tuple[str, ...], ...] = (
    ("patient", "steady", "family"),
    ("patient", "steady", "family"),
    ("patient", "steady", "vae"),
)


@dataclass
class Damage:
    """What was killed in a lane, how long it took, and what is wrong."""

    killed: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stores: int = 0
    runs: int = 0
    failed: int = 0
    retried: int = 0
    torn: int = 0
    resumed: int = 0


def words(methods: tuple[str, ...], *more: str) -> list[str]:
    """Return the words that run methods on the toy data with two workers into the folder ``store``."""
    data = ("--datasets", "toy_mixed", "--mechanisms", "mcar", "--ratios", "0.5", "--plugins", "plugins")
    asked = ("run", "--methods", ",".join(methods), *data, "--seeds", "0,1", "--preset", "smoke")
    return command(*asked, "--store", "store", "--workers", "2", *more)


def start(folder: Path, methods: tuple[str, ...], *more: str) -> subprocess.Popen[bytes]:
    """Start a run that prints into a file, which a kill does not close."""
    with (folder / "printed").open("ab") as printed:
        return subprocess.Popen(
            words(methods, *more),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            env=command_environment(folder / "cache"),
            start_new_session=True,
        )


def new_folder(parent: Path, name: str) -> Path:
    """Return a folder with the plug-ins in it."""
    write_plugins(parent / name / "plugins", data=DATA, patient=WALK, steady=STEADY, family=FAMILY)
    return parent / name


def lines_of(folder: Path) -> dict[Path, bytes]:
    """Return the files of a store."""
    return {path: path.read_bytes() for path in (folder / "store").glob("*/*.jsonl")}


def kill(running: subprocess.Popen[bytes], target: str, seen: dict[int, psutil.Process], rng: random.Random) -> bool:
    """Kill the command, or a worker as soon as there is one; return whether there was anything to kill."""
    while running.poll() is None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(running.pid)
            seen.update((child.pid, child) for child in process.children(recursive=True))
            workers = process.children()
            if target == TARGETS[0]:
                running.kill()
                return True
            if workers:
                worker = rng.choice(workers)
                if target == TARGETS[1]:
                    worker.kill()
                    return True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.pid, signal.SIGKILL)
                    return True
        time.sleep(0.005)
    return False


def reference(parent: Path, methods: tuple[str, ...]) -> tuple[dict[str, Any], float]:
    """Return the numbers of the rows by key without a kill, and how long that takes."""
    folder = new_folder(parent, f"whole-{'-'.join(methods)}")
    began = time.monotonic()
    assert start(folder, methods).wait(120) == 0, (folder / "printed").read_text()
    took = time.monotonic() - began
    return {result.key: numbers_of(result.as_json()) for result in Store(folder / "store").every()}, took


def spoil(
    folder: Path, methods: tuple[str, ...], whole: dict[str, Any], took: float, kills: int, rng: random.Random
) -> Damage:
    """Run until a store is complete, killing at random moments, at most so often; return what came of it."""
    came = Damage(stores=1)
    seen: dict[int, psutil.Process] = {}
    more: tuple[str, ...] = ()
    code: int | None = None
    while code != 0 and came.runs < MOST_RUNS:
        before = lines_of(folder)
        running = start(folder, methods, *more)
        came.runs += 1
        killed: Counter[str] = Counter()
        while came.killed.total() < kills and running.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # Up to the length of a whole run, and sooner more often: a worker's death does not end it.
                running.wait(took * rng.random() ** 2)
            target = rng.choice(TARGETS)
            if kill(running, target, seen, rng):
                killed[target] += 1
                came.killed[target] += 1
                if target == TARGETS[0]:
                    break
        code = running.wait(120)
        after = lines_of(folder)
        came.problems += [
            f"lost: what {path.name} had" for path, text in before.items() if not after.get(path, b"").startswith(text)
        ]
        failed = newly_failed(before, after)
        came.failed += len(failed)
        deaths = killed[TARGETS[1]] + killed[TARGETS[2]]
        came.problems += ["harmed: more jobs failed than were killed"] * max(0, len(failed) - deaths)
        came.problems += [f"harmed: {job}: {why}" for job, why in failed.items() if "worker process died" not in why]
        # After a job's workers were killed three times, only this asks for it again.
        more = ("--retry-failed",) if tried_enough(folder) else ()
        came.retried += bool(more)
    came.problems += [] if code == 0 else [f"lost: never complete, exit code {code}"]
    came.problems += list(compared(folder, whole, came))
    if b"Traceback (most recent call last)" in (folder / "printed").read_bytes():
        came.problems.append(f"traceback: in {folder / 'printed'}")
    _, left = psutil.wait_procs(list(seen.values()), timeout=10)
    came.problems += [f"left: process {process.pid}" for process in left if process.status() != psutil.STATUS_ZOMBIE]
    return came


def tried_enough(folder: Path) -> bool:
    """Return whether the environment failed a job as often as it is tried."""
    last = {result.key: result for result in Store(folder / "store").every()}
    return any(result.status == "failed" and not result.may_be_retried for result in last.values())


def newly_failed(before: dict[Path, bytes], after: dict[Path, bytes]) -> dict[str, str]:
    """Return the reasons of failed rows that were appended, one for each method: its rows are one job."""
    reasons: dict[str, str] = {}
    for path, text in after.items():
        for line in text[len(before.get(path, b"")) :].splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if row["status"] == "failed":
                    reasons[row["cell"]["method"]] = row["reason"]
    return reasons


def compared(folder: Path, whole: dict[str, Any], came: Damage) -> Any:
    """Yield which rows are not there, and which are not as they are without kills."""
    store = Store(folder / "store")
    last = {}
    for result in store.every():
        last[result.key] = result
        if result.status == "ok" and numbers_of(result.as_json()) != whole.get(result.key):
            yield f"changed: {result.cell.method}, seed {result.cell.seed}"
        came.resumed += bool(result.diagnostics.get("resumed_from"))
    came.torn += len(store.damage)
    for key in whole:
        if key not in last or last[key].status != "ok":
            yield f"lost: the row of {whole[key]['cell']['method']}, seed {whole[key]['cell']['seed']}"


def lane(parent: Path, number: int, kills: int, wholes: dict[tuple[str, ...], tuple[dict[str, Any], float]]) -> Damage:
    """Spoil one store after the other."""
    rng = random.Random(number)
    total = Damage()
    while total.killed.total() < kills:
        methods = STORES[total.stores % len(STORES)]
        folder = new_folder(parent, f"lane{number}-{total.stores}")
        came = spoil(folder, methods, *wholes[methods], kills - total.killed.total(), rng)
        total = added(total, came)
    return total


def added(one: Damage, other: Damage) -> Damage:
    """Return the sum of two."""
    return Damage(**{name: getattr(one, name) + getattr(other, name) for name in vars(one)})


def test_kills_at_random_moments_lose_no_row_and_change_none(tmp_path: Path, tally: Tally) -> None:
    began = time.monotonic()
    wholes = {methods: reference(tmp_path, methods) for methods in set(STORES)}
    shares = [KILLS // LANES + (number < KILLS % LANES) for number in range(LANES)]
    with ThreadPoolExecutor(LANES) as pool:
        lanes = list(pool.map(lambda number: lane(tmp_path, number, shares[number], wholes), range(LANES)))
    total = Damage()
    for came in lanes:
        total = added(total, came)
    for target in TARGETS:
        tally.add(f"killed {target}", [], total.killed[target])
    tally.add("killed stores", total.problems, 0)
    tally.notes.append(
        f"kills: {total.killed.total()} in {total.runs} runs of {total.stores} stores, {total.failed} jobs failed by "
        f"them, {total.resumed} rows from a checkpoint, {total.torn} lines cut short, {total.retried} runs with "
        f"--retry-failed, {time.monotonic() - began:.0f} s"
    )
    assert not total.problems, "\n".join(total.problems)
    assert total.killed.total() == KILLS
