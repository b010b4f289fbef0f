"""Latent class analysis, against the Bayes rate and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.api import Attribute, Schema, Table, observed_statistics
from tests.analytic import Holes, categorical_mixture
from tests.classical import QUICK, Load, module_of, run, split, table_for


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
    marginal = method.marginal
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
