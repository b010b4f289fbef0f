"""What commands say of stored rows: of other code, edited, of several stores, of another version; and ``verify``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bench.experiment.result import Result
from bench.paths import shipped_rows_folder
from bench.run.store import Store
from tests.cli.conftest import Call
from tests.toys import PATIENT, ZEROS, method_source, stored_rows, write_plugins


def test_rows_of_other_code_are_marked_in_a_table_until_they_are_computed_again(place: Path, call: Call) -> None:
    where = ("--plugins", "plugins", "--preset", "smoke", "--store", "store")
    write_plugins(place / "plugins", mine=method_source("mine", impute=ZEROS))
    assert call("run", "toy.toml", *where, "--workers", 1)[0] == 0
    _, fresh, _ = call("table", "toy.toml", *where)
    assert "not of its code" not in fresh
    better = "f = data.frame(); return f.fillna(f.mean(numeric_only=True)).fillna({c: 'red' for c in f})"
    write_plugins(place / "plugins", mine=method_source("mine", impute=better))
    _, stale, _ = call("table", "toy.toml", *where)
    assert "mine, seeds 0, 1, 2: not of its code as it is now; run it again" in stale


def test_edited_rows_do_not_print_and_are_computed_again(place: Path, call: Call) -> None:
    where = ("--plugins", "plugins", "--preset", "smoke", "--store", "store")
    assert call("run", "toy.toml", *where, "--workers", 1)[0] == 0
    _, before, _ = call("table", "toy.toml", *where)
    path = place / "store" / "toy_mixed" / "mean_mode.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["metrics"]["all"]["nrmse_std"] = 0.001
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"key": "cut sho')
    code, out, _ = call("table", "toy.toml", *where)
    assert code == 0
    assert "0.001" not in out and "seed 1 not run" in out
    told = f"left out, edited or damaged: 2 rows ({path.relative_to(place)}:2: its content does not fit its digest"
    assert told in out
    code, out, _ = call("run", "toy.toml", *where, "--workers", 1)
    assert code == 0 and "1 job with preset smoke" in out
    _, after, _ = call("table", "toy.toml", *where)
    assert after.startswith(before)


def test_a_new_method_stands_beside_the_rows_of_other_stores(place: Path, call: Call) -> None:
    """The baselines' rows, as those that ship with the suite, and the user's own in one table; nothing runs twice."""
    assert (
        call("run", "toy.toml", "--plugins", "plugins", "--preset", "smoke", "--workers", 1, "--store", "theirs")[0]
        == 0
    )
    write_plugins(place / "plugins", mine=method_source("mine", impute=ZEROS))
    shared = ("--plugins", "plugins", "--preset", "smoke", "--store", "store", "--store", "theirs")
    code, out, _ = call("run", "toy.toml", *shared, "--workers", 1)
    assert code == 0
    assert "of them in store and theirs already" in out
    assert {path.name for path in (place / "store").glob("*/*.jsonl")} == {"mine.jsonl"}
    _, out, _ = call("table", "toy.toml", *shared)
    assert "not run" not in out and "mine" in out and "with two contents" not in out
    results = [
        Result.from_line(line)
        for line in (place / "theirs" / "toy_mixed" / "mean_mode.jsonl").read_bytes().splitlines()
    ]
    other = {"all": {name: 1.5 * value for name, value in results[0].metrics["all"].items()}}
    Store(place / "store").put([replace(results[0], metrics={**results[0].metrics, **other})])
    _, out, _ = call("table", "toy.toml", *shared)
    assert (
        "1 cell with two contents: the first store's count; mean_mode on toy_mixed, mcar 0.5, seed 0: store and" in out
    )
    assert "theirs differ by 33 %" in out


def test_shipped_rows_lie_beneath_the_users(place: Path, call: Call) -> None:
    _, shipped, _ = call("table", "7", "--shipped", "--store", "nothing")
    assert "No row of" not in shipped
    row = next(Store(shipped_rows_folder()).rows({"mnist_mnist"}, {"mean_mode"}, cell={"ratio": {0.5}, "seed": {0}}))
    Store(place / "store").put([row])
    _, both, _ = call("table", "7", "--shipped", "--store", "store")
    assert both == shipped
    doubled = {"all": {name: 2 * value for name, value in row.metrics["all"].items()}}
    Store(place / "store").put([replace(row, metrics={**row.metrics, **doubled})])
    _, both, _ = call("table", "7", "--shipped", "--store", "store")
    assert both != shipped and "1 cell with two contents" in both
    _, alone, _ = call("table", "7", "--store", "store")
    assert alone != both


def test_rows_that_a_raised_version_leaves_behind_are_told(place: Path, call: Call) -> None:
    write_plugins(place / "plugins", mine=method_source("mine", impute=ZEROS))
    grid = ("--methods", "mine,mean_mode", "--datasets", "toy_mixed")
    words = ("run", *grid, "--plugins", "plugins", "--preset", "smoke", "--workers", "1", "--store", "store")
    _, out, _ = call(*words)
    assert "no longer" not in out
    write_plugins(place / "plugins", mine=method_source("mine", impute=ZEROS, extra="version = 4"))
    _, out, _ = call(*words, "--dry-run")
    assert "3 stored rows of mine no longer answer: method_version was 1, is 4" in out
    assert call(*words)[0] == 0
    _, out, _ = call(*words)
    assert "no longer" not in out


def ready_store(place: Path, call: Call, methods: str = "mean_mode,patient") -> tuple[str, ...]:
    """Run methods on the toys and return the words that verify their rows."""
    write_plugins(place / "plugins", patient=PATIENT.replace('"pause": 0.05', '"pause": 0.0'))
    where = ("--store", "store", "--plugins", "plugins", "--workers", "1")
    assert call("run", "--methods", methods, "--datasets", "toy_mixed", "--preset", "smoke", *where)[0] == 0
    return ("verify", *where)


def test_rows_are_checked_and_come_out_again_with_their_stack(place: Path, call: Call) -> None:
    words = ready_store(place, call)
    before = stored_rows(place / "store")
    code, out, _ = call(*words)
    assert code == 0 and "Computed again" not in out
    code, out, _ = call(*words, "--sample", "6")
    assert code == 0
    assert "patient on toy_mixed, mcar 0.5: 3 rows in" in out
    assert out.count("equal to the bit") == 6
    assert "6 rows chosen: 6 came out again, 0 did not" in out
    assert stored_rows(place / "store") == before
    assert (
        len({call(*words, "--sample", "2", "--seed", seed)[1].partition("Computed again")[2] for seed in range(4)}) > 1
    )
    assert "1 row chosen" in call(*words, "--sample", "1")[1]


def test_an_edited_row_is_listed_and_fails(place: Path, call: Call) -> None:
    words = ready_store(place, call)
    path = place / "store" / "toy_mixed" / "mean_mode.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'"ok"', b'"failed"') + b"x\n" + lines[2])
    code, out, _ = call(*words, "--sample", "9")
    assert code == 1
    shown = path.relative_to(place)
    assert f"{shown}:2: its content does not fit its digest\n{shown}:3: it is no JSON" in out
    assert "5 rows chosen: 5 came out again" in out


def test_a_row_with_a_digest_of_its_own_does_not_come_out_again(place: Path, call: Call) -> None:
    words = ready_store(place, call, "mean_mode")
    row = next(Store(place / "store").rows())
    Store(place / "store").put([replace(row, metrics={**row.metrics, "all": {**row.metrics["all"], "pfc": 0.001}})])
    assert call(*words)[0] == 0
    code, out, _ = call(*words, "--sample", "3")
    assert code == 1
    assert "differs, on an equal machine" in out and "3 rows chosen: 2 came out again, 1 did not" in out


def test_a_row_that_cannot_come_out_here_says_nothing(place: Path, call: Call) -> None:
    words = ready_store(place, call)
    write_plugins(place / "plugins", patient=PATIENT.replace('"epochs": 30', '"epochs": 31'))
    path = place / "store" / "toy_mixed" / "patient.jsonl"
    path.write_bytes(path.read_bytes())
    code, out, _ = call(*words, "--sample", "6")
    assert code == 0
    assert out.count("the plug-in's code is another now") == 3
    assert "6 rows chosen: 3 came out again, 0 did not, 3 say nothing" in out
    (place / "plugins" / "patient.py").unlink()
    code, out, _ = call(*words, "--sample", "6")
    assert code == 0 and out.count("unknown method 'patient'") == 3


def test_a_tuned_table_is_refused_where_a_method_that_can_be_tuned_is_not(place: Path, call: Call) -> None:
    """VSAE alone is tuned in the rows that ship: beside the others' defaults it would be compared with unlike."""
    code, out, err = call("table", "7", "--parameters", "tuned", "--shipped", "--store", "nothing")
    assert code == 2 and "vae on mnist_mnist" in err and err.count("\n") == 1 and "Regressor" not in out
