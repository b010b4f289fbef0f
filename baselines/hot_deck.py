"""Hot deck: every hidden entry becomes a random observed entry of the same attribute in the training rows.

It draws from an attribute's distribution, blind to the rest of the row: what values that look plausible cost. With an
attribute's standard deviation s and level frequencies p_k its expected errors are

    RMSE = sqrt(2) s,        PFC = 1 - sum of p_k^2.

One draw is the method; the average of many would be the mean.
"""

from __future__ import annotations

import numpy as np

from bench.api import AnyArray, Incomplete, Method, Values, fill_hidden, generator, observed_statistics


class HotDeck(Method):
    """Draw a donor among the training rows that show the attribute, again for each hidden entry."""

    name = "hot_deck"
    summary = "A random observed value of the training rows: what a draw costs against a mean"
    version = 1
    kinds = ("numeric", "categorical", "image", "features")
    protocols = ("inductive",)
    max_width = None

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Keep the view of the training rows."""
        self._seed, self._train = seed, train
        self._statistics = observed_statistics(train)

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` with one draw in every hidden entry; an attribute without a donor gets the floor's value."""
        return self._drawn(data, generator("hot_deck", self._seed))

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        """Return as many draws of the whole data."""
        return [self._drawn(data, generator("hot_deck draws", self._seed, seed, draw)) for draw in range(draws)]

    def _drawn(self, data: Incomplete, rng: np.random.Generator) -> Values:
        context, schema, train = self.context, data.schema, self._train.values()
        filled = fill_hidden(data.values(), data.observed[0], self._statistics)
        scalar_column = {int(index): column for column, index in enumerate(schema.scalar_indices)}
        for index, attribute in enumerate(schema.attributes):
            context.stop()
            context.progress(index, len(schema), "attributes")
            donors = np.flatnonzero(self._train.observed[0][:, index])
            if not len(donors):
                continue
            hidden = np.flatnonzero(~data.observed[0][:, index])
            # One draw for every row: what a row draws does not depend on which others have a hole.
            chosen = donors[rng.integers(len(donors), size=len(data))][hidden]
            if index in scalar_column:
                column = scalar_column[index]
                filled.scalars[hidden, column] = train.scalars[chosen, column]
            else:
                block: AnyArray = filled.blocks[attribute.name]
                block[hidden] = train.blocks[attribute.name][chosen]
        return filled
