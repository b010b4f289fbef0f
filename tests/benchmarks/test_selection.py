"""The comparison of selection rules: what regret is, and that rules are judged on entries they have not seen."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from bench.data.view import Incomplete
from tests.classical import categorical_table


@pytest.fixture
def benchmark(benchmarks: Callable[[str], ModuleType]) -> ModuleType:
    return benchmarks("selection")


def test_regret_is_the_judges_error_at_the_choice_less_that_at_the_oracles(benchmark: ModuleType) -> None:
    oracle = np.array([[0.1], [0.9], [0.7], [0.8]])
    judge = np.array([[0.2], [0.95], [0.72], [0.85]])
    criterion = np.array([[0.0], [0.5], [np.nan], [0.4]])
    curves = benchmark.Curves(np.array([1, 2, 3, 4]), {"ours": criterion}, oracle, judge, 2, False, 9)
    # Epoch 1 is of the warm-up and epoch 3 has no finite criterion: epoch 4 is chosen. The oracle takes epoch 3.
    assert list(curves.chosen("ours")) == [3]
    np.testing.assert_allclose(curves.regret("ours"), [100 * (0.85 - 0.72)])
    np.testing.assert_allclose(curves.regret("last epoch"), [100 * (0.85 - 0.72)])
    kept = benchmark.Curves(np.array([1, 2, 3, 4]), {"ours": criterion[::-1]}, oracle, judge, 0, True, 9)
    assert list(kept.chosen("ours")) == [3]


def test_patience_ends_at_the_first_wait_that_is_too_long(benchmark: ModuleType) -> None:
    nothing = np.zeros((6, 2))
    criterion = np.array([[0.9, 0.9], [0.5, 0.5], [0.7, 0.4], [0.6, 0.6], [0.3, 0.6], [0.8, 0.2]])
    made = benchmark.Curves(np.arange(10, 70, 10), {"ours": criterion}, nothing, nothing, 0, False, 30)
    assert list(made.chosen("ours")) == [4, 5]
    # The first replica is better again at its 30th epoch of waiting, which still counts; the second one is, too.
    assert list(made.chosen("with patience")) == [4, 5]
    hasty = benchmark.Curves(np.arange(10, 70, 10), {"ours": criterion}, nothing, nothing, 0, False, 20)
    assert list(hasty.chosen("with patience")) == [1, 2]
    # Waiting begins when the warm-up is over.
    warm = benchmark.Curves(np.arange(10, 70, 10), {"ours": criterion}, nothing, nothing, 30, False, 20)
    assert list(warm.chosen("with patience")) == [4, 2]


def test_the_halves_share_the_hidden_entries_and_show_no_observed_one(benchmark: ModuleType) -> None:
    table = categorical_table(200)
    rng = np.random.default_rng(1)
    rows = np.tile(np.arange(200), (2, 1))
    view = Incomplete(table, rows, (rng.random((2, 200, len(table.schema))) < 0.5) & table.present[rows])
    first, second = benchmark.halves_of(view, table.present, 0)
    assert not (first.observed & second.observed).any()
    assert np.array_equal(first.observed | second.observed, table.present[rows] & ~view.observed)
    assert 0.4 < first.observed.sum() / (first.observed | second.observed).sum() < 0.6


def test_choices_that_differ_between_two_roundings_are_counted(benchmark: ModuleType) -> None:
    case = benchmark.Case("yeast", "vae", "mcar", 0.5, 3, None)
    here = benchmark.Outcome(case, {"ours": benchmark.Verdict([0.0] * 3, [4, 5, 6], 0.5)}, 1.0)
    again = benchmark.Outcome.from_line(here.as_line())
    assert again == here
    there = benchmark.Outcome(case, {"ours": benchmark.Verdict([0.0] * 3, [4, 9, 6], 0.5)}, 1.0)
    assert benchmark.flips_of(here, there) == {"ours": 1}
    (line,) = benchmark.flip_lines(case, {"ours": 1})
    assert line.endswith("1 of 3 choices flip")
