"""Stored rows that somebody or something has changed: a table is printed without them, or one line says which."""

from __future__ import annotations

import json
from typing import Any

from tests.faults.arguments import FILES
from tests.faults.harness import Fault
from tests.toys import make_cell, make_result, table_text

TABLE = ("table", "rain.toml", "--store", "store", "--output", "written")
SPEC = table_text(("mean_mode",), ("yeast",))
CELL = make_cell(dataset="yeast", method="mean_mode", parameters={}, overrides={}, method_version=1)
ROW: dict[str, Any] = make_result(CELL).as_json()
PLACE = "store/yeast/mean_mode.jsonl"


def _fault(name: str, content: str | bytes) -> Fault:
    return Fault(name, TABLE, {**FILES, "rain.toml": SPEC, PLACE: content}, codes=(0, 2))


def _line(row: object) -> str:
    return json.dumps(row) + "\n"


WRONG: dict[str, Any] = {"null": None, "number": 7, "text": "x", "list": [1], "table": {"a": {"b": 1}}, "true": True}


def _fields() -> list[Fault]:
    faults = []
    for field in ROW:
        faults.append(_fault(f"without-{field}", _line({key: value for key, value in ROW.items() if key != field})))
        faults += [_fault(f"{field}-{name}", _line({**ROW, field: value})) for name, value in WRONG.items()]
    return faults


def _cell_fields() -> list[Fault]:
    faults = []
    for field in ROW["cell"]:
        cell = {key: value for key, value in ROW["cell"].items() if key != field}
        faults.append(_fault(f"cell-without-{field}", _line({**ROW, "cell": cell})))
        faults.append(_fault(f"cell-{field}", _line({**ROW, "cell": {**ROW["cell"], field: [[]]}})))
    return faults


FAULTS: tuple[Fault, ...] = (
    *_fields(),
    *_cell_fields(),
    _fault("empty", ""),
    _fault("blank-lines", "\n\n\n"),
    _fault("binary", bytes(range(256)) * 20),
    _fault("cut-short", _line(ROW)[:200]),
    _fault("cut-short-then-whole", _line(ROW)[:200] + "\n" + _line(ROW)),
    _fault("twice", _line(ROW) * 2),
    _fault("list", "[1, 2]\n"),
    _fault("number", "7\n"),
    _fault("deep", "[" * 100_000 + "\n"),
    _fault("deep-field", _line(ROW).replace('"diagnostics": {}', f'"diagnostics": {"[" * 900}{"]" * 900}')),
    _fault("digits", _line(ROW).replace('"seconds": 1.0', f'"seconds": {"9" * 5000}')),
    _fault("nan", _line({**ROW, "metrics": {"all": {"nrmse_std": float("nan")}}})),
    _fault("infinity", _line({**ROW, "metrics": {"all": {"nrmse_std": float("inf")}}})),
    _fault("huge", _line({**ROW, "metrics": {"all": {"nrmse_std": 10**400}}})),
    _fault("metric-text", _line({**ROW, "metrics": {"all": {"nrmse_std": "low"}}})),
    _fault("metric-list", _line({**ROW, "metrics": {"all": [1]}})),
    _fault("no-metrics-of-all", _line({**ROW, "metrics": {"all": None}})),
    _fault("escapes", _line({**ROW, "status": "failed", "reason": "\x1b[31mred\x07\r\n=cmd"})),
    _fault("formula", _line({**ROW, "status": "failed", "reason": "=cmd|' /C calc'!A0"})),
    _fault("surrogate", '{"cell": {"dataset": "\\ud800"}, "key": "\\ud800"}\n'),
    _fault("reason-surrogate", _line({**ROW, "status": "failed", "reason": "caf\udce9"})),
    _fault("long-reason", _line({**ROW, "status": "failed", "reason": "x" * 10**6})),
    _fault("unknown-status", _line({**ROW, "status": "splendid"})),
    _fault("unknown-preset", _line({**ROW, "cell": {**ROW["cell"], "preset": "splendid"}})),
    _fault("other-key", _line({**ROW, "key": "0" * 64})),
    _fault("more-fields", _line({**ROW, "more": 1, "cell": {**ROW["cell"], "more": 1}})),
    _fault("byte-order-mark", b"\xef\xbb\xbf" + _line(ROW).encode()),
    _fault("utf-16", _line(ROW).encode("utf-16")),
    _fault("null-bytes", b"\0" * 5000),
)
