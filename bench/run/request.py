"""Where to work, as asked for on the command line; what to work on is a ``bench.experiment.scope.Scope``."""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from bench.errors import POSIX_MODULES, SYSTEMS, BenchError, closest
from bench.paths import shipped_rows_folder

DEFAULT_STORE = Path("results") / "local"
MOST_THREADS = 1024
#: Of a time budget, in seconds: about 30 years.
LONGEST = 1e9
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Place:
    """Where to work: the store, the user's plug-ins, the device and how much of the machine to use.

    ``shipped`` reads the rows that ship with the suite instead of the store's. ``workers`` None is as many as suit the
    device. ``time_budget`` is a duration such as ``9m``, or empty for no limit.
    """

    store: Path = DEFAULT_STORE
    shipped: bool = False
    plugins: tuple[Path, ...] = ()
    device: str = "auto"
    workers: int | None = None
    threads: int = 1
    time_budget: str = ""

    def require_valid(self) -> None:
        """Raise BenchError on a device, threads or a time budget that there are not, or on a system without locks."""
        require_system()
        if self.threads > MOST_THREADS:
            raise BenchError(f"--threads takes at most {MOST_THREADS}, not {self.threads}")
        if self.device not in DEVICES:
            raise BenchError(f"unknown device '{self.device}'.{closest(self.device, DEVICES)}")
        if self.time_budget:
            parse_duration(self.time_budget)

    @property
    def rows_folder(self) -> Path:
        """The folder of the rows to read."""
        return shipped_rows_folder() if self.shipped else self.store

    def deadline(self) -> float | None:
        """Return when a time budget that begins now is over, in seconds of ``time.time``; None without one."""
        return time.time() + parse_duration(self.time_budget) if self.time_budget else None


def require_system() -> None:
    """Raise BenchError on a system without what runs need of POSIX."""
    for module in POSIX_MODULES:
        try:
            importlib.import_module(module)
        except ImportError:
            raise BenchError(f"Python's module '{module}' is missing: {SYSTEMS}") from None


def parse_duration(text: str) -> float:
    """Return the seconds of ``9m``, ``90s``, ``1h30m`` or a plain number of seconds; raises BenchError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in (match.groups() if match else (0, 0, 0)))
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total <= LONGEST:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise BenchError(f"--time-budget takes a duration such as 9m, 90s or 1h30m, not '{shown}'")
    return total
