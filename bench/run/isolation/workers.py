"""Runs jobs and other tasks in local worker processes, within limits of time and memory, or jobs in this process.

Only JSON crosses a process border: tasks with their plug-ins one way, answers the other. A worker has one task at a
time, and if it dies, nothing else is lost. Workers of the suite's own plug-ins are kept for the next task; plug-ins
from elsewhere share a worker with no others, so that what they change in their process harms nobody.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from bench.errors import BenchError, Stopped, clean_text, one_line
from bench.experiment.cell import Job
from bench.experiment.result import Result
from bench.run.isolation.process import Inbox, Task, Worker, new_inbox
from bench.run.job import failed_results, run_job
from bench.run.machine import RESERVE_SECONDS, Machine, StopRule
from bench.run.progress import Observer, duration_text
from bench.seeds import digest

Put = Callable[[Sequence[Result]], None]

#: What is left of a time budget's reserve for jobs that reach no place to stop at before.
END_SECONDS = 1.0
#: How long workers may take to reach a place where they can stop before they are ended.
GRACE_SECONDS = 60.0
#: Workers that die in a row before any is ready: then none will start here.
MOST_FAILED_STARTS = 3
#: How often the memory of workers is looked at.
MEMORY_SECONDS = 0.5
STOPPING = "stopping as soon as the running jobs have kept their state; Ctrl-C again ends them at once"
AT_ONCE = "interrupted at once; running jobs continue from their last checkpoint"
UNGUARDED = (
    "jobs run in this process (--workers 0): one that crashes or hangs takes the run with it, and --job-timeout and"
    " --job-memory are not watched"
)


def run_jobs(jobs: Sequence[Job], machine: Machine, observer: Observer, put: Put) -> str | None:
    """Run jobs and hand each one's results to ``put`` as it ends; return why it stopped early, or None.

    Ctrl-C lets running jobs reach an epoch's end and keep their state; a second one ends them at once. Raises
    BenchError if no worker process starts.
    """
    try:
        with interruptions(observer.on_line) as interrupted:
            if not machine.workers:
                observer.on_line(UNGUARDED)
                return _run_here(jobs, machine, observer, put, interrupted)
            tasks = [
                Task(
                    {"kind": "job", "job": job.as_json(), "machine": machine.as_json()}, job.plugins.all, len(job.cells)
                )
                for job in jobs
            ]
            listener = _JobListener(dict(zip(map(id, tasks), jobs, strict=True)), machine, observer, put)
            return run_tasks(tasks, machine, listener, interrupted)
    except KeyboardInterrupt:
        return AT_ONCE


def _message(job: Job, machine: Machine) -> dict[str, Any]:
    return {"kind": "job", "job": job.as_json(), "machine": machine.as_json()}


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


def _keep(
    job: Job, results: Sequence[Result], machine: Machine, observer: Observer, put: Put, resumable: bool = False
) -> None:
    """Hand results over, and remove the checkpoints of what was trained together unless the job is to continue."""
    put(results)
    if machine.checkpoints is not None and not resumable:
        for key in {job.key, *(digest(list(result.stack)) for result in results)}:
            for path in machine.checkpoints.glob(f"{key}-*"):
                path.unlink(missing_ok=True)
    observer.finished(job, results)


@contextlib.contextmanager
def interruptions(on_line: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop, and say so; another one after it interrupts at once."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.default_int_handler)
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


# Tasks in workers


class Listener(Protocol):
    """What is told of tasks: each is started once, and then answered or lost."""

    def started(self, task: Task) -> None:
        """Note that a task has begun."""

    def progressed(self, task: Task, done: int, total: int, stage: str) -> None:
        """Note how far a task has come."""

    def on_line(self, line: str) -> None:
        """Note a line that a task printed."""

    def answered(self, task: Task, answer: dict[str, Any]) -> None:
        """Take the answer of a task."""

    def lost(self, task: Task, reason: str, seconds: float, progressed: bool) -> None:
        """Note that a task's process died or was ended, after some progress or without."""


class _JobListener:
    """Turns answers into results."""

    def __init__(self, jobs: dict[int, Job], machine: Machine, observer: Observer, put: Put) -> None:
        self._jobs, self._machine, self._observer, self._put = jobs, machine, observer, put

    def started(self, task: Task) -> None:
        self._observer.started(self._jobs[id(task)])

    def progressed(self, task: Task, done: int, total: int, stage: str) -> None:
        self._observer.progressed(self._jobs[id(task)].key, done, total, stage)

    def on_line(self, line: str) -> None:
        self._observer.on_line(line)

    def answered(self, task: Task, answer: dict[str, Any]) -> None:
        job = self._jobs[id(task)]
        if "error" in answer:
            self.lost(task, f"worker process gave no rows: {answer['error']}", 0.0, False)
            return
        try:
            results = [Result.from_json(value) for value in answer["results"]]
            if [result.key for result in results] != [cell.key for cell in job.cells]:
                raise BenchError("the worker's rows are not those of the job")
        except (BenchError, KeyError, TypeError) as error:
            self.lost(task, f"worker process gave no rows ({one_line(error)})", 0.0, False)
            return
        _keep(job, results, self._machine, self._observer, self._put)

    def lost(self, task: Task, reason: str, seconds: float, progressed: bool) -> None:
        job = self._jobs[id(task)]
        results = failed_results(job, reason, self._machine, seconds, cause="environment", here=False)
        # A checkpoint that the job got past is worth keeping; one it may have died of is not.
        _keep(job, results, self._machine, self._observer, self._put, resumable=progressed)


class _Single:
    """Keeps the answer of one task."""

    def __init__(self, on_line: Callable[[str], None], progress: Callable[[int, int, str], None]) -> None:
        self.on_line, self._progress = on_line, progress
        self.answer: dict[str, Any] = {}

    def started(self, task: Task) -> None:
        """Nothing waits for it."""

    def progressed(self, task: Task, done: int, total: int, stage: str) -> None:
        self._progress(done, total, stage)

    def answered(self, task: Task, answer: dict[str, Any]) -> None:
        self.answer = answer

    def lost(self, task: Task, reason: str, seconds: float, progressed: bool) -> None:
        self.answer = {"error": reason}


def call(
    task: Task, machine: Machine, on_line: Callable[[str], None], interrupted: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Do one task in a worker of its own and return its answer; ``machine.progress`` hears how far it is.

    Raises Stopped, and BenchError with one line if the task failed or its process died.
    """
    single = _Single(on_line, machine.progress)
    reason = run_tasks([task], machine, single, interrupted)
    if reason is not None:
        raise Stopped(reason)
    if "error" in single.answer:
        raise BenchError(str(single.answer["error"]))
    return single.answer


def run_tasks(
    tasks: Sequence[Task], machine: Machine, listener: Listener, interrupted: Callable[[], bool]
) -> str | None:
    """Do tasks in ``machine.workers`` processes (at least one); return why it stopped early, or None."""
    crew = _Crew(tasks, machine, listener)
    try:
        return crew.run(interrupted)
    finally:
        crew.end()


class _Crew:
    """The workers of one call of ``run_tasks``, and the tasks that wait."""

    def __init__(self, tasks: Sequence[Task], machine: Machine, listener: Listener) -> None:
        self._waiting, self._machine, self._listener = list(tasks), machine, listener
        self._inbox: Inbox = new_inbox()
        self._workers: list[Worker] = []
        self._begun: set[int] = set()
        self._failed_starts = 0
        self._reason: str | None = None
        self._memory_at = 0.0

    def run(self, interrupted: Callable[[], bool]) -> str | None:
        """Do all tasks, or stop where that is asked for."""
        last_call: float | None = None
        deadline = self._machine.deadline
        while True:
            late = deadline is not None and time.time() > deadline - RESERVE_SECONDS
            if last_call is None and (interrupted() or late):
                self._reason = self._reason or ("interrupted" if interrupted() else "the time budget is used up")
                last_call = time.time() + GRACE_SECONDS
                for worker in self._busy():
                    worker.ask_to_stop()
            if last_call is not None and deadline is not None:
                last_call = min(last_call, deadline - END_SECONDS)
            self._hand_out()
            if not self._busy():
                self._drain()
                return self._reason
            self._take(timeout=0.1)
            self._watch(stopping=last_call is not None)
            running = len(self._busy())
            if last_call is not None and running and time.time() >= last_call:
                return f"{self._reason}; {running} running job(s) had no place to stop at and will start over"

    def end(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.task is not None]

    def _hand_out(self) -> None:
        """Give tasks to idle workers of the same plug-ins, and start workers for others while there is room."""
        while self._waiting and self._reason is None:
            idle = [worker for worker in self._workers if worker.task is None]
            fitting = ((w, t) for w in idle for t in self._waiting if t.strangers == w.strangers)
            worker, task = next(fitting, (None, self._waiting[0]))
            if worker is None:
                if len(self._busy()) >= max(1, self._machine.workers):
                    return
                for other in idle:
                    self._retire(other)
                worker = self._start(task)
            self._waiting.remove(task)
            if id(task) not in self._begun:
                self._begun.add(id(task))
                self._listener.started(task)
            worker.give(task)

    def _start(self, task: Task) -> Worker:
        try:
            worker = Worker(self._inbox, task.strangers, self._machine.threads, self._machine.kernels)
        except OSError as error:
            raise BenchError(f"worker processes do not start here ({one_line(error)}); try --workers 0") from None
        self._workers.append(worker)
        return worker

    def _retire(self, worker: Worker) -> None:
        worker.end()
        self._workers.remove(worker)

    def _take(self, timeout: float) -> None:
        """Take the messages that are there, or wait for one."""
        try:
            event = self._inbox.get(timeout=timeout)
            for _ in range(100):
                if not event.worker.ended:
                    self._hear(event.worker, event.message)
                event = self._inbox.get_nowait()
            if not event.worker.ended:
                self._hear(event.worker, event.message)
        except queue.Empty:
            pass

    def _drain(self) -> None:
        """Show what was printed just before the last answer."""
        limit = time.monotonic() + 0.05
        while time.monotonic() < limit:
            self._take(timeout=0.02)

    def _hear(self, worker: Worker, message: dict[str, Any]) -> None:
        task = worker.task
        if "line" in message:
            self._listener.on_line(clean_text(message["line"]))
        elif "ready" in message:
            worker.ready, self._failed_starts = True, 0
        elif "closed" in message:
            self._bury(worker)
        elif task is None:
            return
        elif "progress" in message:
            worker.watch.heard()
            self._listener.progressed(task, *message["progress"])
        elif "answer" in message:
            worker.task = None
            if message.get("spent"):
                self._retire(worker)
            self._listener.answered(task, message["answer"])
        elif "stopped" in message:
            worker.task = None
            self._reason = self._reason or clean_text(message["stopped"])

    def _bury(self, worker: Worker) -> None:
        """Take leave of a worker that died: its task is lost, or begins again if the worker was never ready."""
        task, why, last = worker.task, worker.why_it_died(), worker.last_line()
        self._retire(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MOST_FAILED_STARTS:
                said = f"; it said: {last}" if last else ""
                raise BenchError(f"worker processes do not start here: {why}{said}; try --workers 0")
            if task is not None:
                self._waiting.insert(0, task)
        elif task is not None:
            self._lose(worker, task, why)

    def _lose(self, worker: Worker, task: Task, reason: str) -> None:
        """Report that a task is lost, unless the run is ending anyway: then it begins again next time."""
        if self._reason is None:
            seconds = time.monotonic() - worker.watch.began
            self._listener.lost(task, reason, seconds, worker.watch.progressed)

    def _watch(self, stopping: bool) -> None:
        """End workers that died unheard, that are silent for too long or that take too much memory."""
        now = time.monotonic()
        look = self._machine.memory is not None and now - self._memory_at > MEMORY_SECONDS
        self._memory_at = now if look else self._memory_at
        for worker in list(self._workers):
            worker.watch.tick()
            if worker.died():
                self._bury(worker)
            elif worker.task is not None and not stopping:
                reason = self._beyond_limits(worker, worker.task, look)
                if reason:
                    task = worker.task
                    self._retire(worker)
                    self._lose(worker, task, reason)

    def _beyond_limits(self, worker: Worker, task: Task, look_at_memory: bool) -> str:
        """Return which limit a worker is beyond, or nothing."""
        silence, memory = self._machine.silence, self._machine.memory
        if silence is not None and worker.watch.silent > silence * task.replicas and self._inbox.empty():
            each = f", {duration_text(silence)} per replica" if task.replicas > 1 else ""
            limit = duration_text(silence * task.replicas)
            return f"no progress in {limit}, the limit of --job-timeout{each}{worker.ask_for_place()}"
        if look_at_memory and memory is not None and (used := worker.memory_gib()) > memory:
            return f"took {used:.3g} GiB of memory, beyond the limit of --job-memory, {memory:.3g} GiB"
        return ""
