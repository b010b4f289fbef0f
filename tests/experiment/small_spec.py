"""A small table spec to change, and what a bad one says."""

from __future__ import annotations

import pytest

from bench.errors import BenchError
from bench.experiment.reader import parse_spec

SMALL = """\
id = "small"
title = "Small."
label = "tab:small"

[defaults]
mechanism = "mcar"
ratio = 0.5
metric = "pfc"
parameters = { trees = 3, depth = 2 }

[[sections]]
label = "A"
dataset = "a"

[[sections]]
label = "B"
dataset = "b"
ratio = 0.4

[[rows]]
label = "one"
method = "m"
parameters = { trees = 4 }

[[rows]]
label = "floor"
method = "f"
floor = true

[[columns]]
group = "G"
label = "x"

[[columns]]
group = "G"
label = "y"
ratio = 0.3
attribute = "label"
include_target = true
digits = 1
"""


def error_of(text: str) -> str:
    """Return the one line that a bad spec ends with."""
    with pytest.raises(BenchError) as caught:
        parse_spec(text, "t.toml")
    message = str(caught.value)
    assert "\n" not in message
    return message


def line_of(text: str, part: str) -> int:
    """Return the line that the first occurrence of some text begins on."""
    return text[: text.index(part)].count("\n") + 1
