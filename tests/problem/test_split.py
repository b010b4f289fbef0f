"""Splits of exact sizes, in proportion within strata, and that the rule is part of the identity of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.api import AnyArray, Attribute, BenchError, Schema, Table, generator
from bench.problem.build import split_rows


@pytest.mark.parametrize(
    ("paired", "test_rows", "train", "validation"), [(29071, 4832, 23257, 5814), (56068, 10000, 44854, 11214)]
)
def test_validation_part_has_the_published_size(paired: int, test_rows: int, train: int, validation: int) -> None:
    rows = paired + test_rows
    schema = Schema((Attribute("x", "numeric"),))
    table = Table(schema, np.zeros((rows, 1)), {}, np.ones((rows, 1), dtype=bool), np.arange(rows) >= paired)
    split = split_rows(table, generator("split"))
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test_rows)


def sized_table(sizes: tuple[int, int, int], strata: AnyArray | None, rows: int) -> Table:
    schema = Schema((Attribute("x", "numeric"),))
    return Table(schema, np.zeros((rows, 1)), {}, np.ones((rows, 1), dtype=bool), split_sizes=sizes, strata=strata)


@pytest.mark.parametrize(
    ("sizes", "strata_sizes"),
    [((220, 40, 80), (220, 120)), ((5, 1, 1), (3, 2, 2)), ((0, 0, 4), (1, 3)), ((7, 2, 1), (10,)), ((3, 3, 3), (8, 1))],
)
def test_split_has_exact_sizes_and_each_stratum_its_share(
    sizes: tuple[int, int, int], strata_sizes: tuple[int, ...]
) -> None:
    strata = np.random.default_rng(0).permutation(np.repeat(np.arange(len(strata_sizes)), strata_sizes))
    table = sized_table(sizes, strata, len(strata))
    split = split_rows(table, generator("split", 0))
    parts = (split.train, split.validation, split.test)
    assert tuple(len(part) for part in parts) == sizes
    assert sorted(np.concatenate(parts)) == list(range(len(strata)))
    for part, size in zip(parts, sizes, strict=True):
        for stratum, count in enumerate(strata_sizes):
            assert abs(int((strata[part] == stratum).sum()) - size * count / len(strata)) < 2
    other = split_rows(table, generator("split", 1))
    if min(sizes) > 2:
        assert set(other.test) != set(split.test)


def test_split_sizes_without_strata_and_wrong_ones() -> None:
    split = split_rows(sized_table((6, 3, 1), None, 10), generator("split"))
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 3, 1)
    with pytest.raises(BenchError, match=r"\(6, 3, 1\) do not add up to the table's 11 rows"):
        split_rows(sized_table((6, 3, 1), None, 11), generator("split"))


def test_split_rule_is_part_of_the_identity() -> None:
    plain = sized_table((6, 3, 1), None, 10)
    strata = np.arange(10) % 2
    others = ({"split_sizes": None}, {"split_sizes": (5, 4, 1)}, {"strata": strata})
    tables = [plain, *(replace(plain, **other) for other in others)]
    assert len({table.content_hash for table in tables}) == 4
