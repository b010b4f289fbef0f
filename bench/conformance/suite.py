"""The conformance suite that every plug-in inherits: what ``vsae-bench check NAME`` asks of it.

**For authors.** Write the plug-in in a file of its own and run ``vsae-bench check --plugins DIR`` on its folder. Each
line of the listing is one check: ``ok``, ``n/a`` with the reason, or ``FAILED`` with the tables it failed on, what was
wrong on the first and, after an exception, the line of your file. The exit code is 0 if nothing failed, 1 otherwise.
Packages of ``requires`` that are not installed, and data that cannot be had, make a plug-in ``skipped``.

A **method** is run on generated tables of some 50 rows of the kinds it declares, at the ``smoke`` budget, under each
protocol it declares, on one thread. Besides what the checks below say, they rest on this contract:

- A view (``bench.api.Incomplete``) is all a method may look at; ``_table`` and other private names hold the truth.
- ``impute`` returns a DataFrame with the schema's columns, or ``Values``, for the rows it was given, in their order.
- All randomness comes from ``seed``: ``bench.seeds.generator("my_method", seed)`` gives a NumPy generator.
- A column without one observed training entry gets the declared fill: 0, the first level, an image or features of 0.
  ``bench.data.statistics.fill_hidden`` fills it in, and the mean, mode or mean image elsewhere.
- An *inductive* method learns from the training view alone and imputes each row from that row's own observed entries.
- ``diagnostics`` returns one dict of JSON values per replica, or an empty list.

``--large`` adds a table of 10,000 columns. A method whose cost forbids that declares ``max_attributes``, is tried at
that width instead, and is skipped, with the reason in the row, on wider tables.

A **data set** is loaded twice, with its target. A **mechanism** hides values of generated tables of its kinds.

**Adding a check** is writing a function with one line of documentation, which is printed as its name; it raises
``Failed`` or ``NotApplicable`` with a reason, and it joins the tuple at the end of its section.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.kinds import Kind
from bench.data.schema import SCALAR_KINDS, AnyArray, Attribute, BoolArray, IntArray, Schema
from bench.data.statistics import fill_hidden, observed_statistics
from bench.data.table import Table, Values
from bench.data.view import Incomplete
from bench.errors import BenchError
from bench.experiment.presets import budget_for
from bench.files.fetch import LoadedTable, load_table
from bench.plugins.contracts import Context, Dataset, Mechanism, Method, StackedMethod
from bench.problem.build import split_rows
from bench.problem.held_out import hold_out
from bench.problem.mechanisms import draw_observed, maskable_columns, realised_ratio
from bench.seeds import generator

if TYPE_CHECKING:
    import pandas as pd

#: Rows of a generated table, the share of its entries that is observed, and that of cells its source has.
ROWS, OBSERVED, PRESENT = 48, 0.6, 0.97
#: Replicas of a stack.
REPLICAS = 3
SEED = 2**62 + 5
LARGE_ROWS, LARGE_COLUMNS = 64, 10_000


class Failed(Exception):
    """The plug-in does not do what a check asks; the text says what it does instead, in one line."""


class NotApplicable(Exception):
    """A check does not concern the plug-in; the text says why."""


# Generated tables

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

    def view(self, rows: IntArray, held_out: BoolArray | None = None) -> Incomplete:
        """Return the view of some rows of each replica."""
        return Incomplete(self.table, rows, np.take_along_axis(self.observed, rows[..., None], axis=1), held_out)

    def train_view(self, protocol: str) -> Incomplete:
        """Return what is learned from: the training rows, or all rows under the transductive protocol."""
        return self.view(self.train) if protocol == "inductive" else self.data_view(protocol)

    def validation_view(self) -> Incomplete:
        """Return the validation rows with a fifth of their observed entries held out, the same in any stack."""
        held_out = [
            hold_out(shown, generator("conformance held out", *(int(row) for row in rows)))
            for rows, shown in zip(self.validation, self.view(self.validation).observed, strict=True)
        ]
        return self.view(self.validation, np.stack(held_out))

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


def poisoned(table: Table, poison: BoolArray, rng: np.random.Generator) -> Table:
    """Return the table with NaN and noise by turns, random bytes in an image, in the entries ``poison`` [n, M]."""
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


# Checks of a method


@dataclass(frozen=True, eq=False)
class Run:
    """A method that has imputed, its values, and what it changed of what it was given, if anything."""

    method: Method
    values: Values
    changed: str


@dataclass(frozen=True, eq=False)
class Trial:
    """A method under one protocol and parameter set, on one generated table."""

    method: type[Method]
    protocol: str
    example: Example
    parameters: Mapping[str, Any] | None = None

    @cached_property
    def data(self) -> Incomplete:
        """What is imputed, of the first replica."""
        return self.example.replica(0).data_view(self.protocol)

    @cached_property
    def first_run(self) -> Run:
        """The method after it has imputed the first replica, and what came of it."""
        one, method = self.example.replica(0), self.instance()
        views = (one.train_view(self.protocol), one.validation_view(), one.data_view(self.protocol))
        masks = [view.observed.copy() for view in views]
        contents = replace(one.table).content_hash
        method.fit(views[0], views[1], SEED)
        values = self.complete(method, views[2])
        changed = ""
        if not all(np.array_equal(view.observed, mask) for view, mask in zip(views, masks, strict=True)):
            changed = "the mask of a view"
        elif replace(one.table).content_hash != contents:
            changed = "the data in the store"
        return Run(method, values, changed)

    @property
    def values(self) -> Values:
        """What the method imputes there."""
        return self.first_run.values

    def instance(self) -> Method:
        """Return a fresh method at the smoke budget."""
        return self.method(self.parameters, Context(budget_for("smoke", self.example.table.schema.kinds)))

    def impute(self, example: Example, learned: Example | None = None) -> Values:
        """Fit and impute the first replica; ``learned`` is what to fit on where it differs."""
        method, known = self.instance(), (learned or example).replica(0)
        method.fit(known.train_view(self.protocol), known.validation_view(), SEED)
        return self.complete(method, example.replica(0).data_view(self.protocol))

    def complete(self, method: Method, data: Incomplete) -> Values:
        """Return what a fitted method imputes for a view. Raises Failed unless it is one value for every entry."""
        return complete_values(method.impute(data, method.context.budget.draws), data)


def complete_values(imputed: pd.DataFrame | Values, data: Incomplete) -> Values:
    """Return imputed values as ``Values``. Raises Failed unless their shapes are those of the view."""
    import pandas as pd

    if isinstance(imputed, pd.DataFrame):
        imputed = Values.from_frame(imputed, data.schema)
    if not isinstance(imputed, Values):
        raise Failed(f"impute returned {type(imputed).__name__}, not a DataFrame or Values")
    shapes = {"scalars": (len(data), len(data.schema.scalar_indices))}
    shapes |= {attribute.name: (len(data), attribute.width) for attribute in data.schema.block_attributes}
    found = {"scalars": imputed.scalars, **imputed.blocks}
    for name, shape in shapes.items():
        if name not in found or found[name].shape != shape:
            is_there = f"have shape {found[name].shape}" if name in found else "are missing"
            raise Failed(f"the imputed values of '{name}' {is_there}, not {shape}")
    return imputed


def columns_of(values: Values, schema: Schema) -> Iterator[tuple[Attribute, AnyArray]]:
    """Yield each attribute with its values, [n, width]."""
    position = {int(index): column for column, index in enumerate(schema.scalar_indices)}
    for index, attribute in enumerate(schema.attributes):
        block = values.scalars[:, [position[index]]] if index in position else values.blocks[attribute.name]
        yield attribute, block


def difference(schema: Schema, found: Values, expected: Values, entries: BoolArray | None = None) -> str:
    """Return where two imputations differ in any bit, within ``entries`` [n, M] or everywhere; empty if nowhere."""
    pairs = zip(columns_of(found, schema), columns_of(expected, schema), strict=True)
    for index, ((attribute, ours), (_, theirs)) in enumerate(pairs):
        equal = (ours == theirs) & (np.signbit(ours) == np.signbit(theirs)) | np.isnan(ours) & np.isnan(theirs)
        differs = ~equal.all(axis=1)
        if entries is not None:
            differs &= entries[:, index]
        if differs.any():
            row = int(np.flatnonzero(differs)[0])
            example = f": {ours[row, 0]:.6g} against {theirs[row, 0]:.6g}" if ours.shape[1] == 1 else ""
            return f"'{attribute.name}' differs in {int(differs.sum())} of {len(differs)} rows{example}"
    return ""


def require_same(schema: Schema, found: Values, expected: Values, what: str, entries: BoolArray | None = None) -> None:
    """Raise Failed where two imputations differ; ``what`` says what should not have changed anything."""
    where = difference(schema, found, expected, entries)
    if where:
        raise Failed(f"{what}: {where}")


def require_finite(values: Values, schema: Schema) -> None:
    """Raise Failed on NaN and infinities."""
    for attribute, column in columns_of(values, schema):
        bad = ~np.isfinite(column).all(axis=1)
        if bad.any():
            raise Failed(f"'{attribute.name}' is NaN or infinite in {int(bad.sum())} of {len(column)} rows")


def require_levels(values: Values, schema: Schema) -> None:
    """Raise Failed where a category's code is no level's; NaN is left to ``require_finite``."""
    for attribute, column in columns_of(values, schema):
        if attribute.kind == "categorical":
            codes = column[~np.isnan(column)]
            wrong: BoolArray = (codes != np.round(codes)) | (codes < 0) | (codes >= attribute.width)
            if wrong.any():
                code, last = codes[wrong.argmax()], attribute.width - 1
                raise Failed(f"'{attribute.name}' has code {code:g}; its levels are 0 to {last}")


def require_observed(values: Values, data: Incomplete) -> None:
    """Raise Failed where an observed entry did not come back as it was."""
    require_same(data.schema, values, data.values(), "observed entries came back changed", data.observed[0])


def require_survived(trial: Trial, example: Example, learned: Example | None = None) -> Values:
    """Return what is imputed for an awkward table. Raises Failed unless it is valid and keeps observed entries."""
    values = trial.impute(example, learned)
    require_finite(values, example.table.schema)
    require_levels(values, example.table.schema)
    require_observed(values, example.replica(0).data_view(trial.protocol))
    return values


def first_of_each_kind(schema: Schema) -> list[int]:
    """Return the first attribute of each kind of which there are more, or the very first attribute."""
    positions = [schema.of_kind(kind) for kind in sorted(schema.kinds)]
    return [int(own[0]) for own in positions if len(own) > 1] or [0]


def hidden_values_change_nothing(trial: Trial) -> None:
    """Hidden values change nothing, bit for bit.

    Hidden entries of the store, and cells its source does not have, are replaced by NaN and noise.
    """
    one = trial.example.replica(0)
    table = poisoned(one.table, ~one.known, generator("conformance poison"))
    values = trial.impute(replace(one, table=table))
    require_same(table.schema, values, trial.values, "the output changed with values that are hidden")


def rows_to_impute_are_not_learned_from(trial: Trial) -> None:
    """The rows to impute are not learned from.

    They are replaced as a whole while it fits, observed entries and all.
    """
    if trial.protocol != "inductive":
        raise NotApplicable("it refits on the rows it is given")
    one = trial.example.replica(0)
    unseen = np.ones(one.known.shape, dtype=bool)
    unseen[np.concatenate([one.train[0], one.validation[0]])] = False
    table = poisoned(one.table, unseen, generator("conformance poison"))
    values = trial.impute(one, learned=replace(one, table=table))
    require_same(table.schema, values, trial.values, "the output changed with the test rows in the store during fit")


def rows_are_imputed_one_by_one(trial: Trial) -> None:
    """Each row is imputed on its own.

    Every second row to impute gets other values under the same mask; the rest must not change.
    """
    if trial.protocol != "inductive":
        raise NotApplicable("it refits on the rows it is given")
    one = trial.example.replica(0)
    # Only rows with every cell may stand in: the pattern of observed entries must stay.
    complete = np.flatnonzero(one.table.present.all(axis=1))
    others = one.test[0, 1::2]
    donors = generator("conformance other rows").choice(complete, len(others))
    scalars, blocks = one.table.scalars.copy(), {name: block.copy() for name, block in one.table.blocks.items()}
    scalars[others] = one.table.scalars[donors]
    for name, block in blocks.items():
        block[others] = one.table.blocks[name][donors]
    changed = replace(one.table, scalars=scalars, blocks=blocks, _stores={})
    entries = np.zeros(trial.data.observed[0].shape, dtype=bool)
    entries[::2] = True
    values = trial.impute(replace(one, table=changed))
    require_same(changed.schema, values, trial.values, "a row's output changed with another row's values", entries)


def observed_entries_are_untouched(trial: Trial) -> None:
    """Observed entries come back untouched."""
    require_observed(trial.values, trial.data)


def seed_decides_everything(trial: Trial) -> None:
    """The same seed gives the same values."""
    again = trial.impute(trial.example)
    require_same(trial.data.schema, again, trial.values, "a second run with the same seed differs")


def no_nan_comes_out(trial: Trial) -> None:
    """No NaN and no infinity comes out."""
    require_finite(trial.values, trial.data.schema)


def categories_are_valid(trial: Trial) -> None:
    """Categories are codes of levels."""
    if not len(trial.data.schema.of_kind("categorical")):
        raise NotApplicable("it takes no categories")
    require_levels(trial.values, trial.data.schema)


def views_are_left_alone(trial: Trial) -> None:
    """The views it is given are left as they were."""
    if trial.first_run.changed:
        raise Failed(f"it changed {trial.first_run.changed}")


def diagnostics_can_be_stored(trial: Trial) -> None:
    """Diagnostics are one dict per replica, or none."""
    diagnostics = trial.first_run.method.diagnostics()
    if not isinstance(diagnostics, list) or len(diagnostics) > 1 or not all(isinstance(d, dict) for d in diagnostics):
        raise Failed("diagnostics must return a list with one dict per replica, or an empty one")


def rows_with_nothing_observed(trial: Trial) -> None:
    """Rows with nothing observed."""
    hidden = np.zeros(trial.example.observed.shape, dtype=bool)
    for rows in (trial.example.train, trial.example.validation, trial.example.test):
        hidden[0, rows[0, :3]] = True
    require_survived(trial, trial.example.hiding(hidden))


def nothing_is_missing(trial: Trial) -> None:
    """A complete table comes back as it is."""
    example = without_gaps(trial.example)
    require_survived(trial, replace(example, observed=np.ones_like(example.observed)))


def training_rows_are_complete(trial: Trial) -> None:
    """Training rows without a hole, and rows to impute with holes."""
    example = without_gaps(trial.example)
    observed = example.observed.copy()
    observed[0, np.concatenate([example.train[0], example.validation[0]])] = True
    require_survived(trial, replace(example, observed=observed))


def without_gaps(example: Example) -> Example:
    """Return the example with 0 where its source had no value."""
    table = example.table
    filled = replace(table, scalars=np.nan_to_num(table.scalars), present=np.ones_like(table.present), _stores={})
    return replace(example, table=filled)


def everything_is_missing(trial: Trial) -> None:
    """A table with every entry missing gets the declared fill."""
    hidden = trial.example.hiding(np.ones((), dtype=bool))
    require_declared_fill(trial, hidden, list(range(len(hidden.table.schema))))


def one_row_is_imputed(trial: Trial) -> None:
    """A single row to impute."""
    row = trial.example.test[:, :1]
    alone = replace(trial.example, test=row)
    require_survived(trial, alone if trial.protocol == "inductive" else replace(alone, train=row, validation=row))


def one_training_row_is_enough_or_refused(trial: Trial) -> None:
    """A single training row, learned from or refused with one line."""
    if trial.protocol != "inductive":
        raise NotApplicable("it refits on the rows it is given")
    try:
        require_survived(trial, replace(trial.example, train=trial.example.train[:, :1]))
    except BenchError as error:
        require_one_line(error)


def one_attribute_is_enough(trial: Trial) -> None:
    """A single attribute."""
    table = trial.example.table
    first = table.schema.attributes[0]
    scalar = first.kind in SCALAR_KINDS
    alone = Table(
        Schema((first,)),
        table.scalars[:, :1] if scalar else np.zeros((len(table), 0)),
        {} if scalar else {first.name: table.blocks[first.name]},
        table.present[:, :1],
    )
    require_survived(trial, replace(trial.example, table=alone, observed=trial.example.observed[..., :1]))


def constant_column(trial: Trial) -> None:
    """Columns that hold one value only."""
    table = trial.example.table
    scalars, blocks = table.scalars.copy(), dict(table.blocks)
    for index in first_of_each_kind(table.schema):
        attribute = table.schema.attributes[index]
        if attribute.kind in SCALAR_KINDS:
            column = int(np.flatnonzero(table.schema.scalar_indices == index)[0])
            value = 7.3 if attribute.kind == "numeric" else 1.0
            scalars[:, column] = np.where(table.present[:, index], value, np.nan)
        else:
            blocks[attribute.name] = np.full_like(blocks[attribute.name], 7)
    changed = replace(table, scalars=scalars, blocks=blocks, _stores={})
    require_survived(trial, replace(trial.example, table=changed))


def never_observed_in_training(trial: Trial) -> None:
    """Columns never observed in training get the declared fill."""
    example = trial.example
    columns = first_of_each_kind(example.table.schema)
    hidden = np.zeros(example.observed.shape, dtype=bool)
    rows = np.concatenate([example.train[0], example.validation[0]])
    rows = np.arange(len(example.table)) if trial.protocol == "transductive" else rows
    hidden[0, rows[:, None], columns] = True
    require_declared_fill(trial, example.hiding(hidden), columns)


def require_declared_fill(trial: Trial, example: Example, columns: Sequence[int]) -> None:
    """Raise Failed unless the hidden entries of ``columns``, never observed in training, hold the declared fill."""
    values = require_survived(trial, example)
    one = example.replica(0)
    data = one.data_view(trial.protocol)
    filled = fill_hidden(data.values(), data.observed[0], observed_statistics(one.train_view(trial.protocol)))
    entries = np.zeros(data.observed[0].shape, dtype=bool)
    entries[:, columns] = True
    require_same(data.schema, values, filled, "not the declared fill", entries)


def categories_unseen_in_training(trial: Trial) -> None:
    """Categories that do not occur in training."""
    table, example = trial.example.table, trial.example
    columns = [c for c in table.schema.scalar_columns("categorical") if _levels(table, c) > 2]
    if not columns:
        raise NotApplicable("it takes no categories")
    scalars = table.scalars.copy()
    for column in columns:
        last = float(_levels(table, column) - 1)
        scalars[:, column] = np.where(scalars[:, column] == last, 0.0, scalars[:, column])
        rows = example.test[0, ::2]
        scalars[rows, column] = np.where(np.isnan(scalars[rows, column]), np.nan, last)
    require_survived(trial, replace(example, table=replace(table, scalars=scalars, _stores={})))


def _levels(table: Table, column: int) -> int:
    """Return the number of levels of a column of ``scalars``."""
    return int(table.schema.attributes[table.schema.scalar_indices[column]].width)


def infinities_are_refused(trial: Trial) -> None:
    """Infinities in the input are refused with one line that names the column."""
    table = trial.example.table
    finite = [a for a in table.schema.attributes if a.kind in ("numeric", "features")]
    if not finite:
        raise NotApplicable("it takes no attributes that can be infinite")
    name = finite[0].name
    index = table.schema.names.index(name)
    present = table.present.copy()
    present[trial.example.train[0, 0], index] = True
    scalars, blocks = table.scalars.copy(), {block: array.copy() for block, array in table.blocks.items()}
    if finite[0].kind == "numeric":
        scalars[trial.example.train[0, 0], int(np.flatnonzero(table.schema.scalar_indices == index)[0])] = np.inf
    else:
        blocks[name][trial.example.train[0, 0], 0] = -np.inf
    try:
        infinite = Table(table.schema, scalars, blocks, present)
        trial.impute(replace(trial.example, table=infinite))
    except BenchError as error:
        require_one_line(error)
        if name not in str(error):
            raise Failed(f"the message does not name '{name}': {error}") from None
    else:
        raise Failed("it was let through")


def require_one_line(error: BenchError) -> None:
    """Raise Failed unless the message of an error is one line that says something."""
    text = str(error)
    if not text.strip() or "\n" in text:
        raise Failed(f"the message must be one line, not {text!r}")


def stack_agrees_with_each_alone(trial: Trial) -> None:
    """A replica alone and in a stack agree, bit for bit."""
    if not issubclass(trial.method, StackedMethod):
        raise NotApplicable("it does not stack")
    example, schema = trial.example, trial.example.table.schema
    seeds = [SEED + replica for replica in range(len(example.train))]

    def run(problem: Example, own_seeds: Sequence[int]) -> list[Values]:
        method = trial.instance()
        assert isinstance(method, StackedMethod)
        method.fit_many(problem.train_view(trial.protocol), problem.validation_view(), own_seeds)
        data = problem.data_view(trial.protocol)
        results = method.impute_many(data, method.context.budget.draws)
        if len(results) != data.replicas:
            raise Failed(f"impute_many returned {len(results)} imputations for {data.replicas} replicas")
        return [complete_values(values, data.replica(replica)) for replica, values in enumerate(results)]

    together = run(example, seeds)
    for replica in (0, len(seeds) - 1):
        (alone,) = run(example.replica(replica), [seeds[replica]])
        require_same(schema, together[replica], alone, f"replica {replica} differs in a stack")


def other_parameter_sets(trial: Trial) -> None:
    """The other parameter sets: valid values, and hidden ones change nothing."""
    others = {name: own for name, own in trial.method.parameter_sets.items() if name != "default"}
    if trial.parameters is not None or not others:
        raise NotApplicable("it has the default set only")
    for name, parameters in others.items():
        other = replace(trial, parameters=parameters)
        try:
            require_finite(other.values, trial.data.schema)
            require_levels(other.values, trial.data.schema)
            require_observed(other.values, trial.data)
            hidden_values_change_nothing(other)
        except Failed as error:
            raise Failed(f"parameter set '{name}': {error}") from None


MethodCheck = Callable[[Trial], None]

METHOD_CHECKS: tuple[MethodCheck, ...] = (
    hidden_values_change_nothing,
    rows_to_impute_are_not_learned_from,
    rows_are_imputed_one_by_one,
    observed_entries_are_untouched,
    seed_decides_everything,
    no_nan_comes_out,
    categories_are_valid,
    views_are_left_alone,
    diagnostics_can_be_stored,
    rows_with_nothing_observed,
    nothing_is_missing,
    training_rows_are_complete,
    everything_is_missing,
    one_row_is_imputed,
    one_training_row_is_enough_or_refused,
    one_attribute_is_enough,
    constant_column,
    never_observed_in_training,
    categories_unseen_in_training,
    infinities_are_refused,
    stack_agrees_with_each_alone,
    other_parameter_sets,
)


def many_columns(trial: Trial) -> None:
    """A table of 10,000 columns, or of max_attributes."""
    require_survived(trial, trial.example)


LARGE_METHOD_CHECKS: tuple[MethodCheck, ...] = (many_columns,)


def large_example(method: type[Method]) -> Example:
    """Return a table as wide as the method takes, 10,000 columns at most. Raises NotApplicable without such a kind."""
    kinds: list[Kind] = [kind for kind in ("numeric", "categorical") if kind in method.kinds]
    if not kinds:
        raise NotApplicable("it takes neither numbers nor categories")
    columns = LARGE_COLUMNS if method.max_attributes is None else min(LARGE_COLUMNS, method.max_attributes)
    rng = generator("conformance", "large")
    table = generated_table([kinds[position % len(kinds)] for position in range(columns)], LARGE_ROWS, rng)
    split = split_rows(table, rng)
    observed = rng.random((1, LARGE_ROWS, columns)) < OBSERVED
    return Example(f"{columns} columns", table, observed, split.train[None], split.validation[None], split.test[None])


# Checks of a mechanism

#: Missing ratios a mechanism must meet, and how many standard deviations of a binomial it may be off.
RATIOS, DEVIATIONS = (0.1, 0.5, 0.9), 4.0
MECHANISM_ROWS = 400


@dataclass(frozen=True, eq=False)
class MechanismTrial:
    """A mechanism on one generated table of kinds it declares."""

    mechanism: type[Mechanism]
    example: Example

    def drawn(self, ratio: float) -> tuple[BoolArray, AnyArray]:
        """Return the mask and the probability of being missing, both [n, M]."""
        table = self.example.table
        return draw_observed(
            self.mechanism(),
            table.take(np.arange(len(table))),
            table.schema,
            ratio,
            generator("conformance mask", ratio),
            table.present,
        )


def ratio_is_met(trial: MechanismTrial) -> None:
    """Missing ratios of .1, .5 and .9 are met.

    In the columns in which anything is hidden, within 4 standard deviations of a binomial.
    """
    for ratio in RATIOS:
        observed, probability = trial.drawn(ratio)
        present = trial.example.table.present
        cells = int(present[:, maskable_columns(probability)].sum())
        if not cells:
            raise Failed(f"at ratio {ratio} it hides nothing")
        realised = realised_ratio(observed, present, probability)
        allowed = DEVIATIONS * (ratio * (1 - ratio) / cells) ** 0.5
        if abs(realised - ratio) > allowed:
            raise Failed(f"at ratio {ratio} it hides {realised:.3f} of the entries, off by more than {allowed:.3f}")


def probabilities_are_probabilities(trial: MechanismTrial) -> None:
    """Probabilities lie in [0, 1], one for every entry."""
    for ratio in RATIOS:
        trial.drawn(ratio)


def generator_decides_everything(trial: MechanismTrial) -> None:
    """The same generator gives the same mask."""
    for ratio in RATIOS:
        first, again = trial.drawn(ratio), trial.drawn(ratio)
        if not all(np.array_equal(one, other) for one, other in zip(first, again, strict=True)):
            raise Failed(f"at ratio {ratio} a second draw from the same generator differs")


def values_are_left_alone(trial: MechanismTrial) -> None:
    """The values it is given are left as they were."""
    table = trial.example.table
    shown = np.where(table.present[:, table.schema.scalar_indices], table.scalars, np.nan)
    values = Values(shown.copy(), {name: block.copy() for name, block in table.blocks.items()})
    trial.mechanism().missing_probability(
        values, table.schema, 0.5, generator("conformance mask"), **trial.mechanism.parameters
    )
    before = {"scalars": shown, **table.blocks}
    for name, array in {"scalars": values.scalars, **values.blocks}.items():
        if not np.array_equal(array, before[name], equal_nan=array.dtype.kind == "f"):
            raise Failed("it changed the values it was given")


def other_kinds_are_refused(trial: MechanismTrial) -> None:
    """Attributes of other kinds are refused with one line."""
    others = [name for name, kinds in TABLES.items() if not set(kinds) <= set(trial.mechanism.kinds)]
    if not others:
        raise NotApplicable("it takes every kind")
    for name in others:
        try:
            MechanismTrial(trial.mechanism, example_of(name, 1)).drawn(0.5)
        except BenchError as error:
            require_one_line(error)
        else:
            raise Failed(f"it was let through on {name}")


MechanismCheck = Callable[[MechanismTrial], None]

MECHANISM_CHECKS: tuple[MechanismCheck, ...] = (
    ratio_is_met,
    probabilities_are_probabilities,
    generator_decides_everything,
    values_are_left_alone,
    other_kinds_are_refused,
)

# Checks of a data set


@dataclass(frozen=True, eq=False)
class DatasetTrial:
    """A data set, loaded once; ``loaded`` has the target too."""

    dataset: type[Dataset]

    @cached_property
    def loaded(self) -> LoadedTable:
        """The whole table."""
        return load_table(self.dataset(), include_target=True)


def two_loads_agree(trial: DatasetTrial) -> None:
    """Two loads give the same content, the declared one."""
    table = trial.loaded.table
    again = load_table(trial.dataset(), include_target=True)
    if again.table.content_hash != table.content_hash:
        raise Failed("the second load has another content hash")
    full = trial.loaded.variant == "full"
    declared = {trial.dataset.content_hash} - {""} if full else set(trial.dataset.subset_content_hashes)
    if declared and table.content_hash not in declared:
        raise Failed(f"the content hash is {table.content_hash}, which is not declared")


def kinds_are_those_declared(trial: DatasetTrial) -> None:
    """Its attributes are of the declared kinds.

    With the target and without.
    """
    declared = set(trial.dataset.kinds)
    without = load_table(trial.dataset(), include_target=False).table.schema.kinds
    if without != declared:
        raise Failed(f"it declares {_listed(declared)}, but has {_listed(without)}")
    undeclared = trial.loaded.table.schema.kinds - declared
    if undeclared:
        raise Failed(f"its target '{trial.dataset.target}' is {_listed(undeclared)}, which it does not declare")


def _listed(kinds: set[Kind] | frozenset[Kind]) -> str:
    return " and ".join(sorted(kinds)) or "no attributes"


def target_exists(trial: DatasetTrial) -> None:
    """The target is one of its columns."""
    target = trial.dataset.target
    if target is None:
        raise NotApplicable("it has no target")
    if target not in trial.loaded.table.schema.names:
        raise Failed(f"there is no column '{target}'")


def shapes_fit(trial: DatasetTrial) -> None:
    """Arrays fit the schema.

    One row each per row of the table; uint8 images, float32 features; no name twice.
    """
    table = trial.loaded.table
    rows, names = len(table), table.schema.names
    if len(set(names)) != len(names):
        raise Failed(f"two columns have the name '{next(name for name in names if names.count(name) > 1)}'")
    found = {"scalars": table.scalars.shape, "present": table.present.shape}
    expected = {"scalars": (rows, len(table.schema.scalar_indices)), "present": (rows, len(names))}
    for attribute in table.schema.block_attributes:
        block = table.blocks.get(attribute.name)
        if block is None:
            raise Failed(f"'{attribute.name}' has no array")
        dtype = np.uint8 if attribute.kind == "image" else np.float32
        if block.dtype != dtype:
            raise Failed(f"'{attribute.name}' is {block.dtype}, not {np.dtype(dtype)}")
        found[attribute.name], expected[attribute.name] = block.shape, (rows, attribute.width)
    for name, shape in expected.items():
        if found[name] != shape:
            raise Failed(f"'{name}' has shape {found[name]}, not {shape}")


def values_are_finite(trial: DatasetTrial) -> None:
    """No value that is present is NaN or infinite."""
    table = trial.loaded.table
    for index, (attribute, column) in enumerate(columns_of(Values(table.scalars, table.blocks), table.schema)):
        if attribute.kind == "image":
            continue
        bad = ~np.isfinite(column).all(axis=1) & table.present[:, index]
        if bad.any():
            raise Failed(f"'{attribute.name}' is NaN or infinite in {int(bad.sum())} of {len(column)} rows")


def levels_are_there(trial: DatasetTrial) -> None:
    """Categories have levels, each named once, and codes of them only."""
    table = trial.loaded.table
    categories = [attribute for attribute in table.schema.attributes if attribute.kind == "categorical"]
    if not categories:
        raise NotApplicable("it has no categories")
    for attribute in categories:
        if not attribute.levels:
            raise Failed(f"'{attribute.name}' has no levels")
        if len(set(attribute.levels)) != len(attribute.levels):
            raise Failed(f"'{attribute.name}' names a level twice")
    shown = np.where(table.present[:, table.schema.scalar_indices], table.scalars, np.nan)
    require_levels(Values(shown, table.blocks), table.schema)


def rows_can_be_split(trial: DatasetTrial) -> None:
    """Training, validation and test get rows."""
    split = split_rows(trial.loaded.table, generator("conformance split"))
    for part in ("train", "validation", "test"):
        if not len(getattr(split, part)):
            raise Failed(f"of its {len(trial.loaded.table)} rows none is left for {part}")


DatasetCheck = Callable[[DatasetTrial], None]

DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    two_loads_agree,
    kinds_are_those_declared,
    target_exists,
    shapes_fit,
    values_are_finite,
    levels_are_there,
    rows_can_be_split,
)
