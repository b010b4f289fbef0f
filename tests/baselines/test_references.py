"""What every reference beyond the paper owes: Gaussian EM, latent classes, nearest neighbours and the hot deck."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.api import BenchError, Budget, Context, Incomplete, Stopped, Table
from tests.classical import Load, imputed, module_of, run, split, table_for
from tests.truth import some_rows_of, truth_behind

NAMES = ("gaussian_em", "latent_class", "knn", "hot_deck")


EVERY_METHOD = pytest.mark.parametrize("name", NAMES)


SMALL = Budget(sweeps=1)


@EVERY_METHOD
def test_hidden_truth_changes_nothing(load: Load, name: str) -> None:
    table, observed = table_for(name)
    clean = run(load(name)(None, Context(SMALL)), *split(table, observed))
    for poison in (np.nan, 1e6):
        poisoned = Table(table.schema, np.where(observed, table.scalars, poison), {}, table.present)
        again = run(load(name)(None, Context(SMALL)), *split(poisoned, observed))
        assert again.tobytes() == clean.tobytes()


@EVERY_METHOD
def test_observed_entries_come_back_and_a_seed_decides_the_rest(load: Load, name: str) -> None:
    train, test = split(*table_for(name))
    method = load(name)(None, Context(SMALL))
    first = run(method, train, test, seed=2**62 + 5)
    observed, truth = test.observed[0], truth_behind(test)
    assert first[observed].tobytes() == truth[observed].tobytes()
    assert np.isfinite(first).all()
    assert first.tobytes() == run(load(name)(None, Context(SMALL)), train, test, seed=2**62 + 5).tobytes()
    assert first.tobytes() == imputed(method, test).tobytes()
    other = run(load(name)(None, Context(SMALL)), train, test, seed=3)
    assert (other.tobytes() == first.tobytes()) == (name in ("gaussian_em", "knn"))


@EVERY_METHOD
def test_awkward_columns_and_rows_give_valid_values(load: Load, name: str) -> None:
    """A constant column, one never observed in training, a row with nothing observed, an unseen level."""
    table, observed = table_for(name)
    scalars, observed = table.scalars.copy(), observed.copy()
    scalars[:, 1] = 0.1
    observed[:48, 2] = False
    observed[[3, 50]] = False
    if name != "gaussian_em":
        scalars[:48, 3] = np.minimum(scalars[:48, 3], 1.0)
        scalars[48:, 3], observed[51:, 3] = 2.0, True
        observed[:48, 4] = False
    train, test = split(Table(table.schema, scalars, {}, table.present), observed)
    found, hidden = run(load(name)(None, Context(SMALL)), train, test), ~test.observed[0]
    assert np.isfinite(found).all()
    assert np.allclose(found[:, 1], 0.1, rtol=1e-12)
    assert hidden[:, 2].any()
    assert (found[hidden[:, 2], 2] == 0.0).all()
    if name != "gaussian_em":
        assert np.isin(found[:, 3:], [0.0, 1.0, 2.0]).all()
        assert (found[hidden[:, 4], 4] == 0.0).all()


@EVERY_METHOD
@pytest.mark.parametrize("rows", [1, 2])
def test_a_table_of_one_or_two_rows_is_imputed(load: Load, name: str, rows: int) -> None:
    table, observed = table_for(name)
    observed = np.ones_like(observed)
    observed[0, 1] = observed[10] = False
    train, test = (Incomplete(table, np.arange(a, a + rows)[None], observed[a : a + rows][None]) for a in (0, 10))
    found = run(load(name)(None, Context(SMALL)), train, test)
    assert found.shape == (rows, len(table.schema))
    assert np.isfinite(found).all()


@EVERY_METHOD
def test_nothing_observed_in_training_and_nothing_hidden_are_no_trouble(load: Load, name: str) -> None:
    table, observed = table_for(name)
    observed = observed.copy()
    observed[:48] = False
    train, test = split(table, observed)
    found = run(load(name)(None, Context(SMALL)), train, test)
    assert np.array_equal(found, np.where(test.observed[0], table.scalars[48:], 0.0))
    train, test = split(table, np.ones_like(observed))
    assert np.array_equal(run(load(name)(None, Context(SMALL)), train, test), table.scalars[48:])
    empty = Incomplete(table, np.zeros((1, 0), dtype=np.int64), observed[:0][None])
    method = load(name)(None, Context(SMALL))
    method.fit(train, train, 0)
    assert imputed(method, empty).shape == (0, len(table.schema))


@EVERY_METHOD
def test_stop_ends_the_work_and_progress_is_reported(load: Load, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = split(*table_for(name))
    seen: list[tuple[int, int, str]] = []
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Stopped

    loaded = load(name)
    if name == "knn":
        monkeypatch.setattr(module_of(loaded), "CHUNK_FLOATS", len(train))
    with pytest.raises(Stopped):
        run(loaded(None, Context(SMALL, progress=lambda *report: seen.append(report), stop=stop)), train, test)
    assert [done for done, _, _ in seen] == [0, 1]
    assert all(done < total for done, total, _ in seen)


@pytest.mark.parametrize("name", ["gaussian_em", "latent_class", "knn"])
def test_a_row_is_imputed_the_same_alone_as_among_others(load: Load, name: str) -> None:
    train, test = split(*table_for(name))
    method = load(name)(None, Context(SMALL))
    together = run(method, train, test)
    for row in range(len(test)):
        alone = some_rows_of(test, slice(row, row + 1))
        assert np.allclose(imputed(method, alone)[0], together[row], rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gaussian_em", {"ridge": 0.0}), ("latent_class", {"components": 0}), ("knn", {"neighbours": 0})],
)
def test_a_parameter_that_makes_no_sense_is_refused(load: Load, name: str, parameters: dict[str, Any]) -> None:
    train, _ = split(*table_for(name))
    with pytest.raises(BenchError, match=f"{name}: {next(iter(parameters))} must be"):
        load(name)(parameters).fit(train, train, 0)
