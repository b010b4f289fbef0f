"""One job to results. It never raises but to say that it was stopped: a failure is a result."""

from __future__ import annotations

import hashlib
import math
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, Stopped
from bench.experiment.cell import Cell, Job, Plugins
from bench.experiment.result import Result, Status
from bench.plugins.contracts import Budget
from bench.plugins.registry import PluginInfo, available, load
from bench.run.machine import Machine, keep_freed_memory, peak_memory, use_precision, use_threads

if TYPE_CHECKING:
    from bench.data.schema import IntArray, Schema
    from bench.data.table import Table, Values
    from bench.data.view import Incomplete
    from bench.files.fetch import LoadedTable
    from bench.problem.build import Problem


def run_job(job: Job, machine: Machine) -> list[Result]:
    """Compute a job and return one result per cell; raises Stopped and nothing else.

    Stopped also says that a plug-in's file has changed since the run began: what it would give now is no failure.
    """
    began = time.perf_counter()
    try:
        require_unchanged(job.plugins)
        reason = reason_to_skip(job)
        if reason:
            return _without_scores(job, "skipped", reason, machine, 0.0)
        return _compute(job, machine)
    except Stopped:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0]
        trace = "" if isinstance(error, BenchError) else "".join(traceback.format_exception(error))[-4000:]
        return failed_results(job, reason, machine, time.perf_counter() - began, trace)


def failed_results(job: Job, reason: str, machine: Machine, seconds: float, trace: str = "") -> list[Result]:
    """Return the results of a job that failed, such as one whose process died; ``trace`` says where it failed."""
    return [replace(result, traceback=trace) for result in _without_scores(job, "failed", reason, machine, seconds)]


def require_unchanged(plugins: Plugins) -> None:
    """Raise Stopped if the file of a plug-in is no longer what was listed: its rows would carry the wrong identity."""
    for info in plugins.all:
        readable = info.source_hash and info.path.is_file()
        if readable and hashlib.sha256(info.path.read_bytes()).hexdigest() != info.source_hash:
            raise Stopped(f"{info.path} has changed since this run began")


def reason_to_skip(job: Job) -> str:
    """Return why a job's method cannot take it (not installed, broken, other kinds of attributes), or nothing."""
    method, dataset = job.plugins.method, job.plugins.dataset
    usable, reason = available(method)
    if not usable:
        return reason
    unfit = sorted(set(dataset.kinds) - set(method.kinds))
    return f"does not take {' and '.join(unfit)} attributes" if unfit else ""


def too_wide(method: PluginInfo, attributes: int) -> str:
    """Return why a method does not take a table of so many attributes, or nothing."""
    most = method.max_attributes
    return f"takes at most {most} attributes, not {attributes}" if most is not None and attributes > most else ""


def _compute(job: Job, machine: Machine) -> list[Result]:
    from bench.problem.metrics import reference_of, score

    began = time.perf_counter()
    loaded = load_for(job, machine)
    attributes = len(loaded.table.schema)
    reason = too_wide(job.plugins.method, attributes)
    if reason:
        skipped = _without_scores(job, "skipped", reason, machine, 0.0)
        return [replace(result, counts={"attributes": attributes}) for result in skipped]
    fitted = fit_and_impute(job, loaded.table, machine)
    seconds = time.perf_counter() - began
    problem, table = fitted.problem, loaded.table
    reference = reference_of(table)
    origin = {"variant": loaded.variant, "source": loaded.source}
    results = []
    for replica, cell in enumerate(job.cells):
        if replica in fitted.failures:
            reason = fitted.failures[replica]
            results.append(_result(job, cell, "failed", machine, seconds, reason=reason, traceback="", **origin))
            continue
        test = problem.splits[replica].test
        imputed, warnings = fitted.completed(replica)
        shown, present = problem.masks[replica][test], table.present[test]
        scores = score(table.take(test), imputed, shown, present, table.schema, reference)
        result = _result(
            job,
            cell,
            "ok",
            machine,
            seconds,
            **scores.as_json(),
            **origin,
            missing_ratio=problem.ratios[replica],
            mask_hash=problem.mask_hash(replica),
            warnings=warnings,
            diagnostics=as_plain_json(fitted.diagnostics[replica]),
        )
        results.append(result)
    return results


@dataclass(frozen=True, eq=False)
class Fitted:
    """A method after its job: the instance, its problem, and per replica what it imputed and the diagnostics.

    ``fitted_on`` is the view it learned from, ``data`` the one whose ``results`` it gave; ``failures`` says by replica
    why one gave nothing.
    """

    method: PluginInfo
    instance: Any
    problem: Problem
    fitted_on: Incomplete
    data: Incomplete
    results: Sequence[Any]
    diagnostics: list[dict[str, Any]]
    failures: dict[int, str]

    def completed(self, replica: int) -> tuple[Values, tuple[str, ...]]:
        """Return the complete test rows of a replica, and what to warn of.

        They are made again each time, so that a stack is held once, as its method gave it. Raises BenchError if they
        are no values for the rows.
        """
        from bench.problem.complete import complete

        given = _as_values(self.results[replica], self.method, self.data.schema)
        values, told = complete(_with_observed(given, self.data, replica), self.data, self.fitted_on, replica)
        if self.data is not self.problem.test:
            values = _rows_of(values, self.problem.splits[replica].test)
        return values, tuple(told)


def load_for(job: Job, machine: Machine) -> LoadedTable:
    """Load a job's method, ready this process for it, and return its data set as loaded.

    Raises BenchError if the data set is no longer the one the cells name.
    """
    from bench.files.fetch import load_table

    first = job.cells[0]
    load(job.plugins.method)
    use_threads(machine.threads)
    use_precision(first.precision)
    keep_freed_memory()
    loaded = load_table(load(job.plugins.dataset)(), first.include_target)
    if loaded.table.content_hash != first.content:
        raise BenchError(f"data set '{first.dataset}' has changed since this run began; start the run again")
    return loaded


def fit_and_impute(job: Job, table: Table, machine: Machine) -> Fitted:
    """Build a job's problem, fit its method and impute the test rows; this is all a result's numbers come from."""
    from bench.problem.complete import ask

    first, method = job.cells[0], job.plugins.method
    problem = problem_of(job, table)
    # The name has the source in it: an edited method does not continue what the old one began.
    context = machine.context(Budget(**first.budget), f"{job.key}-{method.source_hash[:12]}.pt")
    instance = load(method)(first.parameters, context)
    transductive = first.protocol == "transductive"
    train, data = (problem.everything,) * 2 if transductive else (problem.train, problem.test)
    machine.stop()
    seeds = [cell.seed for cell in job.cells]
    answer = ask(instance, train, problem.validation, data, seeds, first.budget["draws"])
    diagnostics = (list(instance.diagnostics()) if answer.given else []) or [{} for _ in job.cells]
    if len(diagnostics) != len(job.cells):
        raise BenchError(f"method '{method.name}' gave {len(diagnostics)} diagnostics for {len(job.cells)} replicas")
    failures = dict(instance.failures()) if answer.given and method.stackable else {}
    return Fitted(method, instance, problem, train, data, answer.imputed, diagnostics, failures)


def problem_of(job: Job, table: Table) -> Problem:
    """Return what a job's method works on, one replica per cell."""
    from bench.problem.build import build_problem

    mechanisms = [load(job.plugins.mechanisms[cell.mechanism])() for cell in job.cells]
    return build_problem(table, [cell.scenario for cell in job.cells], mechanisms)


def _as_values(result: Any, method: PluginInfo, schema: Schema) -> Values:
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


def _with_observed(values: Values, data: Incomplete, replica: int) -> Values:
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


def _rows_of(values: Values, rows: IntArray) -> Values:
    from bench.data.table import Values

    return Values(values.scalars[rows], {name: block[rows] for name, block in values.blocks.items()})


def _result(job: Job, cell: Cell, status: Status, machine: Machine, seconds: float, **found: Any) -> Result:
    """Return the result of a cell; ``seconds`` are the whole job's."""
    return Result(
        cell,
        cell.key,
        status,
        seconds=round(seconds, 3),
        peak_memory_mib=peak_memory(),
        environment=machine.description(),
        stack=tuple(other.key for other in job.cells),
        plugin_sources=job.plugins.sources(cell),
        **found,
    )


def _without_scores(job: Job, status: Status, reason: str, machine: Machine, seconds: float) -> list[Result]:
    """Return the results of a job that failed or was skipped."""
    origin = _origin(job)
    return [_result(job, cell, status, machine, seconds, reason=reason, **origin) for cell in job.cells]


def _origin(job: Job) -> dict[str, str]:
    """Return which variant of the data a job has and from where, nothing if the data cannot be had now."""
    from bench.files.fetch import content_of

    first = job.cells[0]
    try:
        content = content_of(load(job.plugins.dataset)(), first.include_target)
    except Exception:  # a plug-in may raise anything, and this result is to say what went wrong before
        return {}
    return {"variant": content.variant, "source": content.source} if content.content_hash == first.content else {}


def as_plain_json(value: Any) -> Any:
    """Return a value as plain JSON: NumPy's numbers as numbers, NaN and infinity as None, anything else as text."""
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
