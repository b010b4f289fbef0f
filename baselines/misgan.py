"""MisGAN, learning from incomplete data with generative adversarial networks (Li, Jiang, Marlin, ICLR 2019).

Follows the authors' code (github.com/steveli/misgan): a generator of masks, a generator of data and an imputer, each
against a critic with a gradient penalty (WGAN-GP), five steps of the critics for one of the generators. The networks
are sized to the data, with 256 units at least: narrower ones collapse on tables of few numbers (``authors`` has the
code's widths, which are those for MNIST). For tables the mask is per attribute, and in ``default`` a category is a
softmax over its levels and the imputer is given the mask (the code's ``MaskImputer``); ``literal`` has sigmoids and the
code's default imputer, which cannot tell noise from data. The code's term ``beta`` leaves the data generator without a
gradient: the imputed rows do not depend on it. ``literal`` drops it; ``default`` has the paper's, in which the
generator also lowers its critic's score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.api import Budget
from bench.neural.adversarial import ReluNetwork, expand_mask, generated_row, rounded_width, split_row, uniform
from bench.neural.method import NeuralStackedMethod
from bench.neural.model import Network, Noise, Notes, Phase, Settings, Warmup
from bench.neural.networks import sigmoid
from bench.neural.rows import Imputed, Layout, Rows

#: Imputations averaged at least, and at a time at most.
LEAST_DRAWS = 10
DRAWS_AT_A_TIME = 10
#: Floats one replica may hold in a chunk of draws.
CHUNK_FLOATS = 2**21
#: Weights of a layer over the data at most: tables of thousands of columns get narrower networks.
LARGEST_LAYER = 2**21
#: Adam's momenta in the authors' code.
BETAS = (0.5, 0.9)


def masked_row(row: Tensor, mask: Tensor, tau: float | Tensor) -> Tensor:
    """Return the masking operator f_tau(x, m) = m x + (1 - m) tau; ``tau`` may be other rows."""
    return mask * row + (1 - mask) * tau


def gradient_penalty(critic: ReluNetwork, real: Tensor, fake: Tensor, share: Tensor) -> Tensor:
    """Return the mean of (||gradient|| - 1)^2 per replica, at rows between ``real`` and ``fake`` [R, b, width].

    ``share`` [R, b, 1] is how much of each row is real.
    """
    gradient = critic.input_gradient(share * real + (1 - share) * fake)
    length: Tensor = torch.linalg.vector_norm(gradient, dim=-1)
    return ((length - 1) ** 2).mean(1)


def critic_loss(critic: ReluNetwork, real: Tensor, fake: Tensor, share: Tensor, penalty: float) -> Tensor:
    """Return ``E critic(fake) - E critic(real) + penalty * gradient penalty`` per replica."""
    on_fake, on_real = critic(torch.cat([fake, real], dim=1)).squeeze(-1).chunk(2, dim=1)
    distance: Tensor = on_fake.mean(1) - on_real.mean(1)
    return distance + penalty * gradient_penalty(critic, real, fake, share)


def score(critic: ReluNetwork, row: Tensor) -> Tensor:
    """Return the mean of the critic over a batch, [R]."""
    value: Tensor = critic(row)
    return value.squeeze(-1).mean(1)


class MisGANNetwork(Network):
    """A stack of MisGANs: three generators (masks, data, imputer) and their critics."""

    def __init__(self, layout: Layout, replicas: int, parameters: Settings) -> None:
        """Allocate networks of the authors' shape, twice as wide as the data.

        For MNIST, as for ``authors`` anywhere, these have 512 units, and the imputer 784.
        """
        super().__init__(layout, replicas, parameters)
        self.parameters_set = dict(parameters)
        self.softmax, self.mask_in_imputer = parameters["softmax"], parameters["mask_in_imputer"]
        self.bounded = parameters["scaling"] == "minmax"
        self.latent = parameters["latent"]
        width, used, attributes = layout.width, layout.width_used, layout.attributes
        largest = LARGEST_LAYER // width
        hidden = rounded_width(max(2 * used, parameters["least_width"]), min(parameters["most_width"], largest), 64)
        imputer = rounded_width(max(hidden, used), min(784, largest), 16)
        critic = (hidden, hidden // 2, hidden // 4, 1)
        condition = attributes if self.mask_in_imputer else 0
        self.mask_generator = ReluNetwork(replicas, (self.latent, hidden // 2, hidden, attributes))
        self.data_generator = ReluNetwork(replicas, (self.latent, hidden // 2, hidden, width), outputs_used=used)
        self.imputer = ReluNetwork(
            replicas, (width + condition, imputer, imputer, imputer, width), used + condition, used
        )
        self.mask_critic = ReluNetwork(replicas, (attributes, *critic))
        self.data_critic = ReluNetwork(replicas, (width, *critic), used)
        self.imputer_critic = ReluNetwork(replicas, (width, *critic), used)

    def phases(self) -> tuple[Phase, ...]:
        """Step the critics on every batch, and the generators on every ``critic_steps``-th."""
        rate, imputer_rate = self.parameters_set["learning_rate"], self.parameters_set["imputer_learning_rate"]
        critics = [group((self.mask_critic, self.data_critic), rate), group((self.imputer_critic,), imputer_rate)]
        generators = [group((self.mask_generator, self.data_generator), rate), group((self.imputer,), imputer_rate)]
        return (
            Phase("critics", critics),
            Phase("generators", generators, every=self.parameters_set["critic_steps"]),
        )

    def training_budget(self, budget: Budget) -> Budget:
        """Return a budget whose steps are the generators': each takes ``critic_steps`` batches of the authors' size."""
        budget = super().training_budget(budget)
        steps = None if budget.steps is None else budget.steps * self.parameters_set["critic_steps"]
        return replace(budget, steps=steps, batch=min(budget.batch, self.parameters_set["batch"]))

    def fake_masks(self, noise: Tensor) -> Tensor:
        """Return soft masks per attribute, [R, n, M], that reach 0 and 1, for normal noise [R, n, latent]."""
        stretch = self.parameters_set["mask_stretch"]
        soft = sigmoid(self.mask_generator(noise) / self.parameters_set["mask_temperature"])
        stretched: Tensor = soft * (1 + 2 * stretch) - stretch
        return stretched.clamp(0, 1)

    def fake_rows(self, noise: Tensor) -> Tensor:
        """Return rows of data, [R, n, width], for normal noise [R, n, latent]."""
        return generated_row(self.data_generator(noise), self.layout, self.softmax, self.bounded)

    def mask_row(self, row: Tensor, mask: Tensor) -> Tensor:
        """Return f_tau of rows [R, n, width] under masks per attribute [R, n, M]; padding stays 0."""
        return masked_row(row, expand_mask(mask, self.layout), self.parameters_set["tau"]) * self.layout.used

    def complete(self, row: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Return ``m x + (1 - m) I(x, m, w)`` for encoded rows, masks [R, n, M] and normal noise [R, n, width]."""
        columns = expand_mask(mask, self.layout)
        inputs = masked_row(row, columns, uniform(noise)) * self.layout.used
        if self.mask_in_imputer:
            inputs = torch.cat([inputs, mask], dim=-1)
        return masked_row(row, columns, generated_row(self.imputer(inputs), self.layout, self.softmax, self.bounded))

    def phase_loss(self, phase: str, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the sum of the losses of a phase's three networks; they share no parameter that the phase moves."""
        losses = self.critic_losses(x, noise) if phase == "critics" else self.generator_losses(x, noise)
        return torch.stack(losses).sum(0)

    def noise_of(self, phase: str, x: Rows, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """Return a phase's noise for the generators of masks and of data, and for the imputer."""
        latent = (x.size, self.latent)
        e_mask, e_data = noise.normal(f"{phase} mask", *latent), noise.normal(f"{phase} data", *latent)
        return e_mask, e_data, noise.normal(f"{phase} imputer", x.size, self.layout.width)

    def critic_losses(self, x: Rows, noise: Noise) -> list[Tensor]:
        """Return the losses of the critics of masks, masked data and completed rows, each [R]."""
        row, mask = x.target.flat(), x.target.mask
        of_shares = noise.normal("shares", x.size, 3)
        e_mask, e_data, e_imputer = self.noise_of("critics", x, noise)
        with torch.no_grad():
            fake_mask, fake_row = self.fake_masks(e_mask), self.fake_rows(e_data)
            completed = self.complete(row, mask, e_imputer)
        shares = uniform(of_shares).split(1, dim=-1)
        penalty = self.parameters_set["gradient_penalty"]
        real_data, fake_data = self.mask_row(row, mask), self.mask_row(fake_row, fake_mask)
        return [
            critic_loss(self.mask_critic, mask, fake_mask, shares[0], penalty),
            critic_loss(self.data_critic, real_data, fake_data, shares[1], penalty),
            critic_loss(self.imputer_critic, fake_row, completed, shares[2], penalty),
        ]

    def generator_losses(self, x: Rows, noise: Noise) -> list[Tensor]:
        """Return the losses of the mask generator, the data generator and the imputer, each [R].

        ``-E D_m(m') - alpha E D_x(f(x', m'))``, ``-E D_x(f(x', m')) + beta E D_i(x')`` and ``-E D_i(completed)`` for
        generated masks m' and data x'; each depends on the parameters of its own network alone.
        """
        alpha, beta = self.parameters_set["alpha"], self.parameters_set["beta"]
        e_mask, e_data, e_imputer = self.noise_of("generators", x, noise)
        fake_mask, fake_row = self.fake_masks(e_mask), self.fake_rows(e_data)
        completed = self.complete(x.target.flat(), x.target.mask, e_imputer)
        for_mask = score(self.data_critic, self.mask_row(fake_row.detach(), fake_mask))
        for_data = score(self.data_critic, self.mask_row(fake_row, fake_mask.detach()))
        return [
            -score(self.mask_critic, fake_mask) - alpha * for_mask,
            -for_data + beta * score(self.imputer_critic, fake_row),
            -score(self.imputer_critic, completed),
        ]

    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Return the mean of ``draws`` completions, at least ten."""
        rows, width = x.size, self.layout.width
        row, mask = x.target.flat(), x.target.mask
        draws = max(draws, LEAST_DRAWS)
        at_a_time = max(1, min(DRAWS_AT_A_TIME, CHUNK_FLOATS // max(1, rows * width)))
        total, done = torch.zeros_like(row), 0
        while done < draws:
            count = min(at_a_time, draws - done)
            e = noise.normal("imputer", count * rows, width)
            completed = self.complete(row.repeat(1, count, 1), mask.repeat(1, count, 1), e)
            total = total + completed.unflatten(1, (count, rows)).sum(1)
            done += count
        return split_row(total / draws, self.layout), {}


def group(networks: Sequence[ReluNetwork], learning_rate: float) -> dict[str, Any]:
    """Return the parameter group of some networks for Adam with the authors' momenta."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    return {"params": parameters, "lr": learning_rate, "betas": BETAS}


class MisGAN(NeuralStackedMethod):
    """MisGAN with imputer.

    A budget's ``steps`` are steps of the generators, each after ``critic_steps`` steps of the critics on batches of
    their own; its ``epochs`` are passes over the data, by the critics' batches, as in the authors' code.
    """

    name = "misgan"
    summary = "MisGAN: generators of masks and data and an imputer, against Wasserstein critics"
    version = 2
    network = MisGANNetwork
    tunable = {
        "learning_rate": ("log", 3e-5, 3e-3),
        "imputer_learning_rate": ("log", 3e-5, 3e-3),
    }
    parameter_sets = {
        "default": {
            "scaling": "minmax",
            "softmax": True,
            "mask_in_imputer": True,
            "alpha": 0.1,
            "beta": 0.1,
            "tau": 0.0,
            "gradient_penalty": 10.0,
            "critic_steps": 5,
            "batch": 64,
            "latent": 128,
            "least_width": 256,
            "most_width": 512,
            "mask_temperature": 0.66,
            "mask_stretch": 0.1,
            "learning_rate": 1e-4,
            "imputer_learning_rate": 2e-4,
            "clip_norm": None,
        },
        "literal": {"softmax": False, "mask_in_imputer": False, "beta": 0.0},
        #: The authors' widths, which are those for MNIST.
        "authors": {"least_width": 512},
    }
