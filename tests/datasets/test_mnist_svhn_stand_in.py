"""The synthetic stand-in for MNIST+SVHN says what it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.api import Dataset, Table
from bench.experiment.reader import load_spec
from bench.plugins.registry import Registry
from tests.pictures import ids_of, tiny_digits, write_idx


def test_stand_in_says_that_it_is_synthetic(registry: Registry) -> None:
    info = registry.dataset("mnist_svhn_stand_in")
    assert info.summary.startswith("SYNTHETIC") and "not SVHN" in info.summary
    assert "stand_in" in info.name
    for number in range(7, 12):
        assert "stand_in" not in {cell.dataset for cell in load_spec(f"table{number:02d}").cells()}


def test_stand_in_on_tiny_files(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    files = write_idx(tmp_path, tiny_digits((3,) * 10, 0), tiny_digits((2,) * 10, 500))
    table = dataset("mnist_svhn_stand_in").load(files)
    assert isinstance(table, Table) and table.test is not None
    real = dataset("mnist_svhn")
    assert table.schema.names == ("mnist", "svhn")
    assert table.schema.attributes[1].shape == (32, 32, 3)
    assert real.kinds == ("image",)
    assert (int((~table.test).sum()), int(table.test.sum())) == (30, 20)
    digits = ids_of(table.blocks["mnist"])[:, 1]
    coloured = table.blocks["svhn"].reshape(-1, 32, 32, 3).astype(float)
    # The bright pixel in the middle of a tiny digit, moved by the margin, stands out from its ground in every colour.
    ground = np.median(coloured[:, 14:19, 14:19].reshape(len(table), 25, 3), axis=1)
    assert (np.abs(coloured[:, 16, 16] - ground) > 10).all(axis=1).mean() > 0.9
    assert Counter(digits.tolist()) == dict.fromkeys(range(10), 5)
