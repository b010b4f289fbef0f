"""The two ways a run ends early that are not bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
