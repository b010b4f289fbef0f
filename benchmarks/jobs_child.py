"""Where the time of one job goes, printed as JSON: the child of ``benchmarks.jobs``.

It imports nothing but the suite of the checkout on ``PYTHONPATH``, so that an older one can be measured the same way.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

#: What torch calls matrix products.
PRODUCTS = ("aten::addmm", "aten::baddbmm", "aten::bmm", "aten::mm")


def measure(method: str, dataset: str, preset: str, steps: int, replicas: int, precision: str) -> dict[str, Any]:
    """Return processor seconds of a step, of choosing the epoch, of imputing, and of the whole job worked out."""
    import torch

    from bench.api import Budget, Context

    training = _trainer_module()

    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(precision)
    stack = _stack(method, dataset, preset, replicas)
    cells, problem = stack.cells, stack.problem
    whole = Budget(**cells[0].budget)
    cut = replace(whole, steps=steps, epochs=None, evaluations=1, warm_fraction=0.0)
    instance = stack.method(cells[0].parameters, Context(cut))
    run_epoch, keep_best = (_method_name(training.Trainer, name) for name in ("run_epoch", "keep_best"))
    seconds = {run_epoch: 0.0, keep_best: 0.0}
    trainers: list[Any] = []
    for name in seconds:
        setattr(training.Trainer, name, _timed(getattr(training.Trainer, name), name, seconds, trainers))
    instance.fit_many(problem.train, problem.validation, [cell.seed for cell in cells])
    trainer = trainers[0]
    began = time.process_time()
    instance.impute_many(problem.test, whole.draws)
    impute = time.process_time() - began
    taken, chosen = _longest(trainer.history.steps), len(trainer.history.validation_epochs)
    step, choose = seconds[run_epoch] / taken, seconds[keep_best] / chosen
    full = training.Schedule.of(trainer.network.training_budget(whole), trainer.train.rows)
    evaluations = -(-full.epochs // full.evaluate_every)
    return {
        "step": step,
        "steps": full.epochs * full.steps_per_epoch,
        "choose": choose,
        "evaluations": evaluations,
        "impute": impute,
        "job": full.epochs * full.steps_per_epoch * step + evaluations * choose + impute,
        "products": _share_of_products(trainer),
    }


def _trainer_module() -> Any:
    """Return the module of the training loop, where this or an older layout has it."""
    try:
        return importlib.import_module("bench.neural.engine.trainer")
    except ImportError:
        return importlib.import_module("bench.neural.training")


@dataclass(frozen=True)
class Stack:
    """A method's class, the cells of its job, and the views that it works on."""

    method: Any
    cells: Sequence[Any]
    problem: Any


def _stack(method: str, dataset: str, preset: str, replicas: int) -> Stack:
    """Return a job of so many seeds, from the suite of this layout or from one before it had folders."""
    asked = {"preset": preset, "methods": (method,), "datasets": (dataset,), "seeds": tuple(range(replicas))}
    try:
        return _present_stack(dataset, asked)
    except ModuleNotFoundError:
        return _older_stack(dataset, asked)


def _present_stack(dataset: str, asked: dict[str, Any]) -> Stack:
    from bench.experiment.expand import cells_of, grid_spec, jobs_of
    from bench.experiment.scope import Scope
    from bench.files.fetch import load_table
    from bench.plugins.registry import Registry, load
    from bench.run.fit import problem_of
    from bench.run.machine import keep_freed_memory
    from bench.run.plan import contents_of

    keep_freed_memory()
    registry, scope = Registry.scan(), Scope(**asked)
    contents, problems, _ = contents_of({(dataset, False)}, registry)
    if problems:
        raise SystemExit(problems[dataset])
    spec = grid_spec(scope, registry)
    (job,) = jobs_of(cells_of(spec.cells(), spec, scope, registry, contents), registry)
    table = load_table(load(job.plugins.dataset)(), include_target=False).table
    return Stack(load(job.plugins.method), job.cells, problem_of(job, table))


def _older_stack(dataset: str, asked: dict[str, Any]) -> Stack:
    names = ("allocator", "experiment", "fetch", "problem", "registry", "runner")
    allocator, experiment, fetch, problem, plugins, runner = (importlib.import_module(f"bench.{n}") for n in names)
    allocator.keep_freed_memory()
    registry = plugins.Registry.scan()
    contents, problems = runner.contents_of({(dataset, False)}, registry)
    if problems:
        raise SystemExit(problems[dataset])
    spec = runner.grid_of_your_own(runner.RunRequest(**asked), registry)
    selection = experiment.Selection(preset=asked["preset"])
    cells = experiment.cells_of(spec.entries(), spec, selection, registry, contents)
    table = fetch.load_table(plugins.load(registry.dataset(dataset))(), include_target=False).table
    mechanisms = [plugins.load(registry.mechanism(cell.mechanism))() for cell in cells]
    method = plugins.load(registry.method(cells[0].method))
    return Stack(method, cells, problem.build_problem(table, cells, mechanisms))


def _longest(steps: int | Sequence[int]) -> int:
    """Return the steps that a stack took: one number in older commits, else one per replica."""
    return steps if isinstance(steps, int) else max(steps)


def _method_name(trainer: type[Any], name: str) -> str:
    """Return the name of a method of the trainer, which older commits begin with an underscore."""
    return name if hasattr(trainer, name) else f"_{name}"


def _timed(
    function: Callable[..., Any], name: str, seconds: dict[str, float], trainers: list[Any]
) -> Callable[..., Any]:
    """Return a method of the trainer that adds its processor time, and notes the trainer."""

    def timed(trainer: Any, *arguments: Any) -> Any:
        trainers.append(trainer)
        began = time.process_time()
        result = function(trainer, *arguments)
        seconds[name] += time.process_time() - began
        return result

    return timed


def _share_of_products(trainer: Any) -> float:
    """Return the share of an epoch's operations' time that is in matrix products."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        getattr(trainer, _method_name(type(trainer), "run_epoch"))()
    found: dict[str, float] = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    return sum(time for name, time in found.items() if name in PRODUCTS) / sum(found.values())


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
