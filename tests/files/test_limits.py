"""Bombs: what would hold more than is allowed is refused before it is in memory."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.api import BenchError, Dataset, File, Source
from bench.files.cache import content_sha256, decompressed, expanded_size
from bench.files.download import Unavailable, download_url, extract_deb
from bench.files.fetch import load_table
from tests.sources import Server, debian_package

MOST = 10_000


def bomb(path: Path) -> Path:
    path.write_bytes(gzip.compress(b"0" * 1_000_000))
    return path


def test_a_gzip_bomb_is_read_up_to_the_limit_only(tmp_path: Path) -> None:
    path = bomb(tmp_path / "bomb.gz")
    assert path.stat().st_size < MOST < expanded_size(path, MOST)
    assert content_sha256(path, MOST) == "" != content_sha256(path)
    with pytest.raises(BenchError, match=f"holds more than {MOST} bytes"):
        decompressed(path, MOST)
    assert len(decompressed(path)) == expanded_size(path) == 1_000_000


def test_a_zip_bomb_is_refused_by_its_declared_size(tmp_path: Path, server: Server) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", b"0" * 1_000_000)
    server.pages["/rows.zip"] = buffer.getvalue()
    source = Source("url", f"{server.address}/rows.zip", member="rows.csv")
    with pytest.raises(Unavailable, match="its member would hold 1000000 bytes, more than the 10000"):
        download_url(source, tmp_path / "rows.csv", MOST)
    assert not (tmp_path / "rows.csv").exists()


def test_a_bomb_in_a_debian_package_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "debs").mkdir(parents=True)
    (cache / "debs" / "toy.deb").write_bytes(debian_package({"rows.csv": b"0" * 1_000_000}))
    with pytest.raises(Unavailable, match="its member would hold 1000000 bytes"):
        extract_deb(Source("deb", "toy", member="rows.csv"), tmp_path / "rows.csv", MOST)


class Exploding(Dataset):
    """Reads a bomb."""

    name = "exploding"
    files = (File("bomb.gz", (Source("mirror", "bomb.gz"),), most_bytes=MOST),)

    def load(self, files: Mapping[str, Any]) -> pd.DataFrame:
        raise AssertionError("it was read")


def test_a_data_set_is_not_given_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path))
    bomb(tmp_path / "bomb.gz")
    with pytest.raises(BenchError, match="holds more than the 10000 bytes the data set allows"):
        load_table(Exploding())
