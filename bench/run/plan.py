"""The verb ``run``: specs to cells to jobs, minus what the store has, executed and stored."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, closest
from bench.experiment.cell import Cell, Job
from bench.experiment.expand import (
    Selection,
    cells_of,
    chosen_entries,
    columns_for,
    jobs_of,
    preferred_protocol,
    require_known_filters,
    sets_of,
    stand_ins,
    with_stand_ins,
    with_user_plugins,
)
from bench.experiment.presets import HIGHEST, PRESETS, budget_for, require_precision
from bench.experiment.reader import load_spec
from bench.experiment.specs import ColumnSpec, Defaults, RowSpec, TableSpec
from bench.experiment.tuned import TunedParameters
from bench.paths import shipped_rows_folder
from bench.plugins.registry import Registry, available, load
from bench.run.job import reason_to_skip, too_wide
from bench.run.lock import held
from bench.run.progress import RunProgress, cost_of, duration_text, recorded_costs, say
from bench.run.store import Store

if TYPE_CHECKING:
    from rich.console import Console

FINISHED, SOME_FAILED, NOTHING_TO_RUN, NOT_FINISHED = 0, 1, 2, 75


@dataclass(frozen=True)
class RunRequest:
    """What the user asked to run, and how."""

    tables: tuple[str, ...] = ()
    preset: str = "quick"
    parameter_set: str = "default"
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    mechanisms: tuple[str, ...] = ()
    ratios: tuple[float, ...] = ()
    store: Path = Path("results") / "local"
    plugins: tuple[Path, ...] = ()
    workers: int | None = None
    threads: int = 1
    device: str = "auto"
    precision: str = HIGHEST
    time_budget: str = ""
    dry_run: bool = False
    retry_failed: bool = False
    rerun: bool = False
    stand_in: bool = False


def run_request(request: RunRequest, console: Console) -> int:
    """Run what was asked for and return the exit code: 0, 1 (a row failed), 75 (stopped early; run again to go on).

    Raises BenchError, before anything is computed, on whatever the user can mend.
    """
    began = time.time()
    seconds = parse_duration(request.time_budget) if request.time_budget else None
    if request.device not in ("auto", "cpu", "cuda"):
        raise BenchError(f"unknown device '{request.device}'.{closest(request.device, ('auto', 'cpu', 'cuda'))}")
    budget_for(request.preset, ())
    require_precision(request.precision)
    store = Store(request.store)
    registry = Registry.scan(request.plugins)
    if request.tables and (request.mechanisms or request.ratios):
        raise BenchError("--mechanisms and --ratios are for a grid of your own; a table names its own")
    specs = [with_user_plugins(load_spec(name), registry) for name in request.tables]
    if not specs:
        specs = [grid_of_your_own(request, registry)]
    if request.stand_in:
        specs = with_stand_ins(specs, registry)
    require_parameter_set(request.parameter_set, registry)
    cells, jobs = plan_jobs(specs, request, registry, console)
    waiting = jobs if request.rerun else waiting_jobs(cells, jobs, store, request.retry_failed, registry)
    done = len(jobs) - len(waiting)
    known = "" if request.rerun else f", {done} of them in {store.folder} already"
    say(console, f"{counted(len(cells), 'cell')} in {counted(len(jobs), 'job')}{known}")
    asked = {cell.dataset for cell in cells}, {cell.method for cell in cells}, request.preset
    costs = recorded_costs([*Store(shipped_rows_folder()).newest(*asked), *store.newest(*asked)])
    # The longest first: what is left at the end is then short, and no worker waits long for another.
    waiting = sorted(waiting, key=lambda job: -cost_of(job, costs))
    if request.dry_run or not waiting:
        for job in waiting:
            say(console, f"would run {job.label}: {counted(len(job.cells), 'row')}")
        return _summary(cells, store, console)
    before = stored_rows(cells, store) if request.rerun else {}
    fresh: list[Mapping[str, Any]] = []

    def put(rows: Sequence[dict[str, Any]]) -> None:
        store.put(rows)
        fresh.extend(rows if request.rerun else ())

    code = _execute(waiting, registry, request, seconds, began, costs, store, put, console)
    for line in _compared(before, fresh) if request.rerun else ():
        say(console, line)
    failed = _summary(cells, store, console)
    return code or failed


def waiting_jobs(
    cells: Sequence[Cell], jobs: Sequence[Job], store: Store, retry_failed: bool, registry: Registry
) -> list[Job]:
    """Return the jobs with a cell that the store lacks, without those that would be skipped as they were before."""
    missing = store.missing(cells, retry_failed)
    stored = stored_rows(cells, store)

    def still_skipped(job: Job) -> bool:
        before = [stored.get(cell.key, {}) for cell in job.cells]
        method = registry.method(job.cells[0].method)
        reason = reason_to_skip(method, job, registry)
        reason = reason or too_wide(method, before[0].get("counts", {}).get("attributes", 0))
        return bool(reason) and all(row.get("reason") == reason for row in before)

    return [job for job in jobs if any(cell.key in missing for cell in job.cells) and not still_skipped(job)]


def stored_rows(cells: Iterable[Cell], store: Store) -> dict[str, Mapping[str, Any]]:
    """Return the rows that a store has of cells, by key."""
    places = {cell.key: (cell.dataset, cell.method) for cell in cells}
    datasets, methods = ({place[part] for place in places.values()} for part in (0, 1))
    return {row["key"]: row for row in store.rows(datasets, methods, places.keys())}


def plan_jobs(
    specs: Sequence[TableSpec], request: RunRequest, registry: Registry, console: Console
) -> tuple[list[Cell], list[Job]]:
    """Return the cells and jobs of all specs; data sets that cannot be had are named and left out.

    Raises BenchError if nothing is left.
    """
    selection = Selection(
        request.preset, request.parameter_set, request.methods, request.datasets, request.seeds, request.precision
    )
    require_known_filters(specs, selection, registry)
    chosen = [(spec, chosen_entries(spec, selection)) for spec in specs]
    wanted = {(entry.dataset, entry.include_target) for _, entries in chosen for entry in entries}
    contents, unusable = contents_of(wanted, registry)
    problems = list(unusable.values())
    for name, problem in unusable.items():
        ids = [spec.id for spec, entries in chosen if any(entry.dataset == name for entry in entries)]
        say(console, f"left out of {' and '.join(ids)}: {problem}")
    unknown = sorted({entry.method for _, entries in chosen for entry in entries} - set(registry.methods))
    if unknown:
        problems.append(f"not in this suite: {', '.join(unknown)}")
        say(console, f"left out: {problems[-1]}")
    cells: dict[str, Cell] = {}
    jobs: list[Job] = []
    for spec, entries in chosen:
        own = cells_of(entries, spec, selection, registry, contents, TunedParameters.of_store(request.store))
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


def stand_in_advice(name: str, registry: Registry) -> str:
    """Return how to run the stand-in of a data set that cannot be had, or nothing where it has none."""
    known = stand_ins(registry)
    return f". --stand-in runs {known[name]}, which is synthetic, in its place" if name in known else ""


def grid_of_your_own(request: RunRequest, registry: Registry) -> TableSpec:
    """Return a spec for named methods, data sets, mechanisms and ratios; raises BenchError if it is not fully said."""
    if not (request.methods and request.datasets):
        raise BenchError("name tables to run, or give --methods and --datasets for a grid of your own")
    for ratio in request.ratios:
        if not 0 < ratio < 1:
            raise BenchError(f"--ratios: {ratio:g} is not between 0 and 1")
    for seed in request.seeds:
        if seed < 0:
            raise BenchError(f"--seeds: {seed} is negative")
    columns: list[ColumnSpec] = []
    for name in request.datasets:
        for mechanism in request.mechanisms or ("mcar",):
            registry.mechanism(mechanism)
            for ratio in request.ratios or (0.5,):
                columns += columns_for(registry.dataset(name), mechanism=mechanism, ratio=ratio)
    rows = [
        RowSpec(label=name, method=name, protocol=preferred_protocol(registry.method(name))) for name in request.methods
    ]
    return TableSpec(
        id="grid",
        title="A grid of your own",
        label="tab:grid",
        seeds=request.seeds or (0, 1, 2),
        defaults=Defaults(protocol="inductive"),
        rows=tuple(rows),
        columns=tuple(columns),
    )


def parse_duration(text: str) -> float:
    """Return the seconds of ``9m``, ``90s``, ``1h30m`` or a plain number of seconds; raises BenchError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in (match.groups() if match else (0, 0, 0)))
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise BenchError(f"--time-budget takes a duration such as 9m, 90s or 1h30m, not '{text}'")
    return total


def require_parameter_set(name: str, registry: Registry) -> None:
    """Raise BenchError unless some method has a parameter set of this name."""
    known = {set_name for info in registry.methods.values() for set_name in sets_of(info)}
    if name not in known:
        raise BenchError(f"no method has a parameter set '{name}'.{closest(name, known)}")


def _execute(
    waiting: Sequence[Job],
    registry: Registry,
    request: RunRequest,
    seconds: float | None,
    began: float,
    costs: Mapping[Any, float],
    store: Store,
    put: Callable[[Sequence[dict[str, Any]]], None],
    console: Console,
) -> int:
    from bench.run.workers import Plan, execute

    device = choose_device(request.device, needs_torch=any(_needs_torch(job, registry) for job in waiting))
    plan = Plan(
        workers=choose_workers(request.workers, device, len(waiting)),
        device=device,
        threads=request.threads,
        checkpoints=store.folder / "checkpoints",
        deadline=None if seconds is None else began + seconds,
    )
    preset = f"preset {request.preset} ({PRESETS[request.preset]})"
    say(console, f"{counted(len(waiting), 'job')} with {preset}, on {device}, {counted(plan.workers, 'worker')}")
    with held(store.folder), RunProgress(waiting, costs, console) as progress:
        stopped = execute(waiting, registry, plan, progress, put)
    took = duration_text(time.time() - began)
    if stopped is not None:
        told = f"stopped after {took}: {stopped}. Run the same command again to go on."
        say(console, told)
        return NOT_FINISHED
    say(console, f"finished in {took}")
    return FINISHED


def counted(count: int, noun: str) -> str:
    """Return ``1 job`` or ``2 jobs``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _needs_torch(job: Job, registry: Registry) -> bool:
    method = registry.methods[job.cells[0].method]
    return method.uses_torch and available(method)[0]


def choose_device(asked: str, needs_torch: bool) -> str:
    """Return ``cuda`` where it is asked for or there is one to use, else ``cpu``; raises BenchError."""
    if asked == "cpu" or not needs_torch:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise BenchError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return "cpu"


def choose_workers(asked: int | None, device: str, jobs: int) -> int:
    """Return the number of workers: as asked, else one on a GPU and one a core on a CPU, never more than jobs."""
    import os

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = asked if asked is not None else 1 if device == "cuda" else usable
    return max(1, min(wanted, jobs))


def _summary(cells: Sequence[Cell], store: Store, console: Console) -> int:
    """Print how many cells have which status, with each distinct failure, and return the exit code for it."""
    rows = list(stored_rows(cells, store).values())
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "failed", "skipped")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
    open_cells = len({cell.key for cell in cells}) - len(rows)
    say(console, f"rows: {told}" + (f", {open_cells} still to run" if open_cells else ""))
    reasons = dict.fromkeys(
        (row["status"], row["cell"]["method"], row["cell"]["dataset"], row["reason"])
        for row in rows
        if row["status"] != "ok"
    )
    for status, method, dataset, reason in reasons:
        say(console, f"  {status}: {method} on {dataset}: {reason}")
    return SOME_FAILED if counts["failed"] else FINISHED


def _compared(before: Mapping[str, Any], after: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what a rerun changed: how many rows have the very same metrics as before, and which do not."""
    same, changed = 0, []
    for row in after:
        old = before.get(row["key"])
        if old is None:
            continue
        if all(old.get(part) == row.get(part) for part in ("status", "metrics", "attributes", "mask_hash")):
            same += 1
        else:
            changed.append(f"differs: {row['cell']['method']} on {row['cell']['dataset']}, seed {row['cell']['seed']}")
    return [f"rerun: {counted(same, 'row')} identical, {len(changed)} different", *changed]
