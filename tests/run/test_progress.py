"""What a run shows of itself: lines that stay, bars that move, and a time left that can be believed."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from bench.experiment.cell import Job
from bench.experiment.result import Result, Status
from bench.run.progress import LINE_SECONDS, RunProgress, cost_of, duration_text, recorded_costs
from tests.toys import make_cell, make_job, make_result

JOBS = [make_job(make_cell(dataset=name), make_cell(dataset=name, seed=1)) for name in ("rain", "snow", "hail")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr("bench.run.progress.time.monotonic", lambda: now[0])
    return now


def shown(progress: RunProgress, width: int = 100) -> list[str]:
    """Return the bars as a terminal of this width shows them now."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(progress.bars.get_renderable())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


def plain_console() -> Console:
    return Console(file=io.StringIO(), width=60, force_terminal=False)


def lines_of(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def terminal(width: int = 100) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)


def rows_of(job: Job, status: Status = "ok", **more: Any) -> list[Result]:
    return [make_result(cell, status, **more) for cell in job.cells]


def test_a_line_for_the_whole_and_one_for_each_running_job(clock: list[float]) -> None:
    progress = RunProgress(JOBS, {}, terminal())
    assert shown(progress)[0].startswith("0 of 3 jobs")
    progress.started(JOBS[0])
    progress.started(JOBS[1])
    assert [line.split(" \u2501")[0].strip() for line in shown(progress)] == [
        "0 of 3 jobs",
        "guess, depth=3 on rain, mcar 0.5",
        "guess, depth=3 on snow, mcar 0.5",
    ]
    assert shown(progress)[1].endswith("running")
    clock[0] += 10.0
    progress.progressed(JOBS[0].key, 100, 200, "training")
    assert shown(progress)[1].endswith("training 100/200")
    assert shown(progress)[2].endswith("running")
    progress.finished(JOBS[1], rows_of(JOBS[1]))
    assert len(shown(progress)) == 2
    assert shown(progress)[0].startswith("1 of 3 jobs")
    assert "left" in shown(progress)[0]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_every_width_keeps_a_line_a_job(clock: list[float], width: int) -> None:
    progress = RunProgress(JOBS, {}, terminal(width))
    progress.started(JOBS[0])
    progress.progressed(JOBS[0].key, 1000, 2000, "training")
    found = shown(progress, width)
    assert len(found) == 2
    assert all(len(line) <= width for line in found)
    assert "guess" in found[1]
    assert "train" in found[1]


def test_the_time_left_is_in_proportion_to_what_is_done(clock: list[float]) -> None:
    console = plain_console()
    progress = RunProgress(JOBS, {}, console)
    progress.started(JOBS[0])
    clock[0] += 100.0
    progress.finished(JOBS[0], rows_of(JOBS[0]))
    assert lines_of(console) == ["[1/3] guess, depth=3 on rain, mcar 0.5: 2 rows in 2 min, about 3 min left"]


def test_recorded_costs_weigh_the_jobs(clock: list[float]) -> None:
    costs = recorded_costs([make_result(make_cell(dataset="hail"), seconds=8.0), make_result(make_cell(), "failed")])
    assert costs == {("hail", "guess", "smoke"): 8.0}
    assert [cost_of(job, {}) for job in JOBS] == [30.0, 30.0, 30.0]
    # What is not on record takes as long as its method took elsewhere under the same preset, at most.
    others = {("snow", "guess", "smoke"): 5.0, ("snow", "guess", "paper"): 99.0, ("snow", "ask", "smoke"): 77.0}
    assert [cost_of(job, {**costs, **others}) for job in JOBS] == [8.0, 5.0, 8.0]
    console = plain_console()
    progress = RunProgress(JOBS, {**costs, ("rain", "guess", "smoke"): 2.0, ("snow", "guess", "smoke"): 2.0}, console)
    clock[0] += 40.0
    progress.finished(JOBS[2], rows_of(JOBS[2]))
    # 8 of 12 parts took 40 s.
    assert lines_of(console)[0].endswith("about 20 s left")


def test_what_an_earlier_run_did_says_nothing_about_the_speed(clock: list[float]) -> None:
    console = plain_console()
    progress = RunProgress(JOBS[:1], {}, console)
    progress.started(JOBS[0])
    progress.progressed(JOBS[0].key, 501, 1000, "training")
    clock[0] += LINE_SECONDS + 20.0
    progress.progressed(JOBS[0].key, 601, 1000, "training")
    (line,) = lines_of(console)
    left = re.fullmatch(r"guess, depth=3 on rain, mcar 0\.5: training 601/1000, about (\d) min left", line)
    assert left is not None
    # 50 s for a tenth of the epochs; four tenths of them and the imputation are left.
    assert int(left[1]) == 4


def test_without_a_terminal_a_long_job_speaks_now_and_then(clock: list[float]) -> None:
    console = plain_console()
    progress = RunProgress(JOBS, {}, console)
    with progress:
        progress.started(JOBS[0])
        for epoch in range(1, 100):
            clock[0] += 1.0
            progress.progressed(JOBS[0].key, epoch, 100, "training")
    found = lines_of(console)
    assert 2 <= len(found) <= 100 / LINE_SECONDS
    assert all("training" in line and "\x1b" not in line for line in found)


def test_a_failure_is_told_with_its_reason_whatever_is_in_it(clock: list[float]) -> None:
    console = plain_console()
    progress = RunProgress(JOBS, {}, console)
    reason = "ValueError: [bold]no[/bold] such thing " + "x" * 60
    progress.finished(JOBS[0], rows_of(JOBS[0], "failed", reason=reason))
    (line,) = lines_of(console)
    assert f": failed, {reason} in " in line
    progress.on_line("a line [of] a job")
    assert lines_of(console)[-1] == "a line [of] a job"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (2.34, "2.3 s"), (45.4, "45 s"), (89.9, "90 s"), (600, "10 min"), (9000, "2.5 h")],
)
def test_durations_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
