"""The verb ``audit``: what the appendix leaves open, weighed, and what in its numbers does not fit together."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from bench.cli.console import console
from bench.cli.options import takes
from bench.cli.table import collected
from bench.errors import BenchError, Stopped

if TYPE_CHECKING:
    from bench.run.request import Place


@takes("compute", "as_json", "store", "shipped", "time_budget")
def audit(place: Place, compute: bool, as_json: bool) -> int:
    """Weigh what the paper leaves open by MissForest, MICE and the floor, and print its anomalies."""
    from bench.experiment.audit_trials import TRIALS, read_trials
    from bench.experiment.reader import table_ids
    from bench.experiment.scope import Scope
    from bench.paths import audit_folder
    from bench.report import read_published
    from bench.report.audit.anomalies import anomalies
    from bench.report.audit.page import as_json as to_json
    from bench.report.audit.page import audit_lines, audit_of
    from bench.report.audit.settings import grid_of

    place.require_valid()
    own = place.store / TRIALS
    code = _compute(place) if compute else 0
    trials = list(read_trials([*([audit_folder() / TRIALS] if place.shipped else []), own]).values())
    if not trials:
        raise BenchError(f"no trials in {own}: add --shipped for those of the suite, or --compute to compute them")
    published = read_published()
    papers = tuple(name for name in table_ids() if name[-2:].isdecimal())
    scope = Scope(tables=papers, preset="")
    tables, _ = collected(scope, place, tuned_for_all=False)
    found = audit_of(grid_of(trials, published), anomalies(published, tables, trials))
    if as_json:
        print(json.dumps(to_json(found), indent=1, allow_nan=False))
    else:
        screen = console()
        for line in audit_lines(found):
            screen.print(line, highlight=False, markup=False)
    return code


def _compute(place: Place) -> int:
    """Compute the trials that the store lacks; return the exit code."""
    from bench.experiment.audit_trials import TRIALS
    from bench.plugins.registry import Registry
    from bench.run.audit import compute_trials
    from bench.run.plan import NOT_FINISHED
    from bench.run.progress import print_line

    screen, deadline = console(), place.deadline()

    def stop() -> None:
        if deadline is not None and time.time() > deadline:
            raise Stopped("the time budget is over")

    def report(done: int, total: int, what: str) -> None:
        print_line(screen, f"[{done + 1}/{total}] {what}")

    try:
        compute_trials(place.store / TRIALS, Registry.scan(), stop, report)
    except Stopped as early:
        print_line(screen, f"stopped: {early}. Run the same command again to continue.")
        return NOT_FINISHED
    return 0
