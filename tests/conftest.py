"""What several test files share: one thread, tiny tables and views, and a way to load a plug-in by its file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Read by NumPy and torch when they are first imported, hence before any test is.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

if TYPE_CHECKING:
    from bench.api import Incomplete, Table


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Keep torch on one thread, without importing it for tests that do not."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def deterministic_torch() -> Iterator[None]:
    """Make torch raise if an operation is not deterministic, for the tests that compare bits."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def mirror() -> Path:
    """Return the folder with the real data, or skip the test."""
    folder = os.environ.get("VSAE_BENCH_MIRROR", "")
    if not folder:
        pytest.skip("needs the real data: set VSAE_BENCH_MIRROR to a folder that has it")
    return Path(folder)


@pytest.fixture
def tiny_table() -> Table:
    """Return 40 rows of two dependent numbers and two dependent categories, complete."""
    import numpy as np
    import pandas as pd

    from bench.api import Table

    rng = np.random.default_rng(7)
    height = rng.normal(170.0, 8.0, 40)
    size = np.array(["small", "middle", "tall"])[np.digitize(height, [167.0, 174.0])]
    frame = pd.DataFrame(
        {
            "height": height,
            "weight": 0.9 * height - 85.0 + rng.normal(0.0, 3.0, 40),
            "size": size,
            "colour": np.where(rng.random(40) < 0.7, "red", "blue"),
        }
    )
    return Table.from_frame(frame)


@pytest.fixture
def tiny_view(tiny_table: Table) -> Incomplete:
    """Return all rows of the tiny table for two replicas that hide different entries, about 30 % each."""
    import numpy as np

    from bench.api import Incomplete

    rng = np.random.default_rng(11)
    rows = np.tile(np.arange(len(tiny_table)), (2, 1))
    return Incomplete(tiny_table, rows, rng.random((2, len(tiny_table), 4)) >= 0.3)


@pytest.fixture
def load_plugin() -> Callable[..., type[Any]]:
    """Return a function that loads the one plug-in of a file, or the one with the ``name``, as the registry does."""

    def load_one(path: Path | str, name: str | None = None) -> type[Any]:
        from bench.plugins.reader import SourceReader
        from bench.plugins.registry import load

        found = SourceReader().read_files([Path(path)], "user", None)
        chosen = [info for info in found if name is None or info.name == name]
        assert len(chosen) == 1, f"{path} holds the plug-ins {[info.name for info in found]}"
        return load(chosen[0])

    return load_one
