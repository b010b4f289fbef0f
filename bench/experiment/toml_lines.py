"""TOML text and the line numbers of its keys, which Python's parser does not keep."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench.errors import BenchError

#: Where a key stands, from the outside in: ``("columns", 2, "ratio")``.
Location = tuple[str | int, ...]

#: What may stand in a value: texts (long ones first), comments, brackets, commas, and everything else.
_TOKEN = re.compile(
    r'"""(?:\\.|.)*?"""+|'
    + r"'''.*?'''+|"
    + r'"(?:\\.|[^"\\\n])*"|'
    + r"'[^'\n]*'|#[^\n]*|[\[\]{},]|[^\s\[\]{},#\"']+",
    re.DOTALL,
)
_KEY = re.compile(r"""(?:"(?:\\.|[^"\\\n])*"|'[^'\n]*'|[A-Za-z0-9_.\-]|[ \t])+=""")


@dataclass(frozen=True)
class TomlText:
    """TOML text, and the name of its file as errors say it."""

    name: str
    text: str

    @cached_property
    def value(self) -> dict[str, Any]:
        """What the text says; raises BenchError with the line that cannot be read."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise BenchError(self._syntax_error(str(error))) from None

    def line(self, location: Location) -> int:
        """Return the line of a key, or of the nearest part around it that has one."""
        for length in range(len(location), 0, -1):
            for place in (location[:length], (*location[:length], 0)):
                if place in self._lines:
                    return self._lines[place]
        return 1

    @cached_property
    def _lines(self) -> dict[Location, int]:
        return key_lines(self.text)

    def _syntax_error(self, message: str) -> str:
        """Return one line on broken TOML, with the line number that the parser names."""
        found = re.search(r"\(at line (\d+), column (\d+)\)", message)
        line = int(found[1]) if found else max(1, len(self.text.splitlines()))
        return f"{self.name}:{line}: not valid TOML: {re.sub(r' *[(]at [^)]*[)]', '', message)}"


def key_lines(text: str) -> dict[Location, int]:
    """Return the line number (from 1) of every header, key and list item of valid TOML text, by its location.

    The third ``[[columns]]`` is at ``("columns", 2)`` and its ratio at ``("columns", 2, "ratio")``. The items of a list
    have the lines they start on; the keys of an inline table have the line of the table.
    """
    found: dict[Location, int] = {}
    counts: dict[Location, int] = {}
    prefix: Location = ()
    for start, statement in _statements(text):
        parsed = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            names = _header_names(parsed)
            prefix = ()
            for depth, part in enumerate(names):
                prefix = (*prefix, part)
                if depth == len(names) - 1 and statement.lstrip().startswith("[["):
                    counts[prefix] = counts.get(prefix, -1) + 1
                if prefix in counts:
                    prefix = (*prefix, counts[prefix])
            found.setdefault(prefix, start)
        else:
            items = _item_lines(statement, _header_names(parsed), start)
            for place in _places(parsed):
                known = (items[place[:length]] for length in range(len(place), 0, -1) if place[:length] in items)
                found.setdefault((*prefix, *place), next(known, start))
    return found


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement of valid TOML text with the line it starts on; it ends at the first line that parses."""
    lines = text.replace("\r\n", "\n").split("\n")
    start = 0
    while start < len(lines):
        for end in range(start + 1, len(lines) + 1):
            statement = "\n".join(lines[start:end])
            try:
                parsed = tomllib.loads(statement)
            except tomllib.TOMLDecodeError:
                continue
            if parsed:
                yield start + 1, statement
            break
        else:
            return
        start = end


def _header_names(parsed: Mapping[str, Any]) -> Location:
    """Return the names in a parsed header or before an equals sign: ``[a.b]`` gives ``("a", "b")``."""
    names: list[str] = []
    here: Any = parsed
    while isinstance(here, dict) and len(here) == 1:
        names.append(next(iter(here)))
        here = here[names[-1]]
        if isinstance(here, list) and len(here) == 1 and here[0] == {}:
            break
    return tuple(names)


def _item_lines(statement: str, names: Location, start: int) -> dict[Location, int]:
    """Return the lines of the items of a list, and of lists in it, in the statement ``key = [...]`` of that line."""
    key = _KEY.match(statement, len(statement) - len(statement.lstrip()))
    if key is None or not statement[key.end() :].lstrip().startswith("["):
        return {}
    breaks = [match.start() for match in re.finditer("\n", statement)]
    found: dict[Location, int] = {}
    # Per open bracket: the location of a list (None inside inline tables) and the number of its items so far.
    stack: list[tuple[Location | None, int]] = []
    item_expected = False
    for token in _TOKEN.finditer(statement, key.end()):
        first = token[0][0]
        if first == "#":
            continue
        place, count = stack[-1] if stack else (None, 0)
        here: Location | None = names if not stack else None
        if item_expected and place is not None and first not in ",]":
            here = (*place, count)
            found[here] = start + bisect_right(breaks, token.start())
            stack[-1] = (place, count + 1)
        if first in "[{":
            stack.append((here if first == "[" else None, 0))
        elif first in "]}":
            stack.pop()
        item_expected = first in "[,"
    return found


def _places(value: object) -> Iterator[Location]:
    """Yield the location of every key and list item inside a parsed value."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (key,)
        for place in _places(inner):
            yield (key, *place)
