"""MNIST+SVHN on tiny files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.api import Dataset, Fetched, Source, Table
from tests.pictures import ids_of, tiny_digits, write_idx, write_svhn


def test_mnist_svhn_on_tiny_files(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    counts = (3, 1, 2, 4, 1, 1, 2, 2, 1, 5)
    files = write_idx(tmp_path, tiny_digits(counts, 0), tiny_digits((1,) * 10, 500))
    svhn_digits = {"train": np.repeat(np.arange(10), (2,) * 10), "test": np.repeat(np.arange(10), (1, 3) * 5)}
    for part, digits in svhn_digits.items():
        path = tmp_path / f"{part}_32x32.mat"
        write_svhn(path, digits)
        files[path.name] = Fetched(path, Source("mirror", path.name))
    data = dataset("mnist_svhn")
    table = data.load(files)
    assert isinstance(table, Table)
    assert [(a.name, a.kind, a.shape) for a in table.schema.attributes] == [
        ("mnist", "image", (28, 28)),
        ("svhn", "image", (32, 32, 3)),
    ]
    assert {name: (block.dtype.type, block.shape[1]) for name, block in table.blocks.items()} == {
        "mnist": (np.uint8, 784),
        "svhn": (np.uint8, 3072),
    }
    assert table.test is not None
    train_rows = sum(min(count, 2) for count in counts)
    assert (int((~table.test).sum()), int(table.test.sum())) == (train_rows, 10)
    mnist, svhn = ids_of(table.blocks["mnist"]), ids_of(table.blocks["svhn"], (32, 32, 3))
    np.testing.assert_array_equal(mnist[:, 1], svhn[:, 1])
    assert (mnist[table.test, 0] >= 500).all() and (mnist[~table.test, 0] < 500).all()
    assert len(set(mnist[:, 0])) == len(table)
    for rows in (table.test, ~table.test):
        assert len(set(svhn[rows, 0])) == int(rows.sum())
    again = data.load(files)
    assert isinstance(again, Table) and again.content_hash == table.content_hash
