"""Small tables of every kind of attribute and stacked views of them, for the tests of the neural engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.api import Attribute, BoolArray, Budget, Context, Incomplete, Schema, Table, Values
from bench.data.schema import AnyArray
from bench.neural.adversarial import ReluNetwork
from bench.neural.engine.bank import BankedLinear, BankedMLP
from bench.neural.engine.noise import AskedNoise, DrawnNoise, replica_generators
from bench.neural.engine.probe import dry_run
from bench.neural.model import LatentModel, Network, Warmup
from bench.neural.networks import frozen
from bench.neural.rows import Encoded, Rows
from bench.problem.held_out import deal_folds
from tests.truth import folds_behind, rows_behind

BASELINES = Path(__file__).resolve().parent.parent / "baselines"


def dependent_table(
    rows: int,
    numbers: int = 0,
    levels: Sequence[int] = (),
    images: int = 0,
    features: int = 0,
    pixels: int = 6,
    seed: int = 0,
) -> Table:
    """Return rows whose attributes all follow one hidden factor; images and categories come first in the schema."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=rows)
    attributes: list[Attribute] = []
    columns: list[AnyArray] = []
    blocks: dict[str, AnyArray] = {}
    for j in range(images):
        name = f"image{j}"
        attributes.append(Attribute(name, "image", shape=(pixels,)))
        raw = 128 + 60 * factor[:, None] + rng.normal(0, 20, (rows, pixels))
        blocks[name] = np.clip(raw, 0, 255).astype(np.uint8)
    for j, count in enumerate(levels):
        attributes.append(Attribute(f"category{j}", "categorical", levels=tuple(f"level{k}" for k in range(count))))
        place = (factor + 0.3 * rng.normal(size=rows) + 2) / 4
        columns.append(np.clip(np.floor(place * count), 0, count - 1))
    for j in range(features):
        name = f"features{j}"
        attributes.append(Attribute(name, "features", shape=(3,)))
        blocks[name] = (5 + factor[:, None] + rng.normal(size=(rows, 3))).astype(np.float32)
    for j in range(numbers):
        attributes.append(Attribute(f"number{j}", "numeric"))
        columns.append(10.0 * j + 3 * (0.9 * factor + 0.4 * rng.normal(size=rows)))
    scalars = np.stack(columns, axis=1) if columns else np.zeros((rows, 0))
    return Table(Schema(tuple(attributes)), scalars, blocks, np.ones((rows, len(attributes)), dtype=bool))


def split_views(
    table: Table, replicas: int = 1, ratio: float = 0.4, seed: int = 1
) -> tuple[Incomplete, Incomplete, Incomplete]:
    """Return training (60 %), validation and test views; every replica has its own split, mask and held-out entries."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.permutation(len(table)) for _ in range(replicas)])
    observed = rng.random((replicas, len(table), len(table.schema))) >= ratio
    first, second = int(0.6 * len(table)), int(0.8 * len(table))
    folds = np.stack([deal_folds(mask[first:second], 2, rng) for mask in observed])
    return (
        Incomplete(table, rows[:, :first], observed[:, :first]),
        Incomplete(table, rows[:, first:second], observed[:, first:second], folds),
        Incomplete(table, rows[:, second:], observed[:, second:]),
    )


def one_replica(views: Sequence[Incomplete], index: int) -> tuple[Incomplete, ...]:
    """Return the views of one replica alone."""
    return tuple(view.replica(index) for view in views)


def trained(
    method_class: type[Any],
    views: Sequence[Incomplete],
    seeds: Sequence[int],
    budget: Budget,
    parameters: dict[str, Any] | None = None,
    **context: Any,
) -> tuple[Any, list[Values]]:
    """Train on the views; return the method and its imputation of the last one. ``parameters`` change the defaults."""
    method = method_class(
        {**method_class.parameter_sets["default"], **(parameters or {})}, Context(budget=budget, **context)
    )
    method.fit_many(views[0], views[1], seeds)
    return method, method.impute_many(views[2], budget.draws)


def linear_layer(network: BankedMLP | ReluNetwork, level: int) -> BankedLinear:
    """Return one of a network's linear layers."""
    layer = network.layers[level]
    assert isinstance(layer, BankedLinear)
    return layer


def gradient_of(tensor: Tensor | None) -> Tensor:
    """Return the gradient that a backward pass left in a tensor."""
    assert tensor is not None and tensor.grad is not None
    return tensor.grad


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters and buffers by name; each has the replicas as its leading dimension."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def assert_same_values(first: Values, second: Values) -> None:
    """Assert that two imputations are the same to the bit."""
    assert first.scalars.tobytes() == second.scalars.tobytes()
    assert first.blocks.keys() == second.blocks.keys()
    for name, block in first.blocks.items():
        assert block.tobytes() == second.blocks[name].tobytes(), name


def poisoned(table: Table, revealed: BoolArray, seed: int) -> Table:
    """Return the table with other values in every entry that ``revealed`` [n, M] does not mark.

    Numbers and features become NaN, categories and images random.
    """
    rng = np.random.default_rng(seed)
    schema = table.schema
    scalars = table.scalars.copy()
    for column, index in enumerate(schema.scalar_indices):
        hidden = ~revealed[:, index]
        attribute = schema.attributes[index]
        if attribute.kind == "numeric":
            scalars[hidden, column] = np.nan
        else:
            scalars[hidden, column] = rng.integers(0, len(attribute.levels), int(hidden.sum()))
    blocks = {}
    for index, attribute in enumerate(schema.attributes):
        if attribute.name in table.blocks:
            block = table.blocks[attribute.name].copy()
            hidden = ~revealed[:, index]
            if attribute.kind == "image":
                block[hidden] = rng.integers(0, 256, (int(hidden.sum()), attribute.width))
            else:
                block[hidden] = np.nan
            blocks[attribute.name] = block
    return Table(schema, scalars, blocks, table.present)


def revealed_by(views: Sequence[Incomplete], table: Table, replica: int = 0) -> BoolArray:
    """Return which entries [n, M] of the table the views show."""
    revealed = np.zeros((len(table), len(table.schema)), dtype=bool)
    for view in views:
        revealed[rows_behind(view)[replica]] = view.observed[replica]
    return revealed


def on_table(view: Incomplete, table: Table) -> Incomplete:
    """Return the same view of another table."""
    return Incomplete(table, rows_behind(view), view.observed, folds_behind(view))


def generator(seed: int = 0) -> torch.Generator:
    """Return a torch generator."""
    return torch.Generator().manual_seed(seed)


class Named:
    """The noise of a step from parts by name."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        self._parts = parts

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return the part of a name, which has to have the shape that is asked for."""
        assert self._parts[name].shape[1:] == shape, f"{name}: {self._parts[name].shape} for {shape}"
        return self._parts[name]


def blank_rows(network: Network, rows: int) -> Encoded:
    """Return rows that show nothing, for a network in whatever precision."""
    layout, replicas, dtype = network.layout, network.replicas, next(network.parameters()).dtype
    return Encoded(
        torch.zeros(replicas, rows, layout.numeric, dtype=dtype),
        torch.zeros(replicas, rows, layout.max_levels, layout.categorical, dtype=dtype),
        tuple(torch.zeros(replicas, rows, len(g.names), g.width, dtype=dtype) for g in layout.block_groups),
        torch.zeros(replicas, rows, layout.attributes, dtype=torch.bool),
    )


def step_noise(network: Network, rows: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the noise one replica needs for a training step on ``rows`` rows."""
    return dry_run(network, lambda: Rows(blank_rows(network, rows))).noise


def proposal_noise(network: LatentModel, rows: int, draws: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the noise one replica needs to propose ``draws`` samples for each of ``rows`` rows."""
    asked, x = AskedNoise(network.replicas, "cpu"), Rows(blank_rows(network, rows))
    with torch.no_grad(), frozen(network):
        network.propose(network.given(x, asked), draws, asked)
    return asked.shapes


def loss_of(
    network: Network, batch: Encoded | Rows, noise: Mapping[str, Tensor], share: float = 1.0, warm: bool = False
) -> Tensor:
    """Return a network's loss of a batch under some noise."""
    x, named = batch if isinstance(batch, Rows) else Rows(batch), Named(noise)
    return network.loss(network.given(x, named), named, Warmup(share, warm))


def drawn(seed: int = 0, replicas: int = 1) -> DrawnNoise:
    """Return the noise of evaluations."""
    return DrawnNoise(replica_generators("evaluation", list(range(seed, seed + replicas))), "cpu")
