"""What to compute or to show: which part of which tables, under which budget and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import BenchError
from bench.experiment.presets import HIGHEST, budget_for, require_precision

#: What fits into a signed 64-bit number.
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What was asked for. An empty tuple stands for everything, or for what the verb takes by default.

    Without ``tables`` it is a grid of methods, data sets, mechanisms and ratios. An empty ``preset``, for verbs that
    read stored rows, is the fullest one that is complete. ``mechanism_parameters`` are those of a grid's mechanisms,
    where they are not the defaults. ``stand_in`` replaces data sets by their synthetic stand-ins.
    """

    tables: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    mechanisms: tuple[str, ...] = ()
    mechanism_parameters: Mapping[str, Any] = field(default_factory=dict)
    ratios: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    preset: str = "quick"
    parameter_set: str = "default"
    precision: str = HIGHEST
    stand_in: bool = False

    def require_valid(self) -> None:
        """Raise BenchError on what is wrong whatever plug-ins and tables there are."""
        if self.preset:
            budget_for(self.preset, ())
        require_precision(self.precision)
        if self.tables and (self.mechanisms or self.ratios):
            raise BenchError("--mechanisms and --ratios are for a grid of your own; a table names its own")
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise BenchError(f"--ratios: {ratio:g} is not between 0 and 1")
        for seed in self.seeds:
            if seed < 0:
                raise BenchError(f"--seeds: {seed} is negative")
            if seed > LARGEST_SEED:
                raise BenchError(f"--seeds: {seed} is more than {LARGEST_SEED}")
