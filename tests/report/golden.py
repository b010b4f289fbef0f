"""A small table with every kind of cell, its published numbers, and results to fill tables with."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bench.experiment.cell import Cell
from bench.experiment.result import Result
from bench.experiment.specs import PublishedKey, TableSpec
from bench.problem.draw_scores import DRAW_METRICS
from bench.report.published import PublishedValue

SPEC = """\
id = "golden"
number = 3
title = "Golden & small."
caption = "Lower is better."
label = "tab:golden"
notes = ["100% real."]

[defaults]
mechanism = "mcar"
ratio = 0.5

[defaults.published]
mechanism = "MCAR"
ratio = 0.5
attribute = "all"

[format]
digits = 3
delta = 0.0005
row_heading = "Attribute type"

[[rows]]
label = "Forest"
method = "forest"
protocol = "transductive"
published = "Forest"

[[rows]]
label = "VSAE_x"
method = "vsae"
published = "VSAE"

[[rows]]
label = "Odd"
method = "odd"
parameters = { posterior = "draw" }
reference = true

[[rows]]
label = "Mean/mode"
method = "mean_mode"
floor = true

[[columns]]
group = "Yeast"
label = "numerical"
dataset = "yeast"
metric = "nrmse_rel"
published = { dataset = "Yeast", metric = "nrmse" }

[[columns]]
group = "Yeast"
label = "RMSE / SD"
dataset = "yeast"
metric = "nrmse_std"

[[columns]]
group = "Mushroom"
label = "categorical"
dataset = "mushroom"
metric = "pfc"
published = { dataset = "Mushroom", metric = "pfc" }
"""

HOSTILE = r"\input{x} 50% _a_ #1 $x$ & {b} ~ ^ <i> [2pt] *|`' \\ é ß ± Δ 中 ∞ ﬁ " + "\u0000\u2028\u202e\U0001f600"


def key(method: str, dataset: str, metric: str) -> PublishedKey:
    """Return the key of a published cell of the golden table."""
    return PublishedKey(3, method, dataset, "all", "MCAR", 0.5, metric)


PUBLISHED = {
    key("Forest", "Yeast", "nrmse"): PublishedValue("0.424", sd_below=0.0005),
    key("VSAE", "Yeast", "nrmse"): PublishedValue("0.4190", sd_below=0.01),
    key("Forest", "Mushroom", "pfc"): PublishedValue("0.419", "0.002"),
    key("VSAE", "Mushroom", "pfc"): PublishedValue("0.416"),
}


def stored(method: str, dataset: str, seed: int, metrics: dict[str, float] | None = None, **changes: Any) -> Result:
    """Return a result; ``changes`` name fields of its cell, or status, reason, variant, attributes and draws."""
    cell: dict[str, Any] = {
        "dataset": dataset,
        "content": f"{dataset}-full",
        "include_target": False,
        "mechanism": "mcar",
        "mechanism_version": 1,
        "mechanism_parameters": {},
        "mechanism_overrides": None,
        "ratio": 0.5,
        "method": method,
        "method_version": 1,
        "parameter_set": "default",
        "parameters": {"trees": 3},
        "overrides": {},
        "seed": seed,
        "repeat": "all",
        "protocol": "inductive",
        "preset": "quick",
        "budget": {"steps": 30},
        "engine": 1,
    }
    own: dict[str, Any] = {"status": "ok", "reason": None, "variant": "full", "attributes": {}, "draws": {}}
    for name, value in changes.items():
        (own if name in own else cell)[name] = value
    scopes = {"all": metrics or {}} if own["status"] == "ok" else {}
    return Result(cell=Cell(**cell), key=json.dumps(cell, sort_keys=True), metrics=scopes, **own)


def seeds_of(method: str, dataset: str, metric: str, values: Iterable[float], **changes: Any) -> list[Result]:
    """Return one result per value, for seeds 0, 1, ..."""
    return [stored(method, dataset, seed, {metric: value}, **changes) for seed, value in enumerate(values)]


def golden_rows() -> list[Result]:
    """Return rows that give every kind of cell but one that is not available."""

    def yeast(method: str, *pairs: tuple[float, float], **changes: Any) -> list[Result]:
        return [
            stored(method, "yeast", seed, {"nrmse_rel": rel, "nrmse_std": std}, **changes)
            for seed, (rel, std) in enumerate(pairs)
        ]

    subset: dict[str, Any] = {"variant": "subset", "content": "mushroom-part"}
    failed: dict[str, Any] = {"status": "failed", "reason": "out of memory & time"}
    return [
        *yeast("forest", (0.39, 0.89), (0.40, 0.90), (0.41, 0.91), protocol="transductive"),
        *yeast("vsae", (0.35, 0.85), (0.35, 0.85), (0.3501, 0.8501)),
        *yeast("mean_mode", (0.40, 0.98), (0.42, 0.99), (0.44, 1.00), parameters={}),
        # These two belong to other rows than "Odd": without its override, and with another one.
        *yeast("odd", (0.1, 0.1), (0.1, 0.1), (0.1, 0.1)),
        *yeast("odd", (0.1, 0.1), (0.1, 0.1), (0.1, 0.1), overrides={"posterior": "point"}),
        *(stored("forest", "mushroom", s, protocol="transductive", **failed, **subset) for s in range(3)),
        stored("vsae", "mushroom", 0, {"pfc": 0.38}, **subset),
        stored("vsae", "mushroom", 2, {"pfc": 0.40}, **subset),
        *seeds_of("mean_mode", "mushroom", "pfc", [0.40, 0.41, 0.42], parameters={}, **subset),
    ]


def filled(spec: TableSpec) -> list[Result]:
    """Return results for all cells of a table, one of them failed and one data set a subset."""
    level = {"pfc": 0.4, "nrmse_rel": 0.37, "nrmse_std": 0.95, "mse": 0.07, "mse_sum": 0.13}
    cells = spec.cells()
    found: dict[str, Result] = {}
    for index, cell in enumerate(cells):
        for seed in spec.seeds:
            scale = 1 + 0.01 * cell.row + 0.003 * seed
            metrics = {name: value * scale for name, value in level.items()}
            draws = {metric.name: 0.2 * scale for metric in DRAW_METRICS} if index != 1 else {}
            result = stored(
                cell.method,
                cell.dataset,
                seed,
                metrics,
                mechanism=cell.mechanism,
                ratio=cell.ratio,
                overrides=dict(cell.parameters),
                protocol=cell.protocol,
                variant="subset" if cell.dataset == cells[0].dataset else "full",
                attributes={cell.attribute: metrics},
                draws={"draws": 50, "all": draws, "attributes": {}},
                status="failed" if index == 1 else "ok",
                reason=HOSTILE if index == 1 else None,
            )
            first = found.setdefault(result.key, result)
            found[result.key] = replace(first, attributes={**first.attributes, **result.attributes})
    return list(found.values())
