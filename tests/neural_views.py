"""Small tables of every kind of attribute and stacked views of them, for the tests of the neural engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.api import Attribute, BoolArray, Budget, Context, Incomplete, Schema, Table, Values
from bench.data.schema import AnyArray
from bench.problem.held_out import hold_out

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
    held_out: BoolArray = np.stack([hold_out(mask[first:second], rng) for mask in observed])
    return (
        Incomplete(table, rows[:, :first], observed[:, :first]),
        Incomplete(table, rows[:, first:second], observed[:, first:second], held_out),
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
    """Return which entries [n, M] of the table the views show, or hold out for model selection."""
    revealed = np.zeros((len(table), len(table.schema)), dtype=bool)
    for view in views:
        shown = view.observed[replica]
        if view.held_out is not None:
            shown = shown | view.held_out.observed[replica]
        revealed[view._rows[replica]] = shown
    return revealed


def on_table(view: Incomplete, table: Table) -> Incomplete:
    """Return the same view of another table."""
    if view.held_out is None:
        return Incomplete(table, view._rows, view.observed)
    held_out = view.held_out.observed
    return Incomplete(table, view._rows, view.observed | held_out, held_out)


def generator(seed: int = 0) -> torch.Generator:
    """Return a torch generator."""
    return torch.Generator().manual_seed(seed)
