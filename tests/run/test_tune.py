"""Tuning: which trials are drawn, what they are scored by, and how the choice becomes a parameter set."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from bench.api import Context, Incomplete, Table, Values
from bench.errors import BenchError
from bench.experiment.expand import cells_of, chosen_cells, jobs_of
from bench.experiment.presets import budget_for
from bench.experiment.reader import parse_spec
from bench.experiment.scope import Scope
from bench.experiment.tuned import Tuned, TunedParameters, best_trial, tuned_folder
from bench.neural.engine.optimiser import replica_rates, stacked_adam, step_at_own_rates
from bench.plugins.contracts import Budget
from bench.plugins.registry import Registry, load
from bench.problem.held_out import deal_folds, validation_error
from bench.run.job import run_job
from bench.run.machine import Machine
from bench.run.progress import TrialProgress
from bench.run.request import Place
from bench.run.tune import (
    TRIALS,
    Tunable,
    draw_trials,
    trial_budget,
    tunable_method,
    tunables,
    tune,
    tune_scope,
    tuning_problem,
)
from tests.neural_views import BASELINES, dependent_table, split_views
from tests.toys import contents_for, method_source, run_command, stored_rows, table_text, write_plugins

#: Fills numbers with its parameter: the best value is the one nearest to each column's mean.
CONSTANT = method_source(
    "constant",
    impute="v = data.values().scalars; return Values(np.where(np.isnan(v), self.parameters['fill'], v), {})",
    extra="""tunable = {"fill": ("uniform", -3.0, 3.0), "unused": ("choice", 1, 2)}
    parameter_sets = {"default": {"fill": 50.0, "unused": 1, "kept": "yes"}}""",
)


NUMBERS = '''
import numpy as np
import pandas as pd
from bench.api import Dataset


class Numbers(Dataset):
    """Three columns of numbers about 1."""

    name = "numbers"
    kinds = ("numeric",)

    def load(self, files):
        return pd.DataFrame(1 + np.random.default_rng(5).normal(size=(1500, 3)), columns=["a", "b", "c"])
'''


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry.scan([write_plugins(tmp_path / "plugins", data=NUMBERS, constant=CONSTANT)])


def toy_table(registry: Registry) -> Table:
    from bench.files.fetch import load_table

    return load_table(load(registry.dataset("numbers"))(), include_target=False).table


def toy(registry: Registry) -> Tunable:
    (tunable,) = tunables(Scope(methods=("constant",), datasets=("numbers",)), registry)
    return tunable


# Trials


def test_trials_are_the_defaults_and_seeded_draws_within_their_ranges() -> None:
    tunable = {"a": ("log", 1e-4, 1e-2), "b": ("uniform", -1.0, 1.0), "c": ("choice", 3, 5)}
    default = {"a": None, "b": 0.5, "c": 4, "d": "left alone"}
    trials = draw_trials("some", tunable, default)
    assert len(trials) == TRIALS and trials[0] == {"a": None, "b": 0.5, "c": 4}
    drawn = trials[1:]
    assert all(1e-4 <= trial["a"] <= 1e-2 and -1 <= trial["b"] <= 1 for trial in drawn)
    assert {trial["c"] for trial in drawn} == {3, 5}
    # Even on a logarithmic scale: about as many below as above the middle, 1e-3.
    assert 3 <= sum(trial["a"] < 1e-3 for trial in drawn) <= 12
    assert trials == draw_trials("some", tunable, default) != draw_trials("other", tunable, default)


def test_a_trial_has_the_presets_budget_but_on_images() -> None:
    quick = budget_for("quick", ("numeric",))
    assert trial_budget("quick", ("numeric",)) == quick
    assert trial_budget("quick", ("image",)) == replace(budget_for("quick", ("image",)), steps=600)
    assert trial_budget("paper", ("image", "categorical")).epochs == 400


def test_the_choice_is_the_trial_with_the_lowest_error_and_the_first_of_equals() -> None:
    trials = [{"parameters": i, "error": error} for i, error in enumerate((None, 0.5, 0.25, 0.25))]
    best = best_trial(trials)
    assert best is not None and best["parameters"] == 2
    assert best_trial(trials[:1]) is None


def test_a_method_is_tuned_by_its_held_out_validation_error_alone(registry: Registry) -> None:
    table = toy_table(registry)
    record = tune(toy(registry), table, Machine(), "smoke", (0, 1))
    for seed in (0, 1):
        trials = record.trials[str(seed)]
        assert len(trials) == TRIALS
        # By hand: each column's root mean square error on the entries of all folds over its deviation in training.
        problem = tuning_problem(toy(registry), table, None, [seed])
        train, rows = problem.train, problem.splits[0].validation
        truth = table.scalars[rows]
        shown = np.any([fold.held_out.observed[0] for fold in problem.validation.folds], axis=0)
        for trial in trials:
            ratios = []
            for column in range(truth.shape[1]):
                entries = truth[shown[:, column], column]
                seen = table.scalars[problem.splits[0].train][train.observed[0][:, column], column]
                if len(entries):
                    scale = max(seen.std(), 0.1 * np.ptp(seen))
                    ratios.append(np.sqrt(np.mean((entries - trial["parameters"]["fill"]) ** 2)) / scale)
            assert math.isclose(trial["error"], float(np.mean(ratios)), rel_tol=1e-4)
    assert record.chosen(0) == min(record.trials["0"], key=lambda trial: trial["error"])["parameters"]


def test_the_truth_of_hidden_entries_does_not_reach_the_choice(registry: Registry, tmp_path: Path) -> None:
    table = toy_table(registry)
    problem = tuning_problem(toy(registry), table, None, [0])
    changed = table.scalars.copy()
    changed[~problem.masks[0]] += 1000.0
    test = problem.splits[0].test
    changed[test] -= 77.0
    other = replace(table, scalars=changed)
    before, after = (tune(toy(registry), t, Machine(), "smoke", [0]).trials["0"] for t in (table, other))
    assert before == after


def test_imputing_with_the_floor_scores_about_one(registry: Registry) -> None:
    problem = tuning_problem(toy(registry), toy_table(registry), None, [0])
    means = np.nanmean(problem.train.values().scalars, axis=0)

    def floor(shown: Incomplete) -> Values:
        scalars = shown.values().scalars
        return Values(np.where(np.isnan(scalars), means, scalars), {})

    error = validation_error(floor, problem.train, problem.validation)
    assert error is not None and math.isclose(error, 1.0, abs_tol=0.15)
    nothing = validation_error(lambda shown: shown.values(), problem.train, problem.validation)
    assert nothing is None


def test_too_few_entries_to_choose_by_are_not_tuned_on(registry: Registry) -> None:
    table = toy_table(registry)
    few = Table(table.schema, table.scalars[:60], {}, table.present[:60])
    with pytest.raises(BenchError, match=r"has \d+ held-out validation entries, and tuning needs 200 to choose by"):
        tune(toy(registry), few, Machine(), "smoke", (0,))


# Trials in one stack


def test_adam_steps_each_replica_at_its_own_rate() -> None:
    rates = torch.tensor([[1e-3], [4e-3]])
    start = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    together = torch.nn.Parameter(start.clone())
    alone: list[torch.Tensor] = [torch.nn.Parameter(start[i : i + 1].clone()) for i in range(2)]
    groups = [{"params": [together]}]
    optimiser = stacked_adam(groups, rates)
    shares = replica_rates(groups, rates)
    single = [stacked_adam([{"params": [p]}], float(rate)) for p, rate in zip(alone, rates, strict=True)]
    for step in range(20):
        for parameters, optimisers in (([together], [optimiser]), (alone, single)):
            for parameter, own in zip(parameters, optimisers, strict=True):
                own.zero_grad()
                (torch.sin(parameter * (step + 1)) ** 2).sum().backward()
                step_at_own_rates(own, shares if own is optimiser else [])
    torch.testing.assert_close(together.detach(), torch.cat(alone).detach(), rtol=1e-4, atol=1e-6)
    assert replica_rates(groups, 1e-3) == []


@pytest.mark.parametrize("name", ["vsae", "vae", "hivae", "mvae", "gain", "misgan", "vaeac", "miwae", "ae"])
def test_a_stack_of_trials_is_each_trial_alone(load_plugin: Any, name: str) -> None:
    method = load_plugin(BASELINES / f"{name}.py")
    table = dependent_table(120, numbers=3, levels=(3,))
    rng = np.random.default_rng(2)
    rows = {"train": np.arange(80), "validation": np.arange(80, 120)}
    observed = {part: rng.random((len(own), len(table.schema))) >= 0.3 for part, own in rows.items()}
    folds = deal_folds(observed["validation"], 2, rng)
    default = dict(method.parameter_sets["default"])
    first, second = draw_trials(name, method.tunable, default)[1:3]
    budget = Budget(steps=12, batch=32, evaluations=3, validation_draws=2, target_draws=2)

    def errors(parameters: dict[str, Any], replicas: int) -> list[float]:
        def stacked(part: str, dealt: Any = None) -> Incomplete:
            own_rows, shown = np.tile(rows[part], (replicas, 1)), np.tile(observed[part], (replicas, 1, 1))
            own = None if dealt is None else dealt[None].repeat(replicas, 0)
            return Incomplete(table, own_rows, shown, own)

        instance = method({**default, **parameters}, Context(budget))
        instance.fit_many(stacked("train"), stacked("validation", folds), [3] * replicas)
        return list(instance.history.best_error)

    together = errors({key: [first[key], second[key]] for key in first}, 2)
    # A number alone draws noise for dropout only where there is any: the same trial as a list of one does as the stack.
    apart = [errors({key: [trial[key]] for key in trial}, 1)[0] for trial in (first, second)]
    assert together == pytest.approx(apart, rel=1e-3)
    assert together[0] != together[1]


def test_a_list_of_the_wrong_length_is_refused(load_plugin: Any) -> None:
    method = load_plugin(BASELINES / "vae.py")
    train, validation, _ = split_views(dependent_table(60, numbers=2), replicas=2, ratio=0.3)
    instance = method({**method.parameter_sets["default"], "kl_weight": [1.0]}, Context(Budget(steps=2)))
    with pytest.raises(ValueError, match="2 replicas need as many values of kl_weight, not 1"):
        instance.fit_many(train, validation, [0, 1])


def test_a_replica_that_diverges_fails_alone(tmp_path: Path) -> None:
    source = '''
import importlib.util, sys
from pathlib import Path
from bench.paths import plugin_folder
import torch
from bench.neural.gaussian import Gaussian
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel
from bench.neural.networks import data_decoder, row_encoder


class Explodes(LatentModel):
    def __init__(self, layout, replicas, settings):
        super().__init__(layout, replicas, settings)
        self.decoder = data_decoder(layout, replicas, self.latent, settings)
        self.encoder = row_encoder(layout, replicas, 2 * self.latent, settings, self.decoder)

    def q(self, x):
        return Gaussian.from_raw(self.encoder(x.input.flat()))

    def p_x(self, z, x):
        prediction = self.decoder(z)
        broken = torch.full_like(prediction.numeric[1:2], float("nan"))
        numeric = torch.cat([prediction.numeric[:1], broken, prediction.numeric[2:]])
        return type(prediction)(numeric, prediction.categorical, prediction.blocks)

    def bound(self, x, noise, beta):
        q = self.q(x)
        z = q.sample(noise.normal("latent", 1, x.size, self.latent))
        return self.log_observed(self.p_x(z, x), x).mean(1) - beta * q.kl()


class Shaky(LatentStackedMethod):
    """Its second replica diverges."""

    name = "shaky"
    parameter_sets = {"default": {"clip_norm": None}}
    network = Explodes
'''
    registry = Registry.scan([write_plugins(tmp_path / "plugins", data=NUMBERS, shaky=source)])
    spec = parse_spec(table_text(("shaky",), ("numbers",), "seeds = [0, 1, 2]\n"), "toy.toml")
    scope = Scope(preset="smoke")
    cells = cells_of(chosen_cells(spec, scope), spec, scope, registry, contents_for(registry, "numbers"))
    results = run_job(jobs_of(cells, registry)[0], Machine())
    assert [result.status for result in results] == ["ok", "failed", "ok"], [result.reason for result in results]
    assert results[1].reason == "training of 'shaky' diverged: no finite validation error"
    assert results[1].metrics == {} and results[0].metrics


# Records


def a_record(**changes: Any) -> Tuned:
    trials = {"0": [{"parameters": {"fill": 2.0}, "error": 0.5}], "1": [{"parameters": {"fill": 3.0}, "error": 0.5}]}
    return replace(Tuned("constant", 1, "numbers", "c" * 64, "mcar", 0.5, "smoke", False, trials), **changes)


def test_a_store_comes_before_what_ships_and_only_the_present_version_counts(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = registry.method("constant")
    monkeypatch.setattr("bench.experiment.tuned.shipped_tuned_folder", lambda: tmp_path / "shipped")
    with pytest.raises(BenchError, match="not tuned on 'numbers' in its version 1: run `vsae-bench tune constant"):
        TunedParameters.of_store(tmp_path).chosen(method, "numbers", 0, "c" * 64)
    a_record().write(tmp_path / "shipped")
    assert TunedParameters.of_store(tmp_path).chosen(method, "numbers", 1, "c" * 64) == {"fill": 3.0}
    a_record(every_seed=True).write(tuned_folder(tmp_path))
    found = TunedParameters.of_store(tmp_path)
    assert [found.chosen(method, "numbers", seed, "c" * 64)["fill"] for seed in (0, 1, 9)] == [2.0, 3.0, 2.0]
    with pytest.raises(BenchError, match="tuned on other data"):
        found.chosen(method, "numbers", 0, "d" * 64)
    a_record(method_version=2).write(tuned_folder(tmp_path))
    with pytest.raises(BenchError, match="not tuned on 'numbers' for seed 9: .*--seeds 9"):
        TunedParameters.of_store(tmp_path).chosen(method, "numbers", 9, "c" * 64)
    (tuned_folder(tmp_path) / "numbers" / "constant.json").write_text("{}")
    with pytest.raises(BenchError, match="not a record of tuning"):
        TunedParameters.of_store(tmp_path).chosen(method, "numbers", 0, "c" * 64)


def test_a_choice_on_three_seeds_is_frozen_for_the_others(tmp_path: Path, registry: Registry) -> None:
    # The first trial diverged once; of the others the third has the lowest mean, .5, and is no seed's own choice.
    errors: dict[str, list[float | None]] = {
        "0": [0.1, 0.3, 0.5, 0.9],
        "1": [None, 1.2, 0.5, 0.4],
        "2": [0.1, 0.3, 0.5, 0.4],
    }
    trials = {
        seed: [{"parameters": {"fill": float(number)}, "error": error} for number, error in enumerate(own)]
        for seed, own in errors.items()
    }
    record = a_record(trials=trials)
    assert record.frozen() == {"fill": 2.0}
    assert [record.chosen(seed) for seed in (0, 1, 2, 3)] == [{"fill": 0.0}, {"fill": 3.0}, {"fill": 0.0}, None]
    record.write(tuned_folder(tmp_path))
    found, method = TunedParameters.of_store(tmp_path), registry.method("constant")
    assert [found.chosen(method, "numbers", seed, "c" * 64)["fill"] for seed in (0, 1, 3, 9)] == [0.0, 3.0, 2.0, 2.0]
    # Two seeds, trials that differ, or none that finished on all: nothing to freeze.
    assert a_record().frozen() is None
    other = {**trials, "2": [{"parameters": {"fill": 9.0 + number}, "error": 0.1} for number in range(4)]}
    assert a_record(trials=other).frozen() is None
    assert a_record(trials={**trials, "2": [{**trial, "error": None} for trial in trials["2"]]}).frozen() is None


def test_a_method_without_anything_to_tune_says_so(registry: Registry) -> None:
    with pytest.raises(BenchError, match="'mean_mode' declares nothing to tune and runs with its defaults"):
        tunable_method("mean_mode", registry)


def test_every_tunable_parameter_is_one_of_the_defaults(registry: Registry) -> None:
    tunable = {name: info for name, info in registry.methods.items() if info.tunable}
    assert {"vsae", "ae", "vae", "cvae", "mvae", "hivae", "miwae", "gain", "misgan", "knn"} <= set(tunable)
    for info in tunable.values():
        assert info.error is None and set(info.tunable) <= set(info.parameter_sets["default"])


# The verb, and runs with what it chose


def test_tune_then_run_uses_each_seeds_own_choice(tmp_path: Path) -> None:
    plugins = write_plugins(tmp_path / "plugins", data=NUMBERS, constant=CONSTANT)
    store = tmp_path / "store"
    options = ("--store", store, "--plugins", plugins)
    grid = (
        "run",
        "--methods",
        "constant,mean_mode",
        "--datasets",
        "numbers",
        "--preset",
        "smoke",
        "--seeds",
        "0,1",
        "--parameters",
        "tuned",
        *options,
    )
    refused = run_command(*grid, folder=tmp_path)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "run `vsae-bench tune constant numbers`" in refused.stderr
    verb = ("tune", "constant", "numbers", "--preset", "smoke", "--seeds", "0,1", *options)
    tuned = run_command(*verb, folder=tmp_path)
    assert tuned.returncode == 0, tuned.stderr
    assert "chosen" in tuned.stdout and "default" in tuned.stdout
    record = json.loads((store / "tuned" / "numbers" / "constant.json").read_text())
    assert run_command(*grid, folder=tmp_path).returncode == 0
    rows = [row for row in stored_rows(store).values() if row["cell"]["method"] == "constant"]
    assert len(rows) == 2
    for row in rows:
        trials = record["trials"][str(row["cell"]["seed"])]
        best = min(trials, key=lambda trial: trial["error"])["parameters"]
        assert row["cell"]["parameter_set"] == "tuned"
        assert row["cell"]["parameters"] == {"kept": "yes", **best}
    # The floor has nothing to tune and keeps its defaults.
    floor = [row for row in stored_rows(store).values() if row["cell"]["method"] == "mean_mode"]
    assert {row["cell"]["parameter_set"] for row in floor} == {"default"}
    again = run_command(*verb, folder=tmp_path)
    assert again.returncode == 0 and "--again tunes it again" in again.stdout


def test_bad_requests_are_one_line_each(tmp_path: Path) -> None:
    console = Console(quiet=True)
    for method, dataset, words in (
        ("mean_mode", "yeast", "nothing to tune"),
        ("vsea", "yeast", "Did you mean 'vsae'"),
        ("gaussian_em", "mushroom", "does not take categorical"),
    ):
        with pytest.raises(BenchError, match=words):
            tune_scope(Scope(methods=(method,), datasets=(dataset,), seeds=(0,)), Place(stores=(tmp_path,)), console)
    scope, place = Scope(methods=("vsae",), datasets=("yeast",), seeds=(0,)), Place(stores=(tmp_path / "store",))
    for asked, where, words in (
        (replace(scope, seeds=(0, -1)), place, "-1 is negative"),
        (replace(scope, seeds=()), place, "at least one method"),
        (replace(scope, methods=()), place, "at least one method"),
        (scope, replace(place, device="tpu"), "unknown device 'tpu'"),
    ):
        with pytest.raises(BenchError, match=words):
            tune_scope(asked, where, console)
    assert not (tmp_path / "store").exists()
    assert not list(tmp_path.glob("tuned/**/*.json"))


def test_off_a_terminal_trials_say_now_and_then_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("bench.run.progress.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=120)
    with TrialProgress("guess on rain", console) as progress:
        for done in (5, 6, 7, 8):
            now[0] += 20.0
            progress(done, 8, "training")
    # The checkpoint had four epochs; two took 40 s.
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "tuning guess on rain: training 6/8, about 40 s left",
        "tuning guess on rain: training 8/8",
    ]
