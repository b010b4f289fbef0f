"""The order in which sources are tried: mirror and cache, complete downloads, subsets last."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.api import BenchError, Source
from bench.files.advice import describe
from bench.files.fetch import load_table
from tests.sources import ROWS, SUBSET, WRONG, Server, content_hash_of_rows, sha256, toy


def test_subset_comes_last_and_gives_way_to_a_complete_mirror(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = (content_hash_of_rows(ROWS, tmp_path), content_hash_of_rows(SUBSET, tmp_path))
    sources = (
        Source("mirror", "toys/toy.csv", sha256=sha256(ROWS)),
        Source("url", f"{server.address}/part.csv", sha256=sha256(SUBSET), subset=True),
        Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS)),
    )
    server.pages = {"/part.csv": SUBSET}
    data = toy(*sources, hashes=hashes)
    loaded = load_table(data, include_target=True)
    assert (loaded.variant, len(loaded.table), loaded.table.content_hash) == ("subset", 2, hashes[1])
    assert server.requests == ["/toy.csv", "/part.csv"]
    assert (cache / "toy" / "subset-part.csv").is_file()
    assert "delete it to try the complete sources again" in dict(describe(data))[sources[1].label]
    assert load_table(data).variant == "subset"
    assert len(server.requests) == 2
    mirror = tmp_path / "mirror"
    (mirror / "toys").mkdir(parents=True)
    (mirror / "toys" / "toy.csv").write_bytes(ROWS)
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(mirror))
    assert load_table(data).variant == "full"


def test_complete_rows_do_not_pass_as_subset_nor_the_reverse(server: Server, tmp_path: Path) -> None:
    hashes = (content_hash_of_rows(ROWS, tmp_path), content_hash_of_rows(SUBSET, tmp_path))
    server.pages = {"/toy.csv": SUBSET, "/part.csv": ROWS}
    data = toy(
        Source("url", f"{server.address}/toy.csv"),
        Source("url", f"{server.address}/part.csv", subset=True),
        hashes=hashes,
    )
    with pytest.raises(BenchError, match="not available"):
        load_table(data)


def test_wrong_mirror_file_is_passed_over_and_left_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.csv").write_bytes(WRONG)
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path))
    server.pages = {"/toy.csv": ROWS}
    mirror = Source("mirror", "toy.csv", sha256=sha256(ROWS))
    loaded = load_table(toy(mirror, Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS))))
    assert loaded.source.startswith("http")
    with pytest.raises(BenchError, match=r"mirror toy.csv: wrong checksum\. To place"):
        load_table(toy(mirror, name="other"))
    assert (tmp_path / "toy.csv").read_bytes() == WRONG


def test_mirror_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(BenchError, match="nowhere, which is not a folder"):
        load_table(toy(Source("mirror", "toy.csv")))
