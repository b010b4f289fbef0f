"""Where jobs run: device, threads, memory, and the hardware and versions that are stored with every result.

Nothing here is part of a result's identity, and nothing may change a number beyond rounding.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import BenchError, Stopped
from bench.paths import PACKAGE
from bench.plugins.contracts import Budget, Context

PACKAGES = (
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "missingpy",
    "fancyimpute",
    "matplotlib",
)

#: What numerical libraries read when they start their threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

#: What chooses kernels of numerical libraries, which differ in the last bits.
KERNEL_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
NATIVE, PORTABLE = "native", "portable"

#: What ``--kernels`` sets in worker processes: nothing, or kernels that processors of different makers share.
KERNELS: dict[str, dict[str, str]] = {
    NATIVE: {},
    PORTABLE: {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "HASWELL"},
}
_VECTOR = re.compile(r"sse4_[12]|avx.*|fma|f16c|amx.*|neon|asimd.*|sve.*|bf16|i8mm")

#: Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT_BYTES, _GROWTH_BYTES = 2**31 - 1, 2**26


#: Kept free at the end of a time budget, to write what was finished.
RESERVE_SECONDS = 2.0


def _no_progress(done: int, total: int, stage: str) -> None:
    """Report nothing."""


def _never_stop() -> None:
    """Go on."""


@dataclass(frozen=True)
class Machine:
    """Where and how jobs run.

    ``checkpoints`` is the folder that trainings keep their state in, or None; ``deadline`` is in seconds of
    ``time.time``, or None. ``silence`` bounds the seconds without progress, per replica of a job's stack, and
    ``memory`` the resident GiB of a worker; None does not. Without ``workers`` jobs run in this process, and
    ``in_worker`` says that this process is one. ``kernels`` is a name in ``KERNELS``, for workers. ``progress`` and
    ``stop`` are those of ``bench.api.Context``.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 1
    checkpoints: Path | None = None
    deadline: float | None = None
    silence: float | None = None
    memory: float | None = None
    in_worker: bool = False
    kernels: str = NATIVE
    progress: Callable[[int, int, str], None] = _no_progress
    stop: Callable[[], None] = _never_stop

    def context(self, budget: Budget, checkpoint: str) -> Context:
        """Return what a method is handed: its checkpoint has this name in the folder of checkpoints."""
        path = None if self.checkpoints is None else self.checkpoints / checkpoint
        return Context(budget, self.device, self.progress, self.stop, path)

    def watched(self, progress: Callable[[int, int, str], None], stop: Callable[[], None]) -> Machine:
        """Return the same machine with another way to report and to stop."""
        return replace(self, progress=progress, stop=stop)

    def as_json(self) -> dict[str, Any]:
        """Return what another process has to know, as plain JSON values."""
        checkpoints = None if self.checkpoints is None else str(self.checkpoints.absolute())
        return {
            "device": self.device,
            "threads": self.threads,
            "checkpoints": checkpoints,
            "deadline": self.deadline,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Machine:
        """Read a machine back from JSON; it reports nothing and never stops."""
        checkpoints = value["checkpoints"] and Path(value["checkpoints"])
        return cls(**{**value, "checkpoints": checkpoints})

    def description(self) -> dict[str, Any]:
        """Return hardware, versions and settings as they are stored with a result."""
        gpu = {"gpu": gpu_name(self.device)} if self.device.startswith("cuda") else {}
        return {**environment(), "device": self.device, "threads": self.threads, **gpu}


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


# Choosing and preparing


def choose_device(asked: str, needs_torch: bool) -> str:
    """Return ``cuda`` if it is asked for or there is one to use, else ``cpu``; raises BenchError."""
    if asked == "cpu" or not needs_torch:
        return "cpu"
    if asked == "auto" and "torch" not in sys.modules and not _has_gpu_driver():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise BenchError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return "cpu"


def _has_gpu_driver() -> bool:
    """Return whether there may be a GPU: without its driver torch, which takes seconds to load, need not be asked."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Path("/dev/kfd").exists()
    return True


def choose_workers(asked: int | None, device: str, jobs: int) -> int:
    """Return the number of workers: as asked, else one on a GPU and one per core on a CPU, never more than jobs.

    None at all (0) only if that is asked for.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = asked if asked is not None else 1 if device == "cuda" else usable
    return 0 if asked == 0 else max(1, min(wanted, jobs))


def use_threads(threads: int) -> None:
    """Bound the threads of every numerical library that is loaded; those that come later read the environment.

    Torch is not loaded for this: it takes seconds, and most methods do not use it.
    """
    from threadpoolctl import threadpool_limits

    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    threadpool_limits(threads)


def use_precision(precision: str) -> None:
    """Let torch compute float32 products as a cell says; if it is not loaded, no method uses it."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_float32_matmul_precision(precision)


@cache
def keep_freed_memory() -> bool:
    """Let glibc keep what tensors free, up to 2 GiB, and return whether that worked; elsewhere do nothing.

    By default every tensor above 32 MB is mapped again, and each of its pages faults on first use. Training on images
    spent a third of its time on that.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT_BYTES), (_TOP_PAD, _GROWTH_BYTES))
    return all([mallopt(parameter, value) == 1 for parameter, value in settings])


# What is stored with every result


@lru_cache(maxsize=1)
def environment() -> dict[str, Any]:
    """Return processor, memory, Python, package versions and the commit of the suite, as plain JSON values."""
    commit, dirty = _commit()
    return {
        "suite": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "instructions": _instructions(),
        **({"kernel_settings": settings} if (settings := _kernel_settings()) else {}),
        "cores": os.cpu_count(),
        "memory_gib": _memory_gib(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
    }


@lru_cache
def gpu_name(device: str) -> str:
    """Return what a CUDA device calls itself."""
    import torch

    return str(torch.cuda.get_device_name(device))


def memory_gib() -> float:
    """Return the memory in GiB that processes here may take together: the machine's, or less in a container."""
    import psutil

    found = psutil.virtual_memory().total
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            found = min(found, int((Path("/sys/fs/cgroup") / limit).read_text()))
        except (OSError, ValueError):
            continue
    return float(found / 2**30)


def _memory_gib() -> float:
    """Return the machine's memory in GiB."""
    import psutil

    return round(psutil.virtual_memory().total / 2**30, 1)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _instructions() -> str:
    """Return the vector instructions that numerical kernels are chosen by, empty if the system does not say."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return " ".join(sorted(flag for flag in flags.split() if _VECTOR.fullmatch(flag)))


def _kernel_settings() -> dict[str, str]:
    """Return the variables that are set and change which kernels libraries choose, and so the last bits."""
    return {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ}


def _cpuinfo(field: str) -> str:
    """Return a field of the first processor, empty if there is none."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith(field):
                return line.partition(":")[2].strip()
    return ""


def _commit() -> tuple[str | None, bool | None]:
    """Return the checkout's commit and whether files differ from it; (None, None) outside a checkout."""
    if not (PACKAGE.parent / ".git").exists():
        return None, None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(PACKAGE.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
