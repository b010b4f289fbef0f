"""The training loop and model selection: stacks, checkpoints, the best state, the schedule and the rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bench.neural.engine.trainer as training
from bench.api import BenchError, BoolArray, Budget, Context, FloatArray, Incomplete, Stopped, Table
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import replica_generators, replica_noise
from bench.neural.engine.optimiser import clip_per_replica
from bench.neural.engine.schedule import Schedule
from bench.neural.engine.selection import ROW_CHUNK, HeldOutError, row_chunks
from bench.neural.engine.trainer import Trainer
from bench.neural.model import Network, Noise, Warmup
from bench.neural.rows import Encoded, Imputed, Layout, Rows
from tests.neural_views import (
    BASELINES,
    assert_same_values,
    dependent_table,
    generator,
    on_table,
    one_replica,
    poisoned,
    revealed_by,
    split_views,
    state_of,
    trained,
)
from tests.truth import folds_behind, rows_behind, some_rows_of, table_behind

VSAE = type[Any]
#: Odd numbers on purpose: batches, rows and draws that fill neither cache lines nor vector registers. A batch of 16
#: fills lines, but not registers.
WHOLE = Budget(steps=24, batch=21, warm_fraction=0.25, evaluations=5, draws=13, target_draws=3, validation_draws=3)
TABLES: dict[str, Callable[[], Table]] = {
    "numeric": lambda: dependent_table(110, numbers=5),
    "categorical": lambda: dependent_table(110, levels=(3, 2, 5)),
    "mixed": lambda: dependent_table(110, numbers=3, levels=(2, 4)),
    "image": lambda: dependent_table(80, numbers=1, levels=(3,), images=2, features=1, pixels=9),
    # Wide enough that hidden images are packed, whose number differs from replica to replica.
    "wide image": lambda: dependent_table(400, numbers=1, images=2, pixels=36),
}
#: What a kind changes of the method's parameters and budget: images have wide networks, so few steps.
CHANGES: dict[str, tuple[dict[str, Any], Budget]] = {
    "numeric": ({}, replace(WHOLE, batch=16)),
    "categorical": ({}, WHOLE),
    "mixed": ({}, WHOLE),
    "image": ({"latent": 3}, replace(WHOLE, steps=12)),
    "wide image": ({"latent": 3}, replace(WHOLE, steps=15, batch=80)),
}


@pytest.fixture
def vsae(load_plugin: Callable[..., VSAE]) -> VSAE:
    """Return the VSAE plug-in."""
    return load_plugin(BASELINES / "vsae.py")


@pytest.mark.usefixtures("deterministic_torch")
@pytest.mark.parametrize("kind", TABLES)
def test_a_whole_training_is_bit_identical_alone_and_in_a_stack(vsae: VSAE, kind: str) -> None:
    views, seeds = split_views(TABLES[kind](), replicas=3), [5, 6, 7]
    # A clip norm that bites in every step: the norm too must not depend on the stack.
    parameters, budget = {**CHANGES[kind][0], "clip_norm": 0.5}, CHANGES[kind][1]
    stacked, together = trained(vsae, views, seeds, budget, parameters)
    states = state_of(stacked.model)
    for index, seed in enumerate(seeds):
        alone, own = trained(vsae, one_replica(views, index), [seed], budget, parameters)
        for name, tensor in state_of(alone.model).items():
            assert torch.equal(tensor[0], states[name][index]), f"{name} of replica {index}"
        assert_same_values(own[0], together[index])
        facts, expected = alone.diagnostics()[0], stacked.diagnostics()[index]
        assert {**facts, "training_seconds": 0} == {**expected, "training_seconds": 0}
    # The replicas are different ones, and none is the untrained one.
    last = states["decoder.scalars.layers.3.bias"]
    assert not torch.equal(last[0], last[1])
    assert min(stacked.history.best_epoch) >= 1 and min(stacked.history.steps) >= 12


@pytest.mark.usefixtures("deterministic_torch")
@pytest.mark.parametrize("kind", TABLES)
def test_a_stopped_training_resumes_to_the_same_bits(vsae: VSAE, kind: str, tmp_path: Path) -> None:
    views, seeds = split_views(TABLES[kind](), replicas=2), [5, 6]
    parameters, budget = CHANGES[kind]
    whole, expected = trained(vsae, views, seeds, budget, parameters)
    states = state_of(whole.model)
    checkpoint = tmp_path / "folder" / "job.pt"
    asked = 0

    def stop_now_and_then() -> None:
        nonlocal asked
        asked += 1
        # At the first epoch's end, some epochs later and, last, while imputing.
        if asked in (1, 3, 4, whole.history.epochs[0] + 1):
            raise Stopped

    for _attempt in range(4):
        with pytest.raises(Stopped):
            trained(vsae, views, seeds, budget, parameters, checkpoint=checkpoint, stop=stop_now_and_then)
        torch.load(checkpoint, weights_only=True)
        assert [path.name for path in checkpoint.parent.iterdir()] == ["job.pt"]
    resumed, values = trained(vsae, views, seeds, budget, parameters, checkpoint=checkpoint)
    for name, tensor in state_of(resumed.model).items():
        assert torch.equal(tensor, states[name]), name
    for first, second in zip(expected, values, strict=True):
        assert_same_values(first, second)
    assert replace(resumed.history, seconds=0) == replace(whole.history, seconds=0)


@pytest.mark.usefixtures("deterministic_torch")
def test_a_killed_training_goes_on_from_its_last_checkpoint(
    vsae: VSAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training, "CHECKPOINT_SHARE", math.inf)
    views, checkpoint = split_views(TABLES["mixed"]()), tmp_path / "job.pt"
    whole, expected = trained(vsae, views, [5], WHOLE)
    reached: list[int] = []

    def power_cut(done: int, total: int, stage: str) -> None:
        reached.append(done)
        if len(reached) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(vsae, views, [5], WHOLE, checkpoint=checkpoint, progress=power_cut)
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 3
    resumed, values = trained(vsae, views, [5], WHOLE, checkpoint=checkpoint, progress=power_cut)
    assert reached[:6] == [1, 2, 3, 4, 4, 5]
    assert_same_values(expected[0], values[0])
    assert resumed.history.validation == whole.history.validation and resumed.history.loss == whole.history.loss


class Toy(Network):
    """A network of one vector and one buffer per replica that writes down what it is given."""

    running: Tensor

    def __init__(self, layout: Layout, replicas: int) -> None:
        super().__init__(layout, replicas, {})
        self.weight = nn.Parameter(torch.zeros(replicas, 2))
        self.register_buffer("running", torch.zeros(replicas, 3))
        self.seen: list[tuple[Encoded, dict[str, Tensor], float, bool]] = []
        self.scale = torch.ones(replicas)

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        drawn = {"first": noise.normal("first", x.size, 2), "second": noise.normal("second", 3)}
        self.seen.append((x.target, drawn, float(warmup.share), warmup.lasts))
        self.running += 1
        target = torch.arange(1.0, self.replicas + 1)[:, None]
        return self.scale * ((self.weight - target) ** 2).sum(1)


def toy_trainer(
    budget: Budget,
    validate: Callable[[Toy], Tensor],
    seeds: Sequence[int],
    views: Sequence[Incomplete] | None = None,
    clip_norm: float | None = None,
) -> tuple[Toy, Trainer]:
    """Return a toy network and its trainer; ``validate`` is given the network."""
    views = split_views(dependent_table(50, numbers=2), replicas=len(seeds)) if views is None else views
    layout = Layout(views[0].schema)
    network = Toy(layout, len(seeds))
    encoder = Encoder(views[0], layout, "standard", "cpu")
    context = Context(budget=budget)
    trainer = Trainer(
        network, views[0].tensors("cpu"), encoder, lambda: validate(network), seeds, context, clip_norm, 0.1
    )
    # What the dry run showed it.
    network.seen.clear()
    return network, trainer


def test_checkpoints_take_a_small_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, saved = [0.0], list[int]()
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    _, trainer = toy_trainer(Budget(steps=None, epochs=60, batch=10), lambda network: torch.zeros(1), [0])
    epoch = trainer.run_epoch

    def half_a_second() -> None:
        epoch()
        now[0] += 0.5

    def save() -> None:
        saved.append(trainer.epoch)
        now[0] += 0.2

    monkeypatch.setattr(trainer, "run_epoch", half_a_second)
    monkeypatch.setattr(trainer, "save", save)
    trainer.run()
    # The first after a second, then one every ten, and the last.
    assert saved == [2, 22, 42, 60]


def test_each_replica_ends_in_its_own_best_state_with_the_running_statistics_of_it() -> None:
    scripted = torch.tensor([[3.0, 1.0, 2.0, 1.0, 4.0], [5.0, math.nan, 4.0, math.inf, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    states: list[list[Tensor]] = []

    def validate(network: Toy) -> Tensor:
        states.append([tensor.detach().clone() for tensor in (network.weight, network.running)])
        return scripted[:, len(states) - 1]

    network, trainer = toy_trainer(Budget(steps=None, epochs=5, batch=10, evaluations=5), validate, [0, 1, 2])
    history = trainer.run()
    # The lowest; of two equal ones the earlier; never one that is not a number.
    assert history.best_epoch == [2, 5, 1] and history.best_error == [1.0, 3.0, 1.0]
    assert history.validation_epochs == [1, 2, 3, 4, 5] and len(history.loss) == 3 and history.epochs == [5] * 3
    for replica, epoch in enumerate(history.best_epoch):
        assert torch.equal(network.weight[replica], states[epoch - 1][0][replica])
        assert torch.equal(network.running[replica], states[epoch - 1][1][replica])
    # The dry run leaves no trace.
    assert network.running[:, 0].tolist() == [6.0, 15.0, 3.0]


def scripted_trainer(errors: Sequence[Sequence[float]], budget: Budget, warms_up: bool = False) -> tuple[Toy, Trainer]:
    """Return a toy network whose replicas have these validation errors, epoch by epoch, and its trainer."""
    script, asked = torch.tensor(errors), [0]

    def validate(network: Toy) -> Tensor:
        asked[0] = trainer.epoch
        return script[:, asked[0] - 1]

    network, trainer = toy_trainer(budget, validate, range(len(errors)))
    network.warms_up = warms_up
    return network, trainer


PATIENT = Budget(steps=None, epochs=9, batch=10, evaluations=9, patience=1 / 3)
#: The first never improves after epoch 2, the second is best at the end, the third tires and would have been best.
CURVES = [
    [5.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
    [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    [3.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 0.0, 0.0],
]


def test_a_replica_out_of_patience_is_done_whatever_the_others_do(tmp_path: Path) -> None:
    network, trainer = scripted_trainer(CURVES, PATIENT)
    history = trainer.run()
    assert history.best_epoch == [2, 9, 1] and history.epochs == [5, 9, 4] and history.steps == [15, 27, 12]
    assert [len(own) for own in history.loss] == [len(own) for own in history.validation] == [5, 9, 4]
    # Alone each is the same, and ends when it is done.
    for replica, curve in enumerate(CURVES):
        own_network, own = scripted_trainer([curve], PATIENT)
        alone = own.run()
        assert own.epoch == history.epochs[replica]
        assert alone.best_epoch == [history.best_epoch[replica]] and alone.validation == [history.validation[replica]]
        assert len(own_network.seen) == history.steps[replica]
    # Stopped between the freeze and the end, it goes on with the freeze in its checkpoint.
    path, stops = tmp_path / "job.pt", [0]

    def stop() -> None:
        stops[0] += 1
        if stops[0] == 7:
            raise Stopped

    _, trainer = scripted_trainer(CURVES, PATIENT)
    trainer.context = replace(trainer.context, checkpoint=path, stop=stop)
    with pytest.raises(Stopped):
        trainer.run()
    _, trainer = scripted_trainer(CURVES, PATIENT)
    trainer.context = replace(trainer.context, checkpoint=path)
    resumed = trainer.run()
    assert (resumed.epochs, resumed.best_epoch) == (history.epochs, history.best_epoch)
    assert resumed.validation == history.validation


def test_the_last_finite_state_is_kept_where_the_error_cannot_tell() -> None:
    errors = [[1.0, 2.0, 4.0, math.inf], [1.0, 2.0, 4.0, 3.0]]
    _, trainer = scripted_trainer(errors, Budget(steps=None, epochs=4, batch=10, evaluations=4, patience=0.25))
    trainer.keeps_last = torch.tensor([True, False])
    history = trainer.run()
    assert history.best_epoch == [3, 1] and history.best_error == [4.0, 1.0] and history.epochs == [4, 2]


def test_no_state_is_chosen_before_the_objective_is_whole() -> None:
    budget = Budget(steps=None, epochs=4, batch=10, warm_fraction=0.5, evaluations=4, patience=0.25)
    curve = [[1.0, 2.0, 4.0, 3.0]]
    _, trainer = scripted_trainer(curve, budget, warms_up=True)
    assert trainer.schedule.warm_epochs == 2
    # Patience too begins when a choice can be made.
    assert trainer.run().best_epoch == [2]
    _, trainer = scripted_trainer(curve, budget, warms_up=False)
    history = trainer.run()
    assert (history.best_epoch, history.epochs) == ([1], [2])


def test_a_replica_that_never_has_a_finite_error_is_reported(vsae: VSAE) -> None:
    views = split_views(dependent_table(50, numbers=2))
    with pytest.raises(BenchError, match="diverged: no finite validation error"):
        trained(vsae, views, [0], replace(WHOLE, evaluations=1), {"learning_rate": 1e30, "clip_norm": None})


def test_training_data_too_small_or_seeds_amiss_are_said_so(vsae: VSAE) -> None:
    train, validation, test = split_views(dependent_table(50, numbers=2))
    with pytest.raises(ValueError, match="1 replicas need as many seeds"):
        trained(vsae, (train, validation, test), [0, 1], WHOLE)
    single = some_rows_of(train, slice(1))
    with pytest.raises(BenchError, match="at least two training rows"):
        trained(vsae, (single, validation, test), [0], WHOLE)
    with pytest.raises(ValueError, match="held-out"):
        trained(vsae, (train, test, test), [0], WHOLE)


@pytest.mark.parametrize(
    ("budget", "rows", "expected"),
    [
        # Epochs alone: the last, partial batch of an epoch is left out.
        (Budget(steps=None, epochs=10, batch=64, warm_fraction=0.1, evaluations=10), 1000, (64, 15, 10, 15, 1)),
        # Steps alone: whole epochs within the cap.
        (Budget(steps=30, batch=256, warm_fraction=0.1, evaluations=10), 1000, (256, 3, 10, 3, 1)),
        (Budget(steps=31, batch=256, warm_fraction=0.5, evaluations=4), 1000, (256, 3, 10, 15, 3)),
        # An epoch longer than the budget is cut to it, and one of the two bounds comes first.
        (Budget(steps=30, batch=10, warm_fraction=0.1), 1000, (10, 30, 1, 3, 1)),
        (Budget(steps=1500, epochs=7, batch=100, warm_fraction=0.0, evaluations=3), 1000, (100, 10, 7, 0, 3)),
        (Budget(steps=20, epochs=7, batch=100, warm_fraction=1.0, evaluations=3), 1000, (100, 10, 2, 20, 1)),
        # Fewer rows than a batch.
        (Budget(steps=30, batch=256, warm_fraction=0.1, evaluations=50), 17, (17, 1, 30, 3, 1)),
        # The appendix: about 100 epochs of warm phase.
        (Budget(steps=None, epochs=2000, batch=64, warm_fraction=0.05, evaluations=2000), 640, (64, 10, 2000, 1000, 1)),
    ],
)
def test_the_schedule_is_worked_out_from_the_budget(budget: Budget, rows: int, expected: tuple[int, ...]) -> None:
    schedule = Schedule.of(budget, rows)
    got = (
        schedule.batch,
        schedule.steps_per_epoch,
        schedule.epochs,
        schedule.warm_steps,
        schedule.evaluate_every,
    )
    assert got == expected
    assert math.ceil(schedule.epochs / schedule.evaluate_every) <= budget.evaluations


def test_a_budget_without_an_end_is_an_error() -> None:
    with pytest.raises(BenchError, match="steps or epochs"):
        Schedule.of(Budget(steps=None, epochs=None), 100)


def test_steps_know_the_warm_phase_and_an_epoch_shows_no_row_twice() -> None:
    budget = Budget(steps=13, batch=8, warm_fraction=0.5, evaluations=2)
    validations = 0

    def validate(network: Toy) -> Tensor:
        nonlocal validations
        validations += 1
        return torch.zeros(2)

    network, trainer = toy_trainer(budget, validate, [0, 1])
    history = trainer.run()
    # 30 rows: 3 batches of 8 an epoch, 4 epochs, 12 steps of which 6 are warm.
    assert (history.steps, history.epochs, validations) == ([12] * 2, [4] * 2, 2) and history.validation_epochs == [
        2,
        4,
    ]
    assert [warm for *_, warm in network.seen] == [True] * 6 + [False] * 6
    assert [progress for _, _, progress, _ in network.seen] == pytest.approx([k / 6 for k in range(1, 7)] + [1.0] * 6)
    orders = []
    for first in range(0, 12, 3):
        epoch = torch.cat([batch.numeric[1] for batch, *_ in network.seen[first : first + 3]])
        observed = torch.cat([batch.observed[1] for batch, *_ in network.seen[first : first + 3]])
        whole = {tuple(row) for row in epoch[observed.all(1)].tolist()}
        assert len(whole) == int(observed.all(1).sum()) > 2 and len(epoch) == 24
        orders.append(epoch)
    assert not torch.equal(orders[0], orders[1])


def test_batches_and_noise_of_a_replica_do_not_depend_on_the_stack() -> None:
    views = split_views(dependent_table(50, numbers=2), replicas=3)
    budget = Budget(steps=8, batch=7, evaluations=1)
    stacked, trainer = toy_trainer(budget, lambda network: torch.zeros(3), [4, 5, 6], views)
    trainer.run()
    alone, trainer = toy_trainer(budget, lambda network: torch.zeros(1), [6], one_replica(views, 2))
    trainer.run()
    for (batch, noise, *_), (own_batch, own_noise, *_) in zip(stacked.seen, alone.seen, strict=True):
        assert torch.equal(batch.numeric[2], own_batch.numeric[0])
        assert torch.equal(batch.observed[2], own_batch.observed[0])
        assert noise["first"].shape == (3, 7, 2) and noise["second"].shape == (3, 3)
        for name in noise:
            assert torch.equal(noise[name][2], own_noise[name][0])
            assert not torch.equal(noise[name][1], noise[name][2])
    drawn = torch.cat([noise["first"][0].flatten() for _, noise, *_ in stacked.seen])
    assert len(drawn.unique()) == len(drawn)
    pooled = replica_noise((5000,), replica_generators("training noise", [4, 5]), "cpu")
    assert torch.equal(pooled[1:], replica_noise((5000,), replica_generators("training noise", [5]), "cpu"))
    assert pooled.mean().abs() < 0.05 and abs(float(pooled.std()) - 1) < 0.05
    streams = [replica_noise((5,), replica_generators(name, [4]), "cpu") for name in ("evaluation", "validation")]
    assert not torch.equal(*streams)


def test_noise_is_held_for_a_bounded_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    def watched(shape: tuple[int, ...], generators: Sequence[torch.Generator], device: str) -> Tensor:
        asked.append(shape)
        return replica_noise(shape, generators, device)

    monkeypatch.setattr(training, "NOISE_FLOATS", 40)
    monkeypatch.setattr(training, "replica_noise", watched)
    _, trainer = toy_trainer(Budget(steps=6, batch=8, evaluations=1), lambda network: torch.zeros(1), [0])
    trainer.run()
    # 8 x 2 + 3 = 19 floats per step: two steps at a time, and three steps per epoch.
    assert asked == [(2, 19), (1, 19)] * 2


def test_clipping_a_stack_is_clipping_each_replica_by_itself() -> None:
    draw = generator(1)
    shapes, scales = [(3, 4, 5), (3, 6), (3, 2, 3)], torch.tensor([0.01, 3.0, 1.0])
    stack = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    for parameter in stack:
        noise = torch.randn(parameter.shape, generator=draw)
        parameter.grad = noise * scales.view(-1, *(1,) * (parameter.dim() - 1))
    singles = [[nn.Parameter(torch.zeros(shape[1:])) for shape in shapes] for _ in range(3)]
    for replica, parameters in enumerate(singles):
        for own, parameter in zip(parameters, stack, strict=True):
            assert parameter.grad is not None
            own.grad = parameter.grad[replica].clone()
        nn.utils.clip_grad_norm_(parameters, 2.0)
    unused = nn.Parameter(torch.zeros(3, 2))
    clip_per_replica([*stack, unused], 2.0)
    assert unused.grad is None
    for replica, parameters in enumerate(singles):
        for own, parameter in zip(parameters, stack, strict=True):
            assert parameter.grad is not None and own.grad is not None
            torch.testing.assert_close(parameter.grad[replica], own.grad)
    norm = torch.cat([p.grad[1].flatten() for p in stack if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(2.0, rel=1e-5)


def test_a_replica_is_trained_as_plain_adam_would_train_it() -> None:
    budget = Budget(steps=20, batch=10, evaluations=1)
    network, trainer = toy_trainer(budget, lambda network: torch.zeros(2), [0, 1], clip_norm=1.5)
    network.scale = torch.tensor([1.0, 40.0])
    trainer.run()
    for replica in range(2):
        own = nn.Parameter(torch.zeros(2))
        optimiser = torch.optim.Adam([own], lr=0.1)
        for _ in range(18):
            optimiser.zero_grad()
            (network.scale[replica] * ((own - replica - 1) ** 2).sum()).backward()
            nn.utils.clip_grad_norm_([own], 1.5)
            optimiser.step()
        torch.testing.assert_close(network.weight[replica], own)


def brute_force_error(
    selection: HeldOutError, validation: Incomplete, imputed: Sequence[Imputed], train: Incomplete
) -> list[float]:
    """Return the relative error of each replica's imputation of each fold, attribute by attribute in NumPy."""
    schema, table = validation.schema, table_behind(validation)
    order, result = selection.encoder.layout.order.tolist(), []
    for replica in range(validation.replicas):
        rows, train_rows = rows_behind(validation)[replica], rows_behind(train)[replica]
        numeric = categorical = 0
        members: dict[str, int] = {}
        ratios = []
        for index in order:
            attribute, known = schema.attributes[index], train.observed[replica][:, index]
            chosen = [fold.held_out.observed[replica][:, index] for fold in validation.folds]
            column = list(schema.scalar_indices).index(index) if attribute.kind in ("numeric", "categorical") else -1
            if column >= 0:
                truth, seen = table.scalars[rows, column], table.scalars[train_rows, column][known]
            else:
                raw = table.blocks[attribute.name].astype(np.float64) / (255 if attribute.kind == "image" else 1)
                truth, seen = raw[rows], raw[train_rows][known]
            errors: list[FloatArray] = []
            for shown, part in zip(chosen, imputed, strict=True):
                if attribute.kind == "numeric":
                    guess = part.numeric[replica, :, numeric].numpy() * seen.std() + seen.mean()
                    errors.append(((truth - guess) ** 2)[shown])
                elif attribute.kind == "categorical":
                    guess = part.categorical[replica, :, :, categorical].numpy().argmax(-1)
                    errors.append((truth != guess)[shown].astype(np.float64))
                else:
                    place, member = {"image": 0, "features": 1}[attribute.kind], members.get(attribute.kind, 0)
                    guess = part.blocks[place][replica, :, member].numpy().astype(np.float64)
                    scale = 1.0
                    if attribute.kind == "features":
                        guess, scale = guess * seen.std(0) + seen.mean(0), seen.std(0)
                    errors.append((((truth - guess) / scale) ** 2)[shown].mean(1))
            mean = np.concatenate(errors).mean() if any(map(len, errors)) else None
            if attribute.kind == "numeric":
                numeric += 1
                floor, bound = seen.std(), 0.1 * np.ptp(seen)
                ratio = None if mean is None or not floor else np.sqrt(mean) / max(floor, bound)
            elif attribute.kind == "categorical":
                categorical += 1
                floor = 1 - np.bincount(seen.astype(int)).max() / len(seen)
                ratio = None if mean is None or not floor else mean / max(floor, 0.05)
            else:
                members[attribute.kind] = members.get(attribute.kind, 0) + 1
                floor = np.sqrt(((seen - seen.mean(0)) ** 2).mean()) if attribute.kind == "image" else 1.0
                ratio = None if mean is None else np.sqrt(mean) / floor
            if ratio is not None:
                ratios.append(float(ratio))
        result.append(float(np.mean(ratios)))
    return result


def selection_on(views: Sequence[Incomplete]) -> HeldOutError:
    """Return the selection rule on the validation view."""
    return HeldOutError(views[1], Encoder(views[0], Layout(views[0].schema), "standard", "cpu"), "cpu")


def random_imputation(selection: HeldOutError, rows: int, replicas: int, seed: int = 3) -> Imputed:
    """Return arbitrary expectations for every entry."""
    layout, draw = selection.encoder.layout, generator(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(replicas, rows, *shape, generator=draw)

    blocks = tuple(numbers(len(g.names), g.width) for g in layout.block_groups)
    logits = numbers(layout.max_levels, layout.categorical).masked_fill(layout.no_level, -math.inf)
    return Imputed(numbers(layout.numeric), torch.softmax(logits, -2), blocks)


def random_imputations(selection: HeldOutError, validation: Incomplete) -> list[Imputed]:
    """Return one for each fold of a validation view."""
    return [
        random_imputation(selection, len(validation), validation.replicas, seed)
        for seed in range(len(validation.folds))
    ]


def chunks_of(selection: HeldOutError, folds: Sequence[Imputed]) -> list[Imputed]:
    """Return the rows of an imputation of all rows of each fold that the selection rule asks for, chunk by chunk."""

    def chosen(whole: Tensor, index: Tensor) -> Tensor:
        return torch.stack([part[rows] for part, rows in zip(whole, index, strict=True)])

    return [
        Imputed(
            chosen(folds[chunk.fold].numeric, chunk.index),
            chosen(folds[chunk.fold].categorical, chunk.index),
            tuple(chosen(block, chunk.index) for block in folds[chunk.fold].blocks),
        )
        for chunk in selection.chunks
    ]


@pytest.mark.parametrize("scaling", ["standard", "minmax"])
def test_the_relative_error_is_the_brute_force_one_and_the_truth_scores_zero(scaling: str) -> None:
    table = dependent_table(140, numbers=2, levels=(3, 2), images=2, features=1)
    views = split_views(table, replicas=2, ratio=0.3)
    validation = views[1]
    assert len(validation.folds) == 2
    selection = selection_on(views)
    assert (selection.scales > 0).all()
    imputed = random_imputations(selection, validation)
    expected = brute_force_error(selection, validation, imputed, views[0])
    np.testing.assert_allclose(selection.relative_error(chunks_of(selection, imputed)), expected, rtol=1e-4)

    encoder = Encoder(views[0], Layout(table.schema), scaling, "cpu")
    scaled = HeldOutError(validation, encoder, "cpu")
    index = torch.arange(len(validation)).expand(2, -1)
    truths = [encoder.encode(fold.held_out.tensors("cpu").batch(index)) for fold in validation.folds]
    perfect = [Imputed(truth.numeric, truth.categorical, truth.blocks) for truth in truths]
    assert scaled.relative_error(chunks_of(scaled, perfect)).tolist() == [0.0, 0.0]


def test_the_floor_scores_about_one() -> None:
    views = split_views(dependent_table(4000, numbers=2, levels=(3, 2)), ratio=0.3)
    selection, rows = selection_on(views), len(views[1])
    floor = selection.encoder.floor
    as_floor = Imputed(floor.numeric.expand(-1, rows, -1), floor.categorical.expand(-1, rows, -1, -1), ())
    assert float(selection.relative_error(chunks_of(selection, [as_floor] * 2))) == pytest.approx(1, abs=0.05)


def test_attributes_without_anything_to_judge_by_do_not_count() -> None:
    table = dependent_table(140, numbers=3, levels=(3,))
    # One constant column, and one that is never held out in validation.
    scalars = table.scalars.copy()
    scalars[:, 1] = 7.0
    table = Table(table.schema, scalars, {}, table.present)
    train, validation, test = split_views(table, ratio=0.3)
    folds = folds_behind(validation)
    assert folds is not None
    folds = folds.copy()
    folds[:, :, 3] = -1
    views = (train, Incomplete(table, rows_behind(validation), validation.observed, folds), test)
    selection = selection_on(views)
    # In group order: three numbers, of which the second column of the table is constant, then the category.
    assert (selection.scales[0] > 0).tolist() == [False, True, True, True]
    assert (selection.entries[0] > 0).tolist() == [True, True, False, True]
    imputed = random_imputations(selection, views[1])
    got = float(selection.relative_error(chunks_of(selection, imputed)))
    assert got == pytest.approx(brute_force_error(selection, views[1], imputed, train)[0], rel=1e-4)


def test_rows_come_in_chunks_and_errors_add_up_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = row_chunks(2 * ROW_CHUNK + 5, 3, "cpu")
    assert [tuple(chunk.shape) for chunk in chunks] == [(3, ROW_CHUNK), (3, ROW_CHUNK), (3, 5)]
    assert torch.equal(torch.cat(chunks, 1)[2], torch.arange(2 * ROW_CHUNK + 5))
    views = split_views(dependent_table(140, numbers=2, levels=(3,)), replicas=2)
    selection = selection_on(views)
    imputed = random_imputations(selection, views[1])
    whole = selection.relative_error(chunks_of(selection, imputed))
    monkeypatch.setattr("bench.neural.engine.selection.ROW_CHUNK", 10)
    smaller = selection_on(views)
    assert [chunk.index.shape[1] for chunk in smaller.chunks] == [10, 10, 8] * 2
    torch.testing.assert_close(smaller.relative_error(chunks_of(smaller, imputed)), whole)


def test_of_images_only_rows_with_held_out_entries_are_imputed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.neural.engine.selection.HELD_OUT_CHUNK", 8)
    views = split_views(dependent_table(300, images=2), replicas=3, ratio=0.3)
    selection, validation = selection_on(views), views[1]
    for number, fold in enumerate(validation.folds):
        with_held_out: BoolArray = np.any(fold.held_out.observed, axis=2)
        positions = torch.cat([chunk.index for chunk in selection.chunks if chunk.fold == number], dim=1)
        largest = int(with_held_out.sum(axis=1).max())
        assert largest < len(validation) / 2 and positions.shape == (3, -(-largest // 8) * 8)
        for replica, own in enumerate(positions.tolist()):
            assert len(set(own)) == len(own)
            needed = np.flatnonzero(with_held_out[replica]).tolist()
            assert own[: len(needed)] == needed
    imputed = random_imputations(selection, validation)
    got = selection.relative_error(chunks_of(selection, imputed))
    np.testing.assert_allclose(got, brute_force_error(selection, validation, imputed, views[0]), rtol=1e-4)
    # A replica by itself imputes the same rows in the same chunks, as far as it has any.
    for replica in range(3):
        alone = selection_on(one_replica(views, replica))
        for number in range(2):
            pairs = [[chunk.index for chunk in rule.chunks if chunk.fold == number] for rule in (alone, selection)]
            for own_rows, in_stack in zip(*pairs, strict=False):
                assert torch.equal(own_rows[0], in_stack[replica])


def test_only_held_out_entries_decide_which_epoch_is_kept(vsae: VSAE) -> None:
    table = dependent_table(110, numbers=2, levels=(3,))
    train, validation, test = split_views(table)
    method, expected = trained(vsae, (train, validation, test), [3], WHOLE)
    # Hidden truth of every view is replaced, and nothing changes.
    other = poisoned(table, revealed_by((train, validation, test), table), seed=9)
    poisoned_views = [on_table(view, other) for view in (train, validation, test)]
    same, values = trained(vsae, poisoned_views, [3], WHOLE)
    assert same.history.validation == method.history.validation
    assert_same_values(values[0], expected[0])
    # Held-out truth is what counts: with other values there, the curve is another one.
    scalars = table.scalars.copy()
    rows, columns = np.nonzero(validation.folds[0].held_out.observed[0])
    scalars[rows_behind(validation)[0][rows], columns] = scalars[rows_behind(validation)[0][rows[::-1]], columns]
    shuffled = Table(table.schema, scalars, {}, table.present)
    changed, _ = trained(vsae, [on_table(view, shuffled) for view in (train, validation, test)], [3], WHOLE)
    assert changed.history.validation != method.history.validation
    # It is never trained on: the loss is the same to the bit.
    assert changed.history.loss == method.history.loss
