"""Read the plain files data sets come in, delimited text and nominal ARFF, into rows of text and a typed DataFrame.

Feature vectors, too: tables of numbers, averages over time steps and a common unit.

The levels of every categorical column are declared, never inferred, so that each source of the same rows gives the same
schema, a subset that lacks a level included.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError
from bench.files.cache import decompressed

if TYPE_CHECKING:
    import pandas as pd

    from bench.data.schema import FloatArray

Rows = list[list[str]]
#: Columns in order: the levels of a categorical one in code order, None for a number.
Columns = Mapping[str, Sequence[str] | None]

#: Texts that stand for a value the source does not have, unless a column declares one of them as a level.
MISSING = frozenset({"?", ""})


def read_rows(path: Path, separator: str | None = ",", skip: int = 0) -> Rows:
    """Return the fields of every line of a text file (gzip too), stripped of blanks and quotes.

    ``skip`` leading lines, empty lines and the header and comment lines of ARFF and KEEL files (``@``, ``%``) are left
    out. ``separator`` None splits at runs of blanks.
    """
    text = decompressed(path).decode("utf-8")
    lines = (line.strip("\r\n ") for line in text.split("\n")[skip:])
    return [[field.strip(" \"'") for field in line.split(separator)] for line in lines if line and line[0] not in "@%"]


def level_of(text: str, levels: Sequence[str]) -> str | None:
    """Return the level that ``text`` names, or None if it stands for a missing value.

    A level that is a whole number is found in any notation (``1.0`` is ``1``). Raises ValueError on an unknown level.
    """
    if text in levels:
        return text
    if text in MISSING:
        return None
    number = f"{float(text):g}" if text.replace(".", "", 1).lstrip("+-").isdigit() else text
    if number not in levels:
        raise ValueError(f"'{text}' is none of {', '.join(levels)}")
    return number


def typed_frame(rows: Rows, columns: Columns) -> pd.DataFrame:
    """Return rows of text as a DataFrame: float64 columns, and categoricals with exactly the declared levels.

    ``?`` and the empty field are missing unless they are declared levels. Raises BenchError that names the row and the
    column which do not fit.
    """
    import numpy as np
    import pandas as pd

    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise BenchError(f"data row {number} has {len(row)} fields instead of {len(columns)}")
    series: dict[str, Any] = {}
    for index, (name, levels) in enumerate(columns.items()):
        texts = [row[index] for row in rows]
        known: dict[str, Any] = {}
        for number, text in enumerate(texts, start=1):
            if text in known:
                continue
            try:
                if levels is None:
                    known[text] = float("nan") if text in MISSING else float(text)
                else:
                    known[text] = level_of(text, levels)
            except ValueError as error:
                raise BenchError(f"data row {number}, column '{name}': {error}") from None
        values = [known[text] for text in texts]
        if levels is None:
            series[name] = np.array(values, dtype=np.float64)
        else:
            series[name] = pd.Categorical(values, categories=list(levels))
    return pd.DataFrame(series)


def read_numbers(path: Path) -> FloatArray:
    """Return a file of comma separated numbers (gzip too, quoted or not) as float64 [lines, columns].

    Raises BenchError on anything else.
    """
    import numpy as np

    try:
        numbers: FloatArray = np.loadtxt(path, delimiter=",", quotechar='"', ndmin=2)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise BenchError(f"{path} is not a table of numbers ({error})") from None
    return numbers


def mean_over_steps(sequences: FloatArray) -> FloatArray:
    """Return the mean [n, width] of sequences [n, steps, width] over the steps that are not padding (all zero)."""
    import numpy as np

    steps = np.any(sequences != 0, axis=2).sum(axis=1)
    mean: FloatArray = sequences.sum(axis=1) / np.maximum(steps, 1)[:, None]
    return mean


def in_units_of(values: FloatArray, reference: FloatArray, percentile: float) -> FloatArray:
    """Return the columns of ``values`` divided by this percentile of the absolute value of those of ``reference``.

    A column whose percentile is 0 stays as it is.
    """
    import numpy as np

    unit = np.percentile(np.abs(reference), percentile, axis=0)
    scaled: FloatArray = values / np.where(unit > 0, unit, 1.0)
    return scaled


def translated(rows: Rows, column: int, names: Mapping[str, str]) -> Rows:
    """Return the rows with the texts of one column replaced by ``names``; texts not in it stay."""
    return [[*row[:column], names.get(row[column], row[column]), *row[column + 1 :]] for row in rows]
