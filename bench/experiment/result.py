"""A result: what came of a cell, as it is stored; its one reader and one writer of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from bench.errors import BenchError
from bench.experiment.cell import Cell

Status = Literal["ok", "failed", "skipped"]

#: What made a cell fail: the method or the data as they are, or something that may be otherwise next time.
Cause = Literal["method", "environment"]

#: How often a cell that the environment failed is tried, the first time included.
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Result:
    """What came of a cell: its status and scores, and what it was computed with.

    ``metrics`` maps a scope (``all``, ``something_observed``, ...) to metrics, ``attributes`` an attribute to its own,
    ``counts`` says how many entries were scored. ``seconds`` and ``peak_memory_mib`` are those of the whole job, whose
    cells' keys are ``stack``. ``traceback`` is None unless the job failed. ``cause`` and ``attempts`` are those of a
    failure; a cause of None, in rows that do not say, is the method.
    """

    cell: Cell
    key: str
    status: Status
    reason: str | None = None
    variant: str = "full"
    source: str = ""
    missing_ratio: float | None = None
    mask_hash: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mib: float | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    stack: tuple[str, ...] = ()
    traceback: str | None = None
    cause: Cause | None = None
    attempts: int = 1

    @property
    def may_be_retried(self) -> bool:
        """Whether the environment failed the cell, and not yet as often as it is tried."""
        return self.status == "failed" and self.cause == "environment" and self.attempts < MOST_ATTEMPTS

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values; a traceback, and a cause with its attempts, only if there is one."""
        value: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        value |= {"cell": self.cell.as_json(), "warnings": list(self.warnings), "stack": list(self.stack)}
        if self.traceback is None:
            del value["traceback"]
        if self.cause is None:
            del value["cause"], value["attempts"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """Read a stored row, of this version or an older one. Raises BenchError on anything else."""
        try:
            known = dict(value) if value.keys() <= _FIELDS else {name: value[name] for name in _FIELDS & value.keys()}
            known["cell"] = Cell.from_json(value["cell"])
            known["warnings"] = tuple(value.get("warnings", ()))
            known["stack"] = tuple(value.get("stack", ()))
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"a stored row cannot be read: {error}") from None


_FIELDS = frozenset(field.name for field in fields(Result))
