"""MissForest fitted on the training rows."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from bench.api import (
    Budget,
    Context,
    Table,
    fill_hidden,
    observed_statistics,
    original_scalars,
    seed_of,
    standardised_scalars,
)
from tests.classical import SMALL, Load, categorical_table, error, nonlinear_table, run, split, views


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
    filled = [fill_hidden(view.values(), view.observed[0], statistics).scalars for view in (train, test)]
    tables = [standardised_scalars(scalars, statistics) for scalars in filled]
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
    expected = np.where(test.observed[0], filled[1], original_scalars(tables[1], statistics))
    assert np.array_equal(found, expected)


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
