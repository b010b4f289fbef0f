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
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import __version__
from bench.errors import BenchError
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
_VECTOR = re.compile(r"sse4_[12]|avx.*|fma|f16c|amx.*|neon|asimd.*|sve.*|bf16|i8mm")

#: Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT_BYTES, _GROWTH_BYTES = 2**31 - 1, 2**26


def _no_progress(done: int, total: int, stage: str) -> None:
    """Report nothing."""


def _never_stop() -> None:
    """Go on."""


@dataclass(frozen=True)
class Machine:
    """Where and how jobs run.

    ``checkpoints`` is the folder that trainings keep their state in, or None; ``deadline`` is in seconds of
    ``time.time``, or None. ``progress`` and ``stop`` are those of ``bench.api.Context``.
    """

    device: str = "cpu"
    threads: int = 1
    workers: int = 1
    checkpoints: Path | None = None
    deadline: float | None = None
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
        checkpoints = None if self.checkpoints is None else str(self.checkpoints)
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


# Choosing and preparing


def choose_device(asked: str, needs_torch: bool) -> str:
    """Return ``cuda`` if it is asked for or there is one to use, else ``cpu``; raises BenchError."""
    if asked == "cpu" or not needs_torch:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if asked == "cuda":
        raise BenchError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return "cpu"


def choose_workers(asked: int | None, device: str, jobs: int) -> int:
    """Return the number of workers: as asked, else one on a GPU and one per core on a CPU, never more than jobs."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = asked if asked is not None else 1 if device == "cuda" else usable
    return max(1, min(wanted, jobs))


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
