"""The checks that every missingness mechanism inherits: it hides values of generated tables of its kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.conformance.require import Failed, NotApplicable, require_one_line
from bench.conformance.tables import TABLES, Example, example_of
from bench.data.schema import AnyArray, BoolArray
from bench.data.table import Values
from bench.errors import BenchError
from bench.plugins.contracts import Mechanism
from bench.problem.mechanisms import draw_observed, maskable_columns, realised_ratio
from bench.seeds import generator

#: Missing ratios a mechanism must meet, and how many standard deviations of a binomial it may be off.
RATIOS, DEVIATIONS = (0.1, 0.5, 0.9), 4.0
MECHANISM_ROWS = 400


@dataclass(frozen=True, eq=False)
class MechanismTrial:
    """A mechanism on one generated table of kinds it declares."""

    mechanism: type[Mechanism]
    example: Example

    def drawn(self, ratio: float) -> tuple[BoolArray, AnyArray]:
        """Return the mask and the probability of being missing, both [n, M]."""
        table = self.example.table
        return draw_observed(
            self.mechanism(),
            table.take(np.arange(len(table))),
            table.schema,
            ratio,
            generator("conformance mask", ratio),
            table.present,
        )


def ratio_is_met(trial: MechanismTrial) -> None:
    """Missing ratios of .1, .5 and .9 are met.

    In the columns in which anything is hidden, within 4 standard deviations of a binomial.

    Mend: return probabilities whose mean over the columns that can be hidden is ``ratio``.
    """
    for ratio in RATIOS:
        observed, probability = trial.drawn(ratio)
        present = trial.example.table.present
        cells = int(present[:, maskable_columns(probability)].sum())
        if not cells:
            raise Failed(f"at ratio {ratio} it hides nothing")
        realised = realised_ratio(observed, present, probability)
        allowed = DEVIATIONS * (ratio * (1 - ratio) / cells) ** 0.5
        if abs(realised - ratio) > allowed:
            raise Failed(f"at ratio {ratio} it hides {realised:.3f} of the entries, off by more than {allowed:.3f}")


def probabilities_are_probabilities(trial: MechanismTrial) -> None:
    """Probabilities lie in [0, 1], one for every entry.

    Mend: return [n, M] numbers within [0, 1], the second dimension in the order of the schema.
    """
    for ratio in RATIOS:
        trial.drawn(ratio)


def generator_decides_everything(trial: MechanismTrial) -> None:
    """The same generator gives the same mask.

    Mend: draw from the ``rng`` that is given, and keep no state between calls.
    """
    for ratio in RATIOS:
        first, again = trial.drawn(ratio), trial.drawn(ratio)
        if not all(np.array_equal(one, other) for one, other in zip(first, again, strict=True)):
            raise Failed(f"at ratio {ratio} a second draw from the same generator differs")


def values_are_left_alone(trial: MechanismTrial) -> None:
    """The values it is given are left as they were.

    Mend: copy ``values.scalars`` before you change it.
    """
    table = trial.example.table
    shown = np.where(table.present[:, table.schema.scalar_indices], table.scalars, np.nan)
    values = Values(shown.copy(), {name: block.copy() for name, block in table.blocks.items()})
    trial.mechanism().missing_probability(
        values, table.schema, 0.5, generator("conformance mask"), **trial.mechanism.parameters
    )
    before = {"scalars": shown, **table.blocks}
    for name, array in {"scalars": values.scalars, **values.blocks}.items():
        if not np.array_equal(array, before[name], equal_nan=array.dtype.kind == "f"):
            raise Failed("it changed the values it was given")


def other_kinds_are_refused(trial: MechanismTrial) -> None:
    """Attributes of other kinds are refused with one line.

    Mend: declare in ``kinds`` what it takes; the suite refuses the others.
    """
    others = [name for name, kinds in TABLES.items() if not set(kinds) <= set(trial.mechanism.kinds)]
    if not others:
        raise NotApplicable("it takes every kind")
    for name in others:
        try:
            MechanismTrial(trial.mechanism, example_of(name, 1)).drawn(0.5)
        except BenchError as error:
            require_one_line(error)
        else:
            raise Failed(f"it was let through on {name}")


MechanismCheck = Callable[[MechanismTrial], None]

MECHANISM_CHECKS: tuple[MechanismCheck, ...] = (
    ratio_is_met,
    probabilities_are_probabilities,
    generator_decides_everything,
    values_are_left_alone,
    other_kinds_are_refused,
)
