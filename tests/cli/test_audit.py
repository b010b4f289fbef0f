"""The verb ``audit``, on the trials that ship."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.errors import Stopped
from tests.cli.conftest import Call


def test_the_audit_prints_settings_and_anomalies(place: Path, call: Call) -> None:
    where = ("--shipped", "--store", "nothing")
    code, out, err = call("audit", *where)
    assert code == 0 and err == ""
    assert "2304 settings" in " ".join(out.split()) and "no default follows from it" in out
    assert "MVAE on MNIST+SVHN, sum at 0.5: 0.1309 (Table 8) and 0.1202 (Table 9)" in out
    assert "Table 10, MVAE, MNIST image (MSE): 0.2276, floor 0.0681" in out
    code, out, _ = call("audit", *where, "--json")
    found = json.loads(out)
    assert code == 0 and found["tried"] == found["computed"] == 2304
    assert found["halves"]["ways"] == 20 and len(found["reached"]) == 12
    assert {name["target"] for name in found["reached"]} >= {"MissForest on Mushroom", "MICE on Heart numerical"}


def test_without_trials_it_says_how_to_get_them(place: Path, call: Call) -> None:
    code, _, err = call("audit", "--store", "nothing")
    assert code == 2 and "add --shipped for those of the suite, or --compute" in err and err.count("\n") == 1


def test_a_computation_that_stops_says_so(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any) -> None:
        raise Stopped("the time budget is over")

    monkeypatch.setattr("bench.run.audit.compute_trials", stopped)
    code, out, _ = call("audit", "--shipped", "--store", "nothing", "--compute", "--time-budget", "5m")
    assert code == 75 and "stopped: the time budget is over. Run the same command again" in out
