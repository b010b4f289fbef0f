"""What to draw, as the options of ``plot`` say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Drawing:
    """What to draw of a scope, and where to.

    ``metrics``, ``attributes`` and ``formats`` that are empty stand for what the verb takes by default. ``rows`` and
    ``draws`` bound what is shown of rows and of draws per row; None shows as many as fit. Of curves over the missing
    ratio, ``by`` names what the panels differ in, ``raw`` shows the metric instead of the skill over the floor,
    ``page`` is as wide as a page, and ``csv`` writes the points as well.
    """

    metrics: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    rows: int | None = None
    draws: int | None = None
    output: Path = Path("results") / "rendered"
    formats: tuple[str, ...] = ()
    by: str = "mechanism"
    raw: bool = False
    page: bool = False
    csv: bool = False
