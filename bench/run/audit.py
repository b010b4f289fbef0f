"""Computes the trials of the audit and keeps each as it is done, so that a run that is stopped goes on.

From one imputation every definition of an error follows (``bench.problem.definitions``), on the test rows and, of a
method fitted on all rows, on all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.experiment.audit_trials import METHODS, PRESET, RATIO, Trial, read_trials, trials

if TYPE_CHECKING:
    from bench.data.schema import Schema
    from bench.data.table import Table
    from bench.plugins.registry import Registry


def compute_trials(
    path: Path, registry: Registry, stop: Callable[[], None], report: Callable[[int, int, str], None]
) -> None:
    """Compute the trials that a file lacks and append each as it is done; ``stop`` raises to end early.

    Raises BenchError on data that cannot be had.
    """
    known = read_trials([path])
    every = list(trials())
    lacking = [trial for trial in every if trial.key not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    tables: dict[tuple[str, bool], Table] = {}
    for number, trial in enumerate(lacking):
        stop()
        report(len(every) - len(lacking) + number, len(every), f"{trial.method} on {trial.dataset}")
        place = (trial.dataset, trial.include_target)
        if place not in tables:
            tables = {place: _table(trial, registry)}
        exact = compute(trial, tables[place], registry)
        # Six digits are more than any deviation over seeds needs, and a third of the size.
        scores = {rows: {name: float(f"{value:.6g}") for name, value in own.items()} for rows, own in exact.items()}
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"trial": asdict(trial), "scores": scores}, allow_nan=False) + "\n")


def _table(trial: Trial, registry: Registry) -> Table:
    from bench.files.fetch import load_table
    from bench.plugins.registry import load

    return load_table(load(registry.dataset(trial.dataset))(), trial.include_target).table


def compute(trial: Trial, table: Table, registry: Registry) -> dict[str, dict[str, float]]:
    """Return rows that are scored (``test``, ``all``) -> definition -> error of a trial."""
    import numpy as np

    from bench.data.table import Table, Values
    from bench.experiment.expand import resolved_parameters
    from bench.experiment.presets import budget_for
    from bench.plugins.registry import load
    from bench.problem.build import build_problem
    from bench.problem.complete import ask, complete
    from bench.problem.definitions import errors_by_definition
    from bench.problem.metrics import reference_of
    from bench.problem.scenario import Scenario
    from bench.run.machine import Machine

    schema = table.schema
    given = table
    if trial.coded:
        given = Table(_as_numbers(schema), table.scalars, {}, table.present, table.test)
    mechanism = registry.mechanism("mcar")
    # The name of the table's content is part of no random stream.
    scenario = Scenario(
        trial.dataset, "", trial.include_target, "mcar", dict(mechanism.parameters), RATIO, trial.mask_seed
    )
    problem = build_problem(given, [scenario], [load(mechanism)()])
    name, changed = METHODS[trial.method]
    info = registry.method(name)
    budget = budget_for(PRESET, schema.kinds)
    method = load(info)(resolved_parameters(info, "default", changed), Machine().context(budget, "none"))
    everything = trial.fitted == "all"
    fitted_on, data = (problem.everything, problem.everything) if everything else (problem.train, problem.test)
    answer = ask(method, fitted_on, problem.validation, data, [trial.seed], budget.draws)
    (imputed,) = answer.imputed
    assert isinstance(imputed, Values)
    values, _ = complete(imputed, data, fitted_on)
    scalars = values.scalars
    if trial.coded:
        most = np.array([max(len(a.levels) - 1, 0) for a in schema.attributes], dtype=float)[schema.scalar_indices]
        categories = schema.scalar_columns("categorical")
        scalars = scalars.copy()
        scalars[:, categories] = np.clip(np.rint(scalars[:, categories]), 0, most[categories])
    reference, (split,), (mask,) = reference_of(table), problem.splits, problem.masks
    rows = np.arange(len(table)) if everything else split.test
    scored = table.present[rows] & ~mask[rows]
    found = {}
    for where in ("test", "all") if everything else ("test",):
        own = np.isin(rows, split.test) if where == "test" else np.ones(len(rows), dtype=np.bool_)
        found[where] = errors_by_definition(table.scalars[rows[own]], scalars[own], scored[own], schema, reference)
    return found


def _as_numbers(schema: Schema) -> Schema:
    """Return a schema whose categories are numbers, their codes: what a package that knows no categories sees."""
    from bench.data.schema import Attribute, Schema

    return Schema(tuple(Attribute(a.name, "numeric") for a in schema.attributes))
