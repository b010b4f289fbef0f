"""The verb ``check``: the conformance suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.options import Default, takes

if TYPE_CHECKING:
    from bench.run.request import Place


@takes("names", "everything", "large", "plugins", names=Default(None, "all in the folders of --plugins"))
def check(place: Place, names: list[str] | None, everything: bool, large: bool) -> int:
    """Check that plug-ins keep their contract: no leaks, the same values under a seed, awkward tables survived."""
    from bench.conformance.suite import check_named

    return 0 if check_named(names or (), everything, place.plugins, large, apart=True) else 1
