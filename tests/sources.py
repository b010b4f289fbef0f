"""Sources of data that tests make themselves: a web server, archives, wheels, Debian packages, tiny data sets."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import time
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.api import Attribute, Dataset, Fetched, File, Schema, Source, Table, read_rows, typed_frame
from bench.files.images import IDX_NAMES, read_images
from bench.files.shared import idx_files
from tests.pictures import idx_bytes, tiny_digits

ROWS = b"1.5,red,yes\n2.5,blue,no\n,red,no\n4.0,blue,yes\n"


SUBSET = b"1.5,red,yes\n2.5,blue,no\n"


WRONG = b"9.9,red,yes\n2.5,blue,no\n,red,no\n4.0,blue,yes\n"


COLUMNS = {"size": None, "colour": ("blue", "green", "red"), "answer": ("no", "yes")}


def sha256(content: bytes) -> str:
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
        kinds = ("numeric", "categorical")
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
