"""CVAE w/ mask (VSAE appendix D): a VAE whose encoder and decoder both see the mask.

The appendix leaves the prior open: the parameter ``prior`` is ``standard``, N(0, I), or ``mask``, a Gaussian that a
small network gives for the row's mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.neural.blocks import Encoded, Layout
from bench.neural.joint import JointNetwork, require_choice
from bench.neural.latent import Gaussian
from bench.neural.layers import BankedMLP
from bench.neural.method import LatentStackedMethod

#: Width of the two hidden layers of the network of p(z | m).
PRIOR_WIDTH = 16


class CVAENetwork(JointNetwork):
    """A stack of conditional VAEs: q(z | x_o, m), p(x | z, m) and p(z) or p(z | m)."""

    replayable = True

    def __init__(self, layout: Layout, replicas: int, parameters: Mapping[str, Any]) -> None:
        """Allocate the stack; raises BenchError on an unknown choice."""
        super().__init__(layout, replicas, parameters, mask_in_encoder=True, mask_in_decoder=True)
        conditional = require_choice("prior", parameters["prior"], ("standard", "mask")) == "mask"
        self.prior_network = (
            BankedMLP((replicas,), layout.attributes, [PRIOR_WIDTH] * 2, 2 * self.latent) if conditional else None
        )

    def prior(self, batch: Encoded, training: bool) -> Gaussian | None:
        """Return p(z | m), [R, b, latent], or None for N(0, I)."""
        if self.prior_network is None:
            return None
        return Gaussian.from_raw(self.prior_network(batch.shown.observed.to(batch.numeric.dtype), None, training))


class CVAE(LatentStackedMethod):
    """Conditional variational autoencoder with the mask as condition, trained on the observed entries."""

    name = "cvae"
    summary = "CVAE w/ mask: variational autoencoder on whole rows with the mask in encoder and decoder"
    version = 1
    kinds = ("numeric", "categorical", "image", "features")
    requires = ("torch",)
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {
        "default": {
            "scaling": "standard",
            "learned_scale": True,
            "scale_floor": 1e-3,
            "decoder_literal": False,
            "latent": None,
            "fill": "zero",
            "prior": "standard",
            "kl_warm_up": True,
            "kl_weight": 1.0,
            "input_dropout": 0.0,
            "importance_weights": True,
            "learning_rate": None,
            "clip_norm": 5.0,
        },
        "literal": {
            "scaling": "minmax",
            "learned_scale": False,
            "scale_floor": 1e-3,
            "decoder_literal": True,
            "latent": None,
            "fill": "zero",
            "prior": "standard",
            "kl_warm_up": False,
            "kl_weight": 1.0,
            "input_dropout": 0.0,
            "importance_weights": True,
            "learning_rate": None,
            "clip_norm": None,
        },
    }

    def build(self, layout: Layout, replicas: int) -> CVAENetwork:
        """Return the untrained stack."""
        return CVAENetwork(layout, replicas, self.parameters)
