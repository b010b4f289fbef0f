"""The networks the methods share (VSAE appendix C), as stacks of replicas: encoders, decoders, and their parts.

What is trained in parallel is a bank of networks whose parameters carry leading dimensions, [replica] or [replica,
attribute]. Out of training (``network.eval()``, or ``frozen``) batch normalisation is by its running statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.neural.engine.bank import (
    LEAKY_SLOPE,
    ROWS_PER_LINE,
    BankedLinear,
    BankedMLP,
    banked_product,
    chosen_at_random,
    frozen,
    parameter_count,
    sigmoid,
    statistics_kept,
)
from bench.neural.engine.packed import PackedRows
from bench.neural.gaussian import Gaussian
from bench.neural.heads import Heads, Prediction, Target
from bench.neural.rows import Encoded, Layout

__all__ = [
    "LEAKY_SLOPE",
    "ROWS_PER_LINE",
    "AttributiveEncoders",
    "BankedLinear",
    "BankedMLP",
    "DataDecoder",
    "Sizes",
    "beside",
    "chosen_at_random",
    "collective_encoder",
    "data_decoder",
    "frozen",
    "mask_decoder",
    "over_draws",
    "parameter_count",
    "row_encoder",
    "sigmoid",
    "statistics_kept",
    "unflatten_draws",
    "vsae_parameter_count",
]

#: Floats of decoded images and features one replica may hold while samples of x_u are drawn: what a cache holds on a
#: CPU; on a GPU, where each chunk costs launches, what its memory can spare.
IMAGINED_FLOATS = {"cpu": 2**19, "cuda": 2**26}


@dataclass(frozen=True)
class Sizes:
    """Widths of the backbone; VSAE appendix C gives one set for tables and one for images and features."""

    numeric_encoder: int
    categorical_encoder: int
    block_encoder: int
    collective_encoder: int
    decoder: int
    latent: int

    @classmethod
    def of(cls, layout: Layout, latent: int | None = None) -> Sizes:
        """Return the sizes for a layout; ``latent`` overrides the latent width per attribute."""
        if layout.block_groups:
            return cls(128, 128, 128, 128, 128, latent or 256)
        return cls(16, 64, 128, 64, 64, latent or 2)


class AttributiveEncoders(nn.Module):
    """q(z_i | x_i) for every attribute: a bank of three-layer networks per group, each seeing one attribute alone.

    Batch normalisation (tables only) takes its statistics over observed entries. A category's posterior depends on its
    level alone, so a bank encodes each level once, weighted by how often it occurs, and rows pick theirs.
    """

    __call__: Callable[..., Gaussian]

    def __init__(self, layout: Layout, replicas: int, sizes: Sizes) -> None:
        """Allocate one bank per group of attributes."""
        super().__init__()
        self.layout = layout
        outputs = 2 * sizes.latent
        norm = "none" if layout.block_groups else "all"
        self.numeric = self.categorical = None
        if layout.numeric:
            hidden = [sizes.numeric_encoder] * 3
            self.numeric = BankedMLP((replicas, layout.numeric), 1, hidden, outputs, batch_norm=norm)
        if layout.categorical:
            self.categorical = BankedMLP(
                (replicas, layout.categorical),
                layout.max_levels,
                [sizes.categorical_encoder] * 3,
                outputs,
                batch_norm=norm,
                inputs_used=layout.levels.to("cpu"),
            )
        self.blocks = nn.ModuleList(
            BankedMLP((replicas, len(group.names)), group.width, [sizes.block_encoder] * 3, outputs)
            for group in layout.block_groups
        )

    def forward(self, batch: Encoded) -> Gaussian:
        """Return the proposals of all attributes, [R, b, M, latent]; those of hidden attributes mean nothing."""
        layout = self.layout
        observed = batch.observed.to(torch.float32)
        parts = []
        if self.numeric is not None:
            weight = observed[..., : layout.numeric].transpose(1, 2)
            raw = self.numeric(batch.numeric.transpose(1, 2)[..., None], weight)
            parts.append(raw.transpose(1, 2))
        if self.categorical is not None:
            level_counts = batch.categorical.sum(1).transpose(1, 2)
            by_level = self.categorical(None, level_counts)
            levels = batch.categorical.permute(0, 3, 1, 2)
            parts.append(banked_product(levels, by_level).transpose(1, 2))
        for index, encoder in enumerate(self.blocks):
            weight = observed[..., layout.group_positions(index)].transpose(1, 2)
            parts.append(encoder(batch.blocks[index].transpose(1, 2), weight).transpose(1, 2))
        return Gaussian.from_raw(torch.cat(parts, dim=2))


class DataDecoder(nn.Module):
    """p(x_i | z, condition) for every attribute: one network with a head per scalar attribute, and one per block.

    ``literal`` leaves out the activations the appendix does not list (its three last layers are then one linear map).
    """

    __call__: Callable[..., Prediction]

    def __init__(
        self, layout: Layout, replicas: int, inputs: int, width: int, heads: Heads, literal: bool = False
    ) -> None:
        """Allocate networks that take ``inputs`` columns (latent variables and condition)."""
        super().__init__()
        self.layout, self.heads = layout, heads
        hidden, activate = [width] * 3, (True, not literal, not literal)
        self.scalars = (
            BankedMLP(
                (replicas,),
                inputs,
                hidden,
                layout.scalar_width,
                batch_norm="first",
                activate=activate,
                outputs_used=layout.scalar_width_used,
            )
            if layout.scalar_width
            else None
        )
        self.blocks = nn.ModuleList(
            BankedMLP((replicas, len(group.names)), inputs, hidden, group.width, batch_norm="first", activate=activate)
            for group in layout.block_groups
        )

    def forward(self, z: Tensor, weight: Tensor | None = None) -> Prediction:
        """Decode ``z`` [R, n, inputs], or draws of it [R, k, b, inputs], to a prediction with these leading dimensions.

        ``weight``, of these dimensions, says how much each row counts in batch normalisation (None: all alike).
        """
        if z.dim() == 4:
            weight = None if weight is None else weight.flatten(1, 2)
            return unflatten_draws(self(z.flatten(1, 2), weight), z.shape[1])
        prediction: Prediction = self.heads(*self.raw(z, weight))
        return prediction

    def raw(self, z: Tensor, weight: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return what the heads read: the output for scalars [R, n, scalar width], and for each group of blocks."""
        blocks = []
        for group, decoder in zip(self.layout.block_groups, self.blocks, strict=True):
            shared = z[:, None].expand(-1, len(group.names), -1, -1)
            shared_weight = None if weight is None else weight[:, None].expand(-1, len(group.names), -1)
            blocks.append(decoder(shared, shared_weight).transpose(1, 2))
        if self.scalars is None:
            return z.new_zeros(*z.shape[:2], 0), tuple(blocks)
        return self.scalars(z, weight), tuple(blocks)

    def raw_samples(self, z: Tensor, packed: Sequence[PackedRows]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the same for samples ``z`` [R, k, b, inputs], with leading dimensions [R, k, b].

        Of each group of blocks only the ``packed`` rows are decoded, [R, k, count, members, width]. Scalars are minus
        infinity for levels an attribute does not have.
        """
        split = (z.shape[1], -1)
        blocks = []
        for group, decoder, rows in zip(self.layout.block_groups, self.blocks, packed, strict=True):
            raw = decoder(rows.take(z, len(group.names)))
            blocks.append(raw.transpose(1, 2).unflatten(1, split))
        if self.scalars is None:
            return z.new_zeros(*z.shape[:3], 0), tuple(blocks)
        # In the bias it costs nothing.
        real = self.layout.used[: self.layout.scalar_width]
        last = self.scalars.layers[-1]
        assert isinstance(last, BankedLinear)
        bias = last.bias.masked_fill(~real, -math.inf)
        return self.scalars(z.flatten(1, 2), None, bias).unflatten(1, split), tuple(blocks)

    @torch.no_grad()
    def sample_moments(self, samples: Iterable[Tensor], observed: Tensor, draw_numbers: bool) -> Target:
        """Return the moments of what is hidden, decoded from samples of the inputs in chunks [R, k, b, inputs].

        What the target says of attributes that are ``observed`` [R, b, M] means nothing; see ``SampleMoments``.
        """
        hidden = [
            PackedRows.hidden(observed[..., self.layout.group_positions(index)], group.width)
            for index, group in enumerate(self.layout.block_groups)
        ]
        moments = self.heads.moments(draw_numbers)
        for chunk in samples:
            moments.add(*self.raw_samples(chunk, hidden))
        return moments.target().placed(hidden)

    def samples_at_a_time(self, rows: int, samples: int) -> int:
        """Return how many of ``samples`` to decode together: all of a table's, and of images what a cache holds."""
        width = self.layout.width - self.layout.scalar_width
        floats = IMAGINED_FLOATS.get(self.layout.owner.device.type, IMAGINED_FLOATS["cpu"])
        return max(1, floats // (rows * width)) if width else samples


def data_decoder(layout: Layout, replicas: int, inputs: int, settings: Mapping[str, Any]) -> DataDecoder:
    """Return the network of p(x | z[, condition]) for ``inputs`` columns of z and condition.

    ``settings`` are a method's parameters: ``latent``, ``learned_scale``, ``scale_floor`` and ``decoder_literal``.
    """
    heads = Heads(layout, replicas, settings["learned_scale"], settings["scale_floor"])
    width = Sizes.of(layout, settings["latent"]).decoder
    return DataDecoder(layout, replicas, inputs, width, heads, literal=settings["decoder_literal"])


def row_encoder(
    layout: Layout, replicas: int, outputs: int, settings: Mapping[str, Any], others: nn.Module, condition: int = 0
) -> BankedMLP:
    """Return a three-layer encoder of the whole row, followed by ``condition`` columns such as the mask.

    It is as wide as it takes, beside the ``others`` of a model, to have at least VSAE's parameters (appendix D).
    """
    sizes = Sizes.of(layout, settings["latent"])
    at_least = vsae_parameter_count(layout, sizes) - parameter_count(others)
    used = torch.tensor(layout.width_used + condition, device="cpu")

    def build(width: int, replicas: int) -> BankedMLP:
        return BankedMLP((replicas,), layout.width + condition, [width] * 3, outputs, inputs_used=used)

    width = sizes.collective_encoder
    with torch.device("meta"):
        while parameter_count(build(width, 1)) < at_least:
            width += 4
    return build(width, replicas)


def over_draws(network: BankedMLP, z: Tensor) -> Tensor:
    """Return what a network makes of ``z`` [R, b, d], or of each draw of it [R, k, b, d]."""
    return network(z) if z.dim() == 3 else network(z.flatten(1, 2)).unflatten(1, z.shape[1:3])


def beside(z: Tensor, condition: Tensor) -> Tensor:
    """Return draws ``z`` [R, k, b, d] with the condition of their row [R, b, c] beside them, [R, k, b, d + c]."""
    return torch.cat([z, condition[:, None].expand(-1, z.shape[1], -1, -1)], dim=-1)


def collective_encoder(layout: Layout, replicas: int, sizes: Sizes) -> BankedMLP:
    """Return the network of q(z | x_o, m): encoded attributes and mask in, mean and log-variance of all blocks out."""
    used = torch.tensor(layout.width_used + layout.attributes, device="cpu")
    inputs, outputs = layout.width + layout.attributes, 2 * layout.attributes * sizes.latent
    return BankedMLP((replicas,), inputs, [sizes.collective_encoder] * 3, outputs, inputs_used=used)


def mask_decoder(layout: Layout, replicas: int, sizes: Sizes) -> BankedMLP:
    """Return the network of p(m | z): latent variables in, one logit per attribute out (VSAE appendix C.2)."""
    return BankedMLP((replicas,), layout.attributes * sizes.latent, [16] * 3, layout.attributes, batch_norm="first")


def vsae_parameter_count(layout: Layout, sizes: Sizes) -> int:
    """Return the trainable parameters of one VSAE with learned scales: what the other methods must have at least."""
    latent = layout.attributes * sizes.latent
    with torch.device("meta"):
        parts = (
            AttributiveEncoders(layout, 1, sizes),
            collective_encoder(layout, 1, sizes),
            mask_decoder(layout, 1, sizes),
            DataDecoder(layout, 1, latent + layout.attributes, sizes.decoder, Heads(layout, 1, learned_scale=True)),
        )
    return sum(parameter_count(part) for part in parts)


def unflatten_draws(prediction: Prediction, draws: int) -> Prediction:
    """Split the row dimension [R, draws * b, ...] of a prediction into [R, draws, b, ...]."""
    return prediction.map(lambda tensor: tensor.unflatten(1, (draws, -1)))
