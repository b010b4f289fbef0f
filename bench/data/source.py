"""Where the files of a data set can come from, as declared; ``bench.files`` fetches them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Variant = Literal["full", "subset"]


@dataclass(frozen=True)
class Source:
    """One place a file can come from.

    ``location`` is a path below the mirror folder, a URL, a requirement (``name==version``), or the name of a Debian
    package. ``member`` is the file inside a zip, wheel or Debian package. ``sha256`` is that of the file finally used,
    None if nobody has published it; ``content_sha256`` that of a gzip file's content, whatever its header says;
    ``archive_sha256`` is the wheel's. ``subset`` says that rows are missing, ``format`` names the layout for the loader
    if it is not that of the file's first source.
    """

    kind: Literal["mirror", "url", "wheel", "deb"]
    location: str
    member: str | None = None
    sha256: str | None = None
    content_sha256: str | None = None
    archive_sha256: str | None = None
    subset: bool = False
    format: str = ""

    @property
    def label(self) -> str:
        """The source in words, for messages."""
        text = {"mirror": "mirror", "url": "", "wheel": "wheel", "deb": "Debian package"}[self.kind]
        return f"{text} {self.location}".strip() + (" (subset)" if self.subset else "")


@dataclass(frozen=True)
class File:
    """A file of a data set: the name it goes by in ``load`` and in the cache, and its sources, best first.

    ``folder`` is its folder in the cache where several data sets share it, else each keeps its own.
    """

    name: str
    sources: tuple[Source, ...]
    folder: str = ""


@dataclass(frozen=True)
class Fetched:
    """A file that is there: its path, and the source it is laid out as."""

    path: Path
    source: Source
