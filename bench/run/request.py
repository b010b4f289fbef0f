"""Where to work, as asked for on the command line; what to work on is a ``bench.experiment.scope.Scope``."""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import dataclass
from pathlib import Path

from bench.errors import POSIX_MODULES, SYSTEMS, BenchError, closest
from bench.paths import shipped_rows_folder
from bench.run.machine import KERNELS, NATIVE, PORTABLE, memory_gib

DEFAULT_STORE = Path("results") / "local"
MOST_THREADS = 1024
#: Of a time budget, in seconds: about 30 years.
LONGEST = 1e9
DEVICES = ("auto", "cpu", "cuda")

#: By preset: the seconds without progress, per replica of a stack, and the GiB of memory that a job may take.
SILENT_SECONDS = {"smoke": 1800.0, "quick": 7200.0, "long": 6 * 3600.0, "paper": 24 * 3600.0}
MOST_GIB = {"smoke": 16.0, "quick": 32.0, "long": 64.0, "paper": 64.0}
#: A job that takes more of the machine's memory than this would bring down others.
MEMORY_SHARE = 0.9


@dataclass(frozen=True)
class Place:
    """Where to work: the stores, the user's plug-ins, the device and how much of the machine to use.

    Several ``stores`` are read together, and only the first is written to; ``shipped`` adds the rows that ship with the
    suite beneath them. ``workers`` None is as many as suit the device, 0 none: jobs then run in this process.
    ``kernels`` is a name in ``bench.run.machine.KERNELS``.
    ``time_budget`` is a duration such as ``9m``, or empty for no limit. ``job_timeout`` is a duration and
    ``job_memory`` a size such as ``8G``; empty stands for what the preset allows.
    """

    stores: tuple[Path, ...] = (DEFAULT_STORE,)
    shipped: bool = False
    plugins: tuple[Path, ...] = ()
    device: str = "auto"
    workers: int | None = None
    threads: int = 1
    kernels: str = NATIVE
    time_budget: str = ""
    job_timeout: str = ""
    job_memory: str = ""

    def require_stores(self) -> None:
        """Raise BenchError on a store to read from that is not there; the first is made when it is written to."""
        for folder in self.stores[1:]:
            if not folder.is_dir():
                raise BenchError(f"--store: {folder} is no folder to read rows from; only the first store is made")

    def require_valid(self) -> None:
        """Raise BenchError on a device, threads, a duration or a size that is none, or on a system without locks."""
        require_system()
        self.require_stores()
        if self.threads > MOST_THREADS:
            raise BenchError(f"--threads takes at most {MOST_THREADS}, not {self.threads}")
        if self.device not in DEVICES:
            raise BenchError(f"unknown device '{self.device}'.{closest(self.device, DEVICES)}")
        if self.kernels not in KERNELS:
            raise BenchError(f"unknown kernels '{self.kernels}'.{closest(self.kernels, KERNELS)}")
        if self.kernels == PORTABLE and self.workers == 0:
            raise BenchError("--kernels portable is set where a process starts: it takes workers, not --workers 0")
        if self.time_budget:
            parse_duration(self.time_budget)
        if self.job_timeout:
            parse_duration(self.job_timeout, "--job-timeout")
        if self.job_memory:
            parse_gib(self.job_memory)

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

    def silence(self, preset: str) -> float:
        """Return the seconds that a job may go without progress, per replica of its stack."""
        return parse_duration(self.job_timeout, "--job-timeout") if self.job_timeout else SILENT_SECONDS[preset]

    def memory_gib(self, preset: str) -> float:
        """Return the GiB of memory that a job may take: as asked for, else what the preset and the machine allow."""
        if self.job_memory:
            return parse_gib(self.job_memory)
        return min(MOST_GIB[preset], MEMORY_SHARE * memory_gib())


def require_system() -> None:
    """Raise BenchError on a system without what runs need of POSIX."""
    for module in POSIX_MODULES:
        try:
            importlib.import_module(module)
        except ImportError:
            raise BenchError(f"Python's module '{module}' is missing: {SYSTEMS}") from None


def parse_duration(text: str, option: str = "--time-budget") -> float:
    """Return the seconds of ``9m``, ``90s``, ``1h30m`` or a plain number of seconds; raises BenchError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    hours, minutes, seconds = (float(part or 0) for part in (match.groups() if match else (0, 0, 0)))
    total = 3600 * hours + 60 * minutes + seconds
    if not 0 < total <= LONGEST:
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        raise BenchError(f"{option} takes a duration such as 9m, 90s or 1h30m, not '{shown}'")
    return total


def parse_gib(text: str) -> float:
    """Return the GiB of ``8G``, ``500M`` or a plain number of GiB; raises BenchError."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*([GM]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = float(match[1]) / (1024 if match[2].upper() == "M" else 1) if match else 0.0
    if size <= 0:
        raise BenchError(f"--job-memory takes a size such as 8G or 500M, not '{text[:40]}'")
    return size
