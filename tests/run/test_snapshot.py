"""What figures are drawn from: the numbers of a cell's row, kept whole and read back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench.run.snapshot
from bench.api import BenchError
from bench.files.fetch import load_table
from bench.plugins.registry import Registry, load
from bench.problem.metrics import reference_of, score
from bench.run.job import run_job
from bench.run.machine import Machine
from bench.run.snapshot import Snapshot, make_snapshot, read_snapshot, rows_to_show, snapshot_path, write_snapshot
from tests.toys import (
    DATA,
    MEDIAN,
    PICTURES,
    jobs_for,
    write_plugins,
)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    return Registry.scan([write_plugins(tmp_path / "plugins", data=DATA, median=MEDIAN, pictures=PICTURES)])


def snapshot_of(registry: Registry, method: str, dataset: str, seed: int = 1) -> tuple[Any, Snapshot]:
    """Return a cell and its snapshot, made again."""
    (job,) = jobs_for(registry, (method,), dataset, seeds=(seed,))
    return job.cells[0], make_snapshot(job, Machine())


def assert_same_snapshot(first: Snapshot, second: Snapshot, image_step: float = 1 / 255) -> None:
    """Assert that two snapshots hold the same, images within half a step."""
    assert first.schema == second.schema and first.diagnostics == second.diagnostics
    for name in ("observed", "present", "shown"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    pairs = [(first.truth, second.truth), (first.imputed, second.imputed)]
    pairs += list(zip(first.samples, second.samples, strict=True))
    assert (first.generated is None) == (second.generated is None)
    if first.generated is not None and second.generated is not None:
        pairs.append((first.generated, second.generated))
    for one, other in pairs:
        np.testing.assert_array_equal(one.scalars, other.scalars)
        assert one.blocks.keys() == other.blocks.keys()
        for name, block in one.blocks.items():
            np.testing.assert_allclose(block, other.blocks[name], atol=0.51 * image_step, rtol=0)


@pytest.mark.parametrize("method", ["vsae", "column_median"])
def test_a_snapshot_has_the_numbers_of_its_row(registry: Registry, method: str) -> None:
    cell, snapshot = snapshot_of(registry, method, "toy_mixed")
    (job,) = jobs_for(registry, (method,), seeds=(1,))
    (result,) = run_job(job, Machine())
    assert result.key == cell.key
    table = load_table(load(registry.dataset("toy_mixed"))()).table
    scores = score(
        snapshot.truth, snapshot.imputed, snapshot.observed, snapshot.present, snapshot.schema, reference_of(table)
    )
    assert scores.as_json()["metrics"] == result.metrics
    stable = {name: value for name, value in result.diagnostics.items() if not name.endswith("seconds")}
    assert {name: snapshot.diagnostics[name] for name in stable} == stable


def test_a_snapshot_is_made_with_as_many_threads_as_a_row(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[int] = []
    monkeypatch.setattr("bench.run.fit.use_threads", bounds.append)
    (job,) = jobs_for(registry, ("column_median",), seeds=(0,))
    make_snapshot(job, Machine(threads=3))
    assert bounds == [3]


def test_a_snapshot_is_read_back_as_it_was_kept(registry: Registry, tmp_path: Path) -> None:
    cell, snapshot = snapshot_of(registry, "vsae", "toy_pictures")
    assert len(snapshot.samples) == bench.run.snapshot.DRAWS and snapshot.generated is not None
    shown = snapshot.shown[: bench.run.snapshot.SAMPLED_ROWS]
    for values in snapshot.samples:
        seen = snapshot.observed[shown]
        scalar_seen = seen[:, snapshot.schema.scalar_indices]
        np.testing.assert_array_equal(values.scalars[scalar_seen], snapshot.truth.scalars[shown][scalar_seen])
        image = snapshot.schema.names.index("image")
        np.testing.assert_array_equal(
            values.blocks["image"][seen[:, image]], snapshot.truth.blocks["image"][: len(shown)][seen[:, image]]
        )
    path = snapshot_path(tmp_path, cell)
    write_snapshot(snapshot, path)
    found = read_snapshot(path)
    assert found is not None
    assert_same_snapshot(found, snapshot)
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    assert [path.name] == [other.name for other in path.parent.iterdir()]


def test_a_broken_or_older_snapshot_is_made_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, snapshot = snapshot_of(registry, "column_median", "toy_mixed")
    path = snapshot_path(tmp_path, cell)
    assert read_snapshot(path) is None
    write_snapshot(snapshot, path)
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[: len(whole) // 2], b"PK" + whole[2:200], b"no archive"):
        path.write_bytes(broken)
        assert read_snapshot(path) is None
    path.write_bytes(whole)
    assert read_snapshot(path) is not None
    monkeypatch.setattr("bench.run.snapshot.VERSION", 2)
    assert read_snapshot(path) is None


def test_rows_to_show_hide_something_and_take_turns() -> None:
    observed = np.zeros((40, 2), dtype=bool)
    observed[:20, 0] = True  # hide the second
    observed[20:24, 1] = True  # hide the first
    observed[24:30] = True  # hide nothing
    present = np.ones((40, 2), dtype=bool)
    chosen = rows_to_show(observed, present, 100, np.random.default_rng(0))
    assert sorted(chosen) == list(range(40))
    assert all((chosen[2 * turn] < 20) != (chosen[2 * turn + 1] < 20) for turn in range(4))
    assert set(chosen[:24]) == set(range(24)) and set(chosen[24:34]) == set(range(30, 40))
    again = rows_to_show(observed, present, 7, np.random.default_rng(0))
    np.testing.assert_array_equal(again, chosen[:7])


def test_a_method_that_does_not_take_the_data_is_refused(registry: Registry) -> None:
    (job,) = jobs_for(registry, ("column_median",), "toy_pictures", seeds=(0,))
    with pytest.raises(BenchError, match="'column_median' on toy_pictures: does not take image attributes"):
        make_snapshot(job, Machine())
