"""MIWAE: Mattei and Frellsen, "MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets", ICML 2019.

A VAE on whole rows trained on an importance-weighted bound (their Eq. 4; Burda et al. 2016) with K samples::

    log p(x_o) >= E log 1/K sum_k r_k,    r_k = p(x_o | z_k) p(z_k) / q(z_k | x_o),    z_k ~ q(z | x_o)

The gradient goes through samples and weights. The tunable ``kl_weight`` multiplies log p(z) - log q(z | x_o); away from
1 this is no bound. The authors' Student-t decoder is left out: numbers have the Gaussian heads the other methods have.
As theirs, the KL is not warmed up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.neural.gaussian import Gaussian
from bench.neural.heads import Prediction
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Scale, Settings
from bench.neural.networks import data_decoder, row_encoder
from bench.neural.rows import Layout, Rows


class MIWAENetwork(LatentModel):
    """A stack of VAEs trained on the importance-weighted bound."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack."""
        super().__init__(layout, replicas, settings)
        self.samples = int(settings["importance_samples"])
        self.decoder = data_decoder(layout, replicas, self.latent, settings)
        self.encoder = row_encoder(layout, replicas, 2 * self.latent, settings, self.decoder)

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
        "default": {"fill": "zero", "importance_samples": 20, "kl_warm_up": False, "input_dropout": 0.0},
    }
