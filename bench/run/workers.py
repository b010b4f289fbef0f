"""Runs jobs, in this process or in local worker processes, within a time budget.

Only JSON crosses a process border. Each worker rebuilds the registry from the plug-in folders' names, has one job at a
time, and takes nothing but that job with it should it die.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.errors import BenchError, Stopped
from bench.experiment.cell import Job
from bench.plugins.registry import Registry
from bench.run.job import THREAD_VARIABLES, Row, Surroundings, failed_rows, job_as_json, run_job, run_job_json

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext

#: Kept free at the end of a time budget, to write what was finished.
RESERVE_SECONDS = 2.0
#: How long workers may take to reach a place where they can stop before they are ended.
GRACE_SECONDS = 60.0
STOPPING = "stopping as soon as the running jobs have kept their state; Ctrl-C again ends them at once"
AT_ONCE = "interrupted at once; running jobs go on from their last checkpoint"


class Observer(Protocol):
    """What wants to know how a run goes."""

    def started(self, job: Job) -> None:
        """Note that a job has begun."""

    def progressed(self, job_key: str, done: int, total: int, stage: str) -> None:
        """Note how far a job has come."""

    def finished(self, job: Job, rows: Sequence[Row]) -> None:
        """Note the rows of a job that ended."""

    def said(self, line: str) -> None:
        """Note a line that a job printed, or that the user should see."""


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

    It looks ahead by the longest time between two such places so far, so that a job ends before the limit. What comes
    before the first one (loading) happens once and does not count.
    """

    def __init__(self, deadline: float | None, requested: Callable[[], bool]) -> None:
        """Watch a deadline and a request to stop."""
        self._deadline, self._requested = deadline, requested
        self._longest = 0.0
        self._last: float | None = None

    def __call__(self) -> None:
        """Raise Stopped if it is time."""
        now = time.time()
        self._longest = max(self._longest, 0.0 if self._last is None else now - self._last)
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
    run = _execute_here if plan.workers <= 1 or len(jobs) <= 1 else _execute_in_workers
    try:
        with interruptions(observer.said) as interrupted:
            return run(jobs, registry, plan, observer, put, interrupted)
    except KeyboardInterrupt:
        return AT_ONCE


def _execute_here(
    jobs: Sequence[Job],
    registry: Registry,
    plan: Plan,
    observer: Observer,
    put: Callable[[Sequence[Row]], None],
    interrupted: Callable[[], bool],
) -> str | None:
    for job in jobs:

        def progress(done: int, total: int, stage: str, key: str = job.key) -> None:
            observer.progressed(key, done, total, stage)

        rule = StopRule(plan.deadline, interrupted)
        surroundings = Surroundings(plan.device, plan.threads, plan.checkpoints, progress, rule)
        try:
            StopRule(plan.deadline, interrupted)()
            observer.started(job)
            rows = run_job(job, registry, surroundings)
        except Stopped as stopped:
            return str(stopped)
        _keep(job, rows, plan, observer, put)
    return None


def _keep(job: Job, rows: Sequence[Row], plan: Plan, observer: Observer, put: Callable[[Sequence[Row]], None]) -> None:
    put(rows)
    if plan.checkpoints is not None:
        for path in plan.checkpoints.glob(f"{job.key}-*.pt"):
            path.unlink()
    observer.finished(job, rows)


@contextlib.contextmanager
def interruptions(said: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, and say so; a Ctrl-C after it interrupts as usual."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not seen:
            seen.append(number)
            # From a thread of its own: the display may be in the middle of a line here.
            threading.Thread(target=said, args=(STOPPING,), daemon=True).start()

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


# The parent's side of worker processes


class _Worker:
    """A process that takes one job after the other; its death takes nothing with it but the job it has."""

    def __init__(self, context: SpawnContext) -> None:
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,))
        # Inherited: a Ctrl-C in the terminal reaches every process of the group, from the first moment on.
        with _ignored(signal.SIGINT, signal.SIGTERM):
            self._process.start()
        theirs.close()
        self.job: Job | None = None
        self.began = 0.0
        self._ready = False

    def give(self, job: Job, task: dict[str, Any]) -> None:
        """Hand over a job."""
        self.job, self.began = job, time.monotonic()
        self._send(task)

    def ask_to_stop(self) -> None:
        """Ask for an end at the next place where the job can stop."""
        self._send({"stop": True})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it died; ``receive`` finds out
            self.connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """Return the next message; that the process died is one. Raises BenchError if it never came to life."""
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._process.join(timeout=5)
            code = self._process.exitcode or 0
            if not self._ready:
                raise BenchError(f"worker processes do not start here (exit code {code}); try --workers 1") from None
            how = f"signal {-code}; out of memory, perhaps" if code < 0 else f"exit code {code}"
            return {"died": f"worker process died ({how})"}
        self._ready = True
        return message

    def end(self) -> None:
        """End the process; it holds nothing that is not on the disk already."""
        self._process.kill()
        self._process.join(timeout=5)
        self.connection.close()


@contextlib.contextmanager
def _ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore signals for a moment, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _execute_in_workers(
    jobs: Sequence[Job],
    registry: Registry,
    plan: Plan,
    observer: Observer,
    put: Callable[[Sequence[Row]], None],
    interrupted: Callable[[], bool],
) -> str | None:
    context = multiprocessing.get_context("spawn")
    # Inherited, and so there before any numerical library starts its threads.
    os.environ.update({variable: str(plan.threads) for variable in THREAD_VARIABLES})
    settings = {
        "deadline": plan.deadline,
        "device": plan.device,
        "threads": plan.threads,
        "checkpoints": str(plan.checkpoints) if plan.checkpoints else None,
    }
    surroundings = Surroundings(plan.device, plan.threads, plan.checkpoints)
    waiting = list(reversed(jobs))
    reason: str | None = None
    last_call: float | None = None
    workers: list[_Worker] = []
    try:
        for _ in range(min(plan.workers, len(jobs))):
            workers.append(_Worker(context))
        while True:
            for worker in workers:
                if worker.job is None and waiting and reason is None:
                    job = waiting.pop()
                    observer.started(job)
                    task = {"job": job_as_json(job, registry), "locations": registry.locations(), "plan": settings}
                    worker.give(job, task)
            busy = {worker.connection: (worker, worker.job) for worker in workers if worker.job is not None}
            if not busy:
                return reason
            heard = multiprocessing.connection.wait(list(busy), timeout=0.1)
            for connection, (worker, job) in busy.items():
                if connection not in heard:
                    continue
                message = worker.receive()
                if "progress" in message:
                    observer.progressed(job.key, *message["progress"])
                elif "said" in message:
                    observer.said(message["said"])
                elif "rows" in message:
                    worker.job = None
                    _keep(job, message["rows"], plan, observer, put)
                elif "stopped" in message:
                    worker.job = None
                    reason = reason or message["stopped"]
                elif "died" in message:
                    worker.end()
                    workers.remove(worker)
                    if last_call is None:
                        seconds = time.monotonic() - worker.began
                        rows = failed_rows(job, message["died"], registry, surroundings, seconds)
                        _keep(job, rows, plan, observer, put)
                    if waiting and reason is None:
                        workers.append(_Worker(context))
            late = plan.deadline is not None and time.time() > plan.deadline - RESERVE_SECONDS
            if last_call is None and (interrupted() or late):
                reason = reason or ("interrupted" if interrupted() else "the time budget is used up")
                last_call = time.time() + GRACE_SECONDS
                for worker in workers:
                    worker.ask_to_stop()
            if last_call is not None and late:
                last_call = min(last_call, time.time())
            running = sum(worker.job is not None for worker in workers)
            if last_call is not None and running and time.time() >= last_call:
                return f"{reason}; {running} running job(s) had no place to stop at and will start over"
    finally:
        for worker in workers:
            worker.end()


# The workers' side


class _Voice(io.TextIOBase):
    """Standard output of a worker: sends whole lines to the parent, which knows where on the screen they belong."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send, self._rest = send, ""

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Send the lines that are complete; what a progress bar overwrites counts as a line only at its end."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2]
            if shown.strip():
                self._send({"said": shown})
        return len(text)


def _serve(connection: Connection) -> None:
    """Run the jobs that come, one by one, until there are no more or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            connection.send_bytes(json.dumps(message).encode())

    sys.stdout = sys.stderr = _Voice(send)
    send({"ready": True})
    while True:
        try:
            task = json.loads(connection.recv_bytes())
        except EOFError:
            return
        if "job" in task:
            # Whatever comes while a job runs asks it to stop.
            send(_answer(task, send, connection.poll))


def _answer(
    task: dict[str, Any], send: Callable[[dict[str, Any]], None], requested: Callable[[], bool]
) -> dict[str, Any]:
    """Run one job and return its rows, or why it stopped."""

    def progress(done: int, total: int, stage: str) -> None:
        send({"progress": [done, total, stage]})

    plan = task["plan"]
    rule = StopRule(plan["deadline"], requested)
    checkpoints = Path(plan["checkpoints"]) if plan["checkpoints"] else None
    surroundings = Surroundings(plan["device"], plan["threads"], checkpoints, progress, rule)
    try:
        StopRule(plan["deadline"], requested)()
        return {"rows": run_job_json(task["job"], task["locations"], surroundings)}
    except Stopped as stopped:
        return {"stopped": str(stopped)}


def _end_with_parent() -> None:
    """End this process when the parent is gone, however it went: nobody would take the rows."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
