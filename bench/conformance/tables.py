"""The generated tables that plug-ins are tried on, plain and awkward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.data.kinds import Kind
from bench.data.schema import SCALAR_KINDS, AnyArray, Attribute, BoolArray, IntArray, Schema
from bench.data.table import Table
from bench.data.view import Incomplete
from bench.problem.build import split_rows
from bench.problem.held_out import deal_folds
from bench.seeds import generator

#: Rows of a generated table, the share of its entries that is observed, and that of cells its source has.
ROWS, OBSERVED, PRESENT = 48, 0.6, 0.97
#: Folds of validation entries that selection imputes.
HELD_OUT_FOLDS = 2
#: Replicas of a stack.
REPLICAS = 3
LARGE_ROWS = 64


#: Name of a generated table -> the kinds of its attributes, in order.
TABLES: dict[str, tuple[Kind, ...]] = {
    "numbers": ("numeric",) * 3,
    "categories": ("categorical",) * 3,
    "numbers and categories": ("numeric", "categorical", "numeric", "categorical"),
    "image and label": ("image", "categorical"),
    "images": ("image", "image"),
    "features": ("features", "features", "features"),
}


@dataclass(frozen=True, eq=False)
class Example:
    """A table with its holes, and the rows that train, validate and test: R replicas.

    ``observed`` is [R, n, M], the row numbers are [R, *].
    """

    name: str
    table: Table
    observed: BoolArray
    train: IntArray
    validation: IntArray
    test: IntArray

    def replica(self, index: int) -> Example:
        """Return one replica alone."""
        one = slice(index, index + 1)
        return replace(
            self,
            observed=self.observed[one],
            train=self.train[one],
            validation=self.validation[one],
            test=self.test[one],
        )

    def view(self, rows: IntArray, folds: IntArray | None = None) -> Incomplete:
        """Return the view of some rows of each replica."""
        return Incomplete(self.table, rows, np.take_along_axis(self.observed, rows[..., None], axis=1), folds)

    def train_view(self, protocol: str) -> Incomplete:
        """Return what is learned from: the training rows, or all rows under the transductive protocol."""
        return self.view(self.train) if protocol == "inductive" else self.data_view(protocol)

    def validation_view(self) -> Incomplete:
        """Return the validation rows with two folds of held-out entries, the same in any stack."""
        folds = [
            deal_folds(shown, HELD_OUT_FOLDS, generator("conformance held out", *(int(row) for row in rows)))
            for rows, shown in zip(self.validation, self.view(self.validation).observed, strict=True)
        ]
        return self.view(self.validation, np.stack(folds))

    def data_view(self, protocol: str) -> Incomplete:
        """Return the rows to impute: the test rows, or all rows under the transductive protocol."""
        if protocol == "inductive":
            return self.view(self.test)
        every = np.concatenate([self.train, self.validation, self.test], axis=1)
        return self.view(np.stack([np.unique(rows) for rows in every]))

    @property
    def known(self) -> BoolArray:
        """Entries that the views of some replica may show, [n, M]."""
        known: BoolArray = self.observed.any(axis=0) & self.table.present
        return known

    def with_numbers(self, offset: float, unit: float) -> Example:
        """Return the example with ``unit * x + offset`` in place of every number x."""
        scalars = self.table.scalars.copy()
        columns = self.table.schema.scalar_columns("numeric")
        scalars[:, columns] = unit * scalars[:, columns] + offset
        table = Table(self.table.schema, scalars, self.table.blocks, self.table.present)
        return replace(self, table=table)

    def hiding(self, hidden: BoolArray) -> Example:
        """Return the example with more entries hidden; ``hidden`` is broadcast to [R, n, M]."""
        return replace(self, observed=self.observed & ~hidden)


def example_of(name: str, replicas: int = REPLICAS, rows: int = ROWS) -> Example:
    """Return a generated table with as many splits and masks as replicas."""
    rng = generator("conformance", name)
    table = generated_table(TABLES[name], rows, rng)
    splits = [split_rows(table, rng) for _ in range(replicas)]
    return Example(
        name,
        table,
        rng.random((replicas, rows, len(table.schema))) < OBSERVED,
        np.stack([split.train for split in splits]),
        np.stack([split.validation for split in splits]),
        np.stack([split.test for split in splits]),
    )


def generated_table(kinds: Sequence[Kind], rows: int, rng: np.random.Generator) -> Table:
    """Return rows whose attributes, of these kinds, all depend on one hidden number; a few cells are not present."""
    cause = rng.normal(size=rows)
    attributes: list[Attribute] = []
    scalars: list[AnyArray] = []
    blocks: dict[str, AnyArray] = {}
    for position, kind in enumerate(kinds):
        name = f"{kind}{position}"
        noisy = cause + 0.5 * rng.normal(size=rows)
        if kind == "numeric":
            attributes.append(Attribute(name, kind))
            scalars.append(100.0 * (position % 3) + noisy * 10.0 ** (position % 3 - 1))
        elif kind == "categorical":
            count = 2 + position % 4
            attributes.append(Attribute(name, kind, levels=tuple(f"level {code}" for code in range(count))))
            scalars.append(np.digitize(noisy, np.linspace(-1.5, 1.5, count + 1)[1:-1]).astype(np.float64))
        elif kind == "image":
            shape = (4, 4)
            attributes.append(Attribute(name, kind, shape=shape))
            bright = 128 + 40 * noisy[:, None] + 20 * rng.normal(size=(rows, shape[0] * shape[1]))
            blocks[name] = np.clip(bright, 0, 255).astype(np.uint8)
        else:
            width = 5 - position // 2
            attributes.append(Attribute(name, kind, shape=(width,)))
            blocks[name] = (noisy[:, None] + rng.normal(size=(rows, width))).astype(np.float32)
    present = rng.random((rows, len(attributes))) < PRESENT
    schema = Schema(tuple(attributes))
    columns = np.stack(scalars, axis=1) if scalars else np.zeros((rows, 0))
    return Table(schema, np.where(present[:, schema.scalar_indices], columns, np.nan), blocks, present)


def examples_for(kinds: Sequence[Kind], replicas: int = REPLICAS, rows: int = ROWS) -> list[Example]:
    """Return the generated tables for a plug-in that takes attributes of these kinds.

    Images alone are for one that takes no label beside them.
    """
    fit = [name for name, needed in TABLES.items() if set(needed) <= set(kinds)]
    return [example_of(name, replicas, rows) for name in fit if name != "images" or "image and label" not in fit]


def wide_example(kinds: Sequence[Kind], columns: int) -> Example:
    """Return a table of so many columns, of these kinds in turn, with one replica."""
    rng = generator("conformance", "large")
    table = generated_table([kinds[position % len(kinds)] for position in range(columns)], LARGE_ROWS, rng)
    split = split_rows(table, rng)
    observed = rng.random((1, LARGE_ROWS, columns)) < OBSERVED
    return Example(f"{columns} columns", table, observed, split.train[None], split.validation[None], split.test[None])


def poisoned(table: Table, poison: BoolArray, rng: np.random.Generator) -> Table:
    """Return the table with NaN and noise in turn (random bytes in an image) in the entries ``poison`` [n, M]."""
    scalars = table.scalars.copy()
    blocks = dict(table.blocks)
    for column, index in enumerate(table.schema.scalar_indices):
        hidden = np.flatnonzero(poison[:, index])
        attribute = table.schema.attributes[index]
        numeric = attribute.kind == "numeric"
        noise = 1e3 * rng.normal(size=len(hidden)) if numeric else rng.integers(0, attribute.width, len(hidden))
        scalars[hidden, column] = np.where(rng.random(len(hidden)) < 0.5, noise, np.nan)
    for index, attribute in enumerate(table.schema.attributes):
        if attribute.kind in SCALAR_KINDS:
            continue
        hidden = np.flatnonzero(poison[:, index])
        block = table.blocks[attribute.name].copy()
        shape = (len(hidden), attribute.width)
        if block.dtype == np.uint8:
            block[hidden] = rng.integers(0, 256, shape)
        else:
            block[hidden] = np.where(rng.random((len(hidden), 1)) < 0.5, 1e3 * rng.normal(size=shape), np.nan)
        blocks[attribute.name] = block
    return replace(table, scalars=scalars, blocks=blocks, _stores={})


def without_gaps(example: Example) -> Example:
    """Return the example with 0 in place of what its source does not have."""
    table = example.table
    filled = replace(table, scalars=np.nan_to_num(table.scalars), present=np.ones_like(table.present), _stores={})
    return replace(example, table=filled)


def with_constant_columns(example: Example) -> Example:
    """Return the example with one value in every row of the first attribute of each kind."""
    table = example.table
    scalars, blocks = table.scalars.copy(), dict(table.blocks)
    for index in first_of_each_kind(table.schema):
        attribute = table.schema.attributes[index]
        if attribute.kind in SCALAR_KINDS:
            column = int(np.flatnonzero(table.schema.scalar_indices == index)[0])
            value = 7.3 if attribute.kind == "numeric" else 1.0
            scalars[:, column] = np.where(table.present[:, index], value, np.nan)
        else:
            blocks[attribute.name] = np.full_like(blocks[attribute.name], 7)
    return replace(example, table=replace(table, scalars=scalars, blocks=blocks, _stores={}))


def with_first_attribute_alone(example: Example) -> Example:
    """Return the example with its first attribute alone."""
    table = example.table
    first = table.schema.attributes[0]
    scalar = first.kind in SCALAR_KINDS
    alone = Table(
        Schema((first,)),
        table.scalars[:, :1] if scalar else np.zeros((len(table), 0)),
        {} if scalar else {first.name: table.blocks[first.name]},
        table.present[:, :1],
    )
    return replace(example, table=alone, observed=example.observed[..., :1])


def with_levels_for_test_rows_only(example: Example) -> Example | None:
    """Return the example with the last level of each category in rows to impute alone; None without such a category."""
    table = example.table
    columns = [column for column in table.schema.scalar_columns("categorical") if _levels(table, column) > 2]
    if not columns:
        return None
    scalars = table.scalars.copy()
    for column in columns:
        last = float(_levels(table, column) - 1)
        scalars[:, column] = np.where(scalars[:, column] == last, 0.0, scalars[:, column])
        rows = example.test[0, ::2]
        scalars[rows, column] = np.where(np.isnan(scalars[rows, column]), np.nan, last)
    return replace(example, table=replace(table, scalars=scalars, _stores={}))


def with_other_rows_among_those_to_impute(example: Example) -> Example:
    """Return the example with other values, under the same mask, in every second row to impute."""
    table = example.table
    # Only rows with every cell may stand in: the pattern of observed entries must stay.
    complete = np.flatnonzero(table.present.all(axis=1))
    others = example.test[0, 1::2]
    donors = generator("conformance other rows").choice(complete, len(others))
    scalars, blocks = table.scalars.copy(), {name: block.copy() for name, block in table.blocks.items()}
    scalars[others] = table.scalars[donors]
    for name, block in blocks.items():
        block[others] = table.blocks[name][donors]
    return replace(example, table=replace(table, scalars=scalars, blocks=blocks, _stores={}))


def _levels(table: Table, column: int) -> int:
    """Return the number of levels of a column of ``scalars``."""
    return int(table.schema.attributes[table.schema.scalar_indices[column]].width)


def first_of_each_kind(schema: Schema) -> list[int]:
    """Return the first attribute of each kind that has several, or the very first attribute."""
    positions = [schema.of_kind(kind) for kind in sorted(schema.kinds)]
    return [int(own[0]) for own in positions if len(own) > 1] or [0]
