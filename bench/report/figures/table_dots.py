"""A table as a picture: one panel per column, one dot with its error bar per method, the floor, what was published."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

from bench.report.cell import ReportCell
from bench.report.figures.style import FLOOR_COLOUR, FORMATS, METRIC_LABELS, MOST_FLOORS, literally, save_figure
from bench.report.published import PublishedValue
from bench.report.table import ReportTable
from bench.report.text import (
    SUBSET_MARK,
    TRANSDUCTIVE_MARK,
    column_label,
    heading,
    precision_words,
    row_label,
    section_label,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# From Okabe and Ito's palette; the shapes differ as well.
_OURS, _REFERENCE, _PUBLISHED, _FLOOR = "#0072B2", "#56B4E9", "#D55E00", FLOOR_COLOUR
#: Dots per inch of a table's picture, which is as wide as a page.
_DPI = 200
#: Characters of a panel's title that fit above it.
_TITLE_WIDTH = 30
#: Characters of the line below the panels that fit into an inch.
_READING_WIDTH = 19


def plot_table(table: ReportTable, path_stem: str | Path, formats: Iterable[str] = FORMATS) -> tuple[Path, ...]:
    """Draw the table and write ``path_stem`` with each format's suffix; returns the files."""
    return save_figure(draw_table(table), path_stem, formats, _DPI)


def draw_table(table: ReportTable) -> Figure:
    """Return the figure: panels in the table's order, at most four side by side, 7.2 inches wide."""
    from matplotlib.figure import Figure

    spec = table.spec
    panels = [(section, column) for section in range(len(spec.sections)) for column in range(len(spec.columns))]
    across = min(4, len(spec.columns))
    down = -(-len(panels) // across)
    panel_height = 0.55 + 0.19 * len(spec.rows)
    figure = Figure(figsize=(7.2, 0.85 + down * panel_height), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for index, place in enumerate(panels):
        _draw_panel(axes[index // across][index % across], table, *place, labelled=index % across == 0)
    for index in range(len(panels), down * across):
        axes[index // across][index % across].set_axis_off()
    figure.suptitle(literally(heading(table)), fontsize=9, fontweight="bold")
    _add_legend(figure, table)
    return figure


def _reading(table: ReportTable) -> str:
    """Return the line that says what the picture shows."""
    preset = f"preset {table.preset}" if table.preset is not None else "no stored rows yet"
    better = {table.spec.best(column) for column in range(len(table.spec.columns))}
    direction = "left is better" if better == {"min"} else "right is better" if better == {"max"} else "see each panel"
    return (
        f"mean ± sample standard deviation over up to {len(table.spec.seeds)} seeds, {preset}, "
        f"parameter set {table.parameter_set}{precision_words(table)}; {direction}"
        + "".join(f"; {words}" for words in _marks(table))
    )


def _marks(table: ReportTable) -> list[str]:
    """Return what the marks of labels mean, as far as they occur."""
    marks = []
    if any(cell.subset for cell in table.cells):
        marks.append(f"{SUBSET_MARK}\u00a0subset of the data")
    if any(table.transductive(row) for row in range(len(table.spec.rows))):
        marks.append(f"{TRANSDUCTIVE_MARK}\u00a0transductive")
    return marks


def _draw_panel(axes: Axes, table: ReportTable, section: int, column: int, labelled: bool) -> None:
    """Draw one column of one section; ``labelled`` panels carry the methods' names."""
    spec = table.spec
    cells = [table.cell(section, row, column) for row in range(len(spec.rows))]
    floor = next((cell.floor for cell in cells if cell.floor is not None), None)
    if floor is not None:
        axes.axvline(floor, color=_FLOOR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    far = spec.best(column) == "min" and floor is not None
    most = MOST_FLOORS * (floor or 0.0) if far else math.inf
    for row, cell in enumerate(cells):
        _draw_cell(axes, table, row, cell, most)
    axes.set_ylim(len(spec.rows) - 0.4, -0.6)
    names = [literally(row_label(table, row).plain) for row in range(len(spec.rows))]
    axes.set_yticks(range(len(spec.rows)), names if labelled else [""] * len(names), fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=6.5, length=2, pad=2)
    axes.locator_params(axis="x", nbins=4)
    axes.margins(x=0.12)
    _mark_far(axes, cells, most)
    for row, cell in enumerate(cells):
        if cell.mean is None:
            _write_status(axes, row, cell)
    if floor is None and not any(cell.values or _shown(cell) for cell in cells):
        axes.set_xticks([])
    axes.grid(axis="y", color="#E5E5E5", linewidth=0.5, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.set_title(_panel_title(table, section, column), fontsize=7, pad=3)
    metric = cells[0].spec.metric
    axes.set_xlabel(METRIC_LABELS.get(metric, metric), fontsize=6.5, labelpad=2)


def _mark_far(axes: Axes, cells: Sequence[ReportCell], most: float) -> None:
    """Mark at the right edge, with their numbers, the values that are more than so much: they stretch no axis."""
    right = axes.get_xlim()[1]
    for row, cell in enumerate(cells):
        published = _shown(cell)
        ours = None if cell.mean is None or cell.mean <= most else cell.mean
        theirs = None if published is None or published.mean <= most else published.mean
        for value, colour, face in ((theirs, _PUBLISHED, "none"), (ours, _OURS, _OURS)):
            if value is not None:
                axes.plot(right, row, ">", color=colour, markerfacecolor=face, markersize=5, clip_on=False, zorder=5)
        words = [f"{ours:.2g}" if ours is not None else "", f"({theirs:.2g})" if theirs is not None else ""]
        if any(words):
            axes.annotate(
                " ".join(filter(None, words)),
                (right, row),
                xytext=(-5, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=5.5,
                color=_OURS if ours is not None else _PUBLISHED,
            )
    axes.set_xlim(right=right)


def _draw_cell(axes: Axes, table: ReportTable, row: int, cell: ReportCell, most: float) -> None:
    """Draw one method: its dot and bar, and the published value as a hollow mark, as far as they are below ``most``."""
    extra = table.spec.rows[row].reference or table.spec.rows[row].floor
    published = _shown(cell)
    if published is not None and published.mean <= most:
        axes.errorbar(
            published.mean,
            row,
            xerr=published.sd,
            fmt="D",
            markersize=5,
            markerfacecolor="none",
            markeredgecolor=_PUBLISHED,
            markeredgewidth=0.9,
            ecolor=_PUBLISHED,
            elinewidth=0.7,
            zorder=4,
        )
    if cell.mean is not None and cell.mean <= most:
        colour = _REFERENCE if extra else _OURS
        axes.errorbar(
            cell.mean,
            row,
            xerr=cell.sd,
            fmt="s" if extra else "o",
            markersize=4,
            color=colour,
            ecolor=colour,
            elinewidth=1.1,
            capsize=1.8,
            capthick=0.9,
            zorder=3,
        )


def _shown(cell: ReportCell) -> PublishedValue | None:
    """Return the published number of a cell if it compares with ours."""
    return cell.published if cell.spec.comparable else None


def _write_status(axes: Axes, row: int, cell: ReportCell) -> None:
    """Write why a method has no dot, on the side of the panel away from its published mark."""
    published = _shown(cell)
    left, right = axes.get_xlim()
    at_left = published is not None and published.mean > (left + right) / 2
    words = {"missing": "not run", "unobtained": "no data"}.get(cell.status, cell.status)
    axes.text(
        0.02 if at_left else 0.98,
        row,
        words,
        ha="left" if at_left else "right",
        va="center",
        transform=axes.get_yaxis_transform(),
        fontsize=5.5,
        color=_FLOOR,
        style="italic",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        zorder=1.5,
    )


def _panel_title(table: ReportTable, section: int, column: int) -> str:
    """Return the title of a panel: its section, group and label, in lines no wider than the panel."""
    own, group = column_label(table, column).plain, table.spec.columns[column].group
    first = " ".join(part for part in (section_label(table, section).plain, group) if part)
    return literally("\n".join(line for part in (first, own) for line in wrap(part, _TITLE_WIDTH)))


def _add_legend(figure: Figure, table: ReportTable) -> None:
    """Add one legend for all panels, of the marks that occur."""
    from matplotlib.lines import Line2D

    rows = table.spec.rows
    handles = [Line2D([], [], color=_OURS, marker="o", markersize=4, linestyle="none", label="ours")]
    if any(row.reference or row.floor for row in rows):
        label = "ours, not in the paper"
        handles.append(Line2D([], [], color=_REFERENCE, marker="s", markersize=4, linestyle="none", label=label))
    if any(_shown(cell) for cell in table.cells):
        handles.append(
            Line2D(
                [],
                [],
                color=_PUBLISHED,
                marker="D",
                markersize=5,
                markerfacecolor="none",
                linestyle="none",
                label="published",
            )
        )
    if any(cell.floor is not None for cell in table.cells) and table.spec.floor_row is not None:
        name = f"floor ({literally(rows[table.spec.floor_row].label)})"
        handles.append(Line2D([], [], color=_FLOOR, linewidth=0.9, linestyle=(0, (4, 2)), label=name))
    reading = "\n".join(wrap(_reading(table), round(_READING_WIDTH * figure.get_figwidth())))
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        fontsize=7,
        frameon=False,
        title=reading,
        title_fontsize=6.5,
    )
    legend.get_title().set_multialignment("center")
