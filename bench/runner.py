"""The verb ``run``: specs to cells to jobs, minus what the store has, executed and stored."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, closest
from bench.experiment import (
    Cell,
    Job,
    Selection,
    cells_of,
    chosen_entries,
    columns_for,
    jobs_of,
    preferred_protocol,
    with_user_plugins,
)
from bench.paths import shipped_rows_folder
from bench.presets import PRESETS, budget_for
from bench.progress import RunProgress, cost_of, duration_text, recorded_costs
from bench.registry import Registry, available, load
from bench.spec import Column, Defaults, Row, TableSpec, load_spec
from bench.store import Store

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
    mechanisms: tuple[str, ...] = ("mcar",)
    ratios: tuple[float, ...] = (0.5,)
    store: Path = Path("results") / "local"
    plugins: tuple[Path, ...] = ()
    workers: int | None = None
    threads: int = 1
    device: str = "auto"
    time_budget: str = ""
    dry_run: bool = False
    retry_failed: bool = False
    rerun: bool = False


def run_request(request: RunRequest, console: Console) -> int:
    """Run what was asked for and return the exit code: 0, 1 (a row failed), 75 (stopped early; run again to go on).

    Raises BenchError, before anything is computed, on whatever the user can mend.
    """
    began = time.time()
    seconds = parse_duration(request.time_budget) if request.time_budget else None
    if request.device not in ("auto", "cpu", "cuda"):
        raise BenchError(f"unknown device '{request.device}'.{closest(request.device, ('auto', 'cpu', 'cuda'))}")
    budget_for(request.preset, ())
    registry = Registry.scan(request.plugins)
    specs = [with_user_plugins(load_spec(name), registry) for name in request.tables]
    if not specs:
        specs = [grid_of_your_own(request, registry)]
    _check_parameter_set(request.parameter_set, registry)
    cells, jobs = plan_jobs(specs, request, registry, console)
    store = Store(request.store)
    if request.rerun:
        before = {row["key"]: row for row in store.rows()}
        waiting = jobs
    else:
        before = {}
        missing = store.missing(cells, request.retry_failed)
        waiting = [job for job in jobs if any(cell.key in missing for cell in job.cells)]
    done = len(jobs) - len(waiting)
    console.print(f"{len(cells)} cells in {len(jobs)} jobs, {done} of them in {store.folder} already", highlight=False)
    costs = recorded_costs(list(Store(shipped_rows_folder()).rows()))
    # The longest first: what is left at the end is then short, and no worker waits long for another.
    waiting = sorted(waiting, key=lambda job: -cost_of(job, costs))
    if request.dry_run or not waiting:
        for job in waiting:
            console.print(f"would run {job.label}: {len(job.cells)} row(s)", highlight=False)
        return _summary(cells, store, console)
    code = _execute(waiting, registry, request, seconds, began, costs, store, console)
    for line in _compared(before, store.rows()) if request.rerun else ():
        console.print(line, highlight=False)
    return _summary(cells, store, console) or code


def plan_jobs(
    specs: Sequence[TableSpec], request: RunRequest, registry: Registry, console: Console
) -> tuple[list[Cell], list[Job]]:
    """Return the cells and jobs of all specs; data sets that cannot be had are named and left out.

    Raises BenchError if nothing is left.
    """
    selection = Selection(
        request.preset, request.parameter_set, request.methods, request.datasets, request.seeds
    )
    chosen = [(spec, chosen_entries(spec, selection)) for spec in specs]
    wanted = {(entry.dataset, entry.include_target) for _, entries in chosen for entry in entries}
    contents, problems = contents_of(wanted, registry)
    for problem in problems:
        console.print(f"left out: {problem}", highlight=False, markup=False, soft_wrap=True)
    unknown = {entry.method for _, entries in chosen for entry in entries} - set(registry.methods)
    if unknown:
        console.print(f"left out: not in this suite: {', '.join(sorted(unknown))}", highlight=False)
    cells: dict[str, Cell] = {}
    jobs: list[Job] = []
    for spec, entries in chosen:
        own = cells_of(entries, spec, selection, registry, contents)
        jobs.extend(jobs_of([cell for cell in own if cell.key not in cells], registry))
        cells.update((cell.key, cell) for cell in own)
    if not jobs:
        raise BenchError("nothing to run" + (f": {problems[0]}" if problems else ""))
    return list(cells.values()), jobs


def contents_of(
    wanted: Iterable[tuple[str, bool]], registry: Registry
) -> tuple[dict[tuple[str, bool], str], list[str]]:
    """Fetch data sets and return their content hashes, and one line for each that cannot be had."""
    from bench.fetch import content_of

    contents: dict[tuple[str, bool], str] = {}
    problems = []
    for name, include_target in sorted(wanted):
        if name not in registry.datasets:
            problems.append(f"data set '{name}' is not in this suite.{closest(name, registry.datasets)}")
            continue
        try:
            contents[name, include_target] = content_of(load(registry.dataset(name))(), include_target).content_hash
        except BenchError as error:
            problems.append(str(error))
    return contents, problems


def grid_of_your_own(request: RunRequest, registry: Registry) -> TableSpec:
    """Return a spec for named methods, data sets, mechanisms and ratios; raises BenchError if it is not fully said."""
    if not (request.methods and request.datasets):
        raise BenchError("name tables to run, or give --methods and --datasets for a grid of your own")
    for ratio in request.ratios:
        if not 0 < ratio < 1:
            raise BenchError(f"--ratios: {ratio:g} is not between 0 and 1")
    columns: list[Column] = []
    for name in request.datasets:
        for mechanism in request.mechanisms:
            registry.mechanism(mechanism)
            for ratio in request.ratios:
                columns += columns_for(registry.dataset(name), mechanism=mechanism, ratio=ratio)
    rows = [
        Row(label=name, method=name, protocol=preferred_protocol(registry.method(name))) for name in request.methods
    ]
    return TableSpec(
        id="grid", title="A grid of your own", label="tab:grid", seeds=request.seeds or (0, 1, 2),
        defaults=Defaults(protocol="inductive"), rows=tuple(rows), columns=tuple(columns),
    )  # fmt: skip


def parse_duration(text: str) -> float:
    """Return the seconds of ``9m``, ``90s``, ``1h30m`` or a plain number of seconds; raises BenchError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise BenchError(f"--time-budget takes a duration such as 9m, 90s or 1h30m, not '{text}'")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _check_parameter_set(name: str, registry: Registry) -> None:
    known = {set_name for info in registry.methods.values() for set_name in info.parameter_sets}
    if name not in known:
        raise BenchError(f"no method has a parameter set '{name}'.{closest(name, known)}")


def _execute(
    waiting: Sequence[Job], registry: Registry, request: RunRequest, seconds: float | None, began: float,
    costs: Mapping[Any, float], store: Store, console: Console,
) -> int:  # fmt: skip
    from bench.execute import Plan, execute

    device = choose_device(request.device, needs_torch=any(_needs_torch(job, registry) for job in waiting))
    plan = Plan(
        workers=choose_workers(request.workers, device, len(waiting)), device=device, threads=request.threads,
        checkpoints=store.folder / "checkpoints", deadline=None if seconds is None else began + seconds,
    )  # fmt: skip
    console.print(
        f"{len(waiting)} jobs with preset {request.preset} ({PRESETS[request.preset]}), on {device},"
        f" {plan.workers} worker(s)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    with RunProgress(waiting, costs, console) as progress:
        stopped = execute(waiting, registry, plan, progress, store.put)
    took = duration_text(time.time() - began)
    if stopped is not None:
        console.print(f"stopped after {took}: {stopped}. Run the same command again to go on.", highlight=False)
        return NOT_FINISHED
    console.print(f"finished in {took}", highlight=False)
    return FINISHED


def _needs_torch(job: Job, registry: Registry) -> bool:
    method = registry.methods[job.cells[0].method]
    return "torch" in method.requires and available(method)[0]


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
    keys = {cell.key for cell in cells}
    rows = [
        row
        for row in store.rows({cell.dataset for cell in cells}, {cell.method for cell in cells})
        if row["key"] in keys
    ]
    counts = {status: sum(row["status"] == status for row in rows) for status in ("ok", "failed", "skipped")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
    open_cells = len(keys) - len(rows)
    console.print(f"rows: {told}" + (f", {open_cells} still to run" if open_cells else ""), highlight=False)
    reasons = dict.fromkeys(
        (row["status"], row["cell"]["method"], row["cell"]["dataset"], row["reason"])
        for row in rows
        if row["status"] != "ok"
    )
    for status, method, dataset, reason in reasons:
        console.print(f"  {status}: {method} on {dataset}: {reason}", highlight=False, markup=False, soft_wrap=True)
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
    return [f"rerun: {same} row(s) identical, {len(changed)} different", *changed]
