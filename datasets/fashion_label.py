"""FashionMNIST with its labels: a piece of clothing, and what it is.

Xiao, Rasul and Vollgraf: *Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms*, 2017.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.api import Dataset, Fetched, Source, Table
from bench.files.images import MNIST_SHAPE, image_and_label, read_images
from bench.files.shared import idx_files

CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

#: SHA-256 of each file and of what it holds. The Debian package has the same content under another gzip header.
CHECKSUMS = {
    "train-images-idx3-ubyte.gz": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    ),
    "train-labels-idx1-ubyte.gz": (
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    ),
    "t10k-images-idx3-ubyte.gz": (
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    ),
    "t10k-labels-idx1-ubyte.gz": (
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
}


class FashionLabel(Dataset):
    """60000 training and 10000 test rows of an image and its label, which is an attribute like any other."""

    name = "fashion_label"
    summary = "FashionMNIST+label: 70000 rows, an image of 28x28 pixels and one of 10 kinds of clothing"
    kinds = ("image", "categorical")
    licence = "MIT"
    content_hash = "c60a2414bab9f781102bf57ff61fa598ebd23958da666ad3ad33c776fe08a546"
    files = idx_files(
        "fashion_mnist",
        CHECKSUMS,
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        (Source("deb", "dataset-fashion-mnist", member="usr/share/datasets/fashion-mnist/"),),
    )

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return image and label of each row."""
        return image_and_label(read_images(files), MNIST_SHAPE, CLOTHES)
