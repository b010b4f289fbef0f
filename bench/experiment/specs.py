"""Table specs as types: the rows and columns of a table, and the cells that follow from them.

A cell is the merge of the spec's ``[defaults]``, its section (a part of the table with every row), its row and its
column, in that order. ``bench.experiment.reader`` reads specs from TOML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from bench.errors import BenchError
from bench.experiment.toml_lines import Location
from bench.seeds import canonical_json

Ratio = Annotated[float, Field(gt=0.0, lt=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Digits = Annotated[int, Field(ge=0, le=8)]
#: Which value of a column is the best; of ``none`` there is no best, as of a coverage.
Direction = Literal["min", "max", "none"]
Repeat = Literal["all", "initialisation"]


class SpecError(BenchError):
    """Something wrong in a spec that is valid key by key; ``location`` is that of the key to mend."""

    def __init__(self, location: Location, message: str) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True)
class PublishedKey:
    """Which published number a cell is compared with; ``ratio`` is None if the paper does not state it."""

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
class TableCell:
    """One cell of a table with everything resolved; ``parameters`` are overrides of the method's parameter set.

    ``attribute`` is ``all``, another scope (``something_observed``, ``nothing_observed``) or an attribute's name.
    ``comparable`` is False if the published number is shown but stands for something else. ``stands_in_for`` names
    the data set whose place a synthetic one takes, if it does: such a cell has no published number.
    """

    section: int
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
    """How a column's published number is found; keys left out come from the section or the defaults."""

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

    @field_validator("mechanism_parameters", "parameters")
    @classmethod
    def _all_finite(cls, parameters: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        try:
            canonical_json(parameters)
        except ValueError:
            raise ValueError("NaN and infinity are no parameters") from None
        return parameters


class Defaults(CellFields):
    """Fields that hold for the whole table unless a section, row or column says otherwise."""

    published: PublishedFields | None = None


class SectionSpec(CellFields):
    """A section, such as one data set: every row of the table is printed once in each."""

    label: str = ""
    published: PublishedFields | None = None


class RowSpec(CellFields):
    """A row: usually one method.

    ``published`` is its name in the published numbers, ``reference`` marks a row that is not the paper's, ``floor`` the
    one that the others are judged by (and is a reference too). ``presets`` are the only ones it is run under, unless
    its method is asked for by name; without them it is run under every one. A ``note`` stands
    under tables that show the row. A row of the ``user`` is one that a plug-in of theirs adds.
    """

    label: str
    published: str | None = None
    reference: bool = False
    floor: bool = False
    presets: Annotated[tuple[str, ...] | None, Field(strict=False, min_length=1)] = None
    note: str = ""
    user: bool = False

    def runs_under(self, preset: str) -> bool:
        """Return whether the row is among those that a preset runs."""
        return self.presets is None or preset in self.presets


class ColumnSpec(CellFields):
    """A column: ``group`` is the header it shares with its neighbours, ``label`` its own.

    With ``count_entries`` a note says how many entries were scored. An ``extended`` column is not in the paper's table.
    """

    label: str
    group: str = ""
    count_entries: bool = False
    extended: bool = False
    digits: Digits | None = None
    best: Direction | None = None
    published: PublishedFields | None = None

    @property
    def name(self) -> str:
        """Group and label as one."""
        return f"{self.group} {self.label}".strip()


class Format(_Model):
    """How numbers are printed.

    A standard deviation below ``delta`` prints as a capital delta; ``row_heading`` and ``section_heading`` stand above
    the labels of rows and sections; ``wide`` spans both columns of a two-column paper.
    """

    digits: Digits = 3
    delta: Annotated[float, Field(gt=0.0)] | None = None
    best: Direction = "min"
    row_heading: str = "Method"
    section_heading: str = ""
    wide: bool = False


class TableSpec(_Model):
    """A table: what is in it and how it looks. ``number`` is its number in the paper, if it has one.

    ``stand_ins`` maps data sets to synthetic ones that are run in their place, are marked and compare with no paper.
    A table that names no ``sections`` has one without a label. ``extended_notes`` explain what only the extended table
    shows.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    number: Annotated[int, Field(ge=0, le=9999)] | None = None
    title: str
    caption: str = ""
    label: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]+$")]
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    extended_notes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    seeds: Annotated[tuple[Seed, ...], Field(strict=False, min_length=1)] = (0, 1, 2)
    repeat: Repeat = "all"
    stand_ins: dict[str, str] = {}
    defaults: Defaults = Defaults()
    format: Format = Format()
    sections: Annotated[tuple[SectionSpec, ...], Field(strict=False)] = (SectionSpec(),)
    rows: Annotated[tuple[RowSpec, ...], Field(strict=False, min_length=1)]
    columns: Annotated[tuple[ColumnSpec, ...], Field(strict=False, min_length=1)]

    @field_validator("sections")
    @classmethod
    def _at_least_one(cls, sections: tuple[SectionSpec, ...]) -> tuple[SectionSpec, ...]:
        return sections or (SectionSpec(),)

    def in_paper_layout(self) -> TableSpec:
        """Return the table with the paper's rows and columns alone, the floor and the user's own.

        A table that is not the paper's loses its ``extended`` columns only.
        """
        rows = self.rows
        if self.number is not None:
            rows = tuple(row for row in rows if row.floor or row.user or not row.reference)
        columns = tuple(column for column in self.columns if not column.extended)
        return self.model_copy(
            update={"rows": rows or self.rows, "columns": columns or self.columns, "extended_notes": ()}
        )

    @property
    def has_section_labels(self) -> bool:
        """Whether a table has a column for the labels of its sections."""
        return any(section.label for section in self.sections)

    @property
    def floor_row(self) -> int | None:
        """The index of the row that the others are judged by, or None."""
        return next((index for index, row in enumerate(self.rows) if row.floor), None)

    def digits(self, column: int) -> int:
        """Return the number of decimals of a column."""
        own = self.columns[column].digits
        return self.format.digits if own is None else own

    def best(self, column: int) -> Direction:
        """Return whether the lowest or the highest value of a column is the best, or none."""
        return self.columns[column].best or self.format.best

    def cells(self) -> tuple[TableCell, ...]:
        """Return every cell, section by section, row by row; raises SpecError if one is not fully said."""
        return tuple(
            self._cell(section, row, column)
            for section in range(len(self.sections))
            for row in range(len(self.rows))
            for column in range(len(self.columns))
        )

    def fields_at(self, section: int, row: int, column: int) -> dict[str, Any]:
        """Return the fields of a cell that its parts give, the built-in ones among them.

        What a later part says wins, and tables of parameters are joined.
        """
        merged: dict[str, Any] = dict(_BUILT_IN)
        for part in (self.defaults, self.sections[section], self.rows[row], self.columns[column]):
            for name in CellFields.model_fields:
                value = getattr(part, name)
                if isinstance(value, dict):
                    merged[name] = {**merged[name], **value}
                elif value is not None:
                    merged[name] = value
        return merged

    def _cell(self, section: int, row: int, column: int) -> TableCell:
        merged = self.fields_at(section, row, column)
        real = merged["dataset"]
        if real in self.stand_ins:
            merged |= {"dataset": self.stand_ins[real], "stands_in_for": real}
        else:
            merged["published"], merged["comparable"] = self._published(section, row, column)
        return TableCell(section=section, row=row, column=column, **merged)

    def _published(self, section: int, row: int, column: int) -> tuple[PublishedKey | None, bool]:
        """Return the published number a cell is compared with, if there is one, and whether the two compare."""
        method, own = self.rows[row].published, self.columns[column].published
        if method is None or own is None or self.number is None:
            return None, True
        found: dict[str, Any] = {}
        for part in (self.defaults.published, self.sections[section].published, own):
            found.update({} if part is None else part.model_dump(exclude_none=True))
        comparable = found.pop("comparable", True)
        lacking = {"dataset", "attribute", "mechanism", "metric"} - found.keys()
        if lacking:
            raise SpecError(("columns", column, "published"), f"'published' has no '{sorted(lacking)[0]}'")
        return PublishedKey(table=self.number, method=method, **{"ratio": None, **found}), comparable


_BUILT_IN: Mapping[str, Any] = {
    "include_target": False,
    "mechanism_parameters": {},
    "parameters": {},
    "protocol": "inductive",
    "attribute": "all",
}
