"""The verb ``tune``: choose parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import takes

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.run.request import Place


@takes("method", "dataset", "preset", "seeds", "store", "plugins", "device", "time_budget", "again", seeds="0,1,2")
def tune(scope: Scope, place: Place, again: bool) -> int:
    """Choose a method's parameters on a data set by 16 random trials, for `run --parameters tuned`."""
    from bench.run.tune import tune_scope

    return tune_scope(scope, place, console(), again)
