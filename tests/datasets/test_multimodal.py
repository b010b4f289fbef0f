"""Images, labels and feature vectors: readers, pairing, sources and kept arrays on tiny files, and the real files."""

from __future__ import annotations

import ast
import gzip
import hashlib
import io
import struct
import subprocess
import tarfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from bench.api import Attribute, BenchError, Dataset, Incomplete, Schema, Table
from bench.data.schema import AnyArray
from bench.data.source import Fetched, File, Source
from bench.data.statistics import observed_statistics
from bench.data.view import _device_store
from bench.experiment.reader import load_spec
from bench.files import arrays, fetch
from bench.files.fetch import DataUnavailable, LoadedTable
from bench.files.images import IDX_NAMES, SVHN_FILES, idx_files, paired_rows, read_idx, read_images, read_svhn
from bench.files.text import in_units_of, mean_over_steps, read_numbers
from bench.paths import PACKAGE, plugin_folder
from bench.plugins.registry import Registry, load
from bench.problem.build import split_rows
from bench.problem.metrics import reference_of, score
from bench.seeds import generator

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

#: Images of each digit: MNIST's two parts, SVHN's two parts.
MNIST_TRAIN = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
MNIST_TEST = (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)
SVHN_TRAIN = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)
SVHN_TEST = (1744, 5099, 4149, 2882, 2523, 2384, 1977, 2019, 1660, 1595)
DIGIT_PAIRS = ((0, 9), (1, 8), (2, 7), (3, 6), (4, 5))
SAME_DIGIT = tuple((digit, digit) for digit in range(10))


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.scan()


def dataset(registry: Registry, name: str) -> Dataset:
    instance: Dataset = load(registry.dataset(name))()
    return instance


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache, no mirror, and refuse every download."""

    def refuse(source: Source, target: Path) -> None:
        raise fetch._Unavailable("no network in this test")

    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VSAE_BENCH_MIRROR", raising=False)
    monkeypatch.setattr(fetch, "_dead_hosts", set())
    for fetcher in ("_download_url", "_extract_wheel", "_extract_deb"):
        monkeypatch.setattr(fetch, fetcher, refuse)
    return tmp_path / "cache"


@pytest.fixture
def use_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a mirror folder of the test's own."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(folder))
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def idx_bytes(array: AnyArray) -> bytes:
    """Return an array of bytes in IDX format."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def tiny_digits(counts: tuple[int, ...], first_id: int) -> tuple[AnyArray, AnyArray]:
    """Return images [n, 28, 28] and their labels, ``counts`` of each digit; pixels 0 and 1 hold a unique number."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), counts)
    ids = first_id + np.arange(len(labels))
    images = np.zeros((len(labels), 28, 28), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1], images[:, 14, 14] = ids % 256, ids // 256, 200 + labels
    order = np.random.default_rng(first_id).permutation(len(labels))
    return images[order], labels[order]


def write_idx(folder: Path, train: tuple[AnyArray, AnyArray], test: tuple[AnyArray, AnyArray]) -> dict[str, Fetched]:
    """Write the four files of a collection and return them as fetched ones."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, array in zip(IDX_NAMES, (*train, *test), strict=True):
        (folder / name).write_bytes(gzip.compress(idx_bytes(array), mtime=0))
        files[name] = Fetched(folder / name, Source("mirror", name))
    return files


def ids_of(block: AnyArray, shape: tuple[int, ...] = (28, 28)) -> AnyArray:
    """Return the unique numbers and the digits of tiny images."""
    images = block.reshape(len(block), *shape).astype(int)
    if len(shape) == 3:
        images = images[..., 0]
    return np.stack([images[:, 0, 0] + 256 * images[:, 0, 1], images[:, 14, 14] - 200], axis=1)


# What the data sets say of themselves


@pytest.mark.parametrize("name", MULTIMODAL)
def test_declared_sources(registry: Registry, name: str) -> None:
    data = dataset(registry, name)
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


def test_stand_in_says_that_it_is_synthetic(registry: Registry) -> None:
    info = registry.dataset("mnist_svhn_stand_in")
    assert info.summary.startswith("SYNTHETIC") and "not SVHN" in info.summary
    assert "stand_in" in info.name
    for number in range(7, 12):
        assert "stand_in" not in {entry.dataset for entry in load_spec(f"table{number:02d}").cells()}


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


# Readers


@pytest.mark.parametrize("compressed", [True, False])
def test_idx_is_read(tmp_path: Path, compressed: bool) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 3, 2), dtype=np.uint8)
    content = idx_bytes(array)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compressed else content)
    np.testing.assert_array_equal(read_idx(path), array)


def test_damaged_idx_names_the_file(tmp_path: Path) -> None:
    content = idx_bytes(np.zeros((5, 3, 2), dtype=np.uint8))
    path = tmp_path / "images"
    for damaged, words in (
        (content[:-1], "does not"),
        (content + b"0", "does not"),
        (b"<html>", "not an IDX file"),
        (b"", "not an IDX"),
        (gzip.compress(content)[:-12], "is damaged"),
        (content[:7], "does not"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(BenchError, match=words) as caught:
            read_idx(path)
        assert str(path) in str(caught.value)


def test_images_and_labels_must_fit(tmp_path: Path) -> None:
    images, labels = tiny_digits((2,) * 10, 0)
    read = read_images(write_idx(tmp_path, (images, labels), (images[:3], labels[:3])))
    np.testing.assert_array_equal(read.labels, [*labels, *labels[:3]])
    assert read.test is not None and list(np.flatnonzero(read.test)) == [20, 21, 22]
    with pytest.raises(BenchError, match="do not go with 19 labels"):
        read_images(write_idx(tmp_path, (images, labels[1:]), (images, labels)))
    with pytest.raises(BenchError, match=r"outside 0\.\.9"):
        read_images(write_idx(tmp_path, (images, labels + 1), (images, labels)))


def write_svhn(path: Path, digits: AnyArray, compress: bool = True) -> AnyArray:
    """Write SVHN's format, where X is [32, 32, 3, n] and the digit 0 has label 10; return the images [n, 32, 32, 3]."""
    images = np.random.default_rng(len(digits)).integers(0, 100, (len(digits), 32, 32, 3), dtype=np.uint8)
    ids = np.arange(len(digits))
    images[:, 0, 0, 0], images[:, 0, 1, 0], images[:, 14, 14, 0] = ids % 256, ids // 256, 200 + digits
    labels = np.where(digits == 0, 10, digits).astype(np.uint8)[:, None]
    savemat(path, {"X": np.moveaxis(images, 0, -1), "y": labels}, do_compression=compress)
    return images


@pytest.mark.parametrize("compress", [True, False])
def test_svhn_is_read(tmp_path: Path, compress: bool) -> None:
    digits = np.array([0, 9, 1, 0, 5])
    images = write_svhn(tmp_path / "train_32x32.mat", digits, compress)
    read = read_svhn(tmp_path / "train_32x32.mat")
    np.testing.assert_array_equal(read.labels, digits)
    assert read.pixels.dtype == np.uint8
    np.testing.assert_array_equal(read.pixels.reshape(5, 32, 32, 3), images)


def test_file_that_is_not_svhn_is_named(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    path.write_bytes(b"<html>" * 40)
    with pytest.raises(BenchError, match="train_32x32.mat is not a MATLAB file"):
        read_svhn(path)
    savemat(path, {"X": np.zeros((2, 2))})
    with pytest.raises(BenchError, match="train_32x32.mat is not a MATLAB file"):
        read_svhn(path)
    savemat(path, {"X": np.zeros((32, 32, 3, 2), dtype=np.uint8), "y": np.zeros((3, 1))})
    with pytest.raises(BenchError, match="3 labels"):
        read_svhn(path)


def test_numbers_may_be_quoted_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('"1.5","-2"\n"0.0","1e3"\n')
    np.testing.assert_array_equal(read_numbers(tmp_path / "a.csv"), [[1.5, -2], [0, 1000]])
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"1,2\n"))
    np.testing.assert_array_equal(read_numbers(tmp_path / "b.csv.gz"), [[1, 2]])
    (tmp_path / "a.csv").write_text("1,2\n1,x\n")
    with pytest.raises(BenchError, match="a.csv is not a table of numbers"):
        read_numbers(tmp_path / "a.csv")


def test_mean_over_steps_leaves_padding_out() -> None:
    sequences = np.zeros((3, 4, 2))
    sequences[0, 2:] = [[1, 2], [3, 0]]
    sequences[1] = [[1, 1], [1, 1], [1, 1], [5, 1]]
    np.testing.assert_array_equal(mean_over_steps(sequences), [[2, 1], [2, 1], [0, 0]])


def test_unit_is_a_percentile_of_the_reference() -> None:
    reference = np.stack([np.linspace(-100, 100, 201), np.zeros(201)], axis=1)
    scaled = in_units_of(np.array([[50.0, 3.0]]), reference, 100)
    np.testing.assert_array_equal(scaled, [[0.5, 3.0]])
    assert in_units_of(np.array([[50.0, 3.0]]), reference, 99)[0, 0] == pytest.approx(50 / 99, rel=0.01)


# Pairing and split


def labels_of(counts: tuple[int, ...]) -> AnyArray:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(10), counts))


@pytest.mark.parametrize(
    ("first", "second", "pairs", "total"),
    [
        (MNIST_TRAIN, MNIST_TRAIN, DIGIT_PAIRS, 29071),
        (MNIST_TEST, MNIST_TEST, DIGIT_PAIRS, 4832),
        (MNIST_TRAIN, SVHN_TRAIN, SAME_DIGIT, 56068),
        (MNIST_TEST, SVHN_TEST, SAME_DIGIT, 10000),
    ],
)
def test_pairs_are_as_many_as_the_smaller_class_has(
    first: tuple[int, ...], second: tuple[int, ...], pairs: tuple[tuple[int, int], ...], total: int
) -> None:
    left, right = labels_of(first), labels_of(second)[::-1]
    if first == second:
        right = left
    a, b = paired_rows(left, right, pairs, generator("test"))
    assert len(a) == len(b) == total
    found = Counter(zip(left[a].tolist(), right[b].tolist(), strict=True))
    assert found == {pair: min(first[pair[0]], second[pair[1]]) for pair in pairs}
    for rows in ([*a, *b],) if first == second else (a, b):
        assert len(set(rows)) == len(rows)
    again = paired_rows(left, right, pairs, generator("test"))
    np.testing.assert_array_equal(again, (a, b))
    # Neither the order of the rows nor who is paired with whom follows the order of the files.
    assert abs(np.corrcoef(np.arange(total), left[a])[0, 1]) < 0.05
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05 + abs(np.corrcoef(left[a], right[b])[0, 1])


@pytest.mark.parametrize(
    ("paired", "test_rows", "train", "validation"), [(29071, 4832, 23257, 5814), (56068, 10000, 44854, 11214)]
)
def test_validation_part_has_the_published_size(paired: int, test_rows: int, train: int, validation: int) -> None:
    rows = paired + test_rows
    schema = Schema((Attribute("x", "numeric"),))
    table = Table(schema, np.zeros((rows, 1)), {}, np.ones((rows, 1), dtype=bool), np.arange(rows) >= paired)
    split = split_rows(table, generator("split"))
    assert (len(split.train), len(split.validation), len(split.test)) == (train, validation, test_rows)


def sized_table(sizes: tuple[int, int, int], strata: AnyArray | None, rows: int) -> Table:
    schema = Schema((Attribute("x", "numeric"),))
    return Table(schema, np.zeros((rows, 1)), {}, np.ones((rows, 1), dtype=bool), split_sizes=sizes, strata=strata)


@pytest.mark.parametrize(
    ("sizes", "strata_sizes"),
    [((220, 40, 80), (220, 120)), ((5, 1, 1), (3, 2, 2)), ((0, 0, 4), (1, 3)), ((7, 2, 1), (10,)), ((3, 3, 3), (8, 1))],
)
def test_split_has_exact_sizes_and_each_stratum_its_share(
    sizes: tuple[int, int, int], strata_sizes: tuple[int, ...]
) -> None:
    strata = np.random.default_rng(0).permutation(np.repeat(np.arange(len(strata_sizes)), strata_sizes))
    table = sized_table(sizes, strata, len(strata))
    split = split_rows(table, generator("split", 0))
    parts = (split.train, split.validation, split.test)
    assert tuple(len(part) for part in parts) == sizes
    assert sorted(np.concatenate(parts)) == list(range(len(strata)))
    for part, size in zip(parts, sizes, strict=True):
        for stratum, count in enumerate(strata_sizes):
            assert abs(int((strata[part] == stratum).sum()) - size * count / len(strata)) < 2
    other = split_rows(table, generator("split", 1))
    if min(sizes) > 2:
        assert set(other.test) != set(split.test)


def test_split_sizes_without_strata_and_wrong_ones() -> None:
    split = split_rows(sized_table((6, 3, 1), None, 10), generator("split"))
    assert (len(split.train), len(split.validation), len(split.test)) == (6, 3, 1)
    with pytest.raises(BenchError, match=r"\(6, 3, 1\) do not add up to the table's 11 rows"):
        split_rows(sized_table((6, 3, 1), None, 11), generator("split"))


def test_split_rule_is_part_of_the_identity() -> None:
    plain = sized_table((6, 3, 1), None, 10)
    strata = np.arange(10) % 2
    others = ({"split_sizes": None}, {"split_sizes": (5, 4, 1)}, {"strata": strata})
    tables = [plain, *(replace(plain, **other) for other in others)]
    assert len({table.content_hash for table in tables}) == 4


# Data sets on tiny files


def test_mnist_svhn_on_tiny_files(registry: Registry, tmp_path: Path) -> None:
    counts = (3, 1, 2, 4, 1, 1, 2, 2, 1, 5)
    files = write_idx(tmp_path, tiny_digits(counts, 0), tiny_digits((1,) * 10, 500))
    svhn_digits = {"train": np.repeat(np.arange(10), (2,) * 10), "test": np.repeat(np.arange(10), (1, 3) * 5)}
    for part, digits in svhn_digits.items():
        path = tmp_path / f"{part}_32x32.mat"
        write_svhn(path, digits)
        files[path.name] = Fetched(path, Source("mirror", path.name))
    data = dataset(registry, "mnist_svhn")
    table = data.load(files)
    assert isinstance(table, Table)
    assert [(a.name, a.kind, a.shape) for a in table.schema.attributes] == [
        ("mnist", "image", (28, 28)),
        ("svhn", "image", (32, 32, 3)),
    ]
    assert {name: (str(block.dtype), block.shape[1]) for name, block in table.blocks.items()} == {
        "mnist": ("uint8", 784),
        "svhn": ("uint8", 3072),
    }
    assert table.test is not None
    train_rows = sum(min(count, 2) for count in counts)
    assert (int((~table.test).sum()), int(table.test.sum())) == (train_rows, 10)
    mnist, svhn = ids_of(table.blocks["mnist"]), ids_of(table.blocks["svhn"], (32, 32, 3))
    np.testing.assert_array_equal(mnist[:, 1], svhn[:, 1])
    assert (mnist[table.test, 0] >= 500).all() and (mnist[~table.test, 0] < 500).all()
    assert len(set(mnist[:, 0])) == len(table)
    for rows in (table.test, ~table.test):
        assert len(set(svhn[rows, 0])) == int(rows.sum())
    again = data.load(files)
    assert isinstance(again, Table) and again.content_hash == table.content_hash


def test_mnist_mnist_on_tiny_files(registry: Registry, tmp_path: Path) -> None:
    files = write_idx(tmp_path, tiny_digits((4, 1, 2, 3, 1, 6, 2, 9, 2, 3), 0), tiny_digits((2,) * 10, 500))
    table = dataset(registry, "mnist_mnist").load(files)
    assert isinstance(table, Table) and table.test is not None
    assert (int((~table.test).sum()), int(table.test.sum())) == (3 + 1 + 2 + 2 + 1, 10)
    first, second = ids_of(table.blocks["first"]), ids_of(table.blocks["second"])
    assert set(zip(first[:, 1].tolist(), second[:, 1].tolist(), strict=True)) == set(DIGIT_PAIRS)
    assert len({*first[:, 0], *second[:, 0]}) == 2 * len(table)
    assert table.scalars.shape == (len(table), 0)


def test_subset_of_mnist_has_no_official_test_rows(registry: Registry, tmp_path: Path) -> None:
    images, labels = tiny_digits((3,) * 10, 0)
    path = tmp_path / "subset-mnist_5k.csv.gz"
    lines = [",".join(map(str, [*image.ravel(), label])) for image, label in zip(images, labels, strict=True)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    data = dataset(registry, "mnist_label")
    source = next(s for s in data.files[0].sources if s.subset)
    files = {file.name: Fetched(path, source) for file in data.files}
    table = data.load(files)
    assert isinstance(table, Table) and table.test is None
    np.testing.assert_array_equal(table.blocks["image"], images.reshape(30, 784))
    np.testing.assert_array_equal(table.scalars[:, 0], labels)
    paired = dataset(registry, "mnist_mnist").load(files)
    assert isinstance(paired, Table) and paired.test is None and len(paired) == 15


def test_stand_in_on_tiny_files(registry: Registry, tmp_path: Path) -> None:
    files = write_idx(tmp_path, tiny_digits((3,) * 10, 0), tiny_digits((2,) * 10, 500))
    table = dataset(registry, "mnist_svhn_stand_in").load(files)
    assert isinstance(table, Table) and table.test is not None
    real = dataset(registry, "mnist_svhn")
    assert table.schema.names == ("mnist", "svhn")
    assert table.schema.attributes[1].shape == (32, 32, 3)
    assert real.kinds == ("image",)
    assert (int((~table.test).sum()), int(table.test.sum())) == (30, 20)
    digits = ids_of(table.blocks["mnist"])[:, 1]
    coloured = table.blocks["svhn"].reshape(-1, 32, 32, 3).astype(float)
    # The bright pixel in the middle of a tiny digit, moved by the margin, stands out from its ground in every colour.
    ground = np.median(coloured[:, 14:19, 14:19].reshape(len(table), 25, 3), axis=1)
    assert (np.abs(coloured[:, 16, 16] - ground) > 10).all(axis=1).mean() > 0.9
    assert Counter(digits.tolist()) == dict.fromkeys(range(10), 5)


def test_label_sets_name_their_levels(registry: Registry, tmp_path: Path) -> None:
    files = write_idx(tmp_path, tiny_digits((2,) * 10, 0), tiny_digits((1,) * 10, 500))
    for name, level in (("mnist_label", "9"), ("fashion_label", "Ankle boot")):
        table = dataset(registry, name).load(files)
        assert isinstance(table, Table) and table.test is not None
        image, label = table.schema.attributes
        assert (image.name, image.kind, image.shape) == ("image", "image", (28, 28))
        assert (label.name, label.kind, label.levels[9], len(label.levels)) == ("label", "categorical", level, 10)
        np.testing.assert_array_equal(table.scalars[:, 0], ids_of(table.blocks["image"])[:, 1])
        assert int(table.test.sum()) == 10


@pytest.mark.parametrize("number", range(7, 12))
def test_attributes_of_the_tables_exist(number: int) -> None:
    """The attribute names of the table specs are those that the tests above find in the data sets."""
    entries = load_spec(f"table{number:02d}").cells()
    scopes = {"all", "something_observed", "nothing_observed"}
    named = {(entry.dataset, entry.attribute) for entry in entries if entry.attribute not in scopes}
    known = {
        "mnist_svhn": {"mnist", "svhn"},
        "fashion_label": {"image", "label"},
        "mnist_label": {"image", "label"},
        "ict_mmmo": {"acoustic", "visual", "textual"},
    }
    assert all(attribute in known[name] for name, attribute in named)
    assert bool(named) == (number in (8, 10, 11))


def write_ict(folder: Path, rng: np.random.Generator) -> dict[str, Fetched]:
    """Write random features in the layout of ICT-MMMO and return the files as fetched ones."""
    files: dict[str, Fetched] = {}
    for stem, end, width in (("audio", "", 74), ("video", "", 36), ("text", "_emb", 300)):
        for part, rows in (("train", 220), ("valid", 40), ("test", 80)):
            if (stem, part) == ("text", "train"):
                continue
            path = folder / f"{stem}_{part}{end}.h5"
            with h5py.File(path, "w") as opened:
                opened["d1"] = rng.normal(size=(rows, 3, width))
            files[path.name] = Fetched(path, Source("mirror", path.name))
    return files


def test_ict_mmmo_on_written_files(registry: Registry, tmp_path: Path) -> None:
    files = write_ict(tmp_path, np.random.default_rng(0))
    with h5py.File(files["audio_train.h5"].path, "r+") as opened:
        opened["d1"][0, :, 5] = 4000.0
    table = dataset(registry, "ict_mmmo").load(files)
    assert isinstance(table, Table)
    assert table.schema.names == ("acoustic", "visual", "textual")
    assert [a.width for a in table.schema.attributes] == [74, 36, 300]
    np.testing.assert_array_equal(table.present.sum(axis=0), [340, 340, 120])
    assert not table.present[:220, 2].any() and table.present[220:, 2].all()
    with h5py.File(files["text_valid_emb.h5"].path, "r") as opened:
        np.testing.assert_allclose(table.blocks["textual"][220:260], opened["d1"][:].mean(axis=1), rtol=1e-6)
    assert np.abs(table.blocks["acoustic"]).max() == 1.0
    # One saturated value does not set the unit: the others keep their spread.
    assert table.blocks["acoustic"][0, 5] == 1.0 and np.std(table.blocks["acoustic"][1:, 5]) > 0.2
    assert (table.test, table.split_sizes) == (None, (220, 40, 80))
    assert table.strata is not None
    np.testing.assert_array_equal(table.strata, table.present[:, 2])
    split = split_rows(table, generator("split"))
    assert [int(table.present[part, 2].sum()) for part in (split.train, split.validation, split.test)] == [78, 14, 28]

    complete = dataset(registry, "ict_mmmo_complete")
    assert {file.name for file in complete.files} == {name for name in files if "train" not in name}
    small = complete.load({name: fetched for name, fetched in files.items() if "train" not in name})
    assert isinstance(small, Table) and len(small) == 120 and small.present.all() and small.split_sizes is None
    np.testing.assert_array_equal(small.blocks["textual"], table.blocks["textual"][220:])


def test_ict_mmmo_names_a_file_of_another_shape(registry: Registry, tmp_path: Path) -> None:
    files = write_ict(tmp_path, np.random.default_rng(0))
    with h5py.File(tmp_path / "audio_valid.h5", "w") as opened:
        opened["d1"] = np.zeros((41, 20, 74))
    with pytest.raises(BenchError, match=r"audio_valid.h5 holds \(41, 20, 74\), not 40 sequences of 74 features"):
        dataset(registry, "ict_mmmo").load(files)
    (tmp_path / "audio_valid.h5").write_bytes(b"<html>")
    with pytest.raises(BenchError, match="audio_valid.h5 is not an HDF5 file"):
        dataset(registry, "ict_mmmo").load(files)


# Sources


def collection(folder: str, contents: Mapping[str, bytes], *packages: Source, name: str = "toy") -> Dataset:
    """Return a data set of tiny images in IDX format whose checksums are those of ``contents``."""

    class Toy(Dataset):
        kinds = ("image", "categorical")
        files = idx_files(
            folder,
            {n: (sha256(c), sha256(gzip.decompress(c))) for n, c in contents.items()},
            ("http://example.org/",),
            packages,
        )

        def load(self, files: Mapping[str, Fetched]) -> Table:
            images = read_images(files)
            schema = Schema((Attribute("image", "image", shape=(28, 28)),))
            return Table(
                schema,
                np.zeros((len(images.labels), 0)),
                {"image": images.pixels},
                np.ones((len(images.labels), 1), dtype=bool),
                images.test,
            )

    Toy.name = name
    return Toy()


def tiny_contents() -> dict[str, bytes]:
    """Return the four files of a tiny collection."""
    parts = (*tiny_digits((2,) * 10, 0), *tiny_digits((1,) * 10, 100))
    return {n: gzip.compress(idx_bytes(a), mtime=0) for n, a in zip(IDX_NAMES, parts, strict=True)}


def place(folder: Path, contents: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def test_file_is_accepted_by_its_content(cache: Path, use_mirror: Path) -> None:
    contents = tiny_contents()
    for change in (lambda c: gzip.compress(c, compresslevel=1, mtime=77), lambda c: c):
        place(use_mirror / "toy", {name: change(gzip.decompress(c)) for name, c in contents.items()})
        loaded = fetch.load_table(collection("toy", contents))
        assert (loaded.variant, len(loaded.table)) == ("full", 30)
    for damaged in (gzip.compress(b"other"), contents[IDX_NAMES[0]][:-9], b"", b"\x1f\x8b"):
        place(use_mirror / "toy", {**contents, IDX_NAMES[0]: damaged})
        with pytest.raises(BenchError, match="train-images-idx3-ubyte.gz: wrong checksum"):
            fetch.load_table(collection("toy", contents))


def test_data_sets_share_the_files_of_a_collection(cache: Path) -> None:
    contents = tiny_contents()
    place(cache / "shared", contents)
    one, two = (fetch.load_table(collection("shared", contents, name=name)).table for name in ("one", "two"))
    assert one.content_hash == two.content_hash
    assert not list((cache / "one").glob("*.gz"))


def ar_archive(members: Mapping[str, bytes]) -> bytes:
    """Return an ar archive, the outer shell of a Debian package."""
    parts = [b"!<arch>\n"]
    for name, content in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content)
        parts.append(b"\n" * (len(content) % 2))
    return b"".join(parts)


def debian_package(files: Mapping[str, bytes], compression: str = "xz") -> bytes:
    """Return a Debian package with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", f"data.tar.{compression}/": buffer.getvalue()}
    return ar_archive(members)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Callable[[bytes], list[str]]]:
    """Give a function that makes ``apt-get download`` serve a package and returns the list of what was asked for."""
    asked: list[str] = []

    def serve(package: bytes) -> list[str]:
        def download(name: str, folder: Path) -> Path:
            asked.append(name)
            path = folder / f"{name}_1.0_all.deb"
            path.write_bytes(package)
            return path

        monkeypatch.setattr(fetch, "apt_download", download)
        return asked

    monkeypatch.setattr(fetch, "_extract_deb", REAL_EXTRACT_DEB)
    yield serve


REAL_EXTRACT_DEB = fetch._extract_deb
PACKAGE_SOURCE = Source("deb", "toy-data", member="usr/share/toy/")


@pytest.mark.parametrize("compression", ["xz", "gz"])
def test_debian_package_is_a_source(apt: Callable[[bytes], list[str]], cache: Path, compression: str) -> None:
    contents = tiny_contents()
    stripped = {f"usr/share/toy/{n}": gzip.compress(gzip.decompress(c), mtime=5) for n, c in contents.items()}
    asked = apt(debian_package({"usr/share/doc/readme": b"text", **stripped}, compression))
    data = collection("toy", contents, PACKAGE_SOURCE)
    loaded = fetch.load_table(data)
    assert (loaded.variant, loaded.source, len(loaded.table)) == ("full", "Debian package toy-data", 30)
    assert asked == ["toy-data"]
    assert (cache / "debs" / "toy-data.deb").is_file()
    assert all((cache / "toy" / name).is_file() for name in IDX_NAMES)
    assert fetch.load_table(data).table.content_hash == loaded.table.content_hash
    assert dict(fetch.describe(data))[f"{IDX_NAMES[0]}: Debian package toy-data"].startswith("cached at ")


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
            fetch.load_table(data)
        assert not list((cache / "debs").iterdir())
    apt(debian_package({name: gzip.compress(b"other") for name in wanted}))
    with pytest.raises(BenchError, match="Debian package toy-data: wrong checksum; removed"):
        fetch.load_table(data)


def test_apt_get_says_why_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> None:
    monkeypatch.setattr("shutil.which", lambda command: None)
    with pytest.raises(fetch._Unavailable, match="apt-get is not on this system"):
        fetch.apt_download("toy-data", tmp_path)
    commands: list[list[str]] = []
    answers = iter(["E: Unable to locate package toy-data\n", "E: Failed to fetch it  Could not connect\n"])

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        assert options["cwd"] == tmp_path
        return subprocess.CompletedProcess(command, 100, next(answers))

    monkeypatch.setattr("shutil.which", lambda command: f"/usr/bin/{command}")
    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(fetch._Unavailable, match="Unable to locate package toy-data; it may need 'apt-get update'"):
        fetch.apt_download("toy-data", tmp_path)
    with pytest.raises(fetch._Unavailable, match="Could not connect"):
        fetch.apt_download("toy-data", tmp_path)
    assert commands[0][:2] == ["apt-get", "download"] and commands[0][-1] == "toy-data"


def test_without_svhn_one_line_says_what_is_missing(registry: Registry, cache: Path, use_mirror: Path) -> None:
    data = dataset(registry, "mnist_svhn")
    place(use_mirror / "mnist", dict.fromkeys(IDX_NAMES, b"there"))
    with pytest.raises(DataUnavailable) as caught:
        fetch.load_table(with_own_mnist(data, b"there"))
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


# Kept arrays


class Counted(Dataset):
    """A data set of random images, numbers, features and strata that counts its loads."""

    name = "counted"
    kinds = ("image", "features", "numeric")
    files = (File("seed.txt", (Source("mirror", "seed.txt"),)),)
    loads = 0

    def load(self, files: Mapping[str, Fetched]) -> Table:
        """Return what the seed in the file draws."""
        type(self).loads += 1
        rng = np.random.default_rng(int(files["seed.txt"].path.read_text()))
        schema = Schema(
            (
                Attribute("a/b", "image", shape=(2, 3)),
                Attribute("x", "numeric"),
                Attribute("kind", "categorical", levels=("u", "v")),
                Attribute("f", "features", shape=(4,)),
            )
        )
        blocks: dict[str, AnyArray] = {
            "a/b": rng.integers(0, 256, (9, 6), dtype=np.uint8),
            "f": rng.normal(size=(9, 4)).astype(np.float32),
        }
        scalars = np.stack([rng.normal(size=9), rng.integers(0, 2, 9)], axis=1)
        scalars[0, 0] = np.nan
        return Table(
            schema, scalars, blocks, rng.random((9, 4)) < 0.8, rng.random(9) < 0.5, (5, 2, 2), np.arange(9) % 2
        )


def is_mapped(array: AnyArray | None) -> bool:
    """Return whether an array is a view of a memory map."""
    while array is not None and not isinstance(array, np.memmap):
        array = array.base
    return array is not None


def test_kept_arrays_are_the_table_until_a_file_changes(cache: Path, use_mirror: Path) -> None:
    (use_mirror / "seed.txt").write_text("1")
    Counted.loads = 0
    first, second = fetch.load_table(Counted()), fetch.load_table(Counted())
    assert Counted.loads == 1
    fresh = Counted().load({"seed.txt": Fetched(use_mirror / "seed.txt", Source("mirror", "seed.txt"))})
    for loaded in (first, second):
        table = loaded.table
        assert (loaded.variant, loaded.source) == ("full", "mirror seed.txt")
        assert table.schema == fresh.schema
        assert "content_hash" in vars(table)
        assert table.content_hash == fresh.content_hash == replace(table).content_hash
        for name, block in fresh.blocks.items():
            np.testing.assert_array_equal(table.blocks[name], block)
            assert table.blocks[name].dtype == block.dtype
            assert is_mapped(table.blocks[name]) and type(table.blocks[name]) is np.ndarray
        np.testing.assert_array_equal(table.scalars, fresh.scalars)
        np.testing.assert_array_equal(table.present, fresh.present)
        np.testing.assert_array_equal(table.test, fresh.test)
        np.testing.assert_array_equal(table.strata, fresh.strata)
        assert table.split_sizes == (5, 2, 2)
    (use_mirror / "seed.txt").write_text("22")
    Counted.loads = 0
    changed = fetch.load_table(Counted()).table
    assert Counted.loads == 1
    assert changed.content_hash != first.table.content_hash
    assert len(list((cache / "counted").glob("arrays-*"))) == 1
    # The first table's files are gone, and what was mapped from them stays readable.
    np.testing.assert_array_equal(first.table.blocks["f"].shape, (9, 4))


def test_writing_to_a_kept_array_changes_no_file(cache: Path, use_mirror: Path) -> None:
    (use_mirror / "seed.txt").write_text("1")
    table = fetch.load_table(Counted()).table
    before = table.blocks["a/b"].copy()
    table.blocks["a/b"][:] = 0
    np.testing.assert_array_equal(fetch.load_table(Counted()).table.blocks["a/b"], before)


@pytest.mark.parametrize("damage", ["table.json", "block-0.npy", "scalars.npy", "all"])
def test_damaged_arrays_are_made_again(cache: Path, use_mirror: Path, damage: str) -> None:
    (use_mirror / "seed.txt").write_text("1")
    expected = fetch.load_table(Counted()).table.content_hash
    (folder,) = (cache / "counted").glob("arrays-*")
    for path in folder.iterdir():
        if damage in (path.name, "all"):
            path.write_bytes(path.read_bytes()[:-3])
    Counted.loads = 0
    table = fetch.load_table(Counted()).table
    assert Counted.loads == 1
    assert replace(table).content_hash == expected
    assert fetch.load_table(Counted()).table.content_hash == expected
    assert Counted.loads == 1


def test_arrays_of_another_key_are_not_read(tmp_path: Path) -> None:
    table = Table(Schema((Attribute("x", "numeric"),)), np.zeros((2, 1)), {}, np.ones((2, 1), dtype=bool))
    arrays.write(tmp_path, "a" * 64, table, {"variant": "full"})
    kept = arrays.read(tmp_path, "a" * 64)
    assert kept is not None and kept[1] == {"variant": "full"}
    assert arrays.read(tmp_path, "b" * 64) is None
    # The folder is named after the beginning of the key; the whole of it must agree.
    assert arrays.read(tmp_path, "a" * 16 + "b" * 48) is None


def test_replicas_share_the_mapped_images(cache: Path, use_mirror: Path) -> None:
    (use_mirror / "seed.txt").write_text("1")
    table = fetch.load_table(Counted()).table
    rows = np.tile(np.arange(9), (9, 1))
    view = Incomplete(table, rows, np.ones((9, 9, 4), dtype=bool))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        view.tensors("cpu")
        view.replica(3).tensors("cpu")
    _, blocks = _device_store(table, "cpu")
    for name, tensor in blocks.items():
        assert tensor.data_ptr() == table.blocks[name].ctypes.data


def test_statistics_of_many_rows_are_those_of_all_rows_at_once() -> None:
    rng = np.random.default_rng(0)
    rows = 9000
    schema = Schema((Attribute("image", "image", shape=(3,)), Attribute("vector", "features", shape=(3,))))
    image = rng.integers(0, 256, (rows, 3), dtype=np.uint8)
    vector = rng.normal(size=(rows, 3)).astype(np.float32)
    vector[:, 1] = 0.1
    table = Table(schema, np.zeros((rows, 0)), {"image": image, "vector": vector}, np.ones((rows, 2), dtype=bool))
    observed = rng.random((1, rows, 2)) < 0.6
    statistics = observed_statistics(Incomplete(table, np.arange(rows)[None], observed))
    seen, shown = observed[0, :, 0], vector[observed[0, :, 1]].astype(np.float64)
    np.testing.assert_allclose(statistics.block_mean["image"], image[seen].mean(axis=0) / 255, rtol=1e-6)
    np.testing.assert_allclose(statistics.block_mean["vector"], shown.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(statistics.block_scale["vector"][[0, 2]], shown.std(axis=0)[[0, 2]], rtol=1e-10)
    assert statistics.block_scale["vector"][1] == 1.0


# The real files


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[Callable[[str], LoadedTable]]:
    """Give a function that loads a data set from the mirror, into one cache for all tests; skip without a mirror."""
    if fetch.mirror_folder() is None:
        pytest.skip("needs the real data: set VSAE_BENCH_MIRROR to a folder that has it")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VSAE_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield lambda name: fetch.load_table(dataset(registry, name))


@pytest.mark.parametrize("name", [name for name in MULTIMODAL if not name.startswith("mnist_svhn")])
def test_real_files_give_the_declared_rows(real: Callable[[str], LoadedTable], registry: Registry, name: str) -> None:
    data = dataset(registry, name)
    loaded = real(name)
    assert loaded.variant == "full" and loaded.source.startswith("mirror ")
    assert loaded.table.content_hash == data.content_hash
    assert fetch.content_hash_of(data) == data.content_hash
    assert loaded.table.schema.kinds == set(data.kinds)


def test_mnist_mnist_has_the_published_sizes(real: Callable[[str], LoadedTable]) -> None:
    table = real("mnist_mnist").table
    split = split_rows(table, generator("split", "mnist_mnist", 0))
    assert (len(split.train), len(split.validation), len(split.test)) == (23257, 5814, 4832)
    assert table.schema.names == ("first", "second")
    rows = {row.tobytes() for block in table.blocks.values() for row in block}
    # MNIST holds hardly any image twice: so many distinct ones mean that none is used twice.
    assert len(rows) > 2 * len(table) - 20


def test_mnist_mnist_loads_the_second_time_at_once(real: Callable[[str], LoadedTable]) -> None:
    real("mnist_mnist")
    began = time.perf_counter()
    loaded = real("mnist_mnist")
    assert len(loaded.table.content_hash) == 64
    assert loaded.table.blocks["first"].shape == (33903, 784)
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("name", "mean_image", "class_image", "first_labels"),
    [
        ("mnist_label", 0.0675, 0.0529, [5, 0, 4, 1, 9]),
        ("fashion_label", 0.0866, 0.0524, [9, 0, 0, 3, 0]),
    ],
)
def test_floor_of_the_image_and_label_sets(
    real: Callable[[str], LoadedTable], name: str, mean_image: float, class_image: float, first_labels: list[int]
) -> None:
    """The error of the mean training image, and of the mean image of a known label, on the official test images."""
    table = real(name).table
    assert table.test is not None
    labels = table.scalars[:, 0].astype(int)
    assert labels[:5].tolist() == first_labels
    assert tuple(np.bincount(labels[table.test])) == (MNIST_TEST if name == "mnist_label" else (1000,) * 10)
    pixels, test = table.blocks["image"], np.flatnonzero(table.test)
    count = np.bincount(labels[~table.test]).astype(float)
    sums = np.stack([pixels[~table.test & (labels == k)].sum(axis=0, dtype=np.int64) for k in range(10)]) / 255
    overall, by_class = sums.sum(axis=0) / count.sum(), sums / count[:, None]
    found = np.zeros(2)
    for start in range(0, len(test), 2000):
        rows = test[start : start + 2000]
        truth = pixels[rows] / np.float64(255)
        found += [np.square(truth - fill).mean(axis=1).sum() for fill in (overall, by_class[labels[rows]])]
    assert found / len(test) == pytest.approx([mean_image, class_image], abs=0.00005)


@pytest.mark.parametrize(
    ("name", "mean_image", "class_image"), [("mnist_label", 0.0675, 0.0529), ("fashion_label", 0.0866, 0.0524)]
)
def test_the_class_mean_scores_the_known_numbers(
    real: Callable[[str], LoadedTable], registry: Registry, name: str, mean_image: float, class_image: float
) -> None:
    """Learned from complete training rows: the hidden test images with their label observed, and with it hidden too."""
    table = real(name).table
    assert table.test is not None
    train, test = np.flatnonzero(~table.test), np.flatnonzero(table.test)
    complete = Incomplete(table, train[None], np.ones((1, len(train), 2), dtype=bool))
    method = load(registry.method("class_mean"))()
    method.fit(complete, complete, 0)
    truth = table.take(test)
    for label_observed, expected in ((True, class_image), (False, mean_image)):
        observed = np.zeros((len(test), 2), dtype=bool)
        observed[:, 1] = label_observed
        values = method.impute(Incomplete(table, test[None], observed[None]), 1)
        scores = score(truth, values, observed, table.present[test], table.schema, reference_of(table))
        assert round(scores.attributes["image"]["mse"], 4) == expected
    prior = np.bincount(table.scalars[train, 0].astype(int)).argmax()
    assert scores.attributes["label"]["pfc"] == (truth.scalars[:, 0] != prior).mean()


def test_real_cmu_mosi(real: Callable[[str], LoadedTable]) -> None:
    table = real("cmu_mosi").table
    assert table.test is not None
    assert (int((~table.test).sum()), int(table.test.sum())) == (1447, 752)
    assert [(a.name, a.width) for a in table.schema.attributes] == [("acoustic", 73), ("visual", 100), ("textual", 100)]
    constant = {name: int((block.std(axis=0) == 0).sum()) for name, block in table.blocks.items()}
    assert constant == {"acoustic": 0, "visual": 32, "textual": 0}
    assert np.abs(table.blocks["acoustic"]).max() <= 1
    assert np.abs(table.blocks["visual"][~table.test]).max() == 1
    assert table.blocks["textual"][0, 0] == np.float32(-1.13522)


def test_real_ict_mmmo(real: Callable[[str], LoadedTable]) -> None:
    table = real("ict_mmmo").table
    np.testing.assert_array_equal(table.present.sum(axis=0), [340, 340, 120])
    for seed in range(3):
        split = split_rows(table, generator("split", "ict_mmmo", seed))
        assert (len(split.train), len(split.validation), len(split.test)) == (220, 40, 80)
        with_text = [int(table.present[part, 2].sum()) for part in (split.train, split.validation, split.test)]
        assert with_text == [78, 14, 28]
    assert all(np.isfinite(block).all() for block in table.blocks.values())
    assert np.abs(table.blocks["acoustic"]).max() == 1
    assert all(
        (block[table.present[:, i]].std(axis=0) > 0).sum() >= block.shape[1] - 1
        for i, block in enumerate(table.blocks.values())
    )
