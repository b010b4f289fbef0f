"""How the tests reach the benchmarks, which only a checkout has."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of ``benchmarks``."""
    if not (ROOT / "benchmarks" / "common.py").is_file():
        pytest.skip("needs the checkout: these tests run from an installed copy")
    monkeypatch.syspath_prepend(str(ROOT))
    return lambda name: importlib.import_module(f"benchmarks.{name}")
