"""The importance-weighted bound of MIWAE and its relatives (Burda et al. 2016, Mattei and Frellsen 2019)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.neural.blocks import Encoded, Layout
from bench.neural.heads import Prediction
from bench.neural.joint import JointNetwork
from bench.neural.latent import Gaussian


class ImportanceWeightedNetwork(JointNetwork):
    """A stack of VAEs on whole rows trained on a bound with K samples, K being ``importance_samples``.

    ``E log 1/K sum_k p(x_o | z_k) p(z_k) / q(z_k | x_o)``, z_k ~ q: the gradient goes through samples and weights. The
    KL weight multiplies log p(z) - log q(z | x_o); away from 1 this is no bound.
    """

    replayable = True

    def __init__(self, layout: Layout, replicas: int, parameters: Mapping[str, Any]) -> None:
        """Allocate the stack."""
        super().__init__(layout, replicas, parameters)
        self.samples = int(parameters["importance_samples"])

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise as for an imputation with K draws."""
        return self.proposal_noise(rows, self.samples)

    def log_weights(
        self, batch: Encoded, noise: Mapping[str, Tensor], training: bool, kl_weight: float | Tensor = 1.0
    ) -> tuple[Tensor, Prediction, Gaussian]:
        """Return the samples' log-weights [R, K, b], what they decode to [R, K, b, ...], and the proposal."""
        proposal = self.proposal(batch, training, noise.get("fill"))
        z = self.sample(proposal, noise["latent"])
        prediction = self.decode(z, batch.shown.observed, training)
        # One weight a replica, [R, 1], has to pass over the draws.
        weight = kl_weight[:, None] if isinstance(kl_weight, Tensor) else kl_weight
        log_weight = self.log_observed(prediction, batch) + weight * self.log_prior_ratio(proposal, z)
        return log_weight, prediction, proposal

    def bound(
        self, batch: Encoded, noise: Mapping[str, Tensor], training: bool, kl_weight: float | Tensor = 1.0
    ) -> Tensor:
        """Return the bound on the log-likelihood of each row, [R, b], with as many samples as there is noise for."""
        log_weight, _, _ = self.log_weights(batch, noise, training, kl_weight)
        return torch.logsumexp(log_weight, dim=1) - math.log(log_weight.shape[1])

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool) -> Tensor:
        """Return the negative bound."""
        weight = self.kl_weight * (progress if self.kl_warm_up else 1.0)
        return -self.bound(batch, noise, True, weight).mean(1)

    def propose(
        self, batch: Encoded, draws: int, noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, Prediction, dict[str, Tensor]]:
        """Return importance log-weights and the decoded draws."""
        log_weight, prediction, proposal = self.log_weights(batch, noise, training=False)
        return log_weight, prediction, {"kl": proposal.kl_to_standard(), "kl_blocks": proposal.kl_per_dimension()}
