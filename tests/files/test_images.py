"""Readers of IDX and MATLAB files, and the pairing of two collections."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from bench.api import AnyArray, BenchError, generator
from bench.files.images import paired_rows, read_idx, read_images, read_svhn
from tests.pictures import (
    DIGIT_PAIRS,
    MNIST_TEST,
    MNIST_TRAIN,
    SAME_DIGIT,
    SVHN_TEST,
    SVHN_TRAIN,
    idx_bytes,
    tiny_digits,
    write_idx,
    write_svhn,
)


@pytest.mark.parametrize("compressed", [True, False])
def test_idx_is_read(tmp_path: Path, compressed: bool) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 3, 2), dtype=np.uint8)
    content = idx_bytes(array)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compressed else content)
    np.testing.assert_array_equal(read_idx(path), array)


def test_damaged_idx_names_the_file(tmp_path: Path) -> None:
    content = idx_bytes(np.zeros((5, 3, 2), dtype=np.uint8))
    path = tmp_path / "images"
    for damaged, words in (
        (content[:-1], "does not"),
        (content + b"0", "does not"),
        (b"<html>", "not an IDX file"),
        (b"", "not an IDX"),
        (gzip.compress(content)[:-12], "is damaged"),
        (content[:7], "does not"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(BenchError, match=words) as caught:
            read_idx(path)
        assert str(path) in str(caught.value)


def test_images_and_labels_must_fit(tmp_path: Path) -> None:
    images, labels = tiny_digits((2,) * 10, 0)
    read = read_images(write_idx(tmp_path, (images, labels), (images[:3], labels[:3])))
    np.testing.assert_array_equal(read.labels, [*labels, *labels[:3]])
    assert read.test is not None and list(np.flatnonzero(read.test)) == [20, 21, 22]
    with pytest.raises(BenchError, match="do not go with 19 labels"):
        read_images(write_idx(tmp_path, (images, labels[1:]), (images, labels)))
    with pytest.raises(BenchError, match=r"outside 0\.\.9"):
        read_images(write_idx(tmp_path, (images, labels + 1), (images, labels)))


@pytest.mark.parametrize("compress", [True, False])
def test_svhn_is_read(tmp_path: Path, compress: bool) -> None:
    digits = np.array([0, 9, 1, 0, 5])
    images = write_svhn(tmp_path / "train_32x32.mat", digits, compress)
    read = read_svhn(tmp_path / "train_32x32.mat")
    np.testing.assert_array_equal(read.labels, digits)
    assert read.pixels.dtype == np.uint8
    np.testing.assert_array_equal(read.pixels.reshape(5, 32, 32, 3), images)


def test_file_that_is_not_svhn_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(b"<html>" * 40)
    with pytest.raises(BenchError, match="train_32x32.mat is not a MATLAB file"):
        read_svhn(path)
    savemat(path, {"X": np.zeros((2, 2))})
    with pytest.raises(BenchError, match="train_32x32.mat is not a MATLAB file"):
        read_svhn(path)
    savemat(path, {"X": np.zeros((32, 32, 3, 2), dtype=np.uint8), "y": np.zeros((3, 1))})
    with pytest.raises(BenchError, match="3 labels"):
        read_svhn(path)


def labels_of(counts: tuple[int, ...]) -> AnyArray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(10), counts))


@pytest.mark.parametrize(
    ("first", "second", "pairs", "total"),
    [
        (MNIST_TRAIN, MNIST_TRAIN, DIGIT_PAIRS, 29071),
        (MNIST_TEST, MNIST_TEST, DIGIT_PAIRS, 4832),
        (MNIST_TRAIN, SVHN_TRAIN, SAME_DIGIT, 56068),
        (MNIST_TEST, SVHN_TEST, SAME_DIGIT, 10000),
    ],
)
def test_pairs_are_as_many_as_the_smaller_class_has(
    first: tuple[int, ...], second: tuple[int, ...], pairs: tuple[tuple[int, int], ...], total: int
) -> None:
    left, right = labels_of(first), labels_of(second)[::-1]
    if first == second:
        right = left
    a, b = paired_rows(left, right, pairs, generator("test"))
    assert len(a) == len(b) == total
    found = Counter(zip(left[a].tolist(), right[b].tolist(), strict=True))
    assert found == {pair: min(first[pair[0]], second[pair[1]]) for pair in pairs}
    for rows in ([*a, *b],) if first == second else (a, b):
        assert len(set(rows)) == len(rows)
    again = paired_rows(left, right, pairs, generator("test"))
    np.testing.assert_array_equal(again, (a, b))
    # Neither the order of the rows nor who is paired with whom follows the order of the files.
    assert abs(np.corrcoef(np.arange(total), left[a])[0, 1]) < 0.05
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05 + abs(np.corrcoef(left[a], right[b])[0, 1])
