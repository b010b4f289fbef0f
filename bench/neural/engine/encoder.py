"""From a view's values to scaled and one-hot encoded rows, and back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from bench.data.schema import AnyArray, FloatArray, IntArray
from bench.data.statistics import observed_statistics
from bench.data.table import Values
from bench.data.view import Batch, Incomplete
from bench.neural.rows import Encoded, Imputed, Layout


class Encoder:
    """Scales and one-hot encodes batches with statistics of the observed training entries of each replica.

    ``scaling`` is ``standard`` (zero mean, unit deviation) or ``minmax`` (to [0, 1]); images stay in [0, 1] and feature
    vectors are standardised per dimension.
    """

    def __init__(self, train: Incomplete, layout: Layout, scaling: str, device: str | torch.device) -> None:
        """Take the statistics from ``train``, replica by replica."""
        self.layout = layout
        #: Schema index of each attribute in group order, [M].
        self.order: IntArray = layout.order.cpu().numpy()
        statistics = [observed_statistics(train, replica) for replica in range(train.replicas)]
        #: What the observed training entries of each replica say.
        self.statistics = statistics
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
        #: What numbers are divided by, [R, numeric].
        self._location, self.number_scale = location, scale
        self.location = torch.as_tensor(location, dtype=torch.float64, device=device)
        self.scale = torch.as_tensor(scale, dtype=torch.float64, device=device)
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
        # Scaled in float64, then cast: the other way round a constant far from 0 would leave nothing.
        numeric = torch.where(numeric_observed, numbers, 0.0).to(torch.float32)
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
        scalars[:, layout.numeric_columns.cpu().numpy()] = (
            numbers * self.number_scale[replica] + self._location[replica]
        )
        scalars[:, layout.categorical_columns.cpu().numpy()] = levels
        scalars[:, never_observed[schema.scalar_indices]] = 0.0
        scalars = np.where(data.observed[replica][:, schema.scalar_indices], shown.scalars, scalars)
        for name, block in blocks.items():
            if never_observed[schema.names.index(name)]:
                block.fill(0.0)
            np.copyto(block, shown.blocks[name], where=~np.isnan(shown.blocks[name]))
        return Values(scalars, blocks)
