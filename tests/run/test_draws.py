"""What a method draws is scored beside its imputation, and never instead of it or at its cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiment.cell import Job
from bench.experiment.expand import jobs_of
from bench.files.fetch import load_table
from bench.plugins.registry import Registry, load
from bench.problem import draws as drawing
from bench.problem.draw_scores import DrawTotals
from bench.problem.metrics import reference_of
from bench.run.fit import problem_of
from bench.run.job import run_job
from bench.run.machine import Machine
from bench.seeds import canonical_json, generator
from tests.toys import DATA, PICTURES, jobs_for, make_cell, write_plugins

#: Draws numbers about 0 and levels alike, or what a test puts in place of that.
DRAWING = '''
import numpy as np

from bench.api import Method, Values, generator


class Drawing(Method):
    """Imputes 0 and draws."""

    name = "drawing"
    kinds = ("numeric", "categorical", "image")

    def fit(self, train, validation, seed):
        self.seed = seed

    def impute(self, data, draws):
        values = data.values()
        blocks = {name: np.nan_to_num(block) for name, block in values.blocks.items()}
        return Values(np.nan_to_num(values.scalars), blocks)

    def sample(self, data, draws, seed):
        values, schema = data.values(), data.schema
        rng = generator("drawing", self.seed, seed)
        found = []
        for _ in range(draws):
            e = rng.normal(size=values.scalars.shape)
            for column in schema.scalar_columns("categorical"):
                e[:, column] = rng.integers(0, schema.attributes[schema.scalar_indices[column]].width, len(e))
            found.append(Values(np.where(np.isnan(values.scalars), e, values.scalars), values.blocks))
        # Here.
        return found
'''

STACK = '''
import numpy as np

from bench.api import StackedMethod, Values, generator


class Stack(StackedMethod):
    """Draws for every replica, and wrongly for the second."""

    name = "stack"

    def fit_many(self, train, validation, seeds):
        self.seeds = list(seeds)

    def impute_many(self, data, draws):
        return [Values(np.nan_to_num(data.values(r).scalars)) for r in range(data.replicas)]

    def sample_many(self, data, draws, seed):
        found = []
        for replica, own in enumerate(self.seeds):
            shown, rng = data.values(replica).scalars, generator("stack", own, seed)
            e = rng.normal(size=(draws, *shown.shape))
            if own == 1:
                e[0] = np.nan
            found.append([Values(np.where(np.isnan(shown), one, shown)) for one in e])
        return found
'''


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))


def registry_of(tmp_path: Path, **sources: str) -> Registry:
    return Registry.scan([write_plugins(tmp_path / "plugins", data=DATA, pictures=PICTURES, **sources)])


def rows_of(job: Job) -> list[dict[str, Any]]:
    """Return the results of a job as the rows that are stored, back from JSON."""
    return [json.loads(canonical_json(result.as_json())) for result in run_job(job, Machine())]


def row_of(tmp_path: Path, source: str = DRAWING, dataset: str = "toy_mixed") -> dict[str, Any]:
    """Return the first row of the method that a source holds."""
    (row,) = rows_of(jobs_for(registry_of(tmp_path, drawing=source), ("drawing",), dataset)[0])
    assert row["status"] == "ok", row["reason"]
    return row


@pytest.mark.parametrize("rows", [1000, 5])
def test_a_row_holds_what_the_draws_of_its_hidden_test_entries_score(
    tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Three numbers and a category of three levels, ten draws of each.
    monkeypatch.setattr(drawing, "CHUNK_FLOATS", rows * 10 * 6)
    registry = registry_of(tmp_path, drawing=DRAWING)
    job = jobs_for(registry, ("drawing",))[0]
    (row,) = rows_of(job)
    table = load_table(load(registry.dataset("toy_mixed"))()).table
    problem = problem_of(job, table)
    test, mask = problem.splits[0].test, problem.masks[0]
    totals = DrawTotals(table.schema, reference_of(table), len(test))
    for number, start in enumerate(range(0, len(test), rows)):
        # By hand: random numbers of their own for each chunk of rows.
        own = test[start : start + rows]
        rng, drawn = generator("drawing", job.cells[0].seed, number), []
        for _ in range(10):
            e = rng.normal(size=(len(own), 4))
            e[:, 3] = rng.integers(0, 3, len(own))
            drawn.append(e)
        totals.add(table.take(own), np.stack(drawn), mask[own], table.present[own])
    expected = totals.scores()
    assert expected is not None and row["draws"] == json.loads(canonical_json(expected.as_json()))
    assert row["draws"]["draws"] == row["cell"]["budget"]["scored_draws"] == 10
    assert {"crps", "coverage_90", "brier", "log_score", "energy_distance"} <= row["draws"]["all"].keys()


def test_draws_change_nothing_of_the_imputation_and_a_method_without_them_has_none(tmp_path: Path) -> None:
    with_draws = row_of(tmp_path)
    without = row_of(tmp_path, DRAWING.partition("    def sample")[0])
    assert "draws" in with_draws and "draws" not in without
    assert with_draws["metrics"] == without["metrics"] and with_draws["attributes"] == without["attributes"]


@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        ("raise ValueError('no luck')", "ValueError: no luck"),
        ("return found[1:]", "did not give 10 draws"),
        ("return [np.zeros(3)] * draws", "a draw is ndarray"),
        ("return [Values(one.scalars[:2]) for one in found]", "a draw has shape (2, 4)"),
        ("return [Values(np.full_like(one.scalars, np.inf)) for one in found]", "NaN or infinite"),
        ("return [Values(np.full_like(one.scalars, 0.5)) for one in found]", "no level's code"),
    ],
)
def test_what_is_wrong_with_draws_is_a_warning_and_the_imputation_stands(
    tmp_path: Path, instead: str, reason: str
) -> None:
    sound = row_of(tmp_path)
    row = row_of(tmp_path, DRAWING.replace("# Here.", instead))
    assert "draws" not in row and row["metrics"] == sound["metrics"]
    (warning,) = (text for text in row["warnings"] if "draws" in text)
    assert warning.startswith("its draws are not scored: ") and reason in warning


def test_a_replica_whose_draws_are_wrong_leaves_the_others(tmp_path: Path) -> None:
    registry = registry_of(tmp_path, stack=STACK)
    (job,) = jobs_for(registry, ("stack",), "toy_numbers")
    rows = rows_of(job)
    assert [cell.seed for cell in job.cells] == [0, 1, 2]
    assert ["draws" in row for row in rows] == [True, False, True]
    assert any("NaN" in text for text in rows[1]["warnings"]) and not rows[0]["warnings"]
    alone = jobs_of([job.cells[2]], registry)[0]
    assert rows_of(alone)[0]["draws"] == rows[2]["draws"]


def test_labels_and_numbers_beside_images_are_scored_and_images_are_not(tmp_path: Path) -> None:
    row = row_of(tmp_path, dataset="toy_pictures")
    assert row["draws"]["attributes"].keys() == {"half", "light"}


def test_rows_that_show_nothing_may_be_left_nan(tmp_path: Path) -> None:
    # At a ratio of 0.9 some rows of four attributes show nothing.
    left = "return [Values(np.where(data.observed[0].any(axis=1)[:, None], o.scalars, np.nan)) for o in found]"
    registry = registry_of(tmp_path, drawing=DRAWING.replace("# Here.", left))
    cell = jobs_for(registry, ("drawing",))[0].cells[0]
    (row,) = rows_of(jobs_of([make_cell(**{**cell.as_json(), "ratio": 0.9})], registry)[0])
    assert row["counts"]["nothing_observed_rows"] > 0 and "all" in row["draws"]
