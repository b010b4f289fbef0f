"""What the tests of data sets share: the suite's registry, and the real files from a mirror."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bench.api import Dataset
from bench.files.cache import LoadedTable, mirror_folder
from bench.files.fetch import load_table
from bench.plugins.registry import Registry, load


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Return the registry of the suite's own plug-ins."""
    return Registry.scan()


@pytest.fixture(scope="session")
def dataset(registry: Registry) -> Callable[[str], Dataset]:
    """Return a function from a name to a new instance of that data set."""

    def instance(name: str) -> Dataset:
        found: Dataset = load(registry.dataset(name))()
        return found

    return instance


@pytest.fixture(scope="session")
def real(
    tmp_path_factory: pytest.TempPathFactory, dataset: Callable[[str], Dataset]
) -> Iterator[Callable[[str], LoadedTable]]:
    """Give a function that loads a data set from the mirror, into one cache for all tests; skip without a mirror."""
    if mirror_folder() is None:
        pytest.skip("needs the real data: set VSAE_BENCH_MIRROR to a folder that has it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSAE_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield lambda name: load_table(dataset(name))
