"""How a run shows itself: bars in a terminal, plain lines elsewhere, an estimate of the time left in both."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from bench.experiment.cell import Job
from bench.experiment.result import Result

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

#: What a job is expected to take if no earlier one like it is on record.
UNKNOWN_SECONDS = 30.0

#: Without a terminal, a long job says this often how far it is.
LINE_SECONDS = 30.0

Costs = Mapping[tuple[str, str, str], float]


class Observer(Protocol):
    """What wants to know how a run goes."""

    def started(self, job: Job) -> None:
        """Note that a job has begun."""

    def progressed(self, job_key: str, done: int, total: int, stage: str) -> None:
        """Note how far a job has come."""

    def finished(self, job: Job, results: Sequence[Result]) -> None:
        """Note the results of a job that ended."""

    def on_line(self, line: str) -> None:
        """Note a line that a job printed, or that the user should see."""


def recorded_costs(results: Iterable[Result]) -> dict[tuple[str, str, str], float]:
    """Return seconds per (data set, method, preset) of stored jobs."""
    return {
        (result.cell.dataset, result.cell.method, result.cell.preset): result.seconds
        for result in results
        if result.status == "ok"
    }


def cost_of(job: Job, costs: Costs) -> float:
    """Return the seconds a job is expected to take: as on record, or as long as its method took elsewhere."""
    first = job.cells[0]
    own = costs.get((first.dataset, first.method, first.preset))
    elsewhere = (
        seconds for (_, method, preset), seconds in costs.items() if (method, preset) == (first.method, first.preset)
    )
    return max(0.1, own if own is not None else max(elsewhere, default=UNKNOWN_SECONDS))


def duration_text(seconds: float) -> str:
    """Return a duration in words a person reads at a glance."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """Return ``1 job`` or ``2 jobs``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: wrapped between words on a terminal, left whole in a file."""
    console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=not console.is_terminal)


def _bars(console: Console) -> Progress:
    """Return the bars, one line each, which vanish at the end; without a terminal they show nothing."""
    from rich.constrain import Constrain
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    class Bars(Progress):
        """Leaves room at the right for the ^C that a terminal prints, which would move the bars by a line."""

        def get_renderable(self) -> RenderableType:
            return Constrain(super().get_renderable(), console.width - 4)

    whole = Column(no_wrap=True, overflow="ellipsis")
    return Bars(
        TextColumn("{task.description}", markup=False, table_column=whole),
        BarColumn(bar_width=max(8, min(30, console.width // 4))),
        TextColumn("{task.fields[note]}", markup=False, table_column=whole),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class RunProgress:
    """Watches a run and shows it on a console."""

    def __init__(self, jobs: Sequence[Job], costs: Costs, console: Console) -> None:
        """Prepare for ``jobs``; ``costs`` weigh them in the estimate of the time left."""
        self._console = console
        self._weights = {job.key: cost_of(job, costs) for job in jobs}
        self._labels = {job.key: job.label for job in jobs}
        self._shares: dict[str, float] = {}
        #: What jobs had done in an earlier run: it says nothing about this one's speed.
        self._brought: dict[str, float] = {}
        self._began = self._last_line = time.monotonic()
        self._begun: dict[str, float] = {}
        self._ended = 0
        self._tasks: dict[str, TaskID] = {}
        self.bars = _bars(console)
        self._all = self.bars.add_task(self._counted(), total=1.0, note="")

    def __enter__(self) -> RunProgress:
        """Start showing."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self.bars.stop()

    def started(self, job: Job) -> None:
        """Show that a job has begun; until it says how far it is, its bar only moves."""
        self._begun[job.key] = time.monotonic()
        self._tasks[job.key] = self.bars.add_task(f"  {job.label}", total=None, note="running")

    def progressed(self, job_key: str, done: int, total: int, stage: str) -> None:
        """Show how far a job has come."""
        share = done / max(1, total)
        # Training is nearly all of a job that trains; what follows fills the rest.
        overall = 0.9 * share if stage != "imputing" else 0.9
        self._brought.setdefault(job_key, overall if done > 1 else 0.0)
        self._shares[job_key] = max(self._shares.get(job_key, 0.0), overall)
        note = f"{stage} {done}/{total}"
        if job_key in self._tasks:
            self.bars.update(self._tasks[job_key], completed=share, total=1.0, note=note)
        self._refresh()
        if not self._console.is_terminal and time.monotonic() - self._last_line > LINE_SECONDS:
            self._print(f"{self._labels[job_key]}: {note}{self._ahead()}")

    def finished(self, job: Job, results: Sequence[Result]) -> None:
        """Show the end of a job, as a line that stays."""
        failed = next((result for result in results if result.status != "ok"), None)
        self.ended(job, f"{failed.status}, {failed.reason}" if failed else counted(len(results), "row"))
        for warning in dict.fromkeys(text for result in results for text in result.warnings):
            self._print(f"warning: {job.label}: {warning}")

    def ended(self, job: Job, outcome: str) -> None:
        """Show the end of a job and what came of it, as a line that stays."""
        self._shares[job.key] = 1.0
        self._ended += 1
        if job.key in self._tasks:
            self.bars.remove_task(self._tasks.pop(job.key))
        seconds = time.monotonic() - self._begun.get(job.key, self._began)
        count = f"[{self._ended:>{len(str(len(self._weights)))}}/{len(self._weights)}]"
        self._print(f"{count} {job.label}: {outcome} in {duration_text(seconds)}{self._ahead()}")
        self._refresh()

    def on_line(self, line: str) -> None:
        """Show a line of a job, or to the user, above the bars."""
        self._print(line)

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        print_line(self._console, line)

    def _counted(self) -> str:
        return f"{self._ended} of {len(self._weights)} jobs"

    def _done_weight(self) -> float:
        return sum(self._weights[key] * share for key, share in self._shares.items())

    def _left(self) -> float | None:
        """Return the estimated seconds left, None before anything is known."""
        total = sum(self._weights.values())
        brought = sum(self._weights[key] * share for key, share in self._brought.items())
        done, left = self._done_weight() - brought, total - self._done_weight()
        elapsed = time.monotonic() - self._began
        return elapsed * left / done if done > 0.01 * (total - brought) else None

    def _ahead(self) -> str:
        left = self._left()
        return f", about {duration_text(left)} left" if left is not None and self._ended < len(self._weights) else ""

    def _refresh(self) -> None:
        share = self._done_weight() / sum(self._weights.values())
        note = self._ahead().removeprefix(", ")
        self.bars.update(self._all, description=self._counted(), completed=share, note=note)


class TrialProgress:
    """How far one method's trials are: a bar on a terminal, now and then a line elsewhere; a context's ``progress``."""

    def __init__(self, label: str, console: Console) -> None:
        """Prepare for the trials of ``label``."""
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._label = console, label
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self.bars.add_task(f"tuning {label}", total=None)
        self._began = self._last_line = time.monotonic()
        #: What an earlier call had done: it says nothing about this one's speed.
        self._brought: int | None = None

    def __enter__(self) -> TrialProgress:
        """Start showing."""
        self.bars.start()
        return self

    def __exit__(self, *ended: object) -> None:
        """Stop showing."""
        self.bars.stop()

    def __call__(self, done: int, total: int, stage: str) -> None:
        """Show that ``done`` of ``total`` parts of a stage are behind."""
        self.bars.update(self._task, completed=done, total=total)
        if self._brought is None or done <= self._brought:
            self._brought = done - 1
        now = time.monotonic()
        if self._console.is_terminal or now - self._last_line <= LINE_SECONDS:
            return
        self._last_line = now
        left = (now - self._began) * (total - done) / (done - self._brought)
        ahead = f", about {duration_text(left)} left" if done < total else ""
        print_line(self._console, f"tuning {self._label}: {stage} {done}/{total}{ahead}")
