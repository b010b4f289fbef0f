"""MIWAE and GAIN beside HyperImpute's, on the same table with as many optimiser steps; other packages beside them.

HyperImpute 0.1.17 needs ``pandas<3`` and therefore an environment of its own. Make one and name its Python with
``--python`` or in ``VSAE_BENCH_PEERS``::

    python -m venv peers
    peers/bin/python -m pip install hyperimpute==0.1.17 'pandas<3' miceforest==6.0.5 lightgbm==4.6.0
    python -m benchmarks.peers --python peers/bin/python

All impute all rows of Yeast, half of the entries missing completely at random, one thread each; ours learn from 84 % of
the rows and choose their best epoch by the others. Errors are RMSE of the hidden entries in standard deviations.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import Line, Report, alternate, finish, median_ratio, medians, number, parsed, parser, spread

if TYPE_CHECKING:
    from bench.api import Incomplete
    from bench.data import FloatArray
    from benchmarks.stacks import Views

VARIABLE = "VSAE_BENCH_PEERS"
RECIPE = (
    "python -m venv peers && peers/bin/python -m pip install hyperimpute==0.1.17 'pandas<3' miceforest==6.0.5"
    " lightgbm==4.6.0"
)
METHODS = ("gain", "miwae")
#: What else is timed, once: our name of a method, or a package of the other environment.
REFERENCES = {"missforest": "missingpy", "mice": "chained equations"}
STEPS, BATCH = 1000, 256


class Peer:
    """The other environment: a process that imputes on demand."""

    def __init__(self, python: str, folder: Path) -> None:
        """Start it; files go through ``folder``."""
        from bench.errors import BenchError

        script = Path(__file__).with_name("peers_child.py")
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        try:
            self._process = subprocess.Popen(
                [python, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, env={**environment, **threads},
            )  # fmt: skip
        except OSError as error:
            raise BenchError(f"{python} cannot be run ({error.strerror}); make an environment: {RECIPE}") from None
        self._folder = folder
        self.version = ""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def impute(self, method: str, values: FloatArray, steps: int, seed: int) -> tuple[FloatArray, float]:
        """Return the imputed values and the seconds the package took; raises BenchError with what it said."""
        import numpy as np

        from bench.errors import BenchError

        given, imputed = self._folder / "given.npy", self._folder / "imputed.npy"
        np.save(given, values)
        request = {
            "method": method, "values": str(given), "imputed": str(imputed), "steps": steps, "batch": BATCH,
            "seed": seed,
        }  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            said = json.loads(self._process.stdout.readline() or '{"error": "its process ended"}')
        except OSError:
            said = {"error": "its process ended"}
        if "error" in said:
            absent = "NotFoundError" in said["error"]
            how = f"; make it with: {RECIPE}" if absent else ""
            raise BenchError(f"{method} in the other environment: {said['error']}{how}")
        self.version = said["version"]
        return np.load(imputed), float(said["seconds"])


def everything(views: Views) -> Incomplete:
    """Return all rows of all parts as one view: what every package is to impute."""
    import numpy as np

    from bench.api import Incomplete

    parts = views.train, views.validation, views.test
    shown = [
        part.observed if part.held_out is None else part.observed | part.held_out.observed for part in parts
    ]
    rows = np.concatenate([part._rows for part in parts], axis=1)
    return Incomplete(views.train._table, rows, np.concatenate(shown, axis=1))


def learning(views: Views) -> Views:
    """Return the views with the test rows among those learned from: as many as the others see."""
    import numpy as np

    from bench.api import Incomplete
    from benchmarks.stacks import Views

    rows = np.concatenate([views.train._rows, views.test._rows], axis=1)
    observed = np.concatenate([views.train.observed, views.test.observed], axis=1)
    return Views(Incomplete(views.train._table, rows, observed), views.validation, views.test)


def impute_with(name: str, views: Views, steps: int, seed: int) -> FloatArray:
    """Fit one of our methods and return its imputation of all rows."""
    from bench.api import Context
    from bench.presets import budget_for
    from bench.registry import Registry, load

    budget = replace(budget_for("quick", views.train.schema.kinds), steps=steps, batch=BATCH)
    method = load(Registry.scan().method(name))(None, Context(budget))
    data, parts = everything(views), learning(views)
    transductive = "inductive" not in method.protocols
    method.fit(data if transductive else parts.train, parts.validation, seed)
    imputed = method.impute(data, budget.draws)
    scalars: FloatArray = imputed.scalars if hasattr(imputed, "scalars") else imputed.to_numpy(dtype=float)
    return scalars


def error_of(imputed: FloatArray, views: Views) -> float:
    """Return the mean over columns of the hidden entries' RMSE in the column's standard deviation."""
    import numpy as np

    data = everything(views)
    truth = data._table.scalars[data._rows[0]]
    hidden = ~data.observed[0]
    squared = np.where(hidden, (imputed - truth) ** 2, 0.0).sum(axis=0) / hidden.sum(axis=0)
    return float(np.mean(np.sqrt(squared) / truth.std(axis=0)))


def measure(name: str, views: Views, peer: Peer, steps: int, rounds: int) -> Line:
    """Time one method beside HyperImpute's of the same name; every round has a seed of its own."""
    import numpy as np

    values = everything(views).scalars()
    errors: dict[str, list[float]] = {"ours": [], "theirs": []}
    inside: list[float] = []

    def ours() -> None:
        errors["ours"].append(error_of(impute_with(name, views, steps, len(errors["ours"])), views))

    def theirs() -> None:
        imputed, seconds = peer.impute(name, values, steps, len(errors["theirs"]))
        errors["theirs"].append(error_of(imputed, views))
        inside.append(seconds)

    seconds = alternate({"ours": ours, "theirs": theirs}, rounds)
    # Their clock leaves out what it takes to hand the table over.
    theirs_seconds = inside[1:]
    took, ratio = medians(seconds), median_ratio(theirs_seconds, seconds["ours"])
    own, other = (float(np.median(errors[side][1:])) for side in ("ours", "theirs"))
    return Line(
        f"{name} against HyperImpute {peer.version}", ratio, took["ours"], float(np.median(theirs_seconds)),
        target="> 1, error no higher", reached=ratio > 1 and own <= other,
        notes={
            "steps": steps, "our error": own, "their error": other,
            "spread": max(spread(seconds["ours"]), spread(theirs_seconds)),
        },
    )  # fmt: skip


def reference_line(label: str, task: Callable[[], FloatArray], views: Views) -> Line:
    """Time something once; what cannot be run says why."""
    import time

    from bench.errors import BenchError

    began = time.perf_counter()
    try:
        error = error_of(task(), views)
    except (BenchError, ImportError) as reason:
        return Line(label, None, notes={"not run": str(reason)})
    return Line(label, None, time.perf_counter() - began, notes={"error": error, "timed": "once"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 2 where the other environment is not there."""
    made = parser("peers", __doc__)
    made.add_argument("--python", default=os.environ.get(VARIABLE, ""), help=f"its Python (default: ${VARIABLE})")
    made.add_argument("--steps", type=int, default=STEPS, help=f"optimiser steps of each training (default {STEPS})")
    options = parsed(made, arguments)
    if not options.python:
        print(f"peers: no environment with HyperImpute is named; make one: {RECIPE}; then give --python"
              f" peers/bin/python or set {VARIABLE}", file=sys.stderr)  # fmt: skip
        return 2
    from bench.errors import BenchError
    from benchmarks.common import chosen_device
    from benchmarks.stacks import Views, table_of

    chosen_device("cpu")
    steps = min(options.steps, 20) if options.small else options.steps
    views = Views.of(table_of("yeast", options.small), 1)
    values = everything(views).scalars()
    lines: list[Line] = []
    try:
        with tempfile.TemporaryDirectory() as folder, Peer(options.python, Path(folder)) as peer:
            lines += [measure(name, views, peer, steps, options.rounds) for name in METHODS]
            miceforest: Callable[[], Any] = lambda: peer.impute("miceforest", values, steps, 0)[0]  # noqa: E731
            lines.append(reference_line("miceforest", miceforest, views))
    except BenchError as error:
        print(f"peers: {error}", file=sys.stderr)
        return 2
    for name, label in REFERENCES.items():
        lines.append(reference_line(label, partial(impute_with, name, views, steps, 0), views))
    lines.append(reference_line("mean of each column", partial(impute_with, "mean_mode", views, steps, 0), views))
    floor = lines[-1].notes.get("error")
    notes = [] if floor is None else [f"the mean of each column has an error of {number(floor)}"]
    return finish(Report("peers", "theirs / ours", lines, notes), options)


if __name__ == "__main__":
    raise SystemExit(main())
