"""What a method sees: a view of rows whose hidden entries are overwritten before anything leaves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.data.frame import scalars_to_frame
from bench.data.schema import SCALAR_KINDS, AnyArray, BoolArray, FloatArray, IntArray, Schema
from bench.data.table import Table, Values, unit_scale

if TYPE_CHECKING:
    import pandas as pd
    import torch

#: Rows of images or features taken at a time, to bound the memory.
BLOCK_ROWS = 4096


class Incomplete:
    """What a method sees: a view of rows with hidden entries, for one replica or a stack of replicas.

    A view holds a shared store (the table, compact, once for all replicas), the row numbers [R, n] and the observed
    mask [R, n, M] of each replica. Its exits overwrite the hidden entries before they return: NaN in ``frame`` and
    ``values``, 0 in tensors. Methods never touch the store.
    """

    def __init__(
        self,
        table: Table,
        rows: IntArray,
        observed: BoolArray,
        folds: IntArray | None = None,
        ignorable: BoolArray | None = None,
    ) -> None:
        """Build a view of ``rows`` [R, n] of ``table`` under ``observed`` [R, n, M].

        ``folds`` [R, n, M] of a validation view says in which fold, from 0, an observed entry is held out for model
        selection; -1 is never. ``ignorable`` [R] says of which replicas the mechanism looks at nothing that it hides;
        None is of all.
        """
        if rows.ndim != 2 or observed.shape != (*rows.shape, len(table.schema)):
            raise ValueError(f"rows must be [R, n] and observed [R, n, M], not {rows.shape} and {observed.shape}")
        self._table = table
        self._rows = rows
        self.schema: Schema = table.schema
        self.observed: BoolArray = observed & table.present[rows]
        #: Whether the mechanism looks at nothing that it hides, [R].
        self.ignorable: BoolArray = np.ones(len(rows), dtype=np.bool_) if ignorable is None else ignorable
        self._folds: IntArray | None = None if folds is None else np.where(self.observed, folds, -1).astype(np.int8)

    @property
    def replicas(self) -> int:
        """Number of replicas R in the stack."""
        return int(self._rows.shape[0])

    def __len__(self) -> int:
        """Number of rows n, the same in every replica."""
        return int(self._rows.shape[1])

    def take(self, positions: IntArray) -> Incomplete:
        """Return the view of some rows of every replica, by their ``positions`` [k] in this view."""
        folds = None if self._folds is None else self._folds[:, positions]
        return Incomplete(self._table, self._rows[:, positions], self.observed[:, positions], folds, self.ignorable)

    def replica(self, index: int) -> Incomplete:
        """Return the view of one replica alone."""
        keep = slice(index, index + 1)
        folds = None if self._folds is None else self._folds[keep]
        return Incomplete(self._table, self._rows[keep], self.observed[keep], folds, self.ignorable[keep])

    @property
    def folds(self) -> tuple[Fold, ...]:
        """What is held out for model selection, fold after fold (validation views); empty in other views."""
        if self._folds is None:
            return ()
        chosen = [self._folds == number for number in range(max(0, int(self._folds.max(initial=0))) + 1)]
        return tuple(
            Fold(
                Incomplete(self._table, self._rows, self.observed & ~held_out),
                Incomplete(self._table, self._rows, held_out),
            )
            for held_out in chosen
        )

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


@dataclass(frozen=True, eq=False)
class Fold:
    """The rows of a validation view twice: with a fold's entries hidden, and showing exactly these."""

    shown: Incomplete
    held_out: Incomplete


def nothing_observed(schema: Schema, rows: int, replicas: int = 1) -> Incomplete:
    """Return a view of rows of a schema that shows nothing at all, such as rows yet to be sampled."""
    kinds = {"image": np.uint8, "features": np.float32}
    blocks = {a.name: np.zeros((rows, a.width), dtype=kinds[a.kind]) for a in schema.block_attributes}
    hidden = np.zeros((rows, len(schema)), dtype=bool)
    table = Table(schema, np.zeros((rows, len(schema.scalar_indices))), blocks, hidden)
    index = np.tile(np.arange(rows), (replicas, 1))
    return Incomplete(table, index, np.zeros((replicas, rows, len(schema)), dtype=bool))


def device_store(table: Table, device: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the table's store on a device, one copy for all views: float64 scalars and blocks as they came.

    Scalars are scaled before they are cast: float32 would keep nothing of a Julian day's hours.
    """
    import torch

    stores: dict[str, tuple[torch.Tensor, dict[str, torch.Tensor]]] = table._stores
    if device not in stores:
        scalars = torch.as_tensor(table.scalars, dtype=torch.float64, device=device)
        blocks = {name: torch.as_tensor(np.ascontiguousarray(b), device=device) for name, b in table.blocks.items()}
        stores[device] = (scalars, blocks)
    return stores[device]


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of every replica, 0 in hidden entries.

    ``scalars`` is float64 [R, b, S], each of ``blocks`` float32 [R, b, width], ``observed`` [R, b, M].
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
        self._scalars, self._blocks = device_store(view._table, str(device))
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
