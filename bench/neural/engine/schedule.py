"""How long a training is, and what it leaves behind."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.plugins.contracts import Budget


@dataclass
class History:
    """What a training leaves behind, one entry per replica; ``validation_epochs`` and ``seconds`` are the stack's.

    A replica that ran out of patience has shorter lists of losses and validation errors than the others.
    """

    steps: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    best_epoch: list[int] = field(default_factory=list)
    best_error: list[float] = field(default_factory=list)
    loss: list[list[float]] = field(default_factory=list)
    validation: list[list[float]] = field(default_factory=list)
    validation_epochs: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Schedule:
    """The length of a training in steps and epochs."""

    batch: int
    steps_per_epoch: int
    epochs: int
    warm_steps: int
    evaluate_every: int
    #: Epochs without a lower validation error after which a replica is done; None is never.
    patience: int | None = None

    @classmethod
    def of(cls, budget: Budget, rows: int) -> Schedule:
        """Work out the schedule for ``rows`` training rows."""
        batch = min(budget.batch, rows)
        per_epoch = max(1, rows // batch)
        epochs = budget.epochs
        if budget.steps is not None:
            # An epoch longer than the whole budget is cut to it.
            per_epoch = min(per_epoch, budget.steps)
            within = max(1, budget.steps // per_epoch)
            epochs = within if epochs is None else min(epochs, within)
        if epochs is None:
            raise BenchError("a budget needs steps or epochs")
        return cls(
            batch,
            per_epoch,
            epochs,
            warm_steps=round(budget.warm_fraction * epochs * per_epoch),
            evaluate_every=max(1, math.ceil(epochs / budget.evaluations)),
            patience=None if budget.patience is None else max(1, math.ceil(budget.patience * epochs)),
        )

    @property
    def warm_epochs(self) -> int:
        """Epochs that are over when the warm-up is."""
        return -(-self.warm_steps // self.steps_per_epoch)
