"""What a GPU would do, on torch's ``meta`` device: tensors with a shape and no values.

It refuses to mix devices and to tell a value. An epoch that passes can be queued on a GPU without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.api import Context, Incomplete, Table
from bench.experiment.presets import budget_for
from bench.neural.engine import noise as noises
from bench.neural.engine import trainer as training
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import DrawnNoise
from bench.neural.engine.selection import HeldOutError
from bench.neural.engine.trainer import Trainer
from bench.neural.model import LatentModel, Network
from bench.neural.rows import Layout, Rows
from bench.plugins.registry import Registry, load
from tests.neural_views import dependent_table, split_views

METHODS = ("ae", "vae", "cvae", "miwae", "mvae", "hivae", "not_miwae", "vaeac", "gain", "misgan", "vsae")
#: Tables of numbers and categories, and of images, features and a label.
TABLES: dict[str, Callable[[], Table]] = {
    "scalars": lambda: dependent_table(110, numbers=3, levels=(3, 2)),
    "blocks": lambda: dependent_table(110, levels=(4,), images=2, features=1, pixels=36),
}
DEVICE, SEEDS = "meta", (3, 4)
#: What nothing is drawn from here.
NOISE = DrawnNoise([torch.Generator(), torch.Generator()], DEVICE)


def blank_noise(shape: tuple[int, ...], generators: Sequence[Any], device: str) -> Tensor:
    """Return noise of the right shape and device: this device has no generators."""
    return torch.empty(len(generators), *shape, device=device)


def plain_adam(groups: Any, learning_rate: Any) -> torch.optim.Adam:
    """Return Adam as torch writes it: fused Adam does not know this device."""
    return torch.optim.Adam([dict(group) for group in groups], lr=learning_rate, capturable=False, foreach=False)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the device, on which noise has no values."""
    for name in METHODS:
        # Loaded now, or a plug-in would import what is replaced here, and keep it.
        load(Registry.scan().method(name))
    for module in (training, noises):
        monkeypatch.setattr(module, "replica_noise", blank_noise)
    generators = noises.replica_generators
    monkeypatch.setattr(training, "replica_generators", lambda stream, seeds, device="cpu": generators(stream, seeds))
    monkeypatch.setattr(training, "stacked_adam", plain_adam)
    return DEVICE


def on_device(
    name: str, views: Sequence[Incomplete], device: str, monkeypatch: pytest.MonkeyPatch, **changes: Any
) -> tuple[Network, Trainer]:
    """Return a method's network and its trainer, which chooses the epoch by imputing."""
    made = load(Registry.scan().method(name))
    train, validation, _ = views
    budget = replace(budget_for("smoke", train.schema.kinds), steps=6, batch=32)
    method = made({**made.parameter_sets["default"], **changes}, Context(budget, device=device))
    method.parameters = method.parameters_per_replica(train.replicas)
    layout = Layout(train.schema)
    network = method.build(layout, train.replicas)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, -0.1, 0.1)
    encoder = Encoder(train, layout, method.parameters.get("scaling", "standard"), device)
    layout.to(device)
    network.to(device)
    for module in network.modules():
        # What a network builds from its layout lies where that does.
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor):
                setattr(module, attribute, value.to(device))
    selection = HeldOutError(validation, encoder, device)
    chunks, _ = selection.chunks, selection.scales + selection.entries

    def validate() -> Tensor:
        rows = (Rows(encoder.encode(chunk.shown.batch(chunk.index))) for chunk in chunks)
        return selection.relative_error(network.impute(own, 3, NOISE)[0] for own in rows)

    parameters, train_rows = method.parameters, train.tensors(device)
    clip_norm = parameters.get("clip_norm")
    return network, Trainer(network, train_rows, encoder, validate, SEEDS, method.context, clip_norm, 1e-3)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", METHODS)
def test_an_epoch_and_its_choice_stay_on_the_device_and_never_wait_for_it(
    name: str, kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = split_views(TABLES[kind](), replicas=2)
    takes = Registry.scan().method(name).kinds
    if not set(views[0].schema.kinds) <= set(takes):
        pytest.skip(f"{name} takes {', '.join(takes)}")
    network, trainer = on_device(name, views, device, monkeypatch)
    for epoch in (1, 2):
        trainer.run_epoch()
        trainer.epoch = epoch
        trainer.keep_best()
    # The second epoch is after the warm phase.
    assert trainer.next_step == 2 * trainer.schedule.steps_per_epoch > trainer.schedule.warm_steps
    for tensor in (*network.parameters(), *network.buffers(), *trainer.losses, *trainer.validation, *trainer.best):
        assert tensor.device.type == device
    assert trainer.losses[0].shape == trainer.validation[0].shape == trainer.best_error.shape == (2,)


TUNED = {"input_dropout": 0.3, "kl_weight": 0.5}


@pytest.mark.parametrize("changes", [TUNED, {name: [value, value / 2] for name, value in TUNED.items()}])
@pytest.mark.parametrize("name", ["cvae", "hivae", "miwae", "mvae", "vsae"])
def test_tuned_parameters_of_all_and_of_each_replica_do_neither(
    name: str, changes: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = split_views(TABLES["blocks"](), replicas=2)
    known = load(Registry.scan().method(name)).parameter_sets["default"]
    _, trainer = on_device(name, views, device, monkeypatch, **{k: changes[k] for k in changes if k in known})
    trainer.run_epoch()
    assert trainer.losses[0].device.type == device


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("name", ["vae", "cvae", "miwae", "mvae", "hivae", "vsae"])
def test_draws_and_generations_stay_on_the_device(
    name: str, kind: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = split_views(TABLES[kind](), replicas=2)
    network, trainer = on_device(name, views, device, monkeypatch)
    assert isinstance(network, LatentModel)
    x = Rows(trainer.encoder.encode(trainer.train.batch(torch.zeros(2, 7, dtype=torch.int64, device=device))))
    network.eval()
    drawn, made = network.draw(x, 12, NOISE), network.generate(x, NOISE)
    for values in (drawn, made):
        for tensor in (values.numeric, values.categorical, *values.blocks):
            assert tensor.device.type == device and tensor.shape[:2] == (2, 7)


@pytest.mark.parametrize(
    "fault", [lambda losses: losses * float(losses.detach().sum()), lambda losses: losses * torch.ones(2)]
)
def test_a_step_that_waits_or_mixes_devices_is_seen(
    fault: Callable[[Tensor], Tensor], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, trainer = on_device("vae", split_views(TABLES["scalars"](), replicas=2), device, monkeypatch)
    loss = network.loss
    monkeypatch.setattr(network, "loss", lambda *given: fault(loss(*given)))
    with pytest.raises(RuntimeError, match=r"meta|device"):
        trainer.run_epoch()
