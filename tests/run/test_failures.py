"""What is wrong with one cell fails that cell alone, and every failure is one bounded line that says where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.errors import MESSAGE_BYTES, BenchError, clean_text, one_line
from bench.experiment.cell import Job
from bench.experiment.expand import cells_of, jobs_of
from bench.experiment.reader import parse_spec
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry
from bench.run.job import DIAGNOSTIC_BYTES, run_job
from bench.run.machine import Machine
from bench.run.store import Store
from tests.toys import (
    DATA,
    PATIENT,
    ZEROS,
    contents_for,
    jobs_for,
    method_source,
    numbers_of,
    run_command,
    stored_rows,
    table_text,
    write_plugins,
)

#: A stack that fills with 0, and a number of parameters by which something goes wrong.
STACK = '''
import numpy as np

from bench.api import StackedMethod, Values


class Stack(StackedMethod):
    """Fills with what was learned in training: its seed."""

    name = "stack"
    parameter_sets = {"default": {"most": 99}}

    def fit_many(self, train, validation, seeds):
        self.seeds = list(seeds)
        FIT

    def impute_many(self, data, draws):
        shown = [data.values(replica).scalars for replica in range(data.replicas)]
        values = [Values(np.where(np.isnan(s), seed % 3, s), {}) for s, seed in zip(shown, self.seeds)]
        IMPUTE
        return values

    def diagnostics(self):
        return [{"trained": len(self.seeds)} for _ in self.seeds]
'''

#: A mechanism that cannot be used on anything, under the same parameters as one that can.
BROKEN_MECHANISM = '''
from bench.api import Mechanism


class Broken(Mechanism):
    """Fails."""

    name = "broken"

    def missing_probability(self, values, schema, ratio, rng, **parameters):
        raise KeyError("nothing to go by")
'''


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))


def registry_with(tmp_path: Path, **sources: str) -> Registry:
    return Registry.scan([write_plugins(tmp_path / "plugins", data=DATA, **sources)])


def stack_source(fit: str = "pass", impute: str = "pass") -> str:
    return STACK.replace("FIT", fit).replace("IMPUTE", impute)


def rows_of(tmp_path: Path, source: str, seeds: tuple[int, ...] = (0, 1, 2)) -> list[dict[str, Any]]:
    """Return the rows of the method ``stack``, one per seed."""
    (job,) = jobs_for(registry_with(tmp_path, stack=source), ("stack",), seeds=seeds)
    return [result.as_json() for result in run_job(job, Machine())]


# One cell's failure


def test_a_mechanism_that_fails_fails_its_own_cells(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, stack=stack_source(), broken=BROKEN_MECHANISM)
    text = table_text(("stack",), ("toy_numbers",)) + '[[columns]]\nlabel = "b"\ndataset = "toy_numbers"\n'
    text += 'metric = "nrmse_std"\nmechanism = "broken"\n'
    spec = parse_spec(text, "toy.toml")
    cells = cells_of(spec.cells(), spec, Scope(preset="smoke"), registry, contents_for(registry, "toy_numbers"))
    (job,) = jobs_of(cells, registry)
    results = {(r.cell.mechanism, r.cell.seed): r for r in run_job(job, Machine())}
    assert len(results) == 6
    assert {key for key, result in results.items() if result.status == "ok"} == {("mcar", seed) for seed in range(3)}
    assert results["broken", 0].reason == "KeyError: 'nothing to go by' (broken.py:10)"
    assert results["broken", 0].cause == "method"
    # What was trained together are the cells that could be.
    alone = jobs_of([cell for cell in cells if cell.mechanism == "mcar"], registry)[0]
    assert results["mcar", 0].stack == tuple(cell.key for cell in alone.cells)
    expected = [numbers_of(result.as_json()) for result in run_job(alone, Machine())]
    assert [numbers_of(results["mcar", seed].as_json()) for seed in range(3)] == expected


@pytest.mark.parametrize(
    ("impute", "reason"),
    [
        ("values[1].scalars[:] = np.nan", "are NaN or infinite"),
        ("values[1] = Values(values[1].scalars[:-1], {})", "have shape"),
        ("values[1] = 'nothing'", "returned str from impute"),
        ("values[1] = Values(np.full(values[1].scalars.shape, 'x'), {})", "Error"),
    ],
)
def test_what_is_wrong_with_one_replica_fails_it_alone(tmp_path: Path, impute: str, reason: str) -> None:
    good = rows_of(tmp_path, stack_source())
    rows = rows_of(tmp_path, stack_source(impute=impute))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert reason in rows[1]["reason"]
    assert rows[1]["stack"] == rows[0]["stack"] == good[0]["stack"]
    for replica in (0, 2):
        assert rows[replica]["metrics"] == good[replica]["metrics"]


def test_a_replica_that_a_stack_cannot_train_is_found(tmp_path: Path) -> None:
    good = rows_of(tmp_path, stack_source())
    rows = rows_of(tmp_path, stack_source(fit="if 1 in self.seeds: raise ValueError(f'seeds {seeds}')"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[1]["reason"] == "ValueError: seeds [1] (stack.py:14)"
    assert [rows[replica]["metrics"] for replica in (0, 2)] == [good[replica]["metrics"] for replica in (0, 2)]
    assert rows[0]["stack"] == [rows[0]["key"]]


def test_a_method_that_fails_for_every_replica_is_not_tried_for_each(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    fit = f"open({str(tries)!r}, 'a').write('x'); raise ValueError('no')"
    rows = rows_of(tmp_path, stack_source(fit=fit), tuple(range(3)))
    assert [row["status"] for row in rows] == ["failed"] * 3
    assert {row["reason"] for row in rows} == {"ValueError: no (stack.py:14)"}
    assert rows[0]["stack"] == [row["key"] for row in rows]
    assert tries.read_text() == "xxx"


# Memory


@pytest.mark.parametrize(
    "error",
    [
        "torch.cuda.OutOfMemoryError('CUDA out of memory')",
        "MemoryError()",
        "RuntimeError('DefaultCPUAllocator: can\\'t allocate memory')",
        "ValueError('no luck') from MemoryError()",
    ],
)
def test_a_stack_that_memory_does_not_hold_is_trained_in_parts(tmp_path: Path, error: str) -> None:
    """An allocator that holds three replicas of seven."""
    good = registry_with(tmp_path / "good", stack=stack_source())
    small = registry_with(tmp_path, stack=stack_source(f"import torch\n        if len(seeds) > 3: raise {error}"))
    (whole,) = jobs_for(good, ("stack",))
    cells = tuple(replace(whole.cells[0], seed=seed) for seed in range(7))
    expected = run_job(Job(cells, whole.plugins), Machine())
    results = run_job(Job(cells, jobs_for(small, ("stack",))[0].plugins), Machine())
    assert [result.status for result in results] == ["ok"] * 7
    assert [result.key for result in results] == [cell.key for cell in cells]
    assert [result.metrics for result in results] == [result.metrics for result in expected]
    assert [result.diagnostics["trained"] for result in results] == [2, 2, 2, 2, 3, 3, 3]
    for result in results:
        assert len(result.stack) == result.diagnostics["trained"] and result.key in result.stack


def test_one_replica_that_memory_does_not_hold_is_a_failure_of_the_environment(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, stack_source("if 1 in seeds: raise MemoryError('all of it')"))
    assert [row["status"] for row in rows] == ["ok", "failed", "ok"]
    assert rows[1]["reason"] == "MemoryError: all of it (stack.py:14)"
    assert rows[1]["cause"] == "environment"


# Messages


HOSTILE = [
    ("raise ValueError('half \\ud800 a pair')", "ValueError: half ? a pair (mine.py:18)"),
    ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})()", "Odd: <Odd without a readable text>"),
    ("raise type('Odd', (BaseException,), {})('base')", "Odd: base (mine.py:18)"),
    ("raise GeneratorExit", "GeneratorExit: (mine.py:18)"),
    ("raise ValueError('\\x1b[31mred\\rhidden')", "ValueError: \N{REPLACEMENT CHARACTER}[31mred"),
    ("from bench.errors import Stopped; raise Stopped('by myself')", "Stopped: by myself (mine.py:18)"),
    ("self.context.progress('a', None, object())", "ValueError: invalid literal for int()"),
]


@pytest.mark.parametrize(("fit", "reason"), HOSTILE)
def test_whatever_an_error_says_of_itself_is_one_valid_line(tmp_path: Path, fit: str, reason: str) -> None:
    registry = registry_with(tmp_path, mine=method_source("mine", fit=fit))
    (result,) = run_job(jobs_for(registry, ("mine",), seeds=(0,))[0], Machine())
    assert result.status == "failed"
    assert result.reason is not None and result.reason.startswith(reason)
    Store(tmp_path / "store").put([result])
    assert stored_rows(tmp_path / "store")[result.key]["reason"] == result.reason


def test_messages_and_diagnostics_are_bounded(tmp_path: Path) -> None:
    long = method_source("mine", fit="raise ValueError('\\u20ac' * 10**6)")
    registry = registry_with(tmp_path, mine=long)
    (result,) = run_job(jobs_for(registry, ("mine",), seeds=(0,))[0], Machine())
    assert result.reason is not None and len(result.reason.encode()) <= MESSAGE_BYTES
    assert result.reason.endswith("(mine.py:18)")
    notes = "{'small': 1, 'large': list(range(10**6)), 'odd': '\\ud800', 'int': 10**9999, 'deep': deep}"
    extra = (
        "version = 1\n    def diagnostics(self):\n        deep = []\n"
        f"        for _ in range(10**5): deep = [deep]\n        return [{notes}]"
    )
    registry = registry_with(tmp_path, mine=method_source("mine", impute=ZEROS, extra=extra))
    (result,) = run_job(jobs_for(registry, ("mine",), seeds=(0,))[0], Machine())
    assert result.status == "ok", result.reason
    assert len(json.dumps(result.diagnostics).encode()) < DIAGNOSTIC_BYTES + 1000
    assert (result.diagnostics["small"], result.diagnostics["odd"]) == (1, "?")
    assert result.diagnostics["left_out"] == f"beyond {DIAGNOSTIC_BYTES} bytes: large"


def test_one_line_of_an_error_of_the_suite_is_its_message() -> None:
    assert one_line(BenchError("mend it\nso")) == "BenchError: mend it"
    assert clean_text("a\x00b" * 10, 11) == "a\N{REPLACEMENT CHARACTER}ba..."


# Data


BROKEN = '''
import os

from bench.api import Dataset


class Broken(Dataset):
    """Fails."""

    name = "broken"

    def load(self, files):
        LOAD
'''


#: Statements of ``load``, and what is said of them.
LOADS = [
    ("return {}['no such column']", "KeyError: 'no such column' (broken.py:12)"),
    ("os._exit(0)", "worker process died (exit code 0)"),
    ("raise type('Odd', (BaseException,), {})('base')", "Odd: base (broken.py:12)"),
]


@pytest.mark.parametrize(("load", "said"), LOADS)
def test_a_data_set_that_does_not_load_leaves_the_rest_running(tmp_path: Path, load: str, said: str) -> None:
    write_plugins(tmp_path / "plugins", data=DATA, broken=BROKEN.replace("LOAD", load))
    grid = ("--methods", "mean_mode", "--datasets", "broken,toy_mixed", "--preset", "smoke", "--plugins", "plugins")
    done = run_command("run", *grid, "--seeds", 0, "--store", "store", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "left out: data set 'broken'" in done.stdout and said in done.stdout
    assert [row["status"] for row in stored_rows(tmp_path / "store").values()] == ["ok"]


# Checkpoints


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 100, b'{"epoch": 3}'])
def test_a_damaged_checkpoint_is_discarded_and_the_job_starts_over(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = registry_with(tmp_path, patient=PATIENT.replace("0.05", "0.0"))
    (job,) = jobs_for(registry, ("patient",))
    expected = [numbers_of(result.as_json()) for result in run_job(job, Machine())]
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path = folder / f"{job.key}-{job.plugins.method.source_hash[:12]}.pt"
    path.write_bytes(content)
    results = run_job(job, Machine(checkpoints=folder))
    assert [numbers_of(result.as_json()) for result in results] == expected
    assert results[0].diagnostics["resumed_from"] == 0
    assert "its checkpoint cannot be used" in capsys.readouterr().out


def test_a_damaged_checkpoint_of_a_network_is_discarded(tmp_path: Path) -> None:
    registry = registry_with(tmp_path)
    (job,) = jobs_for(registry, ("vae",), seeds=(0,))
    expected = [numbers_of(result.as_json()) for result in run_job(job, Machine())]
    path = tmp_path / "checkpoints" / f"{job.key}-{job.plugins.method.source_hash[:12]}.pt"
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04 half a checkpoint")
    results = run_job(job, Machine(checkpoints=path.parent))
    assert [numbers_of(result.as_json()) for result in results] == expected
