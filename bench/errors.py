"""The two ways a run ends early that are not bugs."""

from __future__ import annotations

import difflib
import os
import re
import traceback
from collections.abc import Iterable

#: The longest message, in bytes of UTF-8, that is stored or printed.
MESSAGE_BYTES = 4096

#: What a terminal would obey rather than show, line ends apart.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class BenchError(Exception):
    """Something the user can mend: one line that says what is wrong, where, and what to do (exit code 2)."""


class Stopped(Exception):
    """The time budget ran out or Ctrl-C came; what was finished is kept and the rest continues next time."""


def closest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name nearest to ``name``, or the list of known names."""
    candidates = sorted(known)
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.5)
    if near:
        return f" Did you mean '{near[0]}'?"
    return f" Known: {', '.join(candidates)}." if candidates else ""


def clean_text(text: object, most: int = MESSAGE_BYTES) -> str:
    """Return the text of anything as valid UTF-8 of at most ``most`` bytes, without control characters.

    What is no text, raises when it is turned into one, or holds half a character, is said so or replaced.
    """
    try:
        plain = str.__str__(text) if isinstance(text, str) else str.__str__(str(text))
    except BaseException:  # a stranger's ``__str__`` may raise anything
        return f"<{type(text).__name__} without a readable text>"
    valid = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", plain).encode("utf-8", "replace")
    if len(valid) <= most:
        return valid.decode()
    return valid[: max(0, most - 3)].decode("utf-8", "ignore") + "..."


def message_of(error: BaseException) -> str:
    """Return the text of an error, whatever it does when it is asked for one."""
    return clean_text(error)


def one_line(error: BaseException, *files: str | os.PathLike[str]) -> str:
    """Return an error as one line: its type, the first line of its text, and where in ``files`` it was raised."""
    said = f"{clean_text(type(error).__name__, 200)}: {message_of(error)}".strip().partition("\n")[0]
    at = "" if isinstance(error, BenchError) else place_of(error, *files)
    return clean_text(said, MESSAGE_BYTES - len(at.encode("utf-8", "replace"))) + at


def place_of(error: BaseException, *files: str | os.PathLike[str]) -> str:
    """Return ``" (file.py:12)"`` for the innermost frame of an error that lies in one of ``files``, or nothing."""
    paths = {os.fspath(file) for file in files}
    where, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if name in paths:
            where = f" ({clean_text(os.path.basename(name), 200)}:{trace.tb_lineno})"
        trace = trace.tb_next
    return where


def traceback_text(error: BaseException, most: int = 4000) -> str:
    """Return the end of an error's traceback."""
    try:
        lines = traceback.format_exception(error)
    except BaseException:  # it may ask a stranger's error for its text
        lines = ["".join(traceback.format_tb(error.__traceback__)), type(error).__name__]
    return clean_text("".join(lines)[-most:], 3 * most)
