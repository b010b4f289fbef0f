"""The paired comparison of two methods: its interval, and that it compares like with like."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from tests.toys import make_cell, make_result


@pytest.fixture
def benchmark(benchmarks: Callable[[str], ModuleType]) -> ModuleType:
    return benchmarks("paired")


def test_the_interval_is_that_of_a_paired_t_test(benchmark: ModuleType) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 1.0, 12), rng.normal(1.2, 1.0, 12)
    expected = stats.ttest_rel(first, second).confidence_interval(0.95)
    mean, low, high = benchmark.interval(list(first - second))
    assert math.isclose(mean, np.mean(first) - np.mean(second))
    assert math.isclose(low, expected.low) and math.isclose(high, expected.high)
    assert benchmark.interval([0.5]) == (0.5, -math.inf, math.inf)


def test_only_seeds_that_both_have_are_compared(benchmark: ModuleType) -> None:
    values = {("a", 0): 1.0, ("a", 1): 3.0, ("a", 2): 9.0, ("b", 1): 1.0, ("b", 0): 1.0}
    rows = [
        make_result(make_cell(method=name, seed=seed), metrics={"all": {"nrmse_std": value}})
        for (name, seed), value in values.items()
    ]
    rows.append(make_result(make_cell(method="b", seed=2, mechanism="mar"), metrics={"all": {"nrmse_std": 5.0}}))
    found = benchmark.paired(rows, "rain", "mcar", "nrmse_std", "a", "b")
    assert (found.seeds, found.first_mean, found.second_mean, found.mean) == (2, 2.0, 1.0, 1.0)
    assert "no clear difference" in found.line()
    with pytest.raises(ValueError, match="no seed has pfc"):
        benchmark.paired(rows, "rain", "mcar", "pfc", "a", "b")


def test_it_runs_on_real_data_and_prints_the_difference(
    benchmark: ModuleType,
    mirror: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    code = benchmark.main(
        [
            "--json",
            "--datasets=yeast",
            "--preset=smoke",
            "--seeds=2",
            "--first=vsae",
            "--second=mean_mode",
            f"--store={tmp_path / 'store'}",
        ]
    )
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert code == 0 and line["seeds"] == 2
    assert line["low"] < line["mean"] < line["high"]
    assert math.isclose(line["mean"], line["first_mean"] - line["second_mean"], rel_tol=1e-9)
