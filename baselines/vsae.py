"""VSAE, the variational selective autoencoder: Gong, Hajimirsadeghi, He, Durand and Mori, AISTATS 2021.

Of a row with observed attributes O, hidden ones U and mask m, the model is p(z) p(m | z) prod_i p(x_i | z, m), the
decoder of the data being given what the decoder of the mask says. The proposal selects, attribute by attribute::

    q(z | x_o, m) = prod_{i in O} q(z_i | x_i)  prod_{j in U} q(z_j | x_o, m)

The bound on the likelihood of complete data (Eq. 4, cited in appendix B)::

    L(x_o, x_u, m) = E_q [ log p(m | z) + sum_{i in O} log p(x_i | z, m) + sum_{j in U} log p(x_j | z, m) ]
                     - sum_i KL( q(z_i | .) || N(0, I) )

As x_u is hidden, what is maximised is its expectation (Eq. 14)::

    L' = E_{x_u ~ q*(x_u)} L(x_o, x_u, m),    q*(x_u) = p(x_u | x_o, m) of the model as it stands (E-step, Eq. 12)

The appendix does not say what the proposal in L sees of x_u, and there are two ways to read it (``reading``):

``independent``
    The proposal is q(z | x_o, m) above, and z is drawn without regard to x_u. Then only the sum over U depends on
    x_u, and L' is the bound of the observed data, plus

        E_{x_u ~ q*} E_q sum_{j in U} log p(x_j | z, m)

    Both expectations being over z on their own, this is highest where p(x_j | z, m) is the same for all z.
``complete``
    L is the bound of data that are complete, as EM's complete-data step wants: x_u is an input, and its z_j come from
    q(z_j | x_j) as if it were observed. With the bound L_o of the observed data (L without the sum over U), which
    trains the proposal that imputation uses, the objective is

        ( L_o + E_{x_u ~ q*} L_c ) / 2,   L_c = L with the proposal prod_i q(z_i | x_i)

The term of x_u is left out while the warm-up lasts (appendix D), and always with ``unobserved_term = False``.

What the appendix leaves open is a parameter below; ``default`` is the sensible reading and ``literal`` the appendix to
the letter: min-max scaled numbers with a squared error of unit scale, no activation between the decoder's last layers,
and independent draws.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from bench.neural.gaussian import Gaussian, log_prior_ratio
from bench.neural.heads import Prediction, Target
from bench.neural.method import LatentStackedMethod
from bench.neural.model import LatentModel, Noise, Notes, Scale, Settings, Warmup, require_choice
from bench.neural.networks import (
    AttributiveEncoders,
    collective_encoder,
    data_decoder,
    frozen,
    mask_decoder,
    over_draws,
    sigmoid,
    statistics_kept,
)
from bench.neural.rows import Encoded, Layout, Rows

#: Versions of each row that stand for the expectation over x_u in the ``complete`` reading.
COMPLETIONS = 2


class VSAENetwork(LatentModel):
    """A stack of VSAEs; z has one block per attribute, [R, b, M, latent]."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings, target_draws: int) -> None:
        """Allocate the stack (appendix C); ``target_draws`` samples stand for the expectation over x_u."""
        super().__init__(layout, replicas, settings)
        self.target_draws = target_draws
        self.unobserved_term, self.draw_numbers = settings["unobserved_term"], settings["draw_numbers"]
        self.reading = require_choice("reading", settings["reading"], ("complete", "independent"))
        #: Before the term of x_u comes in, the objective is another.
        self.warms_up = self.kl_warm_up or self.unobserved_term
        #: The collective encoder sees standard normal noise in place of hidden attributes (appendix C).
        self.noisy_fill = True
        self.blocks = (layout.attributes, self.sizes.latent)
        self.attributive = AttributiveEncoders(layout, replicas, self.sizes)
        self.collective = collective_encoder(layout, replicas, self.sizes)
        self.mask_decoder = mask_decoder(layout, replicas, self.sizes)
        self.decoder = data_decoder(layout, replicas, self.latent + layout.attributes, settings)

    def q(self, x: Rows) -> Gaussian:
        """Return q(z | x_o, m), [R, b, M, latent]: attributive where observed, collective elsewhere."""
        raw = self.collective(torch.cat([x.input.flat(), x.input.mask], dim=-1))
        collective = Gaussian.from_raw(raw.unflatten(-1, (self.layout.attributes, -1)))
        attributive = self.attributive(x.input)
        observed = x.input.observed[..., None]
        return Gaussian(
            torch.where(observed, attributive.mean, collective.mean),
            torch.where(observed, attributive.log_variance, collective.log_variance),
        )

    def p(self, z: Tensor) -> tuple[Tensor, Prediction]:
        """Return p(m | z) as logits, and p(x | z, m), for z [R, b, M latent] or draws of it [R, k, b, M latent]."""
        logits = over_draws(self.mask_decoder, z)
        return logits, self.decoder(torch.cat([z, sigmoid(logits)], dim=-1))

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z, m), the mask being what its decoder says."""
        return self.p(z)[1]

    def log_p_m(self, logits: Tensor, x: Rows) -> Tensor:
        """Return log p(m | z), [R, b] or [R, k, b]."""
        observed = x.observed if logits.dim() == x.observed.dim() else x.observed[:, None]
        return x.without_held_out(functional.logsigmoid(torch.where(observed, logits, -logits))).sum(-1)

    def bound(self, x: Rows, noise: Noise, beta: Scale, warm_up: bool = False) -> Tensor:
        """Return the bound of Eq. 14 with one draw of z per row, [R, b]; in the warm-up that of the observed data."""
        q = self.q(x)
        logits, p = self.p(q.sample(noise.normal("latent", x.size, *self.blocks)).flatten(2))
        bound = self.log_p_m(logits, x) + self.log_observed(p, x) - beta * q.kl().sum(-1)
        if not self.unobserved_term or warm_up:
            return bound
        if self.reading == "complete":
            return 0.5 * (bound + self.complete_bound(q, x, noise, beta))
        x_u = self.imagine(q, x, noise.normal("target", self.target_draws, x.size, *self.blocks))
        return bound + torch.where(x.observed, 0.0, self.heads.log_prob(p, x_u)).sum(-1)

    def complete_bound(self, q: Gaussian, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return E_{x_u ~ q*} L_c(x_o, x_u, m), [R, b], by the mean over versions of each row."""
        rows, complete = self.complete(q, x, noise)
        q_c = self.attributive(complete)
        z = q_c.sample(noise.normal("complete latent", rows.size, *self.blocks))
        logits, p = self.p(z.flatten(2))
        log_p = self.heads.log_prob(p, self.heads.as_drawn(complete, ~rows.observed)).sum(-1)
        bound = self.log_p_m(logits, rows) + log_p - beta * q_c.kl().sum(-1)
        mean: Tensor = bound.unflatten(1, (COMPLETIONS, x.size)).mean(1)
        return mean

    @torch.no_grad()
    def complete(self, q: Gaussian, x: Rows, noise: Noise) -> tuple[Rows, Encoded]:
        """Return versions of the rows one behind another, [R, versions * b, ...], and what they are with x_u ~ q*.

        A version has a z ~ q of its own, and x_u ~ p(x_u | z, m). Batch normalisation goes by the batch, as when x_u is
        scored: by running statistics x_u would always lie a little beyond what the model says, and the model run after
        it without end.
        """
        z = q.sample(noise.normal("target", COMPLETIONS, x.size, *self.blocks)).flatten(3)
        with statistics_kept(self.mask_decoder, self.decoder):
            p = self.p_x(z, x).map(lambda tensor: tensor.flatten(1, 2))
        rows = x.target.repeated(COMPLETIONS)
        return Rows(rows), rows.completed(self.heads.draw(p, noise), self.layout)

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the negative bound, averaged over the rows, [R]."""
        return -self.bound(x, noise, self.beta(warmup), warmup.lasts).mean(1)

    @torch.no_grad()
    def imagine(self, q: Gaussian, x: Rows, e: Tensor) -> Target:
        """Return the moments of x_u ~ q*(x_u) = E_q p(x_u | z, m), the E-step of Eq. 12.

        ``e`` [R, k, b, M, latent] is the noise of k samples. Batch normalisation is as in ``complete``; of images, of
        which only hidden ones are decoded, by running statistics.
        """

        def inputs(e: Tensor) -> Tensor:
            z = q.sample(e).flatten(3)
            return torch.cat([z, sigmoid(over_draws(self.mask_decoder, z))], dim=-1)

        as_scored = frozen if self.layout.block_groups else statistics_kept
        with as_scored(self.mask_decoder, self.decoder):
            chunks = e.split(self.decoder.samples_at_a_time(x.size, e.shape[1]), dim=1)
            return self.decoder.sample_moments(map(inputs, chunks), x.observed, self.draw_numbers)

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        """Return importance log-weights with the mask's likelihood in them, and the decoded draws."""
        q = self.q(x)
        z = q.sample(noise.normal("latent", draws, x.size, *self.blocks))
        logits, p = self.p(z.flatten(3))
        log_weight = self.log_observed(p, x) + self.log_p_m(logits, x) + log_prior_ratio(z, q).sum(-1)
        return log_weight, p, {"kl": q.kl().sum(-1), "kl_blocks": q.kl()}


class VSAE(LatentStackedMethod):
    """Variational selective autoencoder."""

    name = "vsae"
    summary = "Variational selective autoencoder: attributive and collective proposals, mask decoder, data decoder"
    version = 2
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {
        "default": {
            "input_dropout": 0.0,
            "unobserved_term": True,
            "reading": "complete",
            "draw_numbers": False,
        },
        "literal": {"reading": "independent"},
    }

    def build(self, layout: Layout, replicas: int) -> VSAENetwork:
        """Return the untrained stack."""
        return VSAENetwork(layout, replicas, self.parameters, self.context.budget.target_draws)
