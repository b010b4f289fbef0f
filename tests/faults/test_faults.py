"""Bad inputs of every kind through the command line: no traceback, nothing lost, one line or one row that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import arguments, cases, data, plugins, rows, specs
from tests.faults.harness import Fault, Tally, inject

KINDS = {module.__name__.rpartition(".")[2]: module.FAULTS for module in (arguments, cases, data, plugins, rows, specs)}
FAULTS = [pytest.param(fault, id=f"{kind}-{fault.name}") for kind, faults in KINDS.items() for fault in faults]

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_in_one_line_or_in_a_row(fault: Fault, tmp_path: Path, tally: Tally) -> None:
    _, problems = inject(fault, tmp_path)
    tally.add("bad inputs", problems)
    assert not problems, "\n".join(problems)


def test_there_are_at_least_300() -> None:
    assert len(FAULTS) >= 300
    assert len({param.id for param in FAULTS}) == len(FAULTS)
