"""Workers and devices as asked or as there are, and freed memory that stays in the process."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.experiment.result import Result
from bench.plugins.registry import Registry
from bench.run.isolation.workers import run_jobs
from bench.run.machine import KERNELS, PORTABLE, Machine, choose_device, choose_workers
from bench.run.request import Place
from bench.run.verify import where_computed
from tests.toys import DATA, Watcher, command_environment, jobs_for, write_plugins

FAULTS = """
import resource
import numpy
from bench.run.machine import keep_freed_memory

{call}
sizes = [2**20, 3 * 2**20, 5 * 2**20]
for turn in range(10):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in sizes:
        numpy.ones(size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_for_the_next_arrays(tmp_path: Path) -> None:
    environment = {name: value for name, value in command_environment(tmp_path).items() if "MALLOC" not in name}

    def page_faults(call: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(call=call)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Without it at least the largest array is mapped again each time: twenty huge pages.
    assert page_faults("keep_freed_memory()") < 20 < 100 < page_faults("")


def test_choosing_workers_and_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda number: set(range(8)), raising=False)
    assert choose_workers(None, "cpu", 100) == 8
    assert choose_workers(None, "cpu", 3) == 3
    assert choose_workers(None, "cuda", 100) == 1
    assert choose_workers(2, "cuda", 100) == 2
    assert choose_workers(5, "cpu", 0) == 1
    assert choose_device("auto", needs_torch=False) == "cpu"
    assert choose_device("cpu", needs_torch=True) == "cpu"


def test_cuda_that_is_not_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", needs_torch=True) == "cpu"
    with pytest.raises(BenchError, match="torch finds no CUDA device here"):
        choose_device("cuda", needs_torch=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", needs_torch=True) == "cuda"


def test_a_machine_survives_json_and_names_checkpoints_in_its_folder(tmp_path: Path) -> None:
    import json

    from bench.api import Budget

    machine = Machine("cpu", threads=2, checkpoints=tmp_path, deadline=12.5)
    there = Machine.from_json(json.loads(json.dumps(machine.as_json())))
    assert there == machine
    assert there.context(Budget(), "a.pt").checkpoint == tmp_path / "a.pt"
    assert Machine().context(Budget(), "a.pt").checkpoint is None
    assert {"device", "threads", "suite", "processor"} <= set(machine.description())


def test_portable_kernels_are_set_in_workers_and_recorded(tmp_path: Path) -> None:
    registry = Registry.scan((write_plugins(tmp_path / "plugins", data=DATA),))
    rows: list[Result] = []
    machine = Machine(workers=1, kernels=PORTABLE)
    assert run_jobs(jobs_for(registry, ("mean_mode",))[:1], machine, Watcher(), rows.extend) is None
    assert rows[0].status == "ok"
    assert rows[0].environment["kernel_settings"].items() >= KERNELS[PORTABLE].items()
    assert where_computed(rows[0]) == ("cpu", 1, PORTABLE)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(kernels="portabel"), "unknown kernels 'portabel'. Did you mean 'portable'?"),
        (Place(kernels=PORTABLE, workers=0), "it takes workers, not --workers 0"),
    ],
)
def test_kernels_that_cannot_be_had_are_refused(place: Place, words: str) -> None:
    with pytest.raises(BenchError, match=re.escape(words)):
        place.require_valid()
