"""The cache folder, and the note of a content hash that holds until anything it depends on changes."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from bench.files.cache import READING_CODE, cache_folder
from bench.files.fetch import content_hash_of, load_table
from bench.paths import PACKAGE, plugin_folder
from tests.sources import ROWS, WRONG

PLUGIN = """
from bench.api import Dataset
from bench.data.source import File, Source
from bench.files.text import read_rows, typed_frame

LOADS = []

class Noted(Dataset):
    name = "noted"
    kinds = ("numeric", "categorical")
    target = "answer"
    files = (File("toy.csv", (Source("mirror", "toy.csv"),)),)

    def load(self, files):
        LOADS.append(1)
        return typed_frame(read_rows(files["toy.csv"].path),
                           {"size": None, "colour": ("blue", "green", "red"), "answer": ("no", "yes")})
"""


def test_content_hash_is_noted_until_data_or_plugin_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path))
    plugin, data = tmp_path / "noted.py", tmp_path / "toy.csv"
    data.write_bytes(ROWS)

    def hash_and_loads(text: str, include_target: bool = False) -> tuple[str, int]:
        """Return the content hash and how many loads it took, in a module loaded afresh."""
        plugin.write_text(text)
        spec = importlib.util.spec_from_file_location("noted_plugin", plugin)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "noted_plugin", module)
        spec.loader.exec_module(module)
        found = content_hash_of(module.Noted(), include_target)
        assert found == load_table(module.Noted(), include_target).table.content_hash
        return found, len(module.LOADS) - 1

    first, loads = hash_and_loads(PLUGIN)
    assert loads == 1
    assert hash_and_loads(PLUGIN) == (first, 0)
    with_target, loads = hash_and_loads(PLUGIN, include_target=True)
    assert loads == 1
    assert with_target != first
    assert hash_and_loads(PLUGIN) == (first, 0)
    changed, loads = hash_and_loads(PLUGIN.replace("size", "width"))
    assert (changed != first, loads) == (True, 1)
    data.write_bytes(WRONG)
    assert hash_and_loads(PLUGIN)[1] == 1
    (cache / "noted" / "content.json").write_text("{")
    assert hash_and_loads(PLUGIN)[1] == 1
    assert json.loads((cache / "noted" / "content.json").read_text())["variant"] == "full"


def test_cache_folder_is_the_platforms_unless_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("VSAE_BENCH_CACHE")
    assert "vsae-bench" in str(cache_folder())


def test_the_code_that_a_kept_table_depends_on_is_there_and_complete() -> None:
    """Every module named exists, and so is every one that the suite's data sets read with, and what those import."""
    assert all((PACKAGE / name).is_file() for name in READING_CODE)
    assert len(set(READING_CODE)) == len(READING_CODE)

    def modules_of(path: Path) -> set[str]:
        """Return the modules of ``bench.files`` that a file imports, below the package."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        return {f"{name.removeprefix('bench.').replace('.', '/')}.py" for name in found if "bench.files." in name}

    used = {name for path in plugin_folder("datasets").glob("*.py") for name in modules_of(path)} | {"files/fetch.py"}
    used |= modules_of(PACKAGE / "api.py")
    for _ in range(5):
        used |= {name for module in used for name in modules_of(PACKAGE / module)}
    # How a file arrives and what is said of it change nothing that it holds.
    assert used - {"files/download.py", "files/advice.py"} <= set(READING_CODE)
