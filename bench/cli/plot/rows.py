"""Figures from stored rows: error over missing ratio, and the course of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.plot.common import DEFAULT_METHOD, DEFAULT_SEEDS, heading_of, jobs_on, listed, name_of, ready, save
from bench.errors import BenchError
from bench.experiment.expand import preferred_protocol, sets_of
from bench.experiment.reader import load_spec, table_ids
from bench.experiment.scope import Scope
from bench.experiment.specs import ColumnSpec, Defaults, RowSpec, TableSpec
from bench.plugins.registry import PluginInfo, Registry
from bench.problem.metrics import find_metric
from bench.report.figures.drawing import Drawing
from bench.report.figures.style import Heading
from bench.report.table import ReportTable, collect
from bench.report.text import TRANSDUCTIVE_MARK
from bench.run.progress import print_line
from bench.run.request import DEFAULT_STORE, Place
from bench.run.snapshot import snapshots_of
from bench.run.store import Store

if TYPE_CHECKING:
    from rich.console import Console

    from bench.report.figures.curves import TrainingRun
    from bench.report.figures.ratios import RatioCurve

FLOOR, BY_DEFAULT = "mean_mode", "mechanism"


def plot_ratios(scope: Scope, place: Place, drawing: Drawing, console: Console) -> list[Path]:
    """Draw skill or error over missing ratio from stored rows, all data sets in one figure; returns the files.

    Raises BenchError, naming the command that makes them, if there are no rows to draw.
    """
    from bench.report import read_published
    from bench.report.figures.ratios import BY, draw_ratios, panels_of, published_places, ratio_curves

    registry = ready(scope, place, drawing)
    by = next((name for name in BY if name == drawing.by), None)
    if by is None:
        raise BenchError(f"--by {drawing.by}: panels differ in one of {', '.join(BY)}")
    specs = [load_spec(name) for name in table_ids()]
    printed = published_places(specs, read_published())
    every = [
        (dataset, mechanism, *_ratio_table(scope, place, drawing, dataset, mechanism, registry))
        for dataset in scope.datasets
        for mechanism in _mechanisms(scope, place, dataset)
    ]
    without = [
        f"{dataset}, {mechanism}"
        for dataset, mechanism, table, _ in every
        if any(cell.values for cell in table.cells) and not _has_floor(table)
    ]
    if without and not drawing.raw:
        told = f"no rows of the floor ({FLOOR}) on {'; '.join(without)}: the metric itself is drawn, not the skill"
        print_line(console, told)
        drawing = replace(drawing, raw=True)
    curves: list[RatioCurve] = []
    tables: list[ReportTable] = []
    for dataset, mechanism, table, asked in every:
        own = ratio_curves(table, not drawing.raw, display_names(specs, dataset), printed)
        lacking = _lacking(table, scope, place, asked)
        if not any(not curve.floor for curve in own):
            raise BenchError(f"no rows to draw of {dataset}: {lacking}")
        if lacking:
            print_line(console, f"{dataset}, {mechanism}: {lacking}")
        curves += own
        tables.append(table)
    datasets = dataset_names(specs)
    grid = panels_of(curves, by, not drawing.raw, datasets)
    page = drawing.page or len(grid[0]) > 1
    figure = draw_ratios(grid, _ratio_heading(tables, scope, drawing, datasets), not drawing.raw, page)
    words = ["ratios", *_file_words(tables, scope, drawing)]
    written = save(figure, drawing, console, words)
    if drawing.csv:
        written.append(save_points(curves, drawing, console, words))
    return written


def _has_floor(table: ReportTable) -> bool:
    """Return whether the floor has a value somewhere in a table."""
    return any(cell.values for cell in table.cells if cell.spec.row == table.spec.floor_row)


def _mechanisms(scope: Scope, place: Place, dataset: str) -> tuple[str, ...]:
    """Return the mechanisms to draw of a data set: those asked for, else those with rows, else MCAR."""
    if scope.mechanisms:
        return scope.mechanisms
    order = ("mcar", "mar", "nmar")
    there = {result.cell.mechanism for result in Store(*place.folders).rows({dataset})}
    return tuple(name for name in order if name in there) or ("mcar",)


def display_names(specs: Sequence[TableSpec], dataset: str) -> dict[str, str]:
    """Return method -> the name that tables print, those of the data set first, from rows without own parameters."""
    order = sorted(specs, key=lambda spec: all(cell.dataset != dataset for cell in spec.cells()))
    rows = (row for spec in reversed(order) for row in spec.rows)
    return {row.method: row.label for row in rows if row.method and not row.parameters}


def dataset_names(specs: Sequence[TableSpec]) -> dict[str, str]:
    """Return data set -> the name that the paper has for it, or that of its column where two share the paper's."""
    printed: dict[str, str] = {}
    columns: dict[str, str] = {}
    for spec in specs:
        for cell in spec.cells():
            if cell.published is not None:
                printed.setdefault(cell.dataset, cell.published.dataset)
                columns.setdefault(cell.dataset, spec.columns[cell.column].group)
    shared = list(printed.values())
    return {
        dataset: name if shared.count(name) == 1 else columns[dataset] or dataset for dataset, name in printed.items()
    }


def _file_words(tables: Sequence[ReportTable], scope: Scope, drawing: Drawing) -> list[str]:
    """Return what the name of a figure says: data sets, mechanisms, preset, parameters and what is not the default."""
    cells = [table.cells[0].spec for table in tables]
    parts: list[list[str]] = [
        list(dict.fromkeys(cell.dataset for cell in cells)),
        list(dict.fromkeys(cell.mechanism for cell in cells)),
        list(dict.fromkeys(str(table.preset) for table in tables)),
    ]
    words = ["-".join(part) if len(part) < 4 else f"{len(part)}-sets" for part in parts]
    words += [scope.parameter_set, *(["raw"] if drawing.raw else [])]
    return [*words, *([f"by-{drawing.by}"] if drawing.by != BY_DEFAULT else [])]


def save_points(curves: Sequence[RatioCurve], drawing: Drawing, console: Console, words: Sequence[str]) -> Path:
    """Write the points of curves as CSV beside their figure, say so, and return the file; raises BenchError."""
    import csv

    from bench.report.figures.ratios import POINT_FIELDS, point_records

    path = drawing.output / f"{'_'.join(words)}.csv"
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, POINT_FIELDS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(point_records(curves))
    except OSError as error:
        raise BenchError(f"--output: {path} cannot be written: {error.strerror or error}") from None
    print_line(console, f"wrote {path}")
    return path


def plot_training(scope: Scope, place: Place, drawing: Drawing, console: Console) -> list[Path]:
    """Draw loss and validation error over the epochs, one figure per method and one line per seed; returns the files.

    Rows that hold both curves are used; if there are none, the method is trained.
    """
    from bench.report.figures.curves import draw_training

    registry = ready(scope, place, drawing)
    written: list[Path] = []
    for dataset in scope.datasets:
        for method in scope.methods or (DEFAULT_METHOD,):
            asked = replace(scope, methods=(method,), seeds=scope.seeds or DEFAULT_SEEDS)
            jobs = jobs_on(dataset, asked, place, registry, console)
            cells = [job.cells[0] for job in jobs]
            rows = Store(*place.folders).rows({dataset}, {method}, {cell.key for cell in cells})
            stored = {result.key: result.diagnostics for result in rows if result.status == "ok"}
            runs = [_training_run(cell.seed, stored.get(cell.key, {})) for cell in cells]
            if None in runs:
                found = snapshots_of(jobs, place, console)
                runs = [_training_run(cell.seed, own.diagnostics) for cell, own in zip(cells, found, strict=True)]
            if None in runs:
                raise BenchError(f"method '{method}' keeps no curves of its training; the neural methods do")
            note = (
                "one line per seed; validation error: that of held-out entries over the floor's; the loss gains its "
                "last terms when the warm-up ends"
            )
            heading = heading_of(
                f"Training of {method}", scope, cells[0], note, f"seeds {listed(cell.seed for cell in cells)}"
            )
            figure = draw_training([run for run in runs if run is not None], heading)
            words = ["training", *name_of(scope, cells[0], method=True, seed=False)]
            written += save(figure, drawing, console, words)
    return written


def default_metrics(info: PluginInfo) -> tuple[str, ...]:
    """Return the metrics to draw of a data set: one for its numbers, one for its categories, or that of its images."""
    kinds = set(info.kinds)
    if kinds == {"image"}:
        return ("mse_sum",)
    if kinds & {"image", "features"}:
        return ("mse", "pfc") if "categorical" in kinds else ("mse",)
    return tuple(metric for kind, metric in (("numeric", "nrmse_std"), ("categorical", "pfc")) if kind in kinds)


def ratio_spec(
    dataset: str,
    methods: Sequence[str],
    mechanism: str,
    ratios: Sequence[float],
    metrics: Sequence[str],
    seeds: Sequence[int],
    registry: Registry,
) -> TableSpec:
    """Return a table with one row per method, the floor first, and one column per metric and ratio."""
    rows = [RowSpec(label=f"{FLOOR} (floor)", method=FLOOR, protocol="inductive", floor=True)]
    rows += [
        RowSpec(label=name, method=name, protocol=preferred_protocol(registry.method(name)))
        for name in methods
        if name != FLOOR
    ]
    columns = [
        ColumnSpec(label=f"{ratio:g}", group=metric, dataset=dataset, metric=metric, mechanism=mechanism, ratio=ratio)
        for metric in metrics
        for ratio in ratios
    ]
    return TableSpec(
        id="ratios",
        title=f"Error over missing ratio: {dataset}",
        label="fig:ratios",
        seeds=tuple(seeds),
        defaults=Defaults(include_target=False, attribute="all"),
        rows=tuple(rows),
        columns=tuple(columns),
    )


def _ratio_table(
    scope: Scope, place: Place, drawing: Drawing, dataset: str, mechanism: str, registry: Registry
) -> tuple[ReportTable, tuple[str, ...]]:
    """Return the table behind the curves, and the methods that were asked for."""
    info = registry.dataset(dataset)
    metrics = drawing.metrics or default_metrics(info)
    for name in metrics:
        kinds = find_metric(name).kinds
        if not set(kinds) & set(info.kinds):
            raise BenchError(f"--metric {name} is for {' and '.join(kinds)} attributes, which {dataset} has none of")
    registry.mechanism(mechanism)
    stored = list(Store(*place.folders).rows({dataset}))
    cells = [result.cell for result in stored if result.cell.mechanism == mechanism]
    there = sorted({cell.method for cell in cells} & registry.methods.keys() - {FLOOR})
    methods = scope.methods or tuple(there) or (DEFAULT_METHOD,)
    ratios = scope.ratios or tuple(sorted({cell.ratio for cell in cells})) or tuple(k / 10 for k in range(1, 10))
    seeds = scope.seeds or DEFAULT_SEEDS
    spec = ratio_spec(dataset, methods, mechanism, ratios, metrics, seeds, registry)
    known = {name: sets_of(info) for name, info in registry.methods.items()}
    table = collect(
        spec, stored, None, scope.preset or None, scope.parameter_set, known_methods=known, code=registry.code
    )
    return table, tuple(name for name in methods if name != FLOOR)


def _lacking(table: ReportTable, scope: Scope, place: Place, methods: Sequence[str]) -> str:
    """Return how many points lack rows and the command that makes them, or nothing; the floor may be left out."""
    cells = [cell for cell in table.cells if cell.spec.method in methods]
    points = {(cell.spec.method, cell.spec.ratio): cell for cell in cells}
    lacking = [point for point, cell in points.items() if "not run" in cell.reason or cell.status == "missing"]
    if not lacking:
        return ""
    asked = cells[0].spec
    names = [*dict.fromkeys(method for method, _ in lacking)]
    words = [
        "vsae-bench run",
        f"--datasets {asked.dataset}",
        f"--methods {','.join([*names, FLOOR])}",
        f"--ratios {','.join(f'{ratio:g}' for ratio in sorted({ratio for _, ratio in lacking}))}",
        f"--mechanisms {asked.mechanism}" if asked.mechanism != "mcar" else "",
        f"--seeds {','.join(map(str, scope.seeds))}" if scope.seeds else "",
        f"--preset {scope.preset or table.preset or 'quick'}",
        f"--parameters {scope.parameter_set}" if scope.parameter_set != "default" else "",
        *(f"--store {folder}" for folder in place.stores if place.stores != (DEFAULT_STORE,)),
        *(f"--plugins {folder}" for folder in place.plugins),
    ]
    made = " ".join(word for word in words if word)
    return f"{len(lacking)} of {len(points)} points lack rows; `{made}` makes them"


def _ratio_heading(tables: Sequence[ReportTable], scope: Scope, drawing: Drawing, names: Mapping[str, str]) -> Heading:
    """Return the title of a figure, and how what it shows was computed."""
    cells = [cell for table in tables for cell in table.cells]
    seeds = tables[0].spec.seeds
    counts = {cell.n for cell in cells if cell.values}
    over = f"n\u00a0=\u00a0{len(seeds)}" if counts == {len(seeds)} else f"n\u00a0=\u00a0{min(counts)} to {max(counts)}"
    bands = "no bands" if counts == {1} else "bands: ± sample standard deviation"
    subset = "; only a subset of the data" if any(cell.subset for cell in cells) else ""
    failed = sorted({cell.spec.method for cell in cells if cell.status in ("failed", "skipped", "unscored")})
    marked = any(table.transductive(row) for table in tables for row in range(len(table.spec.rows)))
    protocol = f"; {TRANSDUCTIVE_MARK} transductive" if marked else ""
    nothing = f"; without a result somewhere: {', '.join(failed)}" if failed else ""
    better = "lower is better" if drawing.raw else "skill is 1 - error / floor's error, higher is better"
    presets = " and ".join(dict.fromkeys(str(table.preset) for table in tables))
    mechanisms = ", ".join(dict.fromkeys(cell.spec.mechanism for cell in cells))
    details = (
        f"{mechanisms}; preset {presets}, parameter set {scope.parameter_set}; mean over seeds "
        f"{listed(seeds)} ({over}), {bands}{subset}{protocol}{nothing}; {better}"
    )
    own = dict.fromkeys(cell.spec.dataset for cell in cells)
    datasets = ", ".join(names.get(name, name) for name in own)
    return Heading(f"{'Error' if drawing.raw else 'Skill'} over missing ratio: {datasets}", details)


def _training_run(seed: int, facts: Mapping[str, Any]) -> TrainingRun | None:
    """Return a training's curves from a row's diagnostics, None if they are not there."""
    from bench.report.figures.curves import TrainingRun

    if not {"loss_curve", "validation_curve", "best_epoch", "best_validation_error"} <= facts.keys():
        return None
    loss, validation = ([(point[0], point[1]) for point in facts[name]] for name in ("loss_curve", "validation_curve"))
    return TrainingRun(seed, loss, validation, facts["best_epoch"], facts["best_validation_error"])
