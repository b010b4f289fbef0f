"""The command ``vsae-bench`` and its verbs; errors are told here.

Heavy packages are imported inside the verbs that need them, so that ``--help`` and ``list`` are instant.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import Any

import typer

from bench.cli.audit import audit
from bench.cli.check import check
from bench.cli.claims import claims
from bench.cli.compare import compare
from bench.cli.data import data
from bench.cli.env import env
from bench.cli.list import list_plugins
from bench.cli.masks import masks
from bench.cli.plot import plot_app
from bench.cli.run import run
from bench.cli.table import table
from bench.cli.tune import tune
from bench.cli.verify import verify
from bench.errors import POSIX_MODULES, SYSTEMS, BenchError, line_of, message_of, printable

#: Exit codes: bad input, an error of the suite's own, Ctrl-C before a run began; ``bench.run.plan`` has those of a run.
BAD_INPUT, BUG, INTERRUPTED = 2, 70, 130
#: Set to anything, it shows where an error came from.
TRACEBACK_VARIABLE = "VSAE_BENCH_TRACEBACK"
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
for verb in (data, masks, run, tune, table, compare, claims, audit, verify):
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
    _print_what_the_output_lacks_as_question_marks()
    try:
        code = app(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit:
        raise
    except BaseException as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        code, line = _outcome(error)
        _say(line)
        if isinstance(error, OSError):
            _drop_output()
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this code by itself, saying nothing
        _say("interrupted")
    sys.exit(code if isinstance(code, int) else 0)


def _outcome(error: BaseException) -> tuple[int, str]:
    """Return the exit code of a command that ended in an error, and the line that says what to mend, if any."""
    if isinstance(error, BenchError):
        return BAD_INPUT, message_of(error)
    if isinstance(error, USAGE_ERROR):
        return BAD_INPUT, str(error.format_message())
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return INTERRUPTED, ""
    if isinstance(error, BrokenPipeError):
        return 1, ""
    if isinstance(error, OSError):
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        where = f"{' and '.join(names)} cannot be read or written" if names else "reading or writing failed"
        return BAD_INPUT, f"{where}: {error.strerror or line_of(error)}"
    if isinstance(error, MemoryError):
        return BAD_INPUT, f"not enough memory ({line_of(error)})"
    if isinstance(error, ImportError) and error.name in POSIX_MODULES:
        return BAD_INPUT, f"Python's module '{error.name}' is missing: {SYSTEMS}"
    lines = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)]
    told = f"{type(error).__name__}: {line_of(error)} ({lines[-1] if lines else 'nowhere'})"
    return BUG, f"unexpected {told}; please report it. {TRACEBACK_VARIABLE}=1 shows where it came from"


def _say(line: str) -> None:
    """Write a line on standard error, if there is one and it takes it."""
    if line and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"vsae-bench: {_shortened(printable(line))}", file=sys.stderr, flush=True)


def _shortened(line: str, most: int = 2000) -> str:
    """Return a line without its middle if it is too long: what is wrong and what to do stand at its ends."""
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


def _print_what_the_output_lacks_as_question_marks() -> None:
    """Let an output that is not UTF-8 have all that it can, instead of an error at the first other character."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> None:
    """Give up what standard output still holds: writing it at exit would fail again, and say so."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
