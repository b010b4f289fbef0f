"""The worker process: takes tasks from its parent and answers them, one by one (``python -m bench.worker``).

Requests come as JSON lines through standard input, answers go through standard output. Both are moved away before any
plug-in runs: a plug-in reads an empty standard input, and what it prints reaches the parent as lines, through
``sys.stdout`` and ``sys.stderr`` in order with the answers, through the file descriptors 1 and 2 beside them.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import io
import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from bench.errors import BenchError, Stopped, clean_text, one_line
from bench.run.isolation.process import LINE_BYTES, PYTHONPATH_BEFORE
from bench.run.machine import Machine, StopRule

Send = Callable[[dict[str, Any]], None]
Say = Callable[[str], None]


def main() -> None:
    """Answer the parent's requests until it is gone."""
    requests, answers = _protocol()
    _set_signals()
    _restore_path()
    lock, own = threading.Lock(), os.getpid()

    def send(message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with lock:
            view = memoryview(line)
            while view:
                view = view[os.write(answers, view) :]

    sys.stdout = sys.stderr = WorkerOutput(send, own)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_take_requests, args=(requests, tasks, stop), daemon=True).start()
    folder = os.getcwd()
    send({"ready": True})
    while True:
        task = tasks.get()
        with contextlib.suppress(OSError):
            os.chdir(folder)
        message = perform(task, send, stop.is_set)
        _flush()
        send(message)


def _protocol() -> tuple[IO[bytes], int]:
    """Return private copies of standard input and output; what prints there from now on is taken as lines."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return requests, answers


def _set_signals() -> None:
    """Leave Ctrl-C and SIGTERM to the parent, and let crashes and SIGUSR1 tell which line the process is in."""

    def nothing(number: int, frame: object) -> None:
        """Processes that a plug-in starts do not inherit this, as they would what ignores a signal."""

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, nothing)
    descriptor = os.dup(2)
    faulthandler.enable(descriptor)
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, descriptor)


def _restore_path() -> None:
    """Give what a plug-in starts the ``PYTHONPATH`` that there was before this process."""
    before = os.environ.pop(PYTHONPATH_BEFORE, "")
    if before:
        os.environ["PYTHONPATH"] = before
    else:
        os.environ.pop("PYTHONPATH", None)


def _take_requests(requests: IO[bytes], tasks: queue.SimpleQueue[dict[str, Any]], stop: threading.Event) -> None:
    """Pass requests on; end this process and all it started when the parent is gone, however it ended."""
    for line in requests:
        message = json.loads(line)
        if "stop" in message:
            stop.set()
        else:
            stop.clear()
            tasks.put(message)
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def perform(task: dict[str, Any], send: Send, requested: Callable[[], bool]) -> dict[str, Any]:
    """Do a task and return the message for the parent: an answer, ``{"error": line}`` in it, or why it stopped."""

    def progress(done: int, total: int, stage: str) -> None:
        send({"progress": [done, total, stage]})

    _tell_of_threads(task["files"], send)
    machine = replace(Machine.from_json(task["machine"]), in_worker=True)
    try:
        StopRule(machine.deadline, requested)()
        watched = machine.watched(progress, StopRule(machine.deadline, requested))
        answer = _TASKS[task["kind"]](task, watched, lambda line: send({"line": clean_text(line)}))
    except Stopped as stopped:
        return {"stopped": clean_text(stopped)}
    except BaseException as error:  # a plug-in may raise anything
        told = clean_text(error) if isinstance(error, BenchError) else one_line(error, *task["files"])
        return {"answer": {"error": told}, "spent": True}
    return {"answer": answer, "spent": bool(answer.pop("spent", False))}


def _tell_of_threads(files: list[str], send: Send) -> None:
    """Let a thread that a plug-in started and that ends with an error say so in one line."""

    def tell(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            send({"line": f"warning: a thread ended with {one_line(ended.exc_value, *files)}"})

    threading.excepthook = tell


# What it is asked for: each is given the request, the machine and a way to show a line, and returns the answer


def _job(task: dict[str, Any], machine: Machine, say: Say) -> dict[str, Any]:
    from bench.experiment.cell import Job
    from bench.run.job import run_job

    results = run_job(Job.from_json(task["job"]), machine)
    suspect = [result for result in results if result.status == "failed"]
    # A device that failed once may fail whatever comes after in the same process.
    spent = any(machine.device != "cpu" or result.cause == "environment" for result in suspect)
    return {"results": [result.as_json() for result in results], "spent": spent}


def _content(task: dict[str, Any], machine: Machine, say: Say) -> dict[str, Any]:
    from bench.plugins.reader import PluginInfo
    from bench.run.fit import content_or_problem

    return content_or_problem(PluginInfo.from_json(task["dataset"]), task["include_target"])


def _tune(task: dict[str, Any], machine: Machine, say: Say) -> dict[str, Any]:
    from bench.run.tune import answer_tune

    return answer_tune(task, machine)


def _snapshot(task: dict[str, Any], machine: Machine, say: Say) -> dict[str, Any]:
    from bench.experiment.cell import Job
    from bench.run.snapshot import make_snapshot, write_snapshot

    write_snapshot(make_snapshot(Job.from_json(task["job"]), machine), Path(task["path"]))
    return {}


def _check(task: dict[str, Any], machine: Machine, say: Say) -> dict[str, Any]:
    from bench.conformance.suite import check_plugin
    from bench.plugins.reader import PluginInfo

    def write(line: str) -> None:
        machine.progress(0, 1, "checking")
        say(line)

    return {"outcome": check_plugin(PluginInfo.from_json(task["plugin"]), task["large"], write)}


_TASKS: dict[str, Callable[[dict[str, Any], Machine, Say], dict[str, Any]]] = {
    "job": _job,
    "content": _content,
    "tune": _tune,
    "snapshot": _snapshot,
    "check": _check,
}


def _flush() -> None:
    """Send what was printed and not yet written, by Python and by C."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        ctypes.CDLL(None).fflush(None)


class WorkerOutput(io.TextIOBase):
    """Standard output of a worker: sends whole lines to the parent, which knows where on the screen they belong."""

    def __init__(self, send: Send, process: int) -> None:
        self._send, self._process, self._rest = send, process, ""

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that other ways of printing use."""
        return 2

    def write(self, text: str) -> int:
        """Send the lines that are complete; of what a progress bar overwrites, only the last state is sent."""
        if os.getpid() != self._process:  # a copy of the process must not speak for it
            with contextlib.suppress(OSError):
                os.write(2, text.encode(errors="replace"))
            return len(text)
        *lines, self._rest = (self._rest + text).split("\n")
        if len(self._rest) > LINE_BYTES:
            lines, self._rest = [*lines, self._rest], ""
        for line in lines:
            shown = line.rstrip("\r").rpartition("\r")[2]
            if shown.strip():
                self._send({"line": clean_text(shown, LINE_BYTES)})
        return len(text)


if __name__ == "__main__":
    main()
