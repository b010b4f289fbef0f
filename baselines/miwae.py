"""MIWAE (Mattei and Frellsen 2019): a VAE on whole rows trained on an importance-weighted bound of log p(x_o).

The authors' Student-t decoder is left out: numbers have the Gaussian heads the other methods have. As theirs, the KL is
not warmed up.
"""

from __future__ import annotations

from bench.neural.blocks import Layout
from bench.neural.method import LatentStackedMethod
from bench.neural.weighted_bound import ImportanceWeightedNetwork


class MIWAE(LatentStackedMethod):
    """Missing data importance-weighted autoencoder."""

    name = "miwae"
    summary = "MIWAE: variational autoencoder trained on an importance-weighted bound of the observed entries"
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
            "importance_samples": 20,
            "kl_warm_up": False,
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
            "importance_samples": 20,
            "kl_warm_up": False,
            "kl_weight": 1.0,
            "input_dropout": 0.0,
            "importance_weights": True,
            "learning_rate": None,
            "clip_norm": None,
        },
    }

    def build(self, layout: Layout, replicas: int) -> ImportanceWeightedNetwork:
        """Return the untrained stack."""
        return ImportanceWeightedNetwork(layout, replicas, self.parameters)
