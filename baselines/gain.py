"""GAIN, the generative adversarial imputation network (Yoon, Jordon, van der Schaar, ICML 2018).

Numbers follow the authors' code (github.com/jsyoon0823/GAIN): min-max scaling, hints of 0 where nothing is revealed,
Xavier initialisation and networks as wide as the data. Categories follow their advice in issue 10 there, softmax and
cross-entropy, in ``default``; ``literal`` treats one-hot columns as numbers and rounds, as the code does. The mask and
the discriminator's answers are per attribute. It takes the code's 10,000 steps on batches of 128 rows under every
preset but ``smoke``: after the 1500 steps of ``quick`` it is far from converged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bench.api import Incomplete, Values
from bench.neural.adversarial import (
    ReluNetwork,
    category_logits,
    expand_mask,
    generated_row,
    rounded_width,
    split_row,
    uniform,
)
from bench.neural.gaussian import gumbel
from bench.neural.method import DrawingMethod
from bench.neural.model import Network, Noise, Notes, Phase, Settings, Warmup
from bench.neural.networks import BankedLinear
from bench.neural.rows import Encoded, Imputed, Layout, Rows

#: Hidden entries hold uniform noise between 0 and this.
NOISE_HEIGHT = 0.01
#: Weights of the first layer at most: tables of thousands of columns get narrower networks than the data.
LARGEST_LAYER = 2**22


class XavierLinear(BankedLinear):
    """A linear bank drawn as the authors do: weights N(0, 2 / fan in), biases 0."""

    @torch.no_grad()
    def reset(self, generators: Sequence[torch.Generator], initialisation: str = "uniform") -> None:
        """Draw each replica from its own generator, whatever the others' ``initialisation``."""
        deviation = (2 / self._fan_in.clamp(min=1)).sqrt()
        for replica, generator in enumerate(generators):
            self.weight[replica] = torch.empty(self.weight.shape[1:]).normal_(generator=generator) * deviation
        self.bias.zero_()


def hint(observed: Tensor, noise: Tensor, rate: float, unknown: float) -> Tensor:
    """Return what the discriminator is told of the mask [R, b, M]: the truth at ``rate``, ``unknown`` elsewhere.

    ``noise`` is standard normal, of the mask's shape.
    """
    return torch.where(uniform(noise) < rate, observed.to(noise.dtype), unknown)


def discriminator_loss(logits: Tensor, observed: Tensor) -> Tensor:
    """Return ``-mean[m log D + (1 - m) log(1 - D)]`` per replica, for the logits of D."""
    return -functional.logsigmoid(torch.where(observed, logits, -logits)).flatten(1).mean(1)


def adversarial_loss(logits: Tensor, observed: Tensor) -> Tensor:
    """Return ``-mean[(1 - m) log D]`` per replica: how little the discriminator takes imputed for observed."""
    return -torch.where(observed, 0.0, functional.logsigmoid(logits)).flatten(1).mean(1)


def reconstruction_errors(raw: Tensor, batch: Encoded, layout: Layout, softmax: bool, bounded: bool = True) -> Tensor:
    """Return the generator's error per attribute, [R, b, M] in group order, for its raw output.

    Squared error, averaged over the columns of an attribute so that images do not drown labels; cross-entropy for
    categories with ``softmax``.
    """
    row = split_row(generated_row(raw, layout, softmax, bounded), layout)
    parts = [(batch.numeric - row.numeric) ** 2]
    if layout.categorical and softmax:
        log_probabilities = torch.log_softmax(category_logits(raw, layout), dim=-2).masked_fill(layout.no_level, 0.0)
        parts.append(-(batch.categorical * log_probabilities).sum(-2))
    elif layout.categorical:
        parts.append(((batch.categorical - row.categorical) ** 2).sum(-2) / layout.levels)
    parts.extend(((truth - block) ** 2).mean(-1) for truth, block in zip(batch.blocks, row.blocks, strict=True))
    return torch.cat(parts, dim=-1)


def reconstruction_loss(errors: Tensor, observed: Tensor) -> Tensor:
    """Return the mean error over the observed entries of each replica's batch, [R]."""
    total = torch.where(observed, errors, 0.0).flatten(1).sum(1)
    return total / observed.flatten(1).sum(1).clamp(min=1)


class GAINNetwork(Network):
    """A stack of GAINs: a generator that completes rows and a discriminator that tells observed from imputed."""

    def __init__(self, layout: Layout, replicas: int, parameters: Settings) -> None:
        """Allocate three-layer networks, as wide as the encoded data (rounded up to 16) or ``hidden_width``."""
        super().__init__(layout, replicas, parameters)
        alpha = parameters["alpha"]
        #: A number, or one per replica, [R].
        self.alpha = alpha.flatten() if isinstance(alpha, Tensor) else alpha
        self.hint_rate, self.hint_unknown = parameters["hint_rate"], parameters["hint_unknown"]
        self.softmax, self.bounded = parameters["softmax"], parameters["scaling"] == "minmax"
        inputs, inputs_used = layout.width + layout.attributes, layout.width_used + layout.attributes
        hidden = parameters["hidden_width"] or rounded_width(layout.width_used, LARGEST_LAYER // inputs, 16)
        self.generator = ReluNetwork(
            replicas, (inputs, hidden, hidden, layout.width), inputs_used, layout.width_used, XavierLinear
        )
        self.discriminator = ReluNetwork(
            replicas, (inputs, hidden, hidden, layout.attributes), inputs_used, linear=XavierLinear
        )

    def phases(self) -> tuple[Phase, ...]:
        """Step the discriminator, then the generator, on every batch."""
        return (
            Phase("discriminator", [{"params": list(self.discriminator.parameters())}]),
            Phase("generator", [{"params": list(self.generator.parameters())}]),
        )

    def generate(self, batch: Encoded, fill: Tensor) -> Tensor:
        """Return the generator's raw output for a batch, normal noise ``fill`` [R, b, width] in hidden columns."""
        layout, observed = self.layout, batch.observed
        noise = NOISE_HEIGHT * uniform(fill) * layout.used
        filled = torch.where(expand_mask(observed, layout), batch.flat(), noise)
        return self.generator(torch.cat([filled, observed.to(filled.dtype)], dim=-1))

    def complete(self, batch: Encoded, raw: Tensor) -> Tensor:
        """Return the batch with hidden columns as generated, [R, b, width]."""
        generated = generated_row(raw, self.layout, self.softmax, self.bounded)
        return torch.where(expand_mask(batch.observed, self.layout), batch.flat(), generated)

    def discriminate(self, completed: Tensor, hints: Tensor) -> Tensor:
        """Return the logit of each entry's being observed, [R, b, M]."""
        return self.discriminator(torch.cat([completed, hints], dim=-1))

    def phase_loss(self, phase: str, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the loss of the discriminator, or that of the generator with alpha times its reconstruction loss.

        Both phases share their noise, as in the code.
        """
        batch, observed = x.target, x.observed
        fill = noise.normal("fill", x.size, self.layout.width)
        hints = hint(observed, noise.normal("hint", x.size, self.layout.attributes), self.hint_rate, self.hint_unknown)
        if phase == "discriminator":
            with torch.no_grad():
                completed = self.complete(batch, self.generate(batch, fill))
            return discriminator_loss(self.discriminate(completed, hints), observed)
        raw = self.generate(batch, fill)
        errors = reconstruction_errors(raw, batch, self.layout, self.softmax, self.bounded)
        logits = self.discriminate(self.complete(batch, raw), hints)
        reconstruction: Tensor = self.alpha * reconstruction_loss(errors, observed)
        return adversarial_loss(logits, observed) + reconstruction

    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Return one pass of the generator, as the code does: its noise is too small for several to differ."""
        raw = self.generate(x.target, noise.normal("fill", x.size, self.layout.width))
        return split_row(generated_row(raw, self.layout, self.softmax, self.bounded), self.layout), {}

    def draw(self, x: Rows, proposals: int, noise: Noise, draws: int = 1) -> Imputed:
        """Return passes of the generator, each with noise of its own; categories are drawn from their softmax.

        Its numbers hardly differ from pass to pass: that is all the spread that GAIN has.
        """
        layout, rows = self.layout, x.target.repeated(draws)
        raw = self.generate(rows, noise.normal("fill", draws * x.size, layout.width))
        row = split_row(generated_row(raw, layout, self.softmax, self.bounded), layout)
        if not (layout.categorical and self.softmax):
            return row
        e = gumbel(noise.normal("levels", draws * x.size, layout.max_levels, layout.categorical))
        chosen = (row.categorical.log() + e).argmax(-2, keepdim=True)
        return replace(row, categorical=torch.zeros_like(row.categorical).scatter_(-2, chosen, 1.0))


class GAIN(DrawingMethod):
    """Generative adversarial imputation network."""

    name = "gain"
    summary = "GAIN: generator against a discriminator with hints"
    version = 1
    network = GAINNetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "alpha": ("log", 1.0, 1000.0),
    }
    parameter_sets = {
        "default": {
            "scaling": "minmax",
            "alpha": 100.0,
            "hint_rate": 0.9,
            "hint_unknown": 0.0,
            "softmax": True,
            "hidden_width": None,
            "round_below": 0,
            "learning_rate": 1e-3,
            "clip_norm": None,
            "steps": 10_000,
            "batch": 128,
        },
        "literal": {"softmax": False, "round_below": 20},
    }

    def fit_many(self, train: Incomplete, validation: Incomplete, seeds: Sequence[int]) -> None:
        """Train the stack, and note which numbers have few enough observed values to be rounded."""
        self._rounded = [
            few_values(train, replica, self.parameters["round_below"]) for replica in range(train.replicas)
        ]
        super().fit_many(train, validation, seeds)

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        """Impute every replica; numbers with fewer than ``round_below`` distinct values are rounded to integers."""
        imputed = super().impute_many(data, draws)
        for replica, values in enumerate(imputed):
            hidden = ~data.observed[replica][:, data.schema.scalar_indices]
            np.rint(values.scalars, out=values.scalars, where=hidden & self._rounded[replica])
        return imputed


def few_values(train: Incomplete, replica: int, below: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which columns of ``scalars`` are numbers with fewer than ``below`` distinct observed values, [S]."""
    few = np.zeros(len(train.schema.scalar_indices), dtype=bool)
    if below:
        scalars = train.values(replica).scalars
        for column in train.schema.scalar_columns("numeric"):
            seen = scalars[~np.isnan(scalars[:, column]), column]
            few[column] = len(np.unique(seen)) < below
    return few
