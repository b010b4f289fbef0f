"""The one rule of model selection (``bench.problem.held_out``) on the device, for all replicas of a stack at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bench.data.view import Incomplete, TensorView
from bench.neural.engine.encoder import Encoder
from bench.neural.rows import Encoded, Imputed

#: Rows imputed at a time; part of what is computed, since noise is drawn chunk by chunk.
ROW_CHUNK = 1024
#: The same where only rows with held-out entries are imputed: whole chunks, whatever the other replicas need.
HELD_OUT_CHUNK = 256


def row_chunks(rows: int, replicas: int, device: str | torch.device) -> list[Tensor]:
    """Return the row positions 0..rows-1 in chunks, each [R, chunk]."""
    positions = torch.arange(rows, device=device)
    return [chunk.expand(replicas, -1) for chunk in positions.split(ROW_CHUNK)]


def attribute_errors(imputed: Imputed, truth: Encoded) -> Tensor:
    """Return summed errors per attribute over the entries ``truth`` shows, [R, M] in group order.

    Squared error for numbers, images and features (mean over their dimensions), wrong answers for categories.
    """
    shown = truth.observed
    numeric = (truth.numeric - imputed.numeric) ** 2
    wrong = 1 - truth.categorical.gather(-2, imputed.categorical.argmax(-2, keepdim=True)).squeeze(-2)
    blocks = [((t - i) ** 2).mean(-1) for t, i in zip(truth.blocks, imputed.blocks, strict=True)]
    errors = torch.cat([numeric, wrong, *blocks], dim=-1)
    return torch.where(shown, errors, 0.0).sum(1)


@dataclass(frozen=True)
class HeldOutError:
    """The error on held-out observed entries, in units of the floor's."""

    view: Incomplete
    encoder: Encoder
    device: str

    @cached_property
    def held(self) -> TensorView:
        """The held-out entries on the device, where they stay."""
        return self.view.tensors(self.device)

    @cached_property
    def chunks(self) -> list[Tensor]:
        """The rows that have to be imputed to know the error, in chunks of positions [R, chunk].

        All rows of a table of numbers and categories. Rows of images and features are costly, and with two or three
        attributes few have held-out entries: those come first, and others fill the last chunk up.
        """
        rows, replicas = len(self.view), self.view.replicas
        if not self.encoder.layout.block_groups:
            return row_chunks(rows, replicas, self.device)
        nothing_held_out = torch.as_tensor(~self.view.observed.any(axis=2))
        needed = max(1, rows - int(nothing_held_out.sum(1).min()))
        whole = min(rows, -(-needed // HELD_OUT_CHUNK) * HELD_OUT_CHUNK)
        order = nothing_held_out.to(torch.uint8).argsort(dim=1, stable=True)[:, :whole]
        return list(order.to(self.device).split(HELD_OUT_CHUNK, dim=1))

    def floor_errors(self) -> Tensor:
        """Return the floor's summed error per attribute, [R, M]."""
        total: Tensor | None = None
        for index in self.chunks:
            truth = self.encoder.encode(self.held.batch(index))
            rows = index.shape[1]
            floor = self.encoder.floor
            expanded = Imputed(
                floor.numeric.expand(-1, rows, -1),
                floor.categorical.expand(-1, rows, -1, -1),
                tuple(block.expand(-1, rows, -1, -1) for block in floor.blocks),
            )
            errors = attribute_errors(expanded, truth)
            total = errors if total is None else total + errors
        assert total is not None
        return total

    def relative_error(self, imputed: Iterable[Imputed], floor: Tensor) -> Tensor:
        """Return one number per replica, [R]: the mean over attributes of this error over the floor's.

        ``imputed`` holds those of ``chunks``, of which one is needed at a time.
        Squared errors enter as their root. Attributes where the floor is perfect or nothing is held out do not count.
        """
        total = torch.zeros_like(floor)
        for index, part in zip(self.chunks, imputed, strict=True):
            total = total + attribute_errors(part, self.encoder.encode(self.held.batch(index)))
        layout = self.encoder.layout
        ratio = total / floor.clamp(min=1e-12)
        categorical = torch.zeros(layout.attributes, dtype=torch.bool, device=floor.device)
        categorical[layout.numeric : layout.numeric + layout.categorical] = True
        ratio = torch.where(categorical, ratio, ratio.sqrt())
        counts = floor > 0
        return torch.where(counts, ratio, 0.0).sum(1) / counts.sum(1).clamp(min=1)
