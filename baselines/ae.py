"""AE, an autoencoder on whole rows (VSAE appendix D): hidden entries are 0, the mask is not given.

What the appendix leaves open is a parameter: ``fill`` is what stands in hidden entries (``zero``, or ``noise``, which
is drawn anew each time and averaged over at imputation), and ``reconstruct`` is which entries the loss counts:
``observed``, or ``all``, which teaches the network to return the fill.

The code has VSAE's latent width and so is wider than most rows: nothing keeps the network from copying each observed
entry, and what it learns of a hidden one it learns before it does that. ``input_dropout`` hides this share of the
observed entries from the encoder in training, not from the loss (a denoising autoencoder); 0 is the paper's AE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.neural.backbone import Sizes
from bench.neural.blocks import Encoded, Imputed, Layout
from bench.neural.heads import Prediction, Target
from bench.neural.joint import JointNetwork, require_choice
from bench.neural.method import NeuralStackedMethod
from bench.neural.training import replica_noise


class AENetwork(JointNetwork):
    """A stack of autoencoders: the code is the encoder's output, and an imputation is one pass."""

    replayable = True

    def __init__(self, layout: Layout, replicas: int, parameters: Mapping[str, Any]) -> None:
        """Allocate the stack; raises BenchError on an unknown choice."""
        code = layout.attributes * Sizes.of(layout, parameters["latent"]).latent
        super().__init__(layout, replicas, parameters, encoder_outputs=code)
        self.everything = require_choice("reconstruct", parameters["reconstruct"], ("observed", "all")) == "all"

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise for hidden entries, where they are filled with it."""
        return self.fill_noise(rows)

    def reconstruct(self, batch: Encoded, fill: Tensor | None, training: bool) -> Prediction:
        """Return the decoded code of each row, [R, 1, b, ...]."""
        return self.decode(self.encode(batch, training, fill)[:, None], batch.observed, training)

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool) -> Tensor:
        """Return the negative log-likelihood of the entries that count."""
        prediction = self.reconstruct(batch, noise.get("fill"), training=True)
        if not self.everything:
            return -self.log_observed(prediction, batch).flatten(1).mean(1)
        target = Target(batch.numeric[:, None], batch.categorical[:, None], tuple(b[:, None] for b in batch.blocks))
        return -self.decoder.heads.log_prob(prediction, target).sum(-1).flatten(1).mean(1)

    @torch.no_grad()
    def impute(
        self, batch: Encoded, draws: int, generators: Sequence[torch.Generator]
    ) -> tuple[Imputed, dict[str, Tensor]]:
        """Return the output of one pass, or the mean of ``draws`` passes where hidden entries are filled with noise."""
        device = str(batch.observed.device)
        shapes = self.fill_noise(batch.observed.shape[1])
        passes = draws if shapes else 1
        total: Imputed | None = None
        for _ in range(passes):
            noise = {name: replica_noise(shape, generators, device) for name, shape in shapes.items()}
            output = self.reconstruct(batch, noise.get("fill"), training=False).expectation()
            new = Imputed(output.numeric[:, 0], output.categorical[:, 0], tuple(b[:, 0] for b in output.blocks))
            total = (
                new
                if total is None
                else Imputed(
                    total.numeric + new.numeric,
                    total.categorical + new.categorical,
                    tuple(old + block for old, block in zip(total.blocks, new.blocks, strict=True)),
                )
            )
        assert total is not None
        blocks = tuple(block / passes for block in total.blocks)
        return Imputed(total.numeric / passes, total.categorical / passes, blocks), {}


class AE(NeuralStackedMethod):
    """Autoencoder, trained on the observed entries."""

    name = "ae"
    summary = "Autoencoder on whole rows, without the mask"
    version = 1
    kinds = ("numeric", "categorical", "image", "features")
    requires = ("torch",)
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
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
            "reconstruct": "observed",
            "input_dropout": 0.0,
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
            "reconstruct": "observed",
            "input_dropout": 0.0,
            "learning_rate": None,
            "clip_norm": None,
        },
    }

    def build(self, layout: Layout, replicas: int) -> AENetwork:
        """Return the untrained stack."""
        return AENetwork(layout, replicas, self.parameters)
