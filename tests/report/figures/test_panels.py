"""Panels of numbers and categories hold the hidden entries."""

from __future__ import annotations

import numpy as np

from bench.api import Attribute, Schema, Values
from bench.report.figures.panels import ScoredRows, confusion_panels, draws_panels, scatter_panels


def scored_rows() -> ScoredRows:
    """Return five rows of a number, a category and a feature vector; features are kept of the rows 3, 0 and 4."""
    schema = Schema(
        (
            Attribute("x", "numeric"),
            Attribute("c", "categorical", levels=("a", "b", "d")),
            Attribute("f", "features", shape=(2,)),
        )
    )
    scalars = np.array([[1.0, 0], [2.0, 1], [3.0, 2], [4.0, 1], [5.0, 1]])
    truth = Values(scalars, {"f": np.array([[3.0, 5.0], [0.0, 1.0], [4.0, 6.0]])})
    hidden = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 1]], dtype=bool)
    return ScoredRows(schema, truth, hidden, np.ones((5, 3), dtype=bool), np.array([3, 0, 4]))


def test_panels_hold_the_hidden_entries_and_nothing_else() -> None:
    rows = scored_rows()
    imputed = Values(rows.truth.scalars + [10.0, 0], {"f": rows.truth.blocks["f"] - 1.0})
    imputed.scalars[:, 1] = [2, 1, 2, 0, 1]
    number, features = scatter_panels(rows, {"ours": imputed}, [0, 2])
    np.testing.assert_array_equal(number.truth, [1.0, 3.0, 4.0])
    np.testing.assert_array_equal(number.imputed["ours"], [11.0, 13.0, 14.0])
    assert features.name == "f (mean of 2)"
    np.testing.assert_array_equal(features.truth, [4.0, 5.0])
    np.testing.assert_array_equal(features.imputed["ours"], [3.0, 4.0])
    (confusion,) = confusion_panels(rows, {"ours": imputed}, [1])
    np.testing.assert_array_equal(confusion.counts, [[0, 0, 0], [1, 2, 0], [0, 0, 1]])


def test_draws_stand_beside_the_truth_of_their_own_row() -> None:
    rows = scored_rows()
    # The sampled rows are 3, 0 and 4, in this order.
    samples = [
        Values(np.array([[40.0 + k, 0], [10.0 + k, 0], [50.0, 1]]), {"f": np.full((3, 2), float(k))}) for k in range(4)
    ]
    panels = draws_panels(rows, rows.truth, samples, [0, 1, 2], 9)
    np.testing.assert_array_equal(panels[0].truth, [4.0, 1.0])
    np.testing.assert_array_equal(panels[0].draws, [[40.0 + k, 10.0 + k] for k in range(4)])
    np.testing.assert_array_equal(panels[1].truth, [1.0, 1.0])
    np.testing.assert_array_equal(panels[1].draws, [[0, 1]] * 4)
    np.testing.assert_array_equal(panels[2].truth, [4.0, 5.0])
    np.testing.assert_array_equal(panels[2].draws, [[k, k] for k in range(4)])
