"""The one rule of model selection (``bench.problem.held_out``) on the device, for all replicas of a stack at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bench.data.view import Incomplete, TensorView
from bench.neural.engine.encoder import Encoder
from bench.neural.rows import Encoded, Imputed, Layout
from bench.problem.held_out import floor_scales, held_out_entries

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


def mean_in_units(errors: Tensor, entries: Tensor, scales: Tensor, layout: Layout) -> Tensor:
    """Return the mean over attributes of the error in units of ``scales``, [R]; squared errors enter as their root.

    Summed ``errors``, numbers of ``entries`` and ``scales`` are [R, M] in group order; an attribute without entries or
    with a scale of 0 does not count.
    """
    mean = errors / entries.clamp(min=1)
    categorical = torch.zeros(layout.attributes, dtype=torch.bool, device=mean.device)
    categorical[layout.numeric : layout.numeric + layout.categorical] = True
    counts = (entries > 0) & (scales > 0)
    # The square root of 0 is told as the IEEE one, on every processor.
    own = torch.where(categorical, mean, mean**0.5) / torch.where(counts, scales, 1.0)
    return torch.where(counts, own, 0.0).sum(1) / counts.sum(1).clamp(min=1)


@dataclass(frozen=True)
class Chunk:
    """Rows of a fold that are imputed at a time: what they show, what they hold out, and their positions [R, chunk]."""

    fold: int
    shown: TensorView
    held_out: TensorView
    index: Tensor


@dataclass(frozen=True)
class HeldOutError:
    """The error on the held-out observed entries of a validation view, in units of the floor's."""

    validation: Incomplete
    encoder: Encoder
    device: str

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The rows that have to be imputed to know the error, fold after fold.

        All rows of a table of numbers and categories. Rows of images and features are costly, and with two or three
        attributes few have held-out entries: those come first, and others fill the last chunk up.
        """
        found = []
        for number, fold in enumerate(self.validation.folds):
            shown, held_out = fold.shown.tensors(self.device), fold.held_out.tensors(self.device)
            found += [Chunk(number, shown, held_out, index) for index in self._positions(fold.held_out)]
        return found

    def _positions(self, held_out: Incomplete) -> list[Tensor]:
        rows, replicas = len(held_out), held_out.replicas
        if not self.encoder.layout.block_groups:
            return row_chunks(rows, replicas, self.device)
        nothing_held_out = torch.as_tensor(~held_out.observed.any(axis=2))
        needed = max(1, rows - int(nothing_held_out.sum(1).min()))
        whole = min(rows, -(-needed // HELD_OUT_CHUNK) * HELD_OUT_CHUNK)
        order = nothing_held_out.to(torch.uint8).argsort(dim=1, stable=True)[:, :whole]
        return list(order.to(self.device).split(HELD_OUT_CHUNK, dim=1))

    @cached_property
    def entries(self) -> Tensor:
        """The number of held-out entries of each attribute, [R, M] in group order."""
        entries = held_out_entries(self.validation)[:, self.encoder.order]
        return torch.as_tensor(entries, dtype=torch.float32, device=self.device)

    @cached_property
    def scales(self) -> Tensor:
        """The floor's error on training entries in the encoder's scale, [R, M] in group order; 0 does not count."""
        encoder = self.encoder
        scales = np.stack([floor_scales(statistics) for statistics in encoder.statistics])
        scales = scales[:, encoder.order]
        scales[:, : encoder.layout.numeric] /= encoder.number_scale
        return torch.as_tensor(scales, dtype=torch.float32, device=self.device)

    def floor_error(self) -> Tensor:
        """Return what the floor scores by this rule, [R]: near 1, as the entries are others than those of training."""
        floor = self.encoder.floor

        def rows(count: int) -> Imputed:
            blocks = tuple(block.expand(-1, count, -1, -1) for block in floor.blocks)
            return Imputed(floor.numeric.expand(-1, count, -1), floor.categorical.expand(-1, count, -1, -1), blocks)

        return self.relative_error(rows(chunk.index.shape[1]) for chunk in self.chunks)

    def relative_error(self, imputed: Iterable[Imputed]) -> Tensor:
        """Return one number per replica, [R]: the mean over attributes of the error in units of the floor's.

        ``imputed`` holds those of ``chunks``, of which one is needed at a time. Squared errors enter as their root.
        """
        total = torch.zeros_like(self.scales)
        for chunk, part in zip(self.chunks, imputed, strict=True):
            total = total + attribute_errors(part, self.encoder.encode(chunk.held_out.batch(chunk.index)))
        return mean_in_units(total, self.entries, self.scales, self.encoder.layout)
