"""Where the time of the slowest jobs goes, here and, with ``--against``, in another checkout of the suite.

``python -m benchmarks.jobs --against ../before`` trains each job of three replicas for a few steps after the warm
phase, chooses an epoch once, imputes its test rows, and works out what the whole job takes: processor seconds on one
thread.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.experiment.presets import HIGHEST, PRECISIONS
from benchmarks.common import ROOT, Line, Report, finish, parsed, parser

#: Methods and data sets whose jobs take longest under ``quick``.
SLOWEST = "hivae:mnist_mnist,hivae:mnist_label,vsae:mnist_mnist"
#: Steps that are timed, an epoch of that length.
STEPS = 40
CHILD = Path(__file__).with_name("jobs_child.py")


def measured(checkout: Path, **job: Any) -> dict[str, float]:
    """Return what the child measures with the suite of a checkout; raises CalledProcessError if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(CHILD), json.dumps(job)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=checkout,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(label: str, ours: Sequence[dict[str, float]], before: Sequence[dict[str, float]]) -> Line:
    """Return a job's line: the other checkout's seconds over ours, and ours by parts."""

    def median(rounds: Sequence[dict[str, float]], part: str) -> float:
        return statistics.median(found[part] for found in rounds)

    job = median(ours, "job")
    notes: dict[str, Any] = {}
    for when, rounds in (("", ours), ("before: ", before)):
        if rounds:
            notes |= {
                f"{when}ms per step": 1000 * median(rounds, "step"),
                f"{when}of it products": median(rounds, "products"),
                f"{when}s to choose once": median(rounds, "choose"),
                f"{when}s to impute": median(rounds, "impute"),
            }
    notes |= {"steps": round(ours[0]["steps"]), "evaluations": round(ours[0]["evaluations"])}
    other = median(before, "job") if before else None
    return Line(label, other / job if other else None, job, other, notes=notes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    made = parser("jobs", __doc__, rounds=1, least=1)
    made.add_argument("--jobs", default=SLOWEST, help=f"METHOD:DATASET, comma-separated (default {SLOWEST})")
    made.add_argument("--preset", default="quick", help="whose budget (default quick)")
    made.add_argument("--steps", type=int, default=STEPS, help=f"steps that are timed (default {STEPS})")
    made.add_argument("--replicas", type=int, default=3, help="size of the stacks (default 3)")
    made.add_argument("--precision", choices=PRECISIONS, default=HIGHEST, help="of products, in both checkouts")
    made.add_argument("--against", type=Path, default=None, help="another checkout of the suite")
    options = parsed(made, arguments)
    lines = []
    for pair in options.jobs.split(","):
        method, _, dataset = pair.partition(":")
        job = {
            "method": method,
            "dataset": dataset,
            "preset": options.preset,
            "steps": 2 if options.small else options.steps,
            "replicas": options.replicas,
            "precision": options.precision,
        }
        ours: list[dict[str, float]] = []
        before: list[dict[str, float]] = []
        for _ in range(options.rounds):
            ours.append(measured(ROOT, **job))
            if options.against is not None:
                before.append(measured(options.against.resolve(), **job))
        lines.append(line(f"{method} on {dataset}, {options.preset}, {options.replicas} replicas", ours, before))
    notes = ["processor seconds of the whole job, worked out from its parts; other: those of the other checkout"]
    return finish(Report("jobs", "before / now", lines, notes), options)


if __name__ == "__main__":
    raise SystemExit(main())
