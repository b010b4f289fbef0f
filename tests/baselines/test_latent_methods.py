"""AE, VAE, CVAE, MIWAE, not-MIWAE and VAEAC: their losses restated, their bounds, what they see, what they reach."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributions

from bench.api import Attribute, BenchError, Budget, Context, Incomplete, Schema, Table, Values
from bench.data.schema import FloatArray
from bench.neural.engine.bank import chosen_at_random, parameter_count, reset_parameters
from bench.neural.engine.noise import replica_generators
from bench.neural.gaussian import Gaussian, log_prior_ratio
from bench.neural.networks import Sizes, beside, vsae_parameter_count
from bench.neural.rows import Encoded, Layout, Rows
from bench.problem.held_out import deal_folds
from tests.neural_views import Named, drawn, loss_of, proposal_noise, step_noise

BASELINES = Path(__file__).parents[2] / "baselines"
NAMES = ("ae", "vae", "cvae", "miwae", "not_miwae", "vaeac")

NUMERIC = tuple(Attribute(f"n{i}", "numeric") for i in range(3))
CATEGORICAL = (
    Attribute("colour", "categorical", levels=("red", "green", "blue")),
    Attribute("sex", "categorical", levels=("f", "m")),
)
FEATURES = Attribute("sound", "features", shape=(3,))
SCHEMAS = {
    "numeric": Schema(NUMERIC),
    "categorical": Schema(CATEGORICAL),
    "mixed": Schema((NUMERIC[0], CATEGORICAL[0], *NUMERIC[1:], CATEGORICAL[1])),
    "image_label": Schema((Attribute("digit", "image", shape=(28, 28)), CATEGORICAL[0])),
}
#: Every kind at once, small.
EVERYTHING = Schema((*CATEGORICAL, Attribute("picture", "image", shape=(2, 2)), *NUMERIC, FEATURES))

LoadMethod = Callable[[str], type[Any]]


@pytest.fixture
def method_class(load_plugin: Callable[..., type[Any]]) -> LoadMethod:
    """Return a function that loads a baseline by its name."""
    return lambda name: load_plugin(BASELINES / f"{name}.py", name)


def built(
    cls: type[Any], schema: Schema, replicas: int = 1, *, parameter_set: str = "default", **parameters: Any
) -> Any:
    """Return a method's network with its parameters drawn, some of them overridden."""
    network = cls({**cls.parameter_sets[parameter_set], **parameters}).build(Layout(schema), replicas)
    reset_parameters(network, replica_generators("initialisation", list(range(replicas))))
    return network


def random_batch(schema: Schema, replicas: int, rows: int, seed: int = 0) -> Encoded:
    """Return rows of random values, half of them hidden."""
    layout, generator = Layout(schema), torch.Generator().manual_seed(seed)
    observed = torch.rand(replicas, rows, layout.attributes, generator=generator) < 0.5
    first = layout.numeric + layout.categorical
    numeric = torch.randn(replicas, rows, layout.numeric, generator=generator) * observed[..., : layout.numeric]
    codes = [torch.randint(int(levels), (replicas, rows), generator=generator) for levels in layout.levels]
    one_hot = [torch.nn.functional.one_hot(code, layout.max_levels) for code in codes]
    categorical = torch.stack(one_hot, dim=-1) if one_hot else torch.zeros(replicas, rows, 1, 0)
    categorical = categorical * observed[..., None, layout.numeric : first]
    blocks = []
    for index, group in enumerate(layout.block_groups):
        values = torch.rand(replicas, rows, len(group.names), group.width, generator=generator)
        blocks.append(values * observed[..., layout.group_positions(index), None])
    return Encoded(numeric, categorical.to(torch.float32), tuple(blocks), observed)


def noise_for(shapes: dict[str, tuple[int, ...]], replicas: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return standard normal noise of the shapes one replica needs, for all replicas."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(replicas, *shape, generator=generator) for name, shape in shapes.items()}


def spreads(network: Any) -> torch.Tensor:
    """Return the spread of each Gaussian attribute, [R, 1, 1, attributes]."""
    scales: torch.Tensor = network.decoder.heads.log_scales(4).exp()
    return scales


def randomise(network: Any, seed: int = 3, size: float = 0.5) -> None:
    """Give learned spreads and missing models values other than those they start with, and weights more say."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("log_scale") or name.startswith("missing."):
                parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
            elif name.endswith("weight"):
                parameter.mul_(2)


def plain_log_probability(network: Any, prediction: Any, batch: Encoded) -> torch.Tensor:
    """Return log p(x_i | z) of each attribute, [R, k, b, M], by torch.distributions."""
    layout, spread = network.layout, spreads(network)
    parts = [distributions.Normal(prediction.numeric, spread[..., : layout.numeric]).log_prob(batch.numeric[:, None])]
    for column, levels in enumerate(layout.levels):
        logits = prediction.categorical[..., :levels, column]
        code = batch.categorical[:, None, :, :, column].argmax(-1)
        parts.append(distributions.Categorical(logits=logits).log_prob(code)[..., None])
    first = layout.numeric
    for block, truth in zip(prediction.blocks, batch.blocks, strict=True):
        of_block = spread[..., first : first + truth.shape[-2], None]
        parts.append(distributions.Normal(block, of_block).log_prob(truth[:, None]).sum(-1))
        first += truth.shape[-2]
    return torch.cat(parts, dim=-1)


def normal(gaussian: Gaussian) -> distributions.Normal:
    """Return a Gaussian as torch.distributions has it."""
    return distributions.Normal(gaussian.mean, (0.5 * gaussian.log_variance).exp())


STANDARD = distributions.Normal(0.0, 1.0)


def masked_sum(log_probability: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """Sum over the attributes ``observed`` [R, b, M] of log-probabilities [R, k, b, M], entry by entry."""
    total = torch.zeros(log_probability.shape[:-1])
    for replica, row, attribute in observed.nonzero().tolist():
        total[replica, :, row] += log_probability[replica, :, row, attribute]
    return total


# What they are made of


@pytest.mark.parametrize("name", NAMES)
def test_both_parameter_sets_have_the_same_keys(name: str, method_class: LoadMethod) -> None:
    sets = method_class(name).parameter_sets
    assert set(sets) - {"authors"} == {"default", "literal"}
    assert set(sets["default"]) == set(sets["literal"])
    assert (sets["default"]["learned_scale"], sets["literal"]["learned_scale"]) == (True, False)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_parity_counts_the_vsae_that_is_built(schema: Schema, method_class: LoadMethod) -> None:
    layout = Layout(schema)
    network = built(method_class("vsae"), schema, replicas=2)
    assert parameter_count(network) == vsae_parameter_count(layout, Sizes.of(layout))


@pytest.mark.parametrize("parameter_set", ["default", "literal"])
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("name", NAMES)
def test_no_method_has_fewer_parameters_than_vsae(
    name: str, schema: Schema, parameter_set: str, method_class: LoadMethod
) -> None:
    layout = Layout(schema)
    sizes = Sizes.of(layout)
    network = built(method_class(name), schema, parameter_set=parameter_set)
    assert parameter_count(network) >= vsae_parameter_count(layout, sizes)
    assert network.latent == len(schema) * sizes.latent


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        ("ae", "reconstruct"),
        ("vae", "fill"),
        ("cvae", "prior"),
        ("not_miwae", "missing_model"),
        ("not_miwae", "impute_with"),
    ],
)
def test_an_unknown_choice_is_named(name: str, parameter: str, method_class: LoadMethod) -> None:
    with pytest.raises(BenchError, match=f"{parameter} = 'zzz'"):
        built(method_class(name), SCHEMAS["numeric"], **dict[str, Any]({parameter: "zzz"}))


# Losses


@pytest.mark.parametrize("count", ["observed", "all"])
def test_ae_loss_is_the_plain_one(count: str, method_class: LoadMethod) -> None:
    network, batch = built(method_class("ae"), EVERYTHING, 2, reconstruct=count), random_batch(EVERYTHING, 2, 7)
    randomise(network)
    prediction = network.decoder(network.encoder(batch.flat())[:, None])
    log_probability = plain_log_probability(network, prediction, batch)
    if count == "observed":
        expected = -masked_sum(log_probability, batch.observed)[:, 0].mean(1)
    else:
        first = network.layout.numeric
        categories = slice(first, first + network.layout.categorical)
        # A hidden category has no level to reconstruct.
        log_probability[..., categories] *= batch.observed[:, None, :, categories]
        expected = -log_probability.sum(-1)[:, 0].mean(1)
    torch.testing.assert_close(loss_of(network, batch, {}), expected)


@pytest.mark.parametrize("name", ["vae", "cvae"])
@pytest.mark.parametrize("fill", ["zero", "noise"])
def test_elbo_is_the_plain_one(name: str, fill: str, method_class: LoadMethod) -> None:
    network, batch = built(method_class(name), EVERYTHING, 2, fill=fill, kl_weight=0.7), random_batch(EVERYTHING, 2, 7)
    randomise(network)
    noise = noise_for(step_noise(network, batch.observed.shape[1]), 2)
    layout = network.layout
    hidden_columns = ~batch.observed[..., layout.owner]
    flat = batch.flat()
    if fill == "noise":
        flat = flat + torch.where(hidden_columns, noise["fill"] * layout.used, 0.0)
    mask = batch.observed.to(torch.float32)
    raw = network.encoder(torch.cat([flat, mask], -1) if name == "cvae" else flat)
    mean, log_variance = raw.chunk(2, -1)
    proposal = distributions.Normal(mean, (log_variance / 2).exp())
    z = mean + proposal.stddev * noise["latent"][:, 0]
    seen = torch.cat([z, mask], -1) if name == "cvae" else z
    prediction = network.decoder(seen)
    prediction = type(prediction)(
        prediction.numeric[:, None], prediction.categorical[:, None], tuple(b[:, None] for b in prediction.blocks)
    )
    log_observed = masked_sum(plain_log_probability(network, prediction, batch), batch.observed)[:, 0]
    kl = distributions.kl_divergence(proposal, STANDARD).sum(-1)
    half_warm = -(log_observed - 0.5 * 0.7 * kl).mean(1)
    torch.testing.assert_close(loss_of(network, batch, noise, 0.5, True), half_warm)


def test_cvae_with_a_prior_of_the_mask_is_charged_the_kl_to_it(method_class: LoadMethod) -> None:
    network, batch = built(method_class("cvae"), EVERYTHING, 1, prior="mask"), random_batch(EVERYTHING, 1, 6)
    randomise(network)
    noise = noise_for(step_noise(network, batch.observed.shape[1]), 1)
    x = Rows(batch)
    proposal, prior = network.q(x), network.prior(x)
    prediction = network.p_x(proposal.sample(noise["latent"]), x)
    log_observed = masked_sum(plain_log_probability(network, prediction, batch), batch.observed)[:, 0]
    kl = distributions.kl_divergence(normal(proposal), normal(prior)).sum(-1)
    torch.testing.assert_close(loss_of(network, batch, noise), -(log_observed - kl).mean(1))
    assert prior.mean[0].std(0).max() > 0.01  # it does depend on the mask


def test_miwae_loss_is_the_plain_one(method_class: LoadMethod) -> None:
    network, batch = built(method_class("miwae"), EVERYTHING, 2, importance_samples=4), random_batch(EVERYTHING, 2, 7)
    randomise(network)
    noise = noise_for(step_noise(network, batch.observed.shape[1]), 2)
    assert noise["latent"].shape == (2, 4, 7, network.latent)
    proposal = normal(network.q(Rows(batch)))
    z = proposal.mean[:, None] + proposal.stddev[:, None] * noise["latent"]
    prediction = network.p_x(z, Rows(batch))
    log_observed = masked_sum(plain_log_probability(network, prediction, batch), batch.observed)
    log_proposal = distributions.Normal(proposal.mean[:, None], proposal.stddev[:, None]).log_prob(z).sum(-1)
    weights = (log_observed + STANDARD.log_prob(z).sum(-1) - log_proposal).to(torch.float64).exp()
    torch.testing.assert_close(loss_of(network, batch, noise), -weights.mean(1).log().mean(1).to(torch.float32))


@pytest.mark.parametrize("kind", ["selfmask", "selfmask_known", "linear"])
def test_not_miwae_weights_are_the_plain_ones(kind: str, method_class: LoadMethod) -> None:
    rows, draws = 6, 3
    network = built(method_class("not_miwae"), EVERYTHING, 2, missing_model=kind, importance_samples=draws)
    batch = random_batch(EVERYTHING, 2, rows)
    randomise(network)
    layout, noise = network.layout, noise_for(step_noise(network, batch.observed.shape[1]), 2)
    x = Rows(batch)
    proposal = network.q(x)
    z = proposal.sample(noise["latent"])
    prediction = network.p_x(z, x)
    log_weight = masked_sum(plain_log_probability(network, prediction, batch), batch.observed)
    log_weight = log_weight + log_prior_ratio(z, proposal)

    spread, missing = spreads(network), network.missing
    numbers, first = [], layout.numeric
    for j in range(layout.numeric):
        draw = prediction.numeric[..., j] + spread[..., j] * noise["numbers"][..., j]
        numbers.append(torch.where(batch.observed[:, None, :, j], batch.numeric[:, None, :, j], draw))
    for index, group in enumerate(layout.block_groups):
        position = layout.group_positions(index).start
        error = spread[..., first + index] / group.width**0.5 * noise["numbers"][..., first + index]
        draw = prediction.blocks[index][..., 0, :].mean(-1) + error
        known = batch.blocks[index][:, None, :, 0].mean(-1)
        numbers.append(torch.where(batch.observed[:, None, :, position], known, draw))
    known_or_drawn = torch.stack(numbers, -1)
    probabilities = torch.softmax(prediction.categorical, -2)
    is_category = torch.zeros(layout.attributes, dtype=torch.bool)
    is_category[layout.numeric : layout.numeric + layout.categorical] = True
    if kind == "linear":
        seen = batch.observed[:, None, :, None, is_category]
        levels = torch.where(seen, batch.categorical[:, None], probabilities).flatten(-2)
        inputs = torch.cat([known_or_drawn, levels], -1)
        weight, bias = missing.score.weight[:, : inputs.shape[-1]], missing.score.bias
        logits = torch.einsum("rkbi,rio->rkbo", inputs, weight) + bias[:, None, None]
        log_mask = distributions.Bernoulli(logits=logits).log_prob(batch.observed[:, None].to(torch.float32)).sum(-1)
    else:
        slope = torch.nn.functional.softplus(missing.raw_slope) if kind == "selfmask_known" else missing.raw_slope
        logits = missing.intercept[:, None, None] - slope[:, None, None] * known_or_drawn
        mask = batch.observed[..., ~is_category].to(torch.float32)
        log_mask = distributions.Bernoulli(logits=logits).log_prob(mask[:, None]).sum(-1)
        shown_share = torch.sigmoid(missing.level_score)[:, None, None]
        of_seen = (batch.categorical[:, None] * shown_share).sum(-2).clamp(min=1e-30)
        of_hidden = (probabilities * (1 - shown_share)).sum(-2)
        log_mask = log_mask + torch.where(batch.observed[:, None, :, is_category], of_seen, of_hidden).log().sum(-1)
    actual, given, _ = network.weigh(x, draws, Named(noise))
    torch.testing.assert_close(actual, log_weight + log_mask, rtol=1e-5, atol=1e-4)
    # What is imputed with these weights are the draws they belong to.
    torch.testing.assert_close(
        given.numeric, prediction.numeric + spread[..., : layout.numeric] * noise["numbers"][..., : layout.numeric]
    )
    if kind != "linear":
        tilted = probabilities * (1 - torch.sigmoid(missing.level_score))[:, None, None]
        torch.testing.assert_close(given.probabilities(), tilted / tilted.sum(-2, keepdim=True))
    bound = torch.logsumexp(log_weight + log_mask, 1) - np.log(draws)
    torch.testing.assert_close(loss_of(network, batch, noise), -bound.mean(1), rtol=1e-5, atol=1e-4)


def test_vaeac_scores_what_the_extra_mask_hides_and_is_charged_the_kl_between_its_two_networks(
    method_class: LoadMethod,
) -> None:
    network, batch = built(method_class("vaeac"), EVERYTHING, 2, hidden_share=0.4), random_batch(EVERYTHING, 2, 9)
    randomise(network)
    noise = noise_for(step_noise(network, batch.observed.shape[1]), 2)
    hidden = batch.observed & (STANDARD.cdf(noise["extra"]) < 0.4)
    shown = batch.observed & ~hidden
    assert hidden.any() and shown.any()
    kept = shown[..., network.layout.owner]
    raw = network.encoder(torch.cat([batch.flat() * kept, shown.to(torch.float32)], -1))
    mean, log_variance, features = raw.split([network.latent, network.latent, raw.shape[-1] - 2 * network.latent], -1)
    prior = distributions.Normal(mean, (log_variance / 2).exp())
    masks = [batch.observed.to(torch.float32), shown.to(torch.float32)]
    raw = network.proposal_network(torch.cat([batch.flat(), *masks], -1))
    proposal = distributions.Normal(raw.chunk(2, -1)[0], (raw.chunk(2, -1)[1] / 2).exp())
    z = proposal.mean + proposal.stddev * noise["latent"][:, 0]
    prediction = network.decoder(beside(z[:, None], features))
    log_hidden = masked_sum(plain_log_probability(network, prediction, batch), hidden)[:, 0]
    kl = distributions.kl_divergence(proposal, prior).sum(-1)
    hyper = (-(prior.mean**2) / (2 * 1e8) + 1e-4 * (prior.stddev.log() - prior.stddev)).sum(-1)
    torch.testing.assert_close(loss_of(network, batch, noise), -(log_hidden - kl + hyper).mean(1))


def test_the_extra_mask_has_its_share_per_replica() -> None:
    noise = torch.randn(2, 4000, 5, generator=torch.Generator().manual_seed(0))
    assert abs(float(chosen_at_random(noise, 0.2).float().mean()) - 0.2) < 0.01
    shares = chosen_at_random(noise, torch.tensor([[0.0], [0.5]])).float().mean((1, 2))
    assert shares[0] == 0 and abs(float(shares[1]) - 0.5) < 0.01


def test_kl_terms_equal_those_of_torch_and_monte_carlo() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (Gaussian(*torch.randn(2, 1, 4, 3, generator=generator)) for _ in range(2))
    torch.testing.assert_close(one.kl_to(other), distributions.kl_divergence(normal(one), normal(other)).sum(-1))
    torch.testing.assert_close(one.kl_to_standard(), distributions.kl_divergence(normal(one), STANDARD).sum(-1))
    z = one.sample(torch.randn(1, 20000, 4, 3, generator=generator))
    for prior in (None, other):
        ratio = log_prior_ratio(z, one, prior)
        error = ratio.std(1) / 20000**0.5
        assert ((-ratio.mean(1) - one.kl(prior)).abs() < 4 * error).all()


# Bounds


def test_miwae_bound_rises_with_samples_and_with_one_is_the_vae_estimate(method_class: LoadMethod) -> None:
    schema, rows = SCHEMAS["mixed"], 2000
    network, vae = built(method_class("miwae"), schema), built(method_class("vae"), schema)
    randomise(network)
    with torch.no_grad():
        network.encoder.layers[-1].weight.mul_(4)
    vae.load_state_dict(network.state_dict())
    x = Rows(random_batch(schema, 1, rows))
    network.eval()
    vae.eval()

    def noise_of(samples: int) -> dict[str, torch.Tensor]:
        return noise_for(proposal_noise(network, rows, samples), 1, seed=samples)

    def bound(samples: int) -> torch.Tensor:
        network.samples = samples
        value: torch.Tensor = network.bound(x, Named(noise_of(samples)), 1.0)
        return value

    with torch.no_grad():
        bounds = {samples: bound(samples)[0] for samples in (1, 5, 20)}
        for fewer, more in ((1, 5), (5, 20)):
            rise = bounds[more] - bounds[fewer]
            assert rise.mean() > 5 * rise.std() / rows**0.5

        log_weight, _, _ = vae.propose(x, 1, Named(noise_of(1)))
        assert torch.equal(bounds[1], log_weight[0, 0])
        # The VAE's loss has the KL in closed form: the same in expectation.
        proposal = vae.q(x)
        prediction = vae.p_x(proposal.sample(noise_of(1)["latent"]), x)
        elbo = vae.log_observed(prediction, x)[:, 0] - proposal.kl_to_standard()
        difference = (elbo - bounds[1])[0]
        assert difference.mean().abs() < 4 * difference.std() / rows**0.5


@pytest.mark.parametrize("name", ["vae", "cvae", "miwae", "not_miwae", "vaeac"])
def test_kl_weight_and_scale_floor_may_differ_by_replica(name: str, method_class: LoadMethod) -> None:
    cls, batch = method_class(name), random_batch(EVERYTHING, 2, 5)

    def losses(**parameters: Any) -> torch.Tensor:
        network = built(cls, EVERYTHING, 2, **parameters)
        randomise(network, size=1.0)
        return loss_of(network, batch, noise_for(step_noise(network, batch.observed.shape[1]), 2))

    together = losses(kl_weight=torch.tensor([[0.5], [2.0]]), scale_floor=torch.tensor([[1.0], [0.1]]))
    low, high = losses(kl_weight=0.5, scale_floor=1.0), losses(kl_weight=2.0, scale_floor=0.1)
    torch.testing.assert_close(together, torch.stack([low[0], high[1]]))
    assert not torch.isclose(low, high).any()


# What they see


def test_only_the_cvae_sees_the_mask_beyond_the_values(method_class: LoadMethod) -> None:
    """Two rows with the same filled input: in one the 0 is a value, in the other it stands for a hidden entry."""
    batch = random_batch(EVERYTHING, 1, 4)
    shown, hidden = batch.observed.clone(), batch.observed.clone()
    shown[..., 0], hidden[..., 0] = True, False
    numeric = batch.numeric.clone()
    numeric[..., 0] = 0.0
    rows = [Encoded(numeric, batch.categorical, batch.blocks, mask) for mask in (shown, hidden)]
    imputed = {}
    for name in ("ae", "vae", "cvae"):
        extra: dict[str, Any] = {} if name == "ae" else {"importance_weights": False}
        network = built(method_class(name), EVERYTHING, **extra)
        network.eval()
        with torch.no_grad():
            outputs = [network.impute(Rows(row), 3, drawn())[0] for row in rows]
        imputed[name] = [torch.cat([o.numeric, o.categorical[..., 0]], -1) for o in outputs]
        if name == "cvae":
            assert not torch.equal(*(network.q(Rows(row)).mean for row in rows))
            z = torch.zeros(1, 1, 4, network.latent)
            decoded = [network.p_x(z, Rows(row)).numeric for row in rows]
            assert not torch.equal(*decoded)
    assert torch.equal(*imputed["ae"])
    assert torch.equal(*imputed["vae"])
    assert (imputed["cvae"][0] - imputed["cvae"][1]).abs().min() > 0


def test_ae_imputes_in_one_pass_unless_hidden_entries_are_noise(method_class: LoadMethod) -> None:
    batch = random_batch(EVERYTHING, 1, 4)
    for fill, alike in (("zero", True), ("noise", False)):
        network = built(method_class("ae"), EVERYTHING, fill=fill)
        network.eval()
        (once, notes), (often, _) = (network.impute(Rows(batch), n, drawn()) for n in (1, 9))
        assert torch.equal(once.numeric, often.numeric) is alike
        torch.testing.assert_close(often.categorical.sum(-2), torch.ones(1, 4, 2))
        assert notes == {}


def test_input_dropout_hides_from_the_encoder_only(method_class: LoadMethod) -> None:
    network, batch = built(method_class("ae"), EVERYTHING), random_batch(EVERYTHING, 1, 8)
    dropped = chosen_at_random(torch.randn(1, 8, len(EVERYTHING), generator=torch.Generator().manual_seed(4)), 0.5)
    shown = batch.observed & ~dropped
    assert 0 < shown.sum() < batch.observed.sum()
    raw = network.encoder(batch.flat() * shown[..., network.layout.owner])
    prediction = network.decoder(raw[:, None])
    expected = -masked_sum(plain_log_probability(network, prediction, batch), batch.observed)[:, 0].mean(1)
    x = Rows(batch, batch.without(dropped, network.layout))
    torch.testing.assert_close(loss_of(network, x, {}), expected)


@pytest.mark.parametrize("name", ["vae", "cvae", "miwae", "not_miwae", "hivae", "vsae"])
def test_what_is_dropped_from_the_input_is_still_a_target(method_class: LoadMethod, name: str) -> None:
    network, batch = built(method_class(name), EVERYTHING), random_batch(EVERYTHING, 1, 8)
    dropped = chosen_at_random(torch.randn(1, 8, len(EVERYTHING), generator=torch.Generator().manual_seed(4)), 0.5)
    x = Rows(batch, batch.without(dropped, network.layout))
    noise = noise_for(step_noise(network, batch.observed.shape[1]), 1)
    loss = loss_of(network, x, noise)
    assert not torch.allclose(loss, loss_of(network, batch, noise))
    # The targets still count what was dropped.
    assert not torch.allclose(loss, loss_of(network, x.input, noise))
    assert not (x.input.observed & dropped).any()
    assert (x.input.flat()[dropped[..., network.layout.owner]] == 0).all()


# Trainings


def with_unit_variance(values: FloatArray) -> FloatArray:
    """Return columns scaled to mean 0 and deviation 1."""
    scaled: FloatArray = (values - values.mean(0)) / values.std(0)
    return scaled


def dependent_table(rows: int, seed: int) -> Table:
    """Return four numbers and three categories, all of which one hidden number decides, but for noise."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(rows, 1))
    numbers = factor * [1.0, -1.0, 1.0, -1.0] + 0.4 * rng.normal(size=(rows, 4))
    group = np.digitize(factor[:, 0], [-0.5, 0.5])
    codes = [np.where(rng.random(rows) < 0.92, group, rng.integers(0, 3, rows)) for _ in range(3)]
    categories = tuple(Attribute(f"c{i}", "categorical", levels=("a", "b", "c")) for i in range(3))
    schema = Schema((*(Attribute(f"x{i}", "numeric") for i in range(4)), *categories))
    scalars = np.column_stack([numbers, *codes]).astype(np.float64)
    return Table(schema, scalars, {}, np.ones(scalars.shape, dtype=bool))


def multimodal_table(rows: int, seed: int) -> Table:
    """Return pictures, labels and feature vectors that a hidden class decides."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, rows)
    bright = rng.integers(0, 2, (3, 36))[kind]
    pictures = (255 * np.clip(0.15 + 0.7 * bright + 0.05 * rng.normal(size=bright.shape), 0, 1)).astype(np.uint8)
    sounds = (np.array([[4.0, 0, 0, 1], [0, 4, 0, 1], [0, 0, 4, 1]])[kind] + rng.normal(size=(rows, 4))).astype("f4")
    schema = Schema(
        (
            Attribute("picture", "image", shape=(6, 6)),
            Attribute("label", "categorical", levels=("p", "q", "r")),
            Attribute("sound", "features", shape=(4,)),
        )
    )
    present = np.ones((rows, 3), dtype=bool)
    return Table(schema, kind[:, None].astype(np.float64), {"picture": pictures, "sound": sounds}, present)


def views(table: Table, observed: Any) -> tuple[Incomplete, Incomplete, Incomplete]:
    """Split the rows of a table under masks [R, n, M], 60, 20 and 20 %; every replica has the rows of the first."""
    replicas, rows = observed.shape[:2]
    parts = np.split(np.arange(rows), [int(0.6 * rows), int(0.8 * rows)])
    index = [np.tile(part, (replicas, 1)) for part in parts]
    held = np.stack([deal_folds(observed[r, parts[1]], 1, np.random.default_rng(r)) for r in range(replicas)])
    return (
        Incomplete(table, index[0], observed[:, parts[0]]),
        Incomplete(table, index[1], observed[:, parts[1]], held),
        Incomplete(table, index[2], observed[:, parts[2]]),
    )


def budget(steps: int, **changes: Any) -> Context:
    """Return a context for a short training."""
    settings = {"batch": 100, "learning_rate": 5e-3, "draws": 30, "validation_draws": 5, "evaluations": 15, **changes}
    return Context(Budget(steps=steps, **settings))


#: Fewer samples than the default, for speed.
QUICKER = {"miwae": {"importance_samples": 5}, "not_miwae": {"importance_samples": 5}}


def with_defaults(cls: type[Any], **parameters: Any) -> dict[str, Any]:
    """Return a method's default parameters, fewer importance samples, and what else is given."""
    return {**cls.parameter_sets["default"], **QUICKER.get(cls.name, {}), **parameters}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_beats_mean_and_mode(name: str, method_class: LoadMethod) -> None:
    table = dependent_table(1000, seed=0)
    observed = np.random.default_rng(1).random((1, 1000, 7)) >= 0.3
    train, validation, test = views(table, observed)
    cls = method_class(name)
    method = cls(with_defaults(cls), budget(240))
    method.fit(train, validation, 0)
    imputed = method.impute(test, 30).scalars
    truth, hidden = table.scalars[800:], ~test.observed[0]
    error = np.sqrt(np.mean((imputed - truth)[:, :4][hidden[:, :4]] ** 2))
    mean = np.mean(table.scalars[:600, :4], axis=0, where=observed[0, :600, :4])
    floor = np.sqrt(np.mean((mean - truth[:, :4])[hidden[:, :4]] ** 2))
    wrong = np.mean((imputed != truth)[:, 4:][hidden[:, 4:]])
    codes = table.scalars[:600, 4:].astype(int)
    mode = [np.bincount(codes[observed[0, :600, 4 + j], j]).argmax() for j in range(3)]
    floor_wrong = np.mean((np.array(mode) != truth[:, 4:])[hidden[:, 4:]])
    assert np.array_equal(imputed[~hidden], truth[~hidden])
    assert error < (0.85 if name == "ae" else 0.65) * floor, f"{error:.3f} against {floor:.3f}"
    assert wrong < 0.5 * floor_wrong, f"{wrong:.3f} against {floor_wrong:.3f}"


@pytest.mark.parametrize("name", NAMES)
def test_every_method_takes_images_labels_and_features(name: str, method_class: LoadMethod) -> None:
    table = multimodal_table(500, seed=0)
    train, validation, test = views(table, np.random.default_rng(1).random((1, 500, 3)) >= 0.3)
    cls = method_class(name)
    method = cls(with_defaults(cls, latent=8), budget(60, learning_rate=2e-3, evaluations=6))
    method.fit(train, validation, 0)
    imputed = method.impute(test, 30)
    hidden = ~test.observed[0]
    truth = table.take(np.arange(400, 500))
    # The mode is wrong two times in three.
    assert np.mean((imputed.scalars != truth.scalars)[:, 0][hidden[:, 1]]) < 0.45
    assert imputed.blocks["picture"].min() >= 0 and imputed.blocks["picture"].max() <= 1
    for column, block in ((0, "picture"), (2, "sound")):
        value = imputed.blocks[block]
        real = truth.blocks[block] / 255 if block == "picture" else truth.blocks[block]
        assert np.isfinite(value).all()
        np.testing.assert_allclose(value[~hidden[:, column]], real[~hidden[:, column]], rtol=1e-6)
        error = np.mean((value - real)[hidden[:, column]] ** 2)
        floor = np.mean((real.mean(0) - real)[hidden[:, column]] ** 2)
        assert error < 0.9 * floor, f"{block}: {error:.4f} against {floor:.4f}"


def everything_table(rows: int) -> Table:
    """Return the two tables above side by side: every kind of attribute."""
    numbers, blocks = dependent_table(rows, seed=2), multimodal_table(rows, seed=3)
    schema = Schema((*numbers.schema.attributes, *blocks.schema.attributes))
    scalars = np.column_stack([numbers.scalars, blocks.scalars])
    return Table(schema, scalars, blocks.blocks, np.ones((rows, len(schema)), dtype=bool))


VARIANTS = [
    *((name, {}) for name in NAMES),
    ("ae", {"fill": "noise", "input_dropout": 0.3}),
    ("cvae", {"fill": "noise", "prior": "mask"}),
    ("not_miwae", {"missing_model": "linear"}),
    ("not_miwae", {"missing_model": "selfmask_known"}),
]


@pytest.mark.usefixtures("deterministic_torch")
@pytest.mark.parametrize(("name", "parameters"), VARIANTS, ids=str)
@pytest.mark.parametrize("kind", ["scalars", "everything"])
def test_a_replica_is_the_same_alone_and_in_a_stack(
    name: str, parameters: dict[str, Any], kind: str, method_class: LoadMethod
) -> None:
    table = dependent_table(90, seed=2) if kind == "scalars" else everything_table(90)
    observed = np.random.default_rng(4).random((3, 90, len(table.schema))) >= 0.3
    train, validation, test = views(table, observed)
    cls, context = method_class(name), budget(12, batch=18, evaluations=3, draws=7)

    def trained(replicas: list[int]) -> list[Values]:
        method = cls(with_defaults(cls, latent=3, **parameters), context)
        parts = [view if len(replicas) == 3 else view.replica(replicas[0]) for view in (train, validation, test)]
        method.fit_many(parts[0], parts[1], [10 + replica for replica in replicas])
        imputed: list[Values] = method.impute_many(parts[2], 7)
        return imputed

    stacked = trained([0, 1, 2])
    for replica in range(3):
        alone = trained([replica])[0]
        assert np.array_equal(alone.scalars, stacked[replica].scalars)
        for block, values in alone.blocks.items():
            assert np.array_equal(values, stacked[replica].blocks[block])


# Data not missing at random


def self_masked(replicas: int, rows: int, slope: float, threshold: float) -> tuple[Table, Any]:
    """Return linear-Gaussian rows of two attributes, one set per replica, and masks that hide mostly large numbers."""
    values, masks = [], []
    for replica in range(replicas):
        rng = np.random.default_rng([8, replica])
        numbers = with_unit_variance(rng.normal(size=(rows, 1)) + 0.5 * rng.normal(size=(rows, 2)))
        values.append(numbers)
        masks.append(rng.random((rows, 2)) >= 1 / (1 + np.exp(-slope * (numbers - threshold))))
    scalars = np.concatenate(values)
    schema = Schema((Attribute("x0", "numeric"), Attribute("x1", "numeric")))
    return Table(schema, scalars, {}, np.ones(scalars.shape, dtype=bool)), np.stack(masks)


def test_not_miwae_with_the_true_missing_model_beats_miwae_over_ten_seeds(method_class: LoadMethod) -> None:
    replicas, rows, slope, threshold = 10, 500, 4.0, 0.3
    table, observed = self_masked(replicas, rows, slope, threshold)
    index = np.arange(replicas * rows).reshape(replicas, rows)
    held = np.stack([deal_folds(observed[r, 300:400], 1, np.random.default_rng(r)) for r in range(replicas)])
    train = Incomplete(table, index[:, :300], observed[:, :300])
    validation = Incomplete(table, index[:, 300:400], observed[:, 300:400], held)
    test = Incomplete(table, index[:, 400:], observed[:, 400:])
    true = {name: [slope, threshold] for name in table.schema.names}
    errors = {}
    for name, extra in (("miwae", {}), ("not_miwae", {"missing_parameters": true})):
        cls = method_class(name)
        method = cls(with_defaults(cls, **extra), budget(120, batch=60, evaluations=6, draws=50))
        method.fit_many(train, validation, list(range(replicas)))
        imputed = method.impute_many(test, 50)
        hidden = ~observed[:, 400:]
        errors[name] = np.array(
            [
                np.sqrt(np.mean((imputed[r].scalars - table.scalars[index[r, 400:]])[hidden[r]] ** 2))
                for r in range(replicas)
            ]
        )
    difference = errors["not_miwae"] - errors["miwae"]
    assert difference.mean() < -0.1, f"{difference}"
    assert -difference.mean() / (difference.std(ddof=1) / np.sqrt(replicas)) > 3


def test_a_known_missing_model_is_taken_in_the_unit_of_the_data(method_class: LoadMethod) -> None:
    """The log-odds of a value are ``-slope * (x - threshold)`` whatever the scaling, and nothing of it is trained."""
    rng = np.random.default_rng(0)
    scalars = np.column_stack([rng.normal(50.0, 10.0, 40), rng.integers(0, 3, 40)]).astype(np.float64)
    schema = Schema((Attribute("weight", "numeric"), CATEGORICAL[0]))
    table = Table(schema, scalars, {}, np.ones(scalars.shape, dtype=bool))
    train, validation, _ = views(table, rng.random((2, 40, 2)) >= 0.2)
    known = {"weight": [0.3, 55.0], "colour": [1.0, -1.0, 0.5]}
    cls = method_class("not_miwae")
    method = cls(with_defaults(cls, missing_parameters=known), budget(3, batch=20))
    method.fit_many(train, validation, [0, 1])
    missing, encoder = method.model.missing, method.encoder
    x = 61.0
    score = missing.intercept[:, 0] - missing.raw_slope[:, 0] * (x - encoder.location[:, 0]) / encoder.scale[:, 0]
    torch.testing.assert_close(score.float(), torch.full((2,), -0.3 * (x - 55.0)))
    assert missing.level_score[:, :, 0].tolist() == [[1.0, -1.0, 0.5]] * 2
    for wrong, message in (
        ({"weight": [0.3, 55.0]}, "must name every attribute"),
        ({**known, "weight": [1.0]}, "'weight' must be 2 finite"),
    ):
        with pytest.raises(BenchError, match=message):
            cls(with_defaults(cls, missing_parameters=wrong), budget(3)).fit_many(train, validation, [0, 1])
