"""Tiny images of digits in the formats of MNIST and SVHN, and the sizes of the real ones."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from scipy.io import savemat

from bench.api import AnyArray, Fetched, Source
from bench.files.images import IDX_NAMES

#: Images of each digit: MNIST's two parts, SVHN's two parts.
MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)


MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)


SVHN_TRAIN = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)


SVHN_TEST = (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)


DIGIT_PAIRS = ((0, 9), (1, 8), (2, 7), (3, 6), (4, 5))


SAME_DIGIT = tuple((digit, digit) for digit in range(10))


def idx_bytes(array: AnyArray) -> bytes:
    """Return an array of bytes in IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def tiny_digits(counts: tuple[int, ...], first_id: int) -> tuple[AnyArray, AnyArray]:
    """Return images [n, 28, 28] and their labels, ``counts`` of each digit; pixels 0 and 1 hold a unique number."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
    ids = first_id + np.arange(len(labels))
    images = np.zeros((len(labels), 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1], images[:, 14, 14] = ids % 256, ids // 256, 200 + labels
    order = np.random.default_rng(first_id).permutation(len(labels))
    return images[order], labels[order]


def write_idx(folder: Path, train: tuple[AnyArray, AnyArray], test: tuple[AnyArray, AnyArray]) -> dict[str, Fetched]:
    """Write the four files of a collection and return them as fetched ones."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in zip(IDX_NAMES, (*train, *test), strict=True):
        (folder / name).write_bytes(gzip.compress(idx_bytes(array), mtime=0))
        files[name] = Fetched(folder / name, Source("mirror", name))
    return files


def ids_of(block: AnyArray, shape: tuple[int, ...] = (28, 28)) -> AnyArray:
    """Return the unique numbers and the digits of tiny images."""
    images = block.reshape(len(block), *shape).astype(int)
    if len(shape) == 3:
        images = images[..., 0]
    return np.stack([images[:, 0, 0] + 256 * images[:, 0, 1], images[:, 14, 14] - 200], axis=1)


def svhn_images(digits: AnyArray, first_id: int = 0) -> AnyArray:
    """Return noise [n, 32, 32, 3] as images of ``digits``; red pixels hold a unique number and the digit."""
    images = np.random.default_rng(len(digits)).integers(0, 100, (len(digits), 32, 32, 3), dtype=np.uint8)
    ids = first_id + np.arange(len(digits))
    images[:, 0, 0, 0], images[:, 0, 1, 0], images[:, 14, 14, 0] = ids % 256, ids // 256, 200 + digits
    return images


def write_svhn(path: Path, digits: AnyArray, compress: bool = True) -> AnyArray:
    """Write SVHN's format, where X is [32, 32, 3, n] and the digit 0 has label 10; return the images [n, 32, 32, 3]."""
    images = svhn_images(digits)
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
    savemat(path, {"X": np.moveaxis(images, 0, -1), "y": labels}, do_compression=compress)
    return images
