"""A way to load a baseline by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.paths import plugin_folder
from tests.classical import Load


@pytest.fixture
def load(load_plugin: Callable[..., type[Any]]) -> Load:
    """Return a function from the name of a baseline to its class."""
    return lambda name: load_plugin(plugin_folder("baselines") / f"{name}.py")
