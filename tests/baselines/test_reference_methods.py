"""The references beyond the paper: Gaussian EM, latent classes, nearest neighbours and the hot deck."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.impute import KNNImputer

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
from bench.data.schema import AnyArray
from bench.data.statistics import observed_statistics
from tests.analytic import Holes, categorical_mixture, linear_gaussian

Load = Callable[..., type[Method]]

BASELINES = Path(__file__).resolve().parents[2] / "baselines"
NAMES = ("gaussian_em", "latent_class", "knn", "hot_deck")
EVERY_METHOD = pytest.mark.parametrize("name", NAMES)
SMALL = Budget(sweeps=1)
QUICK = Budget(preset="quick", sweeps=4)


@pytest.fixture
def load(load_plugin: Callable[..., type[Any]]) -> Load:
    """Return a function from the name of a baseline to its class."""
    return lambda name: load_plugin(BASELINES / f"{name}.py")


def module_of(loaded: type[Method]) -> ModuleType:
    """Return the module a plug-in was loaded as."""
    return sys.modules[loaded.__module__]


def split(table: Table, observed: BoolArray) -> tuple[Incomplete, Incomplete]:
    """Return the views of the first 80 % and of the other rows under one mask [n, M]."""
    parts = np.split(np.arange(len(table)), [int(0.8 * len(table))])
    train, test = (Incomplete(table, part[None], observed[part][None]) for part in parts)
    return train, test


def run(method: Method, train: Incomplete, test: Incomplete, seed: int = 1) -> FloatArray:
    """Return the imputed scalars of the test view."""
    method.fit(train, train, seed)
    return imputed(method, test)


def imputed(method: Method, view: Incomplete) -> FloatArray:
    """Return the scalars a method imputes for a view."""
    values = method.impute(view, 10)
    assert isinstance(values, Values)
    return values.scalars


def table_for(name: str, rows: int = 60) -> tuple[Table, BoolArray]:
    """Return dependent numbers, and categories where the method takes them, and a mask [n, M] with 30 % hidden."""
    rng = np.random.default_rng(5)
    cause = rng.normal(size=rows)
    columns: list[AnyArray] = [cause, 2 * cause + rng.normal(0, 0.3, rows), 1e4 - 500 * cause + rng.normal(0, 80, rows)]
    attributes = [Attribute(f"x{i}", "numeric") for i in range(3)]
    if name != "gaussian_em":
        columns += [np.digitize(cause, [-0.5, 0.5]), (cause > rng.normal(0, 0.5, rows))]
        attributes += [Attribute(f"c{i}", "categorical", levels=tuple("abc"[: 3 - i])) for i in range(2)]
    scalars = np.stack(columns, axis=1).astype(np.float64)
    table = Table(Schema(tuple(attributes)), scalars, {}, np.ones(scalars.shape, dtype=bool))
    return table, rng.random(scalars.shape) >= 0.3


# What every method owes


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
    observed, truth = test.observed[0], test._table.scalars[test._rows[0]]
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
        alone = Incomplete(test._table, test._rows[:, [row]], test.observed[:, [row]])
        assert np.allclose(imputed(method, alone)[0], together[row], rtol=1e-9)


# Gaussian EM


@pytest.mark.parametrize(("latent", "noise"), [(2, 0.5), (3, 0.3)])
def test_gaussian_em_reaches_the_optimum_within_one_percent(load: Load, latent: int, noise: float) -> None:
    holes = Holes.mcar(linear_gaussian(6000, 8, latent, noise, seed=latent), 0.5, seed=0)
    method, found = holes.impute(load("gaussian_em"), budget=QUICK)
    assert holes.floor > 1.2 * holes.optimum
    assert holes.error(found) < 1.01 * holes.optimum
    assert method.diagnostics()[0]["iterations"] < 200


def test_the_e_step_is_the_conditional_mean_and_the_log_likelihood(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of(load("gaussian_em"))
    model = linear_gaussian(300, 5, 2, 0.5, seed=2)
    observed = np.random.default_rng(1).random((300, 5)) >= 0.5
    gaussian = module.Gaussian(np.array([0.5, -1.0, 0.0, 2.0, 0.1]), model.covariance)
    values = model.table.scalars + gaussian.mean
    step = module.expectation(gaussian, np.where(observed, values, np.nan), observed)
    mean, variance = model.conditional(model.table.scalars, observed)
    assert np.allclose(step.values, mean + gaussian.mean, rtol=1e-10)
    assert np.allclose(np.diag(step.hidden_covariance), variance.sum(axis=0), rtol=1e-10)
    likelihood = 0.0
    for row, seen in zip(values, observed, strict=True):
        if seen.any():
            covariance = model.covariance[np.ix_(seen, seen)]
            likelihood += stats.multivariate_normal(gaussian.mean[seen], covariance).logpdf(row[seen])
    assert step.log_likelihood == pytest.approx(likelihood, rel=1e-10)
    # The patterns in many small chunks, some of them cut, give the same.
    monkeypatch.setattr(module, "CHUNK_FLOATS", 7 * 25)
    chunked = module.expectation(gaussian, np.where(observed, values, 0.0), observed)
    assert np.allclose(chunked.values, step.values, rtol=1e-12)
    assert np.allclose(chunked.hidden_covariance, step.hidden_covariance, rtol=1e-10)
    assert chunked.log_likelihood == pytest.approx(step.log_likelihood, rel=1e-12)


def test_no_step_of_em_lowers_the_gaussians_objective(load: Load) -> None:
    module = module_of(load("gaussian_em"))
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.normal(size=(40, 6)), axis=1)
    observed = rng.random(values.shape) >= 0.5
    observed = observed[keep := observed.any(axis=1)]
    values, ridge = values[keep], 0.01
    model, objectives = module.Gaussian(np.zeros(6), np.eye(6)), []
    for _ in range(60):
        step = module.expectation(model, values, observed)
        penalty = 0.5 * ridge * len(values) * np.trace(np.linalg.inv(model.covariance))
        objectives.append(step.log_likelihood - penalty)
        model = module.maximisation(step, ridge)
    assert np.all(np.diff(objectives) > -1e-9)
    assert objectives[-1] > objectives[0] + 10


def test_gaussian_em_does_not_care_for_units_and_survives_copied_columns(load: Load) -> None:
    holes = Holes.mcar(linear_gaussian(600, 4, 2, 0.5, seed=4), 0.4, seed=1)
    _, plain = holes.impute(load("gaussian_em"), budget=QUICK)
    unit, zero = np.array([1e-6, 1.0, 1e5, -3.0]), np.array([5.0, -2.0, 1e6, 0.0])
    table = holes.model.table
    scaled = Table(table.schema, table.scalars * unit + zero, {}, table.present)
    train, test = (Incomplete(scaled, view._rows, view.observed) for view in (holes.train, holes.test))
    found = run(load("gaussian_em")(None, Context(QUICK)), train, test)
    assert np.allclose((found - zero) / unit, plain, atol=1e-6)

    copied = np.column_stack([table.scalars, 2 * table.scalars[:, 0] + 1])
    schema = Schema((*table.schema.attributes, Attribute("copy", "numeric")))
    observed = np.random.default_rng(0).random((600, 5)) >= 0.4
    train, test = split(Table(schema, copied, {}, np.ones(copied.shape, dtype=bool)), observed)
    found = run(load("gaussian_em")(None, Context(QUICK)), train, test)
    assert np.isfinite(found).all()
    known = test.observed[0][:, 4] & ~test.observed[0][:, 0]
    assert known.sum() > 10
    assert np.allclose(found[known, 0], copied[480:][known, 0], atol=0.01)


def test_the_budget_bounds_the_iterations(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    table, observed = table_for("gaussian_em")
    train, test = split(table, observed)
    for name in ("gaussian_em", "latent_class"):
        monkeypatch.setattr(module_of(load(name)), "ITERATIONS_PER_SWEEP", 3)
    method = load("gaussian_em")(None, Context(Budget(sweeps=2)))
    run(method, train, test)
    assert method.diagnostics()[0]["iterations"] == 6
    mixture = load("latent_class")({"components": 5, "restarts": 3, "smoothing": 0.1}, Context(Budget(sweeps=2)))
    run(mixture, train, test)
    assert mixture.diagnostics()[0]["iterations"] == [6, 6, 6]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("gaussian_em", {"ridge": 0.0}), ("latent_class", {"components": 0}), ("knn", {"neighbours": 0})],
)
def test_a_parameter_that_makes_no_sense_is_refused(load: Load, name: str, parameters: dict[str, Any]) -> None:
    train, _ = split(*table_for(name))
    with pytest.raises(BenchError, match=f"{name}: {next(iter(parameters))} must be"):
        load(name)(parameters).fit(train, train, 0)


# Latent classes


@pytest.mark.parametrize(("components", "bound"), [(4, 1.01), (20, 1.05)])
def test_latent_class_comes_close_to_the_bayes_rate(load: Load, components: int, bound: float) -> None:
    """Within 1 % with the true number of components, within 5 % with the default number."""
    holes = Holes.mcar(categorical_mixture(5000, 8, 4, 4, seed=0), 0.5, seed=0)
    parameters = {"components": components, "restarts": 2, "smoothing": 1.0}
    _, found = holes.impute(load("latent_class"), parameters, QUICK)
    assert holes.floor > 1.3 * holes.optimum
    assert holes.error(found) < bound * holes.optimum


def test_latent_class_uses_numbers_and_categories_together(load: Load) -> None:
    """Two groups, known from a number or from a category, decide the other."""
    rng = np.random.default_rng(6)
    group = rng.integers(0, 2, 1500)
    number = np.where(group, 3.0, -3.0) + rng.normal(size=1500)
    level = np.where(rng.random(1500) < 0.1, 1 - group, group)
    other = np.where(rng.random(1500) < 0.1, 2, group)
    schema = Schema(
        (
            Attribute("number", "numeric"),
            Attribute("level", "categorical", levels=("p", "q")),
            Attribute("other", "categorical", levels=("p", "q", "r")),
        )
    )
    scalars = np.stack([number, level, other], axis=1).astype(float)
    observed = np.ones(scalars.shape, dtype=bool)
    observed[np.arange(1500), rng.integers(0, 3, 1500)] = False
    train, test = split(Table(schema, scalars, {}, np.ones(scalars.shape, dtype=bool)), observed)
    method = load("latent_class")({"components": 3, "restarts": 3, "smoothing": 1.0})
    found, hidden, truth = run(method, train, test), ~test.observed[0], scalars[1200:]
    numbers = hidden[:, 0]
    # Of the number's deviation of about 3.2, the noise of 1 and the levels' errors remain.
    assert np.sqrt(np.mean((found - truth)[numbers, 0] ** 2)) < 0.6 * number.std()
    for column, best in ((1, 0.1), (2, 0.1)):
        wrong = np.mean(found[hidden[:, column], column] != truth[hidden[:, column], column])
        assert wrong < best + 0.06


def test_one_component_is_the_floor(load: Load) -> None:
    train, test = split(*table_for("latent_class"))
    one = {"components": 1, "restarts": 1, "smoothing": 1e-6}
    found = run(load("latent_class")(one), train, test)
    hidden = ~test.observed[0]
    fill = np.broadcast_to(observed_statistics(train).fill, found.shape)
    assert np.allclose(found[hidden], fill[hidden], atol=1e-3)


def test_the_mixtures_densities_are_scipys_and_no_step_lowers_the_objective(load: Load) -> None:
    module = module_of(load("latent_class"))
    train, _ = split(*table_for("latent_class"))
    statistics, observed = observed_statistics(train), train.observed[0]
    layout = module.Features.of(statistics)
    scalars = train.values().scalars
    features = layout.matrix(scalars, observed)
    rng = np.random.default_rng(8)
    method: Any = load("latent_class")()
    method.fit(train, train, 0)
    marginal = method._marginal()
    mixture = module.estimate(features[rng.choice(48, 3)].T, np.full(3, 16.0), layout, marginal, 2.0)
    numbers = (scalars - statistics.mean) / statistics.scale
    for row in range(48):
        for component in range(3):
            density = np.log(mixture.weight[component])
            for column in np.flatnonzero(observed[row]):
                if column < 3:
                    deviation = np.sqrt(mixture.variance[column, component])
                    density += stats.norm.logpdf(numbers[row, column], mixture.mean[column, component], deviation)
                else:
                    level = int(scalars[row, column])
                    density += np.log(mixture.probabilities[column - 3][level, component])
            assert mixture.log_joint(features)[row, component] == pytest.approx(density, rel=1e-10)
    share, log_density = mixture.responsibilities(features)
    assert np.allclose(share.sum(axis=1), 1.0)
    assert np.allclose(log_density, np.log(np.exp(mixture.log_joint(features)).sum(axis=1)))
    objectives = []
    for _ in range(40):
        share, log_density = mixture.responsibilities(features)
        objectives.append(log_density.sum() + module.penalty(mixture, marginal, 2.0))
        mixture = module.estimate(features.T @ share, share.sum(axis=0), layout, marginal, 2.0)
    assert np.all(np.diff(objectives) > -1e-9)
    assert objectives[-1] > objectives[0] + 1


def test_the_start_with_the_highest_likelihood_is_kept(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = split(*table_for("latent_class"))
    monkeypatch.setattr(module_of(load("latent_class")), "ITERATIONS_PER_SWEEP", 2)
    parameters = {"components": 4, "restarts": 6, "smoothing": 0.1}
    method = load("latent_class")(parameters)
    found = run(method, train, test)
    likelihoods = method.diagnostics()[0]["log_likelihoods"]
    assert len(set(likelihoods)) == 6
    best = int(np.argmax(likelihoods))
    assert best > 0
    upto = load("latent_class")({**parameters, "restarts": best + 1})
    assert run(upto, train, test).tobytes() == found.tobytes()
    before = load("latent_class")({**parameters, "restarts": best})
    assert run(before, train, test).tobytes() != found.tobytes()


# Nearest neighbours


def test_knn_is_scikit_learns_on_numbers(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    holes = Holes.mcar(linear_gaussian(400, 6, 2, 0.5, seed=1), 0.6, seed=2)
    statistics = observed_statistics(holes.train)
    for neighbours in (1, 5):
        reference = KNNImputer(n_neighbors=neighbours)
        reference.fit((holes.train.values().scalars - statistics.mean) / statistics.scale)
        shown = (holes.test.values().scalars - statistics.mean) / statistics.scale
        expected = reference.transform(shown) * statistics.scale + statistics.mean
        _, found = holes.impute(load("knn"), {"neighbours": neighbours})
        assert (~holes.test.observed[0]).all(axis=1).any()
        assert np.allclose(found, expected, rtol=1e-9)
        # A few rows at a time give the same.
        monkeypatch.setattr(module_of(load("knn")), "CHUNK_FLOATS", 7 * len(holes.train))
        assert np.allclose(holes.impute(load("knn"), {"neighbours": neighbours})[1], expected, rtol=1e-9)


def test_knn_is_the_loop_over_pairs_of_rows_on_mixed_columns(load: Load) -> None:
    train, test = split(*table_for("knn", 120))
    found = run(load("knn")({"neighbours": 3}), train, test)
    statistics = observed_statistics(train)
    donors, receivers = train.values().scalars, test.values().scalars

    def distance(a: FloatArray, b: FloatArray) -> float:
        total, shared = 0.0, 0
        for column in range(5):
            if np.isnan(a[column]) or np.isnan(b[column]):
                continue
            shared += 1
            if column < 3:
                total += ((a[column] - b[column]) / statistics.scale[column]) ** 2
            elif a[column] != b[column]:
                share = statistics.level_counts[column] / statistics.level_counts[column].sum()
                total += 2 / (1 - np.sum(share**2))
        return total / shared if shared else np.inf

    for row, receiver in enumerate(receivers):
        distances = np.array([distance(receiver, donor) for donor in donors])
        for column in np.flatnonzero(np.isnan(receiver)):
            usable = np.flatnonzero(~np.isnan(donors[:, column]) & np.isfinite(distances))
            if not len(usable):
                assert found[row, column] == pytest.approx(statistics.fill[column])
                continue
            limit = np.sort(distances[usable])[:3][-1]
            chosen = donors[usable[distances[usable] <= limit + 1e-9], column]
            if column < 3:
                assert found[row, column] == pytest.approx(chosen.mean(), rel=1e-9)
            else:
                assert found[row, column] == np.bincount(chosen.astype(int)).argmax()


def test_tied_donors_all_vote(load: Load) -> None:
    """Six donors equal in the shown column: five say 1, the first one 0, and no order of rows makes that a 0."""
    schema = Schema(tuple(Attribute(name, "categorical", levels=("p", "q")) for name in ("shown", "hidden")))
    for first in range(6):
        codes = np.array([[0.0, 1.0]] * 6 + [[1.0, 0.0]] * 3 + [[0.0, 0.0]])
        codes[first, 1] = 0.0
        observed = np.ones((10, 2), dtype=bool)
        observed[9, 1] = False
        table = Table(schema, codes, {}, np.ones((10, 2), dtype=bool))
        train, test = (Incomplete(table, rows[None], observed[rows][None]) for rows in (np.arange(9), np.array([9])))
        assert run(load("knn")({"neighbours": 1}), train, test)[0, 1] == 1.0


# Hot deck


def test_hot_deck_draws_follow_the_observed_distribution(load: Load) -> None:
    rng = np.random.default_rng(9)
    scalars = np.column_stack([rng.exponential(size=4000), rng.choice(4, 4000, p=[0.1, 0.2, 0.3, 0.4])])
    schema = Schema((Attribute("number", "numeric"), Attribute("level", "categorical", levels=tuple("abcd"))))
    observed = rng.random((4000, 2)) >= 0.5
    # What is hidden lies elsewhere: only the observed distribution may be met.
    observed[:, 0] &= scalars[:, 0] < 1.5
    observed[3200:] = False
    train, test = split(Table(schema, scalars, {}, np.ones((4000, 2), dtype=bool)), observed)
    found = run(load("hot_deck")(), train, test)
    donors = scalars[:3200][observed[:3200, 0], 0]
    assert np.isin(found[:, 0], donors).all()
    assert stats.ks_2samp(found[:, 0], donors).pvalue > 0.01
    counts = np.bincount(scalars[:3200][observed[:3200, 1], 1].astype(int), minlength=4)
    drawn = np.bincount(found[:, 1].astype(int), minlength=4)
    assert stats.chisquare(drawn, counts / counts.sum() * 800).pvalue > 0.01
    # Two columns' draws have nothing to do with each other.
    assert abs(np.atleast_2d(np.corrcoef(found.T))[0, 1]) < 0.1


def test_hot_decks_error_is_the_closed_form(load: Load) -> None:
    gaussian = Holes.mcar(linear_gaussian(20000, 6, 2, 0.5, seed=3), 0.5, seed=3)
    _, found = gaussian.impute(load("hot_deck"))
    hidden = ~gaussian.test.observed[0]
    truth = gaussian.model.table.scalars[gaussian.test._rows[0]]
    assert np.sqrt(np.mean((found - truth)[hidden] ** 2)) == pytest.approx(np.sqrt(2), rel=0.02)
    mixture = categorical_mixture(20000, 6, 4, 4, seed=3)
    categories = Holes.mcar(mixture, 0.5, seed=3)
    _, found = categories.impute(load("hot_deck"))
    share = np.einsum("c,mcl->ml", mixture.weights, mixture.probabilities)
    hidden = ~categories.test.observed[0]
    wrong = (found != mixture.table.scalars[categories.test._rows[0]])[hidden]
    expected = np.broadcast_to(1 - np.sum(share**2, axis=1), hidden.shape)[hidden].mean()
    assert wrong.mean() == pytest.approx(expected, abs=0.015)


def test_hot_deck_draws_whole_images_and_features(load: Load) -> None:
    schema = Schema((Attribute("picture", "image", shape=(2,)), Attribute("vector", "features", shape=(3,))))
    rng = np.random.default_rng(1)
    blocks: dict[str, AnyArray] = {
        "picture": rng.integers(0, 256, (200, 2)).astype(np.uint8),
        "vector": rng.normal(size=(200, 3)).astype(np.float32),
    }
    observed = rng.random((200, 2)) >= 0.5
    table = Table(schema, np.zeros((200, 0)), blocks, np.ones((200, 2), dtype=bool))
    train, test = split(table, observed)
    method = load("hot_deck")()
    method.fit(train, train, 0)
    values = method.impute(test, 1)
    assert isinstance(values, Values)
    for index, (name, scale) in enumerate((("picture", 255), ("vector", 1))):
        truth = (blocks[name] / np.float32(scale)).astype(np.float32)
        donors = {row.tobytes() for row in truth[:160][observed[:160, index]]}
        hidden = ~observed[160:, index]
        assert all(row.tobytes() in donors for row in values.blocks[name][hidden])
        assert len({row.tobytes() for row in values.blocks[name][hidden]}) > 5
        assert np.array_equal(values.blocks[name][~hidden], truth[160:][~hidden])
