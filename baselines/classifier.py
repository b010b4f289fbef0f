"""The ceiling of the multi-modal tables: each attribute predicted from the others by a network of VSAE's backbone.

The attributive encoders code each observed attribute, and one decoder per attribute reads the codes of the others, with
the mask. It is trained by cross-entropy on labels and by the squared error on images and features, in the rows that
show both the attribute and another one: a classifier of the label, and a regression of the image, which aims at the
least mean squared error there is. No distribution is modelled and nothing is sampled. A row with nothing else observed
has nothing to be predicted from, and gets the floor.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from bench.neural.heads import Heads, Prediction
from bench.neural.method import NeuralStackedMethod
from bench.neural.model import Network, Noise, Notes, Settings, Warmup
from bench.neural.networks import AttributiveEncoders, BankedMLP, Sizes
from bench.neural.rows import Imputed, Layout, Rows


class PredictionNetwork(Network):
    """A stack of networks that predict every attribute from the other observed ones."""

    def __init__(self, layout: Layout, replicas: int, settings: Settings, floor: Imputed) -> None:
        """Allocate the stack; ``floor`` [R, 1, ...] stands where nothing else is observed."""
        super().__init__(layout, replicas, settings)
        self.floor = floor
        sizes = Sizes.of(layout, settings["latent"])
        self.encoders = AttributiveEncoders(layout, replicas, sizes)
        inputs, hidden = layout.attributes * (2 * sizes.latent + 1), [sizes.decoder] * 3

        def bank(members: int, outputs: int) -> BankedMLP:
            return BankedMLP((replicas, members), inputs, hidden, outputs, batch_norm="first")

        self.labels = bank(layout.categorical, layout.max_levels) if layout.categorical else None
        self.blocks = nn.ModuleList(bank(len(group.names), group.width) for group in layout.block_groups)
        self.heads = Heads(layout, replicas, learned_scale=False)
        self.itself = torch.eye(layout.attributes, dtype=torch.bool, device=layout.owner.device)

    def others(self, x: Rows) -> Tensor:
        """Return which attributes each attribute is predicted from, [R, M, b, M]."""
        return x.observed[:, None] & ~self.itself[:, None]

    def predict(self, x: Rows) -> Prediction:
        """Return each attribute's prediction from the others, [R, b, ...]; it means nothing where there are none."""
        layout, others = self.layout, self.others(x)
        proposal = self.encoders(x.input)
        codes = torch.cat([proposal.mean, proposal.log_variance], dim=-1)
        counted = (others.any(-1) & x.observed.transpose(1, 2)).to(codes.dtype)

        def decoded(decoder: BankedMLP, members: slice) -> Tensor:
            given = others[:, members]
            shown = torch.where(given[..., None], codes[:, None], 0.0).flatten(-2)
            return decoder(torch.cat([shown, given.to(codes.dtype)], dim=-1), counted[:, members])

        logits = codes.new_zeros(*codes.shape[:2], 0)
        if self.labels is not None:
            by_label = decoded(self.labels, slice(layout.numeric, layout.numeric + layout.categorical))
            logits = by_label.permute(0, 2, 3, 1).flatten(2)
        images = tuple(
            decoded(decoder, layout.group_positions(index)).transpose(1, 2)
            for index, decoder in enumerate(_banks(self.blocks))
        )
        return self.heads(logits, images)

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        """Return the sum over attributes of the mean error in the rows that show it and another attribute."""
        prediction, truth = self.predict(x), x.target
        log_probabilities = torch.log_softmax(prediction.categorical, dim=-2).masked_fill(self.layout.no_level, 0.0)
        surprise = -(truth.categorical * log_probabilities).sum(-2)
        squared = [((block - mean) ** 2).mean(-1) for block, mean in zip(truth.blocks, prediction.blocks, strict=True)]
        errors = torch.cat([surprise, *squared], dim=-1)
        counted = self.others(x).any(-1).transpose(1, 2) & x.observed
        return (torch.where(counted, errors, 0.0).sum(1) / counted.sum(1).clamp(min=1)).sum(-1)

    @torch.no_grad()
    def impute(self, x: Rows, draws: int, noise: Noise) -> tuple[Imputed, Notes]:
        """Return the predictions, and the floor where nothing else is observed; nothing is drawn."""
        layout, predicted = self.layout, self.predict(x).expectation()
        informed = self.others(x).any(-1).transpose(1, 2)
        categories = informed[..., None, layout.numeric : layout.numeric + layout.categorical]
        blocks = tuple(
            torch.where(informed[..., layout.group_positions(index), None], block, floor)
            for index, (block, floor) in enumerate(zip(predicted.blocks, self.floor.blocks, strict=True))
        )
        labels = torch.where(categories, predicted.categorical, self.floor.categorical)
        return Imputed(predicted.numeric, labels, blocks), {}


def _banks(modules: nn.ModuleList) -> Iterable[BankedMLP]:
    """Return the members of a list of banks."""
    for module in modules:
        assert isinstance(module, BankedMLP)
        yield module


class Classifier(NeuralStackedMethod):
    """Discriminative network: the label from the image, the image from the label, features from features."""

    name = "classifier"
    summary = "Discriminative network of VSAE's backbone, each attribute predicted from the others: the ceiling"
    version = 2
    kinds = ("categorical", "image", "features")
    #: Each attribute has a decoder of its own that reads all the others.
    max_attributes = 32
    parameter_sets = {"default": {"latent": None}}

    def build(self, layout: Layout, replicas: int) -> PredictionNetwork:
        """Return the untrained stack."""
        return PredictionNetwork(layout, replicas, self.parameters, self.encoder.floor)
