"""not-MIWAE (Ipsen et al. 2021): MIWAE with a model of why entries are missing, p(m | x_o, x_u).

The missing model gives each attribute the log-odds of being observed. ``missing_model`` says from what:

- ``selfmask``: from the attribute itself, ``intercept - slope * x`` for numbers and for the mean of an image or feature
  vector, one value per level for categories (the authors' ``-W (x - b)``, written so that it can start at W = 0);
- ``selfmask_known``: the same with ``slope = softplus(.)``, so that large numbers are the ones that are hidden;
- ``linear``: from all attributes at once.

Hidden numbers are reparameterised draws from p(x_u | z_k). A hidden category that masks itself needs none: the sum over
its levels is exact. ``linear`` takes the levels' probabilities as the value.

The authors impute with the weighted means of p(x_u | z_k) (``impute_with = "means"``), which keeps only what the mask
says about z; ``"draws"`` weights the draws themselves, which are what the weights are about.

``missing_parameters`` fixes a self-masking model that is known: for each attribute by name ``[slope, threshold]`` in
the data's own unit (log-odds ``-slope * (x - threshold)``), or the log-odds of each level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import BenchError
from bench.neural.gaussian import Gaussian
from bench.neural.heads import Prediction
from bench.neural.method import DrawingMethod, VariationalMethod
from bench.neural.model import LatentModel, Noise, Notes, Scale, Settings, require_choice
from bench.neural.networks import ROWS_PER_LINE, BankedLinear, data_decoder, row_encoder
from bench.neural.rows import Layout, Rows


class SelfMasking(nn.Module):
    """Log-odds of being observed from the attribute's own value, in the engine's scale."""

    def __init__(self, layout: Layout, replicas: int, known_sign: bool) -> None:
        """Start with entries observed by a fair coin, whatever their value (or by a known sign, a slope of 0.69)."""
        super().__init__()
        numbers = layout.attributes - layout.categorical
        self.known_sign = known_sign
        self.raw_slope = nn.Parameter(torch.zeros(replicas, numbers))
        self.intercept = nn.Parameter(torch.zeros(replicas, numbers))
        self.level_score = nn.Parameter(torch.zeros(replicas, layout.max_levels, layout.categorical))

    def log_mask(self, numbers: Tensor, prediction: Prediction, x: Rows, layout: Layout) -> Tensor:
        """Return log p(m | x) summed over attributes, [R, k, b]; ``numbers`` are [R, k, b, numbers]."""
        # Softplus, written with a function that rounds alike wherever an entry stands among others.
        slope = -functional.logsigmoid(-self.raw_slope) if self.known_sign else self.raw_slope
        score = self.intercept[:, None, None] - slope[:, None, None] * numbers
        batch, first = x.target, layout.numeric
        observed = numbers_of(batch.observed, layout)[:, None]
        log_p = functional.logsigmoid(torch.where(observed, score, -score))
        if layout.categorical:
            seen = batch.observed[:, None, :, first : first + layout.categorical]
            log_observed = functional.logsigmoid(self.level_score)[:, None, None]
            of_seen = (batch.categorical[:, None] * log_observed).sum(-2)
            of_hidden = torch.logsumexp(self.given_hidden(prediction.categorical), dim=-2) - torch.logsumexp(
                prediction.categorical, dim=-2
            )
            of_categories = torch.where(seen, of_seen, of_hidden)
            log_p = torch.cat([log_p[..., :first], of_categories, log_p[..., first:]], dim=-1)
        return x.without_held_out(log_p).sum(-1)

    def given_hidden(self, logits: Tensor) -> Tensor:
        """Return a hidden category's logits given z and that it is hidden, [R, k, b, levels, categorical]."""
        return logits + functional.logsigmoid(-self.level_score)[:, None, None]

    @torch.no_grad()
    def fix(self, known: Mapping[str, Sequence[float]], layout: Layout, location: Tensor, scale: Tensor) -> None:
        """Set the model to known parameters (see the module), for good; raises BenchError if they do not fit.

        ``location`` and ``scale`` [R, numbers] are those by which numbers are scaled.
        """
        schema = layout.schema
        if set(known) != set(schema.names):
            raise BenchError("missing_parameters of not_miwae must name every attribute of the data, and no other")
        self.known_sign = False
        for column, index in enumerate(schema.of_kind("numeric")):
            slope, threshold = _floats(known, schema.names[index], 2)
            self.raw_slope[:, column] = slope * scale[:, column].to(self.raw_slope.device)
            self.intercept[:, column] = slope * (threshold - location[:, column].to(self.intercept.device))
        for column, index in enumerate(schema.of_kind("categorical")):
            attribute = schema.attributes[index]
            scores = _floats(known, attribute.name, len(attribute.levels))
            self.level_score[:, : len(scores), column] = torch.tensor(scores, device=self.level_score.device)
        if schema.block_attributes:
            raise BenchError("missing_parameters of not_miwae can be given for numbers and categories only")
        self.requires_grad_(False)


class LinearMasking(nn.Module):
    """Log-odds of being observed, linear in all attributes: numbers, block means and level probabilities."""

    def __init__(self, layout: Layout, replicas: int) -> None:
        """Allocate the map from all attributes to all attributes."""
        super().__init__()
        numbers = layout.attributes - layout.categorical
        inputs = numbers + layout.max_levels * layout.categorical
        # Weights that fill whole cache lines round alike however many replicas there are.
        self.padding = -inputs % ROWS_PER_LINE
        self.score = BankedLinear(
            (replicas,),
            inputs + self.padding,
            layout.attributes,
            inputs_used=torch.tensor(numbers + int(layout.levels.sum()), device="cpu"),
        )

    def log_mask(self, numbers: Tensor, prediction: Prediction, x: Rows, layout: Layout) -> Tensor:
        """Return log p(m | x) summed over attributes, [R, k, b]; ``numbers`` are [R, k, b, numbers]."""
        draws, batch = numbers.shape[1], x.target
        seen = batch.observed[:, None, :, None, layout.numeric : layout.numeric + layout.categorical]
        levels = torch.where(seen, batch.categorical[:, None], prediction.probabilities())
        inputs = functional.pad(torch.cat([numbers, levels.flatten(-2)], dim=-1), (0, self.padding))
        score = self.score(inputs.flatten(1, 2)).unflatten(1, (draws, -1))
        return x.without_held_out(functional.logsigmoid(torch.where(batch.observed[:, None], score, -score))).sum(-1)

    def given_hidden(self, logits: Tensor) -> Tensor:
        """Return a hidden category's logits as they are: this model draws none."""
        return logits


class NotMIWAENetwork(LatentModel):
    """A stack of MIWAEs whose weights also hold p(m | x_o, x_u^k)."""

    models_missing = True

    def __init__(self, layout: Layout, replicas: int, settings: Settings) -> None:
        """Allocate the stack; raises BenchError on an unknown choice."""
        super().__init__(layout, replicas, settings)
        self.samples = int(settings["importance_samples"])
        self.decoder = data_decoder(layout, replicas, self.latent, settings)
        self.encoder = row_encoder(layout, replicas, 2 * self.latent, settings, self.decoder)
        kind = require_choice("missing_model", settings["missing_model"], ("selfmask", "selfmask_known", "linear"))
        self.proposes_numbers = require_choice("impute_with", settings["impute_with"], ("draws", "means")) == "draws"
        self.missing: SelfMasking | LinearMasking = (
            LinearMasking(layout, replicas)
            if kind == "linear"
            else SelfMasking(layout, replicas, known_sign=kind == "selfmask_known")
        )
        widths = [1] * layout.numeric + [group.width for group in layout.block_groups for _ in group.names]
        #: The mean of a block's independent errors has their spread over the root of its width.
        self.shrink = torch.tensor(widths, dtype=torch.float32, device=layout.owner.device).rsqrt()

    def q(self, x: Rows) -> Gaussian:
        """Return q(z | x_o)."""
        return Gaussian.from_raw(self.encoder(x.input.flat()))

    def p_x(self, z: Tensor, x: Rows) -> Prediction:
        """Return p(x | z)."""
        return self.decoder(z)

    def bound(self, x: Rows, noise: Noise, beta: Scale) -> Tensor:
        """Return the importance-weighted bound on log p(x_o, m), with K draws of z and x_u per row."""
        log_weight, _, _ = self.weigh(x, self.samples, noise, beta)
        return torch.logsumexp(log_weight, dim=1) - math.log(self.samples)

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        """Return importance log-weights with the missing model in them, and the decoded draws."""
        log_weight, prediction, q = self.weigh(x, draws, noise)
        return log_weight, prediction, {"kl": q.kl(), "kl_blocks": q.kl_per_dimension()}

    def weigh(self, x: Rows, draws: int, noise: Noise, beta: Scale = 1.0) -> tuple[Tensor, Prediction, Gaussian]:
        """Return the log-weights with the missing model in them, the prediction of x_u^k, and the proposal."""
        layout, batch = self.layout, x.target
        log_weight, prediction, q = self.log_weights(x, noise.normal("latent", draws, x.size, self.latent), beta)
        e = noise.normal("numbers", draws, x.size, layout.attributes - layout.categorical)
        scales = torch.exp(self.decoder.heads.log_scales(prediction.numeric.dim()))
        error = scales * self.shrink * e
        means = torch.cat([prediction.numeric, *(block.mean(-1) for block in prediction.blocks)], dim=-1)
        known = torch.cat([batch.numeric, *(block.mean(-1) for block in batch.blocks)], dim=-1)[:, None]
        drawn = torch.where(numbers_of(batch.observed, layout)[:, None], known, means + error)
        log_weight = log_weight + self.missing.log_mask(drawn, prediction, x, layout)
        if not self.proposes_numbers:
            return log_weight, prediction, q
        first, blocks = layout.numeric, []
        for block in prediction.blocks:
            members = block.shape[-2]
            # Given its mean, a block of independent errors is shifted as a whole.
            blocks.append(block + error[..., first : first + members, None])
            first += members
        categorical = self.missing.given_hidden(prediction.categorical)
        if x.held_out is not None:
            # It is the mechanism that shows a held-out entry: that it is hidden here says nothing of its value.
            held_out = x.held_out[:, None, :, None, layout.numeric : layout.numeric + layout.categorical]
            categorical = torch.where(held_out, prediction.categorical, categorical)
        given = Prediction(
            prediction.numeric + error[..., : layout.numeric],
            categorical,
            tuple(blocks),
        )
        return log_weight, given, q


def numbers_of(values: Tensor, layout: Layout) -> Tensor:
    """Return the entries of values [..., M], in group order, that are no category: numbers, then blocks."""
    return torch.cat([values[..., : layout.numeric], values[..., layout.numeric + layout.categorical :]], dim=-1)


def _floats(known: Mapping[str, Sequence[float]], name: str, count: int) -> list[float]:
    """Return the given parameters of one attribute; raises BenchError unless they are ``count`` finite numbers."""
    values = [float(value) for value in known[name]]
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise BenchError(f"missing_parameters of not_miwae for '{name}' must be {count} finite numbers, not {values}")
    return values


class NotMIWAE(VariationalMethod, DrawingMethod):
    """Importance-weighted autoencoder with a missing model."""

    name = "not_miwae"
    summary = "not-MIWAE: MIWAE with a model of why entries are missing, for data not missing at random"
    version = 1
    tunable = {
        "learning_rate": ("log", 3e-4, 1e-2),
        "kl_weight": ("log", 0.03, 1.0),
        "scale_floor": ("log", 1e-3, 0.3),
        "input_dropout": ("uniform", 0.0, 0.6),
    }
    parameter_sets = {
        "default": {
            "fill": "zero",
            "importance_samples": 20,
            "missing_model": "selfmask",
            "missing_parameters": None,
            "impute_with": "draws",
            "kl_warm_up": False,
            "input_dropout": 0.0,
        },
        "literal": {"impute_with": "means"},
    }

    def build(self, layout: Layout, replicas: int) -> NotMIWAENetwork:
        """Return the untrained stack, its missing model fixed where it is known."""
        network = NotMIWAENetwork(layout, replicas, self.parameters)
        known = self.parameters["missing_parameters"]
        if known is not None:
            if not isinstance(network.missing, SelfMasking):
                raise BenchError("missing_parameters of not_miwae are those of a self-masking missing_model")
            network.missing.fix(known, layout, self.encoder.location, self.encoder.scale)
        return network
