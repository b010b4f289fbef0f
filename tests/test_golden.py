"""The numbers of the suite's own methods on tiny tables, which may change only with the key of their cells.

Rows of the suite's methods go by the versions in their keys, not by code as a user's do: were numbers to change under
an old key, stored rows would pass for what the code gives now. A method's change of numbers needs a raise of its
``version`` (or of the engine's or the mechanism's); then ``python -m tests.test_golden`` writes ``golden.json`` again,
and refuses numbers that changed without one.

Numbers are compared to 1e-3, relative. Another maker's processor, or another version of a library, rounds otherwise in
the last of 7 digits, and training carries that further: with other kernels of the same libraries most of these numbers
move by less than 1e-4. What is computed otherwise moves more. The preset is ``smoke``, since over long trainings
rounding can change which epoch is chosen; two methods, whose numbers moved by up to 10 % in its 30 steps, get 3.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.experiment.cell import Cell
from bench.experiment.expand import cells_of, effective_set, grid_spec
from bench.experiment.result import Result
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry, available
from tests.toys import contents_for, run_cells, write_plugins

GOLDEN = Path(__file__).parent / "golden.json"
RELATIVE = 1e-3
#: For the appendix to the letter, whose larger steps carry rounding further: other kernels moved it by up to 1.2e-3.
LITERAL = 5e-3
#: Cases with a loose tolerance too: processors of two makers were apart by up to 4e-3.
SENSITIVE = ("miwae-default-golden_pictures", "misgan-authors-golden_mixed")
#: Diagnostics of neural methods: a loss that is written otherwise is another number at once.
TRAINING = ("loss_first", "loss_last", "best_validation_error")
#: For the last loss, which other kernels moved by up to 1 %.
LAST_LOSS = 0.03
#: Methods whose few small gradients Adam makes large, rounding and all.
THREE_STEPS = ("ae", "classifier")

#: Rounded, so that no processor gives other data.
DATA = '''
import numpy as np
import pandas as pd

from bench.api import Attribute, Dataset, Schema, Table


class Mixed(Dataset):
    """Eighty rows of three numbers and two categories that depend on each other."""

    name = "golden_mixed"
    kinds = ("numeric", "categorical")

    def load(self, files):
        """Return the table."""
        rng = np.random.default_rng(5)
        first = np.round(rng.normal(10.0, 3.0, 80), 3)
        second = np.round(2.0 * first + rng.normal(0.0, 1.0, 80), 3)
        kind = np.array(["low", "middle", "high"])[np.digitize(first, [9.0, 11.0])]
        sign = np.where(second + np.round(rng.normal(0.0, 4.0, 80), 3) > 20.0, "yes", "no")
        third = np.round(rng.normal(size=80), 3)
        return pd.DataFrame({"first": first, "second": second, "third": third, "kind": kind, "sign": sign})


class Numbers(Dataset):
    """Sixty rows of numbers."""

    name = "golden_numbers"
    kinds = ("numeric",)

    def load(self, files):
        """Return three numbers."""
        rng = np.random.default_rng(6)
        first, third = np.round(rng.normal(size=(2, 60)), 3)
        return pd.DataFrame({"first": first, "second": np.round(1.0 - first + 0.25 * third, 3), "third": third})


class Pictures(Dataset):
    """Images of 4 by 5 pixels with a label that says which half is bright."""

    name = "golden_pictures"
    kinds = ("image", "categorical")

    def load(self, files):
        """Return the table."""
        rng = np.random.default_rng(7)
        upper = rng.integers(0, 2, 60)
        images = rng.integers(0, 100, (60, 4, 5)).astype(np.uint8)
        images[upper == 1, :2] += 120
        images[upper == 0, 2:] += 120
        attributes = (
            Attribute("half", "categorical", levels=("lower", "upper")),
            Attribute("picture", "image", shape=(4, 5)),
        )
        blocks = {"picture": images.reshape(60, -1)}
        return Table(Schema(attributes), upper[:, None].astype(float), blocks, np.ones((60, 2), dtype=bool))
'''


def golden_registry(folder: Path) -> Registry:
    """Return the suite's plug-ins and the tiny data sets."""
    return Registry.scan([write_plugins(folder, data=DATA)])


def cases(registry: Registry) -> Iterator[tuple[str, str, str]]:
    """Yield every method, each of its parameter sets, and a data set for it; with its own set on images, if it can."""
    for name, info in registry.methods.items():
        kinds = set(info.kinds)
        table = "golden_mixed" if {"numeric", "categorical"} <= kinds else "golden_numbers"
        if "numeric" in kinds:
            yield from ((name, parameter_set, table) for parameter_set in info.parameter_sets)
        if "image" in kinds:
            yield name, "default", "golden_pictures"


def computed(case: tuple[str, str, str], registry: Registry) -> tuple[Cell, Result]:
    """Compute the cell of a case."""
    method, parameter_set, dataset = case
    assert effective_set(registry.method(method), parameter_set) == parameter_set
    scope = Scope(methods=(method,), datasets=(dataset,), seeds=(0,), preset="smoke", parameter_set=parameter_set)
    spec = grid_spec(scope, registry)
    (cell,) = cells_of(spec.cells(), spec, scope, registry, contents_for(registry, dataset))
    if method in THREE_STEPS:
        cell = replace(cell, budget={**cell.budget, "steps": 3})
    (result,) = run_cells([cell], registry)
    return cell, result


def written() -> dict[str, Any]:
    """Return the golden numbers as they are kept."""
    found: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return found


def close_to(name: str, metrics: dict[str, float]) -> Any:
    """Return what numbers of a case have to be equal to."""
    usual = LITERAL if "-literal-" in name or name in SENSITIVE else RELATIVE
    relative = {of: LAST_LOSS if of == "loss_last" else usual for of in metrics}
    return {of: pytest.approx(value, rel=relative[of], abs=1e-6) for of, value in metrics.items()}


def numbers_of(result: Result) -> dict[str, float]:
    """Return what is compared: the scores, and of a training what they hardly show after so few steps."""
    found = {**result.metrics["all"], **{name: result.diagnostics.get(name) for name in TRAINING}}
    return {name: value for name, value in found.items() if value is not None}


with tempfile.TemporaryDirectory() as _folder:
    CASES = list(cases(golden_registry(Path(_folder))))


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_numbers_change_only_with_the_key(tmp_path: Path, case: tuple[str, str, str]) -> None:
    registry = golden_registry(tmp_path)
    usable, reason = available(registry.method(case[0]))
    if not usable:
        pytest.skip(reason)
    name = "-".join(case)
    kept = written().get(name)
    assert kept is not None, "a new method or parameter set: run `python -m tests.test_golden`"
    cell, result = computed(case, registry)
    assert result.status == "ok", result.reason
    assert kept["key"] == cell.key, "its version or parameters are others: run `python -m tests.test_golden`"
    assert kept["mask"] == result.mask_hash
    assert numbers_of(result) == close_to(name, kept["metrics"]), (
        "the numbers changed under the same key, so stored rows would pass for new ones: raise the version"
    )


def test_nothing_is_kept_that_is_not_compared() -> None:
    assert set(written()) == {"-".join(case) for case in CASES}


def main() -> int:
    """Write the golden numbers again; refuse those that changed under the same key."""
    before = written() if GOLDEN.exists() else {}
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        registry = golden_registry(Path(folder))
        for case in CASES:
            name = "-".join(case)
            cell, result = computed(case, registry)
            if result.status != "ok":
                print(f"{name}: {result.status}: {result.reason}", file=sys.stderr)
                return 1
            found[name] = {"key": cell.key, "mask": result.mask_hash, "metrics": numbers_of(result)}
            old = before.get(name)
            if old and old["key"] == cell.key:
                if found[name]["metrics"] != close_to(name, old["metrics"]):
                    print(f"{name}: other numbers under the same key; raise the version first", file=sys.stderr)
                    return 1
                found[name] = old
    GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
