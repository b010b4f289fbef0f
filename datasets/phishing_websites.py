"""UCI Phishing Websites: 11055 websites by 30 categories.

Mohammad, Thabtah and McCluskey: *An assessment of features related to phishing websites using an automated technique*,
2012; UCI data set 327.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Source, read_rows, typed_frame

if TYPE_CHECKING:
    import pandas as pd

TWO = ("-1", "1")
THREE = ("-1", "0", "1")

#: The names of the ARFF file, its misspellings included, so that they can be found there.
COLUMNS = {
    "having_IP_Address": TWO,
    "URL_Length": THREE,
    "Shortining_Service": TWO,
    "having_At_Symbol": TWO,
    "double_slash_redirecting": TWO,
    "Prefix_Suffix": TWO,
    "having_Sub_Domain": THREE,
    "SSLfinal_State": THREE,
    "Domain_registeration_length": TWO,
    "Favicon": TWO,
    "port": TWO,
    "HTTPS_token": TWO,
    "Request_URL": TWO,
    "URL_of_Anchor": THREE,
    "Links_in_tags": THREE,
    "SFH": THREE,
    "Submitting_to_email": TWO,
    "Abnormal_URL": TWO,
    "Redirect": ("0", "1"),
    "on_mouseover": TWO,
    "RightClick": TWO,
    "popUpWidnow": TWO,
    "Iframe": TWO,
    "age_of_domain": TWO,
    "DNSRecord": TWO,
    "web_traffic": THREE,
    "Page_Rank": TWO,
    "Google_Index": TWO,
    "Links_pointing_to_page": THREE,
    "Statistical_report": TWO,
    "Result": TWO,
}


class PhishingWebsites(Dataset):
    """The 30 categories of each website; the target is phishing (-1) or legitimate (1)."""

    name = "phishing_websites"
    summary = "UCI Phishing Websites: 11055 rows, 30 categorical"
    kinds = ("categorical",)
    licence = "CC BY 4.0 (UCI)"
    target = "Result"
    content_hash = "faa56bc1416127eca87becdebc1fbecf48023351854f26b92362da42cc6380b7"
    files = (
        File(
            "Training Dataset.arff",
            (
                Source(
                    "mirror",
                    "phishing_websites/Training_Dataset.arff",
                    sha256="0dfcd84ccdedca6e1be2ce26452c1f1089ac3f839b9a1b0ab1cdcf6d895f9a70",
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/327/phishing+websites.zip",
                    member="Training Dataset.arff",
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/00327/Training%20Dataset.arff",
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the 30 categories and the result."""
        return typed_frame(read_rows(files["Training Dataset.arff"].path), COLUMNS)
