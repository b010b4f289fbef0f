"""One job to rows. It never raises but to say that it was stopped: a failure is a row."""

from __future__ import annotations

import hashlib
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.errors import BenchError, Stopped
from bench.experiment.cell import Cell, Job
from bench.plugins.contracts import Budget
from bench.plugins.registry import PluginInfo, Registry, available, load
from bench.run.allocator import keep_freed_memory
from bench.run.machine import environment, gpu_name

Row = dict[str, Any]

#: What numerical libraries read when they start their threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


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
    """Compute a job and return one row per cell; raises Stopped and nothing else.

    Stopped also says that a plug-in's file has changed since the run began: what it would give now is no failure.
    """
    began = time.perf_counter()
    try:
        _require_unchanged(job, registry)
        method = registry.method(job.cells[0].method)
        reason = reason_to_skip(method, job, registry)
        if reason:
            return _rows_without_scores(job, "skipped", reason, registry, surroundings, 0.0)
        return _compute(job, method, registry, surroundings)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        trace = "" if isinstance(error, BenchError) else "".join(traceback.format_exception(error))[-4000:]
        seconds = time.perf_counter() - began
        return _rows_without_scores(job, "failed", reason, registry, surroundings, seconds, trace)


def failed_rows(job: Job, reason: str, registry: Registry, surroundings: Surroundings, seconds: float) -> list[Row]:
    """Return the rows of a job that cannot tell what came of it, such as one whose process died."""
    return _rows_without_scores(job, "failed", reason, registry, surroundings, seconds, "")


def reason_to_skip(method: PluginInfo, job: Job, registry: Registry) -> str:
    """Return why a method cannot take a job (not installed, broken, other kinds of attributes), or nothing."""
    usable, reason = available(method)
    if not usable:
        return reason
    cell = job.cells[0]
    unfit = sorted(set(registry.dataset(cell.dataset).kinds) - set(method.kinds))
    return f"does not take {' and '.join(unfit)} attributes" if unfit else ""


def too_wide(method: PluginInfo, attributes: int) -> str:
    """Return why a method does not take a table of so many attributes, or nothing."""
    most = method.max_attributes
    return f"takes at most {most} attributes, not {attributes}" if most is not None and attributes > most else ""


def _compute(job: Job, method: PluginInfo, registry: Registry, surroundings: Surroundings) -> list[Row]:
    from bench.problem.metrics import reference_of, score

    began = time.perf_counter()
    loaded = load_for(job, method, registry, surroundings)
    attributes = len(loaded.table.schema)
    reason = too_wide(method, attributes)
    if reason:
        rows = _rows_without_scores(job, "skipped", reason, registry, surroundings, 0.0)
        return [{**row, "counts": {"attributes": attributes}} for row in rows]
    fitted = fit_and_impute(job, method, loaded.table, registry, surroundings)
    seconds = time.perf_counter() - began
    problem, diagnostics = fitted.problem, fitted.diagnostics
    reference = reference_of(loaded.table)
    rows = []
    for replica, cell in enumerate(job.cells):
        if replica in fitted.failures:
            row = _row(job, cell, "failed", fitted.failures[replica], surroundings, seconds)
            rows.append({**row, "variant": loaded.variant, "source": loaded.source, "traceback": ""})
            continue
        test = problem.splits[replica].test
        values, warnings = fitted.completed(replica)
        scores = score(
            loaded.table.take(test),
            values,
            problem.masks[replica][test],
            loaded.table.present[test],
            loaded.table.schema,
            reference,
        )
        row = _row(job, cell, "ok", None, surroundings, seconds)
        rows.append(
            {
                **row,
                **scores.as_json(),
                "variant": loaded.variant,
                "source": loaded.source,
                "missing_ratio": problem.ratios[replica],
                "mask_hash": problem.mask_hash(replica),
                "warnings": warnings,
                "diagnostics": as_plain_json(diagnostics[replica]),
            }
        )
    return rows


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method after its job: the instance, its problem, and per replica what it imputed and the diagnostics.

    ``fitted_on`` is the view it learned from, ``data`` the one whose ``results`` it gave; ``failures`` says by replica
    why one gave nothing.
    """

    method: PluginInfo
    instance: Any
    problem: Any
    fitted_on: Any
    data: Any
    results: Sequence[Any]
    diagnostics: list[dict[str, Any]]
    failures: dict[int, str]

    def completed(self, replica: int) -> tuple[Any, list[str]]:
        """Return the imputed test rows of a replica, and the warnings to store with them.

        They are made again each time: a stack is held once, as its method gave it. Raises BenchError if they are no
        values for the rows.
        """
        from bench.problem.complete import complete

        values = _with_observed(_as_values(self.results[replica], self.method, self.data.schema), self.data, replica)
        values, warnings = complete(values, self.data, self.fitted_on, replica)
        if self.data is not self.problem.test:
            values = _rows_of(values, self.problem.splits[replica].test)
        return values, warnings

    def imputed(self, replica: int) -> Any:
        """Return the imputed test rows of a replica."""
        return self.completed(replica)[0]


def load_for(job: Job, method: PluginInfo, registry: Registry, surroundings: Surroundings) -> Any:
    """Load a job's method, ready this process for it, and return its data set as loaded.

    Raises BenchError where the data set is no longer the one the cells name.
    """
    from bench.files.fetch import load_table

    first = job.cells[0]
    load(method)
    _use_threads(surroundings.threads)
    _use_precision(first.precision)
    keep_freed_memory()
    loaded = load_table(load(registry.dataset(first.dataset))(), first.include_target)
    if loaded.table.content_hash != first.content:
        raise BenchError(f"data set '{first.dataset}' has changed since this run began; start the run again")
    return loaded


def fit_and_impute(job: Job, method: PluginInfo, table: Any, registry: Registry, surroundings: Surroundings) -> Fitted:
    """Build a job's problem, fit its method and impute the test rows; this is all a row's numbers come from."""
    from bench.plugins.contracts import Context
    from bench.problem.build import build_problem
    from bench.problem.complete import ask

    first = job.cells[0]
    mechanisms = [load(registry.mechanism(cell.mechanism))() for cell in job.cells]
    problem = build_problem(table, job.cells, mechanisms)
    # A method that was edited does not go on from where it stood before.
    folder = surroundings.checkpoints
    checkpoint = None if folder is None else folder / f"{job.key}-{method.source_hash[:12]}.pt"
    budget = Budget(**first.budget)
    context = Context(budget, surroundings.device, surroundings.progress, surroundings.stop, checkpoint)
    instance = load(method)(first.parameters, context)
    transductive = first.protocol == "transductive"
    train, data = (problem.everything,) * 2 if transductive else (problem.train, problem.test)
    surroundings.stop()
    seeds = [cell.seed for cell in job.cells]
    answer = ask(instance, train, problem.validation, data, seeds, first.budget["draws"])
    diagnostics = (list(instance.diagnostics()) if answer.given else []) or [{} for _ in job.cells]
    if len(diagnostics) != len(job.cells):
        raise BenchError(f"method '{method.name}' gave {len(diagnostics)} diagnostics for {len(job.cells)} replicas")
    failures = dict(instance.failures()) if method.stackable and answer.given else {}
    return Fitted(method, instance, problem, train, data, answer.imputed, diagnostics, failures)


def _as_values(result: Any, method: PluginInfo, schema: Any) -> Any:
    """Return what a method imputed as Values; raises BenchError unless it is that or a DataFrame."""
    import pandas as pd

    from bench.data.table import Values

    if isinstance(result, Values):
        return result
    if not isinstance(result, pd.DataFrame):
        raise BenchError(
            f"method '{method.name}' returned {type(result).__name__} from impute, not a DataFrame or bench.api.Values"
        )
    return Values.from_frame(result, schema)


def _with_observed(values: Any, data: Any, replica: int) -> Any:
    """Return imputed values with the observed entries put back: only hidden ones are ever scored."""
    import numpy as np

    from bench.data.table import Values

    shown = data.values(replica)
    if values.scalars.shape != shown.scalars.shape:
        raise BenchError(f"imputed values have shape {values.scalars.shape}, the data {shown.scalars.shape}")
    scalars = np.where(np.isnan(shown.scalars), values.scalars, shown.scalars)
    blocks = {
        name: np.where(np.isnan(shown.blocks[name]), block, shown.blocks[name]) for name, block in values.blocks.items()
    }
    return Values(scalars, blocks)


def _rows_of(values: Any, rows: Any) -> Any:
    from bench.data.table import Values

    return Values(values.scalars[rows], {name: block[rows] for name, block in values.blocks.items()})


def _row(job: Job, cell: Cell, status: str, reason: str | None, surroundings: Surroundings, seconds: float) -> Row:
    """Return what every row holds, whatever came of it; ``seconds`` are the whole job's."""
    surrounded = {"device": surroundings.device, "threads": surroundings.threads}
    if surroundings.device.startswith("cuda"):
        surrounded |= {"gpu": gpu_name(surroundings.device)}
    return {
        "key": cell.key,
        "cell": cell.as_json(),
        "status": status,
        "reason": reason,
        "variant": "full",
        "source": "",
        "missing_ratio": None,
        "mask_hash": None,
        "metrics": {},
        "attributes": {},
        "counts": {},
        "seconds": round(seconds, 3),
        "peak_memory_mib": _peak_memory(),
        "diagnostics": {},
        "warnings": [],
        "environment": {**environment(), **surrounded},
        "stack": [other.key for other in job.cells],
    }


def _rows_without_scores(
    job: Job, status: str, reason: str, registry: Registry, surroundings: Surroundings, seconds: float, trace: str = ""
) -> list[Row]:
    """Return the rows of a job that failed or was skipped; a ``trace`` says where it failed."""
    rows = [{**_row(job, cell, status, reason, surroundings, seconds), **_origin(job, registry)} for cell in job.cells]
    return [{**row, "traceback": trace} for row in rows] if status == "failed" else rows


def _origin(job: Job, registry: Registry) -> Row:
    """Return which variant of the data a job has and from where, nothing where the data cannot be had now."""
    from bench.files.fetch import content_of

    first = job.cells[0]
    try:
        content = content_of(load(registry.dataset(first.dataset))(), first.include_target)
    except Exception:  # a plug-in may raise anything, and this row is to say what went wrong before
        return {}
    return {"variant": content.variant, "source": content.source} if content.content_hash == first.content else {}


def as_plain_json(value: Any) -> Any:
    """Return a value as plain JSON: NumPy's numbers as numbers, NaN and infinity as None, what is unknown as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): as_plain_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain_json(item) for item in value]
    # Arrays, tensors and their scalars; an object that only looks like one is text below.
    return as_plain_json(value.tolist()) if callable(getattr(value, "tolist", None)) else str(value)


def _peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def _use_threads(threads: int) -> None:
    """Bound the threads of every numerical library that is loaded; those that come later read the environment.

    Torch is not loaded for this: it takes seconds, which most methods have no use for.
    """
    from threadpoolctl import threadpool_limits

    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    threadpool_limits(threads)


def _use_precision(precision: str) -> None:
    """Let torch compute float32 products as a cell says; where it is not loaded, no method uses it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_float32_matmul_precision(precision)


def _plugins_of(job: Job, registry: Registry) -> list[PluginInfo]:
    """Return the plug-ins a job needs."""
    first = job.cells[0]
    infos = [registry.method(first.method), registry.dataset(first.dataset)]
    return infos + [registry.mechanism(name) for name in dict.fromkeys(cell.mechanism for cell in job.cells)]


def _require_unchanged(job: Job, registry: Registry) -> None:
    """Raise Stopped if the file of a plug-in is no longer what was listed: its rows would carry the wrong identity."""
    for info in _plugins_of(job, registry):
        readable = info.source_hash and info.path.is_file()
        if readable and hashlib.sha256(info.path.read_bytes()).hexdigest() != info.source_hash:
            raise Stopped(f"{info.path} has changed since this run began")


@lru_cache(maxsize=1)
def _registry_of(locations: tuple[str, ...]) -> Registry:
    """Return the registry of this process, scanned once: what changes after that stops the run anyway."""
    return Registry.scan(locations)


def run_job_json(job: Mapping[str, Any], locations: Sequence[str], surroundings: Surroundings) -> list[Row]:
    """Run a job that crossed a process border as JSON, in this process's own registry."""
    try:
        registry = _registry_of(tuple(locations))
        for name, source_hash in job["sources"].items():
            registry.verify(name, source_hash)
    except BenchError as error:
        raise Stopped(str(error)) from None
    return run_job(Job(tuple(Cell.from_json(cell) for cell in job["cells"])), registry, surroundings)


def job_as_json(job: Job, registry: Registry) -> dict[str, Any]:
    """Return a job as JSON values, with the source hashes of the plug-ins it needs."""
    return {
        "cells": [cell.as_json() for cell in job.cells],
        "sources": {info.name: info.source_hash for info in _plugins_of(job, registry)},
    }
