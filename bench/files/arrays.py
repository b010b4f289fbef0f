"""Parsed tables with images or features, kept as plain arrays and mapped into memory when they are read back.

A mapped array is read from the disk page by page, as it is used, and its pages are shared by all processes that map it.
It is mapped copy-on-write: PyTorch wraps it without copying, and nothing is ever written back to the file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.schema import AnyArray, Attribute, Schema
from bench.data.table import Table

NOTE = "table.json"


def write(folder: Path, key: str, table: Table, note: Mapping[str, Any]) -> None:
    """Keep a table and a note (JSON values) under ``key`` in ``folder``, in place of what was kept there before.

    Raises OSError if that cannot be written.
    """
    whole: dict[str, AnyArray] = {"scalars": table.scalars, "present": table.present}
    if table.test is not None:
        whole["test"] = table.test
    if table.strata is not None:
        whole["strata"] = table.strata
    files = {name: f"block-{number}" for number, name in enumerate(table.blocks)}
    described = {
        "key": key,
        "note": dict(note),
        "content_hash": table.content_hash,
        "attributes": [[a.name, a.kind, list(a.levels), list(a.shape)] for a in table.schema.attributes],
        "split_sizes": table.split_sizes,
        "assumed": list(table.assumed),
        "left_out": list(table.left_out),
        "whole": list(whole),
        "blocks": files,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".arrays-", dir=folder) as scratch:
        arriving = Path(scratch, "arrays")
        arriving.mkdir()
        for name, array in whole.items():
            np.save(arriving / f"{name}.npy", array, allow_pickle=False)
        for name, array in table.blocks.items():
            np.save(arriving / f"{files[name]}.npy", array, allow_pickle=False)
        (arriving / NOTE).write_text(json.dumps(described), encoding="utf-8")
        if read(folder, key) is not None:
            return  # another process was faster
        for outdated in folder.glob("arrays-*"):
            shutil.rmtree(outdated, ignore_errors=True)
        arriving.rename(_place(folder, key))


def read(folder: Path, key: str) -> tuple[Table, dict[str, Any]] | None:
    """Return the table kept under ``key`` and its note, or None if there is none that is whole."""
    place = _place(folder, key)
    try:
        described = json.loads((place / NOTE).read_text(encoding="utf-8"))
        if described["key"] != key:
            return None
        whole = {name: np.load(place / f"{name}.npy", allow_pickle=False) for name in described["whole"]}
        sizes = described["split_sizes"]
        attributes = [Attribute(n, k, tuple(levels), tuple(shape)) for n, k, levels, shape in described["attributes"]]
        table = Table(
            Schema(tuple(attributes)),
            whole["scalars"],
            {name: _mapped(place / f"{file}.npy") for name, file in described["blocks"].items()},
            whole["present"],
            whole.get("test"),
            None if sizes is None else (sizes[0], sizes[1], sizes[2]),
            whole.get("strata"),
            tuple(described["assumed"]),
            tuple(described["left_out"]),
        )
        # Known since the table was written: hashing all images again would take longer than loading them.
        vars(table)["content_hash"] = str(described["content_hash"])
        return table, described["note"]
    except (OSError, ValueError, LookupError, TypeError, EOFError):
        return None


def _place(folder: Path, key: str) -> Path:
    """Return the folder of the arrays kept under a key."""
    return folder / f"arrays-{key[:16]}"


def _mapped(path: Path) -> AnyArray:
    """Return an array mapped from its file, as a plain array."""
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
