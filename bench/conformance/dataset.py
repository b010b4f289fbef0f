"""The checks that every data set inherits: it is loaded twice, with its target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from bench.conformance.require import Failed, NotApplicable
from bench.data.door import require_finite_values, require_float32, require_levels, require_rows, require_shapes
from bench.data.kinds import Kind
from bench.files.fetch import LoadedTable, load_table
from bench.plugins.contracts import Dataset


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
    require_shapes(trial.loaded.table)


def values_are_finite(trial: DatasetTrial) -> None:
    """No value that is present is NaN or infinite.

    Mend: leave a value the source does not have NaN and not ``present``.
    """
    require_finite_values(trial.loaded.table)


def numbers_fit_float32(trial: DatasetTrial) -> None:
    """Numbers are neither too large for float32 nor too close together.

    Mend: scale the column, or subtract a constant from it.
    """
    require_float32(trial.loaded.table)


def levels_are_there(trial: DatasetTrial) -> None:
    """Categories have levels, each named once, and codes of them only.

    Mend: name each level once, and store its position 0, 1, ... as its code.
    """
    if "categorical" not in trial.loaded.table.schema.kinds:
        raise NotApplicable("it has no categories")
    require_levels(trial.loaded.table)


def rows_can_be_split(trial: DatasetTrial) -> None:
    """Training, validation and test get rows.

    Mend: give at least five rows, or say in ``split_sizes`` how many go where.
    """
    require_rows(trial.loaded.table)


DatasetCheck = Callable[[DatasetTrial], None]

DATASET_CHECKS: tuple[DatasetCheck, ...] = (
    two_loads_agree,
    kinds_are_those_declared,
    target_exists,
    shapes_fit,
    values_are_finite,
    numbers_fit_float32,
    levels_are_there,
    rows_can_be_split,
)
