"""What a row is made of: attributes, and the schema that orders them.

The mask is per *attribute*, never per pixel or per one-hot column: a table column and an MNIST image are both
attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bench.data.kinds import Kind
from bench.errors import BenchError

SCALAR_KINDS: frozenset[Kind] = frozenset({"numeric", "categorical"})

BoolArray = np.ndarray[Any, np.dtype[np.bool_]]

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

IntArray = np.ndarray[Any, np.dtype[np.integer[Any]]]

AnyArray = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Attribute:
    """One attribute of a row: a number, a category, an image or a feature vector.

    ``levels`` are the categories' names in code order; ``shape`` is that of one image or feature vector.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Width after encoding: 1 for a number, the number of levels, or the number of pixels or features."""
        if self.kind == "numeric":
            return 1
        if self.kind == "categorical":
            return len(self.levels)
        return int(np.prod(self.shape))


@dataclass(frozen=True)
class Schema:
    """The attributes of a data set, in order."""

    attributes: tuple[Attribute, ...]

    def __len__(self) -> int:
        return len(self.attributes)

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes' names, in order."""
        return tuple(attribute.name for attribute in self.attributes)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds that occur."""
        return frozenset(attribute.kind for attribute in self.attributes)

    @cached_property
    def scalar_indices(self) -> IntArray:
        """Indices of the numeric and categorical attributes: those that columns 0, 1, ... of ``scalars`` hold."""
        return np.array([i for i, a in enumerate(self.attributes) if a.kind in SCALAR_KINDS], dtype=np.int64)

    @property
    def encoded_width(self) -> int:
        """Columns of the numbers and categories once each level has its own; images and features do not count."""
        return sum(self.attributes[index].width for index in self.scalar_indices)

    def of_kind(self, kind: Kind) -> IntArray:
        """Return the indices of the attributes of one kind, in order."""
        return np.array([i for i, a in enumerate(self.attributes) if a.kind == kind], dtype=np.int64)

    def scalar_columns(self, kind: Kind) -> IntArray:
        """Return the columns of ``scalars`` that hold attributes of one (scalar) kind."""
        return np.array(
            [s for s, i in enumerate(self.scalar_indices) if self.attributes[i].kind == kind], dtype=np.int64
        )

    @property
    def block_attributes(self) -> tuple[Attribute, ...]:
        """The image and feature attributes, in order."""
        return tuple(a for a in self.attributes if a.kind not in SCALAR_KINDS)

    def require_scalar(self, who: str) -> None:
        """Raise BenchError unless every attribute is a number or a category, as ``who`` needs."""
        if self.block_attributes:
            names = ", ".join(a.name for a in self.block_attributes)
            raise BenchError(f"{who} takes numeric and categorical attributes only; {names} is an image or features")
