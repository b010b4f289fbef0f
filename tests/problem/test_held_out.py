"""The rule of selection in NumPy: the engine's is the same, the floor scores one, and it needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.api import Attribute, Incomplete, Schema, Table, Values
from bench.data.statistics import fill_hidden, observed_statistics
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.selection import HeldOutError
from bench.neural.rows import Imputed, Layout
from bench.paths import PACKAGE
from bench.problem.held_out import floor_scales, validation_error
from tests.neural_views import dependent_table, split_views
from tests.truth import folds_behind, rows_behind

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


def guesses(table: Table, validation: Incomplete, seed: int = 0) -> Callable[[Incomplete], Values]:
    """Return what imputes the folds of a validation view by arbitrary values, one after the other."""
    made = iter([guess(table, validation, 10 * seed + number) for number in range(len(validation.folds))])
    return lambda shown: next(made)


def engine_error(
    impute: Callable[[Incomplete], Values], train: Incomplete, validation: Incomplete, scaling: str
) -> float:
    """Return the engine's error of the same values."""
    schema, rows = validation.schema, len(validation)
    everything = np.ones((1, rows, len(schema)), dtype=bool)
    encoder = Encoder(train, Layout(schema), scaling, "cpu")
    rule = HeldOutError(validation, encoder, "cpu")
    shown = []
    for fold in validation.folds:
        imputed = impute(fold.shown)
        stored = {
            a.name: np.rint(255 * imputed.blocks[a.name]).astype(np.uint8)
            if a.kind == "image"
            else imputed.blocks[a.name]
            for a in schema.block_attributes
        }
        table = Table(schema, imputed.scalars, stored, everything[0])
        shown.append(Incomplete(table, np.arange(rows)[None], everything).tensors("cpu"))
    chunks = [encoder.encode(shown[chunk.fold].batch(chunk.index)) for chunk in rule.chunks]
    return float(rule.relative_error(Imputed(chunk.numeric, chunk.categorical, chunk.blocks) for chunk in chunks)[0])


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
@pytest.mark.parametrize("shape", TABLES)
def test_the_engines_error_is_the_same_but_for_rounding(shape: str, scaling: str) -> None:
    table = dependent_table(400, **TABLES[shape])  # type: ignore[arg-type]
    for seed in range(3):
        train, validation, _ = split_views(table, ratio=0.3, seed=seed)
        ours = validation_error(guesses(table, validation, seed), train, validation)
        assert ours is not None and 0.5 < ours < 3
        assert ours == pytest.approx(
            engine_error(guesses(table, validation, seed), train, validation, scaling), rel=2e-5
        )


def test_the_floor_scores_about_one_and_the_truth_zero() -> None:
    table = dependent_table(4000, **TABLES["everything"])  # type: ignore[arg-type]
    train, validation, _ = split_views(table, ratio=0.3)
    statistics = observed_statistics(train)

    def floor(shown: Incomplete) -> Values:
        nothing = np.zeros((len(shown), len(table.schema)), dtype=bool)
        return fill_hidden(shown.values(), nothing, statistics)

    assert validation_error(floor, train, validation) == pytest.approx(1, abs=0.03)
    complete = Incomplete(table, rows_behind(validation), np.ones_like(validation.observed)).values()
    assert validation_error(lambda shown: complete, train, validation) == 0


def test_the_unit_is_the_floors_error_on_training_entries() -> None:
    table = dependent_table(500, **TABLES["everything"])  # type: ignore[arg-type]
    train, _, _ = split_views(table, ratio=0.3)
    scales = floor_scales(observed_statistics(train))
    for index, attribute in enumerate(table.schema.attributes):
        known = train.observed[0][:, index]
        rows = rows_behind(train)[0][known]
        if attribute.kind == "image":
            seen = table.blocks[attribute.name][rows] / 255
            assert scales[index] == pytest.approx(np.sqrt(((seen - seen.mean(0)) ** 2).mean()))
        elif attribute.kind == "features":
            assert scales[index] == 1
        else:
            seen = table.scalars[rows, list(table.schema.scalar_indices).index(index)]
            mode = np.bincount(seen.astype(int)).argmax() if attribute.kind == "categorical" else 0
            expected = (seen != mode).mean() if attribute.kind == "categorical" else seen.std()
            assert scales[index] == pytest.approx(expected)


def test_nearly_constant_attributes_do_not_outweigh_the_others() -> None:
    schema = Schema((Attribute("number", "numeric"), Attribute("level", "categorical", levels=("a", "b"))))
    scalars = np.zeros((1000, 2))
    scalars[:3] = [10.0, 1.0]
    shown = np.ones((1, 1000, 2), dtype=bool)
    table = Table(schema, scalars, {}, shown[0])
    scales = floor_scales(observed_statistics(Incomplete(table, np.arange(1000)[None], shown)))
    assert scales.tolist() == [1.0, 0.05]
    constant = Table(schema, 0 * scalars, {}, shown[0])
    assert floor_scales(observed_statistics(Incomplete(constant, np.arange(1000)[None], shown))).tolist() == [0, 0]


def test_attributes_without_anything_to_judge_by_do_not_count() -> None:
    table = dependent_table(200, numbers=3, levels=(3,))
    scalars = table.scalars.copy()
    scalars[:, 1] = 7.0
    constant = Table(table.schema, scalars, {}, table.present)
    train, validation, _ = split_views(constant, ratio=0.3)
    folds = folds_behind(validation)
    assert folds is not None
    chosen = folds.copy()
    chosen[:, :, 3] = -1
    fewer = Incomplete(constant, rows_behind(validation), validation.observed, chosen)
    error = validation_error(guesses(constant, fewer), train, fewer)
    assert error == pytest.approx(engine_error(guesses(constant, fewer), train, fewer, "standard"), rel=2e-5)
    # Nothing at all to judge by is no error.
    nothing = Incomplete(constant, rows_behind(validation), validation.observed, np.full_like(chosen, -1))
    assert validation_error(guesses(constant, nothing), train, nothing) == 0


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
                factor = rng.normal(size=(1200, 1))
                return pd.DataFrame(factor + rng.normal(size=(1200, 3)), columns=["a", "b", "c"])
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
