"""What to draw, as the options of ``plot`` say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drawing:
    """What to draw of a scope, and where to.

    ``metrics``, ``attributes`` and ``formats`` that are empty stand for what the verb takes by default. ``rows`` and
    ``draws`` bound what is shown of rows and of draws per row; None shows as many as fit.
    """

    metrics: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    rows: int | None = None
    draws: int | None = None
    output: Path = Path("results") / "rendered"
    formats: tuple[str, ...] = ()
