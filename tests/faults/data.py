"""Data sets that no method can be given as they are: refused in one line, or taken with a warning, by all alike."""

from __future__ import annotations

from tests.faults.harness import WORKERS, Fault

HEAD = """
import datetime
from decimal import Decimal

import numpy as np
import pandas as pd

from bench.api import Attribute, Dataset, Schema, Table

N = 40


def normal(columns=1):
    return np.random.default_rng(columns).normal(size=(N, columns)).squeeze()


def base():
    x, y = normal(2).T
    return pd.DataFrame({"x": x, "y": y, "k": ["p", "q"] * (N // 2)})


class Bad(Dataset):
    name = "bad"
    kinds = ("numeric", "categorical")

    def load(self, files):
"""
METHODS = ("mean_mode", "knn", "gain")
RUN: tuple[str, ...] = ("run", "--methods", ",".join(METHODS), "--datasets", "bad", "--ratios", "0.3", "--seeds", "0")
RUN = (*RUN, "--preset", "smoke", "--plugins", "plugins", "--store", "store", "--workers", WORKERS)

#: What is assigned to a column of its own, and is refused.
REFUSED_COLUMNS = {
    "complex": "np.arange(N) + 1j",
    "complex-object": "pd.Series([1j] * N, dtype=object)",
    "dates": "pd.date_range('2020', periods=N)",
    "dates-zone": "pd.date_range('2020', periods=N, tz='UTC')",
    "dates-object": "[datetime.date(2020, 1, 1)] * N",
    "timestamps-object": "pd.Series([pd.Timestamp('2020')] * N, dtype=object)",
    "durations": "pd.timedelta_range('1D', periods=N)",
    "periods": "pd.period_range('2020', periods=N, freq='D')",
    "times": "[datetime.time(1)] * N",
    "lists": "[[1, 2]] * N",
    "dicts": "[{'a': 1}] * N",
    "sets": "[{1}] * N",
    "arrays": "[np.zeros(3)] * N",
    "frames": "[pd.DataFrame()] * N",
    "objects": "[object() for _ in range(N)]",
    "types": "[int] * N",
    "infinity": "[np.inf] + [1.0] * (N - 1)",
    "infinity-text": "['inf'] + ['1'] * (N - 1)",
    "minus-infinity": "[-np.inf] + [1.0] * (N - 1)",
    "huge": "np.arange(N) * 1e300",
    "huge-float32": "np.arange(N) * 1e38",
    "huge-constant": "np.full(N, 1e39)",
    "huge-integer": "[10 ** 400] * N",
    "huge-decimal": "[Decimal('1e999')] * N",
    "tiny": "np.arange(N) * 1e-45",
    "surrogates": "['a\\udc80', 'b'] * (N // 2)",
    "levels-same-text": "pd.Categorical([1, '1'] * (N // 2), categories=[1, '1'])",
}
#: What is taken, with a warning in every row.
WARNED_COLUMNS = {
    "numbers-as-text": "[str(n) for n in range(N)]",
    "numbers-and-question-marks": "['?', '1.5'] * (N // 2)",
    "numbers-as-objects": "pd.Series([1, 2.5] * (N // 2), dtype=object)",
    "decimals": "[Decimal(n) for n in range(N)]",
    "mixed": "[1, 'one'] * (N // 2)",
    "bytes": "[b'a', b'b'] * (N // 2)",
    "question-mark-level": "['?', 'a'] * (N // 2)",
    "all-missing": "np.nan",
    "all-none": "None",
    "all-question-marks": "'?'",
    "all-blank": "''",
    "no-levels": "pd.Categorical([None] * N)",
    "unused-levels": "pd.Categorical([None] * N, categories=['a', 'b'])",
    "all-not-a-time": "pd.NaT",
    "identifier": "[f'user{n}' for n in range(N)]",
    "far-from-zero": "3e7 + np.arange(N) % 2",
    "far-year-2451545": "2451545 + normal()",
}
#: What is taken as it is.
TAKEN_COLUMNS = {
    "truth-values": "[True, False] * (N // 2)",
    "nullable": "pd.array([1, None] * (N // 2), dtype='Int64')",
    "nullable-truth": "pd.array([True, None] * (N // 2), dtype='boolean')",
    "constant": "1.0",
    "one-level": "'a'",
    "sparse": "pd.arrays.SparseArray([0.0, 1.0] * (N // 2))",
    "float16": "np.arange(N, dtype=np.float16)",
    "longdouble": "np.arange(N, dtype=np.longdouble)",
    "unsigned": "np.arange(N, dtype=np.uint64)",
    "intervals": "pd.cut(np.arange(N), 3)",
    "long-level": "['a' * 5000, 'b'] * (N // 2)",
    "level-of-escapes": "['\\x1b[31m', 'b\\n'] * (N // 2)",
    "level-of-formulas": "['=cmd', '-b'] * (N // 2)",
}
#: Whole frames or other values of ``load`` that are refused.
REFUSED = {
    "none": "return None",
    "list": "return [1, 2]",
    "array": "return np.zeros((40, 2))",
    "series": "return base()['x']",
    "empty": "return pd.DataFrame()",
    "no-rows": "return base().iloc[:0]",
    "one-row": "return base().iloc[:1]",
    "three-rows": "return base().iloc[:3]",
    "no-columns": "return base()[[]]",
    "only-missing": "return pd.DataFrame({'a': [None] * N})",
    "name-twice": "f = base(); f.columns = ['a', 'a', 'b']; return f",
    "name-twice-as-text": "f = base(); f.columns = [1, '1', 'b']; return f",
    "header-levels": "f = base(); f.columns = pd.MultiIndex.from_tuples([('a', 1), ('a', 2), ('b', 1)]); return f",
    "name-of-escapes": "f = base(); f.columns = ['\\x1b[31m', 'a', 'b']; return f",
    "name-of-lines": "f = base(); f.columns = ['a\\nb', 'a', 'b']; return f",
    "name-of-surrogates": "f = base(); f.columns = ['\\udc80', 'a', 'b']; return f",
    "raises": "raise KeyError('no such column')",
    "raises-lines": "raise ValueError('a\\nb\\nc')",
    "raises-escapes": "raise ValueError('\\x1b[31m\\x07')",
    "raises-surrogates": "raise ValueError('\\udc80')",
    "raises-without-text": "raise RuntimeError",
    "raises-long": "raise ValueError('x' * 10**6)",
    "raises-assertion": "assert False",
    "exits": "raise SystemExit(0)",
    "recursion": "return self.load(files)",
    "memory": "raise MemoryError",
    "missing-file": "return pd.read_csv('nowhere.csv')",
    "division": "1 / 0",
    "text-of-error-raises": "raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "table-of-lists": "return Table(Schema((Attribute('a', 'numeric'),)), [[1.0]] * N, {}, [[True]] * N)",
    "table-of-float32": "return table(scalars=np.zeros((N, 1), np.float32))",
    "table-short": "return table(present=np.ones((3, 1), bool))",
    "table-narrow": "return table(scalars=np.zeros((N, 0)))",
    "table-whole-numbers": "return table(present=np.ones((N, 1), int))",
    "table-nan": "return table(scalars=np.full((N, 1), np.nan))",
    "table-infinite": "return table(scalars=np.full((N, 1), np.inf))",
    "table-code": "return table(attribute=Attribute('a', 'categorical', levels=('p',)), scalars=np.ones((N, 1)))",
    "table-no-levels": "return table(attribute=Attribute('a', 'categorical'))",
    "table-level-twice": "return table(attribute=Attribute('a', 'categorical', levels=('p', 'p')))",
    "table-no-block": "return table(attribute=Attribute('a', 'image', shape=(2, 2)), scalars=np.zeros((N, 0)))",
    "table-all-test": "return table(test=np.ones(N, bool))",
    "table-no-test": "return table(test=np.zeros(N, bool))",
    "table-sizes": "return table(split_sizes=(1, 1, 1))",
    "table-sizes-zero": "return table(split_sizes=(N, 0, 0))",
    "table-empty-name": "return table(attribute=Attribute('', 'numeric'))",
    "table-kind": "return table(attribute=Attribute('a', 'sound'))",
}
BUILT = """

def table(**changes):
    values = {"attribute": Attribute("a", "numeric"), "scalars": np.zeros((N, 1)), "present": np.ones((N, 1), bool)}
    values |= changes
    return Table(Schema((values.pop("attribute"),)), values.pop("scalars"), {}, **values)
"""
#: Declared kinds that are not those of ``base``.
KINDS = ("('numeric',)", "('categorical',)", "('image',)", "('features', 'numeric')")


def _source(body: str, head: str = HEAD) -> dict[str, str | bytes]:
    return {"plugins/bad.py": f"{head}        {body}\n{BUILT}"}


def _column(value: str) -> dict[str, str | bytes]:
    return _source(f"f = base(); f['c'] = {value}; return f")


def _refused(name: str, files: dict[str, str | bytes]) -> list[Fault]:
    """Return a data set that ``run`` refuses, and that ``check`` fails."""
    check = ("check", "bad", "--plugins", "plugins")
    return [
        Fault(f"run-{name}", RUN, files, says="left out of grid", rows=()),
        Fault(f"check-{name}", check, files, codes=(1,), says="FAILED"),
    ]


OK = ("ok",) * len(METHODS)
FAULTS: tuple[Fault, ...] = (
    *(fault for name, value in REFUSED_COLUMNS.items() for fault in _refused(name, _column(value))),
    *(fault for name, body in REFUSED.items() for fault in _refused(name, _source(body))),
    *(
        fault
        for kinds in KINDS
        for fault in _refused(
            f"kinds-{kinds}",
            _source(
                "return base()",
                HEAD.replace("('numeric', 'categorical')", kinds).replace('("numeric", "categorical")', kinds),
            ),
        )
    ),
    *(Fault(f"warned-{n}", RUN, _column(v), codes=(0,), rows=OK, warned=True) for n, v in WARNED_COLUMNS.items()),
    *(Fault(f"taken-{n}", RUN, _column(v), codes=(0,), rows=OK) for n, v in TAKEN_COLUMNS.items()),
    Fault(
        "warned-no-header",
        RUN,
        _source("return pd.DataFrame(normal(3))"),
        codes=(0,),
        rows=OK,
        warned=True,
    ),
)
