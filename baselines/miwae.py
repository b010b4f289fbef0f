"""MIWAE: Mattei and Frellsen, "MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets", ICML 2019.

A VAE on whole rows trained on an importance-weighted bound (their Eq. 4; Burda et al. 2016) with K samples::

    log p(x_o) >= E log 1/K sum_k r_k,    r_k = p(x_o | z_k) p(z_k) / q(z_k | x_o),    z_k ~ q(z | x_o)

The gradient goes through samples and weights. The tunable ``kl_weight`` multiplies log p(z) - log q(z | x_o); away from
1 this is no bound. As theirs, the KL is not warmed up.

``default`` has the networks of the other methods (VSAE appendix C and D), with Gaussian numbers. ``authors`` has those
of the authors' code for tables (github.com/pamattei/miwae): two layers of 128 units with ReLU, a latent width of half
the attributes, orthogonal weights, and for numbers Student's t, of which location, scale and degrees of freedom are
decoded.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from bench.errors import BenchError
from bench.neural.gaussian import Gaussian
from bench.neural.heads import Heads, Prediction
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Scale, Settings, require_choice
from bench.neural.networks import BankedMLP, DataDecoder, data_decoder, row_encoder
from bench.neural.rows import Layout, Rows

#: Hidden layers of the authors' encoder and decoder.
HIDDEN = (128, 128)
#: Least degrees of freedom in the authors' code: variance and skewness stay finite.
LEAST_DEGREES = 3.0


class StudentHeads(Heads):
    """Student-t numbers whose scale and degrees of freedom are decoded too; categories as everywhere."""

    def forward(self, scalars: Tensor, blocks: tuple[Tensor, ...]) -> Prediction:
        """Read the raw output [R, ..., scalar width + 2 numeric]: behind the usual columns, scales and degrees."""
        numeric = self.layout.numeric
        usual, raw_scale, raw_degrees = scalars.split((self.layout.scalar_width, numeric, numeric), dim=-1)
        floor = self.scale_floor
        if isinstance(floor, Tensor):
            floor = floor.view(-1, *(1,) * (scalars.dim() - 1))
        return replace(
            super().forward(usual, blocks),
            log_scales=torch.log(functional.softplus(raw_scale) + floor),
            degrees=LEAST_DEGREES + functional.softplus(raw_degrees),
        )


class StudentDecoder(DataDecoder):
    """The authors' decoder of a table: one network for the parameters of all attributes."""

    def __init__(self, layout: Layout, replicas: int, inputs: int, settings: Settings) -> None:
        """Allocate the network; raises BenchError on images and features, of which the authors' code knows nothing."""
        if layout.block_groups:
            raise BenchError("networks = 'authors' of miwae is for numbers and categories; on images take 'shared'")
        heads = StudentHeads(layout, replicas, learned_scale=False, scale_floor=settings["scale_floor"])
        super().__init__(layout, replicas, inputs, HIDDEN[0], heads)
        own = 2 * layout.numeric
        self.scalars = BankedMLP(
            (replicas,),
            inputs,
            HIDDEN,
            layout.scalar_width + own,
            slope=0.0,
            outputs_used=layout.scalar_width_used + own,
        )


class MIWAENetwork(LatentModel):
    """A stack of VAEs trained on the importance-weighted bound."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack."""
        super().__init__(layout, replicas, settings)
        self.samples = int(settings["importance_samples"])
        if require_choice("networks", settings.get("networks", "shared"), ("shared", "authors")) == "shared":
            self.decoder = data_decoder(layout, replicas, self.latent, settings)
            self.encoder = row_encoder(layout, replicas, 2 * self.latent, settings, self.decoder)
            return
        self.latent = max(1, layout.attributes // 2)
        self.decoder = StudentDecoder(layout, replicas, self.latent, settings)
        used = torch.tensor(layout.width_used, device="cpu")
        self.encoder = BankedMLP((replicas,), layout.width, HIDDEN, 2 * self.latent, slope=0.0, inputs_used=used)

    def q(self, x: Rows) -> Gaussian:
        """Return q(z | x_o)."""
        return Gaussian.from_raw(self.encoder(x.input.flat()))

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z)."""
        return self.decoder(z)

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return the bound above, with K draws of z per row."""
        log_r, _, _ = self.log_weights(x, noise.normal("latent", self.samples, x.size, self.latent), beta)
        return torch.logsumexp(log_r, dim=1) - math.log(self.samples)


class MIWAE(LatentStackedMethod):
    """Missing data importance-weighted autoencoder."""

    name = "miwae"
    summary = "MIWAE: variational autoencoder trained on an importance-weighted bound of the observed entries"
    version = 1
    network = MIWAENetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {
        "default": {
            "fill": "zero",
            "importance_samples": 20,
            "kl_warm_up": False,
            "input_dropout": 0.0,
        },
        "authors": {"networks": "authors", "initialisation": "orthogonal", "learning_rate": 1e-3},
    }
