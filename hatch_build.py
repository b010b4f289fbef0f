"""Puts the plug-in folders and the tables' data inside the ``bench`` package of a wheel.

An editable install gets nothing: there the folders lie beside ``bench``, where ``bench.paths`` finds them, and a copy
would hide the edits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDERS = (
    "baselines",
    "datasets",
    "results/tables",
    "results/published",
    "results/claims",
    "results/audit",
    "results/rows",
    "results/tuned",
)


class FoldersInsideTheWheel(BuildHookInterface):
    """Maps each folder of the project's root to the same path inside ``bench``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the folders to a wheel of the ``standard`` version."""
        if version != "standard":
            return
        for folder in FOLDERS:
            source = Path(self.root, folder)
            if source.is_dir():
                build_data["force_include"][str(source)] = f"bench/{folder}"
