"""Draws from a model: their distribution and mean, observed entries kept, and rows sampled from the prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.api import Attribute, BenchError, Budget, Incomplete, Method, Schema, Table, Values
from bench.neural.engine.noise import DrawnNoise, replica_generators
from bench.neural.heads import Heads, Prediction
from bench.neural.model import LatentModel, Noise, Notes
from bench.neural.rows import Encoded, Layout, Rows
from bench.problem.draws import draws_samples
from tests.analytic import linear_gaussian
from tests.neural_views import BASELINES, assert_same_values, dependent_table, one_replica, split_views, trained
from tests.truth import rows_behind

NAMES = ("vsae", "vae", "cvae", "miwae", "mvae", "hivae")
SILENT = ("ae", "misgan", "mean_mode")
DRAWS, PROPOSALS = 400, 5

LoadMethod = Callable[[str], type[Any]]


@pytest.fixture
def method_class(load_plugin: Callable[..., type[Any]]) -> LoadMethod:
    """Return a function that loads a baseline by its name."""
    return lambda name: load_plugin(BASELINES / f"{name}.py", name)


class Tilted(LatentModel):
    """Proposes z ~ N(0, 1) with log-weight z, so that the posterior is N(1, 1); its mean is z and its spread 1/2."""

    def __init__(self) -> None:
        layout = Layout(Schema((Attribute("x", "numeric"), Attribute("c", "categorical", levels=("a", "b", "c")))))
        super().__init__(layout, 2, {})
        self.width_per_draw = 2**10
        self.decoder = nn.Module()
        heads = Heads(layout, 2, learned_scale=True)
        assert heads.log_scale is not None
        heads.log_scale.data.fill_(math.log(0.5))
        self.decoder.heads = heads

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        z = noise.normal("latent", draws, x.size)
        # The level "a" for z below 0, else "b" and "c" alike.
        logits = torch.stack([torch.where(z < 0, 0.0, -math.inf)] + 2 * [torch.where(z < 0, -math.inf, 0.0)], dim=-1)
        return z, Prediction(z[..., None], logits[..., None], ()), {}


@pytest.mark.parametrize(("weighted", "mean", "below"), [(True, 1.0, 0.158655), (False, 0.0, 0.5)])
def test_a_draw_picks_a_proposal_by_its_weight_and_then_draws_from_its_heads(
    weighted: bool, mean: float, below: float
) -> None:
    rows, network = 3000, Tilted()
    network.importance_weights = weighted
    hidden = torch.zeros(2, rows, 2, dtype=torch.bool)
    batch = Encoded(torch.zeros(2, rows, 1), torch.zeros(2, rows, 3, 1), (), hidden)
    drawn = network.draw(Rows(batch), 120, DrawnNoise(replica_generators("test", [2, 3]), "cpu"))
    for numbers, levels in zip(drawn.numeric[..., 0], drawn.categorical[..., 0], strict=True):
        assert numbers.mean().item() == pytest.approx(mean, abs=0.06)
        assert numbers.var().item() == pytest.approx(1.25, rel=0.08)
        expected = torch.tensor([below, (1 - below) / 2, (1 - below) / 2])
        torch.testing.assert_close(levels.mean(0), expected, atol=0.025, rtol=0)
    assert not torch.equal(drawn.numeric[0], drawn.numeric[1])


@pytest.mark.parametrize("name", NAMES)
def test_draws_have_the_moments_of_the_model_and_keep_what_is_observed(method_class: LoadMethod, name: str) -> None:
    table = dependent_table(100, numbers=2, levels=(3,), images=1, features=1)
    views = split_views(table)
    budget = Budget(steps=40, batch=30, draws=PROPOSALS, evaluations=2)
    method, _ = trained(method_class(name), views, [3], budget, {"latent": 3})
    few = Incomplete(table, rows_behind(views[2])[:, :6], views[2].observed[:, :6])
    draws = [method.sample(few, 1, seed)[0] for seed in range(DRAWS)]
    shown, observed = few.values(), few.observed[0]
    assert len(draws) == DRAWS
    for one, other in zip(method.sample(few, 3, 0), method.sample(few, 3, 0), strict=True):
        assert_same_values(one, other)
    for one in draws:
        for index, attribute in enumerate(table.schema.attributes):
            rows = observed[:, index]
            column = table.schema.names.index(attribute.name)
            if attribute.name in one.blocks:
                np.testing.assert_array_equal(one.blocks[attribute.name][rows], shown.blocks[attribute.name][rows])
            else:
                scalar = int(np.flatnonzero(table.schema.scalar_indices == column)[0])
                np.testing.assert_array_equal(one.scalars[rows, scalar], shown.scalars[rows, scalar])

    mean, variance = expected_moments(method, few)
    numeric = table.schema.of_kind("numeric")
    columns = table.schema.scalar_columns("numeric")
    location, scale = method.encoder.location[0].numpy(), method.encoder.scale[0].numpy()
    drawn = (np.stack([one.scalars[:, columns] for one in draws]) - location) / scale
    hidden = ~observed[:, numeric]
    assert hidden.any()
    error = np.abs(drawn.mean(0) - mean.numeric[0].numpy())[hidden]
    # Draws and reference each have their own noise.
    assert np.all(error < 5 * np.sqrt(2 * variance.numpy()[hidden] / DRAWS))
    assert np.median(drawn.var(0)[hidden] / variance.numpy()[hidden]) == pytest.approx(1, abs=0.15)
    codes = np.stack([one.scalars[:, table.schema.scalar_columns("categorical")[0]] for one in draws])
    shares = (codes[..., None] == np.arange(3)).mean(0)
    unknown = ~observed[:, table.schema.of_kind("categorical")[0]]
    assert np.abs(shares - mean.categorical[0, ..., 0].numpy())[unknown].max() < 0.12
    image = np.stack([one.blocks["image0"] for one in draws]).mean(0)
    dark = ~observed[:, table.schema.names.index("image0")]
    assert np.abs(image - mean.blocks[0][0, :, 0].numpy())[dark].max() < 0.05


def expected_moments(method: Any, view: Incomplete) -> tuple[Any, Tensor]:
    """Return the imputation with as many draws, averaged over repetitions, and the variance of the numbers [b, A]."""
    network, encoder, rows = method.model, method.encoder, len(view)
    many = np.tile(np.arange(rows), DRAWS)[None]
    batch = encoder.encode(view.tensors("cpu").batch(torch.as_tensor(many)))
    x, noise = Rows(batch), DrawnNoise(replica_generators("moments", [0]), "cpu")
    with torch.no_grad():
        log_weight, prediction, _ = network.propose(network.given(x, noise), PROPOSALS, noise)
        weight = torch.softmax(log_weight, dim=1)
        scales = prediction.log_scales
        if scales is None:
            scales = network.decoder.heads.log_scales(prediction.numeric.dim())
        numbers = prediction.numeric.shape[-1]
        mean = (weight[..., None] * prediction.numeric).sum(1)
        square = (weight[..., None] * (prediction.numeric**2 + torch.exp(2 * scales[..., :numbers]))).sum(1)
        levels = (weight[..., None, None] * prediction.probabilities()).sum(1)
        blocks = tuple((weight[..., None, None] * block).sum(1) for block in prediction.blocks)

    def averaged(tensor: Tensor) -> Tensor:
        by_draw: Tensor = tensor.unflatten(1, (DRAWS, rows))
        return by_draw.mean(1)

    average = Prediction(averaged(mean), averaged(levels), tuple(averaged(block) for block in blocks))
    return average, averaged(square)[0] - average.numeric[0] ** 2


@pytest.mark.parametrize("name", NAMES)
def test_made_up_rows_have_mean_and_dependence_of_the_data(method_class: LoadMethod, name: str) -> None:
    model = linear_gaussian(1200, 4, 1, 0.3, seed=2)
    location, scale = np.array([50.0, -20.0, 3.0, 400.0]), np.array([5.0, 2.0, 0.5, 30.0])
    numbers = location + scale * model.table.scalars
    table = Table(model.table.schema, numbers, {}, model.table.present)
    budget = Budget(steps=200, batch=128, learning_rate=1e-2, draws=5, evaluations=5)
    method, _ = trained(method_class(name), split_views(table, ratio=0.3), [1], budget)
    made = method.generate(2000, seed=4)
    assert made.scalars.shape == (2000, 4)
    assert np.all(np.abs(made.scalars.mean(0) - numbers.mean(0)) < 0.25 * scale)
    assert np.all(np.abs(np.log(made.scalars.std(0) / scale)) < 0.4)
    difference = np.corrcoef(made.scalars.T) - model.covariance
    assert np.abs(difference).max() < 0.35
    assert_same_values(made, method.generate(2000, seed=4))
    assert not np.array_equal(made.scalars, method.generate(2000, seed=5).scalars)


@pytest.mark.parametrize("name", NAMES)
def test_made_up_rows_of_every_kind_are_complete_and_valid(method_class: LoadMethod, name: str) -> None:
    table = dependent_table(60, numbers=1, levels=(2, 4), images=2, features=1)
    method, _ = trained(method_class(name), split_views(table), [0], Budget(steps=5, batch=20, draws=3))
    made = method.generate(50, seed=0)
    assert isinstance(made, Values) and np.isfinite(made.scalars).all()
    for column, levels in zip(table.schema.scalar_columns("categorical"), (2, 4), strict=True):
        assert set(made.scalars[:, column]) == set(range(levels))
    for image in ("image0", "image1"):
        assert made.blocks[image].shape == (50, 6)
        assert made.blocks[image].min() >= 0 and made.blocks[image].max() <= 1
        assert made.blocks[image].std(axis=0).min() > 0
    assert made.blocks["features0"].shape == (50, 3)


@pytest.mark.parametrize("name", SILENT)
def test_methods_without_a_prior_say_so(method_class: LoadMethod, name: str, tiny_view: Incomplete) -> None:
    cls = method_class(name)
    assert not draws_samples(cls) and cls.generate is Method.generate
    with pytest.raises(BenchError, match=f"'{name}' draws no samples"):
        cls().sample(tiny_view, 2, 0)
    with pytest.raises(BenchError, match=f"'{name}' has no prior"):
        cls().generate(3, 0)


@pytest.mark.parametrize("name", (*NAMES, "vaeac", "gain", "not_miwae"))
def test_draws_alone_and_in_a_stack_agree_and_follow_seeds(method_class: LoadMethod, name: str) -> None:
    table = dependent_table(90, numbers=2, levels=(3, 2))
    views, budget = split_views(table, replicas=2), Budget(steps=6, batch=30, draws=PROPOSALS, evaluations=2)
    together, imputed = trained(method_class(name), views, [3, 4], budget)
    drawn = together.sample_many(views[2], 4, 7)
    other = together.sample_many(views[2], 4, 8)
    for replica, seed in enumerate((3, 4)):
        alone, _ = trained(method_class(name), one_replica(views, replica), [seed], budget)
        hidden = ~views[2].observed[replica]
        assert len(drawn[replica]) == 4
        for one, same, another in zip(
            alone.sample(views[2].replica(replica), 4, 7), drawn[replica], other[replica], strict=True
        ):
            assert_same_values(one, same)
            assert (one.scalars != another.scalars)[hidden].any()
            assert not (one.scalars != another.scalars)[~hidden].any()
        assert (drawn[replica][0].scalars != drawn[replica][1].scalars)[hidden].any()
    # The draws have random numbers of their own.
    for before, after in zip(imputed, together.impute_many(views[2], PROPOSALS), strict=True):
        assert_same_values(before, after)


def test_gain_draws_categories_from_its_softmax_and_numbers_from_its_noise(method_class: LoadMethod) -> None:
    table = dependent_table(100, numbers=2, levels=(3,))
    views = split_views(table)
    method, _ = trained(method_class("gain"), views, [3], Budget(steps=60, batch=30, evaluations=2))
    few, count = views[2].take(np.arange(6)), 2000
    draws = np.stack([one.scalars for one in method.sample(few, count, 0)])
    x = Rows(method.encoder.encode(few.tensors("cpu").batch(torch.arange(6)[None])))
    with torch.no_grad():
        imputed, _ = method.model.impute(x, 1, DrawnNoise(replica_generators("test", [0]), "cpu"))
    observed, schema = few.observed[0], table.schema
    hidden = ~observed[:, schema.of_kind("categorical")[0]]
    shares = (draws[:, :, schema.scalar_columns("categorical")[0], None] == np.arange(3)).mean(0)
    # The noise behind the imputation moves its probabilities a little.
    assert hidden.any()
    assert np.abs(shares - imputed.categorical[0, :, :3, 0].numpy())[hidden].max() < 0.05
    numbers = draws[:, :, schema.scalar_columns("numeric")]
    unknown = ~observed[:, schema.of_kind("numeric")]
    assert unknown.any() and np.all(numbers.std(axis=0)[unknown] > 0)


@pytest.mark.parametrize("drawn", ["draws", "means"])
def test_not_miwae_adds_the_spread_of_numbers_once(method_class: LoadMethod, drawn: str) -> None:
    table = dependent_table(100, numbers=3)
    views = split_views(table)
    budget = Budget(steps=40, batch=30, draws=1, evaluations=2)
    method, _ = trained(method_class("not_miwae"), views, [3], budget, {"impute_with": drawn})
    few = views[2].take(np.arange(6))
    draws = np.stack([method.sample(few, 1, seed)[0].scalars for seed in range(1500)])
    # With one proposal a draw is z from q and x from its head, whatever the weights say.
    x = Rows(method.encoder.encode(few.tensors("cpu").batch(torch.arange(6).repeat(3000)[None])))
    noise = DrawnNoise(replica_generators("test", [0]), "cpu")
    with torch.no_grad():
        q = method.model.q(x)
        p = method.model.p_x(q.sample(noise.normal("latent", 1, x.size, method.model.latent)), x)
        spread = torch.exp(method.model.heads.log_scales(p.numeric.dim())[..., :3]) ** 2
        variance = (p.numeric.unflatten(2, (3000, 6)).var(2) + spread.squeeze(2))[0, 0].numpy()
    hidden = ~few.observed[0]
    scale = method.encoder.scale[0].numpy()
    np.testing.assert_allclose((draws.var(axis=0) / scale**2)[hidden], variance[hidden], rtol=0.2)
