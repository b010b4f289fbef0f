"""What the figures of all verbs share: the jobs behind one, its words and its files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bench.errors import BenchError
from bench.experiment.cell import Cell, Job
from bench.experiment.expand import grid_spec, require_parameter_set
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry
from bench.report.figures.drawing import Drawing
from bench.report.figures.style import Heading, require_formats, save_figure
from bench.run.plan import plan_jobs
from bench.run.progress import print_line
from bench.run.request import Place
from bench.run.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

DEFAULT_METHOD = "vsae"
DEFAULT_SEEDS = (0, 1, 2)


def ready(scope: Scope, place: Place, drawing: Drawing) -> Registry:
    """Return the registry; raises BenchError on what is wrong with a request, before anything is computed."""
    require_formats(drawing.formats)
    if drawing.output.exists() and not drawing.output.is_dir():
        raise BenchError(f"--output: {drawing.output} is a file; name a folder")
    scope.require_valid()
    place.require_valid()
    Store(*place.folders)
    registry = Registry.scan(place.plugins)
    require_parameter_set(scope.parameter_set, registry)
    return registry


def jobs_on(dataset: str, scope: Scope, place: Place, registry: Registry, console: Console) -> list[Job]:
    """Return a job for each cell of a scope on one data set: the cells that a grid of ``run`` has."""
    grid = replace(scope, datasets=(dataset,), ratios=scope.ratios[:1])
    jobs = plan_jobs([grid_spec(grid, registry)], grid, place.store, registry, console).jobs
    return [Job((cell,), job.plugins) for job in jobs for cell in job.cells]


def heading_of(title: str, scope: Scope, cell: Cell, note: str, seeds: str = "") -> Heading:
    """Return the heading of a figure of a cell, with what was computed and a note on what is drawn."""
    details = (
        f"{cell.mechanism}, ratio {cell.ratio:g}, {seeds or f'seed {cell.seed}'}; preset {cell.preset}, parameter set "
        f"{scope.parameter_set}; {note}"
    )
    return Heading(f"{title}: {cell.dataset}", details)


def name_of(scope: Scope, cell: Cell, method: bool = False, seed: bool = True) -> list[str]:
    """Return what a file's name says of a cell."""
    words = [cell.dataset, *([cell.method] if method else []), cell.mechanism, f"{cell.ratio:g}"]
    return [*words, *([f"seed{cell.seed}"] if seed else []), cell.preset, scope.parameter_set]


def save(figure: Figure, drawing: Drawing, console: Console, words: Sequence[str]) -> list[Path]:
    """Write a figure under a name made of words, say so, and return the files; raises BenchError if that fails."""
    stem = drawing.output / "_".join(quote(word, safe="") for word in words)
    try:
        written = list(save_figure(figure, stem, require_formats(drawing.formats)))
    except OSError as error:
        raise BenchError(f"--output: {stem} cannot be written: {error.strerror or error}") from None
    for path in written:
        print_line(console, f"wrote {path}")
    return written


def listed(items: Iterable[object]) -> str:
    """Return items with commas between them."""
    return ", ".join(str(item) for item in items)
