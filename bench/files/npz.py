"""Arrays of an npz file that anyone may have written: nothing is unpickled, and nothing is read beyond a bound."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO

import numpy as np

from bench.data.schema import AnyArray
from bench.data.source import MOST_BYTES
from bench.errors import BenchError, line_of

#: What a file that is no npz file, or a damaged one, makes the readers of zip and npy raise.
_UNREADABLE = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: Path, names: Collection[str], most_bytes: int = MOST_BYTES) -> dict[str, AnyArray]:
    """Return the named arrays of an npz file; others are not read.

    Raises BenchError, in one line that names the file, if one is not there, holds Python objects or is damaged, and if
    they hold more than ``most_bytes`` together.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            lacking = [name for name in names if f"{name}.npy" not in members]
            if lacking:
                raise BenchError(f"{path} has no array '{lacking[0]}'; it needs {', '.join(names)}")
            wanted = {name: members[f"{name}.npy"] for name in names}
            if sum(info.file_size for info in wanted.values()) > most_bytes:
                raise BenchError(f"{path} holds more than the {most_bytes} bytes allowed")
            return {name: _array(archive, info, f"{path}: array '{name}'") for name, info in wanted.items()}
    except FileNotFoundError:
        raise BenchError(f"{path} is not there") from None
    except _UNREADABLE as error:
        raise BenchError(f"{path} is not an npz file, or it is damaged ({line_of(error)})") from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, what: str) -> AnyArray:
    """Return a member of the archive as an array; ``what`` names it in errors."""
    with archive.open(info) as stream:
        shape, fortran, dtype = _header(stream, what)
        if dtype.hasobject:
            raise BenchError(f"{what} holds Python objects, which are never read; write it as plain numbers or text")
        content = stream.read()
    # A header may promise more than there is: nothing is allocated by it.
    if math.prod(shape) * dtype.itemsize != len(content):
        raise BenchError(f"{what} is said to be {dtype} {shape} but has {len(content)} bytes")
    if dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _header(stream: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Return shape, order and type that an npy file says it has."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise BenchError(f"{what} is of npy version {version}, which is not read")
    shape, fortran, dtype = _HEADERS[version](stream)
    return shape, fortran, dtype
