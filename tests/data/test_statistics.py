"""Statistics of observed entries, the floor's fill and the design matrix, against closed forms."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.api import Attribute, BoolArray, Incomplete, Schema, Table, Values
from bench.data.schema import AnyArray
from bench.data.statistics import ObservedStatistics, design_matrix, design_slices, fill_hidden, observed_statistics

NAN = np.nan

MIXED = Schema(
    (
        Attribute("picture", "image", shape=(1, 2)),
        Attribute("number", "numeric"),
        Attribute("colour", "categorical", levels=("blue", "green", "red")),
        Attribute("vector", "features", shape=(2,)),
        Attribute("equal", "numeric"),
        Attribute("answer", "categorical", levels=("no", "yes")),
    )
)


def mixed_table() -> Table:
    """Return four rows with every kind; 'equal' is constant at a number that rounding would blur."""
    scalars = np.array([[1.0, 2.0, 0.1, 1.0], [3.0, 2.0, 0.1, 0.0], [8.0, 1.0, 0.1, 1.0], [100.0, 0.0, 0.1, 0.0]])
    blocks: dict[str, AnyArray] = {
        "picture": np.array([[0, 255], [255, 255], [51, 0], [9, 9]], dtype=np.uint8),
        "vector": np.array([[1, 5], [3, 5], [7, 7], [70, 70]], dtype=np.float32),
    }
    return Table(MIXED, scalars, blocks, np.ones((4, 6), dtype=bool))


def mixed_view(observed: BoolArray) -> Incomplete:
    """Return all rows of the mixed table under one mask [4, 6]."""
    return Incomplete(mixed_table(), np.arange(4)[None], observed[None])


def first_three_rows() -> BoolArray:
    """Return a mask [4, 6] that hides the last row, and one vector more."""
    observed = np.ones((4, 6), dtype=bool)
    observed[3] = False
    observed[2, 3] = False
    return observed


@pytest.fixture
def statistics() -> ObservedStatistics:
    """Return the statistics of the mixed table without its last row."""
    return observed_statistics(mixed_view(first_three_rows()))


def test_the_statistics_are_those_of_the_observed_entries(statistics: ObservedStatistics) -> None:
    assert statistics.count.tolist() == [3, 3, 3, 2, 3, 3]
    assert statistics.mean[0] == 4.0
    assert statistics.standard_deviation[0] == pytest.approx(np.sqrt(26 / 3))
    assert (statistics.minimum[0], statistics.maximum[0]) == (1.0, 8.0)
    assert [counts.tolist() for counts in statistics.level_counts] == [[], [0, 1, 2], [], [1, 2]]
    assert statistics.mode.tolist() == [0, 2, 0, 1]
    assert statistics.fill.tolist() == [4.0, 2.0, 0.1, 1.0]
    assert statistics.block_mean["picture"] == pytest.approx([(0 + 1 + 0.2) / 3, 2 / 3])
    assert statistics.block_mean["vector"].tolist() == [2.0, 5.0]
    assert statistics.block_scale["vector"].tolist() == [1.0, 1.0]
    assert set(statistics.block_scale) == {"vector"}


def test_a_constant_column_has_deviation_zero_exactly_and_scale_one(statistics: ObservedStatistics) -> None:
    assert statistics.standard_deviation[2] == 0.0
    assert statistics.mean[2] == 0.1
    assert statistics.scale[2] == 1.0
    assert statistics.constant.tolist() == [False, False, True, False]


def test_ties_go_to_the_lowest_code() -> None:
    observed = np.ones((4, 6), dtype=bool)
    counted = observed_statistics(mixed_view(observed))
    assert counted.level_counts[3].tolist() == [2, 2]
    assert counted.mode[3] == 0


def test_what_was_never_observed_has_the_declared_fill() -> None:
    nothing = observed_statistics(mixed_view(np.zeros((4, 6), dtype=bool)))
    assert nothing.never_observed.all()
    assert nothing.constant.all()
    assert nothing.fill.tolist() == [0.0] * 4
    assert nothing.scale.tolist() == [1.0] * 4
    assert nothing.minimum.tolist() == nothing.maximum.tolist() == [0.0] * 4
    assert nothing.block_mean["picture"].tolist() == [0.0, 0.0]
    assert nothing.block_scale["vector"].tolist() == [1.0, 1.0]


def test_a_view_without_rows_has_the_declared_fill() -> None:
    empty = Incomplete(mixed_table(), np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0, 6), dtype=bool))
    assert observed_statistics(empty).fill.tolist() == [0.0] * 4


def test_each_replica_has_its_own_statistics() -> None:
    observed = np.stack([np.ones((4, 6), dtype=bool), first_three_rows()])
    view = Incomplete(mixed_table(), np.tile(np.arange(4), (2, 1)), observed)
    assert observed_statistics(view, 0).mean[0] == 28.0
    assert observed_statistics(view, 1).mean[0] == 4.0


def test_hidden_values_do_not_enter() -> None:
    before = observed_statistics(mixed_view(first_three_rows()))
    table = mixed_table()
    table.scalars[3] = [NAN, NAN, NAN, NAN]
    table.blocks["vector"][2:] = NAN
    after = observed_statistics(Incomplete(table, np.arange(4)[None], first_three_rows()[None]))
    for name in ("mean", "standard_deviation", "minimum", "maximum", "mode"):
        assert np.array_equal(getattr(before, name), getattr(after, name))
    assert np.array_equal(before.block_mean["vector"], after.block_mean["vector"])


def test_the_statistics_match_numpy_on_random_columns() -> None:
    rng = np.random.default_rng(0)
    schema = Schema(tuple(Attribute(f"a{i}", "numeric") for i in range(50)))
    numbers = rng.normal(rng.normal(size=50) * 100, 3.0, size=(200, 50))
    observed = rng.random((200, 50)) < 0.4
    found = observed_statistics(Incomplete(Table(schema, numbers, {}, observed), np.arange(200)[None], observed[None]))
    shown = np.where(observed, numbers, NAN)
    assert np.allclose(found.mean, np.nanmean(shown, axis=0), rtol=1e-12)
    assert np.allclose(found.standard_deviation, np.nanstd(shown, axis=0), rtol=1e-10)
    assert np.array_equal(found.minimum, np.nanmin(shown, axis=0))
    assert np.array_equal(found.maximum, np.nanmax(shown, axis=0))


def test_filling_replaces_hidden_entries_only(statistics: ObservedStatistics) -> None:
    observed = first_three_rows()
    view = mixed_view(observed)
    filled = fill_hidden(view.values(), observed, statistics)
    assert np.array_equal(filled.scalars[:3], mixed_table().scalars[:3])
    assert filled.scalars[3].tolist() == [4.0, 2.0, 0.1, 1.0]
    assert filled.blocks["vector"].dtype == np.float32
    assert filled.blocks["vector"][2:].tolist() == [[2.0, 5.0]] * 2
    assert np.array_equal(filled.blocks["picture"][:3], view.values().blocks["picture"][:3])
    assert filled.blocks["picture"][3] == pytest.approx([0.4, 2 / 3], rel=1e-6)


def test_the_design_matrix_is_standardised_and_one_hot(statistics: ObservedStatistics) -> None:
    assert design_slices(MIXED) == (slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 7))
    deviation = np.sqrt(26 / 3)
    expected = [
        [-3 / deviation, 0, 0, 1, 0, 0, 1],
        [-1 / deviation, 0, 0, 1, 0, 1, 0],
        [4 / deviation, 0, 1, 0, 0, 0, 1],
        [96 / deviation, 1, 0, 0, 0, 1, 0],
    ]
    assert design_matrix(mixed_table().scalars, statistics) == pytest.approx(np.array(expected))


def test_ten_thousand_columns_take_no_loop_over_columns() -> None:
    rng = np.random.default_rng(1)
    attributes = [Attribute(f"a{i}", "numeric") for i in range(5000)]
    attributes += [Attribute(f"b{i}", "categorical", levels=("x", "y", "z")) for i in range(5000)]
    scalars = np.hstack([rng.normal(size=(100, 5000)), rng.integers(0, 3, size=(100, 5000))])
    observed = rng.random((100, 10000)) < 0.5
    table = Table(Schema(tuple(attributes)), scalars, {}, np.ones_like(observed))
    started = time.perf_counter()
    found = observed_statistics(Incomplete(table, np.arange(100)[None], observed[None]))
    filled = fill_hidden(Values(scalars), observed, found)
    assert time.perf_counter() - started < 2.0
    assert np.isfinite(filled.scalars).all()
    codes = scalars[observed[:, 7000], 7000]
    assert found.level_counts[7000].tolist() == [np.count_nonzero(codes == k) for k in range(3)]


def test_statistics_of_many_rows_are_those_of_all_rows_at_once() -> None:
    rng = np.random.default_rng(0)
    rows = 9000
    schema = Schema((Attribute("image", "image", shape=(3,)), Attribute("vector", "features", shape=(3,))))
    image = rng.integers(0, 256, (rows, 3), dtype=np.uint8)
    vector = rng.normal(size=(rows, 3)).astype(np.float32)
    vector[:, 1] = 0.1
    table = Table(schema, np.zeros((rows, 0)), {"image": image, "vector": vector}, np.ones((rows, 2), dtype=bool))
    observed = rng.random((1, rows, 2)) < 0.6
    statistics = observed_statistics(Incomplete(table, np.arange(rows)[None], observed))
    seen, shown = observed[0, :, 0], vector[observed[0, :, 1]].astype(np.float64)
    np.testing.assert_allclose(statistics.block_mean["image"], image[seen].mean(axis=0) / 255, rtol=1e-6)
    np.testing.assert_allclose(statistics.block_mean["vector"], shown.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(statistics.block_scale["vector"][[0, 2]], shown.std(axis=0)[[0, 2]], rtol=1e-10)
    assert statistics.block_scale["vector"][1] == 1.0
