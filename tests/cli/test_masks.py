"""Masks as files: written, run under, known by their content, and refused in one line where they do not fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiment.mask_file import read_mask
from bench.run.store import Store
from tests.cli.conftest import Call

GRID = ("--methods", "mean_mode", "--datasets", "toy_mixed", "--plugins", "plugins", "--preset", "smoke")
WRITE = ("masks", "toy_mixed", "--plugins", "plugins", "--mechanism", "mar", "--ratio", 0.3, "--seed", 1)


def test_a_written_mask_is_that_of_a_run_and_gives_its_rows_the_same_holes(place: Path, call: Call) -> None:
    assert call("run", *GRID, "--mechanisms", "mar", "--ratios", 0.3, "--seeds", "1", "--store", "drawn")[0] == 0
    code, out, _ = call(*WRITE, "--output", "mask.npz")
    assert code == 0
    (drawn,) = Store(place / "drawn").rows()
    mask = read_mask(place / "mask.npz")
    assert drawn.mask_hash == hashlib.sha256(np.packbits(mask.observed).tobytes()).hexdigest()
    assert drawn.mask_hash in out and not list(place.glob("*.partial"))
    assert call("run", *GRID, "--masks", "mask.npz", "--seeds", "1,2", "--store", "read")[0] == 0
    rows = sorted(Store(place / "read").rows(), key=lambda row: row.cell.seed)
    assert [row.cell.seed for row in rows] == [1, 2] and not any(row.warnings for row in rows)
    for row in rows:
        assert row.mask_hash == drawn.mask_hash
        assert row.ratios["all"] == pytest.approx(1 - mask.observed.mean())
        assert row.cell.mechanism_parameters == {"sha256": mask.sha256}
    # The mask and the split of seed 1 are those of the drawn one, so the scores are too.
    assert rows[0].metrics == drawn.metrics
    # Once read, the mask is found again by its hash, whatever became of the file.
    (place / "mask.npz").unlink()
    code, out, _ = call("verify", "--store", "read", "--plugins", "plugins", "--sample", 2)
    assert code == 0 and "2 came out again" in out


def test_a_mask_is_known_by_its_names_as_well_as_by_its_holes(place: Path, call: Call) -> None:
    """A file whose names were wrong and are mended is another one, not the copy that was kept of it."""
    assert call(*WRITE, "--output", "mask.npz")[0] == 0
    mask = read_mask(place / "mask.npz")
    wrong = replace(mask, attributes=(*mask.attributes[:-1], "misspelt"))
    wrong.write(place / "wrong.npz")
    assert wrong.sha256 != mask.sha256
    assert call("run", *GRID, "--masks", "wrong.npz", "--seeds", "1", "--store", "store")[0] == 1
    assert call("run", *GRID, "--masks", "mask.npz", "--seeds", "1", "--store", "store")[0] == 0


def test_mask_file_stands_in_no_list_of_mechanisms(place: Path, call: Call) -> None:
    assert "mask_file" not in call("list")[1]


SOUND: Mapping[str, Any] = {"observed": np.eye(3, dtype=np.bool_), "attributes": np.array(["a", "b", "c"])}


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"attributes": SOUND["attributes"]}, "has no array 'observed'"),
        ({**SOUND, "observed": np.ones(3, dtype=np.bool_)}, "a mask is [rows, attributes]"),
        ({**SOUND, "observed": np.full((3, 3), 0.5)}, "a mask holds true (or 1) where a value is shown"),
        ({**SOUND, "observed": np.full((3, 3), 2)}, "a mask holds true (or 1) where a value is shown"),
        ({**SOUND, "attributes": np.array(["a", "b"])}, "the 3 names of the mask's columns"),
        ({**SOUND, "observed": np.ones((3, 3), dtype=np.bool_)}, "hides nothing"),
        ({**SOUND, "observed": np.zeros((3, 3), dtype=np.bool_)}, "hides everything"),
    ],
)
def test_what_is_no_mask_is_refused(arrays: Mapping[str, Any], told: str, place: Path, call: Call) -> None:
    np.savez(place / "mask.npz", **dict(arrays))
    code, _, err = call("run", *GRID, "--masks", "mask.npz", "--store", "store")
    assert code == 2 and told in err and err.count("\n") == 1
    assert not (place / "store").exists()


def test_a_mask_of_another_table_or_beside_a_mechanism_is_refused(place: Path, call: Call) -> None:
    np.savez(place / "mask.npz", **dict(SOUND))
    for more in (("--mechanisms", "mcar"), ("--ratios", "0.5")):
        code, _, err = call("run", *GRID, *more, "--masks", "mask.npz", "--store", "store")
        assert code == 2 and "it replaces --mechanisms and --ratios" in err
    code, _, err = call("run", "toy.toml", "--masks", "mask.npz", "--store", "store")
    assert code == 2 and "grid of your own" in err
    assert not (place / "store").exists()
    # A user's data set is loaded in a worker: its rows fail with the reason.
    code, out, _ = call("run", *GRID, "--masks", "mask.npz", "--store", "store")
    assert code == 1 and "the mask is of another table: it has an attribute 'a'" in out
