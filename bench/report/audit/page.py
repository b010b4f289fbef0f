"""The audit on a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.data.schema import BoolArray
from bench.report.audit.anomalies import Anomaly
from bench.report.audit.settings import NEAR, Grid, Halves, Setting, halves, remaining


@dataclass(frozen=True)
class Reach:
    """A published number: the nearest of our values over all settings, the range of them, and how many come near."""

    target: str
    published: float
    nearest: float
    least: float
    most: float
    near: int
    of: int


@dataclass(frozen=True)
class Audit:
    """What the audit found: counts of settings, what fitting is worth, the nearest setting, and the anomalies."""

    tried: int
    computed: int
    remain: int
    remain_nrmse: int
    remain_pfc: int
    halves: Halves | None
    best: Setting | None
    best_distance: float
    reached: tuple[Reach, ...]
    anomalies: tuple[Anomaly, ...]


def audit_of(grid: Grid, found: Sequence[Anomaly]) -> Audit:
    """Return what a grid of settings says of the published numbers."""
    complete: BoolArray = np.asarray(np.isfinite(grid.values).all(axis=1), dtype=np.bool_)
    distances = np.where(complete[:, None], grid.distances, np.inf).mean(axis=1)
    best = int(distances.argmin()) if complete.any() else None
    return Audit(
        len(grid.settings),
        int(complete.sum()),
        remaining(grid) if complete.any() else 0,
        remaining(grid, numeric=True) if complete.any() else 0,
        remaining(grid, numeric=False) if complete.any() else 0,
        halves(grid) if complete.any() else None,
        None if best is None else grid.settings[best],
        math.inf if best is None else float(distances[best]),
        tuple(_reached(grid)),
        tuple(found),
    )


def _reached(grid: Grid) -> Iterator[Reach]:
    """Yield how near our values come to each published number; settings that give the same value count once."""
    for index, target in enumerate(grid.targets):
        values = np.unique(grid.values[:, index][~np.isnan(grid.values[:, index])])
        if not len(values):
            continue
        ratios = np.abs(np.log(values / target.published))
        near = int((ratios <= np.log1p(NEAR)).sum())
        yield Reach(
            target.name,
            target.published,
            float(values[ratios.argmin()]),
            float(values.min()),
            float(values.max()),
            near,
            len(values),
        )


def audit_lines(audit: Audit) -> Iterator[str]:
    """Yield the audit as lines of text."""
    yield f"What the appendix leaves open, tried on Table 6's MissForest and MICE: {audit.tried} settings"
    yield (
        "  (definition of NRMSE, of PFC, rows fitted and scored, class column, categories or rounded numbers, mean or"
        " one draw of MICE, which Phishing set)"
    )
    if audit.computed < audit.tried:
        yield f"  {audit.computed} of them are computed; `vsae-bench audit --compute` computes the rest"
    if audit.halves is not None:
        yield from _setting_lines(audit, audit.halves)
    for anomaly in audit.anomalies:
        yield ""
        yield anomaly.title
        for where in anomaly.where:
            yield f"  {where}"


def _setting_lines(audit: Audit, own: Halves) -> Iterator[str]:
    """Yield what the settings say, and what each published number could be."""
    yield f"  within {100 * NEAR:g} % of all published numbers: {audit.remain}; excluded: {audit.tried - audit.remain}"
    yield f"  of the NRMSEs alone: {audit.remain_nrmse}; of the PFCs alone: {audit.remain_pfc}"
    yield (
        f"  chosen on half of the columns, judged on the other half, {own.ways} ways: off by"
        f" {_percent(own.fitted)} where it was chosen, by {_percent(own.judged)} on the other half, where the median"
        f" setting is off by {_percent(own.median)}; nearer than the median {own.beats_median} of {own.ways} times"
    )
    yield f"  nearest to all numbers, off by {_percent(audit.best_distance)} (no default follows from it): {audit.best}"
    yield ""
    yield f"  {'Published numbers':<31}  paper  nearest  of our settings  within {100 * NEAR:g} %"
    for each in audit.reached:
        spread = f"{each.least:.2f} to {each.most:.2f}"
        yield f"  {each.target:<31}  {each.published:.3f}  {each.nearest:.3f}    {spread:<15}  {each.near} of {each.of}"


def _percent(distance: float) -> str:
    """Return a distance of logarithms as a share."""
    return f"{100 * math.expm1(distance):.0f} %"


def as_json(audit: Audit) -> dict[str, Any]:
    """Return the audit as plain JSON values."""
    value = asdict(audit)
    value["best_distance"] = None if math.isinf(audit.best_distance) else audit.best_distance
    return value
