"""The rows of images and features that need decoding: those in which an attribute is hidden."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.neural.engine.bank import ROWS_PER_LINE


@dataclass(frozen=True)
class PackedRows:
    """The rows of which a block group needs decoding: for each of its attributes those where it is hidden.

    On a CPU they are packed, so that little else is decoded; each attribute takes as many rows as the one with most.
    Elsewhere all rows are taken, since their number would have to be waited for.
    """

    #: Rows [R, members, count], None where all are taken.
    index: Tensor | None
    rows: int

    @classmethod
    def hidden(cls, observed: Tensor, width: int) -> PackedRows:
        """Return the rows in which ``observed`` [R, b, members] is False, of blocks of ``width`` columns."""
        rows = observed.shape[1]
        # The product with a narrower matrix rounds by how many rows it has, and those depend on the other replicas.
        if observed.device.type != "cpu" or width < ROWS_PER_LINE:
            return cls(None, rows)
        shown = observed.transpose(1, 2)
        # Whole lines of rows: what a reduction over them rounds to must not depend on their number either.
        most = max(1, rows - int(shown.sum(-1).min()))
        count = min(rows, -(-most // ROWS_PER_LINE) * ROWS_PER_LINE)
        return cls(shown.to(torch.uint8).argsort(dim=-1, stable=True)[..., :count], rows)

    def take(self, samples: Tensor, members: int) -> Tensor:
        """Return the rows of ``samples`` [R, k, b, inputs] for each attribute, [R, members, k * count, inputs]."""
        replicas, draws, rows, inputs = samples.shape
        if self.index is None:
            return samples.flatten(1, 2)[:, None].expand(-1, members, -1, -1)
        first = torch.arange(replicas * draws, device=samples.device).view(replicas, 1, draws, 1) * rows
        picked = samples.reshape(-1, inputs).index_select(0, (first + self.index[:, :, None]).flatten())
        return picked.view(replicas, members, -1, inputs)

    def put(self, packed: Tensor) -> Tensor:
        """Return ``packed`` [R, count, members, ...] where its rows belong, [R, b, members, ...], 0 elsewhere."""
        if self.index is None:
            return packed
        replicas, _, members, *rest = packed.shape
        first = torch.arange(replicas * members, device=packed.device).view(replicas, members, 1) * self.rows
        placed = packed.new_zeros(replicas * members * self.rows, *rest)
        placed.index_copy_(0, (first + self.index).flatten(), packed.transpose(1, 2).reshape(-1, *rest))
        return placed.view(replicas, members, self.rows, *rest).transpose(1, 2)
