"""The plain VSAE that training is timed against computes the very same losses, and the benchmarks of training work."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.api import Budget
from bench.neural.engine.noise import replica_generators
from tests.neural_views import dependent_table, loss_of, proposal_noise, step_noise
from tests.truth import rows_behind

ROOT = Path(__file__).resolve().parents[2]


TABLES: dict[str, dict[str, Any]] = {
    "numbers": {"numbers": 5},
    "categories of few and many levels": {"levels": (2, 5, 3)},
    "numbers and categories": {"numbers": 2, "levels": (4, 2)},
    "images": {"images": 2},
    "an image, features and a label": {"images": 1, "features": 1, "levels": (3,)},
}
BUDGET = Budget(steps=12, batch=16, learning_rate=1e-3, warm_fraction=0.0, target_draws=4, evaluations=1)


def stack_of(benchmarks: Any, shape: str) -> Any:
    """Return a stack of two untrained replicas on a table."""
    stacks = benchmarks("stacks")
    return stacks.Stack.of(stacks.Views.of(dependent_table(150, **TABLES[shape]), replicas=2), BUDGET)


@pytest.mark.parametrize("shape", TABLES)
def test_the_plain_loop_has_the_loss_curve_of_each_replica(benchmarks: Any, shape: str) -> None:
    plain, stack = benchmarks("plain_vsae"), stack_of(benchmarks, shape)
    trainings = [plain.of_replica(stack, replica, BUDGET) for replica in range(2)]
    history = stack.train(BUDGET)
    assert history.epochs == [2, 2]
    # Batch normalisation of few levels leaves gradients that are all rounding, and Adam takes full steps by them.
    tolerance = 5e-3 if "levels" in TABLES[shape] else 2e-5
    for replica, training in enumerate(trainings):
        losses = plain.plain_losses(training, replica, 2, stack.trainer(BUDGET).noise_shapes)
        assert losses == pytest.approx(history.loss[replica], rel=tolerance)
        assert losses[1] < losses[0]


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("shape", TABLES)
def test_the_plain_loop_has_the_gradients_of_each_replica(benchmarks: Any, shape: str, trained: bool) -> None:
    plain, stack = benchmarks("plain_vsae"), stack_of(benchmarks, shape)
    if trained:
        stack.train(BUDGET)
    network = stack.network.train()
    trainings = [plain.of_replica(stack, replica, BUDGET) for replica in range(2)]
    index = torch.arange(10, 74).expand(2, -1)
    noise = {
        name: torch.randn(2, *size, generator=torch.Generator().manual_seed(3))
        for name, size in step_noise(network, 64).items()
    }
    batch = stack.encoder.encode(stack.views.train.tensors("cpu").batch(index))
    network.zero_grad()
    losses = loss_of(network, batch, noise)
    losses.sum().backward()
    gradients = copy.deepcopy(network)
    for parameter, own in zip(gradients.parameters(), network.parameters(), strict=True):
        parameter.data.copy_(torch.zeros_like(own) if own.grad is None else own.grad)
    for replica, training in enumerate(trainings):
        model = training.model
        fill = [noise["fill"][replica][:, list(attribute.columns)] for attribute in model.attributes]
        own_noise = {name: values[replica] for name, values in noise.items()}
        loss = model.loss(training.data.rows(index[0]), own_noise, fill)
        assert loss.item() == pytest.approx(losses[replica].item(), rel=1e-5)
        loss.backward()
        expected = plain.PlainVSAE(network.layout)
        plain.copy_weights(gradients, replica, expected)
        # Batch normalisation of two levels that nearly coincide magnifies rounding: hence one scale for all gradients.
        largest = max(other.abs().max().item() for other in expected.parameters())
        for (name, parameter), other in zip(model.named_parameters(), expected.parameters(), strict=True):
            assert parameter.grad is not None
            assert torch.allclose(parameter.grad, other, rtol=1e-2, atol=1e-3 * largest), name
        statistics = plain.PlainVSAE(network.layout)
        plain.copy_weights(network, replica, statistics)
        for name, buffer in statistics.named_buffers():
            assert torch.allclose(buffer.float(), model.get_buffer(name).float(), atol=1e-5) or "batches" in name, name


def test_other_data_has_another_loss_curve(benchmarks: Any) -> None:
    plain, stack = benchmarks("plain_vsae"), stack_of(benchmarks, "numbers and categories")
    other = plain.of_replica(stack, 0, BUDGET)
    other.data = plain.of_replica(stack, 1, BUDGET).data
    history = stack.train(BUDGET)
    losses = plain.plain_losses(other, 0, 2, stack.trainer(BUDGET).noise_shapes)
    assert losses != pytest.approx(history.loss[0], rel=2e-3)


def lines_of(module: Any, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    """Run a benchmark at a small size and return its lines."""
    assert module.main(["--json", "--small", "--rounds=1", "--device=cpu", *arguments]) == 0
    *lines, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert last["small"] is True
    return lines


def test_training_is_timed_beside_the_plain_loop(benchmarks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(benchmarks("training"), capsys, "--cases=yeast,mushroom", "--presets=quick")
    assert [line["case"] for line in lines] == [
        "yeast, quick, 1 replica, cpu",
        "yeast, quick, 3 replicas, cpu",
        "mushroom, quick, 1 replica, cpu",
        "mushroom, quick, 3 replicas, cpu",
    ]
    for line in lines:
        assert line["ratio"] == pytest.approx(line["other"] / line["ours"])
        assert line["notes"]["losses apart"] < 1e-4
        assert (line["notes"]["batch"], line["notes"]["samples"]) == (256, 10)


def test_stacks_are_timed_in_units_of_one_replica(benchmarks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(benchmarks("stacking"), capsys, "--cases=yeast", "--replicas=1,3")
    assert [line["case"] for line in lines] == ["yeast, quick, 1 replicas, cpu", "yeast, quick, 3 replicas, cpu"]
    assert lines[0]["ratio"] == 1.0
    assert lines[1]["ratio"] == pytest.approx(lines[1]["ours"] / lines[0]["ours"])
    assert lines[1]["notes"]["step"] == pytest.approx(3 * lines[1]["ratio"])


def test_the_first_replicas_of_views_hide_what_they_hid(benchmarks: Any) -> None:
    views = benchmarks("stacks").Views.of(dependent_table(100, numbers=3), replicas=3)
    first = views.first(2)
    for part in ("train", "validation", "test"):
        whole, some = getattr(views, part), getattr(first, part)
        assert (whole.observed[:2] == some.observed).all()
        assert (rows_behind(whole)[:2] == rows_behind(some)).all()
    assert len(first.validation.folds) == len(views.validation.folds) > 0
    for some, whole in zip(first.validation.folds, views.validation.folds, strict=True):
        assert (some.held_out.observed == whole.held_out.observed[:2]).all()


@pytest.mark.parametrize("shape", TABLES)
def test_the_plain_loop_over_draws_imputes_the_same_from_the_same_noise(benchmarks: Any, shape: str) -> None:
    plain, stack, rows, draws = benchmarks("plain_vsae"), stack_of(benchmarks, shape), 12, 20
    stack.train(BUDGET)
    generator = replica_generators("evaluation", [0])[0]
    model, data = plain.first_test_rows(stack, rows)

    def noise() -> Any:
        shapes = proposal_noise(stack.network, rows, 10)
        drawn = {name: torch.empty(shape).normal_(generator=generator) for name, shape in shapes.items()}
        return [drawn["fill"][:, list(attribute.columns)] for attribute in model.attributes], drawn["latent"]

    imputed, _ = stack.impute(rows, draws)
    flat = torch.cat(
        [imputed.numeric, imputed.categorical.flatten(-2), *(block.flatten(-2) for block in imputed.blocks)], dim=-1
    )[0]
    for attribute, found in zip(model.attributes, model.impute(data, draws, noise), strict=True):
        assert torch.allclose(found, flat[:, list(attribute.columns)], atol=1e-4)
    assert not model.training


def test_imputation_is_timed_and_agrees_as_well_as_with_itself(
    benchmarks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    module = benchmarks("impute")
    for dataset in ("whitewine", "mnist_mnist"):
        line = module.measure(dataset, 1, rows=40, draws=30, small=True, rounds=1, device="cpu")
        assert 0.8 < line.notes["apart, in own noise"] < 1.3
        assert line.ratio == pytest.approx(line.other / line.ours)


def test_the_peak_memory_of_an_imputation_may_grow_with_the_result_alone(
    benchmarks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = benchmarks("impute")
    assert module.impute_once("mnist_mnist", True, 80, 10) == 80 * 2 * 49 * 4

    def judged(per_draw: float, per_row: float) -> list[bool]:
        def isolated(name: str, rows: int, draws: int, **_: Any) -> tuple[int, float]:
            return rows * 2**20, 500 + per_draw * draws + per_row * rows

        monkeypatch.setattr(module, "isolated", isolated)
        return [line.reached for line in module.memory_lines("mnist_mnist", True, 20, 5)]

    assert judged(0, 3) == [True, True]
    assert judged(3, 3) == [False, True]
    assert judged(0, 9) == [True, False]
