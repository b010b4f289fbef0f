"""MNIST and FashionMNIST with labels: tiny files, MNIST's subset, and the floor on the real images."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.api import Dataset, Fetched, Incomplete, Table
from bench.files.cache import LoadedTable
from bench.plugins.registry import Registry, load
from bench.problem.metrics import reference_of, score
from tests.pictures import MNIST_TEST, ids_of, tiny_digits, write_idx


def test_label_sets_name_their_levels(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    files = write_idx(tmp_path, tiny_digits((2,) * 10, 0), tiny_digits((1,) * 10, 500))
    for name, level in (("mnist_label", "9"), ("fashion_label", "Ankle boot")):
        table = dataset(name).load(files)
        assert isinstance(table, Table) and table.test is not None
        image, label = table.schema.attributes
        assert (image.name, image.kind, image.shape) == ("image", "image", (28, 28))
        assert (label.name, label.kind, label.levels[9], len(label.levels)) == ("label", "categorical", level, 10)
        np.testing.assert_array_equal(table.scalars[:, 0], ids_of(table.blocks["image"])[:, 1])
        assert int(table.test.sum()) == 10


def test_subset_of_mnist_has_no_official_test_rows(dataset: Callable[[str], Dataset], tmp_path: Path) -> None:
    images, labels = tiny_digits((3,) * 10, 0)
    path = tmp_path / "subset-mnist_5k.csv.gz"
    lines = [",".join(map(str, [*image.ravel(), label])) for image, label in zip(images, labels, strict=True)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    data = dataset("mnist_label")
    source = next(s for s in data.files[0].sources if s.subset)
    files = {file.name: Fetched(path, source) for file in data.files}
    table = data.load(files)
    assert isinstance(table, Table) and table.test is None
    np.testing.assert_array_equal(table.blocks["image"], images.reshape(30, 784))
    np.testing.assert_array_equal(table.scalars[:, 0], labels)
    paired = dataset("mnist_mnist").load(files)
    assert isinstance(paired, Table) and paired.test is None and len(paired) == 15


@pytest.mark.parametrize(
    ("name", "mean_image", "class_image", "first_labels"),
    [
        ("mnist_label", 0.0675, 0.0529, [5, 0, 4, 1, 9]),
        ("fashion_label", 0.0866, 0.0524, [9, 0, 0, 3, 0]),
    ],
)
def test_floor_of_the_image_and_label_sets(
    real: Callable[[str], LoadedTable], name: str, mean_image: float, class_image: float, first_labels: list[int]
) -> None:
    """The error of the mean training image, and of the mean image of a known label, on the official test images."""
    table = real(name).table
    assert table.test is not None
    labels = table.scalars[:, 0].astype(int)
    assert labels[:5].tolist() == first_labels
    assert tuple(np.bincount(labels[table.test])) == (MNIST_TEST if name == "mnist_label" else (1000,) * 10)
    pixels, test = table.blocks["image"], np.flatnonzero(table.test)
    count = np.bincount(labels[~table.test]).astype(float)
    sums = np.stack([pixels[~table.test & (labels == k)].sum(axis=0, dtype=np.int64) for k in range(10)]) / 255
    overall, by_class = sums.sum(axis=0) / count.sum(), sums / count[:, None]
    found = np.zeros(2)
    for start in range(0, len(test), 2000):
        rows = test[start : start + 2000]
        truth = pixels[rows] / np.float64(255)
        found += [np.square(truth - fill).mean(axis=1).sum() for fill in (overall, by_class[labels[rows]])]
    assert found / len(test) == pytest.approx([mean_image, class_image], abs=0.00005)


@pytest.mark.parametrize(
    ("name", "mean_image", "class_image"), [("mnist_label", 0.0675, 0.0529), ("fashion_label", 0.0866, 0.0524)]
)
def test_the_class_mean_scores_the_known_numbers(
    real: Callable[[str], LoadedTable], registry: Registry, name: str, mean_image: float, class_image: float
) -> None:
    """Learned from complete training rows: the hidden test images with their label observed, and with it hidden too."""
    table = real(name).table
    assert table.test is not None
    train, test = np.flatnonzero(~table.test), np.flatnonzero(table.test)
    complete = Incomplete(table, train[None], np.ones((1, len(train), 2), dtype=bool))
    method = load(registry.method("class_mean"))()
    method.fit(complete, complete, 0)
    truth = table.take(test)
    for label_observed, expected in ((True, class_image), (False, mean_image)):
        observed = np.zeros((len(test), 2), dtype=bool)
        observed[:, 1] = label_observed
        values = method.impute(Incomplete(table, test[None], observed[None]), 1)
        scores = score(truth, values, observed, table.present[test], table.schema, reference_of(table))
        assert round(scores.attributes["image"]["mse"], 4) == expected
    prior = np.bincount(table.scalars[train, 0].astype(int)).argmax()
    assert scores.attributes["label"]["pfc"] == (truth.scalars[:, 0] != prior).mean()
