"""Where the suite keeps what is not code of the engine: plug-ins, table specs, published numbers and shipped rows.

A wheel carries these folders inside the ``bench`` package; in a checkout and an editable install they lie beside it.
The inside is looked at first, because beside an installed ``bench`` is ``site-packages``, where a folder ``datasets``
is somebody else's package.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

#: The folder that holds ``baselines``, ``datasets`` and ``results``.
_ROOT = PACKAGE if (PACKAGE / "baselines").is_dir() else PACKAGE.parent


def plugin_folder(name: str) -> Path:
    """Return the suite's own plug-in folder ``baselines`` or ``datasets``."""
    return _ROOT / name


def tables_folder() -> Path:
    """Return the folder of the table specs (``table05.toml`` and so on)."""
    return _ROOT / "results" / "tables"


def published_folder() -> Path:
    """Return the folder of the published numbers."""
    return _ROOT / "results" / "published"


def claims_folder() -> Path:
    """Return the folder of what the paper concludes from its tables, as claims that rows can decide."""
    return _ROOT / "results" / "claims"


def audit_folder() -> Path:
    """Return the folder of the trials that ``audit`` weighs."""
    return _ROOT / "results" / "audit"


def shipped_tuned_folder() -> Path:
    """Return the folder of the trials of tuning that ship with the suite."""
    return _ROOT / "results" / "tuned"


def shipped_rows_folder() -> Path:
    """Return the folder of the rows that ship with the suite as evidence."""
    return _ROOT / "results" / "rows"
