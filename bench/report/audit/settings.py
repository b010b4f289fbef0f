"""Settings: every combination of what the appendix leaves open, and how far each is from the published numbers.

The best of hundreds of combinations always fits something. So every way to halve the six columns of Table 6 is tried:
the setting that is nearest on one half is judged on the other, beside the median of all. The winner is reported and
becomes no default.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bench.data.schema import FloatArray
from bench.experiment.audit_trials import Record
from bench.report.published import Published

#: Published name of a data set in Table 6 -> its attribute and the suite's data sets that it may be.
COLUMNS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Phishing", "all", ("phishing", "phishing_websites")),
    ("Mushroom", "all", ("mushroom",)),
    ("Yeast", "all", ("yeast",)),
    ("Whitewine", "all", ("whitewine",)),
    ("Heart", "categorical", ("heart",)),
    ("Heart", "numerical", ("heart",)),
)
METHODS = ("MissForest", "MICE")
#: Published data sets without categories.
NUMERIC = ("Yeast", "Whitewine")
TABLE = 6
#: A published number is met if ours is within this share of it.
NEAR = 0.1


@dataclass(frozen=True)
class Setting:
    """One choice of each thing that the appendix leaves open."""

    nrmse: str
    pfc: str
    rows: str
    class_column: str
    categories: str
    mice: str
    phishing: str

    def __str__(self) -> str:
        return ", ".join(f"{own.name.replace('_', ' ')} {getattr(self, own.name)}" for own in fields(self))


@dataclass(frozen=True)
class Target:
    """A published number of a deterministic method: its row and column, and whether it is an NRMSE."""

    method: str
    dataset: str
    attribute: str
    published: float

    @property
    def numeric(self) -> bool:
        """Whether it is an NRMSE; the others are PFCs."""
        return self.dataset in NUMERIC or self.attribute == "numerical"

    @property
    def name(self) -> str:
        """The method and the column."""
        own = "" if self.attribute == "all" else f" {self.attribute}"
        return f"{self.method} on {self.dataset}{own}"


@dataclass(frozen=True, eq=False)
class Grid:
    """All settings, all targets, and our value under each [settings, targets], NaN where it was not computed."""

    settings: tuple[Setting, ...]
    targets: tuple[Target, ...]
    values: FloatArray

    @property
    def distances(self) -> FloatArray:
        """How far each value is from the published one, as the size of the logarithm of their ratio."""
        published = np.array([target.published for target in self.targets])
        distances: FloatArray = np.abs(np.log(self.values / published))
        return distances


@dataclass(frozen=True)
class Halves:
    """What fitting on half of the columns is worth on the other half, over all ways to halve them.

    All are mean distances: of the best setting where it was chosen, of the same one on the other half, and of the
    median setting there. ``beats_median`` counts the ways in which the chosen one was nearer than the median.
    """

    ways: int
    fitted: float
    judged: float
    median: float
    beats_median: int


def values_by_choice(trials: Iterable[Record], redrawn: bool = True) -> dict[tuple[Any, ...], list[float]]:
    """Return the values over seeds by (method, data set, class column, coded, fitted, scored, definition).

    ``redrawn`` are trials with a split and a mask for each seed, the others share those of seed 0.
    """
    found: dict[tuple[Any, ...], list[float]] = {}
    for record in trials:
        trial = record["trial"]
        if (trial["seed"] == trial["mask_seed"]) is not redrawn and trial["seed"] != 0:
            continue
        own = (trial["method"], trial["dataset"], trial["include_target"], trial["coded"], trial["fitted"])
        for scored, scores in record["scores"].items():
            for definition, value in scores.items():
                found.setdefault((*own, scored, definition), []).append(value)
    return found


def grid_of(trials: Sequence[Record], published: Published) -> Grid:
    """Return all settings with our value of each published number of a deterministic method."""
    values = {choice: statistics.fmean(own) for choice, own in values_by_choice(trials).items()}
    definitions = sorted({choice[-1] for choice in values})
    settings = tuple(
        Setting(*chosen)
        for chosen in itertools.product(
            [name for name in definitions if not name.startswith("pfc/")],
            [name for name in definitions if name.startswith("pfc/")],
            tuple(ROWS),
            ("out", "in"),
            ("as categories", "as rounded numbers"),
            ("mean", "draw"),
            COLUMNS[0][2],
        )
    )
    numbers = {
        (key.method, key.dataset, key.attribute): value.mean for key, value in published.items() if key.table == TABLE
    }
    targets = tuple(
        Target(method, dataset, attribute, numbers[method, dataset, attribute])
        for dataset, attribute, _ in COLUMNS
        for method in METHODS
        if (method, dataset, attribute) in numbers
    )
    found = [[_value(setting, target, values) for target in targets] for setting in settings]
    return Grid(settings, targets, np.array(found, dtype=float).reshape(len(settings), len(targets)))


#: Which rows a method is fitted on and which are scored.
ROWS: Mapping[str, tuple[str, str]] = {
    "fitted on training, scored on test rows": ("training", "test"),
    "fitted on all, scored on test rows": ("all", "test"),
    "fitted on and scored on all rows": ("all", "all"),
}


def _value(setting: Setting, target: Target, values: Mapping[tuple[Any, ...], float]) -> float:
    """Return our value of a published number under a setting, NaN if it was not computed."""
    dataset = next(own for name, attribute, own in COLUMNS if (name, attribute) == (target.dataset, target.attribute))
    own = setting.phishing if target.dataset == "Phishing" else dataset[0]
    method = f"MICE, {setting.mice}" if target.method == "MICE" else target.method
    fitted, scored = ROWS[setting.rows]
    coded = setting.categories == "as rounded numbers" and target.dataset not in NUMERIC
    definition = setting.nrmse if target.numeric else setting.pfc
    return values.get((method, own, setting.class_column == "in", coded, fitted, scored, definition), float("nan"))


def halves(grid: Grid) -> Halves:
    """Return what the nearest setting on half of the columns is worth on the other half."""
    columns = [(target.dataset, target.attribute) for target in grid.targets]
    names = list(dict.fromkeys(columns))
    distances = grid.distances[~np.isnan(grid.values).any(axis=1)]
    results = []
    for chosen in itertools.combinations(names, len(names) // 2):
        inside = np.array([column in chosen for column in columns])
        fitted, judged = distances[:, inside].mean(axis=1), distances[:, ~inside].mean(axis=1)
        best = int(fitted.argmin())
        results.append((fitted[best], judged[best], float(np.median(judged))))
    fit, other, median = np.array(results).mean(axis=0)
    nearer = sum(bool(judged < middle) for _, judged, middle in results)
    return Halves(len(results), float(fit), float(other), float(median), nearer)


def remaining(grid: Grid, numeric: bool | None = None) -> int:
    """Return how many settings meet all published numbers, or all NRMSEs or all PFCs, within ``NEAR``."""
    kept = [index for index, target in enumerate(grid.targets) if numeric is None or target.numeric is numeric]
    near: int = int((grid.distances[:, kept] <= np.log1p(NEAR)).all(axis=1).sum())
    return near
