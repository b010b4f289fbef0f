"""Likelihood heads: what a decoder's output says about each attribute, and how likely values are under it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bench.neural.engine.noise import Noise
from bench.neural.engine.packed import PackedRows
from bench.neural.gaussian import gumbel
from bench.neural.rows import Encoded, Imputed, Layout

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


def sigmoid_of_negated_(negated: Tensor) -> Tensor:
    """Overwrite -x with 1 / (1 + exp(-x)).

    The passes round every element alike, as ``bank.sigmoid`` does, and take less than half its time on a CPU. Far
    below zero the exponential is infinite and the result 0.
    """
    return negated.exp_().add_(1).reciprocal_()


class _ImageMean(torch.autograd.Function):
    """A sigmoid in one buffer, its gradient in one pass."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        mean = sigmoid_of_negated_(raw.neg())
        ctx.save_for_backward(mean)
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (mean,) = ctx.saved_tensors
        back: Tensor = torch.ops.aten.sigmoid_backward(gradient, mean)
        return back


def image_mean(raw: Tensor) -> Tensor:
    """Return the mean of pixels in [0, 1] for a decoder's raw output."""
    mean: Tensor = _ImageMean.apply(raw)  # type: ignore[no-untyped-call]
    return mean


def student_log_density(squares: Tensor, degrees: Tensor) -> Tensor:
    """Return the log-density of Student's t at scale 1, of squared values, at ``degrees`` of freedom."""
    half = 0.5 * (degrees + 1)
    constant = torch.lgamma(half) - torch.lgamma(0.5 * degrees) - 0.5 * torch.log(math.pi * degrees)
    return constant - half * torch.log1p(squares / degrees)


def student_draw(first: Tensor, second: Tensor, degrees: Tensor) -> Tensor:
    """Return a number of Student's t at ``degrees`` of freedom, any above 0, for two standard normal ones.

    With u and v uniform it is ``cos(2 pi u) sqrt(degrees (v^(-2 / degrees) - 1))`` (Bailey, "Polar generation of random
    variates with the t-distribution", Mathematics of Computation 1994).
    """
    angle = 2 * math.pi * torch.special.ndtr(first)
    log_v = torch.special.log_ndtr(second)
    radius = (degrees * torch.expm1(-2 / degrees * log_v)).sqrt()
    return torch.cos(angle) * radius


@runtime_checkable
class Spreads(Protocol):
    """What learns the spreads of Gaussian attributes."""

    def start_spreads(self, spreads: Tensor) -> None:
        """Start them at ``spreads`` [R, Gaussian attributes], those about the floor."""


@dataclass(frozen=True)
class Target:
    """Values to score, or a distribution over values given by its moments.

    ``numeric`` and ``blocks`` are means, ``categorical`` level probabilities; the variances are those around the means,
    None if the value is certain. Heads need no more than these of any number of samples.
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

    def per_draw(self) -> Target:
        """Return the target with a dimension for draws behind that of the replicas, [R, 1, ...]."""
        variances = None if self.block_variance is None else tuple(part[:, None] for part in self.block_variance)
        return Target(
            self.numeric[:, None],
            self.categorical[:, None],
            tuple(block[:, None] for block in self.blocks),
            None if self.numeric_variance is None else self.numeric_variance[:, None],
            variances,
        )

    def placed(self, packed: Sequence[PackedRows]) -> Target:
        """Return the target with the rows of each group of blocks where they belong."""
        return replace(
            self,
            blocks=tuple(rows.put(block) for rows, block in zip(packed, self.blocks, strict=True)),
            block_variance=None
            if self.block_variance is None
            else tuple(rows.put(variance) for rows, variance in zip(packed, self.block_variance, strict=True)),
        )

    def detach(self) -> Target:
        """Return the target cut from the graph."""
        return Target(
            self.numeric.detach(),
            self.categorical.detach(),
            tuple(b.detach() for b in self.blocks),
            None if self.numeric_variance is None else self.numeric_variance.detach(),
            None if self.block_variance is None else tuple(b.detach() for b in self.block_variance),
        )


@dataclass(frozen=True)
class Prediction:
    """A decoder's output, leading dimensions [R, ..., b]: means of numbers and blocks, logits of categories.

    ``categorical`` is [..., levels, categorical], minus infinity for levels an attribute does not have. ``log_scales``
    [..., b, Gaussian attributes] are log spreads that stand in for the heads' own, where a model has them. With
    ``degrees`` of freedom [..., b, numeric], above 1, numbers are Student-t of that scale, not Gaussian.
    """

    numeric: Tensor
    categorical: Tensor
    blocks: tuple[Tensor, ...]
    log_scales: Tensor | None = None
    degrees: Tensor | None = None

    def expectation(self) -> Imputed:
        """Return the expected values: means and probabilities."""
        return Imputed(self.numeric, self.probabilities(), self.blocks)

    def probabilities(self) -> Tensor:
        """Return the level probabilities, [..., levels, categorical]."""
        return torch.softmax(self.categorical, dim=-2)

    def map(self, function: Callable[..., Tensor], *others: Prediction) -> Prediction:
        """Return the prediction whose tensors are a function of those of this one (and of ``others``)."""
        each = (self, *others)
        return Prediction(
            function(*(p.numeric for p in each)),
            function(*(p.categorical for p in each)),
            tuple(function(*blocks) for blocks in zip(*(p.blocks for p in each), strict=True)),
            None if self.log_scales is None else function(*(p.log_scales for p in each)),
            None if self.degrees is None else function(*(p.degrees for p in each)),
        )


class Heads(nn.Module):
    """Gaussian numbers, images and features, categorical levels; the mean of an image is a sigmoid.

    The spread of Gaussians is one learned value per attribute and replica, not below ``scale_floor``; with
    ``learned_scale=False`` it is 1, which makes the loss a squared error.
    """

    __call__: Callable[..., Prediction]

    def __init__(self, layout: Layout, replicas: int, learned_scale: bool, scale_floor: float | Tensor = 1e-3) -> None:
        """Allocate the learned spreads, at 1; ``scale_floor`` is a number or one per replica, [R, 1]."""
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
        read = self.scalars(scalars)
        means = tuple(
            image_mean(raw) if group.kind == "image" else raw
            for group, raw in zip(layout.block_groups, blocks, strict=True)
        )
        return Prediction(read.numeric, read.categorical, means)

    def scalars(self, scalars: Tensor, masked: bool = False) -> Prediction:
        """Read the raw output of the scalar decoder alone, [R, ..., scalar width].

        ``masked`` says that it is minus infinity already for levels an attribute does not have.
        """
        layout = self.layout
        logits = scalars[..., layout.numeric :].unflatten(-1, (layout.max_levels, layout.categorical))
        if not masked:
            logits = logits.masked_fill(layout.no_level, -math.inf)
        return Prediction(scalars[..., : layout.numeric], logits, ())

    def log_scales(self, dims: int) -> Tensor:
        """Return the log spread of each Gaussian attribute in group order, [R, 1, ..., attributes], ``dims`` dims."""
        if self.log_scale is None:
            gaussian = self.layout.numeric + sum(len(group.names) for group in self.layout.block_groups)
            return torch.zeros((1,) * (dims - 1) + (gaussian,), device=self.layout.owner.device)
        floor = self.scale_floor
        floored = self.log_scale.clamp(min=floor.log() if isinstance(floor, Tensor) else math.log(floor))
        return floored.view(floored.shape[0], *(1,) * (dims - 2), floored.shape[1])

    def log_prob(self, prediction: Prediction, target: Target | Encoded) -> Tensor:
        """Return the expected log-density of the target per attribute, [R, ..., b, M] in group order.

        With values this is their log-density; with moments, the mean log-density of the samples behind them. A
        prediction may hold several draws per row, [R, k, b, ...]. Its own spreads stand in for the learned ones.
        """
        layout = self.layout
        if isinstance(target, Encoded):
            target = Target.certain(target)
        if prediction.numeric.dim() > target.numeric.dim():
            target = target.per_draw()
        parts = []
        log_scales = prediction.log_scales
        if log_scales is None:
            log_scales = self.log_scales(prediction.numeric.dim())
        if layout.numeric:
            log_scale = log_scales[..., : layout.numeric]
            error = (target.numeric - prediction.numeric) ** 2
            if target.numeric_variance is not None:
                error = error + target.numeric_variance
            squares = error * torch.exp(-2 * log_scale)
            if prediction.degrees is None:
                parts.append(-0.5 * squares - log_scale - HALF_LOG_TWO_PI)
            else:
                parts.append(student_log_density(squares, prediction.degrees) - log_scale)
        if layout.categorical:
            log_probabilities = torch.log_softmax(prediction.categorical, dim=-2).masked_fill(layout.no_level, 0.0)
            parts.append((target.categorical * log_probabilities).sum(-2))
        first = layout.numeric
        for index, group in enumerate(layout.block_groups):
            log_scale = log_scales[..., first : first + len(group.names)]
            first += len(group.names)
            mean, truth = torch.broadcast_tensors(prediction.blocks[index], target.blocks[index])
            error = functional.mse_loss(mean, truth, reduction="none").sum(-1)
            if target.block_variance is not None:
                error = error + target.block_variance[index]
            parts.append(-0.5 * error * torch.exp(-2 * log_scale) - group.width * (log_scale + HALF_LOG_TWO_PI))
        return torch.cat(parts, dim=-1)

    def draw(self, prediction: Prediction, noise: Noise, numbers_drawn: bool = False) -> Imputed:
        """Return values drawn from a prediction [R, b, ...].

        Numbers and features are drawn where their spread was learned (one that is set says nothing about the data),
        else they are the means; categories are drawn, as one-hot levels. Images are the means: the noise of a Gaussian
        head is independent from pixel to pixel and would only hide the picture. ``numbers_drawn`` says that numbers and
        features hold draws already.
        """
        layout, rows = self.layout, prediction.numeric.shape[1]
        widths = [len(group.names) * group.width for group in layout.block_groups if group.kind == "features"]
        # All is drawn, needed or not: what is drawn next must not depend on it.
        of_numbers = noise.normal("numbers", rows, layout.numeric)
        of_levels = noise.normal("levels", rows, layout.max_levels, layout.categorical)
        of_features = noise.normal("features", rows, sum(widths))
        levels = (prediction.categorical + gumbel(of_levels)).argmax(-2, keepdim=True)
        one_hot = torch.zeros_like(prediction.categorical).scatter_(-2, levels, 1.0)
        log_scales = prediction.log_scales
        if numbers_drawn or (log_scales is None and self.log_scale is None):
            return Imputed(prediction.numeric, one_hot, prediction.blocks)
        if log_scales is None:
            log_scales = self.log_scales(prediction.numeric.dim())
        spread = torch.exp(log_scales)
        first, used, blocks = layout.numeric, 0, []
        for group, block in zip(layout.block_groups, prediction.blocks, strict=True):
            members = len(group.names)
            if group.kind == "features":
                own = of_features[..., used : used + members * group.width].unflatten(-1, (members, group.width))
                used += members * group.width
                block = block + spread[..., first : first + members, None] * own
            first += members
            blocks.append(block)
        if prediction.degrees is not None:
            of_numbers = student_draw(of_numbers, noise.normal("tails", rows, layout.numeric), prediction.degrees)
        numbers = prediction.numeric + spread[..., : layout.numeric] * of_numbers
        return Imputed(numbers, one_hot, tuple(blocks))

    def as_drawn(self, values: Encoded, drawn: Tensor) -> Target:
        """Return the target that ``values`` are, of which the entries ``drawn`` [R, b, M] come from ``draw``.

        The noise of an image's pixels, which ``draw`` leaves out, enters by its variance.
        """
        layout, target = self.layout, Target.certain(values)
        if self.log_scale is None or not layout.block_groups:
            return target
        own = torch.exp(2 * self.log_scales(drawn.dim()))
        variances, first = [], layout.numeric
        for index, group in enumerate(layout.block_groups):
            members = len(group.names)
            width = group.width if group.kind == "image" else 0
            noise = width * own[..., first : first + members]
            variances.append(torch.where(drawn[..., layout.group_positions(index)], noise, 0.0))
            first += members
        return replace(target, block_variance=tuple(variances)).detach()

    def moments(self, draw_numbers: bool) -> SampleMoments:
        """Return an empty collection of samples, whose moments are targets; see ``SampleMoments``."""
        return SampleMoments(self, draw_numbers)


class SampleMoments:
    """The moments of values decoded from latent samples that come in chunks; no sample of an image is kept.

    The blocks of a sample may have other rows than its scalars (see ``PackedRows``): so do those of the target.

    With ``draw_numbers`` the values are draws from the heads (their variance adds to that of the means); without, the
    heads' means. Categories are always draws: their moments are the mean probabilities.
    """

    def __init__(self, heads: Heads, draw_numbers: bool) -> None:
        """Start empty."""
        self._heads, self._draw_numbers = heads, draw_numbers
        self._scalars: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._squares: list[Tensor] = []

    @torch.no_grad()
    def add(self, scalars: Tensor, blocks: tuple[Tensor, ...]) -> None:
        """Add k samples: raw outputs [R, k, b, ...] as of ``DataDecoder.raw_samples``, overwritten here."""
        first = not self._scalars
        self._scalars.append(scalars)
        for index, (group, raw) in enumerate(zip(self._heads.layout.block_groups, blocks, strict=True)):
            value = sigmoid_of_negated_(raw.neg_()) if group.kind == "image" else raw
            total, squares = value.sum(1), value.square().sum((1, -1))
            if first:
                self._sums.append(total)
                self._squares.append(squares)
            else:
                self._sums[index] += total
                self._squares[index] += squares

    @torch.no_grad()
    def target(self) -> Target:
        """Return the moments of all samples as a target [R, b, ...]."""
        heads, layout = self._heads, self._heads.layout
        scalars = torch.cat(self._scalars, dim=1) if len(self._scalars) > 1 else self._scalars[0]
        prediction, samples = heads.scalars(scalars, masked=True), scalars.shape[1]
        mean = prediction.numeric.mean(1)
        variance = ((prediction.numeric - mean.unsqueeze(1)) ** 2).mean(1)
        means, variances = [], []
        for total, squares in zip(self._sums, self._squares, strict=True):
            centre = total / samples
            means.append(centre)
            variances.append((squares / samples - centre.square().sum(-1)).clamp(min=0))
        if self._draw_numbers:
            own = torch.exp(2 * heads.log_scales(mean.dim()))
            variance = variance + own[..., : layout.numeric]
            first = layout.numeric
            for index, group in enumerate(layout.block_groups):
                variances[index] = variances[index] + group.width * own[..., first : first + len(group.names)]
                first += len(group.names)
        return Target(mean, prediction.probabilities().mean(1), tuple(means), variance, tuple(variances))
