"""MNIST+SVHN: the same digit twice, handwritten and as a photographed house number.

SVHN: Netzer, Wang, Coates, Bissacco, Wu and Ng: *Reading digits in natural images with unsupervised feature learning*,
2011.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.api import AnyArray, Attribute, Dataset, Fetched, Table, generator
from bench.files.images import (
    MNIST_SHAPE,
    SVHN_SHAPE,
    Images,
    joined,
    paired_rows,
    read_images,
    read_svhn_part,
    two_images,
)
from bench.files.shared import MNIST_FILES, SVHN_FILES

#: The digit of the MNIST image and that of the SVHN image.
PAIRS = tuple((digit, digit) for digit in range(10))
ATTRIBUTES = (Attribute("mnist", "image", shape=MNIST_SHAPE), Attribute("svhn", "image", shape=SVHN_SHAPE))
#: What share of the rows validate and test where only the subset can be had: those of the whole.
VALIDATION_SHARE, TEST_SHARE = 0.17, 0.15


class MnistSvhn(Dataset):
    """56068 training and 10000 test rows, paired within the official parts; every image is used at most once.

    Who is paired with whom is drawn once and part of the data, so it is the same for every seed. The subset of SVHN
    (9208 of its digits, which a mirror may have) is paired with digits of all of MNIST, and split at random into 6262,
    1565 and 1381 rows, in the proportions of the whole.
    """

    name = "mnist_svhn"
    summary = "MNIST+SVHN: 66068 rows, an image of 28x28 pixels and one of 32x32 in colour"
    kinds = ("image",)
    licence = "SVHN: non-commercial research; MNIST: none is stated by its authors"
    subset_content_hashes = ("d17f8733f9c2fef65c78e06789e2a42fd66db4a0bb240c4f16147e44db41e174",)
    files = (*MNIST_FILES, *SVHN_FILES)

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return the two images of each row."""
        mnist = read_images(files).parts()
        fetched = {part: files[f"{part}_32x32.mat"] for part in mnist}
        svhn = {part: read_svhn_part(own) for part, own in fetched.items()}
        if any(own.source.subset for own in fetched.values()):
            return self._subset(joined(list(mnist.values())), joined(list(svhn.values())))
        return two_images(ATTRIBUTES, [self._paired(part, mnist[part], svhn[part]) for part in mnist])

    def _paired(self, part: str, mnist: Images, svhn: Images) -> tuple[AnyArray, AnyArray]:
        """Return the images of the rows of a part, each with one of the same digit."""
        first, second = paired_rows(mnist.labels, svhn.labels, PAIRS, generator("pairing", self.name, part))
        return mnist.pixels[first], svhn.pixels[second]

    def _subset(self, mnist: Images, svhn: Images) -> Table:
        """Return the rows of a subset; its digits are of both official parts, too few to keep them apart."""
        pairs = self._paired("subset", mnist, svhn)
        rows = len(pairs[0])
        validation, test = round(VALIDATION_SHARE * rows), round(TEST_SHARE * rows)
        return two_images(ATTRIBUTES, [pairs], (rows - validation - test, validation, test))
