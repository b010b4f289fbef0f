"""A table from its sources: what is accepted, what is refused, and which errors say so."""

from __future__ import annotations

import ast
import gzip
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.api import BenchError, Dataset, Fetched, File, Source, Table, read_rows, typed_frame
from bench.files.advice import describe
from bench.files.fetch import load_table
from bench.files.images import IDX_NAMES
from bench.paths import PACKAGE, plugin_folder
from tests.sources import (
    COLUMNS,
    ROWS,
    SUBSET,
    WRONG,
    Server,
    collection,
    content_hash_of_rows,
    place,
    sha256,
    tiny_contents,
    toy,
)


def test_download_is_cached_and_target_is_left_out(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": ROWS}
    data = toy(Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS)))
    loaded = load_table(data)
    assert loaded.variant == "full"
    assert loaded.source == f"{server.address}/toy.csv"
    assert loaded.table.schema.names == ("size", "colour")
    np.testing.assert_array_equal(loaded.table.scalars, [[1.5, 2], [2.5, 0], [np.nan, 2], [4.0, 0]])
    np.testing.assert_array_equal(loaded.table.present[:, 0], [True, True, False, True])
    assert (cache / "toy" / "toy.csv").read_bytes() == ROWS
    server.close()
    again = load_table(data, include_target=True)
    assert again.table.schema.names == ("size", "colour", "answer")
    assert again.table.schema.attributes[2].levels == ("no", "yes")
    assert server.requests == ["/toy.csv"]
    assert [p.name for p in (cache / "toy").iterdir()] == ["toy.csv"]


def test_wrong_checksum_is_never_used(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": WRONG}
    with pytest.raises(BenchError, match="wrong checksum; removed") as caught:
        load_table(toy(Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS))))
    assert "\n" not in str(caught.value)
    assert not list((cache / "toy").iterdir())


def test_damaged_cached_file_is_removed_and_fetched_again(server: Server, cache: Path) -> None:
    server.pages = {"/toy.csv": ROWS}
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / "toy.csv").write_bytes(ROWS[:-9])
    data = toy(Source("url", f"{server.address}/toy.csv", sha256=sha256(ROWS)))
    assert len(load_table(data).table) == 4
    assert (cache / "toy" / "toy.csv").read_bytes() == ROWS


def test_source_of_another_checksum_is_accepted_by_its_rows_only(server: Server, tmp_path: Path) -> None:
    good = content_hash_of_rows(ROWS, tmp_path)
    server.pages = {"/wrong.csv": WRONG, "/html.csv": b"<html>\n", "/zip.csv": b"\x1f\x8bno"}
    server.pages["/good.csv"] = ROWS.replace(b"\n", b"\r\n")
    sources = [Source("url", f"{server.address}/{name}.csv", sha256=sha256(ROWS)) for name in ("wrong", "html", "zip")]
    with pytest.raises(BenchError) as caught:
        load_table(toy(*sources, hashes=(good,)))
    assert "/wrong.csv: neither its checksum nor its rows are the expected ones; removed" in str(caught.value)
    assert "not readable (data row 1 has 1 fields instead of 3)" in str(caught.value)
    last = Source("url", f"{server.address}/good.csv", sha256=sha256(ROWS))
    loaded = load_table(toy(*sources, last, hashes=(good,)), include_target=True)
    assert loaded.source.endswith("/good.csv")
    assert loaded.table.content_hash == good


def test_source_without_any_declared_hash_is_accepted(server: Server) -> None:
    server.pages = {"/toy.csv": WRONG}
    assert load_table(toy(Source("url", f"{server.address}/toy.csv"))).table.scalars[0, 0] == 9.9


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
    loaded = load_table(Pair())
    assert loaded.source == f"{server.address}/a.csv, {server.address}/b.csv"
    assert loaded.table.content_hash == Pair.content_hash
    assert server.requests.count("/a.csv") == 1


def test_file_is_accepted_by_its_content(use_mirror: Path, offline: None) -> None:
    contents = tiny_contents()
    for change in (lambda c: gzip.compress(c, compresslevel=1, mtime=77), lambda c: c):
        place(use_mirror / "toy", {name: change(gzip.decompress(c)) for name, c in contents.items()})
        loaded = load_table(collection("toy", contents))
        assert (loaded.variant, len(loaded.table)) == ("full", 30)
    for damaged in (gzip.compress(b"other"), contents[IDX_NAMES[0]][:-9], b"", b"\x1f\x8b"):
        place(use_mirror / "toy", {**contents, IDX_NAMES[0]: damaged})
        with pytest.raises(BenchError, match="train-images-idx3-ubyte.gz: wrong checksum"):
            load_table(collection("toy", contents))


def test_data_sets_share_the_files_of_a_collection(cache: Path, offline: None) -> None:
    contents = tiny_contents()
    place(cache / "shared", contents)
    one, two = (load_table(collection("shared", contents, name=name)).table for name in ("one", "two"))
    assert one.content_hash == two.content_hash
    assert not list((cache / "one").glob("*.gz"))


def test_data_set_without_files_is_loaded_as_it_is() -> None:
    class Own(Dataset):
        name = "own"

        def load(self, files: Mapping[str, Fetched]) -> pd.DataFrame:
            assert files == {}
            return pd.DataFrame({"x": [1.0, 2.0], "y": ["b", "a"]})

    loaded = load_table(Own())
    assert (loaded.variant, loaded.table.schema.attributes[1].levels) == ("full", ("a", "b"))
    assert describe(Own()) == [("the plug-in itself", "needs no file")]
    Own.target = "z"
    with pytest.raises(BenchError, match="target 'z' but has no such column"):
        load_table(Own())


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

    kept = load_table(Images()).table
    assert kept.schema.names == ("a", "image")
    np.testing.assert_array_equal(kept.scalars, [[1.0], [2.0]])
    np.testing.assert_array_equal(kept.blocks["image"], block)
    assert kept.test is table.test
    Images.target = "image"
    kept = load_table(Images()).table
    assert kept.schema.names == ("a", "label")
    assert not kept.blocks
    np.testing.assert_array_equal(kept.scalars, scalar.scalars)


def test_no_file_is_ever_unpickled() -> None:
    forbidden = {("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("joblib", "load")}
    files = [*PACKAGE.rglob("*.py"), *plugin_folder("datasets").glob("*.py"), *plugin_folder("baselines").glob("*.py")]
    assert len(files) > 50
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in forbidden, path
                assert node.attr != "read_pickle", path
            if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "joblib"):
                assert not {alias.name for alias in node.names} & {"load", "loads", "Unpickler"}, path
            if isinstance(node, ast.Call):
                named = {keyword.arg: keyword.value for keyword in node.keywords}
                allowed = named.get("allow_pickle")
                assert not (isinstance(allowed, ast.Constant) and allowed.value), path
                if ast.unparse(node.func) == "torch.load":
                    assert ast.unparse(named["weights_only"]) == "True", path
