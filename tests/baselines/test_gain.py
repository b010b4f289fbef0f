"""GAIN: hints, losses, what each network is given, and that it learns."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.api import Budget, Context, Table
from bench.experiment.presets import budget_for
from bench.neural.engine.bank import reset_parameters
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.trainer import Trainer
from bench.neural.model import Warmup
from bench.neural.rows import Encoded, Layout, Rows
from tests.neural_views import BASELINES, Named, dependent_table, generator, split_views, step_noise, trained
from tests.truth import rows_behind

Plugin = type[Any]


@pytest.fixture
def gain(load_plugin: Callable[..., Plugin]) -> Plugin:
    """Return the GAIN plug-in."""
    return load_plugin(BASELINES / "gain.py")


@pytest.fixture
def module(gain: Plugin) -> Any:
    """Return the module of the plug-in."""
    return sys.modules[gain.__module__]


def two_by_two() -> Encoded:
    """Return two rows of two numbers in [0, 1], the second hidden in the first row."""
    observed = torch.tensor([[[True, False], [True, True]]])
    numeric = torch.tensor([[[0.5, 0.0], [0.2, 1.0]]])
    return Encoded(numeric, torch.zeros(1, 2, 1, 0), (), observed)


def logit(probability: float) -> float:
    """Return the logit of a probability."""
    return math.log(probability / (1 - probability))


def constant(network: Any, *probabilities: float) -> None:
    """Make a network answer with these logits whatever it is given."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.layers[-1].bias.copy_(torch.tensor([[logit(p) for p in probabilities]]))


@pytest.fixture
def network(gain: Plugin) -> Any:
    """Return the network for two numbers, drawn."""
    layout = Layout(dependent_table(5, numbers=2).schema)
    network = gain().build(layout, 1)
    reset_parameters(network, [generator(1)])
    return network


def test_a_hint_tells_the_mask_at_its_rate_and_nothing_elsewhere(module: Any) -> None:
    observed = torch.tensor([[[True, False], [True, False]]])
    # Uniform 0.84, 0.84 (told) and 0.98, 0.98 (not told) at a rate of 0.9.
    noise = torch.tensor([[[1.0, 1.0], [2.0, 2.0]]])
    assert module.hint(observed, noise, 0.9, 0.0).tolist() == [[[1.0, 0.0], [0.0, 0.0]]]
    assert module.hint(observed, noise, 0.9, 0.5).tolist() == [[[1.0, 0.0], [0.5, 0.5]]]
    many = torch.randn(1, 40000, 1, generator=generator(2))
    assert float(module.hint(torch.ones(1, 40000, 1, dtype=torch.bool), many, 0.9, 0.0).mean()) == pytest.approx(
        0.9, abs=0.01
    )


def test_the_losses_are_those_worked_out_by_hand(module: Any, network: Any) -> None:
    batch = two_by_two()
    # D says 0.8 and 0.3 of every row; G says 0.25 and 0.5.
    constant(network.discriminator, 0.8, 0.3)
    constant(network.generator, 0.25, 0.5)
    noise = {name: torch.randn(1, *shape) for name, shape in step_noise(network, 2).items()}
    of_discriminator = network.phase_loss("discriminator", Rows(batch), Named(noise), Warmup())
    expected = -(math.log(0.8) + math.log(0.7) + math.log(0.8) + math.log(0.3)) / 4
    assert of_discriminator.tolist() == pytest.approx([expected])
    of_generator = network.phase_loss("generator", Rows(batch), Named(noise), Warmup())
    squared = ((0.5 - 0.25) ** 2 + (0.2 - 0.25) ** 2 + (1.0 - 0.5) ** 2) / 3
    assert of_generator.tolist() == pytest.approx([-math.log(0.3) / 4 + 100 * squared])
    # Nothing observed at all: no reconstruction, and no division by zero.
    errors, nothing = torch.ones(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)
    assert module.reconstruction_loss(errors, nothing).tolist() == [0.0]


def test_each_network_is_given_what_the_paper_says(network: Any) -> None:
    batch = two_by_two()
    given: dict[str, Tensor] = {}
    for name in ("generator", "discriminator"):
        getattr(network, name).register_forward_hook(lambda _m, inputs, _o, name=name: given.update({name: inputs[0]}))
    noise = {"fill": torch.zeros(1, 2, 2), "hint": torch.tensor([[[1.0, 1.0], [1.0, 2.0]]])}
    network.phase_loss("generator", Rows(batch), Named(noise), Warmup())
    # Noise of the normal median is uniform noise of half its height, 0.01.
    torch.testing.assert_close(given["generator"], torch.tensor([[[0.5, 0.005, 1.0, 0.0], [0.2, 1.0, 1.0, 1.0]]]))
    drawn = torch.sigmoid(network.generator(given["generator"]))[0, 0, 1].item()
    assert 0 < drawn < 1
    expected = torch.tensor([[[0.5, drawn, 1.0, 0.0], [0.2, 1.0, 1.0, 0.0]]])
    torch.testing.assert_close(given["discriminator"], expected)


def test_a_step_is_one_of_the_discriminator_and_then_one_of_the_generator(gain: Plugin) -> None:
    views = split_views(dependent_table(40, numbers=3, levels=(3,)))
    layout = Layout(views[0].schema)
    encoder = Encoder(views[0], layout, "minmax", "cpu")
    first, second = (gain().build(layout, 1) for _ in range(2))
    for network in (first, second):
        reset_parameters(network, [generator(4)])
    context = Context(budget=Budget(batch=8))
    trainer = Trainer(first, views[0].tensors("cpu"), encoder, lambda: torch.zeros(1), [0], context, None, 1e-3)
    index = torch.arange(8)[None]
    batch = encoder.encode(views[0].tensors("cpu").batch(index))
    optimisers = [torch.optim.Adam(part.parameters(), lr=1e-3) for part in (second.discriminator, second.generator)]
    draw = generator(5)
    for step in range(3):
        noise = {name: torch.randn(1, *shape, generator=draw) for name, shape in trainer.noise_shapes.items()}
        numbers = torch.cat([part.flatten(1) for part in noise.values()], dim=1)
        trainer.take_step(index, numbers, 1.0, trainer.kind_of(step))
        for phase, optimiser in zip(("discriminator", "generator"), optimisers, strict=True):
            for parameter in second.parameters():
                parameter.grad = None
            second.phase_loss(phase, Rows(batch), Named(noise), Warmup()).sum().backward()
            optimiser.step()
    for (name, ours), expected in zip(first.named_parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, msg=name)


def test_categories_are_a_softmax_with_cross_entropy_or_sigmoids_with_squared_error(module: Any) -> None:
    layout = Layout(dependent_table(5, levels=(3, 2)).schema)
    # Level by level, the two attributes alternate; the second has no third level.
    raw = torch.tensor([[[1.0, 0.5, 2.0, -0.5, 3.0, 99.0]]])
    truth = torch.zeros(1, 1, 3, 2)
    truth[0, 0, 1, 0] = truth[0, 0, 0, 1] = 1.0
    batch = Encoded(torch.zeros(1, 1, 0), truth, (), torch.ones(1, 1, 2, dtype=torch.bool))
    crossed = module.reconstruction_errors(raw, batch, layout, True)
    total = math.exp(1) + math.exp(2) + math.exp(3)
    assert crossed[0, 0].tolist() == pytest.approx([-math.log(math.exp(2) / total), math.log(1 + math.exp(-1))])
    squared = module.reconstruction_errors(raw, batch, layout, False)
    sig = [1 / (1 + math.exp(-value)) for value in (1.0, 2.0, 3.0, 0.5, -0.5)]
    by_hand = [(sig[0] ** 2 + (1 - sig[1]) ** 2 + sig[2] ** 2) / 3, ((1 - sig[3]) ** 2 + sig[4] ** 2) / 2]
    assert squared[0, 0].tolist() == pytest.approx(by_hand)


def test_an_image_weighs_no_more_than_a_number(module: Any) -> None:
    layout = Layout(dependent_table(5, numbers=1, images=1, pixels=4).schema)
    batch = Encoded(
        torch.tensor([[[0.5]]]),
        torch.zeros(1, 1, 1, 0),
        (torch.tensor([[[[0.0, 0.5, 1.0, 0.5]]]]),),
        torch.ones(1, 1, 2, dtype=torch.bool),
    )
    errors = module.reconstruction_errors(torch.zeros(1, 1, 5), batch, layout, True)
    assert errors[0, 0].tolist() == pytest.approx([0.0, (0.25 + 0.25) / 4])


def test_networks_are_as_wide_as_the_data_and_drawn_as_the_authors_do(gain: Plugin) -> None:
    layout = Layout(dependent_table(5, numbers=40, levels=(3,) * 20).schema)
    network = gain().build(layout, 2)
    reset_parameters(network, [generator(1), generator(2)])
    for part, outputs in ((network.generator, 100), (network.discriminator, 60)):
        shapes = [tuple(layer.weight.shape) for layer in part.layers]
        # A hundred columns, up to the next multiple of 16; the first layer takes the sixty entries of mask or hint too.
        assert shapes == [(2, 160, 112), (2, 112, 112), (2, 112, outputs)]
        for layer, fan_in in zip(part.layers, (160, 112, 112), strict=True):
            assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
            assert (layer.bias == 0).all()
    wide = gain().build(Layout(dependent_table(3, numbers=5000).schema), 1)
    assert wide.generator.layers[0].weight.shape == (1, 10000, 416)


def test_it_takes_its_authors_steps_under_every_preset_but_smoke(gain: Plugin) -> None:
    layout = Layout(dependent_table(5, numbers=2).schema)
    network = gain().build(layout, 1)
    for preset in ("quick", "long", "paper"):
        budget = network.training_budget(budget_for(preset, ("numeric",)))
        assert (budget.steps, budget.epochs, budget.batch) == (10_000, None, 128)
    assert network.training_budget(budget_for("smoke", ("numeric",))) == budget_for("smoke", ("numeric",))
    given = gain({**gain.parameter_sets["default"], "steps": None}).build(layout, 1)
    assert given.training_budget(budget_for("quick", ("numeric",))) == budget_for("quick", ("numeric",))


def test_the_literal_set_rounds_hidden_numbers_of_few_values(gain: Plugin) -> None:
    rng = np.random.default_rng(0)
    few, many = rng.integers(0, 5, 120).astype(float), rng.normal(size=120)
    table = Table.from_frame(pd.DataFrame({"few": few, "many": many, "half": 0.5 * rng.integers(0, 3, 120)}))
    views = split_views(table)
    budget = Budget(steps=20, batch=32)
    _, rounded = trained(gain, views, [0], budget, gain.parameter_sets["literal"])
    _, plain = trained(gain, views, [0], budget, {**gain.parameter_sets["literal"], "round_below": 0})
    hidden = ~views[2].observed[0]
    expected = plain[0].scalars.copy()
    expected[:, [0, 2]] = np.where(hidden[:, [0, 2]], np.rint(expected[:, [0, 2]]), expected[:, [0, 2]])
    np.testing.assert_array_equal(rounded[0].scalars, expected)
    assert (expected != plain[0].scalars).any() and (expected[~hidden[:, 2], 2] % 1 == 0.5).any()


def test_it_learns_what_depends_on_what(gain: Plugin) -> None:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(700, 1))
    numbers = 0.97 * factor * np.array([1.0, -1.0, 1.0, 1.0]) + 0.24 * rng.normal(size=(700, 4))
    table = Table.from_frame(pd.DataFrame(numbers, columns=list("abcd")))
    views = split_views(table, replicas=5, ratio=0.3)
    _, values = trained(gain, views, range(5), Budget(steps=900, batch=64, evaluations=15))
    relative = []
    for replica, imputed in enumerate(values):
        truth, hidden = table.scalars[rows_behind(views[2])[replica]], ~views[2].observed[replica]
        mean = np.nanmean(views[0].values(replica).scalars, axis=0)
        ours, floor = (np.square(guess - truth)[hidden].mean() for guess in (imputed.scalars, mean))
        relative.append(math.sqrt(ours / floor))
    # Well below the mean's error, though a seed may miss: it is trained against an opponent.
    assert np.median(relative) < 0.9 and min(relative) < 0.8
