"""The verb ``data``: where data sets come from, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.options import Default, takes
from bench.errors import BenchError, printable

if TYPE_CHECKING:
    from bench.run.request import Place


@takes("names", "plugins", "fetch", names=Default(None, "all data sets"))
def data(place: Place, names: list[str] | None, fetch: bool) -> int:
    """Show where each data set comes from, or fetch it."""
    from bench.files.fetch import cache_folder, describe, load_sound
    from bench.plugins.registry import Registry, load

    registry = Registry.scan(place.plugins)
    print(f"cache: {cache_folder()}")
    failures = 0
    for name in names or registry.datasets:
        info = registry.dataset(name)
        try:
            instance = load(info)()
            if fetch:
                loaded = load_sound(instance, include_target=False)
                rows, columns = loaded.table.present.shape
                print(f"{name}: {rows} x {columns}, {loaded.variant}, from {loaded.source}")
                continue
        except BenchError as error:
            failures += 1
            print(printable(f"{name}: {error}"))
            continue
        print(printable(f"{name}: {info.summary}"))
        for source, state in describe(instance):
            print(printable(f"  {source}: {state}"))
    return 1 if failures else 0
