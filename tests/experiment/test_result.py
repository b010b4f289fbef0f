"""A result as a stored row: its one writer and reader, its digest, its key and the types of its fields."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from bench.errors import BenchError
from bench.experiment.result import Result, is_stale
from bench.seeds import canonical_json
from tests.toys import make_cell, make_result


def full_result() -> Result:
    """Return a result with something in every field."""
    return make_result(
        make_cell(precision="high", mechanism_overrides={"weights": [1, 2]}),
        "failed",
        reason="it is so: \u00e4\u2028",
        variant="subset",
        source="https://example.org",
        missing_ratio=0.5,
        mask_hash="00ff",
        metrics={"all": {"pfc": 0.25, "nrmse_std": None}},
        attributes={"digest": {"entries": 3, "pfc": 0.5}},
        counts={"entries": 3},
        peak_memory_mib=7.5,
        diagnostics={"best_validation_error": 0.5, "loss_curve": [[0, 1.0]]},
        warnings=("one", "two"),
        environment={"device": "cpu"},
        stack=("a", "b"),
        plugin_sources={"method": "00ff"},
        traceback="line 1",
    )


@pytest.mark.parametrize("result", [make_result(make_cell()), full_result()])
def test_a_line_reads_back_as_the_result(result: Result) -> None:
    line = result.as_line()
    assert Result.from_line(line) == Result.from_json(result.as_json()) == result
    assert line.endswith(b"}\n") and line.count(b"\n") == 1
    assert Result.from_line(line).verified and Result.from_line(line).as_line() == line


@pytest.mark.parametrize("result", [make_result(make_cell()), full_result()])
def test_the_digest_is_the_hash_of_the_canonical_content(result: Result) -> None:
    row = json.loads(result.as_line())
    digest = row.pop("digest")
    assert digest == hashlib.sha256(canonical_json(row).encode()).hexdigest()
    assert row == result.as_json()
    assert digest != json.loads(replace(result, seconds=2.5).as_line())["digest"]


def test_whoever_computes_key_and_digest_again_is_believed() -> None:
    """The digest is against accidents: it proves no authorship."""
    forged = make_result(make_cell(), metrics={"all": {"nrmse_std": 0.001}})
    assert Result.from_line(forged.as_line()).verified


def test_what_there_is_not_goes_without_saying() -> None:
    row = make_result(make_cell()).as_json()
    assert not {"traceback", "plugin_sources", "digest", "verified"} & row.keys()


def test_a_row_of_an_older_version_is_read_and_not_verified() -> None:
    row = make_result(make_cell()).as_json()
    for name in ("warnings", "stack", "counts"):
        del row[name]
    for name in ("mechanism_overrides", "overrides"):
        del row["cell"][name]
    row["key"] = hashlib.sha256(canonical_json(row["cell"]).encode()).hexdigest()
    result = Result.from_line(json.dumps(row).encode())
    assert not result.verified
    assert result.cell.mechanism_overrides is None and result.key == row["key"] != result.cell.key
    # Written again it is a row of this version, whose key is as old as it was.
    again = Result.from_line(result.as_line())
    assert again == result and again.verified


def test_fields_of_a_newer_version_are_let_be() -> None:
    row: dict[str, Any] = {**make_result(make_cell()).as_json(), "mood": "good"}
    digest = hashlib.sha256(canonical_json(row).encode()).hexdigest()
    assert Result.from_line(json.dumps({**row, "digest": digest}).encode()).verified


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "fine"}, "'status'"),
        ({"status": ["ok"]}, "'status'"),
        ({"reason": 3}, "'reason'"),
        ({"metrics": {"all": [1]}}, "'metrics'"),
        ({"metrics": {"all": {"pfc": True}}}, "'metrics'"),
        ({"metrics": {"all": {"pfc": 10**400}}}, "'metrics'"),
        ({"attributes": {"a": {"pfc": float("inf")}}}, "'attributes'"),
        ({"counts": {"entries": "3"}}, "'counts'"),
        ({"seconds": None}, "'seconds'"),
        ({"seconds": float("nan")}, "'seconds'"),
        ({"diagnostics": {"best_validation_error": "0.5"}}, "'diagnostics'"),
        ({"warnings": "one"}, "'warnings'"),
        ({"stack": [1]}, "'stack'"),
        ({"plugin_sources": {"method": 1}}, "'plugin_sources'"),
        ({"cell": 3}, "'cell'"),
        ({"key": "00"}, "key is not that of its cell"),
    ],
)
def test_a_field_of_another_type_is_one_clear_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=f"a stored row cannot be read: .*{words}"):
        Result.from_json({**make_result(make_cell()).as_json(), **changes})


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", "0"), ("seed", True), ("ratio", "0.5"), ("engine", 1.5), ("budget", 3), ("dataset", None), ("new", 1)],
)
def test_a_cell_of_another_type_is_one_clear_error(field: str, value: Any) -> None:
    row = make_result(make_cell()).as_json()
    row["cell"] |= {field: value}
    row["key"] = hashlib.sha256(canonical_json(row["cell"]).encode()).hexdigest()
    with pytest.raises(BenchError, match="a stored row cannot be read: "):
        Result.from_json(row)


def test_a_result_is_stale_if_its_plugins_have_other_code_now() -> None:
    result = make_result(make_cell(), plugin_sources={"method": "a", "mechanism": "b"})
    assert not is_stale(result, {}) and not is_stale(result, {"method": "a"})
    assert is_stale(result, {"method": "c"}) and is_stale(result, {"method": "a", "mechanism": "c"})
    assert not is_stale(make_result(make_cell()), {"method": "c"})
