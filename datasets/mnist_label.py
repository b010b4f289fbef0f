"""MNIST with its labels: a handwritten digit, and which one it is.

LeCun, Bottou, Bengio and Haffner: *Gradient-based learning applied to document recognition*, 1998.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.api import Dataset, Fetched, Table
from bench.files.images import DIGITS, MNIST_SHAPE, image_and_label, read_images
from bench.files.shared import MNIST_FILES_OR_SUBSET


class MnistLabel(Dataset):
    """60000 training and 10000 test rows of an image and its label, which is an attribute like any other.

    The subset is 5000 of the training rows, without official test rows: a random 20 % are the test part then.
    """

    name = "mnist_label"
    summary = "MNIST+label: 70000 rows, an image of 28x28 pixels and its digit"
    kinds = ("image", "categorical")
    licence = "none is stated by the authors of MNIST"
    content_hash = "2baee22679e96a737117f41ccd499a757cba7ea371a8f8cd398cb2d9208f9769"
    subset_content_hashes = ("5eb6ebfd43c4aaa08e4a9578e9c441432dda3f1ab03e8c2413ce95f7f0258087",)
    files = MNIST_FILES_OR_SUBSET

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return image and label of each row."""
        return image_and_label(read_images(files), MNIST_SHAPE, DIGITS)
