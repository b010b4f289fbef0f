"""What the adversarial methods share: ReLU networks, uniform noise, and rows of data as a generator emits them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bench.neural.engine.bank import BankedLinear, banked_product, sigmoid
from bench.neural.rows import Imputed, Layout


class ReluNetwork(nn.Module):
    """A bank of fully connected networks, one per replica, with ReLU between the layers and none after the last.

    ``widths`` are those of the input, the hidden layers and the output; ``inputs_used`` and ``outputs_used`` count the
    real columns where input or output are padded. ``linear`` is the kind of layer (its ``reset`` draws it).
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        replicas: int,
        widths: Sequence[int],
        inputs_used: int | None = None,
        outputs_used: int | None = None,
        linear: type[BankedLinear] = BankedLinear,
    ) -> None:
        """Allocate the layers."""
        super().__init__()
        last = len(widths) - 2
        used = None if inputs_used is None else torch.tensor(inputs_used, device="cpu")
        self.layers = nn.ModuleList(
            linear(
                (replicas,),
                widths[level],
                widths[level + 1],
                inputs_used=used if level == 0 else None,
                outputs_used=outputs_used if level == last else None,
            )
            for level in range(last + 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` [R, n, inputs] to [R, n, outputs]."""
        for level, layer in enumerate(self.layers):
            x = layer(x if level == 0 else torch.relu(x))
        return x

    def input_gradient(self, x: Tensor) -> Tensor:
        """Return the gradient of the summed outputs for each row of ``x`` [R, n, inputs], itself differentiable.

        It is a product of the weights of the units that are on. Which units those are does not change under small
        changes of the parameters, so what automatic differentiation would make of a second derivative is the same.
        """
        active = []
        weights = [layer.weight for layer in self.layers if isinstance(layer, BankedLinear)]
        with torch.no_grad():
            for layer in self.layers[:-1]:
                x = layer(x)
                active.append(x > 0)
                x = torch.relu(x)
        gradient = weights[-1].sum(-1)[:, None, :]
        for own, on in zip(reversed(weights[:-1]), reversed(active), strict=True):
            weight = own.transpose(1, 2).contiguous()
            gradient = banked_product(gradient * on, weight, weight.new_zeros(weight.shape[0], weight.shape[2]))
        return gradient.expand_as(x) if not active else gradient


def rounded_width(width: int, largest: int, multiple: int) -> int:
    """Return ``width`` rounded up to a ``multiple``, or the last multiple up to ``largest``; at least one multiple.

    In networks whose widths are multiples of 16, what a replica computes does not depend on the stack, to the bit.
    """
    rounded_up = -(-width // multiple) * multiple
    return max(multiple, min(rounded_up, largest // multiple * multiple))


def uniform(noise: Tensor) -> Tensor:
    """Return standard normal ``noise`` as uniform noise on [0, 1]."""
    share: Tensor = torch.special.ndtr(noise)
    return share


def expand_mask(mask: Tensor, layout: Layout) -> Tensor:
    """Spread a mask per attribute [..., M], hard or soft, over the encoded columns, [..., width]."""
    return mask[..., layout.owner]


def generated_row(raw: Tensor, layout: Layout, softmax: bool, bounded: bool) -> Tensor:
    """Return rows of data [..., width] for a generator's raw output: images in [0, 1], 0 in padding.

    Numbers are in [0, 1] where they are ``bounded`` (min-max scaled); categories are a softmax per attribute, or else a
    sigmoid per level. Standardised numbers and features stay as they are.
    """
    first, last = layout.numeric, layout.scalar_width
    parts = [sigmoid(raw[..., :first]) if bounded else raw[..., :first]]
    if layout.categorical:
        logits = category_logits(raw, layout)
        levels = torch.softmax(logits, dim=-2) if softmax else sigmoid(logits)
        parts.append(levels.flatten(-2))
    for group in layout.block_groups:
        width = group.width * len(group.names)
        block = raw[..., last : last + width]
        parts.append(sigmoid(block) if group.kind == "image" else block)
        last += width
    return torch.cat(parts, dim=-1)


def category_logits(raw: Tensor, layout: Layout) -> Tensor:
    """Return the logits of the levels, [..., levels, categorical], minus infinity for levels an attribute lacks."""
    logits = raw[..., layout.numeric : layout.scalar_width].unflatten(-1, (layout.max_levels, layout.categorical))
    masked: Tensor = logits.masked_fill(layout.no_level, -math.inf)
    return masked


def split_row(flat: Tensor, layout: Layout) -> Imputed:
    """Return flat rows [..., width] by kind, the inverse of ``Encoded.flat``."""
    last = layout.scalar_width
    categorical = flat[..., layout.numeric : last].unflatten(-1, (layout.max_levels, layout.categorical))
    blocks = []
    for group in layout.block_groups:
        width = group.width * len(group.names)
        blocks.append(flat[..., last : last + width].unflatten(-1, (len(group.names), group.width)))
        last += width
    return Imputed(flat[..., : layout.numeric], categorical, tuple(blocks))
