"""The verb ``verify``: whether stored rows are as they were put, and come out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import takes

if TYPE_CHECKING:
    from bench.run.request import Place


@takes("store", "shipped", "plugins", "sample", "choice", "workers", "time_budget")
def verify(place: Place, sample: int, choice: int) -> int:
    """Check keys and digests of stored rows, and compute some again: exit code 1 if one is edited or differs."""
    from bench.run.verify import verify_stores

    return verify_stores(place, console(), sample, choice)
