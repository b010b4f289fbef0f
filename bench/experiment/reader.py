"""Reads table specs from TOML files.

Bad input raises BenchError with the file, the line of the key and what is wrong, in one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from bench.errors import BenchError, closest
from bench.experiment.presets import PRESETS
from bench.experiment.shorthand import SHARED_ROWS, FullSpec, in_full
from bench.experiment.specs import (
    CellFields,
    ColumnSpec,
    Defaults,
    Format,
    PublishedFields,
    RowSpec,
    SectionSpec,
    SpecError,
    TableSpec,
)
from bench.experiment.toml_lines import Location, TomlText
from bench.paths import tables_folder

MOST_CELLS = 100_000

#: The type of each part of a spec, and the keys that are written in it besides that type's own.
_PARTS: Mapping[str, tuple[type[BaseModel], tuple[str, ...]]] = {
    "defaults": (Defaults, ()),
    "format": (Format, ()),
    "sections": (SectionSpec, ()),
    "rows": (RowSpec, ("row",)),
    "columns": (ColumnSpec, ("each",)),
    "published": (PublishedFields, ()),
}


def table_ids() -> tuple[str, ...]:
    """Return the ids of the suite's own tables, in order."""
    return tuple(sorted(path.stem for path in tables_folder().glob("table*.toml")))


def find_spec(name: str | Path) -> Path:
    """Return the file of a spec from its path or id (``table06``, ``table6``, ``6``, ``mixed``). Raises BenchError."""
    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            known = ", ".join(table_ids())
            raise BenchError(f"table spec '{path}' does not exist; give the path of a TOML file or one of {known}")
        return path
    match = re.fullmatch(r"(?:table)?[ _-]?0*(\d+)", str(name).lower())
    known_ids = table_ids()
    candidates = [f"table{int(match[1]):02d}"] if match else [str(name).lower(), f"table_{str(name).lower()}"]
    for candidate in candidates:
        if candidate in known_ids:
            return tables_folder() / f"{candidate}.toml"
    raise BenchError(f"unknown table '{name}'.{closest(candidates[0], known_ids)} A path of a TOML file works too.")


def load_spec(path_or_id: str | Path) -> TableSpec:
    """Read and check a table spec; raises BenchError with file and line.

    Rows that it names are those of the file ``rows.toml`` beside it, or of the suite's own if there is none.
    """
    path = find_spec(path_or_id)
    try:
        text = TomlText.of_file(path).text
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    return parse_spec(text, str(path), path.parent)


def parse_spec(text: str, name: str, folder: Path | None = None) -> TableSpec:
    """Read and check the TOML text of a table spec; ``name`` stands for the file in errors. Raises BenchError.

    Rows that it names are looked up in ``folder`` if that holds the file of shared rows, else among the suite's own.
    """
    own_rows = folder is not None and (folder / SHARED_ROWS).is_file()
    full = in_full(TomlText(name, text), folder if folder is not None and own_rows else tables_folder())
    try:
        spec = TableSpec.model_validate(full.value)
        _check_whole(spec)
    except ValidationError as error:
        raise BenchError(_first_problem(error, full)) from None
    except SpecError as problem:
        raise BenchError(f"{full.place(problem.location)}: {problem}") from None
    return spec


def _check_whole(spec: TableSpec) -> None:
    """Check what no single key shows: seeds twice, two floors, unknown names, cells without a data set."""
    from bench.problem.draw_scores import DRAW_METRICS
    from bench.problem.metrics import METRICS

    if len(set(spec.seeds)) != len(spec.seeds):
        raise SpecError(("seeds",), "'seeds' names a seed twice")
    floors = [index for index, row in enumerate(spec.rows) if row.floor]
    if len(floors) > 1:
        raise SpecError(("rows", floors[1], "floor"), "only one row may be the floor")
    for position, own in enumerate(spec.rows):
        for preset in own.presets or ():
            if preset not in PRESETS:
                raise SpecError(("rows", position, "presets"), f"unknown preset '{preset}'.{closest(preset, PRESETS)}")
    cells = len(spec.sections) * len(spec.rows) * len(spec.columns)
    if cells > MOST_CELLS:
        raise SpecError(("columns",), f"the table has {cells} cells; a table has at most {MOST_CELLS}")
    metrics = {metric.name for metric in (*METRICS, *DRAW_METRICS)}
    for location, part in _parts(spec):
        if part.metric is not None and part.metric not in metrics:
            problem = f"unknown metric '{part.metric}'.{closest(part.metric, metrics)}"
            raise SpecError((*location, "metric"), problem)
    for row in range(len(spec.rows)):
        for column in range(len(spec.columns)):
            _require_complete(spec, row, column)
    spec.cells()


def _parts(spec: TableSpec) -> Iterator[tuple[Location, CellFields]]:
    """Yield every part of a spec that holds cell fields, with its location."""
    yield ("defaults",), spec.defaults
    for name, parts in (("sections", spec.sections), ("rows", spec.rows), ("columns", spec.columns)):
        for index, part in enumerate(parts):
            yield (name, index), part


def _require_complete(spec: TableSpec, row: int, column: int) -> None:
    """Raise unless a row and column have data set, mechanism, ratio, method and metric in every section."""
    for section in range(len(spec.sections)):
        fields = spec.fields_at(section, row, column)
        for name in ("method", "dataset", "mechanism", "ratio", "metric"):
            if name not in fields:
                part, index = ("rows", row) if name == "method" else ("columns", column)
                label = spec.rows[row].label if name == "method" else spec.columns[column].name
                where = f"{part[:-1]} '{label}'"
                message = f"{where} has no '{name}': give it there, in its section or in [defaults]"
                raise SpecError((part, index), message)


def _first_problem(error: ValidationError, full: FullSpec) -> str:
    """Return the first problem in a spec as one line, unknown keys before others; says how many more there are."""
    # A part that was written once and stands in several rows or columns is one problem.
    found = {(full.place(item["loc"]), item["type"], item["msg"], item["loc"][-1]): item for item in error.errors()}
    # A misspelt key often makes another one missing: the misspelling is the one to name.
    problems = sorted(found.values(), key=lambda item: (item["type"] != "extra_forbidden", full.order(item["loc"])))
    item = problems[0]
    key = str(item["loc"][-1])
    if item["type"] == "extra_forbidden":
        said = f"unknown key '{key}'.{closest(key, _keys_at(item['loc'][:-1]))}"
    elif item["type"] == "missing":
        said = f"'{key}' is missing"
    else:
        keys = [part for part in item["loc"] if isinstance(part, str)]
        said = f"{keys[-1]} = {_shortly(item['input'])}: {item['msg'][0].lower()}{item['msg'][1:]}"
    others = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{full.place(item['loc'])}: {said}{others}"


def _shortly(value: object) -> str:
    """Return a value as one short piece of text."""
    text = str(value).lower() if isinstance(value, bool) else " ".join(repr(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _keys_at(location: Location) -> tuple[str, ...]:
    """Return the keys that may stand at a place of a spec."""
    names = [part for part in location if isinstance(part, str)]
    part, more = _PARTS.get(names[-1], (TableSpec, ())) if names else (TableSpec, ())
    return (*part.model_fields, *more)
