"""Plug-ins as source texts, a small table spec and cells, for tests that run the suite on data of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.experiment.cell import Cell, Job, Plugins
from bench.experiment.expand import cells_of, jobs_of, with_seeds_of
from bench.experiment.presets import budget_for
from bench.experiment.reader import parse_spec
from bench.experiment.result import Result, Status
from bench.experiment.scope import Scope
from bench.files.fetch import content_of
from bench.plugins.registry import PluginInfo, Registry, load
from bench.run.isolation.workers import run_jobs
from bench.run.job import run_job
from bench.run.machine import Machine

#: 60 rows of three dependent numbers and a category that follows from one of them, and 50 rows of numbers alone.
DATA = '''
import numpy as np
import pandas as pd

from bench.api import Dataset


class Mixed(Dataset):
    """Sixty rows, mixed."""

    name = "toy_mixed"
    kinds = ("numeric", "categorical")

    def load(self, files):
        """Return three numbers and a category."""
        rng = np.random.default_rng(5)
        first = rng.normal(10.0, 3.0, 60)
        second = 2.0 * first + rng.normal(0.0, 1.0, 60)
        kind = np.array(["low", "middle", "high"])[np.digitize(first, [9.0, 11.0])]
        return pd.DataFrame({"first": first, "second": second, "third": rng.normal(size=60), "kind": kind})


class Numbers(Dataset):
    """Fifty rows of numbers."""

    name = "toy_numbers"
    kinds = ("numeric",)

    def load(self, files):
        """Return two numbers."""
        first = np.random.default_rng(6).normal(size=50)
        return pd.DataFrame({"first": first, "second": 1.0 - first})
'''

#: Rows of an image and a label that says which half of it is bright.
PICTURES = '''
import numpy as np

from bench.api import Attribute, Dataset, Schema, Table


class Pictures(Dataset):
    """Images of 4 by 5 pixels with a label and a number."""

    name = "toy_pictures"
    kinds = ("image", "categorical", "numeric")

    def load(self, files):
        rng = np.random.default_rng(3)
        label = rng.integers(0, 2, 80)
        images = rng.integers(0, 60, (80, 4, 5)).astype(np.uint8)
        images[label == 0, :2] += 150
        images[label == 1, 2:] += 150
        attributes = (
            Attribute("half", "categorical", levels=("upper half", "lower/half")),
            Attribute("image", "image", shape=(4, 5)),
            Attribute("light", "numeric"),
        )
        scalars = np.stack([label, images.mean(axis=(1, 2))], axis=1).astype(float)
        blocks = {"image": images.reshape(80, -1)}
        return Table(Schema(attributes), scalars, blocks, np.ones((80, 3), dtype=bool))
'''

MECHANISM = '''
import numpy as np

from bench.api import Mechanism


class Stripes(Mechanism):
    """Hides a share of every column, more of the odd rows."""

    name = "stripes"
    parameters = {"tilt": 0.2}

    def missing_probability(self, values, schema, ratio, rng, **parameters):
        """Return the ratio, tilted by the row's number."""
        tilt = {**self.parameters, **parameters}["tilt"]
        rows = len(values.scalars)
        signs = np.where(np.arange(rows) % 2, 1.0, -1.0)[:, None]
        return np.broadcast_to(ratio * (1.0 + tilt * signs), (rows, len(schema))).copy()
'''

#: What a newcomer writes from the docstrings of ``bench.api`` alone.
MEDIAN = '''
"""The column median, or the most frequent category."""

from bench.api import Method


class ColumnMedian(Method):
    """Median or most frequent category of the observed training entries."""

    name = "column_median"

    def fit(self, train, validation, seed):
        frame = train.frame()
        self.fill = {}
        for column in frame.columns:
            shown = frame[column].dropna()
            if frame[column].dtype == "category":
                self.fill[column] = shown.mode().iloc[0] if len(shown) else frame[column].cat.categories[0]
            else:
                self.fill[column] = shown.median() if len(shown) else 0.0

    def impute(self, data, draws):
        return data.frame().fillna(self.fill)
'''

#: Trains in slow epochs a number that depends on every one of them, and keeps its state at each.
PATIENT = '''
import json
import os
import random
import time

import numpy as np

from bench.api import StackedMethod, Values


class Patient(StackedMethod):
    """Walks at random for some epochs and fills with where it ends."""

    name = "patient"
    parameter_sets = {"default": {"epochs": 30, "pause": 0.05}}

    def fit_many(self, train, validation, seeds):
        walkers = [random.Random(seed) for seed in seeds]
        self.places, self.resumed_from = [0.0] * len(seeds), 0
        path = self.context.checkpoint
        if path is not None and path.exists():
            state = json.loads(path.read_text())
            self.places, self.resumed_from = state["places"], state["epoch"]
            for walker, (version, numbers, rest) in zip(walkers, state["walkers"]):
                walker.setstate((version, tuple(numbers), rest))
        for epoch in range(self.resumed_from, self.parameters["epochs"]):
            time.sleep(self.parameters["pause"])
            self.places = [place + walker.gauss(0.0, 0.1) for place, walker in zip(self.places, walkers)]
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                state = {"places": self.places, "epoch": epoch + 1, "walkers": [w.getstate() for w in walkers]}
                path.with_suffix(".partial").write_text(json.dumps(state))
                os.replace(path.with_suffix(".partial"), path)
            self.context.progress(epoch + 1, self.parameters["epochs"], "training")
            self.context.stop()

    def impute_many(self, data, draws):
        results = []
        for replica, place in enumerate(self.places):
            shown = data.values(replica).scalars
            numeric = data.schema.scalar_columns("numeric")
            hidden = np.isnan(shown)
            scalars = np.where(hidden, 0.0, shown)
            scalars[:, numeric] += hidden[:, numeric] * place
            results.append(Values(scalars, {}))
        return results

    def diagnostics(self):
        return [{"place": place, "resumed_from": self.resumed_from} for place in self.places]
'''


def method_source(name: str, fit: str = "pass", impute: str = "return data.frame()", extra: str = "") -> str:
    """Return the source of a method whose ``fit`` and ``impute`` are these statements."""
    return f'''
import os
import sys
import time

import numpy as np

from bench.api import Method, Values


class Mine(Method):
    """A method for tests."""

    name = "{name}"
    {extra or "version = 1"}

    def fit(self, train, validation, seed):
        self.seed = seed
        {fit}

    def impute(self, data, draws):
        {impute}
'''


#: An ``impute`` that fills with zeros.
ZEROS = "v = data.values(); return Values(np.nan_to_num(v.scalars), {})"


def write_plugins(folder: Path, **sources: str) -> Path:
    """Write plug-in files ``name=source`` into a folder, made if it is not there, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source.lstrip("\n"), encoding="utf-8")
    return folder


def table_text(methods: tuple[str, ...], datasets: tuple[str, ...] = ("toy_mixed",), more: str = "") -> str:
    """Return the TOML of a table with these rows and one column per data set; ``more`` are top-level keys."""
    rows = "".join(f'[[rows]]\nlabel = "{name}"\nmethod = "{name}"\n' for name in methods)
    columns = "".join(f'[[columns]]\nlabel = "{n}"\ndataset = "{n}"\nmetric = "nrmse_std"\n' for n in datasets)
    return (
        f'id = "toy"\ntitle = "A toy"\nlabel = "tab:toy"\n{more}\n'
        f'[defaults]\nmechanism = "mcar"\nratio = 0.5\n{rows}{columns}'
    )


def contents_for(registry: Registry, *datasets: str) -> dict[tuple[str, bool], str]:
    """Return the content hashes of data sets without target, as ``cells_of`` wants them."""
    return {(name, False): content_of(load(registry.dataset(name))()).content_hash for name in datasets}


def cells_for(registry: Registry, methods: tuple[str, ...], dataset: str = "toy_mixed", **scope: Any) -> list[Cell]:
    """Return the cells of methods on a data set under MCAR at 0.5, preset smoke, three seeds."""
    chosen = Scope(**{"preset": "smoke", **scope})
    (spec,) = with_seeds_of(chosen, [parse_spec(table_text(methods, (dataset,)), "toy.toml")])
    return cells_of(spec.cells(), spec, chosen, registry, contents_for(registry, dataset))


def jobs_for(registry: Registry, methods: tuple[str, ...], dataset: str = "toy_mixed", **scope: Any) -> list[Job]:
    """Return the jobs of ``cells_for``."""
    return jobs_of(cells_for(registry, methods, dataset, **scope), registry)


def make_cell(**changes: Any) -> Cell:
    """Return a fixed cell with some fields changed; it names nothing that has to exist."""
    cell = Cell(
        dataset="rain",
        content="00ff",
        include_target=False,
        mechanism="mcar",
        mechanism_version=1,
        mechanism_parameters={},
        mechanism_overrides={},
        ratio=0.5,
        method="guess",
        method_version=2,
        parameter_set="default",
        overrides={"depth": 3},
        parameters={"depth": 3, "rate": 0.1},
        seed=0,
        repeat="all",
        protocol="inductive",
        preset="smoke",
        budget=budget_for("smoke", ("numeric",)).as_json(),
        engine=1,
    )
    return replace(cell, **changes)


def make_job(*cells: Cell) -> Job:
    """Return a job of cells whose plug-ins are in no file."""
    first = cells[0]
    method, dataset = (
        PluginInfo("method", first.method, "Method", Path("method.py"), "user", "0" * 64),
        PluginInfo("dataset", first.dataset, "Dataset", Path("dataset.py"), "user", "0" * 64),
    )
    mechanisms = {
        name: PluginInfo("mechanism", name, "Mechanism", Path("mechanism.py"), "user", "0" * 64)
        for name in {cell.mechanism for cell in cells}
    }
    return Job(cells, Plugins(method, dataset, mechanisms))


def make_result(cell: Cell, status: Status = "ok", **more: Any) -> Result:
    """Return a result of a cell, with some fields changed."""
    fields = {
        "reason": None if status == "ok" else "it is so",
        "metrics": {"all": {"nrmse_std": 1.0}},
        "seconds": 1.0,
        **more,
    }
    return Result(cell, cell.key, status, **fields)


def run_cells(cells: Sequence[Cell], registry: Registry, **machine: Any) -> list[Result]:
    """Compute cells as one job in this process and return their results."""
    return run_job(Job(tuple(cells), Plugins.of(cells, registry)), Machine(**machine))


def command_environment(cache: Path, **more: str) -> dict[str, str]:
    """Return the environment for the command line in another process: one thread, a cache of its own, no mirror."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VSAE_BENCH_")}
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join([root, *filter(None, [kept.get("PYTHONPATH")])])
    own = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "VSAE_BENCH_CACHE": str(cache), "COLUMNS": "200"}
    return {**kept, **own, **more}


def command(*arguments: object, prelude: str = "") -> list[str]:
    """Return the words that run the command line; a ``prelude`` is executed before it in the same process."""
    start = ["-c", f"{prelude}\nfrom bench.cli.app import main\nmain()"] if prelude else ["-m", "bench"]
    return [sys.executable, *start, *(str(argument) for argument in arguments)]


def run_command(
    *arguments: object, folder: Path, prelude: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command line in another process, in ``folder`` with its cache there too."""
    return subprocess.run(
        command(*arguments, prelude=prelude),
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env=dict(environment or command_environment(folder / "cache")),
    )


def stored_rows(store: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a store by key, read without the suite."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(store.glob("*/*.jsonl")):
        rows.update((row["key"], row) for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    return rows


def numbers_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a row must be the same however it was computed: all but times, memory and resuming."""
    diagnostics = {
        name: value
        for name, value in row["diagnostics"].items()
        if name != "resumed_from" and not name.endswith("seconds")
    }
    same = (
        "key",
        "cell",
        "status",
        "metrics",
        "attributes",
        "counts",
        "missing_ratio",
        "mask_hash",
        "variant",
        "stack",
    )
    return {**{name: row[name] for name in same}, "diagnostics": diagnostics}


def numbers_in(store: Path) -> dict[str, Any]:
    """Return the ``numbers_of`` every row of a store."""
    return {key: numbers_of(row) for key, row in stored_rows(store).items()}


def uninterrupted(tmp_path: Path, methods: tuple[str, ...], dataset: str = "toy_mixed") -> dict[str, Any]:
    """Return the numbers of the same jobs from this process, at one go."""
    registry = Registry.scan([tmp_path / "plugins"])
    found: list[Result] = []
    assert run_jobs(jobs_for(registry, methods, dataset), Machine(workers=0), Watcher(), found.extend) is None
    return {result.key: numbers_of(result.as_json()) for result in found}


def wait_until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something that other processes do."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.01)


def start_command(*arguments: object, folder: Path, prelude: str = "") -> subprocess.Popen[str]:
    """Start what ``run_command`` runs, as the leader of a process group, and do not wait for it."""

    def heed_interrupts() -> None:
        # What a shell starts in the background ignores Ctrl-C, and so would what the tests start.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(
        command(*arguments, prelude=prelude),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=command_environment(folder / "cache"),
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


class Watcher:
    """An observer that notes what it is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stages: dict[str, list[tuple[int, int]]] = {}
        self.lines: list[str] = []

    def started(self, job: Job) -> None:
        """Note a job."""
        self.begun.append(job.key)

    def progressed(self, job_key: str, done: int, total: int, stage: str) -> None:
        """Note how far it is."""
        self.stages.setdefault(f"{job_key} {stage}", []).append((done, total))

    def finished(self, job: Job, results: Sequence[Result]) -> None:
        """Note the end of a job."""
        self.lines.append(f"{job.label}: {results[0].status}")

    def on_line(self, line: str) -> None:
        """Note a line."""
        self.lines.append(line)
