"""The verb ``list``: what there is to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.options import takes
from bench.errors import BenchError, printable

if TYPE_CHECKING:
    from bench.plugins.registry import PluginInfo
    from bench.run.request import Place


@takes("plugins", "load")
def list_plugins(place: Place, load: bool) -> int:
    """List methods, data sets, mechanisms and tables."""
    from bench.experiment.reader import table_ids
    from bench.plugins.registry import Registry

    registry = Registry.scan(place.plugins)
    broken = 0
    for title, infos in (
        ("Methods", registry.methods),
        ("Data sets", registry.datasets),
        ("Mechanisms", registry.mechanisms),
    ):
        print(f"{title}:")
        width = max((len(name) for name in infos), default=0)
        for name, info in infos.items():
            problem = _load_problem(info) if load else info.error
            broken += problem is not None
            print(printable(f"  {name:<{width}}  {_listing(info, problem)}"))
        print()
    print(f"Tables:\n  {', '.join(table_ids())}")
    return 1 if broken and load else 0


def _load_problem(info: PluginInfo) -> str | None:
    from bench.plugins.registry import load

    try:
        load(info)
    except BenchError as error:
        return str(error)
    return None


def _listing(info: PluginInfo, problem: str | None) -> str:
    from bench.plugins.registry import available

    usable, reason = available(info)
    if problem is not None and usable:
        return f"ERROR {problem}"
    if info.error is not None:
        return f"ERROR {info.error}"
    notes = [", ".join(info.kinds)]
    if info.category == "method" and "inductive" not in info.protocols:
        notes.append(" or ".join(info.protocols))
    if info.origin != "suite":
        notes.append(f"from {info.path}")
    if not usable:
        notes.append(f"unavailable, {reason}")
    return f"{info.summary} ({'; '.join(note for note in notes if note)})"
