"""The command ``vsae-bench``: list, data, run, tune, table, verify, plot, check, env; errors are told here.

Heavy packages are imported inside the verbs that need them, so that ``--help`` and ``list`` are instant.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

from bench.cli.check import check
from bench.cli.data import data
from bench.cli.env import env
from bench.cli.list import list_plugins
from bench.cli.plot import plot_app
from bench.cli.run import run
from bench.cli.table import table
from bench.cli.tune import tune
from bench.cli.verify import verify
from bench.errors import BenchError

#: Exit codes: bad input, Ctrl-C before a run began; ``bench.run.plan`` has those of a run.
BAD_INPUT, INTERRUPTED = 2, 130
#: Typer carries Click or depends on it, by version; this is Click's base of errors in what was typed.
USAGE_ERROR: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    name="vsae-bench",
    help="A reproducibility benchmark suite for imputing missing values, built around the VSAE paper's tables.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("list")(list_plugins)
for verb in (data, run, tune, table, verify):
    app.command()(verb)
app.add_typer(plot_app, name="plot")
for verb in (check, env):
    app.command()(verb)


def _show_version(asked: bool) -> None:
    if asked:
        from bench import __version__

        print(f"vsae-bench {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=_show_version, is_eager=True
    ),
) -> None:
    """Take the options of the command itself."""


def main() -> None:
    """Run the command line; whatever the user can mend is one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except BenchError as error:
        print(f"vsae-bench: {error}", file=sys.stderr)
        code = BAD_INPUT
    except USAGE_ERROR as error:
        print(f"vsae-bench: {error.format_message()}", file=sys.stderr)
        code = BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = 1
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this code by itself, saying nothing
        print("vsae-bench: interrupted", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
