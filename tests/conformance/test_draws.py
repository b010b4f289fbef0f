"""The checks of draws: each catches a toy that is broken in one way, and methods that draw soundly pass them all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from bench.api import Incomplete, Method, Values, generator
from bench.conformance.draws import DRAW_CHECKS
from bench.conformance.tables import TABLES
from tests.conformance_toys import MIXED, Sound, SoundStack, edited, nudged, outcomes

NAMES = {check.__name__ for check in DRAW_CHECKS}


class Draws(Sound):
    """Adds noise to what it imputes, and takes any level."""

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        super().fit(train, validation, seed)
        self.seed = seed

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        rng = generator("draws", self.seed, seed)
        return [noisy(super(Draws, self).impute(data, 1), data, 0, rng) for _ in range(draws)]


def noisy(values: object, data: Incomplete, replica: int, rng: np.random.Generator) -> Values:
    """Return imputed values with noise in hidden numbers, images and features, and any level in hidden categories."""
    assert isinstance(values, Values)
    schema, observed = data.schema, data.observed[replica]
    noise = rng.normal(size=values.scalars.shape)
    scalars = values.scalars + np.where(observed[:, schema.scalar_indices], 0.0, noise)
    for column in schema.scalar_columns("categorical"):
        index = schema.scalar_indices[column]
        drawn = rng.integers(0, schema.attributes[index].width, len(data))
        scalars[:, column] = np.where(observed[:, index], values.scalars[:, column], drawn)
    blocks = {}
    for name, block in values.blocks.items():
        shown = observed[:, schema.names.index(name), None]
        blocks[name] = np.where(shown, block, block + rng.random(block.shape, np.float32))
    return Values(scalars, blocks)


class DrawsInAStack(SoundStack):
    """The same for a stack."""

    def fit_many(self, train: Incomplete, validation: Incomplete, seeds: Sequence[int]) -> None:
        super().fit_many(train, validation, seeds)
        self.seeds = list(seeds)

    def sample_many(self, data: Incomplete, draws: int, seed: int) -> list[list[Values]]:
        imputed, found = self.impute_many(data, 1), []
        for replica, own in enumerate(self.seeds):
            rng = generator("draws", own, seed)
            found.append([noisy(imputed[replica], data, replica, rng) for _ in range(draws)])
        return found


class OneDrawTooFew(Draws):
    """Gives one draw less than it was asked for."""

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        return super().sample(data, draws - 1, seed)


class ChangesWhatIsObserved(Draws):
    """Rounds what it draws to single precision, observed entries too."""

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        return [
            edited(values, lambda scalars: scalars.astype(np.float32)) for values in super().sample(data, draws, seed)
        ]


class DrawsBetweenLevels(Draws):
    """Puts a code between two levels."""

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        return [nudged(data, values, 0.5, column=1) for values in super().sample(data, draws, seed)]


class HasNoSeedOfItsOwn(Draws):
    """Draws from NumPy's global generator."""

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        return [nudged(data, values, np.random.random()) for values in super().sample(data, draws, seed)]


class IgnoresTheSeed(Draws):
    """Gives the same draws whatever the stream."""

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        return super().sample(data, draws, 0)


class MovesItsImputation(Draws):
    """Imputes otherwise once it has drawn."""

    drawn = 0

    def impute(self, data: Incomplete, draws: int) -> Values:
        return nudged(data, super().impute(data, draws), float(self.drawn))

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        self.drawn = 1
        return super().sample(data, draws, seed)


class DrawsFromTheTruth(Draws):
    """Draws about what is hidden."""

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        secret = np.nansum(data._table.scalars[data._rows[0], 0])
        return [nudged(data, values, secret) for values in super().sample(data, draws, seed)]


class SharesNoise(DrawsInAStack):
    """Draws for all replicas from one generator."""

    def sample_many(self, data: Incomplete, draws: int, seed: int) -> list[list[Values]]:
        rng = generator("draws", self.seeds[0], seed)
        return [[noisy(own, data, r, rng) for _ in range(draws)] for r, own in enumerate(self.impute_many(data, 1))]


@pytest.mark.parametrize("method", [Draws, DrawsInAStack])
def test_sound_draws_pass_every_check(method: type[Method]) -> None:
    for table in TABLES:
        found = {name: outcome for name, outcome in outcomes(method, table).items() if name in NAMES}
        assert [outcome for outcome in found.values() if outcome.status == "failed"] == []
        alone = {"draws_of_a_stack_agree_with_each_alone"} if method is Draws else set()
        assert {name for name, outcome in found.items() if outcome.status == "ok"} == NAMES - alone


@pytest.mark.parametrize(
    ("method", "check", "reason"),
    [
        (OneDrawTooFew, "draws_are_complete_rows", "did not give 3 draws"),
        (ChangesWhatIsObserved, "draws_are_complete_rows", "came back changed"),
        (DrawsBetweenLevels, "draws_are_complete_rows", "its levels are 0 to 2"),
        (HasNoSeedOfItsOwn, "draws_follow_their_seed", "a second call with the same seed differs"),
        (IgnoresTheSeed, "draws_follow_their_seed", "another seed gives the same draws"),
        (MovesItsImputation, "draws_follow_their_seed", "the imputation after drawing differs"),
        (DrawsFromTheTruth, "hidden_values_change_no_draw", "changed with values that are hidden"),
        (SharesNoise, "draws_of_a_stack_agree_with_each_alone", "differs in a stack"),
    ],
)
def test_each_check_catches_what_is_wrong(method: type[Method], check: str, reason: str) -> None:
    found = outcomes(method, MIXED)
    assert found[check].status == "failed" and reason in found[check].reason
    assert all(outcome.status != "failed" for name, outcome in found.items() if name not in NAMES)


def test_a_method_that_draws_nothing_is_not_asked() -> None:
    found = outcomes(Sound)
    assert {found[name].status for name in NAMES} == {"not applicable"}
