"""Rows that ship are whole: each is stored under the key of its own cell, and no other row has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.experiment.result import Result
from bench.experiment.tuned import TUNED

ROWS = Path(__file__).resolve().parents[2] / "results" / "rows"
#: How many rows ship with the suite.
SHIPPED = 1062


@pytest.fixture(scope="module")
def shipped() -> list[dict[str, Any]]:
    """Return the rows that ship with the suite."""
    if not ROWS.is_dir():
        pytest.skip("needs the checkout: these tests run from an installed copy")
    lines = [line for path in sorted(ROWS.glob("*/*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def test_every_shipped_row_has_the_key_of_its_cell(shipped: list[dict[str, Any]]) -> None:
    lost = [row["cell"] for row in shipped if Result.from_json(row).key != row["key"]]
    assert not lost, f"{len(lost)} of {len(shipped)}, such as {lost[0]}"
    assert len({row["key"] for row in shipped}) == SHIPPED


def test_the_rows_cover_every_kind_of_parameter_set(shipped: list[dict[str, Any]]) -> None:
    assert {row["cell"]["parameter_set"] for row in shipped} >= {"default", TUNED}
