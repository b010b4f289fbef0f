"""What a table has to be before any method sees it: each rule once, for ``run`` and for the checks of a data set.

A rule raises Refused in one line that says what is wrong and where; ``require_sound`` holds a table to all of them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from bench.data.frame import Refused, listed
from bench.data.kinds import Kind
from bench.data.schema import AnyArray, FloatArray
from bench.data.table import Table
from bench.errors import printable

#: float32, in which neural methods keep a table, holds no larger number, and no smaller difference in full.
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)
#: A standard deviation of fewer float32 steps than this is told of.
FEW_STEPS = 100.0
#: A result has no more notes on its table than this.
MOST_NOTES = 10


def require_sound(table: Table, kinds: Collection[Kind]) -> None:
    """Raise Refused unless a table is whole, and of no other kinds than a data set declares."""
    require_shapes(table)
    require_finite_values(table)
    require_levels(table)
    require_float32(table)
    require_rows(table)
    require_kinds(table, kinds)


def require_shapes(table: Table) -> None:
    """Raise Refused unless names differ and each array has one row per row and the dtype of its kind."""
    given: dict[str, object] = {"scalars": table.scalars, "present": table.present, **table.blocks}
    for name, value in given.items():
        if not isinstance(value, np.ndarray):
            raise Refused(f"'{name}' is a {type(value).__name__}, not a NumPy array")
    rows, names = len(table), table.schema.names
    if not names:
        raise Refused("it has no attributes")
    if len(set(names)) != len(names):
        raise Refused(f"two columns have the name '{next(name for name in names if names.count(name) > 1)}'")
    for name in names:
        if not name or name != printable(name):
            raise Refused(f"the name {name!r} is empty or does not print; rename the column")
    found = {"scalars": table.scalars.shape, "present": table.present.shape}
    expected: dict[str, tuple[int, ...]] = {
        "scalars": (rows, len(table.schema.scalar_indices)),
        "present": (rows, len(names)),
    }
    for attribute in table.schema.block_attributes:
        block = table.blocks.get(attribute.name)
        if block is None:
            raise Refused(f"'{attribute.name}' has no array")
        dtype = np.uint8 if attribute.kind == "image" else np.float32
        if block.dtype != dtype:
            raise Refused(f"'{attribute.name}' is {block.dtype}, not {np.dtype(dtype)}")
        found[attribute.name], expected[attribute.name] = block.shape, (rows, attribute.width)
    for part, array in (("test", table.test), ("strata", table.strata)):
        if array is not None:
            found[part], expected[part] = array.shape, (rows,)
    for name, shape in expected.items():
        if found[name] != shape:
            raise Refused(f"'{name}' has shape {found[name]}, not {shape}")
    for name, is_of, wanted in (("scalars", table.scalars.dtype, "float64"), ("present", table.present.dtype, "bool")):
        if is_of != np.dtype(wanted):
            raise Refused(f"'{name}' is {is_of}, not {wanted}")


def require_finite_values(table: Table) -> None:
    """Raise Refused if a value that is present is NaN or infinite."""
    columns: dict[str, AnyArray] = {name: block for name, block in table.blocks.items() if block.dtype != np.uint8}
    for column, index in enumerate(table.schema.scalar_indices):
        columns[table.schema.names[index]] = table.scalars[:, [column]]
    for index, attribute in enumerate(table.schema.attributes):
        if attribute.name not in columns:
            continue
        values = columns[attribute.name]
        bad = ~np.isfinite(values).all(axis=1) & table.present[:, index]
        if bad.any():
            raise Refused(f"'{attribute.name}' is NaN or infinite in {int(bad.sum())} of {len(values)} rows")


def require_levels(table: Table) -> None:
    """Raise Refused unless categories have levels, each named once, and codes of them only."""
    for column, index in enumerate(table.schema.scalar_indices):
        attribute = table.schema.attributes[index]
        if attribute.kind != "categorical":
            continue
        if not attribute.levels:
            raise Refused(f"'{attribute.name}' has no levels")
        if len(set(attribute.levels)) != len(attribute.levels):
            raise Refused(f"'{attribute.name}' names a level twice")
        codes = table.scalars[table.present[:, index], column]
        wrong = (codes != np.round(codes)) | (codes < 0) | (codes >= attribute.width)
        if wrong.any():
            code, last = codes[wrong.argmax()], attribute.width - 1
            raise Refused(f"'{attribute.name}' has code {code:g}; its levels are 0 to {last}")


def _numbers(table: Table) -> list[tuple[str, FloatArray]]:
    """Return the present numbers of each numeric attribute that has any, by name."""
    found: list[tuple[str, FloatArray]] = []
    for column, index in enumerate(table.schema.scalar_indices):
        attribute = table.schema.attributes[index]
        values: FloatArray = table.scalars[table.present[:, index], column]
        if attribute.kind == "numeric" and len(values):
            found.append((attribute.name, values))
    return found


def require_float32(table: Table) -> None:
    """Raise Refused if numbers are too large, or differ by too little, for float32 to hold them."""
    for name, values in _numbers(table):
        largest, spread = float(np.abs(values).max()), float(np.ptp(values))
        if largest > LARGEST:
            raise Refused(f"'{name}' reaches {largest:.3g}, more than float32 holds ({LARGEST:.3g}); scale it down")
        if 0 < spread < SMALLEST:
            raise Refused(f"'{name}' varies by {spread:.3g}, less than float32 holds ({SMALLEST:.3g}); scale it up")


def notes_of(table: Table) -> list[str]:
    """Return what a result of a table is to warn of: what was assumed in reading it, and numbers far from 0."""
    notes = [*table.assumed, *coarse_numbers(table)]
    more = len(notes) - MOST_NOTES
    return notes if more <= 0 else [*notes[:MOST_NOTES], f"{more} more notes like these"]


def coarse_numbers(table: Table) -> list[str]:
    """Return a line that names the attributes of which float64 keeps a few steps only, as they are far from 0."""
    coarse: list[str] = []
    for name, values in _numbers(table):
        step = float(np.spacing(np.abs(values).max()))
        if 0 < float(values.std()) < FEW_STEPS * step:
            coarse.append(name)
    if not coarse:
        return []
    return [
        f"far from 0, so that float64 keeps less than {FEW_STEPS:g} steps of a standard deviation: {listed(coarse)}; "
        "subtract a constant before they are rounded"
    ]


def require_rows(table: Table) -> None:
    """Raise Refused unless training, validation and test get rows."""
    rows = len(table)
    sizes = table.split_sizes
    if sizes is not None and sum(sizes) != rows:
        raise Refused(f"split sizes {sizes} do not add up to the table's {rows} rows")
    for part, size in zip(("train", "validation", "test"), table.part_sizes, strict=True):
        if size < 1:
            raise Refused(f"of its {rows} rows none is left for {part}; give at least five, or official test rows")


def require_kinds(table: Table, kinds: Collection[Kind]) -> None:
    """Raise Refused if an attribute is of a kind that is not declared: methods are chosen by what is."""
    for attribute in table.schema.attributes:
        if attribute.kind not in kinds:
            raise Refused(
                f"'{attribute.name}' is {attribute.kind}, but the data set declares {' and '.join(sorted(kinds))} only;"
                f" {_other_kind(attribute.kind)}"
            )


def _other_kind(kind: Kind) -> str:
    converted = {"numeric": ", or make it a category with astype('category')", "categorical": ", or make it numbers"}
    return f"add '{kind}' to its kinds{converted.get(kind, '')}"
