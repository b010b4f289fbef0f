"""Presets are budgets, written here and nowhere else. Seeds and table rows are never cut."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bench.errors import BenchError, closest


@dataclass(frozen=True)
class Budget:
    """How much work a method may do; part of a row's identity.

    ``steps`` bounds the optimiser steps and ``epochs`` the passes over the data: training ends at the first reached.
    ``warm_fraction`` of it is the warm phase. ``draws`` are imputation samples, ``target_draws`` VSAE's samples of the
    unobserved attributes, ``evaluations`` the number of times the validation error is taken at most. ``test_rows``
    bounds the scored test rows (a seeded choice, the same for every method).
    """

    preset: str = "smoke"
    steps: int | None = 30
    epochs: int | None = None
    batch: int = 256
    learning_rate: float = 1e-3
    warm_fraction: float = 0.1
    draws: int = 10
    target_draws: int = 5
    validation_draws: int = 5
    evaluations: int = 10
    trees: int = 5
    sweeps: int = 2
    test_rows: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the budget as plain JSON values."""
        return asdict(self)


PRESETS: dict[str, str] = {
    "smoke": "30 optimiser steps: does it run",
    "quick": "at most 1500 steps, 100 draws, 30 trees: minutes, and close to what more training gives on tables",
    "long": "ten times the steps of quick, 100 draws, every test row: what images need, half an hour and more a job",
    "paper": "the appendix's epochs and 1000 draws",
}

#: Precision of float32 matrix products, as ``torch.set_float32_matmul_precision`` takes it, and what each allows.
PRECISIONS: dict[str, str] = {
    "highest": "float32",
    "high": "TF32, where the device has it",
    "medium": "bfloat16 inside the products, where the device gains by it",
}
HIGHEST = "highest"


def require_precision(name: str) -> None:
    """Raise BenchError, with the closest one, on a precision there is not."""
    if name not in PRECISIONS:
        raise BenchError(f"unknown precision '{name}'.{closest(name, PRECISIONS)}")


def budget_for(preset: str, kinds: Iterable[str]) -> Budget:
    """Return the budget of a preset on data with these attribute kinds (VSAE appendix D). Raises BenchError."""
    present = set(kinds)
    multimodal = bool(present & {"image", "features"})
    categorical_only = present == {"categorical"}
    images = "image" in present
    learning_rate = 1e-4 if images else 1e-2 if categorical_only else 1e-3
    if preset == "smoke":
        return Budget(learning_rate=1e-3 if images else learning_rate)
    if preset == "quick":
        return Budget(
            preset="quick",
            steps=1500,
            batch=256,
            learning_rate=1e-3 if images else learning_rate,
            draws=20 if images else 100,
            target_draws=10,
            validation_draws=10,
            evaluations=50,
            trees=30,
            sweeps=4,
            test_rows=2000 if images else None,
        )
    if preset == "long":
        return Budget(
            preset="long",
            steps=15_000,
            batch=256,
            learning_rate=1e-3 if images else learning_rate,
            draws=100,
            target_draws=10,
            validation_draws=10,
            evaluations=50,
            trees=100,
            sweeps=10,
        )
    if preset == "paper":
        epochs = 2000 if categorical_only else 1000
        return Budget(
            preset="paper",
            steps=None,
            epochs=epochs,
            batch=128 if multimodal else 64,
            learning_rate=learning_rate,
            warm_fraction=100 / epochs,
            draws=1000,
            target_draws=100,
            validation_draws=20,
            evaluations=epochs,
            trees=100,
            sweeps=10,
        )
    raise BenchError(f"unknown preset '{preset}'.{closest(preset, PRESETS)}")
