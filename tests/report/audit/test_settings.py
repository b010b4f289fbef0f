"""Settings of the audit: values, halves and what remains, on grids whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from bench.experiment.audit_trials import METHODS, Record, Trial, read_trials, trials
from bench.report import read_published
from bench.report.audit.page import audit_lines, audit_of
from bench.report.audit.settings import Grid, Target, grid_of, halves, remaining, values_by_choice

PUBLISHED = read_published()


def made_up(value: Mapping[tuple[str, str], float]) -> list[Record]:
    """Return all trials with two definitions of each kind: the value of (method, data set), and twice that."""
    found: list[Record] = []
    for trial in trials():
        level = value.get((trial.method, trial.dataset), 0.5)
        own = {"norm/pooled/minmax": level, "sd/pooled/raw": 2 * level, "pfc/columns": level, "pfc/pooled": 3 * level}
        rows = ("test", "all") if trial.fitted == "all" else ("test",)
        found.append({"trial": vars(trial), "scores": {name: own for name in rows}})
    return found


def test_there_is_a_trial_for_every_choice_and_none_twice() -> None:
    every = list(trials())
    assert len({trial.key for trial in every}) == len(every) == 480
    assert {trial.method for trial in every} == set(METHODS)
    fixed = [trial for trial in every if trial.seed != trial.mask_seed]
    assert {(trial.mask_seed, trial.fitted) for trial in fixed} == {(0, "training")}


def test_a_setting_takes_its_own_values_and_the_nearest_is_found() -> None:
    names = {"phishing": "Phishing", "mushroom": "Mushroom", "yeast": "Yeast", "whitewine": "Whitewine"}
    truth = {(key.method, key.dataset): value.mean for key, value in PUBLISHED.items() if key.table == 6}
    value: dict[tuple[str, str], float] = {}
    for own, name in names.items():
        value["MissForest", own] = truth["MissForest", name]
        value["MICE, mean", own] = truth["MICE", name]
        value["MICE, draw", own] = 2 * truth["MICE", name]
    grid = grid_of(made_up(value), PUBLISHED)
    # Two definitions of each kind, three choices of rows, and two of each of four other things.
    assert len(grid.settings) == 2 * 2 * 3 * 2**4 and grid.values.shape[1] == len(grid.targets) == 12
    kept = [index for index, target in enumerate(grid.targets) if target.dataset != "Heart"]
    distances = grid.distances[:, kept].mean(axis=1)
    best = {str(grid.settings[index]) for index in np.flatnonzero(distances < 1e-9)}
    assert best and all("norm/pooled/minmax" in text and "mice mean" in text for text in best)
    assert all("pfc pfc/columns" in text and "phishing phishing," not in text for text in best)
    audit = audit_of(grid, [])
    assert audit.computed == audit.tried and audit.best is not None and audit.best.mice == "mean"
    assert any("no default follows from it" in line for line in audit_lines(audit))


def grid(values: list[list[float]]) -> Grid:
    """Return a grid with a published one in each of four columns."""
    found = grid_of(made_up({}), PUBLISHED)
    targets = tuple(Target("MICE", name, "all", 1.0) for name in ("Phishing", "Mushroom", "Yeast", "Whitewine"))
    return Grid(found.settings[: len(values)], targets, np.array(values))


def test_what_fits_by_chance_on_one_half_is_judged_on_the_other() -> None:
    # Each setting is exact in two columns and off by the factor e in the others: fitting says nothing.
    e = math.e
    chance = grid([[1, 1, e, e], [e, e, 1, 1], [1, e, 1, e], [e, 1, e, 1], [1, e, e, 1], [e, 1, 1, e]])
    found = halves(chance)
    assert (found.ways, found.beats_median) == (6, 0)
    assert found.fitted == pytest.approx(0.0) and found.judged == pytest.approx(1.0)
    assert found.median == pytest.approx(0.5)
    # One setting that is right everywhere is right on the other half too.
    right = halves(grid([[1, 1, 1, 1], [e, e, 1, e], [e, 1, e, e]]))
    assert (right.fitted, right.judged) == pytest.approx((0.0, 0.0)) and right.beats_median == 6


def test_what_remains_meets_every_number() -> None:
    near = grid([[1.0, 1.0, 1.0, 1.0], [1.09, 0.92, 1.0, 1.0], [1.0, 1.0, 1.0, 1.2], [1.3, 1.0, 1.0, 1.0]])
    assert remaining(near) == 2
    assert (remaining(near, numeric=True), remaining(near, numeric=False)) == (3, 3)


def test_what_was_not_computed_is_no_value() -> None:
    records = [record for record in made_up({}) if record["trial"]["dataset"] != "whitewine"]
    found = grid_of(records, PUBLISHED)
    column = [target.dataset for target in found.targets].index("Whitewine")
    assert np.isnan(found.values[:, column]).all()
    audit = audit_of(found, [])
    assert audit.computed == 0 and audit.halves is None and audit.best is None
    assert any("0 of them are computed" in line for line in audit_lines(audit))
    assert not any(each.target.endswith("Whitewine") for each in audit.reached)


def test_values_with_and_without_new_masks_are_kept_apart() -> None:
    def record(seed: int, mask_seed: int, value: float) -> dict[str, Any]:
        trial = Trial("yeast", False, False, "training", "MissForest", seed, mask_seed)
        return {"trial": vars(trial), "scores": {"test": {"none/pooled/raw": value}}}

    records = [record(0, 0, 1.0), record(1, 1, 2.0), record(2, 2, 3.0), record(1, 0, 4.0), record(2, 0, 5.0)]
    (redrawn,), (fixed,) = (values_by_choice(records, own).values() for own in (True, False))
    assert (redrawn, fixed) == ([1.0, 2.0, 3.0], [1.0, 4.0, 5.0])


def test_torn_lines_are_left_out_and_later_files_win(tmp_path: Any) -> None:
    (trial, *_) = trials()
    import json

    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text(json.dumps({"trial": vars(trial), "scores": 1}) + '\n{"trial": {"da\n[]\n{"trial": {}}\n')
    second.write_text(json.dumps({"trial": vars(trial), "scores": 2}) + "\n")
    assert [record["scores"] for record in read_trials([first, second, tmp_path / "none"]).values()] == [2]
