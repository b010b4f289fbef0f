"""The verb ``tune``: chooses parameters by the shared selection rule, among the same number of trials for every method.

A trial's score is the error on held-out observed validation entries, in units of the floor's: nothing that a mechanism
hid is looked at. A method that stacks trains all trials, of all seeds, as one stack. Each seed has a choice of its own,
since another seed's validation rows may be its test rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import engine_version
from bench.errors import BenchError, Stopped, closest
from bench.experiment.cell import Cell
from bench.experiment.presets import budget_for
from bench.experiment.tuned import TUNED, Tuned, TunedParameters, tuned_folder
from bench.plugins.contracts import Budget, Context
from bench.plugins.registry import PluginInfo, Registry, available, load
from bench.run.allocator import keep_freed_memory
from bench.run.job import Surroundings
from bench.run.lock import held
from bench.run.progress import LINE_SECONDS, duration_text, say
from bench.seeds import digest, generator

if TYPE_CHECKING:
    from rich.console import Console

    from bench.data.table import Table
    from bench.problem.build import Problem

#: Trials of every method, the defaults among them.
TRIALS = 16
#: On images, where a training takes long, a trial gets this share of the preset's steps or epochs.
IMAGE_SHARE = 0.4
#: What they are tuned on, whatever they are used on later.
MECHANISM, RATIO = "mcar", 0.5


@dataclass(frozen=True)
class TuneRequest:
    """What the user asked to tune, and how."""

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    preset: str = "quick"
    seeds: tuple[int, ...] = (0, 1, 2)
    store: Path = Path("results") / "local"
    plugins: tuple[Path, ...] = ()
    device: str = "auto"
    time_budget: str = ""
    again: bool = False


def tune_request(request: TuneRequest, console: Console) -> int:
    """Tune what was asked for, one method on one data set after the other, and return the exit code.

    0, or 75 where the time budget or Ctrl-C stopped it: the same command goes on from there. Raises BenchError, before
    anything is computed, on whatever the user can mend.
    """
    from bench.run.plan import FINISHED, NOT_FINISHED, choose_device, parse_duration
    from bench.run.workers import StopRule, interruptions

    deadline = time.time() + parse_duration(request.time_budget) if request.time_budget else None
    budget_for(request.preset, ())
    if request.device not in ("auto", "cpu", "cuda"):
        raise BenchError(f"unknown device '{request.device}'.{closest(request.device, ('auto', 'cpu', 'cuda'))}")
    if not (request.methods and request.datasets and request.seeds):
        raise BenchError("name at least one method, one data set and one seed, such as `vsae-bench tune vsae yeast`")
    if min(request.seeds) < 0:
        raise BenchError(f"--seeds: {min(request.seeds)} is negative")
    registry = Registry.scan(request.plugins)
    pairs = [(tunable_method(m, registry), registry.dataset(d)) for d in request.datasets for m in request.methods]
    for method, dataset in pairs:
        require_fit(method, dataset)
    known = TunedParameters.of_store(request.store)
    keep_freed_memory()
    with held(request.store), interruptions(lambda line: say(console, line)) as interrupted:
        for method, dataset in pairs:
            table = _table(dataset)
            seeds = request.seeds[:1] if table.test is not None else request.seeds
            record = known.record(method, dataset.name)
            if record is not None and not request.again and _serves(record, table, seeds):
                _show(record, console)
                say(console, f"{method.name} on {dataset.name} was tuned before; --again tunes it anew")
                continue
            began = time.monotonic()
            with TrialProgress(f"{method.name} on {dataset.name}", console) as progress:
                surroundings = Surroundings(
                    choose_device(request.device, needs_torch=method.uses_torch),
                    1,
                    request.store / "checkpoints",
                    progress,
                    StopRule(deadline, interrupted),
                )
                try:
                    record = tune(method, dataset, table, registry, surroundings, request.preset, seeds)
                except Stopped as stopped:
                    say(console, f"stopped: {stopped}. Run the same command again to go on.")
                    return NOT_FINISHED
            path = record.write(tuned_folder(request.store))
            _show(record, console)
            say(console, f"wrote {path} in {duration_text(time.monotonic() - began)}")
    return FINISHED


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
    """Raise BenchError where a method does not take a data set's kinds of attributes."""
    unfit = sorted(set(dataset.kinds) - set(method.kinds))
    if unfit:
        raise BenchError(f"method '{method.name}' does not take {' and '.join(unfit)} attributes ('{dataset.name}')")


def draw_trials(method: str, tunable: Mapping[str, Sequence[Any]], default: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the trials: the defaults, then seeded random ones; the same for every data set and seed.

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
    """Return the budget of one trial: the preset's, cut on images by ``IMAGE_SHARE``."""
    budget = budget_for(preset, kinds)
    if "image" not in kinds:
        return budget
    steps, epochs = (None if n is None else max(1, round(IMAGE_SHARE * n)) for n in (budget.steps, budget.epochs))
    return replace(budget, steps=steps, epochs=epochs)


def tune(
    method: PluginInfo,
    dataset: PluginInfo,
    table: Table,
    registry: Registry,
    surroundings: Surroundings,
    preset: str,
    seeds: Sequence[int],
) -> Tuned:
    """Run the trials of a method on a table for each seed and return them.

    Raises BenchError where every trial of a seed failed, and Stopped.
    """
    budget = trial_budget(preset, dataset.kinds)
    trials = draw_trials(method.name, method.tunable, method.parameter_sets["default"])
    every = [(seed, trial) for seed in seeds for trial in trials]

    def problem(*own: int) -> Problem:
        return _problem(method, dataset.name, table, registry, budget, own)

    def context(part: object) -> Context:
        identity = digest([method.name, method.source_hash, table.content_hash, budget.as_json(), part])
        checkpoint = surroundings.checkpoints and surroundings.checkpoints / f"tune-{identity}.pt"
        return Context(budget, surroundings.device, surroundings.progress, surroundings.stop, checkpoint)

    if method.stackable:
        errors = _stacked_errors(method, problem(*(seed for seed, _ in every)), context(every), every)
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


def _stacked_errors(
    method: PluginInfo, problem: Problem, context: Context, every: Sequence[tuple[int, Mapping[str, Any]]]
) -> list[float | None]:
    """Return the validation error of each (seed, trial), all trained as one stack."""
    stacked = {name: [trial[name] for _, trial in every] for name in method.tunable}
    instance = load(method)({**method.parameter_sets["default"], **stacked}, context)
    instance.fit_many(problem.train, problem.validation, [seed for seed, _ in every])
    if context.checkpoint is not None:
        context.checkpoint.unlink(missing_ok=True)
    return [error if math.isfinite(error) else None for error in instance.history.best_error]


def _single_error(
    method: PluginInfo, problem: Problem, context: Context, seed: int, trial: Mapping[str, Any]
) -> float | None:
    """Return the validation error of one trial of a method that does not stack, None where it failed."""
    from bench.problem.held_out import validation_error

    instance = load(method)({**method.parameter_sets["default"], **trial}, context)
    # A transductive method fits on what it imputes: here the validation rows, what is held out being hidden.
    train = problem.train if "inductive" in method.protocols else problem.validation
    try:
        instance.fit(train, problem.validation, seed)
        imputed = instance.impute(problem.validation, context.budget.draws)
    except (BenchError, ArithmeticError, ValueError):
        return None
    return validation_error(imputed, problem)


def _problem(
    method: PluginInfo, dataset: str, table: Table, registry: Registry, budget: Budget, seeds: Sequence[int]
) -> Problem:
    """Return the problem that a run of these seeds has under the tuning mechanism and ratio."""
    from bench.problem.build import build_problem

    mechanism = registry.mechanism(MECHANISM)
    cells = [
        Cell(
            dataset=dataset,
            content=table.content_hash,
            include_target=False,
            mechanism=MECHANISM,
            mechanism_version=mechanism.version,
            mechanism_parameters=dict(mechanism.parameters),
            mechanism_overrides={},
            ratio=RATIO,
            method=method.name,
            method_version=method.version,
            parameter_set=TUNED,
            overrides={},
            parameters={},
            seed=seed,
            repeat="all",
            protocol="inductive",
            preset=budget.preset,
            budget=budget.as_json(),
            engine=engine_version(registry.dataset(dataset).kinds),
        )
        for seed in seeds
    ]
    return build_problem(table, cells, [load(mechanism)() for _ in seeds])


def _table(dataset: PluginInfo) -> Table:
    """Return a data set's table without its target; raises BenchError where it cannot be had."""
    from bench.files.fetch import load_table

    return load_table(load(dataset)(), include_target=False).table


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


class TrialProgress:
    """How far one method's trials are: a bar on a terminal, a line now and then elsewhere; a context's ``progress``."""

    def __init__(self, label: str, console: Console) -> None:
        """Prepare for the trials of ``label``."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._label = console, label
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bars.add_task(f"tuning {label}", total=None)
        self._began = self._last_line = time.monotonic()
        #: What an earlier call had done already: it says nothing about this one's speed.
        self._brought: int | None = None

    def __enter__(self) -> TrialProgress:
        """Start showing."""
        self._bars.start()
        return self

    def __exit__(self, *ended: object) -> None:
        """Stop showing."""
        self._bars.stop()

    def __call__(self, done: int, total: int, stage: str) -> None:
        """Show that ``done`` of ``total`` parts of a stage are behind."""
        self._bars.update(self._task, completed=done, total=total)
        if self._brought is None or done <= self._brought:
            self._brought = done - 1
        now = time.monotonic()
        if self._console.is_terminal or now - self._last_line <= LINE_SECONDS:
            return
        self._last_line = now
        left = (now - self._began) * (total - done) / (done - self._brought)
        ahead = f", about {duration_text(left)} left" if done < total else ""
        say(self._console, f"tuning {self._label}: {stage} {done}/{total}{ahead}")
