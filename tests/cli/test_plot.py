"""The pictures: what is drawn is what was stored or trained, files are all there, a second picture trains nothing."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import bench.report.figures.curves as curves
from bench.cli.app import main
from bench.cli.plot.rows import plot_ratios, plot_training, ratio_spec
from bench.cli.plot.snapshots import plot_imputations
from bench.experiment.scope import Scope
from bench.plugins.registry import Registry
from bench.report import collect
from bench.report.figures import ratios
from bench.report.figures.drawing import Drawing
from bench.report.figures.ratios import ratio_curves
from bench.report.figures.style import Heading
from bench.run.request import Place
from bench.run.snapshot import Snapshot
from bench.run.store import Store
from tests.toys import (
    DATA,
    MEDIAN,
    PICTURES,
    make_cell,
    make_result,
    method_source,
    start_command,
    wait_until,
    write_plugins,
)

HEADS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def spied(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Return what a function of ``curves`` or ``ratios`` will have been given to draw; it still draws it."""
    drawn: list[Any] = []
    module = curves if hasattr(curves, name) else ratios
    real = getattr(module, name)

    def draw(given: Any, *more: Any, **options: Any) -> Any:
        drawn.append(given)
        return real(given, *more, **options)

    monkeypatch.setattr(module, name, draw)
    return drawn


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty working folder with plug-ins; the cache is elsewhere."""
    folder = tmp_path / "work"
    write_plugins(folder / "plugins", data=DATA, median=MEDIAN, pictures=PICTURES)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VSAE_BENCH_MIRROR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def registry(place: Path) -> Registry:
    return Registry.scan([place / "plugins"])


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs the command line in this process: exit code, standard output, standard error."""

    def run(text: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vsae-bench", *shlex.split(text)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        assert isinstance(caught.value.code, int)
        return (caught.value.code, *capsys.readouterr())

    return run


Call = Callable[[str], tuple[int, str, str]]


def quiet() -> Console:
    return Console(file=io.StringIO(), width=400)


def request_for(
    *datasets: str, methods: tuple[str, ...] = (), store: Path, formats: tuple[str, ...] = ("png",)
) -> tuple[Scope, Place, Drawing]:
    """Return a request with the toys, preset smoke."""
    scope = Scope(datasets=datasets, methods=methods, preset="smoke")
    return scope, Place(stores=(store,), plugins=(Path("plugins"),)), Drawing(formats=formats)


def no_training(*_: Any) -> Snapshot:
    raise AssertionError("trained again")


def words_of(path: Path) -> str:
    """Return the words of an SVG file, in lines or not."""
    return " ".join(re.sub("<[^>]*>", " ", path.read_text(encoding="utf-8")).split())


# Curves over the missing ratio


def test_curves_are_mean_and_deviation_as_pandas_has_them(place: Path, call: Call, registry: Registry) -> None:
    grid = "--plugins plugins --datasets toy_mixed --methods column_median,mean_mode --preset smoke"
    assert call(f"run {grid} --ratios 0.2,0.5,0.7")[0] == 0
    store = Store(place / "results" / "local")
    spec = ratio_spec(
        "toy_mixed", ["column_median"], "mcar", [0.2, 0.5, 0.7], ["nrmse_std", "pfc"], (0, 1, 2), registry
    )
    every = ratio_curves(collect(spec, store.rows()), skill=False, names={}, printed={})
    frame = store.frame()
    assert [(curve.metric, curve.label, curve.floor) for curve in every] == [
        (metric, *rest)
        for metric in ("nrmse_std", "pfc")
        for rest in (("mean_mode (floor)", True), ("column_median", False))
    ]
    for name, metric in (("nrmse_std", "all.nrmse_std"), ("pfc", "all.pfc")):
        own = [curve for curve in every if curve.metric == name]
        for curve, method in zip(own, ("mean_mode", "column_median"), strict=True):
            by_ratio = frame[frame["method"] == method].groupby("ratio")[metric]
            expected = by_ratio.agg(["mean", "std", "count"])
            assert [point.ratio for point in curve.points] == list(expected.index)
            np.testing.assert_allclose([point.mean for point in curve.points], expected["mean"], rtol=1e-12)
            np.testing.assert_allclose([point.sd or -1 for point in curve.points], expected["std"], rtol=1e-9)
            assert [point.n for point in curve.points] == list(expected["count"])


def test_the_command_it_names_makes_the_missing_rows(place: Path, call: Call) -> None:
    code, _, told = call(
        "plot ratios toy_mixed --methods column_median --ratios 0.3,0.6 --preset smoke --plugins plugins --store rows"
    )
    assert code == 2 and "no rows to draw of toy_mixed: 2 of 2 points lack rows" in told
    assert told.count("\n") == 1 and not (place / "results").exists()
    command = told.split("`")[1]
    assert command.startswith("vsae-bench run ") and "mean_mode" in command
    assert call(command.removeprefix("vsae-bench "))[0] == 0
    code, said, _ = call("plot ratios toy_mixed --plugins plugins --store rows")
    assert code == 0 and "lack rows" not in said
    written = sorted((place / "results" / "rendered").iterdir())
    assert [path.name for path in written] == [f"ratios_toy_mixed_mcar_smoke_default.{s}" for s in sorted(HEADS)]
    for path in written:
        assert path.read_bytes().startswith(HEADS[path.suffix[1:]]) and path.stat().st_size > 5000
    text = words_of(place / "results" / "rendered" / "ratios_toy_mixed_mcar_smoke_default.svg")
    for words in ("toy_mixed", "mcar", "preset smoke", "parameter set", "sample standard deviation", "seeds 0, 1, 2"):
        assert words in text, words


def test_it_says_what_is_missing_of_a_curve_and_draws_the_rest(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(place / "rows")
    cell = make_cell(dataset="toy_numbers", method="column_median", overrides={}, parameters={}, method_version=1)
    store.put([make_result(replace(cell, ratio=ratio, seed=seed)) for ratio in (0.2, 0.4) for seed in (0, 1, 2)])
    store.put([make_result(replace(cell, ratio=0.6, seed=0))])
    drawn = spied(monkeypatch, "draw_ratios")
    console = quiet()
    scope, where, drawing = request_for("toy_numbers", store=place / "rows")
    plot_ratios(scope, where, replace(drawing, raw=True), console)
    ((curve, _, _),) = drawn[0][0][0].lines
    points = [(point.ratio, point.n, point.sd) for point in curve.points]
    assert points == [(0.2, 3, 0.0), (0.4, 3, 0.0), (0.6, 1, None)]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 3 points lack rows" in said and "--ratios 0.6 " in said


def test_without_rows_of_the_floor_the_metric_itself_is_drawn(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(place / "rows")
    cell = make_cell(dataset="toy_numbers", method="column_median", overrides={}, parameters={}, method_version=1)
    store.put([make_result(replace(cell, ratio=0.5, seed=seed)) for seed in (0, 1, 2)])
    drawn = spied(monkeypatch, "draw_ratios")
    console = quiet()
    plot_ratios(*request_for("toy_numbers", store=place / "rows"), console)
    (panel,) = drawn[0][0]
    assert panel.axis == "RMSE / SD" and len(panel.lines) == 1
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "no rows of the floor (mean_mode) on toy_numbers, mcar: the metric itself is drawn, not the skill" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ratios toy_mixed --metric mse", "no rows to draw"),
        ("ratios toy_mixed --metric nrms", "unknown metric 'nrms'. Did you mean"),
        ("ratios toy_numbers --metric pfc", "--metric pfc is for categorical attributes"),
        ("ratios toy_mixed --formats gif", "unknown format 'gif'"),
        ("ratios toy_mixed --by metod", "--by metod: panels differ in one of mechanism, dataset, method"),
        ("ratios toy_mixed --mechanisms mcra", "Did you mean 'mcar'?"),
        ("ratios toy_mix", "unknown data set 'toy_mix'"),
        ("samples toy_mixed --methods column_median", "method 'column_median' draws no samples"),
        ("generations toy_mixed --methods mean_mode", "method 'mean_mode' has no prior"),
        ("imputations toy_mixed --methods nobody", "unknown method 'nobody'"),
        ("imputations toy_mixed --methods mean_mode --ratio 1.5", "1.5 is not between 0 and 1"),
        ("imputations toy_mixed --preset quik", "Did you mean 'quick'?"),
        ("imputations toy_mixed --parameters litteral", "Did you mean 'literal'?"),
        ("imputations toy_mixed --methods mean_mode --attributes frist", "no attribute 'frist'. Did you mean 'first'?"),
        ("imputations toy_mixed --methods misfit", "method 'misfit' failed on toy_mixed: ZeroDivisionError"),
        ("imputations toy_mixed --output plugins/data.py", "--output: plugins/data.py is a file"),
        ("training toy_mixed --methods mean_mode --preset smoke", "method 'mean_mode' keeps no curves"),
    ],
)
def test_bad_input_is_one_clear_line(place: Path, call: Call, words: str, message: str) -> None:
    write_plugins(place / "plugins", misfit=method_source("misfit", fit="1 / 0"))
    code, _, told = call(f"plot {words} --plugins plugins")
    assert code == 2 and message in told
    assert told.count("\n") == 1 and "Traceback" not in told


# The verbs

#: Each data set's verbs, and how the names of the pictures end.
VERBS = {
    "toy_pictures": {"imputations": ["", "_numbers", "_categories"], "samples": [""], "generations": [""]},
    "toy_mixed": {"imputations": ["_numbers", "_categories"], "samples": [""], "generations": [""], "training": [""]},
}


@pytest.mark.parametrize("dataset", VERBS)
def test_every_verb_writes_three_formats_and_one_training_serves_all(
    place: Path, call: Call, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    common = f"{dataset} --methods vae --preset smoke --plugins plugins --store rows"
    for verb, endings in VERBS[dataset].items():
        seed = "--seeds 0" if verb == "training" else "--seed 0"
        code, said, told = call(f"plot {verb} {common} {seed} --output first/{verb}")
        assert code == 0, told
        files = sorted((place / "first" / verb).iterdir())
        assert len(files) == 3 * len(endings) == said.count("wrote ")
        for path in files:
            assert path.read_bytes().startswith(HEADS[path.suffix[1:]]) and path.stat().st_size > 4000
            assert any(path.stem.endswith(f"smoke_default{ending}") for ending in endings)
        # The first verb trains, for all of them.
        monkeypatch.setattr("bench.run.snapshot.call", no_training)
    assert call(f"plot imputations {common} --output second --formats svg")[0] == 0
    for path in (place / "second").iterdir():
        assert path.read_bytes() == (place / "first" / "imputations" / path.name).read_bytes(), path.name
    assert not list((place / "rows").rglob("*.pt"))


def test_training_is_drawn_from_rows_that_hold_it(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = "--plugins plugins --datasets toy_mixed --methods vae --preset smoke --store rows"
    assert call(f"run {grid}")[0] == 0
    rows = sorted(Store(place / "rows").rows(), key=lambda row: row.cell.seed)
    monkeypatch.setattr("bench.run.snapshot.call", no_training)
    real, drawn = curves.draw_training, spied(monkeypatch, "draw_training")
    plot_training(*request_for("toy_mixed", methods=("vae",), store=place / "rows"), quiet())
    for run, row in zip(drawn[0], rows, strict=True):
        facts = row.diagnostics
        assert run.seed == row.cell.seed
        assert [list(point) for point in run.loss] == facts["loss_curve"]
        assert run.loss[0] == pytest.approx((1, facts["loss_first"]), abs=1e-5)
        assert run.loss[-1] == pytest.approx((facts["epochs"], facts["loss_last"]), abs=1e-5)
        assert min(error for _, error in run.validation) == pytest.approx(run.best_error, abs=1e-5)
        assert dict(run.validation)[run.best_epoch] == pytest.approx(run.best_error, abs=1e-5)
    figure = real(drawn[0], Heading("Training", "details"))
    stars = [np.asarray(line.get_xydata()) for line in figure.axes[1].lines if line.get_marker() == "*"]
    assert [tuple(star[0]) for star in stars if len(star)] == [(run.best_epoch, run.best_error) for run in drawn[0]]


def test_wide_tables_are_cut_and_say_so(place: Path) -> None:
    wide = DATA.replace('"second": 1.0 - first})', '**{f"c{k}": first + k for k in range(8)}})')
    write_plugins(place / "plugins", data=wide)
    scope, where, drawing = request_for("toy_numbers", methods=("mean_mode",), formats=("svg",), store=place / "rows")
    (path,) = plot_imputations(scope, where, drawing, quiet())
    text = words_of(path)
    assert "first 6 of 9 attributes" in text and " c4 " in text and " c5 " not in text
    (path,) = plot_imputations(scope, where, replace(drawing, attributes=("c7",)), quiet())
    assert "attributes" not in words_of(path) and " c7 " in words_of(path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs the signals of Unix")
def test_ctrl_c_is_one_line(tmp_path: Path) -> None:
    slow = method_source("mine", fit="open('begun', 'w').close(); time.sleep(60)")
    write_plugins(tmp_path / "plugins", data=DATA, mine=slow)
    words = ("plot", "imputations", "toy_mixed", "--methods", "mine", "--plugins", "plugins")
    running = start_command(*words, folder=tmp_path)
    wait_until(lambda: (tmp_path / "begun").exists() or running.poll() is not None)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130 and err == "vsae-bench: interrupted\n"
