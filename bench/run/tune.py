"""The verb ``tune``: chooses parameters by the shared selection rule, from the same number of trials for every method.

A trial's score is the error on held-out observed validation entries, in units of the floor's: nothing that a mechanism
hid is looked at. A method that stacks trains all trials, of all seeds, as one stack. Each seed has a choice of its own,
because another seed's validation rows may be its test rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, Stopped, closest
from bench.experiment.presets import budget_for
from bench.experiment.scope import Scope
from bench.experiment.tuned import Tuned, TunedParameters, tuned_folder
from bench.plugins.contracts import Budget, Context
from bench.plugins.registry import PluginInfo, Registry, available, load
from bench.problem.scenario import Scenario
from bench.run.fit import free_memory, out_of_memory
from bench.run.isolation.process import Task
from bench.run.isolation.workers import call, interruptions
from bench.run.lock import held
from bench.run.machine import Machine, choose_device, keep_freed_memory
from bench.run.plan import FINISHED, NOT_FINISHED, SOME_FAILED
from bench.run.progress import TrialProgress, duration_text, print_line
from bench.run.request import Place
from bench.seeds import digest, generator

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from bench.data.table import Table, Values
    from bench.data.view import Incomplete
    from bench.problem.build import Problem

#: Trials of every method, the defaults among them.
TRIALS = 16
#: On images, where a training takes long, a trial gets this share of the preset's steps or epochs.
IMAGE_SHARE = 0.4
#: How entries are hidden in tuning, whatever the parameters are used on later.
MECHANISM, RATIO = "mcar", 0.5


@dataclass(frozen=True)
class Tunable:
    """A method and the data set it is tuned on, with the mechanism that hides entries."""

    method: PluginInfo
    dataset: PluginInfo
    mechanism: PluginInfo


def tune_scope(scope: Scope, place: Place, console: Console, again: bool = False) -> int:
    """Tune every method of a scope on every data set of it, one after the other, and return the exit code.

    0, 1 if some could not be tuned, or 75 if the time budget or Ctrl-C stopped it: the same command continues from
    there. ``again`` also tunes what was tuned before. Raises BenchError, before anything is computed, on whatever the
    user can mend, and if nothing could be tuned.
    """
    place.require_valid()
    scope.require_valid()
    deadline = place.deadline()
    if not (scope.methods and scope.datasets and scope.seeds):
        raise BenchError("name at least one method, one data set and one seed, such as `vsae-bench tune vsae yeast`")
    chosen = tunables(scope, Registry.scan(place.plugins))
    known = TunedParameters.of_store(place.store)
    failures: list[str] = []
    with held(place.store), interruptions(lambda line: print_line(console, line)) as interrupted:
        for tunable in chosen:
            method, dataset = tunable.method, tunable.dataset
            record = known.record(method, dataset.name)
            began = time.monotonic()
            machine = Machine(
                choose_device(place.device, needs_torch=method.uses_torch),
                checkpoints=place.store / "checkpoints",
                deadline=deadline,
                silence=place.silence(scope.preset),
                memory=place.memory_gib(scope.preset),
            )
            kept = None if again else record
            with TrialProgress(f"{method.name} on {dataset.name}", console) as progress:
                try:
                    watched = machine.watched(progress, machine.stop)
                    found = _tuned_apart(tunable, kept, watched, scope, console, interrupted)
                except Stopped as stopped:
                    print_line(console, f"stopped: {stopped}. Run the same command again to continue.")
                    return NOT_FINISHED
                except BenchError as error:
                    failures.append(str(error))
                    if len(chosen) > 1:
                        print_line(console, f"failed: {method.name} on {dataset.name}: {error}")
                    continue
            if found is None:
                assert record is not None, "only a record can serve"
                _show(record, console)
                print_line(console, f"{method.name} on {dataset.name} was tuned before; --again tunes it again")
                continue
            path = found.write(tuned_folder(place.store))
            _show(found, console)
            print_line(console, f"wrote {path} in {duration_text(time.monotonic() - began)}")
    if len(failures) == len(chosen):
        raise BenchError(failures[0])
    return SOME_FAILED if failures else FINISHED


def _tuned_apart(
    tunable: Tunable,
    known: Tuned | None,
    machine: Machine,
    scope: Scope,
    console: Console,
    interrupted: Callable[[], bool],
) -> Tuned | None:
    """Tune in a worker process; None if what is ``known`` serves. Raises BenchError in one line, and Stopped."""
    plugins = (tunable.method, tunable.dataset, tunable.mechanism)
    asked = {
        "kind": "tune",
        "plugins": [info.as_json() for info in plugins],
        "known": None if known is None else asdict(known),
        "preset": scope.preset,
        "seeds": list(scope.seeds),
        "machine": machine.as_json(),
    }
    replicas = TRIALS * len(scope.seeds) if tunable.method.stackable else 1
    answer = call(Task(asked, plugins, replicas), machine, lambda line: print_line(console, line), interrupted)
    return None if answer["record"] is None else Tuned(**answer["record"])


def answer_tune(task: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    """Tune as ``task`` asks, in the worker process: return the record, None if the one that is known serves."""
    tunable = Tunable(*(PluginInfo.from_json(info) for info in task["plugins"]))
    table = _table(tunable.dataset)
    seeds = task["seeds"][:1] if table.test is not None else task["seeds"]
    if task["known"] is not None and _serves(Tuned(**task["known"]), table, seeds):
        return {"record": None}
    keep_freed_memory()
    return {"record": asdict(tune(tunable, table, machine, task["preset"], seeds))}


def tunables(scope: Scope, registry: Registry) -> list[Tunable]:
    """Return what a scope tunes, data set by data set; raises BenchError if one of it cannot be tuned."""
    mechanism = registry.mechanism(MECHANISM)
    found = [
        Tunable(tunable_method(method, registry), registry.dataset(dataset), mechanism)
        for dataset in scope.datasets
        for method in scope.methods
    ]
    for tunable in found:
        require_fit(tunable.method, tunable.dataset)
    return found


def _serves(record: Tuned, table: Table, seeds: Sequence[int]) -> bool:
    """Return whether a record is of this table and has a choice for each seed."""
    return record.content == table.content_hash and all(record.chosen(seed) is not None for seed in seeds)


def tunable_method(name: str, registry: Registry) -> PluginInfo:
    """Return a method that has something to tune; raises BenchError, naming the closest one that has."""
    method = registry.method(name)
    usable, reason = available(method)
    if not usable:
        raise BenchError(f"method '{name}': {reason}")
    if not method.tunable:
        others = [other for other, info in registry.methods.items() if info.tunable]
        raise BenchError(f"method '{name}' declares nothing to tune and runs with its defaults.{closest(name, others)}")
    return method


def require_fit(method: PluginInfo, dataset: PluginInfo) -> None:
    """Raise BenchError if a method does not take a data set's kinds of attributes."""
    unfit = sorted(set(dataset.kinds) - set(method.kinds))
    if unfit:
        raise BenchError(f"method '{method.name}' does not take {' and '.join(unfit)} attributes ('{dataset.name}')")


def draw_trials(method: str, tunable: Mapping[str, Sequence[Any]], default: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials: the defaults, then random ones under a fixed seed; the same for every data set and seed.

    ``tunable`` maps a parameter to ``("log", low, high)``, ``("uniform", low, high)`` or ``("choice", value, ...)``.
    """
    trials: list[dict[str, Any]] = [{name: default[name] for name in tunable}]
    rng = generator("tune", method)
    while len(trials) < TRIALS:
        trial: dict[str, Any] = {}
        for name, (how, *bounds) in tunable.items():
            if how == "choice":
                trial[name] = bounds[int(rng.integers(len(bounds)))]
                continue
            low, high = (math.log(bound) if how == "log" else bound for bound in bounds)
            drawn = float(rng.uniform(low, high))
            trial[name] = float(f"{math.exp(drawn) if how == 'log' else drawn:.3g}")
        trials.append(trial)
    return trials


def trial_budget(preset: str, kinds: Iterable[str]) -> Budget:
    """Return the budget of one trial: the preset's, on images ``IMAGE_SHARE`` of it."""
    budget = budget_for(preset, kinds)
    if "image" not in kinds:
        return budget
    steps, epochs = (None if n is None else max(1, round(IMAGE_SHARE * n)) for n in (budget.steps, budget.epochs))
    return replace(budget, steps=steps, epochs=epochs)


def tune(tunable: Tunable, table: Table, machine: Machine, preset: str, seeds: Sequence[int]) -> Tuned:
    """Run the trials of a method on a table for each seed and return them.

    Raises BenchError if there are too few entries to choose by or every trial of a seed failed, and Stopped.
    """
    from bench.problem.held_out import require_enough

    method, dataset = tunable.method, tunable.dataset
    budget = trial_budget(preset, dataset.kinds)
    trials = draw_trials(method.name, method.tunable, method.parameter_sets["default"])
    every = [(seed, trial) for seed in seeds for trial in trials]

    def problem(*own: int) -> Problem:
        return tuning_problem(tunable, table, budget.test_rows, own)

    def context(part: object) -> Context:
        identity = digest([method.name, method.source_hash, table.content_hash, budget.as_json(), part])
        return machine.context(budget, f"tune-{identity}.pt")

    require_enough(problem(*seeds).validation, dataset.name)
    if method.stackable:
        errors = _stacked_errors(method, problem, context, every)
    else:
        errors = [_single_error(method, problem(seed), context([seed, trial]), seed, trial) for seed, trial in every]
    found = {
        str(seed): [
            {"parameters": trial, "error": error}
            for (own, trial), error in zip(every, errors, strict=True)
            if own == seed
        ]
        for seed in seeds
    }
    every_seed = table.test is not None
    record = Tuned(
        method.name, method.version, dataset.name, table.content_hash, MECHANISM, RATIO, preset, every_seed, found
    )
    for seed in seeds:
        if record.chosen(seed) is None:
            raise BenchError(f"every trial of '{method.name}' on '{dataset.name}' diverged under seed {seed}")
    return record


def tuning_problem(tunable: Tunable, table: Table, test_rows: int | None, seeds: Sequence[int]) -> Problem:
    """Return the problem that a run of these seeds has under the tuning mechanism and ratio, one replica per seed."""
    from bench.problem.build import build_problem

    mechanism = tunable.mechanism
    parameters = dict(mechanism.parameters)
    scenarios = [
        Scenario(tunable.dataset.name, table.content_hash, False, MECHANISM, parameters, RATIO, seed, test_rows)
        for seed in seeds
    ]
    return build_problem(table, scenarios, [load(mechanism)() for _ in seeds])


def _stacked_errors(
    method: PluginInfo,
    problem: Callable[..., Problem],
    context: Callable[[object], Context],
    every: Sequence[tuple[int, Mapping[str, Any]]],
) -> list[float | None]:
    """Return the validation error of each (seed, trial), trained as one stack, or as parts if memory holds no more."""
    stacked = {name: [trial[name] for _, trial in every] for name in method.tunable}
    own, posed = context(every), problem(*(seed for seed, _ in every))
    try:
        instance = load(method)({**method.parameter_sets["default"], **stacked}, own)
        instance.fit_many(posed.train, posed.validation, [seed for seed, _ in every])
    except Exception as error:
        if len(every) == 1 or not out_of_memory(error):
            raise
    else:
        if own.checkpoint is not None:
            own.checkpoint.unlink(missing_ok=True)
        return [error if math.isfinite(error) else None for error in instance.history.best_error]
    # Outside the handler: the error would keep what its frames hold.
    del posed
    free_memory()
    half = (len(every) + 1) // 2
    return [e for part in (every[:half], every[half:]) for e in _stacked_errors(method, problem, context, part)]


def _single_error(
    method: PluginInfo, problem: Problem, context: Context, seed: int, trial: Mapping[str, Any]
) -> float | None:
    """Return the validation error of one trial of a method that does not stack, None if it failed."""
    from bench.problem.held_out import validation_error

    instance = load(method)({**method.parameter_sets["default"], **trial}, context)
    transductive = "inductive" not in method.protocols

    def impute(shown: Incomplete) -> pd.DataFrame | Values:
        # A transductive method fits on what it imputes: here the validation rows, what is held out being hidden.
        if transductive:
            instance.fit(shown, problem.validation, seed)
        imputed: pd.DataFrame | Values = instance.impute(shown, context.budget.draws)
        return imputed

    try:
        if not transductive:
            instance.fit(problem.train, problem.validation, seed)
        return validation_error(impute, problem.train, problem.validation)
    except (BenchError, ArithmeticError, ValueError):
        return None


def _table(dataset: PluginInfo) -> Table:
    """Return a data set's table without its target; raises BenchError if it cannot be had."""
    from bench.files.fetch import load_sound

    return load_sound(load(dataset)(), include_target=False).table


def _show(record: Tuned, console: Console) -> None:
    """Print the trials of a record, the best first, with the choice for each seed."""
    from rich import box
    from rich.table import Table as Grid

    for seed, trials in record.trials.items():
        chosen = record.chosen(int(seed))
        seeds = "every seed" if record.every_seed else f"seed {seed}"
        grid = Grid(
            title=f"{record.method} on {record.dataset}, {seeds}: error on held-out validation entries (floor 1)",
            box=box.SIMPLE_HEAD,
            title_justify="left",
        )
        names = list(trials[0]["parameters"])
        for name in ("error", *names, ""):
            grid.add_column(name, justify="right" if name else "left")
        ranked = sorted(enumerate(trials), key=lambda item: (item[1]["error"] is None, item[1]["error"] or 0, item[0]))
        for position, trial in ranked:
            error = "diverged" if trial["error"] is None else f"{trial['error']:.4f}"
            note = "chosen" if trial["parameters"] == chosen else ""
            note = f"{note}, default".strip(", ") if position == 0 else note
            grid.add_row(error, *(_plain(trial["parameters"][name]) for name in names), note)
        console.print(grid)


def _plain(value: Any) -> str:
    """Return a parameter as text; None is what the preset says."""
    return "preset's" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
