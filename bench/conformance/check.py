"""The verb ``check``: runs the conformance suite on plug-ins and prints a listing that reads well in a log."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.errors import BenchError, closest
from bench.plugins.registry import PluginInfo, Registry, available, load

Status = Literal["ok", "failed", "not applicable"]

_WORDS: dict[Status, str] = {"ok": "ok", "failed": "FAILED", "not applicable": "n/a"}


@dataclass(frozen=True)
class Outcome:
    """What came of one check over all its trials: its name, its status and, unless it is ok, the reason."""

    check: str
    status: Status
    reason: str = ""
    #: The generated tables it passed or failed on.
    tables: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The outcome as one line of the listing."""
        tables = f" [{', '.join(self.tables)}]" if self.tables and self.status == "failed" else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"  {_WORDS[self.status]:<6}  {self.check}{tables}{reason}"


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
) -> bool:
    """Check plug-ins and write the listing; return whether nothing failed.

    ``everything`` checks all that is registered; without names, all plug-ins of the user's folders are checked. Raises
    BenchError on an unknown name, or where there is nothing to check.
    """
    registry = Registry.scan(plugins)
    counts = {"ok": 0, "failed": 0, "skipped": 0}
    for info in _chosen(registry, names, everything):
        write(f"{_NOUNS[info.category]} {info.name}")
        outcome = check_plugin(info, large, write)
        counts[outcome] += 1
        write("")
    write(", ".join(f"{count} {word}" for word, count in counts.items() if count))
    return not counts["failed"]


_NOUNS = {"method": "method", "dataset": "data set", "mechanism": "mechanism"}


def _chosen(registry: Registry, names: Sequence[str], everything: bool) -> list[PluginInfo]:
    """Return the plug-ins to check. Raises BenchError on an unknown name and where none is named."""
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
    from bench.files.fetch import DataUnavailable

    failures = 0
    try:
        with _one_thread():
            for outcome in outcomes_of(info, plugin, large):
                write(outcome.line)
                failures += outcome.status == "failed"
    except DataUnavailable as error:
        write(f"  skipped: {error}")
        return "skipped"
    return "failed" if failures else "ok"


def outcomes_of(info: PluginInfo, plugin: type[Any], large: bool = False) -> Iterator[Outcome]:
    """Yield the outcome of every check of a loaded plug-in. Raises DataUnavailable where a data set cannot be had."""
    from bench.conformance import suite as conformance
    from bench.files.fetch import DataUnavailable

    if info.category == "method":
        examples = conformance.examples_for(info.kinds)
        trials = [
            Tried(conformance.Trial(plugin, protocol, example), _label(example.name, protocol, info))
            for protocol in info.protocols
            for example in examples
        ]
        yield from run_checks(conformance.METHOD_CHECKS, trials, info.path)
        if large:
            yield from _large(info, plugin)
    elif info.category == "mechanism":
        tables = conformance.examples_for(info.kinds, replicas=1, rows=conformance.MECHANISM_ROWS)
        trials = [Tried(conformance.MechanismTrial(plugin, example), example.name) for example in tables]
        yield from run_checks(conformance.MECHANISM_CHECKS, trials, info.path)
    else:
        trial = conformance.DatasetTrial(plugin)
        try:
            _ = trial.loaded
        except DataUnavailable:
            raise
        except Exception as error:
            yield Outcome("It loads", "failed", describe(error, info.path))
            return
        yield from run_checks(conformance.DATASET_CHECKS, [Tried(trial)], info.path)


def _large(info: PluginInfo, plugin: type[Any]) -> Iterator[Outcome]:
    """Yield the outcomes of the checks on a wide table."""
    from bench.conformance import suite as conformance

    try:
        example = conformance.large_example(plugin)
    except conformance.NotApplicable as reason:
        yield from (Outcome(name_of(c), "not applicable", str(reason)) for c in conformance.LARGE_METHOD_CHECKS)
        return
    trials = [
        Tried(conformance.Trial(plugin, protocol, example), _label(example.name, protocol, info))
        for protocol in info.protocols
    ]
    yield from run_checks(conformance.LARGE_METHOD_CHECKS, trials, info.path)


def _label(table: str, protocol: str, info: PluginInfo) -> str:
    """Return the name of a trial: its table, and its protocol where the method has several."""
    return f"{table}, {protocol}" if len(info.protocols) > 1 else table


def run_checks(checks: Sequence[Callable[[Any], None]], trials: Sequence[Tried], path: Path) -> Iterator[Outcome]:
    """Yield the outcome of each check: that of its first failure, or the tables it passed on."""
    from bench.conformance import suite as conformance

    for check in checks:
        passed: list[str] = []
        failed: list[str] = []
        reason = ""
        for trial in trials:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    check(trial.trial)
            except conformance.NotApplicable as why:
                reason = reason or str(why)
            except Exception as error:  # a plug-in may raise anything, and that is what is to be listed
                reason = reason if failed else describe(error, path)
                failed.append(trial.table)
            else:
                passed.append(trial.table)
        if failed:
            yield Outcome(name_of(check), "failed", reason, tuple(name for name in failed if name))
        elif passed:
            yield Outcome(name_of(check), "ok", "", tuple(name for name in passed if name))
        else:
            yield Outcome(name_of(check), "not applicable", reason)


def name_of(check: Callable[[Any], None]) -> str:
    """Return the name of a check: the line that documents it."""
    return (inspect.getdoc(check) or check.__name__).partition("\n")[0].rstrip(".")


def describe(error: Exception, path: Path) -> str:
    """Return an error as one line, with the line of the plug-in's file where it came from there."""
    from bench.conformance import suite as conformance

    text = " ".join(str(error).split())
    if isinstance(error, conformance.Failed):
        return text
    text = text if isinstance(error, BenchError) else f"{type(error).__name__}: {text}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{text} ({path.name}:{lines[-1]})" if lines else text


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
