"""The rule of selection in NumPy: the engine's is the same, the floor scores one, and it needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from bench.api import Incomplete, Table, Values
from bench.data.statistics import fill_hidden, observed_statistics
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.selection import HeldOutError
from bench.neural.rows import Imputed, Layout
from bench.paths import PACKAGE
from bench.problem.held_out import relative_error
from tests.neural_views import dependent_table, split_views
from tests.truth import rows_behind

TABLES = {
    "numbers": {"numbers": 4},
    "categories": {"levels": (3, 2, 5)},
    "mixed": {"numbers": 2, "levels": (3, 2)},
    "everything": {"numbers": 2, "levels": (3, 2), "images": 2, "features": 2},
}


def guess(table: Table, view: Incomplete, seed: int = 0) -> Values:
    """Return arbitrary but likely values of a view's rows: those of other rows."""
    rng = np.random.default_rng(seed)
    taken = table.take(rng.permutation(len(table))[: len(view)])
    blocks = {name: (b / 255 if b.dtype == np.uint8 else b).astype(np.float32) for name, b in taken.blocks.items()}
    return Values(taken.scalars, blocks)


def engine_error(imputed: Values, train: Incomplete, held_out: Incomplete, scaling: str) -> float:
    """Return the engine's error of the same values."""
    schema, rows = held_out.schema, len(held_out)
    stored = {
        a.name: np.rint(255 * imputed.blocks[a.name]).astype(np.uint8) if a.kind == "image" else imputed.blocks[a.name]
        for a in schema.block_attributes
    }
    everything = np.ones((1, rows, len(schema)), dtype=bool)
    shown = Incomplete(Table(schema, imputed.scalars, stored, everything[0]), np.arange(rows)[None], everything)
    encoder = Encoder(train, Layout(schema), scaling, "cpu")
    rule = HeldOutError(held_out, encoder, "cpu")
    chunks = [encoder.encode(shown.tensors("cpu").batch(index)) for index in rule.chunks]
    parts = [Imputed(chunk.numeric, chunk.categorical, chunk.blocks) for chunk in chunks]
    return float(rule.relative_error(parts, rule.floor_errors())[0])


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
@pytest.mark.parametrize("shape", TABLES)
def test_the_engines_error_is_the_same_but_for_rounding(shape: str, scaling: str) -> None:
    table = dependent_table(400, **TABLES[shape])  # type: ignore[arg-type]
    for seed in range(3):
        train, validation, _ = split_views(table, ratio=0.3, seed=seed)
        held_out = validation.held_out
        assert held_out is not None
        imputed = guess(table, validation, seed)
        ours = relative_error(imputed, held_out, observed_statistics(train))
        assert ours == pytest.approx(engine_error(imputed, train, held_out, scaling), rel=2e-5)
        assert 0.5 < ours < 3


def test_the_floor_scores_one_and_the_truth_zero() -> None:
    table = dependent_table(400, **TABLES["everything"])  # type: ignore[arg-type]
    train, validation, _ = split_views(table, ratio=0.3)
    held_out, statistics = validation.held_out, observed_statistics(train)
    assert held_out is not None
    nothing = np.zeros((len(validation), len(table.schema)), dtype=bool)
    floor = fill_hidden(validation.values(), nothing, statistics)
    assert relative_error(floor, held_out, statistics) == pytest.approx(1, abs=1e-6)
    assert relative_error(held_out.values(), held_out, statistics) == 0


def test_attributes_without_anything_to_judge_by_do_not_count() -> None:
    table = dependent_table(200, numbers=3, levels=(3,))
    scalars = table.scalars.copy()
    scalars[:, 1] = 7.0
    constant = Table(table.schema, scalars, {}, table.present)
    train, validation, _ = split_views(constant, ratio=0.3)
    held_out = validation.held_out
    assert held_out is not None
    chosen = held_out.observed.copy()
    chosen[:, :, 3] = False
    fewer = Incomplete(constant, rows_behind(validation), chosen)
    imputed = guess(constant, validation)
    error = relative_error(imputed, fewer, observed_statistics(train))
    assert error == pytest.approx(engine_error(imputed, train, fewer, "standard"), rel=2e-5)
    # Nothing at all to judge by is no error.
    nothing = Incomplete(constant, rows_behind(validation), 0 * chosen > 0)
    assert relative_error(imputed, nothing, observed_statistics(train)) == 0


def test_a_method_that_does_not_use_torch_is_tuned_without_it(tmp_path: Path) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "numbers.py").write_text(
        textwrap.dedent('''
        import numpy as np
        import pandas as pd

        from bench.api import Dataset


        class Numbers(Dataset):
            """Three dependent numbers."""

            name = "three_numbers"
            kinds = ("numeric",)

            def load(self, files):
                rng = np.random.default_rng(0)
                factor = rng.normal(size=(120, 1))
                return pd.DataFrame(factor + rng.normal(size=(120, 3)), columns=["a", "b", "c"])
        '''),
        encoding="utf-8",
    )
    program = """
        import sys
        from bench.cli.app import main
        sys.argv = "vsae-bench tune knn three_numbers --plugins plugins --store store --seeds 0".split()
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, ended.code
        loaded = sorted(name for name in sys.modules if name == "torch" or name.startswith("bench.neural"))
        assert not loaded, loaded
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "store" / "tuned" / "three_numbers" / "knn.json").is_file()
