"""VAEAC (Ivanov et al. 2019): what is hidden is generated given what is observed, by a learned prior p(z | x_o, m).

Real data lack entries, so in training an extra mask hides a share of the observed ones (``hidden_share``) from the
prior network, and these alone are scored; the proposal sees them. As in the authors' code the decoder also sees
features of the prior network, hyperpriors keep the prior's means and spreads from growing without bound, and an
imputation averages draws from the prior. ``importance_weights`` would weight these by p(x_o | z); the decoder is not
trained on entries that the prior network sees, so it is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.neural.backbone import Sizes
from bench.neural.blocks import Encoded, Imputed, Layout
from bench.neural.heads import Prediction, Target
from bench.neural.joint import JointNetwork
from bench.neural.latent import Gaussian
from bench.neural.layers import BankedMLP, chosen_at_random
from bench.neural.method import NeuralStackedMethod

#: The authors' hyperpriors: spread of the normal one of the prior's means, rate of the gamma one of its spreads.
MEAN_SPREAD = 1e4
SPREAD_RATE = 1e-4


class VAEACNetwork(JointNetwork):
    """A stack of VAEACs: the encoder is the prior network, whose features the decoder sees beside z."""

    replayable = True

    def __init__(self, layout: Layout, replicas: int, parameters: Mapping[str, Any]) -> None:
        """Allocate the stack."""
        sizes = Sizes.of(layout, parameters["latent"])
        latent, features = layout.attributes * sizes.latent, sizes.decoder
        super().__init__(
            layout,
            replicas,
            parameters,
            mask_in_encoder=True,
            encoder_outputs=2 * latent + features,
            condition=features,
        )
        extra = 2 * layout.attributes
        self.proposal_network = BankedMLP(
            (replicas,),
            layout.width + extra,
            [sizes.collective_encoder] * 3,
            2 * latent,
            inputs_used=torch.tensor(layout.width_used + extra, device="cpu"),
        )
        self.hidden_share = parameters["hidden_share"]

    def prior_and_features(self, flat: Tensor, shown: Tensor, training: bool) -> tuple[Gaussian, Tensor]:
        """Return p(z | x_shown, shown) [R, b, latent] and the decoder's condition [R, b, features]."""
        inputs = torch.where(shown[..., self.layout.owner], flat, 0.0)
        raw: Tensor = self.encoder(torch.cat([inputs, shown.to(flat.dtype)], dim=-1), None, training)
        return Gaussian.from_raw(raw[..., : 2 * self.latent]), raw[..., 2 * self.latent :]

    def proposal_given(self, batch: Encoded, shown: Tensor, training: bool) -> Gaussian:
        """Return q(z | x_o, shown), [R, b, latent]: it sees all observed entries and which of them the prior sees."""
        flat = batch.flat()
        inputs = [flat, batch.observed.to(flat.dtype), shown.to(flat.dtype)]
        raw: Tensor = self.proposal_network(torch.cat(inputs, dim=-1), None, training)
        return Gaussian.from_raw(raw)

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise for one draw of z per row and for the extra mask."""
        return {"latent": (1, rows, self.latent), "extra": (rows, self.layout.attributes)}

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool) -> Tensor:
        """Return the negative bound on log p(x_hidden | x_shown), less the hyperpriors."""
        hidden = batch.observed & chosen_at_random(noise["extra"], self.hidden_share)
        shown = batch.observed & ~hidden
        prior, features = self.prior_and_features(batch.flat(), shown, training=True)
        proposal = self.proposal_given(batch, shown, training=True)
        prediction = self.decode_given(self.sample(proposal, noise["latent"]), features, training=True)
        target = Target(batch.numeric[:, None], batch.categorical[:, None], tuple(b[:, None] for b in batch.blocks))
        log_data = self.decoder.heads.log_prob(prediction, target)
        log_hidden = torch.where(hidden[:, None], log_data, 0.0).sum(-1).mean(1)
        weight = self.kl_weight * (progress if self.kl_warm_up else 1.0)
        bound = log_hidden - weight * proposal.kl_to(prior)
        return -(bound + log_hyperprior(prior)).mean(1)

    def proposal_noise(self, rows: int, draws: int) -> dict[str, tuple[int, ...]]:
        """Noise for each draw of z."""
        return {"latent": (draws, rows, self.latent)}

    def propose(
        self, batch: Encoded, draws: int, noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, Prediction, dict[str, Tensor]]:
        """Return decoded draws from the prior network; their weights are equal, or p(x_o | z) where asked for."""
        prior, features = self.prior_and_features(batch.flat(), batch.observed, training=False)
        prediction = self.decode_given(self.sample(prior, noise["latent"]), features, training=False)
        log_weight = self.log_observed(prediction, batch)
        if not self.importance_weights:
            log_weight = torch.zeros_like(log_weight)
        return log_weight, prediction, {"kl": prior.kl_to_standard(), "kl_blocks": prior.kl_per_dimension()}

    def impute(
        self, batch: Encoded, draws: int, generators: Sequence[torch.Generator]
    ) -> tuple[Imputed, dict[str, Tensor]]:
        """Impute with draws from the prior network; the notes hold no bound, since this model has none of x_o."""
        imputed, notes = super().impute(batch, draws, generators)
        return imputed, {name: note for name, note in notes.items() if name != "bound"}


def log_hyperprior(prior: Gaussian) -> Tensor:
    """Return the log-density, up to a constant, of the prior's means and spreads under their hyperpriors, [R, b]."""
    log_spread = 0.5 * prior.log_variance
    of_means = -0.5 * (prior.mean / MEAN_SPREAD) ** 2
    return (of_means + SPREAD_RATE * (log_spread - log_spread.exp())).sum(-1)


class VAEAC(NeuralStackedMethod):
    """Variational autoencoder with arbitrary conditioning."""

    name = "vaeac"
    summary = "VAEAC: conditional variational autoencoder with a learned prior p(z | observed entries, mask)"
    version = 1
    kinds = ("numeric", "categorical", "image", "features")
    requires = ("torch",)
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "hidden_share": ("uniform", 0.1, 0.6),
    }
    parameter_sets = {
        "default": {
            "scaling": "standard",
            "learned_scale": True,
            "scale_floor": 1e-3,
            "decoder_literal": False,
            "latent": None,
            "hidden_share": 0.2,
            "kl_warm_up": True,
            "kl_weight": 1.0,
            "importance_weights": False,
            "learning_rate": None,
            "clip_norm": 5.0,
        },
        "literal": {
            "scaling": "minmax",
            "learned_scale": False,
            "scale_floor": 1e-3,
            "decoder_literal": True,
            "latent": None,
            "hidden_share": 0.2,
            "kl_warm_up": False,
            "kl_weight": 1.0,
            "importance_weights": False,
            "learning_rate": None,
            "clip_norm": None,
        },
    }

    def build(self, layout: Layout, replicas: int) -> VAEACNetwork:
        """Return the untrained stack."""
        return VAEACNetwork(layout, replicas, self.parameters)
