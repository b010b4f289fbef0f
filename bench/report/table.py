"""From stored rows to the cells of a table: which rows belong together, their mean and spread, and what is missing.

A table is of one preset and one parameter set. Within it, the rows of one condition (data set, mechanism, ratio) share
one content of the data and one version of engine, mechanism and budget. Nothing here runs or loads a method.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bench.errors import BenchError, closest
from bench.experiment.cell import Cell
from bench.experiment.presets import HIGHEST, PRESETS, require_precision
from bench.experiment.result import Result
from bench.experiment.spec import Entry, Row, TableSpec
from bench.experiment.tuned import TUNED
from bench.report.published import Published, PublishedValue
from bench.seeds import canonical_json

#: ``ok`` has every seed, ``partial`` some. ``failed`` and ``skipped`` are rows that say so, ``unscored`` rows have
#: nothing to score by this metric, ``missing`` was not run, ``unavailable`` is a method that is not installed,
#: ``unobtained`` a data set that is not here.
Status = Literal["ok", "partial", "failed", "skipped", "unscored", "missing", "unavailable", "unobtained"]
Verdict = Literal["", "floor", "better than floor", "no better than floor"]


@dataclass(frozen=True)
class ReportCell:
    """One cell: the values of its seeds in order, what is known where there are none, and what it is compared with.

    ``entries`` are the scored entries behind each value, None where a row does not say. ``floor`` is the mean of the
    floor's cell in the same column and block. ``mark`` is the letter of its footnote.
    """

    entry: Entry
    status: Status
    digits: int
    seeds: tuple[int, ...] = ()
    values: tuple[float, ...] = ()
    entries: tuple[int | None, ...] = ()
    reason: str = ""
    mark: str = ""
    content: str = ""
    subset: bool = False
    best: bool = False
    published: PublishedValue | None = None
    floor: float | None = None
    verdict: Verdict = ""
    published_verdict: Verdict = ""
    #: Seeds whose training ended no better than the floor on held-out observed entries.
    collapsed: tuple[int, ...] = ()
    #: What the rows warn of, such as an attribute never observed in training.
    warnings: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """Number of seeds with a value."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean over seeds, None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds (divisor n - 1), None with fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Our mean minus the published one, None where either is missing or they do not compare."""
        if self.mean is None or self.published is None or not self.entry.comparable or self.subset:
            return None
        return self.mean - self.published.mean


@dataclass(frozen=True)
class ReportTable:
    """A table ready to be rendered: ``cells`` in the order of ``spec.entries()``, footnotes as (mark, text)."""

    spec: TableSpec
    preset: str | None
    parameter_set: str
    cells: tuple[ReportCell, ...]
    footnotes: tuple[tuple[str, str], ...] = field(default=())
    precision: str = HIGHEST

    def cell(self, block: int, row: int, column: int) -> ReportCell:
        """Return one cell."""
        rows, columns = len(self.spec.rows), len(self.spec.columns)
        return self.cells[(block * rows + row) * columns + column]

    def line(self, block: int, row: int) -> tuple[ReportCell, ...]:
        """Return the cells of a row in a block."""
        return tuple(self.cell(block, row, column) for column in range(len(self.spec.columns)))

    def column_is_subset(self, column: int) -> bool:
        """Return whether every block of a column shows a subset of its data set."""
        return self._all_subset([cell for cell in self.cells if cell.entry.column == column])

    def block_is_subset(self, block: int) -> bool:
        """Return whether every column of a block does, in a table of several blocks."""
        several = len(self.spec.row_blocks) > 1
        return several and self._all_subset([cell for cell in self.cells if cell.entry.block == block])

    @staticmethod
    def _all_subset(cells: Sequence[ReportCell]) -> bool:
        """Return whether there are rows in these cells, all of a subset."""
        known = [cell.subset for cell in cells if cell.content]
        return bool(known) and all(known)

    def transductive(self, row: int) -> bool:
        """Return whether a row is of the transductive protocol."""
        return any(cell.entry.protocol == "transductive" for cell in self.cells if cell.entry.row == row)


def collect(
    spec: TableSpec,
    rows: Iterable[Result],
    published: Published | None = None,
    preset: str | None = None,
    parameter_set: str = "default",
    *,
    precision: str = HIGHEST,
    known_methods: Mapping[str, Collection[str]] | None = None,
    torch_methods: Collection[str] = (),
    unobtained: Mapping[str, str] | None = None,
) -> ReportTable:
    """Build a table from stored rows.

    Without a ``preset`` the one that fills most cells is taken, then the one with most seeds, then the larger budget. A
    method without parameters (the floor) belongs to every parameter set. With ``known_methods`` (name -> its parameter
    sets), a method that does not have ``parameter_set`` shows its ``default``, and one that is not among them and has
    no rows is ``unavailable`` instead of ``missing``; ``unobtained`` says of data sets that are not here how to get
    them, for the cells that have no rows. Rows of ``torch_methods`` are those of the ``precision`` asked for. The best
    of a column is sought among all its rows, floor and references included, and all of them need every seed: bold says
    what the data say. A row that the preset does not run and that has no rows of it is left out.

    Raises BenchError on an unknown preset or precision, on a published number that is asked for and not there, and
    where rows differ in mechanism parameters that the spec does not name.
    """
    if preset is not None and preset not in PRESETS:
        raise BenchError(f"unknown preset '{preset}'.{closest(preset, PRESETS)}")
    require_precision(precision)
    entries = spec.entries()
    lacking = _Lacking(known_methods, unobtained or {})
    by_preset: dict[str, list[Result]] = defaultdict(list)
    for row in rows:
        own = precision if row.cell.method in torch_methods else HIGHEST
        if _belongs(row.cell, spec, parameter_set, own, known_methods or {}):
            by_preset[row.cell.preset].append(row)
    if preset is None:
        names = sorted(by_preset, key=_preset_rank)
        choices = [(name, _cells(spec, entries, by_preset[name], lacking)) for name in names]
        preset, cells = max(choices, key=lambda choice: _fullness(choice[1]), default=(None, None))
    else:
        cells = _cells(spec, entries, by_preset[preset], lacking)
    if cells is None:
        cells = _cells(spec, entries, (), lacking)
    elif preset is not None:
        spec = spec.model_copy(update={"rows": _shown_rows(spec, cells, preset)})
        cells = _cells(spec, spec.entries(), by_preset[preset], lacking)
    cells = [replace(cell, published=_published(cell.entry, published, spec)) for cell in cells]
    cells, footnotes = _with_footnotes(_with_best(_with_floor(cells, spec), spec))
    return ReportTable(spec, preset, parameter_set, tuple(cells), footnotes, precision)


@dataclass(frozen=True)
class _Lacking:
    """What is known of cells without rows: the methods there are, and why a data set is not here."""

    known_methods: Collection[str] | None
    unobtained: Mapping[str, str]

    def why(self, entry: Entry) -> tuple[Status, str]:
        """Return the status and the reason of a cell without rows."""
        if entry.dataset in self.unobtained:
            return "unobtained", f"data not obtained: {self.unobtained[entry.dataset]}"
        known = self.known_methods is None or entry.method in self.known_methods
        return ("missing" if known else "unavailable"), ""


def asked_of_store(spec: TableSpec, preset: str | None = None) -> dict[str, Any]:
    """Return what a store is to be asked for to ``collect`` a table: the arguments of its ``rows``.

    They let more through than belongs in the table, never less.
    """
    entries = spec.entries()
    cell: dict[str, set[Any]] = {"seed": set(spec.seeds), "mechanism": {entry.mechanism for entry in entries}}
    if preset is not None:
        cell["preset"] = {preset}
    return {
        "datasets": {entry.dataset for entry in entries},
        "methods": {entry.method for entry in entries},
        "cell": cell,
    }


def _belongs(
    cell: Cell,
    spec: TableSpec,
    parameter_set: str,
    precision: str,
    known_methods: Mapping[str, Collection[str]],
) -> bool:
    """Return whether a row can be in this table at all, whatever its cell."""
    parameterless = not cell.parameters and not cell.overrides
    shown_set = parameter_set if parameter_set in known_methods.get(cell.method, {parameter_set}) else "default"
    same_set = cell.parameter_set == shown_set or parameterless
    same_way = cell.repeat == spec.repeat and cell.precision == precision
    return same_set and same_way and cell.seed in spec.seeds


def _preset_rank(preset: str) -> tuple[int, str]:
    """Return the order of presets, larger budgets first; unknown ones last."""
    order = list(reversed(PRESETS))
    return (order.index(preset) if preset in order else len(order), preset)


def _fullness(cells: Sequence[ReportCell]) -> tuple[int, int]:
    """Return how many cells have a value, and how many values there are."""
    return sum(1 for cell in cells if cell.values), sum(cell.n for cell in cells)


def _shown_rows(spec: TableSpec, cells: Sequence[ReportCell], preset: str) -> tuple[Row, ...]:
    """Return the rows of a table that its preset runs, or that were run under it because somebody named them."""
    run = {cell.entry.row for cell in cells if cell.status not in ("missing", "unavailable", "unobtained")}
    return tuple(row for index, row in enumerate(spec.rows) if index in run or row.runs_under(preset))


def _published(entry: Entry, published: Published | None, spec: TableSpec) -> PublishedValue | None:
    """Return the published number of a cell, if it has one. Raises BenchError where it is asked for and not there."""
    if entry.published is None or not published:
        return None
    if entry.published not in published:
        raise BenchError(f"table spec '{spec.id}' asks for a published number that is not there: {entry.published}")
    return published[entry.published]


def _row_key(cell: Cell) -> Hashable:
    """Return what a row's cell and a table's entry have to agree in."""
    return (
        cell.dataset,
        cell.include_target,
        cell.mechanism,
        cell.ratio,
        cell.method,
        cell.protocol,
        canonical_json(dict(cell.overrides)),
    )


def _entry_key(entry: Entry) -> Hashable:
    """Return the same of an entry."""
    return (
        entry.dataset,
        entry.include_target,
        entry.mechanism,
        entry.ratio,
        entry.method,
        entry.protocol,
        canonical_json(dict(entry.parameters)),
    )


def _same_mechanism(cell: Cell, entry: Entry) -> bool:
    """Return whether a row's mechanism parameters are those of an entry, which names only the ones it overrides."""
    asked = dict(entry.mechanism_parameters)
    if cell.mechanism_overrides is not None:
        return bool(cell.mechanism_overrides == asked)
    resolved = cell.mechanism_parameters
    return all(name in resolved and resolved[name] == value for name, value in asked.items())


def _data(entry: Entry) -> Hashable:
    """Return what has one content throughout a table."""
    return entry.dataset, entry.include_target


def _condition(entry: Entry) -> Hashable:
    """Return what has one version of engine, mechanism and budget throughout a table."""
    return (_data(entry), entry.mechanism, canonical_json(dict(entry.mechanism_parameters)), entry.ratio)


def _content(row: Result) -> tuple[str, str]:
    """Return the data of a row: its variant and content hash."""
    return row.variant, row.cell.content


def _version(row: Result) -> tuple[int, int, str]:
    """Return the versions a condition's rows share, newer ones larger, and the budget."""
    cell = row.cell
    return cell.engine, cell.mechanism_version, canonical_json(cell.budget)


def _recipe(row: Result) -> tuple[int, str]:
    """Return what the seeds of a cell share: the method's version, newer ones larger, and its resolved parameters.

    Tuned parameters are each seed's own.
    """
    cell = row.cell
    return cell.method_version, TUNED if cell.parameter_set == TUNED else canonical_json(cell.parameters)


def _filled(rows: Iterable[Result]) -> int:
    """Return the number of different cells that ran well."""
    return len({row.key for row in rows if row.status == "ok"})


def _cells(spec: TableSpec, entries: Sequence[Entry], rows: Iterable[Result], lacking: _Lacking) -> list[ReportCell]:
    """Return the cells of a table from the rows of one preset."""
    index: dict[Hashable, list[Result]] = defaultdict(list)
    for row in rows:
        index[_row_key(row.cell)].append(row)
    found = [[row for row in index.get(_entry_key(entry), ()) if _same_mechanism(row.cell, entry)] for entry in entries]
    found = _of_one_content(entries, found)
    found = _of_one_version(spec, entries, found)
    return [_cell(spec, entry, own, lacking) for entry, own in zip(entries, found, strict=True)]


def _of_one_content(entries: Sequence[Entry], found: list[list[Result]]) -> list[list[Result]]:
    """Keep, for each data set, the rows of one content: one that ran, the full data, then the one with most rows."""
    pooled: dict[Hashable, dict[tuple[str, str], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for entry, rows in zip(entries, found, strict=True):
        for row in rows:
            pooled[_data(entry)][_content(row)].append(row)
    chosen = {
        data: max(contents, key=lambda c: (_filled(contents[c]) > 0, c[0] == "full", _filled(contents[c]), c))
        for data, contents in pooled.items()
    }
    return [
        [row for row in rows if _content(row) == chosen[_data(entry)]]
        for entry, rows in zip(entries, found, strict=True)
    ]


def _of_one_version(spec: TableSpec, entries: Sequence[Entry], found: list[list[Result]]) -> list[list[Result]]:
    """Keep, for each condition, the rows of the newest engine and mechanism, then the budget with most rows."""
    pooled: dict[Hashable, dict[tuple[int, int, str], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for entry, rows in zip(entries, found, strict=True):
        for row in rows:
            pooled[_condition(entry)][_version(row)].append(row)
    chosen = {}
    for condition, versions in pooled.items():
        best = max(versions, key=lambda v: (v[0], v[1], _filled(versions[v]), v[2]))
        parameters = {canonical_json(row.cell.mechanism_parameters) for row in versions[best]}
        if len(parameters) > 1:
            cell = versions[best][0].cell
            raise BenchError(
                f"table spec '{spec.id}': there are rows of '{cell.dataset}' under '{cell.mechanism}' with "
                f"different parameters ({' and '.join(sorted(parameters))}); say which in 'mechanism_parameters'"
            )
        chosen[condition] = best
    return [
        [row for row in rows if _version(row) == chosen[_condition(entry)]]
        for entry, rows in zip(entries, found, strict=True)
    ]


def _cell(spec: TableSpec, entry: Entry, rows: Sequence[Result], lacking: _Lacking) -> ReportCell:
    """Return one cell from the rows that match it, of one content and condition."""
    digits = spec.digits(entry.column)
    if not rows:
        status, reason = lacking.why(entry)
        return ReportCell(entry, status, digits, reason=reason)
    recipes: dict[tuple[int, str], list[Result]] = defaultdict(list)
    for row in rows:
        recipes[_recipe(row)].append(row)
    best = max(recipes, key=lambda recipe: (recipe[0], _filled(recipes[recipe]), recipe[1]))
    by_seed: dict[int, Result] = {}
    for row in recipes[best]:
        seed = row.cell.seed
        if row.status == "ok" or seed not in by_seed or by_seed[seed].status != "ok":
            by_seed[seed] = row
    scores = {seed: _score(by_seed[seed], entry) for seed in spec.seeds if seed in by_seed}
    values = {seed: value for seed, value in scores.items() if value is not None}
    status = "partial"
    if len(values) == len(spec.seeds):
        status = "ok"
    elif not values:
        states = {row.status for row in by_seed.values()}
        status = "failed" if "failed" in states else "skipped" if "skipped" in states else "unscored"
    variant, content = _content(recipes[best][0])
    return ReportCell(
        entry,
        status,
        digits,
        seeds=tuple(values),
        values=tuple(values.values()),
        entries=tuple(_entries(by_seed[seed], entry) for seed in values),
        reason=_reason(spec, entry, by_seed, values),
        content=content,
        subset=variant != "full",
        collapsed=tuple(seed for seed in values if _collapsed(by_seed[seed])),
        warnings=tuple(dict.fromkeys(text for seed in values for text in by_seed[seed].warnings)),
    )


def _collapsed(row: Result) -> bool:
    """Return whether a training's best state was within 1 % of the floor, or worse, on held-out observed entries."""
    error = row.diagnostics.get("best_validation_error")
    return error is not None and error > 0.99


def _score(row: Result, entry: Entry) -> float | None:
    """Return the entry's metric in a row, None where the row failed or has nothing to score by it."""
    if row.status != "ok":
        return None
    scopes, attributes = row.metrics, row.attributes
    scores = scopes[entry.attribute] if entry.attribute in scopes else attributes.get(entry.attribute, {})
    value = scores.get(entry.metric)
    return float(value) if value is not None and math.isfinite(value) else None


def _entries(row: Result, entry: Entry) -> int | None:
    """Return how many entries of the cell's attribute, or of all, were scored in a row; None where it does not say."""
    counts = row.counts if entry.attribute == "all" else row.attributes.get(entry.attribute)
    return (counts or {}).get("entries")


def _reason(spec: TableSpec, entry: Entry, by_seed: Mapping[int, Result], values: Mapping[int, float]) -> str:
    """Return why a cell lacks seeds, or an empty text where it lacks none."""
    lacking: dict[str, list[int]] = defaultdict(list)
    for seed in spec.seeds:
        if seed in values:
            continue
        row = by_seed.get(seed)
        if row is None:
            lacking["not run"].append(seed)
        elif row.status == "ok":
            lacking[f"no '{entry.metric}' of '{entry.attribute}' to score"].append(seed)
        else:
            told = " ".join(str(row.reason or "no reason given").split())
            lacking[f"{row.status}: {told}"].append(seed)
    if not lacking:
        return ""
    if len(lacking) == 1 and not values:
        return next(iter(lacking))
    parts = [f"seed{'s' if len(seeds) > 1 else ''} {_listed(seeds)} {why}" for why, seeds in lacking.items()]
    counted = f"n = {len(values)} of {len(spec.seeds)} seeds: " if values else ""
    return counted + "; ".join(parts)


def _listed(items: Iterable[object]) -> str:
    """Return items with commas between them."""
    return ", ".join(str(item) for item in items)


def _with_floor(cells: Sequence[ReportCell], spec: TableSpec) -> list[ReportCell]:
    """Say of each cell, and of its published number, whether it is better than the floor at the printed precision."""
    floors = {
        (cell.entry.block, cell.entry.column): cell
        for cell in cells
        if cell.entry.row == spec.floor_row and cell.values
    }
    judged: list[ReportCell] = []
    for cell in cells:
        entry = cell.entry
        floor = floors.get((entry.block, entry.column))
        if floor is None:
            judged.append(cell)
            continue
        sign = 1 if spec.best(entry.column) == "min" else -1
        verdict: Verdict = "floor" if entry.row == spec.floor_row else ""
        by_seed = dict(zip(floor.seeds, floor.values, strict=True))
        if not verdict and cell.mean is not None and set(cell.seeds) <= by_seed.keys():
            ours = round(cell.mean, cell.digits)
            level = round(statistics.fmean(by_seed[seed] for seed in cell.seeds), cell.digits)
            verdict = "better than floor" if sign * ours < sign * level else "no better than floor"
        published_verdict: Verdict = ""
        if cell.published is not None and entry.comparable and not floor.subset and floor.mean is not None:
            level = round(floor.mean, cell.published.decimals)
            better = sign * cell.published.mean < sign * level
            published_verdict = "better than floor" if better else "no better than floor"
        judged.append(replace(cell, floor=floor.mean, verdict=verdict, published_verdict=published_verdict))
    return judged


def _with_best(cells: Sequence[ReportCell], spec: TableSpec) -> list[ReportCell]:
    """Mark the best of each column and block at the printed precision; ties are all marked."""
    best: dict[tuple[int, int], float] = {}
    for cell in cells:
        if cell.status == "ok" and cell.mean is not None:
            place, value = (cell.entry.block, cell.entry.column), round(cell.mean, cell.digits)
            pick = min if spec.best(cell.entry.column) == "min" else max
            best[place] = pick(best.get(place, value), value)
    return [
        replace(
            cell,
            best=cell.status == "ok"
            and cell.mean is not None
            and round(cell.mean, cell.digits) == best[(cell.entry.block, cell.entry.column)],
        )
        for cell in cells
    ]


def _with_footnotes(cells: Sequence[ReportCell]) -> tuple[list[ReportCell], tuple[tuple[str, str], ...]]:
    """Give each reason a letter, in the order of first use."""
    letters: dict[str, str] = {}
    for cell in cells:
        if cell.reason and cell.reason not in letters:
            letters[cell.reason] = _letter(len(letters))
    marked = [replace(cell, mark=letters.get(cell.reason, "")) for cell in cells]
    return marked, tuple((mark, reason) for reason, mark in letters.items())


def _letter(index: int) -> str:
    """Return a, b, ... z, aa, ab, ... for 0, 1, ..."""
    letters = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return letters
