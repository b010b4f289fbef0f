"""Models with one encoder over the whole row: what AE, VAE, CVAE, MIWAE and their relatives share.

They have VSAE's backbone and latent width and at least as many parameters (VSAE appendix C and D): the encoder is
widened until they do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bench.neural.backbone import DataDecoder, Sizes, unflatten_draws, vsae_parameter_count
from bench.neural.blocks import Encoded, Layout
from bench.neural.heads import Heads, Prediction, Target
from bench.neural.importance import LatentNetwork
from bench.neural.latent import Gaussian, standard_log_density
from bench.neural.layers import BankedMLP, parameter_count


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

    Its loss is the negative ELBO on observed entries: ``-(E_q sum_O log p(x_i | z[, m]) - KL(q || N(0, I)))``.
    """

    def __init__(
        self,
        layout: Layout,
        replicas: int,
        parameters: Mapping[str, Any],
        *,
        mask_in_encoder: bool = False,
        mask_in_decoder: bool = False,
        encoder_outputs: int | None = None,
    ) -> None:
        """Allocate the stack; ``encoder_outputs`` is twice the latent width unless said otherwise."""
        super().__init__()
        self.layout, self.replicas = layout, replicas
        self.mask_in_encoder, self.mask_in_decoder = mask_in_encoder, mask_in_decoder
        self.importance_weights = parameters.get("importance_weights", True)
        self.kl_warm_up = parameters.get("kl_warm_up", False)
        self.kl_weight = parameters.get("kl_weight", 1.0)
        sizes = Sizes.of(layout, parameters.get("latent"))
        self.sizes, self.latent = sizes, layout.attributes * sizes.latent
        condition = layout.attributes if mask_in_decoder else 0
        heads = Heads(layout, replicas, parameters["learned_scale"], parameters["scale_floor"])
        self.decoder = DataDecoder(
            layout, replicas, self.latent + condition, sizes.decoder, heads, literal=parameters["decoder_literal"]
        )
        self.encoder = joint_encoder(
            layout, replicas, sizes, encoder_outputs or 2 * self.latent,
            layout.attributes if mask_in_encoder else 0,
            at_least=vsae_parameter_count(layout, sizes) - parameter_count(self.decoder),
        )  # fmt: skip
        self.width_per_draw = layout.width + self.latent + 3 * sizes.decoder

    def encode(self, batch: Encoded, training: bool) -> Tensor:
        """Return the encoder's raw output for rows with 0 in hidden entries, [R, b, outputs]."""
        flat = batch.flat()
        if self.mask_in_encoder:
            flat = torch.cat([flat, batch.observed.to(flat.dtype)], dim=-1)
        raw: Tensor = self.encoder(flat, None, training)
        return raw

    def proposal(self, batch: Encoded, training: bool) -> Gaussian:
        """Return q(z | x_o[, m]), [R, b, latent]."""
        return Gaussian.from_raw(self.encode(batch, training))

    def decode(self, z: Tensor, observed: Tensor, training: bool) -> Prediction:
        """Decode ``z`` [R, k, b, latent] under the mask [R, b, M] to a prediction [R, k, b, ...]."""
        draws = z.shape[1]
        flat = z.flatten(1, 2)
        if self.mask_in_decoder:
            mask = observed.to(z.dtype)[:, None].expand(-1, draws, -1, -1).flatten(1, 2)
            flat = torch.cat([flat, mask], dim=-1)
        prediction: Prediction = self.decoder(flat, training)
        return unflatten_draws(prediction, draws)

    def log_observed(self, prediction: Prediction, batch: Encoded) -> Tensor:
        """Return log p(x_o | z) per draw, [R, k, b], of a prediction [R, k, b, ...]."""
        target = Target(batch.numeric[:, None], batch.categorical[:, None], tuple(b[:, None] for b in batch.blocks))
        log_data = self.decoder.heads.log_prob(prediction, target)
        return torch.where(batch.observed[:, None], log_data, 0.0).sum(-1)

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise for one draw of z per row."""
        return {"latent": (1, rows, self.latent)}

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float, warm: bool) -> Tensor:
        """Return the negative ELBO on observed entries."""
        proposal = self.proposal(batch, training=True)
        z = self.sample(proposal, noise["latent"])
        log_observed = self.log_observed(self.decode(z, batch.observed, training=True), batch).mean(1)
        weight = self.kl_weight * (progress if self.kl_warm_up else 1.0)
        return -(log_observed - weight * proposal.kl_to_standard()).mean(1)

    @staticmethod
    def sample(proposal: Gaussian, noise: Tensor) -> Tensor:
        """Return samples [R, k, b, latent] for noise of that shape."""
        return Gaussian(proposal.mean[:, None], proposal.log_variance[:, None]).sample(noise)

    @staticmethod
    def log_prior_ratio(proposal: Gaussian, z: Tensor) -> Tensor:
        """Return log p(z) - log q(z | x_o) of samples [R, k, b, latent]."""
        expanded = Gaussian(proposal.mean[:, None], proposal.log_variance[:, None])
        return standard_log_density(z) - expanded.log_density(z)

    def proposal_noise(self, rows: int, draws: int) -> dict[str, tuple[int, ...]]:
        """Noise for each draw of z."""
        return {"latent": (draws, rows, self.latent)}

    def propose(
        self, batch: Encoded, draws: int, noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, Prediction, dict[str, Tensor]]:
        """Return importance log-weights and the decoded draws."""
        proposal = self.proposal(batch, training=False)
        z = self.sample(proposal, noise["latent"])
        prediction = self.decode(z, batch.observed, training=False)
        log_weight = self.log_observed(prediction, batch) + self.log_prior_ratio(proposal, z)
        return log_weight, prediction, {"kl": proposal.kl_to_standard()}
