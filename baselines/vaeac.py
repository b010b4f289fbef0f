"""VAEAC (Ivanov et al. 2019): what is hidden is generated given what is observed, by a learned prior p(z | x_o, m).

Real data lack entries, so in training an extra mask hides a share of the observed ones (``hidden_share``) from the
prior network, and these alone are scored; the proposal sees them. As in the authors' code the decoder also sees
features of the prior network, hyperpriors keep the prior's means and spreads from growing without bound, and an
imputation averages draws from the prior. ``importance_weights`` would weight these by p(x_o | z); the decoder is not
trained on entries that the prior network sees, so it is off.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.neural.gaussian import Gaussian
from bench.neural.heads import Prediction
from bench.neural.method import DrawingMethod, VariationalMethod
from bench.neural.model import LatentModel, Noise, Notes, Scale, Settings
from bench.neural.networks import BankedMLP, beside, chosen_at_random, data_decoder, row_encoder
from bench.neural.rows import Imputed, Layout, Rows

#: The authors' hyperpriors: spread of the normal one of the prior's means, rate of the gamma one of its spreads.
MEAN_SPREAD = 1e4
SPREAD_RATE = 1e-4


class VAEACNetwork(LatentModel):
    """A stack of VAEACs: the encoder is the prior network, whose features the decoder sees beside z."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack."""
        super().__init__(layout, replicas, settings)
        features, masks = self.sizes.decoder, 2 * layout.attributes
        self.decoder = data_decoder(layout, replicas, self.latent + features, settings)
        self.encoder = row_encoder(
            layout, replicas, 2 * self.latent + features, settings, self.decoder, condition=layout.attributes
        )
        self.proposal_network = BankedMLP(
            (replicas,),
            layout.width + masks,
            [self.sizes.collective_encoder] * 3,
            2 * self.latent,
            inputs_used=torch.tensor(layout.width_used + masks, device="cpu"),
        )
        self.hidden_share = settings["hidden_share"]

    def prior_and_features(self, x: Rows, shown: Tensor) -> tuple[Gaussian, Tensor]:
        """Return p(z | x_shown, shown) [R, b, latent] and the decoder's condition [R, b, features]."""
        flat = x.target.flat()
        inputs = torch.where(shown[..., self.layout.owner], flat, 0.0)
        raw = self.encoder(torch.cat([inputs, shown.to(flat.dtype)], dim=-1))
        return Gaussian.from_raw(raw[..., : 2 * self.latent]), raw[..., 2 * self.latent :]

    def proposal_given(self, x: Rows, shown: Tensor) -> Gaussian:
        """Return q(z | x_o, shown), [R, b, latent]: it sees all observed entries and which of them the prior sees."""
        flat = x.target.flat()
        return Gaussian.from_raw(self.proposal_network(torch.cat([flat, x.target.mask, shown.to(flat.dtype)], dim=-1)))

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return the bound on log p(x_hidden | x_shown), and the hyperpriors."""
        e = noise.normal("latent", 1, x.size, self.latent)
        extra = noise.normal("extra", x.size, self.layout.attributes)
        hidden = x.observed & chosen_at_random(extra, self.hidden_share)
        shown = x.observed & ~hidden
        prior, features = self.prior_and_features(x, shown)
        q = self.proposal_given(x, shown)
        prediction = self.decoder(beside(q.sample(e), features))
        log_data = self.heads.log_prob(prediction, x.target)
        log_hidden = torch.where(hidden[:, None], log_data, 0.0).sum(-1).mean(1)
        return log_hidden - beta * q.kl(prior) + log_hyperprior(prior)

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        """Return decoded draws from the prior network; their weights are equal, or p(x_o | z) where asked for."""
        prior, features = self.prior_and_features(x, x.observed)
        z = prior.sample(noise.normal("latent", draws, x.size, self.latent))
        prediction = self.decoder(beside(z, features))
        log_weight = self.log_observed(prediction, x)
        if not self.importance_weights:
            log_weight = torch.zeros_like(log_weight)
        return log_weight, prediction, {"kl": prior.kl_to_standard(), "kl_blocks": prior.kl_per_dimension()}

    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Impute with draws from the prior network; the notes hold no bound, since this model has none of x_o."""
        imputed, notes = super().impute(x, draws, noise)
        return imputed, {name: note for name, note in notes.items() if name != "bound"}


def log_hyperprior(prior: Gaussian) -> Tensor:
    """Return the log-density, up to a constant, of the prior's means and spreads under their hyperpriors, [R, b]."""
    log_spread = 0.5 * prior.log_variance
    of_means = -0.5 * (prior.mean / MEAN_SPREAD) ** 2
    return (of_means + SPREAD_RATE * (log_spread - log_spread.exp())).sum(-1)


class VAEAC(VariationalMethod, DrawingMethod):
    """Variational autoencoder with arbitrary conditioning."""

    name = "vaeac"
    summary = "VAEAC: conditional variational autoencoder with a learned prior p(z | observed entries, mask)"
    version = 1
    network = VAEACNetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "hidden_share": ("uniform", 0.1, 0.6),
    }
    parameter_sets = {"default": {"hidden_share": 0.2, "importance_weights": False}}
