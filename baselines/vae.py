"""VAE: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, on whole rows (VSAE appendix A and D).

Of a row with the observed entries x_o, the bound of appendix A, summed over what is observed::

    log p(x_o) >= E_q(z|x_o) [ sum_{i in O} log p(x_i | z) ] - beta KL( q(z | x_o) || N(0, I) )

The mask is not given. What stands in hidden entries of the input the appendix leaves open: the parameter ``fill`` is
``zero``, or ``noise``, drawn again each time.
"""

from __future__ import annotations

from torch import Tensor

from bench.neural.gaussian import Gaussian
from bench.neural.heads import Prediction
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Scale, Settings
from bench.neural.networks import data_decoder, row_encoder
from bench.neural.rows import Layout, Rows


class VAENetwork(LatentModel):
    """A stack of VAEs: q(z | x_o) by one encoder of the row, p(x | z) by the data decoder."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack."""
        super().__init__(layout, replicas, settings)
        self.decoder = data_decoder(layout, replicas, self.latent, settings)
        self.encoder = row_encoder(layout, replicas, 2 * self.latent, settings, self.decoder)

    def q(self, x: Rows) -> Gaussian:
        """Return q(z | x_o)."""
        return Gaussian.from_raw(self.encoder(x.input.flat()))

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z)."""
        return self.decoder(z)

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return the bound above, with one draw of z per row."""
        e = noise.normal("latent", 1, x.size, self.latent)
        q = self.q(x)
        log_p = self.log_observed(self.p_x(q.sample(e), x), x).mean(1)
        return log_p - beta * q.kl()


class VAE(LatentStackedMethod):
    """Variational autoencoder, trained on the observed entries."""

    name = "vae"
    summary = "Variational autoencoder on whole rows, without the mask"
    version = 1
    network = VAENetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {"default": {"fill": "zero", "input_dropout": 0.0}}
