"""Runs jobs, in this process or in local worker processes, within a time budget.

Only JSON crosses a process border: jobs with their plug-ins one way, results the other. A worker has one job at a time,
and if it dies, nothing else is lost.
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
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, Stopped
from bench.experiment.cell import Job
from bench.experiment.result import Result
from bench.run.job import failed_results, run_job
from bench.run.machine import THREAD_VARIABLES, Machine
from bench.run.progress import Observer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext

Put = Callable[[Sequence[Result]], None]

#: Kept free at the end of a time budget, to write what was finished.
RESERVE_SECONDS = 2.0
#: How long workers may take to reach a place where they can stop before they are ended.
GRACE_SECONDS = 60.0
STOPPING = "stopping as soon as the running jobs have kept their state; Ctrl-C again ends them at once"
AT_ONCE = "interrupted at once; running jobs continue from their last checkpoint"


class StopRule:
    """Decides at safe places whether to continue: not past the deadline, and not after a request to stop.

    It looks ahead by the longest time between two such places so far, so that a job ends before the limit. The time
    before the first one (loading) does not count, because it does not come again.
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


def run_jobs(jobs: Sequence[Job], machine: Machine, observer: Observer, put: Put) -> str | None:
    """Run jobs and hand each one's results to ``put`` as it ends; return why it stopped early, or None.

    Ctrl-C lets running jobs reach an epoch's end and keep their state; a second one ends them at once.
    """
    run = _run_here if machine.workers <= 1 or len(jobs) <= 1 else _run_in_workers
    try:
        with interruptions(observer.on_line) as interrupted:
            return run(jobs, machine, observer, put, interrupted)
    except KeyboardInterrupt:
        return AT_ONCE


def _run_here(
    jobs: Sequence[Job], machine: Machine, observer: Observer, put: Put, interrupted: Callable[[], bool]
) -> str | None:
    for job in jobs:

        def progress(done: int, total: int, stage: str, key: str = job.key) -> None:
            observer.progressed(key, done, total, stage)

        try:
            StopRule(machine.deadline, interrupted)()
            observer.started(job)
            results = run_job(job, machine.watched(progress, StopRule(machine.deadline, interrupted)))
        except Stopped as stopped:
            return str(stopped)
        _keep(job, results, machine, observer, put)
    return None


def _keep(job: Job, results: Sequence[Result], machine: Machine, observer: Observer, put: Put) -> None:
    put(results)
    if machine.checkpoints is not None:
        for path in machine.checkpoints.glob(f"{job.key}-*.pt"):
            path.unlink()
    observer.finished(job, results)


@contextlib.contextmanager
def interruptions(on_line: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, and say so; a Ctrl-C after it interrupts as usual."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not seen:
            seen.append(number)
            # From a thread of its own: the display may be in the middle of a line here.
            threading.Thread(target=on_line, args=(STOPPING,), daemon=True).start()

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
    """A process that takes one job after the other; if it dies, only the job it has is lost."""

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

    def give(self, job: Job, machine: Machine) -> None:
        """Hand over a job."""
        self.job, self.began = job, time.monotonic()
        self._send({"job": job.as_json(), "machine": machine.as_json()})

    def ask_to_stop(self) -> None:
        """Ask for an end at the next place where the job can stop."""
        self._send({"stop": True})

    def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # it died; ``receive`` finds out
            self.connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """Return the next message; that the process died is one. Raises BenchError if it never started."""
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


def _run_in_workers(
    jobs: Sequence[Job], machine: Machine, observer: Observer, put: Put, interrupted: Callable[[], bool]
) -> str | None:
    context = multiprocessing.get_context("spawn")
    # Inherited, and so there before any numerical library starts its threads.
    os.environ.update({variable: str(machine.threads) for variable in THREAD_VARIABLES})
    waiting = list(reversed(jobs))
    reason: str | None = None
    last_call: float | None = None
    workers: list[_Worker] = []
    try:
        for _ in range(min(machine.workers, len(jobs))):
            workers.append(_Worker(context))
        while True:
            for worker in workers:
                if worker.job is None and waiting and reason is None:
                    job = waiting.pop()
                    observer.started(job)
                    worker.give(job, machine)
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
                elif "line" in message:
                    observer.on_line(message["line"])
                elif "results" in message:
                    worker.job = None
                    _keep(job, [Result.from_json(value) for value in message["results"]], machine, observer, put)
                elif "stopped" in message:
                    worker.job = None
                    reason = reason or message["stopped"]
                elif "died" in message:
                    worker.end()
                    workers.remove(worker)
                    if last_call is None:
                        seconds = time.monotonic() - worker.began
                        _keep(job, failed_results(job, message["died"], machine, seconds), machine, observer, put)
                    if waiting and reason is None:
                        workers.append(_Worker(context))
            late = machine.deadline is not None and time.time() > machine.deadline - RESERVE_SECONDS
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


class WorkerOutput(io.TextIOBase):
    """Standard output of a worker: sends whole lines to the parent, which knows where on the screen they belong."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send, self._rest = send, ""

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Send the lines that are complete; of what a progress bar overwrites, only the last state is sent."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2]
            if shown.strip():
                self._send({"line": shown})
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

    sys.stdout = sys.stderr = WorkerOutput(send)
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
    """Run one job and return its results, or why it stopped."""

    def progress(done: int, total: int, stage: str) -> None:
        send({"progress": [done, total, stage]})

    machine = Machine.from_json(task["machine"])
    try:
        StopRule(machine.deadline, requested)()
        watched = machine.watched(progress, StopRule(machine.deadline, requested))
        return {"results": [result.as_json() for result in run_job(Job.from_json(task["job"]), watched)]}
    except Stopped as stopped:
        return {"stopped": str(stopped)}


def _end_with_parent() -> None:
    """End this process when the parent is gone, however it ended: nobody would take the results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
