"""A training that is recorded and replayed is the training itself; what cannot be, or differs, is done as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from neural_views import dependent_table, split_views
from recorded import RecordedOperations
from torch import Tensor

from bench.api import Context, Table
from bench.neural import training
from bench.neural.blocks import PackedRows
from bench.neural.method import NeuralStackedMethod
from bench.neural.replay import Recorder, Replays, recorder_for
from bench.presets import budget_for
from bench.registry import Registry, load

METHODS = ("ae", "vae", "cvae", "miwae", "mvae", "hivae", "not_miwae", "vaeac", "gain", "misgan", "vsae", "classifier")
TABLES: dict[str, Callable[[], Table]] = {
    "scalars": lambda: dependent_table(110, numbers=3, levels=(3, 2)),
    "blocks": lambda: dependent_table(110, levels=(4,), images=2, features=1, pixels=36),
}
SEEDS = (3, 4)


def fused_adam(groups: Any, learning_rate: Any) -> torch.optim.Adam:
    """Return Adam as a GPU has it: all parameters fused, the number of steps a tensor."""
    rated = [{**group, "lr": training.largest_rate(group.get("lr", learning_rate))} for group in groups]
    return torch.optim.Adam(rated, fused=True)


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imagine all rows: how many a CPU packs depends on the batch, and so would the operations; Adam is fused."""
    monkeypatch.setattr(PackedRows, "hidden", classmethod(lambda cls, observed, width: cls(None, observed.shape[1])))
    monkeypatch.setattr(training, "stacked_adam", fused_adam)
    monkeypatch.setattr(training, "STEPS_A_REPLAY", 3)


def trained(name: str, kind: str, recorder: Recorder | None, patch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """Return a method after 32 steps in eight epochs, each of three steps and one; the warm phase ends amid three."""
    views = split_views(TABLES[kind](), replicas=2)
    patch.setattr(training, "recorder_for", lambda device: recorder)
    made = load(Registry.scan().method(name))
    budget = replace(budget_for("smoke", views[0].schema.kinds), steps=32, batch=16, warm_fraction=0.4, evaluations=4)
    fewer = {"critic_steps": 2} if name == "misgan" else {}
    method = made({**made.parameter_sets["default"], **fewer, **changes}, Context(budget))
    assert isinstance(method, NeuralStackedMethod)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.fit_many(views[0], views[1], SEEDS)
    return method


def state_of(method: Any) -> list[Tensor]:
    """Return what a method learned."""
    return [*method._network.parameters(), *method._network.buffers()]


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", METHODS)
def test_a_replayed_training_has_the_same_bits(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = Registry.scan().method(name)
    if not set(TABLES[kind]().schema.kinds) <= set(info.kinds):
        pytest.skip(f"{name} takes {', '.join(info.kinds)}")
    recorder = RecordedOperations()
    plain, replayed = (trained(name, kind, own, monkeypatch) for own in (None, recorder))
    for one, other in zip(state_of(plain), state_of(replayed), strict=True):
        assert torch.equal(one, other)
    assert replayed.history.validation == plain.history.validation
    assert torch.allclose(torch.tensor(replayed.history.loss), torch.tensor(plain.history.loss), rtol=1e-5, atol=1e-5)
    assert recorder.recordings >= 1 and recorder.replays > recorder.recordings


@pytest.mark.parametrize("changes", [{"input_dropout": 0.3}, {"input_dropout": [0.3, 0.1], "kl_weight": [0.5, 0.2]}])
def test_so_has_one_of_tuned_parameters(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = RecordedOperations()
    plain, replayed = (trained("vsae", "scalars", own, monkeypatch, **changes) for own in (None, recorder))
    assert all(torch.equal(one, other) for one, other in zip(state_of(plain), state_of(replayed), strict=True))
    assert recorder.replays > recorder.recordings >= 1


def test_only_a_gpu_records() -> None:
    assert recorder_for("cpu") is None and recorder_for("meta") is None
    assert recorder_for("cuda") is not None


# What may be replayed


class Walk:
    """A number that some work moves, and what moves it, as it is and recorded."""

    def __init__(self, recorder: Recorder | None) -> None:
        self.place = torch.zeros(1)
        self.done = 0
        self.replays = Replays(recorder, lambda: [self.place])

    def step(self, length: float, work: Callable[[tuple[Tensor, ...]], Tensor] | None = None) -> float:
        return float(self.replays.run("step", (torch.tensor([length]),), work or self.move))

    def move(self, inputs: tuple[Tensor, ...]) -> Tensor:
        self.done += 1
        self.place += inputs[0]
        return self.place * 2


def test_work_is_done_as_it_is_then_recorded_then_replayed_with_its_own_inputs() -> None:
    walk = Walk(RecordedOperations())
    assert [walk.step(length) for length in (1.0, 2.0, 4.0, 8.0)] == [2.0, 6.0, 14.0, 30.0]
    assert float(walk.place) == 15.0
    assert walk.done == 3  # the first time, and the second both as it is and recorded
    assert walk.replays.recording


def test_results_of_earlier_replays_stay_as_they_are() -> None:
    walk = Walk(RecordedOperations())
    results = [walk.replays.run("step", (torch.tensor([1.0]),), walk.move) for _ in range(4)]
    assert [float(result) for result in results] == [2.0, 4.0, 6.0, 8.0]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda walk, inputs: walk.move((inputs[0] * float(inputs[0].sum()),)), "cannot tell a value"),
        (lambda walk, inputs: walk.move((inputs[0] + 0 * torch.rand(1),)), "cannot draw at random"),
        # What Python alone decides stays as it was when it was recorded.
        (lambda walk, inputs: walk.move((inputs[0] * (walk.done + 1),)), "a replay gave"),
    ],
)
def test_what_cannot_be_recorded_or_differs_is_done_as_it_is(
    fault: Callable[[Walk, tuple[Tensor, ...]], Tensor], reason: str
) -> None:
    lengths = (1.0, 2.0, 4.0, 8.0)
    plain, walk = Walk(None), Walk(RecordedOperations())
    expected = [plain.step(length, lambda inputs: fault(plain, inputs)) for length in lengths[:2]]
    with pytest.warns(UserWarning, match=reason):
        found = [walk.step(length, lambda inputs: fault(walk, inputs)) for length in lengths[:2]]
    assert found == expected and torch.equal(walk.place, plain.place)
    assert not walk.replays.recording
    before = walk.done
    walk.step(4.0, lambda inputs: fault(walk, inputs))
    assert walk.done == before + 1


class Forgetful(RecordedOperations):
    """A recorder whose replays do nothing."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        _, result = super().record(work)
        return (lambda: None), result


def test_a_training_whose_replays_do_nothing_goes_on_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained("vae", "scalars", None, monkeypatch)
    with pytest.raises(UserWarning, match="not replayed, and slower for it"):
        trained("vae", "scalars", Forgetful(), monkeypatch)
    monkeypatch.setattr(warnings, "simplefilter", lambda action: warnings.filterwarnings("ignore"))
    replayed = trained("vae", "scalars", Forgetful(), monkeypatch)
    assert all(torch.equal(one, other) for one, other in zip(state_of(plain), state_of(replayed), strict=True))
