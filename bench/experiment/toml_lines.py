"""TOML text and the line numbers of its keys, which Python's parser does not keep."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
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


#: A table spec has no more bytes and no more levels of tables and lists in each other.
MOST_BYTES, MOST_LEVELS = 2**20, 32
#: Characters that are parsed, again and again, to find the lines of keys; beyond, an error names the file alone.
MOST_PARSED = 2**22


@dataclass(frozen=True)
class TomlText:
    """TOML text, and the name of its file as errors say it."""

    name: str
    text: str

    @classmethod
    def of_file(cls, path: Path) -> TomlText:
        """Read a file. Raises OSError, UnicodeDecodeError, or BenchError if it is too large for a table spec."""
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise BenchError(f"{path} has more than {MOST_BYTES} bytes: too large for a table spec")
        return cls(str(path), content.decode("utf-8").replace("\r\n", "\n"))

    @cached_property
    def value(self) -> dict[str, Any]:
        """What the text says; raises BenchError with the line that cannot be read."""
        try:
            value = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise BenchError(self._syntax_error(str(error))) from None
        except ValueError:  # Python refuses whole numbers of thousands of digits
            raise BenchError(f"{self.name}: not valid TOML: a number has too many digits") from None
        except RecursionError:
            raise BenchError(f"{self.name}: nested too deeply to be read") from None
        if _is_deeper(value, MOST_LEVELS):
            raise BenchError(f"{self.name}: nested more than {MOST_LEVELS} levels deep")
        return value

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


def _is_deeper(value: object, levels: int) -> bool:
    """Return whether tables and lists lie in each other more than so many levels deep."""
    level: list[Any] = [value]
    for _ in range(levels):
        inner = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list))
        level = [part for items in inner for part in items]
    return any(isinstance(item, dict | list) for item in level)


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
    start = parsed_so_far = 0
    while start < len(lines):
        for end in range(start + 1, len(lines) + 1):
            statement = "\n".join(lines[start:end])
            parsed_so_far += len(statement)
            if parsed_so_far > MOST_PARSED:
                return
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
