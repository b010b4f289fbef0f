"""Masks as files: another project's on our data, and ours for another project.

A file is an npz file with the arrays ``observed`` [rows, attributes] (true where a value is shown) and ``attributes``,
their names. It holds one mask of a whole table: seeds differ in split and training. The mechanism ``mask_file`` hides
what the file hides. A row names the mask by the hash of its content, never by a path; ``run --masks`` keeps a copy in
the cache folder under that hash, where workers and ``verify`` find it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.data.kinds import Kind
from bench.data.schema import BoolArray, FloatArray, Schema
from bench.data.table import Values
from bench.errors import BenchError, closest
from bench.experiment.scope import Scope
from bench.files.cache import cache_folder
from bench.files.fetch import load_sound
from bench.files.npz import read_npz
from bench.plugins.contracts import Mechanism
from bench.plugins.registry import Registry, load
from bench.problem.build import mask_hash
from bench.seeds import digest

MECHANISM = "mask_file"


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask of a table: what is ``observed`` [rows, attributes], and the names of the attributes."""

    observed: BoolArray
    attributes: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """SHA-256 of all that the file says: the attributes' names and the ``mask_hash`` of rows under the mask."""
        return digest([self.attributes, mask_hash(self.observed)])

    def write(self, path: Path) -> None:
        """Write the file, all or nothing; raises BenchError if it cannot be written."""
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as stream:
                np.savez_compressed(stream, observed=self.observed, attributes=np.array(self.attributes, dtype=np.str_))
            os.replace(partial, path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise BenchError(f"{path} cannot be written: {error.strerror or error}") from None


def read_mask(path: Path) -> Mask:
    """Read a file; raises BenchError, in one line that names it, on anything but a mask."""
    arrays = read_npz(path, ("observed", "attributes"))
    observed, names = arrays["observed"], arrays["attributes"]
    if observed.ndim != 2:
        raise BenchError(f"{path}: 'observed' has shape {observed.shape}; a mask is [rows, attributes]")
    if observed.dtype.kind not in "biu" or not np.isin(observed, (0, 1)).all():
        raise BenchError(
            f"{path}: 'observed' is {observed.dtype}; a mask holds true (or 1) where a value is shown, else 0"
        )
    if names.dtype.kind != "U" or names.shape != observed.shape[1:]:
        raise BenchError(f"{path}: 'attributes' has to be the {observed.shape[1]} names of the mask's columns, as text")
    return Mask(observed.astype(np.bool_), tuple(map(str, names)))


def kept_at(sha256: str) -> Path:
    """Return where the copy of a mask is kept."""
    return cache_folder() / "masks" / f"{sha256}.npz"


def under_mask(scope: Scope, path: Path, registry: Registry) -> Scope:
    """Return a grid under the mask of a file, and keep a copy of the file.

    Its ratio is the share of all entries that the mask hides. Raises BenchError if the scope names mechanisms, ratios
    or tables, which have masks of their own, if the mask hides nothing or everything, and if it is of another table
    than one of the suite's data sets that the scope names (a user's own are loaded in a worker, which says so).
    """
    if scope.tables or scope.mechanisms or scope.ratios:
        raise BenchError(
            "--masks is for a grid of your own, with --methods and --datasets; it replaces --mechanisms and --ratios"
        )
    mask = read_mask(path)
    ratio = round(1 - float(mask.observed.mean()), 6) if mask.observed.size else 0.0
    if not 0 < ratio < 1:
        raise BenchError(f"{path} hides {'everything' if ratio else 'nothing'}: there is nothing to compare")
    for name in scope.datasets:
        info = registry.dataset(name)
        if info.origin == "suite":
            table = load_sound(load(info)(), include_target=False).table
            require_fitting(mask, table.schema.names, len(table), name)
    copy = kept_at(mask.sha256)
    if not copy.is_file():
        mask.write(copy)
    return replace(scope, mechanisms=(MECHANISM,), ratios=(ratio,), mechanism_parameters={"sha256": mask.sha256})


class MaskFile(Mechanism):
    """What a file hides is missing, whatever the ratio, which is the file's share of all entries.

    Why it is missing the file does not say, so it is not taken to be ignorable.
    """

    name = "mask_file"
    summary = "the mask of a file, as `run --masks` takes it"
    kinds: ClassVar[tuple[Kind, ...]] = ("numeric", "categorical", "image", "features")
    ignorable = False
    parameters: ClassVar[Mapping[str, Any]] = {"sha256": ""}

    def missing_probability(
        self, values: Values, schema: Schema, ratio: float, rng: np.random.Generator, **parameters: Any
    ) -> FloatArray:
        """Return [n, M]: 1 where the file hides, else 0. Raises BenchError if it is of another table, or not kept."""
        sha256 = str({**self.parameters, **parameters}["sha256"])
        copy = kept_at(sha256)
        if not sha256.isalnum() or not copy.is_file():
            raise BenchError(
                f"mask {sha256[:12] or 'of no file'} is not in the cache folder: run with --masks FILE once"
            )
        mask = read_mask(copy)
        if mask.sha256 != sha256:
            raise BenchError(f"{copy} is not the mask it is named after: delete it and run with --masks FILE")
        require_fitting(mask, schema.names, len(values.scalars), "this data set")
        hidden: FloatArray = (~mask.observed).astype(np.float64)
        return hidden


def require_fitting(mask: Mask, names: Sequence[str], rows: int, data: str) -> None:
    """Raise BenchError unless a mask is of a table with these attributes, in this order, and so many rows."""
    if mask.attributes != tuple(names):
        first = next((own for own in mask.attributes if own not in names), None)
        told = (
            f"it has an attribute '{first}', which {data} has not.{closest(first, names)}"
            if first is not None
            else f"its attributes are {', '.join(mask.attributes)}; those of {data} are {', '.join(names)}"
        )
        raise BenchError(f"the mask is of another table: {told}")
    if len(mask.observed) != rows:
        raise BenchError(f"the mask has {len(mask.observed)} rows, and {data} has {rows}")
