"""MVAE (Wu and Goodman 2018): one encoder per attribute, joined by a product of experts with the prior as one of them.

For the attributes ``P`` of a row that are given, with ``T_i = 1 / var_i``::

    q(z | x_P) = N(mu, var),  var = 1 / (1 + sum_P T_i),  mu = var * sum_P T_i mu_i
    ELBO(P) = E_q sum_P lambda_i log p(x_i | z) - KL(q(z | x_P) || N(0, I))
    loss = -[ELBO(O) + sum_O ELBO({i}) + sum over random subsets P of O of ELBO(P)]

with ``O`` the observed attributes of a row: one with none contributes nothing. As in the authors' code a random subset
has a size drawn evenly from 2 to ``|O| - 1``, which leaves out the terms that are there anyway, and is drawn evenly
among those of its size. Other than there, the precision has no epsilon (log-variances are clamped), and ``lambda_i`` is
the same in every term.

All experts speak of one latent of VSAE's whole width. That makes them large on wide tables, so ``expert_outputs``
bounds the latent columns of all experts of a row together: beyond 128 attributes of a table the latent is narrower than
VSAE's.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench.api import Budget
from bench.neural.gaussian import Gaussian
from bench.neural.heads import Prediction
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Scale, Settings
from bench.neural.networks import AttributiveEncoders, Sizes, data_decoder, parameter_count, vsae_parameter_count
from bench.neural.rows import Layout, Rows

#: A table of more attributes than this draws its single-attribute terms.
ALL_SINGLES = 3


def product_of_experts(experts: Gaussian, chosen: Tensor) -> Gaussian:
    """Return the product of the chosen experts and the prior N(0, I), [R, t, b, latent].

    ``experts`` are [R, b, M, latent] and ``chosen`` [R, t, b, M] says which attributes each of t terms is given.
    """
    precision = torch.exp(-experts.log_variance)
    weighted = precision * experts.mean
    given = chosen[..., None].unbind(1)
    # A matrix product of a term's few experts would be rounded by where in memory it lies, a masked sum is not.
    total = 1 + torch.stack([torch.where(some, precision, 0.0).sum(2) for some in given], dim=1)
    mean = torch.stack([torch.where(some, weighted, 0.0).sum(2) for some in given], dim=1) / total
    return Gaussian(mean, -torch.log(total))


def random_subsets(observed: Tensor, order_noise: Tensor, size_noise: Tensor) -> Tensor:
    """Return subsets [R, k, b, M] of the observed attributes [R, b, M] of sizes 2 to all but one; else empty.

    The size is drawn evenly by the standard normal ``size_noise`` [R, k, b], then the subset evenly among those of that
    size by ``order_noise`` [R, k, b, M].
    """
    count = observed.sum(-1)[:, None]
    sizes = (count - 2).clamp(min=0)
    step = (torch.special.ndtr(size_noise) * sizes).floor().to(torch.int64)
    size = torch.where(sizes > 0, 2 + torch.minimum(step, sizes - 1), 0)
    scores = torch.where(observed[:, None], order_noise, -torch.inf)
    rank = scores.argsort(dim=-1, descending=True).argsort(dim=-1)
    return (rank < size[..., None]) & observed[:, None]


def single_attributes(observed: Tensor, noise: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return single observed attributes of each row, [R, t, b, M], and the weights [R, t, b] of their terms.

    There are ``most`` of them, drawn without repetition by ``noise`` [R, b, M]; the weights make their sum an unbiased
    estimate of that over all observed attributes. Where ``most`` covers all attributes nothing is left to chance.
    """
    attributes = observed.shape[-1]
    if most >= attributes:
        chosen = torch.eye(attributes, dtype=torch.bool, device=observed.device)[:, None, :] & observed[:, None]
        return chosen, chosen.any(-1).to(torch.float32)
    scores = torch.where(observed, noise, -torch.inf)
    index = scores.topk(most, dim=-1).indices.transpose(1, 2)
    chosen = (index[..., None] == torch.arange(attributes, device=index.device)) & observed[:, None]
    count = observed.sum(-1)[:, None].to(torch.float32)
    return chosen, chosen.any(-1) * count / count.clamp(1, most)


class MVAENetwork(LatentModel):
    """A stack of MVAEs. Wherever a dimension is named t it holds the terms of the loss."""

    def __init__(self, layout: Layout, replicas: int, parameters: Settings) -> None:
        """Allocate the stack; its experts are as wide as it takes to have VSAE's number of parameters."""
        super().__init__(layout, replicas, parameters)
        self.kl_warm_share = parameters["kl_warm_share"]
        attributes = layout.attributes
        self.singles = attributes if attributes <= ALL_SINGLES else min(parameters["single_terms"], attributes)
        self.subsets = parameters["subset_terms"] if attributes >= 3 else 0
        self.terms = 1 + self.singles + self.subsets
        sizes = self.sizes
        self.latent = min(attributes * sizes.latent, max(1, parameters["expert_outputs"] // attributes))
        self.decoder = data_decoder(layout, replicas, self.latent, parameters)
        at_least = vsae_parameter_count(layout, sizes) - parameter_count(self.decoder)
        self.experts = AttributiveEncoders(layout, replicas, expert_sizes(layout, sizes, self.latent, at_least))
        weights = [parameters["numeric_weight"]] * layout.numeric
        weights += [parameters["categorical_weight"]] * layout.categorical
        for group in layout.block_groups:
            weights += [parameters[f"{group.kind}_weight"]] * len(group.names)
        self.attribute_weights = torch.tensor(weights, device=layout.owner.device)
        self.width_per_draw = layout.width + 2 * self.latent + 3 * sizes.decoder

    def training_budget(self, budget: Budget) -> Budget:
        """Return the budget with a warm phase as long as the KL takes to its full weight."""
        budget = super().training_budget(budget)
        return replace(budget, warm_fraction=self.kl_warm_share) if self.kl_warm_up else budget

    def terms_of(self, observed: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return what each term is given [R, t, b, M], all that is observed first, and the terms' weights [R, t, b]."""
        rows, attributes = observed.shape[1:]
        of_singles = noise.normal("single", rows, attributes)
        of_subsets = noise.normal("subset", self.subsets, rows, attributes)
        singles, weights = single_attributes(observed, of_singles, self.singles)
        subsets = random_subsets(observed, of_subsets, noise.normal("size", self.subsets, rows))
        alone = observed[:, None]
        chosen = torch.cat([alone, singles, subsets], dim=1)
        some = (alone.any(-1).to(weights.dtype), weights, subsets.any(-1).to(weights.dtype))
        return chosen, torch.cat(some, dim=1)

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return the sum of the bounds of all terms, [R, b]."""
        e = noise.normal("latent", self.terms, x.size, self.latent)
        chosen, weight = self.terms_of(x.observed, noise)
        proposal = product_of_experts(self.experts(x.target), chosen)
        z = proposal.sample(e)
        prediction = self.decoder(z, (weight > 0).to(z.dtype))
        log_data = self.attribute_weights * self.heads.log_prob(prediction, x.target)
        log_given = (weight * torch.where(chosen, log_data, 0.0).sum(-1)).sum(1)
        bound: Tensor = log_given - beta * (weight * proposal.kl_to_standard()).sum(1)
        return bound

    def q(self, x: Rows) -> Gaussian:
        """Return q(z | x_o), the product of the experts of all that is observed, [R, b, latent]."""
        joint = product_of_experts(self.experts(x.target), x.observed[:, None])
        return Gaussian(joint.mean[:, 0], joint.log_variance[:, 0])

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z)."""
        return self.decoder(z)


def expert_sizes(layout: Layout, sizes: Sizes, latent: int, at_least: int) -> Sizes:
    """Return the widths of experts with ``latent`` outputs: VSAE's, widened until they have ``at_least`` parameters."""
    wider = replace(sizes, latent=latent)
    with torch.device("meta"):
        while parameter_count(AttributiveEncoders(layout, 1, wider)) < at_least:
            wider = replace(
                wider,
                numeric_encoder=wider.numeric_encoder + 4,
                categorical_encoder=wider.categorical_encoder + 4,
                block_encoder=wider.block_encoder + 4,
            )
    return wider


class MVAE(LatentStackedMethod):
    """Multimodal VAE: a product of one expert per attribute and the prior.

    Tables of more than 3 attributes take ``single_terms`` of the single-attribute terms a step and row, reweighted
    without bias, since all would cost a decoding each; ``subset_terms`` random subsets are taken. ``numeric_weight``
    and its like are the ``lambda`` of each kind of attribute. The KL reaches its weight after ``kl_warm_share`` of the
    training, the authors' 200 of 500 epochs: with less the experts grow vague early on, and a vague one learns slowly.
    """

    name = "mvae"
    summary = "Multimodal VAE: a product of experts, one per attribute, trained on all, single and random subsets"
    version = 2
    network = MVAENetwork
    parameter_sets = {
        "default": {
            "expert_outputs": 32768,
            "single_terms": 2,
            "subset_terms": 1,
            "numeric_weight": 1.0,
            "categorical_weight": 1.0,
            "image_weight": 1.0,
            "features_weight": 1.0,
            "kl_warm_share": 0.4,
        },
    }
