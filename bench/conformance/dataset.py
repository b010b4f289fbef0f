"""The checks that every data set inherits: it is loaded twice, with its target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bench.conformance.require import Failed, NotApplicable, columns_of, require_levels
from bench.data.kinds import Kind
from bench.data.table import Values
from bench.files.fetch import LoadedTable, load_table
from bench.plugins.contracts import Dataset
from bench.problem.build import split_rows
from bench.seeds import generator


@dataclass(frozen=True, eq=False)
class DatasetTrial:
    """A data set, loaded once; ``loaded`` has the target too."""

    dataset: type[Dataset]

    @cached_property
    def loaded(self) -> LoadedTable:
        """The whole table."""
        return load_table(self.dataset(), include_target=True)


def two_loads_agree(trial: DatasetTrial) -> None:
    """Two loads give the same content, the declared one.

    Mend: draw nothing without a fixed seed in ``load``; declare ``content_hash``, which the first failure prints.
    """
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

    Mend: list in ``kinds`` the kinds of its attributes, no more and no fewer, the target's among them.
    """
    declared = set(trial.dataset.kinds)
    without = load_table(trial.dataset(), include_target=False).table.schema.kinds
    if without != declared:
        raise Failed(f"it declares {_listed(declared)}, but has {_listed(without)}")
    undeclared = trial.loaded.table.schema.kinds - declared
    if undeclared:
        raise Failed(f"its target '{trial.dataset.target}' is {_listed(undeclared)}, which it does not declare")


def _listed(kinds: Iterable[Kind]) -> str:
    return " and ".join(sorted(kinds)) or "no attributes"


def target_exists(trial: DatasetTrial) -> None:
    """The target is one of its columns.

    Mend: set ``target`` to the name of a column, or to None.
    """
    target = trial.dataset.target
    if target is None:
        raise NotApplicable("it has no target")
    if target not in trial.loaded.table.schema.names:
        raise Failed(f"there is no column '{target}'")


def shapes_fit(trial: DatasetTrial) -> None:
    """Arrays fit the schema.

    One row each per row of the table; uint8 images, float32 features; no name twice.

    Mend: make each array [rows, width], images uint8 and features float32, and name each column once.
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
    """No value that is present is NaN or infinite.

    Mend: leave a value the source does not have NaN and not ``present``.
    """
    table = trial.loaded.table
    for index, (attribute, column) in enumerate(columns_of(Values(table.scalars, table.blocks), table.schema)):
        if attribute.kind == "image":
            continue
        bad = ~np.isfinite(column).all(axis=1) & table.present[:, index]
        if bad.any():
            raise Failed(f"'{attribute.name}' is NaN or infinite in {int(bad.sum())} of {len(column)} rows")


def levels_are_there(trial: DatasetTrial) -> None:
    """Categories have levels, each named once, and codes of them only.

    Mend: name each level once, and store its position 0, 1, ... as its code.
    """
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
    """Training, validation and test get rows.

    Mend: give at least five rows, or say in ``split_sizes`` how many go where.
    """
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
