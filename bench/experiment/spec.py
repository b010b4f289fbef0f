"""Table specs: a TOML file that names the rows and columns of a table, and the cells that follow from it.

A cell is the merge of the spec's ``[defaults]``, its block (a group of rows), its row and its column, in that order.
Bad input raises BenchError with the file, the line of the key and what is wrong, in one line.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bench.errors import BenchError, closest
from bench.experiment.presets import PRESETS
from bench.paths import tables_folder

Ratio = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0)]
Digits = Annotated[int, Field(ge=0, le=8)]
Direction = Literal["min", "max"]
Repeat = Literal["all", "initialisation"]
Location = tuple[str | int, ...]


@dataclass(frozen=True)
class PublishedKey:
    """Which published number a cell is compared with; ``ratio`` is None where the paper does not state it."""

    table: int
    method: str
    dataset: str
    attribute: str
    mechanism: str
    ratio: float | None
    metric: str

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f" at {self.ratio:g}"
        where = f"{self.dataset}/{self.attribute}, {self.mechanism}{ratio}, {self.metric}"
        return f"Table {self.table}, {self.method}, {where}"


@dataclass(frozen=True)
class Entry:
    """One cell of a table with everything resolved; ``parameters`` are overrides of the method's parameter set.

    ``attribute`` is ``all``, another scope (``something_observed``, ``nothing_observed``) or an attribute's name.
    ``comparable`` is False where the published number is shown but stands for something else. ``stands_in_for`` names
    the data set whose place a synthetic one takes, if it does: such a cell has no published number.
    """

    block: int
    row: int
    column: int
    dataset: str
    include_target: bool
    mechanism: str
    mechanism_parameters: Mapping[str, Any] = field(hash=False)
    ratio: float
    method: str
    parameters: Mapping[str, Any] = field(hash=False)
    protocol: str
    metric: str
    attribute: str
    published: PublishedKey | None = None
    comparable: bool = True
    stands_in_for: str = ""


class _Model(BaseModel):
    """A part of a spec: no unknown keys, no silent conversions, read-only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PublishedFields(_Model):
    """Where a column's published number is found; keys left out come from the block or the defaults."""

    dataset: str | None = None
    attribute: str | None = None
    mechanism: str | None = None
    ratio: Ratio | None = None
    metric: str | None = None
    comparable: bool | None = None


class CellFields(_Model):
    """What a cell is made of; every part of a spec may say any of it."""

    dataset: str | None = None
    include_target: bool | None = None
    mechanism: str | None = None
    mechanism_parameters: dict[str, JsonValue] | None = None
    ratio: Ratio | None = None
    method: str | None = None
    parameters: dict[str, JsonValue] | None = None
    protocol: Literal["inductive", "transductive"] | None = None
    metric: str | None = None
    attribute: str | None = None


class Defaults(CellFields):
    """Fields that hold for the whole table unless a block, row or column says otherwise."""

    published: PublishedFields | None = None


class Block(CellFields):
    """A group of rows, such as one data set: every row of the table is printed once in each block."""

    label: str = ""
    published: PublishedFields | None = None


class Row(CellFields):
    """A row: usually one method.

    ``published`` is its name in the published numbers, ``reference`` marks a row that is not the paper's, ``floor`` the
    one that the others are judged by (and is a reference too). ``presets`` are the only ones it is run under, unless
    its method is asked for by name; without them it is run under every one.
    """

    label: str
    published: str | None = None
    reference: bool = False
    floor: bool = False
    presets: Annotated[tuple[str, ...] | None, Field(strict=False, min_length=1)] = None

    def runs_under(self, preset: str) -> bool:
        """Return whether the row is among those that a preset runs."""
        return self.presets is None or preset in self.presets


class Column(CellFields):
    """A column: ``group`` is the header it shares with its neighbours, ``label`` its own.

    With ``count_entries`` a note says how many entries were scored.
    """

    label: str
    group: str = ""
    count_entries: bool = False
    digits: Digits | None = None
    best: Direction | None = None
    published: PublishedFields | None = None

    @property
    def name(self) -> str:
        """Group and label as one."""
        return f"{self.group} {self.label}".strip()


class Format(_Model):
    """How numbers are printed.

    A standard deviation below ``delta`` prints as a capital delta; ``stub`` heads the column of row labels; ``wide``
    spans both columns of a two-column paper.
    """

    digits: Digits = 3
    delta: Annotated[float, Field(gt=0.0)] | None = None
    best: Direction = "min"
    stub: str = "Method"
    block_stub: str = ""
    wide: bool = False


class TableSpec(_Model):
    """A table: what is in it and how it looks. ``number`` is its number in the paper, if it has one.

    ``stand_ins`` maps data sets to synthetic ones that are run in their place, are marked and compare with no paper.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    number: int | None = None
    title: str
    caption: str = ""
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]+$")]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)] = (0, 1, 2)
    repeat: Repeat = "all"
    stand_ins: dict[str, str] = {}
    defaults: Defaults = Defaults()
    format: Format = Format()
    blocks: Annotated[tuple[Block, ...], Field(strict=False)] = ()
    rows: Annotated[tuple[Row, ...], Field(strict=False, min_length=1)]
    columns: Annotated[tuple[Column, ...], Field(strict=False, min_length=1)]

    @property
    def row_blocks(self) -> tuple[Block, ...]:
        """The blocks; a table without any has one nameless block."""
        return self.blocks or (Block(),)

    @property
    def floor_row(self) -> int | None:
        """The index of the row that the others are judged by, or None."""
        return next((index for index, row in enumerate(self.rows) if row.floor), None)

    def digits(self, column: int) -> int:
        """Return the number of decimals of a column."""
        own = self.columns[column].digits
        return self.format.digits if own is None else own

    def best(self, column: int) -> Direction:
        """Return whether the lowest or the highest value of a column is the best."""
        return self.columns[column].best or self.format.best

    def entries(self) -> tuple[Entry, ...]:
        """Return every cell, block by block, row by row; raises BenchError where one is not fully said."""
        return tuple(
            self._entry(block, row, column)
            for block in range(len(self.row_blocks))
            for row in range(len(self.rows))
            for column in range(len(self.columns))
        )

    def _entry(self, block: int, row: int, column: int) -> Entry:
        """Merge defaults, block, row and column into one cell."""
        layers = (self.defaults, self.row_blocks[block], self.rows[row], self.columns[column])
        merged = _merge(layers)
        real = merged["dataset"]
        if real in self.stand_ins:
            merged |= {"dataset": self.stand_ins[real], "stands_in_for": real}
        else:
            merged["published"], merged["comparable"] = self._published(block, row, column)
        return Entry(block=block, row=row, column=column, **merged)

    def _published(self, block: int, row: int, column: int) -> tuple[PublishedKey | None, bool]:
        """Return the published number a cell is compared with, if there is one, and whether the two compare."""
        method, own = self.rows[row].published, self.columns[column].published
        if method is None or own is None or self.number is None:
            return None, True
        found: dict[str, Any] = {}
        for layer in (self.defaults.published, self.row_blocks[block].published, own):
            found.update({} if layer is None else layer.model_dump(exclude_none=True))
        comparable = found.pop("comparable", True)
        lacking = {"dataset", "attribute", "mechanism", "metric"} - found.keys()
        if lacking:
            raise _Misplaced(("columns", column, "published"), f"'published' has no '{sorted(lacking)[0]}'")
        return PublishedKey(table=self.number, method=method, **{"ratio": None, **found}), comparable


class _Misplaced(Exception):
    """Something wrong in a spec that is valid key by key, and the place of the key to mend."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.location = location


_BUILT_IN: Mapping[str, Any] = {
    "include_target": False,
    "mechanism_parameters": {},
    "parameters": {},
    "protocol": "inductive",
    "attribute": "all",
}


def _merge(layers: tuple[CellFields, ...]) -> dict[str, Any]:
    """Return the fields of a cell: what a later layer says wins, and tables of parameters are joined."""
    merged: dict[str, Any] = dict(_BUILT_IN)
    for layer in layers:
        for name in CellFields.model_fields:
            value = getattr(layer, name)
            if isinstance(value, dict):
                merged[name] = {**merged[name], **value}
            elif value is not None:
                merged[name] = value
    return merged


def table_ids() -> tuple[str, ...]:
    """Return the ids of the suite's own tables, in order."""
    return tuple(sorted(path.stem for path in tables_folder().glob("*.toml")))


def find_spec(name: str | Path) -> Path:
    """Return the file of a spec from its path or id (``table06``, ``table6``, ``6``, ``mixed``). Raises BenchError."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise BenchError(f"table spec '{path}' does not exist; give the path of a TOML file or one of {_known()}")
        return path
    match = re.fullmatch(r"(?:table)?[ _-]?0*(\d+)", str(name).lower())
    known = table_ids()
    candidates = [f"table{int(match[1]):02d}"] if match else [str(name).lower(), f"table_{str(name).lower()}"]
    for candidate in candidates:
        if candidate in known:
            return tables_folder() / f"{candidate}.toml"
    raise BenchError(f"unknown table '{name}'.{closest(candidates[0], known)} A path of a TOML file works too.")


def _known() -> str:
    """Return the suite's own tables as one text."""
    return ", ".join(table_ids())


def load_spec(path_or_id: str | Path) -> TableSpec:
    """Read and check a table spec; raises BenchError with file and line."""
    path = find_spec(path_or_id)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    return parse_spec(text, str(path))


def parse_spec(text: str, name: str) -> TableSpec:
    """Read and check the TOML text of a table spec; ``name`` stands for the file in errors. Raises BenchError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BenchError(_syntax_error(str(error), text, name)) from None
    try:
        spec = TableSpec.model_validate(document)
        _check_whole(spec)
    except ValidationError as error:
        raise BenchError(_first_problem(error, text, name)) from None
    except _Misplaced as problem:
        raise BenchError(f"{name}:{_line_of(problem.location, text)}: {problem}") from None
    return spec


def _check_whole(spec: TableSpec) -> None:
    """Check what no single key shows: seeds twice, two floors, unknown names, cells without a data set."""
    from bench.problem.metrics import METRICS

    if len(set(spec.seeds)) != len(spec.seeds):
        raise _Misplaced(("seeds",), "'seeds' names a seed twice")
    floors = [index for index, row in enumerate(spec.rows) if row.floor]
    if len(floors) > 1:
        raise _Misplaced(("rows", floors[1], "floor"), "only one row may be the floor")
    for position, own in enumerate(spec.rows):
        for preset in own.presets or ():
            if preset not in PRESETS:
                raise _Misplaced(("rows", position, "presets"), f"unknown preset '{preset}'.{closest(preset, PRESETS)}")
    metrics = {metric.name for metric in METRICS}
    for part, index, layer in _layers(spec):
        if layer.metric is not None and layer.metric not in metrics:
            location = (part, "metric") if index is None else (part, index, "metric")
            raise _Misplaced(location, f"unknown metric '{layer.metric}'.{closest(layer.metric, metrics)}")
    for row in range(len(spec.rows)):
        for column in range(len(spec.columns)):
            _require_complete(spec, row, column)
    spec.entries()


def _layers(spec: TableSpec) -> Iterator[tuple[str, int | None, CellFields]]:
    """Yield every part of a spec that holds cell fields, with its place."""
    yield "defaults", None, spec.defaults
    for part, layers in (("blocks", spec.blocks), ("rows", spec.rows), ("columns", spec.columns)):
        for index, layer in enumerate(layers):
            yield part, index, layer


def _require_complete(spec: TableSpec, row: int, column: int) -> None:
    """Raise unless the cells of a row and column have data set, mechanism, ratio, method and metric in every block."""
    for block in spec.row_blocks:
        merged = _merge((spec.defaults, block, spec.rows[row], spec.columns[column]))
        for name in ("method", "dataset", "mechanism", "ratio", "metric"):
            if name not in merged:
                part, index = ("rows", row) if name == "method" else ("columns", column)
                label = spec.rows[row].label if name == "method" else spec.columns[column].name
                where = f"{part[:-1]} '{label}'"
                message = f"{where} has no '{name}': give it there, in its block or in [defaults]"
                raise _Misplaced((part, index), message)


def _syntax_error(message: str, text: str, name: str) -> str:
    """Return one line on broken TOML, with the line number that the parser names."""
    found = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line = int(found[1]) if found else max(1, len(text.splitlines()))
    return f"{name}:{line}: not valid TOML: {re.sub(r' *[(]at [^)]*[)]', '', message)}"


def _first_problem(error: ValidationError, text: str, name: str) -> str:
    """Return the first problem in a spec as one line, unknown keys before others; says how many more there are."""
    found = ((_line_of(item["loc"], text), item) for item in error.errors())
    # A misspelt key often makes another one missing: the misspelling is the one to name.
    problems = sorted(found, key=lambda pair: (pair[1]["type"] != "extra_forbidden", pair[0]))
    line, item = problems[0]
    key = str(item["loc"][-1])
    known = _fields_at(item["loc"][:-1])
    if item["type"] == "extra_forbidden":
        said = f"unknown key '{key}'.{closest(key, known)}"
    elif item["type"] == "missing":
        said = f"'{key}' is missing"
    else:
        keys = [part for part in item["loc"] if isinstance(part, str)]
        said = f"{keys[-1]} = {_shortly(item['input'])}: {item['msg'][0].lower()}{item['msg'][1:]}"
    others = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{name}:{line}: {said}{others}"


def _shortly(value: object) -> str:
    """Return a value as one short piece of text."""
    text = str(value).lower() if isinstance(value, bool) else " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _fields_at(location: Location) -> tuple[str, ...]:
    """Return the keys that may stand at a place of a spec."""
    parts: Mapping[str, type[_Model]] = {
        "defaults": Defaults,
        "format": Format,
        "blocks": Block,
        "rows": Row,
        "columns": Column,
        "published": PublishedFields,
    }
    names = [part for part in location if isinstance(part, str)]
    model = parts.get(names[-1], TableSpec) if names else TableSpec
    return tuple(model.model_fields)


def _line_of(location: Location, text: str) -> int:
    """Return the line of a key, or of the nearest part around it that has one."""
    lines = key_lines(text)
    for length in range(len(location), 0, -1):
        for place in (location[:length], (*location[:length], 0)):
            if place in lines:
                return lines[place]
    return 1


def key_lines(text: str) -> dict[Location, int]:
    """Return the line number (from 1) of every header and key of valid TOML text, by its place.

    The third ``[[columns]]`` is at ``("columns", 2)`` and its ratio at ``("columns", 2, "ratio")``. A statement that
    spans lines has the line it starts on, also for the keys inside it.
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
            for place in _places(parsed):
                found.setdefault((*prefix, *place), start)
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
    """Return the names in a parsed header: ``[a.b]`` gives ``("a", "b")``."""
    names: list[str] = []
    here: Any = parsed
    while here:
        names.append(next(iter(here)))
        here = here[names[-1]]
        here = here[0] if isinstance(here, list) else here
    return tuple(names)


def _places(value: object) -> Iterator[Location]:
    """Yield the place of every key and list item inside a parsed value."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (key,)
        for place in _places(inner):
            yield (key, *place)
