"""CVAE w/ mask (VSAE appendix D): Sohn, Lee and Yan, NeurIPS 2015, with the mask m as the condition.

Encoder and decoder both see the mask. The bound on log p(x_o | m)::

    E_q(z|x_o,m) [ sum_{i in O} log p(x_i | z, m) ] - beta KL( q(z | x_o, m) || p(z | m) )

The appendix leaves the prior open: the parameter ``prior`` is ``standard``, p(z | m) = N(0, I), or ``mask``, a Gaussian
that a small network gives for the row's mask.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.neural.gaussian import Gaussian
from bench.neural.heads import Prediction
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Scale, Settings, require_choice
from bench.neural.networks import BankedMLP, beside, data_decoder, row_encoder
from bench.neural.rows import Layout, Rows

#: Width of the two hidden layers of the network of p(z | m).
PRIOR_WIDTH = 16


class CVAENetwork(LatentModel):
    """A stack of conditional VAEs: q(z | x_o, m), p(x | z, m) and p(z) or p(z | m)."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack; raises BenchError on an unknown ``prior``."""
        super().__init__(layout, replicas, settings)
        mask = layout.attributes
        self.decoder = data_decoder(layout, replicas, self.latent + mask, settings)
        self.encoder = row_encoder(layout, replicas, 2 * self.latent, settings, self.decoder, condition=mask)
        conditional = require_choice("prior", settings["prior"], ("standard", "mask")) == "mask"
        self.p_z = BankedMLP((replicas,), mask, [PRIOR_WIDTH] * 2, 2 * self.latent) if conditional else None

    def q(self, x: Rows) -> Gaussian:
        """Return q(z | x_o, m)."""
        return Gaussian.from_raw(self.encoder(torch.cat([x.input.flat(), x.input.mask], dim=-1)))

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z, m)."""
        return self.decoder(beside(z, x.input.mask))

    def prior(self, x: Rows) -> Gaussian | None:
        """Return p(z | m), or None for N(0, I)."""
        return None if self.p_z is None else Gaussian.from_raw(self.p_z(x.input.mask))

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return the bound above, with one draw of z per row."""
        e = noise.normal("latent", 1, x.size, self.latent)
        q = self.q(x)
        log_p = self.log_observed(self.p_x(q.sample(e), x), x).mean(1)
        return log_p - beta * q.kl(self.prior(x))


class CVAE(LatentStackedMethod):
    """Conditional variational autoencoder with the mask as condition, trained on the observed entries."""

    name = "cvae"
    summary = "CVAE w/ mask: variational autoencoder on whole rows with the mask in encoder and decoder"
    version = 1
    network = CVAENetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {"default": {"fill": "zero", "prior": "standard", "input_dropout": 0.0}}
