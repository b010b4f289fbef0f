"""Runs jobs, in this process or in local worker processes, within a time budget.

Only JSON crosses a process border. Each worker rebuilds the registry from the plug-in folders' names.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.errors import BenchError, Stopped
from bench.experiment import Job
from bench.registry import Registry
from bench.run import Row, Surroundings, job_as_json, run_job, run_job_json

#: Kept free at the end of a time budget, to write what was finished.
RESERVE_SECONDS = 2.0
#: How long workers may take to reach a place where they can stop before they are ended.
GRACE_SECONDS = 60.0


class Observer(Protocol):
    """What wants to know how a run goes."""

    def started(self, job: Job) -> None:
        """Note that a job has begun."""

    def progressed(self, job_key: str, done: int, total: int, stage: str) -> None:
        """Note how far a job has come."""

    def finished(self, job: Job, rows: Sequence[Row]) -> None:
        """Note the rows of a job that ended."""


@dataclass(frozen=True)
class Plan:
    """How to run jobs; ``deadline`` is in seconds of ``time.time``, or None."""

    workers: int = 1
    device: str = "cpu"
    threads: int = 1
    checkpoints: Path | None = None
    deadline: float | None = None


class StopRule:
    """Decides at safe places whether to go on: not past the deadline, and not after a request to stop.

    It looks ahead by the longest time between two such places so far, so that a job ends before the limit.
    """

    def __init__(self, deadline: float | None, requested: Callable[[], bool]) -> None:
        """Watch a deadline and a request to stop."""
        self._deadline, self._requested = deadline, requested
        self._longest = 0.0
        self._last = time.time()

    def __call__(self) -> None:
        """Raise Stopped if it is time."""
        now = time.time()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        if self._requested():
            raise Stopped("interrupted")
        if self._deadline is not None and now + self._longest + RESERVE_SECONDS > self._deadline:
            raise Stopped("the time budget is used up")


def execute(
    jobs: Sequence[Job], registry: Registry, plan: Plan, observer: Observer, put: Callable[[Sequence[Row]], None]
) -> str | None:
    """Run jobs and hand each one's rows to ``put`` as it ends; return why it stopped early, or None.

    Ctrl-C lets running jobs reach an epoch's end and keep their state; a second one ends them at once.
    """
    if plan.workers <= 1 or len(jobs) <= 1:
        return _execute_here(jobs, registry, plan, observer, put)
    return _execute_in_workers(jobs, registry, plan, observer, put)


def _execute_here(
    jobs: Sequence[Job], registry: Registry, plan: Plan, observer: Observer, put: Callable[[Sequence[Row]], None]
) -> str | None:
    with _interruptions() as interrupted:
        for job in jobs:
            rule = StopRule(plan.deadline, interrupted)

            def progress(done: int, total: int, stage: str, key: str = job.key) -> None:
                observer.progressed(key, done, total, stage)

            surroundings = Surroundings(plan.device, plan.threads, plan.checkpoints, progress, rule)
            try:
                rule()
                observer.started(job)
                rows = run_job(job, registry, surroundings)
            except Stopped as stopped:
                return str(stopped)
            _keep(job, rows, plan, observer, put)
    return None


def _keep(
    job: Job, rows: Sequence[Row], plan: Plan, observer: Observer, put: Callable[[Sequence[Row]], None]
) -> None:
    put(rows)
    if plan.checkpoints is not None:
        (plan.checkpoints / f"{job.key}.pt").unlink(missing_ok=True)
    observer.finished(job, rows)


@contextlib.contextmanager
def _interruptions() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second Ctrl-C interrupts as usual."""
    seen = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: signals cannot be caught here
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# Worker processes

_WORKER: dict[str, Any] = {}


def _start_worker(stop_event: Any, messages: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _WORKER.update(stop=stop_event, messages=messages)


def _work(text: str) -> str:
    """Run one job from its JSON text and return its rows, or why it stopped, as JSON text."""
    task = json.loads(text)
    plan, key = task["plan"], task["key"]

    def progress(done: int, total: int, stage: str) -> None:
        _WORKER["messages"].put((key, done, total, stage))

    rule = StopRule(plan["deadline"], _WORKER["stop"].is_set)
    checkpoints = Path(plan["checkpoints"]) if plan["checkpoints"] else None
    surroundings = Surroundings(plan["device"], plan["threads"], checkpoints, progress, rule)
    try:
        rule()
        progress(0, 1, "starting")
        return json.dumps({"rows": run_job_json(task["job"], task["locations"], surroundings)})
    except Stopped as stopped:
        return json.dumps({"stopped": str(stopped)})
    except BenchError as error:
        return json.dumps({"error": str(error)})


def _execute_in_workers(
    jobs: Sequence[Job], registry: Registry, plan: Plan, observer: Observer, put: Callable[[Sequence[Row]], None]
) -> str | None:
    context = multiprocessing.get_context("spawn")
    stop_event, messages = context.Event(), context.Queue()
    settings = {
        "deadline": plan.deadline, "device": plan.device, "threads": plan.threads,
        "checkpoints": str(plan.checkpoints) if plan.checkpoints else None,
    }  # fmt: skip
    # Workers read these before any numerical library starts its threads.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = str(plan.threads)
    pool = ProcessPoolExecutor(min(plan.workers, len(jobs)), context, _start_worker, (stop_event, messages))
    running: dict[Future[str], Job] = {}
    waiting = list(reversed(jobs))
    by_key = {job.key: job for job in jobs}
    reason: str | None = None
    last_call: float | None = None
    try:
        with _interruptions() as interrupted:
            while running or (waiting and reason is None):
                while waiting and reason is None and len(running) < plan.workers:
                    job = waiting.pop()
                    task = {
                        "job": job_as_json(job, registry), "key": job.key, "plan": settings,
                        "locations": registry.locations(),
                    }  # fmt: skip
                    running[pool.submit(_work, json.dumps(task))] = job
                done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                _pass_on(messages, by_key, observer)
                for future in done:
                    job = running.pop(future)
                    answer = json.loads(future.result())
                    if "rows" in answer:
                        _keep(job, answer["rows"], plan, observer, put)
                    elif "error" in answer:
                        raise BenchError(answer["error"])
                    else:
                        reason = reason or answer["stopped"]
                late = plan.deadline is not None and time.time() > plan.deadline - RESERVE_SECONDS
                if interrupted() or late:
                    reason = reason or ("interrupted" if interrupted() else "the time budget is used up")
                    stop_event.set()
                    last_call = last_call or time.time() + (0 if late else GRACE_SECONDS)
                if last_call is not None and running and time.time() > last_call:
                    return f"{reason}; {len(running)} running job(s) had no place to stop at and will start over"
        return reason
    except KeyboardInterrupt:
        return "interrupted at once; running jobs go on from their last checkpoint"
    finally:
        _end(pool)
        messages.close()
        messages.cancel_join_thread()


def _pass_on(messages: Any, jobs: dict[str, Job], observer: Observer) -> None:
    """Hand the workers' progress messages to the observer."""
    while True:
        try:
            key, done, total, stage = messages.get_nowait()
        except queue.Empty:
            return
        if stage == "starting":
            observer.started(jobs[key])
        else:
            observer.progressed(key, done, total, stage)


def _end(pool: ProcessPoolExecutor) -> None:
    """End the pool's processes; they hold nothing that is not on the disk already."""
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=5)
