"""AE, an autoencoder on whole rows (VSAE appendix D): hidden entries are 0, the mask is not given.

With the code f(x_o) and the decoder's distribution of each attribute, the loss is::

    - sum_{i in O} log p(x_i | z = f(x_o))

What the appendix leaves open is a parameter: ``fill`` is what stands in hidden entries (``zero``, or ``noise``, which
is drawn again each time and averaged over at imputation), and ``reconstruct`` is which entries the loss counts:
``observed``, or ``all``, which teaches the network to return the fill.

The code has VSAE's latent width and so is wider than most rows: nothing keeps the network from copying each observed
entry, and what it learns of a hidden one it learns before it does that. ``input_dropout`` hides this share of the
observed entries from the encoder in training, not from the loss (a denoising autoencoder); 0 is the paper's AE.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.neural.heads import Prediction
from bench.neural.method import NeuralStackedMethod
from bench.neural.model import Network, Noise, Notes, Settings, Warmup, require_choice
from bench.neural.networks import Sizes, data_decoder, row_encoder
from bench.neural.rows import Imputed, Layout, Rows


class AENetwork(Network):
    """A stack of autoencoders: the code is the encoder's output, and an imputation is one pass."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack; raises BenchError on an unknown choice."""
        super().__init__(layout, replicas, settings)
        self.latent = layout.attributes * Sizes.of(layout, settings["latent"]).latent
        self.decoder = data_decoder(layout, replicas, self.latent, settings)
        self.encoder = row_encoder(layout, replicas, self.latent, settings, self.decoder)
        self.everything = require_choice("reconstruct", settings["reconstruct"], ("observed", "all")) == "all"

    def p_x(self, x: Rows) -> Prediction:
        """Return p(x | z = f(x_o)), [R, b, ...]."""
        return self.decoder(self.encoder(x.input.flat()))

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the negative log-likelihood of the entries that count, the mean over the rows."""
        log_p = self.decoder.heads.log_prob(self.p_x(x), x.target)
        counted = log_p if self.everything else torch.where(x.observed, log_p, 0.0)
        return -counted.sum(-1).mean(1)

    @torch.no_grad()
    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Return the output of one pass, or the mean of ``draws`` passes where hidden entries are filled with noise."""
        passes = draws if self.noisy_fill else 1
        return Imputed.mean_of(self.p_x(self.given(x, noise)).expectation() for _ in range(passes)), {}


class AE(NeuralStackedMethod):
    """Autoencoder, trained on the observed entries."""

    name = "ae"
    summary = "Autoencoder on whole rows, without the mask"
    version = 1
    network = AENetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {
        "default": {
            "learned_scale": True,
            "scale_floor": 1e-3,
            "decoder_literal": False,
            "latent": None,
            "fill": "zero",
            "reconstruct": "observed",
            "input_dropout": 0.0,
        },
        "literal": {"scaling": "minmax", "learned_scale": False, "decoder_literal": True, "clip_norm": None},
    }
