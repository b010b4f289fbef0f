"""MNIST+MNIST: two digits per row, in the pairs (0,9), (1,8), (2,7), (3,6) and (4,5).

LeCun, Bottou, Bengio and Haffner: *Gradient-based learning applied to document recognition*, 1998; paired as in the
VSAE paper.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.api import Attribute, Dataset, Fetched, Table, generator
from bench.files.images import MNIST_SHAPE, paired_rows, read_images, two_images
from bench.files.shared import MNIST_FILES_OR_SUBSET

#: The digit of the first image and that of the second.
PAIRS = ((0, 9), (1, 8), (2, 7), (3, 6), (4, 5))


class MnistMnist(Dataset):
    """29071 training and 4832 test rows, paired within the official parts; every image is used at most once.

    The first image has the first digit of its pair. Who is paired with whom is drawn once and part of the data, so it
    is the same for every seed. The subset (2500 rows) has no official test rows: a random 20 % are the test part then.
    """

    name = "mnist_mnist"
    summary = "MNIST+MNIST: 33903 rows, 2 images of 28x28 pixels"
    kinds = ("image",)
    licence = "none is stated by the authors of MNIST"
    content_hash = "86b4e7fd4abe7ea13e927eb16ed00ef55bc7f3c5bd8975d9f6e9c40c87c204f7"
    subset_content_hashes = ("37828af687a7b5d89be43e0b40a638d2969d5efc79f148262036dd8b0bcf11ec",)
    files = MNIST_FILES_OR_SUBSET

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return the two images of each row."""
        attributes = (Attribute("first", "image", shape=MNIST_SHAPE), Attribute("second", "image", shape=MNIST_SHAPE))
        pairs = []
        for part, images in read_images(files).parts().items():
            first, second = paired_rows(images.labels, images.labels, PAIRS, generator("pairing", self.name, part))
            pairs.append((images.pixels[first], images.pixels[second]))
        return two_images(attributes, pairs)
