"""What every picture shares: colours that everyone can tell apart, the width of a column, headings, how files are made.

Colours are Okabe and Ito's; marks and line styles differ as well, so that no picture depends on colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, closest, printable
from bench.seeds import digest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "pdf", "svg")
#: Width in inches of one column of a two-column paper, and the resolution of its pictures.
COLUMN_WIDTH, COLUMN_DPI = 3.4, 300
#: Width in inches of its page.
PAGE_WIDTH = 7.0
#: Sizes of type, in points.
TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 8.0, 7.0, 6.0
#: Characters of the small size that fit into a column.
SMALL_CHARACTERS = 72

#: An error of more floors than this is marked at the edge of a picture instead of stretching its axis.
MOST_FLOORS = 1.5

FLOOR_COLOUR, HIDDEN_COLOUR, GRID_COLOUR = "#595959", "#BFBFBF", "#E5E5E5"
RIGHT_COLOUR, WRONG_COLOUR = "#0072B2", "#D55E00"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES: tuple[Any, ...] = ("solid", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 1.5)))

METRIC_LABELS = {
    "pfc": "PFC (share of entries)",
    "pfc_pooled": "PFC (share of entries)",
    "nrmse_rel": "NRMSE (error / truth)",
    "nrmse_std": "RMSE / SD",
    "nrmse_range": "RMSE / range",
    "mse": "MSE",
    "mse_sum": "MSE, summed over attributes",
    "mae": "MAE",
    "crps": "CRPS / SD",
    "coverage_50": "coverage of 50 %",
    "coverage_90": "coverage of 90 %",
    "width_50": "width of 50 % / SD",
    "width_90": "width of 90 % / SD",
    "brier": "Brier score",
    "log_score": "log score (nats)",
    "energy_distance": "energy distance",
}


@dataclass(frozen=True)
class SeriesStyle:
    """How one of several series is told apart."""

    colour: str
    marker: str
    dash: Any


@dataclass(frozen=True)
class Heading:
    """The title of a picture, and the line that says what it shows: mechanism, ratio, preset, parameters, seeds."""

    title: str
    details: str


def series_style(index: int) -> SeriesStyle:
    """Return colour, mark and line style of the series ``index``; no two of the first 315 are alike in all three."""
    return SeriesStyle(_COLOURS[index % 7], _MARKERS[index % 9], _DASHES[index % 5])


#: The methods of the suite, the paper's first: each has one look in every picture.
METHOD_ORDER = (
    "vsae",
    "vae",
    "cvae",
    "miwae",
    "hivae",
    "mvae",
    "ae",
    "gain",
    "misgan",
    "missforest",
    "mice",
    "not_miwae",
    "vaeac",
    "gaussian_em",
    "latent_class",
    "class_mean",
    "classifier",
    "hot_deck",
    "missforest_inductive",
    "knn",
)


def method_style(name: str) -> SeriesStyle:
    """Return the look of a method, the same in every picture; that of one from outside the suite follows its name."""
    if name in METHOD_ORDER:
        return series_style(METHOD_ORDER.index(name))
    return series_style(len(METHOD_ORDER) + int(digest(name)[:8], 16) % 200)


def literally(text: str) -> str:
    """Return a text that matplotlib draws as it is, dollar signs included."""
    return "\n".join(printable(line) for line in text.split("\n")).replace("$", r"\$")


def wrapped(text: str, characters: int = SMALL_CHARACTERS) -> str:
    """Return a text in lines that fit into a column."""
    return "\n".join(textwrap.wrap(text, characters, break_long_words=False))


def add_heading(figure: Figure, heading: Heading, handles: Sequence[Any] = (), width: float = COLUMN_WIDTH) -> None:
    """Write the title above a figure with constrained layout, and below it what it shows and the legend."""
    share = width / COLUMN_WIDTH
    title = wrapped(heading.title, round(50 * share))
    figure.suptitle(literally(title), fontsize=TITLE_SIZE, fontweight="bold")
    details = literally(wrapped(heading.details, round(SMALL_CHARACTERS * share)))
    if not handles:
        figure.supxlabel(details, fontsize=SMALL_SIZE, color=FLOOR_COLOUR)
        return
    columns = legend_columns([str(handle.get_label()) for handle in handles], width)
    legend = figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=TEXT_SIZE,
        frameon=False,
        columnspacing=1.2,
        handletextpad=0.5,
        handlelength=2.6,
        borderpad=0.1,
        title=details,
        title_fontsize=SMALL_SIZE,
    )
    legend.get_title().set_multialignment("center")
    legend.get_title().set_color(FLOOR_COLOUR)


def legend_columns(labels: Sequence[str], width: float = COLUMN_WIDTH) -> int:
    """Return how many entries of a legend stand side by side: three in a column, fewer if words are long."""
    entry = 0.5 + 0.055 * max(map(len, labels))
    most = round(3 * width / COLUMN_WIDTH)
    return max(1, min(most, len(labels), int(width / entry)))


def require_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return the file formats asked for, all if none is; raises BenchError on an unknown one."""
    chosen = tuple(dict.fromkeys(names)) or FORMATS
    for name in chosen:
        if name not in FORMATS:
            raise BenchError(f"unknown format '{name}'.{closest(name, FORMATS)}")
    return chosen


def save_figure(
    figure: Figure, path_stem: str | Path, formats: Iterable[str] = FORMATS, dpi: float = COLUMN_DPI
) -> tuple[Path, ...]:
    """Write a figure as ``path_stem`` with each format's suffix; returns the files. The same figure, the same bytes."""
    import matplotlib

    stem = Path(path_stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    # Laid out once: each format would move things a little from where the one before it left them.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    # No date, and element names in SVG that do not change.
    undated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with matplotlib.rc_context({"svg.hashsalt": stem.name, "svg.fonttype": "none", "pdf.fonttype": 42}):
        for suffix in formats:
            path = stem.with_name(f"{stem.name}.{suffix}")
            figure.savefig(path, dpi=dpi, metadata=undated.get(suffix, {}))
            written.append(path)
    return tuple(written)
