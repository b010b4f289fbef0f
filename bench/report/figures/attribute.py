"""Draws panels of numbers and categories: truth against imputation, draws of a row, generated rows against real ones.

``bench.report.figures.panels`` makes the panels. Images are not drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.schema import AnyArray, FloatArray
from bench.report.figures.panels import ConfusionPanel, DrawsPanel, MarginalPanel, ScatterPanel
from bench.report.figures.style import (
    COLUMN_WIDTH,
    FLOOR_COLOUR,
    GRID_COLOUR,
    HIDDEN_COLOUR,
    RIGHT_COLOUR,
    SMALL_SIZE,
    TEXT_SIZE,
    WRONG_COLOUR,
    Heading,
    add_heading,
    literally,
    series_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Points of one method in a panel: with more, marks hide each other.
POINTS = 120
#: Characters of a category's name on an axis.
_NAME_CHARACTERS = 11
#: Levels up to which the shares are written into a confusion matrix.
_WRITTEN_LEVELS = 5


def draw_scatter(panels: Sequence[ScatterPanel], heading: Heading) -> Figure:
    """Return the figure: imputed over true numbers, two panels side by side; on the dashed line they are the same."""
    figure, axes = _panels(len(panels), 1.62, legend=0.2)
    handles: dict[str, Any] = {}
    for place, panel in zip(axes, panels, strict=True):
        low, high = _limits([panel.truth, *panel.imputed.values()])
        place.plot([low, high], [low, high], color=FLOOR_COLOUR, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        chosen = np.unique(np.linspace(0, len(panel.truth) - 1, POINTS).round().astype(np.int64))
        for index, (label, imputed) in enumerate(panel.imputed.items()):
            style = series_style(index)
            (drawn,) = place.plot(
                panel.truth[chosen],
                imputed[chosen],
                linestyle="none",
                marker=style.marker,
                markersize=2.6,
                markerfacecolor="none",
                markeredgecolor=style.colour,
                markeredgewidth=0.7,
                label=literally(label),
                zorder=3 + index,
            )
            handles[label] = drawn
        place.set_xlim(low, high)
        place.set_ylim(low, high)
        place.set_box_aspect(1)
        _finish(place, panel.name)
    figure.supylabel("imputed (the data's own unit)", fontsize=TEXT_SIZE)
    _x_label(axes, "truth (the data's own unit)")
    add_heading(figure, heading, list(handles.values()))
    return figure


def draw_confusion(panels: Sequence[ConfusionPanel], heading: Heading) -> Figure:
    """Return the figure: for each true level the share of each imputed level, and the share that is right."""
    figure, axes = _panels(len(panels), 1.75, legend=0.35)
    image = None
    for place, panel in zip(axes, panels, strict=True):
        shares = panel.counts / np.maximum(panel.counts.sum(axis=1, keepdims=True), 1)
        image = place.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        right = panel.counts.trace() / max(panel.counts.sum(), 1)
        place.set_title(literally(f"{panel.name}, {panel.method}:\n{right:.0%} right"), fontsize=TEXT_SIZE, pad=3)
        count = len(panel.levels)
        size = SMALL_SIZE if count <= 10 else 3.5
        names = [_short(level) for level in panel.levels]
        place.set_xticks(range(count), names, fontsize=size, rotation=90)
        place.set_yticks(range(count), names, fontsize=size)
        place.tick_params(length=1.5, pad=1)
        if count <= _WRITTEN_LEVELS:
            for true, imputed in np.ndindex(count, count):
                share = shares[true, imputed]
                place.text(
                    imputed,
                    true,
                    f"{share:.2f}",
                    ha="center",
                    va="center",
                    fontsize=SMALL_SIZE,
                    color="white" if share > 0.55 else "black",
                )
    assert image is not None, "a picture needs a panel"
    figure.supylabel("true level", fontsize=TEXT_SIZE)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=30, pad=0.02)
    bar.set_label("share of the true level (columns: imputed level)", fontsize=TEXT_SIZE)
    bar.ax.tick_params(labelsize=SMALL_SIZE, length=2)
    add_heading(figure, heading)
    return figure


def draw_draws(panels: Sequence[DrawsPanel], heading: Heading) -> Figure:
    """Return the figure: one line per row with its draws, the truth and the imputation, two panels side by side.

    Of categories the size of a dot is the share of the draws.
    """
    from matplotlib.lines import Line2D

    most = max(len(panel.truth) for panel in panels)
    figure, axes = _panels(len(panels), 0.62 + 0.15 * most, legend=0.2)
    for place, panel in zip(axes, panels, strict=True):
        for line in range(len(panel.truth)):
            place.axhline(line, color=GRID_COLOUR, linewidth=0.6, zorder=1)
            levels, counts = np.unique(panel.draws[:, line], return_counts=True)
            shares = counts / len(panel.draws)
            sizes = 55 * shares if panel.levels else np.full(len(levels), 11.0)
            place.scatter(
                levels,
                np.full(len(levels), line),
                s=sizes,
                marker="o",
                facecolors="none",
                edgecolors=RIGHT_COLOUR,
                linewidths=0.7,
                zorder=3,
            )
            place.plot(
                panel.imputed[line], line, marker="|", markersize=8, color="black", markeredgewidth=1.3, zorder=4
            )
            place.plot(
                panel.truth[line], line, marker="D", markersize=3.2, color=WRONG_COLOUR, linestyle="none", zorder=5
            )
        place.set_ylim(len(panel.truth) - 0.4, -0.6)
        place.set_yticks([])
        if panel.levels:
            place.set_xlim(-0.6, len(panel.levels) - 0.4)
        _finish(place, panel.name)
        if panel.levels:
            _level_ticks(place, panel.levels)
    handles = [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="none",
            markerfacecolor="none",
            color=RIGHT_COLOUR,
            markersize=3.6,
            label="draws",
        ),
        Line2D(
            [], [], marker="|", linestyle="none", color="black", markersize=8, markeredgewidth=1.3, label="imputation"
        ),
        Line2D([], [], marker="D", linestyle="none", color=WRONG_COLOUR, markersize=3.2, label="truth"),
    ]
    figure.supylabel("test rows, one per line", fontsize=TEXT_SIZE)
    _x_label(axes, _value_words([panel.levels for panel in panels]))
    add_heading(figure, heading, handles)
    return figure


def draw_marginals(panels: Sequence[MarginalPanel], heading: Heading) -> Figure:
    """Return the figure: how often values occur in real rows (grey) and in generated ones (outlined)."""
    from matplotlib.patches import Patch

    figure, axes = _panels(len(panels), 1.35, legend=0.2)
    made: dict[str, Any] = {"facecolor": "none", "edgecolor": RIGHT_COLOUR, "linewidth": 1.1}
    for place, panel in zip(axes, panels, strict=True):
        if panel.levels:
            codes = np.arange(len(panel.levels))
            edges = np.arange(len(panel.levels) + 1) - 0.5
            place.bar(codes, _shares(panel.real, edges), width=0.8, color=HIDDEN_COLOUR)
            place.bar(codes, _shares(panel.generated, edges), width=0.5, **made)
        else:
            low, high = _limits([panel.real, panel.generated])
            edges = np.linspace(low, high, 25)
            place.stairs(_shares(panel.real, edges), edges, fill=True, color=HIDDEN_COLOUR)
            place.stairs(_shares(panel.generated, edges), edges, color=RIGHT_COLOUR, linewidth=1.1)
        _finish(place, panel.name)
        if panel.levels:
            _level_ticks(place, panel.levels)
    figure.supylabel("share of rows (%)", fontsize=TEXT_SIZE)
    _x_label(axes, _value_words([panel.levels for panel in panels]))
    handles = [Patch(color=HIDDEN_COLOUR, label="test rows"), Patch(**made, label="generated")]
    add_heading(figure, heading, handles)
    return figure


def _panels(count: int, height: float, legend: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels, two side by side, each of a height in inches."""
    from matplotlib.figure import Figure

    across = min(2, count)
    down = -(-count // across)
    figure = Figure(figsize=(COLUMN_WIDTH, 0.75 + legend + down * height), layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for place in axes[count:]:
        place.set_axis_off()
    return figure, axes[:count]


def _shares(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Return the percentage of values between neighbouring edges; what lies outside counts in the whole."""
    shares: FloatArray = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
    return shares


def _limits(arrays: Sequence[AnyArray]) -> tuple[float, float]:
    """Return limits around the first array, and around what of the others is not far outside."""
    first = arrays[0]
    low, high = float(first.min()), float(first.max())
    span = (high - low) or abs(high) or 1.0
    others = np.concatenate([np.ravel(array) for array in arrays])
    near = others[(others > low - 0.5 * span) & (others < high + 0.5 * span)]
    low, high = min(low, float(near.min())), max(high, float(near.max()))
    return low - 0.05 * span, high + 0.05 * span


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(literally(title), fontsize=TEXT_SIZE, pad=3)
    axes.tick_params(labelsize=SMALL_SIZE, length=2, pad=1.5)
    axes.locator_params(nbins=4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _level_ticks(axes: Axes, levels: Sequence[str]) -> None:
    names = [_short(level) for level in levels]
    upright = sum(len(name) for name in names) > 18
    axes.set_xticks(range(len(levels)), names, fontsize=SMALL_SIZE, rotation=90 if upright else 0)


def _short(name: str) -> str:
    """Return a category's name, cut if it is long."""
    return literally(name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…")


def _value_words(levels: Sequence[tuple[str, ...]]) -> str:
    """Return what stands on the horizontal axes of panels with these levels, none for a number."""
    number = "value (the data's own unit)"
    return number if not any(levels) else "level" if all(levels) else f"level, or {number}"


def _x_label(axes: Sequence[Axes], text: str) -> None:
    """Label the lowest panels of each column."""
    for place in axes[-2:]:
        place.set_xlabel(text, fontsize=SMALL_SIZE, labelpad=2)
