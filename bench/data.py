"""The nouns of the data: attributes, schema, the complete table, imputed values and the incomplete view of a method.

The mask is per *attribute*, never per pixel or per one-hot column: a table column and an MNIST image are both
attributes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BenchError
from bench.kinds import KINDS as KINDS
from bench.kinds import Kind as Kind
from bench.streams import canonical_json

if TYPE_CHECKING:
    import pandas as pd
    import torch

#: Rows of images or features taken at a time, to bound the memory.
BLOCK_ROWS = 4096

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
    ``split_sizes`` are the numbers of train, validation and test rows where the shares of ``bench.problem`` do not
    apply; such a split is random within the ``strata`` [n] (whole numbers), which share each part out in proportion.
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


class Incomplete:
    """What a method sees: a view of rows with hidden entries, for one replica or a stack of replicas.

    A view holds a shared store (the table, compact, once for all replicas), the row numbers [R, n] and the observed
    mask [R, n, M] of each replica. Its exits overwrite the hidden entries before they return: NaN in ``frame`` and
    ``values``, 0 in tensors. Methods never touch the store.
    """

    def __init__(self, table: Table, rows: IntArray, observed: BoolArray, held_out: BoolArray | None = None) -> None:
        """Build a view of ``rows`` [R, n] of ``table`` under ``observed`` [R, n, M].

        ``held_out`` [R, n, M] marks the observed entries of a validation view that are hidden for model selection.
        """
        if rows.ndim != 2 or observed.shape != (*rows.shape, len(table.schema)):
            raise ValueError(f"rows must be [R, n] and observed [R, n, M], not {rows.shape} and {observed.shape}")
        self._table = table
        self._rows = rows
        self.schema: Schema = table.schema
        shown = observed & table.present[rows]
        self._held_out: BoolArray | None = None if held_out is None else held_out & shown
        self.observed: BoolArray = shown if self._held_out is None else shown & ~self._held_out

    @property
    def replicas(self) -> int:
        """Number of replicas R in the stack."""
        return int(self._rows.shape[0])

    def __len__(self) -> int:
        """Number of rows n, the same in every replica."""
        return int(self._rows.shape[1])

    def replica(self, index: int) -> Incomplete:
        """Return the view of one replica alone."""
        keep = slice(index, index + 1)
        if self._held_out is None:
            return Incomplete(self._table, self._rows[keep], self.observed[keep])
        shown = self.observed[keep] | self._held_out[keep]
        return Incomplete(self._table, self._rows[keep], shown, self._held_out[keep])

    @property
    def held_out(self) -> Incomplete | None:
        """The same rows showing exactly the entries held out for model selection (validation views), or None."""
        if self._held_out is None:
            return None
        return Incomplete(self._table, self._rows, self._held_out)

    def scalars(self, replica: int = 0) -> FloatArray:
        """Return one replica's float64 scalars [n, S] with NaN in hidden entries."""
        shown = self.observed[replica][:, self.schema.scalar_indices]
        return np.where(shown, self._table.scalars[self._rows[replica]], np.nan)

    def observed_block(self, name: str, replica: int = 0) -> Iterator[AnyArray]:
        """Yield the observed entries of an image or feature attribute, a few thousand float32 rows at a time."""
        index = self.schema.names.index(name)
        rows = self._rows[replica][self.observed[replica][:, index]]
        for start in range(0, len(rows), BLOCK_ROWS):
            yield unit_scale(self._table.blocks[name][rows[start : start + BLOCK_ROWS]])

    def values(self, replica: int = 0) -> Values:
        """Return one replica's values, NaN in hidden entries: float64 scalars, float32 blocks (images in [0, 1])."""
        rows, observed = self._rows[replica], self.observed[replica]
        scalars = self.scalars(replica)
        blocks: dict[str, AnyArray] = {}
        for index, attribute in enumerate(self.schema.attributes):
            if attribute.kind in SCALAR_KINDS:
                continue
            block = unit_scale(self._table.blocks[attribute.name][rows])
            blocks[attribute.name] = np.where(observed[:, index, None], block, np.float32(np.nan))
        return Values(scalars, blocks)

    def frame(self, replica: int = 0) -> pd.DataFrame:
        """Return one replica as a DataFrame with NaN in hidden entries; categories as pandas categoricals.

        Raises BenchError if an attribute is an image or features: use ``values`` for those.
        """
        self.schema.require_scalar("frame()")
        return scalars_to_frame(self.values(replica).scalars, self.schema)

    def tensors(self, device: str | torch.device) -> TensorView:
        """Return the stack on a device, to gather batches there."""
        return TensorView(self, device)


def nothing_observed(schema: Schema, rows: int, replicas: int = 1) -> Incomplete:
    """Return a view of rows of a schema that shows nothing at all, such as rows yet to be made up."""
    kinds = {"image": np.uint8, "features": np.float32}
    blocks = {a.name: np.zeros((rows, a.width), dtype=kinds[a.kind]) for a in schema.block_attributes}
    hidden = np.zeros((rows, len(schema)), dtype=bool)
    table = Table(schema, np.zeros((rows, len(schema.scalar_indices))), blocks, hidden)
    index = np.tile(np.arange(rows), (replicas, 1))
    return Incomplete(table, index, np.zeros((replicas, rows, len(schema)), dtype=bool))


def unit_scale(block: AnyArray) -> AnyArray:
    """Return a block as float32, uint8 images scaled to [0, 1]."""
    return block.astype(np.float32) / np.float32(255) if block.dtype == np.uint8 else block.astype(np.float32)


def _device_store(table: Table, device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the table's store on a device: float32 scalars and blocks as they came, one copy for all views."""
    import torch

    stores: dict[str, tuple[torch.Tensor, dict[str, torch.Tensor]]] = table._stores
    if device not in stores:
        scalars = torch.as_tensor(table.scalars, dtype=torch.float32, device=device)
        blocks = {name: torch.as_tensor(np.ascontiguousarray(b), device=device) for name, b in table.blocks.items()}
        stores[device] = (scalars, blocks)
    return stores[device]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of every replica, 0 in hidden entries.

    ``scalars`` is [R, b, S], each of ``blocks`` [R, b, width], ``observed`` [R, b, M].
    """

    scalars: torch.Tensor
    blocks: Mapping[str, torch.Tensor]
    observed: torch.Tensor


class TensorView:
    """A view's data on a device: the store once, compact, and per replica its row numbers and mask.

    The store is private to it; ``batch`` is the only exit and overwrites hidden entries with 0 on the device.
    """

    def __init__(self, view: Incomplete, device: str | torch.device) -> None:
        """Copy the store of ``view`` to ``device``."""
        import torch

        self.schema = view.schema
        self.replicas = view.replicas
        self.rows = len(view)
        self._scalars, self._blocks = _device_store(view._table, str(device))
        self._rows = torch.as_tensor(view._rows, dtype=torch.int64, device=device)
        self.observed = torch.as_tensor(view.observed, device=device)
        self._scalar_indices = torch.as_tensor(view.schema.scalar_indices, device=device)
        self._block_indices = {a.name: i for i, a in enumerate(view.schema.attributes) if a.kind not in SCALAR_KINDS}
        self._replica = torch.arange(self.replicas, device=device)[:, None]

    def batch(self, index: torch.Tensor) -> Batch:
        """Gather the rows ``index`` [R, b] (positions within the view, per replica) on the device."""
        import torch

        observed = self.observed[self._replica, index]
        rows = self._rows.gather(1, index)
        scalars = torch.where(observed[..., self._scalar_indices], self._scalars[rows], 0.0)
        blocks: dict[str, torch.Tensor] = {}
        for name, store in self._blocks.items():
            block = store[rows]
            block = block.to(torch.float32) / 255 if block.dtype == torch.uint8 else block
            blocks[name] = torch.where(observed[..., self._block_indices[name], None], block, 0.0)
        return Batch(scalars, blocks, observed)
