"""Which value of a parameter has the lower held-out error: the studies behind the methods' defaults.

``python -m benchmarks.variants --study initialisation`` trains methods under the preset ``quick`` with each variant of
their parameters that the study names, on the same data, masks and seeds, and compares held-out validation errors, by
which every choice in the suite is made: no test entry is looked at. The mean of the paired log-ratio over data sets
decides on seeds 0 to 2, and the seeds from 3 on confirm; a tie within a standard error goes to the variant named first.
Needs the checkout.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from bench.data.schema import FloatArray
from benchmarks.problems import posed


@dataclass(frozen=True)
class Study:
    """A question about parameters: the variants to compare, by name, and the methods it is asked of."""

    methods: Sequence[str]
    variants: Mapping[str, Mapping[str, object]]


STUDIES = {
    "readings": Study(
        ("vsae",),
        {
            "complete": {"reading": "complete"},
            "independent": {"reading": "independent"},
            "without": {"unobserved_term": False},
        },
    ),
    "initialisation": Study(
        ("vae", "cvae", "miwae", "mvae", "hivae", "vsae", "ae"),
        {name: {"initialisation": name} for name in ("uniform", "orthogonal")},
    ),
    "miwae": Study(
        ("miwae",),
        {
            "orthogonal": {"initialisation": "orthogonal"},
            "authors": {"networks": "authors", "initialisation": "orthogonal", "learning_rate": 1e-3},
            "authors, uniform": {"networks": "authors", "learning_rate": 1e-3},
        },
    ),
}
DATASETS = (
    "heart_cleveland",
    "heart",
    "yeast",
    "phishing",
    "whitewine",
    "mushroom",
    "phishing_websites",
    "mnist_label",
)
#: Seeds that choose; those after them confirm.
CHOOSING = 3


@dataclass(frozen=True)
class Outcome:
    """A variant of a method: per seed the best and the last held-out error, and the largest after the first tenth."""

    method: str
    dataset: str
    variant: str
    best: Sequence[float]
    last: Sequence[float]
    highest: Sequence[float]
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Two variants over data sets: the mean log-ratio of their best errors, its standard error, and per data set."""

    mean: float
    error: float
    by_dataset: Mapping[str, float]

    @property
    def is_tie(self) -> bool:
        """Whether the mean lies within a standard error of zero."""
        return abs(self.mean) <= self.error


def trained(
    method: str, variant: str, parameters: Mapping[str, object], dataset: str, seeds: int, steps: int | None
) -> Outcome:
    """Train a method's replicas as a stack and return their held-out errors."""
    import torch

    from bench.experiment.presets import budget_for
    from bench.neural.method import NeuralStackedMethod
    from bench.plugins.contracts import Context
    from bench.plugins.registry import Registry, load

    torch.set_num_threads(1)
    began = time.process_time()
    table, problem = posed(dataset, "mcar", 0.5, seeds)
    budget = budget_for("quick", table.schema.kinds)
    if steps is not None:
        budget = replace(budget, steps=steps)
    cls = load(Registry.scan([]).method(method))
    made = cls({**cls.parameter_sets["default"], **parameters}, Context(budget))
    assert isinstance(made, NeuralStackedMethod)
    made.fit_many(problem.train, problem.validation, list(range(seeds)))
    history = made.history
    after = [curve[len(curve) // 10 :] for curve in history.validation]
    return Outcome(
        method,
        dataset,
        variant,
        history.best_error,
        [curve[-1] for curve in history.validation],
        [max(curve) for curve in after],
        round(time.process_time() - began, 1),
    )


def compared(outcomes: Sequence[Outcome], first: str, second: str, seeds: slice) -> Comparison:
    """Return how much lower the best errors of ``first`` are than those of ``second``, over data sets.

    Seeds share rows, so a data set counts once, with the mean over its seeds (and over methods, if there are several);
    the standard error is over data sets.
    """
    by_name = {(outcome.method, outcome.dataset, outcome.variant): outcome for outcome in outcomes}
    ratios: dict[str, list[float]] = {}
    for method, dataset, variant in by_name:
        if variant == first and (method, dataset, second) in by_name:
            ours, theirs = (np.array(by_name[method, dataset, name].best[seeds]) for name in (first, second))
            if len(ours):
                ratios.setdefault(dataset, []).append(float(np.log(ours / theirs).mean()))
    means = {dataset: float(np.mean(of_methods)) for dataset, of_methods in ratios.items()}
    values: FloatArray = np.array(list(means.values()))
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
    return Comparison(float(values.mean()) if len(values) else math.nan, error, means)


def lines_of(study: Study, outcomes: Sequence[Outcome], seeds: int) -> list[str]:
    """Return the table: errors per data set and variant, then the comparisons that decide, per method and over all."""
    lines = [
        f"{'method':<11}{'data set':<18}{'variant':<17}"
        f"{'best 0-2':>9}{'best 3-':>9}{'last':>9}{'highest':>9}{'seconds':>9}"
    ]
    for outcome in outcomes:
        later = outcome.best[CHOOSING:]
        lines.append(
            f"{outcome.method:<11}{outcome.dataset:<18}{outcome.variant:<17}{np.mean(outcome.best[:CHOOSING]):9.4f}"
            f"{np.mean(later) if later else math.nan:9.4f}{np.mean(outcome.last):9.4f}"
            f"{max(outcome.highest):9.2f}{outcome.seconds:9.0f}"
        )
    methods = list(dict.fromkeys(outcome.method for outcome in outcomes))
    for asked in [*([method] for method in methods), *([methods] if len(methods) > 1 else [])]:
        own = [outcome for outcome in outcomes if outcome.method in asked]
        for first, second in combinations(study.variants, 2):
            for part, name in ((slice(0, CHOOSING), "seeds 0-2"), (slice(CHOOSING, None), f"seeds 3-{seeds - 1}")):
                if part.start >= seeds:
                    continue
                found = compared(own, first, second, part)
                verdict = "a tie" if found.is_tie else f"{first if found.mean < 0 else second} is lower"
                lines.append(
                    f"{asked[0] if len(asked) == 1 else 'all'}, {first} / {second}, {name}: "
                    f"{100 * found.mean:+.2f} % +- {100 * found.error:.2f} over "
                    f"{len(found.by_dataset)} data sets: {verdict}"
                )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line of JSON per training (``--json``), or the table."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.variants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--study", choices=list(STUDIES), default="readings", help="the question")
    made.add_argument("--methods", default=None, help="methods, by commas, instead of the study's")
    made.add_argument("--variants", default=None, help="variants of the study, by commas, instead of all")
    made.add_argument("--datasets", default=",".join(DATASETS), help="data sets, by commas")
    made.add_argument("--seeds", type=int, default=10, help="seeds 0 to N-1, one stack")
    made.add_argument("--steps", type=int, default=None, help="optimiser steps, instead of the preset's")
    made.add_argument("--json", action="store_true", help="print one JSON object per training")
    made.add_argument("--small", action="store_true", help="one data set, 60 steps: to see that it works")
    options = made.parse_args(arguments)
    study = STUDIES[options.study]
    methods = options.methods.split(",") if options.methods else study.methods
    variants = options.variants.split(",") if options.variants else list(study.variants)
    datasets, seeds, steps = options.datasets.split(","), options.seeds, options.steps
    if options.small:
        methods, datasets, seeds, steps = methods[:1], ["heart_cleveland"], 4, 60
    outcomes = []
    for dataset, method, variant in product(datasets, methods, variants):
        outcomes.append(trained(method, variant, study.variants[variant], dataset, seeds, steps))
        print(json.dumps(vars(outcomes[-1])), file=sys.stdout if options.json else sys.stderr, flush=True)
    if not options.json:
        print("\n".join(lines_of(study, outcomes, seeds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
