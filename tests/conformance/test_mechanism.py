"""The checks of a mechanism: the built-in ones pass them, and each catches a toy that is broken in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.api import FloatArray, Mechanism, Schema, Values
from bench.conformance.mechanism import MECHANISM_CHECKS, MECHANISM_ROWS, MechanismTrial
from bench.conformance.suite import check_named
from bench.conformance.tables import example_of
from tests.conformance_toys import MIXED, by_function


def test_built_in_mechanisms_pass(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_named(["mcar", "mar", "nmar", "nmar_logistic", "nmar_censor"])
    assert "FAILED" not in capsys.readouterr().out


class HidesTooLittle(Mechanism):
    """Hides half of what it is asked to."""

    name = "broken"
    share: float = 0.5

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        return np.full((len(values.scalars), len(schema)), ratio * self.share)


class HidesNothing(HidesTooLittle):
    """Hides nothing."""

    share = 0.0


class HidesTooMuch(HidesTooLittle):
    """Gives probabilities above 1."""

    share = 3.0


class OneForAll(HidesTooLittle):
    """Gives one probability a row."""

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        return np.full(len(values.scalars), ratio)


class DrawsElsewhere(HidesTooLittle):
    """Draws from NumPy's global generator."""

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        return np.clip(ratio + 0.01 * np.random.normal(size=(len(values.scalars), len(schema))), 0, 1)


class SortsInPlace(HidesTooLittle):
    """Sorts the values it is given."""

    share = 1.0

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        values.scalars.sort(axis=0)
        return super().missing_probability(values, schema, ratio, rng)


@pytest.mark.parametrize(
    ("mechanism", "check", "reason"),
    [
        (HidesTooLittle, "ratio_is_met", "at ratio 0.1 it hides 0.0"),
        (HidesNothing, "ratio_is_met", "at ratio 0.1 it hides nothing"),
        (HidesTooMuch, "probabilities_are_probabilities", "NaN or outside [0, 1]"),
        (OneForAll, "probabilities_are_probabilities", "shape (400,), not (400, 4)"),
        (DrawsElsewhere, "generator_decides_everything", "a second draw from the same generator differs"),
        (SortsInPlace, "values_are_left_alone", "it changed the values it was given"),
    ],
)
def test_broken_mechanisms_are_caught(mechanism: type[Mechanism], check: str, reason: str) -> None:
    trial = MechanismTrial(mechanism, example_of(MIXED, 1, MECHANISM_ROWS))
    found = by_function(MECHANISM_CHECKS, trial)
    assert found[check].status == "failed" and reason in found[check].reason
    assert found["other_kinds_are_refused"].status == "ok"
