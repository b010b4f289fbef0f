"""What the suite asks of every method and fills for it, against loops over single entries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.api import (
    AnyArray,
    Attribute,
    BenchError,
    BoolArray,
    Incomplete,
    Method,
    Schema,
    StackedMethod,
    Stopped,
    Table,
    Values,
    fill_hidden,
    observed_statistics,
)
from bench.problem.complete import ask, complete

SCHEMA = Schema(
    (
        Attribute("number", "numeric"),
        Attribute("picture", "image", shape=(2, 2)),
        Attribute("level", "categorical", levels=("a", "b", "c")),
        Attribute("sound", "features", shape=(3,)),
        Attribute("other", "numeric"),
    )
)
ROWS = 24


def make_table(seed: int) -> Table:
    rng = np.random.default_rng(seed)
    scalars = np.stack([rng.normal(5.0, 1.0, ROWS), rng.integers(0, 3, ROWS), rng.normal(size=ROWS)], axis=1)
    blocks: dict[str, AnyArray] = {
        "picture": rng.integers(0, 256, (ROWS, 4), dtype=np.uint8),
        "sound": rng.normal(size=(ROWS, 3)).astype(np.float32),
    }
    return Table(SCHEMA, scalars, blocks, np.ones((ROWS, len(SCHEMA)), dtype=bool))


def make_views(seed: int, never: Sequence[int], blank: Sequence[int]) -> tuple[Incomplete, Incomplete]:
    """Return a training view that never shows some attributes and rows to impute of which some show nothing."""
    rng = np.random.default_rng(seed)
    observed = rng.random((1, ROWS, len(SCHEMA))) < 0.6
    observed[0, :12, list(never)] = False
    observed[0, [12 + row for row in blank]] = False
    rows = np.arange(ROWS)[None]
    table = make_table(seed)
    return tuple(  # type: ignore[return-value]
        Incomplete(table, rows[:, part], observed[:, part]) for part in (slice(0, 12), slice(12, ROWS))
    )


def entry_of(values: Values, row: int, index: int) -> list[float]:
    """Return the numbers of one entry."""
    name = SCHEMA.attributes[index].name
    if name in values.blocks:
        return [float(x) for x in values.blocks[name][row]]
    return [float(values.scalars[row, list(SCHEMA.scalar_indices).index(index)])]


def floor_by_hand(view: Incomplete, index: int) -> list[float]:
    """Return the mean or the mode of the entries of an attribute that a view shows, 0 if it shows none."""
    values = view.values()
    shown = [entry_of(values, row, index) for row in range(len(view)) if view.observed[0][row, index]]
    if not shown:
        return [0.0] * (SCHEMA.attributes[index].width if SCHEMA.attributes[index].kind != "categorical" else 1)
    if SCHEMA.attributes[index].kind == "categorical":
        codes = [entry[0] for entry in shown]
        return [max((0.0, 1.0, 2.0), key=lambda code: (codes.count(code), -code))]
    return [float(np.mean(column)) for column in zip(*shown, strict=True)]


@pytest.mark.parametrize("never", [(), (0,), (1, 2), (3, 4), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("blank", [(), (0, 5), tuple(range(12))])
def test_what_nobody_can_know_is_the_floors_and_nothing_else_is_touched(
    never: tuple[int, ...], blank: tuple[int, ...]
) -> None:
    fitted_on, data = make_views(len(never) + 10 * len(blank), never, blank)
    left = data.values()
    found, _ = complete(left, data, fitted_on)
    for row in range(len(data)):
        for index in range(len(SCHEMA)):
            was, now = entry_of(left, row, index), entry_of(found, row, index)
            if data.observed[0][row, index]:
                assert now == was
            elif index in never or row in blank:
                assert now == pytest.approx(floor_by_hand(fitted_on, index), rel=1e-6)
            else:
                assert np.isnan(now).all()


def test_values_without_nan_come_back_as_they_are_and_blocks_keep_their_precision() -> None:
    fitted_on, data = make_views(1, (0, 1), (3,))
    given = fill_hidden(data.values(), data.observed[0], observed_statistics(data))
    found, warnings = complete(given, data, fitted_on)
    assert found is given
    assert warnings == ["never observed in training, so filled with 0 or the first level: number, picture"]
    filled, _ = complete(data.values(), data, fitted_on)
    assert {block.dtype for block in filled.blocks.values()} == {np.dtype(np.float32)}


def test_a_value_that_a_method_gave_where_nobody_can_know_stays() -> None:
    fitted_on, data = make_views(2, (0,), ())
    given = data.values()
    given.scalars[:, 0] = np.where(data.observed[0][:, 0], given.scalars[:, 0], 7.0)
    found, _ = complete(given, data, fitted_on)
    assert (found.scalars[~data.observed[0][:, 0], 0] == 7.0).all()


def test_the_warnings_name_five_attributes_and_count_the_empty_rows() -> None:
    assert complete(make_views(3, (), ())[1].values(), *make_views(3, (), ())[::-1])[1] == []
    fitted_on, data = make_views(3, (2,), (0, 4, 5))
    told = complete(data.values(), data, fitted_on)[1]
    assert told[0].endswith("the first level: level")
    assert told[1].startswith("3 of 12 rows show nothing, and the method left them NaN")
    schema = Schema(tuple(Attribute(f"x{i}", "numeric") for i in range(7)))
    table = Table(schema, np.zeros((2, 7)), {}, np.ones((2, 7), dtype=bool))
    blank = Incomplete(table, np.array([[0, 1]]), np.zeros((1, 2, 7), dtype=bool))
    assert complete(blank.values(), blank, blank)[1] == [
        "never observed in training, so filled with 0 or the first level: x0, x1, x2, x3, x4 and 2 more"
    ]


def test_each_replica_is_completed_from_its_own_view() -> None:
    table = make_table(4)
    observed = np.random.default_rng(4).random((2, ROWS, len(SCHEMA))) < 0.6
    observed[1, :12, 0] = False
    observed[:, 12] = False
    rows = np.tile(np.arange(ROWS), (2, 1))
    fitted_on = Incomplete(table, rows[:, :12], observed[:, :12])
    data = Incomplete(table, rows[:, 12:], observed[:, 12:])
    for replica in range(2):
        together = complete(data.values(replica), data, fitted_on, replica)
        alone = complete(data.values(replica), data.replica(replica), fitted_on.replica(replica))
        assert together[1] == alone[1]
        np.testing.assert_array_equal(together[0].scalars, alone[0].scalars)
        for name, block in alone[0].blocks.items():
            np.testing.assert_array_equal(together[0].blocks[name], block)


class Refuses(Method):
    """Raises whatever it was made with, and counts how often it was asked."""

    name = "refuses"

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error, self.asked = error, 0

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        self.asked += 1
        raise self.error


class Stack(StackedMethod):
    """Returns one imputation too few."""

    name = "stack"

    def fit_many(self, train: Incomplete, validation: Incomplete, seeds: Sequence[int]) -> None:
        self.seeds = list(seeds)

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        return [data.values(replica) for replica in range(len(self.seeds) - 1)]


def hidden(view: Incomplete, observed: BoolArray | bool = False) -> Incomplete:
    """Return the same rows of a view showing nothing."""
    return Incomplete(make_table(0), np.arange(len(view))[None], np.zeros(view.observed.shape, dtype=bool) | observed)


def test_a_method_is_not_asked_about_no_rows() -> None:
    fitted_on, data = make_views(5, (), ())
    method = Refuses(ValueError("no"))
    empty = Incomplete(make_table(0), np.zeros((1, 0), dtype=np.int64), np.zeros((1, 0, len(SCHEMA)), dtype=bool))
    answer = ask(method, fitted_on, data, empty, [0], 1)
    assert (method.asked, answer.given) == (0, False)
    (values,) = answer.imputed
    assert isinstance(values, Values)
    completed, warnings = complete(values, empty, fitted_on)
    assert completed.scalars.shape == (0, 3) and completed.blocks["picture"].shape == (0, 4) and warnings == []


def test_a_method_may_refuse_to_learn_from_nothing_and_from_nothing_else() -> None:
    fitted_on, data = make_views(6, (), ())
    answer = ask(Refuses(IndexError("empty")), hidden(fitted_on), data, data, [0], 1)
    assert not answer.given
    (values,) = answer.imputed
    assert isinstance(values, Values)
    assert np.nan_to_num(complete(values, data, hidden(fitted_on))[0].scalars[~data.observed[0][:, 0], 0]).max() == 0.0
    one = np.zeros(fitted_on.observed.shape, dtype=bool)
    one[0, 3, 4] = True
    with pytest.raises(IndexError, match="empty"):
        ask(Refuses(IndexError("empty")), hidden(fitted_on, one), data, data, [0], 1)
    with pytest.raises(Stopped):
        ask(Refuses(Stopped("time is up")), hidden(fitted_on), data, data, [0], 1)


def test_a_stack_must_answer_for_every_replica() -> None:
    fitted_on, data = make_views(7, (), ())
    with pytest.raises(BenchError, match="method 'stack' returned 0 imputations for 1 replicas"):
        ask(Stack(), fitted_on, data, data, [3], 1)
