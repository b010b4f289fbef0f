"""What the adversarial methods share: their networks, phases of training, stacks, checkpoints and hidden truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import Attribute, Budget, Context, Incomplete, Schema, Stopped, Table
from bench.neural.adversarial import ReluNetwork, expand_mask, generated_row, rounded_width, split_row, uniform
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.trainer import Trainer
from bench.neural.model import Network, Noise, Phase, Warmup
from bench.neural.rows import Encoded, Layout, Rows
from tests.neural_views import (
    BASELINES,
    assert_same_values,
    dependent_table,
    generator,
    linear_layer,
    on_table,
    one_replica,
    poisoned,
    revealed_by,
    split_views,
    state_of,
    trained,
)
from tests.truth import folds_behind, rows_behind, table_behind

Plugin = type[Any]
EVERY_METHOD = pytest.mark.parametrize("name", ["gain", "misgan"])
TABLES: dict[str, Callable[[], Table]] = {
    "numeric": lambda: dependent_table(110, numbers=5),
    "categorical": lambda: dependent_table(110, levels=(17, 2, 20)),
    "mixed": lambda: dependent_table(110, numbers=3, levels=(2, 4)),
    "image": lambda: dependent_table(80, numbers=1, levels=(3,), images=2, features=1, pixels=9),
}
EVERY_TABLE = pytest.mark.parametrize("kind", TABLES)
SHORT = Budget(steps=6, batch=21, evaluations=5, draws=13, validation_draws=3)


@pytest.fixture
def load(load_plugin: Callable[..., Plugin]) -> Callable[[str], Plugin]:
    """Return a function from the name of a method to its class."""
    return lambda name: load_plugin(BASELINES / f"{name}.py")


@pytest.mark.parametrize("widths", [(5, 8, 7, 6, 1), (5, 9, 3), (5, 1)])
def test_the_gradient_in_closed_form_is_that_of_double_backward(widths: tuple[int, ...]) -> None:
    network = ReluNetwork(2, widths)
    draw = generator(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=draw)
    x = torch.randn(2, 11, 5, generator=draw, requires_grad=True)
    (expected,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    got = network.input_gradient(x.detach())
    torch.testing.assert_close(got, expected)
    weights = [linear_layer(network, level).weight for level in range(len(network.layers))]
    twice = torch.autograd.grad(((expected.norm(dim=-1) - 1) ** 2).sum(), weights)
    torch.testing.assert_close(torch.autograd.grad(((got.norm(dim=-1) - 1) ** 2).sum(), weights), twice)


def test_rows_are_softmax_and_sigmoid_by_kind_and_split_as_they_were_joined() -> None:
    table = dependent_table(20, numbers=2, levels=(3, 2), images=2, features=1, pixels=4)
    layout = Layout(table.schema)
    raw = 3 * torch.randn(2, 7, layout.width, generator=generator(2))
    for softmax in (True, False):
        parts = split_row(generated_row(raw, layout, softmax, softmax), layout)
        torch.testing.assert_close(parts.numeric, torch.sigmoid(raw[..., :2]) if softmax else raw[..., :2])
        levels = parts.categorical
        assert levels.shape == (2, 7, 3, 2) and (levels[..., 2, 1] == 0).all() and (levels[..., 2, 0] > 0).all()
        sums = levels.sum(-2)
        assert torch.allclose(sums, torch.ones_like(sums)) == softmax
        # The columns of the two categories alternate, level by level.
        first = raw[..., 2:8:2]
        expected = torch.softmax(first, -1) if softmax else torch.sigmoid(first)
        torch.testing.assert_close(levels[..., 0], expected)
        images, features = parts.blocks
        torch.testing.assert_close(images, torch.sigmoid(raw[..., 8:16]).unflatten(-1, (2, 4)))
        torch.testing.assert_close(features, raw[..., 16:].unflatten(-1, (1, 3)))
    batch = Encoded(
        torch.rand(2, 7, 2),
        torch.rand(2, 7, 3, 2),
        (torch.rand(2, 7, 2, 4), torch.rand(2, 7, 1, 3)),
        torch.ones(2, 7, 7),
    )
    again = split_row(batch.flat(), layout)
    assert torch.equal(again.numeric, batch.numeric) and torch.equal(again.categorical, batch.categorical)
    assert all(torch.equal(new, old) for new, old in zip(again.blocks, batch.blocks, strict=True))


def test_a_mask_covers_all_columns_of_an_attribute() -> None:
    layout = Layout(dependent_table(20, numbers=1, levels=(2, 2), images=1, pixels=3).schema)
    mask = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert expand_mask(mask, layout).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.2, 0.3, 0.4, 0.4, 0.4])


@pytest.mark.parametrize(
    ("width", "largest", "multiple", "expected"),
    [
        (1, 999, 16, 16),
        (16, 999, 16, 16),
        (17, 999, 16, 32),
        (500, 419, 64, 384),
        (500, 10, 16, 16),
    ],
)
def test_widths_are_multiples(width: int, largest: int, multiple: int, expected: int) -> None:
    assert rounded_width(width, largest, multiple) == expected


def test_normal_noise_becomes_uniform() -> None:
    drawn = uniform(torch.randn(20000, generator=generator(3)))
    counts = torch.histc(drawn, 10, 0.0, 1.0)
    assert (counts - 2000).abs().max() < 200
    assert uniform(torch.tensor([0.0, -1.959964, 1.959964])).tolist() == pytest.approx([0.5, 0.025, 0.975], abs=1e-6)


class Rivals(Network):
    """Two vectors per replica: the first moves away from the second, which chases it every third step."""

    def __init__(self, layout: Layout, replicas: int) -> None:
        super().__init__(layout, replicas, {})
        self.hare = nn.Parameter(torch.zeros(replicas, 2))
        self.hound = nn.Parameter(torch.full((replicas, 2), 1.0))

    def phases(self) -> tuple[Phase, ...]:
        hound = {"params": [self.hound], "lr": 0.5, "betas": (0.5, 0.9)}
        return (Phase("hare", [{"params": [self.hare]}]), Phase("hound", [hound], every=3))

    def training_budget(self, budget: Budget) -> Budget:
        return replace(budget, steps=7)

    def phase_loss(self, phase: str, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        distance = ((self.hare - self.hound) ** 2).sum(1)
        return -distance if phase == "hare" else distance


def test_phases_take_turns_and_each_moves_its_own_parameters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    views = split_views(dependent_table(50, numbers=2), replicas=2)
    layout = Layout(views[0].schema)
    network = Rivals(layout, 2)
    trainer = Trainer(
        network,
        views[0].tensors("cpu"),
        Encoder(views[0], layout, "standard", "cpu"),
        lambda: torch.zeros(2),
        [0, 1],
        Context(budget=Budget(steps=1, batch=30, evaluations=1)),
        None,
        0.1,
    )
    # The last state is kept, to compare it.
    monkeypatch.setattr(trainer, "restore_best", lambda: None)
    history = trainer.run()
    assert history.steps == [7, 7]
    hare, hound = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    first, second = torch.optim.Adam([hare], lr=0.1), torch.optim.Adam([hound], lr=0.5, betas=(0.5, 0.9))
    recorded = []
    for step in range(1, 8):
        first.zero_grad()
        loss = -((hare - hound) ** 2).sum()
        loss.backward()
        first.step()
        recorded.append(loss.item())
        if step % 3 == 0:
            second.zero_grad()
            ((hare - hound) ** 2).sum().backward()
            second.step()
    torch.testing.assert_close(network.hare[1], hare)
    torch.testing.assert_close(network.hound[1], hound)
    assert history.loss[1] == pytest.approx(recorded)


@pytest.mark.usefixtures("deterministic_torch")
@EVERY_METHOD
@EVERY_TABLE
def test_a_whole_training_is_bit_identical_alone_and_in_a_stack(
    load: Callable[[str], Plugin], name: str, kind: str
) -> None:
    views, seeds = split_views(TABLES[kind](), replicas=3), [5, 6, 7]
    stacked, together = trained(load(name), views, seeds, SHORT, {"clip_norm": 0.5})
    states = state_of(stacked.model)
    for index, seed in enumerate(seeds):
        alone, own = trained(load(name), one_replica(views, index), [seed], SHORT, {"clip_norm": 0.5})
        for key, tensor in state_of(alone.model).items():
            assert torch.equal(tensor[0], states[key][index]), f"{key} of replica {index}"
        assert_same_values(own[0], together[index])
        assert alone.history.loss[0] == stacked.history.loss[index]
    weights = next(iter(states.values()))
    assert not torch.equal(weights[0], weights[1])


@pytest.mark.usefixtures("deterministic_torch")
@EVERY_METHOD
def test_a_stopped_training_resumes_to_the_same_bits(load: Callable[[str], Plugin], name: str, tmp_path: Path) -> None:
    views, seeds = split_views(TABLES["mixed"](), replicas=2), [5, 6]
    whole, expected = trained(load(name), views, seeds, SHORT)
    states = state_of(whole.model)
    checkpoint = tmp_path / "job.pt"
    asked = 0

    def stop_now_and_then() -> None:
        nonlocal asked
        asked += 1
        # Between two turns of MisGAN's generators too: those come every fifth step, and an epoch has three steps.
        if asked in (1, 3):
            raise Stopped

    for _attempt in range(2):
        with pytest.raises(Stopped):
            trained(load(name), views, seeds, SHORT, checkpoint=checkpoint, stop=stop_now_and_then)
        torch.load(checkpoint, weights_only=True)
    resumed, values = trained(load(name), views, seeds, SHORT, checkpoint=checkpoint)
    for key, tensor in state_of(resumed.model).items():
        assert torch.equal(tensor, states[key]), key
    for first, second in zip(expected, values, strict=True):
        assert_same_values(first, second)
    assert replace(resumed.history, seconds=0) == replace(whole.history, seconds=0)


@pytest.mark.usefixtures("deterministic_torch")
@EVERY_METHOD
@EVERY_TABLE
def test_hidden_truth_is_never_seen(load: Callable[[str], Plugin], name: str, kind: str) -> None:
    table = TABLES[kind]()
    views = split_views(table)
    method, expected = trained(load(name), views, [3], SHORT)
    other = poisoned(table, revealed_by(views, table), seed=9)
    same, values = trained(load(name), [on_table(view, other) for view in views], [3], SHORT)
    states = state_of(method.model)
    for key, tensor in state_of(same.model).items():
        assert torch.equal(tensor, states[key]), key
    assert same.history.validation == method.history.validation
    assert_same_values(expected[0], values[0])


@EVERY_METHOD
@pytest.mark.parametrize("parameter_set", ["default", "literal"])
@pytest.mark.parametrize("steps", [1, 8])
def test_what_comes_out_is_valid_after_any_training(
    load: Callable[[str], Plugin], name: str, parameter_set: str, steps: int
) -> None:
    cls = load(name)
    assert cls.parameter_sets["literal"].keys() == cls.parameter_sets["default"].keys()
    table = dependent_table(60, numbers=3, levels=(1, 3), images=1, features=1)
    scalars = table.scalars.copy()
    scalars[:, 3] = 7.0
    table = Table(table.schema, scalars, table.blocks, table.present)
    views = split_views(table, replicas=2)
    # Of the first number nothing is ever observed, and some rows show nothing at all.
    views = tuple(blinded(view, column=4) for view in views)  # type: ignore[assignment]
    # More rows in a batch than there are.
    method, values = trained(cls, views, [1, 2], Budget(steps=steps), cls.parameter_sets[parameter_set])
    for replica, imputed in enumerate(values):
        shown, observed = views[2].values(replica), views[2].observed[replica]
        known = observed[:, table.schema.scalar_indices]
        assert np.isfinite(imputed.scalars).all() and (imputed.scalars[known] == shown.scalars[known]).all()
        for column, levels in ((0, 1), (1, 3)):
            assert set(np.unique(imputed.scalars[:, column])) <= set(range(levels))
        for block_name, block in imputed.blocks.items():
            assert np.isfinite(block).all(), block_name
        assert ((imputed.blocks["image0"] >= 0) & (imputed.blocks["image0"] <= 1)).all()
        # Imputed numbers lie within the range that training rows showed.
        seen = views[0].values(replica).scalars[:, 4]
        filled = imputed.scalars[~known[:, 4], 4]
        slack = 1e-5 * (np.nanmax(seen) - np.nanmin(seen))
        assert (filled >= np.nanmin(seen) - slack).all() and (filled <= np.nanmax(seen) + slack).all()
    assert all(np.isfinite(entry["loss_last"]) and entry["parameters"] > 0 for entry in method.diagnostics())


def blinded(view: Incomplete, column: int) -> Incomplete:
    """Return the view with one attribute and the first three rows hidden altogether."""
    observed = view.observed.copy()
    observed[..., column] = observed[:, :3] = False
    return Incomplete(table_behind(view), rows_behind(view), observed, folds_behind(view))


@EVERY_METHOD
def test_one_number_and_two_rows_are_enough(load: Callable[[str], Plugin], name: str) -> None:
    table = Table(
        Schema((Attribute("x", "numeric"),)), np.array([[1.0], [2.0], [3.0], [4.0]]), {}, np.ones((4, 1), bool)
    )
    rows, shown, none = np.array([[0, 1]]), np.ones((1, 2, 1), bool), np.zeros((1, 2, 1), bool)
    views = (
        Incomplete(table, rows, shown),
        Incomplete(table, rows + 1, shown, ~none),
        Incomplete(table, rows + 2, none),
    )
    _, values = trained(load(name), views, [1], Budget(steps=2))
    assert ((values[0].scalars >= 1) & (values[0].scalars <= 2)).all()
