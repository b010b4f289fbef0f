"""HI-VAE against its own mixture of Gaussians in closed form, enumeration over s, and data whose optimum is known."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from bench.api import Attribute, Budget, Context, Incomplete, Schema, Table
from bench.conformance.method import hidden_values_change_nothing, stack_agrees_with_each_alone
from bench.conformance.tables import example_of
from bench.conformance.trial import Trial
from bench.neural.engine.bank import BankedMLP, parameter_count, reset_parameters
from bench.neural.engine.noise import DrawnNoise, replica_generators, replica_noise
from bench.neural.networks import Sizes, vsae_parameter_count
from bench.neural.rows import Encoded, Layout, Rows
from tests.analytic import Holes, categorical_mixture, linear_gaussian
from tests.neural_views import linear_layer, loss_of, step_noise

FILE = Path(__file__).resolve().parents[2] / "baselines" / "hivae.py"
MIXED = Schema(
    (
        Attribute("a", "numeric"),
        Attribute("colour", "categorical", levels=("red", "green", "blue")),
        Attribute("b", "numeric"),
        Attribute("yes", "categorical", levels=("no", "yes")),
    )
)
NUMBERS = Schema(tuple(Attribute(f"x{index}", "numeric") for index in range(3)))


@pytest.fixture
def hivae(load_plugin: Callable[..., type[Any]]) -> type[Any]:
    return load_plugin(FILE)


def build(method: type[Any], schema: Schema, replicas: int = 1, **parameters: Any) -> Any:
    """Return an untrained network; its components differ in spread."""
    network = method({**method.parameter_sets["default"], **parameters}).build(Layout(schema), replicas)
    reset_parameters(network, replica_generators("test", list(range(replicas))))
    if network.log_scale is not None:
        spread = torch.linspace(-1.0, 0.3, network.log_scale.weight[0].numel()).view_as(network.log_scale.weight[0])
        network.log_scale.weight.data[:] = spread
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
    categorical_shown = shown[:, :, None, layout.numeric : layout.numeric + layout.categorical]
    return Encoded(numeric * shown[..., : layout.numeric], categorical * categorical_shown, (), shown)


def noise_of(network: Any, rows: int) -> dict[str, Tensor]:
    """Return the noise of a training step, other in each replica."""
    generators = replica_generators("test noise", list(range(network.replicas)))
    return {name: replica_noise(shape, generators, "cpu") for name, shape in step_noise(network, rows).items()}


def through(network: BankedMLP, x: Tensor) -> Tensor:
    """Return what the first bank of a network without batch normalisation makes of x, [inputs]."""
    for level in range(len(network.layers)):
        layer = linear_layer(network, level)
        x = x @ layer.weight[0] + layer.bias[0]
        x = torch.nn.functional.leaky_relu(x, 0.01) if level < len(network.activate) and network.activate[level] else x
    return x


def one_hot(index: int, count: int) -> Tensor:
    return torch.eye(count)[index]


def component_parts(network: Any, features: Tensor, s: int) -> tuple[Normal, Normal]:
    """Return q(z | x, s) and p(z | s) of one row."""
    given = one_hot(s, network.components)
    mean, log_variance = through(network.to_latent, torch.cat([features, given])).chunk(2)
    return Normal(mean, (0.5 * log_variance).exp()), Normal(through(network.prior_means, given), 1.0)


def log_likelihood(network: Any, batch: Encoded, row: int, z: Tensor, s: int) -> Tensor:
    """Return log p(x_o | z, s) of one row, attribute by attribute."""
    layout, decoder, given = network.layout, network.decoder, one_hot(s, network.components)
    y = through(decoder.to_y, z).view(layout.numeric + layout.categorical, -1)
    offsets, total = through(decoder.offsets, given), torch.zeros(())
    for i in range(layout.numeric):
        if batch.observed[0, row, i]:
            mean = y[i] @ decoder.numeric.weight[0, i] + decoder.numeric.bias[0, i] + offsets[i]
            scale = (network.log_scale.weight[0, s, i] + network.log_scale.bias[0, i]).exp()
            total = total + Normal(mean, scale).log_prob(batch.numeric[0, row, i]).squeeze()
    for j in range(layout.categorical):
        if batch.observed[0, row, layout.numeric + j]:
            own = offsets[layout.numeric :].view(layout.max_levels, layout.categorical)[:, j]
            logits = y[layout.numeric + j] @ decoder.categorical.weight[0, j] + decoder.categorical.bias[0, j] + own
            code = batch.categorical[0, row, :, j].argmax()
            total = total + Categorical(logits=logits[: layout.levels[j]]).log_prob(code)
    return total


def test_bound_is_the_one_of_an_enumeration_of_components(hivae: type[Any]) -> None:
    network = build(hivae, MIXED, components=3, kl_weight=0.7)
    batch, rows = rows_of(MIXED, 6), 6
    noise = noise_of(network, rows)
    with torch.no_grad():
        loss = loss_of(network, batch, noise)
        bounds = []
        for row in range(rows):
            features = torch.nn.functional.leaky_relu(through(network.trunk, batch.flat()[0, row]), 0.01)
            component = Categorical(logits=through(network.to_component, features))
            bound = -0.7 * kl_divergence(component, Categorical(torch.full((3,), 1 / 3)))
            for s in range(3):
                proposal, prior = component_parts(network, features, s)
                z = proposal.mean + proposal.stddev * noise["latent"][0, 0, row]
                own = log_likelihood(network, batch, row, z, s) - 0.7 * kl_divergence(proposal, prior).sum()
                bound = bound + component.probs[s] * own
            bounds.append(bound)
    torch.testing.assert_close(loss, -torch.stack(bounds).mean()[None], rtol=1e-5, atol=1e-5)


def test_kl_is_that_of_samples(hivae: type[Any]) -> None:
    network, samples = build(hivae, MIXED, components=3), 200_000
    batch = rows_of(MIXED, 3)
    torch.manual_seed(1)
    with torch.no_grad():
        features = network.features(Rows(batch))
        notes = network.notes(features)
        for row in range(3):
            component = Categorical(logits=network.log_component(features)[0, row])
            chosen = component.sample((samples,))
            log_ratio = component.log_prob(chosen) + math.log(3)
            assert abs(float(log_ratio.mean() - notes["kl_component"][0, row])) < 5 * float(log_ratio.std()) / 447
            for s in range(3):
                proposal, prior = component_parts(network, features[0, row], s)
                z = proposal.sample((int((chosen == s).sum()),))
                log_ratio[chosen == s] += (proposal.log_prob(z) - prior.log_prob(z)).sum(-1)
            assert abs(float(log_ratio.mean() - notes["kl"][0, row])) < 5 * float(log_ratio.std()) / math.sqrt(samples)


def exact_mixture(network: Any) -> list[MultivariateNormal]:
    """Return p(x | s) of numeric attributes: linear maps leave each component Gaussian."""
    decoder, layout = network.decoder, network.layout
    y_map = torch.eye(network.latent)
    y_shift = torch.zeros(network.latent)
    for layer in decoder.to_y.layers:
        y_map, y_shift = y_map @ layer.weight[0], y_shift @ layer.weight[0] + layer.bias[0]
    heads = decoder.numeric.weight[0].squeeze(-1)
    loadings = torch.einsum("lay,ay->al", y_map.unflatten(1, (layout.numeric, -1)), heads)
    shift = (y_shift.view(layout.numeric, -1) * heads).sum(-1) + decoder.numeric.bias[0].squeeze(-1)
    parts = []
    for s in range(network.components):
        given = one_hot(s, network.components)
        variances = (2 * (network.log_scale.weight[0, s] + network.log_scale.bias[0])).exp()
        mean = shift + loadings @ through(network.prior_means, given) + through(decoder.offsets, given)
        parts.append(MultivariateNormal(mean, loadings @ loadings.T + torch.diag(variances)))
    return parts


@pytest.mark.parametrize("summed", [True, False])
def test_imputation_is_the_conditional_mean_of_the_mixture(hivae: type[Any], summed: bool) -> None:
    network = build(hivae, NUMBERS, components=4, components_summed=summed, kl_weight=1.0)
    for parameter in network.decoder.offsets.parameters():
        parameter.data.mul_(3.0)
    rows = 6
    batch = rows_of(NUMBERS, rows)
    with torch.no_grad():
        imputed, notes = network.impute(Rows(batch), 12_000, DrawnNoise(replica_generators("draws", [3]), "cpu"))
        parts = exact_mixture(network)
        for row in range(rows):
            seen, hidden = (torch.nonzero(m).squeeze(1) for m in (batch.observed[0, row], ~batch.observed[0, row]))
            log_seen, means = [], []
            for part in parts:
                between = part.covariance_matrix[seen]
                gap = batch.numeric[0, row, seen] - part.mean[seen]
                seen_part = MultivariateNormal(part.mean[seen], between[:, seen]) if len(seen) else None
                log_seen.append(seen_part.log_prob(batch.numeric[0, row, seen]) if seen_part else torch.zeros(()))
                means.append(part.mean[hidden] + between[:, hidden].T @ torch.linalg.solve(between[:, seen], gap))
            log_weights = torch.stack(log_seen)
            exact = torch.logsumexp(log_weights, 0) - math.log(4)
            expected = torch.softmax(log_weights, 0) @ torch.stack(means)
            assert abs(float(notes["bound"][0, row] - exact)) < 0.05
            torch.testing.assert_close(imputed.numeric[0, row, hidden], expected, rtol=0, atol=0.05)
    spread = torch.stack([part.mean for part in parts]).std(0)
    assert float(spread.min()) > 0.3, "components this close would pass with the wrong weights"


def test_effective_sample_size_counts_every_component(hivae: type[Any]) -> None:
    network = build(hivae, NUMBERS, components=4)
    with torch.no_grad():
        _, notes = network.impute(Rows(rows_of(NUMBERS, 5)), 200, DrawnNoise(replica_generators("draws", [3]), "cpu"))
    size = notes["effective_sample_size"][0]
    assert float(size.max()) > 50 and float(size.max()) <= 200.001 and float(size.min()) >= 1


def test_components_share_the_draws_of_the_budget(hivae: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    network = build(hivae, NUMBERS, components=4)
    weigh = network.weigh

    def counted(x: Rows, features: torch.Tensor, component: torch.Tensor, e: torch.Tensor) -> Any:
        decoded.append(e.shape[1])
        return weigh(x, features, component, e)

    monkeypatch.setattr(network, "weigh", counted)
    with torch.no_grad():
        network.impute(Rows(rows_of(NUMBERS, 5)), 20, DrawnNoise(replica_generators("draws", [3]), "cpu"))
    assert sum(decoded) == 20


@pytest.mark.parametrize("components_at_a_time", [1, 3])
def test_taking_few_components_at_a_time_changes_nothing(
    hivae: type[Any], monkeypatch: pytest.MonkeyPatch, components_at_a_time: int
) -> None:
    network, batch = build(hivae, MIXED, components=4), rows_of(MIXED, 5)
    with torch.no_grad():
        whole, notes = network.impute(Rows(batch), 1, DrawnNoise(replica_generators("draws", [3]), "cpu"))
        floats = components_at_a_time * 5 * network.width_per_draw
        monkeypatch.setattr(sys.modules[hivae.__module__], "CHUNK_FLOATS", floats)
        split, split_notes = network.impute(Rows(batch), 1, DrawnNoise(replica_generators("draws", [3]), "cpu"))
    torch.testing.assert_close(whole.numeric, split.numeric)
    torch.testing.assert_close(whole.categorical, split.categorical)
    for name in ("bound", "effective_sample_size"):
        torch.testing.assert_close(notes[name], split_notes[name])


def test_drawing_the_component_has_the_same_bound_on_average(hivae: type[Any]) -> None:
    summed = build(hivae, MIXED, components=3)
    drawn = build(hivae, MIXED, components=3, components_summed=False, lowest_temperature=0.02)
    one, many = rows_of(MIXED, 3), 20_000
    numeric, categorical = (part[:, 2:].expand(-1, many, *part.shape[2:]) for part in (one.numeric, one.categorical))
    repeated = Encoded(numeric, categorical, (), one.observed[:, 2:].expand(-1, many, -1))
    with torch.no_grad():
        exact = loss_of(summed, repeated, noise_of(summed, many))
        sampled = loss_of(drawn, repeated, noise_of(drawn, many))
        warmer = build(hivae, MIXED, components=3, components_summed=False, lowest_temperature=1.0)
        mixed = loss_of(warmer, repeated, noise_of(warmer, many))
    assert abs(float(exact - sampled)) < 0.02
    assert abs(float(exact - mixed)) > abs(float(exact - sampled))


@pytest.mark.parametrize("name", ["kl_weight", "scale_floor"])
def test_a_value_for_each_replica_is_that_value_alone(hivae: type[Any], name: str) -> None:
    network = build(hivae, NUMBERS, replicas=2, components=3)
    batch = rows_of(NUMBERS, 4, replicas=2)
    noise = noise_of(network, 4)
    with torch.no_grad():
        setattr(network, name, torch.tensor([[0.5], [1.1]]))
        together = loss_of(network, batch, noise)
        for replica, value in enumerate((0.5, 1.1)):
            setattr(network, name, value)
            torch.testing.assert_close(loss_of(network, batch, noise)[replica], together[replica])
    assert not torch.allclose(loss_of(network, batch, noise)[0], together[0])


def test_kl_warms_up(hivae: type[Any]) -> None:
    network, batch = build(hivae, MIXED, components=3), rows_of(MIXED, 4)
    noise = noise_of(network, 4)
    with torch.no_grad():
        start, middle, end = (float(loss_of(network, batch, noise, share, True)) for share in (0.0, 0.5, 1.0))
        kl = float(network.notes(network.features(Rows(batch)))["kl"].mean())
    assert middle == pytest.approx((start + end) / 2, rel=1e-5)
    assert end - start == pytest.approx(kl, rel=1e-4)


def schema_of(*kinds: str) -> Schema:
    shapes: Mapping[str, dict[str, Any]] = {
        "numeric": {},
        "categorical": {"levels": tuple("abcde")},
        "image": {"shape": (8, 8)},
        "features": {"shape": (20,)},
    }
    return Schema(tuple(Attribute(f"{kind}{i}", kind, **shapes[kind]) for i, kind in enumerate(kinds)))  # type: ignore[arg-type]


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
def test_it_has_at_least_the_parameters_of_vsae(hivae: type[Any], kinds: tuple[str, ...], parameter_set: str) -> None:
    layout = Layout(schema_of(*kinds))
    network = hivae(hivae.parameter_sets[parameter_set]).build(layout, 2)
    sizes = Sizes.of(layout)
    assert network.latent == layout.attributes * sizes.latent
    assert vsae_parameter_count(layout, sizes) <= parameter_count(network) < 1.2 * vsae_parameter_count(layout, sizes)


def test_parameter_sets_have_the_same_keys(hivae: type[Any]) -> None:
    assert set(hivae.parameter_sets["default"]) == set(hivae.parameter_sets["literal"])


SHORT = Budget(steps=300, batch=128, learning_rate=5e-3, draws=200, validation_draws=50, evaluations=6)


def test_it_goes_most_of_the_way_to_the_conditional_mean(hivae: type[Any]) -> None:
    holes = Holes.mcar(linear_gaussian(800, attributes=4, latent=1, noise=0.5, seed=1), ratio=0.4, seed=0)
    _, imputed = holes.impute(hivae, budget=SHORT)
    assert holes.share_of_gain(imputed) > 0.8


def test_it_goes_most_of_the_way_to_the_bayes_rate(hivae: type[Any]) -> None:
    holes = Holes.mcar(categorical_mixture(800, attributes=5, levels=3, components=3, seed=2), ratio=0.4, seed=0)
    _, imputed = holes.impute(hivae, budget=SHORT)
    assert holes.share_of_gain(imputed) > 0.7


def two_classes(rows: int, kind: str) -> Table:
    """Return 8x8 images, or vectors, that are bright on the left or on the right, with the side as a label."""
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, rows)
    bright = np.where((np.arange(64) % 8 < 4) == (label[:, None] == 0), 0.7, 0.3) + 0.2 * rng.normal(size=(rows, 64))
    pixels = np.clip(255 * bright, 0, 255).astype(np.uint8) if kind == "image" else bright.astype(np.float32)
    shape = (8, 8) if kind == "image" else (64,)
    schema = Schema((Attribute("side", "categorical", levels=("left", "right")), Attribute("x", kind, shape=shape)))  # type: ignore[arg-type]
    return Table(schema, label[:, None].astype(float), {"x": pixels}, np.ones((rows, 2), dtype=bool))


@pytest.mark.parametrize("kind", ["image", "features"])
def test_it_predicts_each_of_two_modalities_from_the_other(hivae: type[Any], kind: str) -> None:
    table = two_classes(500, kind)
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, 4, 500)
    observed = np.stack([hidden != 0, hidden != 1], axis=1)
    train, validation, test = (np.arange(a, b)[None] for a, b in ((0, 300), (300, 400), (400, 500)))
    folds = np.full((1, 100, 2), -1)
    both = observed[300:400].all(axis=1)
    folds[0, both, rng.integers(0, 2, int(both.sum()))] = 0
    parameters = {**hivae.parameter_sets["default"], "latent": 16, "components": 3}
    budget = Budget(steps=100, batch=64, learning_rate=5e-3, evaluations=4, validation_draws=3)
    method = hivae(parameters, Context(budget))
    view = Incomplete(table, validation, observed[validation], folds)
    method.fit(Incomplete(table, train, observed[train]), view, 0)
    values = method.impute(Incomplete(table, test, observed[test]), 5)
    label_hidden, image_hidden = hidden[400:] == 0, hidden[400:] == 1
    wrong = values.scalars[label_hidden, 0] != table.scalars[400:][label_hidden, 0]
    assert wrong.mean() < 0.15
    truth = table.blocks["x"][400:].astype(np.float64) / (255 if kind == "image" else 1)
    error = np.mean((values.blocks["x"] - truth)[image_hidden] ** 2)
    assert error < 0.75 * np.mean((truth.mean(axis=0) - truth)[image_hidden] ** 2)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("numbers and categories", {}),
        ("numbers and categories", {"components_summed": False}),
        ("image and label", {"latent": 8, "components": 3}),
        ("features", {"latent": 8, "components": 3}),
    ],
)
def test_neither_hidden_values_nor_the_stack_change_a_bit(
    hivae: type[Any], name: str, changes: dict[str, Any], deterministic_torch: None
) -> None:
    trial = Trial(hivae, "inductive", example_of(name, replicas=2), {**hivae.parameter_sets["default"], **changes})
    hidden_values_change_nothing(trial)
    stack_agrees_with_each_alone(trial)
