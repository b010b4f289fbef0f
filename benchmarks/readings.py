"""Which reading of VSAE's term of x_u has the lower held-out error, and what the term costs or gains.

``python -m benchmarks.readings`` trains VSAE under the preset ``quick`` with each reading of the term (see
``baselines/vsae.py``) and without it, on the same data, masks and seeds, and compares held-out validation errors, by
which every choice in the suite is made: no test entry is looked at. The mean of the paired log-ratio over data sets
decides on seeds 0 to 2, and the seeds from 3 on confirm; a tie within a standard error goes to ``complete``. Needs the
checkout.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.data.schema import FloatArray
from benchmarks.problems import posed

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "complete": {"reading": "complete"},
    "independent": {"reading": "independent"},
    "without": {"unobserved_term": False},
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
    """A variant on a data set: per seed the best and the last held-out error, and the largest after the first tenth."""

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


def trained(dataset: str, variant: str, seeds: int, steps: int | None) -> Outcome:
    """Train VSAE's replicas as a stack and return their held-out errors."""
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
    cls = load(Registry.scan([]).method("vsae"))
    method = cls({**cls.parameter_sets["default"], **VARIANTS[variant]}, Context(budget))
    assert isinstance(method, NeuralStackedMethod)
    method.fit_many(problem.train, problem.validation, list(range(seeds)))
    history = method.history
    after = [curve[len(curve) // 10 :] for curve in history.validation]
    return Outcome(
        dataset,
        variant,
        history.best_error,
        [curve[-1] for curve in history.validation],
        [max(curve) for curve in after],
        round(time.process_time() - began, 1),
    )


def compared(outcomes: Sequence[Outcome], first: str, second: str, seeds: slice) -> Comparison:
    """Return how much lower the best errors of ``first`` are than those of ``second``, over data sets.

    Seeds share rows, so a data set counts once, with the mean over its seeds; the standard error is over data sets.
    """
    by_name = {(outcome.dataset, outcome.variant): outcome for outcome in outcomes}
    ratios: dict[str, float] = {}
    for dataset, variant in by_name:
        if variant == first and (dataset, second) in by_name:
            ours, theirs = (np.array(by_name[dataset, name].best[seeds]) for name in (first, second))
            if len(ours):
                ratios[dataset] = float(np.log(ours / theirs).mean())
    values: FloatArray = np.array(list(ratios.values()))
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
    return Comparison(float(values.mean()) if len(values) else math.nan, error, ratios)


def lines_of(outcomes: Sequence[Outcome], seeds: int) -> list[str]:
    """Return the table: errors per data set and variant, then the comparisons that decide."""
    lines = [f"{'data set':<18}{'variant':<13}{'best 0-2':>9}{'best 3-':>9}{'last':>9}{'highest':>9}{'seconds':>9}"]
    for outcome in outcomes:
        later = outcome.best[CHOOSING:]
        lines.append(
            f"{outcome.dataset:<18}{outcome.variant:<13}{np.mean(outcome.best[:CHOOSING]):9.4f}"
            f"{np.mean(later) if later else math.nan:9.4f}{np.mean(outcome.last):9.4f}"
            f"{max(outcome.highest):9.2f}{outcome.seconds:9.0f}"
        )
    for first, second in (("complete", "independent"), ("complete", "without"), ("independent", "without")):
        for part, name in ((slice(0, CHOOSING), "seeds 0-2"), (slice(CHOOSING, None), f"seeds 3-{seeds - 1}")):
            if part.start >= seeds:
                continue
            found = compared(outcomes, first, second, part)
            verdict = "a tie" if found.is_tie else f"{first if found.mean < 0 else second} is lower"
            lines.append(
                f"{first} / {second}, {name}: {100 * found.mean:+.2f} % +- {100 * found.error:.2f} over "
                f"{len(found.by_dataset)} data sets: {verdict}"
            )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line of JSON per training (``--json``), or the table."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.readings", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--datasets", default=",".join(DATASETS), help="data sets, by commas")
    made.add_argument("--seeds", type=int, default=10, help="seeds 0 to N-1, one stack")
    made.add_argument("--steps", type=int, default=None, help="optimiser steps, instead of the preset's")
    made.add_argument("--json", action="store_true", help="print one JSON object per training")
    made.add_argument("--small", action="store_true", help="one data set, 60 steps: to see that it works")
    options = made.parse_args(arguments)
    datasets, seeds, steps = options.datasets.split(","), options.seeds, options.steps
    if options.small:
        datasets, seeds, steps = ["heart_cleveland"], 4, 60
    outcomes = []
    for dataset in datasets:
        for variant in VARIANTS:
            outcomes.append(trained(dataset, variant, seeds, steps))
            print(json.dumps(vars(outcomes[-1])), file=sys.stdout if options.json else sys.stderr, flush=True)
    if not options.json:
        print("\n".join(lines_of(outcomes, seeds)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
