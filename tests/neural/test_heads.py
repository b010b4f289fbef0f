"""Likelihood heads against torch.distributions and explicit means over samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import Categorical, Independent, Normal, StudentT

from bench.api import Attribute, Schema
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.noise import DrawnNoise
from bench.neural.heads import Heads, Prediction, Target, image_mean
from bench.neural.rows import Encoded, Layout
from tests.neural_views import dependent_table, generator, split_views
from tests.truth import rows_behind

REPLICAS, ROWS = 2, 5
SCHEMA = Schema(
    (
        Attribute("picture", "image", shape=(2, 2)),
        Attribute("colour", "categorical", levels=("red", "green")),
        Attribute("height", "numeric"),
        Attribute("vector", "features", shape=(3,)),
        Attribute("size", "categorical", levels=("a", "b", "c", "d")),
        Attribute("weight", "numeric"),
        Attribute("other", "image", shape=(4,)),
        Attribute("answer", "categorical", levels=("no", "yes", "unknown")),
    )
)
LEVELS = (2, 4, 3)
#: Where each Gaussian attribute's log spread stands: two numbers, two images of a width, one feature vector.
GAUSSIANS = 5


@pytest.fixture
def layout() -> Layout:
    """Return the layout: two numbers, three categories padded to four levels, two images, one feature vector."""
    return Layout(SCHEMA)


@pytest.fixture
def heads(layout: Layout) -> Heads:
    """Return heads in float64 with different spreads everywhere."""
    heads = Heads(layout, REPLICAS, learned_scale=True).double()
    assert heads.log_scale is not None
    heads.log_scale.data = 0.5 * normal(REPLICAS, GAUSSIANS, seed=9)
    return heads


def normal(*shape: int, seed: int) -> Tensor:
    """Return standard normal numbers, float64."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def raw_outputs(heads: Heads, *leading: int, seed: int = 0) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return random outputs of the decoders with these leading dimensions."""
    blocks = (2 * normal(*leading, 2, 4, seed=seed + 1), normal(*leading, 1, 3, seed=seed + 2))
    return 2 * normal(*leading, heads.layout.scalar_width, seed=seed), blocks


def decoded(heads: Heads, *leading: int, seed: int = 0) -> Prediction:
    """Return what the heads make of ``raw_outputs``."""
    prediction: Prediction = heads(*raw_outputs(heads, *leading, seed=seed))
    return prediction


def sample_moments(heads: Heads, samples: int, draw_numbers: bool, seed: int = 0, at_a_time: int = 3) -> Target:
    """Return the moments of the samples of ``decoded(heads, REPLICAS, samples, ROWS)``, added in chunks."""
    moments = heads.moments(draw_numbers)
    scalars, blocks = raw_outputs(heads, REPLICAS, samples, ROWS, seed=seed)
    scalars = scalars.masked_fill(~heads.layout.used[: heads.layout.scalar_width], -torch.inf)
    for first in range(0, samples, at_a_time):
        chunk = slice(first, first + at_a_time)
        moments.add(scalars[:, chunk], tuple(block[:, chunk].clone() for block in blocks))
    return moments.target()


def random_values(*leading: int, seed: int = 20) -> tuple[Encoded, list[Tensor]]:
    """Return values of every attribute, all observed, and the codes of the categories."""
    rng = np.random.default_rng(seed)
    codes = [torch.as_tensor(rng.integers(0, count, leading)) for count in LEVELS]
    one_hot = torch.stack([torch.nn.functional.one_hot(code, 4).double() for code in codes], dim=-1)
    blocks = (torch.rand(*leading, 2, 4, generator=generator(seed)).double(), normal(*leading, 1, 3, seed=seed))
    observed = torch.ones(*leading, len(SCHEMA), dtype=torch.bool)
    return Encoded(normal(*leading, 2, seed=seed + 1), one_hot, blocks, observed), codes


def densities(prediction: Prediction, scales: Tensor, values: Encoded, codes: list[Tensor]) -> Tensor:
    """Return the log-density of each attribute in group order, written out; ``scales`` is [R, 5]."""
    spread = scales.view(REPLICAS, *(1,) * (prediction.numeric.dim() - 2), GAUSSIANS)
    parts = [Normal(prediction.numeric[..., j], spread[..., j]).log_prob(values.numeric[..., j]) for j in range(2)]
    for j, count in enumerate(LEVELS):
        parts.append(Categorical(logits=prediction.categorical[..., :count, j]).log_prob(codes[j]))
    for j in range(2):
        picture = Normal(prediction.blocks[0][..., j, :], spread[..., 2 + j, None])
        parts.append(Independent(picture, 1).log_prob(values.blocks[0][..., j, :]))
    vector = Normal(prediction.blocks[1][..., 0, :], spread[..., 4, None])
    parts.append(Independent(vector, 1).log_prob(values.blocks[1][..., 0, :]))
    return torch.stack(parts, dim=-1)


def test_groups_stand_in_order_and_each_attribute_keeps_its_place(layout: Layout) -> None:
    assert [SCHEMA.names[i] for i in layout.order] == [
        "height",
        "weight",
        "colour",
        "size",
        "answer",
        "picture",
        "other",
        "vector",
    ]
    assert layout.width == 2 + 3 * 4 + 2 * 4 + 3 and layout.width_used == 2 + 9 + 8 + 3
    owners = [0, 1, *[2, 3, 4] * 4, *[5] * 4, *[6] * 4, *[7] * 3]
    assert layout.owner.tolist() == owners
    # Level by level, and within a level attribute by attribute.
    levels = [k < count for k in range(4) for count in LEVELS]
    assert layout.used.tolist() == [True, True, *levels, *[True] * 11]


@pytest.mark.parametrize("leading", [(REPLICAS, ROWS), (REPLICAS, 3, ROWS)])
def test_log_densities_are_those_of_torch_distributions(heads: Heads, leading: tuple[int, ...]) -> None:
    prediction = decoded(heads, *leading)
    values, codes = random_values(*leading)
    assert heads.log_scale is not None
    got = heads.log_prob(prediction, Target.certain(values))
    torch.testing.assert_close(got, densities(prediction, heads.log_scale.detach().exp(), values, codes))


def test_numbers_with_degrees_of_freedom_are_student_t(heads: Heads) -> None:
    leading = (REPLICAS, 3, ROWS)
    scales, degrees = 0.5 * normal(*leading, GAUSSIANS, seed=30), 3 + normal(*leading, 2, seed=31).abs()
    prediction = replace(decoded(heads, *leading), log_scales=scales, degrees=degrees)
    values, _ = random_values(*leading)
    got = heads.log_prob(prediction, Target.certain(values))[..., :2]
    plain = StudentT(degrees, prediction.numeric, scales[..., :2].exp()).log_prob(values.numeric)
    torch.testing.assert_close(got, plain)


@pytest.mark.parametrize("degrees", [3.0, 8.0, 100.0])
def test_numbers_are_drawn_from_student_t(degrees: float) -> None:
    """A whole draw of the heads, at a location and scale: kstest compares all quantiles, tails included."""
    count = 200_000
    layout = Layout(Schema((Attribute("number", "numeric"),)))
    heads = Heads(layout, 1, learned_scale=False)
    numbers = torch.full((1, count, 1), 2.0)
    none = torch.zeros(1, count, layout.max_levels, 0)
    prediction = Prediction(
        numbers, none, (), torch.full_like(numbers, math.log(0.5)), torch.full_like(numbers, degrees)
    )
    drawn = heads.draw(prediction, DrawnNoise([generator(40)], "cpu")).numeric.flatten().numpy()
    standard = (drawn - 2.0) / 0.5
    assert stats.kstest(standard, stats.t(degrees).cdf).pvalue > 0.001
    for share in (0.001, 0.01, 0.99, 0.999):
        assert np.quantile(standard, share) == pytest.approx(stats.t.ppf(share, degrees), rel=0.06)


def test_without_a_learned_scale_the_density_is_a_squared_error(layout: Layout) -> None:
    heads = Heads(layout, REPLICAS, learned_scale=False).double()
    assert not list(heads.parameters())
    prediction = decoded(heads, REPLICAS, ROWS)
    values, codes = random_values(REPLICAS, ROWS)
    got = heads.log_prob(prediction, Target.certain(values))
    ones = torch.ones(REPLICAS, GAUSSIANS, dtype=torch.float64)
    torch.testing.assert_close(got, densities(prediction, ones, values, codes))
    error = ((prediction.blocks[0] - values.blocks[0]) ** 2).sum(-1)
    torch.testing.assert_close(got[..., 5:7], -0.5 * error - 2 * math.log(2 * math.pi))


def test_the_learned_spread_does_not_fall_below_its_floor(heads: Heads) -> None:
    assert heads.log_scale is not None
    heads.log_scale.data[:] = -20.0
    prediction, (values, codes) = decoded(heads, REPLICAS, ROWS), random_values(REPLICAS, ROWS)
    floor = torch.full((REPLICAS, GAUSSIANS), 1e-3, dtype=torch.float64)
    got = heads.log_prob(prediction, Target.certain(values))
    torch.testing.assert_close(got, densities(prediction, floor, values, codes))


def test_the_spread_of_a_replica_is_its_own(heads: Heads) -> None:
    assert heads.log_scale is not None
    values, _ = random_values(REPLICAS, ROWS)
    heads.log_prob(decoded(heads, REPLICAS, ROWS), Target.certain(values))[1].sum().backward()
    assert heads.log_scale.grad is not None
    assert torch.equal(heads.log_scale.grad[0], torch.zeros(GAUSSIANS, dtype=torch.float64))
    assert (heads.log_scale.grad[1] != 0).all()


@pytest.mark.parametrize("at_a_time", [1, 3, 7])
@pytest.mark.parametrize("draw_numbers", [False, True])
def test_moments_of_samples_are_the_explicit_ones(heads: Heads, draw_numbers: bool, at_a_time: int) -> None:
    samples = 7
    prediction = decoded(heads, REPLICAS, samples, ROWS)
    moments = sample_moments(heads, samples, draw_numbers, at_a_time=at_a_time)
    assert heads.log_scale is not None and moments.numeric_variance is not None and moments.block_variance is not None
    variance = heads.log_scale.detach().exp()[:, None] ** 2 * (1.0 if draw_numbers else 0.0)
    numbers = prediction.numeric.detach().numpy()
    np.testing.assert_allclose(moments.numeric.detach(), numbers.mean(1))
    np.testing.assert_allclose(moments.numeric_variance.detach(), numbers.var(1) + variance[..., :2].numpy())
    for j, count in enumerate(LEVELS):
        probabilities = torch.softmax(prediction.categorical[..., :count, j], -1).mean(1)
        torch.testing.assert_close(moments.categorical[..., :count, j], probabilities)
        assert torch.equal(moments.categorical[..., count:, j], torch.zeros_like(moments.categorical[..., count:, j]))
    first = 2
    for block, mean, spread in zip(prediction.blocks, moments.blocks, moments.block_variance, strict=True):
        width, members = block.shape[-1], block.shape[-2]
        own = variance[..., first : first + members].numpy()
        first += members
        np.testing.assert_allclose(mean.detach(), block.detach().numpy().mean(1))
        np.testing.assert_allclose(spread.detach(), block.detach().numpy().var(1).sum(-1) + width * own)


def test_the_density_by_moments_is_the_mean_density_of_the_samples(heads: Heads) -> None:
    samples = 7
    prediction, imagined = decoded(heads, REPLICAS, ROWS), decoded(heads, REPLICAS, samples, ROWS, seed=50)
    probabilities = imagined.probabilities()
    one_by_one = [
        heads.log_prob(
            prediction, Target(imagined.numeric[:, k], probabilities[:, k], tuple(b[:, k] for b in imagined.blocks))
        )
        for k in range(samples)
    ]
    by_moments = heads.log_prob(prediction, sample_moments(heads, samples, False, seed=50))
    torch.testing.assert_close(by_moments, torch.stack(one_by_one).mean(0))


def test_the_density_by_moments_is_the_mean_density_of_drawn_values(heads: Heads) -> None:
    draws = 20_000
    prediction, imagined = decoded(heads, REPLICAS, ROWS), decoded(heads, REPLICAS, 4, ROWS, seed=50)
    by_moments = heads.log_prob(prediction, sample_moments(heads, 4, True, seed=50)).detach()
    torch.manual_seed(0)
    assert heads.log_scale is not None
    spread = heads.log_scale.detach().exp().view(REPLICAS, 1, 1, GAUSSIANS)
    each = (draws // 4,)
    numeric = Normal(imagined.numeric, spread[..., :2]).sample(each)
    blocks = (
        Normal(imagined.blocks[0], spread[..., 2:4, None]).sample(each),
        Normal(imagined.blocks[1], spread[..., 4:, None]).sample(each),
    )
    codes = [Categorical(logits=imagined.categorical[..., :count, j]).sample(each) for j, count in enumerate(LEVELS)]
    one_hot = torch.stack([torch.nn.functional.one_hot(code, 4).double() for code in codes], dim=-1)

    def samples_last(x: Tensor) -> Tensor:
        return x.transpose(0, 1).flatten(1, 2)

    target = Target(samples_last(numeric), samples_last(one_hot), tuple(samples_last(b) for b in blocks))
    spread_out = Prediction(
        prediction.numeric[:, None], prediction.categorical[:, None], tuple(b[:, None] for b in prediction.blocks)
    )
    drawn = heads.log_prob(spread_out, target).detach()
    error = (drawn.mean(1) - by_moments) / (drawn.std(1) / math.sqrt(draws))
    assert error.abs().max() < 5
    # The simplest case: a head's draw is less likely under it than its mean, by half a nat a dimension.
    own = heads.log_prob(prediction, sample_moments(heads, 1, True))
    sure = heads.log_prob(prediction, sample_moments(heads, 1, False))
    half = torch.tensor([0.5, 0.5, 0, 0, 0, 2, 2, 1.5], dtype=torch.float64).expand_as(own)
    torch.testing.assert_close(sure - own, half)


def test_levels_an_attribute_does_not_have_get_nothing_whatever_the_decoder_says(layout: Layout) -> None:
    heads = Heads(layout, REPLICAS, learned_scale=True)
    raw = torch.randn(REPLICAS, ROWS, layout.scalar_width, generator=generator(1))
    absent = (~layout.used[: layout.scalar_width]).expand_as(raw)
    raw[absent] = 1e4
    raw[0, 0, 2:] = torch.where(absent[0, 0, 2:], 1e30, -1e30)
    raw.requires_grad_()
    blocks = (torch.zeros(REPLICAS, ROWS, 2, 4), torch.zeros(REPLICAS, ROWS, 1, 3))
    prediction = heads(raw, blocks)
    probabilities = prediction.expectation().categorical
    for j, count in enumerate(LEVELS):
        assert (probabilities[..., count:, j] == 0).all()
        assert (probabilities[..., j].argmax(-1) < count).all()
    torch.testing.assert_close(probabilities.sum(-2), torch.ones(REPLICAS, ROWS, 3))
    values, _ = random_values(REPLICAS, ROWS)
    certain = Target(values.numeric.float(), values.categorical.float(), tuple(b.float() for b in values.blocks))
    moments = sample_moments(heads.double(), 4, False).detach()
    heads.float()
    imagined = Target(moments.numeric.float(), moments.categorical.float(), tuple(b.float() for b in moments.blocks))
    hidden = Target(certain.numeric, torch.zeros_like(certain.categorical), certain.blocks)
    for target in (certain, imagined, hidden):
        raw.grad = None
        log_prob = heads.log_prob(heads(raw, blocks), target)
        assert torch.isfinite(log_prob).all()
        log_prob.sum().backward()
        assert raw.grad is not None and torch.isfinite(raw.grad).all()
        assert torch.equal(raw.grad[absent], torch.zeros_like(raw.grad[absent]))


def test_the_mean_of_an_image_lies_in_the_unit_interval_and_features_anywhere(heads: Heads) -> None:
    raw = (100 * normal(REPLICAS, ROWS, 2, 4, seed=3), 100 * normal(REPLICAS, ROWS, 1, 3, seed=4))
    prediction = heads(torch.zeros(REPLICAS, ROWS, heads.layout.scalar_width).double(), raw)
    torch.testing.assert_close(prediction.blocks[0], torch.sigmoid(raw[0]))
    assert torch.equal(prediction.blocks[1], raw[1])


def test_spreads_start_at_those_about_the_floor() -> None:
    table = dependent_table(200, numbers=2, images=1, features=1)
    train, validation, _ = split_views(table, replicas=2)
    encoder = Encoder(train, Layout(table.schema), "standard", "cpu")
    for replica in range(2):
        rows, shown = rows_behind(train)[replica], train.observed[replica]
        seen = table.blocks["image0"][rows][shown[:, table.schema.names.index("image0")]] / 255
        expected = [1.0, 1.0, float(np.sqrt(np.mean((seen - seen.mean(0)) ** 2))), 1.0]
        torch.testing.assert_close(encoder.floor_spread[replica], torch.tensor(expected), rtol=1e-5, atol=0)
    heads = Heads(Layout(table.schema), 2, learned_scale=True)
    heads.start_spreads(encoder.floor_spread)
    assert heads.log_scale is not None
    torch.testing.assert_close(heads.log_scale.detach().exp(), encoder.floor_spread)
    Heads(Layout(table.schema), 2, learned_scale=False).start_spreads(encoder.floor_spread)


def test_the_mean_of_an_image_is_a_sigmoid_with_its_gradient() -> None:
    raw = (3 * normal(4, 9, seed=2)).requires_grad_()
    torch.testing.assert_close(image_mean(raw), torch.sigmoid(raw))
    assert torch.autograd.gradcheck(image_mean, (raw,))
    far = torch.tensor([-200.0, -100.0, 0.0, 100.0], requires_grad=True)
    mean = image_mean(far)
    mean.sum().backward()
    assert mean.tolist() == pytest.approx([0, 0, 0.5, 1]) and far.grad is not None
    assert far.grad.tolist() == pytest.approx([0, 0, 0.25, 0])


def test_every_pixel_is_rounded_alike_wherever_it_stands() -> None:
    raw = normal(1003, seed=3).float()
    whole = image_mean(raw)
    for first in range(40):
        for count in (1, 7, 15, 33, 100):
            assert torch.equal(image_mean(raw[first : first + count].clone()), whole[first : first + count])
