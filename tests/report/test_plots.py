"""The pictures: what is drawn is what was stored or trained, files are all there, a second picture trains nothing."""

from __future__ import annotations

import io
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import bench.report.figures.curves as curves
import bench.run.snapshot
from bench.api import BenchError
from bench.cli.app import main
from bench.cli.drawing import Drawing
from bench.cli.plot.rows import plot_ratios, plot_training, ratio_spec
from bench.cli.plot.snapshots import plot_imputations
from bench.experiment.scope import Scope
from bench.files.fetch import load_table
from bench.plugins.registry import Registry, load
from bench.problem.metrics import reference_of, score
from bench.report import collect
from bench.report.figures.curves import ratio_panels
from bench.report.figures.style import Heading
from bench.run.job import run_job
from bench.run.machine import Machine
from bench.run.request import Place
from bench.run.snapshot import Snapshot, make_snapshot, read_snapshot, rows_to_show, snapshot_path, write_snapshot
from bench.run.store import Store
from tests.toys import DATA, MEDIAN, jobs_for, make_cell, make_result, method_source, run_command, write_plugins

#: Rows of an image and a label that says which half of it is bright.
PICTURES = '''
import numpy as np

from bench.api import Attribute, Dataset, Schema, Table


class Pictures(Dataset):
    """Images of 4 by 5 pixels with a label and a number."""

    name = "toy_pictures"
    kinds = ("image", "categorical", "numeric")

    def load(self, files):
        rng = np.random.default_rng(3)
        label = rng.integers(0, 2, 80)
        images = rng.integers(0, 60, (80, 4, 5)).astype(np.uint8)
        images[label == 0, :2] += 150
        images[label == 1, 2:] += 150
        attributes = (
            Attribute("half", "categorical", levels=("upper half", "lower/half")),
            Attribute("image", "image", shape=(4, 5)),
            Attribute("light", "numeric"),
        )
        scalars = np.stack([label, images.mean(axis=(1, 2))], axis=1).astype(float)
        blocks = {"image": images.reshape(80, -1)}
        return Table(Schema(attributes), scalars, blocks, np.ones((80, 3), dtype=bool))
'''

HEADS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def spied(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """Return what a function of ``curves`` will have been given to draw; it still draws it."""
    drawn: list[Any] = []
    real = getattr(curves, name)

    def draw(given: Any, heading: Heading) -> Any:
        drawn.append(given)
        return real(given, heading)

    monkeypatch.setattr(curves, name, draw)
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
    return scope, Place(store=store, plugins=(Path("plugins"),)), Drawing(formats=formats)


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
    panels = ratio_panels(collect(spec, store.rows()))
    frame = store.frame()
    assert [panel.label for panel in panels] == ["RMSE / SD", "PFC (share of entries)"]
    for panel, metric in zip(panels, ("all.nrmse_std", "all.pfc"), strict=True):
        assert [(curve.label, curve.floor) for curve in panel.curves] == [
            ("mean_mode (floor)", True),
            ("column_median", False),
        ]
        for curve, method in zip(panel.curves, ("mean_mode", "column_median"), strict=True):
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
    plot_ratios(*request_for("toy_numbers", store=place / "rows"), console)
    (curve,) = drawn[0][0].curves
    points = [(point.ratio, point.n, point.sd) for point in curve.points]
    assert points == [(0.2, 3, 0.0), (0.4, 3, 0.0), (0.6, 1, None)]
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 3 points lack rows" in said and "--ratios 0.6 " in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ratios toy_mixed --metric mse", "no rows to draw"),
        ("ratios toy_mixed --metric nrms", "unknown metric 'nrms'. Did you mean"),
        ("ratios toy_numbers --metric pfc", "--metric pfc is for categorical attributes"),
        ("ratios toy_mixed --formats gif", "unknown format 'gif'"),
        ("ratios toy_mixed --mechanism mcra", "Did you mean 'mcar'?"),
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


# Snapshots


def snapshot_of(registry: Registry, method: str, dataset: str, seed: int = 1) -> tuple[Any, Snapshot]:
    """Return a cell and its snapshot, made again."""
    (job,) = jobs_for(registry, (method,), dataset, seeds=(seed,))
    return job.cells[0], make_snapshot(job, Machine())


def assert_same_snapshot(first: Snapshot, second: Snapshot, image_step: float = 1 / 255) -> None:
    """Assert that two snapshots hold the same, images within half a step."""
    assert first.schema == second.schema and first.diagnostics == second.diagnostics
    for name in ("observed", "present", "shown"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    pairs = [(first.truth, second.truth), (first.imputed, second.imputed)]
    pairs += list(zip(first.samples, second.samples, strict=True))
    assert (first.generated is None) == (second.generated is None)
    if first.generated is not None and second.generated is not None:
        pairs.append((first.generated, second.generated))
    for one, other in pairs:
        np.testing.assert_array_equal(one.scalars, other.scalars)
        assert one.blocks.keys() == other.blocks.keys()
        for name, block in one.blocks.items():
            np.testing.assert_allclose(block, other.blocks[name], atol=0.51 * image_step, rtol=0)


@pytest.mark.parametrize("method", ["vsae", "column_median"])
def test_a_snapshot_has_the_numbers_of_its_row(registry: Registry, method: str) -> None:
    cell, snapshot = snapshot_of(registry, method, "toy_mixed")
    (job,) = jobs_for(registry, (method,), seeds=(1,))
    (result,) = run_job(job, Machine())
    assert result.key == cell.key
    table = load_table(load(registry.dataset("toy_mixed"))()).table
    scores = score(
        snapshot.truth, snapshot.imputed, snapshot.observed, snapshot.present, snapshot.schema, reference_of(table)
    )
    assert scores.as_json()["metrics"] == result.metrics
    stable = {name: value for name, value in result.diagnostics.items() if not name.endswith("seconds")}
    assert {name: snapshot.diagnostics[name] for name in stable} == stable


def test_a_snapshot_is_made_with_as_many_threads_as_a_row(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds: list[int] = []
    monkeypatch.setattr("bench.run.job.use_threads", bounds.append)
    (job,) = jobs_for(registry, ("column_median",), seeds=(0,))
    make_snapshot(job, Machine(threads=3))
    assert bounds == [3]


def test_a_snapshot_is_read_back_as_it_was_kept(registry: Registry, tmp_path: Path) -> None:
    cell, snapshot = snapshot_of(registry, "vsae", "toy_pictures")
    assert len(snapshot.samples) == bench.run.snapshot.DRAWS and snapshot.generated is not None
    shown = snapshot.shown[: bench.run.snapshot.SAMPLED_ROWS]
    for values in snapshot.samples:
        seen = snapshot.observed[shown]
        scalar_seen = seen[:, snapshot.schema.scalar_indices]
        np.testing.assert_array_equal(values.scalars[scalar_seen], snapshot.truth.scalars[shown][scalar_seen])
        image = snapshot.schema.names.index("image")
        np.testing.assert_array_equal(
            values.blocks["image"][seen[:, image]], snapshot.truth.blocks["image"][: len(shown)][seen[:, image]]
        )
    path = snapshot_path(tmp_path, cell)
    write_snapshot(snapshot, path)
    found = read_snapshot(path)
    assert found is not None
    assert_same_snapshot(found, snapshot)
    with np.load(path, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
    assert [path.name] == [other.name for other in path.parent.iterdir()]


def test_a_broken_or_older_snapshot_is_made_again(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, snapshot = snapshot_of(registry, "column_median", "toy_mixed")
    path = snapshot_path(tmp_path, cell)
    assert read_snapshot(path) is None
    write_snapshot(snapshot, path)
    whole = path.read_bytes()
    for broken in (b"", whole[:100], whole[: len(whole) // 2], b"PK" + whole[2:200], b"no archive"):
        path.write_bytes(broken)
        assert read_snapshot(path) is None
    path.write_bytes(whole)
    assert read_snapshot(path) is not None
    monkeypatch.setattr("bench.run.snapshot.VERSION", 2)
    assert read_snapshot(path) is None


def test_rows_to_show_hide_something_and_take_turns() -> None:
    observed = np.zeros((40, 2), dtype=bool)
    observed[:20, 0] = True  # hide the second
    observed[20:24, 1] = True  # hide the first
    observed[24:30] = True  # hide nothing
    present = np.ones((40, 2), dtype=bool)
    chosen = rows_to_show(observed, present, 100, np.random.default_rng(0))
    assert sorted(chosen) == list(range(40))
    assert all((chosen[2 * turn] < 20) != (chosen[2 * turn + 1] < 20) for turn in range(4))
    assert set(chosen[:24]) == set(range(24)) and set(chosen[24:34]) == set(range(30, 40))
    again = rows_to_show(observed, present, 7, np.random.default_rng(0))
    np.testing.assert_array_equal(again, chosen[:7])


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
        monkeypatch.setattr("bench.run.snapshot.make_snapshot", no_training)
    assert call(f"plot imputations {common} --output second --formats svg")[0] == 0
    for path in (place / "second").iterdir():
        assert path.read_bytes() == (place / "first" / "imputations" / path.name).read_bytes(), path.name
    assert not list((place / "rows").rglob("*.pt"))


def test_training_is_drawn_from_rows_that_hold_it(place: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = "--plugins plugins --datasets toy_mixed --methods vae --preset smoke --store rows"
    assert call(f"run {grid}")[0] == 0
    rows = sorted(Store(place / "rows").rows(), key=lambda row: row.cell.seed)
    monkeypatch.setattr("bench.run.snapshot.make_snapshot", no_training)
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


def test_ctrl_c_says_so_and_the_next_call_goes_on(tmp_path: Path) -> None:
    write_plugins(tmp_path / "plugins", data=DATA, mine=method_source("mine", fit="raise KeyboardInterrupt"))
    words = ("plot", "imputations", "toy_mixed", "--methods", "mine", "--plugins", "plugins")
    done = run_command(*words, folder=tmp_path)
    assert done.returncode == 130 and "interrupted" in done.stderr and "Traceback" not in done.stderr


def test_a_method_that_does_not_take_the_data_is_refused(registry: Registry) -> None:
    (job,) = jobs_for(registry, ("column_median",), "toy_pictures", seeds=(0,))
    with pytest.raises(BenchError, match="'column_median' on toy_pictures: does not take image attributes"):
        make_snapshot(job, Machine())
