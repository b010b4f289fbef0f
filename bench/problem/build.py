"""From scenarios to the views a method gets: split, masks and held-out entries, each from its own named seed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.data.door import notes_of
from bench.data.parts import part_sizes
from bench.data.schema import BoolArray, IntArray
from bench.data.table import Table, Values
from bench.data.view import Incomplete
from bench.errors import BenchError
from bench.problem.held_out import deal_folds, fold_count
from bench.problem.mechanisms import draw_observed, ratio_warnings, realised_shares
from bench.seeds import canonical_json, generator

if TYPE_CHECKING:
    from bench.plugins.contracts import Mechanism
    from bench.problem.scenario import Scenario


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of the three parts."""

    train: IntArray
    validation: IntArray
    test: IntArray


@dataclass(frozen=True, eq=False)
class Problem:
    """What a method works on, one replica per scenario, and what its scores need.

    ``masks`` are the observed masks [n, M] of the whole table, ``shares`` what they hide of it
    (``bench.problem.mechanisms.realised_shares``), ``warnings``
    what each replica's result is to warn of: notes on the table, and a ratio that was not met.
    """

    table: Table
    splits: tuple[Split, ...]
    masks: tuple[BoolArray, ...]
    shares: tuple[Mapping[str, float], ...]
    warnings: tuple[tuple[str, ...], ...]
    train: Incomplete
    validation: Incomplete
    test: Incomplete
    everything: Incomplete

    @property
    def ratios(self) -> tuple[float, ...]:
        """The realised missing ratio of each replica, over maskable attributes."""
        return tuple(own["maskable"] for own in self.shares)

    def mask_hash(self, replica: int) -> str:
        """Return the hash of a replica's mask: equal hashes are equal holes."""
        return mask_hash(self.masks[replica])


def mask_hash(observed: BoolArray) -> str:
    """Return the SHA-256 of the bits of a mask [n, M]."""
    return hashlib.sha256(np.packbits(observed).tobytes()).hexdigest()


def split_rows(table: Table, rng: np.random.Generator) -> Split:
    """Split rows at random: the official test rows or 20 %, then 20 % of the rest for validation, both rounded.

    A table that names its own sizes is split into these, stratum by stratum.
    """
    if table.split_sizes is not None:
        return _split_of_sizes(table, table.split_sizes, rng)
    rows = np.arange(len(table))
    if table.test is not None:
        test, pool = rows[table.test], rng.permutation(rows[~table.test])
    else:
        shuffled = rng.permutation(rows)
        kept = len(rows) - part_sizes(len(rows))[2]
        pool, test = shuffled[:kept], shuffled[kept:]
    train = part_sizes(len(rows), len(test))[0]
    return Split(pool[:train], pool[train:], test)


def _split_of_sizes(table: Table, sizes: tuple[int, int, int], rng: np.random.Generator) -> Split:
    """Split rows into parts of exactly these sizes, each stratum in proportion.

    Raises BenchError if the sizes do not add up to the rows.
    """
    if sum(sizes) != len(table):
        raise BenchError(f"split sizes {sizes} do not add up to the table's {len(table)} rows")
    strata = np.zeros(len(table), dtype=np.int64) if table.strata is None else table.strata
    shuffled = [rng.permutation(np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]
    left = np.array([len(rows) for rows in shuffled])
    _, validation, test = sizes
    parts: dict[str, IntArray] = {}
    for part, size in (("test", test), ("validation", validation)):
        taken = _in_proportion(size, left)
        parts[part] = np.concatenate([rows[:own] for rows, own in zip(shuffled, taken, strict=True)])
        shuffled = [rows[own:] for rows, own in zip(shuffled, taken, strict=True)]
        left = left - taken
    return Split(np.concatenate(shuffled), parts["validation"], np.sort(parts["test"]))


def _in_proportion(total: int, available: IntArray) -> IntArray:
    """Share ``total`` out in proportion to ``available``: rounded down, what is left to the largest remainders."""
    share = total * available / max(int(available.sum()), 1)
    taken = np.floor(share).astype(np.int64)
    largest = np.argsort(taken - share, kind="stable")[: total - int(taken.sum())]
    taken[largest] += 1
    return taken


def build_problem(table: Table, scenarios: Sequence[Scenario], mechanisms: Sequence[Mechanism]) -> Problem:
    """Build the stacked views of scenarios on one table; ``mechanisms`` has one instance per scenario.

    The seeds are named after data set, mechanism, ratio and seed, never after the method.
    """
    splits, masks, shares, warnings, folds = [], [], [], [], []
    # The images are not copied: a mechanism reads numbers and categories.
    values = Values(table.scalars.copy(), table.blocks)
    notes = notes_of(table)
    per_row = float(table.present.mean()) * len(table.schema) if len(table) else 0.0
    for scenario, mechanism in zip(scenarios, mechanisms, strict=True):
        split = _scored_split(table, scenario)
        names = (
            scenario.dataset,
            scenario.include_target,
            scenario.mechanism,
            canonical_json(dict(scenario.mechanism_parameters)),
            scenario.ratio,
            scenario.seed,
        )
        observed, probability = draw_observed(
            mechanism,
            values,
            table.schema,
            scenario.ratio,
            generator("mask", *names),
            table.present,
            scenario.mechanism_parameters,
        )
        splits.append(split)
        masks.append(observed)
        shares.append(realised_shares(observed, table.present, probability))
        told = ratio_warnings(scenario.mechanism, scenario.ratio, observed, table.present, probability)
        warnings.append((*notes, *told))
        shown = (observed & table.present)[split.validation]
        count = fold_count(len(shown), per_row, scenario.ratio)
        folds.append(deal_folds(shown, count, generator("held out", *names)))

    ignorable = np.array([mechanism.ignorable for mechanism in mechanisms], dtype=np.bool_)

    def view(part: str, dealt: IntArray | None = None) -> Incomplete:
        rows = np.stack([getattr(split, part) for split in splits])
        shown = np.stack([mask[own] for mask, own in zip(masks, rows, strict=True)])
        return Incomplete(table, rows, shown, dealt, ignorable)

    whole = np.broadcast_to(np.arange(len(table)), (len(scenarios), len(table)))
    return Problem(
        table,
        tuple(splits),
        tuple(masks),
        tuple(shares),
        tuple(warnings),
        view("train"),
        view("validation", np.stack(folds)),
        view("test"),
        Incomplete(table, whole, np.stack(masks)),
    )


def _scored_split(table: Table, scenario: Scenario) -> Split:
    """Return the split of a scenario with no more test rows than it scores."""
    split = split_rows(table, generator("split", scenario.dataset, scenario.seed))
    limit = scenario.test_rows
    if limit is None or limit >= len(split.test):
        return split
    scored = generator("scored test rows", scenario.dataset, scenario.seed).permutation(split.test)[:limit]
    return Split(split.train, split.validation, np.sort(scored))
