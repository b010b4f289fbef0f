"""From results to the cells of a table: their mean and spread over seeds, and what is missing.

A table is of one preset and one parameter set. Nothing here runs or loads a method.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.errors import BenchError, closest
from bench.experiment.presets import HIGHEST, PRESETS, require_precision
from bench.experiment.result import Result, is_stale
from bench.experiment.specs import RowSpec, TableCell, TableSpec
from bench.report.cell import ReportCell, Status
from bench.report.matching import belongs, filled, matched, recipe
from bench.report.published import Published
from bench.report.rules.cells import Comparison, comparison_of
from bench.report.verdict import with_best, with_floor, with_footnotes, with_published

#: A training has collapsed to the floor if its held-out error is above this share of the floor's own.
COLLAPSED_ABOVE = 0.99
#: A choice after this share of a training says that more of it would have helped.
UNDERTRAINED_AFTER = 0.9
#: The preset that no number of which says anything.
UNTRAINED = "smoke"


@dataclass(frozen=True)
class ReportTable:
    """A table ready to be rendered: ``cells`` in the order of ``spec.cells()``, footnotes as (mark, text)."""

    spec: TableSpec
    preset: str | None
    parameter_set: str
    cells: tuple[ReportCell, ...]
    footnotes: tuple[tuple[str, str], ...] = field(default=())
    precision: str = HIGHEST

    def cell(self, section: int, row: int, column: int) -> ReportCell:
        """Return one cell."""
        rows, columns = len(self.spec.rows), len(self.spec.columns)
        return self.cells[(section * rows + row) * columns + column]

    def line(self, section: int, row: int) -> tuple[ReportCell, ...]:
        """Return the cells of a row in a section."""
        return tuple(self.cell(section, row, column) for column in range(len(self.spec.columns)))

    def column_is_subset(self, column: int) -> bool:
        """Return whether every section of a column shows a subset of its data set."""
        return self._all_subset([cell for cell in self.cells if cell.spec.column == column])

    def section_is_subset(self, section: int) -> bool:
        """Return whether every column of a section does, in a table of several sections."""
        several = len(self.spec.sections) > 1
        return several and self._all_subset([cell for cell in self.cells if cell.spec.section == section])

    @staticmethod
    def _all_subset(cells: Sequence[ReportCell]) -> bool:
        """Return whether there are results in these cells, all of a subset."""
        known = [cell.subset for cell in cells if cell.content]
        return bool(known) and all(known)

    def comparison(self, cell: ReportCell) -> Comparison | None:
        """Return what holds of the published number beside a cell; None if there is none."""
        return comparison_of(cell, self.spec.best(cell.spec.column) != "max")

    def transductive(self, row: int) -> bool:
        """Return whether a row is of the transductive protocol."""
        return any(cell.spec.protocol == "transductive" for cell in self.cells if cell.spec.row == row)


def collect(
    spec: TableSpec,
    results: Iterable[Result],
    published: Published | None = None,
    preset: str | None = None,
    parameter_set: str = "default",
    *,
    precision: str = HIGHEST,
    known_methods: Mapping[str, Collection[str]] | None = None,
    torch_methods: Collection[str] = (),
    unobtained: Mapping[str, str] | None = None,
    code: Mapping[tuple[str, str], str] | None = None,
) -> ReportTable:
    """Build a table from results.

    Without a ``preset`` the one that fills most cells is taken, then the one with most seeds, then the larger budget. A
    method without parameters (the floor) belongs to every parameter set. With ``known_methods`` (name -> its parameter
    sets), a method that does not have ``parameter_set`` shows its ``default``, and one that is not among them and has
    no results is ``unavailable`` instead of ``missing``; ``unobtained`` says of data sets that are not here how to get
    them, for the cells that have no results. Those of ``torch_methods`` are of the ``precision`` asked for. The best
    of a column is sought among all its rows, floor and references included, and all of them need every seed: bold says
    what the data say. A row that the preset does not run and that has no results of it is left out.

    ``code`` maps (category, name) of plug-ins to the hash of the code they have now: cells with results of other code
    say so and are not marked as best. Results of other presets only tell whether a cell's number moves with the budget.

    Raises BenchError on an unknown preset or precision, on a published number that is asked for and not there, and
    if results differ in mechanism parameters that the spec does not name.
    """
    if preset is not None and preset not in PRESETS:
        raise BenchError(f"unknown preset '{preset}'.{closest(preset, PRESETS)}")
    require_precision(precision)
    known = _Known(known_methods, unobtained or {}, code or {})
    by_preset: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        own = precision if result.cell.method in torch_methods else HIGHEST
        if belongs(result.cell, spec, parameter_set, own, known_methods or {}):
            by_preset[result.cell.preset].append(result)
    if preset is None:
        names = sorted(by_preset, key=_preset_rank)
        choices = [(name, _cells(spec, by_preset[name], known)) for name in names]
        preset, cells = max(choices, key=lambda choice: _fullness(choice[1]), default=(None, None))
    else:
        cells = _cells(spec, by_preset[preset], known)
    if cells is None:
        cells = _cells(spec, (), known)
    elif preset is not None:
        spec = spec.model_copy(update={"rows": _shown_rows(spec, cells, preset)})
        cells = _cells(spec, by_preset[preset], known)
    others = {name: _cells(spec, own, known) for name, own in by_preset.items() if name not in (preset, UNTRAINED)}
    cells = [
        replace(cell, disagreeing=tuple(name for name, own in others.items() if disagree(cell, own[index])))
        for index, cell in enumerate(cells)
    ]
    judged = with_best(with_floor(with_published(cells, published, spec), spec), spec)
    marked, footnotes = with_footnotes(judged)
    return ReportTable(spec, preset, parameter_set, tuple(marked), footnotes, precision)


@dataclass(frozen=True)
class _Known:
    """What is known beside results: the methods there are, why a data set is not here, and the code of plug-ins."""

    known_methods: Collection[str] | None
    unobtained: Mapping[str, str]
    code: Mapping[tuple[str, str], str]

    def is_stale(self, result: Result) -> bool:
        """Return whether a result is of other code than its plug-ins have now."""
        names = {"method": result.cell.method, "mechanism": result.cell.mechanism}
        return is_stale(
            result, {part: self.code[part, name] for part, name in names.items() if (part, name) in self.code}
        )

    def why(self, cell: TableCell) -> tuple[Status, str]:
        """Return the status and the reason of a cell without results."""
        if cell.dataset in self.unobtained:
            return "unobtained", f"data not obtained: {self.unobtained[cell.dataset]}"
        known = self.known_methods is None or cell.method in self.known_methods
        return ("missing" if known else "unavailable"), ""


def asked_of_store(spec: TableSpec) -> dict[str, Any]:
    """Return what a store is to be asked for to ``collect`` a table: the arguments of its ``rows``.

    They let more through than belongs in the table, never less.
    """
    cells = spec.cells()
    fields: dict[str, set[Any]] = {"seed": set(spec.seeds), "mechanism": {cell.mechanism for cell in cells}}
    return {
        "datasets": {cell.dataset for cell in cells},
        "methods": {cell.method for cell in cells},
        "cell": fields,
    }


def _preset_rank(preset: str) -> tuple[int, str]:
    """Return the order of presets, larger budgets first; unknown ones last."""
    order = list(reversed(PRESETS))
    return (order.index(preset) if preset in order else len(order), preset)


def _fullness(cells: Sequence[ReportCell]) -> tuple[int, int]:
    """Return how many cells have a value, and how many values there are."""
    return sum(1 for cell in cells if cell.values), sum(cell.n for cell in cells)


def _shown_rows(spec: TableSpec, cells: Sequence[ReportCell], preset: str) -> tuple[RowSpec, ...]:
    """Return the rows of a table that its preset runs, or that were run under it because somebody named them."""
    run = {cell.spec.row for cell in cells if cell.status not in ("missing", "unavailable", "unobtained")}
    return tuple(row for index, row in enumerate(spec.rows) if index in run or row.runs_under(preset))


def _cells(spec: TableSpec, results: Iterable[Result], known: _Known) -> list[ReportCell]:
    """Return the cells of a table from the results of one preset."""
    cells = spec.cells()
    found = matched(spec, cells, results)
    return [_cell(spec, cell, own, known) for cell, own in zip(cells, found, strict=True)]


def _cell(spec: TableSpec, cell: TableCell, results: Sequence[Result], known: _Known) -> ReportCell:
    """Return one cell from the results that match it, of one content and condition."""
    digits = spec.digits(cell.column)
    if not results:
        status, reason = known.why(cell)
        return ReportCell(cell, status, digits, reason=reason)
    recipes: dict[tuple[int, str], list[Result]] = defaultdict(list)
    for result in results:
        recipes[recipe(result)].append(result)
    best = max(recipes, key=lambda own: (own[0], filled(recipes[own]), own[1]))
    by_seed: dict[int, Result] = {}
    for result in recipes[best]:
        seed = result.cell.seed
        if seed not in by_seed or result.status == "ok" or by_seed[seed].status != "ok":
            by_seed[seed] = result
    scores = {seed: _score(by_seed[seed], cell) for seed in spec.seeds if seed in by_seed}
    values = {seed: value for seed, value in scores.items() if value is not None}
    first = recipes[best][0]
    stale = tuple(seed for seed in values if known.is_stale(by_seed[seed]))
    return ReportCell(
        cell,
        _status(spec, by_seed.values(), len(values)),
        digits,
        seeds=tuple(values),
        values=tuple(values.values()),
        entries=tuple(_entries(by_seed[seed], cell) for seed in values),
        reason="; ".join(filter(None, [_stale_reason(cell, stale), _reason(spec, cell, by_seed, values)])),
        content=first.cell.content,
        subset=first.variant != "full",
        collapsed=tuple(seed for seed in values if _collapsed(by_seed[seed])),
        undertrained=tuple(seed for seed in values if _undertrained(by_seed[seed])),
        kept_last=tuple(seed for seed in values if _kept_last(by_seed[seed])),
        version=(first.cell.engine, first.cell.method_version),
        stale=stale,
        processor_seconds=_mean_seconds([by_seed[seed] for seed in values]),
        draw_scores=_mean_draw_scores([by_seed[seed] for seed in values], cell),
        unverified=sum(not by_seed[seed].verified for seed in values),
        warnings=tuple(dict.fromkeys(text for seed in values for text in by_seed[seed].warnings)),
    )


def disagree(one: ReportCell, two: ReportCell) -> bool:
    """Return whether the means of a cell under two presets, by the same code, are further apart than either spreads."""
    if one.mean is None or two.mean is None or one.sd is None or two.sd is None or one.version != two.version:
        return False
    same_data = one.content == two.content and one.version != (0, 0)
    return same_data and abs(one.mean - two.mean) > max(one.sd, two.sd)


def _status(spec: TableSpec, results: Collection[Result], scored: int) -> Status:
    """Return the status of a cell with results, of which so many have a score."""
    if scored:
        return "ok" if scored == len(spec.seeds) else "partial"
    statuses = {result.status for result in results}
    return "failed" if "failed" in statuses else "skipped" if "skipped" in statuses else "unscored"


def _collapsed(result: Result) -> bool:
    """Return whether a training's best state was within 1 % of the floor, or worse, on held-out observed entries."""
    error = result.diagnostics.get("best_validation_error")
    floor = result.diagnostics.get("floor_validation_error", 1.0)
    return error is not None and floor is not None and error > COLLAPSED_ABOVE * floor


def _undertrained(result: Result) -> bool:
    """Return whether a training that chose among its epochs took one of the last."""
    chosen, epochs = result.diagnostics.get("best_epoch"), result.diagnostics.get("epochs")
    if not isinstance(chosen, int) or not isinstance(epochs, int) or _kept_last(result):
        return False
    return chosen > UNDERTRAINED_AFTER * epochs


def _kept_last(result: Result) -> bool:
    """Return whether the last epoch was kept, whatever held-out entries say."""
    return bool(result.diagnostics.get("chosen_by") == "last epoch")


def _score(result: Result, cell: TableCell) -> float | None:
    """Return the cell's metric in a result, None if that failed or has nothing to score by it."""
    if result.status != "ok":
        return None
    by_scope, by_attribute = result.metrics, result.attributes
    scores = by_scope[cell.attribute] if cell.attribute in by_scope else by_attribute.get(cell.attribute, {})
    value = {**scores, **_draw_scores(result, cell)}.get(cell.metric)
    return float(value) if value is not None and math.isfinite(value) else None


def _draw_scores(result: Result, cell: TableCell) -> Mapping[str, float]:
    """Return what the draws of a result score on the cell's attribute, or on all; nothing if there are none."""
    by_attribute = {**result.draws.get("attributes", {}), "all": result.draws.get("all", {})}
    scores: Mapping[str, float] = by_attribute.get(cell.attribute, {})
    return scores


def _mean_seconds(results: Sequence[Result]) -> float | None:
    """Return the mean processor time of some results, in seconds; None if one does not say, or there are none.

    A result tells that of its job: its own is an equal share among the job's stack.
    """
    known = [
        result.processor_seconds / max(1, len(result.stack))
        for result in results
        if result.processor_seconds is not None
    ]
    return statistics.fmean(known) if known and len(known) == len(results) else None


def _mean_draw_scores(results: Sequence[Result], cell: TableCell) -> dict[str, float]:
    """Return metric -> mean over the results of what their draws score; a metric that one lacks is left out."""
    each = [_draw_scores(result, cell) for result in results]
    shared = set.intersection(*(set(scores) for scores in each)) if each else set()
    return {name: statistics.fmean(scores[name] for scores in each) for name in sorted(shared)}


def _entries(result: Result, cell: TableCell) -> int | None:
    """Return how many entries of the cell's attribute, or of all, were scored in a result; None if it does not say."""
    counts: Mapping[str, int] = result.counts if cell.attribute == "all" else result.attributes.get(cell.attribute, {})
    return counts.get("entries")


def _stale_reason(cell: TableCell, stale: Sequence[int]) -> str:
    """Return which seeds are of other code than a plug-in has now, or an empty text."""
    if not stale:
        return ""
    seeds = f"seed{'s' if len(stale) > 1 else ''} {', '.join(map(str, stale))}"
    return f"{cell.method}, {seeds}: not of its code as it is now; run it again"


def _reason(spec: TableSpec, cell: TableCell, by_seed: Mapping[int, Result], values: Mapping[int, float]) -> str:
    """Return why a cell lacks seeds, or an empty text if it lacks none."""
    lacking: dict[str, list[int]] = defaultdict(list)
    for seed in spec.seeds:
        if seed in values:
            continue
        result = by_seed.get(seed)
        if result is None:
            lacking["not run"].append(seed)
        elif result.status == "ok":
            lacking[f"no '{cell.metric}' of '{cell.attribute}' to score"].append(seed)
        else:
            told = " ".join(str(result.reason or "no reason given").split())
            lacking[f"{result.status}: {told}"].append(seed)
    if not lacking:
        return ""
    if len(lacking) == 1 and not values:
        return next(iter(lacking))
    parts = [
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))} {why}" for why, seeds in lacking.items()
    ]
    counted = f"n = {len(values)} of {len(spec.seeds)} seeds: " if values else ""
    return counted + "; ".join(parts)
