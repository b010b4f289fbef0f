"""What the benchmarks share: timing in alternation, lines with the ratio first, hardware and versions, one report.

A benchmark is a module with ``main(arguments)``; ``python -m benchmarks.NAME --json`` prints one JSON object per line,
the last one hardware and versions. The exit code is 1 if a target is missed. Small sizes (``--small``) show that a
benchmark works; no target is judged by them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

#: A median of fewer timings says little.
LEAST_ROUNDS = 5
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Line:
    """One case of a benchmark: the ratio first, then what it is the ratio of, and what was to be reached.

    ``ours`` and ``other`` are medians in ``unit``. ``reached`` is None if there is no target, or none to judge here.
    """

    case: str
    ratio: float | None
    ours: float | None = None
    other: float | None = None
    unit: str = "s"
    target: str = ""
    reached: bool | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the line as plain JSON values, the ratio first."""
        return {"ratio": self.ratio, **asdict(self)}


@dataclass(frozen=True)
class Report:
    """What a benchmark prints: ``ratio`` says in words what the first column is."""

    title: str
    ratio: str
    lines: Sequence[Line]
    notes: Sequence[str] = ()


def parser(
    name: str, description: str | None, rounds: int = LEAST_ROUNDS, least: int = LEAST_ROUNDS
) -> argparse.ArgumentParser:
    """Return the parser with the options that every benchmark has; fewer rounds than ``least`` are refused."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    made.add_argument("--json", action="store_true", help="print one JSON object per line")
    made.add_argument("--rounds", type=int, default=rounds, help=f"timings of each; medians count (default {rounds})")
    made.set_defaults(least=least)
    made.add_argument("--small", action="store_true", help="a small size, to see that it works; no target is judged")
    return made


def parsed(made: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options; too few rounds for a median are refused unless ``--small``."""
    options = made.parse_args(arguments)
    least = 1 if options.small else options.least
    if options.rounds < least:
        made.error(f"--rounds: a median needs at least {least} timings, not {options.rounds}")
    return options


def add_device(made: argparse.ArgumentParser) -> None:
    """Add ``--device``: ``auto`` takes a GPU if there is one."""
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto, cpu or cuda")


def chosen_device(asked: str) -> str:
    """Return ``cpu`` or ``cuda`` and prepare this process as a worker is; raises BenchError without a CUDA device."""
    import torch

    from bench.run.machine import choose_device, keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    return choose_device(asked, needs_torch=True)


def alternate(
    tasks: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", warm_up: bool = True
) -> dict[str, list[float]]:
    """Return the seconds of each task, ``rounds`` of each, after one call of each (``warm_up``) that does not count.

    The tasks take turns and another one begins each round, so that what else the machine does falls on all alike. On a
    GPU the clock waits for it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    names = list(tasks)
    for task in tasks.values() if warm_up else ():
        task()
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            wait_for(device)
            began = time.perf_counter()
            tasks[name]()
            wait_for(device)
            seconds[name].append(time.perf_counter() - began)
    return seconds


def wait_for(device: str) -> None:
    """Wait until a GPU has done all it was told; on a CPU there is nothing to wait for."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize(device)


def medians(seconds: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each task's timings."""
    return {name: statistics.median(timings) for name, timings in seconds.items()}


def median_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """Return the median of the ratios round by round: what slows the machine in a round slows both of its timings."""
    return statistics.median(one / other for one, other in zip(numerator, denominator, strict=True))


def spread(timings: Sequence[float]) -> float:
    """Return the range of timings over their median: how noisy they are."""
    return (max(timings) - min(timings)) / statistics.median(timings)


def isolated(function: str, **arguments: Any) -> tuple[Any, float]:
    """Call ``module:function`` in a fresh process; return its JSON result and the process's peak memory in MiB.

    Raises RuntimeError with the end of what it printed if it fails.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.common", function, json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    if done.returncode:
        raise RuntimeError(f"{function} failed in its own process: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["result"], answer["peak_mib"]


def peak_memory_mib() -> float:
    """Return the largest resident size of this process so far, in MiB.

    ``getrusage`` would count what the parent process held when it started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def finish(report: Report, options: argparse.Namespace) -> int:
    """Print a report and return the exit code: 1 if a target is missed at full size."""
    from bench.run.machine import environment

    lines = [Line(**{**vars(line), "reached": None}) for line in report.lines] if options.small else report.lines
    if options.json:
        for line in lines:
            print(json.dumps({"benchmark": report.title, **line.as_json()}))
        print(
            json.dumps(
                {
                    "benchmark": report.title,
                    "ratio_is": report.ratio,
                    "notes": list(report.notes),
                    "small": options.small,
                    "rounds": options.rounds,
                    "environment": environment(),
                }
            )
        )
    else:
        _print_table(report, lines, options.small)
    return int(any(line.reached is False for line in lines))


def _print_table(report: Report, lines: Sequence[Line], small: bool) -> None:
    """Print a report for people."""
    from rich.console import Console
    from rich.table import Table

    from bench.run.machine import environment

    table = Table(title=report.title, title_justify="left")
    table.add_column(report.ratio, justify="right")
    table.add_column("case")
    table.add_column("ours", justify="right")
    table.add_column("other", justify="right")
    table.add_column("target")
    table.add_column("notes", overflow="fold")
    for line in lines:
        verdict = {True: "reached", False: "MISSED", None: ""}[line.reached]
        table.add_row(
            number(line.ratio),
            line.case,
            _with_unit(line.ours, line.unit),
            _with_unit(line.other, line.unit),
            f"{line.target} {verdict}".strip(),
            ", ".join(f"{name} {_plain(v)}" for name, v in line.notes.items()),
        )
    console = Console()
    console.print(table)
    if small:
        console.print("small size: no target is judged", highlight=False)
    for note in report.notes:
        console.print(note, highlight=False, markup=False)
    here = environment()
    packages = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    console.print(
        f"{here['processor']}, {here['cores']} cores, {here['memory_gib']} GiB, Python {here['python']}, {packages}",
        highlight=False,
        markup=False,
    )


def number(value: float | None) -> str:
    """Return a number with three significant digits, or a dash."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _with_unit(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{number(value)} {unit}"


def _plain(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _call(function: str, arguments: str) -> None:
    """Call a function by name and print its result and this process's peak memory: the child of ``isolated``."""
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    print(json.dumps({"result": result, "peak_mib": peak_memory_mib()}))


if __name__ == "__main__":
    _call(*sys.argv[1:3])
