"""How a run shows itself: bars in a terminal, plain lines elsewhere, an estimate of the time left in both."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from bench.experiment import Job

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

#: What a job is taken to need where no earlier one like it is on record.
UNKNOWN_SECONDS = 30.0

Costs = Mapping[tuple[str, str, str], float]


def recorded_costs(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], float]:
    """Return seconds per (data set, method, preset) of stored jobs."""
    return {
        (row["cell"]["dataset"], row["cell"]["method"], row["cell"]["preset"]): row["seconds"]
        for row in rows
        if row["status"] == "ok"
    }


def cost_of(job: Job, costs: Costs) -> float:
    """Return the seconds a job is expected to take."""
    first = job.cells[0]
    return max(0.1, costs.get((first.dataset, first.method, first.preset), UNKNOWN_SECONDS))


def duration_text(seconds: float) -> str:
    """Return a duration in words a person reads at a glance."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class RunProgress:
    """Watches a run (an ``execute.Observer``) and shows it on a console."""

    def __init__(self, jobs: Sequence[Job], costs: Costs, console: Console) -> None:
        """Prepare for ``jobs``; ``costs`` weigh them in the estimate of the time left."""
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = console
        self._weights = {job.key: cost_of(job, costs) for job in jobs}
        self._labels = {job.key: job.label for job in jobs}
        self._shares: dict[str, float] = {}
        self._began = time.monotonic()
        self._begun: dict[str, float] = {}
        self._ended = 0
        self._tasks: dict[str, TaskID] = {}
        self._bars = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[note]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._all = self._bars.add_task(f"{len(jobs)} jobs", total=1.0, note="")

    def __enter__(self) -> RunProgress:
        """Start showing."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._bars.stop()

    def started(self, job: Job) -> None:
        """Show that a job has begun."""
        self._begun[job.key] = time.monotonic()
        self._tasks[job.key] = self._bars.add_task(f"  {job.label}", total=1.0, note="starting")

    def progressed(self, job_key: str, done: int, total: int, stage: str) -> None:
        """Show how far a job has come; its stages count as one, the last a tenth of it."""
        share = done / max(1, total)
        # Training is nearly all of a job that trains; what follows fills the rest.
        self._shares[job_key] = max(self._shares.get(job_key, 0.0), 0.9 * share if stage != "imputing" else 0.9)
        if job_key in self._tasks:
            self._bars.update(self._tasks[job_key], completed=share, note=f"{stage} {done}/{total}")
        self._refresh()

    def finished(self, job: Job, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the end of a job, as a line that stays."""
        self._shares[job.key] = 1.0
        self._ended += 1
        if job.key in self._tasks:
            self._bars.remove_task(self._tasks.pop(job.key))
        seconds = time.monotonic() - self._begun.get(job.key, self._began)
        failed = next((row for row in rows if row["status"] != "ok"), None)
        outcome = "" if failed is None else f": {failed['status']}, {failed['reason']}"
        left = self._left()
        ahead = f", about {duration_text(left)} left" if left is not None and self._ended < len(self._weights) else ""
        line = f"[{self._ended}/{len(self._weights)}] {job.label}, {len(rows)} row(s) in {duration_text(seconds)}"
        self._console.print(line + ahead + outcome, highlight=False, markup=False, soft_wrap=True)
        self._refresh()

    def _done_weight(self) -> float:
        return sum(self._weights[key] * share for key, share in self._shares.items())

    def _left(self) -> float | None:
        """Return the estimated seconds left, None before anything is known."""
        done, total = self._done_weight(), sum(self._weights.values())
        elapsed = time.monotonic() - self._began
        return elapsed * (total - done) / done if done > 0.01 * total else None

    def _refresh(self) -> None:
        left = self._left()
        note = "" if left is None else f"about {duration_text(left)} left"
        self._bars.update(self._all, completed=self._done_weight() / sum(self._weights.values()), note=note)
