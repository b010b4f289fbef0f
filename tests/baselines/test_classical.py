"""The classical methods: the floor, chained equations, MissForest through missingpy and on training rows alone."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from bench.api import (
    Attribute,
    BenchError,
    BoolArray,
    Budget,
    Context,
    FloatArray,
    Incomplete,
    Method,
    Schema,
    Stopped,
    Table,
    Values,
)
from bench.data.statistics import fill_hidden, observed_statistics
from bench.seeds import seed_of

Load = Callable[..., type[Method]]

BASELINES = Path(__file__).resolve().parents[2] / "baselines"
NAMES = ("mean_mode", "mice", "missforest_inductive", "missforest")
NEEDS_MISSINGPY = pytest.mark.skipif(
    importlib.util.find_spec("missingpy") is None, reason="needs missingpy: pip install 'vsae-bench[paper]'"
)
EVERY_METHOD = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=NEEDS_MISSINGPY if name == "missforest" else ()) for name in NAMES]
)
SMALL = Budget(trees=5, sweeps=2)


@pytest.fixture
def load(load_plugin: Callable[..., type[Any]]) -> Load:
    """Return a function from the name of a baseline to its class."""
    return lambda name: load_plugin(BASELINES / f"{name}.py")


def views(table: Table, ratio: float = 0.4, seed: int = 0) -> tuple[Incomplete, Incomplete]:
    """Return a training view of the first 80 % of the rows and a test view of the others, missing at random."""
    observed = np.random.default_rng(seed).random((len(table), len(table.schema))) >= ratio
    return split(table, observed)


def split(table: Table, observed: BoolArray) -> tuple[Incomplete, Incomplete]:
    """Return the views of the first 80 % and of the other rows under one mask [n, M]."""
    parts = np.split(np.arange(len(table)), [int(0.8 * len(table))])
    train, test = (Incomplete(table, part[None], observed[part][None]) for part in parts)
    return train, test


def run(method: Method, train: Incomplete, test: Incomplete, seed: int = 1) -> FloatArray:
    """Return the imputed scalars of the test view; a transductive method is given both views as one."""
    if "transductive" in method.protocols:
        both = Incomplete(
            train._table,
            np.concatenate([train._rows, test._rows], axis=1),
            np.concatenate([train.observed, test.observed], axis=1),
        )
        method.fit(both, both, seed)
        return imputed(method, both)[-len(test) :] if len(test) else imputed(method, both)[:0]
    method.fit(train, train, seed)
    return imputed(method, test)


def imputed(method: Method, view: Incomplete) -> FloatArray:
    """Return the scalars a method imputes for a view."""
    values = method.impute(view, 10)
    assert isinstance(values, Values)
    return values.scalars


def module_of(loaded: type[Method]) -> ModuleType:
    """Return the module a plug-in was loaded as."""
    return sys.modules[loaded.__module__]


def error(test: Incomplete, found: FloatArray, column: int) -> float:
    """Return the RMSE of a number or the share of wrong levels of a category over one column's hidden entries."""
    hidden = ~test.observed[0][:, column]
    truth = test._table.scalars[test._rows[0]][hidden, column]
    if test.schema.attributes[column].kind == "numeric":
        return float(np.sqrt(np.mean(np.square(found[hidden, column] - truth))))
    return float(np.mean(found[hidden, column] != truth))


def gaussian_table(rows: int = 500) -> Table:
    """Return four numbers driven by one common factor, on very different scales."""
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(rows, 1))
    numbers = factor * [1.0, -1.0, 1.0, 1.0] + 0.4 * rng.normal(size=(rows, 4))
    numbers = numbers * [1.0, 1e-6, 1e4, 10.0] + [0.0, 1.0, 5e5, -3.0]
    schema = Schema(tuple(Attribute(f"x{i}", "numeric") for i in range(4)))
    return Table(schema, numbers, {}, np.ones((rows, 4), dtype=bool))


def categorical_table(rows: int = 600) -> Table:
    """Return three categories that copy one hidden cause nine times in ten; the codes' order carries no meaning."""
    rng = np.random.default_rng(4)
    cause = rng.integers(0, 4, rows)
    orders = np.array([[0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2]])
    codes = np.stack([order[cause] for order in orders], axis=1)
    noisy = rng.random(codes.shape) < 0.1
    codes = np.where(noisy, rng.integers(0, 4, codes.shape), codes).astype(float)
    schema = Schema(tuple(Attribute(f"c{i}", "categorical", levels=("a", "b", "c", "d")) for i in range(3)))
    return Table(schema, codes, {}, np.ones(codes.shape, dtype=bool))


def nonlinear_table(rows: int = 400) -> Table:
    """Return a number, its square, its absolute value and a category that says which third it lies in."""
    rng = np.random.default_rng(5)
    number = rng.uniform(-2.0, 2.0, rows)
    level = np.where(np.abs(number) < 1.0, "near", "far")
    return Table.from_frame(
        pd.DataFrame(
            {
                "number": number,
                "square": number**2 + rng.normal(0, 0.05, rows),
                "size": np.abs(number) + rng.normal(0, 0.05, rows),
                "level": level,
            }
        )
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
            hidden[view._rows[0]] = ~view.observed[0]
        poisoned = Table(tiny_table.schema, np.where(hidden, poison, tiny_table.scalars), {}, tiny_table.present)
        again = run(load(name)(None, Context(SMALL)), *split(poisoned, ~hidden))
        assert again.tobytes() == clean.tobytes()


@EVERY_METHOD
def test_observed_entries_come_back_and_a_seed_decides_the_rest(load: Load, name: str, tiny_table: Table) -> None:
    train, test = views(tiny_table, 0.3)
    method = load(name)(None, Context(SMALL))
    first = run(method, train, test, seed=2**62 + 5)
    observed, truth = test.observed[0], test._table.scalars[test._rows[0]]
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
        alone = Incomplete(test._table, test._rows[:, row : row + 1], test.observed[:, row : row + 1])
        assert np.allclose(imputed(method, alone)[0], together[row], rtol=1e-9)


def test_the_floor_fills_every_kind_with_training_statistics(load: Load) -> None:
    schema = Schema((Attribute("picture", "image", shape=(2,)), Attribute("number", "numeric")))
    blocks = {"picture": np.array([[0, 255], [255, 255], [9, 9]], dtype=np.uint8)}
    table = Table(schema, np.array([[1.0], [2.0], [99.0]]), blocks, np.ones((3, 2), dtype=bool))
    method = load("mean_mode")()
    train = Incomplete(table, np.array([[0, 1]]), np.ones((1, 2, 2), dtype=bool))
    method.fit(train, train, 0)
    values = method.impute(Incomplete(table, np.array([[2]]), np.zeros((1, 1, 2), dtype=bool)), 1)
    assert isinstance(values, Values)
    assert values.scalars.tolist() == [[1.5]]
    assert values.blocks["picture"].tolist() == [[0.5, 1.0]]


@pytest.mark.filterwarnings("ignore:.*Early stopping criterion")
def test_mice_is_the_iterative_imputer_on_standardised_numbers(load: Load) -> None:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    train, test = views(gaussian_table())
    statistics = observed_statistics(train)
    mean, scale = statistics.mean, statistics.scale
    reference = IterativeImputer(
        max_iter=6, min_value=(statistics.minimum - mean) / scale, max_value=(statistics.maximum - mean) / scale
    ).fit((train.values().scalars - mean) / scale)
    expected = reference.transform((test.values().scalars - mean) / scale) * scale + mean
    found = run(load("mice")(None, Context(SMALL)), train, test)
    assert np.allclose(found, expected, rtol=1e-12, atol=0)
    floor = run(load("mean_mode")(), train, test)
    for column in range(4):
        assert error(test, found, column) < 0.7 * error(test, floor, column)


def test_mice_runs_the_same_without_fancyimpute_and_says_so(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = views(gaussian_table(100))
    with_it = load("mice")(None, Context(SMALL))
    expected = run(with_it, train, test)
    if importlib.util.find_spec("fancyimpute") is not None:
        assert with_it.diagnostics()[0]["library"].startswith("fancyimpute ")
    monkeypatch.setitem(sys.modules, "fancyimpute", None)
    without = load("mice")(None, Context(SMALL))
    assert run(without, train, test).tobytes() == expected.tobytes()
    assert without.diagnostics()[0]["library"].startswith("scikit-learn ")


@pytest.mark.parametrize("table", [gaussian_table(), categorical_table()], ids=["numbers", "categories"])
def test_mice_draws_spread_and_their_average_does_not(load: Load, table: Table) -> None:
    mice = load("mice")
    train, test = views(table, 0.5)
    found = {
        posterior: run(mice({"posterior": posterior, "imputations": 8}, Context(SMALL)), train, test)
        for posterior in ("point", "avg", "draw")
    }
    errors = {posterior: np.array([error(test, f, c) for c in range(3)]) for posterior, f in found.items()}
    assert (errors["avg"] < errors["draw"]).all()
    assert (errors["avg"] < 1.15 * errors["point"]).all()
    if table.schema.kinds == {"numeric"}:
        hidden = ~test.observed[0]
        for column in range(4):
            spread = {p: f[hidden[:, column], column].std() for p, f in found.items()}
            truth = table.scalars[:, column].std()
            assert spread["point"] < 0.95 * truth
            assert spread["draw"] == pytest.approx(truth, rel=0.25)


def test_mice_refuses_an_unknown_posterior(load: Load) -> None:
    train, _ = views(gaussian_table(20))
    with pytest.raises(BenchError, match="point, avg, draw, not 'median'"):
        load("mice")({"posterior": "median"}).fit(train, train, 0)


def test_the_classifier_chain_beats_the_mode_and_regressed_codes(load: Load) -> None:
    train, test = views(categorical_table())
    found = run(load("mice")(None, Context(SMALL)), train, test)
    floor = run(load("mean_mode")(), train, test)
    as_numbers = Schema(tuple(Attribute(a.name, "numeric") for a in train.schema.attributes))
    table = Table(as_numbers, train._table.scalars, {}, train._table.present)
    rounded = np.round(run(load("mice")(None, Context(SMALL)), *views(table)))
    for column in range(3):
        assert error(test, found, column) < 0.6 * error(test, floor, column)
        assert error(test, found, column) < 0.8 * error(test, rounded, column)


def test_mice_imputes_a_number_from_a_category_and_a_category_from_a_number(load: Load, tiny_table: Table) -> None:
    observed = np.ones((len(tiny_table), 4), dtype=bool)
    observed[32:36, 1] = observed[36:, 2] = False
    train, test = split(tiny_table, observed)
    found = run(load("mice")(None, Context(SMALL)), train, test)
    floor = run(load("mean_mode")(), train, test)
    assert error(test, found, 1) < 0.7 * error(test, floor, 1)
    assert error(test, found, 2) <= error(test, floor, 2)


def test_a_stronger_penalty_keeps_the_chain_nearer_to_the_mean(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({f"x{i}": rng.normal(size=50) for i in range(8)})
    frame["c"] = rng.choice(list("abcde"), 50)
    train, test = views(Table.from_frame(frame), 0.5)
    floor = run(load("mean_mode")(), train, test)

    def ratio() -> float:
        found = run(load("mice")(None, Context(Budget(sweeps=10))), train, test)
        return float(np.mean([error(test, found, column) / error(test, floor, column) for column in range(8)]))

    usual = ratio()
    assert usual < 1.5
    monkeypatch.setattr(module_of(load("mice")), "COEFFICIENT_VARIANCE", 1e-3)
    assert ratio() < min(1.05, usual)


def test_ridge_regression_is_least_squares_with_prior_rows(load: Load) -> None:
    rng = np.random.default_rng(9)
    inputs = rng.normal(size=(30, 3)) + 5.0
    target = inputs @ [1.0, -2.0, 0.5] + rng.normal(size=30) + 7.0
    module = module_of(load("mice"))
    ridge = module.RidgeRegression()
    ridge.fit(inputs, target)
    centred = inputs - inputs.mean(axis=0)
    prior = np.sqrt(1 / module.COEFFICIENT_VARIANCE) * np.eye(3)
    rows = np.vstack([centred, prior])
    coefficients = np.linalg.lstsq(rows, np.concatenate([target - target.mean(), np.zeros(3)]), rcond=None)[0]
    new = rng.normal(size=(4, 3)) + 5.0
    assert np.allclose(ridge.predict(new), target.mean() + (new - inputs.mean(axis=0)) @ coefficients)
    covariance = np.linalg.inv(rows.T @ rows)
    residual = target - ridge.predict(inputs)
    noise = residual @ residual / (30 - 1 - np.trace(centred @ covariance @ centred.T))
    offset = new - inputs.mean(axis=0)
    variance = noise * (1 + np.diag(offset @ covariance @ offset.T))
    assert np.allclose(ridge.deviation(new), np.sqrt(variance))


def test_the_truncated_normal_matches_scipy_and_keeps_its_limits(load: Load) -> None:
    from scipy.stats import truncnorm

    draw = module_of(load("mice")).truncated_normal
    uniform = np.linspace(0.01, 0.99, 25)
    mean, deviation = np.full(25, 0.3), np.full(25, 2.0)
    expected = truncnorm.ppf(uniform, (-1 - 0.3) / 2, (1.5 - 0.3) / 2, loc=0.3, scale=2.0)
    assert np.allclose(draw(mean, deviation, -1.0, 1.5, uniform), expected)
    far = draw(np.array([-1e3, 1e3, 0.0]), np.array([1.0, 1.0, 0.0]), -1.0, 1.5, np.full(3, 0.5))
    assert np.allclose(far, [-1.0, 1.5, 0.0])


@pytest.mark.parametrize("name", ["missforest_inductive", pytest.param("missforest", marks=NEEDS_MISSINGPY)])
def test_forests_beat_the_floor_and_the_linear_chain_where_nothing_is_linear(load: Load, name: str) -> None:
    train, test = views(nonlinear_table(), 0.25)
    found = run(load(name)(None, Context(Budget(trees=10, sweeps=3))), train, test)
    floor = run(load("mean_mode")(), train, test)
    for column in (1, 2, 3):
        assert error(test, found, column) < 0.7 * error(test, floor, column)


def test_inductive_forests_learn_from_training_rows_alone(load: Load) -> None:
    table = nonlinear_table(100)
    flipped = Table(table.schema, table.scalars.copy(), {}, table.present)
    flipped.scalars[81:, 1] *= -1.0
    results = [run(load("missforest_inductive")(None, Context(SMALL)), *views(t, 0.25))[0] for t in (table, flipped)]
    assert results[0].tobytes() == results[1].tobytes()


def test_the_first_sweep_is_missforests_own(load: Load) -> None:
    """Rebuild one sweep by hand: the column with fewest holes first, from the mean and mode, codes as predictors."""
    table = nonlinear_table(60)
    observed = np.random.default_rng(2).random((60, 4)) >= 0.3
    observed[:, 1] = True
    train, test = split(table, observed)
    found = run(load("missforest_inductive")(None, Context(Budget(trees=3, sweeps=1))), train, test, seed=5)

    statistics = observed_statistics(train)
    tables = [fill_hidden(view.values(), view.observed[0], statistics).scalars for view in (train, test)]
    holes = (~train.observed[0]).sum(axis=0)
    for column in [int(c) for c in np.argsort(holes, kind="stable") if holes[c]]:
        others = [c for c in range(4) if c != column]
        random_state = seed_of("missforest_inductive", 5, column, 0) % 2**32
        forest = (
            RandomForestClassifier(3, max_features="sqrt", random_state=random_state)
            if column == 3
            else RandomForestRegressor(3, max_features=1.0, random_state=random_state)
        )
        seen = train.observed[0][:, column]
        forest.fit(tables[0][np.ix_(seen, others)], tables[0][seen, column])
        for values, view in zip(tables, (train, test), strict=True):
            hidden = ~view.observed[0][:, column]
            values[hidden, column] = forest.predict(values[np.ix_(hidden, others)])
    assert np.array_equal(found, tables[1])


def test_a_column_complete_in_training_is_imputed_elsewhere(load: Load) -> None:
    table = nonlinear_table(200)
    observed = np.ones((200, 4), dtype=bool)
    observed[:160:3, 0] = False
    observed[160:, 1] = False
    train, test = split(table, observed)
    found = run(load("missforest_inductive")(None, Context(SMALL)), train, test)
    assert error(test, found, 1) < 0.2 * error(test, run(load("mean_mode")(), train, test), 1)


def test_replay_uses_every_sweep_and_last_sweep_only_one(load: Load) -> None:
    forests = load("missforest_inductive")
    train, test = views(categorical_table(150), 0.4)
    one = run(forests(None, Context(Budget(trees=5, sweeps=1))), train, test)
    budget = Budget(trees=5, sweeps=3)
    replay = forests(None, Context(budget))
    last = forests(forests.parameter_sets["last_sweep"], Context(budget))
    assert run(replay, train, test).tobytes() != run(last, train, test).tobytes()
    assert replay.diagnostics()[0]["sweeps"] >= 2
    # A single sweep leaves nothing to choose between.
    single = forests(forests.parameter_sets["last_sweep"], Context(Budget(trees=5, sweeps=1)))
    assert run(single, train, test).tobytes() == one.tobytes()


def test_the_sweeps_end_where_the_change_rises(load: Load) -> None:
    train, test = views(tiny := nonlinear_table(80), 0.3)
    many = load("missforest_inductive")(None, Context(Budget(trees=3, sweeps=30)))
    found = run(many, train, test)
    sweeps = many.diagnostics()[0]["sweeps"]
    assert 1 <= sweeps < 30
    exact = load("missforest_inductive")(None, Context(Budget(trees=3, sweeps=sweeps)))
    assert run(exact, *views(tiny, 0.3)).tobytes() == found.tobytes()


def restated(numbers: FloatArray, categorical: list[int], trees: int, iterations: int, seed: int) -> list[FloatArray]:
    """Return the table before each iteration of missingpy's algorithm and after the last, written anew."""
    hidden = np.isnan(numbers)
    current = numbers.copy()
    columns = numbers.shape[1]
    numeric = [c for c in range(columns) if c not in categorical]
    for column in categorical:
        levels, counts = np.unique(numbers[~hidden[:, column], column], return_counts=True)
        current[hidden[:, column], column] = levels[counts.argmax()]
    for column, mean in zip(numeric, np.nanmean(numbers[:, numeric], axis=0), strict=True):
        current[hidden[:, column], column] = mean
    tables, last = [current.copy()], [np.inf, np.inf]
    for _ in range(iterations):
        for column in np.argsort(hidden.sum(axis=0)):
            holes = hidden[:, column]
            if not holes.any():
                continue
            others = np.delete(current, column, axis=1)
            forest = (
                RandomForestClassifier(trees, random_state=seed)
                if column in categorical
                else RandomForestRegressor(trees, random_state=seed)
            )
            current[holes, column] = forest.fit(others[~holes], current[~holes, column]).predict(others[holes])
        before = tables[-1]
        tables.append(current.copy())
        moved = np.sum((current - before)[:, numeric] ** 2) / np.sum(current[:, numeric] ** 2) if numeric else np.inf
        changed = np.sum((current != before)[:, categorical]) / hidden[:, categorical].sum() if categorical else np.inf
        if moved >= last[0] and changed >= last[1]:
            break
        last = [moved, changed]
    return tables


def missing_table(kind: str) -> tuple[FloatArray, list[int]]:
    """Return a small table with NaN in hidden entries, and its categorical columns."""
    table = {"numeric": gaussian_table(60), "categorical": categorical_table(60), "mixed": nonlinear_table(60)}[kind]
    scalars = table.scalars.copy()
    # Every column has another number of holes, so that the visiting order does not hang on ties.
    for column in range(scalars.shape[1]):
        scalars[np.random.default_rng(column).permutation(60)[: 10 + 3 * column], column] = np.nan
    return scalars, [int(c) for c in table.schema.scalar_columns("categorical")]


@NEEDS_MISSINGPY
@pytest.mark.parametrize("kind", ["numeric", "categorical", "mixed"])
def test_the_bridge_agrees_with_missingpys_algorithm_written_anew(load: Load, kind: str) -> None:
    scalars, categorical = missing_table(kind)
    missforest = module_of(load("missforest")).load_missforest(lambda: None)
    for iterations in (1, 2, 10):
        imputer = missforest(max_iter=iterations, n_estimators=4, n_jobs=1, random_state=3)
        found = imputer.fit_transform(scalars, cat_vars=categorical or None)
        tables = restated(scalars, categorical, 4, iterations, 3)
        assert imputer.iter_count_ == len(tables) - 1
        # The matrix before its last iteration: with one iteration, the mean and mode.
        assert np.array_equal(found, tables[-2])
    assert not np.array_equal(tables[1], tables[0])


@NEEDS_MISSINGPY
def test_the_method_asks_for_one_iteration_more_than_its_sweeps(load: Load) -> None:
    scalars, categorical = missing_table("mixed")
    table = nonlinear_table(60)
    everything = Incomplete(table, np.arange(60)[None], ~np.isnan(scalars)[None])
    method = load("missforest")(None, Context(Budget(trees=4, sweeps=1)))
    method.fit(everything, everything, 8)
    expected = restated(scalars, categorical, 4, 1, seed_of("missforest", 8) % 2**32)[1]
    assert np.array_equal(imputed(method, everything), expected)
    assert method.diagnostics() == [{"iterations": 2, "trees": 4}]


@NEEDS_MISSINGPY
def test_the_bridge_leaves_no_trace(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.metrics import pairwise

    module = module_of(load("missforest"))

    def state() -> tuple[Any, ...]:
        return (
            {name for name in sys.modules if name.startswith(("missingpy", "sklearn.neighbors"))},
            sys.modules.get("missingpy"),
            list(pairwise._VALID_METRICS),
            dict(pairwise.PAIRWISE_DISTANCE_FUNCTIONS),
            hasattr(np, "in1d"),
            hasattr(sys.modules["sklearn.neighbors"], "base"),
            RandomForestRegressor().criterion,
        )

    before = state()
    first = module.load_missforest(lambda: None)
    scalars, _ = missing_table("numeric")
    first(max_iter=2, n_estimators=1, n_jobs=1).fit_transform(scalars)
    assert state() == before
    assert "missingpy" not in sys.modules
    assert "sklearn.neighbors.base" not in sys.modules
    assert "masked_euclidean" not in pairwise._VALID_METRICS
    assert capsys.readouterr() == ("", "")
    # Two bridges share no state: each class watches its own forests.
    counts = [0, 0]

    def counter(index: int) -> Callable[[], None]:
        def count() -> None:
            counts[index] += 1

        return count

    classes = [module.load_missforest(counter(index)) for index in range(2)]
    classes[0](max_iter=1, n_estimators=1, n_jobs=1).fit_transform(scalars)
    assert counts == [4, 0]


@NEEDS_MISSINGPY
def test_auto_means_all_columns_for_numbers_and_the_square_root_for_categories(load: Load) -> None:
    missforest = module_of(load("missforest")).load_missforest(lambda: None)
    names = missforest.__init__.__globals__
    regressor = names["RandomForestRegressor"](n_estimators=1, criterion="mse", max_features="auto").estimator
    classifier = names["RandomForestClassifier"](n_estimators=1, criterion="gini", max_features="auto").estimator
    assert (regressor.max_features, regressor.criterion) == (1.0, "squared_error")
    assert (classifier.max_features, classifier.criterion) == ("sqrt", "gini")
    assert names["RandomForestRegressor"](criterion="mse", max_features=2).estimator.max_features == 2
    rng = np.random.default_rng(0)
    rows, codes = rng.normal(size=(40, 9)), rng.integers(0, 2, 40)
    assert regressor.fit(rows, rows[:, 0]).estimators_[0].max_features_ == 9
    assert classifier.fit(rows, codes).estimators_[0].max_features_ == 3


@NEEDS_MISSINGPY
def test_missforest_is_transductive_and_the_other_methods_are_not(load: Load) -> None:
    assert {name: load(name).protocols for name in NAMES} == {
        "mean_mode": ("inductive",),
        "mice": ("inductive",),
        "missforest_inductive": ("inductive",),
        "missforest": ("transductive",),
    }
