"""The verb ``run``: from a scope to jobs, without those that the store has, computed and stored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, closest
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
from bench.plugins.registry import Registry, available, load
from bench.run.job import reason_to_skip, too_wide
from bench.run.lock import held
from bench.run.machine import Machine, choose_device, choose_workers
from bench.run.progress import Costs, RunProgress, cost_of, counted, duration_text, print_line, recorded_costs
from bench.run.request import Place
from bench.run.store import Store
from bench.run.workers import Put, run_jobs

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
    cells, jobs = plan_jobs(specs, scope, store.folder, registry, console)
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
        return _summary(cells, store, console)
    before = stored_results(cells, store) if rerun else {}
    fresh: list[Result] = []

    def put(results: Sequence[Result]) -> None:
        store.put(results)
        fresh.extend(results if rerun else ())

    device = choose_device(place.device, needs_torch=any(_needs_torch(job) for job in waiting))
    workers = choose_workers(place.workers, device, len(waiting))
    machine = Machine(device, place.threads, workers, store.folder / "checkpoints", deadline)
    preset = f"preset {scope.preset} ({PRESETS[scope.preset]})"
    print_line(console, f"{counted(len(waiting), 'job')} with {preset}, on {device}, {counted(workers, 'worker')}")
    stopped = _run_shown(waiting, machine, costs, store, put, console)
    took = duration_text(time.time() - began)
    how = "finished in" if stopped is None else "stopped after"
    why = "" if stopped is None else f": {stopped}. Run the same command again to continue."
    print_line(console, f"{how} {took}{why}")
    for line in _compared(before, fresh) if rerun else ():
        print_line(console, line)
    failed = _summary(cells, store, console)
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
    """Return the jobs with a cell that the store lacks, without those that would be skipped as they were before."""
    missing = store.missing(cells, retry_failed, sources_of(jobs))
    stored = stored_results(cells, store)

    def still_skipped(job: Job) -> bool:
        before = [stored.get(cell.key) for cell in job.cells]
        attributes = before[0].counts.get("attributes", 0) if before[0] is not None else 0
        reason = reason_to_skip(job) or too_wide(job.plugins.method, attributes)
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


def plan_jobs(
    specs: Sequence[TableSpec], scope: Scope, store: Path, registry: Registry, console: Console
) -> tuple[list[Cell], list[Job]]:
    """Return the cells and jobs of all specs; data sets that cannot be had are named and left out.

    ``store`` is the folder that keeps tuned parameters. Raises BenchError if nothing is left.
    """
    require_known_filters(specs, scope, registry)
    chosen = [(spec, chosen_cells(spec, scope)) for spec in specs]
    wanted = {(cell.dataset, cell.include_target) for _, asked in chosen for cell in asked}
    contents, unusable = contents_of(wanted, registry)
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
    return list(cells.values()), jobs


def contents_of(
    wanted: Iterable[tuple[str, bool]], registry: Registry
) -> tuple[dict[tuple[str, bool], str], dict[str, str]]:
    """Fetch data sets and return their content hashes, and by name one line for each that cannot be had."""
    from bench.files.fetch import DataUnavailable, content_of

    contents: dict[tuple[str, bool], str] = {}
    problems: dict[str, str] = {}
    for name, include_target in sorted(wanted):
        if name not in registry.datasets:
            problems[name] = f"data set '{name}' is not in this suite.{closest(name, registry.datasets)}"
            continue
        try:
            contents[name, include_target] = content_of(load(registry.dataset(name))(), include_target).content_hash
        except DataUnavailable as error:
            problems[name] = f"data not obtained: {error}{stand_in_advice(name, registry)}"
        except BenchError as error:
            problems[name] = str(error)
    return contents, problems


def _needs_torch(job: Job) -> bool:
    method = job.plugins.method
    return method.uses_torch and available(method)[0]


def _summary(cells: Sequence[Cell], store: Store, console: Console) -> int:
    """Print how many cells have which status, with each distinct failure, and return the exit code for it."""
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
    return SOME_FAILED if counts["failed"] else FINISHED


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
