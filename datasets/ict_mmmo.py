"""ICT-MMMO: 340 film reviews on video, as acoustic, visual and textual features averaged over the words.

Woellmer et al.: *YouTube movie reviews: sentiment analysis in an audio-visual context*, 2013; features of MFN (Zadeh
et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
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
    mean_over_steps,
)

ORIGIN = "https://raw.githubusercontent.com/pliang279/MFN/b0453fb6e21b581c796246a0c32a6551f2028c1b/new_data/mmmo"
CHECKSUMS = {
    "audio_train.h5": "4c37e59d75bf1fe17baf6d607e4e7eef228b9b16a145f64c9624d2fc8fcb1666",
    "audio_valid.h5": "37b39911ee143d712e36d1fcba5b41400d2b40bef9de3da419de7344486eb8e9",
    "audio_test.h5": "1d701dc193b3e4404e35b97165fd33af19aff50d193a744488ec4c87ea0d6c44",
    "video_train.h5": "2b7d7d442c1ef7aae0c06d19a845baeb5f8685ee844900f30d6cce643da42452",
    "video_valid.h5": "43a44a63e369bca2fc86c54fa42d9b3b30c03657b8f7287bdae60341f4767d8c",
    "video_test.h5": "d0bfeb4a0ca249ac766b9c426146e4765b783463112e78665231a82c7b02f176",
    "text_valid_emb.h5": "ff332edc367c23495f0a0194fc5a2b83d217565a6a9ab402f98cbbb60bdc3b95",
    "text_test_emb.h5": "8f3bcab7716c482c209c393098fabe6362fa66b58eb9de5ebd4529c2cb53476b",
}
FILES = tuple(
    File(
        name,
        (Source("mirror", f"ict_mmmo/{name}", sha256=sha256), Source("url", f"{ORIGIN}/{name}", sha256=sha256)),
        "ict_mmmo",
    )
    for name, sha256 in CHECKSUMS.items()
)
#: Attribute -> the beginning and the end of its files' names, and how many features they hold.
MODALITIES = {"acoustic": ("audio", "", 74), "visual": ("video", "", 36), "textual": ("text", "_emb", 300)}
#: The parts the files come in, and how many videos each has.
PARTS = {"train": 220, "valid": 40, "test": 80}
#: Magnitude beyond which an acoustic value is an error of the extraction.
LARGEST_SOUND = 255.0


class IctMmmo(Dataset):
    """All 340 videos; text exists for 120 of them and is neither shown nor scored in the others.

    Those 120 are the validation and test parts of the files, so the files' own parts cannot serve: the split into
    220, 40 and 80 is random, with the videos that have text shared out in proportion. Features are averages over the
    words. Acoustic values are limited to +-255 first, and their averages divided by the 99th percentile of their
    magnitude over all videos and limited to +-1; that unit is part of the data. The rest is unchanged.
    The paper's features and units are others, so its numbers do not compare.
    """

    name = "ict_mmmo"
    summary = "ICT-MMMO: 340 rows, acoustic (74), visual (36) and (for 120 rows) textual (300) features"
    kinds = ("features",)
    licence = "the features: MIT, by their repository"
    content_hash = "ebf9aa2d421fd8f32d40e275dd3e076f8148f46436a1e19406ffe59712e7778c"
    files = FILES

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return the averaged features of all videos."""
        blocks, has_text = _read(files, PARTS)
        sizes = (PARTS["train"], PARTS["valid"], PARTS["test"])
        return _table(blocks, has_text, split_sizes=sizes, strata=has_text.astype(np.int64))


class IctMmmoComplete(Dataset):
    """The 120 videos of ICT-MMMO that have text, split at random like a table without official test rows.

    Features are those of ``ict_mmmo``, with the acoustic unit taken from these videos.
    """

    name = "ict_mmmo_complete"
    summary = "ICT-MMMO, the 120 rows with text: acoustic (74), visual (36) and textual (300) features"
    kinds = ("features",)
    licence = "the features: MIT, by their repository"
    content_hash = "ac0ce0dcfa87f33125e2d84c1b1c458bf108edceb9b75e1b38a45ed6fa1b0f69"
    files = tuple(file for file in FILES if "train" not in file.name)

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return the averaged features of the videos with text."""
        return _table(*_read(files, {part: PARTS[part] for part in ("valid", "test")}))


def _read(files: Mapping[str, Fetched], parts: Mapping[str, int]) -> tuple[dict[str, FloatArray], Any]:
    """Return the features of each modality, 0 if a part has none, and [n]: whether the row's part has text."""
    blocks: dict[str, FloatArray] = {}
    has_text: list[bool] = []
    for part, rows in parts.items():
        has_text += [f"text_{part}_emb.h5" in files] * rows
    for attribute, (stem, end, width) in MODALITIES.items():
        means: list[FloatArray] = []
        for part, rows in parts.items():
            fetched = files.get(f"{stem}_{part}{end}.h5")
            if fetched is None:
                means.append(np.zeros((rows, width)))
                continue
            sequences = _sequences(fetched, rows, width)
            if attribute == "acoustic":
                sequences = np.clip(sequences, -LARGEST_SOUND, LARGEST_SOUND)
            means.append(mean_over_steps(sequences))
        values = np.concatenate(means)
        if attribute == "acoustic":
            values = np.clip(in_units_of(values, values, 99), -1.0, 1.0)
        blocks[attribute] = values.astype(np.float32)
    return blocks, np.array(has_text, dtype=np.bool_)


def _sequences(fetched: Fetched, rows: int, width: int) -> FloatArray:
    """Return the sequences [rows, steps, width] of a file. Raises BenchError on another shape or a missing value."""
    try:
        with h5py.File(fetched.path, "r") as opened:
            sequences: FloatArray = opened["d1"][:].astype(np.float64)
    except (KeyError, OSError, ValueError) as error:
        raise BenchError(f"{fetched.path} is not an HDF5 file with the data set d1 ({error})") from None
    if sequences.ndim != 3 or (len(sequences), sequences.shape[2]) != (rows, width):
        raise BenchError(f"{fetched.path} holds {sequences.shape}, not {rows} sequences of {width} features")
    if not np.isfinite(sequences).all():
        raise BenchError(f"{fetched.path} holds values that are NaN or infinite")
    return sequences


def _table(blocks: Mapping[str, FloatArray], has_text: Any, **split: Any) -> Table:
    """Return the table of the three modalities, of which the textual one is present if there is text."""
    schema = Schema(tuple(Attribute(name, "features", shape=(width,)) for name, (_, _, width) in MODALITIES.items()))
    everywhere = np.ones(len(has_text), dtype=np.bool_)
    present = np.stack([everywhere, everywhere, has_text], axis=1)
    return Table(schema, np.zeros((len(has_text), 0)), blocks, present, **split)
