"""What Tables 5 to 11 take on one GPU with the paper's epochs and three seeds, and how close that is to the roofline.

``python -m benchmarks.gpu_paper`` needs a CUDA device. It trains every neural job of the seven tables for 50 epochs
beyond the first ten, imputes some test rows with 1000 draws, projects both to the whole job, and says so. Beside each
job stands the least time of a training step: the bytes it moves and the FLOPs it computes over what the device does at
most (``benchmarks/roofline.py``). Nine replicas of the size of MNIST+SVHN come last. Methods that use no network run on
CPUs and are not counted.

``--count-only`` counts the work of each job's step on a CPU instead, and times nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.common import Line, Report, chosen_device, finish, number, parsed, parser, wait_for

if TYPE_CHECKING:
    from bench.api import Budget
    from bench.experiment.cell import Job
    from bench.plugins.registry import Registry
    from bench.problem.build import Problem
    from benchmarks.roofline import Machine, Work

TABLES = tuple(f"table{number:02d}" for number in range(5, 12))
#: Epochs before the clock starts, and epochs timed.
FIRST_EPOCHS, TIMED_EPOCHS = 10, 50
#: Steps whose mean work is counted: a multiple of how often an adversarial phase has its turn.
STEPS_COUNTED = 5
TEST_ROWS = 1024
#: Hours in which all is to be done, and the share of the roofline nine large replicas are to reach.
HOURS, ROOFLINE_SHARE = 2.0, 0.4
NINE = "mnist_svhn_stand_in"


def neural_jobs(tables: Sequence[str], datasets: Sequence[str], registry: Registry) -> list[Job]:
    """Return the jobs of the tables' neural methods under ``paper``; raises BenchError if data cannot be had."""
    from rich.console import Console

    from bench.experiment.reader import load_spec
    from bench.experiment.scope import Scope
    from bench.run.plan import plan_jobs
    from bench.run.request import DEFAULT_STORE

    specs = [load_spec(name) for name in tables]
    scope = Scope(preset="paper", datasets=tuple(datasets))
    jobs = plan_jobs(specs, scope, DEFAULT_STORE, registry, Console(stderr=True)).jobs
    return [job for job in jobs if trains_stacked(job)]


def trains_stacked(job: Job) -> bool:
    """Return whether a job is a stack of networks, installed and made for its data."""
    from bench.run.job import reason_to_skip

    method = job.plugins.method
    return method.stackable and method.uses_torch and not reason_to_skip(job)


def stacked_views(job: Job) -> Problem:
    """Return the stacked views of a job."""
    from bench.files.fetch import load_table
    from bench.plugins.registry import load
    from bench.run.fit import problem_of

    return problem_of(job, load_table(load(job.plugins.dataset)(), job.cells[0].include_target).table)


def fitted(job: Job, problem: Problem, budget: Budget, device: str) -> Any:
    """Return a job's method, trained with a budget."""
    from bench.api import Context
    from bench.plugins.registry import load

    method = load(job.plugins.method)(job.cells[0].parameters, Context(budget, device))
    method.fit_many(problem.train, problem.validation, [cell.seed for cell in job.cells])
    return method


def steps_an_epoch(job: Job, problem: Problem) -> int:
    """Return the optimiser steps of an epoch."""
    rows, batch = len(problem.train), int(job.cells[0].budget["batch"])
    return max(1, rows // min(batch, rows))


def work_of_a_step(job: Job, problem: Problem, machine: Machine, device: str) -> Work:
    """Return the mean work of a training step after the warm phase: what a few steps more add to a training."""
    from bench.api import Budget
    from benchmarks.roofline import counted

    budget = replace(Budget(**job.cells[0].budget), epochs=None, warm_fraction=0.0, evaluations=1, validation_draws=1)

    def work(steps: int) -> Work:
        return counted(lambda: fitted(job, problem, replace(budget, steps=steps), device), machine)

    return work(1 + STEPS_COUNTED).less(work(1), STEPS_COUNTED)


def seconds_for(job: Job, problem: Problem, epochs: int, device: str) -> tuple[float, Any]:
    """Return the seconds of a training of so many epochs, validated after each, and the trained method."""
    from bench.api import Budget

    budget = replace(Budget(**job.cells[0].budget), epochs=epochs, warm_fraction=0.0, evaluations=epochs)
    wait_for(device)
    began = time.perf_counter()
    method = fitted(job, problem, budget, device)
    wait_for(device)
    return time.perf_counter() - began, method


def imputation_seconds(method: Any, problem: Problem, draws: int, device: str) -> float:
    """Return the seconds of imputing all test rows, projected from some of them."""
    from bench.api import Incomplete

    test, some = problem.test, slice(None, TEST_ROWS)
    part = Incomplete(problem.table, test._rows[:, some], test.observed[:, some])
    wait_for(device)
    began = time.perf_counter()
    method.impute_many(part, draws)
    wait_for(device)
    return (time.perf_counter() - began) * len(test) / len(part)


def measure(job: Job, machine: Machine, device: str, count_only: bool) -> tuple[Line, float]:
    """Return a job's line and the seconds it is projected to take as a whole."""
    problem = stacked_views(job)
    work = work_of_a_step(job, problem, machine, device)
    label = f"{job.label}, {len(job.cells)} replicas"
    notes: dict[str, Any] = {
        "GFLOP": work.flops / 1e9,
        "MB": work.bytes / 1e6,
        "operations": round(work.launches),
        "flops per byte": work.flops / max(work.bytes, 1.0),
    }
    if count_only:
        return Line(label, None, None, 1000 * work.seconds, "ms", notes=notes), 0.0
    budget, steps = job.cells[0].budget, steps_an_epoch(job, problem)
    first, _ = seconds_for(job, problem, FIRST_EPOCHS, device)
    second, method = seconds_for(job, problem, FIRST_EPOCHS + TIMED_EPOCHS, device)
    epoch = (second - first) / TIMED_EPOCHS
    imputing = imputation_seconds(method, problem, budget["draws"], device)
    whole = first + epoch * max(0, budget["epochs"] - FIRST_EPOCHS) + imputing
    notes |= {"epochs timed": TIMED_EPOCHS, "projected s": whole, "of that imputing": imputing}
    step = epoch / steps
    return Line(label, work.seconds / step, 1000 * step, 1000 * work.seconds, "ms", notes=notes), whole


def nine_replicas(registry: Registry) -> Job:
    """Return a job of nine VSAEs on data of MNIST+SVHN's size: three seeds under three ratios."""
    from bench.experiment.expand import cells_of, grid_spec, jobs_of
    from bench.experiment.scope import Scope
    from bench.run.plan import contents_of

    scope = Scope(preset="paper", methods=("vsae",), datasets=(NINE,), ratios=(0.3, 0.5, 0.7))
    spec = grid_spec(scope, registry)
    contents = contents_of({(NINE, False)}, registry).hashes
    (job,) = jobs_of(cells_of(spec.cells(), spec, scope, registry, contents), registry)
    return job


def machine_of(name: str) -> Machine:
    """Return what a device of this name does at most; raises BenchError for one that is not known."""
    from bench.errors import BenchError
    from benchmarks.roofline import MACHINES

    for known, machine in MACHINES.items():
        if known in name:
            return machine
    raise BenchError(f"the peak figures of '{name}' are not known; add them to MACHINES in benchmarks/roofline.py")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 2 if there is no CUDA device."""
    made = parser("gpu_paper", __doc__, rounds=1, least=1)
    made.add_argument("--tables", default=",".join(TABLES), help="comma-separated (default: the seven of the paper)")
    made.add_argument("--datasets", default="", help="only these data sets, comma-separated")
    made.add_argument("--methods", default="", help="only these methods, comma-separated")
    made.add_argument("--count-only", action="store_true", help="count the work of a step on a CPU, and time nothing")
    options = parsed(made, arguments)
    import torch

    from bench.errors import BenchError
    from bench.plugins.registry import Registry

    if not options.count_only and not torch.cuda.is_available():
        print(
            "gpu_paper: needs a CUDA device, and torch finds none here; --count-only counts the work on a CPU",
            file=sys.stderr,
        )
        return 2
    device = chosen_device("cpu" if options.count_only else "cuda")
    registry = Registry.scan()
    try:
        machine = machine_of("H100" if options.count_only else torch.cuda.get_device_name())
        datasets = [name for name in options.datasets.split(",") if name]
        jobs = neural_jobs(options.tables.split(","), datasets, registry)
        if options.methods:
            jobs = [job for job in jobs if job.cells[0].method in options.methods.split(",")]
        lines, total = [], 0.0
        for job in jobs[:1] if options.small else jobs:
            line, seconds = measure(job, machine, device, options.count_only)
            lines.append(line)
            total += seconds
        if not options.count_only:
            lines.append(
                Line(
                    "all jobs, projected",
                    HOURS / (total / 3600),
                    total / 3600,
                    HOURS,
                    "h",
                    f"<= {HOURS:g} h",
                    total <= 3600 * HOURS,
                )
            )
            line, _ = measure(nine_replicas(registry), machine, device, False)
            share = line.ratio or 0.0
            lines.append(replace(line, target=f">= {ROOFLINE_SHARE:g}", reached=share >= ROOFLINE_SHARE))
    except BenchError as error:
        print(f"gpu_paper: {error}", file=sys.stderr)
        return 2
    notes = [
        f"other: the least time of a training step on {machine.name}: {number(machine.flops / 1e12)} TFLOP/s,"
        f" {number(machine.bytes / 1e12)} TB/s",
        f"whole jobs are projected from {TIMED_EPOCHS} epochs and {TEST_ROWS} test rows",
    ]
    return finish(Report("gpu_paper", "of the roofline", lines, notes), options)


if __name__ == "__main__":
    raise SystemExit(main())
