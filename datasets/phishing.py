"""UCI Website Phishing: 1353 websites by 9 categories.

Abdelhamid, Ayesh and Thabtah: *Phishing detection based associative classification data mining*, 2014; UCI data
set 379.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Source, read_rows, typed_frame

if TYPE_CHECKING:
    import pandas as pd

THREE = ("-1", "0", "1")

#: The names of the ARFF file, its misspelling included, so that they can be found there.
COLUMNS = {
    "SFH": THREE,
    "popUpWidnow": THREE,
    "SSLfinal_State": THREE,
    "Request_URL": THREE,
    "URL_of_Anchor": THREE,
    "web_traffic": THREE,
    "URL_Length": THREE,
    "age_of_domain": ("-1", "1"),
    "having_IP_Address": ("0", "1"),
    "Result": THREE,
}


class Phishing(Dataset):
    """The 9 categories of each website; the target is phishy (-1), suspicious (0) or legitimate (1).

    The subset is the 1250 rows that are not suspicious. Its file has the first eight columns as (x + 1) / 2 and 0 for
    phishy; both are mapped back.
    """

    name = "phishing"
    summary = "UCI Website Phishing: 1353 rows, 9 categorical"
    kinds = ("categorical",)
    licence = "CC BY 4.0 (UCI)"
    target = "Result"
    content_hash = "709d8a8ab6dae0b17a514e6f1a3c4fcbb8c8023b71c6720678e8bc23fba32387"
    subset_content_hashes = ("4b2f7eeeda0e5cc91312b86b215965abc6b7c17f48564330a5fb08592dd435f3",)
    files = (
        File(
            "PhishingData.arff",
            (
                Source(
                    "mirror",
                    "website_phishing/PhishingData.arff",
                    sha256="9de9749acfcf47e048fb4efa8e04d1fc18e7ea8be2640a31f368a5cc70da4ece",
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/379/website+phishing.zip",
                    member="PhishingData.arff",
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/00379/PhishingData.arff",
                ),
                Source(
                    "wheel",
                    "river==0.26.1",
                    member="river/datasets/phishing.csv.gz",
                    sha256="d8a6d44bd9672e852b8a53ad2c64229f81972158a77d981073a98b17c27af7a9",
                    archive_sha256="6a11e1a9749beec3ea138efeb0205b2c5cea8d424e9deee306c8980faec01bef",
                    subset=True,
                    format="halves",
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the 9 categories and the result."""
        fetched = files["PhishingData.arff"]
        if fetched.source.format != "halves":
            return typed_frame(read_rows(fetched.path), COLUMNS)
        signs = {"0": "-1", "0.0": "-1", "0.5": "0", "1": "1", "1.0": "1"}
        rows = [
            [*(signs[text] for text in first), address, signs[result]]
            for *first, address, result in read_rows(fetched.path, skip=1)
        ]
        return typed_frame(rows, COLUMNS)
