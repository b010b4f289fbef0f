"""Where to work, as asked for on the command line; what to work on is a ``bench.experiment.scope.Scope``."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, closest
from bench.paths import shipped_rows_folder

DEFAULT_STORE = Path("results") / "local"
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Place:
    """Where to work: the stores, the user's plug-ins, the device and how much of the machine to use.

    Several ``stores`` are read together, and only the first is written to; ``shipped`` adds the rows that ship with the
    suite beneath them. ``workers`` None is as many as suit the
    device. ``time_budget`` is a duration such as ``9m``, or empty for no limit.
    """

    stores: tuple[Path, ...] = (DEFAULT_STORE,)
    shipped: bool = False
    plugins: tuple[Path, ...] = ()
    device: str = "auto"
    workers: int | None = None
    threads: int = 1
    time_budget: str = ""

    def require_valid(self) -> None:
        """Raise BenchError on a device or a time budget that there is not."""
        if self.device not in DEVICES:
            raise BenchError(f"unknown device '{self.device}'.{closest(self.device, DEVICES)}")
        if self.time_budget:
            parse_duration(self.time_budget)

    @property
    def store(self) -> Path:
        """The folder that is written to."""
        return self.stores[0]

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders of the rows to read, what counts first."""
        return (*self.stores, shipped_rows_folder()) if self.shipped else self.stores

    def deadline(self) -> float | None:
        """Return when a time budget that begins now is over, in seconds of ``time.time``; None without one."""
        return time.time() + parse_duration(self.time_budget) if self.time_budget else None


def parse_duration(text: str) -> float:
    """Return the seconds of ``9m``, ``90s``, ``1h30m`` or a plain number of seconds; raises BenchError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in (match.groups() if match else (0, 0, 0)))
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise BenchError(f"--time-budget takes a duration such as 9m, 90s or 1h30m, not '{text}'")
    return total
