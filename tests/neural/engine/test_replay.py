"""A training that is recorded and replayed is the training itself; what cannot be, or differs, is done as it is."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.api import Budget, Context, Table
from bench.experiment.presets import budget_for
from bench.neural.engine import trainer as training
from bench.neural.engine.bank import reset_parameters
from bench.neural.engine.optimiser import largest_rate
from bench.neural.engine.packed import PackedRows
from bench.neural.engine.probe import dry_run
from bench.neural.engine.replay import REPLAY_VARIABLE, CudaGraphs, Recorder, Replays, Tensors, Traces, Work, recorders
from bench.neural.engine.schedule import History
from bench.neural.method import NeuralStackedMethod
from bench.neural.model import Network
from bench.neural.rows import Layout, Rows
from bench.plugins.registry import Registry, load
from tests.neural_views import blank_rows, dependent_table, generator, split_views, step_noise
from tests.recorded import RecordedOperations

METHODS = ("ae", "vae", "cvae", "miwae", "mvae", "hivae", "not_miwae", "vaeac", "gain", "misgan", "vsae", "classifier")
TABLES: dict[str, Callable[[], Table]] = {
    "scalars": lambda: dependent_table(110, numbers=3, levels=(3, 2)),
    "blocks": lambda: dependent_table(110, levels=(4,), images=2, features=1, pixels=36),
}
SEEDS = (3, 4)


def fused_adam(groups: Any, learning_rate: Any) -> torch.optim.Adam:
    """Return Adam as a GPU has it: all parameters fused, the number of steps a tensor."""
    rated = [{**group, "lr": largest_rate(group.get("lr", learning_rate))} for group in groups]
    return torch.optim.Adam(rated, fused=True)


class Counted(Traces):
    """What records on a CPU, counting."""

    def __init__(self) -> None:
        self.recordings = self.replays = 0

    def record(self, work: Work, inputs: Tensors) -> Work:
        replay = super().record(work, inputs)
        self.recordings += 1

        def counted(given: Tensors) -> Tensors:
            self.replays += 1
            return replay(given)

        return counted


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imagine all rows: how many a CPU packs depends on the batch, and so would the operations; Adam is fused."""
    monkeypatch.setattr(PackedRows, "hidden", classmethod(lambda cls, observed, width: cls(None, observed.shape[1])))
    monkeypatch.setattr(training, "stacked_adam", fused_adam)
    monkeypatch.setattr(training, "STEPS_PER_REPLAY", 3)


def trained(
    name: str,
    kind: str,
    patch: pytest.MonkeyPatch,
    steps: Recorder | None = None,
    gradients: Recorder | None = None,
    **changes: Any,
) -> Any:
    """Return a method after 32 steps in eight epochs, each of three steps and one; the warm phase ends amid three."""
    views = split_views(TABLES[kind](), replicas=2)
    patch.setattr(training, "recorders", lambda device, same_operations: (steps, gradients))
    patch.setattr(training, "STEPS_WORTH_RECORDING", 1)
    made = load(Registry.scan().method(name))
    budget = replace(budget_for("smoke", views[0].schema.kinds), steps=32, batch=16, warm_fraction=0.4, evaluations=4)
    fewer = {"critic_steps": 2} if name == "misgan" else {}
    method = made({**made.parameter_sets["default"], **fewer, **changes}, Context(budget))
    assert isinstance(method, NeuralStackedMethod)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.fit_many(views[0], views[1], SEEDS)
    return method


def require_kinds(name: str, kind: str) -> None:
    """Skip if a method does not take a table."""
    takes = Registry.scan().method(name).kinds
    if not set(TABLES[kind]().schema.kinds) <= set(takes):
        pytest.skip(f"{name} takes {', '.join(takes)}")


def network_of(name: str, kind: str) -> Network:
    """Return the untrained network of a method for a table."""
    made = load(Registry.scan().method(name))
    table = TABLES[kind]()
    method = made(None, Context(budget_for("smoke", table.schema.kinds)))
    assert isinstance(method, NeuralStackedMethod)
    return method.build(Layout(table.schema), 1)


def state_of(method: Any) -> list[Tensor]:
    """Return what a method learned."""
    return [*method.model.parameters(), *method.model.buffers()]


def same_bits(plain: Any, replayed: Any) -> None:
    """Assert that two trainings ended alike, to the bit."""
    for one, other in zip(state_of(plain), state_of(replayed), strict=True):
        assert torch.equal(one, other)
    assert replayed.history.validation == plain.history.validation
    # Losses of several steps are summed in another order.
    losses = torch.tensor(replayed.history.loss), torch.tensor(plain.history.loss)
    assert torch.allclose(*losses, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", METHODS)
def test_a_training_replayed_as_on_a_gpu_has_the_same_bits(
    name: str, kind: str, monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: None
) -> None:
    require_kinds(name, kind)
    recorder = RecordedOperations()
    same_bits(trained(name, kind, monkeypatch), trained(name, kind, monkeypatch, steps=recorder))
    assert recorder.recordings >= 1 and recorder.replays > recorder.recordings


@pytest.mark.parametrize("name", METHODS)
def test_a_training_with_recorded_gradients_has_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_kinds(name, "scalars")
    recorder = Counted()
    same_bits(trained(name, "scalars", monkeypatch), trained(name, "scalars", monkeypatch, gradients=recorder))
    assert recorder.recordings >= 1 and recorder.replays > 10 * recorder.recordings


TUNED = [{"input_dropout": 0.3}, {"input_dropout": [0.3, 0.1], "kl_weight": [0.5, 0.2], "learning_rate": [1e-3, 3e-3]}]


@pytest.mark.parametrize("changes", TUNED)
def test_so_has_one_of_tuned_parameters(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: None
) -> None:
    plain = trained("vsae", "scalars", monkeypatch, **changes)
    same_bits(plain, trained("vsae", "scalars", monkeypatch, steps=RecordedOperations(), **changes))
    same_bits(plain, trained("vsae", "scalars", monkeypatch, gradients=Traces(), **changes))


@pytest.mark.parametrize("name", ["vsae", "hivae", "gain"])
def test_so_has_one_whose_noise_comes_in_blocks_of_different_lengths(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch has blocks of three steps and of one; after the warm phase, the latter is the first to be recorded."""
    sizes = step_noise(network_of(name, "scalars"), 16).values()
    monkeypatch.setattr(training, "NOISE_FLOATS", 3 * sum(math.prod(shape) for shape in sizes))
    recorder = Counted()
    same_bits(trained(name, "scalars", monkeypatch), trained(name, "scalars", monkeypatch, gradients=recorder))
    assert recorder.replays > recorder.recordings


def test_what_is_recorded_where() -> None:
    for same_operations in (True, False):
        steps, gradients = recorders("cuda", same_operations)
        assert isinstance(steps, CudaGraphs) and gradients is None
        assert recorders("meta", same_operations) == (None, None)
        steps, gradients = recorders("cpu", same_operations)
        assert steps is None and isinstance(gradients, Traces) is same_operations


@pytest.mark.parametrize("kind", TABLES)
def test_images_and_features_are_not_recorded_on_a_cpu(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def noted(device: str, same_operations: bool) -> tuple[None, None]:
        asked.append(same_operations)
        return None, None

    views = split_views(TABLES[kind](), replicas=2)
    monkeypatch.setattr(training, "recorders", noted)
    load(Registry.scan().method("vae"))(None, Context(Budget(steps=1, batch=8))).fit_many(views[0], views[1], SEEDS)
    assert asked == [kind == "scalars"]


def test_recording_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, off in (("off", True), ("OFF", True), ("", False), ("on", False)):
        monkeypatch.setenv(REPLAY_VARIABLE, value)
        for device in ("cpu", "cuda"):
            assert (recorders(device) == (None, None)) is off


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", [name for name in METHODS if name != "classifier"])
def test_the_steps_of_every_method_are_found_to_be_steady(name: str, kind: str) -> None:
    require_kinds(name, kind)
    network = network_of(name, kind)
    reset_parameters(network, [generator(1)])
    before, state = [tensor.clone() for tensor in network.state_dict().values()], torch.get_rng_state()
    assert dry_run(network, lambda: Rows(blank_rows(network, 16))).steady
    assert all(torch.equal(one, other) for one, other in zip(network.state_dict().values(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in network.parameters())


def remembers(network: Any) -> None:
    """Count a network's losses in an attribute."""
    network.steps = getattr(network, "steps", 0) + 1


def appends(network: Any) -> None:
    network.__dict__.setdefault("losses", []).append(1.0)


def replaces(network: Any) -> None:
    network.last = torch.zeros(1)


def numpy_words() -> list[int]:
    """Return the words of NumPy's global generator, and how many of them are used up."""
    state = np.random.get_state(legacy=False)
    assert isinstance(state, dict)
    return [*state["state"]["key"].tolist(), state["state"]["pos"]]


@pytest.mark.parametrize(
    "fault",
    [
        remembers,
        appends,
        replaces,
        lambda network: torch.rand(1),
        lambda network: np.random.rand(),
        lambda network: random.random(),
    ],
)
def test_a_step_that_remembers_or_draws_on_its_own_is_not_recorded(
    fault: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = network_of("vae", "scalars")
    loss = network.loss
    state, numpy_state = torch.get_rng_state(), numpy_words()

    def faulty(*given: Any) -> Tensor:
        fault(network)
        return loss(*given)

    monkeypatch.setattr(network, "loss", faulty)
    assert not dry_run(network, lambda: Rows(blank_rows(network, 16))).steady
    # And what it drew is put back.
    assert torch.equal(torch.get_rng_state(), state)
    assert numpy_words() == numpy_state


def test_a_training_whose_steps_remember_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made, recorder = load(Registry.scan().method("vae")), Counted()
    build = made.build

    def counting(method: Any, layout: Layout, replicas: int) -> Any:
        network = build(method, layout, replicas)
        loss = network.loss

        def counted(*given: Any) -> Any:
            remembers(network)
            return loss(*given)

        network.loss = counted
        return network

    monkeypatch.setattr(made, "build", counting)
    trained("vae", "scalars", monkeypatch, gradients=recorder)
    assert recorder.recordings == 0


def test_a_short_training_records_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Counted()
    monkeypatch.setattr(training, "recorders", lambda device, same_operations: (None, recorder))
    views = split_views(TABLES["scalars"](), replicas=2)
    made = load(Registry.scan().method("vae"))
    usual = budget_for("smoke", views[0].schema.kinds)
    for steps, warm, recorded in ((399, 0.0, 0), (400, 0.0, 1), (440, 0.1, 0), (450, 0.1, 1)):
        # An epoch has four steps, so that 399 are 396.
        budget = replace(usual, steps=steps, batch=16, warm_fraction=warm, evaluations=1)
        made(None, Context(budget)).fit_many(views[0], views[1], SEEDS)
        assert (recorder.recordings, recorder.replays > 300) == (recorded, recorded == 1), steps
        recorder.recordings = recorder.replays = 0


# What may be replayed


class Walk:
    """A number that some work moves, and what moves it, as it is and recorded."""

    def __init__(self, recorder: Recorder | None) -> None:
        self.place = torch.zeros(1)
        self.done = 0
        self.replays = Replays(recorder, lambda: [self.place])

    def step(self, length: float, work: Work | None = None) -> float:
        return float(self.replays.run("step", (torch.tensor([length]),), work or self.move)[0])

    def move(self, inputs: Tensors) -> Tensors:
        self.done += 1
        self.place += inputs[0]
        return (self.place * 2,)


RECORDERS = [RecordedOperations, Traces]


@pytest.mark.parametrize("recorder", RECORDERS)
def test_work_is_done_as_it_is_then_recorded_then_replayed_with_its_own_inputs(
    recorder: Callable[[], Recorder],
) -> None:
    walk = Walk(recorder())
    assert [walk.step(length) for length in (1.0, 2.0)] == [2.0, 6.0]
    done = walk.done
    assert [walk.step(length) for length in (4.0, 8.0)] == [14.0, 30.0]
    assert float(walk.place) == 15.0
    assert walk.done == done
    assert walk.replays.recording


@pytest.mark.parametrize("recorder", RECORDERS)
def test_results_of_earlier_replays_stay_as_they_are(recorder: Callable[[], Recorder]) -> None:
    walk = Walk(recorder())
    results = [walk.replays.run("step", (torch.tensor([1.0]),), walk.move)[0] for _ in range(4)]
    assert [float(result) for result in results] == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize("recorder", RECORDERS)
@pytest.mark.parametrize(
    "fault",
    [
        lambda walk, inputs: walk.move((inputs[0] * float(inputs[0].sum()),)),
        # What Python alone decides stays as it was when it was recorded.
        lambda walk, inputs: walk.move((inputs[0] * (walk.done + 1),)),
    ],
)
def test_what_cannot_be_recorded_or_differs_is_done_as_it_is(
    fault: Callable[[Walk, Tensors], Tensors], recorder: Callable[[], Recorder]
) -> None:
    lengths = (1.0, 2.0, 4.0, 8.0)
    plain, walk = Walk(None), Walk(recorder())
    expected = [plain.step(length, lambda inputs: fault(plain, inputs)) for length in lengths[:2]]
    with pytest.warns(UserWarning, match="not replayed, and slower for it"):
        found = [walk.step(length, lambda inputs: fault(walk, inputs)) for length in lengths[:2]]
    assert found == expected and torch.equal(walk.place, plain.place)
    assert not walk.replays.recording
    before = walk.done
    walk.step(4.0, lambda inputs: fault(walk, inputs))
    assert walk.done == before + 1


def test_a_graph_draws_nothing_at_random() -> None:
    walk = Walk(RecordedOperations())
    with pytest.warns(UserWarning, match="a recording cannot draw at random"):
        for length in (1.0, 2.0):
            walk.step(length, lambda inputs: walk.move((inputs[0] + 0 * torch.rand(1),)))
    assert float(walk.place) == 3.0


class Blurred(Traces):
    """A recorder whose replays are off by a hundredth, or not a number."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def record(self, work: Work, inputs: Tensors) -> Work:
        replay = super().record(work, inputs)
        return lambda given: tuple(result * self.factor for result in replay(given))


@pytest.mark.parametrize("factor", [1.01, math.nan])
@pytest.mark.parametrize("length", [1.0, 1e-6])
def test_small_results_are_compared_as_closely_as_large_ones(factor: float, length: float) -> None:
    walk = Walk(Blurred(factor))
    with pytest.warns(UserWarning, match="a replay gave other results than the step itself"):
        assert [walk.step(length) for _ in range(3)] == pytest.approx([2 * length, 4 * length, 6 * length])


def test_a_trainer_goes_when_nobody_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the optimiser's moments and the best state: waiting for the garbage collector would hold them on."""
    trainers: list[weakref.ref[training.Trainer]] = []
    run = training.Trainer.run

    def noted(trainer: training.Trainer) -> History:
        trainers.append(weakref.ref(trainer))
        return run(trainer)

    monkeypatch.setattr(training.Trainer, "run", noted)
    gc.disable()
    try:
        trained("vae", "scalars", monkeypatch, gradients=Traces())
        assert [trainer() for trainer in trainers] == [None]
    finally:
        gc.enable()


def test_no_garbage_is_collected_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph of a training that is over, freed in the middle of a capture, would spoil it."""

    class Graph:
        """Stands in for what needs a GPU."""

        def pool(self) -> int:
            return 1

        def replay(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, pool: contextlib.nullcontext())
    collecting = []

    def work(inputs: Tensors) -> Tensors:
        collecting.append(gc.isenabled())
        if len(collecting) == 2:
            raise RuntimeError("cannot be recorded")
        return inputs

    recorder = CudaGraphs()
    recorder.record(work, (torch.zeros(1),))
    with pytest.raises(RuntimeError, match="cannot be recorded"):
        recorder.record(work, (torch.zeros(1),))
    assert collecting == [False, False] and gc.isenabled()


def test_without_torchscript_work_is_done_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(Traces())
    monkeypatch.delattr(torch.jit, "trace")
    assert walk.step(1.0) == 2.0
    with pytest.warns(UserWarning, match=r"slower for it: torch\.jit\.trace is not there"):
        assert walk.step(2.0) == 6.0
    assert walk.step(4.0) == 14.0 and walk.done == 3


class Forgetful(RecordedOperations):
    """A recorder whose replays do nothing."""

    def record(self, work: Work, inputs: Tensors) -> Work:
        super().record(work, inputs)
        return lambda given: tuple(torch.zeros(2) for _ in given[:1])


def test_a_training_whose_replays_do_nothing_goes_on_as_it_is(
    monkeypatch: pytest.MonkeyPatch, as_on_a_gpu: None
) -> None:
    plain = trained("vae", "scalars", monkeypatch)
    with pytest.raises(UserWarning, match="a replay gave other results than the step itself"):
        trained("vae", "scalars", monkeypatch, steps=Forgetful())
    monkeypatch.setattr(warnings, "simplefilter", lambda action: warnings.filterwarnings("ignore"))
    same_bits(plain, trained("vae", "scalars", monkeypatch, steps=Forgetful()))
