"""How a schema becomes tensors: groups of attributes of one kind and width, scaling, one-hot blocks, and back.

Inside the neural engine attributes stand in *group order*: numeric, categorical, then images and features by width, so
that every loss is one operation per group and no loop runs over attributes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bench.data.schema import AnyArray, FloatArray, IntArray, Schema
from bench.data.statistics import observed_statistics
from bench.data.table import Values
from bench.data.view import Batch, Incomplete
from bench.neural.layers import ROWS_A_LINE


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
    """A batch in group order, scaled, 0 in hidden entries.

    ``numeric`` is [R, b, numeric], ``categorical`` one-hot [R, b, levels, categorical], ``blocks`` holds one
    [R, b, members, width] per block group, ``observed`` is [R, b, M].
    """

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]
    observed: Tensor
    #: The same rows with part of the observed entries hidden, where a training hides them from the encoder.
    given: Encoded | None = None

    @property
    def shown(self) -> Encoded:
        """What the encoder is given; losses count all that is observed."""
        return self if self.given is None else self.given

    def without(self, dropped: Tensor, layout: Layout) -> Encoded:
        """Return the batch with the entries ``dropped`` [R, b, M] hidden from the encoder."""
        observed = self.observed & ~dropped
        first, last = layout.numeric, layout.numeric + layout.categorical
        blocks = tuple(
            torch.where(observed[..., layout.group_positions(index), None], block, 0.0)
            for index, block in enumerate(self.blocks)
        )
        given = Encoded(
            torch.where(observed[..., :first], self.numeric, 0.0),
            torch.where(observed[..., None, first:last], self.categorical, 0.0),
            blocks,
            observed,
        )
        return replace(self, given=given)

    def flat(self) -> Tensor:
        """Return all encoded columns side by side, [R, b, width]."""
        parts = [self.numeric, self.categorical.flatten(-2), *(block.flatten(-2) for block in self.blocks)]
        return torch.cat(parts, dim=-1)


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
        if observed.device.type != "cpu" or width < ROWS_A_LINE:
            return cls(None, rows)
        shown = observed.transpose(1, 2)
        # Whole lines of rows: what a reduction over them rounds to must not depend on their number either.
        most = max(1, rows - int(shown.sum(-1).min()))
        count = min(rows, -(-most // ROWS_A_LINE) * ROWS_A_LINE)
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


@dataclass(frozen=True)
class Imputed:
    """Expectations under a model, scaled: numbers, probabilities and blocks, shaped as in ``Encoded``."""

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]


class Encoder:
    """Scales and one-hot encodes batches with statistics of the observed training entries of each replica.

    ``scaling`` is ``standard`` (zero mean, unit deviation) or ``minmax`` (to [0, 1]); images stay in [0, 1] and feature
    vectors are standardised per dimension.
    """

    def __init__(self, train: Incomplete, layout: Layout, scaling: str, device: str | torch.device) -> None:
        """Take the statistics from ``train``, replica by replica."""
        self.layout = layout
        statistics = [observed_statistics(train, replica) for replica in range(train.replicas)]
        #: Attributes without an observed training entry, [R, M]: nothing was learned of them.
        self._never_observed = np.stack([s.never_observed for s in statistics])
        columns = train.schema.scalar_columns("numeric")
        if scaling == "minmax":
            location = np.stack([s.minimum[columns] for s in statistics])
            scale = np.stack([s.maximum[columns] - s.minimum[columns] for s in statistics])
        else:
            location = np.stack([s.mean[columns] for s in statistics])
            scale = np.stack([s.standard_deviation[columns] for s in statistics])
        scale = np.where(scale > 0, scale, 1.0)
        self._location64, self._scale64 = location, scale
        self.location = torch.as_tensor(location, dtype=torch.float32, device=device)
        self.scale = torch.as_tensor(scale, dtype=torch.float32, device=device)
        categorical = train.schema.scalar_columns("categorical")
        mode = np.stack([s.mode[categorical] for s in statistics])
        mean = np.stack([s.mean[columns] for s in statistics])
        self.block_location: list[Tensor | None] = []
        self.block_scale: list[Tensor | None] = []
        floor_blocks = []
        for group in layout.block_groups:
            centre = np.stack([[s.block_mean[name] for name in group.names] for s in statistics])
            if group.kind == "image":
                self.block_location.append(None)
                self.block_scale.append(None)
                floor_blocks.append(torch.as_tensor(centre, dtype=torch.float32, device=device)[:, None])
            else:
                spread = np.stack([[s.block_scale[name] for name in group.names] for s in statistics])
                self.block_location.append(torch.as_tensor(centre, dtype=torch.float32, device=device)[:, None])
                self.block_scale.append(torch.as_tensor(spread, dtype=torch.float32, device=device)[:, None])
                floor_blocks.append(torch.zeros(centre.shape, device=device)[:, None])
        codes = torch.as_tensor(mode.astype(np.int64), device=device)
        #: The floor (mean, mode, mean image) in the encoder's scale, [R, 1, ...]: the yardstick of model selection.
        self.floor = Imputed(
            torch.as_tensor((mean - location) / scale, dtype=torch.float32, device=device)[:, None],
            (codes[:, None, None] == torch.arange(layout.max_levels, device=device)[:, None]).to(torch.float32),
            tuple(floor_blocks),
        )
        deviation = np.stack([s.standard_deviation[columns] for s in statistics])
        spreads = [np.where(deviation > 0, deviation, scale) / scale]
        for group in layout.block_groups:
            # Features are standardised.
            own = [[s.image_deviation.get(name, 1.0) for name in group.names] for s in statistics]
            spreads.append(np.array(own))
        #: Spread about the floor of every number, image and feature attribute in the encoder's scale, [R, Gaussians].
        self.floor_spread = torch.as_tensor(np.concatenate(spreads, axis=1), dtype=torch.float32, device=device)

    def encode(self, batch: Batch) -> Encoded:
        """Encode a batch; hidden entries are 0 in the result whatever the batch held there."""
        layout = self.layout
        observed = batch.observed[..., layout.order]
        numeric_observed = observed[..., : layout.numeric]
        numbers = (batch.scalars[..., layout.numeric_columns] - self.location[:, None]) / self.scale[:, None]
        numeric = torch.where(numeric_observed, numbers, 0.0)
        categorical_observed = observed[..., layout.numeric : layout.numeric + layout.categorical]
        codes = batch.scalars[..., None, layout.categorical_columns]
        is_level = codes == torch.arange(layout.max_levels, device=codes.device)[:, None]
        categorical = (is_level & categorical_observed[..., None, :]).to(torch.float32)
        blocks = []
        for index, group in enumerate(layout.block_groups):
            stacked = torch.stack([batch.blocks[name] for name in group.names], dim=-2)
            location, scale = self.block_location[index], self.block_scale[index]
            if location is not None and scale is not None:
                stacked = (stacked - location) / scale
            shown = observed[..., layout.group_positions(index), None]
            blocks.append(torch.where(shown, stacked, 0.0))
        return Encoded(numeric, categorical, tuple(blocks), observed)

    def to_values(self, imputed: Iterable[Imputed], data: Incomplete) -> list[Values]:
        """Return each replica's values in the data's own scale, observed entries as they are in ``data``.

        ``imputed`` gives consecutive chunks of rows, of which one is held at a time. An attribute never observed in
        training is 0, or its first level.
        """
        layout, schema = self.layout, data.schema
        numeric, codes = [], []
        blocks = [
            {a.name: np.empty((len(data), a.width), np.float32) for a in schema.block_attributes}
            for _ in range(data.replicas)
        ]
        first = 0
        for part in imputed:
            numeric.append(part.numeric.cpu().numpy())
            codes.append(part.categorical.argmax(-2).cpu().numpy())
            rows = slice(first, first + part.numeric.shape[1])
            first = rows.stop
            for index, group in enumerate(layout.block_groups):
                location, scale = self.block_location[index], self.block_scale[index]
                block = part.blocks[index]
                if location is not None and scale is not None:
                    block = block * scale + location
                for member, name in enumerate(group.names):
                    for replica, own in enumerate(block[:, :, member].cpu().numpy()):
                        blocks[replica][name][rows] = own
        numbers, levels = np.concatenate(numeric, axis=1).astype(np.float64), np.concatenate(codes, axis=1)
        return [
            self._with_observed(replica, numbers[replica], levels[replica], own, data)
            for replica, own in enumerate(blocks)
        ]

    def _with_observed(
        self, replica: int, numbers: FloatArray, levels: IntArray, blocks: dict[str, AnyArray], data: Incomplete
    ) -> Values:
        """Return one replica's values from scaled numbers, codes and blocks; the arrays of ``blocks`` become its own.

        Observed entries are as they are in ``data``.
        """
        layout, schema = self.layout, data.schema
        never_observed, shown = self._never_observed[replica], data.values(replica)
        scalars = np.empty_like(shown.scalars)
        scalars[:, layout.numeric_columns.cpu().numpy()] = numbers * self._scale64[replica] + self._location64[replica]
        scalars[:, layout.categorical_columns.cpu().numpy()] = levels
        scalars[:, never_observed[schema.scalar_indices]] = 0.0
        scalars = np.where(data.observed[replica][:, schema.scalar_indices], shown.scalars, scalars)
        for name, block in blocks.items():
            if never_observed[schema.names.index(name)]:
                block.fill(0.0)
            np.copyto(block, shown.blocks[name], where=~np.isnan(shown.blocks[name]))
        return Values(scalars, blocks)
