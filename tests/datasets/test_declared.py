"""What the data sets of images and features say of themselves, and that their real files are as declared."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.api import Dataset
from bench.experiment.reader import load_spec
from bench.files.cache import LoadedTable
from bench.files.fetch import content_hash_of
from bench.plugins.registry import Registry

MULTIMODAL = (
    "mnist_mnist",
    "mnist_svhn",
    "mnist_svhn_stand_in",
    "fashion_label",
    "mnist_label",
    "cmu_mosi",
    "ict_mmmo",
    "ict_mmmo_complete",
)


@pytest.mark.parametrize("name", MULTIMODAL)
def test_declared_sources(registry: Registry, dataset: Callable[[str], Dataset], name: str) -> None:
    data = dataset(name)
    assert registry.dataset(name).error is None
    for file in data.files:
        first, second, *others = file.sources
        assert (first.kind, second.kind) == ("mirror", "url")
        assert len(first.sha256 or "") == 64 and second.sha256 == first.sha256
        assert first.location.endswith(file.name) and second.location.endswith(file.name)
        for source in others:
            assert source.sha256 or source.content_sha256
            assert source.subset or source.content_sha256 == first.content_sha256
    if name not in ("mnist_svhn", "mnist_svhn_stand_in"):
        assert len(data.content_hash) == 64


@pytest.mark.parametrize("number", range(7, 12))
def test_attributes_of_the_tables_exist(number: int) -> None:
    """The attribute names of the table specs are those that the tests above find in the data sets."""
    cells = load_spec(f"table{number:02d}").cells()
    scopes = {"all", "something_observed", "nothing_observed"}
    named = {(cell.dataset, cell.attribute) for cell in cells if cell.attribute not in scopes}
    known = {
        "mnist_svhn": {"mnist", "svhn"},
        "fashion_label": {"image", "label"},
        "mnist_label": {"image", "label"},
        "ict_mmmo": {"acoustic", "visual", "textual"},
    }
    assert all(attribute in known[name] for name, attribute in named)
    assert bool(named) == (number in (8, 10, 11))


@pytest.mark.parametrize("name", [name for name in MULTIMODAL if not name.startswith("mnist_svhn")])
def test_real_files_give_the_declared_rows(
    real: Callable[[str], LoadedTable], dataset: Callable[[str], Dataset], name: str
) -> None:
    data = dataset(name)
    loaded = real(name)
    assert loaded.variant == "full" and loaded.source.startswith("mirror ")
    assert loaded.table.content_hash == data.content_hash
    assert content_hash_of(data) == data.content_hash
    assert loaded.table.schema.kinds == set(data.kinds)
