"""Kept arrays: the table they were written from, mapped, until a file changes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.api import AnyArray, Attribute, Dataset, Fetched, File, Incomplete, Schema, Source, Table
from bench.data.view import device_store
from bench.files import arrays
from bench.files.fetch import load_table


class Counted(Dataset):
    """A data set of random images, numbers, features and strata that counts its loads."""

    name = "counted"
    kinds = ("image", "features", "numeric")
    files = (File("seed.txt", (Source("mirror", "seed.txt"),)),)
    loads = 0

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return what the seed in the file draws."""
        type(self).loads += 1
        rng = np.random.default_rng(int(files["seed.txt"].path.read_text()))
        schema = Schema(
            (
                Attribute("a/b", "image", shape=(2, 3)),
                Attribute("x", "numeric"),
                Attribute("kind", "categorical", levels=("u", "v")),
                Attribute("f", "features", shape=(4,)),
            )
        )
        blocks: dict[str, AnyArray] = {
            "a/b": rng.integers(0, 256, (9, 6), dtype=np.uint8),
            "f": rng.normal(size=(9, 4)).astype(np.float32),
        }
        scalars = np.stack([rng.normal(size=9), rng.integers(0, 2, 9)], axis=1)
        scalars[0, 0] = np.nan
        return Table(
            schema, scalars, blocks, rng.random((9, 4)) < 0.8, rng.random(9) < 0.5, (5, 2, 2), np.arange(9) % 2
        )


def is_mapped(array: AnyArray | None) -> bool:
    """Return whether an array is a view of a memory map."""
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_kept_arrays_are_the_table_until_a_file_changes(cache: Path, use_mirror: Path) -> None:
    (use_mirror / "seed.txt").write_text("1")
    Counted.loads = 0
    first, second = load_table(Counted()), load_table(Counted())
    assert Counted.loads == 1
    fresh = Counted().load({"seed.txt": Fetched(use_mirror / "seed.txt", Source("mirror", "seed.txt"))})
    for loaded in (first, second):
        table = loaded.table
        assert (loaded.variant, loaded.source) == ("full", "mirror seed.txt")
        assert table.schema == fresh.schema
        assert "content_hash" in vars(table)
        assert table.content_hash == fresh.content_hash == replace(table).content_hash
        for name, block in fresh.blocks.items():
            np.testing.assert_array_equal(table.blocks[name], block)
            assert table.blocks[name].dtype == block.dtype
            assert is_mapped(table.blocks[name]) and type(table.blocks[name]) is np.ndarray
        np.testing.assert_array_equal(table.scalars, fresh.scalars)
        np.testing.assert_array_equal(table.present, fresh.present)
        np.testing.assert_array_equal(table.test, fresh.test)
        np.testing.assert_array_equal(table.strata, fresh.strata)
        assert table.split_sizes == (5, 2, 2)
    (use_mirror / "seed.txt").write_text("22")
    Counted.loads = 0
    changed = load_table(Counted()).table
    assert Counted.loads == 1
    assert changed.content_hash != first.table.content_hash
    assert len(list((cache / "counted").glob("arrays-*"))) == 1
    # The first table's files are gone, and what was mapped from them stays readable.
    np.testing.assert_array_equal(first.table.blocks["f"].shape, (9, 4))


def test_writing_to_a_kept_array_changes_no_file(cache: Path, use_mirror: Path) -> None:
    (use_mirror / "seed.txt").write_text("1")
    table = load_table(Counted()).table
    before = table.blocks["a/b"].copy()
    table.blocks["a/b"][:] = 0
    np.testing.assert_array_equal(load_table(Counted()).table.blocks["a/b"], before)


@pytest.mark.parametrize("damage", ["table.json", "block-0.npy", "scalars.npy", "all"])
def test_damaged_arrays_are_made_again(cache: Path, use_mirror: Path, damage: str) -> None:
    (use_mirror / "seed.txt").write_text("1")
    expected = load_table(Counted()).table.content_hash
    (folder,) = (cache / "counted").glob("arrays-*")
    for path in folder.iterdir():
        if damage in (path.name, "all"):
            path.write_bytes(path.read_bytes()[:-3])
    Counted.loads = 0
    table = load_table(Counted()).table
    assert Counted.loads == 1
    assert replace(table).content_hash == expected
    assert load_table(Counted()).table.content_hash == expected
    assert Counted.loads == 1


def test_arrays_of_another_key_are_not_read(tmp_path: Path) -> None:
    table = Table(Schema((Attribute("x", "numeric"),)), np.zeros((2, 1)), {}, np.ones((2, 1), dtype=bool))
    arrays.write(tmp_path, "a" * 64, table, {"variant": "full"})
    kept = arrays.read(tmp_path, "a" * 64)
    assert kept is not None and kept[1] == {"variant": "full"}
    assert arrays.read(tmp_path, "b" * 64) is None
    # The folder is named after the beginning of the key; the whole of it must agree.
    assert arrays.read(tmp_path, "a" * 16 + "b" * 48) is None


def test_replicas_share_the_mapped_images(cache: Path, use_mirror: Path) -> None:
    (use_mirror / "seed.txt").write_text("1")
    table = load_table(Counted()).table
    rows = np.tile(np.arange(9), (9, 1))
    view = Incomplete(table, rows, np.ones((9, 9, 4), dtype=bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view.tensors("cpu")
        view.replica(3).tensors("cpu")
    _, blocks = device_store(table, "cpu")
    for name, tensor in blocks.items():
        assert tensor.data_ptr() == table.blocks[name].ctypes.data
