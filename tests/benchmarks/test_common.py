"""The benchmarks work at a small size, and what they share counts as it says."""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module of ``benchmarks``, which only a checkout has."""
    if not (ROOT / "benchmarks" / f"{name}.py").is_file():
        pytest.skip("needs the checkout: these tests run from an installed copy")
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module(f"benchmarks.{name}")


def printed_lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the lines that ``--json`` printed, and the last one: hardware and versions."""
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert last["small"] is True
    assert last["environment"]["python"]
    return lines, last


def test_tasks_take_turns_and_each_begins_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    common = benchmark("common", monkeypatch)
    called: list[str] = []
    tasks = {name: (lambda name=name: called.append(name)) for name in "abc"}
    seconds = common.alternate(tasks, rounds=4)
    assert "".join(called) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert {name: len(timings) for name, timings in seconds.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_ratio_is_taken_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    common = benchmark("common", monkeypatch)
    # The machine was ten times slower in the second round: the ratio of the medians would be 1.
    assert common.median_ratio([4.0, 20.0, 2.0], [2.0, 10.0, 4.0]) == 2.0
    assert common.medians({"a": [3.0, 1.0, 2.0]}) == {"a": 2.0}
    assert common.spread([1.0, 2.0, 4.0]) == 1.5


def test_few_rounds_are_refused_at_full_size_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = benchmark("common", monkeypatch)
    made = common.parser("toy", "A toy.")
    assert common.parsed(made, ["--small", "--rounds=1"]).rounds == 1
    with pytest.raises(SystemExit):
        common.parsed(made, ["--rounds=4"])
    assert "at least 5" in capsys.readouterr().err


def test_a_report_says_who_misses_and_small_sizes_judge_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = benchmark("common", monkeypatch)
    lines = [
        common.Line("quick", 3.5, 2.0, 7.0, "ms", ">= 3", True, {"spread": 0.1}),
        common.Line("slow", 2.0, 2.0, 4.0, "ms", ">= 3", False),
    ]
    report = common.Report("toy", "other / ours", lines)
    made = common.parser("toy", "A toy.")
    assert common.finish(report, common.parsed(made, [])) == 1
    shown = capsys.readouterr().out
    assert "MISSED" in shown and "reached" in shown and "3.5" in shown and "numpy" in shown
    assert common.finish(report, common.parsed(made, ["--small", "--json"])) == 0
    first, second, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(first)[1] == "ratio"
    assert (first["ratio"], second["reached"], last["ratio_is"]) == (3.5, None, "other / ours")
    assert last["environment"]["packages"]["numpy"]


def _hungry(mib: int) -> int:
    """Hold some memory for a moment."""
    return len(bytearray(b"x") * (mib * 2**20))


def test_the_peak_memory_of_a_call_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    common = benchmark("common", monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    held = bytearray(b"x") * (300 * 2**20)
    little, small = common.isolated("test_common:_hungry", mib=1)
    much, large = common.isolated("test_common:_hungry", mib=100)
    del held
    assert (little, much) == (2**20, 100 * 2**20)
    assert small < 250
    assert 90 < large - small < 120
    with pytest.raises(RuntimeError, match="no_such_thing"):
        common.isolated("test_common:no_such_thing")


def test_the_store_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    store = benchmark("store", monkeypatch)
    monkeypatch.setattr(store, "PUTS", 3)
    assert store.main(["--json", "--small", "--rounds=1", "--rows=600"]) == 0
    lines, _ = printed_lines(capsys)
    assert [line["case"].split(",")[0] for line in lines] == [
        "missing and seven tables",
        "memory of find_missing",
        "memory of print_tables",
        "put",
    ]
    assert all(line["ours"] > 0 and line["ratio"] > 0 for line in lines)


def test_a_synthetic_store_has_the_tables_cells_and_then_other_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bench.plugins.registry import Registry
    from bench.run.store import Store

    store = benchmark("store", monkeypatch)
    registry = Registry.scan()
    cells = store.table_cells(registry)
    size = len(cells) + 50
    store.fill(tmp_path, size, registry)
    rows = list(Store(tmp_path).rows())
    assert len(rows) == size
    assert sum(row.cell.seed > max(cell.seed for cell in cells) for row in rows) == 50
    assert Store(tmp_path).missing(cells) == set()
    assert store.find_missing(str(tmp_path)) == len(cells)
    assert store.print_tables(str(tmp_path)) > 100


def test_whole_commands_are_timed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    startup = benchmark("startup", monkeypatch)
    assert startup.main(["--json", "--small", "--rounds=1"]) == 0
    lines, _ = printed_lines(capsys)
    assert {line["case"]: line["other"] for line in lines} == {
        "vsae-bench --help": 0.3,
        "vsae-bench list": 0.4,
        "vsae-bench table 6 --shipped": 1.5,
    }
    for line in lines:
        assert line["ratio"] == pytest.approx(line["other"] / line["ours"])
        assert line["ours"] > line["notes"]["an empty program"] > 0
    with pytest.raises(subprocess.CalledProcessError):
        startup.run_whole(["-m", "bench", "no-such-verb"])
