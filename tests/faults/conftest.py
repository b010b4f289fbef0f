"""Faults are asked for: ``pytest tests/faults -m faults``, which is what ``tox -e faults`` runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness import Tally

TALLY = pytest.StashKey[Tally]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the faults out unless the marker is asked for."""
    return None if "faults" in config.option.markexpr or collection_path.is_dir() else True


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Return the counts of this session."""
    return request.config.stash.setdefault(TALLY, Tally())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the counts."""
    if TALLY in config.stash:
        terminalreporter.write_line(str(config.stash[TALLY]))
