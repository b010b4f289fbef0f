"""The contracts of the four kinds of plug-in, and what a method is handed besides data.

A plug-in is a class with a literal ``name`` in a Python file; the registry finds it by its base class. ``list`` reads
the class attributes below from the source without running it, so they must be literals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.data.kinds import Kind
from bench.errors import BenchError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from bench.data.schema import FloatArray, Schema
    from bench.data.source import Fetched, File
    from bench.data.table import Table, Values
    from bench.data.view import Incomplete


@dataclass(frozen=True)
class Budget:
    """How much work a method may do; part of a row's identity.

    ``steps`` bounds the optimiser steps and ``epochs`` the passes over the data: training ends at the first reached.
    ``warm_fraction`` of it is the warm phase. ``draws`` are imputation samples, ``target_draws`` VSAE's samples of the
    unobserved attributes, ``evaluations`` the number of times the validation error is taken at most, ``scored_draws``
    the draws of each test row that are scored. A replica whose error has not improved for the share ``patience`` of the
    budget is done; None is never. ``test_rows`` bounds the scored test rows (a seeded choice, the same for every
    method).
    """

    preset: str = "smoke"
    steps: int | None = 30
    epochs: int | None = None
    batch: int = 256
    learning_rate: float = 1e-3
    warm_fraction: float = 0.1
    draws: int = 10
    target_draws: int = 5
    validation_draws: int = 5
    evaluations: int = 10
    scored_draws: int = 10
    patience: float | None = None
    trees: int = 5
    sweeps: int = 2
    test_rows: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the budget as plain JSON values."""
        return asdict(self)


def _no_progress(done: int, total: int, stage: str) -> None:
    """Report nothing."""


def _never_stop() -> None:
    """Go on."""


@dataclass(frozen=True)
class Context:
    """What the runner hands to a method besides data: budget, device, and how to report, stop and resume.

    ``progress(done, total, stage)`` reports; ``stop()`` raises Stopped when time is up, call it where stopping is safe;
    ``checkpoint`` is a file a training may keep its state in, or None.
    """

    budget: Budget = field(default_factory=Budget)
    device: str = "cpu"
    progress: Callable[[int, int, str], None] = _no_progress
    stop: Callable[[], None] = _never_stop
    checkpoint: Path | None = None


def joined_sets(written: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Return whole parameter sets from what a class and its bases write, nearest first.

    What a nearer class says of a set counts before what its bases say of it, and that before ``default``.
    """
    sets: dict[str, dict[str, Any]] = {"default": {}}
    for own in reversed(written):
        for name, parameters in own.items():
            sets.setdefault(name, {}).update(parameters)
    return {name: {**sets["default"], **parameters} for name, parameters in sets.items()}


def _written_sets(cls: type) -> Mapping[str, Mapping[str, Any]]:
    """Return the parameter sets that a class itself writes."""
    written: Mapping[str, Mapping[str, Any]] = vars(cls).get("_written_sets", vars(cls).get("parameter_sets", {}))
    return written


class Method:
    """A way to impute. Subclass it, give it a ``name``, write ``fit`` and ``impute``; nothing else is needed."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    #: Raise it whenever the method's numbers change: stored rows of another version are not reused.
    version: ClassVar[int] = 1
    #: Attribute kinds it accepts.
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical")
    #: ``inductive``: fits on train rows, imputes others. ``transductive``: refits on the rows it is given.
    protocols: ClassVar[tuple[str, ...]] = ("inductive",)
    #: Importable packages it needs beyond the suite's own, and the extra of this distribution that installs them.
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    #: The most attributes it takes in reasonable time: wider tables are skipped. None where width is no obstacle.
    max_attributes: ClassVar[int | None] = None
    #: The same of columns as encoded, one per number and one per level of a category; an identifier has thousands.
    max_width: ClassVar[int | None] = 25_000
    #: Named parameter sets; part of a row's identity. ``default`` is what tables print unless told otherwise. A class
    #: writes differences: its sets add to those of its bases, and a set has of ``default`` what it does not name. Read
    #: from the class they are whole.
    parameter_sets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    _written_sets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: What ``tune`` draws, a parameter of the default set each: ``("log", low, high)``, ``("uniform", low, high)`` or
    #: ``("choice", value, value, ...)``. A method that stacks is then given a list, one value per replica.
    tunable: ClassVar[Mapping[str, Sequence[Any]]] = {}

    def __init_subclass__(cls, **options: Any) -> None:
        """Complete the parameter sets that the class writes as differences."""
        super().__init_subclass__(**options)
        cls._written_sets = cls.__dict__.get("parameter_sets", {})
        cls.parameter_sets = joined_sets([_written_sets(base) for base in cls.__mro__])

    def __init__(self, parameters: Mapping[str, Any] | None = None, context: Context | None = None) -> None:
        """Keep the resolved parameters (the default set where None) and the context."""
        self.parameters: dict[str, Any] = dict(self.parameter_sets["default"] if parameters is None else parameters)
        self.context = context or Context()

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Learn from the training view; ``validation.folds`` are the holes that model selection imputes.

        The rule is ``bench.problem.held_out``. A validation view shows everything observed; each of its folds has the
        rows with some entries hidden (``shown``) and a view of these alone (``held_out``).
        """

    def impute(self, data: Incomplete, draws: int) -> pd.DataFrame | Values:
        """Return complete values for ``data``, observed entries unchanged, from ``draws`` samples if it samples.

        A DataFrame is put in the order of its index, which is that of ``data.frame()``. NaN may stay in what no method
        can know, which the suite fills: attributes that training never shows, and rows that show nothing.
        """
        raise TypeError(f"method '{self.name}' does not define impute")

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        """Return ``draws`` complete versions of ``data``, each drawn given what it shows; optional, after ``fit``.

        ``seed`` says which random stream: the same always gives the same draws, another others, and no imputation
        changes. Observed entries are unchanged. The suite scores the draws of numbers and categories beside the
        imputation (``bench.problem.draw_scores``). Raises BenchError if the method draws none.
        """
        raise BenchError(f"method '{self.name}' draws no samples: it gives one imputation of a row")

    def generate(self, rows: int, seed: int) -> Values:
        """Return ``rows`` rows sampled from the model under a seed; optional, after ``fit``.

        Raises BenchError if the method cannot.
        """
        raise BenchError(f"method '{self.name}' has no prior to generate rows from")

    def diagnostics(self) -> list[dict[str, Any]]:
        """Return what is worth storing beside the scores after ``impute``, one dict per replica; JSON values only."""
        return []


class StackedMethod(Method):
    """A method that trains R problems of one shape as one stack; ``fit`` and ``impute`` are the stack of one."""

    def fit_many(self, train: Incomplete, validation: Incomplete, seeds: Sequence[int]) -> None:
        """Learn from all replicas of the views at once; ``seeds`` has one per replica."""
        raise TypeError(f"method '{self.name}' does not define fit_many")

    def impute_many(self, data: Incomplete, draws: int) -> list[Values]:
        """Return the imputed values of each replica of ``data``."""
        raise TypeError(f"method '{self.name}' does not define impute_many")

    def sample_many(self, data: Incomplete, draws: int, seed: int) -> list[list[Values]]:
        """Return ``draws`` complete versions of each replica of ``data``; optional, see ``sample``."""
        raise BenchError(f"method '{self.name}' draws no samples: it gives one imputation of a row")

    def failures(self) -> Mapping[int, str]:
        """Return which replicas failed in ``fit_many`` and why; the others' imputations stand."""
        return {}

    def fit(self, train: Incomplete, validation: Incomplete, seed: int) -> None:
        """Train a stack of one."""
        self.fit_many(train, validation, [seed])

    def impute(self, data: Incomplete, draws: int) -> Values:
        """Impute with a stack of one."""
        return self.impute_many(data, draws)[0]

    def sample(self, data: Incomplete, draws: int, seed: int) -> list[Values]:
        """Draw with a stack of one."""
        return self.sample_many(data, draws, seed)[0]


class Mechanism:
    """Why values are missing: the probability of each entry to be hidden, given the complete values."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical")
    #: Whether what is missing depends on observed values alone. Where it does not, a held-out entry, whose value is of
    #: the observed kind, says little of hidden ones: of a method that models why values are missing the last epoch is
    #: kept.
    ignorable: ClassVar[bool] = True
    #: Parameters and their defaults; a table spec may override them, and they are part of a row's identity.
    parameters: ClassVar[Mapping[str, Any]] = {}

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M] probabilities of being missing whose mean over the maskable columns is ``ratio``."""
        raise TypeError(f"mechanism '{self.name}' does not define missing_probability")


class Dataset:
    """Real data: where it comes from and how to read it."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric",)
    #: Column that is the prediction target: left out unless a spec says ``include_target = true``.
    target: ClassVar[str | None] = None
    #: Data set in whose place this one, which is synthetic, is run if the user says ``--stand-in``.
    stands_in_for: ClassVar[str | None] = None
    #: Who may use the data for what, in a few words; empty if that is not known.
    licence: ClassVar[str] = ""
    #: Files to fetch (see ``bench.data.source``); empty for a data set that needs none.
    files: ClassVar[tuple[File, ...]] = ()
    #: ``Table.content_hash`` of everything ``load`` returns (the target too), by which a source of unknown checksum is
    #: accepted; and those of the subsets that may stand in when no complete source can be had.
    content_hash: ClassVar[str] = ""
    subset_content_hashes: ClassVar[tuple[str, ...]] = ()

    def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame | Table:
        """Return all columns, the target too, from the fetched files (by name; each with its path and source).

        In a DataFrame number columns are numeric and all others categorical; ``bench.data.frame`` says what text of
        numbers and the like become, and what is refused. Return a Table for images, features or official test rows.
        """
        raise TypeError(f"data set '{self.name}' does not define load")
