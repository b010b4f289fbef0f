"""One job to rows. It never raises but to say that it was stopped: a failure is a row."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.environment import environment
from bench.errors import BenchError, Stopped
from bench.experiment import Cell, Job
from bench.presets import Budget
from bench.registry import PluginInfo, Registry, available, load

Row = dict[str, Any]


def _no_progress(done: int, total: int, stage: str) -> None:
    """Report nothing."""


def _never_stop() -> None:
    """Go on."""


@dataclass(frozen=True)
class Surroundings:
    """Where a job runs: nothing here may change a number beyond rounding."""

    device: str = "cpu"
    threads: int = 1
    checkpoints: Path | None = None
    progress: Callable[[int, int, str], None] = field(default=_no_progress)
    stop: Callable[[], None] = field(default=_never_stop)


def run_job(job: Job, registry: Registry, surroundings: Surroundings) -> list[Row]:
    """Compute a job and return one row per cell; raises Stopped and nothing else."""
    began = time.perf_counter()
    try:
        method = registry.method(job.cells[0].method)
        reason = reason_to_skip(method, job, registry)
        if reason:
            return [_row(job, cell, "skipped", reason, surroundings, 0.0) for cell in job.cells]
        return _compute(job, method, registry, surroundings)
    except Stopped:
        raise
    except Exception as error:
        seconds = time.perf_counter() - began
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        trace = "" if isinstance(error, BenchError) else "".join(traceback.format_exception(error))[-4000:]
        return [
            {**_row(job, cell, "failed", reason, surroundings, seconds), "traceback": trace} for cell in job.cells
        ]


def reason_to_skip(method: PluginInfo, job: Job, registry: Registry) -> str:
    """Return why a method cannot take a job (not installed, broken, other kinds of attributes), or nothing."""
    usable, reason = available(method)
    if not usable:
        return reason
    cell = job.cells[0]
    unfit = sorted(set(registry.dataset(cell.dataset).kinds) - set(method.kinds))
    return f"does not take {' and '.join(unfit)} attributes" if unfit else ""


def _compute(job: Job, method: PluginInfo, registry: Registry, surroundings: Surroundings) -> list[Row]:
    from bench.api import Context
    from bench.fetch import load_table
    from bench.metrics import reference_of, score
    from bench.problem import build_problem

    _use_threads(surroundings.threads)
    began = time.perf_counter()
    first = job.cells[0]
    loaded = load_table(load(registry.dataset(first.dataset))(), first.include_target)
    if loaded.table.content_hash != first.content:
        raise BenchError(f"data set '{first.dataset}' has changed since this run began; start the run again")
    mechanisms = [load(registry.mechanism(cell.mechanism))() for cell in job.cells]
    problem = build_problem(loaded.table, job.cells, mechanisms)
    checkpoint = None if surroundings.checkpoints is None else surroundings.checkpoints / f"{job.key}.pt"
    budget = Budget(**first.budget)
    context = Context(budget, surroundings.device, surroundings.progress, surroundings.stop, checkpoint)
    instance = load(method)(first.parameters, context)
    transductive = first.protocol == "transductive"
    data = problem.everything if transductive else problem.test
    surroundings.stop()
    imputed = _impute(instance, method, problem.everything if transductive else problem.train, problem, data, job)
    seconds = time.perf_counter() - began
    diagnostics = list(instance.diagnostics()) or [{} for _ in job.cells]
    reference = reference_of(loaded.table)
    rows = []
    for replica, cell in enumerate(job.cells):
        test = problem.splits[replica].test
        values = _rows_of(imputed[replica], test) if transductive else imputed[replica]
        scores = score(
            loaded.table.take(test), values, problem.masks[replica][test], loaded.table.present[test],
            loaded.table.schema, reference,
        )  # fmt: skip
        row = _row(job, cell, "ok", None, surroundings, seconds)
        rows.append(
            {
                **row,
                **scores.as_json(),
                "variant": loaded.variant,
                "source": loaded.source,
                "missing_ratio": problem.ratios[replica],
                "mask_hash": problem.mask_hash(replica),
                "diagnostics": diagnostics[replica],
            }
        )
    return rows


def _impute(instance: Any, method: PluginInfo, train: Any, problem: Any, data: Any, job: Job) -> list[Any]:
    """Fit and impute, the whole stack at once where the method stacks; observed entries keep their values."""
    from bench.data import Values

    draws = job.cells[0].budget["draws"]
    seeds = [cell.seed for cell in job.cells]
    if method.stackable:
        instance.fit_many(train, problem.validation, seeds)
        results: Sequence[Any] = instance.impute_many(data, draws)
    else:
        instance.fit(train, problem.validation, seeds[0])
        results = [instance.impute(data, draws)]
    if len(results) != data.replicas:
        raise BenchError(f"method '{method.name}' returned {len(results)} imputations for {data.replicas} replicas")
    complete = []
    for replica, result in enumerate(results):
        values = result if isinstance(result, Values) else Values.from_frame(result, data.schema)
        complete.append(_with_observed(values, data, replica))
    return complete


def _with_observed(values: Any, data: Any, replica: int) -> Any:
    """Return imputed values with the observed entries put back: only hidden ones are ever scored."""
    import numpy as np

    from bench.data import Values

    shown = data.values(replica)
    if values.scalars.shape != shown.scalars.shape:
        raise BenchError(f"imputed values have shape {values.scalars.shape}, the data {shown.scalars.shape}")
    scalars = np.where(np.isnan(shown.scalars), values.scalars, shown.scalars)
    blocks = {
        name: np.where(np.isnan(shown.blocks[name]), block, shown.blocks[name]) for name, block in values.blocks.items()
    }
    return Values(scalars, blocks)


def _rows_of(values: Any, rows: Any) -> Any:
    from bench.data import Values

    return Values(values.scalars[rows], {name: block[rows] for name, block in values.blocks.items()})


def _row(job: Job, cell: Cell, status: str, reason: str | None, surroundings: Surroundings, seconds: float) -> Row:
    """Return what every row holds, whatever came of it; ``seconds`` are the whole job's."""
    return {
        "key": cell.key,
        "cell": cell.as_json(),
        "status": status,
        "reason": reason,
        "variant": "full",
        "metrics": {},
        "attributes": {},
        "counts": {},
        "seconds": round(seconds, 3),
        "peak_memory_mib": _peak_memory(),
        "diagnostics": {},
        "environment": {**environment(), "device": surroundings.device, "threads": surroundings.threads},
        "stack": [other.key for other in job.cells],
    }


def _peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _use_threads(threads: int) -> None:
    """Bound the threads of every numerical library in this process."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def run_job_json(job: Mapping[str, Any], locations: Sequence[str], surroundings: Surroundings) -> list[Row]:
    """Run a job that crossed a process border as JSON, in this process's own registry."""
    registry = Registry.scan(locations)
    for name, source_hash in job["sources"].items():
        registry.verify(name, source_hash)
    return run_job(Job(tuple(Cell.from_json(cell) for cell in job["cells"])), registry, surroundings)


def job_as_json(job: Job, registry: Registry) -> dict[str, Any]:
    """Return a job as JSON values, with the source hashes of the plug-ins it needs."""
    first = job.cells[0]
    infos = [registry.method(first.method), registry.dataset(first.dataset)]
    infos += [registry.mechanism(name) for name in dict.fromkeys(cell.mechanism for cell in job.cells)]
    return {
        "cells": [cell.as_json() for cell in job.cells],
        "sources": {info.name: info.source_hash for info in infos},
    }
