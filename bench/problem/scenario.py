"""A scenario: which table is split, and how its entries are hidden. The method has no part in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """All that a split and a mask depend on.

    ``content`` is the content hash of the table and ``seed`` the seed of its split and mask. ``test_rows`` bounds the
    scored test rows; None scores all of them.
    """

    dataset: str
    content: str
    include_target: bool
    mechanism: str
    mechanism_parameters: Mapping[str, Any] = field(hash=False)
    ratio: float
    seed: int
    test_rows: int | None = None
