"""The floor: the mean, the mode, the mean image or the mean feature vector of the observed training entries.

What a method must beat before it has learned anything. An attribute that was never observed becomes 0, its first level,
or an image or features of 0.
"""

from __future__ import annotations

from bench.api import Incomplete, Method, Values, fill_hidden, observed_statistics


class MeanMode(Method):
    """Fill every hidden entry with a statistic of the observed training entries of its attribute."""

    name = "mean_mode"
    summary = "Mean, mode or mean image of the observed training entries: the floor"
    version = 1
    kinds = ("numeric", "categorical", "image", "features")
    protocols = ("inductive",)
    max_width = None

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Take the statistics of the observed training entries."""
        self._statistics = observed_statistics(train)

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Return ``data`` with every hidden entry filled; ``draws`` is not used."""
        return fill_hidden(data.values(), data.observed[0], self._statistics)
