"""VSAE as a plain PyTorch loop: what the banked engine is compared with.

The same networks, losses and optimiser as ``baselines/vsae.py`` in the reading ``independent``, written the usual way:
one module per attribute, one seed at a time, tensors preloaded, batches gathered by index, foreach Adam. Given the same
initial weights, batches and noise it has the same losses. It wastes nothing that a plain loop would spare: an
attribute's encoder runs on the rows that show it, and samples of the unobserved enter by their moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.api import Budget, TensorView
from bench.neural.engine.bank import BankedBatchNorm, BankedLinear, BankedMLP
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import replica_generators
from bench.neural.engine.trainer import NOISE_FLOATS
from bench.neural.importance import DRAWS_AT_A_TIME
from bench.neural.model import Network
from bench.neural.networks import Sizes
from bench.neural.rows import Encoded, Layout
from benchmarks.stacks import Stack

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
SCALE_FLOOR = 1e-3
LOG_VARIANCE_RANGE = (-10.0, 10.0)


#: Noise for the hidden slots of each attribute, [b, width], and for several draws of z, [draws, b, M, latent].
PlainNoise = tuple[list[Tensor], Tensor]


@dataclass(frozen=True)
class PlainAttribute:
    """One attribute: its kind, its width after encoding, and the columns of a banked row [width] that hold it."""

    kind: str
    columns: tuple[int, ...]

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.columns)


def attributes_of(layout: Layout) -> list[PlainAttribute]:
    """Return a layout's attributes in group order."""
    found = [PlainAttribute("numeric", (column,)) for column in range(layout.numeric)]
    for index, levels in enumerate(layout.levels.tolist()):
        columns = tuple(layout.numeric + level * layout.categorical + index for level in range(levels))
        found.append(PlainAttribute("categorical", columns))
    first = layout.scalar_width
    for group in layout.block_groups:
        for _ in group.names:
            found.append(PlainAttribute(group.kind, tuple(range(first, first + group.width))))
            first += group.width
    return found


@dataclass(frozen=True)
class PlainData:
    """Preloaded tensors of one replica: one [n, width] per attribute, 0 in hidden entries, and the mask [n, M]."""

    values: tuple[Tensor, ...]
    observed: Tensor

    @classmethod
    def of(cls, encoded: Encoded, replica: int, attributes: Sequence[PlainAttribute]) -> PlainData:
        """Take one replica of encoded rows apart."""
        flat = encoded.flat()[replica]
        return cls(tuple(flat[:, list(a.columns)].contiguous() for a in attributes), encoded.observed[replica])

    def rows(self, index: Tensor) -> PlainData:
        """Return some rows."""
        return PlainData(tuple(values[index] for values in self.values), self.observed[index])


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that uses the running statistics if a batch has fewer than two rows."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [n, width]."""
        if self.training and len(input) < 2:
            return functional.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, False)
        return super().forward(input)


def perceptron(inputs: int, width: int, outputs: int, normalised: int) -> nn.Sequential:
    """Return three hidden layers with LeakyReLU, the first ``normalised`` batch-normalised, and a linear one."""
    layers: list[nn.Module] = []
    for level in range(3):
        layers.append(nn.Linear(inputs if level == 0 else width, width))
        if level < normalised:
            layers.append(RowNorm(width))
        layers.append(nn.LeakyReLU(0.01))
    return nn.Sequential(*layers, nn.Linear(width, outputs))


class PlainVSAE(nn.Module):
    """One VSAE with one module per attribute (VSAE appendix C)."""

    def __init__(self, layout: Layout) -> None:
        """Allocate the networks with PyTorch's own initial weights."""
        super().__init__()
        self.attributes = attributes_of(layout)
        sizes = Sizes.of(layout)
        self.latent, count = sizes.latent, len(self.attributes)
        widths = {"numeric": sizes.numeric_encoder, "categorical": sizes.categorical_encoder}
        normalised = 0 if layout.block_groups else 3
        self.encoders = nn.ModuleList(
            perceptron(a.width, widths.get(a.kind, sizes.block_encoder), 2 * self.latent, normalised)
            for a in self.attributes
        )
        inputs = sum(a.width for a in self.attributes) + count
        self.collective = perceptron(inputs, sizes.collective_encoder, 2 * count * self.latent, 0)
        self.mask_decoder = perceptron(count * self.latent, 16, count, 1)
        conditioned = count * self.latent + count
        self.scalars = [a for a in self.attributes if a.kind in ("numeric", "categorical")]
        scalar_width = sum(a.width for a in self.scalars)
        self.scalar_decoder = perceptron(conditioned, sizes.decoder, scalar_width, 1) if self.scalars else None
        self.block_decoders = nn.ModuleList(
            perceptron(conditioned, sizes.decoder, a.width, 1) for a in self.attributes[len(self.scalars) :]
        )
        gaussian = [a for a in self.attributes if a.kind != "categorical"]
        self.log_scale = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in gaussian])

    def propose(self, data: PlainData, fill: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z | x_o, m), [b, M, latent]; ``fill`` is noise for hidden entries."""
        observed = data.observed
        means, log_variances = [], []
        filled = [
            torch.where(observed[:, i, None], values, noise)
            for i, (values, noise) in enumerate(zip(data.values, fill, strict=True))
        ]
        raw = self.collective(torch.cat([*filled, observed.float()], dim=1))
        collective = raw.unflatten(1, (len(self.attributes), 2 * self.latent))
        for i, encoder in enumerate(self.encoders):
            shown = observed[:, i].nonzero().squeeze(1)
            own = collective[:, i].index_copy(0, shown, encoder(data.values[i][shown]))
            mean, log_variance = own.chunk(2, dim=1)
            means.append(mean)
            log_variances.append(log_variance.clamp(*LOG_VARIANCE_RANGE))
        return torch.stack(means, dim=1), torch.stack(log_variances, dim=1)

    def decode(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the mask's logits [n, M] and per attribute a mean [n, width] or log-probabilities [n, levels]."""
        logits = self.mask_decoder(z)
        conditioned = torch.cat([z, torch.sigmoid(logits)], dim=1)
        predictions: list[Tensor] = []
        if self.scalar_decoder is not None:
            parts = self.scalar_decoder(conditioned).split([a.width for a in self.scalars], dim=1)
            for attribute, part in zip(self.scalars, parts, strict=True):
                predictions.append(torch.log_softmax(part, dim=1) if attribute.kind == "categorical" else part)
        for attribute, decoder in zip(self.attributes[len(self.scalars) :], self.block_decoders, strict=True):
            raw = decoder(conditioned)
            predictions.append(torch.sigmoid(raw) if attribute.kind == "image" else raw)
        return logits, predictions

    def log_likelihood(
        self, predictions: Sequence[Tensor], targets: Sequence[Tensor], variances: Sequence[Tensor | None]
    ) -> list[Tensor]:
        """Return each attribute's expected log-density [n] of targets with means and (summed) variances."""
        scales, found = iter(self.log_scale), []
        for attribute, prediction, target, variance in zip(
            self.attributes, predictions, targets, variances, strict=True
        ):
            if attribute.kind == "categorical":
                found.append((target * prediction).sum(1))
                continue
            log_scale = next(scales).clamp(min=math.log(SCALE_FLOOR))
            error = ((target - prediction) ** 2).sum(1)
            if variance is not None:
                error = error + variance
            found.append(-0.5 * error * torch.exp(-2 * log_scale) - attribute.width * (log_scale + HALF_LOG_TWO_PI))
        return found

    def loss(self, data: PlainData, noise: Mapping[str, Tensor], fill: Sequence[Tensor]) -> Tensor:
        """Return the negative bound of a batch after the warm phase.

        ``noise`` holds ``latent`` [b, M, latent] and ``target`` [samples, b, M, latent].
        """
        mean, log_variance = self.propose(data, fill)
        deviation = torch.exp(0.5 * log_variance)
        logits, predictions = self.decode((mean + deviation * noise["latent"]).flatten(1))
        observed = data.observed
        bound = functional.logsigmoid(torch.where(observed, logits, -logits)).sum(1)
        bound = bound - 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum((1, 2))
        targets, variances = self.imagine(mean, deviation, noise["target"])
        shown = self.log_likelihood(predictions, data.values, [None] * len(self.attributes))
        imagined = self.log_likelihood(predictions, targets, variances)
        for i, (known, unknown) in enumerate(zip(shown, imagined, strict=True)):
            bound = bound + torch.where(observed[:, i], known, unknown)
        return -bound.mean()

    @torch.no_grad()
    def imagine(self, mean: Tensor, deviation: Tensor, noise: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return mean and summed variance of what samples of z decode to.

        Of a table by the batch's statistics, which leave the running ones as they are; of images by running ones.
        """
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm1d)]
        momenta = [norm.momentum for norm in norms]
        self.train(not self.block_decoders)
        for norm in norms:
            norm.momentum = 0.0
        samples = (mean + deviation * noise).flatten(2).flatten(0, 1)
        _, predictions = self.decode(samples)
        self.train()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        targets: list[Tensor] = []
        variances: list[Tensor | None] = []
        for attribute, prediction in zip(self.attributes, predictions, strict=True):
            drawn = prediction.unflatten(0, (len(noise), -1))
            if attribute.kind == "categorical":
                targets.append(drawn.exp().mean(0))
                variances.append(None)
                continue
            centre = drawn.mean(0)
            targets.append(centre)
            variances.append(((drawn - centre) ** 2).sum(2).mean(0))
        return targets, variances

    @torch.no_grad()
    def impute(self, data: PlainData, draws: int, noise: Callable[[], PlainNoise] | None = None) -> list[Tensor]:
        """Return each attribute's expectation [b, width] given what is observed, by a loop over importance samples.

        ``noise`` gives standard normal noise for the next few draws; without it, it is drawn here.
        """
        self.eval()
        rows, observed = len(data.observed), data.observed
        drawn = noise or partial(self.draw_noise, rows, observed.device)
        highest = torch.full((rows,), -math.inf, device=observed.device)
        total = torch.zeros(rows, device=observed.device)
        sums = [torch.zeros(rows, attribute.width, device=observed.device) for attribute in self.attributes]
        done = 0
        while done < draws:
            fill, latents = drawn()
            mean, log_variance = self.propose(data, fill)
            deviation = torch.exp(0.5 * log_variance)
            for latent in latents[: draws - done]:
                done += 1
                z = mean + deviation * latent
                logits, predictions = self.decode(z.flatten(1))
                parts = self.log_likelihood(predictions, data.values, [None] * len(self.attributes))
                weight = torch.where(observed, torch.stack(parts, dim=1), 0.0).sum(1)
                weight = weight + functional.logsigmoid(torch.where(observed, logits, -logits)).sum(1)
                weight = weight + 0.5 * (((z - mean) / deviation) ** 2 + log_variance - z**2).sum((1, 2))
                highest, before = torch.maximum(highest, weight), highest
                shrink, share = torch.exp(before - highest), torch.exp(weight - highest)
                total = total * shrink + share
                for i, (attribute, prediction) in enumerate(zip(self.attributes, predictions, strict=True)):
                    value = prediction.exp() if attribute.kind == "categorical" else prediction
                    sums[i] = sums[i] * shrink[:, None] + value * share[:, None]
        return [value / total[:, None] for value in sums]

    def draw_noise(self, rows: int, device: torch.device) -> PlainNoise:
        """Return noise for the hidden slots and for the next ``DRAWS_AT_A_TIME`` draws, as the engine shares it out."""
        fill = [torch.randn(rows, attribute.width, device=device) for attribute in self.attributes]
        return fill, torch.randn(DRAWS_AT_A_TIME, rows, len(self.attributes), self.latent, device=device)


class PlainTraining:
    """The loop: shuffled batches, Adam over lists of tensors, clipped gradients."""

    def __init__(
        self,
        model: PlainVSAE,
        data: PlainData,
        batch: int,
        samples: int,
        learning_rate: float,
        clip_norm: float | None,
    ) -> None:
        """Set up for one replica."""
        self.model, self.data, self.batch, self.samples, self.clip_norm = model, data, batch, samples, clip_norm
        self.optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate, foreach=True)

    def step(self, index: Tensor, noise: Mapping[str, Tensor], fill: Sequence[Tensor]) -> Tensor:
        """Take one step on the rows ``index`` and return the loss before it."""
        loss = self.model.loss(self.data.rows(index), noise, fill)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm, foreach=True)
        self.optimiser.step()
        return loss.detach()

    def run(self, steps: int) -> Tensor:
        """Take so many steps with noise drawn as it is needed; return the mean loss."""
        rows, device = self.data.observed.shape[0], self.data.observed.device
        order, at = torch.randperm(rows, device=device), 0
        total = torch.zeros((), device=device)
        for _ in range(steps):
            if at + self.batch > rows:
                order, at = torch.randperm(rows, device=device), 0
            index = order[at : at + self.batch]
            at += self.batch
            shape = (len(index), len(self.model.attributes), self.model.latent)
            noise = {
                "latent": torch.randn(shape, device=device),
                "target": torch.randn((self.samples, *shape), device=device),
            }
            fill = [torch.randn(len(index), a.width, device=device) for a in self.model.attributes]
            total += self.step(index, noise, fill)
        return total / steps


@torch.no_grad()
def copy_weights(network: Network, replica: int, plain: PlainVSAE) -> None:
    """Give a plain VSAE the weights and running statistics of one replica of a banked one; padding is left out."""
    layout = network.layout
    attributes = plain.attributes
    columns = [column for attribute in attributes for column in attribute.columns]
    mask = list(range(layout.width, layout.width + layout.attributes))
    banks: dict[str, nn.Module] = dict(network.named_children())
    attributive, decoder = banks["attributive"], banks["decoder"]
    groups = [
        (attributive.get_submodule(name), members)
        for name, members in (("numeric", layout.numeric), ("categorical", layout.categorical))
        if members
    ]
    groups += [
        (bank, len(group.names))
        for bank, group in zip(attributive.get_submodule("blocks").children(), layout.block_groups, strict=True)
    ]
    places = [(bank, member) for bank, members in groups for member in range(members)]
    for (bank, member), attribute, own in zip(places, attributes, plain.encoders, strict=True):
        _copy_bank(bank, (replica, member), own, inputs=list(range(attribute.width)))
    _copy_bank(banks["collective"], (replica,), plain.collective, inputs=columns + mask)
    _copy_bank(banks["mask_decoder"], (replica,), plain.mask_decoder)
    if plain.scalar_decoder is not None:
        scalar_columns = [column for attribute in plain.scalars for column in attribute.columns]
        _copy_bank(decoder.get_submodule("scalars"), (replica,), plain.scalar_decoder, outputs=scalar_columns)
    places = [
        (bank, member)
        for bank, group in zip(decoder.get_submodule("blocks").children(), layout.block_groups, strict=True)
        for member in range(len(group.names))
    ]
    for (bank, member), own in zip(places, plain.block_decoders, strict=True):
        _copy_bank(bank, (replica, member), own)
    scales = decoder.get_parameter("heads.log_scale") if len(plain.log_scale) else torch.empty(0)
    for index, scale in enumerate(plain.log_scale):
        scale.copy_(scales[replica, index])


def _copy_bank(
    bank: nn.Module,
    place: tuple[int, ...],
    own: nn.Module,
    inputs: list[int] | None = None,
    outputs: list[int] | None = None,
) -> None:
    """Copy one network of a bank; ``inputs`` and ``outputs`` choose columns of its first and last layer."""
    assert isinstance(bank, BankedMLP)
    linear = [layer for layer in own.children() if isinstance(layer, nn.Linear)]
    for level, (layer, mine) in enumerate(zip(bank.layers, linear, strict=True)):
        assert isinstance(layer, BankedLinear)
        weight, bias = layer.weight[place], layer.bias[place]
        if level == 0 and inputs is not None:
            weight = weight[inputs]
        if level == len(linear) - 1 and outputs is not None:
            weight, bias = weight[:, outputs], bias[outputs]
        mine.weight.copy_(weight.T)
        mine.bias.copy_(bias)
    norms = [layer for layer in own.children() if isinstance(layer, RowNorm)]
    for norm, mine_norm in zip(bank.norms, norms, strict=True):
        assert isinstance(norm, BankedBatchNorm)
        mine_norm.weight.copy_(norm.gain[place])
        mine_norm.bias.copy_(norm.shift[place])
        assert mine_norm.running_mean is not None and mine_norm.running_var is not None
        mine_norm.running_mean.copy_(norm.running_mean[place])
        mine_norm.running_var.copy_(norm.running_variance[place])


def of_replica(stack: Stack, replica: int, budget: Budget) -> PlainTraining:
    """Return a plain training of one replica of a stack: its data, its present weights, its optimiser's settings."""
    model = PlainVSAE(stack.network.layout).to(stack.device)
    copy_weights(stack.network, replica, model)
    data = plain_rows(stack.encoder, stack.rows, replica, model.attributes)
    batch, clip_norm = min(budget.batch, stack.rows.rows), stack.method.parameters["clip_norm"]
    return PlainTraining(model, data, batch, budget.target_draws, budget.learning_rate, clip_norm)


def first_test_rows(stack: Stack, rows: int) -> tuple[PlainVSAE, PlainData]:
    """Return a plain VSAE with the weights of the first replica, and its first test rows."""
    model = PlainVSAE(stack.network.layout).to(stack.device)
    copy_weights(stack.network, 0, model)
    data = plain_rows(stack.encoder, stack.test, 0, model.attributes)
    return model, data.rows(torch.arange(rows, device=stack.device))


def plain_rows(encoder: Encoder, view: TensorView, replica: int, attributes: Sequence[PlainAttribute]) -> PlainData:
    """Return one replica's rows of a view, encoded and taken apart."""
    index = torch.arange(view.rows, device=view.observed.device).expand(view.replicas, -1)
    return PlainData.of(encoder.encode(view.batch(index)), replica, attributes)


def plain_losses(
    training: PlainTraining,
    seed: int,
    epochs: int,
    noise_shapes: Mapping[str, tuple[int, ...]],
    steps: int | None = None,
) -> list[float]:
    """Return the mean loss of each epoch on the batches and noise that ``Trainer`` draws for a replica on a CPU.

    ``steps`` is the length of an epoch where the budget cuts it. Its noise has to fit into one of the trainer's blocks.
    """
    rows = len(training.data.observed)
    batches, sizes = steps or rows // training.batch, [math.prod(shape) for shape in noise_shapes.values()]
    if batches * sum(sizes) > NOISE_FLOATS:
        raise ValueError("an epoch's noise does not fit into one block")
    order_generator, noise_generator = (
        replica_generators(stream, [seed])[0] for stream in ("training", "training noise")
    )
    losses = []
    for _ in range(epochs):
        order = torch.randperm(rows, generator=order_generator)
        noise = torch.empty(batches, sum(sizes)).normal_(generator=noise_generator)
        total = 0.0
        for step in range(batches):
            pieces = noise[step].split(sizes)
            named = {name: piece.view(shape) for (name, shape), piece in zip(noise_shapes.items(), pieces, strict=True)}
            fill = [named["fill"][:, list(attribute.columns)] for attribute in training.model.attributes]
            index = order[step * training.batch : (step + 1) * training.batch]
            total += float(training.step(index, named, fill))
        losses.append(total / batches)
    return losses
