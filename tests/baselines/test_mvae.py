"""MVAE: the product of experts in closed form, the terms of its loss, and data whose optimum is known."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from bench.api import Attribute, Budget, Context, Incomplete, Schema, Table
from bench.conformance.method import hidden_values_change_nothing, stack_agrees_with_each_alone
from bench.conformance.tables import example_of
from bench.conformance.trial import Trial
from bench.neural.engine.bank import parameter_count, reset_parameters
from bench.neural.engine.noise import DrawnNoise, replica_generators, replica_noise
from bench.neural.gaussian import Gaussian
from bench.neural.networks import Sizes, vsae_parameter_count
from bench.neural.rows import Encoded, Layout, Rows
from tests.analytic import Holes, categorical_mixture, linear_gaussian
from tests.neural_views import Named, loss_of, step_noise

FILE = Path(__file__).resolve().parents[2] / "baselines" / "mvae.py"


@pytest.fixture
def mvae(load_plugin: Callable[..., type[Any]]) -> type[Any]:
    return load_plugin(FILE)


@pytest.fixture
def module(mvae: type[Any]) -> ModuleType:
    return sys.modules[mvae.__module__]


def schema_of(*kinds: str) -> Schema:
    shapes: Mapping[str, dict[str, Any]] = {
        "numeric": {},
        "categorical": {"levels": tuple("abc")},
        "image": {"shape": (3, 3)},
        "features": {"shape": (4,)},
    }
    return Schema(tuple(Attribute(f"{kind}{i}", kind, **shapes[kind]) for i, kind in enumerate(kinds)))  # type: ignore[arg-type]


MIXED = schema_of("numeric", "categorical", "numeric", "categorical", "features")


def build(method: type[Any], schema: Schema, replicas: int = 1, **parameters: Any) -> Any:
    """Return an untrained network."""
    network = method({**method.parameter_sets["default"], **parameters}).build(Layout(schema), replicas)
    reset_parameters(network, replica_generators("test", list(range(replicas))))
    return network


def rows_of(schema: Schema, rows: int, replicas: int = 1, observed: float = 0.6) -> Encoded:
    """Return encoded rows with holes; the first row shows nothing."""
    layout, generator = Layout(schema), torch.Generator().manual_seed(5)
    shown = torch.rand(replicas, rows, layout.attributes, generator=generator) < observed
    shown[:, 0] = False
    numeric = torch.randn(replicas, rows, layout.numeric, generator=generator)
    categorical = torch.zeros(replicas, rows, layout.max_levels, layout.categorical)
    if layout.categorical:
        code = torch.randint(0, 1000, (replicas, rows, 1, layout.categorical), generator=generator) % layout.levels
        categorical.scatter_(2, code, 1.0)
    blocks = [
        torch.rand(replicas, rows, len(group.names), group.width, generator=generator)
        * shown[..., layout.group_positions(index), None]
        for index, group in enumerate(layout.block_groups)
    ]
    categorical_shown = shown[:, :, None, layout.numeric : layout.numeric + layout.categorical]
    return Encoded(numeric * shown[..., : layout.numeric], categorical * categorical_shown, tuple(blocks), shown)


def some_rows(batch: Encoded, keep: Tensor) -> Encoded:
    """Return some rows of a batch."""
    blocks = tuple(block[:, keep] for block in batch.blocks)
    return Encoded(batch.numeric[:, keep], batch.categorical[:, keep], blocks, batch.observed[:, keep])


def noise_of(network: Any, rows: int) -> dict[str, Tensor]:
    """Return the noise of a training step, other in each replica."""
    generators = replica_generators("test noise", list(range(network.replicas)))
    return {name: replica_noise(shape, generators, "cpu") for name, shape in step_noise(network, rows).items()}


def test_product_of_experts_is_the_product_of_densities(module: ModuleType) -> None:
    torch.manual_seed(0)
    experts = Gaussian(torch.randn(1, 2, 3, 1), torch.randn(1, 2, 3, 1))
    terms = torch.tensor([[True, False, True], [True, True, True], [False, False, False]])
    chosen = terms[None, :, None].expand(-1, -1, 2, -1)
    product = module.product_of_experts(experts, chosen)
    grid = torch.linspace(-12, 12, 20_001)
    for term in range(3):
        for row in range(2):
            log_density = Normal(0.0, 1.0).log_prob(grid)
            for i in range(3):
                if chosen[0, term, row, i]:
                    own = Normal(experts.mean[0, row, i], (0.5 * experts.log_variance[0, row, i]).exp())
                    log_density = log_density + own.log_prob(grid)
            density = torch.softmax(log_density, 0)
            mean = (density * grid).sum()
            variance = (density * (grid - mean) ** 2).sum()
            torch.testing.assert_close(product.mean[0, term, row, 0], mean, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(product.log_variance[0, term, row, 0].exp(), variance, rtol=1e-3, atol=1e-5)


def test_one_expert_and_the_prior_are_the_posterior_of_a_gaussian(module: ModuleType) -> None:
    x, noise_variance = torch.tensor([[[[1.7]]]]), 0.3
    expert = Gaussian(x, torch.full_like(x, math.log(noise_variance)))
    posterior = module.product_of_experts(expert, torch.ones(1, 1, 1, 1, dtype=torch.bool))
    assert float(posterior.mean) == pytest.approx(1.7 / (1 + noise_variance))
    assert float(posterior.log_variance.exp()) == pytest.approx(noise_variance / (1 + noise_variance))


def test_no_expert_leaves_the_prior_exactly(module: ModuleType) -> None:
    experts = Gaussian(torch.randn(2, 4, 3, 5), torch.full((2, 4, 3, 5), -10.0))
    prior = module.product_of_experts(experts, torch.zeros(2, 1, 4, 3, dtype=torch.bool))
    assert not prior.mean.any() and not prior.log_variance.any()


def test_subsets_have_even_sizes_and_are_even_within_a_size(module: ModuleType) -> None:
    torch.manual_seed(0)
    draws = 60_000
    observed = torch.tensor([True, True, False, True, True, True]).expand(1, draws, 6)
    subsets = module.random_subsets(observed, torch.randn(1, 1, draws, 6), torch.randn(1, 1, draws))[0, 0]
    assert not subsets[:, 2].any()
    counts = Counter(tuple(torch.nonzero(row).flatten().tolist()) for row in subsets)
    for size in (2, 3, 4):
        own = {subset: count for subset, count in counts.items() if len(subset) == size}
        possible = math.comb(5, size)
        assert len(own) == possible
        assert abs(sum(own.values()) / draws - 1 / 3) < 0.01
        expected = draws / 3 / possible
        assert max(abs(count - expected) for count in own.values()) < 5 * math.sqrt(expected)
    assert sum(len(subset) in (2, 3, 4) for subset in counts) == len(counts) == 25


def test_rows_with_fewer_than_three_observed_have_no_subset(module: ModuleType) -> None:
    observed = torch.tensor([[[True, True, False, False], [False] * 4, [True, True, True, False]]])
    for size_noise in (-9.0, 0.0, 9.0):
        subsets = module.random_subsets(observed, torch.randn(1, 2, 3, 4), torch.full((1, 2, 3), size_noise))
        assert not subsets[:, :, :2].any()
        assert (subsets[:, :, 2].sum(-1) == 2).all()


def test_single_attributes_are_drawn_without_bias(module: ModuleType) -> None:
    torch.manual_seed(0)
    draws = 40_000
    for shown in ([True] * 5, [True, False, True, True, False], [False, False, True, False, False], [False] * 5):
        observed = torch.tensor(shown).expand(1, draws, 5)
        chosen, weights = module.single_attributes(observed, torch.randn(1, draws, 5), 2)
        assert chosen.shape == (1, 2, draws, 5) and (chosen.sum(-1) <= 1).all()
        assert not (chosen[:, 0] & chosen[:, 1]).any()
        mean = (weights[..., None] * chosen).sum(1).mean((0, 1))
        torch.testing.assert_close(mean, torch.tensor(shown).float(), rtol=0, atol=0.03)


def test_few_attributes_each_have_their_own_term(module: ModuleType, mvae: type[Any]) -> None:
    observed = torch.tensor([[[True, False, True], [False, False, False]]])
    chosen, weights = module.single_attributes(observed, torch.randn(1, 2, 3), 3)
    assert chosen[0, :, 0].tolist() == [[True, False, False], [False, False, False], [False, False, True]]
    assert weights[0].tolist() == [[1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]
    counts = {size: build(mvae, schema_of(*["numeric"] * size)).terms for size in (1, 2, 3, 4, 9)}
    assert counts == {1: 2, 2: 3, 3: 5, 4: 4, 9: 4}


def test_loss_is_a_plain_sum_of_bounds(mvae: type[Any]) -> None:
    weights = {"numeric": 0.5, "categorical": 3.0, "features": 0.25}
    changes: dict[str, Any] = {f"{kind}_weight": weight for kind, weight in weights.items()}
    network = build(mvae, MIXED, kl_weight=0.7, **changes)
    network.decoder.heads.log_scale.data.copy_(torch.tensor([[0.3, -0.4, 0.1]]))
    batch, rows, layout = rows_of(MIXED, 7), 7, network.layout
    noise = noise_of(network, rows)
    with torch.no_grad():
        loss = loss_of(network, batch, noise)
        chosen, term_weights = network.terms_of(batch.observed, Named(noise))
        experts = network.experts(batch)
        proposals: dict[tuple[int, int], Normal] = {}
        z = torch.zeros(network.terms, rows, network.latent)
        for term in range(network.terms):
            for row in range(rows):
                precision, weighted = torch.ones(network.latent), torch.zeros(network.latent)
                for i in torch.nonzero(chosen[0, term, row]).flatten():
                    own = torch.exp(-experts.log_variance[0, row, i])
                    precision, weighted = precision + own, weighted + own * experts.mean[0, row, i]
                proposal = Normal(weighted / precision, precision.rsqrt())
                proposals[term, row] = proposal
                z[term, row] = proposal.mean + proposal.stddev * noise["latent"][0, term, row]
        counted = (term_weights > 0).float().flatten(1, 2)
        prediction = network.decoder(z.flatten(0, 1)[None], counted)
        total = torch.zeros(())
        scale = network.decoder.heads.log_scale[0].exp()
        for (term, row), proposal in proposals.items():
            at, bound = term * rows + row, torch.zeros(())
            for i in torch.nonzero(chosen[0, term, row]).flatten().tolist():
                if i < 2:
                    own = Normal(prediction.numeric[0, at, i], scale[i]).log_prob(batch.numeric[0, row, i])
                    kind = "numeric"
                elif i < 4:
                    logits = prediction.categorical[0, at, :, i - 2]
                    own = Categorical(logits=logits).log_prob(batch.categorical[0, row, :, i - 2].argmax())
                    kind = "categorical"
                else:
                    own = Normal(prediction.blocks[0][0, at, 0], scale[2]).log_prob(batch.blocks[0][0, row, 0]).sum()
                    kind = "features"
                bound = bound + weights[kind] * own
            bound = bound - 0.7 * kl_divergence(proposal, Normal(0.0, 1.0)).sum()
            total = total + term_weights[0, term, row] * bound
    assert layout.attributes == 5 and chosen.any(-1).sum() > 10
    torch.testing.assert_close(loss, -total[None] / rows, rtol=1e-5, atol=1e-5)


def test_first_term_is_given_all_that_is_observed(mvae: type[Any]) -> None:
    network, batch = build(mvae, MIXED), rows_of(MIXED, 30)
    chosen, weights = network.terms_of(batch.observed, Named(noise_of(network, 30)))
    assert torch.equal(chosen[:, 0], batch.observed)
    assert not (chosen & ~batch.observed[:, None]).any()
    assert torch.equal(weights > 0, chosen.any(-1))


@pytest.mark.parametrize("kinds", [("numeric",) * 4, ("image", "categorical")])
def test_rows_with_nothing_observed_contribute_nothing(mvae: type[Any], kinds: tuple[str, ...]) -> None:
    schema, rows = schema_of(*kinds), 24
    batch = rows_of(schema, rows, observed=0.7)
    shown = batch.observed[0].any(-1)
    assert 0 < int((~shown).sum()) < rows
    results = []
    for keep in (torch.ones(rows, dtype=torch.bool), shown):
        network = build(mvae, schema)
        noise = noise_of(network, rows)
        own = {name: part[:, keep] if name == "single" else part[:, :, keep] for name, part in noise.items()}
        loss = loss_of(network, some_rows(batch, keep), own).sum() * keep.sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in network.parameters()), *network.buffers()])
    for whole, alone in zip(*results, strict=True):
        torch.testing.assert_close(whole, alone, rtol=1e-3, atol=1e-3)


def test_rows_with_nothing_observed_are_imputed_from_the_prior(mvae: type[Any]) -> None:
    network, batch = build(mvae, MIXED), rows_of(MIXED, 4)
    with torch.no_grad():
        imputed, notes = network.impute(Rows(batch), 40, DrawnNoise(replica_generators("draws", [3]), "cpu"))
        noise = torch.randn(1, 1, 20_000, network.latent, generator=torch.Generator().manual_seed(1))
        prior = network.decoder(noise)
    assert float(notes["effective_sample_size"][0, 0]) == pytest.approx(40)
    assert float(notes["kl"][0, 0]) == 0 and float(notes["bound"][0, 0]) == pytest.approx(0, abs=1e-5)
    torch.testing.assert_close(imputed.numeric[0, 0], prior.numeric.mean((0, 1, 2)), rtol=0, atol=0.1)
    assert float(notes["kl"][0, 1]) > 0


def test_kl_is_that_of_samples(mvae: type[Any]) -> None:
    network, batch = build(mvae, MIXED, latent=4), rows_of(MIXED, 4)
    torch.manual_seed(1)
    with torch.no_grad():
        _, notes = network.impute(Rows(batch), 2, DrawnNoise(replica_generators("draws", [3]), "cpu"))
        experts = network.experts(batch)
        for row in range(1, 4):
            shown = batch.observed[0, row]
            precision = 1 + torch.exp(-experts.log_variance[0, row, shown]).sum(0)
            mean = (torch.exp(-experts.log_variance[0, row]) * experts.mean[0, row])[shown].sum(0) / precision
            z = Normal(mean, precision.rsqrt()).sample((100_000,))
            ratio = (Normal(mean, precision.rsqrt()).log_prob(z) - Normal(0.0, 1.0).log_prob(z)).sum(-1)
            assert abs(float(ratio.mean() - notes["kl"][0, row])) < 5 * float(ratio.std()) / math.sqrt(100_000)


def test_a_kl_weight_for_each_replica_is_that_weight_alone(mvae: type[Any]) -> None:
    network = build(mvae, MIXED, replicas=2)
    batch, noise = rows_of(MIXED, 4, replicas=2), noise_of(network, 4)
    with torch.no_grad():
        network.kl_weight = torch.tensor([[0.5], [2.0]])
        together = loss_of(network, batch, noise)
        for replica, weight in enumerate((0.5, 2.0)):
            network.kl_weight = weight
            torch.testing.assert_close(loss_of(network, batch, noise)[replica], together[replica])
    assert not torch.allclose(loss_of(network, batch, noise)[0], together[0])


def test_kl_takes_its_own_share_of_the_training_to_warm_up(mvae: type[Any]) -> None:
    assert build(mvae, MIXED).training_budget(Budget(warm_fraction=0.1)).warm_fraction == 0.4
    assert build(mvae, MIXED, steps=70).training_budget(Budget(preset="quick")).steps == 70
    network, batch = build(mvae, MIXED, kl_warm_up=False), rows_of(MIXED, 4)
    assert network.training_budget(Budget(warm_fraction=0.1)).warm_fraction == 0.1
    noise = noise_of(network, 4)
    assert torch.equal(loss_of(network, batch, noise, 0.0, True), loss_of(network, batch, noise))
    warming = build(mvae, MIXED)
    with torch.no_grad():
        start, middle, end = (float(loss_of(warming, batch, noise, share, True)) for share in (0.0, 0.5, 1.0))
    assert start < middle == pytest.approx((start + end) / 2, rel=1e-5)


@pytest.mark.parametrize(
    "kinds",
    [
        ("numeric",),
        ("numeric",) * 12,
        ("categorical",) * 22,
        ("numeric", "categorical") * 4,
        ("image", "categorical"),
        ("image", "image"),
        ("features", "features", "numeric"),
    ],
)
@pytest.mark.parametrize("parameter_set", ["default", "literal"])
def test_it_has_at_least_the_parameters_of_vsae(mvae: type[Any], kinds: tuple[str, ...], parameter_set: str) -> None:
    layout = Layout(schema_of(*kinds))
    network = mvae(mvae.parameter_sets[parameter_set]).build(layout, 2)
    sizes = Sizes.of(layout)
    assert network.latent == layout.attributes * sizes.latent
    assert parameter_count(network) >= vsae_parameter_count(layout, sizes)


def test_experts_of_wide_tables_share_a_narrower_latent(mvae: type[Any]) -> None:
    layout = Layout(schema_of(*["numeric"] * 300))
    network = mvae(None).build(layout, 1)
    assert network.latent == 32768 // 300
    assert parameter_count(network) >= vsae_parameter_count(layout, Sizes.of(layout))


def test_parameter_sets_have_the_same_keys(mvae: type[Any]) -> None:
    assert set(mvae.parameter_sets["default"]) == set(mvae.parameter_sets["literal"])


SHORT = Budget(steps=300, batch=128, learning_rate=5e-3, draws=20, validation_draws=5, evaluations=6)


def test_it_goes_most_of_the_way_to_the_conditional_mean(mvae: type[Any]) -> None:
    holes = Holes.mcar(linear_gaussian(800, attributes=4, latent=1, noise=0.5, seed=1), ratio=0.4, seed=0)
    _, imputed = holes.impute(mvae, budget=SHORT)
    assert holes.share_of_gain(imputed) > 0.8


def test_it_goes_most_of_the_way_to_the_bayes_rate(mvae: type[Any]) -> None:
    holes = Holes.mcar(categorical_mixture(800, attributes=5, levels=3, components=3, seed=2), ratio=0.4, seed=0)
    _, imputed = holes.impute(mvae, budget=SHORT)
    assert holes.share_of_gain(imputed) > 0.7


@pytest.mark.parametrize("kind", ["image", "features"])
def test_it_predicts_each_of_two_modalities_from_the_other(mvae: type[Any], kind: str) -> None:
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 500)
    # The left half is bright, or the right half is, and the label says which.
    bright = np.where((np.arange(64) % 8 < 4) == (label[:, None] == 0), 0.7, 0.3) + 0.2 * rng.normal(size=(500, 64))
    pixels = np.clip(255 * bright, 0, 255).astype(np.uint8) if kind == "image" else bright.astype(np.float32)
    shape = (8, 8) if kind == "image" else (64,)
    schema = Schema((Attribute("side", "categorical", levels=("left", "right")), Attribute("x", kind, shape=shape)))  # type: ignore[arg-type]
    table = Table(schema, label[:, None].astype(float), {"x": pixels}, np.ones((500, 2), dtype=bool))
    hidden = rng.integers(0, 4, 500)
    observed = np.stack([hidden != 0, hidden != 1], axis=1)
    train, validation, test = (np.arange(a, b)[None] for a, b in ((0, 300), (300, 400), (400, 500)))
    folds = np.full((1, 100, 2), -1)
    both = observed[300:400].all(axis=1)
    folds[0, both, rng.integers(0, 2, int(both.sum()))] = 0
    budget = Budget(steps=360, batch=64, learning_rate=5e-3, evaluations=6, validation_draws=3)
    method = mvae({**mvae.parameter_sets["default"], "latent": 8}, Context(budget))
    view = Incomplete(table, validation, observed[validation], folds)
    method.fit(Incomplete(table, train, observed[train]), view, 0)
    values = method.impute(Incomplete(table, test, observed[test]), 10)
    label_hidden, x_hidden = hidden[400:] == 0, hidden[400:] == 1
    assert (values.scalars[label_hidden, 0] != label[400:][label_hidden]).mean() < 0.15
    truth = pixels[400:].astype(np.float64) / (255 if kind == "image" else 1)
    error = np.mean((values.blocks["x"] - truth)[x_hidden] ** 2)
    assert error < 0.85 * np.mean((truth.mean(axis=0) - truth)[x_hidden] ** 2)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("numbers and categories", {}), ("image and label", {"latent": 8}), ("features", {"latent": 8})],
)
def test_neither_hidden_values_nor_the_stack_change_a_bit(
    mvae: type[Any], name: str, changes: dict[str, Any], deterministic_torch: None
) -> None:
    trial = Trial(mvae, "inductive", example_of(name, replicas=2), {**mvae.parameter_sets["default"], **changes})
    hidden_values_change_nothing(trial)
    stack_agrees_with_each_alone(trial)
