"""The hash of a plug-in's code: the same if only words change, another if anything else does."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from bench.plugins.code import code_hash
from bench.plugins.registry import Registry
from tests.toys import method_source, write_plugins

CODE = '''
"""A file."""
import numpy as np

LEVEL = 1.5


class Mine:
    """Fills."""

    def fill(self, x: float, *more, y=2) -> str:
        """Say it."""
        # As it was.
        return f"{x:.2f}" + "a" * y

    async def go(self):
        """Nothing else."""
'''

#: Changes of words and places alone.
SAME = {
    "comments": ("# As it was.", "# As it is, or may be."),
    "blank lines": ("LEVEL = 1.5", "\n\nLEVEL = 1.5\n"),
    "docstrings": ("Fills.", "Fills with text, in many words."),
    "a module docstring": ('"""A file."""', ""),
    "brackets": ("LEVEL = 1.5", "LEVEL = (1.5)"),
    "quotes": ('"a" * y', "'a' * y"),
}
OTHER = {
    "a constant": ("LEVEL = 1.5", "LEVEL = 1.6"),
    "its type": ("y=2", "y=2.0"),
    "a name": ("LEVEL", "LEVELS"),
    "a text": ('"a"', '"b"'),
    "an operator": ('" + "a"', '" - "a"'),
    "a base": ("class Mine:", "class Mine(dict):"),
    "text that is no docstring": ("return f", "x = 'Say it.'; return f"),
}


@pytest.mark.parametrize("change", SAME)
def test_words_do_not_count(change: str) -> None:
    old, new = SAME[change]
    changed = CODE.replace(old, new)
    assert changed != CODE and code_hash(changed.encode()) == code_hash(CODE.encode())


@pytest.mark.parametrize("change", OTHER)
def test_everything_else_does(change: str) -> None:
    old, new = OTHER[change]
    changed = CODE.replace(old, new)
    ast.parse(changed)
    assert changed != CODE and code_hash(changed.encode()) != code_hash(CODE.encode())


def test_the_hash_is_the_same_under_every_version_of_python() -> None:
    assert code_hash(CODE.encode()) == "c9eefecddbf6e464b36e36be75a784cce721ca4d1d6107ce69361b0ccf5f907c"


@pytest.mark.parametrize("source", [b"def", b"\xff\xfe", b"x\0", b"(" * 5000, b"-" * 5000 + b"1"])
def test_what_cannot_be_read_is_hashed_as_it_is(source: bytes) -> None:
    assert len(code_hash(source)) == 64 and code_hash(source) == code_hash(source) != code_hash(source + b" ")


def test_the_suites_own_plugins_go_by_version(tmp_path: Path) -> None:
    write_plugins(tmp_path, mine=method_source("mine"))
    registry = Registry.scan([tmp_path])
    assert set(registry.code) == {("method", "mine")}
    info = registry.method("mine")
    assert info.code_hash == code_hash(info.path.read_bytes()) and registry.method("vae").code_hash == ""
    info.path.write_text(method_source("mine", impute="return 1"))
    # An entry is of the file as it was listed.
    assert registry.code == {} or registry.code == {("method", "mine"): info.code_hash}
    assert Registry.scan([tmp_path]).code != {("method", "mine"): info.code_hash}
