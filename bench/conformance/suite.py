"""The conformance suite: ``vsae-bench check NAME`` runs the checks of a plug-in's kind and prints what came of each.

**For authors.** Write the plug-in in a file of its own and run ``vsae-bench check --plugins DIR`` on its folder. Each
line of the listing is one check: ``ok``, ``n/a`` with the reason, or ``FAILED`` with the tables it failed on, what was
wrong on the first, after an exception the line of your file, and below it how to mend it. The exit code is 0 if nothing
failed, 1 otherwise. A plug-in is ``skipped`` if packages of its ``requires`` are not installed or its data cannot be
had. What is asked of a plug-in stands in ``bench.conformance.method``, ``mechanism`` and ``dataset``.

**Adding a check** is writing a function there whose documentation begins with one line, which is printed as its name,
and ends with how to mend what it finds (``Mend: ...``). It raises ``Failed`` or ``NotApplicable`` with a reason, and
joins the tuple at the end of its file.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.conformance.dataset import DATASET_CHECKS, DatasetTrial
from bench.conformance.large import LARGE_METHOD_CHECKS, large_example
from bench.conformance.mechanism import MECHANISM_CHECKS, MECHANISM_ROWS, MechanismTrial
from bench.conformance.method import METHOD_CHECKS
from bench.conformance.require import Failed, NotApplicable
from bench.conformance.tables import examples_for
from bench.conformance.trial import Trial
from bench.data.door import notes_of
from bench.errors import MESSAGE_BYTES, BenchError, clean_text, closest, line_of, place_of, printable
from bench.files.fetch import DataUnavailable
from bench.plugins.registry import PluginInfo, Registry, available, load
from bench.run.isolation.process import Task
from bench.run.isolation.workers import run_tasks
from bench.run.machine import Machine
from bench.run.request import SILENT_SECONDS, Place

Status = Literal["ok", "failed", "not applicable"]

_WORDS: dict[Status, str] = {"ok": "ok", "failed": "FAILED", "not applicable": "n/a"}
_NOUNS = {"method": "method", "dataset": "data set", "mechanism": "mechanism"}


@dataclass(frozen=True)
class Outcome:
    """What came of one check over all its trials: its name, its status and, unless it is ok, the reason."""

    check: str
    status: Status
    reason: str = ""
    #: The generated tables it passed or failed on.
    tables: tuple[str, ...] = ()
    #: How to mend a failure, if that is known.
    remedy: str = ""

    @property
    def line(self) -> str:
        """The outcome as one line of the listing."""
        tables = f" [{', '.join(self.tables)}]" if self.tables and self.status == "failed" else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"  {_WORDS[self.status]:<6}  {self.check}{tables}{reason}"

    @property
    def lines(self) -> list[str]:
        """The outcome as it is printed: its line and, below a failure, how to mend it."""
        shown = self.status == "failed" and self.remedy
        return [self.line, f"          To mend it: {self.remedy}"] if shown else [self.line]


@dataclass(frozen=True)
class Tried:
    """What a check is tried on: the value it is called with, and the name of the table in it."""

    trial: Any
    table: str = ""


def check_named(
    names: Sequence[str],
    everything: bool = False,
    plugins: Sequence[str | Path] = (),
    large: bool = False,
    write: Callable[[str], None] = print,
    apart: bool = False,
) -> bool:
    """Check plug-ins and write the listing; return whether nothing failed.

    ``everything`` checks all that is registered; without names, all plug-ins of the user's folders are checked;
    ``apart`` checks them in worker processes, so that none can end or harm this one. Raises BenchError on an unknown
    name, or if there is nothing to check.
    """
    registry = Registry.scan(plugins)
    chosen = _chosen(registry, names, everything)
    counts: dict[str, int] = {"ok": 0, "failed": 0, "skipped": 0}

    def write_line(line: str) -> None:
        write(printable(line))

    if apart:
        _check_apart(chosen, large, write_line, counts)
    else:
        for info in chosen:
            write_line(_title(info))
            counts[check_plugin(info, large, write_line)] += 1
            write("")
    write(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    return not counts["failed"]


def _title(info: PluginInfo) -> str:
    return f"{_NOUNS[info.category]} {info.name}"


def _check_apart(
    chosen: Sequence[PluginInfo], large: bool, write: Callable[[str], None], counts: dict[str, int]
) -> None:
    """Check plug-ins in a worker process, one after the other, and count what comes of them."""
    machine = Machine(silence=SILENT_SECONDS["smoke"], memory=Place().memory_gib("smoke"))
    request = {"kind": "check", "large": large, "machine": machine.as_json()}
    tasks = [Task({**request, "plugin": info.as_json()}, (info,)) for info in chosen]
    run_tasks(tasks, machine, _Listing(write, counts), lambda: False)


class _Listing:
    """Writes what comes of each plug-in that a worker process checks."""

    def __init__(self, write: Callable[[str], None], counts: dict[str, int]) -> None:
        self._write, self._counts = write, counts

    def started(self, task: Task) -> None:
        self._write(_title(task.plugins[0]))

    def progressed(self, task: Task, done: int, total: int, stage: str) -> None:
        """Each line of the listing is progress."""

    def on_line(self, line: str) -> None:
        self._write(line)

    def answered(self, task: Task, answer: dict[str, Any]) -> None:
        if "error" in answer:
            self.lost(task, answer["error"], 0.0, False)
            return
        self._counts[answer["outcome"]] += 1
        self._write("")

    def lost(self, task: Task, reason: str, seconds: float, progressed: bool) -> None:
        self._write(Outcome("It survives its checks", "failed", reason).line)
        self._counts["failed"] += 1
        self._write("")


def _chosen(registry: Registry, names: Sequence[str], everything: bool) -> list[PluginInfo]:
    """Return the plug-ins to check. Raises BenchError on an unknown name, or without one."""
    if everything:
        return list(registry.plugins)
    if not names:
        mine = [info for info in registry.plugins if info.origin == "user"]
        if not mine:
            raise BenchError("name the plug-ins to check, or give --all or --plugins DIR")
        return mine
    known = {info.name for info in registry.plugins}
    for name in names:
        if name not in known:
            raise BenchError(f"unknown plug-in '{name}'.{closest(name, known)}")
    return [info for name in dict.fromkeys(names) for info in registry.plugins if info.name == name]


def check_plugin(
    info: PluginInfo, large: bool = False, write: Callable[[str], None] = print
) -> Literal["ok", "failed", "skipped"]:
    """Check one plug-in, writing each outcome as it is known, and return what came of it."""
    usable, reason = available(info)
    if not usable and info.error is None:
        write(f"  skipped: {reason}")
        return "skipped"
    try:
        plugin = load(info)
    except BenchError as error:
        write(Outcome("It loads", "failed", str(error)).line)
        return "failed"
    failures = 0
    try:
        with _one_thread():
            for outcome in outcomes_of(info, plugin, large):
                for line in outcome.lines:
                    write(line)
                failures += outcome.status == "failed"
    except DataUnavailable as error:
        write(f"  skipped: {error}")
        return "skipped"
    return "failed" if failures else "ok"


def outcomes_of(info: PluginInfo, plugin: type[Any], large: bool = False) -> Iterator[Outcome]:
    """Yield the outcome of every check of a loaded plug-in. Raises DataUnavailable if a data set cannot be had."""
    if info.category == "method":
        examples = examples_for(info.kinds)
        trials = [
            Tried(Trial(plugin, protocol, example), _label(example.name, protocol, info))
            for protocol in info.protocols
            for example in examples
        ]
        yield from run_checks(METHOD_CHECKS, trials, info.path)
        if large:
            yield from _large(info, plugin)
    elif info.category == "mechanism":
        tables = examples_for(info.kinds, replicas=1, rows=MECHANISM_ROWS)
        trials = [Tried(MechanismTrial(plugin, example), example.name) for example in tables]
        yield from run_checks(MECHANISM_CHECKS, trials, info.path)
    else:
        trial = DatasetTrial(plugin)
        try:
            _ = trial.loaded
        except DataUnavailable:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plug-in may raise anything
            yield Outcome("It loads", "failed", describe(error, info.path))
            return
        sound = True
        for outcome in run_checks(DATASET_CHECKS, [Tried(trial)], info.path):
            sound &= outcome.status != "failed"
            yield outcome
        for note in notes_of(trial.loaded.table) if sound else ():
            yield Outcome("It loads", "ok", f"but {note}")


def _large(info: PluginInfo, plugin: type[Any]) -> Iterator[Outcome]:
    """Yield the outcomes of the checks on a wide table."""
    try:
        example = large_example(plugin)
    except NotApplicable as reason:
        yield from (Outcome(name_of(c), "not applicable", str(reason)) for c in LARGE_METHOD_CHECKS)
        return
    trials = [
        Tried(Trial(plugin, protocol, example), _label(example.name, protocol, info)) for protocol in info.protocols
    ]
    yield from run_checks(LARGE_METHOD_CHECKS, trials, info.path)


def _label(table: str, protocol: str, info: PluginInfo) -> str:
    """Return the name of a trial: its table, and its protocol if the method has several."""
    return f"{table}, {protocol}" if len(info.protocols) > 1 else table


def run_checks(checks: Sequence[Callable[[Any], None]], trials: Sequence[Tried], path: Path) -> Iterator[Outcome]:
    """Yield the outcome of each check: that of its first failure, or the tables it passed on."""
    for check in checks:
        passed: list[str] = []
        failed: list[str] = []
        reason = ""
        for trial in trials:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    check(trial.trial)
            except NotApplicable as why:
                reason = reason or str(why)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a plug-in may raise anything, and that is what is to be listed
                reason = reason if failed else describe(error, path)
                failed.append(trial.table)
            else:
                passed.append(trial.table)
        if failed:
            tables = tuple(name for name in failed if name)
            yield Outcome(name_of(check), "failed", reason, tables, remedy_of(check))
        elif passed:
            yield Outcome(name_of(check), "ok", "", tuple(name for name in passed if name))
        else:
            yield Outcome(name_of(check), "not applicable", reason)


def name_of(check: Callable[[Any], None]) -> str:
    """Return the name of a check: the line that documents it."""
    return (inspect.getdoc(check) or check.__name__).partition("\n")[0].rstrip(".")


def remedy_of(check: Callable[[Any], None]) -> str:
    """Return how to mend what a check finds, as one line: the end of its documentation, or nothing."""
    return " ".join((inspect.getdoc(check) or "").partition("Mend: ")[2].replace("``", "").split())


def describe(error: BaseException, path: Path) -> str:
    """Return an error as one line, with the line of the plug-in's file if it came from there."""
    text = line_of(error, MESSAGE_BYTES - 256)
    if isinstance(error, Failed):
        return text
    text = text if isinstance(error, BenchError) else f"{clean_text(type(error).__name__, 200)}: {text}"
    return text + place_of(error, path)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep every numerical library on one thread: only then are results the same bit by bit."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
