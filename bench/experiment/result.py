"""A result: what came of a cell, as it is stored; its one reader and one writer of JSON.

A stored row ends with a digest of its content, and its key is one of its cell: they tell accidents and edits by hand.
They prove no authorship: whoever edits a row can compute both again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from bench.errors import BenchError
from bench.experiment.cell import Cell
from bench.experiment.row_types import require_types
from bench.seeds import canonical_json, digest

Status = Literal["ok", "failed", "skipped"]

#: What made a cell fail: the method or the data as they are, or something that may be otherwise next time.
Cause = Literal["method", "environment"]

#: How often a cell that the environment failed is tried, the first time included.
MOST_ATTEMPTS = 3


@dataclass(frozen=True)
class Result:
    """What came of a cell: its status and scores, and what it was computed with.

    ``metrics`` maps a scope (``all``, ``something_observed``, ...) to metrics, ``attributes`` an attribute to its own,
    ``counts`` says how many entries were scored, ``draws`` how good draws are (``bench.problem.draw_scores``; empty for
    a method that draws none). ``ratios`` are the shares that the mask hides: of ``all`` present entries, of those of
    ``maskable`` attributes, and of ``rows`` with a hidden entry. ``seconds``, ``processor_seconds`` and
    ``peak_memory_mib`` are those of the whole job, whose cells' keys are ``stack``. ``plugin_sources`` are the hashes
    of the code of plug-ins that are not the suite's own, by category (those go by ``version``). ``traceback`` is None
    unless the job failed. ``cause`` and ``attempts`` are those of a failure; a cause of None, in rows that do not say,
    is the method. ``verified`` is False if the row was read without a digest, since an older version stored it.
    """

    cell: Cell
    key: str
    status: Status
    reason: str | None = None
    variant: str = "full"
    source: str = ""
    missing_ratio: float | None = None
    mask_hash: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    draws: Mapping[str, Any] = field(default_factory=dict)
    ratios: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    processor_seconds: float | None = None
    peak_memory_mib: float | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    stack: tuple[str, ...] = ()
    plugin_sources: Mapping[str, str] = field(default_factory=dict)
    traceback: str | None = None
    cause: Cause | None = None
    attempts: int = 1
    verified: bool = field(default=True, compare=False, repr=False)

    @property
    def may_be_retried(self) -> bool:
        """Whether the environment failed the cell, and not yet as often as it is tried."""
        return self.status == "failed" and self.cause == "environment" and self.attempts < MOST_ATTEMPTS

    def is_stale(self, sources: Mapping[str, str]) -> bool:
        """Return whether plug-ins have other code now, by category; a result that does not say is not stale."""
        return any(self.plugin_sources.get(part, code) != code for part, code in sources.items())

    def as_json(self) -> dict[str, Any]:
        """Return the content as plain JSON values, without a digest; what there is not goes without saying."""
        value: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS}
        value |= {"cell": self.cell.as_json(), "warnings": list(self.warnings), "stack": list(self.stack)}
        if self.traceback is None:
            del value["traceback"]
        if self.cause is None:
            del value["cause"], value["attempts"]
        for name in ("plugin_sources", "draws", "ratios"):
            if not value[name]:
                del value[name]
        if self.processor_seconds is None:
            del value["processor_seconds"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Result:
        """Read a row, of this version or an older one; its digest is not looked at.

        Raises BenchError if a field is missing or of another type, a number is not finite, or the key is not that of
        the cell.
        """
        _check(value)
        return cls._of(value)

    @classmethod
    def _of(cls, value: Mapping[str, Any], verified: bool = True) -> Result:
        """Return the result of a row that was checked."""
        try:
            known = {name: value[name] for name in _FIELDS & value.keys()}
            known["cell"] = Cell.from_json(value["cell"])
            known["warnings"] = tuple(value.get("warnings", ()))
            known["stack"] = tuple(value.get("stack", ()))
            return cls(**known, verified=verified)
        except TypeError as error:
            raise BenchError(f"a stored row cannot be read: {error}") from None

    def as_line(self) -> bytes:
        """Return the row as it is stored: canonical JSON with the digest behind it. Raises ValueError on NaN."""
        content = canonical_json(self.as_json())
        return f'{content[:-1]},"digest":"{_sha256(content.encode())}"}}\n'.encode()

    @classmethod
    def from_line(cls, line: bytes, row: Mapping[str, Any] | None = None) -> Result:
        """Read a stored row from its line, which may be parsed already; raises BenchError if the row was edited."""
        value = parsed_line(line) if row is None else row
        return cls._of(value, check_line(line, value))


@dataclass(frozen=True)
class Standing:
    """What of a stored row says whether its cell has to be computed: this is read faster than all of it."""

    key: str
    status: Status
    plugin_sources: Mapping[str, str]

    @classmethod
    def from_line(cls, line: bytes, row: Mapping[str, Any]) -> Standing:
        """Read a stored row in the same way as ``Result.from_line``."""
        check_line(line, row)
        return cls(row["key"], row["status"], row.get("plugin_sources", {}))


def is_stale(result: Result | Standing, sources: Mapping[str, str]) -> bool:
    """Return whether a result is of other code than plug-ins have now, by category; one that does not say is not."""
    return any(result.plugin_sources.get(part, code) != code for part, code in sources.items())


def check_line(line: bytes, row: Mapping[str, Any]) -> bool:
    """Return whether a row has a digest; raises BenchError if its line was edited or holds no result."""
    said = row.get("digest")
    if said is None:
        _require_plain(line, row)
    elif said != _digest_of_bytes(line) and said != _digest_of_content(row):
        raise BenchError("its content does not fit its digest")
    _check(row, line)
    return said is not None


def _check(row: Mapping[str, Any], line: bytes = b"") -> None:
    """Raise BenchError on a row that is no result; its key is checked faster with its line."""
    try:
        require_types(row)
        if row["key"] != _key_of_bytes(line):
            _require_key(row)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BenchError(f"a stored row cannot be read: {error}") from None


def parsed_line(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds; raises BenchError if it holds none, or one without key and cell."""
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        raise BenchError("it is no JSON: cut short, or edited") from None
    if not (isinstance(row, dict) and isinstance(row.get("key"), str) and isinstance(row.get("cell"), dict)):
        raise BenchError("it has no key and cell")
    return row


# Digest and key

_DIGEST: Final = b',"digest":"'
_DIGEST_BYTES: Final = len(_DIGEST) + 64 + 2
#: What ``put`` never writes, and JSON readers let through: numbers that are none, halves of letters.
_SUSPECT: Final = (b"NaN", b"Infinity", b"\\ud", b"\\uD")
#: What stands once in a row; JSON readers take the last of several.
_ONCE: Final = (b'"cell":', b'"status":', b'"metrics":', b'"attributes":', b'"key":')


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of_bytes(line: bytes) -> str:
    """Return the digest of a line that is as it was put; of any other, some text that is no digest."""
    line = line.rstrip(b"\n")
    at = len(line) - _DIGEST_BYTES
    return _sha256(line[:at] + b"}") if line[at : at + len(_DIGEST)] == _DIGEST and at > 0 else ""


def _key_of_bytes(line: bytes) -> str:
    """Return the key of the cell in a line that is as it was put; of any other, some text that is no key."""
    at = line.find(b'"cell":{') + len(b'"cell":')
    end = line.find(b'},"counts":', at) + 1
    return _sha256(line[at:end]) if end > 0 else ""


def _digest_of_content(row: Mapping[str, Any]) -> str:
    """Return the digest of a row however its line is written; raises BenchError on NaN and broken text."""
    try:
        return digest({name: value for name, value in row.items() if name != "digest"})
    except (ValueError, RecursionError) as error:
        raise BenchError(f"it cannot be written as JSON: {error}") from None


def _require_plain(line: bytes, row: Mapping[str, Any]) -> None:
    """Raise BenchError on what no row without a digest ever had: NaN, broken text, a name that stands twice."""
    if any(mark in line for mark in _SUSPECT):
        _digest_of_content(row)
    if any(line.count(name) > 1 for name in _ONCE):
        json.loads(line, object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise BenchError("a name stands in it twice")
    return found


def _require_key(row: Mapping[str, Any]) -> None:
    """Raise ValueError unless the key is that of the cell, in the form of this version or of an older one."""
    cell, key = row["cell"], row["key"]
    if digest(cell) == key:
        return
    # Read from a row older than these fields, and written again.
    older = {name: value for name, value in cell.items() if (name, value) != ("mechanism_overrides", None)}
    bare = {name: value for name, value in older.items() if (name, value) != ("overrides", {})}
    if key not in (digest(older), digest(bare)):
        raise ValueError("its key is not that of its cell")


_FIELDS = frozenset(field.name for field in fields(Result)) - {"verified"}
