"""Errors over the missing ratio as small multiples: panels by mechanism, data set or method, a line per method.

The axis is the *skill* over the floor, 1 less the error in units of the floor's on the same seed: 0 is the floor, 1 is
no error. On request it is the metric itself. What lies far below the floor is marked at the edge with its number, so
that it never flattens the rest. Published numbers in the same unit stand as hollow marks.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.experiment.specs import TableSpec
from bench.report.cell import ReportCell
from bench.report.figures.style import (
    COLUMN_WIDTH,
    FLOOR_COLOUR,
    GRID_COLOUR,
    METHOD_ORDER,
    METRIC_LABELS,
    MOST_FLOORS,
    PAGE_WIDTH,
    SMALL_SIZE,
    TEXT_SIZE,
    Heading,
    SeriesStyle,
    add_heading,
    legend_columns,
    literally,
    method_style,
    series_style,
    wrapped,
)
from bench.report.published import Published, PublishedValue
from bench.report.rules.cells import UNKNOWN_UNIT
from bench.report.table import ReportTable
from bench.report.text import TRANSDUCTIVE_MARK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

By = Literal["mechanism", "dataset", "method"]
BY: tuple[By, ...] = ("mechanism", "dataset", "method")
#: A skill below this is marked at the edge of its panel.
LEAST_SKILL = 1 - MOST_FLOORS
#: Panels beside each other.
MOST_ACROSS = 4
#: The share of a panel's height that one direct label takes.
_LABEL_ROOM = 0.085
#: Where what the paper prints is found: (data set, mechanism, ratio, method, metric).
Place = tuple[str, str, float, str, str]


@dataclass(frozen=True)
class RatioPoint:
    """A value at one missing ratio: mean and sample standard deviation over ``n`` seeds, None with one.

    ``floor`` is the floor's error there, None if it was not run.
    """

    ratio: float
    mean: float
    sd: float | None
    n: int
    floor: float | None = None


@dataclass(frozen=True)
class RatioCurve:
    """What one method gives on a data set under a mechanism, in the order of the ratios, and what the paper printed."""

    dataset: str
    mechanism: str
    metric: str
    method: str
    label: str
    points: tuple[RatioPoint, ...]
    published: tuple[RatioPoint, ...] = ()
    floor: bool = False


def published_places(specs: Iterable[TableSpec], published: Published) -> dict[Place, list[PublishedValue]]:
    """Return the published numbers that have the unit of a metric of ours over all attributes.

    That is those of all attributes, and those of the one attribute that a metric is of. NRMSEs are none: what they
    divide by is not known.
    """
    found: dict[Place, dict[str, list[PublishedValue]]] = {}
    for spec in specs:
        for cell in spec.cells():
            if (
                cell.published is None
                or not cell.comparable
                or cell.published.metric == UNKNOWN_UNIT
                or cell.parameters
            ):
                continue
            place = (cell.dataset, cell.mechanism, cell.ratio, cell.method, cell.metric)
            found.setdefault(place, {}).setdefault(cell.attribute, []).append(published[cell.published])
    chosen = {place: own.get("all", next(iter(own.values())) if len(own) == 1 else []) for place, own in found.items()}
    return {place: values for place, values in chosen.items() if values}


def ratio_curves(
    table: ReportTable, skill: bool, names: Mapping[str, str], printed: Mapping[Place, Sequence[PublishedValue]]
) -> tuple[RatioCurve, ...]:
    """Return the curves of a table whose columns differ in metric and ratio alone; empty ones are left out.

    Its rows are the methods, the floor among them; ``names`` are display names by method.
    """
    spec = table.spec
    curves: list[RatioCurve] = []
    for metric in dict.fromkeys(cell.spec.metric for cell in table.cells):
        for row, own in enumerate(spec.rows):
            cells = sorted((c for c in table.line(0, row) if c.spec.metric == metric), key=lambda c: c.spec.ratio)
            floors = [_floor_of(table, cell) for cell in cells]
            points = tuple(filter(None, (_point(c, floor, skill) for c, floor in zip(cells, floors, strict=True))))
            if not points:
                continue
            first = cells[0].spec
            theirs = tuple(
                point
                for cell, floor in zip(cells, floors, strict=True)
                for value in printed.get((first.dataset, first.mechanism, cell.spec.ratio, first.method, metric), ())
                if not cell.subset and (point := _printed(cell.spec.ratio, value, floor, skill)) is not None
            )
            label = names.get(first.method, own.label) + (TRANSDUCTIVE_MARK if table.transductive(row) else "")
            curves.append(
                RatioCurve(first.dataset, first.mechanism, metric, first.method, label, points, theirs, own.floor)
            )
    return tuple(curves)


def _floor_of(table: ReportTable, cell: ReportCell) -> ReportCell | None:
    """Return the floor's cell in the column of another, if it has values."""
    row = table.spec.floor_row
    floor = None if row is None else table.cell(cell.spec.section, row, cell.spec.column)
    return floor if floor is not None and floor.values else None


def _point(cell: ReportCell, floor: ReportCell | None, skill: bool) -> RatioPoint | None:
    """Return what a cell gives, None without values or, of a skill, without the floor of a shared seed."""
    values = list(cell.values)
    if skill:
        levels = {} if floor is None else dict(zip(floor.seeds, floor.values, strict=True))
        pairs = zip(cell.seeds, cell.values, strict=True)
        values = [1 - value / levels[seed] for seed, value in pairs if levels.get(seed)]
    if not values:
        return None
    sd = statistics.stdev(values) if len(values) > 1 else None
    return RatioPoint(cell.spec.ratio, statistics.fmean(values), sd, len(values), floor.mean if floor else None)


def _printed(ratio: float, value: PublishedValue, floor: ReportCell | None, skill: bool) -> RatioPoint | None:
    """Return a published number as a point, as a skill over our floor; None without that."""
    level = floor.mean if floor is not None else None
    if not skill:
        return RatioPoint(ratio, value.mean, value.sd, 1, level)
    return RatioPoint(ratio, 1 - value.mean / level, None, 1, level) if level else None


@dataclass(frozen=True)
class Panel:
    """One panel of the small multiples: its title, what its axis shows, and its curves with their labels and looks."""

    title: str
    axis: str
    lines: tuple[tuple[RatioCurve, str, SeriesStyle], ...]


def panels_of(
    curves: Sequence[RatioCurve], by: By, skill: bool, datasets: Mapping[str, str] | None = None
) -> list[list[Panel]]:
    """Return rows of panels: by mechanism, data set or method, at most four beside each other.

    The lines are methods, or mechanisms where each method has a panel; ``datasets`` are display names.
    """
    names = datasets or {}
    drawn = [curve for curve in curves if not curve.floor]
    facets = list(dict.fromkeys(_facet(curve, by) for curve in drawn))
    if by == "method":
        facets = sorted(facets, key=lambda name: min(_rank(c) for c in drawn if c.label == name))
    rows = list(dict.fromkeys(_row_of(curve, by) for curve in drawn))
    mechanisms = list(dict.fromkeys(curve.mechanism for curve in drawn))
    grid = []
    for row in rows:
        line = []
        for facet in facets:
            own = [curve for curve in drawn if (_row_of(curve, by), _facet(curve, by)) == (row, facet)]
            own.sort(key=_rank)
            floor = [c for c in curves if c.floor and not skill and own and _place(c) == _place(own[0])]
            metric = METRIC_LABELS.get(row[1], row[1]).partition(" (")[0]
            parts = [
                names.get(part, part) for part in ((row[0], facet) if len(rows) > 1 or by != "method" else (facet,))
            ]
            lines = [(c, c.mechanism.upper() if by == "method" else c.label, _look(c, by, mechanisms)) for c in own]
            lines += [(c, "the floor", method_style(c.method)) for c in floor]
            title = ", ".join(dict.fromkeys(parts))
            line.append(Panel(title, f"skill ({metric})" if skill else metric, tuple(lines)))
        grid += [line[start : start + MOST_ACROSS] for start in range(0, len(line), MOST_ACROSS)]
    across = max(map(len, grid))
    return [[*line, *[Panel("", "", ())] * (across - len(line))] for line in grid]


def _rank(curve: RatioCurve) -> tuple[int, str]:
    """Return the place of a method among the others: those of the suite in their order, then by name."""
    known = curve.method in METHOD_ORDER
    return METHOD_ORDER.index(curve.method) if known else len(METHOD_ORDER), curve.method


def _facet(curve: RatioCurve, by: By) -> str:
    return {"mechanism": curve.mechanism.upper(), "dataset": curve.dataset, "method": curve.label}[by]


def _row_of(curve: RatioCurve, by: By) -> tuple[str, str]:
    return (curve.mechanism.upper() if by == "dataset" else curve.dataset), curve.metric


def _place(curve: RatioCurve) -> tuple[str, str, str]:
    return curve.dataset, curve.mechanism, curve.metric


def _look(curve: RatioCurve, by: By, mechanisms: Sequence[str]) -> SeriesStyle:
    return series_style(mechanisms.index(curve.mechanism)) if by == "method" else method_style(curve.method)


def draw_ratios(grid: Sequence[Sequence[Panel]], heading: Heading, skill: bool, page: bool) -> Figure:
    """Return the figure, as wide as a page or as a column; lines are named at their ends where that fits."""
    from matplotlib.figure import Figure

    across = len(grid[0])
    width = PAGE_WIDTH if page else COLUMN_WIDTH
    labels = list(dict.fromkeys(label for row in grid for panel in row for _, label, _ in panel.lines))
    every = [curve for row in grid for panel in row for curve, _, _ in panel.lines]
    signs = list(_signs(every, skill))
    entries = [*labels, *(str(sign.get_label()) for sign in signs)]
    legend_rows = -(-len(entries) // legend_columns(entries, width))
    height = 0.75 + (1.75 if across < 3 else 1.55) * len(grid) + 0.15 * legend_rows
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(len(grid), across, squeeze=False, sharex=True)
    ratios = sorted({p.ratio for row in grid for panel in row for c, _, _ in panel.lines for p in c.points})
    alone = len(ratios) == 1
    handles: dict[str, Any] = {}
    for places, row in zip(axes, grid, strict=True):
        limits = _limits([panel for panel in row if panel.lines], skill)
        for place, panel in zip(places, row, strict=True):
            if not panel.lines:
                place.set_axis_off()
                continue
            place.set_ylim(*limits)
            for number, (curve, label, style) in enumerate(panel.lines):
                aside = _aside(number, panel) if alone else 0.0
                handles[label] = _draw_curve(place, curve, label, style, aside, skill)
            _mark_outliers(place, panel, limits, skill, alone)
            _finish(place, panel, skill, first=place is places[0])
            _label_ends(place, panel, limits)
    for place in axes.flat:
        if alone:
            place.set_xticks([ratios[0]], [f"{ratios[0]:g}"])
            place.set_xlim(ratios[0] - 0.5, ratios[0] + 0.5)
        else:
            place.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
            place.set_xlim(ratios[0] - 0.04, ratios[-1] + 0.04)
    axes[-1][0].set_xlabel("missing ratio", fontsize=TEXT_SIZE)
    add_heading(figure, heading, [*(handles[label] for label in labels), *signs], width)
    return figure


def _limits(panels: Sequence[Panel], skill: bool) -> tuple[float, float]:
    """Return limits that all panels of a row share, without what is marked at the edge."""
    reached: list[float] = [0.0] if skill else []
    for curve in (curve for panel in panels for curve, _, _ in panel.lines):
        for point in (*curve.points, *curve.published):
            if not is_outlier(point, skill):
                spread = point.sd or 0.0
                reached += [point.mean - min(spread, abs(point.mean)), point.mean + min(spread, abs(point.mean))]
    if not reached:
        return (LEAST_SKILL, 0.1) if skill else (0.0, 1.0)
    span = max(reached) - min(reached) or abs(max(reached)) or 1.0
    return min(reached) - 0.08 * span, max(reached) + 0.08 * span


def is_outlier(point: RatioPoint, skill: bool) -> bool:
    """Return whether a point is far below the floor: it is marked at the edge instead of stretching the axis."""
    if skill:
        return point.mean < LEAST_SKILL
    return point.floor is not None and point.mean > MOST_FLOORS * point.floor


def _draw_curve(axes: Axes, curve: RatioCurve, label: str, style: SeriesStyle, aside: float, skill: bool) -> Any:
    """Draw a curve with its band and what the paper printed, as far as it lies within the axis."""
    colour = FLOOR_COLOUR if curve.floor else style.colour
    shown = [point for point in curve.points if not is_outlier(point, skill)]
    ratios = [point.ratio + aside for point in shown]
    means = [point.mean for point in shown]
    (drawn,) = axes.plot(
        ratios,
        means,
        color=colour,
        marker="_" if curve.floor else style.marker,
        markersize=6 if curve.floor else 3.5,
        linestyle=(0, (3, 2)) if curve.floor else style.dash,
        linewidth=1.1,
        label=literally(label),
        zorder=2 if curve.floor else 3,
    )
    spreads = [point.sd or 0.0 for point in shown]
    low, high = ([m + sign * s for m, s in zip(means, spreads, strict=True)] for sign in (-1, 1))
    if len(shown) > 1:
        axes.fill_between(ratios, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
    elif shown and spreads[0]:
        axes.errorbar(ratios, means, yerr=spreads, color=colour, capsize=2, linewidth=0.9, zorder=3)
    for point in curve.published:
        if not is_outlier(point, skill):
            axes.plot(
                point.ratio + aside,
                point.mean,
                color=colour,
                marker=style.marker,
                markersize=6,
                markerfacecolor="none",
                markeredgewidth=0.9,
                linestyle="none",
                zorder=4,
            )
    return drawn


def _mark_outliers(axes: Axes, panel: Panel, limits: tuple[float, float], skill: bool, alone: bool) -> None:
    """Mark at the edge what lies beyond the axis, with its number; published ones are hollow and in brackets."""
    edge = limits[0] if skill else limits[1]
    last = max(point.ratio for curve, _, _ in panel.lines for point in curve.points)
    # Beside a neighbouring ratio a text stands one line higher.
    every = sorted({point.ratio for curve, _, _ in panel.lines for point in curve.points})
    lines = {ratio: 0 if alone else position % 2 for position, ratio in enumerate(every)}
    single = sum(not curve.floor for curve, _, _ in panel.lines) == 1
    for number, (curve, label, style) in enumerate(panel.lines):
        ours, theirs = ({p.ratio: p for p in own if is_outlier(p, skill)} for own in (curve.points, curve.published))
        for ratio in sorted({**ours, **theirs}):
            place = ratio + (_aside(number, panel) if alone else 0.0)
            for own, face in ((theirs, "none"), (ours, style.colour)):
                if ratio in own:
                    mark = {"marker": "v" if skill else "^", "markersize": 5, "clip_on": False}
                    axes.plot(place, edge, color=style.colour, markerfacecolor=face, **mark)  # type: ignore[arg-type]
            words = [] if single else [label]
            words += [f"{ours[ratio].mean:.2g}"] if ratio in ours else []
            words += [f"({theirs[ratio].mean:.2g})"] if ratio in theirs else []
            line = lines[ratio]
            lines[ratio] += 1
            rightmost = ratio == last and not alone
            height = 3 + (SMALL_SIZE + 0.5) * line
            axes.annotate(
                literally(" ".join(words).replace("-", "−")),
                (place, edge),
                xytext=(-5 if rightmost else 5, height if skill else -height - SMALL_SIZE),
                textcoords="offset points",
                fontsize=SMALL_SIZE - 0.5,
                color=style.colour,
                ha="right" if rightmost else "left",
            )


def _aside(number: int, panel: Panel) -> float:
    """Return how far from the one ratio there is a line's points stand, so that none hides another."""
    return 0.9 * ((number + 0.5) / len(panel.lines) - 0.5)


def _signs(curves: Sequence[RatioCurve], skill: bool) -> Iterator[Any]:
    """Yield what a legend says of the signs that occur: published numbers, the floor's line, marks at the edge."""
    from matplotlib.lines import Line2D

    grey = {"color": FLOOR_COLOUR, "markersize": 5}
    if any(curve.published for curve in curves):
        yield Line2D([], [], marker="o", markerfacecolor="none", linestyle="none", label="published", **grey)  # type: ignore[arg-type]
    if skill:
        yield Line2D([], [], color=FLOOR_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), label="the floor")
    if any(is_outlier(point, skill) for curve in curves for point in (*curve.points, *curve.published)):
        mark = "v" if skill else "^"
        yield Line2D([], [], marker=mark, linestyle="none", label="off the axis", **grey)  # type: ignore[arg-type]


def _label_ends(axes: Axes, panel: Panel, limits: tuple[float, float]) -> None:
    """Name lines at their right ends if all names fit beside each other."""
    ends = sorted(
        (curve.points[-1].mean, label, FLOOR_COLOUR if curve.floor else style.colour)
        for curve, label, style in panel.lines
        if len(curve.points) > 1
    )
    span = limits[1] - limits[0]
    gaps = [(two[0] - one[0]) / span for one, two in zip(ends, ends[1:], strict=False)]
    inside = all(limits[0] <= value <= limits[1] for value, _, _ in ends)
    if not ends or not inside or min(gaps, default=1.0) < _LABEL_ROOM:
        return
    last = max(curve.points[-1].ratio for curve, _, _ in panel.lines)
    for value, label, colour in ends:
        axes.annotate(
            literally(label),
            (last, value),
            xytext=(5, 0),
            textcoords="offset points",
            fontsize=SMALL_SIZE,
            color=colour,
            va="center",
            annotation_clip=False,
        )


def _finish(axes: Axes, panel: Panel, skill: bool, first: bool) -> None:
    axes.set_title(literally(panel.title), fontsize=TEXT_SIZE, pad=3)
    if first:
        axes.set_ylabel(wrapped(panel.axis, 26), fontsize=TEXT_SIZE)
    if skill:
        axes.axhline(0.0, color=FLOOR_COLOUR, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    axes.tick_params(labelsize=SMALL_SIZE, length=2.5, pad=2)
    axes.grid(axis="y", color=GRID_COLOUR, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


#: The fields of a line of the points as CSV.
POINT_FIELDS = ("dataset", "mechanism", "metric", "method", "source", "ratio", "value", "sd", "n", "floor")


def point_records(curves: Iterable[RatioCurve]) -> Iterator[dict[str, object]]:
    """Yield the points that are drawn, one flat record each; ``source`` is ours or published."""
    for curve in curves:
        for source, points in (("ours", curve.points), ("published", curve.published)):
            for point in points:
                yield {
                    "dataset": curve.dataset,
                    "mechanism": curve.mechanism,
                    "metric": curve.metric,
                    "method": curve.method,
                    "source": source,
                    "ratio": point.ratio,
                    "value": point.mean,
                    "sd": point.sd,
                    "n": point.n,
                    "floor": point.floor,
                }
