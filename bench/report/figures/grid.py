"""Rows of images and labels as a grid of thumbnails: the truth, what was observed, imputed, drawn or generated.

A thumbnail is one row of the data: its images one below the other, its labels and numbers as words below. A hidden
entry is hatched or a question mark; a right answer has a tick and a wrong one a cross.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.data.schema import AnyArray, BoolArray, IntArray, Schema
from bench.data.table import Values
from bench.report.figures.style import (
    COLUMN_WIDTH,
    FLOOR_COLOUR,
    HIDDEN_COLOUR,
    RIGHT_COLOUR,
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_SIZE,
    WRONG_COLOUR,
    Heading,
    literally,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT_MARK, WRONG_MARK = "✓", "✗"
#: Inches: outer margin, gaps between thumbnails and between lines, height of a line of words.
_MARGIN, _GAP, _LINE_GAP, _WORD_HEIGHT = 0.04, 0.03, 0.09, 0.1
#: Inches: least width of a picture, and of one below the word "observed".
_LEAST_WIDTH, _HEADED_WIDTH = 0.27, 0.3
#: Inches that a character of a thumbnail's words takes.
_CHARACTER = 0.042
_WORD_SIZE = 5.5


@dataclass(frozen=True, eq=False)
class Picture:
    """An image, [height, width] or [height, width, 3], from 0 to 1."""

    pixels: AnyArray


@dataclass(frozen=True)
class Hidden:
    """What stands in place of an image that was hidden; ``shape`` is that of the image."""

    shape: tuple[int, ...]


@dataclass(frozen=True)
class Words:
    """A label or number; ``right`` says whether it is what it should be, None if there is nothing to say."""

    text: str
    right: bool | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The words in lines, the mark in front."""
        mark = "" if self.right is None else f"{RIGHT_MARK if self.right else WRONG_MARK} "
        return tuple((mark + self.text.replace("/", "/\n").replace(" ", "\n")).split("\n"))


#: None leaves the place empty.
Part = Picture | Hidden | Words | None
Thumbnail = tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class GridLine:
    """Thumbnails side by side; ``label`` stands on their left, ``apart`` leaves room above.

    In an ``aligned`` line the parts of all stand at one height, else each is in the middle of the line.
    """

    label: str
    thumbnails: tuple[Thumbnail, ...]
    apart: bool = False
    aligned: bool = True


# From values to thumbnails


@dataclass(frozen=True, eq=False)
class ShownRows:
    """Rows of a data set that are drawn: ``truth`` and ``observed`` [k, M], and what ``present`` in the source."""

    schema: Schema
    truth: Values
    observed: BoolArray
    present: BoolArray

    def take(self, rows: IntArray | slice) -> ShownRows:
        """Return some of the rows."""
        return ShownRows(self.schema, take(self.truth, rows), self.observed[rows], self.present[rows])

    def __len__(self) -> int:
        return len(self.observed)


def take(values: Values, rows: IntArray | slice) -> Values:
    """Return some rows of values."""
    return Values(values.scalars[rows], {name: block[rows] for name, block in values.blocks.items()})


def thumbnail_of(
    schema: Schema,
    values: Values,
    row: int,
    shown: BoolArray,
    hidden: BoolArray | None = None,
    truth: Values | None = None,
    keep_places: bool = True,
) -> Thumbnail:
    """Return the thumbnail of one row: the attributes ``shown`` [M], marks in place of those ``hidden``, images first.

    Words are marked as right or wrong if ``truth`` has the same row. ``keep_places`` leaves the places of other
    attributes empty. Features have no picture.
    """
    order = [*schema.of_kind("image"), *schema.scalar_indices]
    parts: list[Part] = []
    for index in order:
        attribute = schema.attributes[index]
        if shown[index] and attribute.kind == "image":
            pixels = values.blocks[attribute.name][row].reshape(attribute.shape)
            parts.append(Picture(pixels if pixels.ndim > 1 else pixels[None]))
        elif shown[index]:
            column = int(np.flatnonzero(schema.scalar_indices == index)[0])
            value = float(values.scalars[row, column])
            right = None
            if truth is not None and attribute.kind == "categorical":
                right = value == truth.scalars[row, column]
            parts.append(Words(attribute.levels[int(value)] if attribute.levels else f"{value:.3g}", right))
        elif hidden is not None and hidden[index]:
            parts.append(Hidden(attribute.shape) if attribute.kind == "image" else Words("?"))
        elif keep_places:
            parts.append(None)
    return tuple(parts)


def imputation_lines(rows: ShownRows, imputed: Mapping[str, Values], across: int) -> list[GridLine]:
    """Return lines of the truth, of what was observed, and of what each method made of the rest; in several bands."""
    lines = []
    for first in range(0, len(rows), across):
        band = range(first, min(first + across, len(rows)))
        hidden = rows.present & ~rows.observed
        schema, truth = rows.schema, rows.truth
        lines += [
            GridLine("truth", tuple(thumbnail_of(schema, truth, row, rows.present[row]) for row in band), first > 0),
            GridLine(
                "observed", tuple(thumbnail_of(schema, truth, row, rows.observed[row], hidden[row]) for row in band)
            ),
        ]
        for label, values in imputed.items():
            thumbnails = tuple(thumbnail_of(schema, values, row, hidden[row], truth=truth) for row in band)
            lines.append(GridLine(label, thumbnails))
    return lines


def sample_lines(rows: ShownRows, samples: Sequence[Values]) -> list[GridLine]:
    """Return one line per row: what was observed, the hidden truth, and the draws of it."""
    lines = []
    schema, truth = rows.schema, rows.truth
    for row in range(len(rows)):
        hidden = rows.present[row] & ~rows.observed[row]
        observed = thumbnail_of(schema, truth, row, rows.observed[row], keep_places=False)
        hidden_truth = thumbnail_of(schema, truth, row, hidden, keep_places=False)
        draws = [thumbnail_of(schema, values, row, hidden, truth=truth, keep_places=False) for values in samples]
        lines.append(GridLine("", (observed, hidden_truth, *draws), aligned=False))
    return lines


def generation_lines(schema: Schema, generated: Values, count: int, across: int) -> list[GridLine]:
    """Return lines of generated rows."""
    everything = np.ones(len(schema), dtype=bool)
    thumbnails = [thumbnail_of(schema, generated, row, everything) for row in range(min(count, len(generated.scalars)))]
    return [GridLine("", tuple(thumbnails[at : at + across])) for at in range(0, len(thumbnails), across)]


def thumbnails_that_fit(schema: Schema, label_characters: int = 0, headed: bool = False) -> int:
    """Return how many thumbnails stand side by side in a column, given the length of the longest line label.

    Those ``headed`` by words are wide enough for them.
    """
    longest = max(
        (len(line) for a in schema.attributes for level in a.levels for line in Words(level, True).lines), default=0
    )
    width = max(_HEADED_WIDTH if headed else _LEAST_WIDTH, _CHARACTER * longest) + _GAP
    return max(1, int((COLUMN_WIDTH - 2 * _MARGIN - _label_width(label_characters)) / width))


def _label_width(characters: int) -> float:
    return 0.068 * characters + 0.06 if characters else 0.0


# Drawing


def draw_grid(lines: Sequence[GridLine], heading: Heading, columns: Sequence[str] = ()) -> Figure:
    """Return the figure, one column wide; ``columns`` head the thumbnails.

    Everything is placed in inches in one pair of axes, so that many small images stay quick to draw.
    """
    from matplotlib.figure import Figure

    across = max(len(line.thumbnails) for line in lines)
    label_width = _label_width(max(len(line.label) for line in lines))
    width = (COLUMN_WIDTH - 2 * _MARGIN - label_width) / across - _GAP
    heights = [_slot_heights(line, width) if line.aligned else [_tallest(line, width)] for line in lines]
    title, details = wrapped(heading.title, 50), wrapped(heading.details)
    top = 0.06 + 0.14 * len(title.splitlines()) + (0.14 if columns else 0.0)
    bottom = 0.16 + 0.1 * len(details.splitlines())
    gaps = sum(_LINE_GAP * (2.5 if line.apart else 1.0) for line in lines)
    height = top + sum(sum(slots) + _GAP * (len(slots) - 1) for slots in heights) + gaps + bottom
    figure = Figure(figsize=(COLUMN_WIDTH, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.text(COLUMN_WIDTH / 2, 0.05, literally(title), fontsize=TITLE_SIZE, fontweight="bold", ha="center", va="top")
    for index, name in enumerate(columns):
        left = _MARGIN + label_width + index * (width + _GAP)
        axes.text(left + width / 2, top + 0.02, literally(name), fontsize=_WORD_SIZE, ha="center", va="bottom")
    y = top
    for line, slots in zip(lines, heights, strict=True):
        y += _LINE_GAP * (2.5 if line.apart else 1.0)
        whole = sum(slots) + _GAP * (len(slots) - 1)
        axes.text(_MARGIN, y + whole / 2, literally(line.label), fontsize=TEXT_SIZE, ha="left", va="center")
        for index, parts in enumerate(line.thumbnails):
            own = slots[: len(parts)] if line.aligned else [_height(part, width) for part in parts]
            left = _MARGIN + label_width + index * (width + _GAP)
            upper = y if line.aligned else y + (whole - sum(own) - _GAP * (len(own) - 1)) / 2
            for part, slot in zip(parts, own, strict=True):
                _draw_part(axes, part, left, upper, width, slot)
                upper += slot + _GAP
        y += whole
    axes.text(
        COLUMN_WIDTH / 2,
        height - 0.04,
        literally(details),
        fontsize=SMALL_SIZE,
        color=FLOOR_COLOUR,
        ha="center",
        va="bottom",
    )
    # After the images, which would set limits and aspect of their own.
    axes.set_xlim(0, COLUMN_WIDTH)
    axes.set_ylim(height, 0)
    axes.set_aspect("auto")
    return figure


def _slot_heights(line: GridLine, width: float) -> list[float]:
    """Return the height of each place of a line's thumbnails, the largest any of them needs."""
    places = max((len(parts) for parts in line.thumbnails), default=0)
    return [max(_height(parts[at], width) for parts in line.thumbnails if at < len(parts)) for at in range(places)]


def _tallest(line: GridLine, width: float) -> float:
    """Return the height of a line's tallest thumbnail."""
    return max(sum(_height(part, width) for part in parts) + _GAP * (len(parts) - 1) for parts in line.thumbnails)


def _height(part: Part, width: float) -> float:
    if isinstance(part, Words):
        return _WORD_HEIGHT * len(part.lines)
    if part is None:
        return 0.0
    shape = part.pixels.shape if isinstance(part, Picture) else part.shape
    return width * shape[0] / shape[1] if len(shape) > 1 else 0.1


def _draw_part(axes: Axes, part: Part, left: float, upper: float, width: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    if isinstance(part, Words):
        colour = "black" if part.right is None else RIGHT_COLOUR if part.right else WRONG_COLOUR
        axes.text(
            left + width / 2,
            upper,
            literally("\n".join(part.lines)),
            fontsize=_WORD_SIZE,
            color=colour,
            ha="center",
            va="top",
            linespacing=1.0,
        )
        return
    if part is None:
        return
    if isinstance(part, Hidden):
        axes.add_patch(
            Rectangle(
                (left, upper), width, height, facecolor="white", hatch="//////", linewidth=0.0, edgecolor=HIDDEN_COLOUR
            )
        )
    else:
        # Dark ink on white paper.
        axes.imshow(
            np.clip(part.pixels, 0, 1),
            cmap="gray_r",
            vmin=0,
            vmax=1,
            interpolation="nearest",
            extent=(left, left + width, upper + height, upper),
        )
    axes.add_patch(Rectangle((left, upper), width, height, facecolor="none", linewidth=0.4, edgecolor=FLOOR_COLOUR))
