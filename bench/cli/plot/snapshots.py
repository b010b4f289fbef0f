"""Figures of trained cells: imputations, samples and generations, from snapshots made if there are none yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.plot.common import DEFAULT_METHOD, DEFAULT_SEEDS, heading_of, jobs_on, name_of, ready, save
from bench.data.schema import IntArray, Schema
from bench.data.table import Values
from bench.errors import BenchError, closest
from bench.experiment.cell import Cell
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry
from bench.report.figures.drawing import Drawing
from bench.run.request import Place
from bench.run.snapshot import Snapshot, shows, snapshots_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from bench.report.figures.grid import ShownRows
    from bench.report.figures.panels import ScoredRows

#: What a figure of numbers or categories holds at most, unless attributes are named.
MOST_PANELS = 6
#: Lines of a figure of draws or of rows sampled from the prior, and lines of draws in a panel of a table's attribute.
LINES, PANEL_LINES = 6, 8
#: The words on what marks mean.
GRID_MARKS = "hatched or ?: hidden; ✓ right, ✗ wrong"


def plot_imputations(scope: Scope, place: Place, drawing: Drawing, console: Console) -> list[Path]:
    """Draw test rows as they are, as they were shown and as each method imputed them; returns the files."""
    registry = ready(scope, place, drawing)
    written: list[Path] = []
    for dataset in scope.datasets:
        found = _snapshots(scope, dataset, place, registry, console)
        cell = found[0][0]
        for ending, figure in _imputations(found, scope, drawing):
            written += save(figure, drawing, console, ["imputations", *name_of(scope, cell), *ending])
    return written


def _imputations(
    found: Sequence[tuple[Cell, Snapshot]], scope: Scope, drawing: Drawing
) -> Iterator[tuple[list[str], Figure]]:
    """Yield the figures of images, of numbers and of categories, each with the end of its file's name."""
    from bench.report.figures.attribute import POINTS, draw_confusion, draw_scatter
    from bench.report.figures.grid import draw_grid, imputation_lines, thumbnails_that_fit
    from bench.report.figures.panels import confusion_panels, scatter_panels

    cell, first = found[0]
    schema, imputed = first.schema, {cell.method: snapshot.imputed for cell, snapshot in found}
    if schema.of_kind("image").size:
        fitting = thumbnails_that_fit(schema, max(len("observed"), *(len(name) for name in imputed)))
        rows = _shown(first).take(slice(0, drawing.rows or fitting))
        on_shown = {name: _at(values, first.shown) for name, values in imputed.items()}
        lines = imputation_lines(rows, on_shown, fitting)
        yield [], draw_grid(lines, heading_of("Imputations", scope, cell, GRID_MARKS))
    numbers = _chosen(drawing, schema, ("numeric", "features"))
    if numbers:
        most = numbers if drawing.attributes else numbers[:MOST_PANELS]
        note = _cut(len(most), len(numbers), f"hidden test entries, at most {POINTS} per panel and method")
        panels = scatter_panels(_scored(first), imputed, most)
        if panels:
            yield ["numbers"], draw_scatter(panels, heading_of("Imputed numbers", scope, cell, note))
    categories = _chosen(drawing, schema, ("categorical",))
    if categories:
        most = categories if drawing.attributes else categories[: max(1, MOST_PANELS // len(found))]
        note = _cut(len(most), len(categories), "all hidden test entries")
        confusions = confusion_panels(_scored(first), imputed, most)
        if confusions:
            heading = heading_of("Imputed categories", scope, cell, note)
            yield ["categories"], draw_confusion(confusions, heading)


def plot_samples(scope: Scope, place: Place, drawing: Drawing, console: Console) -> list[Path]:
    """Draw several imputations of the same rows, one figure per method; returns the files."""
    registry = ready(scope, place, drawing)
    _require_that_show("sample", "draws no samples: it gives one imputation of a row", scope, registry)
    written: list[Path] = []
    for dataset in scope.datasets:
        for cell, snapshot in _snapshots(scope, dataset, place, registry, console):
            figure = _samples(cell, snapshot, scope, drawing)
            written += save(figure, drawing, console, ["samples", *name_of(scope, cell, method=True)])
    return written


def _samples(cell: Cell, snapshot: Snapshot, scope: Scope, drawing: Drawing) -> Figure:
    from bench.report.figures.attribute import draw_draws
    from bench.report.figures.grid import draw_grid, sample_lines, thumbnails_that_fit
    from bench.report.figures.panels import draws_panels

    schema, title = snapshot.schema, f"Draws from {cell.method}"
    if schema.of_kind("image").size:
        count = min(drawing.draws or thumbnails_that_fit(schema, headed=True) - 2, len(snapshot.samples))
        rows = _shown(snapshot).take(slice(0, drawing.rows or LINES))
        lines = sample_lines(rows, snapshot.samples[:count])
        heading = heading_of(title, scope, cell, f"{GRID_MARKS}; draws of the hidden part, each on its own")
        return draw_grid(lines, heading, ["observed", "truth", *(str(draw + 1) for draw in range(count))])
    chosen = _chosen(drawing, schema, ("numeric", "categorical", "features"))
    most = chosen if drawing.attributes else chosen[:MOST_PANELS]
    samples = snapshot.samples[: drawing.draws]
    panels = draws_panels(_scored(snapshot), snapshot.imputed, samples, most, drawing.rows or PANEL_LINES)
    sizes = "; dots of categories: share of draws" if any(panel.levels for panel in panels) else ""
    note = _cut(len(most), len(chosen), f"{len(samples)} draws of each hidden entry{sizes}")
    return draw_draws(panels, heading_of(title, scope, cell, note))


def plot_generations(scope: Scope, place: Place, drawing: Drawing, console: Console) -> list[Path]:
    """Draw rows sampled from the prior, one figure per method; returns the files."""
    registry = ready(scope, place, drawing)
    _require_that_show("generate", "has no prior to generate rows from", scope, registry)
    written: list[Path] = []
    for dataset in scope.datasets:
        for cell, snapshot in _snapshots(scope, dataset, place, registry, console):
            assert snapshot.generated is not None, "a method that generates has generated"
            figure = _generations(cell, snapshot, snapshot.generated, scope, drawing)
            written += save(figure, drawing, console, ["generations", *name_of(scope, cell, method=True)])
    return written


def _generations(cell: Cell, snapshot: Snapshot, generated: Values, scope: Scope, drawing: Drawing) -> Figure:
    from bench.report.figures.attribute import draw_marginals
    from bench.report.figures.grid import draw_grid, generation_lines, thumbnails_that_fit
    from bench.report.figures.panels import marginal_panels

    schema, title = snapshot.schema, f"Rows sampled from the prior of {cell.method}"
    if schema.of_kind("image").size:
        fitting = thumbnails_that_fit(schema)
        count = drawing.rows or fitting * min(LINES, len(generated.scalars) // fitting)
        lines = generation_lines(schema, generated, count, fitting)
        return draw_grid(lines, heading_of(title, scope, cell, "nothing observed"))
    chosen = _chosen(drawing, schema, ("numeric", "categorical", "features"))
    most = chosen if drawing.attributes else chosen[:MOST_PANELS]
    panels = marginal_panels(_scored(snapshot), generated, most)
    note = _cut(len(most), len(chosen), f"{len(generated.scalars)} rows from the prior")
    return draw_marginals(panels, heading_of(title, scope, cell, note))


def _require_that_show(what: str, otherwise: str, scope: Scope, registry: Registry) -> None:
    """Raise BenchError unless every method asked for can ``sample`` or ``generate``, before any is trained."""
    for name in scope.methods or (DEFAULT_METHOD,):
        if not shows(what, registry.method(name)):
            raise BenchError(f"method '{name}' {otherwise}")


def _snapshots(
    scope: Scope, dataset: str, place: Place, registry: Registry, console: Console
) -> list[tuple[Cell, Snapshot]]:
    """Return each method's cell on a data set and its snapshot, under the first seed: rows are shown, not averages."""
    seeds = (scope.seeds or DEFAULT_SEEDS)[:1]
    asked = replace(scope, methods=scope.methods or (DEFAULT_METHOD,), seeds=seeds)
    jobs = jobs_on(dataset, asked, place, registry, console)
    return [(job.cells[0], found) for job, found in zip(jobs, snapshots_of(jobs, place, console), strict=True)]


# Snapshots to what is drawn


def _at(values: Values, rows: IntArray) -> Values:
    """Return values whose blocks are of some rows with the scalars of these rows too."""
    return Values(values.scalars[rows], values.blocks)


def _shown(snapshot: Snapshot) -> ShownRows:
    from bench.report.figures.grid import ShownRows

    rows = snapshot.shown
    return ShownRows(snapshot.schema, _at(snapshot.truth, rows), snapshot.observed[rows], snapshot.present[rows])


def _scored(snapshot: Snapshot) -> ScoredRows:
    from bench.report.figures.panels import ScoredRows

    return ScoredRows(snapshot.schema, snapshot.truth, snapshot.hidden, snapshot.present, snapshot.shown)


def _chosen(drawing: Drawing, schema: Schema, kinds: Sequence[str]) -> list[int]:
    """Return the attributes of some kinds that were asked for, all if none is named; raises BenchError."""
    for name in drawing.attributes:
        if name not in schema.names:
            raise BenchError(f"--attributes: the data has no attribute '{name}'.{closest(name, schema.names)}")
    wanted = drawing.attributes or schema.names
    return [i for i, a in enumerate(schema.attributes) if a.kind in kinds and a.name in wanted]


def _cut(shown: int, there: int, note: str) -> str:
    """Return a note that says how many attributes there are, if not all are shown."""
    return note if shown == there else f"first {shown} of {there} attributes; {note}"
