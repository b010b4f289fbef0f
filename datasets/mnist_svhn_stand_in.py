"""A SYNTHETIC stand-in for MNIST+SVHN: coloured digits made from MNIST take the place of the house numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.api import AnyArray, Attribute, Dataset, Fetched, IntArray, Table, generator
from bench.files.images import MNIST_SHAPE, SVHN_SHAPE, Images, read_images, two_images
from bench.files.shared import MNIST_FILES_OR_SUBSET

#: How many images of each digit SVHN has in its training and its test part: the rows are as many as in the real one.
SVHN_COUNTS = {
    "train": (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
    "test": (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595),
}
MARGIN = (SVHN_SHAPE[0] - MNIST_SHAPE[0]) // 2
#: Images made at a time, to bound the memory.
CHUNK = 256


class MnistSvhnStandIn(Dataset):
    """No house number is in it: it shows that the methods run if SVHN cannot be had, and compares with no paper.

    A row is an MNIST digit, and another MNIST image of the same digit in two random colours with shading and noise, of
    the size of SVHN's images. The rows are as many as those of the real pairing, or all 5000 of MNIST's subset.
    """

    name = "mnist_svhn_stand_in"
    summary = "SYNTHETIC stand-in for MNIST+SVHN (66068 rows): the house numbers are coloured MNIST digits, not SVHN"
    kinds = ("image",)
    licence = "none is stated by the authors of MNIST"
    stands_in_for = "mnist_svhn"
    files = MNIST_FILES_OR_SUBSET

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return an MNIST image and a synthetic coloured one for each row."""
        attributes = (Attribute("mnist", "image", shape=MNIST_SHAPE), Attribute("svhn", "image", shape=SVHN_SHAPE))
        pairs = []
        for part, images in read_images(files).parts().items():
            rng = generator("stand-in", self.name, part)
            own, other = same_digit(images, SVHN_COUNTS[part], rng)
            made = [coloured(images.pixels[other[at : at + CHUNK]], rng) for at in range(0, len(other), CHUNK)]
            pairs.append((images.pixels[own], np.concatenate(made)))
        return two_images(attributes, pairs)


def same_digit(images: Images, limits: tuple[int, ...], rng: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Return shuffled row numbers of two images of the same digit each, at most ``limits`` rows per digit."""
    own, other = [], []
    for digit, limit in enumerate(limits):
        rows = rng.permutation(np.flatnonzero(images.labels == digit))
        own.append(rows[:limit])
        other.append(rng.permutation(rows)[:limit])
    order = rng.permutation(sum(len(rows) for rows in own))
    return np.concatenate(own)[order], np.concatenate(other)[order]


def coloured(pixels: AnyArray, rng: np.random.Generator) -> AnyArray:
    """Return [n, 3072] colour images of the digits in ``pixels`` [n, 784]: two colours, shading and noise."""
    count, (height, width, channels) = len(pixels), SVHN_SHAPE
    ink = np.zeros((count, height, width, 1), dtype=np.float32)
    ink[:, MARGIN:-MARGIN, MARGIN:-MARGIN, 0] = pixels.reshape(count, *MNIST_SHAPE) / np.float32(255)
    ground = rng.uniform(40, 215, (count, 1, 1, channels)).astype(np.float32)
    # The digit is lighter or darker than its ground by at least 40 of 255 levels, or it could not be read.
    contrast = rng.uniform(40, 120, (count, 1, 1, channels)) * rng.choice((-1.0, 1.0), (count, 1, 1, 1))
    slope = rng.uniform(-30, 30, (count, 2, 1, 1, 1)).astype(np.float32)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None]
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None]
    image = ground + ink * contrast.astype(np.float32) + slope[:, 0] * down + slope[:, 1] * across
    image += rng.integers(-12, 13, image.shape, dtype=np.int8)
    bytes_of_image: AnyArray = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return bytes_of_image.reshape(count, -1)
