"""Does one method beat another? The paired difference over seeds and its interval, whichever way it falls.

``python -m benchmarks.paired`` runs VSAE and VAE under NMAR, where the paper says that VSAE gains most, with the same
splits and holes, and prints the mean difference of their errors over ten seeds with its 95 % interval (Student's t over
seeds; splits overlap, so it is too narrow rather than too wide). Rows are kept in the store and not computed again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.experiment.result import Result


@dataclass(frozen=True)
class Difference:
    """Errors of two methods under the same seeds; below 0 the first is better."""

    dataset: str
    mechanism: str
    metric: str
    first: str
    second: str
    seeds: int
    first_mean: float
    second_mean: float
    mean: float
    low: float
    high: float

    def line(self) -> str:
        """Return the comparison as one line of text."""
        verdict = "no clear difference"
        if self.high < 0 or self.low > 0:
            verdict = f"{self.first if self.high < 0 else self.second} is better"
        return (
            f"{self.dataset} ({self.mechanism}), {self.metric}: {self.first} {self.first_mean:.4f},"
            f" {self.second} {self.second_mean:.4f}, difference {self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"
            f" over {self.seeds} seeds: {verdict}"
        )


def interval(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % interval by Student's t; infinite with one seed."""
    import numpy as np
    from scipy import stats

    mean = float(np.mean(differences))
    if len(differences) < 2:
        return mean, -math.inf, math.inf
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return mean, mean - half, mean + half


def paired(results: Sequence[Result], dataset: str, mechanism: str, metric: str, first: str, second: str) -> Difference:
    """Return the difference of two methods over the seeds that both have a value for; raises ValueError without any."""
    by_method: dict[str, dict[int, float]] = {first: {}, second: {}}
    for result in results:
        cell = result.cell
        value = result.metrics.get("all", {}).get(metric)
        if (cell.dataset, cell.mechanism) == (dataset, mechanism) and value is not None:
            by_method[cell.method][cell.seed] = value
    seeds = sorted(set(by_method[first]) & set(by_method[second]))
    if not seeds:
        raise ValueError(f"no seed has {metric} of both {first} and {second} on {dataset}")
    a, b = ([by_method[name][seed] for seed in seeds] for name in (first, second))
    mean, low, high = interval([x - y for x, y in zip(a, b, strict=True)])
    return Difference(
        dataset, mechanism, metric, first, second, len(seeds), sum(a) / len(a), sum(b) / len(b), mean, low, high
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; the exit code does not depend on who wins."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paired", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--first", default="vsae")
    parser.add_argument("--second", default="vae")
    parser.add_argument("--datasets", default="yeast,whitewine")
    parser.add_argument("--mechanism", default="nmar")
    parser.add_argument("--metric", default="nrmse_std")
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ... (default 10)")
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--store", type=Path, default=Path("results") / "local")
    options = parser.parse_args(arguments)

    from rich.console import Console

    from bench.experiment.scope import Scope
    from bench.run.plan import run_scope
    from bench.run.request import Place
    from bench.run.store import Store

    methods, datasets = (options.first, options.second), tuple(options.datasets.split(","))
    scope = Scope(
        preset=options.preset,
        methods=methods,
        datasets=datasets,
        seeds=tuple(range(options.seeds)),
        mechanisms=(options.mechanism,),
        ratios=(options.ratio,),
    )
    code = run_scope(scope, Place(stores=(options.store,)), Console(stderr=True))
    if code:
        return code
    results = [
        result
        for result in Store(options.store).rows(set(datasets), set(methods))
        if result.cell.preset == options.preset
        and result.cell.ratio == options.ratio
        and result.cell.parameter_set == "default"
        and not result.cell.overrides
        and result.cell.seed < options.seeds
    ]
    for dataset in datasets:
        found = paired(results, dataset, options.mechanism, options.metric, options.first, options.second)
        print(json.dumps(asdict(found)) if options.json else found.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
