"""Faults, and what has to come of each: one line and exit code 2, or a failed row with its reason, and nothing lost.

A ``Fault`` is a command line with the files it meets. ``inject`` runs it in this process and returns what is wrong with
the outcome; ``Tally`` counts. Whoever adds a kind of fault adds a module with a tuple ``FAULTS`` to ``KINDS`` in
``test_faults.py``; a fault that needs another process, such as a kill, brings its own ``inject`` and uses ``Tally``.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cli.app import BAD_INPUT, BUG, main
from bench.cli.options import OPTIONS

#: In this process if there is a way to ask for it: a new process per fault would take minutes.
WORKERS = str(OPTIONS["workers"].declared.min)

#: A row of another data set, which nothing may touch.
BYSTANDER = b'{"cell":{"dataset":"kept"},"key":"kept","status":"ok"}\n'

LONGEST_LINE = 5000


@dataclass(frozen=True)
class Fault:
    """A command line, the files that are there before, and what may come of it.

    ``prepare`` does in the folder what files cannot, such as a dangling link. ``rows`` are the statuses of the rows
    stored afterwards, ``warned`` says that each of them carries a warning.
    """

    name: str
    words: tuple[str, ...]
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    codes: tuple[int, ...] = (BAD_INPUT,)
    says: str = ""
    rows: tuple[str, ...] | None = None
    warned: bool = False
    prepare: Callable[[Path], object] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """What a command did: its exit code (None if an exception escaped), and all that it printed."""

    code: int | None
    out: str
    err: str
    escaped: str = ""


@dataclass
class Tally:
    """Counts over all faults, by kind, and over what came of them."""

    injected: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    changed: int = 0
    harmed: int = 0
    tracebacks: int = 0
    others: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, problems: Sequence[str], number: int = 1) -> None:
        """Count faults of a kind, and each problem by the word that it begins with."""
        self.injected.update([kind] * number)
        for problem in problems:
            word = problem.partition(":")[0]
            name = {"lost": "lost", "changed": "changed", "harmed": "harmed", "traceback": "tracebacks"}
            setattr(self, name.get(word, "others"), getattr(self, name.get(word, "others")) + 1)

    def __str__(self) -> str:
        kinds = ", ".join(f"{number} {kind}" for kind, number in self.injected.items())
        total = (
            f"faults injected {self.injected.total()} ({kinds}), rows lost {self.lost}, rows changed {self.changed}, "
            f"neighbours harmed {self.harmed}, tracebacks {self.tracebacks}, other problems {self.others}"
        )
        return "\n".join([*self.notes, total])


def inject(fault: Fault, folder: Path) -> tuple[Outcome, list[str]]:
    """Run a fault in an empty folder and return what came of it and what is wrong with that."""
    for name, content in {"store/kept/kept.jsonl": BYSTANDER, **fault.files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))
    if fault.prepare is not None:
        fault.prepare(folder)
    before = _files(folder)
    outcome = call(fault.words, folder, fault.environment)
    return outcome, list(_problems(fault, outcome, before, _files(folder), folder))


def call(words: tuple[str, ...], folder: Path, environment: Mapping[str, str] | None = None) -> Outcome:
    """Run the command line in this process, in a folder."""
    with _in(folder, environment or {}), _streams() as (out, err):
        sys.argv = ["vsae-bench", *words]
        code: int | None = None
        escaped = ""
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        except BaseException as error:
            escaped = f"{type(error).__name__} escaped"
    texts = [stream.buffer.getvalue().decode("utf-8", "replace") for stream in (out, err)]
    return Outcome(code, texts[0], texts[1], escaped)


@contextmanager
def _in(folder: Path, environment: Mapping[str, str]) -> Any:
    words, here, kept = sys.argv, Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.update({"VSAE_BENCH_CACHE": str(folder / "cache"), "COLUMNS": "200", "TERM": "dumb", **environment})
    os.environ.pop("VSAE_BENCH_MIRROR", None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(kept)
        sys.argv = words


@contextmanager
def _streams() -> Any:
    kept = sys.stdout, sys.stderr
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in kept]
    streams[1].reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = streams
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = kept


def _files(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder but for caches and locks, which may come and go."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != ".lock" and path.relative_to(folder).parts[0] != "cache":
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def _problems(fault: Fault, outcome: Outcome, before: dict[str, bytes], after: dict[str, bytes], folder: Path) -> Any:
    """Yield what is wrong with an outcome."""
    printed = outcome.out + outcome.err
    if outcome.escaped or outcome.code == BUG or "Traceback (most recent call last)" in printed:
        yield f"traceback: {outcome.escaped or outcome.err[-300:] or 'in the output'}"
        return
    if outcome.code not in fault.codes:
        yield f"exit code {outcome.code} is not among {fault.codes}: {printed[-300:]}"
    if outcome.code == BAD_INPUT:
        lines = outcome.err.splitlines()
        if len(lines) != 1 or not lines[0].startswith("vsae-bench: ") or len(lines[0]) > LONGEST_LINE:
            yield f"not one line but {len(lines)}: {outcome.err[:300]!r}"
        if before != after:
            yield f"changed: refused, but changed {sorted(set(before.items()) ^ set(after.items()))[:1]}"
    if any(not character.isprintable() for character in printed if character != "\n"):
        yield "obeyed: characters that do not print were printed"
    for name, content in before.items():
        if not after.get(name, b"").startswith(content):
            yield f"{'changed' if name in after else 'lost'}: {name}"
    if fault.says and not re.search(fault.says, printed):
        yield f"does not say {fault.says!r}: {printed[-300:]}"
    if fault.rows is not None:
        yield from _row_problems(fault, folder)


def _row_problems(fault: Fault, folder: Path) -> Any:
    """Yield what is wrong with the rows that a run stored."""
    lines = [line for path in (folder / "store").glob("*/*.jsonl") for line in path.read_bytes().splitlines()]
    rows = [row for row in map(json.loads, lines) if row["key"] != "kept"]
    statuses = tuple(sorted(row["status"] for row in rows))
    if statuses != tuple(sorted(fault.rows or ())):
        yield f"rows are {statuses}: {[row.get('reason') for row in rows]}"
    for row in rows:
        if row["status"] == "failed" and not (row["reason"] or "").strip():
            yield "a failed row without a reason"
        if fault.warned and not row["warnings"]:
            yield f"no warning in the row of {row['cell']['method']}"
