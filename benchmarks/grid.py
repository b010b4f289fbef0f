"""A whole run with one worker and with two, one thread each, and the job that took longest.

``python -m benchmarks.grid --preset quick`` runs ``vsae-bench run table6`` from an empty store, with each number of
workers in turn. Two workers cannot be faster than the longest job: the target is judged only if there are enough jobs
for it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.common import ROOT, Line, Report, alternate, finish, median_ratio, medians, parsed, parser, spread

TARGET = 1.7
#: A run is minutes long: one is measured unless more are asked for.
ROUNDS = 1


@dataclass(frozen=True)
class Jobs:
    """The jobs of a run as its rows tell them: seconds of all together, and the longest in words."""

    count: int
    seconds: float
    longest: str
    longest_seconds: float

    @classmethod
    def of(cls, store: Path) -> Jobs:
        """Read the rows of a run."""
        from bench.run.store import Store

        seconds: dict[tuple[str, ...], tuple[float, str]] = {}
        for result in Store(store).rows():
            cell = result.cell
            changed = "".join(f", {name}={value}" for name, value in cell.overrides.items())
            seconds[result.stack] = result.seconds, f"{cell.method}{changed} on {cell.dataset}"
        longest, label = max(seconds.values(), default=(0.0, "nothing ran"))
        return cls(len(seconds), sum(own for own, _ in seconds.values()), label, longest)

    def best_ratio(self, workers: int) -> float:
        """Return the ratio of one worker's time to that of several that no schedule beats."""
        return self.seconds / max(self.seconds / workers, self.longest_seconds) if self.seconds else 1.0


def run(words: Sequence[str], workers: int, store: Path) -> None:
    """Run the command from an empty store; raises CalledProcessError if it does not finish."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "bench", "run", *words, f"--workers={workers}", "--threads=1", f"--store={store}"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    # 1 says that some rows failed, which a run survives.
    if done.returncode not in (0, 1):
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)


def measure(words: Sequence[str], rounds: int, folder: Path) -> Line:
    """Time a run with one and with two workers."""
    stores: dict[int, list[Path]] = {1: [], 2: []}

    def fresh(workers: int) -> None:
        stores[workers].append(Path(tempfile.mkdtemp(dir=folder)))
        run(words, workers, stores[workers][-1])

    run([*words, "--dry-run"], 1, folder / "nothing")  # data are fetched and parsed before the clock starts
    seconds = alternate({"one worker": partial(fresh, 1), "two workers": partial(fresh, 2)}, rounds, warm_up=False)
    took = medians(seconds)
    ratio = median_ratio(seconds["one worker"], seconds["two workers"])
    jobs = Jobs.of(stores[1][-1])
    best = jobs.best_ratio(2)
    suffice = best >= TARGET / 0.95
    return Line(
        f"run {shlex.join(words)}",
        ratio,
        took["two workers"],
        took["one worker"],
        target=f">= {TARGET:g}" if suffice else f"no target: {best:.3g} at best",
        reached=ratio >= TARGET if suffice else None,
        notes={
            "jobs": jobs.count,
            "longest job": f"{jobs.longest}, {jobs.longest_seconds:.1f} s",
            "all jobs, one worker": f"{jobs.seconds:.0f} s",
            "spread": max(map(spread, seconds.values())),
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    made = parser("grid", __doc__, rounds=ROUNDS, least=ROUNDS)
    made.add_argument("--preset", default="quick", help="smoke or quick (default); --small takes smoke")
    made.add_argument("--run", default="table6", help="what to run, with any options of run (default table6)")
    options = parsed(made, arguments)
    words = [*shlex.split(options.run), "--preset", "smoke" if options.small else options.preset]
    with tempfile.TemporaryDirectory() as folder:
        line = measure(words, options.rounds, Path(folder))
    notes = ["medians of so few rounds say little: see the spread"] if options.rounds < 5 else []
    return finish(Report("grid", "one worker / two", [line], notes), options)


if __name__ == "__main__":
    raise SystemExit(main())
