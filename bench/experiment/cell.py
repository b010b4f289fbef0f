"""A cell: one number's worth of work as a frozen value, and the jobs that cells are computed in.

A cell's key is the hash of its canonical JSON, which holds no path, no object and nothing of the environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from bench.experiment.presets import HIGHEST
from bench.plugins.reader import PluginInfo
from bench.plugins.registry import Registry
from bench.problem.scenario import Scenario
from bench.seeds import canonical_json, digest

#: Fields in which the cells of one stack may differ.
STACKED_OVER = (
    "seed",
    "mechanism",
    "mechanism_version",
    "mechanism_parameters",
    "mechanism_overrides",
    "ratio",
)


#: Fields that plug-ins, presets and the suite fill; the others are what was asked for.
FILLED_IN = (
    "engine",
    "method_version",
    "mechanism_version",
    "content",
    "budget",
    "parameters",
    "mechanism_parameters",
)


@dataclass(frozen=True)
class Cell:
    """One data set, mechanism, method and seed: what a row of the store answers."""

    dataset: str
    #: Content hash of the table the data set gave.
    content: str
    include_target: bool
    mechanism: str
    mechanism_version: int
    mechanism_parameters: Mapping[str, Any] = field(hash=False)
    #: What the table spec said of them, None in a row that does not tell; the field above holds what results.
    mechanism_overrides: Mapping[str, Any] | None = field(hash=False)
    ratio: float
    method: str
    method_version: int
    parameter_set: str
    #: What the table spec changed in the parameter set, and the parameters that result.
    overrides: Mapping[str, Any] = field(hash=False)
    parameters: Mapping[str, Any] = field(hash=False)
    seed: int
    repeat: str
    protocol: str
    preset: str
    budget: Mapping[str, Any] = field(hash=False)
    engine: int
    #: Of float32 matrix products (``bench.experiment.presets``); the highest if a method does not use torch.
    precision: str = HIGHEST

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the cell's canonical JSON."""
        return digest(self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the cell as plain JSON values; the highest precision goes without saying."""
        value = asdict(self)
        if self.precision == HIGHEST:
            del value["precision"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cell:
        """Read a cell back from JSON; raises TypeError on anything else."""
        if "mechanism_overrides" in value:
            return cls(**value)
        return cls(**{"mechanism_overrides": None, "overrides": {}, **value})

    @cached_property
    def request(self) -> str:
        """What was asked for, as text: the cell without what versions, presets and data fill in."""
        value = {name: item for name, item in self.as_json().items() if name not in FILLED_IN}
        return canonical_json({**value, "mechanism_overrides": dict(self.mechanism_overrides or {})})

    def changes_from(self, before: Cell) -> list[str]:
        """Return in words what is filled in otherwise than it was before: versions, budget, parameters, data."""
        told: list[str] = []
        for name in FILLED_IN:
            old, new = getattr(before, name), getattr(self, name)
            if old == new:
                continue
            if name == "content":
                told.append("the data are others")
            elif isinstance(new, Mapping):
                parts = [part for part in {**old, **new} if old.get(part) != new.get(part)]
                told.append(f"{name}: " + ", ".join(f"{p} was {old.get(p)}, is {new.get(p)}" for p in parts))
            else:
                told.append(f"{name} was {old}, is {new}")
        return told

    @property
    def data_seed(self) -> int:
        """The seed of split and mask: this cell's, or always 0 if repetitions redraw the initialisation only."""
        return self.seed if self.repeat == "all" else 0

    @property
    def scenario(self) -> Scenario:
        """The split and the mask of this cell."""
        return Scenario(
            self.dataset,
            self.content,
            self.include_target,
            self.mechanism,
            self.mechanism_parameters,
            self.ratio,
            self.data_seed,
            self.budget["test_rows"],
        )


@dataclass(frozen=True)
class Plugins:
    """The plug-ins of a job, looked up once: ``mechanisms`` by name."""

    method: PluginInfo
    dataset: PluginInfo
    mechanisms: Mapping[str, PluginInfo]

    @classmethod
    def of(cls, cells: Sequence[Cell], registry: Registry) -> Plugins:
        """Look up the plug-ins of a job's cells. Raises BenchError with the closest name if one is not there."""
        first = cells[0]
        mechanisms = {cell.mechanism: registry.mechanism(cell.mechanism) for cell in cells}
        return cls(registry.method(first.method), registry.dataset(first.dataset), mechanisms)

    @property
    def all(self) -> tuple[PluginInfo, ...]:
        """Method, data set and mechanisms."""
        return (self.method, self.dataset, *self.mechanisms.values())

    def sources(self, cell: Cell) -> dict[str, str]:
        """Return the hashes of the code of those behind a cell's numbers that are not the suite's own, by category.

        A data set is not among them: a cell names the hash of its content.
        """
        behind = {"method": self.method, "mechanism": self.mechanisms[cell.mechanism]}
        return {category: info.code_hash for category, info in behind.items() if info.code_hash}

    def as_json(self) -> dict[str, Any]:
        """Return the plug-ins as plain JSON values."""
        mechanisms = {name: info.as_json() for name, info in self.mechanisms.items()}
        return {"method": self.method.as_json(), "dataset": self.dataset.as_json(), "mechanisms": mechanisms}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plugins:
        """Read the plug-ins back from JSON."""
        mechanisms = {name: PluginInfo.from_json(info) for name, info in value["mechanisms"].items()}
        return cls(PluginInfo.from_json(value["method"]), PluginInfo.from_json(value["dataset"]), mechanisms)


@dataclass(frozen=True)
class Job:
    """Cells computed together, with their plug-ins: one stack of a method that stacks, else one cell."""

    cells: tuple[Cell, ...]
    plugins: Plugins = field(compare=False, repr=False)

    @cached_property
    def key(self) -> str:
        """The identity of the job: the hash of its cells' keys."""
        return digest([cell.key for cell in self.cells])

    @property
    def label(self) -> str:
        """The job in words, for progress displays."""
        first = self.cells[0]
        changed = "".join(f", {name}={value}" for name, value in first.overrides.items())
        holes = {f", {cell.mechanism} {cell.ratio:g}" for cell in self.cells}
        alone = f", seed {first.seed}" if len(self.cells) == 1 else ""
        return f"{first.method}{changed} on {first.dataset}{holes.pop() if len(holes) == 1 else ''}{alone}"

    def as_json(self) -> dict[str, Any]:
        """Return the job as plain JSON values, for another process."""
        return {"cells": [cell.as_json() for cell in self.cells], "plugins": self.plugins.as_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Job:
        """Read a job back from JSON."""
        return cls(tuple(Cell.from_json(cell) for cell in value["cells"]), Plugins.from_json(value["plugins"]))
