"""Freed memory stays in the process once the allocator is told to keep it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toys import command_environment

FAULTS = """
import resource
import numpy
from bench.run.machine import keep_freed_memory

{call}
sizes = [2**20, 3 * 2**20, 5 * 2**20]
for turn in range(10):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in sizes:
        numpy.ones(size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_kept_for_the_next_arrays(tmp_path: Path) -> None:
    environment = {name: value for name, value in command_environment(tmp_path).items() if "MALLOC" not in name}

    def page_faults(call: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(call=call)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return int(done.stdout)

    # Without it at least the largest array is mapped anew each turn: twenty huge pages.
    assert page_faults("keep_freed_memory()") < 20 < 100 < page_faults("")
