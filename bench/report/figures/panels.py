"""Numbers and categories attribute by attribute: what a figure shows of the truth, imputations, draws and samples.

A feature vector is shown by the mean over its dimensions. Nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.data.schema import BoolArray, FloatArray, IntArray, Schema
from bench.data.table import Values


@dataclass(frozen=True, eq=False)
class ScatterPanel:
    """A number's hidden entries: the truth [n] and what each method imputed [n], in the data's own unit."""

    name: str
    truth: FloatArray
    imputed: Mapping[str, FloatArray]


@dataclass(frozen=True, eq=False)
class ConfusionPanel:
    """A category's hidden entries by one method: ``counts`` [true level, imputed level]."""

    name: str
    method: str
    levels: tuple[str, ...]
    counts: IntArray


@dataclass(frozen=True, eq=False)
class DrawsPanel:
    """Rows that hide an attribute: truth [k], imputation [k] and draws [draws, k]; codes if it has levels."""

    name: str
    levels: tuple[str, ...]
    truth: FloatArray
    imputed: FloatArray
    draws: FloatArray


@dataclass(frozen=True, eq=False)
class MarginalPanel:
    """An attribute in real rows [n] and in generated ones [m]; codes if it has levels."""

    name: str
    levels: tuple[str, ...]
    real: FloatArray
    generated: FloatArray


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Test rows: the entries ``hidden`` [n, M], and the rows [k] of these n that ``truth`` has the features of."""

    schema: Schema
    truth: Values
    hidden: BoolArray
    present: BoolArray
    shown: IntArray


def column_of(schema: Schema, values: Values, index: int) -> FloatArray:
    """Return an attribute's numbers or codes, or the mean over its dimensions, per row that has them."""
    attribute = schema.attributes[index]
    if attribute.name in values.blocks:
        means: FloatArray = values.blocks[attribute.name].mean(axis=1)
        return means
    column: FloatArray = values.scalars[:, int(np.flatnonzero(schema.scalar_indices == index)[0])]
    return column


def rows_of(rows: ScoredRows, entries: BoolArray, index: int) -> BoolArray:
    """Return a column of a mask [n, M] for the rows that ``column_of`` has."""
    own = entries[:, index]
    return own[rows.shown] if rows.schema.attributes[index].name in rows.truth.blocks else own


def name_of(schema: Schema, index: int) -> str:
    """Return an attribute's name; that of a feature vector says what of it is drawn."""
    attribute = schema.attributes[index]
    return f"{attribute.name} (mean of {attribute.width})" if attribute.kind == "features" else attribute.name


def scatter_panels(rows: ScoredRows, imputed: Mapping[str, Values], attributes: Sequence[int]) -> list[ScatterPanel]:
    """Return a panel for each of these numeric or feature attributes that has hidden entries."""
    panels = []
    for index in attributes:
        hidden = rows_of(rows, rows.hidden, index)
        if hidden.any():
            own = {label: column_of(rows.schema, values, index)[hidden] for label, values in imputed.items()}
            truth = column_of(rows.schema, rows.truth, index)[hidden]
            panels.append(ScatterPanel(name_of(rows.schema, index), truth, own))
    return panels


def confusion_panels(
    rows: ScoredRows, imputed: Mapping[str, Values], attributes: Sequence[int]
) -> list[ConfusionPanel]:
    """Return a panel for each of these categorical attributes and each method."""
    panels = []
    for index in attributes:
        hidden, attribute = rows.hidden[:, index], rows.schema.attributes[index]
        if not hidden.any():
            continue
        truth = column_of(rows.schema, rows.truth, index)[hidden].astype(np.int64)
        for label, values in imputed.items():
            codes = column_of(rows.schema, values, index)[hidden].astype(np.int64)
            counts = np.zeros((len(attribute.levels),) * 2, dtype=np.int64)
            np.add.at(counts, (truth, codes), 1)
            panels.append(ConfusionPanel(attribute.name, label, attribute.levels, counts))
    return panels


def draws_panels(
    rows: ScoredRows, imputed: Values, samples: Sequence[Values], attributes: Sequence[int], most: int
) -> list[DrawsPanel]:
    """Return a panel for each of these attributes, of at most ``most`` of the sampled rows that hide it."""
    panels = []
    for index in attributes:
        attribute = rows.schema.attributes[index]
        sampled = rows.shown[: len(samples[0].scalars)]
        places = np.flatnonzero(rows.hidden[sampled, index])[:most]
        if not len(places):
            continue
        whole = places if attribute.name in rows.truth.blocks else sampled[places]
        panels.append(
            DrawsPanel(
                name_of(rows.schema, index),
                attribute.levels,
                column_of(rows.schema, rows.truth, index)[whole],
                column_of(rows.schema, imputed, index)[whole],
                np.stack([column_of(rows.schema, values, index)[places] for values in samples]),
            )
        )
    return panels


def marginal_panels(rows: ScoredRows, generated: Values, attributes: Sequence[int]) -> list[MarginalPanel]:
    """Return a panel for each of these attributes, with the test rows that have it."""
    panels = []
    for index in attributes:
        real = column_of(rows.schema, rows.truth, index)[rows_of(rows, rows.present, index)]
        made = column_of(rows.schema, generated, index)
        panels.append(MarginalPanel(name_of(rows.schema, index), rows.schema.attributes[index].levels, real, made))
    return panels
