"""MNIST+MNIST on tiny files and on the real ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.api import Dataset, Table, generator
from bench.files.cache import LoadedTable
from bench.problem.build import split_rows
from tests.pictures import DIGIT_PAIRS, ids_of, tiny_digits, write_idx


def test_mnist_mnist_on_tiny_files(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    files = write_idx(tmp_path, tiny_digits((4, 1, 2, 3, 1, 6, 2, 9, 2, 3), 0), tiny_digits((2,) * 10, 500))
    table = dataset("mnist_mnist").load(files)
    assert isinstance(table, Table) and table.test is not None
    assert (int((~table.test).sum()), int(table.test.sum())) == (3 + 1 + 2 + 2 + 1, 10)
    first, second = ids_of(table.blocks["first"]), ids_of(table.blocks["second"])
    assert set(zip(first[:, 1].tolist(), second[:, 1].tolist(), strict=True)) == set(DIGIT_PAIRS)
    assert len({*first[:, 0], *second[:, 0]}) == 2 * len(table)
    assert table.scalars.shape == (len(table), 0)


def test_mnist_mnist_has_the_published_sizes(real: Callable[[str], LoadedTable]) -> None:
    table = real("mnist_mnist").table
    split = split_rows(table, generator("split", "mnist_mnist", 0))
    assert (len(split.train), len(split.validation), len(split.test)) == (23257, 5814, 4832)
    assert table.schema.names == ("first", "second")
    rows = {row.tobytes() for block in table.blocks.values() for row in block}
    # MNIST holds hardly any image twice: so many distinct ones mean that none is used twice.
    assert len(rows) > 2 * len(table) - 20


def test_mnist_mnist_loads_the_second_time_at_once(real: Callable[[str], LoadedTable]) -> None:
    real("mnist_mnist")
    began = time.perf_counter()
    loaded = real("mnist_mnist")
    assert len(loaded.table.content_hash) == 64
    assert loaded.table.blocks["first"].shape == (33903, 784)
    assert time.perf_counter() - began < 0.5
