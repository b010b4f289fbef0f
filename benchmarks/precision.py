"""What a lower precision of products gains, and whether it moves a metric.

``python -m benchmarks.precision`` runs ``vsae-bench run`` with each precision of ``bench.experiment.presets`` that is
asked for, the same method, data, masks and seeds, and compares seconds and test metrics. A metric has moved if the
mean difference over the seeds, the same split and mask each, is larger than the metric's spread over the seeds.
"""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.experiment.presets import HIGHEST, PRECISIONS
from benchmarks.common import ROOT, Line, Report, finish, parsed, parser

#: Data sets and the metric that is compared on each.
METRICS = {"yeast": "nrmse_std", "mushroom": "pfc", "mnist_mnist": "mse"}


@dataclass(frozen=True)
class Outcome:
    """What a run of one precision gave: seconds of training, and the metric of each seed."""

    seconds: float
    metric: tuple[float, ...]


def outcome(method: str, dataset: str, metric: str, preset: str, precision: str, more: Sequence[str]) -> Outcome:
    """Run a method on a data set from an empty store; raises CalledProcessError if a row failed."""
    from bench.run.store import Store

    with tempfile.TemporaryDirectory() as store:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [
            sys.executable,
            "-m",
            "bench",
            "run",
            "--methods",
            method,
            "--datasets",
            dataset,
            "--preset",
            preset,
            "--precision",
            precision,
            "--workers",
            "1",
            "--store",
            store,
            *more,
        ]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        results = sorted(Store(Path(store)).rows(), key=lambda result: result.cell.seed)
    seconds = max(result.diagnostics["training_seconds"] for result in results)
    return Outcome(seconds, tuple(result.metrics["all"][metric] for result in results))


def compared(label: str, base: Outcome, other: Outcome, metric: str) -> Line:
    """Return the line of a precision: the highest one's seconds over its own, and how far the metric moved."""
    shift = statistics.fmean(b - a for a, b in zip(base.metric, other.metric, strict=True))
    deviation = statistics.stdev(base.metric) if len(base.metric) > 1 else 0.0
    return Line(
        label,
        base.seconds / other.seconds,
        other.seconds,
        base.seconds,
        target="metric unmoved",
        reached=abs(shift) <= deviation if len(base.metric) > 1 else None,
        notes={
            metric: statistics.fmean(other.metric),
            "of the highest": statistics.fmean(base.metric),
            "moved by": shift,
            "spread over seeds": deviation,
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    made = parser("precision", __doc__, rounds=1, least=1)
    made.add_argument("--cases", default=",".join(METRICS), help=f"comma-separated: {', '.join(METRICS)}")
    made.add_argument("--method", default="vsae", help="a method that uses torch (default vsae)")
    made.add_argument("--precisions", default="medium", help=f"compared with {HIGHEST}: {', '.join(PRECISIONS)}")
    made.add_argument("--preset", default="quick", help="smoke, quick, long or paper; --small takes smoke")
    made.add_argument("--run", default="", help="more options of run, such as '--parameters tuned'")
    options = parsed(made, arguments)
    preset, more = "smoke" if options.small else options.preset, shlex.split(options.run)
    lines = []
    for dataset in options.cases.split(","):
        metric = METRICS[dataset]
        base = outcome(options.method, dataset, metric, preset, HIGHEST, more)
        for precision in options.precisions.split(","):
            other = outcome(options.method, dataset, metric, preset, precision, more)
            lines.append(compared(f"{options.method} on {dataset}, {preset}, {precision}", base, other, metric))
    notes = ["seconds of training, once each; three seeds in a stack"]
    return finish(Report("precision", f"{HIGHEST} / precision", lines, notes), options)


if __name__ == "__main__":
    raise SystemExit(main())
