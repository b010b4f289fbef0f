"""What the tests of files share: an empty cache, a mirror and a web server of their own, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.files import download
from bench.files.download import Unavailable
from tests.sources import Server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache, no mirror, and a run in which no host has failed yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(folder))
    monkeypatch.delenv("VSAE_BENCH_MIRROR", raising=False)
    monkeypatch.setattr(download, "dead_hosts", set())
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    """Give a running server."""
    running = Server()
    yield running
    running.close()


@pytest.fixture
def use_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a mirror folder of the test's own."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(folder))
    return folder


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every download."""

    def refuse(*arguments: object) -> None:
        raise Unavailable("no network in this test")

    for name in ("download_url", "pip_download", "apt_download"):
        monkeypatch.setattr(download, name, refuse)
