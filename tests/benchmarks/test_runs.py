"""The benchmarks of whole runs, of other packages and of the roofline count what they say, at small sizes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.neural.engine.bank import BankedLinear, reset_parameters
from bench.neural.rows import Layout
from bench.plugins.registry import Registry
from bench.run.store import Store
from tests.toys import DATA, jobs_for, make_cell, make_result, write_plugins
from tests.truth import rows_behind, truth_behind

ROOT = Path(__file__).resolve().parents[2]


# Whole runs


def put_jobs(store: Path, seconds: tuple[float, ...]) -> None:
    """Store the rows of jobs of two cells that took so long."""
    for number, own in enumerate(seconds):
        cells = [make_cell(seed=10 * number + seed, method=f"method{number}") for seed in range(2)]
        Store(store).put([make_result(cell, seconds=own, stack=tuple(c.key for c in cells)) for cell in cells])


def test_the_longest_job_bounds_what_two_workers_gain(benchmarks: Any, tmp_path: Path) -> None:
    grid = benchmarks("grid")
    put_jobs(tmp_path, (1.0, 6.0, 3.0))
    jobs = grid.Jobs.of(tmp_path)
    assert (jobs.count, jobs.seconds, jobs.longest_seconds) == (3, 10.0, 6.0)
    assert jobs.longest == "method1, depth=3 on rain"
    assert jobs.best_ratio(2) == pytest.approx(10 / 6)
    assert grid.Jobs.of(tmp_path / "empty").best_ratio(2) == 1.0


@pytest.mark.parametrize(("seconds", "judged"), [((5.5, 5.0, 4.0), True), ((9.0, 1.0), False)])
def test_two_workers_are_judged_where_jobs_suffice(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], judged: bool
) -> None:
    grid = benchmarks("grid")
    asked: list[tuple[int, tuple[str, ...]]] = []

    def run(words: list[str], workers: int, store: Path) -> None:
        asked.append((workers, tuple(words)))
        put_jobs(store, seconds)

    monkeypatch.setattr(grid, "run", run)
    line = grid.measure(["table6", "--preset", "smoke"], 2, tmp_path)
    assert [workers for workers, _ in asked] == [1, 1, 2, 2, 1]
    assert asked[0][1][-1] == "--dry-run" and asked[1][1] == ("table6", "--preset", "smoke")
    assert (line.reached is not None) is judged
    assert line.notes["longest job"].startswith("method0, depth=3 on rain")


def test_a_run_that_does_not_finish_is_no_timing(benchmarks: Any, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="returned non-zero exit status 2"):
        benchmarks("grid").run(["no-such-table"], 1, tmp_path)


# Precision


def test_a_metric_has_moved_if_by_more_than_its_spread(benchmarks: Any) -> None:
    precision = benchmarks("precision")
    base = precision.Outcome(8.0, (0.9, 1.0, 1.1))
    for shift, unmoved in ((0.05, True), (-0.09, True), (0.11, False), (-0.2, False)):
        other = precision.Outcome(5.0, tuple(value + shift for value in base.metric))
        line = precision.compared("a case", base, other, "pfc")
        assert line.ratio == pytest.approx(1.6)
        assert line.notes["moved by"] == pytest.approx(shift)
        assert line.reached is unmoved
    # Differences of either sign cancel: what counts is whether the mean moves.
    swapped = precision.Outcome(5.0, (1.1, 1.0, 0.9))
    assert precision.compared("a case", base, swapped, "pfc").notes["moved by"] == pytest.approx(0.0)


def test_precisions_are_compared_on_the_same_cells(
    mirror: Path, benchmarks: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path))
    assert benchmarks("precision").main(["--small", "--json", "--cases=yeast", "--method=vae"]) == 0
    line, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["case"] == "vae on yeast, smoke, medium" and last["ratio_is"] == "highest / precision"
    assert line["ratio"] == pytest.approx(line["other"] / line["ours"])
    # The same cells to within the rounding of thirty steps.
    assert abs(line["notes"]["moved by"]) < 0.05 * line["notes"]["of the highest"]


# Jobs


def test_a_job_is_worked_out_from_its_parts_here_and_in_another_checkout(
    mirror: Path, benchmarks: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VSAE_BENCH_CACHE", str(tmp_path))
    words = ["--small", "--json", "--jobs=vae:yeast", f"--against={ROOT}", "--replicas=2"]
    assert benchmarks("jobs").main(words) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["case"] == "vae on yeast, quick, 2 replicas"
    assert line["ratio"] == pytest.approx(line["other"] / line["ours"])
    for when, job in (("", line["ours"]), ("before: ", line["other"])):
        notes = {name: line["notes"][when + name] for name in ("ms per step", "s to choose once", "s to impute")}
        parts = notes["ms per step"] / 1000 * line["notes"]["steps"]
        parts += notes["s to choose once"] * line["notes"]["evaluations"] + notes["s to impute"]
        assert job == pytest.approx(parts)
        assert 0 < line["notes"][f"{when}of it products"] < 1
    assert (line["notes"]["steps"], line["notes"]["evaluations"]) == (1500, 50)


# Other packages

HYPERIMPUTE = """
import numpy as np

class GainImputation:
    def __init__(self, batch_size=256, n_epochs=1000): self.steps = n_epochs

class plugin:
    def __init__(self, random_state=0, batch_size=0, n_epochs=0, latent_size=1, n_hidden=1):
        self.widths = 0.25 * latent_size + 0.5 * n_hidden - 0.75
        self.seed, self.steps, self._model = random_state, n_epochs, GainImputation()

    def fit_transform(self, frame):
        print("noise on standard output")
        if self._model.steps == 13: raise RuntimeError("thirteen\\nis too many")
        return frame.fillna(100.0 * self._model.steps + self.steps + self.seed + self.widths)
"""


@pytest.fixture
def python(tmp_path: Path) -> str:
    """Return a Python whose HyperImpute tells its settings in what it imputes."""
    package = tmp_path / "site" / "hyperimpute" / "plugins" / "imputers"
    package.mkdir(parents=True)
    for name in ("gain", "miwae"):
        (package / f"plugin_{name}.py").write_text(HYPERIMPUTE)
    information = tmp_path / "site" / "hyperimpute-0.1.17.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: hyperimpute\nVersion: 0.1.17\n")
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path / "site"} exec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_the_other_environment_imputes_on_demand(benchmarks: Any, tmp_path: Path, python: str) -> None:
    from bench.errors import BenchError

    peers = benchmarks("peers")
    values = np.array([[1.0, np.nan], [np.nan, 4.0]] * 300)
    with peers.Peer(python, tmp_path) as peer:
        imputed, seconds = peer.impute("gain", values, 40, 2)
        assert peer.version == "0.1.17"
        assert 0 < seconds < 5
        assert np.array_equal(imputed[:2], [[1.0, 4002.0], [4002.0, 4.0]])
        # Two batches of 256 rows per epoch, and the last epoch is left out: 21 epochs are 40 steps.
        assert peer.impute("miwae", values, 40, 0)[0][0, 1] == 100 * 1000 + 21
        assert peer.impute("miwae", values, 40, 0, (5, 7))[0][0, 1] == 100 * 1000 + 21 + 1 + 3
        with pytest.raises(BenchError, match="gain in the other environment: RuntimeError: thirteen$"):
            peer.impute("gain", values, 13, 0)
        with pytest.raises(BenchError, match="miceforest .*PackageNotFoundError.*; make it with: python -m venv"):
            peer.impute("miceforest", values, 1, 0)


def test_peers_are_measured_on_the_same_table(
    benchmarks: Any, tmp_path: Path, python: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = benchmarks("peers")
    monkeypatch.setattr(peers, "REFERENCES", {})
    assert peers.main(["--json", "--small", "--rounds=1", "--steps=4", f"--python={python}"]) == 0
    *lines, _ = map(json.loads, capsys.readouterr().out.splitlines())
    assert [line["case"] for line in lines] == [
        "gain, alone, against HyperImpute 0.1.17",
        "gain, each of 3, against HyperImpute 0.1.17",
        "miwae, alone, against HyperImpute 0.1.17, its widths ours",
        "miwae, each of 3, against HyperImpute 0.1.17, its widths ours",
        "miwae, alone, against HyperImpute 0.1.17, its own widths",
        "miceforest",
        "mean of each column",
    ]
    assert lines[0]["notes"]["their error"] > 100 > 2 > lines[0]["notes"]["our error"]
    assert lines[6]["notes"]["error"] == pytest.approx(1.0, abs=0.1)
    assert "PackageNotFoundError" in lines[5]["notes"]["not run"]


@pytest.mark.parametrize("arguments", [[], ["--python=/no/such/python"]])
def test_without_the_other_environment_one_line_says_how_to_make_it(
    benchmarks: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = benchmarks("peers")
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    assert peers.main(["--small", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1
    assert "pip install hyperimpute==0.1.17" in said.err


def test_the_higher_error_is_told_from_luck(benchmarks: Any) -> None:
    peers = benchmarks("peers")
    rng = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        difference, error = peers.difference_of_means(rng.normal(1, 0.3, 15), rng.normal(1, 0.2, 5))
        found.append(difference / error)
    # The same means are told apart in few cases, on either side alike.
    assert 0.01 < np.mean(np.array(found) > peers.STANDARD_ERRORS) < 0.06
    assert abs(np.mean(found)) < 0.1
    assert peers.difference_of_means([2.0], [1.5, 1.6]) == (pytest.approx(0.45), 0.0)


def test_our_gain_can_be_drawn_as_theirs(benchmarks: Any) -> None:
    peers, stacks = benchmarks("peers"), benchmarks("stacks")
    views = stacks.Views.of(stacks.synthetic_table(100, 8, (), ()), 1)
    method = peers.made("gain", views, 1)
    network = method.build(Layout(views.train.schema), 1)
    reset_parameters(network, [torch.Generator().manual_seed(0)])
    weights = [part for part in network.modules() if isinstance(part, BankedLinear)]
    assert len(weights) == 6
    for part in weights:
        bound = part.weight.shape[1] ** -0.5
        assert 0.8 * bound < float(part.weight.detach().abs().max()) <= bound
        assert 0 < float(part.bias.detach().abs().max()) <= bound
    assert weights[0].weight.shape == (1, 16, 8)


def test_all_rows_are_imputed_and_only_hidden_entries_scored(benchmarks: Any) -> None:
    peers, stacks = benchmarks("peers"), benchmarks("stacks")
    views = stacks.Views.of(stacks.synthetic_table(100, 3, (), ()), 1)
    data, parts = peers.everything(views), peers.learning(views)
    assert sorted(rows_behind(data)[0]) == list(range(100))
    assert sorted([*rows_behind(parts.train)[0], *rows_behind(parts.validation)[0]]) == list(range(100))
    truth = truth_behind(data)
    hidden = ~data.observed[0]
    assert peers.error_of(np.where(hidden, truth, 1e9), views) == 0.0
    wrong = np.where(hidden, truth + 2 * truth.std(axis=0), truth)
    assert peers.error_of(wrong, views) == pytest.approx(2.0)


# The roofline


def test_the_work_of_an_operation_is_what_it_reads_writes_and_computes(benchmarks: Any) -> None:
    roofline = benchmarks("roofline")
    machine = roofline.Machine("toy", flops=1e3, bytes=1e2)
    a, b, bias = torch.ones(5, 4, 8), torch.ones(5, 8, 16), torch.ones(16)
    work = roofline.counted(lambda: torch.bmm(a, b), machine)
    assert (work.flops, work.bytes, work.launches) == (2 * 5 * 4 * 8 * 16, 4 * 5 * (32 + 128 + 64), 1)
    assert work.seconds == max(work.flops / 1e3, work.bytes / 1e2)
    # What is expanded is read once, what only looks at memory in another way moves nothing.
    product = a.bmm(b)
    work = roofline.counted(lambda: product.transpose(0, 1)[1:].unsqueeze(0) + bias.expand(4, 5, 16)[1:], machine)
    assert (work.flops, work.bytes, work.launches) == (240, 4 * (240 + 16 + 240), 1)


def test_a_step_is_counted_with_gradient_and_optimiser(benchmarks: Any) -> None:
    roofline = benchmarks("roofline")
    weight, x = torch.nn.Parameter(torch.ones(8, 16)), torch.ones(4, 8)
    optimiser = torch.optim.SGD([weight], lr=0.1)

    def step() -> None:
        (x @ weight).sum().backward()
        optimiser.step()

    work = roofline.counted(step, roofline.MACHINES["H100"])
    assert 2 * 2 * 4 * 8 * 16 < work.flops < 2 * 2 * 4 * 8 * 16 + 1000
    assert weight.grad is not None and 4 <= work.launches < 15
    part = (work + work).less(work, 1)
    assert (part.flops, part.launches) == (work.flops, work.launches)


def test_a_stack_of_more_replicas_launches_no_more(benchmarks: Any, tmp_path: Path) -> None:
    gpu, roofline = benchmarks("gpu_paper"), benchmarks("roofline")
    registry = Registry.scan([write_plugins(tmp_path, data=DATA)])
    machine = roofline.MACHINES["H100"]

    def counted(seeds: tuple[int, ...]) -> Any:
        (job,) = jobs_for(registry, ("vsae",), seeds=seeds)
        assert gpu.trains_stacked(job)
        return gpu.work_of_a_step(job, gpu.stacked_views(job), machine, "cpu")

    alone, three = counted((0,)), counted((0, 1, 2))
    assert three.flops == pytest.approx(3 * alone.flops, rel=0.01)
    # Each replica draws from its own generators; all else is launched once.
    assert three.launches < 1.1 * alone.launches
    (job,) = jobs_for(registry, ("vsae",))
    line, _ = gpu.measure(job, machine, "cpu", count_only=True)
    assert line.other == pytest.approx(1000 * three.seconds, rel=0.01)


def test_without_a_gpu_one_line_says_so(benchmarks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert benchmarks("gpu_paper").main([]) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "needs a CUDA device" in said.err
