"""The verb ``run``: from a scope to jobs, without those that the store has, computed and stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.errors import BenchError, Stopped, closest
from bench.experiment.cell import Cell, Job
from bench.experiment.expand import (
    cells_of,
    chosen_cells,
    jobs_of,
    require_known_filters,
    require_parameter_set,
    specs_of,
    stand_in_advice,
)
from bench.experiment.presets import PRESETS
from bench.experiment.result import Result, is_stale
from bench.experiment.scope import Scope
from bench.experiment.specs import TableSpec
from bench.experiment.tuned import TunedParameters
from bench.paths import shipped_rows_folder
from bench.plugins.registry import PluginInfo, Registry, available
from bench.run.fit import content_or_problem
from bench.run.isolation.process import Task
from bench.run.isolation.workers import Put, call, run_jobs
from bench.run.job import reason_to_skip, too_wide
from bench.run.lock import held
from bench.run.machine import Machine, choose_device, choose_workers
from bench.run.progress import Costs, RunProgress, cost_of, counted, duration_text, print_line, recorded_costs
from bench.run.request import Place
from bench.run.store import Store

if TYPE_CHECKING:
    from rich.console import Console

FINISHED, SOME_FAILED, NOTHING_TO_RUN, NOT_FINISHED = 0, 1, 2, 75


def run_scope(
    scope: Scope,
    place: Place,
    console: Console,
    *,
    dry_run: bool = False,
    retry_failed: bool = False,
    rerun: bool = False,
) -> int:
    """Run a scope and return the exit code: 0, 1 (a row failed), 75 (stopped early; run again to continue).

    ``dry_run`` only shows what would run, ``retry_failed`` runs failed cells again, ``rerun`` runs everything again and
    says what changed. Raises BenchError, before anything is computed, on whatever the user can mend.
    """
    began, deadline = time.time(), place.deadline()
    place.require_valid()
    scope.require_valid()
    store = Store(*place.folders)
    registry = Registry.scan(place.plugins)
    specs = specs_of(scope, registry)
    require_parameter_set(scope.parameter_set, registry)
    limits = Machine(
        workers=1 if place.workers is None else place.workers,
        threads=place.threads,
        kernels=place.kernels,
        deadline=deadline,
        silence=place.silence(scope.preset),
        memory=place.memory_gib(scope.preset),
        checkpoints=store.folder / "checkpoints",
    )
    try:
        cells, jobs, broken = plan_jobs(specs, scope, store.folder, registry, console, limits)
    except Stopped as early:
        print_line(console, f"stopped: {early}. Run the same command again to continue.")
        return NOT_FINISHED
    waiting = jobs if rerun else waiting_jobs(cells, jobs, store, retry_failed)
    done = len(jobs) - len(waiting)
    known = "" if rerun else f", {done} of them in {' and '.join(map(str, store.folders))} already"
    print_line(console, f"{counted(len(cells), 'cell')} in {counted(len(jobs), 'job')}{known}")
    for line in () if rerun else why_again(waiting, store):
        print_line(console, line)
    costs = costs_of(cells, scope.preset, store)
    # The longest first: what is left at the end is then short, and no worker waits long for another.
    waiting = sorted(waiting, key=lambda job: -cost_of(job, costs))
    if dry_run or not waiting:
        for job in waiting:
            print_line(console, f"would run {job.label}: {counted(len(job.cells), 'row')}")
        return _summary(cells, store, console, broken)
    before = stored_results(cells, store)
    fresh: list[Result] = []

    def put(results: Sequence[Result]) -> None:
        store.put([_counted_attempt(result, before.get(result.key)) for result in results])
        fresh.extend(results if rerun else ())

    device = choose_device(place.device, needs_torch=any(_needs_torch(job) for job in waiting))
    workers = choose_workers(place.workers, device, len(waiting))
    machine = replace(limits, device=device, workers=workers)
    preset = f"preset {scope.preset} ({PRESETS[scope.preset]})"
    where = counted(workers, "worker") if workers else "in this process"
    print_line(console, f"{counted(len(waiting), 'job')} with {preset}, on {device}, {where}")
    stopped = _run_shown(waiting, machine, costs, store, put, console)
    took = duration_text(time.time() - began)
    how = "finished in" if stopped is None else "stopped after"
    why = "" if stopped is None else f": {stopped}. Run the same command again to continue."
    print_line(console, f"{how} {took}{why}")
    for line in _compared(before, fresh) if rerun else ():
        print_line(console, line)
    failed = _summary(cells, store, console, broken)
    return failed if stopped is None else NOT_FINISHED


def _run_shown(
    jobs: Sequence[Job], machine: Machine, costs: Costs, store: Store, put: Put, console: Console
) -> str | None:
    """Run jobs with the store held and progress on the console; return why it stopped early, or None."""
    with held(store.folder), RunProgress(jobs, costs, console) as progress:
        return run_jobs(jobs, machine, progress, put)


def costs_of(cells: Sequence[Cell], preset: str, store: Store) -> Costs:
    """Return what jobs like those of these cells took, here or when the shipped rows were made."""
    asked = {cell.dataset for cell in cells}, {cell.method for cell in cells}, preset
    return recorded_costs([*Store(shipped_rows_folder()).newest(*asked), *store.newest(*asked)])


def waiting_jobs(cells: Sequence[Cell], jobs: Sequence[Job], store: Store, retry_failed: bool) -> list[Job]:
    """Return the jobs with a cell that the store lacks, without those that would be skipped as they were before.

    What the environment failed counts as lacking until it has been tried often enough.
    """
    stored = stored_results(cells, store)
    missing = store.missing(cells, retry_failed, sources_of(jobs))
    missing |= {key for key, result in stored.items() if result.may_be_retried}

    def still_skipped(job: Job) -> bool:
        before = [stored.get(cell.key) for cell in job.cells]
        counts = before[0].counts if before[0] is not None else {}
        size = (counts.get("attributes", 0), counts.get("width", 0))
        reason = reason_to_skip(job) or too_wide(job.plugins.method, *size)
        return bool(reason) and all(result is not None and result.reason == reason for result in before)

    return [job for job in jobs if any(cell.key in missing for cell in job.cells) and not still_skipped(job)]


def sources_of(jobs: Iterable[Job]) -> dict[str, dict[str, str]]:
    """Return, by key of a cell, the hashes of the code of plug-ins that are not the suite's own."""
    found = {cell.key: job.plugins.sources(cell) for job in jobs for cell in job.cells}
    return {key: sources for key, sources in found.items() if sources}


def why_again(jobs: Sequence[Job], store: Store) -> list[str]:
    """Return why jobs run whose cells were computed before: plug-ins have other code now, or keys have changed."""
    cells, sources = [cell for job in jobs for cell in job.cells], sources_of(jobs)
    stored = stored_results(cells, store)
    stale = [stored[key].cell for key, own in sources.items() if key in stored and is_stale(stored[key], own)]
    methods = ", ".join(sorted({cell.method for cell in stale}))
    told = [f"{counted(len(stale), 'stored row')} of {methods}: the plug-in's code is another now; computed again"]
    return [*(told if stale else ()), *store.outdated(cell for cell in cells if cell.key not in stored)]


def stored_results(cells: Iterable[Cell], store: Store) -> dict[str, Result]:
    """Return the results that a store has of cells, by key."""
    places = {cell.key: (cell.dataset, cell.method) for cell in cells}
    datasets, methods = ({place[part] for place in places.values()} for part in (0, 1))
    return {result.key: result for result in store.rows(datasets, methods, places.keys())}


class Planned(NamedTuple):
    """The cells and jobs of a scope, and one line for each data set that was left out because its plug-in is broken."""

    cells: list[Cell]
    jobs: list[Job]
    broken: tuple[str, ...]


def plan_jobs(
    specs: Sequence[TableSpec],
    scope: Scope,
    store: Path,
    registry: Registry,
    console: Console,
    machine: Machine | None = None,
) -> Planned:
    """Return the cells and jobs of all specs; data sets that cannot be had are named and left out.

    ``store`` is the folder that keeps tuned parameters, ``machine`` says how data sets from outside the suite are
    loaded. Raises BenchError if nothing is left.
    """
    require_known_filters(specs, scope, registry)
    chosen = [(spec, chosen_cells(spec, scope)) for spec in specs]
    wanted = {(cell.dataset, cell.include_target) for _, asked in chosen for cell in asked}
    contents, unusable, broken = contents_of(wanted, registry, machine, partial(print_line, console))
    problems = list(unusable.values())
    for name, problem in unusable.items():
        ids = [spec.id for spec, asked in chosen if any(cell.dataset == name for cell in asked)]
        print_line(console, f"left out of {' and '.join(ids)}: {problem}")
    unknown = sorted({cell.method for _, asked in chosen for cell in asked} - set(registry.methods))
    if unknown:
        problems.append(f"not in this suite: {', '.join(unknown)}")
        print_line(console, f"left out: {problems[-1]}")
    cells: dict[str, Cell] = {}
    jobs: list[Job] = []
    for spec, asked in chosen:
        own = cells_of(asked, spec, scope, registry, contents, TunedParameters.of_store(store))
        jobs.extend(jobs_of([cell for cell in own if cell.key not in cells], registry))
        cells.update((cell.key, cell) for cell in own)
    if not jobs:
        raise BenchError("nothing to run" + (f": {problems[0]}" if problems else ""))
    return Planned(list(cells.values()), jobs, tuple(unusable[name] for name in sorted(broken)))


class Contents(NamedTuple):
    """Content hashes by (data set, with target), one line for each data set that has none, and those that are broken.

    A broken one fails as a plug-in; the others name no data that can be had.
    """

    hashes: dict[tuple[str, bool], str]
    problems: dict[str, str]
    broken: set[str]


def contents_of(
    wanted: Iterable[tuple[str, bool]],
    registry: Registry,
    machine: Machine | None = None,
    on_line: Callable[[str], None] = print,
) -> Contents:
    """Fetch data sets and return their contents; those from outside the suite are loaded in a worker, if there are any.

    Raises Stopped if ``machine`` has no time left for that.
    """
    machine = machine or Machine()
    found = Contents({}, {}, set())
    for name, include_target in sorted(wanted):
        if name not in registry.datasets:
            found.problems[name] = f"data set '{name}' is not in this suite.{closest(name, registry.datasets)}"
            continue
        info = registry.dataset(name)
        if info.origin == "suite" or not machine.workers:
            answer = content_or_problem(info, include_target)
        else:
            answer = _content_apart(info, include_target, machine, on_line)
        if "content" in answer:
            found.hashes[name, include_target] = answer["content"]
            continue
        advice = stand_in_advice(name, registry) if answer.get("unavailable") else ""
        found.problems[name] = answer["problem"] + advice
        if answer.get("broken"):
            found.broken.add(name)
    return found


def _content_apart(
    info: PluginInfo, include_target: bool, machine: Machine, on_line: Callable[[str], None]
) -> dict[str, Any]:
    """Return what ``content_or_problem`` says, asked in a worker process."""
    asked = {"dataset": info.as_json(), "include_target": include_target, "machine": machine.as_json()}
    try:
        return call(Task({"kind": "content", **asked}, (info,)), machine, on_line)
    except BenchError as error:
        return {"problem": f"data set '{info.name}': {error}", "broken": True}


def _needs_torch(job: Job) -> bool:
    method = job.plugins.method
    return method.uses_torch and available(method)[0]


def _summary(cells: Sequence[Cell], store: Store, console: Console, broken: Sequence[str]) -> int:
    """Print how many cells have which status, with each distinct failure, and return the exit code for it.

    ``broken`` are lines on data sets that were left out, which is a failure too.
    """
    results = list(stored_results(cells, store).values())
    counts = {status: sum(result.status == status for result in results) for status in ("ok", "failed", "skipped")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
    open_cells = len({cell.key for cell in cells}) - len(results)
    print_line(console, f"rows: {told}" + (f", {open_cells} still to run" if open_cells else ""))
    reasons = dict.fromkeys(
        (result.status, result.cell.method, result.cell.dataset, result.reason)
        for result in results
        if result.status != "ok"
    )
    for status, method, dataset, reason in reasons:
        print_line(console, f"  {status}: {method} on {dataset}: {reason}")
    for line in store.told():
        print_line(console, line)
    for line in broken:
        print_line(console, f"  left out: {line}")
    return SOME_FAILED if counts["failed"] or broken else FINISHED


def _counted_attempt(result: Result, before: Result | None) -> Result:
    """Return a result that says how often its cell was tried, if the environment failed it before as well."""
    if result.cause != "environment" or before is None or before.cause != "environment":
        return result
    return replace(result, attempts=before.attempts + 1)


def _compared(before: Mapping[str, Result], after: Iterable[Result]) -> list[str]:
    """Return what a rerun changed: how many rows have the very same metrics as before, and which do not."""
    same, changed = 0, []
    for new in after:
        old = before.get(new.key)
        if old is None:
            continue
        if all(getattr(old, part) == getattr(new, part) for part in ("status", "metrics", "attributes", "mask_hash")):
            same += 1
        else:
            changed.append(f"differs: {new.cell.method} on {new.cell.dataset}, seed {new.cell.seed}")
    return [f"rerun: {counted(same, 'row')} identical, {len(changed)} different", *changed]
