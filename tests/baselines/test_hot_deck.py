"""The hot deck, against the distribution it draws from and the closed form of its error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.api import AnyArray, Attribute, Schema, Table, Values
from tests.analytic import Holes, categorical_mixture, linear_gaussian
from tests.classical import Load, run, split
from tests.truth import rows_behind


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
    assert abs(np.asarray(np.corrcoef(found.T))[0, 1]) < 0.1


def test_hot_decks_error_is_the_closed_form(load: Load) -> None:
    gaussian = Holes.mcar(linear_gaussian(20000, 6, 2, 0.5, seed=3), 0.5, seed=3)
    _, found = gaussian.impute(load("hot_deck"))
    hidden = ~gaussian.test.observed[0]
    truth = gaussian.model.table.scalars[rows_behind(gaussian.test)[0]]
    assert np.sqrt(np.mean((found - truth)[hidden] ** 2)) == pytest.approx(np.sqrt(2), rel=0.02)
    mixture = categorical_mixture(20000, 6, 4, 4, seed=3)
    categories = Holes.mcar(mixture, 0.5, seed=3)
    _, found = categories.impute(load("hot_deck"))
    share = np.einsum("c,mcl->ml", mixture.weights, mixture.probabilities)
    hidden = ~categories.test.observed[0]
    wrong = (found != mixture.table.scalars[rows_behind(categories.test)[0]])[hidden]
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
