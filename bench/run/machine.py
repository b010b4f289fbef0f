"""Hardware and versions: stored with every row, never part of its identity."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import __version__
from bench.paths import PACKAGE

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
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


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
