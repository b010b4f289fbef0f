"""The verb ``compare``, on the rows that ship."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Call


def test_compare_prints_verdicts_and_its_demands_set_the_exit_code(place: Path, call: Call) -> None:
    where = ("--shipped", "--store", "nothing")
    code, out, err = call("compare", "6", *where, "--require", "no better than the floor in the paper>=1")
    assert code == 0 and err == ""
    assert "Table 6: " in out and "30 published numbers: " in out and "○ paper at floor" in out
    code, out, err = call("compare", "6", *where, "--require", "reproduced >= 31")
    assert code == 1
    assert "required reproduced >= 31, and it is " in err and "30 published numbers: " in out
    code, out, _ = call("compare", *where, "--json")
    assert code == 0 and len(json.loads(out)["numbers"]) == 146


def test_compare_without_rows_or_data_says_how_to_get_them(place: Path, call: Call) -> None:
    code, out, _ = call("compare", "5", "--store", "nothing")
    assert code == 0 and "20 published numbers: 20 no data" in out
    assert ". no data, 10: data not obtained: " in out and "VSAE_BENCH_MIRROR" in out


def test_claims_are_judged_under_each_parameter_set(place: Path, call: Call) -> None:
    where = ("--shipped", "--store", "nothing")
    code, out, err = call("claims", "5", *where)
    assert code == 0 and err == ""
    assert "Table 5: VSAE has the lowest error on both data sets" in out
    assert "? undecided (default, quick): " in out and ". not run (tuned): " in out
    assert "vsae-bench run table05 --preset quick --seeds 0-9" in out and "6 verdicts: " in out
    code, out, _ = call("claims", "5", *where, "--parameters", "default", "--json")
    assert code == 0 and [each["claim"] for each in json.loads(out)] == ["first", "gap"]
    code, out, err = call("claims", "mixed", *where)
    assert code == 2 and "the paper claims nothing of table_mixed" in err
