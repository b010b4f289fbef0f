"""Images of digits and clothes: how their files are read, and how two collections are paired into rows.

IDX is the format of MNIST and FashionMNIST: a header (type, number of dimensions, their lengths) and the bytes. SVHN
comes as MATLAB files. An image of the tables made here is one row of uint8 pixels, [n, width].
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.schema import AnyArray, Attribute, IntArray, Schema
from bench.data.table import Table
from bench.errors import BenchError
from bench.files.cache import decompressed
from bench.files.npz import read_npz

if TYPE_CHECKING:
    from bench.data.source import Fetched

DIGITS = tuple("0123456789")
MNIST_SHAPE = (28, 28)
SVHN_SHAPE = (32, 32, 3)

#: The layout of a CSV file with the 784 pixels and the label of an image in each line.
PIXELS_AND_LABEL = "pixels and label"
#: The layout of npz files with images ``X`` [n, 32, 32, 3] and their digits ``y`` [n] in 0..9.
IMAGES_AND_DIGITS = "images and digits"

#: The names of the four files of MNIST and FashionMNIST.
IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


@dataclass(frozen=True, eq=False)
class Images:
    """Images [n, width] as uint8, their labels [n] in 0..9, and which are the official test part, if there is one."""

    pixels: AnyArray
    labels: IntArray
    test: AnyArray | None = None

    def parts(self) -> dict[str, Images]:
        """Return the official parts ``train`` and ``test``; without them, all images are ``train``."""
        if self.test is None:
            return {"train": self}
        rows = {"train": ~self.test, "test": self.test}
        return {part: Images(self.pixels[own], self.labels[own]) for part, own in rows.items()}


# Readers


def read_idx(path: Path) -> AnyArray:
    """Return the uint8 array of an IDX file, plain or gzip. Raises BenchError if it is damaged or something else."""
    try:
        raw = decompressed(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BenchError(f"{path} is damaged ({error}); delete it and fetch it again") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise BenchError(f"{path} is not an IDX file of bytes")
    start = 4 + 4 * raw[3]
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    if len(raw) - start != math.prod(shape):
        raise BenchError(f"{path} says that it holds {shape} bytes but does not; delete it and fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def read_images(files: Mapping[str, Fetched]) -> Images:
    """Return the images of a collection whose files are those of ``IDX_NAMES``, or MNIST's subset.

    Raises BenchError if labels and images do not fit together.
    """
    subset = next((fetched for fetched in files.values() if fetched.source.format == PIXELS_AND_LABEL), None)
    if subset is not None:
        return _read_mnist_subset(subset.path)
    paths = [files[name].path for name in IDX_NAMES]
    train_pixels, train_labels, test_pixels, test_labels = (read_idx(path) for path in paths)
    for path, pixels, labels in ((paths[0], train_pixels, train_labels), (paths[2], test_pixels, test_labels)):
        if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
            raise BenchError(f"{path}: images of shape {pixels.shape} do not go with {len(labels)} labels")
    pixels = np.concatenate([train_pixels, test_pixels])
    test = np.arange(len(pixels)) >= len(train_pixels)
    labels = _digits(np.concatenate([train_labels, test_labels]), paths[1])
    return Images(pixels.reshape(len(pixels), -1), labels, test)


def _read_mnist_subset(path: Path) -> Images:
    """Return the 5000 MNIST images of a CSV file with 784 pixels and the label in each line."""
    from bench.files.text import read_numbers

    numbers = read_numbers(path)
    if numbers.shape[1] != 785:
        raise BenchError(f"{path} has {numbers.shape[1]} columns instead of 784 pixels and a label")
    return Images(numbers[:, :-1].astype(np.uint8), _digits(numbers[:, -1], path))


def read_svhn(path: Path) -> Images:
    """Return the images and labels of one MATLAB file of SVHN; its label 10 is the digit 0.

    Images come as ``X`` [32, 32, 3, n] and leave as rows of 3072 pixels (height, width, colour). Raises BenchError.
    """
    from scipy.io import loadmat

    try:
        found: dict[str, Any] = loadmat(str(path), variable_names=["X", "y"])
        pixels, labels = found["X"], found["y"]
    except (KeyError, ValueError, TypeError, OSError, NotImplementedError, zlib.error) as error:
        raise BenchError(f"{path} is not a MATLAB file with the images X and labels y of SVHN ({error})") from None
    if pixels.dtype != np.uint8 or pixels.shape[:-1] != SVHN_SHAPE or labels.size != pixels.shape[-1]:
        found_shape = f"{pixels.dtype} {pixels.shape} with {labels.size} labels"
        raise BenchError(f"{path}: X is {found_shape}, not uint8 {SVHN_SHAPE} and one label per image")
    rows = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).reshape(pixels.shape[-1], -1)
    codes = labels.astype(np.int64).ravel()
    return Images(rows, _digits(np.where(codes == 10, 0, codes), path))


def read_svhn_part(fetched: Fetched) -> Images:
    """Return what there is of a part of SVHN: all of it, or the digits of its subset. Raises BenchError."""
    if fetched.source.format != IMAGES_AND_DIGITS:
        return read_svhn(fetched.path)
    return joined([_read_svhn_subset(path) for path in (fetched.path, *fetched.more)])


def _read_svhn_subset(path: Path) -> Images:
    """Return the images and digits of one npz file. Raises BenchError."""
    arrays = read_npz(path, ("X", "y"))
    pixels, labels = arrays["X"], arrays["y"]
    if pixels.dtype != np.uint8 or pixels.shape[1:] != SVHN_SHAPE or labels.shape != pixels.shape[:1]:
        found = f"{pixels.dtype} {pixels.shape} with labels {labels.shape}"
        raise BenchError(f"{path}: X is {found}, not uint8 (n, {', '.join(map(str, SVHN_SHAPE))}) and one label each")
    if labels.dtype.kind not in "iu":
        raise BenchError(f"{path}: its labels are {labels.dtype}, not whole numbers")
    return Images(pixels.reshape(len(pixels), -1), _digits(labels, path))


def joined(parts: Sequence[Images]) -> Images:
    """Return the images of several collections as one, without official parts."""
    return Images(np.concatenate([part.pixels for part in parts]), np.concatenate([part.labels for part in parts]))


def _digits(labels: AnyArray, path: Path) -> IntArray:
    """Return labels as whole numbers 0..9. Raises BenchError if one is something else."""
    codes = labels.astype(np.int64)
    if len(codes) and (codes.min() < 0 or codes.max() > 9):
        raise BenchError(f"{path} has a label outside 0..9")
    return codes


# Tables


def paired_rows(
    first: IntArray, second: IntArray, pairs: Sequence[tuple[int, int]], rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Pair the rows of two collections by their labels, at random, each row at most once.

    For each pair of labels there are as many as the smaller class has rows; those left over of the larger one are not
    used. The same collection may stand on both sides if no label does. Returns two arrays of row numbers, shuffled.
    """
    left, right = [], []
    for first_label, second_label in pairs:
        own, other = (
            rng.permutation(np.flatnonzero(labels == label))
            for labels, label in ((first, first_label), (second, second_label))
        )
        count = min(len(own), len(other))
        left.append(own[:count])
        right.append(other[:count])
    order = rng.permutation(sum(len(rows) for rows in left))
    return np.concatenate(left)[order], np.concatenate(right)[order]


def image_and_label(images: Images, shape: tuple[int, ...], levels: Sequence[str]) -> Table:
    """Return a table of two attributes: the image, and its label as a category."""
    schema = Schema((Attribute("image", "image", shape=shape), Attribute("label", "categorical", levels=tuple(levels))))
    present = np.ones((len(images.labels), 2), dtype=np.bool_)
    return Table(schema, images.labels[:, None].astype(np.float64), {"image": images.pixels}, present, images.test)


def two_images(
    attributes: tuple[Attribute, Attribute],
    parts: Sequence[tuple[AnyArray, AnyArray]],
    split_sizes: tuple[int, int, int] | None = None,
) -> Table:
    """Return a table of two images from the pairs of the training part and, if there is one, the official test part.

    ``split_sizes`` are those of its random split, of a table without official parts that names them.
    """
    counts = [len(first) for first, _ in parts]
    rows = sum(counts)
    blocks = {a.name: np.concatenate([part[side] for part in parts]) for side, a in enumerate(attributes)}
    test = None if len(counts) == 1 else np.arange(rows) >= counts[0]
    present = np.ones((rows, 2), dtype=np.bool_)
    return Table(Schema(attributes), np.zeros((rows, 0)), blocks, present, test, split_sizes)
