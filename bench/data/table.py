"""Complete data: values of some rows, the table of a data set, and their conversion from and to DataFrames."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.frame import imputed_scalars, read_frame
from bench.data.kinds import Kind
from bench.data.parts import part_sizes
from bench.data.schema import AnyArray, BoolArray, FloatArray, IntArray, Schema
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
    def from_frame(cls, frame: pd.DataFrame, schema: Schema, rows: int | None = None) -> Values:
        """Read an imputed DataFrame with the schema's columns, its rows in the order of its index.

        If it has not as many as the ``rows`` it should have, they are taken as they are: the caller says so better.

        Raises BenchError on what cannot be meant, such as a missing column, an unknown category or another index.
        """
        return cls(imputed_scalars(frame, schema, ordered=rows is not None and rows != len(frame)))


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
    assumed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
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
    def from_frame(cls, frame: pd.DataFrame, kinds: Collection[Kind] | None = None) -> Table:
        """Build a table from a DataFrame; ``bench.data.frame`` says what each column is, NaN is not present.

        ``kinds`` are those a data set declares: without numbers among them, text that is all numbers is a category.
        Raises BenchError on columns that are refused.
        """
        read = read_frame(frame, kinds)
        return cls(read.schema, read.scalars, {}, read.present, assumed=read.notes, left_out=read.left_out)

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

    @property
    def part_sizes(self) -> tuple[int, int, int]:
        """The numbers of training, validation and test rows that a split of the table gives."""
        official = None if self.test is None else int(self.test.sum())
        return self.split_sizes or part_sizes(len(self), official)

    def take(self, rows: IntArray) -> Values:
        """Return the true values of ``rows``; for scoring only."""
        return Values(self.scalars[rows], {name: block[rows] for name, block in self.blocks.items()})


def unit_scale(block: AnyArray) -> AnyArray:
    """Return a block as float32, uint8 images scaled to [0, 1]."""
    return block.astype(np.float32) / np.float32(255) if block.dtype == np.uint8 else block.astype(np.float32)
