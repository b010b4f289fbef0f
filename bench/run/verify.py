"""The verb ``verify``: whether stored rows are as they were put, and whether some of them come out again."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench import engine_version
from bench.errors import BenchError
from bench.experiment.cell import Job, Plugins
from bench.experiment.result import Result, is_stale
from bench.plugins.registry import Registry, available
from bench.run.isolation.workers import run_jobs
from bench.run.machine import KERNELS, NATIVE, PORTABLE, Machine, choose_device, choose_workers
from bench.run.plan import FINISHED, NOT_FINISHED, SOME_FAILED, contents_of, costs_of
from bench.run.progress import RunProgress, counted, print_line
from bench.run.request import Place
from bench.run.store import Store, largest_difference, same_numbers
from bench.seeds import generator

if TYPE_CHECKING:
    from rich.console import Console

#: On another machine rounding may change which epoch is chosen: a score may then move by so many standard deviations
#: over seeds. Below the second bound, relative, it is rounding alone.
SPREADS, ROUNDING = 3.0, 1e-6

#: What has to be equal for equal bits, of what is stored with a result.
_SAME_BITS = (
    "processor",
    "instructions",
    "kernel_settings",
    "python",
    "system",
    "device",
    "gpu",
    "threads",
    "packages",
)


@dataclass(frozen=True)
class Verdict:
    """What came of a row that was to be computed again: ``good`` None if that says nothing about the row."""

    row: Result
    outcome: str
    good: bool | None
    difference: float | None = None


def verify_stores(place: Place, console: Console, sample: int = 0, seed: int = 0) -> int:
    """Check every row of the stores, compute ``sample`` of them again, and return the exit code.

    0, 1 (a row is edited or damaged, or does not come out again) or 75 (the time budget or Ctrl-C stopped it). ``seed``
    chooses the sample. Raises BenchError on whatever the user can mend.
    """
    place.require_valid()
    damaged = _check(place, console)
    if not sample:
        return SOME_FAILED if damaged else FINISHED
    verdicts, stopped = compute_again(place, console, sample, seed)
    _show(verdicts, console)
    if stopped is not None:
        print_line(console, f"stopped: {stopped}")
        return NOT_FINISHED
    return SOME_FAILED if damaged or any(verdict.good is False for verdict in verdicts) else FINISHED


def _check(place: Place, console: Console) -> bool:
    """Print what the rows of each store are, and each that is no result; return whether there is such a one."""
    from rich.table import Table
    from rich.text import Text

    table = Table("store", title="Keys and digests")
    for heading in ("rows", "verified", "without digest", "edited or damaged"):
        table.add_column(heading, justify="right")
    lines: list[str] = []
    for folder in place.folders:
        store, verified, unverified = Store(folder), 0, 0
        for result in store.every():
            verified, unverified = verified + result.verified, unverified + (not result.verified)
        damage = store.damage
        rows = verified + unverified + len(damage)
        table.add_row(Text(str(folder)), *map(str, (rows, verified, unverified, len(damage))))
        lines += map(str, damage)
    console.print(table)
    together = Store(*place.folders)
    for _ in together.rows():
        pass
    for line in [*lines, *(f"two contents: {conflict}" for conflict in together.conflicts)]:
        print_line(console, line)
    return bool(lines)


def compute_again(place: Place, console: Console, sample: int, seed: int) -> tuple[list[Verdict], str | None]:
    """Compute some rows that ran well again, each with its whole stack; return what came of them.

    The second value says why it stopped early, None if it did not.
    """
    store, registry = Store(*place.folders), Registry.scan(place.plugins)
    stored = {result.key: result for result in store.rows()}
    ran = sorted(key for key, result in stored.items() if result.status == "ok")
    chosen = [stored[ran[index]] for index in generator("verify", seed).permutation(len(ran))[:sample]]
    contents, unusable, *_ = contents_of({(row.cell.dataset, row.cell.include_target) for row in chosen}, registry)
    verdicts: list[Verdict] = []
    groups: dict[tuple[str, int, str], dict[str, tuple[Job, list[Result]]]] = {}
    for row in chosen:
        why = unusable.get(row.cell.dataset, "") or _why_not(row, stored, registry, contents)
        if why:
            verdicts.append(Verdict(row, f"not computed: {why}", None))
            continue
        cells = [stored[key].cell for key in row.stack or (row.key,)]
        job = Job(tuple(cells), Plugins.of(cells, registry))
        groups.setdefault(where_computed(row), {}).setdefault(job.key, (job, []))[1].append(row)
    for (device, threads, kernels), wanted in groups.items():
        jobs = [job for job, _ in wanted.values()]
        costs = costs_of([cell for job in jobs for cell in job.cells], jobs[0].cells[0].preset, store)
        workers = choose_workers(place.workers, device, len(jobs))
        machine = Machine(device, threads, workers, deadline=place.deadline(), kernels=kernels)
        fresh: dict[str, Result] = {}

        def put(results: Sequence[Result], fresh: dict[str, Result] = fresh) -> None:
            fresh.update((result.key, result) for result in results)

        with RunProgress(jobs, costs, console) as progress:
            stopped = run_jobs(jobs, machine, progress, put)
        rows = [row for _, own in wanted.values() for row in own]
        verdicts += [judge(row, fresh[row.key], stored.values()) for row in rows if row.key in fresh]
        if stopped is not None:
            return verdicts, stopped
    return verdicts, None


def _why_not(
    row: Result, stored: Mapping[str, Result], registry: Registry, contents: Mapping[tuple[str, bool], str]
) -> str:
    """Return why a row cannot come out again here, whatever it holds; an empty text if it should."""
    cell = row.cell
    if any(key not in stored for key in row.stack):
        return "not all rows that were computed with it are in the stores"
    try:
        plugins = Plugins.of([stored[key].cell for key in row.stack or (row.key,)], registry)
    except BenchError as error:
        return str(error)
    usable, reason = available(plugins.method)
    if not usable:
        return reason
    now = replace(
        cell,
        content=contents[cell.dataset, cell.include_target],
        engine=engine_version(plugins.dataset.kinds),
        method_version=plugins.method.version,
        mechanism_version=plugins.mechanisms[cell.mechanism].version,
    )
    if is_stale(row, plugins.sources(cell)):
        return "the plug-in's code is another now"
    return "; ".join(now.changes_from(cell))


def where_computed(row: Result) -> tuple[str, int, str]:
    """Return a row's device (the CPU if there is none such here), its threads and its kernels."""
    device, threads = row.environment.get("device"), row.environment.get("threads")
    try:
        device = choose_device("cuda" if device == "cuda" else "cpu", needs_torch=True)
    except BenchError:
        device = "cpu"
    settings = row.environment.get("kernel_settings")
    portable = isinstance(settings, dict) and settings.items() >= KERNELS[PORTABLE].items()
    kernels = PORTABLE if portable else NATIVE
    return device, threads if isinstance(threads, int) and 1 <= threads <= 1024 else 1, kernels


def judge(row: Result, again: Result, others: Sequence[Result] | Any) -> Verdict:
    """Return what it says of a row that it came out so; ``others`` are results to take the spread over seeds from."""
    if again.status != "ok":
        return Verdict(row, f"{again.status}: {again.reason}", False)
    if same_numbers(row, again):
        return Verdict(row, "equal to the bit", True, 0.0)
    difference = largest_difference(row.metrics, again.metrics)
    if row.mask_hash != again.mask_hash:
        return Verdict(row, "another mask", False, difference)
    unlike = other_conditions(row.environment, again.environment)
    if not unlike:
        return Verdict(row, "differs, on an equal machine", False, difference)
    where = f"other {', '.join(unlike)}"
    if difference <= ROUNDING:
        return Verdict(row, f"equal up to rounding ({where})", True, difference)
    spreads = _spreads(row, again, others)
    if spreads is None:
        return Verdict(row, f"differs, and there are no other seeds to compare with ({where})", None, difference)
    within = spreads <= SPREADS
    bound = f"{spreads:.2g} SD over seeds, {SPREADS:g} allowed"
    return Verdict(row, f"{'within' if within else 'beyond'} the spread: {bound} ({where})", within, difference)


def other_conditions(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in what a row's machine and versions are not known to be those of another row."""
    found: list[str] = []
    for name in _SAME_BITS:
        old, new = before.get(name), now.get(name)
        if name == "packages" and isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [package for package in {**old, **new} if old.get(package) != new.get(package)]
        elif name == "instructions" and old is None and new:
            found.append("instructions (not recorded)")
        elif old != new:
            found.append(name.replace("_", " "))
    return found


def _spreads(row: Result, again: Result, others: Sequence[Result]) -> float | None:
    """Return the largest change of a metric in standard deviations over seeds, None if there are no other seeds."""
    own = replace(row.cell, seed=0)
    seeds = [other for other in others if other.status == "ok" and replace(other.cell, seed=0) == own]
    found: list[float] = []
    for scope, metrics in row.metrics.items():
        for name, value in metrics.items():
            new = again.metrics.get(scope, {}).get(name)
            known = [other.metrics.get(scope, {}).get(name) for other in seeds]
            values = [each for each in known if each is not None]
            if value is None or new is None or value == new or len(values) < 2:
                continue
            spread = statistics.stdev(values)
            found.append(abs(value - new) / spread if spread > 0 else math.inf)
    return max(found, default=None)


def _show(verdicts: Sequence[Verdict], console: Console) -> None:
    """Print what came of the rows that were computed again."""
    from rich.table import Table
    from rich.text import Text

    table = Table("row", "outcome", title="Computed again")
    table.add_column("largest difference", justify="right")
    for verdict in verdicts:
        cell = verdict.row.cell
        label = f"{cell.method} on {cell.dataset}, {cell.mechanism} {cell.ratio:g}, seed {cell.seed}, {cell.preset}"
        difference = "" if verdict.difference is None else f"{100 * verdict.difference:.2g} %"
        style = {True: "green", False: "red", None: ""}[verdict.good]
        table.add_row(Text(label), Text(verdict.outcome, style=style), difference)
    console.print(table)
    good, bad = (sum(verdict.good is value for verdict in verdicts) for value in (True, False))
    unknown = len(verdicts) - good - bad
    told = f"{counted(len(verdicts), 'row')} chosen: {good} came out again, {bad} did not"
    print_line(console, told + (f", {unknown} say nothing" if unknown else ""))
