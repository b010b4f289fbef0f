"""Trials of the audit are what the runner computes, and a run that is stopped goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.errors import Stopped
from bench.experiment.audit_trials import TRIALS, Trial, read_trials, trials
from bench.paths import audit_folder, shipped_rows_folder
from bench.plugins.registry import Registry
from bench.run import audit
from bench.run.store import Store

SHIPPED = read_trials([audit_folder() / TRIALS])
NO_PLUGINS = Registry({}, {}, {})


def test_the_trials_that_ship_are_all_there_are() -> None:
    assert SHIPPED.keys() == {trial.key for trial in trials()}


@pytest.mark.parametrize(
    ("method", "own", "fitted"),
    [("floor", "mean_mode", "training"), ("MICE, mean", "mice", "training"), ("MissForest", "missforest", "all")],
)
@pytest.mark.parametrize("dataset", ["yeast", "heart", "mushroom"])
def test_a_trial_in_the_suites_own_setting_is_the_shipped_row(method: str, own: str, fitted: str, dataset: str) -> None:
    asked = {"mechanism": {"mcar"}, "preset": {"quick"}}
    rows = {
        row.cell.seed: row
        for row in Store(shipped_rows_folder()).rows({dataset}, {own}, cell=asked)
        if row.cell.ratio == 0.5 and not row.cell.overrides and not row.cell.include_target
    }
    pairs = {"nrmse_rel": "norm/pooled/minmax", "pfc": "pfc/columns", "pfc_pooled": "pfc/pooled"}
    for seed in (0, 1, 2):
        scores = SHIPPED[Trial(dataset, False, False, fitted, method, seed, seed).key]["scores"]["test"]
        metrics = rows[seed].metrics["all"]
        shared = [name for name in pairs if name in metrics]
        assert shared
        # Another processor may round the split of a forest otherwise.
        close = 1e-5 if own == "mean_mode" else 2e-2
        assert [scores[pairs[name]] for name in shared] == pytest.approx([metrics[name] for name in shared], rel=close)


def test_trials_are_computed_once_and_a_stopped_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / TRIALS
    seen: list[Trial] = []

    def compute(trial: Trial, *_: Any) -> dict[str, dict[str, float]]:
        seen.append(trial)
        return {"test": {"x": 1 / 3}}

    monkeypatch.setattr(audit, "trials", lambda: list(trials())[:3])
    monkeypatch.setattr(audit, "_table", lambda trial, registry: None)
    monkeypatch.setattr(audit, "compute", compute)

    def after_two() -> None:
        if len(seen) == 2:
            raise Stopped("enough")

    with pytest.raises(Stopped):
        audit.compute_trials(path, NO_PLUGINS, after_two, lambda *told: None)
    audit.compute_trials(path, NO_PLUGINS, lambda: None, lambda *told: None)
    assert len(seen) == len(set(seen)) == 3
    assert [record["scores"] for record in read_trials([path]).values()] == [{"test": {"x": 0.333333}}] * 3
