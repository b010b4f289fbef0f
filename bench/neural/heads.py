"""Likelihood heads: what a decoder's output says about each attribute, and how likely values are under it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bench.neural.blocks import Encoded, Imputed, Layout
from bench.neural.layers import sigmoid

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


@runtime_checkable
class Spreads(Protocol):
    """What learns the spreads of Gaussian attributes."""

    def start_spreads(self, spreads: Tensor) -> None:
        """Start them at ``spreads`` [R, Gaussian attributes], those about the floor."""


@dataclass(frozen=True)
class Target:
    """Values to score, or a distribution over values given by its moments.

    ``numeric`` and ``blocks`` are means, ``categorical`` level probabilities; the variances are those around the means,
    None where the value is certain. Heads need no more than these of any number of samples.
    """

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]
    numeric_variance: Tensor | None = None
    block_variance: tuple[Tensor, ...] | None = None

    @classmethod
    def certain(cls, encoded: Encoded) -> Target:
        """Return a batch's values as a target."""
        return cls(encoded.numeric, encoded.categorical, encoded.blocks)

    def detach(self) -> Target:
        """Return the target cut from the graph."""
        return Target(
            self.numeric.detach(), self.categorical.detach(), tuple(b.detach() for b in self.blocks),
            None if self.numeric_variance is None else self.numeric_variance.detach(),
            None if self.block_variance is None else tuple(b.detach() for b in self.block_variance),
        )  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """A decoder's output, leading dimensions [R, ..., b]: means of numbers and blocks, logits of categories.

    ``categorical`` is [..., levels, categorical], minus infinity for levels an attribute does not have.
    """

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]

    def expectation(self) -> Imputed:
        """Return the expected values: means and probabilities."""
        return Imputed(self.numeric, self.probabilities(), self.blocks)

    def probabilities(self) -> Tensor:
        """Return the level probabilities, [..., levels, categorical]."""
        return torch.softmax(self.categorical, dim=-2)


class Heads(nn.Module):
    """Gaussian numbers, images and features, categorical levels; the mean of an image is a sigmoid.

    The spread of Gaussians is one learned value per attribute and replica, not below ``scale_floor``; with
    ``learned_scale=False`` it is 1, which makes the loss a squared error.
    """

    def __init__(self, layout: Layout, replicas: int, learned_scale: bool, scale_floor: float | Tensor = 1e-3) -> None:
        """Allocate the learned spreads, at 1; ``scale_floor`` is a number or one a replica, [R, 1]."""
        super().__init__()
        self.layout = layout
        self.scale_floor = scale_floor
        gaussian = layout.numeric + sum(len(group.names) for group in layout.block_groups)
        self.log_scale = nn.Parameter(torch.zeros(replicas, gaussian)) if learned_scale and gaussian else None

    @torch.no_grad()
    def start_spreads(self, spreads: Tensor) -> None:
        """Start the learned spreads at ``spreads`` [R, Gaussian attributes]; those that are 1 by definition stay."""
        if self.log_scale is not None:
            self.log_scale.copy_(spreads.log())

    def forward(self, scalars: Tensor, blocks: tuple[Tensor, ...]) -> Prediction:
        """Read the raw output of the scalar decoder [R, ..., scalar width] and of each block group's decoder."""
        layout = self.layout
        numeric = scalars[..., : layout.numeric]
        logits = scalars[..., layout.numeric :].unflatten(-1, (layout.max_levels, layout.categorical))
        categorical = logits.masked_fill(layout.no_level, -math.inf)
        means = tuple(
            sigmoid(raw) if group.kind == "image" else raw
            for group, raw in zip(layout.block_groups, blocks, strict=True)
        )
        return Prediction(numeric, categorical, means)

    def log_scales(self, dims: int) -> Tensor:
        """Return the log spread of each Gaussian attribute in group order, [R, 1, ..., attributes], ``dims`` dims."""
        if self.log_scale is None:
            gaussian = self.layout.numeric + sum(len(group.names) for group in self.layout.block_groups)
            return torch.zeros((1,) * (dims - 1) + (gaussian,), device=self.layout.owner.device)
        floor = self.scale_floor
        floored = self.log_scale.clamp(min=floor.log() if isinstance(floor, Tensor) else math.log(floor))
        return floored.view(floored.shape[0], *(1,) * (dims - 2), floored.shape[1])

    def log_prob(self, prediction: Prediction, target: Target, log_scales: Tensor | None = None) -> Tensor:
        """Return the expected log-density of the target per attribute, [R, ..., b, M] in group order.

        With a certain target this is its log-density; with moments, the mean log-density of the samples behind them.
        ``log_scales`` [R, ..., b, Gaussian attributes] stand in for the learned ones where a model has its own.
        """
        layout = self.layout
        parts = []
        if log_scales is None:
            log_scales = self.log_scales(prediction.numeric.dim())
        if layout.numeric:
            log_scale = log_scales[..., : layout.numeric]
            error = (target.numeric - prediction.numeric) ** 2
            if target.numeric_variance is not None:
                error = error + target.numeric_variance
            parts.append(-0.5 * error * torch.exp(-2 * log_scale) - log_scale - HALF_LOG_TWO_PI)
        if layout.categorical:
            log_probabilities = torch.log_softmax(prediction.categorical, dim=-2).masked_fill(layout.no_level, 0.0)
            parts.append((target.categorical * log_probabilities).sum(-2))
        first = layout.numeric
        for index, group in enumerate(layout.block_groups):
            log_scale = log_scales[..., first : first + len(group.names)]
            first += len(group.names)
            error = ((target.blocks[index] - prediction.blocks[index]) ** 2).sum(-1)
            if target.block_variance is not None:
                error = error + target.block_variance[index]
            parts.append(-0.5 * error * torch.exp(-2 * log_scale) - group.width * (log_scale + HALF_LOG_TWO_PI))
        return torch.cat(parts, dim=-1)

    def sample_moments(self, prediction: Prediction, sample_dim: int, draw_numbers: bool) -> Target:
        """Return the moments of values decoded from several latent samples along ``sample_dim``.

        With ``draw_numbers`` the values are draws from the heads (their variance adds to that of the means); without,
        the heads' means. Categories are always draws: their moments are the mean probabilities.
        """
        layout = self.layout
        numeric_mean = prediction.numeric.mean(sample_dim)
        numeric_variance = ((prediction.numeric - numeric_mean.unsqueeze(sample_dim)) ** 2).mean(sample_dim)
        block_mean = tuple(block.mean(sample_dim) for block in prediction.blocks)
        block_variance = tuple(
            ((block - mean.unsqueeze(sample_dim)) ** 2).sum(-1).mean(sample_dim)
            for block, mean in zip(prediction.blocks, block_mean, strict=True)
        )
        if draw_numbers:
            variances = torch.exp(2 * self.log_scales(numeric_mean.dim()))
            numeric_variance = numeric_variance + variances[..., : layout.numeric]
            first, with_noise = layout.numeric, []
            for group, spread in zip(layout.block_groups, block_variance, strict=True):
                with_noise.append(spread + group.width * variances[..., first : first + len(group.names)])
                first += len(group.names)
            block_variance = tuple(with_noise)
        return Target(
            numeric_mean, prediction.probabilities().mean(sample_dim),
            block_mean, numeric_variance, block_variance,
        )  # fmt: skip
