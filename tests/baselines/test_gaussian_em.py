"""The Gaussian fitted by EM, against the optimum and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.api import Attribute, Budget, Context, Incomplete, Schema, Table
from tests.analytic import Holes, linear_gaussian
from tests.classical import QUICK, Load, module_of, run, split, table_for
from tests.truth import rows_behind


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
    train, test = (Incomplete(scaled, rows_behind(view), view.observed) for view in (holes.train, holes.test))
    found = run(load("gaussian_em")(None, Context(QUICK)), train, test)
    assert np.allclose((found - zero) / unit, plain, atol=1e-6)

    copied = np.column_stack([table.scalars, 2 * table.scalars[:, 0] + 1])
    schema = Schema((*table.schema.attributes, Attribute("copy", "numeric")))
    shape: tuple[int, ...] = copied.shape
    observed = np.random.default_rng(0).random(shape) >= 0.4
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
