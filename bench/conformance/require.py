"""What a check may ask of imputed values: that they are equal, finite, codes of levels, and observed entries intact."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bench.data.schema import AnyArray, Attribute, BoolArray, Schema
from bench.data.table import Values
from bench.data.view import Incomplete
from bench.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd


class Failed(Exception):
    """The plug-in does not do what a check asks; the text says what it does instead, in one line."""


class NotApplicable(Exception):
    """A check does not concern the plug-in; the text says why."""


def complete_values(imputed: pd.DataFrame | Values, data: Incomplete, source: str = "impute") -> Values:
    """Return what ``source`` gave as ``Values``. Raises Failed unless their shapes are those of the view."""
    import pandas as pd

    if isinstance(imputed, pd.DataFrame):
        imputed = Values.from_frame(imputed, data.schema, len(data))
    if not isinstance(imputed, Values):
        raise Failed(f"{source} returned {type(imputed).__name__}, not a DataFrame or Values")
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
    """Raise Failed if two imputations differ; ``what`` says what should not have changed anything."""
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
    """Raise Failed if a category's code is no level's; NaN is left to ``require_finite``."""
    for attribute, column in columns_of(values, schema):
        if attribute.kind == "categorical":
            codes = column[~np.isnan(column)]
            wrong: BoolArray = (codes != np.round(codes)) | (codes < 0) | (codes >= attribute.width)
            if wrong.any():
                code, last = codes[wrong.argmax()], attribute.width - 1
                raise Failed(f"'{attribute.name}' has code {code:g}; its levels are 0 to {last}")


def require_observed(values: Values, data: Incomplete) -> None:
    """Raise Failed if an observed entry did not come back as it was."""
    require_same(data.schema, values, data.values(), "observed entries came back changed", data.observed[0])


def require_one_line(error: BenchError) -> None:
    """Raise Failed unless the message of an error is one line that says something."""
    text = str(error)
    if not text.strip() or "\n" in text:
        raise Failed(f"the message must be one line, not {text!r}")
