"""What every classical method of the paper owes: the floor, chained equations, MissForest in both protocols."""

from __future__ import annotations

import numpy as np
import pytest

from bench.api import Attribute, Context, Incomplete, Schema, Stopped, Table
from tests.classical import NEEDS_MISSINGPY, SMALL, Load, imputed, nonlinear_table, run, split, views
from tests.truth import rows_behind, some_rows_of, truth_behind

NAMES = ("mean_mode", "mice", "missforest_inductive", "missforest")


EVERY_METHOD = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_MISSINGPY if name == "missforest" else ()) for name in NAMES]
)


def awkward_views() -> tuple[Incomplete, Incomplete]:
    """Return views with a constant column, columns never observed in training, an unseen level and an empty row."""
    rng = np.random.default_rng(6)
    rows = 50
    number = rng.normal(size=rows)
    level = (number > 0).astype(float)
    level[40:45] = 2.0
    scalars = np.stack(
        [number, 2 * number, np.full(rows, 0.1), rng.normal(size=rows), level, np.ones(rows), 1 - level.clip(0, 1)],
        axis=1,
    )
    levels = ("p", "q", "r")
    schema = Schema(
        (
            Attribute("number", "numeric"),
            Attribute("double", "numeric"),
            Attribute("constant", "numeric"),
            Attribute("unseen", "numeric"),
            Attribute("level", "categorical", levels=levels),
            Attribute("never", "categorical", levels=levels),
            Attribute("other", "categorical", levels=levels),
        )
    )
    observed = rng.random(scalars.shape) < 0.7
    observed[:40, [3, 5]] = False
    observed[40:45, 4] = True
    observed[46] = False
    return split(Table(schema, scalars, {}, np.ones(scalars.shape, dtype=bool)), observed)


@EVERY_METHOD
def test_hidden_truth_changes_nothing(load: Load, name: str, tiny_table: Table) -> None:
    train, test = views(tiny_table, 0.3)
    clean = run(load(name)(None, Context(SMALL)), train, test)
    for poison in (np.nan, 1e6):
        hidden = np.zeros((len(tiny_table), 4), dtype=bool)
        for view in (train, test):
            hidden[rows_behind(view)[0]] = ~view.observed[0]
        poisoned = Table(tiny_table.schema, np.where(hidden, poison, tiny_table.scalars), {}, tiny_table.present)
        again = run(load(name)(None, Context(SMALL)), *split(poisoned, ~hidden))
        assert again.tobytes() == clean.tobytes()


@EVERY_METHOD
def test_observed_entries_come_back_and_a_seed_decides_the_rest(load: Load, name: str, tiny_table: Table) -> None:
    train, test = views(tiny_table, 0.3)
    method = load(name)(None, Context(SMALL))
    first = run(method, train, test, seed=2**62 + 5)
    observed, truth = test.observed[0], truth_behind(test)
    assert first[observed].tobytes() == truth[observed].tobytes()
    assert first.tobytes() == run(load(name)(None, Context(SMALL)), train, test, seed=2**62 + 5).tobytes()
    if "inductive" in method.protocols:
        assert first.tobytes() == imputed(method, test).tobytes()


@EVERY_METHOD
def test_awkward_tables_give_valid_values(load: Load, name: str) -> None:
    train, test = awkward_views()
    found = run(load(name)(None, Context(SMALL)), train, test)
    assert np.isfinite(found).all()
    codes = found[:, 4:]
    assert np.array_equal(codes, np.clip(np.round(codes), 0, 2))
    assert np.allclose(found[:, 2], 0.1, rtol=1e-12)
    if name != "missforest":
        hidden = ~test.observed[0]
        assert (found[hidden[:, 3], 3] == 0.0).all()
        assert (found[hidden[:, 5], 5] == 0.0).all()


@EVERY_METHOD
@pytest.mark.parametrize("rows", [1, 2])
def test_a_table_of_one_or_two_rows_is_imputed(load: Load, name: str, rows: int, tiny_table: Table) -> None:
    observed = np.ones((len(tiny_table), 4), dtype=bool)
    observed[0, 1] = observed[10] = False
    train, test = (Incomplete(tiny_table, np.arange(a, a + rows)[None], observed[a : a + rows][None]) for a in (0, 10))
    found = run(load(name)(None, Context(SMALL)), train, test)
    assert found.shape == (rows, 4)
    assert np.isfinite(found).all()


@EVERY_METHOD
def test_one_column_and_no_hidden_entry_are_no_trouble(load: Load, name: str) -> None:
    schema = Schema((Attribute("only", "numeric"),))
    numbers = np.arange(20.0)[:, None]
    observed = np.arange(20)[:, None] % 3 > 0
    train, test = split(Table(schema, numbers, {}, np.ones_like(observed)), observed)
    assert np.isfinite(run(load(name)(None, Context(SMALL)), train, test)).all()
    table = nonlinear_table(30)
    train, test = split(table, np.ones((30, 4), dtype=bool))
    found = run(load(name)(None, Context(SMALL)), train, test)
    assert np.array_equal(found, table.scalars[24:])


@EVERY_METHOD
def test_stop_ends_the_work_and_progress_is_reported(load: Load, name: str, tiny_table: Table) -> None:
    if name == "mean_mode":
        pytest.skip("nothing to stop")
    train, test = views(tiny_table, 0.3)
    seen: list[tuple[int, int, str]] = []
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Stopped

    context = Context(SMALL, progress=lambda *report: seen.append(report), stop=stop)
    with pytest.raises(Stopped):
        run(load(name)(None, context), train, test)
    assert 3 <= len(seen) <= 4
    assert [done for done, _, _ in seen] == list(range(len(seen)))
    assert all(done < total for done, total, _ in seen)


@pytest.mark.parametrize("name", ["mice", "missforest_inductive"])
def test_an_inductive_method_imputes_a_row_the_same_alone_as_among_others(load: Load, name: str) -> None:
    train, test = views(nonlinear_table(120))
    method = load(name)(None, Context(SMALL))
    together = run(method, train, test)
    for row in range(3):
        alone = some_rows_of(test, slice(row, row + 1))
        assert np.allclose(imputed(method, alone)[0], together[row], rtol=1e-9)


@NEEDS_MISSINGPY
def test_missforest_is_transductive_and_the_other_methods_are_not(load: Load) -> None:
    assert {name: load(name).protocols for name in NAMES} == {
        "mean_mode": ("inductive",),
        "mice": ("inductive",),
        "missforest_inductive": ("inductive",),
        "missforest": ("transductive",),
    }
