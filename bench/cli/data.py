"""The verb ``data``: what is in a data set, where it comes from, and fetching it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.cli.options import Default, takes
from bench.errors import BenchError, clean_text, one_line, printable

if TYPE_CHECKING:
    from bench.plugins.contracts import Dataset
    from bench.plugins.registry import PluginInfo
    from bench.run.request import Place


@takes("names", "plugins", "fetch", names=Default(None, "all data sets"))
def data(place: Place, names: list[str] | None, fetch: bool) -> int:
    """Show the card of each data set named, or where all come from; or fetch them."""
    from bench.files.fetch import cache_folder
    from bench.plugins.registry import Registry, load

    registry = Registry.scan(place.plugins)
    infos = [registry.dataset(name) for name in names or registry.datasets]
    lines_of: Callable[[Dataset, PluginInfo], list[str]] = _fetched if fetch else _card if names else _listed
    print(f"cache: {cache_folder()}")
    failures = 0
    for info in infos:
        try:
            lines = lines_of(load(info)(), info)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plug-in may raise anything
            failures += 1
            told = clean_text(error) if isinstance(error, BenchError) else one_line(error, info.path)
            lines = [f"{info.name}: {told}"]
        for line in lines:
            print(printable(line))
    return 1 if failures else 0


def _card(instance: Dataset, info: PluginInfo) -> list[str]:
    from bench.files.card import card

    return card(instance, info.summary)


def _listed(instance: Dataset, info: PluginInfo) -> list[str]:
    from bench.files.fetch import describe

    sources = [f"  {source}: {state}" for source, state in describe(instance)]
    return [f"{info.name}: {info.summary}", *sources]


def _fetched(instance: Dataset, info: PluginInfo) -> list[str]:
    from bench.files.fetch import load_sound

    loaded = load_sound(instance, include_target=False)
    rows, columns = loaded.table.present.shape
    return [f"{info.name}: {rows} x {columns}, {loaded.variant}, from {loaded.source}"]
