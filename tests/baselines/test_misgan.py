"""MisGAN: masking, penalties, losses, what its budget counts, and that it learns."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from bench.api import Budget, Table
from bench.neural.adversarial import ReluNetwork
from bench.neural.engine.bank import reset_parameters
from bench.neural.engine.noise import DrawnNoise
from bench.neural.model import Warmup
from bench.neural.rows import Encoded, Layout, Rows
from tests.neural_views import (
    BASELINES,
    Named,
    dependent_table,
    generator,
    linear_layer,
    split_views,
    step_noise,
    trained,
)
from tests.truth import rows_behind

Plugin = type[Any]


@pytest.fixture
def misgan(load_plugin: Callable[..., Plugin]) -> Plugin:
    """Return the MisGAN plug-in."""
    return load_plugin(BASELINES / "misgan.py")


@pytest.fixture
def module(misgan: Plugin) -> Any:
    """Return the module of the plug-in."""
    return sys.modules[misgan.__module__]


def linear(weights: Sequence[float], bias: float = 0.0) -> ReluNetwork:
    """Return the critic of one replica that is this linear function."""
    critic = ReluNetwork(1, (len(weights), 1))
    with torch.no_grad():
        layer = linear_layer(critic, 0)
        layer.weight.copy_(torch.tensor(weights)[None, :, None])
        layer.bias.fill_(bias)
    return critic


def test_the_masking_operator_shows_the_observed_and_tau_elsewhere(module: Any) -> None:
    row = torch.tensor([0.2, 0.4, 0.6])
    assert module.masked_row(row, torch.tensor([1.0, 0.0, 0.5]), 0.0).tolist() == pytest.approx([0.2, 0.0, 0.3])
    assert module.masked_row(row, torch.tensor([1.0, 0.0, 0.5]), 1.0).tolist() == pytest.approx([0.2, 1.0, 0.8])
    other = torch.tensor([9.0, 8.0, 7.0])
    assert module.masked_row(row, torch.tensor([1.0, 0.0, 1.0]), other).tolist() == pytest.approx([0.2, 8.0, 0.6])


def test_the_penalty_of_a_linear_critic_is_in_closed_form(module: Any) -> None:
    draw = generator(1)
    real, fake = torch.rand(1, 6, 2, generator=draw), torch.rand(1, 6, 2, generator=draw)
    share = torch.rand(1, 6, 1, generator=draw)
    for weights in ((3.0, 4.0), (0.6, 0.8), (0.0, 0.0)):
        length = math.hypot(*weights)
        critic = linear(weights, 0.3)
        assert module.gradient_penalty(critic, real, fake, share).tolist() == pytest.approx(
            [(length - 1) ** 2], abs=1e-6
        )
        means = (fake - real).mean(1)[0] @ torch.tensor(weights)
        expected = means.item() + 10 * (length - 1) ** 2
        loss = module.critic_loss(critic, real, fake, share, 10.0)
        assert loss.tolist() == pytest.approx([expected], rel=1e-5)
        # At the zero function the norm has no slope; the gradient is 0 and not NaN.
        loss.sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in critic.parameters())


def test_the_penalty_is_taken_between_real_and_fake_row_by_row(module: Any) -> None:
    # critic(x) = 2 relu(x - 1): slope 0 below one and 2 above.
    critic = ReluNetwork(1, (1, 1, 1))
    with torch.no_grad():
        for level, (weight, bias) in enumerate(((1.0, -1.0), (2.0, 0.0))):
            linear_layer(critic, level).weight.fill_(weight)
            linear_layer(critic, level).bias.fill_(bias)
    real, fake = torch.tensor([[[4.0], [4.0], [0.5]]]), torch.zeros(1, 3, 1)
    share = torch.tensor([[[0.2], [0.3], [1.0]]])
    # Rows at 0.8, 1.2 and 0.5: squared distances of the slopes 0, 2 and 0 from one are all one.
    assert module.gradient_penalty(critic, real, fake, share).tolist() == pytest.approx([1.0])
    with torch.no_grad():
        linear_layer(critic, 1).weight.fill_(3.0)
    # At 0.8 and 0.5 the slope is 0, at 1.2 it is 3.
    assert module.gradient_penalty(critic, real, fake, share).tolist() == pytest.approx([(1 + 4 + 1) / 3])


@pytest.fixture
def network(misgan: Plugin) -> Any:
    """Return the network for two numbers with generators of fixed rows and linear critics."""
    network = misgan().build(Layout(dependent_table(5, numbers=2).schema), 1)
    constant(network.mask_generator, 0.66 * logit(0.75), -100.0)
    constant(network.data_generator, logit(0.6), logit(0.3))
    constant(network.imputer, logit(0.9), logit(0.1))
    network.mask_critic, network.data_critic = linear((1.0, 2.0)), linear((3.0, -1.0))
    network.imputer_critic = linear((0.5, 4.0))
    return network


def logit(probability: float) -> float:
    """Return the logit of a probability."""
    return math.log(probability / (1 - probability))


def constant(network: ReluNetwork, *outputs: float) -> None:
    """Make a network answer so whatever it is given."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        linear_layer(network, -1).bias.copy_(torch.tensor([outputs]))


def two_by_two() -> Encoded:
    """Return two rows of two numbers in [0, 1], the second hidden in the first row."""
    observed = torch.tensor([[[True, False], [True, True]]])
    return Encoded(torch.tensor([[[0.5, 0.0], [0.2, 1.0]]]), torch.zeros(1, 2, 1, 0), (), observed)


def some_noise(network: Any, rows: int) -> dict[str, Tensor]:
    """Return noise for a batch of ``rows`` rows."""
    draw = generator(3)
    return {name: torch.randn(1, *shape, generator=draw) for name, shape in step_noise(network, rows).items()}


def test_fakes_are_made_of_the_generators_outputs(network: Any) -> None:
    noise = some_noise(network, 2)
    # Stretched from (0, 1) to (-0.1, 1.1) and clipped: 1.2 * 0.75 - 0.1, and nothing below 0.
    masks = network.fake_masks(noise["critics mask"])
    torch.testing.assert_close(masks, torch.tensor([[[0.8, 0.0]] * 2]))
    rows = network.fake_rows(noise["critics data"])
    torch.testing.assert_close(rows, torch.tensor([[[0.6, 0.3]] * 2]))
    torch.testing.assert_close(network.mask_row(rows, masks), torch.tensor([[[0.48, 0.0]] * 2]))
    batch = two_by_two()
    completed = network.complete(batch.flat(), batch.observed.float(), noise["critics imputer"])
    torch.testing.assert_close(completed, torch.tensor([[[0.5, 0.1], [0.2, 1.0]]]))


def test_the_losses_are_those_worked_out_by_hand(network: Any) -> None:
    batch, noise = two_by_two(), some_noise(network, 2)
    of_mask, of_data, of_imputer = network.critic_losses(Rows(batch), Named(noise))
    # Scores of the fake less those of the real, and the penalty of the slope.
    assert of_mask.item() == pytest.approx(0.8 - (1.0 + 3.0) / 2 + 10 * (math.sqrt(5) - 1) ** 2)
    assert of_data.item() == pytest.approx(1.44 - (1.5 - 0.4) / 2 + 10 * (math.sqrt(10) - 1) ** 2)
    completed = (0.25 + 0.4 + 0.1 + 4.0) / 2
    assert of_imputer.item() == pytest.approx(completed - (0.3 + 1.2) + 10 * (math.sqrt(16.25) - 1) ** 2, rel=1e-5)
    mask, data, imputer = network.generator_losses(Rows(batch), Named(noise))
    assert mask.item() == pytest.approx(-0.8 - 0.1 * 1.44)
    assert data.item() == pytest.approx(-1.44 + 0.1 * 1.5)
    assert imputer.item() == pytest.approx(-completed)
    whole = network.phase_loss("generators", Rows(batch), Named(noise), Warmup())
    assert whole.tolist() == pytest.approx([(mask + data + imputer).item()])


def test_each_loss_moves_its_own_network_alone(misgan: Plugin) -> None:
    layout = Layout(dependent_table(5, numbers=2, levels=(3,)).schema)
    for parameter_set in ("default", "literal"):
        network = misgan(misgan.parameter_sets[parameter_set]).build(layout, 1)
        reset_parameters(network, [generator(1)])
        batch = Encoded(
            torch.rand(1, 8, 2),
            torch.eye(3)[None, :, :1].expand(1, 3, 1)[None].expand(1, 8, 3, 1),
            (),
            torch.rand(1, 8, 3) < 0.5,
        )
        noise = some_noise(network, 8)
        critics, generators = (
            ("mask_critic", "data_critic", "imputer_critic"),
            ("mask_generator", "data_generator", "imputer"),
        )
        for losses, own, others in (
            (network.critic_losses(Rows(batch), Named(noise)), critics, generators),
            (network.generator_losses(Rows(batch), Named(noise)), generators, ()),
        ):
            for loss, name in zip(losses, own, strict=True):
                network.zero_grad()
                loss.sum().backward(retain_graph=True)
                for other in (*own, *others):
                    moved = any(
                        p.grad is not None and (p.grad != 0).any() for p in getattr(network, other).parameters()
                    )
                    assert moved == (other == name), (parameter_set, name, other)


def test_phases_and_budget_are_the_authors(misgan: Plugin) -> None:
    layout = Layout(dependent_table(5, numbers=2).schema)
    network = misgan().build(layout, 1)
    critics, generators = network.phases()
    assert (critics.every, generators.every) == (1, 5)
    assert [group["lr"] for group in (*critics.groups, *generators.groups)] == [1e-4, 2e-4, 1e-4, 2e-4]
    assert all(group["betas"] == (0.5, 0.9) for group in (*critics.groups, *generators.groups))
    moved = [id(p) for phase in (critics, generators) for group in phase.groups for p in group["params"]]
    assert sorted(moved) == sorted(id(p) for p in network.parameters())
    # Steps are the generators'; a batch is not larger than the authors'.
    quick = network.training_budget(Budget(steps=1500, batch=256))
    assert (quick.steps, quick.batch) == (7500, 64)
    own = (
        misgan({**misgan.parameter_sets["default"], "steps": 100})
        .build(layout, 1)
        .training_budget(Budget(preset="quick"))
    )
    assert (own.steps, own.batch) == (500, 64)
    paper = network.training_budget(Budget(steps=None, epochs=1000, batch=32))
    assert (paper.steps, paper.epochs, paper.batch) == (None, 1000, 32)


def test_networks_are_sized_to_the_table(misgan: Plugin) -> None:
    def shapes(table: Table, part: str) -> list[tuple[int, ...]]:
        network = misgan().build(Layout(table.schema), 1)
        return [tuple(layer.weight.shape[1:]) for layer in getattr(network, part).layers]

    small, digits = dependent_table(3, numbers=4), dependent_table(3, images=1, pixels=784)
    assert shapes(small, "data_critic") == [(4, 256), (256, 128), (128, 64), (64, 1)]
    assert shapes(small, "mask_generator") == [(128, 128), (128, 256), (256, 4)]
    # The authors' sizes for MNIST, where the mask is one attribute and the imputer is told it.
    assert shapes(digits, "data_critic") == [(784, 512), (512, 256), (256, 128), (128, 1)]
    assert shapes(digits, "data_generator") == [(128, 256), (256, 512), (512, 784)]
    assert shapes(digits, "imputer") == [(785, 784), (784, 784), (784, 784), (784, 784)]
    assert shapes(dependent_table(2, numbers=10000), "data_critic")[0] == (10000, 192)


@pytest.mark.parametrize("told", [True, False])
def test_the_imputer_sees_noise_where_nothing_is_observed(misgan: Plugin, told: bool) -> None:
    parameters = {**misgan.parameter_sets["default"], "mask_in_imputer": told}
    network = misgan(parameters).build(Layout(dependent_table(5, numbers=2).schema), 1)
    reset_parameters(network, [generator(1)])
    given: list[Tensor] = []
    network.imputer.register_forward_hook(lambda _module, inputs, _output: given.append(inputs[0]))
    batch = two_by_two()
    network.complete(batch.flat(), batch.observed.float(), torch.zeros(1, 2, 2))
    mask = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    expected = torch.tensor([[[0.5, 0.5], [0.2, 1.0]]])
    torch.testing.assert_close(given[0], torch.cat([expected, mask], -1) if told else expected)


def test_an_imputation_is_the_mean_of_at_least_ten_draws(misgan: Plugin) -> None:
    network = misgan().build(Layout(dependent_table(5, numbers=2, levels=(3,)).schema), 2)
    reset_parameters(network, [generator(1), generator(2)])
    seen: list[Tensor] = []
    complete = network.complete

    def watched(row: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        seen.append(complete(row, mask, noise))
        return seen[-1]

    network.complete = watched
    batch = Encoded(torch.rand(2, 4, 2), torch.zeros(2, 4, 3, 1), (), torch.zeros(2, 4, 3, dtype=torch.bool))
    for draws, expected in ((1, 10), (10, 10), (23, 23)):
        seen.clear()
        imputed, _ = network.impute(Rows(batch), draws, DrawnNoise([generator(5), generator(6)], "cpu"))
        each = torch.cat([part.unflatten(1, (-1, 4)) for part in seen], dim=1)
        assert each.shape[1] == expected
        torch.testing.assert_close(imputed.numeric, each.mean(1)[..., :2])
        torch.testing.assert_close(imputed.categorical.squeeze(-1), each.mean(1)[..., 2:])
        assert len(each[0, :, 0, 0].unique()) == expected
        torch.testing.assert_close(imputed.categorical.sum(-2), torch.ones(2, 4, 1))


def test_it_learns_what_depends_on_what(misgan: Plugin) -> None:
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 800)
    columns = {
        name: np.where(rng.random(800) < 0.9, (kind + shift) % 3, rng.integers(0, 3, 800)).astype(str)
        for shift, name in enumerate("abcd")
    }
    table = Table.from_frame(pd.DataFrame(columns, dtype="category"))
    views = split_views(table, replicas=3, ratio=0.3)
    budget = Budget(steps=250, batch=64, evaluations=12, draws=20)
    # Ten times the authors' rates, for a training of a ten-thousandth of theirs.
    method, values = trained(misgan, views, range(3), budget, {"learning_rate": 1e-3, "imputer_learning_rate": 1e-3})
    wrong, floor = [], []
    for replica, imputed in enumerate(values):
        truth, hidden = table.scalars[rows_behind(views[2])[replica]], ~views[2].observed[replica]
        shown = views[0].values(replica).scalars
        mode = [np.bincount(column[~np.isnan(column)].astype(int)).argmax() for column in shown.T]
        wrong.append((imputed.scalars != truth)[hidden].mean())
        floor.append((mode != truth)[hidden].mean())
    # Knowing the kind, one entry in 15 is wrong; the most frequent level is wrong in two of three.
    assert np.median(wrong) < 0.4 < 0.55 < min(floor)
    # At first the critics have no slope to speak of: three penalties of ten. Then they tell real from fake, less and
    # less.
    losses = np.array(method.history.loss)
    assert (losses[:, 0] > 15).all() and (losses[:, -1] < 1).all()
    assert (losses[:, -1] > losses.min(axis=1) / 2).all()
    network = method.model
    rows = network.fake_rows(torch.randn(3, 2000, network.latent, generator=generator(1))).detach()
    masks = network.fake_masks(torch.randn(3, 2000, network.latent, generator=generator(2))).detach()
    assert (masks.mean(1) - 0.7).abs().max() < 0.2
    # Generated rows have each level in about a third, and the next column's level follows as it does in the data.
    levels = rows.unflatten(-1, (3, 4)).argmax(-2)
    for replica in range(3):
        shares = torch.stack([(levels[replica] == level).float().mean(0) for level in range(3)])
        assert shares.min() > 0.1 and shares.max() < 0.6
    follows = ((levels[..., 0] + 1) % 3 == levels[..., 1]).float().mean(1)
    assert follows.median() > 0.6
