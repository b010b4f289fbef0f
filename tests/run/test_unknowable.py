"""The runner fills what no method can know, and a method that fills none of it gets the floor's scores there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.experiment.expand import cells_of, jobs_of
from bench.experiment.reader import parse_spec
from bench.experiment.result import Result
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry
from bench.run.job import run_job
from bench.run.machine import Machine
from tests.toys import DATA, contents_for, table_text, write_plugins

#: Hides the columns, or the rows, that its parameters name.
MECHANISM = '''
import numpy as np

from bench.api import Mechanism


class Blank(Mechanism):
    """Hides whole columns and whole rows."""

    name = "blank"
    parameters = {"columns": 4, "every": 1}

    def missing_probability(self, values, schema, ratio, rng, **parameters):
        hidden = np.zeros((len(values.scalars), len(schema)))
        hidden[:: parameters["every"], : parameters["columns"]] = 1.0
        return hidden
'''

#: The README's example in short, and a method that is the floor.
METHODS = '''
from bench.api import Method, fill_hidden, observed_statistics


class Mode(Method):
    """Means and modes, as far as pandas finds any."""

    name = "bare"

    def fit(self, train, validation, seed):
        frame = train.frame()
        self.fill = {**frame.mode().iloc[0], **frame.select_dtypes("number").mean()}

    def impute(self, data, draws):
        filled = data.frame().fillna(self.fill)
        return filled.mask(data.frame().isna().all(axis=1))


class Floor(Method):
    """Means and modes."""

    name = "full"

    def fit(self, train, validation, seed):
        self.statistics = observed_statistics(train)

    def impute(self, data, draws):
        return fill_hidden(data.values(), data.observed[0], self.statistics)
'''


@pytest.mark.parametrize(("columns", "every", "ratio"), [(1, 1, 0.25), (4, 1, 0.9), (4, 2, 0.5)])
def test_a_method_that_leaves_what_nobody_can_know_scores_as_the_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, every: int, ratio: float
) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    folder = write_plugins(tmp_path / "plugins", data=DATA, blank=MECHANISM, methods=METHODS)
    registry = Registry.scan([folder])
    chosen = f"mechanism_parameters = {{ columns = {columns}, every = {every} }}"
    text = table_text(("bare", "full")).replace("ratio = 0.5", f"ratio = {ratio}\n{chosen}")
    spec = parse_spec(text.replace('"mcar"', '"blank"'), "toy.toml")
    cells = cells_of(spec.cells(), spec, Scope(preset="smoke"), registry, contents_for(registry, "toy_mixed"))
    results: dict[str, Result] = {}
    for job in jobs_of(cells, registry):
        (result,) = run_job(job, Machine())
        if result.cell.seed == 0:
            results[result.cell.method] = result
    bare, full = results["bare"], results["full"]
    assert (bare.status, full.status) == ("ok", "ok"), bare.reason
    assert bare.metrics == full.metrics and bare.attributes == full.attributes
    if every == 1:
        assert bare.warnings == full.warnings != ()
    else:
        assert full.warnings == ()
        assert "rows show nothing, and the method left them NaN" in bare.warnings[0]
