"""What a figure shows of one trained cell, kept beside the store so that a second figure needs no training.

A snapshot is of one cell: its method is trained alone on the cell's own problem, exactly as for its row. It holds the
imputed test rows, draws for some of them, rows sampled from the prior and the diagnostics, whichever the method has.
Numbers and categories are kept of all test rows; images and features of some, the same for every method.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.schema import AnyArray, Attribute, BoolArray, IntArray, Schema
from bench.data.table import Table, Values, unit_scale
from bench.errors import BenchError, Stopped
from bench.experiment.cell import Cell, Job
from bench.plugins.contracts import Method
from bench.plugins.registry import PluginInfo, load
from bench.problem.draws import draws_samples
from bench.run.fit import fit_from_checkpoint, load_for, reason_of
from bench.run.isolation.process import Task
from bench.run.isolation.workers import call
from bench.run.job import bounded_json, reason_to_skip, too_wide
from bench.run.lock import held
from bench.run.machine import Machine, choose_device
from bench.run.progress import RunProgress, recorded_costs
from bench.run.request import Place
from bench.run.store import Store
from bench.seeds import canonical_json, generator

if TYPE_CHECKING:
    from rich.console import Console

#: Rows of which images are kept, and of which features are (if there are no images).
IMAGE_ROWS, FEATURE_ROWS = 24, 500
#: Rows that draws are kept of, and how many draws of each.
SAMPLED_ROWS, DRAWS = 24, 16
#: Rows sampled from the prior: of images or features, and of tables.
GENERATED_ROWS, GENERATED_TABLE_ROWS = 48, 1000
#: Raise it whenever the file's content changes its meaning: a snapshot of another version is made again.
VERSION = 1


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A cell's test rows as they are and as its method imputed them, and what else the method can show.

    ``observed`` and ``present`` are [n, M], ``shown`` [k] the test rows, of n, that blocks are kept of: ``truth`` and
    ``imputed`` hold the scalars of all n rows and the blocks of these k. Each of ``samples`` has the first rows of
    ``shown``. ``generated`` is None if the method has no prior. ``diagnostics`` are the row's.
    """

    schema: Schema
    observed: BoolArray
    present: BoolArray
    shown: IntArray
    truth: Values
    imputed: Values
    samples: tuple[Values, ...]
    generated: Values | None
    diagnostics: Mapping[str, Any]

    @property
    def hidden(self) -> BoolArray:
        """The entries that were hidden from the method and have a truth, [n, M]."""
        hidden: BoolArray = self.present & ~self.observed
        return hidden


def snapshots_of(jobs: Sequence[Job], place: Place, console: Console) -> list[Snapshot]:
    """Return the snapshots of jobs of one cell each; those that are not kept yet are made and kept.

    Raises BenchError if a method does not take the data or fails.
    """
    paths = {job.key: snapshot_path(place.store, job.cells[0]) for job in jobs}
    kept = {job.key: read_snapshot(paths[job.key]) for job in jobs}
    lacking = [job for job in jobs if kept[job.key] is None]
    if lacking:
        device = choose_device(place.device, needs_torch=any(job.plugins.method.uses_torch for job in jobs))
        cells = [job.cells[0] for job in jobs]
        stored = Store(*place.folders).rows({cell.dataset for cell in cells}, {cell.method for cell in cells})
        # A folder and a lock of their own: figures may be made while a run fills the store.
        folder = snapshots_folder(place.store)
        preset = cells[0].preset
        machine = Machine(
            device,
            checkpoints=folder / "checkpoints",
            silence=place.silence(preset),
            memory=place.memory_gib(preset),
        )
        with held(folder), RunProgress(lacking, recorded_costs(stored), console) as progress:
            for job in lacking:
                _keep_snapshot(job, machine, progress, paths[job.key])
                for checkpoint in (folder / "checkpoints").glob(f"{job.key}-*"):
                    checkpoint.unlink()
                # As it will be read next time, so that both figures are the same.
                kept[job.key] = read_snapshot(paths[job.key])
                progress.ended(job, "trained for this figure and the next ones")
    found = [kept[job.key] for job in jobs]
    return [snapshot for snapshot in found if snapshot is not None]


def _keep_snapshot(job: Job, machine: Machine, progress: RunProgress, path: Path) -> None:
    """Make a snapshot in a worker process, with its training on display, and write it to ``path``."""

    def report(done: int, total: int, stage: str) -> None:
        progress.progressed(job.key, done, total, stage)

    progress.started(job)
    watched = machine.watched(report, machine.stop)
    asked = {"kind": "snapshot", "job": job.as_json(), "path": str(path.absolute()), "machine": machine.as_json()}
    call(Task(asked, job.plugins.all), watched, progress.on_line)


def make_snapshot(job: Job, machine: Machine) -> Snapshot:
    """Train the method of a job of one cell and return what it shows.

    Raises BenchError, in one line, if the method does not take the data or fails, and Stopped.
    """
    method, dataset = job.cells[0].method, job.cells[0].dataset
    reason = reason_to_skip(job)
    if not reason:
        table = load_for(job, machine).table
        reason = too_wide(job.plugins.method, len(table.schema))
    if reason:
        raise BenchError(f"method '{method}' on {dataset}: {reason}")
    try:
        return _made(job, table, machine)
    except (BenchError, Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in may raise anything
        told = reason_of(error, job)
        raise BenchError(f"method '{method}' failed on {dataset}: {told}") from error


def _made(job: Job, table: Table, machine: Machine) -> Snapshot:
    cell, method = job.cells[0], job.plugins.method
    fitted = fit_from_checkpoint(job, table, machine)
    if fitted.failures:
        raise BenchError(f"method '{cell.method}' failed on {cell.dataset}: {fitted.failures[0]}")
    instance, schema = fitted.instance, table.schema
    test = fitted.problem.splits[0].test
    observed, present = fitted.problem.masks[0][test], table.present[test]
    images = "image" in schema.kinds
    most = IMAGE_ROWS if images else FEATURE_ROWS
    shown = rows_to_show(observed & present, present, most, generator("exhibit rows", cell.dataset, cell.data_seed))
    samples: Sequence[Values] = ()
    if shows("sample", method):
        samples = instance.sample(fitted.problem.test.take(shown[:SAMPLED_ROWS]), DRAWS, cell.seed)
    generated = None
    if shows("generate", method):
        count = GENERATED_ROWS if schema.block_attributes else GENERATED_TABLE_ROWS
        generated = instance.generate(count, cell.seed)
    truth = table.take(test)
    return Snapshot(
        schema,
        observed & present,
        present,
        shown,
        _with_blocks_of(truth, shown),
        _with_blocks_of(fitted.completed(0)[0], shown),
        tuple(samples),
        generated,
        bounded_json(fitted.diagnostics[0]),
    )


def shows(what: str, method: PluginInfo) -> bool:
    """Return whether a method defines ``sample`` (``sample_many`` if it stacks) or ``generate``."""
    own = load(method)
    return draws_samples(own) if what == "sample" else getattr(own, what) is not getattr(Method, what)


def rows_to_show(observed: BoolArray, present: BoolArray, most: int, rng: np.random.Generator) -> IntArray:
    """Choose rows at random: first those that show something and hide something, then those that hide something.

    Within these, rows that hide the same attributes alternate with those that hide others.
    """
    hides = present & ~observed
    rank = np.where(hides.any(axis=1) & observed.any(axis=1), 0, np.where(hides.any(axis=1), 1, 2))
    order = rng.permutation(len(observed))
    seen: Counter[bytes] = Counter()
    turn = np.empty(len(order), dtype=np.int64)
    for row in order:
        pattern = hides[row].tobytes()
        turn[row] = seen[pattern]
        seen[pattern] += 1
    chosen: IntArray = order[np.lexsort((turn[order], rank[order]))][:most]
    return chosen


def _with_blocks_of(values: Values, rows: IntArray) -> Values:
    return Values(values.scalars, {name: unit_scale(block[rows]) for name, block in values.blocks.items()})


# Files


def snapshots_folder(store: Path) -> Path:
    """Return the folder of the snapshots in a store's folder; its name is that of an earlier version."""
    return store / "exhibits"


def snapshot_path(store: Path, cell: Cell) -> Path:
    """Return the file of a cell's snapshot in a store's folder."""
    return snapshots_folder(store) / f"{cell.key}.npz"


def write_snapshot(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot, all or nothing; raises BenchError if that cannot be done."""
    arrays: dict[str, AnyArray] = {
        "header": np.array(
            canonical_json(
                {
                    "version": VERSION,
                    "attributes": [asdict(a) for a in snapshot.schema.attributes],
                    "samples": len(snapshot.samples),
                    "generated": snapshot.generated is not None,
                    "diagnostics": snapshot.diagnostics,
                }
            )
        ),
        "observed": snapshot.observed,
        "present": snapshot.present,
        "shown": snapshot.shown,
        **_arrays("truth", snapshot.truth, snapshot.schema),
        **_arrays("imputed", snapshot.imputed, snapshot.schema),
    }
    for index, values in enumerate(snapshot.samples):
        arrays |= _arrays(f"sample{index}", values, snapshot.schema)
    if snapshot.generated is not None:
        arrays |= _arrays("generated", snapshot.generated, snapshot.schema)
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise BenchError(f"the snapshot cannot be written to {path}: {error.strerror or error}") from None


def read_snapshot(path: Path) -> Snapshot | None:
    """Read a snapshot; None if there is none, or none that this version of the suite can read."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(str(arrays["header"]))
            if header["version"] != VERSION:
                return None
            schema = Schema(tuple(_attribute(entry) for entry in header["attributes"]))
            return Snapshot(
                schema,
                arrays["observed"],
                arrays["present"],
                arrays["shown"],
                _values("truth", arrays, schema),
                _values("imputed", arrays, schema),
                tuple(_values(f"sample{index}", arrays, schema) for index in range(header["samples"])),
                _values("generated", arrays, schema) if header["generated"] else None,
                header["diagnostics"],
            )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _attribute(entry: Mapping[str, Any]) -> Attribute:
    return Attribute(entry["name"], entry["kind"], tuple(entry["levels"]), tuple(entry["shape"]))


def _arrays(name: str, values: Values, schema: Schema) -> dict[str, AnyArray]:
    """Return values as named arrays; images in steps of 1/255, which no eye tells from what they were."""
    arrays: dict[str, AnyArray] = {f"{name}_scalars": values.scalars}
    for index, attribute in enumerate(schema.block_attributes):
        block = values.blocks[attribute.name]
        if attribute.kind == "image":
            block = np.rint(255 * np.clip(block, 0, 1)).astype(np.uint8)
        arrays[f"{name}_block{index}"] = block
    return arrays


def _values(name: str, arrays: Mapping[str, AnyArray], schema: Schema) -> Values:
    blocks = {a.name: unit_scale(arrays[f"{name}_block{index}"]) for index, a in enumerate(schema.block_attributes)}
    return Values(arrays[f"{name}_scalars"], blocks)
