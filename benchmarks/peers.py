"""MIWAE and GAIN beside HyperImpute's, on the same table with as many optimiser steps; other packages beside them.

HyperImpute 0.1.17 needs ``pandas<3`` and therefore an environment of its own. Make one and name its Python with
``--python`` or in ``VSAE_BENCH_PEERS``::

    python -m venv peers
    peers/bin/python -m pip install hyperimpute==0.1.17 'pandas<3' miceforest==6.0.5 lightgbm==4.6.0
    python -m benchmarks.peers --python peers/bin/python

All impute all rows of Yeast, half of the entries missing completely at random, with one thread each; ours learn from
84 % of the rows and choose their best epoch by the others. Errors are RMSE / SD of the hidden entries; ours counts as
higher if its mean over seeds is higher by more than two standard errors of the difference. Ours run alone, and three
seeds in one stack as the suite runs them, with a third of the time for each. HyperImpute's MIWAE has one latent
dimension and one hidden unit per layer by default: it runs so, and with the widths of ours.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.common import Line, Report, alternate, finish, median_ratio, number, parsed, parser, spread

if TYPE_CHECKING:
    from bench.api import Incomplete, Method
    from bench.data.schema import FloatArray
    from benchmarks.stacks import Views

VARIABLE = "VSAE_BENCH_PEERS"
RECIPE = (
    "python -m venv peers && peers/bin/python -m pip install hyperimpute==0.1.17 'pandas<3' miceforest==6.0.5"
    " lightgbm==4.6.0"
)
#: Methods, whether HyperImpute's gets the widths of ours, and the number of seeds in our stack.
CASES = (("gain", False, 1), ("gain", False, 3), ("miwae", True, 1), ("miwae", True, 3), ("miwae", False, 1))
#: What ours are told, so that both do the same: HyperImpute weighs GAIN's reconstruction by 10, its authors by 100, and
#: its networks are as wide as the table, where ours would be rounded up to 16.
AS_THEIRS = {"gain": {"alpha": 10.0, "hidden_width": 8}}
#: Ours whose initial weights theirs draws otherwise, as ``torch.nn.Linear`` does.
DRAWN_OTHERWISE = ("gain",)
#: Standard errors by which a mean error has to be the higher one to count as such.
STANDARD_ERRORS = 2.0
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
                [python, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**environment, **threads},
            )
        except OSError as error:
            raise BenchError(f"{python} cannot be run ({error.strerror}); make an environment: {RECIPE}") from None
        self._folder = folder
        self.version = ""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def impute(
        self, method: str, values: FloatArray, steps: int, seed: int, widths: tuple[int, int] | None = None
    ) -> tuple[FloatArray, float]:
        """Return the imputed values and the seconds the package took; raises BenchError with what it said.

        ``widths`` are those of the latent space and the hidden layers.
        """
        import numpy as np

        from bench.errors import BenchError

        given, imputed = self._folder / "given.npy", self._folder / "imputed.npy"
        np.save(given, values)
        request = {
            "method": method,
            "values": str(given),
            "imputed": str(imputed),
            "steps": steps,
            "batch": BATCH,
            "seed": seed,
            "widths": widths,
        }
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
    shown = [part.observed for part in parts]
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


def made(name: str, views: Views, steps: int) -> Method:
    """Return one of our methods, untrained, set as theirs is."""
    from bench.api import Context
    from bench.experiment.presets import budget_for
    from bench.plugins.registry import Registry, load

    budget = replace(budget_for("quick", views.train.schema.kinds), steps=steps, batch=BATCH)
    method = load(Registry.scan().method(name))
    parameters = {**method.parameter_sets["default"], **AS_THEIRS.get(name, {})}
    instance = cast("Method", method(parameters, Context(budget)))
    return drawn_as_theirs(instance) if name in DRAWN_OTHERWISE else instance


def drawn_as_theirs(method: Any) -> Any:
    """Return a neural method whose initial weights are drawn as ``torch.nn.Linear`` draws them."""
    from bench.neural.engine.bank import BankedLinear

    build = method.build

    def built(layout: Any, replicas: int) -> Any:
        network = build(layout, replicas)
        for part in network.modules():
            if isinstance(part, BankedLinear):
                part.reset = partial(BankedLinear.reset, part)  # type: ignore[method-assign]
        return network

    method.build = built
    return method


def impute_with(name: str, views: Views, steps: int, seed: int) -> FloatArray:
    """Fit one of our methods that has no stack and return its imputation of all rows."""
    from bench.api import Values

    method = made(name, views, steps)
    data, parts = everything(views), learning(views)
    transductive = "inductive" not in method.protocols
    method.fit(data if transductive else parts.train, parts.validation, seed)
    imputed = method.impute(data, method.context.budget.draws)
    scalars: FloatArray = imputed.scalars if isinstance(imputed, Values) else imputed.to_numpy(dtype=float)
    return scalars


def impute_stack(name: str, views: Views, steps: int, first_seed: int) -> list[FloatArray]:
    """Fit one of our methods, a replica for each of the views', and return their imputations of all rows."""
    from bench.api import StackedMethod

    method = made(name, views, steps)
    assert isinstance(method, StackedMethod), "the methods that are compared train in stacks"
    data, parts = everything(views), learning(views)
    method.fit_many(parts.train, parts.validation, range(first_seed, first_seed + data.replicas))
    return [values.scalars for values in method.impute_many(data, method.context.budget.draws)]


def widths_of(name: str, views: Views) -> tuple[int, int]:
    """Return the width of our latent space and of our decoder's hidden layers."""
    from bench.neural.method import NeuralStackedMethod
    from bench.neural.model import LatentModel
    from bench.neural.rows import Layout

    method = made(name, views, 1)
    assert isinstance(method, NeuralStackedMethod), "what has widths is a network"
    network = method.build(Layout(views.train.schema), 1)
    assert isinstance(network, LatentModel), "HyperImpute has no such method"
    return network.latent, network.sizes.decoder


def error_of(imputed: FloatArray, views: Views, replica: int = 0) -> float:
    """Return the mean over columns of the hidden entries' RMSE in the column's standard deviation."""
    import numpy as np

    data = everything(views)
    truth = data._table.scalars[data._rows[replica]]
    hidden = ~data.observed[replica]
    squared = np.where(hidden, (imputed - truth) ** 2, 0.0).sum(axis=0) / hidden.sum(axis=0)
    return float(np.mean(np.sqrt(squared) / truth.std(axis=0)))


def measure(name: str, widened: bool, views: Views, peer: Peer, steps: int, rounds: int) -> Line:
    """Time one method beside HyperImpute's of the same name; every round has seeds of its own."""
    import numpy as np

    stack = views.train.replicas
    values = everything(views).values(0).scalars
    widths = widths_of(name, views) if widened else None
    own_errors: list[list[float]] = []
    their_errors: list[float] = []
    inside: list[float] = []

    def ours() -> None:
        imputed = impute_stack(name, views, steps, stack * len(own_errors))
        own_errors.append([error_of(each, views, replica) for replica, each in enumerate(imputed)])

    def theirs() -> None:
        imputed, seconds = peer.impute(name, values, steps, len(their_errors), widths)
        their_errors.append(error_of(imputed, views))
        inside.append(seconds)

    seconds = alternate({"ours": ours, "theirs": theirs}, rounds)
    # Their clock leaves out what it takes to hand the table over. The first round of each warms up.
    theirs_seconds, own_seconds = inside[1:], [second / stack for second in seconds["ours"]]
    ratio, own = median_ratio(theirs_seconds, own_seconds), np.ravel(own_errors[1:])
    difference, error = difference_of_means(own, their_errors[1:])
    size = "" if name == "gain" else ", its widths ours" if widened else ", its own widths"
    return Line(
        f"{name}, {'alone' if stack == 1 else f'each of {stack}'}, against HyperImpute {peer.version}{size}",
        ratio,
        float(np.median(own_seconds)),
        float(np.median(theirs_seconds)),
        target="> 1, error no higher",
        reached=ratio > 1 and difference <= STANDARD_ERRORS * error,
        notes={
            "steps": steps,
            "our error": float(own.mean()),
            "from": float(own.min()),
            "to": float(own.max()),
            "their error": float(np.mean(their_errors[1:])),
            "their errors from": min(their_errors[1:]),
            "their errors to": max(their_errors[1:]),
            "ours higher by": difference,
            "standard error": error,
            "spread": max(spread(own_seconds), spread(theirs_seconds)),
        },
    )


def difference_of_means(ours: Sequence[float] | FloatArray, theirs: Sequence[float]) -> tuple[float, float]:
    """Return how much higher the mean of ours is and the standard error of that, 0 where either is a single one."""
    import numpy as np

    difference = float(np.mean(ours) - np.mean(theirs))
    if min(len(ours), len(theirs)) < 2:
        return difference, 0.0
    variances = (float(np.var(errors, ddof=1)) / len(errors) for errors in (ours, theirs))
    return difference, math.sqrt(sum(variances))


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
    """Run the benchmark; the exit code is 2 if the other environment is not there."""
    made = parser("peers", __doc__)
    made.add_argument("--python", default=os.environ.get(VARIABLE, ""), help=f"its Python (default: ${VARIABLE})")
    made.add_argument("--steps", type=int, default=STEPS, help=f"optimiser steps of each training (default {STEPS})")
    options = parsed(made, arguments)
    if not options.python:
        print(
            f"peers: no environment with HyperImpute is named; make one: {RECIPE}; then give --python"
            f" peers/bin/python or set {VARIABLE}",
            file=sys.stderr,
        )
        return 2
    from bench.errors import BenchError
    from benchmarks.common import chosen_device
    from benchmarks.stacks import Views, table_of

    chosen_device("cpu")
    steps = min(options.steps, 20) if options.small else options.steps
    table = table_of("yeast", options.small)
    views = Views.of(table, 1)
    values = everything(views).values(0).scalars
    lines: list[Line] = []
    try:
        with tempfile.TemporaryDirectory() as folder, Peer(options.python, Path(folder)) as peer:
            lines += [
                measure(name, widened, Views.of(table, stack), peer, steps, options.rounds)
                for name, widened, stack in CASES
            ]
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
