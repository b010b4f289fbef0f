"""DataFrames in and out: what each kind of column means, and which are refused.

| A column of | is |
|---|---|
| numbers (also as Python objects) | numeric; complex and infinite numbers are refused |
| a pandas category | categorical with its levels as text, in their order; two levels of one text are refused |
| truth values | categorical |
| text that is all numbers | numeric, ``?`` and the like missing; categorical if ``kinds`` declares no numbers |
| other text, bytes, text mixed with numbers | categorical with sorted levels |
| nothing but missing values | left out |
| dates, durations, lists, other objects | refused |

Columns are known by position, and need names that differ as text. What had to be assumed is noted, in one line each.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.data.kinds import Kind
from bench.data.schema import Attribute, BoolArray, FloatArray, Schema
from bench.errors import BenchError, printable

if TYPE_CHECKING:
    import pandas as pd

#: Texts that stand for a missing value among numbers.
MISSING_TEXTS = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None"})
#: A category with more levels than this, and than half the rows, is taken for an identifier.
FEW_LEVELS = 20

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
_NUMBERS = (int, float, np.integer, np.floating, decimal.Decimal, fractions.Fraction)


class Refused(BenchError):
    """Data that no method is given; the text says what is wrong, and leaves it to others to name the data set."""


@dataclass(frozen=True, eq=False)
class ReadFrame:
    """A DataFrame as read: ``scalars`` [n, S] with NaN in missing values, what was assumed, and what was left out."""

    schema: Schema
    scalars: FloatArray
    present: BoolArray
    notes: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Column:
    """A column as read: its values or codes [n]."""

    attribute: Attribute
    values: FloatArray
    note: str = ""


def read_frame(frame: pd.DataFrame, kinds: Collection[Kind] | None = None) -> ReadFrame:
    """Read the DataFrame of a data set; ``kinds`` are those it declares. Raises Refused on what is refused."""
    names, notes = _names(frame)
    columns: list[_Column] = []
    left_out: list[str] = []
    for position, name in enumerate(names):
        column = frame.iloc[:, position]
        read = None if len(column) and column.isna().all() else _column(name, column, kinds)
        if read is None:
            left_out.append(name)
        else:
            columns.append(read)
    if left_out:
        notes.append(f"left out, because they hold no value: {listed(left_out)}")
    if left_out and not columns:
        raise Refused("no column of the DataFrame holds a value")
    notes += [column.note for column in columns if column.note]
    scalars = np.column_stack([column.values for column in columns]) if columns else np.zeros((len(frame), 0))
    schema = Schema(tuple(column.attribute for column in columns))
    present: BoolArray = ~np.isnan(scalars)
    return ReadFrame(schema, scalars, present, tuple(notes), tuple(left_out))


def _names(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Return the names of the columns as text, and what to note of them. Raises Refused unless they all differ."""
    if frame.columns.nlevels > 1:
        raise Refused(
            f"the DataFrame has {frame.columns.nlevels} header levels; join them into one name per column, such as"
            " frame.columns = ['_'.join(map(str, name)) for name in frame.columns]"
        )
    names = [str(name) for name in frame.columns]
    if not names:
        raise Refused("the DataFrame has no columns")
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        if name != printable(name):
            raise Refused(f"the name of column {position} holds characters that do not print, {name!r}; rename it")
        if first.setdefault(name, position) != position:
            raise Refused(f"columns {first[name]} and {position} are both named '{name}'; give each a name of its own")
    other = [name for name, given in zip(names, frame.columns, strict=True) if not isinstance(given, str)]
    return names, [f"columns whose names are no text are named {listed(other)}"] if other else []


def listed(names: Sequence[str], most: int = 5) -> str:
    """Return some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _column(name: str, column: pd.Series[Any], kinds: Collection[Kind] | None) -> _Column | None:
    """Read one column that is not all missing; None if it turns out to be. Raises Refused."""
    import pandas as pd

    types, dtype = pd.api.types, column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        levels = _level_texts(name, dtype.categories)
        codes = column.cat.codes.to_numpy()
        return _category(name, levels, np.where(codes < 0, np.nan, codes.astype(np.float64)))
    if isinstance(dtype, pd.SparseDtype):
        column = column.astype(dtype.subtype)
        dtype = column.dtype
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        raise _dates(name)
    if types.is_complex_dtype(dtype):
        raise _complex(name)
    if types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype):
        return _numeric(name, column.to_numpy(dtype=np.float64, na_value=np.nan))
    known = column.notna().to_numpy(dtype=bool)
    values = list(column[known])
    return _objects(name, values, known, kinds)


def _objects(name: str, values: list[Any], known: BoolArray, kinds: Collection[Kind] | None) -> _Column | None:
    """Read a column of Python objects: ``values`` are those of the ``known`` rows; None if each stands for missing."""
    numbers_welcome = kinds is None or "numeric" in kinds
    number, text = _sorts(name, values)
    texts = [_as_text(name, value) for value in values]
    spread = np.full(len(known), np.nan)
    if number and not text and numbers_welcome:
        spread[known] = [_as_float(name, value) for value in values]
        return _numeric(name, spread, f"column '{name}' holds numbers as Python objects: taken as numeric")
    stripped = [value.strip() for value in texts]
    missing = [value in MISSING_TEXTS for value in stripped]
    rest = {value for value, gone in zip(stripped, missing, strict=True) if not gone}
    only_text = text and not number and all(isinstance(value, str | bytes) for value in values)
    if only_text and values and not rest:
        return None
    if numbers_welcome and only_text and rest and all(_NUMBER.fullmatch(value) for value in rest):
        spread[known] = [np.nan if gone else float(value) for value, gone in zip(stripped, missing, strict=True)]
        marks = sorted({repr(value) for value, gone in zip(stripped, missing, strict=True) if gone})
        gone_words = f", {' and '.join(marks)} as missing" if marks else ""
        note = f"column '{name}' holds numbers as text: taken as numeric{gone_words} (a category: astype('category'))"
        return _numeric(name, spread, note)
    levels = tuple(sorted(set(texts)))
    code = {level: float(number) for number, level in enumerate(levels)}
    spread[known] = [code[value] for value in texts]
    note = ""
    if number and text:
        note = f"column '{name}' mixes numbers and text: taken as a category"
    elif any(isinstance(value, bytes) for value in values):
        note = f"column '{name}' holds bytes: taken as text in UTF-8"
    elif missing_levels := sorted({repr(level) for level in levels if level.strip() in MISSING_TEXTS}):
        note = f"column '{name}' has the level {' and '.join(missing_levels)}: if it means missing, make it NaN"
    return _category(name, levels, spread, note)


def _sorts(name: str, values: Iterable[Any]) -> tuple[bool, bool]:
    """Return whether there are numbers, and anything that is taken as text. Raises Refused on anything else."""
    import pandas as pd

    number = text = False
    for kind in {type(value) for value in values}:
        if issubclass(kind, str | bytes | bool | np.bool_ | pd.Interval):
            text = True
        elif issubclass(kind, _NUMBERS):
            number = True
        elif issubclass(kind, complex | np.complexfloating):
            raise _complex(name)
        elif issubclass(kind, _DATES) or issubclass(kind, pd.Period):
            raise _dates(name)
        else:
            raise Refused(
                f"column '{name}' holds values of type {printable(kind.__name__)}; give numbers, text or categories"
            )
    return number, text


def _complex(name: str) -> Refused:
    return Refused(f"column '{name}' holds complex numbers; give their real and imaginary parts as two columns")


def _dates(name: str) -> Refused:
    return Refused(
        f"column '{name}' holds dates or durations; give numbers, such as days since the first date, or parts of them"
    )


def _as_float(name: str, value: Any) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError):
        raise Refused(f"column '{name}' holds a number that no float can hold; scale it down") from None


def _as_text(name: str, value: Any) -> str:
    text = value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise Refused(f"column '{name}' holds text that is not valid Unicode, {text[:40]!r}; read it as UTF-8")
    return text


def _level_texts(name: str, categories: Iterable[Any]) -> tuple[str, ...]:
    """Return the texts of declared levels. Raises Refused if two are the same, as 1 and '1' are."""
    levels = tuple(_as_text(name, level) for level in categories)
    if len(set(levels)) < len(levels):
        twice = next(level for level in levels if levels.count(level) > 1)
        raise Refused(f"column '{name}' has two levels that are '{printable(twice)}' as text; make them differ")
    return levels


def _numeric(name: str, values: FloatArray, note: str = "") -> _Column:
    """Return a numeric column. Raises Refused on an infinite number."""
    if np.isinf(values).any():
        raise Refused(f"column '{name}' holds an infinite value; replace it or leave it missing")
    return _Column(Attribute(name, "numeric"), values, note)


def _category(name: str, levels: tuple[str, ...], codes: FloatArray, note: str = "") -> _Column:
    """Return a categorical column."""
    if not note and len(levels) > max(FEW_LEVELS, len(codes) // 2):
        note = f"column '{name}' has {len(levels)} levels in {len(codes)} rows: an identifier? Then leave it out"
    return _Column(Attribute(name, "categorical", levels=levels), codes, note)


# What a method imputed


def imputed_scalars(frame: pd.DataFrame, schema: Schema, ordered: bool = False) -> FloatArray:
    """Return the [n, S] scalars of a DataFrame under a schema; NaN stays NaN.

    Rows are put in the order of the index, 0 to n - 1 as ``Incomplete.frame`` has it, unless they are ``ordered``.
    Raises BenchError on another index, a missing or double column, text in a numeric one, a category the schema does
    not have, or infinity.
    """
    schema.require_scalar("a DataFrame")
    frame = frame if ordered else _in_order(frame)
    if frame.columns.nlevels > 1:
        raise BenchError(f"the DataFrame has {frame.columns.nlevels} header levels instead of one")
    names = [str(name) for name in frame.columns]
    scalars = np.full((len(frame), len(schema)), np.nan)
    for position, attribute in enumerate(schema.attributes):
        places = [place for place, name in enumerate(names) if name == attribute.name]
        if not places:
            raise BenchError(f"column '{attribute.name}' is missing from the DataFrame")
        if len(places) > 1:
            raise BenchError(f"column '{attribute.name}' is in the DataFrame {len(places)} times")
        read = _imputed_numbers if attribute.kind == "numeric" else _imputed_codes
        scalars[:, position] = read(frame.iloc[:, places[0]], attribute)
    return scalars


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a DataFrame with its rows in the order of its index, which must be 0 to n - 1."""
    expected = np.arange(len(frame))
    index = frame.index.to_numpy()
    if np.array_equal(index, expected):
        return frame
    try:
        order = np.argsort(index, kind="stable")
        if frame.index.nlevels == 1 and np.array_equal(index[order], expected):
            return frame.iloc[order]
    except TypeError:  # labels that cannot be compared
        pass
    raise BenchError(
        f"the index of the imputed DataFrame is not that of frame(), 0 to {len(frame) - 1}; keep it, or reset it if the"
        " rows are still in their order"
    )


def _imputed_numbers(values: pd.Series[Any], attribute: Attribute) -> FloatArray:
    import pandas as pd

    try:
        if pd.api.types.is_complex_dtype(values.dtype):
            raise TypeError("complex numbers")
        numbers: FloatArray = values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError, OverflowError) as error:
        told = " ".join(str(error).split())
        raise BenchError(f"column '{attribute.name}' is not all numbers ({told})") from None
    if np.isinf(numbers).any():
        raise BenchError(f"column '{attribute.name}' holds an infinite value; replace it or leave it missing")
    return numbers


def _imputed_codes(values: pd.Series[Any], attribute: Attribute) -> FloatArray:
    code = {level: float(number) for number, level in enumerate(attribute.levels)}
    known = values.notna().to_numpy(dtype=bool)
    codes = np.full(len(known), np.nan)
    try:
        codes[known] = [code[str(level)] for level in values[known]]
    except KeyError as error:
        raise BenchError(f"column '{attribute.name}' holds category {error}, which is not among its levels") from None
    return codes


def scalars_to_frame(scalars: FloatArray, schema: Schema) -> pd.DataFrame:
    """Return [n, S] scalars as a DataFrame: float64 columns and pandas categoricals; NaN stays missing."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for column, index in enumerate(schema.scalar_indices):
        attribute = schema.attributes[index]
        values = scalars[:, column]
        if attribute.kind == "numeric":
            columns[attribute.name] = values
        else:
            codes = np.where(np.isnan(values), -1.0, values).astype(np.int64)
            columns[attribute.name] = pd.Categorical.from_codes(codes, categories=pd.Index(attribute.levels))
    return pd.DataFrame(columns)
