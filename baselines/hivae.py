"""HI-VAE (Nazabal, Olmos, Ghahramani and Valera 2020): a VAE whose prior is a mixture, with heads per attribute.

The model: ``s ~ Uniform(S)``, ``z | s ~ N(mu(s), I)``, ``y`` a linear map of ``z`` split into one piece per attribute,
and ``p(x_i | y_i, s)`` whose mean is linear in ``y_i`` and ``s`` and whose spread depends on ``s`` alone. The encoder
``q(s | x) q(z | x, s)`` sees 0 in hidden entries. Its bound, with ``S`` components::

    sum_s q(s|x) { E_q(z|x,s) sum_O log p(x_i | y_i, s) - KL(q(z|x,s) || N(mu(s), I)) } - KL(q(s|x) || Uniform)

Other than the authors' code:

- The sum over ``s`` is exact (``components_summed``); all components of a row share the noise of ``z``. The authors
  draw ``s`` by Gumbel-softmax, which ``components_summed = False`` does, at a temperature that falls from 1 to
  ``lowest_temperature`` over the warm phase (theirs falls to 0.001, where float32 gradients vanish or explode).
- Numbers are scaled by statistics of the observed training entries, not of the batch.
- The encoder is VSAE's backbone (theirs is linear): a network of the whole row, then ``s`` read off linearly and ``z``
  through one hidden layer that is also given ``s``. Where ``z`` is wider than VSAE's decoder, the linear map to ``y``
  goes through that width. An image or a feature vector has VSAE's decoder, given ``s`` and a ``y_i`` of VSAE's latent
  width.
- Numbers are Gaussian and categories a softmax; there are no positive, count and ordinal attributes.
- Imputation is by importance sampling, each draw of ``z`` taken for every component, so the effective sample size
  lies between 1 and ``S`` times the number of draws. The authors take one pass with the likeliest ``s`` and the mean of
  ``z``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.neural.gaussian import Gaussian, gumbel
from bench.neural.heads import Heads, Prediction
from bench.neural.importance import CHUNK_FLOATS, DRAWS_AT_A_TIME, ImportanceAverage
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Notes, Scale, Settings, Warmup
from bench.neural.networks import LEAKY_SLOPE, BankedLinear, BankedMLP, Sizes, row_encoder, unflatten_draws
from bench.neural.rows import Imputed, Layout, Rows


class ComponentDecoder(nn.Module):
    """p(x_i | y_i, s) with y a linear map of z: a linear head per scalar attribute, VSAE's decoder per block."""

    __call__: Callable[..., Prediction]

    def __init__(
        self, layout: Layout, replicas: int, sizes: Sizes, components: int, y_width: int, literal: bool
    ) -> None:
        """Allocate; ``y_width`` is the width of ``y_i`` of a scalar attribute."""
        super().__init__()
        self.layout, self.y_width, self.y_block_width = layout, y_width, sizes.latent
        self.y_scalars = (layout.numeric + layout.categorical) * y_width
        self.members = [len(group.names) for group in layout.block_groups]
        y_total = self.y_scalars + sum(self.members) * sizes.latent
        inputs = layout.attributes * sizes.latent
        between = [sizes.decoder] if inputs > sizes.decoder else []
        self.to_y = BankedMLP((replicas,), inputs, between, y_total, activate=(False,) * len(between))
        self.heads = Heads(layout, replicas, learned_scale=False)
        self.numeric = self.categorical = self.offsets = None
        if layout.numeric:
            self.numeric = BankedLinear((replicas, layout.numeric), y_width, 1)
        if layout.categorical:
            self.categorical = BankedLinear((replicas, layout.categorical), y_width, layout.max_levels)
            self.categorical.parameters_used = (y_width + 1) * int(layout.levels.sum())
        if layout.scalar_width:
            self.offsets = BankedMLP(
                (replicas,), components, [], layout.scalar_width, outputs_used=layout.scalar_width_used
            )
        self.blocks = nn.ModuleList(
            BankedMLP(
                (replicas, len(group.names)),
                sizes.latent + components,
                [sizes.decoder] * 3,
                group.width,
                batch_norm="first",
                activate=(True, not literal, not literal),
            )
            for group in layout.block_groups
        )
        self.width = 2 * y_total + layout.width + 3 * sizes.decoder * sum(self.members)

    def forward(self, z: Tensor, component: Tensor) -> Prediction:
        """Decode ``z`` [R, n, latent] of components [R, n, S] (one-hot or weights) to a prediction [R, n, ...]."""
        y = self.to_y(z)
        y_scalars, y_blocks = y[..., : self.y_scalars].unflatten(-1, (-1, self.y_width)), y[..., self.y_scalars :]
        parts = []
        if self.numeric is not None:
            pieces = y_scalars[..., : self.layout.numeric, :].transpose(1, 2)
            parts.append(self.numeric(pieces).squeeze(-1).transpose(1, 2))
        if self.categorical is not None:
            pieces = y_scalars[..., self.layout.numeric :, :].transpose(1, 2)
            parts.append(self.categorical(pieces).permute(0, 2, 3, 1).flatten(-2))
        scalars = z.new_zeros(*z.shape[:2], 0)
        if self.offsets is not None:
            scalars = torch.cat(parts, dim=-1) + self.offsets(component)
        blocks = []
        split = y_blocks.split([members * self.y_block_width for members in self.members], dim=-1)
        for decoder, members, piece in zip(self.blocks, self.members, split, strict=True):
            own = piece.unflatten(-1, (members, self.y_block_width)).transpose(1, 2)
            given = component[:, None].expand(-1, members, -1, -1)
            blocks.append(decoder(torch.cat([own, given], dim=-1)).transpose(1, 2))
        return self.heads(scalars, tuple(blocks))


class ComponentScales(BankedLinear):
    """The log spread of every Gaussian attribute in each component; all start at 0."""

    @torch.no_grad()
    def reset(self, generators: Sequence[torch.Generator], initialisation: str = "uniform") -> None:
        """Start every spread at 1, whatever the others' ``initialisation``."""
        self.weight.zero_()
        self.bias.zero_()

    @torch.no_grad()
    def start_spreads(self, spreads: Tensor) -> None:
        """Start the spreads of every component at ``spreads`` [R, Gaussian attributes]."""
        self.bias.copy_(spreads.log())


class HIVAENetwork(LatentModel):
    """A stack of HI-VAEs. Wherever a dimension is named c it holds components, or draws of them."""

    def __init__(self, layout: Layout, replicas: int, parameters: Settings) -> None:
        """Allocate the stack; its encoder is as wide as it takes to have VSAE's number of parameters."""
        super().__init__(layout, replicas, parameters)
        self.components = components = parameters["components"]
        self.components_summed = parameters["components_summed"]
        self.lowest_temperature = parameters["lowest_temperature"]
        self.scale_floor, sizes = parameters["scale_floor"], self.sizes
        self.decoder = ComponentDecoder(
            layout, replicas, sizes, components, parameters["y_width"], parameters["decoder_literal"]
        )
        gaussian = layout.numeric + sum(len(group.names) for group in layout.block_groups)
        learned = parameters["learned_scale"] and gaussian > 0
        self.log_scale = ComponentScales((replicas,), components, gaussian) if learned else None
        self.prior_means = BankedMLP((replicas,), components, [], self.latent)
        features = sizes.collective_encoder
        self.to_component = BankedMLP((replicas,), features, [], components)
        self.to_latent = BankedMLP((replicas,), features + components, [features], 2 * self.latent)
        self.trunk = row_encoder(layout, replicas, features, parameters, self)
        self.width_per_draw = 2 * features + 5 * self.latent + self.decoder.width

    def features(self, x: Rows) -> Tensor:
        """Return what the encoder knows of a row with 0 in hidden entries, [R, b, features]."""
        return functional.leaky_relu(self.trunk(x.input.flat()), LEAKY_SLOPE)

    def log_component(self, features: Tensor) -> Tensor:
        """Return log q(s | x), [R, b, S]."""
        return torch.log_softmax(self.to_component(features), dim=-1)

    def every_component(self, rows: int, draws: int = 1, first: int = 0, count: int | None = None) -> Tensor:
        """Return the one-hot components ``first`` and on, each for several draws, [R, count * draws, rows, S]."""
        identity = torch.eye(self.components, device=self.layout.owner.device)
        chosen = identity[first : first + (count or self.components)].repeat_interleave(draws, dim=0)
        return chosen[None, :, None, :].expand(self.replicas, -1, rows, -1)

    def latent_given(self, features: Tensor, component: Tensor) -> tuple[Gaussian, Gaussian]:
        """Return q(z | x, s) and p(z | s) of components [R, c, b, S]; each is [R, c, b, latent]."""
        count = component.shape[1]
        repeated = features[:, None].expand(-1, count, -1, -1)
        raw = self.to_latent(torch.cat([repeated, component], dim=-1).flatten(1, 2))
        mean = self.prior_means(component.flatten(1, 2)).unflatten(1, (count, -1))
        proposal = Gaussian.from_raw(raw.unflatten(1, (count, -1)))
        return proposal, Gaussian(mean, torch.zeros_like(mean))

    def decode(self, z: Tensor, component: Tensor) -> Prediction:
        """Decode ``z`` [R, c, b, latent] of components [R, c, b, S]."""
        count, flat = z.shape[1], component.flatten(1, 2)
        prediction = unflatten_draws(self.decoder(z.flatten(1, 2), flat), count)
        if self.log_scale is None:
            return prediction
        # Filled on the device: nothing is copied to a GPU while a step is recorded.
        floor = self.scale_floor if isinstance(self.scale_floor, Tensor) else flat.new_full((), self.scale_floor)
        log_scales = torch.maximum(self.log_scale(flat), floor.log().unsqueeze(-1)).unflatten(1, (count, -1))
        return replace(prediction, log_scales=log_scales)

    def bound(self, x: Rows, noise: Noise, beta: Scale, temperature: Scale = 1.0) -> Tensor:
        """Return the bound above, [R, b], with one draw of z per row; a drawn s has a ``temperature``."""
        e = noise.normal("latent", 1, x.size, self.latent)
        features = self.features(x)
        log_component = self.log_component(features)
        posterior = log_component.exp()
        if self.components_summed:
            component = self.every_component(x.size)
            weight = posterior.transpose(1, 2)
        else:
            of_component = gumbel(noise.normal("component", 1, x.size, self.components))
            scores = (log_component[:, None] + of_component) / temperature
            component = torch.softmax(scores, dim=-1)
            weight = posterior.new_ones(1, 1, 1)
        proposal, prior = self.latent_given(features, component)
        prediction = self.decode(proposal.sample(e), component)
        log_observed = (weight * self.log_observed(prediction, x)).sum(1)
        kl = (weight * proposal.kl_to(prior)).sum(1) + kl_to_uniform(log_component)
        bound: Tensor = log_observed - beta * kl
        return bound

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the negative bound, averaged over the rows, [R]; the temperature falls over the warm-up."""
        temperature = 1 - warmup.share * (1 - self.lowest_temperature)
        return -self.bound(x, noise, self.beta(warmup), temperature).mean(1)

    def generated(self, x: Rows, noise: Noise) -> Prediction:
        """Decode draws of s, each as likely as the others, and of z from p(z | s)."""
        chosen = gumbel(noise.normal("component", x.size, self.components)).argmax(-1)
        component = functional.one_hot(chosen, self.components).to(x.target.numeric.dtype)
        z = self.prior_means(component) + noise.normal("latent", x.size, self.latent)
        return self.decode(z[:, None], component[:, None]).map(lambda tensor: tensor.squeeze(1))

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        """Return importance log-weights and decoded draws, with s drawn from q(s | x)."""
        e = noise.normal("latent", draws, x.size, self.latent)
        features = self.features(x)
        log_component = self.log_component(features)
        of_component = gumbel(noise.normal("component", draws, x.size, self.components))
        chosen = (log_component[:, None] + of_component).argmax(-1)
        component = functional.one_hot(chosen, self.components).to(features.dtype)
        log_weight, prediction = self.weigh(x, features, component, e)
        log_chosen = (component * log_component[:, None]).sum(-1)
        return log_weight - math.log(self.components) - log_chosen, prediction, self.notes(features)

    def weigh(self, x: Rows, features: Tensor, component: Tensor, noise: Tensor) -> tuple[Tensor, Prediction]:
        """Return log p(x_o | z, s) + log p(z | s) - log q(z | x, s), [R, c, b], of decoded samples of z."""
        proposal, prior = self.latent_given(features, component)
        z = proposal.sample(noise)
        prediction = self.decode(z, component)
        log_weight = self.log_observed(prediction, x)
        return log_weight + prior.log_density(z) - proposal.log_density(z), prediction

    def notes(self, features: Tensor) -> dict[str, Tensor]:
        """Return the whole KL of each row, and that of s alone, [R, b]."""
        log_component = self.log_component(features)
        kl_component = kl_to_uniform(log_component)
        kl_latent = torch.zeros_like(kl_component)
        for index in range(self.components):
            proposal, prior = self.latent_given(features, self.every_component(features.shape[1], 1, index, 1))
            kl_latent = kl_latent + log_component[..., index].exp() * proposal.kl_to(prior)[:, 0]
        return {"kl": kl_latent + kl_component, "kl_component": kl_component}

    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Impute a batch with ``draws`` samples of z, as many for each component, or of (s, z) where s is drawn."""
        if not (self.components_summed and self.importance_weights):
            return super().impute(x, draws, noise)
        rows, features = x.size, self.features(x)
        pairs = max(1, CHUNK_FLOATS // max(1, rows * self.width_per_draw))
        group = min(self.components, pairs)
        at_a_time = max(1, min(DRAWS_AT_A_TIME, pairs // self.components))
        # As s is uniform and each component has as many samples, the mean weight over all of them estimates p(x_o).
        average = ImportanceAverage()
        per_component = -(-draws // self.components)
        for done in range(0, per_component, at_a_time):
            count = min(at_a_time, per_component - done)
            e = noise.normal("latent", count, rows, self.latent)
            for first in range(0, self.components, group):
                several = min(group, self.components - first)
                component = self.every_component(rows, count, first, several)
                log_weight, prediction = self.weigh(x, features, component, e.repeat(1, several, 1, 1))
                average.add(log_weight, prediction.expectation())
        notes = {
            **self.notes(features),
            "effective_sample_size": average.effective_sample_size(),
            "bound": average.log_mean_weight(),
        }
        return average.result(), notes


def kl_to_uniform(log_probabilities: Tensor) -> Tensor:
    """Return KL(q || Uniform) of log-probabilities over the last dimension."""
    return (log_probabilities.exp() * (log_probabilities + math.log(log_probabilities.shape[-1]))).sum(-1)


class HIVAE(LatentStackedMethod):
    """VAE for mixed data: a mixture prior and heads per attribute.

    ``components`` and ``y_width`` are the authors' S and width of ``y_i``; ``scale_floor`` is the root of their least
    variance.
    """

    name = "hivae"
    summary = "VAE for mixed data with a mixture prior, summed over its components, and heads per attribute"
    version = 1
    network = HIVAENetwork
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {
        "default": {
            "scale_floor": 0.0316,
            "components": 10,
            "y_width": 5,
            "components_summed": True,
            "lowest_temperature": 0.5,
            "input_dropout": 0.0,
        },
    }
