"""The verb ``data``: where data sets come from, and fetching them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.options import Default, takes
from bench.errors import BenchError, clean_text, one_line, printable

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
            sources = list(describe(instance))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plug-in may raise anything
            failures += 1
            told = clean_text(error) if isinstance(error, BenchError) else one_line(error, info.path)
            print(printable(f"{name}: {told}"))
            continue
        print(printable(f"{name}: {info.summary}"))
        for source, state in sources:
            print(printable(f"  {source}: {state}"))
    return 1 if failures else 0
