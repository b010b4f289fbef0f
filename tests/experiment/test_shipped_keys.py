"""Every shipped row is found again: today's registry, budgets and engine give its cell the key it is stored under."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import engine_version
from bench.experiment.cell import Cell
from bench.experiment.expand import resolved_parameters
from bench.experiment.presets import budget_for
from bench.experiment.tuned import TUNED, TunedParameters
from bench.plugins.registry import Registry

ROWS = Path(__file__).resolve().parents[2] / "results" / "rows"
#: How many rows ship with the suite.
SHIPPED = 504


@pytest.fixture(scope="module")
def shipped() -> list[dict[str, Any]]:
    """Return the rows that ship with the suite."""
    if not ROWS.is_dir():
        pytest.skip("needs the checkout: these tests run from an installed copy")
    lines = [line for path in sorted(ROWS.glob("*/*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line) for line in lines]


def remade(stored: dict[str, Any], registry: Registry, tuned: TunedParameters) -> Cell:
    """Return the cell that is asked for in the same words, with all that the suite itself adds taken from today."""
    method, dataset = registry.method(stored["method"]), registry.dataset(stored["dataset"])
    mechanism, overrides = registry.mechanism(stored["mechanism"]), stored["overrides"]
    chosen: dict[str, Any] = {}
    if stored["parameter_set"] == TUNED:
        chosen = tuned.chosen(method, dataset.name, stored["seed"], stored["content"])
    today = {
        "mechanism_version": mechanism.version,
        "mechanism_parameters": {**mechanism.parameters, **stored["mechanism_overrides"]},
        "method_version": method.version,
        "parameters": resolved_parameters(method, stored["parameter_set"], {**chosen, **overrides}),
        "budget": budget_for(stored["preset"], dataset.kinds).as_json(),
        "engine": engine_version(dataset.kinds),
    }
    return Cell.from_json({**stored, **today})


def test_every_shipped_key_is_found_again(shipped: list[dict[str, Any]]) -> None:
    registry, tuned = Registry.scan(), TunedParameters()
    lost = [row["cell"] for row in shipped if remade(row["cell"], registry, tuned).key != row["key"]]
    assert not lost, f"{len(lost)} of {len(shipped)}, such as {lost[0]}"
    assert len({row["key"] for row in shipped}) == SHIPPED


def test_the_rows_cover_every_kind_of_parameter_set(shipped: list[dict[str, Any]]) -> None:
    assert {row["cell"]["parameter_set"] for row in shipped} >= {"default", TUNED}
