"""Every option of the command line, declared once, and how options become a Scope, a Place and a Drawing.

A verb names the options it takes, and is called with what they make together. Nothing heavy is imported here: help and
``list`` are instant.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bench.errors import BenchError

#: The default of an argument that has to be given.
REQUIRED = inspect.Parameter.empty
#: In one range of seeds.
MOST_SEEDS = 1000


def names_in(text: str) -> tuple[str, ...]:
    """Return the parts of a text between commas. Raises BenchError if there is something, but no part."""
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if text and not parts:
        raise BenchError(f"'{text}' names nothing; give names or numbers separated by commas")
    return parts


def numbers_in(kind: Callable[[str], Any], option: str) -> Callable[[str], tuple[Any, ...]]:
    """Return a reader of numbers between commas, which raises BenchError on anything else."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            return tuple(kind(part) for part in names_in(text))
        except ValueError:
            raise BenchError(f"{option} takes numbers separated by commas, not '{text}'") from None

    return read


def seeds_in(text: str) -> tuple[int, ...]:
    """Return the seeds of ``0,1,2``, of the range ``0-9`` or of both between commas. Raises BenchError on others."""
    found: list[int] = []
    for part in names_in(text):
        first, dash, last = part.partition("-")
        if not dash or not first:
            found += numbers_in(int, "--seeds")(part)
            continue
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < int(first) + MOST_SEEDS):
            raise BenchError(f"--seeds takes numbers or a range such as 0-9 separated by commas, not '{part[:40]}'")
        found += range(int(first), int(last) + 1)
    return tuple(found)


def one(value: Any) -> tuple[Any, ...]:
    """Return a value alone."""
    return (value,)


def stores_in(folders: Sequence[Path]) -> tuple[Path, ...]:
    """Return the folders of stores, the usual one if none is given."""
    return tuple(folders) or (Path("results") / "local",)


class Option(NamedTuple):
    """One option: its type, its declaration, its default, the field it fills and how its value is read.

    ``fills`` is ``scope.methods`` and the like, or empty if the verb takes the value itself.
    """

    type: Any
    declared: Any
    default: Any = ""
    fills: str = ""
    read: Callable[[Any], Any] | None = None


class Default(NamedTuple):
    """The default of an option in a verb, and how the help says it."""

    value: Any
    words: str


def _flag(*names: str, **more: Any) -> Any:
    return typer.Option(*names, **more)


_COMMAS = "separated by commas."

#: By the name that a verb asks for it.
OPTIONS: dict[str, Option] = {
    # What to compute or to show
    "tables": Option(
        list[str] | None, typer.Argument(help="Tables: 6, table6, mixed, a TOML file."), None, "scope.tables", tuple
    ),
    "methods": Option(str, _flag("--methods", help=f"Methods, {_COMMAS}"), "", "scope.methods", names_in),
    "datasets": Option(str, _flag("--datasets", help=f"Data sets, {_COMMAS}"), "", "scope.datasets", names_in),
    "pictured": Option(
        list[str],
        typer.Argument(help="Data sets, one figure each.", metavar="DATASETS..."),
        REQUIRED,
        "scope.datasets",
        tuple,
    ),
    "method": Option(str, typer.Argument(help=f"Method, or several {_COMMAS}"), REQUIRED, "scope.methods", names_in),
    "dataset": Option(
        str, typer.Argument(help=f"Data set, or several {_COMMAS}"), REQUIRED, "scope.datasets", names_in
    ),
    "mechanisms": Option(
        str, _flag("--mechanisms", help=f"Mechanisms of a grid, {_COMMAS}"), "", "scope.mechanisms", names_in
    ),
    "mechanism": Option(str, _flag("--mechanism", help="Mechanism of missingness."), "mcar", "scope.mechanisms", one),
    "ratios": Option(
        str, _flag("--ratios", help=f"Missing ratios, {_COMMAS}"), "", "scope.ratios", numbers_in(float, "--ratios")
    ),
    "ratio": Option(float, _flag("--ratio", help="Missing ratio."), 0.5, "scope.ratios", one),
    "seeds": Option(str, _flag("--seeds", help="Seeds: 0,1,2 or 0-9."), "", "scope.seeds", seeds_in),
    "seed": Option(int, _flag("--seed", help="Seed of split, mask and training.", min=0), 0, "scope.seeds", one),
    "preset": Option(str, _flag("--preset", help="Budget: smoke, quick, long or paper."), "quick", "scope.preset"),
    "parameters": Option(
        str,
        _flag("--parameters", help="Parameter set: default, literal or tuned."),
        "default",
        "scope.parameter_set",
    ),
    "precision": Option(
        str,
        _flag(
            "--precision",
            help="Of torch's products: highest (float32), high (TF32 allowed) or medium (bfloat16 allowed).",
        ),
        "highest",
        "scope.precision",
    ),
    "stand_in": Option(
        bool,
        _flag("--stand-in", help="Synthetic stand-ins, marked, for data sets that have one (MNIST+SVHN)."),
        False,
        "scope.stand_in",
    ),
    # Where
    "store": Option(
        list[Path] | None,
        _flag(
            "--store",
            help="Folder that keeps the rows; further ones are only read.",
            metavar="DIR",
            show_default="results/local",
        ),
        None,
        "place.stores",
        stores_in,
    ),
    "shipped": Option(
        bool, _flag("--shipped", help="Read the rows that ship with the suite too."), False, "place.shipped"
    ),
    "plugins": Option(
        list[Path] | None,
        _flag("--plugins", help="Folder with plug-ins of your own (may be given several times).", metavar="DIR"),
        None,
        "place.plugins",
        tuple,
    ),
    "device": Option(str, _flag("--device", help="Where to compute: auto, cpu or cuda."), "auto", "place.device"),
    "workers": Option(
        int | None,
        _flag(
            "--workers",
            help="Worker processes; 0 runs jobs in this process, for a debugger, and nothing isolates them.",
            min=0,
            show_default="one per core on a CPU, one on a GPU",
        ),
        None,
        "place.workers",
    ),
    "threads": Option(
        int,
        _flag("--threads", help="Threads per worker; more than one is not bit-reproducible.", min=1),
        1,
        "place.threads",
    ),
    "kernels": Option(
        str,
        _flag(
            "--kernels",
            help="On a CPU: native, or portable, those that processors of different makers share, at 3/5 of the speed.",
        ),
        "native",
        "place.kernels",
    ),
    "time_budget": Option(
        str,
        _flag("--time-budget", help="Stop cleanly before this is over, such as 9m or 1h30m.", show_default="none"),
        "",
        "place.time_budget",
    ),
    "job_timeout": Option(
        str,
        _flag(
            "--job-timeout",
            help="Fail a job that reports no progress for this long, per replica of its stack, such as 30m or 2h.",
            show_default="by preset",
        ),
        "",
        "place.job_timeout",
    ),
    "job_memory": Option(
        str,
        _flag(
            "--job-memory",
            help="Fail a job whose process takes more memory than this, such as 8G.",
            show_default="by preset and machine",
        ),
        "",
        "place.job_memory",
    ),
    # What to draw
    "metrics": Option(
        str,
        _flag("--metric", help=f"Metrics, {_COMMAS}", show_default="one per kind of attribute"),
        "",
        "drawing.metrics",
        names_in,
    ),
    "attributes": Option(
        str,
        _flag("--attributes", help=f"Attributes of a table, {_COMMAS}", show_default="as many as fit"),
        "",
        "drawing.attributes",
        names_in,
    ),
    "rows": Option(
        int | None, _flag("--rows", help="Rows to show.", min=1, show_default="as many as fit"), None, "drawing.rows"
    ),
    "draws": Option(
        int | None,
        _flag("--draws", help="Draws per row.", min=1, show_default="as many as fit"),
        None,
        "drawing.draws",
    ),
    "figures": Option(
        Path,
        _flag("--output", help="Folder for the figures.", metavar="DIR"),
        Path("results") / "rendered",
        "drawing.output",
    ),
    "formats": Option(
        str,
        _flag("--formats", help="File formats: png, pdf, svg.", show_default="all"),
        "",
        "drawing.formats",
        names_in,
    ),
    "by": Option(str, _flag("--by", help="Panels by mechanism, dataset or method."), "mechanism", "drawing.by"),
    "raw": Option(bool, _flag("--raw", help="Draw the metric, not the skill over the floor."), False, "drawing.raw"),
    "page": Option(bool, _flag("--page", help="As wide as a page, not as a column."), False, "drawing.page"),
    "csv": Option(bool, _flag("--csv", help="Write the points as CSV, too."), False, "drawing.csv"),
    # What one verb takes
    "load": Option(bool, _flag("--load", help="Import every plug-in and show what fails."), False),
    "names": Option(list[str] | None, typer.Argument(help="Names of plug-ins."), None),
    "fetch": Option(bool, _flag("--fetch", help="Fetch them into the cache."), False),
    "dry_run": Option(bool, _flag("--dry-run", help="Show what would run, and run nothing."), False),
    "retry_failed": Option(bool, _flag("--retry-failed", help="Run failed cells again."), False),
    "rerun": Option(bool, _flag("--rerun", help="Run everything again, stored or not, and compare."), False),
    "again": Option(bool, _flag("--again", help="Tune again what was tuned before."), False),
    "published": Option(bool, _flag("--published", help="Print the paper's numbers beside ours."), False),
    "extended": Option(
        bool, _flag("--extended", help="Also references, ceilings and columns that the paper does not have."), False
    ),
    "require": Option(
        list[str] | None,
        _flag(
            "--require", help="Exit with 1 unless so many have a verdict, such as 'reproduced>=3'.", metavar="DEMAND"
        ),
        None,
        "",
        lambda given: tuple(given or ()),
    ),
    "compute": Option(bool, _flag("--compute", help="Compute the trials that the store lacks."), False),
    "as_json": Option(bool, _flag("--json", help="Print JSON."), False),
    "output": Option(
        Path | None,
        _flag("--output", help="Folder for LaTeX, Markdown, CSV and a figure.", metavar="DIR"),
        None,
    ),
    "masks": Option(
        Path | None, _flag("--masks", help="Mask of a grid, from a file (see `masks`).", metavar="FILE"), None
    ),
    "mask": Option(Path, _flag("--output", help="File for the mask.", metavar="FILE"), REQUIRED),
    "sample": Option(int, _flag("--sample", help="Rows to compute again, chosen at random.", min=0), 0),
    "choice": Option(int, _flag("--seed", help="Seed of the choice of rows.", min=0), 0),
    "everything": Option(bool, _flag("--all", help="Check everything that is registered."), False),
    "large": Option(bool, _flag("--large", help="Also try methods on a table of 10,000 columns."), False),
}

Verb = Callable[..., int | None]


def takes(*names: str, **defaults: Any) -> Callable[[Verb], Callable[..., None]]:
    """Give a verb these options of the command line, with other defaults for some of them.

    The verb is called with ``scope``, ``place`` and ``drawing``, as far as it names them, and with the options that
    fill none of these. What it returns is the exit code.
    """

    def decorate(verb: Verb) -> Callable[..., None]:
        nouns = [name for name in inspect.signature(verb).parameters if name in ("scope", "place", "drawing")]

        @wraps(verb)
        def call(**given: Any) -> None:
            fields: dict[str, dict[str, Any]] = {noun: {} for noun in ("", *nouns)}
            for name, value in given.items():
                option = OPTIONS[name]
                noun, _, field = option.fills.rpartition(".")
                if option.read is not None:
                    value = option.read(() if value is None else value)
                fields[noun][field or name] = value
            made = {noun: _noun(noun)(**fields[noun]) for noun in nouns}
            code = verb(**made, **fields[""])
            if code:
                raise typer.Exit(code)

        parameters = [_parameter(name, defaults.get(name, OPTIONS[name].default)) for name in names]
        del call.__wrapped__
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call

    return decorate


def _parameter(name: str, default: Any) -> inspect.Parameter:
    """Return an option as Typer reads it from a function's signature."""
    option = OPTIONS[name]
    declared = option.declared
    if isinstance(default, Default):
        declared = copy.copy(declared)
        declared.show_default = default.words
        default = default.value
    annotation: Any = Annotated.__class_getitem__((option.type, declared))  # type: ignore[attr-defined]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _noun(name: str) -> type[Any]:
    """Return the class that options make together."""
    if name == "scope":
        from bench.experiment.scope import Scope

        return Scope
    if name == "place":
        from bench.run.request import Place

        return Place
    from bench.report.figures.drawing import Drawing

    return Drawing
