"""What in the published numbers does not fit together, each found by a rule and printed with its numbers."""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.experiment.audit_trials import Record
from bench.report.audit.settings import COLUMNS, METHODS, TABLE, values_by_choice
from bench.report.published import Published, PublishedValue
from bench.report.rules.cells import UNKNOWN_UNIT
from bench.report.table import ReportTable

#: A published error of more than so many floors is told.
FAR = 1.5
#: A published number within this share of the floor's is called the floor's.
AT_FLOOR = 0.01
#: A deviation of less than this share of what redrawing split and mask does to the floor is told.
SMALL = 0.2


@dataclass(frozen=True)
class Anomaly:
    """A kind of anomaly, and where it occurs."""

    title: str
    where: tuple[str, ...]


def anomalies(published: Published, tables: Sequence[ReportTable], trials: Sequence[Record]) -> list[Anomaly]:
    """Return the anomalies of the published numbers; ``tables`` hold our floor beside them."""
    found = [
        Anomaly("Two methods with the same deviations on one data set", tuple(equal_deviations(published))),
        Anomaly("One quantity published twice, with two numbers", tuple(published_twice(published))),
        Anomaly(f"An error of more than {FAR:g} times the floor's", tuple(far_above_floor(tables))),
        Anomaly(f"A number within {100 * AT_FLOOR:g} % of the mean's or the mode's", tuple(at_floor(tables))),
        Anomaly(
            f"A deviation below {100 * SMALL:g} % of what redrawing split and mask alone does to the floor",
            tuple(small_deviations(tables)),
        ),
        Anomaly(
            "Deviations of MissForest and MICE: published; ours over three masks, over three runs on one",
            tuple(redrawing(published, trials)),
        ),
    ]
    return [anomaly for anomaly in found if anomaly.where]


def equal_deviations(published: Published) -> Iterator[str]:
    """Yield pairs of methods whose printed deviations agree in two or more columns of one data set."""
    by_method: dict[tuple[int, str], dict[str, dict[tuple[Any, ...], str]]] = defaultdict(lambda: defaultdict(dict))
    for key, value in published.items():
        if value.sd_text:
            column = (key.attribute, key.mechanism, key.ratio, key.metric)
            by_method[key.table, key.dataset][key.method][column] = value.sd_text
    for (table, dataset), methods in by_method.items():
        for (one, first), (two, second) in itertools.combinations(methods.items(), 2):
            shared = first.keys() & second.keys()
            if len(shared) > 1 and all(first[column] == second[column] for column in shared):
                listed = ", ".join(first[column] for column in first if column in shared)
                yield f"Table {table}, {dataset}: {one} and {two} both have {listed}"


def published_twice(published: Published) -> Iterator[str]:
    """Yield quantities that two tables print with different means."""
    found: dict[tuple[Any, ...], list[tuple[int, PublishedValue]]] = defaultdict(list)
    for key, value in published.items():
        found[key.method, key.dataset, key.attribute, key.mechanism, key.ratio, key.metric].append((key.table, value))
    for (method, dataset, attribute, _, ratio, _), own in found.items():
        if len({value.mean for _, value in own}) > 1:
            listed = " and ".join(f"{value.mean_text} (Table {table})" for table, value in own)
            yield f"{method} on {dataset}, {attribute} at {ratio:g}: {listed}"


def _with_floor(tables: Iterable[ReportTable]) -> Iterator[tuple[str, PublishedValue, float, float | None]]:
    """Yield (name, published, floor's mean, floor's deviation over split and mask) of numbers in a known unit."""
    for table in tables:
        spec = table.spec
        if spec.floor_row is None:
            continue
        for cell in table.cells:
            floor = table.cell(cell.spec.section, spec.floor_row, cell.spec.column)
            key = cell.spec.published
            if cell.published is None or key is None or not cell.spec.comparable or floor.mean is None or floor.subset:
                continue
            if key.metric == UNKNOWN_UNIT:
                continue
            column = f"{spec.sections[cell.spec.section].label} {spec.columns[cell.spec.column].name}".strip()
            name = f"Table {spec.number}, {spec.rows[cell.spec.row].label}, {column}"
            yield name, cell.published, floor.mean, floor.sd


def far_above_floor(tables: Iterable[ReportTable]) -> Iterator[str]:
    """Yield published errors far above what a mean scores."""
    for name, value, floor, _ in _with_floor(tables):
        if value.mean > FAR * floor:
            yield f"{name}: {value.mean_text}, floor {floor:.4f}"


def at_floor(tables: Iterable[ReportTable]) -> Iterator[str]:
    """Yield published errors that are the floor's."""
    for name, value, floor, _ in _with_floor(tables):
        if abs(value.mean / floor - 1) <= AT_FLOOR:
            yield f"{name}: {value.mean_text}, floor {floor:.4f}"


def small_deviations(tables: Iterable[ReportTable]) -> Iterator[str]:
    """Yield, per table, how many published deviations are below what redrawing the mask does to a constant method."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for name, value, _, spread in _with_floor(tables):
        most = value.sd if value.sd is not None else value.sd_below
        if most is not None and spread:
            counts[name.partition(",")[0]].append(most < SMALL * spread)
    for table, small in counts.items():
        if any(small):
            yield f"{table}: {sum(small)} of {len(small)}"


def redrawing(published: Published, trials: Sequence[Record]) -> Iterator[str]:
    """Yield published deviations of deterministic methods beside ours with and without new masks."""
    spreads = [values_by_choice(trials, redrawn) for redrawn in (True, False)]
    for key, value in published.items():
        if key.table != TABLE or key.method not in METHODS:
            continue
        datasets = next(own for name, attribute, own in COLUMNS if (name, attribute) == (key.dataset, key.attribute))
        definition = "norm/pooled/minmax" if key.metric == "nrmse" else "pfc/columns"
        method = "MICE, mean" if key.method == "MICE" else key.method
        choice = (method, datasets[0], False, False, "training", "test", definition)
        ours = [own.get(choice, []) for own in spreads]
        if any(len(values) < 2 for values in ours):
            continue
        redrawn, fixed = (statistics.stdev(values) for values in ours)
        printed = value.sd_text or f"below {value.sd_below:g}"
        attribute = "" if key.attribute == "all" else f" {key.attribute}"
        yield f"{key.method} on {key.dataset}{attribute}: {printed}; {redrawn:.4f}, {fixed:.4f}"
