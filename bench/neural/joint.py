"""Models with one encoder over the whole row: what AE, VAE, CVAE, MIWAE and their relatives share.

They have VSAE's backbone and latent width and at least as many parameters (VSAE appendix C and D): the encoder is
widened until they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError, closest
from bench.neural.backbone import DataDecoder, Sizes, unflatten_draws, vsae_parameter_count
from bench.neural.blocks import Encoded, Layout
from bench.neural.heads import Heads, Prediction, Target
from bench.neural.importance import LatentNetwork, map_prediction
from bench.neural.latent import Gaussian, standard_log_density
from bench.neural.layers import BankedMLP, parameter_count
from bench.neural.training import replica_noise


def require_choice(parameter: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return the value of a parameter as one of its choices; raises BenchError on another."""
    if value not in choices:
        raise BenchError(f"unknown {parameter} = {value!r}.{closest(str(value), choices)}")
    return str(value)


def joint_encoder(
    layout: Layout, replicas: int, sizes: Sizes, outputs: int, extra_inputs: int, at_least: int
) -> BankedMLP:
    """Return a three-layer encoder of the whole row, as wide as it takes to have ``at_least`` parameters.

    ``extra_inputs`` columns (such as the mask) follow the encoded attributes.
    """

    def build(width: int, replicas: int) -> BankedMLP:
        used = torch.tensor(layout.width_used + extra_inputs, device="cpu")
        return BankedMLP((replicas,), layout.width + extra_inputs, [width] * 3, outputs, inputs_used=used)

    width = sizes.collective_encoder
    with torch.device("meta"):
        while parameter_count(build(width, 1)) < at_least:
            width += 4
    return build(width, replicas)


class JointNetwork(LatentNetwork):
    """A stack of variational autoencoders on whole rows, hidden entries 0; the mask may condition encoder and decoder.

    Its loss is the negative ELBO on observed entries: ``-(E_q sum_O log p(x_i | z[, m]) - KL(q || p(z)))``. With
    ``fill = "noise"`` hidden entries are standard normal noise instead of 0. ``kl_weight`` and ``input_dropout`` are
    numbers or one a replica, [R, 1].
    """

    replayable = True

    def __init__(
        self,
        layout: Layout,
        replicas: int,
        parameters: Mapping[str, Any],
        *,
        mask_in_encoder: bool = False,
        mask_in_decoder: bool = False,
        encoder_outputs: int | None = None,
        condition: int | None = None,
    ) -> None:
        """Allocate the stack; ``encoder_outputs`` is twice the latent width unless said otherwise.

        ``condition`` is the width of what the decoder is given beside z: that of the mask, or nothing, unless said.
        Raises BenchError on an unknown ``fill``.
        """
        super().__init__()
        self.layout, self.replicas = layout, replicas
        self.mask_in_encoder, self.mask_in_decoder = mask_in_encoder, mask_in_decoder
        self.importance_weights = parameters.get("importance_weights", True)
        self.kl_warm_up = parameters.get("kl_warm_up", False)
        self.kl_weight: float | Tensor = parameters.get("kl_weight", 1.0)
        self.input_dropout = parameters.get("input_dropout", 0.0)
        self.noisy_fill = require_choice("fill", parameters.get("fill", "zero"), ("zero", "noise")) == "noise"
        sizes = Sizes.of(layout, parameters.get("latent"))
        self.sizes, self.latent = sizes, layout.attributes * sizes.latent
        if condition is None:
            condition = layout.attributes if mask_in_decoder else 0
        heads = Heads(layout, replicas, parameters["learned_scale"], parameters["scale_floor"])
        self.decoder = DataDecoder(
            layout, replicas, self.latent + condition, sizes.decoder, heads, literal=parameters["decoder_literal"]
        )
        self.encoder = joint_encoder(
            layout,
            replicas,
            sizes,
            encoder_outputs or 2 * self.latent,
            layout.attributes if mask_in_encoder else 0,
            at_least=vsae_parameter_count(layout, sizes) - parameter_count(self.decoder),
        )
        self.width_per_draw = layout.width + self.latent + 3 * sizes.decoder

    def encode(self, batch: Encoded, training: bool, fill: Tensor | None = None) -> Tensor:
        """Return the encoder's raw output, [R, b, outputs]; hidden entries are 0, or ``fill`` [R, b, width]."""
        shown = batch.shown
        flat = shown.flat()
        if fill is not None:
            flat = torch.where(shown.observed[..., self.layout.owner], flat, fill * self.layout.used)
        if self.mask_in_encoder:
            flat = torch.cat([flat, shown.observed.to(flat.dtype)], dim=-1)
        raw: Tensor = self.encoder(flat, None, training)
        return raw

    def proposal(self, batch: Encoded, training: bool, fill: Tensor | None = None) -> Gaussian:
        """Return q(z | x_o[, m]), [R, b, latent]."""
        return Gaussian.from_raw(self.encode(batch, training, fill))

    def prior(self, batch: Encoded, training: bool) -> Gaussian | None:
        """Return the prior of z for each row, [R, b, latent]; None stands for N(0, I)."""
        return None

    def decode(self, z: Tensor, observed: Tensor, training: bool) -> Prediction:
        """Decode ``z`` [R, k, b, latent] under the mask [R, b, M] to a prediction [R, k, b, ...]."""
        return self.decode_given(z, observed.to(z.dtype) if self.mask_in_decoder else None, training)

    def decode_given(self, z: Tensor, condition: Tensor | None, training: bool) -> Prediction:
        """Decode ``z`` [R, k, b, latent] beside a condition [R, b, c] to a prediction [R, k, b, ...]."""
        draws = z.shape[1]
        flat = z.flatten(1, 2)
        if condition is not None:
            flat = torch.cat([flat, condition[:, None].expand(-1, draws, -1, -1).flatten(1, 2)], dim=-1)
        prediction: Prediction = self.decoder(flat, training)
        return unflatten_draws(prediction, draws)

    def log_observed(self, prediction: Prediction, batch: Encoded) -> Tensor:
        """Return log p(x_o | z) per draw, [R, k, b], of a prediction [R, k, b, ...]."""
        target = Target(batch.numeric[:, None], batch.categorical[:, None], tuple(b[:, None] for b in batch.blocks))
        log_data = self.decoder.heads.log_prob(prediction, target)
        return torch.where(batch.observed[:, None], log_data, 0.0).sum(-1)

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise for one draw of z per row, and for hidden entries where they are filled with it."""
        return {"latent": (1, rows, self.latent), **self.fill_noise(rows)}

    def fill_noise(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise for hidden entries, if they are filled with it."""
        return {"fill": (rows, self.layout.width)} if self.noisy_fill else {}

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool) -> Tensor:
        """Return the negative ELBO on observed entries."""
        proposal = self.proposal(batch, training=True, fill=noise.get("fill"))
        z = self.sample(proposal, noise["latent"])
        log_observed = self.log_observed(self.decode(z, batch.shown.observed, training=True), batch).mean(1)
        weight = self.kl_weight * (progress if self.kl_warm_up else 1.0)
        return -(log_observed - weight * self.kl(proposal, self.prior(batch, training=True))).mean(1)

    def generate(self, batch: Encoded, generators: Sequence[torch.Generator]) -> Prediction:
        """Decode z from the prior; where the mask is a condition it says that everything is observed."""
        told = replace(batch, observed=torch.ones_like(batch.observed))
        rows, device = batch.observed.shape[1], str(batch.observed.device)
        z = replica_noise((rows, self.latent), generators, device)
        prior = self.prior(told, training=False)
        if prior is not None:
            z = prior.sample(z)
        decoded = self.decode(z[:, None], told.observed, training=False)
        return map_prediction(lambda tensor: tensor.squeeze(1), decoded)

    @staticmethod
    def sample(proposal: Gaussian, noise: Tensor) -> Tensor:
        """Return samples [R, k, b, latent] for noise of that shape."""
        return Gaussian(proposal.mean[:, None], proposal.log_variance[:, None]).sample(noise)

    @staticmethod
    def kl(proposal: Gaussian, prior: Gaussian | None) -> Tensor:
        """Return KL(q || prior), [R, b]; None stands for N(0, I)."""
        return proposal.kl_to_standard() if prior is None else proposal.kl_to(prior)

    @staticmethod
    def log_prior_ratio(proposal: Gaussian, z: Tensor, prior: Gaussian | None = None) -> Tensor:
        """Return log p(z) - log q(z | x_o) of samples [R, k, b, latent]; the prior is N(0, I) unless given."""
        log_proposal = Gaussian(proposal.mean[:, None], proposal.log_variance[:, None]).log_density(z)
        if prior is None:
            return standard_log_density(z) - log_proposal
        return Gaussian(prior.mean[:, None], prior.log_variance[:, None]).log_density(z) - log_proposal

    def proposal_noise(self, rows: int, draws: int) -> dict[str, tuple[int, ...]]:
        """Noise for each draw of z, and for hidden entries (once for the chunk) where they are filled with it."""
        return {"latent": (draws, rows, self.latent), **self.fill_noise(rows)}

    def propose(
        self, batch: Encoded, draws: int, noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, Prediction, dict[str, Tensor]]:
        """Return importance log-weights and the decoded draws."""
        proposal = self.proposal(batch, training=False, fill=noise.get("fill"))
        prior = self.prior(batch, training=False)
        z = self.sample(proposal, noise["latent"])
        prediction = self.decode(z, batch.observed, training=False)
        log_weight = self.log_observed(prediction, batch) + self.log_prior_ratio(proposal, z, prior)
        return log_weight, prediction, {"kl": self.kl(proposal, prior), "kl_blocks": proposal.kl_per_dimension()}
