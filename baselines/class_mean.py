"""Class mean: the floor of image and label tables if the label is known.

The class of a row is its first categorical attribute, the label. If it is observed, every hidden number, image or
feature vector of the row becomes the mean of the training rows of that class in which both are observed:

    x_u = mean of x_u over the training rows with the same label

If the label is hidden, or no such row exists, it becomes the mean over all classes. A hidden label becomes the most
frequent one, and so do other categories. In a table without categories there are no classes: this is the mean.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bench.api import (
    SCALAR_KINDS,
    AnyArray,
    BoolArray,
    FloatArray,
    Incomplete,
    IntArray,
    Method,
    Values,
    fill_hidden,
    observed_statistics,
)


class ClassMean(Method):
    """Fill numbers, images and features with the mean of the row's class, and categories with their mode."""

    name = "class_mean"
    summary = "Mean or mean image of the training rows with the same label, and the class prior for a hidden label"
    version = 1
    kinds = ("numeric", "categorical", "image", "features")
    protocols = ("inductive",)
    max_width = None

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Take the statistics of the observed training entries, and the means of each class."""
        schema = train.schema
        self._statistics = observed_statistics(train)
        self._means: dict[str, FloatArray] = {}
        labels = schema.scalar_columns("categorical")
        self._label = int(labels[0]) if len(labels) else None
        if self._label is None:
            return
        levels = max(1, schema.attributes[schema.scalar_indices[self._label]].width)
        scalars = train.scalars()
        codes = class_codes(scalars[:, self._label])
        numeric = dict(zip(schema.of_kind("numeric"), schema.scalar_columns("numeric"), strict=True))
        for index, attribute in enumerate(schema.attributes):
            shown = train.observed[0][:, index]
            if index in numeric:
                self._means[attribute.name] = class_means([scalars[shown, numeric[index], None]], codes[shown], levels)
            elif attribute.kind not in SCALAR_KINDS:
                blocks = train.observed_block(attribute.name)
                self._means[attribute.name] = class_means(blocks, codes[shown], levels)

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` with every hidden entry filled; ``draws`` is not used."""
        values, schema = data.values(), data.schema
        filled = fill_hidden(values, data.observed[0], self._statistics)
        if self._label is None:
            return filled
        codes = class_codes(values.scalars[:, self._label])
        position = {int(index): column for column, index in enumerate(schema.scalar_indices)}
        for index, attribute in enumerate(schema.attributes):
            if attribute.name not in self._means:
                continue
            means = self._means[attribute.name]
            known: BoolArray = np.all(np.isfinite(means), axis=1)
            rows = np.flatnonzero(~data.observed[0][:, index] & (codes >= 0) & known[codes])
            if index in position:
                filled.scalars[rows, position[index]] = means[codes[rows], 0]
            else:
                filled.blocks[attribute.name][rows] = means[codes[rows]]
        return filled


def class_codes(labels: FloatArray) -> IntArray:
    """Return the classes [n] of labels; -1 for a hidden one, which is NaN."""
    return np.where(np.isnan(labels), -1.0, labels).astype(np.int64)


def class_means(chunks: Iterable[AnyArray], codes: IntArray, levels: int) -> FloatArray:
    """Return the mean of each class, [levels, width]; NaN if it has no row.

    ``chunks`` hold consecutive rows, [*, width]; ``codes`` are the classes of all of them, -1 if unknown.
    """
    sums: FloatArray = np.zeros((levels, 1))
    first = 0
    for chunk in chunks:
        own = codes[first : first + len(chunk)]
        first += len(chunk)
        member = (own == np.arange(levels)[:, None]).astype(np.float64)
        sums = sums + member @ chunk.astype(np.float64)
    count = np.bincount(codes[codes >= 0], minlength=levels)[:, None]
    return np.where(count > 0, sums / np.maximum(count, 1), np.nan)
