"""The author's base of a neural method: write ``q``, ``p_x`` and ``bound``; loss, imputation and draws follow.

A model is a stack of networks, one per replica: tensors carry replicas R, then draws k (of z, if there are any), then
rows b. Random numbers are asked for by name where they are used (``noise.normal``); batch normalisation follows
``self.training``. The steps of a loss that is a function of its arguments and the model's tensors alone are recorded
and replayed: the engine finds out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError, closest
from bench.neural.engine.noise import Noise
from bench.neural.gaussian import Gaussian, gumbel, log_prior_ratio
from bench.neural.heads import Heads, Prediction
from bench.neural.importance import ImportanceAverage, choose_rows, draws_at_a_time, pick_draws
from bench.neural.networks import Sizes
from bench.neural.rows import Encoded, Imputed, Layout, Rows
from bench.plugins.contracts import Budget

__all__ = ["LatentModel", "Network", "Noise", "Notes", "Phase", "Scale", "Settings", "Warmup", "require_choice"]

#: A method's parameters; a tunable one may be one number per replica, [R, 1].
Settings = Mapping[str, Any]
#: A number, or one per replica, [R, 1].
Scale = float | Tensor
#: What an imputation says of each row, [R, b] or [R, b, latent blocks], by name.
Notes = dict[str, Tensor]


@dataclass(frozen=True)
class Warmup:
    """Where a training step stands in the warm-up: the ``share`` that is over (1 after it), and whether it ``lasts``.

    The share is a tensor of no dimensions where steps are recorded: compute with it, and do not ask for its value.
    """

    share: float | Tensor = 1.0
    lasts: bool = False


@dataclass(frozen=True)
class Phase:
    """One optimiser of a training step, with the parameters it moves; its turn comes in every ``every``-th step.

    ``groups`` are parameter groups as ``torch.optim.Adam`` takes them; one without ``lr`` has the training's own.
    """

    name: str
    groups: Sequence[Mapping[str, Any]]
    every: int = 1


def require_choice(parameter: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return the value of a parameter as one of its choices; raises BenchError on another."""
    if value not in choices:
        raise BenchError(f"unknown {parameter} = {value!r}.{closest(str(value), choices)}")
    return str(value)


class Network(nn.Module):
    """A stack of networks with a loss to train and a way to impute."""

    layout: Layout
    replicas: int
    #: Share of the observed entries that training hides from the encoder, not from the loss.
    input_dropout: Scale
    #: Whether standard normal noise stands in the hidden entries of ``x.input``, instead of 0.
    noisy_fill: bool
    #: Whether the objective is whole only after the warm-up: a state from before it is not chosen.
    warms_up: bool = False
    #: Whether it models why a value is missing, p(m | x). A held-out entry has a value of the observed kind, which such
    #: a model does not expect of a hidden one: where the mechanism is not ignorable, its last state is kept.
    models_missing: bool = False

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Take what every model has from a method's parameters; raises BenchError on an unknown ``fill``."""
        super().__init__()
        self.layout, self.replicas = layout, replicas
        self.input_dropout = settings.get("input_dropout", 0.0)
        self.own_steps: int | None = settings.get("steps")
        self.own_batch: int | None = settings.get("batch")
        self.noisy_fill = require_choice("fill", settings.get("fill", "zero"), ("zero", "noise")) == "noise"

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return each replica's loss, [R], averaged over the rows."""
        raise TypeError(f"{type(self).__name__} does not define loss")

    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Return the imputation of a batch, and what there is to note of each row."""
        raise TypeError(f"{type(self).__name__} does not define impute")

    def draw(self, x: Rows, proposals: int, noise: Noise, draws: int = 1) -> Imputed:
        """Return ``draws`` completed versions of the rows, one behind another, [R, draws * b, ...]."""
        raise TypeError(f"{type(self).__name__} does not define draw")

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases of a training step, in order: by default one, of all parameters, that minimises ``loss``.

        An adversarial network has several. The first has its turn in every step; its loss is the one recorded.
        """
        return (Phase("all", [{"params": [p for p in self.parameters() if p.requires_grad]}]),)

    def phase_loss(self, phase: str, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return each replica's loss in a phase, [R]; only the parameters of that phase follow its gradient."""
        return self.loss(x, noise, warmup)

    def training_budget(self, budget: Budget) -> Budget:
        """Return the budget of the training loop, given the preset's.

        A method whose parameters state ``steps`` of its own, on batches of ``batch`` rows, takes those under every
        preset but ``smoke``. It also differs if a step takes several batches.
        """
        if self.own_steps is None or budget.preset == "smoke":
            return budget
        return replace(budget, steps=self.own_steps, epochs=None, batch=self.own_batch or budget.batch)

    def given(self, x: Rows, noise: Noise) -> Rows:
        """Return the batch with noise in the hidden entries of its input, if the model has that."""
        if not self.noisy_fill:
            return x

        def fill(encoded: Encoded) -> Encoded:
            return encoded.with_fill(noise.normal("fill", x.size, self.layout.width), self.layout)

        return replace(x, fill=fill)


class LatentModel(Network):
    """A model p(x, z) = p(z) p(x | z) with a proposal q(z | x): write these three and a bound on log p(x_o).

    The loss is the negative bound. An imputation averages what draws of q decode to by their importance weights
    (``bench.neural.importance``). The model's ``decoder`` has ``heads``, which score and draw values.
    """

    #: Width of everything held per draw and row while decoding: decides how many draws are decoded at a time.
    width_per_draw: int
    #: Whether ``propose`` gives numbers and features drawn from their heads, not the heads' means.
    proposes_numbers: bool = False

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Take sizes, the KL's weight and the use of importance weights from a method's parameters."""
        super().__init__(layout, replicas, settings)
        self.sizes = Sizes.of(layout, settings.get("latent"))
        #: Width of z: VSAE's latent width for each attribute.
        self.latent = layout.attributes * self.sizes.latent
        self.width_per_draw = layout.width + self.latent + 3 * self.sizes.decoder
        self.kl_weight: Scale = settings.get("kl_weight", 1.0)
        self.kl_warm_up: bool = settings.get("kl_warm_up", False)
        self.warms_up = self.kl_warm_up
        self.importance_weights: bool = settings.get("importance_weights", True)

    # What an author writes.

    def q(self, x: Rows) -> Gaussian:
        """Return the proposal q(z | x.input), [R, b, latent]."""
        raise TypeError(f"{type(self).__name__} does not define q")

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z) for draws ``z`` [R, k, b, latent]: a prediction [R, k, b, ...]."""
        raise TypeError(f"{type(self).__name__} does not define p_x")

    def prior(self, x: Rows) -> Gaussian | None:
        """Return the prior p(z), [R, b, latent]; None stands for N(0, I)."""
        return None

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return a lower bound on log p(x_o) of each row, [R, b], with the KL weighed by ``beta``."""
        raise TypeError(f"{type(self).__name__} does not define bound")

    # What follows from it.

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the negative bound, averaged over the rows, [R]."""
        return -self.bound(x, noise, self.beta(warmup)).mean(1)

    def beta(self, warmup: Warmup) -> Scale:
        """Return the weight of the KL: ``kl_weight``, reached over the warm-up if ``kl_warm_up`` says so."""
        return self.kl_weight * (warmup.share if self.kl_warm_up else 1.0)

    @property
    def heads(self) -> Heads:
        """The heads of the model's decoder."""
        heads = self.get_submodule("decoder.heads")
        assert isinstance(heads, Heads), "a latent model decodes with heads"
        return heads

    def log_observed(self, prediction: Prediction, x: Rows) -> Tensor:
        """Return log p(x_o | z), [R, b], or of each draw, [R, k, b], for a prediction with these dimensions."""
        log_p = self.heads.log_prob(prediction, x.target)
        return torch.where(x.observed if log_p.dim() == 3 else x.observed[:, None], log_p, 0.0).sum(-1)

    def log_weights(self, x: Rows, e: Tensor, beta: Scale = 1.0) -> tuple[Tensor, Prediction, Gaussian]:
        """Return ``log p(x_o | z_k) + beta (log p(z_k) - log q(z_k | x))``, [R, K, b] of z_k = mean + spread ``e``.

        Also return what the draws decode to, [R, K, b, ...], and q. Away from beta = 1 these are no importance weights.
        """
        q, prior = self.q(x), self.prior(x)
        z = q.sample(e)
        prediction = self.p_x(z, x)
        # One weight per replica, [R, 1], has to pass over the draws.
        weight = beta[:, None] if isinstance(beta, Tensor) else beta
        return self.log_observed(prediction, x) + weight * log_prior_ratio(z, q, prior), prediction, q

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        """Return importance log-weights [R, k, b], the decoded draws [R, k, b, ...] and notes."""
        e = noise.normal("latent", draws, x.size, self.latent)
        log_weight, prediction, q = self.log_weights(x, e)
        return log_weight, prediction, {"kl": q.kl(self.prior(x)), "kl_blocks": q.kl_per_dimension()}

    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Impute a batch with ``draws`` samples per row; also note the effective sample size and the bound."""
        at_a_time = draws_at_a_time(x.size, draws, self.width_per_draw)
        average = ImportanceAverage(uniform=not self.importance_weights)
        notes: Notes = {}
        for done in range(0, draws, at_a_time):
            log_weight, prediction, notes = self.propose(self.given(x, noise), min(at_a_time, draws - done), noise)
            average.add(log_weight, prediction.expectation())
        notes = {**notes, "effective_sample_size": average.effective_sample_size(), "bound": average.log_mean_weight()}
        return average.result(), notes

    def draw(self, x: Rows, proposals: int, noise: Noise, draws: int = 1) -> Imputed:
        """Return ``draws`` versions of the rows, one behind another [R, draws * b, ...], each drawn from p(x | x_o, m).

        A draw is one of ``proposals`` samples, picked by its weight. In expectation it is the imputation with as many
        samples: numbers and blocks as they are, categories one-hot. A sample's score is its log-weight plus Gumbel
        noise, one for each draw, so the best of all chunks is one drawn by weight.
        """
        at_a_time = draws_at_a_time(x.size, proposals, self.width_per_draw)
        kept: Prediction | None = None
        highest = torch.empty(0)
        for done in range(0, proposals, at_a_time):
            count = min(at_a_time, proposals - done)
            log_weight, prediction, _ = self.propose(self.given(x, noise), count, noise)
            choice = noise.normal("choice", draws * count, x.size).unflatten(1, (draws, count))
            score = gumbel(choice) + (log_weight[:, None] if self.importance_weights else 0.0)
            best, index = score.max(2)
            picked = prediction.map(lambda tensor, at=index: pick_draws(tensor, at))
            if kept is None:
                kept, highest = picked, best
                continue
            better = best > highest
            kept = picked.map(lambda new, old, by=better: choose_rows(by, new, old), kept)
            highest = torch.where(better, best, highest)
        assert kept is not None, "a draw needs at least one proposal"
        return self.heads.draw(kept.map(lambda tensor: tensor.flatten(1, 2)), noise, self.proposes_numbers)

    def generate(self, x: Rows, noise: Noise) -> Imputed:
        """Return rows sampled from the model, z from its prior; ``x`` has the rows, and shows nothing."""
        return self.heads.draw(self.generated(x, noise), noise)

    def generated(self, x: Rows, noise: Noise) -> Prediction:
        """Return what z from the prior decodes to, [R, b, ...]; a mask as condition says that all is observed."""
        told = Rows(replace(x.target, observed=torch.ones_like(x.observed)))
        z = noise.normal("latent", x.size, self.latent)
        prior = self.prior(told)
        if prior is not None:
            z = prior.sample(z)
        return self.p_x(z[:, None], told).map(lambda tensor: tensor.squeeze(1))
