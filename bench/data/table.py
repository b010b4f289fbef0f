"""Complete data: values of some rows, the table of a data set, and their conversion from and to DataFrames."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.schema import AnyArray, Attribute, BoolArray, FloatArray, IntArray, Schema
from bench.errors import BenchError
from bench.seeds import canonical_json

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Values:
    """Complete values of some rows: ``scalars`` [n, S] (numbers, category codes) and one [n, width] array per block."""

    scalars: FloatArray
    blocks: Mapping[str, AnyArray] = field(default_factory=dict)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, schema: Schema) -> Values:
        """Read a DataFrame with the schema's columns; raises BenchError on a missing column or an unknown category."""
        return cls(frame_to_scalars(frame, schema))


@dataclass(frozen=True, eq=False)
class Table:
    """The complete data of one data set, compact as it came.

    ``scalars`` is float64 [n, S]: numbers, and codes 0..K-1 of categories. ``blocks`` maps an image attribute to uint8
    and a feature attribute to float32, each [n, width]. ``present`` is bool [n, M], False where the source itself has
    no value (such a cell is never shown and never scored). ``test`` marks the official test rows, if there are any.
    ``split_sizes`` are the numbers of train, validation and test rows where the shares of ``bench.problem.build`` do
    not apply; such a split is random within the ``strata`` [n] (whole numbers), which share each part out in
    proportion.
    """

    schema: Schema
    scalars: FloatArray
    blocks: Mapping[str, AnyArray]
    present: BoolArray
    test: BoolArray | None = None
    split_sizes: tuple[int, int, int] | None = None
    strata: IntArray | None = None
    _stores: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raise BenchError on an infinite value: no mean and no network survives one."""
        columns = np.flatnonzero(np.isinf(self.scalars).any(axis=0))
        infinite = [self.schema.names[index] for index in self.schema.scalar_indices[columns]]
        infinite += [name for name, block in self.blocks.items() if block.dtype != np.uint8 and np.isinf(block).any()]
        if infinite:
            raise BenchError(f"attribute '{infinite[0]}' holds an infinite value; replace it or leave it missing")

    def __len__(self) -> int:
        return int(self.present.shape[0])

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> Table:
        """Build a table from a DataFrame: number columns are numeric, all others categorical, NaN is not present."""
        schema = schema_of_frame(frame)
        present = frame.notna().to_numpy(dtype=bool)
        return cls(schema, frame_to_scalars(frame, schema), {}, present)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 over schema and values: the identity of the data, wherever it was downloaded from."""
        attributes = [[a.name, a.kind, list(a.levels), list(a.shape)] for a in self.schema.attributes]
        hasher = hashlib.sha256(canonical_json(attributes).encode())
        scalar_present = self.present[:, self.schema.scalar_indices]
        hasher.update(np.where(scalar_present, self.scalars, 0.0).astype("<f8").tobytes())
        for attribute in self.schema.block_attributes:
            hasher.update(np.ascontiguousarray(self.blocks[attribute.name]).tobytes())
        hasher.update(np.packbits(self.present).tobytes())
        if self.test is not None:
            hasher.update(np.packbits(self.test).tobytes())
        if self.split_sizes is not None:
            strata = None if self.strata is None else self.strata.tolist()
            hasher.update(canonical_json([list(self.split_sizes), strata]).encode())
        return hasher.hexdigest()

    def take(self, rows: IntArray) -> Values:
        """Return the true values of ``rows``; for scoring only."""
        return Values(self.scalars[rows], {name: block[rows] for name, block in self.blocks.items()})


def schema_of_frame(frame: pd.DataFrame) -> Schema:
    """Return the schema of a DataFrame: number columns are numeric, all others categorical with sorted levels."""
    import pandas as pd

    attributes: list[Attribute] = []
    for name in frame.columns:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            levels = tuple(str(level) for level in column.cat.categories)
        elif pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
            attributes.append(Attribute(str(name), "numeric"))
            continue
        else:
            levels = tuple(sorted(str(level) for level in column.dropna().unique()))
        attributes.append(Attribute(str(name), "categorical", levels=levels))
    return Schema(tuple(attributes))


def frame_to_scalars(frame: pd.DataFrame, schema: Schema) -> FloatArray:
    """Return the [n, S] scalars of a DataFrame under a schema; NaN stays NaN.

    Raises BenchError on a missing column, a category the schema does not have, or an infinite number.
    """
    schema.require_scalar("a DataFrame")
    scalars = np.full((len(frame), len(schema)), np.nan)
    for column, attribute in enumerate(schema.attributes):
        if attribute.name not in frame.columns:
            raise BenchError(f"column '{attribute.name}' is missing from the DataFrame")
        values = frame[attribute.name]
        if attribute.kind == "numeric":
            scalars[:, column] = values.to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isinf(scalars[:, column]).any():
                raise BenchError(f"column '{attribute.name}' holds an infinite value; replace it or leave it missing")
        else:
            code = {level: float(k) for k, level in enumerate(attribute.levels)}
            known = values.notna().to_numpy()
            try:
                scalars[known, column] = [code[str(level)] for level in values[known]]
            except KeyError as error:
                raise BenchError(
                    f"column '{attribute.name}' holds category {error}, which is not among its levels"
                ) from None
    return scalars


def scalars_to_frame(scalars: FloatArray, schema: Schema) -> pd.DataFrame:
    """Return [n, S] scalars as a DataFrame: float64 columns and pandas categoricals; NaN stays missing."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for column, index in enumerate(schema.scalar_indices):
        attribute = schema.attributes[index]
        values = scalars[:, column]
        if attribute.kind == "numeric":
            columns[attribute.name] = values
        else:
            codes = np.where(np.isnan(values), -1.0, values).astype(np.int64)
            columns[attribute.name] = pd.Categorical.from_codes(codes, categories=pd.Index(attribute.levels))
    return pd.DataFrame(columns)


def unit_scale(block: AnyArray) -> AnyArray:
    """Return a block as float32, uint8 images scaled to [0, 1]."""
    return block.astype(np.float32) / np.float32(255) if block.dtype == np.uint8 else block.astype(np.float32)
