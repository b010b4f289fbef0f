"""The card of a data set: golden for a small one, and true of those whose files are not here or that have none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.api import Attribute, BenchError, Dataset, Schema, Source, Table
from bench.files.card import card
from tests.sources import ROWS, SUBSET, WRONG, Server, content_hash_of_rows, place, sha256, toy

#: ``{...}`` stand for what differs from test to test.
GOLDEN = """\
toy: Four things
  rows         4: 2 train, 1 validation, 1 test
  numeric      1: size
  categorical  1, with these levels
    colour  3: blue, green, red
  missing      1 of 8 entries: size 1
  target       answer (categorical, 2 levels: no, yes), left out unless a table includes it
  content      sha256 {content} of the rows as read, as declared
  licence      public domain
  file         toy.csv
    sha256 {rows}
    sha256 {subset} (subset)
    mirror toys/toy.csv: found at {mirror}
    https://example.org/toy.zip: not downloaded
    https://example.org/part.csv (subset): not downloaded"""


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Give a data set of four rows, one of them with a hole, from a mirror, an archive or in part."""
    found = toy(
        Source("mirror", "toys/toy.csv", sha256=sha256(ROWS)),
        Source("url", "https://example.org/toy.zip", member="toy.csv", sha256=sha256(ROWS)),
        Source("url", "https://example.org/part.csv", sha256=sha256(SUBSET), subset=True),
        hashes=(content_hash_of_rows(ROWS, tmp_path),),
    )
    type(found).licence = "public domain"
    return found


def test_card_says_what_is_in_the_table_and_where_it_comes_from(use_mirror: Path, data: Dataset) -> None:
    place(use_mirror / "toys", {"toy.csv": ROWS})
    told = {"content": data.content_hash, "rows": sha256(ROWS), "subset": sha256(SUBSET)}
    golden = GOLDEN.format(**told, mirror=use_mirror / "toys" / "toy.csv")
    assert "\n".join(card(data, "Four things")) == golden


def test_without_its_files_a_card_says_how_to_get_them_and_uses_no_network(data: Dataset, server: Server) -> None:
    lines = card(data, "Four things")
    assert lines[1].startswith(
        "  rows         not known: data set 'toy' lacks files. Fetch it with `vsae-bench data --f"
    )
    assert lines[2] == "  licence      public domain"
    assert lines[-1] == "    https://example.org/part.csv (subset): not downloaded"
    assert not server.requests and not [line for line in lines if "numeric" in line]


def test_files_that_cannot_be_used_are_an_error(use_mirror: Path, data: Dataset, offline: None) -> None:
    place(use_mirror / "toys", {"toy.csv": WRONG})
    with pytest.raises(BenchError, match="neither its checksum nor its rows"):
        card(data, "Four things")


def test_images_have_their_shape_and_many_names_are_cut_short() -> None:
    class Pictures(Dataset):
        name = "pictures"
        kinds = ("image", "categorical")
        stands_in_for = "photographs"

        def load(self, files: object) -> Table:
            pixels = Attribute("picture", "image", shape=(2, 3))
            labels = [Attribute(f"label{n}", "categorical", tuple(map(str, range(12)))) for n in range(42)]
            present = np.ones((10, 43), dtype=np.bool_)
            present[:3, 5] = False
            blocks = {"picture": np.zeros((10, 6), dtype=np.uint8)}
            official = np.arange(10) >= 5
            return Table(Schema((pixels, *labels)), np.zeros((10, 42)), blocks, present, official)

    lines = card(Pictures(), "Ten pictures")
    assert lines[1] == "  rows         10: 4 train, 1 validation, 5 test"
    assert lines[2:4] == [
        "  categorical  42, with these levels",
        "    label0   12: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more",
    ]
    assert "    and 2 more" in lines and "    label40  12" not in "\n".join(lines)
    assert "  image        1: picture 2x3" in lines
    assert "  missing      3 of 430 entries: label4 3" in lines
    assert lines[-3:] == [
        "  stands for   photographs, if --stand-in is given; it is synthetic",
        "  licence      not stated",
        "  source       the plug-in itself, needs no file",
    ]


def test_what_was_assumed_is_on_the_card() -> None:
    class Texts(Dataset):
        name = "texts"
        target = "empty"

        def load(self, files: object) -> pd.DataFrame:
            return pd.DataFrame({"number": [str(n) for n in range(9)], "empty": [None] * 9})

    lines = card(Texts(), "Nine numbers")
    assert "  numeric      1: number" in lines
    assert "  target       empty, which has no values" in lines
    assert [line for line in lines if line.startswith("  note         column 'number' ")]
