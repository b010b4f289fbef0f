"""The verb ``run``: compute what the store lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import Default, takes

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.run.request import Place


@takes(
    "tables",
    "preset",
    "parameters",
    "methods",
    "datasets",
    "seeds",
    "mechanisms",
    "ratios",
    "masks",
    "store",
    "shipped",
    "plugins",
    "workers",
    "threads",
    "device",
    "kernels",
    "precision",
    "time_budget",
    "job_timeout",
    "job_memory",
    "dry_run",
    "retry_failed",
    "rerun",
    "stand_in",
    tables=Default(None, "a grid of your own"),
    methods=Default("", "all of the tables"),
    datasets=Default("", "all of the tables"),
    seeds=Default("", "all of the tables; 0,1,2 in a grid"),
    mechanisms=Default("", "mcar"),
    ratios=Default("", "0.5"),
)
def run(scope: Scope, place: Place, masks: Path | None, dry_run: bool, retry_failed: bool, rerun: bool) -> int:
    """Run tables, or a grid of your own; what is stored already is not run again."""
    from bench.run.plan import run_scope

    if masks is not None:
        from bench.experiment.mask_file import under_mask
        from bench.plugins.registry import Registry

        scope = under_mask(scope, masks, Registry.scan(place.plugins))
    return run_scope(scope, place, console(), dry_run=dry_run, retry_failed=retry_failed, rerun=rerun)
