"""Curves: an error over the missing ratio, method by method, and a training over its epochs, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.report.cell import ReportCell
from bench.report.figures.style import (
    COLUMN_WIDTH,
    FLOOR_COLOUR,
    GRID_COLOUR,
    METRIC_LABELS,
    SMALL_SIZE,
    TEXT_SIZE,
    Heading,
    add_heading,
    legend_columns,
    literally,
    series_style,
)
from bench.report.table import ReportTable
from bench.report.text import row_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]
#: How far neighbouring methods are drawn beside each other, so that no error bar hides another.
_DODGE = 0.006


@dataclass(frozen=True)
class RatioPoint:
    """A method's error at one missing ratio: mean and sample standard deviation over ``n`` seeds, None with one."""

    ratio: float
    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class RatioCurve:
    """A method's points in the order of their ratios."""

    label: str
    points: tuple[RatioPoint, ...]
    floor: bool = False


@dataclass(frozen=True)
class RatioPanel:
    """The curves of one metric; ``label`` names it with its unit."""

    label: str
    curves: tuple[RatioCurve, ...]


@dataclass(frozen=True)
class TrainingRun:
    """A training: (epoch, loss) and (epoch, validation error over the floor's), and where the error was lowest."""

    seed: int
    loss: Curve
    validation: Curve
    best_epoch: int
    best_error: float


def ratio_panels(table: ReportTable) -> tuple[RatioPanel, ...]:
    """Return one panel per metric of a table whose columns differ in metric and ratio alone; empty curves are left out.

    Its rows are the methods, the floor among them.
    """
    spec = table.spec
    panels = []
    for metric in dict.fromkeys(cell.spec.metric for cell in table.cells):
        curves = []
        for row in range(len(spec.rows)):
            cells = [cell for cell in table.line(0, row) if cell.spec.metric == metric]
            points = tuple(sorted((_point(cell) for cell in cells if cell.values), key=lambda point: point.ratio))
            if points:
                curves.append(RatioCurve(row_label(table, row).plain, points, spec.rows[row].floor))
        if curves:
            panels.append(RatioPanel(METRIC_LABELS.get(metric, metric), tuple(curves)))
    return tuple(panels)


def _point(cell: ReportCell) -> RatioPoint:
    assert cell.mean is not None, "a point needs a value"
    return RatioPoint(cell.spec.ratio, cell.mean, cell.sd, cell.n)


def draw_ratios(panels: Sequence[RatioPanel], heading: Heading) -> Figure:
    """Return the figure: one panel below the other, one legend for all."""
    from matplotlib.figure import Figure

    labels = list(dict.fromkeys(curve.label for panel in panels for curve in panel.curves))
    floors = {curve.label for panel in panels for curve in panel.curves if curve.floor}
    # The floor has a look of its own.
    coloured = sorted(labels, key=lambda label: label in floors)
    columns = legend_columns(labels)
    legend_height = 0.16 * -(-len(labels) // columns)
    figure = Figure(figsize=(COLUMN_WIDTH, 0.7 + 1.9 * len(panels) + legend_height), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, sharex=True)[:, 0]
    handles: dict[str, Any] = {}
    for place, panel in zip(axes, panels, strict=True):
        for curve in panel.curves:
            offset = _DODGE * (labels.index(curve.label) - (len(labels) - 1) / 2)
            handles[curve.label] = _draw_curve(place, curve, coloured.index(curve.label), offset)
        _finish(place, panel.label)
    ratios = sorted({point.ratio for panel in panels for curve in panel.curves for point in curve.points})
    axes[-1].set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    axes[-1].set_xlabel("missing ratio (share of entries hidden)", fontsize=TEXT_SIZE)
    add_heading(figure, heading, [handles[label] for label in labels])
    return figure


def _draw_curve(axes: Axes, curve: RatioCurve, index: int, offset: float) -> Any:
    style = series_style(index)
    colour = FLOOR_COLOUR if curve.floor else style.colour
    drawn = axes.errorbar(
        [point.ratio + offset for point in curve.points],
        [point.mean for point in curve.points],
        yerr=[point.sd or 0.0 for point in curve.points],
        color=colour,
        marker="_" if curve.floor else style.marker,
        markersize=6 if curve.floor else 4,
        linestyle=(0, (3, 2)) if curve.floor else style.dash,
        linewidth=1.1,
        elinewidth=0.9,
        capsize=2,
        capthick=0.9,
        label=literally(curve.label),
        zorder=2 if curve.floor else 3,
    )
    return drawn


def draw_training(runs: Sequence[TrainingRun], heading: Heading) -> Figure:
    """Return the figure: the loss above, the validation error over the floor's below, one line per seed.

    A star marks the epoch whose state was kept; the dashed line is the floor.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(COLUMN_WIDTH, 4.0), layout="constrained")
    loss, validation = figure.subplots(2, 1, sharex=True)
    handles = []
    for index, run in enumerate(runs):
        style = series_style(index)
        line = {"color": style.colour, "linestyle": style.dash, "linewidth": 1.1}
        for axes, curve in ((loss, run.loss), (validation, run.validation)):
            marker = {"marker": style.marker, "markersize": 2.5} if len(curve) < 60 else {}
            (drawn,) = axes.plot(*np.transpose(curve), **line, **marker, label=f"seed {run.seed}")
        handles.append(drawn)
        validation.plot(
            run.best_epoch,
            run.best_error,
            marker="*",
            markersize=10,
            color=style.colour,
            markeredgecolor="black",
            markeredgewidth=0.7,
            linestyle="none",
            zorder=5,
            clip_on=False,
        )
    handles.append(validation.axhline(1.0, color=FLOOR_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), label="the floor"))
    handles += validation.plot(
        [],
        [],
        marker="*",
        markersize=8,
        color="white",
        markeredgecolor="black",
        markeredgewidth=0.7,
        linestyle="none",
        label="kept epoch",
    )
    last = max(epoch for run in runs for epoch, _ in run.loss)
    if last == 1:
        validation.set_xlim(0.5, 1.5)
    low, high = _range_without_the_first_fall(runs)
    loss.set_ylim(low, high)
    _finish(loss, "training loss (mean per row)")
    _finish(validation, "validation error (floor = 1)")
    validation.xaxis.set_major_locator(MaxNLocator(integer=True))
    validation.set_xlabel("epoch", fontsize=TEXT_SIZE)
    add_heading(figure, heading, handles)
    return figure


def _range_without_the_first_fall(runs: Sequence[TrainingRun]) -> tuple[float, float]:
    """Return limits that leave out what only the first tenth of the epochs reaches, if that dwarfs the rest."""
    every = np.array([value for run in runs for _, value in run.loss])
    later = np.array([value for run in runs for _, value in run.loss[len(run.loss) // 10 :]])
    span = np.ptp(later) or abs(later[0]) or 1.0
    high = every.max() if every.max() <= later.max() + span else later.max()
    return float(every.min() - 0.06 * span), float(high + 0.06 * span)


def _finish(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, fontsize=TEXT_SIZE)
    axes.tick_params(labelsize=TEXT_SIZE, length=2.5, pad=2)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.yaxis.get_offset_text().set_fontsize(SMALL_SIZE)
