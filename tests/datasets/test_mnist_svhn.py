"""MNIST+SVHN on tiny files in the layouts of both, through the checksums and the order of sources, and for real."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.api import AnyArray, BenchError, Dataset, Fetched, File, Source, Table, generator
from bench.files.cache import LoadedTable, file_sha256, mirror_folder
from bench.files.fetch import DataUnavailable, content_of, load_sound, load_table
from bench.problem.build import split_rows
from tests.pictures import ids_of, svhn_images, tiny_digits, write_idx, write_svhn

SVHN = (32, 32, 3)
#: Images of each digit in the tiny collections: MNIST's parts, and SVHN's.
MNIST = ((3, 1, 2, 4, 1, 1, 2, 2, 1, 5), (1,) * 10)
HOUSE_NUMBERS = {"train": np.repeat(np.arange(10), (2,) * 10), "test": np.repeat(np.arange(10), (1, 3) * 5)}
#: Digits of the subset: its files, and what each holds.
SUBSET = {
    "train_1083.npz": np.array([0, 1, 2, 3, 9]),
    "train_jpeg_989.npz": np.array([0, 5, 5, 9, 9]),
    "test_7136.npz": np.array([3, 0, 7, 8, 6, 4, 3, 2, 0, 9]),
}


def write_mats(folder: Path) -> None:
    """Write SVHN's two files."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, digits in HOUSE_NUMBERS.items():
        write_svhn(folder / f"{part}_32x32.mat", digits)


def write_subset(folder: Path) -> None:
    """Write the files of the subset, whose images have numbers of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, digits) in enumerate(SUBSET.items()):
        images = svhn_images(digits, first_id=100 * number)
        np.savez_compressed(folder / name, X=images, y=digits.astype(np.uint8), index=np.arange(len(digits)))


def declared_as_written(data: Dataset, mirror: Path) -> Dataset:
    """Return the data set with the checksums of the files that a mirror has, in place of those of the real ones."""

    def own(source: Source) -> Source:
        path = mirror / source.location
        here = source.kind == "mirror" and path.is_file()
        sha256 = file_sha256(path) if here else "0" * 64
        return replace(source, sha256=sha256, content_sha256=None, more=tuple(own(other) for other in source.more))

    data.files = tuple(  # type: ignore[misc]
        File(file.name, tuple(own(source) for source in file.sources), file.folder) for file in data.files
    )
    return data


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a mirror with tiny MNIST, nothing of SVHN yet, an empty cache, and no way to download."""
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VSAE_BENCH_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr("bench.files.download.dead_hosts", {"ufldl.stanford.edu"})
    write_idx(tmp_path / "mirror" / "mnist", tiny_digits(MNIST[0], 0), tiny_digits(MNIST[1], 500))
    return tmp_path / "mirror"


def require_pairs(table: Table, used_once: tuple[AnyArray, ...]) -> None:
    """Require the same digit on both sides of a row, every MNIST image once, every SVHN image once per part."""
    mnist, svhn = ids_of(table.blocks["mnist"]), ids_of(table.blocks["svhn"], SVHN)
    np.testing.assert_array_equal(mnist[:, 1], svhn[:, 1])
    assert len(set(mnist[:, 0])) == len(table)
    for rows in used_once:
        assert len(set(svhn[rows, 0])) == int(rows.sum())


def test_official_files_are_read_in_their_own_layout(dataset: Callable[[str], Dataset], mirror: Path) -> None:
    """The whole way: MATLAB files with label 10 for the digit 0, found in a mirror and accepted by their checksums."""
    write_mats(mirror / "svhn")
    write_subset(mirror / "svhn_subset")
    loaded = load_sound(declared_as_written(dataset("mnist_svhn"), mirror))
    table = loaded.table
    assert loaded.variant == "full" and "subset" not in loaded.source
    assert [(a.name, a.kind, a.shape) for a in table.schema.attributes] == [
        ("mnist", "image", (28, 28)),
        ("svhn", "image", SVHN),
    ]
    assert {name: (block.dtype.type, block.shape[1]) for name, block in table.blocks.items()} == {
        "mnist": (np.uint8, 784),
        "svhn": (np.uint8, 3072),
    }
    assert table.test is not None and table.split_sizes is None
    train_rows = sum(min(count, 2) for count in MNIST[0])
    assert (int((~table.test).sum()), int(table.test.sum())) == (train_rows, 10)
    require_pairs(table, (table.test, ~table.test))
    ids = ids_of(table.blocks["mnist"])[:, 0]
    assert (ids[table.test] >= 500).all() and (ids[~table.test] < 500).all()


def test_subset_serves_where_the_official_files_are_not(dataset: Callable[[str], Dataset], mirror: Path) -> None:
    write_subset(mirror / "svhn_subset")
    data = declared_as_written(dataset("mnist_svhn"), mirror)
    loaded = load_sound(data)
    table = loaded.table
    assert loaded.variant == "subset"
    assert "mirror svhn_subset/train_1083.npz and svhn_subset/train_jpeg_989.npz (subset)" in loaded.source
    assert table.test is None and len(table) == sum(map(len, SUBSET.values()))
    require_pairs(table, (np.ones(len(table), dtype=np.bool_),))
    digits = Counter(np.concatenate(list(SUBSET.values())).tolist())
    assert Counter(ids_of(table.blocks["mnist"])[:, 1].tolist()) == digits
    # Who is paired with whom does not follow from the order of the files, and is the same in another process.
    assert loaded.table.content_hash == data.load(fetched_subset(data, mirror)).content_hash
    write_mats(mirror / "svhn")
    assert content_of(declared_as_written(dataset("mnist_svhn"), mirror)).variant == "full"


def fetched_subset(data: Dataset, mirror: Path) -> dict[str, Fetched]:
    """Return the files of a mirror as ``load`` gets them, the subset's in place of SVHN's."""
    found = {}
    for file in data.files:
        source = file.sources[-1] if file.sources[-1].subset else file.sources[0]
        first, *more = (mirror / own.location for own in (source, *source.more))
        found[file.name] = Fetched(first, source, tuple(more))
    return found


def test_subset_is_split_in_the_proportions_of_the_whole(dataset: Callable[[str], Dataset], mirror: Path) -> None:
    write_subset(mirror / "svhn_subset")
    table = load_table(declared_as_written(dataset("mnist_svhn"), mirror)).table
    assert table.split_sizes == (14, 3, 3)
    split = split_rows(table, generator("split", "mnist_svhn", 0))
    assert sorted([*split.train, *split.validation, *split.test]) == list(range(20))


def test_one_line_says_what_to_do_without_any_house_numbers(dataset: Callable[[str], Dataset], mirror: Path) -> None:
    with pytest.raises(DataUnavailable) as caught:
        load_table(declared_as_written(dataset("mnist_svhn"), mirror))
    message = str(caught.value)
    assert "\n" not in message
    assert f"mirror svhn/train_32x32.mat: no file {mirror / 'svhn' / 'train_32x32.mat'}" in message
    assert f"(subset): no file {mirror / 'svhn_subset' / 'train_1083.npz'}" in message
    assert "put train_32x32.mat and test_32x32.mat (from http://ufldl.stanford.edu/housenumbers/) into" in message


@pytest.mark.parametrize("name", SUBSET)
def test_subset_that_lacks_a_file_does_not_serve(dataset: Callable[[str], Dataset], mirror: Path, name: str) -> None:
    write_subset(mirror / "svhn_subset")
    data = declared_as_written(dataset("mnist_svhn"), mirror)
    (mirror / "svhn_subset" / name).unlink()
    with pytest.raises(DataUnavailable, match=f"no file .*{name}"):
        load_table(data)


@pytest.mark.parametrize("name", SUBSET)
def test_wrong_file_of_the_subset_is_never_used(dataset: Callable[[str], Dataset], mirror: Path, name: str) -> None:
    write_subset(mirror / "svhn_subset")
    data = declared_as_written(dataset("mnist_svhn"), mirror)
    path = mirror / "svhn_subset" / name
    for wrong, words in ((path.read_bytes()[:-40], "not readable"), (b"<html>", "not an npz file")):
        path.write_bytes(wrong)
        with pytest.raises(BenchError, match=words) as caught:
            load_table(data)
        message, _, placing = str(caught.value).partition("To place it by hand, put ")
        assert "\n" not in message and name in message
        assert "(from http://ufldl.stanford.edu/housenumbers/" in placing and "idx" not in placing
        assert path.read_bytes() == wrong
    # Other rows than the subset's: whole, but not what the data set declares.
    np.savez(path, X=svhn_images(np.arange(3), 7), y=np.arange(3))
    with pytest.raises(BenchError, match="neither its checksum nor its rows are the expected ones"):
        load_table(data)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"X": np.zeros((2, 32, 32, 3), np.uint8)}, "has no array 'y'"),
        ({"X": np.zeros((2, 32, 32), np.uint8), "y": np.zeros(2, np.uint8)}, r"not uint8 \(n, 32, 32, 3\)"),
        ({"X": np.zeros((2, 32, 32, 3)), "y": np.zeros(2, np.uint8)}, "X is float64"),
        ({"X": np.zeros((2, 32, 32, 3), np.uint8), "y": np.zeros(3, np.uint8)}, r"labels \(3,\)"),
        ({"X": np.zeros((2, 32, 32, 3), np.uint8), "y": np.array([1, 10])}, "label outside 0..9"),
        ({"X": np.zeros((2, 32, 32, 3), np.uint8), "y": np.array([1.5, 2])}, "not whole numbers"),
        ({"X": np.zeros((2, 32, 32, 3), np.uint8), "y": np.array([1, None])}, "Python objects"),
    ],
)
def test_arrays_that_are_no_digits_are_named(
    dataset: Callable[[str], Dataset], mirror: Path, arrays: dict[str, AnyArray], words: str
) -> None:
    write_subset(mirror / "svhn_subset")
    path = mirror / "svhn_subset" / "test_7136.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(BenchError, match=words) as caught:
        load_table(declared_as_written(dataset("mnist_svhn"), mirror))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(
    not (folder := mirror_folder()) or not (folder / "svhn_subset").is_dir(),
    reason="needs the subset of SVHN: set VSAE_BENCH_MIRROR to a folder that has svhn_subset",
)
def test_real_subset_has_its_digits_and_its_sizes(
    real: Callable[[str], LoadedTable], dataset: Callable[[str], Dataset]
) -> None:
    loaded = real("mnist_svhn")
    table = loaded.table
    assert loaded.variant == "subset" and (table.content_hash,) == dataset("mnist_svhn").subset_content_hashes
    split = split_rows(table, generator("split", "mnist_svhn", 0))
    assert (len(split.train), len(split.validation), len(split.test)) == (6262, 1565, 1381)
    rows = [row.tobytes() for block in table.blocks.values() for row in block]
    assert len(rows) == 2 * 9208 and len(set(rows)) > len(rows) - 10
    # The mean house number is grey and flat; the mean handwritten digit is dark with a bright middle.
    assert 100 < table.blocks["svhn"].mean() < 130 and 25 < table.blocks["mnist"].mean() < 40
