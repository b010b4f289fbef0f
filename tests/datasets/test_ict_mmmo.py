"""ICT-MMMO on written files and on the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.api import BenchError, Dataset, Fetched, Source, Table, generator
from bench.files.cache import LoadedTable
from bench.problem.build import split_rows


def write_ict(folder: Path, rng: np.random.Generator) -> dict[str, Fetched]:
    """Write random features in the layout of ICT-MMMO and return the files as fetched ones."""
    files: dict[str, Fetched] = {}
    for stem, end, width in (("audio", "", 74), ("video", "", 36), ("text", "_emb", 300)):
        for part, rows in (("train", 220), ("valid", 40), ("test", 80)):
            if (stem, part) == ("text", "train"):
                continue
            path = folder / f"{stem}_{part}{end}.h5"
            with h5py.File(path, "w") as opened:
                opened["d1"] = rng.normal(size=(rows, 3, width))
            files[path.name] = Fetched(path, Source("mirror", path.name))
    return files


def test_ict_mmmo_on_written_files(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    files = write_ict(tmp_path, np.random.default_rng(0))
    with h5py.File(files["audio_train.h5"].path, "r+") as opened:
        opened["d1"][0, :, 5] = 4000.0
    table = dataset("ict_mmmo").load(files)
    assert isinstance(table, Table)
    assert table.schema.names == ("acoustic", "visual", "textual")
    assert [a.width for a in table.schema.attributes] == [74, 36, 300]
    np.testing.assert_array_equal(table.present.sum(axis=0), [340, 340, 120])
    assert not table.present[:220, 2].any() and table.present[220:, 2].all()
    with h5py.File(files["text_valid_emb.h5"].path, "r") as opened:
        np.testing.assert_allclose(table.blocks["textual"][220:260], opened["d1"][:].mean(axis=1), rtol=1e-6)
    assert np.abs(table.blocks["acoustic"]).max() == 1.0
    # One saturated value does not set the unit: the others keep their spread.
    assert table.blocks["acoustic"][0, 5] == 1.0 and np.std(table.blocks["acoustic"][1:, 5]) > 0.2
    assert (table.test, table.split_sizes) == (None, (220, 40, 80))
    assert table.strata is not None
    np.testing.assert_array_equal(table.strata, table.present[:, 2])
    split = split_rows(table, generator("split"))
    assert [int(table.present[part, 2].sum()) for part in (split.train, split.validation, split.test)] == [78, 14, 28]

    complete = dataset("ict_mmmo_complete")
    assert {file.name for file in complete.files} == {name for name in files if "train" not in name}
    small = complete.load({name: fetched for name, fetched in files.items() if "train" not in name})
    assert isinstance(small, Table) and len(small) == 120 and small.present.all() and small.split_sizes is None
    np.testing.assert_array_equal(small.blocks["textual"], table.blocks["textual"][220:])


def test_ict_mmmo_names_a_file_of_another_shape(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    files = write_ict(tmp_path, np.random.default_rng(0))
    with h5py.File(tmp_path / "audio_valid.h5", "w") as opened:
        opened["d1"] = np.zeros((41, 20, 74))
    with pytest.raises(BenchError, match=r"audio_valid.h5 holds \(41, 20, 74\), not 40 sequences of 74 features"):
        dataset("ict_mmmo").load(files)
    (tmp_path / "audio_valid.h5").write_bytes(b"<html>")
    with pytest.raises(BenchError, match="audio_valid.h5 is not an HDF5 file"):
        dataset("ict_mmmo").load(files)


def test_real_ict_mmmo(real: Callable[[str], LoadedTable]) -> None:
    table = real("ict_mmmo").table
    np.testing.assert_array_equal(table.present.sum(axis=0), [340, 340, 120])
    for seed in range(3):
        split = split_rows(table, generator("split", "ict_mmmo", seed))
        assert (len(split.train), len(split.validation), len(split.test)) == (220, 40, 80)
        with_text = [int(table.present[part, 2].sum()) for part in (split.train, split.validation, split.test)]
        assert with_text == [78, 14, 28]
    assert all(np.isfinite(block).all() for block in table.blocks.values())
    assert np.abs(table.blocks["acoustic"]).max() == 1
    assert all(
        (block[table.present[:, i]].std(axis=0) > 0).sum() >= block.shape[1] - 1
        for i, block in enumerate(table.blocks.values())
    )
