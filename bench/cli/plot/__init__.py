"""The verbs of ``plot``: curves from stored rows, and what trained models make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bench.cli.console import console
from bench.cli.options import Default, takes

if TYPE_CHECKING:
    from bench.experiment.scope import Scope
    from bench.report.figures.drawing import Drawing
    from bench.run.request import Place

plot_app = typer.Typer(
    help="Draw curves from stored rows, and what trained models make: PNG, PDF and SVG, one column wide.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

#: What every figure of one trained cell takes.
_WHAT = ("pictured", "methods", "mechanism", "ratio", "seed", "preset", "parameters", "attributes", "rows")
_WHERE = ("figures", "formats", "store", "plugins")
_SEEDS = Default("", "0,1,2")


@plot_app.command("ratios")
@takes(
    "pictured",
    "methods",
    "ratios",
    "mechanisms",
    "metrics",
    "by",
    "raw",
    "page",
    "csv",
    "seeds",
    "preset",
    "parameters",
    *_WHERE,
    "shipped",
    methods=Default("", "all that have rows"),
    ratios=Default("", "all that have rows"),
    mechanisms=Default("", "all that have rows"),
    seeds=_SEEDS,
    preset=Default("", "the fullest complete one"),
)
def ratios(scope: Scope, place: Place, drawing: Drawing) -> None:
    """Draw skill or error over missing ratio from stored rows, with the published numbers where there are some."""
    from bench.cli.plot.rows import plot_ratios

    plot_ratios(scope, place, drawing, console())


@plot_app.command("imputations")
@takes(*_WHAT, *_WHERE, "device", methods="vsae,mean_mode")
def imputations(scope: Scope, place: Place, drawing: Drawing) -> None:
    """Draw test rows: the truth, what was observed, and what each method imputed; trains what is not kept yet."""
    from bench.cli.plot.snapshots import plot_imputations

    plot_imputations(scope, place, drawing, console())


@plot_app.command("samples")
@takes(*_WHAT, "draws", *_WHERE, "device", methods="vsae")
def samples(scope: Scope, place: Place, drawing: Drawing) -> None:
    """Draw several imputations of the same rows, one figure per method; trains what is not kept yet."""
    from bench.cli.plot.snapshots import plot_samples

    plot_samples(scope, place, drawing, console())


@plot_app.command("generations")
@takes(*_WHAT, *_WHERE, "device", methods="vsae")
def generations(scope: Scope, place: Place, drawing: Drawing) -> None:
    """Draw rows sampled from the prior, one figure per method; trains what is not kept yet."""
    from bench.cli.plot.snapshots import plot_generations

    plot_generations(scope, place, drawing, console())


@plot_app.command("training")
@takes(
    "pictured",
    "methods",
    "mechanism",
    "ratio",
    "seeds",
    "preset",
    "parameters",
    *_WHERE,
    "device",
    methods="vsae",
    seeds=_SEEDS,
)
def training(scope: Scope, place: Place, drawing: Drawing) -> None:
    """Draw loss and validation error over the epochs, one figure per method; trains what has no rows with curves."""
    from bench.cli.plot.rows import plot_training

    plot_training(scope, place, drawing, console())
