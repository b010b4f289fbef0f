"""Importance averaging, latent Gaussians and the bound, against one-shot formulas and a model solved in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from bench.api import Attribute, Schema
from bench.neural.engine.noise import DrawnNoise
from bench.neural.gaussian import Gaussian, standard_log_density
from bench.neural.heads import Prediction
from bench.neural.importance import DRAWS_AT_A_TIME, ImportanceAverage
from bench.neural.model import LatentModel, Noise, Notes
from bench.neural.rows import Encoded, Imputed, Layout, Rows
from tests.neural_views import generator

REPLICAS, SAMPLES, ROWS = 2, 23, 4


def expectations(dtype: torch.dtype = torch.float64) -> Imputed:
    """Return expectations of 2 numbers, 3 categories of 4 levels and one group of 2 blocks for every sample."""
    draw = generator(1)
    shapes = ((2,), (4, 3), (2, 5))
    parts = [torch.randn(REPLICAS, SAMPLES, ROWS, *shape, generator=draw, dtype=dtype) for shape in shapes]
    return Imputed(parts[0], torch.softmax(parts[1], -2), (parts[2],))


def streamed(log_weight: Tensor, values: Imputed, sizes: Sequence[int], uniform: bool = False) -> ImportanceAverage:
    """Return the average of everything, added in chunks of these sizes."""
    average = ImportanceAverage(uniform)
    chunks = [log_weight.split(list(sizes), 1), values.numeric.split(list(sizes), 1)]
    chunks += [values.categorical.split(list(sizes), 1), values.blocks[0].split(list(sizes), 1)]
    for weight, numeric, categorical, block in zip(*chunks, strict=True):
        average.add(weight, Imputed(numeric, categorical, (block,)))
    return average


def assert_close(got: Imputed, weight: Tensor, values: Imputed) -> None:
    """Assert that ``got`` is the average of ``values`` with weights [R, k, b] that sum to 1."""
    torch.testing.assert_close(got.numeric, (weight[..., None] * values.numeric).sum(1))
    torch.testing.assert_close(got.categorical, (weight[..., None, None] * values.categorical).sum(1))
    torch.testing.assert_close(got.blocks[0], (weight[..., None, None] * values.blocks[0]).sum(1))


@pytest.mark.parametrize("sizes", [(23,), (1,) * 23, (10, 10, 3), (1, 21, 1)])
@pytest.mark.parametrize("order", ["drawn", "rising", "falling"])
def test_streaming_is_the_softmax_average_however_it_is_chunked(sizes: Sequence[int], order: str) -> None:
    log_weight = 3 * torch.randn(REPLICAS, SAMPLES, ROWS, generator=generator(2), dtype=torch.float64)
    if order != "drawn":
        log_weight = log_weight.sort(dim=1, descending=order == "falling").values
    values = expectations()
    average = streamed(log_weight, values, sizes)
    weight = torch.softmax(log_weight, dim=1)
    assert_close(average.result(), weight, values)
    torch.testing.assert_close(average.effective_sample_size(), 1 / (weight**2).sum(1))
    torch.testing.assert_close(average.log_mean_weight(), torch.logsumexp(log_weight, 1) - math.log(SAMPLES))
    uniform = streamed(log_weight, values, sizes, uniform=True)
    assert_close(uniform.result(), torch.full_like(weight, 1 / SAMPLES), values)
    torch.testing.assert_close(uniform.effective_sample_size(), 1 / (weight**2).sum(1))
    torch.testing.assert_close(uniform.log_mean_weight(), average.log_mean_weight())


def test_the_effective_sample_size_lies_between_one_and_all() -> None:
    values = expectations()
    equal = torch.full((REPLICAS, SAMPLES, ROWS), -5.0, dtype=torch.float64)
    everything = streamed(equal, values, (10, 13)).effective_sample_size()
    torch.testing.assert_close(everything, torch.full_like(everything, SAMPLES))
    single = equal.clone()
    single[:, 7] = 800.0
    one = streamed(single, values, (10, 13))
    torch.testing.assert_close(one.effective_sample_size(), torch.ones_like(everything))
    assert_close(one.result(), torch.nn.functional.one_hot(torch.tensor(7), SAMPLES)[None, :, None].double(), values)


@pytest.mark.parametrize("offset", [-1e6, 1e6])
def test_huge_weights_do_not_overflow(offset: float) -> None:
    log_weight = torch.randn(REPLICAS, SAMPLES, ROWS, generator=generator(3), dtype=torch.float64)
    values = expectations()
    near, far = (streamed(w, values, (4, 19)) for w in (log_weight, log_weight + offset))
    torch.testing.assert_close(far.result().numeric, near.result().numeric)
    torch.testing.assert_close(far.effective_sample_size(), near.effective_sample_size())
    torch.testing.assert_close(far.log_mean_weight(), near.log_mean_weight() + offset)
    # In single precision, and with 10^8 between the weights: the largest takes all.
    spread = torch.linspace(-1e8, 1e8, SAMPLES)[None, :, None].expand(REPLICAS, -1, ROWS)
    for weights, winner in ((spread, SAMPLES - 1), (spread.flip(1), 0)):
        single = streamed(weights, (floats := expectations(torch.float32)), (1, 5, 17))
        assert torch.equal(single.result().numeric, floats.numeric[:, winner])
        assert torch.equal(single.effective_sample_size(), torch.ones(REPLICAS, ROWS))
        assert torch.isfinite(single.log_mean_weight()).all()


def test_the_divergence_and_densities_of_latent_gaussians_are_those_of_torch_distributions() -> None:
    draw = generator(4)
    mean, log_variance = (torch.randn(3, 5, generator=draw, dtype=torch.float64) for _ in range(2))
    proposal, same = Gaussian(mean, log_variance), Normal(mean, torch.exp(0.5 * log_variance))
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(proposal.kl_to_standard(), kl_divergence(same, standard).sum(-1))
    noise = torch.randn(3, 50_000, 5, generator=draw, dtype=torch.float64)
    z = proposal.sample(noise)
    torch.testing.assert_close(z, mean[:, None] + same.scale[:, None] * noise)
    torch.testing.assert_close(proposal.log_density(z), same.log_prob(z.transpose(0, 1)).sum(-1).T)
    torch.testing.assert_close(standard_log_density(z), standard.log_prob(z.transpose(0, 1)).sum(-1).T)
    differences = proposal.log_density(z) - standard_log_density(z)
    error = differences.mean(1) - proposal.kl_to_standard()
    assert (error.abs() < 5 * differences.std(1) / math.sqrt(z.shape[1])).all()
    torch.testing.assert_close(Gaussian(0 * mean, 0 * mean).kl_to_standard(), torch.zeros(3, dtype=torch.float64))


def test_a_raw_output_is_a_mean_and_a_clamped_log_variance() -> None:
    raw = torch.tensor([[1.0, 2.0, -50.0, 50.0]])
    proposal = Gaussian.from_raw(raw)
    assert proposal.mean.tolist() == [[1.0, 2.0]] and proposal.log_variance.tolist() == [[-10.0, 10.0]]


#: x = W z + 0.6 e with three numbers and two latent variables: every density is known.
WEIGHTS = torch.tensor([[1.0, 0.2], [-0.7, 0.5], [0.4, 0.9]])
NOISE = 0.6


class LinearGaussian(LatentModel):
    """A network whose decoder is x = W z + e; its proposal is the exact posterior, widened by ``widen``."""

    def __init__(self, widen: float) -> None:
        schema = Schema(tuple(Attribute(f"x{j}", "numeric") for j in range(3)))
        super().__init__(Layout(schema), 1, {})
        self.widen, self.width_per_draw = widen, 1
        self.asked: list[int] = []

    def propose(self, x: Rows, draws: int, noise: Noise) -> tuple[Tensor, Prediction, Notes]:
        self.asked.append(draws)
        e, batch, observed = noise.normal("latent", draws, x.size, 2), x.target, x.observed[0]
        shown = WEIGHTS * observed[..., None] / NOISE
        precision = torch.eye(2) + shown.transpose(1, 2) @ shown
        covariance = torch.linalg.inv(precision)
        mean = (covariance @ shown.transpose(1, 2) @ batch.numeric[0, ..., None] / NOISE).squeeze(-1)
        root = torch.linalg.cholesky(covariance * self.widen**2)
        z = mean + (root @ e[0, ..., None]).squeeze(-1)
        decoded = z @ WEIGHTS.T
        log_data = torch.where(observed, Normal(decoded, NOISE).log_prob(batch.numeric), 0.0).sum(-1)
        log_proposal = MultivariateNormal(mean, scale_tril=root).log_prob(z)
        log_weight = log_data + standard_log_density(z) - log_proposal
        empty = decoded.new_zeros(*decoded.shape[:-1], 1, 0)
        return log_weight[None], Prediction(decoded[None], empty[None], ()), {}


def linear_gaussian_rows() -> tuple[Encoded, np.ndarray, np.ndarray]:
    """Return six partly observed rows, their exact log-likelihood and the exact expectation of what is hidden."""
    draw = generator(5)
    x = torch.randn(6, 2, generator=draw) @ WEIGHTS.T + NOISE * torch.randn(6, 3, generator=draw)
    observed = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
    covariance = (WEIGHTS @ WEIGHTS.T + NOISE**2 * torch.eye(3)).double().numpy()
    likelihood, expected = np.zeros(6), np.zeros((6, 3))
    for row, (values, shown) in enumerate(zip(x.double().numpy(), observed.numpy(), strict=True)):
        part = covariance[np.ix_(shown, shown)]
        quadratic = values[shown] @ np.linalg.solve(part, values[shown]) if shown.any() else 0.0
        determinant = np.linalg.slogdet(part)[1] if shown.any() else 0.0
        likelihood[row] = -0.5 * (quadratic + determinant + shown.sum() * math.log(2 * math.pi))
        if shown.any():
            expected[row] = covariance[:, shown] @ np.linalg.solve(part, values[shown])
    hidden_as_zero = torch.where(observed, x, 0.0)[None]
    return Encoded(hidden_as_zero, torch.zeros(1, 6, 1, 0), (), observed[None]), likelihood, expected


def test_with_the_exact_posterior_every_draw_has_the_likelihood_as_its_weight() -> None:
    batch, likelihood, _ = linear_gaussian_rows()
    _, notes = LinearGaussian(1.0).impute(Rows(batch), 7, DrawnNoise([generator(6)], "cpu"))
    np.testing.assert_allclose(notes["bound"][0], likelihood, atol=1e-5)
    np.testing.assert_allclose(notes["effective_sample_size"][0], 7, rtol=1e-5)


def test_the_bound_converges_to_the_log_likelihood_and_the_average_to_the_expectation() -> None:
    batch, likelihood, expected = linear_gaussian_rows()
    hidden = ~batch.observed[0].numpy()
    network = LinearGaussian(1.5)
    many, notes = network.impute(Rows(batch), 20_000, DrawnNoise([generator(7)], "cpu"))
    np.testing.assert_allclose(notes["bound"][0], likelihood, atol=0.03)
    np.testing.assert_allclose(many.numeric[0].numpy()[hidden], expected[hidden], atol=0.03)
    # From below: the bound of few draws is lower on average, and its distance shrinks with their number.
    gaps = []
    for draws in (1, 5, 50):
        repeats = [
            LinearGaussian(1.5).impute(Rows(batch), draws, DrawnNoise([generator(100 + k)], "cpu"))[1]["bound"]
            for k in range(100)
        ]
        gaps.append(float((torch.as_tensor(likelihood) - torch.cat(repeats).mean(0)).mean()))
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0
    # A wide proposal without its weights is no posterior.
    ignoring = LinearGaussian(1.5)
    ignoring.importance_weights = False
    _, uniform_notes = ignoring.impute(Rows(batch), 20_000, DrawnNoise([generator(7)], "cpu"))
    assert torch.equal(uniform_notes["bound"], notes["bound"])


def test_draws_come_in_bounded_chunks_that_add_up() -> None:
    batch, _, _ = linear_gaussian_rows()
    network = LinearGaussian(1.0)
    network.impute(Rows(batch), 2 * DRAWS_AT_A_TIME + 3, DrawnNoise([generator(0)], "cpu"))
    assert network.asked == [DRAWS_AT_A_TIME, DRAWS_AT_A_TIME, 3]
    wide = LinearGaussian(1.0)
    wide.width_per_draw = 2**18
    wide.impute(Rows(batch), 4, DrawnNoise([generator(0)], "cpu"))
    assert wide.asked == [1, 1, 1, 1]
