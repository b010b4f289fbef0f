"""What is said of sources: their state now, which files are missing and how to get them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.api import BenchError, Dataset, File, Source
from bench.files.advice import describe
from bench.files.fetch import DataUnavailable, load_table
from bench.files.images import IDX_NAMES
from bench.files.shared import SVHN_FILES
from bench.plugins.registry import Registry, load
from tests.sources import ROWS, Server, place, sha256, toy


def test_the_one_error_says_what_failed_and_how_to_place_the_file(server: Server, cache: Path) -> None:
    server.close()
    data = toy(
        Source("mirror", "toys/toy.csv", sha256=sha256(ROWS)),
        Source("url", f"{server.address}/toy.zip", member="toy.csv", sha256=sha256(ROWS)),
    )
    with pytest.raises(BenchError) as caught:
        load_table(data)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("'toy'", "mirror toys/toy.csv: VSAE_BENCH_MIRROR is not set", f"{server.address}/toy.zip: 127.0.0.1"):
        assert part in text
    place = cache / "toy" / "toy.csv"
    assert f"member toy.csv) as {place}, or as toys/toy.csv in a folder named by VSAE_BENCH_MIRROR" in text
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(ROWS)
    assert load_table(data).source == f"cached {place}"


def test_describe_uses_no_network(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": ROWS}
    url = Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS))
    data = toy(Source("mirror", "toy.csv"), url)
    assert describe(data) == [
        ("mirror toy.csv", "VSAE_BENCH_MIRROR is not set"),
        (f"{server.address}/toy.csv", "not downloaded"),
    ]
    assert not server.requests
    load_table(data)
    assert describe(data)[1][1] == f"cached at {cache / 'toy' / 'toy.csv'}"


def test_without_svhn_one_line_says_what_is_missing(cache: Path, use_mirror: Path, offline: None) -> None:
    data: Dataset = load(Registry.scan().dataset("mnist_svhn"))()
    place(use_mirror / "mnist", dict.fromkeys(IDX_NAMES, b"there"))
    with pytest.raises(DataUnavailable) as caught:
        load_table(with_own_mnist(data, b"there"))
    message = str(caught.value)
    assert "\n" not in message
    assert "data set 'mnist_svhn' is not available" in message
    placing = message.partition("To place it by hand, put ")[2]
    assert placing.startswith(
        "train_32x32.mat and test_32x32.mat (from http://ufldl.stanford.edu/housenumbers/)"
        f" into {cache / 'svhn'}, or into svhn in a folder named by VSAE_BENCH_MIRROR"
    )
    assert "idx" not in placing


def with_own_mnist(data: Dataset, content: bytes) -> Dataset:
    """Return the data set with MNIST files of this content, and SVHN's as they are declared."""
    mnist = [
        File(f.name, tuple(replace(s, sha256=sha256(content)) for s in f.sources), f.folder)
        for f in data.files
        if f.name in IDX_NAMES
    ]
    data.files = (*mnist, *SVHN_FILES)  # type: ignore[misc]
    return data
