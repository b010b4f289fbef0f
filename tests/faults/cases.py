"""Small inputs that others met as bugs of imputers and benchmark suites: each ends as one would wish."""

from __future__ import annotations

import re
from pathlib import Path

from bench.paths import PACKAGE
from tests.faults.harness import WORKERS, Fault, call
from tests.toys import DATA, ZEROS, method_source

FRAME = """
import numpy as np
import pandas as pd

from bench.api import Dataset

N = ROWS


class Case(Dataset):
    name = "case"
    kinds = ("numeric", "categorical")

    def load(self, files):
        rng = np.random.default_rng(0)
        return pd.DataFrame(COLUMNS)
"""
STACK = """
import numpy as np

from bench.api import StackedMethod, Values


class OneBad(StackedMethod):
    name = "one_bad"

    def fit_many(self, train, validation, seeds):
        self.seeds = seeds

    def impute_many(self, data, draws):
        fill = [np.nan if seed == 1 else 0.0 for seed in self.seeds]
        shown = [data.scalars(replica) for replica in range(data.replicas)]
        return [Values(np.where(np.isnan(s), f, s)) for s, f in zip(shown, fill)]
"""
COMMON = ("--ratios", "0.3", "--preset", "smoke", "--plugins", "plugins", "--store", "store", "--workers", WORKERS)


def _frame(columns: str, rows: int = 100, kinds: str = '("numeric",)') -> str:
    text = FRAME.replace("ROWS", str(rows)).replace("COLUMNS", columns)
    return text.replace('("numeric", "categorical")', kinds)


def _run(methods: str, datasets: str = "case", mechanisms: str = "mcar", seeds: str = "0") -> tuple[str, ...]:
    return ("run", "--methods", methods, "--datasets", datasets, "--mechanisms", mechanisms, "--seeds", seeds, *COMMON)


def _run_before_an_edit(folder: Path) -> None:
    """Store rows of what is no longer the source of the method."""
    source = folder / "plugins" / "mine.py"
    now = source.read_text(encoding="utf-8")
    source.write_text(method_source("mine", impute="return data.frame().fillna(0.0)"), encoding="utf-8")
    assert call(EDITED, folder).code == 0
    source.write_text(now, encoding="utf-8")


def _example() -> str:
    """Return the method that the README shows."""
    text = (PACKAGE.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```python\n(# mine/column_median.*?)```", text, re.S)
    assert found is not None
    return found[1]


NUMBERS = "rng.normal(size=(N, 3)), columns=list('abc')"
EDITED = _run("mine", "toy_numbers")
FAULTS: tuple[Fault, ...] = (
    Fault(
        "one-mechanism-of-three",
        _run("mean_mode,vae,gain", mechanisms="mcar,nmar,mar"),
        {"plugins/case.py": _frame("{'a': rng.normal(size=N)}")},
        codes=(1,),
        rows=("ok",) * 6 + ("failed",) * 3,
    ),
    Fault(
        "one-replica-of-three",
        _run("one_bad", "case", seeds="0,1,2"),
        {"plugins/case.py": _frame(NUMBERS), "plugins/one.py": STACK},
        codes=(1,),
        rows=("ok", "failed", "ok"),
    ),
    Fault(
        "edited-plug-in",
        EDITED,
        {"plugins/data.py": DATA, "plugins/mine.py": method_source("mine", impute=ZEROS.replace("nan_to_num", "sign"))},
        codes=(1,),
        says="the plug-in's code is another now; computed again",
        rows=("ok", "failed"),
        prepare=_run_before_an_edit,
    ),
    Fault(
        "identifier-of-20000",
        _run("mice,latent_class"),
        {
            "plugins/case.py": _frame(
                "{'id': [f'user{i}' for i in range(N)], 'x': rng.normal(size=N), 'y': rng.normal(size=N)}",
                20_000,
                '("numeric", "categorical")',
            )
        },
        codes=(0,),
        rows=("skipped",) * 2,
    ),
    Fault("readme-example", ("check", "column_median", "--plugins", "p"), {"p/median.py": _example()}, codes=(0,)),
)
