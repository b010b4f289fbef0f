"""npz files that anyone may have written: read as they are, or refused in one line."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.api import AnyArray, BenchError
from bench.files.npz import read_npz


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a file to write."""
    return tmp_path / "arrays.npz"


def npy(array: AnyArray) -> bytes:
    """Return an array in npy format."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def write_members(path: Path, **members: bytes) -> None:
    """Write an archive of these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_are_read_as_they_were_written(path: Path, compressed: bool) -> None:
    arrays = {
        "numbers": np.arange(6, dtype="<f4").reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": np.array("words"),
        "none": np.zeros((0, 3), dtype=np.bool_),
        "unread": np.array([None]),
    }
    (np.savez_compressed if compressed else np.savez)(path, **arrays)  # type: ignore[arg-type]
    read = read_npz(path, ("numbers", "columns", "text", "none"))
    assert list(read) == ["numbers", "columns", "text", "none"]
    for name, array in read.items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype


def test_what_cannot_be_read_is_one_line_that_names_the_file(path: Path) -> None:
    with pytest.raises(BenchError, match="is not there"):
        read_npz(path, ("X",))
    whole = npy(np.arange(1000))
    write_members(path, X=whole)
    content = path.read_bytes()
    write_members(path, X=whole[:-8])
    short = path.read_bytes()
    # The header promises far more than there is: refused before anything is allocated.
    write_members(path, X=whole.replace(b"(1000,)", b"(9999,)"))
    promising = path.read_bytes()
    np.savez(path, X=np.array([{"a": 1}], dtype=object))
    pickled = path.read_bytes()
    np.savez(path, Y=np.arange(3))
    other = path.read_bytes()
    write_members(path, X=b"\x93NUMPY\x09\x00")
    future = path.read_bytes()
    for wrong, words in (
        (b"", "not an npz file"),
        (b"<html>" * 50, "not an npz file"),
        (whole, "not an npz file"),
        (content[: len(content) // 2], "not an npz file"),
        (content[:60] + bytes(200) + content[260:], "damaged"),
        (short, "is said to be"),
        (promising, r"is said to be int64 \(9999,\) but has 8000 bytes"),
        (pickled, "Python objects"),
        (other, "has no array 'X'; it needs X"),
        (future, "npy version"),
    ):
        path.write_bytes(wrong)
        with pytest.raises(BenchError, match=words) as caught:
            read_npz(path, ("X",))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_more_than_the_bound_is_not_decompressed(path: Path) -> None:
    np.savez_compressed(path, X=np.zeros(100_000, dtype=np.uint8))
    assert len(read_npz(path, ("X",), most_bytes=100_200)["X"]) == 100_000
    with pytest.raises(BenchError, match="more than the 1000 bytes"):
        read_npz(path, ("X",), most_bytes=1000)
