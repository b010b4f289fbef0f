"""Rows on disk: appended whole, found by key, safe from a kill in the middle of a line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.experiment.cell import Cell
from bench.experiment.result import Result, Status
from bench.run.store import Store
from bench.seeds import canonical_json
from tests.toys import make_cell, make_result


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*/*.jsonl")
    return path


def results_of(folder: Path) -> dict[str, Result]:
    return {result.key: result for result in Store(folder).rows()}


def test_nothing_is_written_before_the_first_row(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "store")
    assert list(store.rows()) == []
    assert store.missing([make_cell()]) == {make_cell().key}
    assert store.frame().empty
    assert not (tmp_path / "new").exists()


def test_rows_come_back_as_they_were_put(tmp_path: Path) -> None:
    rows = [make_result(make_cell(seed=seed), source="\u00e4\u2028\n\"'\\") for seed in range(3)]
    Store(tmp_path).put(rows[:2])
    Store(tmp_path).put(rows[2:])
    assert list(Store(tmp_path).rows()) == rows
    assert only_file(tmp_path).read_bytes().count(b"\n") == 3


def test_a_row_that_an_earlier_version_stored_is_read_without_conversion(tmp_path: Path) -> None:
    """A shipped row from before rows had warnings."""
    line = (Path(__file__).parent / "stored_row.jsonl").read_text(encoding="utf-8")
    stored = json.loads(line)
    path = tmp_path / stored["cell"]["dataset"] / "mean_mode.jsonl"
    path.parent.mkdir()
    path.write_text(line, encoding="utf-8")
    (result,) = Store(tmp_path).rows(keys=[stored["key"]])
    assert result.key == result.cell.key == stored["key"]
    assert "warnings" not in stored and result.warnings == ()
    assert result.as_json() == {**stored, "warnings": []}
    assert Store(tmp_path).missing([result.cell]) == set()
    # What is written again has the very bytes of the row, but for the new field.
    Store(tmp_path / "again").put([result])
    again = only_file(tmp_path / "again").read_text(encoding="utf-8")
    assert re.sub(',"digest":"[0-9a-f]{64}"', "", again).replace(',"warnings":[]', "") == line
    assert not result.verified and next(Store(tmp_path / "again").rows()).verified


def edited(line: bytes, edit: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return a stored line after an edit of its parsed row."""
    row = json.loads(line)
    changed = edit(row)
    return json.dumps(row if changed is None else changed, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def without_digest(line: bytes) -> bytes:
    """Return a stored line as an older version would have written it."""
    return edited(line, lambda row: row.pop("digest") and None)


#: What somebody, or a disk, may do to a stored line. None of it is a result.
EDITS: dict[str, Callable[[bytes], bytes]] = {
    "metrics set by hand": lambda line: edited(line, lambda row: row["metrics"]["all"].update(nrmse_std=0.001)),
    "another seed": lambda line: edited(line, lambda row: row["cell"].update(seed=7)),
    "another status": lambda line: line.replace(b'"status":"ok"', b'"status":"failed"'),
    "a missing field": lambda line: edited(line, lambda row: row.pop("status") and None),
    "a missing field of the cell": lambda line: edited(line, lambda row: row["cell"].pop("budget") and None),
    "wrong types": lambda line: edited(line, lambda row: row.update(metrics=[1, 2], warnings=3, stack={})),
    "a huge number": lambda line: line.replace(b'"nrmse_std":1.0', b'"nrmse_std":1e999'),
    "a number of 4000 digits": lambda line: line.replace(b'"nrmse_std":1.0', b'"nrmse_std":1' + b"0" * 4000),
    "a number of 9000 digits": lambda line: line.replace(b'"nrmse_std":1.0', b'"nrmse_std":1' + b"0" * 9000),
    "NaN": lambda line: line.replace(b'"nrmse_std":1.0', b'"nrmse_std":NaN'),
    "text for a number": lambda line: line.replace(b'"nrmse_std":1.0', b'"nrmse_std":"1.0"'),
    "an unknown cell": lambda line: edited(line, lambda row: row.update(cell={"dataset": "rain", "x": [1]})),
    "a cell that is none": lambda line: edited(line, lambda row: row.update(cell=[])),
    "a key that is none": lambda line: edited(line, lambda row: row.update(key=["a"])),
    "a field that stands twice": lambda line: line.replace(
        b'"metrics":', b'"metrics":{"all":{"nrmse_std":0.1}},"metrics":'
    ).replace(b'"nrmse_std":1.0', b'"nrmse_std":0.001'),
    "cut short": lambda line: line[: len(line) // 2] + b"\n",
    "not UTF-8": lambda line: line.replace(b'"rain"', b'"r\xff\xfein"'),
    "half a letter": lambda line: line.replace(b'"reason":null', b'"reason":"\\ud800"'),
    "nested garbage": lambda line: line.replace(b'"counts":{}', b'"counts":' + b"[" * 10**5 + b"]" * 10**5),
    "garbage for diagnostics": lambda line: line.replace(
        b'"diagnostics":{}', b'"diagnostics":{"best_validation_error":{}}'
    ),
    "another digest": lambda line: line.replace(b'"digest":"', b'"digest":"0'),
    "a digest that is none": lambda line: edited(line, lambda row: row.update(digest=[1])),
    "a list": lambda line: b"[1, 2]\n",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_row_is_no_result_and_is_told_with_its_line(tmp_path: Path, edit: str) -> None:
    store = Store(tmp_path)
    store.put([make_result(make_cell(seed=seed)) for seed in range(3)])
    path = only_file(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = EDITS[edit](lines[1])
    assert changed != lines[1]
    path.write_bytes(lines[0] + changed + lines[2])
    assert [result.cell.seed for result in store.rows()] == [0, 2]
    (damage,) = store.damage
    assert (damage.path, damage.line) == (path, 2)
    assert str(damage).startswith(f"{path}:2: ") and "\n" not in damage.reason
    cells = [make_cell(seed=seed) for seed in range(3)]
    assert Store(tmp_path).missing(cells) == {cells[1].key}
    assert {result.cell.seed for result in Store(tmp_path).newest(["rain"], ["guess"], "smoke")} == {2}
    # What is asked of a cell is answered, or not, but never raises.
    assert [r.cell.seed for r in Store(tmp_path).rows(cell={"seed": {1, 2}, "mechanism": {"mcar"}})] == [2]


#: What is seen without a digest too: numbers that are as they could have been are not.
UNSEEN = ("metrics set by hand", "another status", "another digest", "a digest that is none")


@pytest.mark.parametrize("edit", [name for name in EDITS if name not in UNSEEN])
def test_a_row_without_a_digest_has_to_be_one_all_the_same(tmp_path: Path, edit: str) -> None:
    Store(tmp_path).put([make_result(make_cell(seed=seed)) for seed in range(3)])
    path = only_file(tmp_path)
    lines = [without_digest(line) for line in path.read_bytes().splitlines()]
    path.write_bytes(lines[0] + EDITS[edit](lines[1]) + lines[2])
    store = Store(tmp_path)
    assert [(result.cell.seed, result.verified) for result in store.rows()] == [(0, False), (2, False)]
    assert [damage.line for damage in store.damage] == [2]


def test_an_edited_row_leaves_the_sound_one_before_it(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), make_cell()
    store.put([make_result(cell, seconds=1.0), make_result(cell, seconds=2.0)])
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"seconds":2.0', b'"seconds":3.0'))
    assert [result.seconds for result in store.rows()] == [1.0]
    assert [damage.line for damage in store.damage] == [2]


def test_a_row_that_is_only_written_in_another_way_is_not_edited(tmp_path: Path) -> None:
    Store(tmp_path).put([make_result(make_cell(), source="\u00e4", counts={"rows": 3})])
    path = only_file(tmp_path)
    row = json.loads(path.read_bytes())
    path.write_text(json.dumps(dict(reversed(row.items()))) + "\r\n\n", encoding="utf-8")
    (result,) = Store(tmp_path).rows()
    assert result.verified and result.source == "\u00e4"


def test_results_of_other_code_are_missing(tmp_path: Path) -> None:
    store, cells = Store(tmp_path), [make_cell(seed=seed) for seed in range(3)]
    store.put(
        [
            make_result(cells[0], plugin_sources={"method": "old"}),
            make_result(cells[1], "failed", plugin_sources={"method": "old"}),
        ]
    )
    store.put([make_result(cells[2])])
    keys = [cell.key for cell in cells]
    assert store.missing(cells, sources={key: {"method": "old"} for key in keys}) == set()
    # A row of an older version does not say, and lasts.
    assert store.missing(cells, sources={key: {"method": "new"} for key in keys}) == set(keys[:2])
    assert store.missing(cells) == set()


def test_stores_beneath_another_are_read_and_never_written(tmp_path: Path) -> None:
    cells = [make_cell(seed=seed) for seed in range(4)]
    Store(tmp_path / "low").put([make_result(cell, seconds=1.0) for cell in cells[:3]])
    Store(tmp_path / "middle").put([make_result(make_cell(dataset="snow"), seconds=2.0)])
    low = only_file(tmp_path / "low").read_bytes()
    store = Store(tmp_path / "top", tmp_path / "middle", tmp_path / "low", tmp_path / "nowhere")
    store.put([make_result(cells[2], seconds=3.0), make_result(cells[1], "skipped", seconds=3.0)])
    found = {(result.cell.dataset, result.cell.seed): result.seconds for result in store.rows()}
    # What ran well counts, in the highest store that has it.
    assert found == {("rain", 0): 1.0, ("rain", 1): 1.0, ("rain", 2): 3.0, ("snow", 0): 2.0}
    assert store.missing(cells) == {cells[3].key}
    assert [result.seconds for result in store.newest(["rain"], ["guess"], "smoke")] == [3.0]
    assert store.conflicts == [] and store.damage == []
    assert only_file(tmp_path / "low").read_bytes() == low
    assert not (tmp_path / "nowhere").exists()


def test_a_cell_with_two_contents_is_told(tmp_path: Path) -> None:
    low, high = Store(tmp_path / "low"), Store(tmp_path / "high", tmp_path / "low")
    low.put([make_result(make_cell(seed=seed), metrics={"all": {"pfc": 0.5}}) for seed in range(3)])
    high.put([make_result(make_cell(), metrics={"all": {"pfc": 0.4}}), make_result(make_cell(seed=1), metrics={})])
    high.put([make_result(make_cell(seed=2), metrics={"all": {"pfc": 0.5}}, seconds=9.0, environment={"a": 1})])
    assert [result.metrics for result in high.rows(keys=[make_cell().key])] == [{"all": {"pfc": 0.4}}]
    (conflict,) = high.conflicts
    assert conflict.folders == (tmp_path / "high", tmp_path / "low")
    assert conflict.above.cell == make_cell() and conflict.difference == pytest.approx(0.2)
    list(high.rows())
    assert [c.difference for c in high.conflicts] == [pytest.approx(0.2), float("inf")]


def test_putting_appends_and_never_rewrites(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put([make_result(make_cell())])
    before = only_file(tmp_path).read_bytes()
    store.put([make_result(make_cell(seed=1)), make_result(make_cell())])
    assert only_file(tmp_path).read_bytes().startswith(before)


def test_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), make_cell()
    store.put([make_result(cell, "failed"), make_result(make_cell(seed=1))])
    store.put([make_result(cell, "ok", seconds=2.0)])
    assert len(results_of(tmp_path)) == 2
    assert (results_of(tmp_path)[cell.key].status, results_of(tmp_path)[cell.key].seconds) == ("ok", 2.0)


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_torn_last_line_is_ignored_and_does_no_harm(tmp_path: Path, kept: int) -> None:
    store = Store(tmp_path)
    store.put([make_result(make_cell())])
    whole = only_file(tmp_path).read_bytes()
    torn = json.dumps(make_result(make_cell(seed=1), source="\u00e4" * 30).as_json(), ensure_ascii=False).encode()[
        :kept
    ]
    only_file(tmp_path).write_bytes(whole + torn)
    assert set(results_of(tmp_path)) == {make_cell().key}
    assert make_cell(seed=1).key in store.missing([make_cell(seed=1)])
    store.put([make_result(make_cell(seed=2))])
    assert set(results_of(tmp_path)) == {make_cell().key, make_cell(seed=2).key}
    assert only_file(tmp_path).read_bytes().endswith(b"}\n")


def test_a_line_torn_within_a_letter_is_ignored_too(tmp_path: Path) -> None:
    Store(tmp_path).put([make_result(make_cell())])
    with only_file(tmp_path).open("ab") as stream:
        stream.write('{"key": "\u00e4'.encode()[:-1])
    assert set(results_of(tmp_path)) == {make_cell().key}


def test_names_do_not_collide_and_stay_inside(tmp_path: Path) -> None:
    names = ["a", "a/b", "a[1]", "a[-1]", "a b", "a%2Fb", "A.b", "../a", "\u00e4", "a.jsonl"]
    cells = [make_cell(dataset=dataset, method=method) for dataset in names for method in names]
    folder = tmp_path / "store"
    for cell in cells:
        Store(folder).put([make_result(cell)])
    assert len(list(folder.glob("*/*.jsonl"))) == len(cells)
    assert [path for path in tmp_path.iterdir()] == [folder]
    assert set(results_of(folder)) == {cell.key for cell in cells}
    for dataset in names:
        found = list(Store(folder).rows([dataset], ["a[1]", "a/b"]))
        assert {(result.cell.dataset, result.cell.method) for result in found} == {
            (dataset, "a[1]"),
            (dataset, "a/b"),
        }


def test_what_is_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    by_status: dict[str, Cell] = {
        status: make_cell(seed=seed) for seed, status in enumerate(("ok", "failed", "skipped", "never run"))
    }
    statuses: tuple[Status, ...] = ("ok", "failed", "skipped")
    store.put([make_result(by_status[status], status) for status in statuses])
    store.put([make_result(make_cell(dataset="other"))])

    def missing(**options: Any) -> set[str]:
        keys = store.missing(by_status.values(), **options)
        return {status for status, cell in by_status.items() if cell.key in keys}

    assert missing() == {"skipped", "never run"}
    assert missing(retry_failed=True) == {"failed", "skipped", "never run"}
    store.put([make_result(by_status["failed"], "ok"), make_result(by_status["ok"], "failed")])
    assert missing() == {"skipped", "never run"}
    assert missing(retry_failed=True) == {"ok", "skipped", "never run"}


#: Ways a line may differ from what ``put`` writes, and still be a row: by hand, from another program.
FORMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "as put": canonical_json,
    "with blanks": json.dumps,
    "with blanks around colons": lambda row: json.dumps(row, separators=(",", "\t : ")),
    "escaped": lambda row: json.dumps({**row, "note": '\u00e4"key":"x"seed":9,'}, separators=(",", ":")),
    "key last": lambda row: (
        canonical_json({name: value for name, value in row.items() if name != "key"})[:-1] + f',"key":"{row["key"]}"}}'
    ),
    "names used elsewhere": lambda row: canonical_json(
        {**row, "attributes": {"seed": {"rmse": 1}, "mechanism": {"key": 2}, "key": {"seed": 3}}, "zeta": {"seed": 77}}
    ),
    "other numbers": lambda row: canonical_json(row).replace('"ratio":0.5,', '"ratio":50e-2,'),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_is_asked_of_a_store_is_what_a_reader_of_all_its_rows_would_choose(tmp_path: Path, form: str) -> None:
    cells = [make_cell(seed=seed, mechanism=name) for seed in range(4) for name in ("mcar", "m\u00e4r", 'a"b')]
    path = tmp_path / "rain" / "guess.jsonl"
    path.parent.mkdir()
    results = [make_result(cell, "failed") for cell in cells] + [make_result(cell) for cell in cells[:3]]
    lines = [FORMS[form](result.as_json()).encode() for result in results]
    torn = [line[: len(line) * part // 7] for part, line in enumerate(lines[:7])]
    path.write_bytes(b"\n".join([*lines, b"", b"null", b'{"key":1}', *torn]))
    everything = list(Store(tmp_path).rows())
    assert [result.key for result in everything] == [cell.key for cell in cells]
    assert [result.status for result in everything] == ["ok"] * 3 + ["failed"] * 9

    def asked(**question: Any) -> list[str]:
        return [result.key for result in Store(tmp_path).rows(**question)]

    for keys in ([], [cells[5].key], [cell.key for cell in cells[::2]], ["nobody"]):
        assert asked(keys=keys) == [result.key for result in everything if result.key in keys]
    questions: list[dict[str, set[Any]]] = [
        {"seed": {1}},
        {"seed": {0, 3}, "mechanism": {"m\u00e4r", 'a"b'}},
        {"seed": {77}},
        {"mechanism": {"key"}},
        {"ratio": {0.5}},
        {"ratio": {0.7}},
        {"include_target": {False}, "seed": {2}},
        {"seed": set()},
        {},
    ]
    for chosen in questions:
        kept = [r.key for r in everything if all(getattr(r.cell, name) in values for name, values in chosen.items())]
        assert asked(cell=chosen) == kept, chosen
        assert asked(cell=chosen, keys=kept[:1]) == kept[:1]
    assert Store(tmp_path).missing(cells) == set()
    assert Store(tmp_path).missing(cells, retry_failed=True) == {cell.key for cell in cells[3:]}


def test_a_row_that_a_kill_cut_short_hides_none_that_was_whole(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), make_cell()
    store.put([make_result(cell)])
    line = canonical_json(make_result(cell, "failed").as_json()).encode()
    with only_file(tmp_path).open("ab") as stream:
        stream.write(line[:-1])
    assert [result.status for result in store.rows(keys=[cell.key])] == ["ok"]
    assert [result.status for result in store.newest(["rain"], ["guess"], "smoke")] == ["ok"]


def test_only_rows_that_are_asked_for_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put([make_result(make_cell(seed=seed)) for seed in range(50)])
    parsed: list[str] = []
    read = json.loads

    def counted(line: str) -> Any:
        parsed.append(line)
        return read(line)

    monkeypatch.setattr("json.loads", counted)
    assert len(list(store.rows(keys=[make_cell(seed=7).key]))) == 1
    assert len(list(store.rows(cell={"seed": {3, 4}, "mechanism": {"mcar"}}))) == 2
    assert store.missing([make_cell(seed=49), make_cell(seed=50)]) == {make_cell(seed=50).key}
    assert next(store.newest(["rain"], ["guess"], "smoke")).cell.seed == 49
    assert len(parsed) == 1 + 2 + 1 + 1


def test_the_newest_row_is_the_last_that_ran_well_under_the_preset(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put([make_result(make_cell(seed=seed), seconds=float(seed)) for seed in range(3)])
    store.put([make_result(make_cell(), seconds=9.0), make_result(make_cell(seed=5), "failed")])
    store.put(
        [make_result(make_cell(preset="quick"), seconds=7.0), make_result(make_cell(dataset="snow"), seconds=8.0)]
    )
    found = store.newest(["rain", "snow", "hail"], ["guess"], "smoke")
    assert {result.cell.dataset: result.seconds for result in found} == {"rain": 9.0, "snow": 8.0}
    assert [result.seconds for result in store.newest(["rain"], ["guess"], "quick")] == [7.0]
    assert list(store.newest(["rain"], ["other"], "quick")) == []


def test_a_changed_cell_is_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put([make_result(make_cell())])
    assert store.missing([make_cell()]) == set()
    assert store.missing([make_cell(method_version=3)]) == {make_cell(method_version=3).key}


def test_the_frame_has_a_column_for_each_field_and_metric(tmp_path: Path) -> None:
    store = Store(tmp_path)
    metrics = {"all": {"nrmse_std": 0.25, "pfc": 0.5}, "nothing_observed": {"pfc": 1.0}}
    store.put([make_result(make_cell(), metrics=metrics), make_result(make_cell(seed=1), "failed", metrics={})])
    frame = store.frame().set_index("seed")
    assert list(frame["status"]) == ["ok", "failed"]
    assert frame.loc[0, "all.nrmse_std"] == 0.25
    assert frame.loc[0, "nothing_observed.pfc"] == 1.0
    assert frame["all.pfc"].isna().tolist() == [False, True]
    assert frame.loc[1, "parameters.rate"] == 0.1
    assert set(frame["key"]) == {make_cell().key, make_cell(seed=1).key}


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        Store(tmp_path).put([make_result(make_cell(seed=1)), make_result(make_cell(), seconds=float("nan"))])
    assert results_of(tmp_path) == {}


@pytest.mark.parametrize("place", ["file", "file/store"])
def test_a_store_that_is_a_file_or_in_one_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BenchError, match=r"the store cannot be .*file.* is a file"):
        Store(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_does_not_take_rows_is_one_clear_error(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "rain").write_text("in the way")
    with pytest.raises(BenchError, match=r"rows cannot be written to .*guess\.jsonl: "):
        store.put([make_result(make_cell())])


def test_two_thousand_rows_are_put_quickly_and_each_as_fast_as_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the disk takes to flush is its own matter.
    monkeypatch.setattr("os.fsync", lambda number: None)
    store = Store(tmp_path)
    rows = [make_result(make_cell(seed=seed)) for seed in range(2000)]
    began, taken = time.process_time(), []
    for start in range(0, 2000, 500):
        at = time.process_time()
        for row in rows[start : start + 500]:
            store.put([row])
        taken.append(time.process_time() - at)
    assert time.process_time() - began < 2.0
    assert taken[-1] < 3 * taken[0] + 0.1
    at = time.process_time()
    assert store.missing([make_cell(seed=seed) for seed in range(2001)]) == {make_cell(seed=2000).key}
    assert time.process_time() - at < 2.0


def test_rows_are_flushed_to_the_disk_before_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr("os.fsync", lambda number: sizes.append(only_file(tmp_path).stat().st_size))
    Store(tmp_path).put([make_result(make_cell()), make_result(make_cell(seed=1))])
    assert sizes == [only_file(tmp_path).stat().st_size]
