"""Rows of images and labels as a grid of thumbnails."""

from __future__ import annotations

import numpy as np

from bench.api import Attribute, Schema, Values
from bench.data.schema import AnyArray
from bench.report.figures.grid import (
    Hidden,
    Picture,
    ShownRows,
    Words,
    imputation_lines,
    sample_lines,
    thumbnails_that_fit,
)

PICTURED = Schema(
    (
        Attribute("label", "categorical", levels=("T-shirt/top", "bag")),
        Attribute("left", "image", shape=(2, 3)),
        Attribute("weight", "numeric"),
        Attribute("right", "image", shape=(2, 2, 3)),
    )
)


def pictured(labels: list[int], seed: int) -> Values:
    rng = np.random.default_rng(seed)
    blocks: dict[str, AnyArray] = {"left": rng.random((2, 6)), "right": rng.random((2, 12))}
    return Values(np.array([[label, 2.5 + seed] for label in labels], dtype=float), blocks)


def shown_rows() -> ShownRows:
    observed = np.array([[False, True, True, False], [True, False, True, True]])
    return ShownRows(PICTURED, pictured([0, 1], 0), observed, np.ones((2, 4), dtype=bool))


def test_thumbnails_show_the_truth_what_is_hidden_and_what_is_right() -> None:
    rows = shown_rows()
    right, wrong = pictured([0, 1], 1), pictured([1, 0], 2)
    truth, observed, ours, theirs = imputation_lines(rows, {"ours": right, "theirs": wrong}, 5)
    assert [line.label for line in (truth, observed, ours, theirs)] == ["truth", "observed", "ours", "theirs"]
    left, far, label, weight = truth.thumbnails[0]
    assert isinstance(left, Picture) and isinstance(far, Picture) and isinstance(label, Words)
    np.testing.assert_array_equal(left.pixels, rows.truth.blocks["left"][0].reshape(2, 3))
    assert far.pixels.shape == (2, 2, 3)
    assert label == Words("T-shirt/top") and weight == Words("2.5")
    assert observed.thumbnails[0][1:3] == (Hidden((2, 2, 3)), Words("?"))
    assert observed.thumbnails[1][0] == Hidden((2, 3))
    # Only what was hidden, in its place.
    assert (
        ours.thumbnails[0][0] is None
        and ours.thumbnails[0][2] == Words("T-shirt/top", True)
        and ours.thumbnails[0][3] is None
    )
    assert theirs.thumbnails[0][2] == Words("bag", False)
    assert isinstance(ours.thumbnails[1][0], Picture) and ours.thumbnails[1][1:] == (None, None, None)
    assert Words("T-shirt/top", False).lines == ("✗ T-shirt/", "top")
    bands = imputation_lines(rows, {"ours": right}, 1)
    assert [line.label for line in bands] == ["truth", "observed", "ours"] * 2 and bands[3].apart


def test_samples_show_what_was_observed_the_truth_and_each_draw() -> None:
    rows, draws = shown_rows(), [pictured([1, 1], 3), pictured([0, 0], 4)]
    first, second = sample_lines(rows, draws)
    assert len(first.thumbnails) == 4
    assert [type(part) for part in first.thumbnails[0]] == [Picture, Words]
    assert [type(part) for part in first.thumbnails[1]] == [Picture, Words] and first.thumbnails[1][1] == Words(
        "T-shirt/top"
    )
    assert [part[1] for part in first.thumbnails[2:]] == [Words("bag", False), Words("T-shirt/top", True)]
    assert [len(parts) for parts in second.thumbnails] == [3, 1, 1, 1]
    assert thumbnails_that_fit(PICTURED) < thumbnails_that_fit(Schema(PICTURED.attributes[1:]))
