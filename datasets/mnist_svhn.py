"""MNIST+SVHN: the same digit twice, handwritten and as a photographed house number.

SVHN: Netzer, Wang, Coates, Bissacco, Wu and Ng: *Reading digits in natural images with unsupervised feature learning*,
2011.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.api import Attribute, Dataset, Fetched, Table, generator
from bench.files.images import MNIST_SHAPE, SVHN_SHAPE, paired_rows, read_images, read_svhn, two_images
from bench.files.shared import MNIST_FILES, SVHN_FILES

#: The digit of the MNIST image and that of the SVHN image.
PAIRS = tuple((digit, digit) for digit in range(10))


class MnistSvhn(Dataset):
    """56068 training and 10000 test rows, paired within the official parts; every image is used at most once.

    Who is paired with whom is drawn once and part of the data, so it is the same for every seed.
    """

    name = "mnist_svhn"
    summary = "MNIST+SVHN: 66068 rows, an image of 28x28 pixels and one of 32x32 in colour"
    kinds = ("image",)
    files = (*MNIST_FILES, *SVHN_FILES)

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return the two images of each row."""
        attributes = (Attribute("mnist", "image", shape=MNIST_SHAPE), Attribute("svhn", "image", shape=SVHN_SHAPE))
        pairs = []
        for part, mnist in read_images(files).parts().items():
            svhn = read_svhn(files[f"{part}_32x32.mat"].path)
            first, second = paired_rows(mnist.labels, svhn.labels, PAIRS, generator("pairing", self.name, part))
            pairs.append((mnist.pixels[first], svhn.pixels[second]))
        return two_images(attributes, pairs)
