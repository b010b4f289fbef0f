"""The comparison of variants of a method: a data set counts once, and a tie is one within a standard error."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def benchmark(benchmarks: Callable[[str], ModuleType]) -> ModuleType:
    return benchmarks("variants")


def test_log_ratios_are_paired_by_seed_and_averaged_over_data_sets(benchmark: ModuleType) -> None:
    def outcome(dataset: str, variant: str, *best: float) -> object:
        return benchmark.Outcome("vsae", dataset, variant, best, best, best, 1.0)

    outcomes = [
        outcome("a", "complete", 0.9, 0.8, 0.7, 0.5),
        outcome("a", "without", 1.0, 0.8, 0.7, 1.0),
        outcome("b", "complete", 0.5, 0.5, 0.5, 0.5),
        outcome("b", "without", 1.0, 1.0, 1.0, 0.4),
    ]
    found = benchmark.compared(outcomes, "complete", "without", slice(0, 3))
    assert found.by_dataset == pytest.approx({"a": math.log(0.9) / 3, "b": math.log(0.5)})
    assert found.mean == pytest.approx((math.log(0.9) / 3 + math.log(0.5)) / 2)
    # Of two values the standard error is half of their distance.
    assert found.error == pytest.approx((math.log(0.9) / 3 - math.log(0.5)) / 2) and not found.is_tie
    later = benchmark.compared(outcomes, "complete", "without", slice(3, None))
    assert later.by_dataset == pytest.approx({"a": math.log(0.5), "b": math.log(1.25)}) and later.is_tie
