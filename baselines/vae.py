"""VAE (Kingma and Welling 2014) on whole rows: hidden entries are 0, the mask is not given (VSAE appendix D).

The appendix leaves open what stands in hidden entries: the parameter ``fill`` is ``zero``, or ``noise`` drawn anew each
time.
"""

from __future__ import annotations

from bench.neural.blocks import Layout
from bench.neural.joint import JointNetwork
from bench.neural.method import LatentStackedMethod


class VAE(LatentStackedMethod):
    """Variational autoencoder, trained on the observed entries."""

    name = "vae"
    summary = "Variational autoencoder on whole rows, without the mask"
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
            "kl_warm_up": False,
            "kl_weight": 1.0,
            "input_dropout": 0.0,
            "importance_weights": True,
            "learning_rate": None,
            "clip_norm": None,
        },
    }

    def build(self, layout: Layout, replicas: int) -> JointNetwork:
        """Return the untrained stack."""
        return JointNetwork(layout, replicas, self.parameters)
