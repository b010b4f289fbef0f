"""Whether stored rows come out again: what a row says on an equal machine, and what on another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.experiment.result import Result
from bench.run.machine import environment
from bench.run.verify import judge, other_conditions
from tests.toys import make_cell, make_result

HERE = {
    "processor": "A 1",
    "instructions": "avx2 fma",
    "python": "3.11.7",
    "threads": 1,
    "device": "cpu",
    "packages": {"numpy": "2.4.6", "torch": "2.13.0"},
}
ELSEWHERE = {**HERE, "processor": "B 2", "packages": {"numpy": "2.4.6", "torch": "2.14.0"}}


def scored(value: float, seed: int = 0, **more: Any) -> Result:
    """Return a result with this score."""
    fields = {"metrics": {"all": {"pfc": value}}, "mask_hash": "m", "environment": HERE, **more}
    return make_result(make_cell(seed=seed), **fields)


SEEDS = [scored(0.5), scored(0.6, 1), scored(0.7, 2)]


@pytest.mark.parametrize(
    ("again", "good", "words"),
    [
        (scored(0.5), True, "equal to the bit"),
        (scored(0.5, environment=ELSEWHERE), True, "equal to the bit"),
        (scored(0.5 + 1e-16), False, "differs, on an equal machine"),
        (scored(0.5 + 1e-8, environment=ELSEWHERE), True, "equal up to rounding (other processor, torch)"),
        (scored(0.7, environment=ELSEWHERE), True, "within the spread: 2 SD over seeds, 3 allowed (other processor"),
        (scored(0.9, environment=ELSEWHERE), False, "beyond the spread: 4 SD over seeds, 3 allowed (other processor"),
        (scored(0.5, environment=ELSEWHERE, mask_hash="n"), False, "another mask"),
        (scored(0.5, status="failed"), False, "failed: it is so"),
    ],
)
def test_what_a_row_that_is_computed_again_says(again: Result, good: bool, words: str) -> None:
    verdict = judge(SEEDS[0], again, SEEDS)
    assert verdict.good is good and verdict.outcome.startswith(words)


def test_without_other_seeds_a_row_of_another_machine_says_nothing() -> None:
    others = [SEEDS[0], replace(SEEDS[1], cell=make_cell(seed=1, ratio=0.7)), scored(0.9, 2, status="failed")]
    verdict = judge(SEEDS[0], scored(0.7, environment=ELSEWHERE), others)
    assert verdict.good is None and "no other seeds" in verdict.outcome


def test_metrics_of_other_names_differ() -> None:
    again = scored(0.5, metrics={"all": {"mse": 0.5}}, environment=ELSEWHERE)
    assert judge(SEEDS[0], again, SEEDS).difference == float("inf")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"commit": "00ff", "memory_gib": 3.0}, []),
        ({"processor": "B"}, ["processor"]),
        ({"instructions": "avx512f"}, ["instructions"]),
        ({"kernel_settings": {"MKL_CBWR": "AVX2"}}, ["kernel settings"]),
        ({"threads": 2, "gpu": "H"}, ["gpu", "threads"]),
        ({"packages": {"numpy": "2.4.6"}}, ["torch"]),
        ({"packages": None}, ["packages"]),
    ],
)
def test_what_has_to_be_equal_for_equal_bits(changes: dict[str, Any], found: list[str]) -> None:
    assert other_conditions(HERE, {**HERE, **changes}) == found


def test_a_row_that_does_not_record_its_instructions_is_of_another_machine() -> None:
    older = {name: value for name, value in HERE.items() if name != "instructions"}
    assert other_conditions(older, HERE) == ["instructions (not recorded)"]


def test_a_machine_says_what_bits_depend_on() -> None:
    assert other_conditions(environment(), environment()) == []
    assert {"processor", "instructions", "python", "system", "packages"} <= environment().keys()
