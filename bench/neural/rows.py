"""Rows as a model meets them: what the encoder is given, what the loss compares with, what was observed, and imputed.

Attributes stand in *group order*: numeric, categorical, then images and features by width, so that every loss is one
operation per group and no loop runs over attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from bench.data.schema import Schema


@dataclass(frozen=True)
class BlockGroup:
    """Image or feature attributes of one width; they share a bank of networks."""

    kind: str
    width: int
    names: tuple[str, ...]


class Layout:
    """Where each attribute of a schema stands in the engine's tensors."""

    def __init__(self, schema: Schema) -> None:
        """Group the attributes of ``schema``."""
        self.schema = schema
        numeric, categorical = schema.of_kind("numeric"), schema.of_kind("categorical")
        keys = dict.fromkeys((a.kind, a.width) for a in schema.block_attributes)
        members = {key: [i for i, a in enumerate(schema.attributes) if (a.kind, a.width) == key] for key in keys}
        self.block_groups = tuple(
            BlockGroup(kind, width, tuple(schema.attributes[i].name for i in members[kind, width]))
            for kind, width in keys
        )
        self.numeric, self.categorical = len(numeric), len(categorical)
        self.attributes = len(schema)
        grouped = [numeric, categorical, *(np.array(m, dtype=np.int64) for m in members.values())]
        #: Schema index of each attribute in group order.
        self.order = torch.as_tensor(np.concatenate(grouped), dtype=torch.int64)
        self.numeric_columns = torch.as_tensor(schema.scalar_columns("numeric"))
        self.categorical_columns = torch.as_tensor(schema.scalar_columns("categorical"))
        #: Number of levels of each categorical attribute, and the largest: every block is padded to that.
        self.levels = torch.tensor([len(schema.attributes[i].levels) for i in categorical], dtype=torch.int64)
        self.max_levels = int(self.levels.max()) if self.categorical else 1
        self.scalar_width = self.numeric + self.categorical * self.max_levels
        #: Width of a whole encoded row, padding included, and without it.
        self.width = self.scalar_width + sum(g.width * len(g.names) for g in self.block_groups)
        self.width_used = self.numeric + int(self.levels.sum()) + (self.width - self.scalar_width)
        self.scalar_width_used = self.numeric + int(self.levels.sum())
        has_level = torch.arange(self.max_levels) < self.levels[:, None]
        #: Levels an attribute does not have, [levels, categorical]. Softmax over the second last dimension is far
        #: faster on a CPU than over a short last one, hence the order.
        self.no_level = ~has_level.T.contiguous()
        owner = [torch.arange(self.numeric), self.numeric + torch.arange(self.categorical).repeat(self.max_levels)]
        used = [torch.ones(self.numeric, dtype=torch.bool), has_level.T.flatten()]
        first = self.numeric + self.categorical
        for group in self.block_groups:
            owner.append(torch.arange(first, first + len(group.names)).repeat_interleave(group.width))
            used.append(torch.ones(group.width * len(group.names), dtype=torch.bool))
            first += len(group.names)
        #: For each encoded column: the attribute (in group order) it belongs to, and whether it is real.
        self.owner = torch.cat(owner)
        self.used = torch.cat(used)

    def to(self, device: str | torch.device) -> Layout:
        """Move the index tensors to a device, in place."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def group_positions(self, index: int) -> slice:
        """Return where block group ``index`` stands among the attributes in group order."""
        start = self.numeric + self.categorical + sum(len(g.names) for g in self.block_groups[:index])
        return slice(start, start + len(self.block_groups[index].names))


@dataclass(frozen=True)
class Encoded:
    """Scaled and one-hot encoded rows in group order, 0 in hidden entries.

    ``numeric`` is [R, b, numeric], ``categorical`` one-hot [R, b, levels, categorical], ``blocks`` holds one
    [R, b, members, width] per block group, ``observed`` is [R, b, M].
    """

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]
    observed: Tensor
    #: All columns side by side, [R, b, width], where hidden entries are filled with something other than 0.
    filled: Tensor | None = None

    @property
    def mask(self) -> Tensor:
        """The observed mask as numbers, [R, b, M]: 1 is observed."""
        return self.observed.to(self.numeric.dtype)

    def flat(self) -> Tensor:
        """Return all encoded columns side by side, [R, b, width]; 0 in hidden entries unless they are filled."""
        if self.filled is not None:
            return self.filled
        parts = [self.numeric, self.categorical.flatten(-2), *(block.flatten(-2) for block in self.blocks)]
        return torch.cat(parts, dim=-1)

    def with_fill(self, fill: Tensor, layout: Layout) -> Encoded:
        """Return the rows with ``fill`` [R, b, width] in their hidden columns; padding stays 0."""
        filled = torch.where(self.observed[..., layout.owner], self.flat(), fill * layout.used)
        return replace(self, filled=filled)

    def without(self, dropped: Tensor, layout: Layout) -> Encoded:
        """Return the rows with the entries ``dropped`` [R, b, M] hidden too."""
        observed = self.observed & ~dropped
        first, last = layout.numeric, layout.numeric + layout.categorical
        blocks = tuple(
            torch.where(observed[..., layout.group_positions(index), None], block, 0.0)
            for index, block in enumerate(self.blocks)
        )
        return Encoded(
            torch.where(observed[..., :first], self.numeric, 0.0),
            torch.where(observed[..., None, first:last], self.categorical, 0.0),
            blocks,
            observed,
        )

    def repeated(self, times: int) -> Encoded:
        """Return the rows ``times`` times, one version behind another, [R, times * b, ...]; the fill is left out."""

        def each(tensor: Tensor) -> Tensor:
            return tensor.repeat(1, times, *(1,) * (tensor.dim() - 2))

        blocks = tuple(each(block) for block in self.blocks)
        return Encoded(each(self.numeric), each(self.categorical), blocks, each(self.observed))

    def completed(self, values: Imputed, layout: Layout) -> Encoded:
        """Return the rows with ``values`` in their hidden entries, as rows of which everything is observed."""
        first, last = layout.numeric, layout.numeric + layout.categorical
        blocks = tuple(
            torch.where(self.observed[..., layout.group_positions(index), None], own, other)
            for index, (own, other) in enumerate(zip(self.blocks, values.blocks, strict=True))
        )
        return Encoded(
            torch.where(self.observed[..., :first], self.numeric, values.numeric),
            torch.where(self.observed[..., None, first:last], self.categorical, values.categorical),
            blocks,
            torch.ones_like(self.observed),
        )


@dataclass(frozen=True)
class Rows:
    """A batch x as a model meets it.

    The encoder is given ``x.input``, in which training may hide more (input dropout) and noise may stand in hidden
    entries; the loss compares with ``x.target`` where ``x.observed`` [R, b, M] says so.
    """

    target: Encoded
    #: The rows without what input dropout hides; None if it hides nothing.
    kept: Encoded | None = None
    #: What fills the hidden entries of the input, asked when the input is first looked at; None leaves them 0.
    fill: Callable[[Encoded], Encoded] | None = None
    #: Entries held out for model selection, [R, b, M]: hidden though the mechanism shows them. Where they are known, a
    #: likelihood of the mask leaves them out.
    held_out: Tensor | None = None

    @cached_property
    def input(self) -> Encoded:
        """What the encoder is given."""
        given = self.target if self.kept is None else self.kept
        return given if self.fill is None else self.fill(given)

    @property
    def observed(self) -> Tensor:
        """Which entries are observed, [R, b, M]: those that the loss counts."""
        return self.target.observed

    def without_held_out(self, log_p: Tensor) -> Tensor:
        """Return log-likelihoods of the mask [R, ..., b, M] with 0 for entries that are held out.

        Such an entry is neither observed nor missing: summing p(m_i | .) over both leaves a factor of 1.
        """
        if self.held_out is None:
            return log_p
        held_out = self.held_out if log_p.dim() == self.held_out.dim() else self.held_out[:, None]
        return torch.where(held_out, 0.0, log_p)

    @property
    def size(self) -> int:
        """The number of rows of each replica, b."""
        return self.target.observed.shape[1]


@dataclass(frozen=True)
class Imputed:
    """Expectations under a model, scaled: numbers, probabilities and blocks, shaped as in ``Encoded``."""

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]

    @classmethod
    def mean_of(cls, passes: Iterable[Imputed]) -> Imputed:
        """Return the mean of one or more imputations of the same rows, of which one is held at a time."""
        total, count = None, 0
        for one in passes:
            count += 1
            if total is None:
                total = one
                continue
            blocks = tuple(old + new for old, new in zip(total.blocks, one.blocks, strict=True))
            total = cls(total.numeric + one.numeric, total.categorical + one.categorical, blocks)
        if total is None:
            raise ValueError("there is nothing to take the mean of")
        return cls(total.numeric / count, total.categorical / count, tuple(block / count for block in total.blocks))
