"""What a table's TOML says once, in full: rows shared between tables, and columns made from lists.

``rows = ["vae", "multimodal", {row = "mice", reference = true}]`` names rows and groups of ``rows.toml`` and may change
a row's keys. A column with ``each`` stands for several: each of its lists holds parts of a column, and there is one
column for every choice of one part per list, the last list varying fastest. Tables of keys are joined, so that a part
can say more of ``published``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from bench.errors import BenchError, closest
from bench.experiment.toml_lines import Location, TomlText

#: File of the rows that the tables beside it share.
SHARED_ROWS = "rows.toml"
#: A column with ``each`` stands for at most so many.
MOST_COLUMNS = 1000
#: Keys of earlier versions, which are still read, and their present names.
_OLD_KEYS: Mapping[Location, str] = {
    ("blocks",): "sections",
    ("format", "stub"): "row_heading",
    ("format", "block_stub"): "section_heading",
}

Fields = dict[str, Any]
#: A text, and a location in it.
Place = tuple[TomlText, Location]


@dataclass
class FullSpec:
    """A spec with nothing left unsaid, and for its parts that were written elsewhere, where that was."""

    text: TomlText
    value: Fields
    origins: dict[Location, Place] = field(default_factory=dict)

    def place(self, location: Location) -> str:
        """Return file and line of what became the key at ``location``."""
        text, written = self._origin(location)
        return f"{text.name}:{text.line(written)}"

    def order(self, location: Location) -> tuple[bool, int]:
        """Return the order of places in which problems are told: those of the spec's own file by line, then others."""
        text, written = self._origin(location)
        return text is not self.text, text.line(written)

    def _origin(self, location: Location) -> Place:
        for length in range(len(location), 0, -1):
            if location[:length] in self.origins:
                text, start = self.origins[location[:length]]
                return text, (*start, *location[length:])
        return self.text, location


def in_full(text: TomlText, folder: Path) -> FullSpec:
    """Return a spec with shared rows and listed columns written out; ``folder`` holds the file of shared rows.

    What is no spec at all is left to be found by whoever checks the result. Raises BenchError, with file and line, on
    unknown rows, on lists that cannot be followed, and on an old key beside the new one.
    """
    spec = FullSpec(text, dict(text.value))
    _rename_old_keys(spec)
    for name, expand in (("rows", _rows), ("columns", _columns)):
        items = spec.value.get(name)
        if not isinstance(items, list):
            continue
        parts: list[Any] = []
        for index, item in enumerate(items):
            for part, places in expand(item, (text, (name, index)), folder):
                spec.origins |= {(name, len(parts), *key): place for key, place in places.items()}
                parts.append(part)
        spec.value[name] = parts
    return spec


def _rename_old_keys(spec: FullSpec) -> None:
    """Give keys of earlier versions their present names."""
    for old, name in _OLD_KEYS.items():
        outer = spec.value if len(old) == 1 else spec.value.get(str(old[0]))
        if not isinstance(outer, dict) or old[-1] not in outer:
            continue
        if name in outer:
            raise BenchError(f"{spec.place(old)}: '{old[-1]}' is the old name of '{name}', which is given as well")
        renamed = {name if key == old[-1] else key: value for key, value in outer.items()}
        if len(old) == 1:
            spec.value = renamed
        else:
            spec.value[str(old[0])] = renamed
        spec.origins[(*old[:-1], name)] = (spec.text, old)


#: A row or column in full, and the place of it and of each of its keys.
Expanded = tuple[Any, dict[Location, Place]]


def _rows(item: Any, place: Place, folder: Path) -> Iterator[Expanded]:
    """Yield the rows that an item of ``rows`` stands for."""
    if isinstance(item, str):
        yield from SharedRows.of(folder, place).named(item, place)
    elif isinstance(item, dict) and "row" in item:
        own = {key: value for key, value in item.items() if key != "row"}
        found = SharedRows.of(folder, place).named(str(item["row"]), place)
        if len(found) > 1:
            raise BenchError(f"{_at(place)}: 'row' names one row, and '{item['row']}' is a group of {len(found)}")
        yield joined([found[0], (own, _key_places(own, place))])
    else:
        yield item, {(): place}


def _columns(item: Any, place: Place, folder: Path) -> Iterator[Expanded]:
    """Yield the columns that an item of ``columns`` stands for."""
    if not (isinstance(item, dict) and "each" in item):
        yield item, {(): place}
        return
    text, location = place
    lists = item["each"]
    single = isinstance(lists, list) and bool(lists) and all(isinstance(part, dict) for part in lists)
    axes = [lists] if single else lists
    if not (isinstance(axes, list) and axes and all(_is_axis(axis) for axis in axes)):
        raise BenchError(f"{_at((text, (*location, 'each')))}: 'each' is a list of lists of columns' keys, none empty")
    own = {key: value for key, value in item.items() if key != "each"}
    parts: list[list[Expanded]] = []
    for number, axis in enumerate(axes):
        start = (*location, "each") if single else (*location, "each", number)
        parts.append([(part, _key_places(part, (text, (*start, index)))) for index, part in enumerate(axis)])
    if math.prod(map(len, parts)) > MOST_COLUMNS:
        raise BenchError(f"{_at((text, (*location, 'each')))}: 'each' stands for more than {MOST_COLUMNS} columns")
    for chosen in product(*parts):
        yield joined([(own, {(): place, **_key_places(own, place)}), *chosen])


def _is_axis(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)


def joined(parts: list[Expanded]) -> Expanded:
    """Return one part from several: what a later one says wins, and tables of keys are joined."""
    value: Fields = {}
    places: dict[Location, Place] = {}
    for part, own in parts:
        for key, said in part.items():
            both = isinstance(said, dict) and isinstance(value.get(key), dict)
            value[key] = {**value[key], **said} if both else said
            if not both:
                places = {known: place for known, place in places.items() if known[:1] != (key,)}
        places |= own
    return value, places


def _key_places(fields: Fields, place: Place) -> dict[Location, Place]:
    """Return where the keys of a part stand, and those of tables in it."""
    text, location = place
    found: dict[Location, Place] = {}
    for key, value in fields.items():
        found[key,] = (text, (*location, key))
        if isinstance(value, dict):
            found |= {(key, inner): (text, (*location, key, inner)) for inner in value}
    return found


def _at(place: Place) -> str:
    text, location = place
    return f"{text.name}:{text.line(location)}"


@dataclass(frozen=True)
class SharedRows:
    """The file of shared rows: its table ``rows`` holds rows by name, its table ``groups`` lists of their names."""

    text: TomlText

    @classmethod
    def of(cls, folder: Path, asked_by: Place) -> SharedRows:
        """Read the file of a folder; raises BenchError if it is not there, cannot be read or holds something else."""
        path = folder / SHARED_ROWS
        try:
            shared = cls(TomlText.of_file(path))
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(f"{_at(asked_by)}: rows are named, but {path} cannot be read: {error}") from None
        for key, value in shared.text.value.items():
            if key not in ("rows", "groups"):
                raise BenchError(
                    f"{_at((shared.text, (key,)))}: unknown key '{key}'.{closest(key, ('rows', 'groups'))}"
                )
            for name, inner in value.items() if isinstance(value, dict) else [("", None)]:
                if not isinstance(inner, dict if key == "rows" else list):
                    what = "rows by name" if key == "rows" else "lists of names of rows"
                    raise BenchError(f"{_at((shared.text, (key, name)))}: '{key}' holds {what}")
        return shared

    def named(self, name: str, asked_by: Place) -> list[Expanded]:
        """Return the row or the rows of the group of this name; raises BenchError if there is neither."""
        rows, groups = self.text.value.get("rows", {}), self.text.value.get("groups", {})
        if name in groups:
            members = enumerate(groups[name])
            return [self._row(str(row), (self.text, ("groups", name, index))) for index, row in members]
        if name in rows:
            return [self._row(name, asked_by)]
        raise BenchError(
            f"{_at(asked_by)}: no row or group '{name}' in {self.text.name}.{closest(name, (*rows, *groups))}"
        )

    def _row(self, name: str, asked_by: Place) -> Expanded:
        rows = self.text.value.get("rows", {})
        if name not in rows:
            raise BenchError(f"{_at(asked_by)}: no row '{name}' in {self.text.name}.{closest(name, rows)}")
        return rows[name], {(): (self.text, ("rows", name))}
