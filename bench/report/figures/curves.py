"""Curves of a training over its epochs, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.report.figures.style import (
    COLUMN_WIDTH,
    FLOOR_COLOUR,
    GRID_COLOUR,
    SMALL_SIZE,
    TEXT_SIZE,
    Heading,
    add_heading,
    series_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class TrainingRun:
    """A training: (epoch, loss) and (epoch, validation error over the floor's), and where the error was lowest."""

    seed: int
    loss: Curve
    validation: Curve
    best_epoch: int
    best_error: float


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
