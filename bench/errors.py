"""The two ways a run ends early that are not bugs."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

#: Modules of Python's that only some systems have, and what to say if they are missing.
POSIX_MODULES = ("resource", "fcntl")
SYSTEMS = "vsae-bench runs on Linux and macOS (on Windows, in WSL)"


class BenchError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do (exit code 2)."""


class Stopped(Exception):
    """The time budget ran out or Ctrl-C came; what was finished is kept and the rest goes on next time."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name nearest to ``name``, or the list of known names."""
    candidates = sorted(known)
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(candidates)}." if candidates else ""


def printable(text: str) -> str:
    """Return a text that a terminal shows and does not obey, as one line.

    Line breaks and tabs become blanks; escapes, marks that reorder a line and halves of characters are written out as
    Python would write them.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def text_of(error: BaseException) -> str:
    """Return the text of an exception, in which a stranger's code may itself fail."""
    try:
        return str(error)
    except Exception:
        return "(its text cannot be had)"


def line_of(error: BaseException, most: int = 4096) -> str:
    """Return an exception's text, or its type if it has none, as one line that is safe to print and not too long."""
    text = printable(" ".join(text_of(error).split())) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    return " " if character in "\n\r\t" else character.encode("unicode_escape").decode("ascii")
