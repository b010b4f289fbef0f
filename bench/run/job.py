"""One job to results. It never raises but to say that it was stopped: a failure is a result."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, Stopped, clean_text, traceback_text
from bench.experiment.cell import Cell, Job, Plugins
from bench.experiment.result import Cause, Result, Status
from bench.plugins.registry import PluginInfo, available, load
from bench.run.fit import (
    Fitted,
    cause_of,
    drawn_by,
    fit_from_checkpoint,
    free_memory,
    load_for,
    out_of_memory,
    problem_of,
    reason_of,
)
from bench.run.machine import Machine, peak_memory
from bench.seeds import canonical_json

if TYPE_CHECKING:
    from bench.data.table import Table
    from bench.files.fetch import LoadedTable
    from bench.problem.build import Problem
    from bench.problem.draws import Drawn

#: The most that a row keeps of a method's diagnostics, and how deep it looks into them.
DIAGNOSTIC_BYTES, MOST_DEPTH = 2**16, 20


def run_job(job: Job, machine: Machine) -> list[Result]:
    """Compute a job and return one result per cell; raises Stopped and, on Ctrl-C in this process, KeyboardInterrupt.

    Stopped also says that a plug-in's file has changed since the run began: what it would give now is no failure. What
    is wrong with one cell fails that cell alone. A stack that the memory does not hold is trained in parts.
    """
    require_unchanged(job.plugins)
    guard = _Guard(machine)
    reason = reason_to_skip(job)
    if reason:
        return _without_scores(job, "skipped", reason, machine, 0.0)
    began = time.process_time()
    results = _bounded(job, guard, partial(_compute, job, guard))
    spent = round(time.process_time() - began, 3)
    return [replace(result, processor_seconds=spent) for result in results]


class _Guard:
    """A machine whose reports are checked, and that remembers whether it was time to stop.

    A method may raise Stopped itself, or turn the one it was stopped with into something else.
    """

    def __init__(self, machine: Machine) -> None:
        self._progress, self._stop = machine.progress, machine.stop
        self.stopped = ""
        self.machine = machine.watched(self._report, self._ask)

    def _report(self, done: int, total: int, stage: str) -> None:
        self._progress(int(done), int(total), clean_text(stage, 100).partition("\n")[0])

    def _ask(self) -> None:
        try:
            self._stop()
        except Stopped as stopped:
            self.stopped = str(stopped) or "stopped"
            raise


def _bounded(job: Job, guard: _Guard, compute: Callable[[], list[Result]]) -> list[Result]:
    """Return what ``compute`` gives for a job, or failed results if it raises; raises Stopped and KeyboardInterrupt."""
    began = time.perf_counter()
    try:
        return compute()
    except KeyboardInterrupt:
        if not guard.machine.in_worker:
            raise
        return failed_results(
            job, "KeyboardInterrupt: raised by the method", guard.machine, time.perf_counter() - began
        )
    except BaseException as error:  # a plug-in may raise anything
        if guard.stopped:
            raise Stopped(guard.stopped) from None
        seconds = time.perf_counter() - began
        return failed_results(job, reason_of(error, job), guard.machine, seconds, _trace(error), cause=cause_of(error))


def _trace(error: BaseException) -> str:
    return "" if isinstance(error, BenchError) else traceback_text(error)


def failed_results(
    job: Job,
    reason: str,
    machine: Machine,
    seconds: float,
    trace: str = "",
    *,
    cause: Cause = "method",
    here: bool = True,
) -> list[Result]:
    """Return the results of a job that failed, such as one whose process died; ``trace`` says where it failed.

    A plug-in from outside the suite is asked where its data come from only ``here``, where the job itself runs.
    """
    results = _without_scores(job, "failed", clean_text(reason), machine, seconds, here)
    peak = peak_memory() if here else None
    return [replace(result, traceback=trace, cause=cause, peak_memory_mib=peak) for result in results]


def require_unchanged(plugins: Plugins) -> None:
    """Raise Stopped if the file of a plug-in is no longer what was listed: its rows would carry the wrong identity."""
    for info in plugins.all:
        try:
            changed = info.source_hash and hashlib.sha256(info.path.read_bytes()).hexdigest() != info.source_hash
        except OSError:
            changed = False
        if changed:
            raise Stopped(f"{info.path} has changed since this run began")


def reason_to_skip(job: Job) -> str:
    """Return why a job's method cannot take it (not installed, broken, other kinds of attributes), or nothing."""
    method, dataset = job.plugins.method, job.plugins.dataset
    usable, reason = available(method)
    if not usable:
        return reason
    unfit = sorted(set(dataset.kinds) - set(method.kinds))
    return f"does not take {' and '.join(unfit)} attributes" if unfit else ""


def too_wide(method: PluginInfo, attributes: int, width: int = 0) -> str:
    """Return why a method does not take a table of so many attributes, or of such a width once encoded, or nothing."""
    most = method.max_attributes
    if most is not None and attributes > most:
        return f"takes at most {most} attributes, not {attributes}"
    most = method.max_width
    if most is not None and width > most:
        return f"takes at most {most} encoded columns (a category has one per level), not {width}"
    return ""


def _compute(job: Job, guard: _Guard) -> list[Result]:
    """Return the results of a job: those of the stack of its cells that can be posed, and failures of the others."""
    began = time.perf_counter()
    machine = guard.machine
    loaded = load_for(job, machine)
    attributes = len(loaded.table.schema)
    width = loaded.table.schema.encoded_width
    reason = too_wide(job.plugins.method, attributes, width)
    if reason:
        skipped = _without_scores(job, "skipped", reason, machine, 0.0)
        counts = {"attributes": attributes, **({} if too_wide(job.plugins.method, attributes) else {"width": width})}
        return [replace(result, counts=counts) for result in skipped]
    posed, failed = _posed(job, loaded.table, guard)
    results = {result.key: result for result in failed}
    if posed is not None:
        stack = Job(tuple(cell for cell in job.cells if cell.key not in results), job.plugins)
        lead = time.perf_counter() - began
        results |= {result.key: result for result in _stack_results(stack, loaded, posed, guard, lead)}
    return [results[cell.key] for cell in job.cells]


def _posed(job: Job, table: Table, guard: _Guard) -> tuple[Problem | None, list[Result]]:
    """Return the problem of all cells that have one, and failed results of the others."""
    try:
        return problem_of(job, table), []
    except Exception:
        if len(job.cells) == 1:
            raise
    failed: list[Result] = []

    def pose(cell: Cell) -> list[Result]:
        problem_of(Job((cell,), job.plugins), table)
        return []

    for cell in job.cells:
        failed += _bounded(Job((cell,), job.plugins), guard, partial(pose, cell))
    wrong = {result.key for result in failed}
    sound = tuple(cell for cell in job.cells if cell.key not in wrong)
    return (problem_of(Job(sound, job.plugins), table) if sound else None), failed


def _stack_results(job: Job, loaded: LoadedTable, problem: Problem, guard: _Guard, lead: float) -> list[Result]:
    """Return the results of a stack, trained in parts if it fails as a whole; ``lead`` are the seconds before it.

    If the memory does not hold it, its halves are trained. If the method raises anything else, the replica at fault is
    found by training each alone; if that fails alike for two, it is the method and not a replica.
    """
    began = time.perf_counter() - lead
    try:
        fitted = fit_from_checkpoint(job, loaded.table, guard.machine, problem)
    except Exception as error:
        memory = out_of_memory(error)
        if guard.stopped or len(job.cells) == 1 or (isinstance(error, BenchError) and not memory):
            raise
        reason, trace, cause = reason_of(error, job), _trace(error), cause_of(error)
    else:
        drawn = drawn_by(fitted, job)
        seconds = time.perf_counter() - began
        return [_scored(job, replica, fitted, own, loaded, guard, seconds) for replica, own in enumerate(drawn)]
    # Outside the handler: the error would keep what its frames hold.
    free_memory()

    def part(cells: tuple[Cell, ...]) -> list[Result]:
        own = Job(cells, job.plugins)
        posed = partial(problem_of, own, loaded.table)
        return _bounded(own, guard, lambda: _stack_results(own, loaded, posed(), guard, lead))

    if memory:
        print(f"{job.label}: {reason}; its {len(job.cells)} replicas are trained in two parts")
        half = (len(job.cells) + 1) // 2
        return [*part(job.cells[:half]), *part(job.cells[half:])]
    results: list[Result] = []
    for cell in job.cells:
        results += part((cell,))
        if len(results) == 2 and all(result.status == "failed" and result.reason == reason for result in results):
            return failed_results(job, reason, guard.machine, time.perf_counter() - began, trace, cause=cause)
    return results


def _scored(
    job: Job, replica: int, fitted: Fitted, drawn: Drawn, loaded: LoadedTable, guard: _Guard, seconds: float
) -> Result:
    """Return the result of one replica of a stack: what is wrong with its values fails it alone."""
    cell = job.cells[replica]
    if replica not in fitted.failures:
        alone = Job((cell,), job.plugins)

        def compute() -> list[Result]:
            return [_score(job, replica, fitted, drawn, loaded, guard.machine, seconds)]

        (result,) = _bounded(alone, guard, compute)
        if result.status == "ok":
            return result
        return replace(result, stack=_stack_of(job), seconds=round(seconds, 3))
    origin = {"variant": loaded.variant, "source": loaded.source}
    reason = clean_text(fitted.failures[replica]).partition("\n")[0]
    failed: dict[str, Any] = {"traceback": "", "cause": "method", **origin}
    return _result(job, cell, "failed", guard.machine, seconds, reason=reason, **failed)


def _score(
    job: Job, replica: int, fitted: Fitted, drawn: Drawn, loaded: LoadedTable, machine: Machine, seconds: float
) -> Result:
    """Return the scores of one replica; raises what is wrong with its values."""
    from bench.problem.metrics import reference_of, score

    problem, table = fitted.problem, loaded.table
    test = problem.splits[replica].test
    imputed, warnings = fitted.completed(replica)
    shown, present = problem.masks[replica][test], table.present[test]
    scores = score(table.take(test), imputed, shown, present, table.schema, reference_of(table))
    untold = [f"its draws are not scored: {drawn.reason}"] if drawn.reason else []
    return _result(
        job,
        job.cells[replica],
        "ok",
        machine,
        seconds,
        **scores.as_json(),
        variant=loaded.variant,
        source=loaded.source,
        missing_ratio=problem.ratios[replica],
        ratios=problem.shares[replica],
        draws=drawn.scores,
        mask_hash=problem.mask_hash(replica),
        warnings=(*problem.warnings[replica], *warnings, *untold),
        diagnostics=bounded_json(fitted.diagnostics[replica]),
    )


def _result(job: Job, cell: Cell, status: Status, machine: Machine, seconds: float, **found: Any) -> Result:
    """Return the result of a cell; ``seconds`` are the whole job's."""
    return Result(
        cell,
        cell.key,
        status,
        seconds=round(seconds, 3),
        peak_memory_mib=peak_memory(),
        environment=machine.description(),
        stack=_stack_of(job),
        plugin_sources=job.plugins.sources(cell),
        **found,
    )


def _stack_of(job: Job) -> tuple[str, ...]:
    return tuple(other.key for other in job.cells)


def _without_scores(
    job: Job, status: Status, reason: str, machine: Machine, seconds: float, here: bool = True
) -> list[Result]:
    """Return the results of a job that failed or was skipped."""
    origin = _origin(job, here)
    return [_result(job, cell, status, machine, seconds, reason=reason, **origin) for cell in job.cells]


def _origin(job: Job, here: bool) -> dict[str, str]:
    """Return which variant of the data a job has and from where, nothing if the data cannot be had now."""
    from bench.files.fetch import content_of

    if not here and job.plugins.dataset.origin != "suite":
        return {}
    first = job.cells[0]
    try:
        content = content_of(load(job.plugins.dataset)(), first.include_target)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a plug-in may raise anything, and this result is to say what went wrong before
        return {}
    return {"variant": content.variant, "source": content.source} if content.content_hash == first.content else {}


def bounded_json(diagnostics: Mapping[str, Any]) -> dict[str, Any]:
    """Return diagnostics as plain JSON of at most ``DIAGNOSTIC_BYTES``; entries that do not fit are named."""
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    room = DIAGNOSTIC_BYTES
    for name, value in dict(diagnostics).items():
        entry = {clean_text(name, 200): as_plain_json(value)}
        size = len(canonical_json(entry).encode())
        if size <= room:
            kept |= entry
            room -= size
        else:
            left_out += entry
    if left_out:
        kept["left_out"] = f"beyond {DIAGNOSTIC_BYTES} bytes: {clean_text(', '.join(left_out), 500)}"
    return kept


def as_plain_json(value: Any, depth: int = 0) -> Any:
    """Return a value as plain JSON: NumPy's numbers as numbers, NaN and infinity as None, anything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < 2**1000 else clean_text(f"about 2**{value.bit_length()}")
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str) or depth > MOST_DEPTH:
        return clean_text(value, DIAGNOSTIC_BYTES)
    if isinstance(value, Mapping):
        return {clean_text(name, 200): as_plain_json(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain_json(item, depth + 1) for item in value]
    # Arrays, tensors and their scalars; an object that only looks like one is text below.
    return as_plain_json(value.tolist(), depth + 1) if callable(getattr(value, "tolist", None)) else clean_text(value)
