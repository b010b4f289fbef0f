"""Presets are budgets, written here and nowhere else. Seeds and table rows are never cut."""

from __future__ import annotations

from collections.abc import Iterable

from bench.errors import BenchError, closest
from bench.plugins.contracts import Budget

PRESETS: dict[str, str] = {
    "smoke": "30 optimiser steps: does it run",
    "quick": "at most 1500 steps (GAIN: its authors' 10,000), 100 draws, 30 trees: minutes",
    "long": "at most 15,000 steps (GAIN: 10,000), 100 draws, every test row: half an hour and more per job on images",
    "paper": "the appendix's epochs (GAIN: 10,000 steps) and 1000 draws",
}

#: Precision of float32 matrix products, as ``torch.set_float32_matmul_precision`` takes it, and what each allows.
PRECISIONS: dict[str, str] = {
    "highest": "float32",
    "high": "TF32, if the device has it",
    "medium": "bfloat16 inside the products, if the device gains by it",
}
HIGHEST = "highest"

#: Share of a training after which a replica that has not improved is done, in the presets that the paper does not fix.
PATIENCE = 1 / 3


def require_precision(name: str) -> None:
    """Raise BenchError, with the closest name, on an unknown precision."""
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
            validation_draws=10 if images else 20,
            evaluations=50,
            scored_draws=50,
            patience=PATIENCE,
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
            validation_draws=10 if images else 20,
            evaluations=50,
            scored_draws=50,
            patience=PATIENCE,
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
            evaluations=100,
            scored_draws=50,
            trees=100,
            sweeps=10,
        )
    raise BenchError(f"unknown preset '{preset}'.{closest(preset, PRESETS)}")
