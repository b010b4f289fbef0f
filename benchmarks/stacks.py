"""VSAE stacks ready to train or to impute, and tables of the shapes they are measured on.

They take real data if there is any; ``--small`` takes synthetic tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from bench.api import Attribute, Budget, Context, Incomplete, Schema, Table, TensorView
from bench.experiment.presets import budget_for
from bench.neural.engine import trainer as training
from bench.neural.engine.bank import reset_parameters
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import DrawnNoise, replica_generators
from bench.neural.engine.replay import Replays
from bench.neural.engine.schedule import History
from bench.neural.engine.trainer import Trainer
from bench.neural.model import Network
from bench.neural.rows import Imputed, Layout, Rows
from bench.problem.held_out import deal_folds

if TYPE_CHECKING:
    from bench.neural.method import NeuralStackedMethod

#: The shapes of the small stand-ins: numbers, categories by their levels, image pixels.
SMALL_SHAPES: dict[str, tuple[int, tuple[int, ...], tuple[int, ...]]] = {
    "yeast": (8, (), ()),
    "whitewine": (11, (), ()),
    "mushroom": (0, (6, 4, 10, 2, 9, 2, 5, 3), ()),
    "mnist_mnist": (0, (), (49, 49)),
}
SMALL_ROWS = 400
RATIO = 0.5


def table_of(name: str, small: bool) -> Table:
    """Return a data set, or a small table of its kind; raises BenchError if the data cannot be had."""
    if small:
        return synthetic_table(SMALL_ROWS, *SMALL_SHAPES[name])
    from bench.files.fetch import load_table
    from bench.plugins.registry import Registry, load

    return load_table(load(Registry.scan().dataset(name))(), include_target=False).table


def synthetic_table(rows: int, numbers: int, levels: Sequence[int], pixels: Sequence[int], seed: int = 0) -> Table:
    """Return rows whose attributes all follow one hidden factor: numbers, categories and images."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=rows)
    attributes = [Attribute(f"number{j}", "numeric") for j in range(numbers)]
    columns = [j + 0.9 * factor + 0.4 * rng.normal(size=rows) for j in range(numbers)]
    for j, count in enumerate(levels):
        attributes.append(Attribute(f"category{j}", "categorical", levels=tuple(f"level{k}" for k in range(count))))
        place = (factor + 0.3 * rng.normal(size=rows) + 2) / 4
        columns.append(np.clip(np.floor(place * count), 0, count - 1))
    blocks = {}
    for j, width in enumerate(pixels):
        attributes.append(Attribute(f"image{j}", "image", shape=(width,)))
        pixel = 128 + 60 * factor[:, None] + rng.normal(0, 20, (rows, width))
        blocks[f"image{j}"] = np.clip(pixel, 0, 255).astype(np.uint8)
    scalars = np.stack(columns, axis=1) if columns else np.zeros((rows, 0))
    return Table(Schema(tuple(attributes)), scalars, blocks, np.ones((rows, len(attributes)), dtype=bool))


@dataclass(frozen=True, eq=False)
class Views:
    """A table's parts under MCAR holes, every replica with its own split and mask."""

    train: Incomplete
    validation: Incomplete
    test: Incomplete

    @classmethod
    def of(cls, table: Table, replicas: int, ratio: float = RATIO) -> Views:
        """Split 64 : 16 : 20, as ``bench.problem.build`` does."""
        rng = np.random.default_rng(1)
        rows = np.stack([rng.permutation(len(table)) for _ in range(replicas)])
        observed = rng.random((replicas, len(table), len(table.schema))) >= ratio
        first, second = round(0.64 * len(table)), round(0.8 * len(table))
        folds = np.stack([deal_folds(mask[first:second], 1, rng) for mask in observed])
        return cls(
            Incomplete(table, rows[:, :first], observed[:, :first]),
            Incomplete(table, rows[:, first:second], observed[:, first:second], folds),
            Incomplete(table, rows[:, second:], observed[:, second:]),
        )

    def first(self, replicas: int) -> Views:
        """Return the views of the first replicas."""
        return Views(*(_first(view, replicas) for view in (self.train, self.validation, self.test)))


def _first(view: Incomplete, replicas: int) -> Incomplete:
    folds = None if view._folds is None else view._folds[:replicas]
    return Incomplete(view._table, view._rows[:replicas], view.observed[:replicas], folds)


def steady_budget(preset: str, kinds: Iterable[str], steps: int) -> Budget:
    """Return a preset's budget for so many steps after the warm phase, one validation at the end."""
    return replace(budget_for(preset, kinds), steps=steps, epochs=None, warm_fraction=0.0, evaluations=1)


@dataclass(eq=False)
class Stack:
    """A stack of VSAEs with untrained parameters, built as ``NeuralStackedMethod.fit_many`` builds it."""

    method: NeuralStackedMethod
    network: Network
    encoder: Encoder
    views: Views
    rows: TensorView
    test: TensorView
    seeds: tuple[int, ...]
    noise: DrawnNoise
    device: str
    _trainers: dict[tuple[Budget, bool], Trainer] = field(default_factory=dict)

    @classmethod
    def of(cls, views: Views, budget: Budget, device: str = "cpu") -> Stack:
        """Build a stack of as many replicas as the views have, with VSAE's default parameters."""
        from bench.plugins.registry import Registry, load

        vsae = load(Registry.scan().method("vsae"))
        # The reading that the plain loop has.
        parameters = {**vsae.parameter_sets["default"], "reading": "independent"}
        method = vsae(parameters, Context(budget, device))
        seeds = tuple(range(views.train.replicas))
        layout = Layout(views.train.schema)
        encoder = Encoder(views.train, layout, method.parameters["scaling"], device)
        layout.to(device)
        network = method.build(layout, len(seeds))
        reset_parameters(network, replica_generators("initialisation", seeds))
        network.to(device)
        noise = DrawnNoise(replica_generators("evaluation", seeds, device), device)
        rows, test = views.train.tensors(device), views.test.tensors(device)
        return cls(method, network, encoder, views, rows, test, seeds, noise, device)

    def trainer(self, budget: Budget) -> Trainer:
        """Return a trainer for a budget; the validation error is taken to be 0, which costs nothing."""
        no_error = torch.zeros(len(self.seeds), device=self.device)
        return Trainer(
            self.network,
            self.rows,
            self.encoder,
            # Not a function that holds the stack: it would go in a cycle with its trainers, recordings and all.
            no_error.clone,
            self.seeds,
            Context(budget, self.device),
            self.method.parameters["clip_norm"],
            budget.learning_rate,
        )

    def train(self, budget: Budget) -> History:
        """Train for a budget."""
        return self.trainer(budget).run()

    def take_steps(self, budget: Budget, replayed: bool = True) -> int:
        """Take a budget's steps, in whole epochs, with a trainer that stays; return how many they were.

        The first call makes it and does what happens once. With ``replayed=False`` nothing is recorded.
        """
        key = budget, replayed
        if key not in self._trainers:
            self._trainers[key] = self.trainer(budget)
            if not replayed:
                self._trainers[key].step_replays = self._trainers[key].gradient_replays = Replays(None, list)
            # Recorded though they are few, when they come the second time.
            with patch.object(training, "STEPS_WORTH_RECORDING", 0):
                for _ in range(2):
                    self._trainers[key].run_epoch()
        trainer = self._trainers[key]
        for _ in range(trainer.schedule.epochs):
            trainer.run_epoch()
        return trainer.schedule.epochs * trainer.schedule.steps_per_epoch

    @torch.no_grad()
    def impute(self, rows: int, draws: int) -> tuple[Imputed, dict[str, Tensor]]:
        """Impute the first test rows of every replica, in one piece; every call draws other noise."""
        index = torch.arange(rows, device=self.device).expand(len(self.seeds), -1)
        self.network.eval()
        return self.network.impute(Rows(self.encoder.encode(self.test.batch(index))), draws, self.noise)
