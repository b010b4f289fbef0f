"""VSAE, the variational selective autoencoder (Gong et al., AISTATS 2021).

What the appendix leaves open is a parameter below; ``default`` is the sensible reading and ``literal`` the appendix to
the letter: min-max scaled numbers with a squared error of unit scale, and no activation between the decoder's last
layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.neural.backbone import (
    AttributiveEncoders,
    DataDecoder,
    Sizes,
    collective_encoder,
    mask_decoder,
    unflatten_draws,
)
from bench.neural.blocks import Encoded, Layout, PackedRows
from bench.neural.heads import Heads, Prediction, Target
from bench.neural.importance import LatentNetwork
from bench.neural.latent import Gaussian, standard_log_density
from bench.neural.layers import sigmoid
from bench.neural.method import LatentStackedMethod
from bench.neural.training import replica_noise

#: Floats of decoded images and features one replica may hold while samples of x_u are drawn: what a cache holds on a
#: CPU; on a GPU, where each chunk costs launches, what its memory can spare.
IMAGINED_FLOATS = {"cpu": 2**19, "cuda": 2**26}


class VSAENetwork(LatentNetwork):
    """A stack of VSAEs: selective proposal, mask decoder, data decoder conditioned on the mask decoder's output."""

    replayable = True

    def __init__(self, layout: Layout, replicas: int, parameters: Mapping[str, Any], target_draws: int) -> None:
        """Allocate the stack (VSAE appendix C)."""
        super().__init__()
        self.layout, self.replicas, self.target_draws = layout, replicas, target_draws
        self.importance_weights = parameters["importance_weights"]
        self.kl_warm_up, self.kl_weight = parameters["kl_warm_up"], parameters["kl_weight"]
        self.input_dropout = parameters["input_dropout"]
        self.unobserved_term = parameters["unobserved_term"]
        self.draw_numbers = parameters["draw_numbers"]
        sizes = Sizes.of(layout, parameters["latent"])
        self.latent, attributes = sizes.latent, layout.attributes
        self.attributive = AttributiveEncoders(layout, replicas, sizes)
        self.collective = collective_encoder(layout, replicas, sizes)
        self.mask_decoder = mask_decoder(layout, replicas, sizes)
        self.decoder = DataDecoder(
            layout,
            replicas,
            attributes * sizes.latent + attributes,
            sizes.decoder,
            Heads(layout, replicas, parameters["learned_scale"], parameters["scale_floor"]),
            literal=parameters["decoder_literal"],
        )
        self.width_per_draw = layout.width + attributes * sizes.latent + 3 * sizes.decoder

    def proposal(self, batch: Encoded, fill: Tensor, training: bool) -> Gaussian:
        """Return q(z | x_o, m), [R, b, M, latent]: attributive where observed, collective elsewhere.

        The collective encoder sees ``fill`` [R, b, width], standard normal noise, in place of hidden attributes.
        """
        layout, given = self.layout, batch.shown
        observed = given.observed
        flat = torch.where(observed[..., layout.owner], given.flat(), fill * layout.used)
        raw = self.collective(torch.cat([flat, observed.to(flat.dtype)], dim=-1), None, training)
        collective = Gaussian.from_raw(raw.unflatten(-1, (layout.attributes, 2 * self.latent)))
        attributive = self.attributive(given, training)
        choose = observed[..., None]
        return Gaussian(
            torch.where(choose, attributive.mean, collective.mean),
            torch.where(choose, attributive.log_variance, collective.log_variance),
        )

    def decode(self, z: Tensor, training: bool) -> tuple[Tensor, Prediction]:
        """Return the mask's logits [R, n, M] and the data for latent variables [R, n, M * latent]."""
        logits = self.mask_decoder(z, None, training)
        return logits, self.decoder(torch.cat([z, sigmoid(logits)], dim=-1), training)

    def log_mask(self, logits: Tensor, observed: Tensor) -> Tensor:
        """Return log p(m | z) summed over attributes; ``logits`` may have more leading dimensions than ``observed``."""
        return functional.logsigmoid(torch.where(observed, logits, -logits)).sum(-1)

    def noise_shapes(self, rows: int) -> dict[str, tuple[int, ...]]:
        """Noise for hidden slots, for z, and for the samples behind the unobserved attributes."""
        shapes = {
            "fill": (rows, self.layout.width),
            "latent": (rows, self.layout.attributes, self.latent),
        }
        if self.unobserved_term:
            shapes["target"] = (self.target_draws, rows, self.layout.attributes, self.latent)
        return shapes

    def losses(self, batch: Encoded, noise: Mapping[str, Tensor], progress: float | Tensor, warm: bool) -> Tensor:
        """Return the negative bound of VSAE appendix B, Eq. 14; in the warm phase without its term of x_u."""
        observed = batch.observed
        proposal = self.proposal(batch, noise["fill"], training=True)
        z = proposal.sample(noise["latent"]).flatten(2)
        logits, prediction = self.decode(z, training=True)
        heads = self.decoder.heads
        log_data = heads.log_prob(prediction, Target.certain(batch))
        bound: Tensor = self.log_mask(logits, observed) + torch.where(observed, log_data, 0.0).sum(-1)
        kl_weight = self.kl_weight * (progress if self.kl_warm_up else 1.0)
        bound = bound - kl_weight * proposal.kl_to_standard().sum(-1)
        if self.unobserved_term and not warm:
            imagined = self.imagine(proposal, observed, noise["target"])
            bound = bound + torch.where(observed, 0.0, heads.log_prob(prediction, imagined)).sum(-1)
        return -bound.mean(1)

    @torch.no_grad()
    def imagine(self, proposal: Gaussian, observed: Tensor, noise: Tensor) -> Target:
        """Return the moments of samples of x_u from the current model (the E-step, VSAE appendix B, Eq. 12).

        ``noise`` is [R, samples, b, M, latent]. The decoders run with their running statistics: the frozen model. What
        the target says of attributes that are ``observed`` [R, b, M] means nothing.
        """
        expanded = Gaussian(proposal.mean[:, None], proposal.log_variance[:, None])
        hidden = [
            PackedRows.hidden(observed[..., self.layout.group_positions(index)], group.width)
            for index, group in enumerate(self.layout.block_groups)
        ]
        moments = self.decoder.heads.moments(self.draw_numbers)
        for chunk in noise.split(self.imagined_at_a_time(noise.shape[2]), dim=1):
            z = expanded.sample(chunk).flatten(3)
            logits = self.mask_decoder(z.flatten(1, 2), None, False).unflatten(1, z.shape[1:3])
            moments.add(*self.decoder.raw_samples(torch.cat([z, sigmoid(logits)], dim=-1), hidden))
        return moments.target().placed(hidden)

    def imagined_at_a_time(self, rows: int) -> int:
        """Return how many samples are decoded together: all of a table's, and of images what a cache holds."""
        width = self.layout.width - self.layout.scalar_width
        floats = IMAGINED_FLOATS.get(self.layout.owner.device.type, IMAGINED_FLOATS["cpu"])
        return max(1, floats // (rows * width)) if width else self.target_draws

    def generate(self, batch: Encoded, generators: Sequence[torch.Generator]) -> Prediction:
        """Decode z from N(0, I) in the blocks of all attributes: mask decoder, then data decoder."""
        shape = (batch.observed.shape[1], self.layout.attributes * self.latent)
        z = replica_noise(shape, generators, str(batch.observed.device))
        return self.decode(z, training=False)[1]

    def proposal_noise(self, rows: int, draws: int) -> dict[str, tuple[int, ...]]:
        """Noise for hidden slots (once for the chunk) and for each draw of z."""
        return {"fill": (rows, self.layout.width), "latent": (draws, rows, self.layout.attributes, self.latent)}

    def propose(
        self, batch: Encoded, draws: int, noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, Prediction, dict[str, Tensor]]:
        """Return importance log-weights with the mask's likelihood in them, and the decoded draws."""
        proposal = self.proposal(batch, noise["fill"], training=False)
        expanded = Gaussian(proposal.mean[:, None], proposal.log_variance[:, None])
        z = expanded.sample(noise["latent"])
        logits, flat = self.decode(z.flatten(3).flatten(1, 2), training=False)
        prediction = unflatten_draws(flat, draws)
        observed = batch.observed[:, None]
        certain = Target(batch.numeric[:, None], batch.categorical[:, None], tuple(b[:, None] for b in batch.blocks))
        log_data = self.decoder.heads.log_prob(prediction, certain)
        kl = proposal.kl_to_standard()
        log_weight = torch.where(observed, log_data, 0.0).sum(-1)
        log_weight = log_weight + self.log_mask(logits.unflatten(1, (draws, -1)), observed)
        log_weight = log_weight + (standard_log_density(z) - expanded.log_density(z)).sum(-1)
        return log_weight, prediction, {"kl": kl.sum(-1), "kl_blocks": kl}


class VSAE(LatentStackedMethod):
    """Variational selective autoencoder."""

    name = "vsae"
    summary = "Variational selective autoencoder: attributive and collective proposals, mask decoder, data decoder"
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
            "kl_warm_up": True,
            "kl_weight": 1.0,
            "input_dropout": 0.0,
            "unobserved_term": True,
            "draw_numbers": False,
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
            "kl_warm_up": False,
            "kl_weight": 1.0,
            "input_dropout": 0.0,
            "unobserved_term": True,
            "draw_numbers": False,
            "importance_weights": True,
            "learning_rate": None,
            "clip_norm": None,
        },
    }

    def build(self, layout: Layout, replicas: int) -> VSAENetwork:
        """Return the untrained stack."""
        return VSAENetwork(layout, replicas, self.parameters, self.context.budget.target_draws)
