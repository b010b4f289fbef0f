"""Split, masks and held-out entries: the same for every method, each from a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.api import Attribute, BoolArray, FloatArray, Mechanism, Schema, Table, Values
from bench.data.schema import IntArray
from bench.experiment.cell import Cell
from bench.problem.build import Problem, build_problem, split_rows
from bench.problem.held_out import FOLDS, deal_folds, fold_count
from bench.problem.mechanisms import Mar, Mcar
from bench.seeds import generator
from tests.toys import make_cell


def numbers_table(rows: int, columns: int = 4) -> Table:
    values = np.random.default_rng(3).normal(size=(rows, columns))
    return Table.from_frame(pd.DataFrame(values, columns=[f"x{i}" for i in range(columns)]))


def limited(limit: int | None) -> dict[str, Any]:
    return {**make_cell().budget, "test_rows": limit}


def problem_of(table: Table, cells: Sequence[Cell], mechanism: type[Mechanism] = Mcar) -> Problem:
    return build_problem(table, [cell.scenario for cell in cells], [mechanism() for _ in cells])


# Split


@pytest.mark.parametrize(
    ("rows", "train", "validation", "test"),
    [(10, 6, 2, 2), (1484, 950, 237, 297), (270, 173, 43, 54), (5, 3, 1, 1), (3, 2, 0, 1)],
)
def test_split_sizes_are_rounded_shares(rows: int, train: int, validation: int, test: int) -> None:
    split = split_rows(numbers_table(rows), np.random.default_rng(0))
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test)
    together = np.concatenate([split.train, split.validation, split.test])
    assert sorted(together) == list(range(rows))


def test_split_is_a_permutation_drawn_from_the_stream() -> None:
    first, again, other = (split_rows(numbers_table(50), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first.test, again.test)
    assert set(first.test) != set(other.test)
    assert list(first.train) != sorted(first.train)


def test_official_test_rows_are_the_test_rows() -> None:
    table = numbers_table(20)
    official = np.zeros(20, dtype=bool)
    official[[3, 4, 19]] = True
    split = split_rows(Table(table.schema, table.scalars, {}, table.present, official), np.random.default_rng(0))
    assert list(split.test) == [3, 4, 19]
    assert (len(split.train), len(split.validation)) == (14, 3)
    assert not {3, 4, 19} & {*split.train, *split.validation}


# Masks


def test_masks_and_split_know_no_method() -> None:
    table = numbers_table(80)
    one = problem_of(table, [make_cell()])
    changes = {
        "method": "other",
        "method_version": 9,
        "parameter_set": "literal",
        "parameters": {},
        "overrides": {},
        "protocol": "transductive",
        "preset": "paper",
        "engine": 5,
        "budget": {**make_cell().budget, "steps": 7},
    }
    other = problem_of(table, [make_cell(**changes)])
    assert np.array_equal(one.masks[0], other.masks[0])
    assert one.mask_hash(0) == other.mask_hash(0)
    for part in ("train", "validation", "test"):
        assert np.array_equal(getattr(one.splits[0], part), getattr(other.splits[0], part))
    assert np.array_equal(one.validation.observed, other.validation.observed)


def test_a_replica_has_the_same_holes_alone_and_in_a_stack() -> None:
    table = numbers_table(80)
    cells = [make_cell(seed=seed, ratio=ratio) for seed in (0, 1) for ratio in (0.3, 0.6)]
    stack = problem_of(table, cells)
    assert (stack.train.replicas, stack.test.replicas, stack.everything.replicas) == (4, 4, 4)
    for replica, cell in enumerate(cells):
        alone = problem_of(table, [cell])
        assert alone.mask_hash(0) == stack.mask_hash(replica)
        for view in ("train", "validation", "test", "everything"):
            mine, theirs = getattr(alone, view), getattr(stack, view)
            assert np.array_equal(mine.observed[0], theirs.observed[replica])
            assert np.array_equal(mine.values(0).scalars, theirs.values(replica).scalars, equal_nan=True)


def test_seeds_ratios_and_mechanisms_have_masks_of_their_own() -> None:
    table = numbers_table(200)
    problem = problem_of(table, [make_cell(seed=seed) for seed in (0, 1, 2)])
    assert len({problem.mask_hash(replica) for replica in range(3)}) == 3
    assert len({tuple(split.test) for split in problem.splits}) == 3
    disagreement = (problem.masks[0] != problem.masks[1]).mean()
    assert 0.4 < disagreement < 0.6
    # The split is the data set's and the seed's alone: ratios and mechanisms are compared on the same rows.
    varied = [make_cell(), make_cell(ratio=0.3), make_cell(mechanism="mar", include_target=True)]
    assert len({tuple(problem_of(table, [cell]).splits[0].test) for cell in varied}) == 1
    assert len({problem_of(table, [cell]).mask_hash(0) for cell in varied}) == 3


def test_repeating_the_initialisation_keeps_split_and_mask() -> None:
    problem = problem_of(numbers_table(80), [make_cell(seed=seed, repeat="initialisation") for seed in (0, 1, 2)])
    assert len({problem.mask_hash(replica) for replica in range(3)}) == 1
    assert len({tuple(split.train) for split in problem.splits}) == 1
    assert np.array_equal(problem.validation.observed[0], problem.validation.observed[2])
    assert problem.mask_hash(0) == problem_of(numbers_table(80), [make_cell()]).mask_hash(0)


def test_the_ratio_that_came_out_is_kept() -> None:
    problem = problem_of(numbers_table(2000), [make_cell(ratio=0.3)])
    assert problem.ratios[0] == pytest.approx(1 - problem.masks[0].mean())
    assert problem.ratios[0] == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 8000))
    # Columns that a mechanism never hides do not count.
    mar = problem_of(numbers_table(2000), [make_cell(mechanism="mar")], Mar)
    assert mar.ratios[0] == pytest.approx(0.5, abs=0.03)
    assert (~mar.masks[0]).mean() < 0.45


class Halves(Mechanism):
    """Hides what lies below a threshold; needs its parameter."""

    name = "halves"
    parameters = {"threshold": 0.0}

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return 1 below the threshold."""
        below: FloatArray = (values.scalars < parameters["threshold"]).astype(float)
        return below


def test_mechanism_parameters_reach_the_mechanism() -> None:
    table = numbers_table(60)
    cells = [make_cell(mechanism="halves", mechanism_parameters={"threshold": t}) for t in (-0.5, 0.5)]
    problem = problem_of(table, cells, Halves)
    for mask, threshold in zip(problem.masks, (-0.5, 0.5), strict=True):
        assert np.array_equal(mask, table.scalars >= threshold)


# The views


def test_views_show_the_rows_of_their_part_under_the_mask() -> None:
    table = numbers_table(50)
    problem = problem_of(table, [make_cell()])
    split, mask = problem.splits[0], problem.masks[0]
    for view, rows in ((problem.train, split.train), (problem.test, split.test), (problem.everything, np.arange(50))):
        assert np.array_equal(view.observed[0], mask[rows])
        shown = view.values(0).scalars
        assert np.array_equal(np.isnan(shown), ~mask[rows])
        assert np.array_equal(shown[mask[rows]], table.scalars[rows][mask[rows]])
    assert problem.train.folds == problem.test.folds == ()


def test_the_number_of_scored_test_rows_is_limited_the_same_way_for_all() -> None:
    table = numbers_table(200)
    free = problem_of(table, [make_cell(budget=limited(None))])
    few = problem_of(table, [make_cell(budget=limited(15))])
    again = problem_of(table, [make_cell(budget=limited(15), method="other")])
    enough = problem_of(table, [make_cell(budget=limited(40))])
    assert len(free.test) == len(enough.test) == 40
    assert len(few.test) == 15
    assert set(few.splits[0].test) < set(free.splits[0].test)
    assert np.array_equal(few.splits[0].test, again.splits[0].test)
    assert np.array_equal(few.splits[0].train, free.splits[0].train)
    assert few.mask_hash(0) == free.mask_hash(0)


def test_images_and_numbers_share_the_row_split() -> None:
    rng = np.random.default_rng(0)
    schema = Schema((Attribute("number", "numeric"), Attribute("picture", "image", shape=(2, 3))))
    blocks = {"picture": rng.integers(0, 256, (40, 6)).astype(np.uint8)}
    table = Table(schema, rng.normal(size=(40, 1)), blocks, np.ones((40, 2), dtype=bool))
    problem = problem_of(table, [make_cell(seed=seed) for seed in (0, 1)])
    values = problem.test.values(1)
    rows = problem.splits[1].test
    hidden = ~problem.masks[1][rows, 1]
    assert np.isnan(values.blocks["picture"][hidden]).all()
    assert np.allclose(values.blocks["picture"][~hidden], blocks["picture"][rows][~hidden] / 255)


# Held-out entries


def folds_of(observed: BoolArray, count: int = FOLDS, seed: int = 0) -> IntArray:
    return deal_folds(observed, count, np.random.default_rng(seed))


def test_every_observed_entry_of_a_row_that_keeps_another_is_in_one_fold() -> None:
    observed = np.random.default_rng(1).random((5000, 12)) < 0.4
    folds = folds_of(observed)
    several = observed.sum(axis=1) > 1
    assert np.array_equal(folds >= 0, observed & several[:, None])
    for fold in range(FOLDS):
        hidden = folds == fold
        assert ((observed & ~hidden).sum(axis=1)[hidden.any(axis=1)] >= 1).all()
    # Dealt in turn: the folds of a row differ by one entry at most.
    sizes = np.stack([(folds == fold).sum(axis=1) for fold in range(FOLDS)])
    assert (sizes.max(axis=0) - sizes.min(axis=0) <= 1).all()


def test_fewer_folds_are_the_first_of_all_and_every_entry_is_as_likely() -> None:
    observed = np.ones((100_000, 3), dtype=bool)
    whole, first = folds_of(observed), folds_of(observed, count=2)
    assert np.array_equal(first, np.where(whole < 2, whole, -1))
    shares = [[(whole[:, column] == fold).mean() for fold in range(FOLDS)] for column in range(3)]
    np.testing.assert_allclose(shares, 1 / FOLDS, atol=0.005)


@pytest.mark.parametrize(
    ("rows", "attributes", "ratio", "expected"),
    # Yeast has 237 validation rows of 8 attributes, White wine 784 of 11, Mushroom 1300 of 22, MNIST+MNIST 5814 of 2.
    [(237, 8, 0.5, 5), (784, 11, 0.5, 2), (1300, 22, 0.5, 1), (5814, 2, 0.5, 2), (43, 13, 0.9, 5), (10, 1, 0.5, 5)],
)
def test_there_are_as_many_folds_as_hold_a_thousand_entries(
    rows: int, attributes: int, ratio: float, expected: int
) -> None:
    count = fold_count(rows, attributes, ratio)
    assert count == expected
    # By brute force: the entries in the folds of rows under MCAR.
    observed = np.random.default_rng(0).random((200, rows, attributes)) >= ratio
    entries = [(folds_of(mask, count) >= 0).sum() for mask in observed]
    assert count == FOLDS or np.mean(entries) > 990
    if count > 1 and attributes > 1:
        fewer = np.mean([(folds_of(mask, count - 1) >= 0).sum() for mask in observed])
        assert fewer < 1010


def test_the_folds_of_the_validation_view_hide_what_they_hold_out() -> None:
    table = numbers_table(300)
    problem = problem_of(table, [make_cell(seed=seed) for seed in (0, 1)])
    validation = problem.validation
    assert len(validation.folds) == FOLDS
    for replica in range(2):
        rows = problem.splits[replica].validation
        mask = problem.masks[replica][rows]
        assert np.array_equal(validation.observed[replica], mask)
        for fold in validation.folds:
            shown, held_out = fold.shown.observed[replica], fold.held_out.observed[replica]
            assert np.array_equal(shown | held_out, mask) and not (shown & held_out).any() and held_out.any()
            truth = fold.held_out.values(replica).scalars
            assert np.array_equal(truth[held_out], table.scalars[rows][held_out])
            assert np.isnan(fold.shown.values(replica).scalars[held_out]).all()
    assert not np.array_equal(validation.folds[0].held_out.observed[0], validation.folds[0].held_out.observed[1])


def test_cells_absent_from_the_source_are_never_held_out() -> None:
    frame = pd.DataFrame(np.random.default_rng(4).normal(size=(400, 4)), columns=list("abcd"))
    frame = frame.mask(np.random.default_rng(5).random((400, 4)) < 0.3)
    table = Table.from_frame(frame)
    problem = problem_of(table, [make_cell()])
    rows = problem.splits[0].validation
    for fold in problem.validation.folds:
        held_out = fold.held_out.observed[0]
        assert held_out.any() and not (held_out & ~table.present[rows]).any()
        assert (fold.shown.observed[0].sum(axis=1)[held_out.any(axis=1)] >= 1).all()


def test_the_streams_are_the_named_ones() -> None:
    """A golden test: other streams would be other holes under the same keys."""
    table = numbers_table(30)
    split = problem_of(table, [make_cell(seed=2)]).splits[0]
    expected = split_rows(table, generator("split", "rain", 2))
    key = "4135fa7b9ba2d24d041b7c0039c7aaf707f4612c4cb78ad833995a313a81aa4a"
    assert np.array_equal(split.test, expected.test)
    assert problem_of(table, [make_cell(seed=2)]).mask_hash(0) == key


def test_real_data_has_the_sizes_it_is_known_for(mirror: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.files.fetch import load_table
    from bench.plugins.registry import Registry, load

    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path))
    table = load_table(load(Registry.scan().dataset("yeast"))()).table
    problem = problem_of(table, [make_cell(dataset="yeast", seed=seed) for seed in (0, 1, 2)])
    assert (len(problem.train), len(problem.validation), len(problem.test)) == (950, 237, 297)
    assert all(ratio == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / (1484 * 8))) for ratio in problem.ratios)
