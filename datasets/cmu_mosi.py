"""CMU-MOSI: 2199 spoken opinions from 93 videos, as acoustic, visual and textual features of each utterance.

Zadeh, Zellers, Pincus and Morency: *MOSI: multimodal corpus of sentiment intensity*, 2016; features of bc-LSTM
(Poria et al. 2017).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.api import (
    Attribute,
    BenchError,
    Dataset,
    Fetched,
    File,
    FloatArray,
    Schema,
    Source,
    Table,
    in_units_of,
    read_numbers,
)

ORIGIN = (
    "https://raw.githubusercontent.com/declare-lab/multimodal-deep-learning/"
    "111b401d867c14a1dcd930fd2b2ab58a5eca3f70/bc-LSTM/data"
)
CHECKSUMS = {
    "audio_train0.csv": "5435398a54664e7b00304587dc59ae84a438852be033c2a2fba779588624a2a1",
    "audio_test0.csv": "ddd17eeefd3d951d51d4e2ef8a0d132652d8161e1886f71eb7262b7a14bffff6",
    "video_train0.csv": "b6efc0413132d627efd06f67f1706830e775e90af9a75696f535c48dbc73f12f",
    "video_test0.csv": "cab836253d81100f59d533fa2ff65cd53c486be3ec9fd82203c5e25a7a77265f",
    "text_train0.csv": "cc327045db6cc361a08b4037b97bb24de4ddb5efb381468c4835cc4a60674668",
    "text_test0.csv": "a343e22272919d1384c2075dbcdd5fef5aa9f9366b0552a83f7c3147b64b047a",
}
#: Attribute -> what its files are named after, and how many features they hold; a label ends each line.
MODALITIES = {"acoustic": ("audio", 73), "visual": ("video", 100), "textual": ("text", 100)}
#: Magnitude beyond which an acoustic value is an error of the extraction.
LARGEST_SOUND = 255.0


class CmuMosi(Dataset):
    """1447 training and 752 test rows, split by video as the files are; the labels are not used.

    The features are another release than the paper's (one vector per utterance, not 20 aligned words), so its numbers
    do not compare. Acoustic values are limited to +-255, divided by the 99th percentile of their magnitude in the
    training rows and limited to +-1; visual ones are divided by their largest magnitude in the training rows; textual
    ones are unchanged. Features that never vary (32 visual ones) stay.
    """

    name = "cmu_mosi"
    summary = "CMU-MOSI: 2199 rows, acoustic (73), visual (100) and textual (100) features"
    kinds = ("features",)
    licence = "research use, by CMU; the features: MIT, by their repository"
    content_hash = "36b173930201fd0902d0aa2d8ad6ada3cbd1002c78825d8a311b5fd04d4a4319"
    files = tuple(
        File(
            name,
            (
                Source("mirror", f"cmu_mosi/{name}", sha256=sha256),
                Source("url", f"{ORIGIN}/{name.partition('_')[0]}/{name}", sha256=sha256),
            ),
        )
        for name, sha256 in CHECKSUMS.items()
    )

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return the features of each utterance."""
        blocks: dict[str, FloatArray] = {}
        counts: set[tuple[int, int]] = set()
        for attribute, (stem, width) in MODALITIES.items():
            train, test = (_features(files[f"{stem}_{part}0.csv"], width) for part in ("train", "test"))
            counts.add((len(train), len(test)))
            values = np.concatenate([train, test])
            if attribute == "acoustic":
                limited = np.clip(values, -LARGEST_SOUND, LARGEST_SOUND)
                values = np.clip(in_units_of(limited, limited[: len(train)], 99), -1.0, 1.0)
            elif attribute == "visual":
                values = in_units_of(values, train, 100)
            blocks[attribute] = values.astype(np.float32)
        if len(counts) != 1:
            raise BenchError(f"data set '{self.name}': its files have different numbers of rows, {sorted(counts)}")
        ((train_rows, test_rows),) = counts
        attributes = [Attribute(name, "features", shape=(width,)) for name, (_, width) in MODALITIES.items()]
        rows = train_rows + test_rows
        present = np.ones((rows, len(attributes)), dtype=np.bool_)
        return Table(Schema(tuple(attributes)), np.zeros((rows, 0)), blocks, present, np.arange(rows) >= train_rows)


def _features(fetched: Fetched, width: int) -> FloatArray:
    """Return the features of a file without the label at the end of each line. Raises BenchError on another width."""
    numbers = read_numbers(fetched.path)
    if numbers.shape[1] != width + 1:
        raise BenchError(f"{fetched.path} has {numbers.shape[1]} columns instead of {width} features and a label")
    return numbers[:, :-1]
