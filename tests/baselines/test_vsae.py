"""VSAE: what it may see, its bound written out, its parameters counted, and what it learns where the truth is known."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal, kl_divergence

from bench.api import Attribute, Batch, BoolArray, Budget, FloatArray, Incomplete, Schema, Table, TensorView
from bench.neural.engine.bank import parameter_count, reset_parameters
from bench.neural.engine.encoder import Encoder
from bench.neural.networks import BankedMLP, frozen, statistics_kept
from bench.neural.rows import Encoded, Layout, Rows
from bench.problem.held_out import deal_folds
from tests.neural_views import (
    BASELINES,
    Named,
    assert_same_values,
    dependent_table,
    generator,
    gradient_of,
    linear_layer,
    loss_of,
    on_table,
    poisoned,
    proposal_noise,
    revealed_by,
    split_views,
    state_of,
    step_noise,
    trained,
)
from tests.truth import rows_behind

VSAE = type[Any]
BUDGET = Budget(steps=15, batch=21, warm_fraction=0.3, evaluations=3, draws=13, target_draws=3, validation_draws=3)
TABLES: dict[str, Callable[[], Table]] = {
    "mixed": lambda: dependent_table(110, numbers=3, levels=(2, 4)),
    "image": lambda: dependent_table(80, numbers=2, levels=(3,), images=2, features=1, pixels=9),
}


@pytest.fixture
def vsae(load_plugin: Callable[..., VSAE]) -> VSAE:
    """Return the VSAE plug-in."""
    return load_plugin(BASELINES / "vsae.py")


def assert_same_training(first: tuple[Any, list[Any]], second: tuple[Any, list[Any]]) -> None:
    """Assert that two trained methods and their imputations are the same to the bit, diagnostics too."""
    states = state_of(second[0].model)
    for name, tensor in state_of(first[0].model).items():
        assert torch.equal(tensor, states[name]), name
    for ours, theirs in zip(first[1], second[1], strict=True):
        assert_same_values(ours, theirs)
    for ours, theirs in zip(first[0].diagnostics(), second[0].diagnostics(), strict=True):
        assert {**ours, "training_seconds": 0} == {**theirs, "training_seconds": 0}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("parameter_set", ["default", "literal"])
def test_hidden_truth_changes_no_bit(vsae: VSAE, kind: str, parameter_set: str) -> None:
    table = TABLES[kind]()
    views = split_views(table)
    parameters = {**vsae.parameter_sets[parameter_set], "latent": 3}
    clean = trained(vsae, views, [3], BUDGET, parameters)
    revealed = revealed_by(views, table)
    others = [poisoned(table, revealed, seed) for seed in (10, 11, 12)]
    for other in others:
        assert np.array_equal(
            other.scalars[revealed[:, table.schema.scalar_indices]],
            table.scalars[revealed[:, table.schema.scalar_indices]],
        )
        assert not np.array_equal(other.scalars, table.scalars)
    under = [on_table(view, other) for view, other in zip(views, others, strict=True)]
    assert_same_training(trained(vsae, under, [3], BUDGET, parameters), clean)
    for values in clean[1]:
        assert not np.isnan(values.scalars).any() and not any(np.isnan(b).any() for b in values.blocks.values())
    shown = views[2].values()
    known = ~np.isnan(shown.scalars)
    assert np.array_equal(clean[1][0].scalars[known], shown.scalars[known])


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("filler", [123.0, 1.0, math.nan])
def test_the_filler_of_hidden_entries_changes_no_bit(
    vsae: VSAE, kind: str, filler: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = split_views(TABLES[kind]())
    clean = trained(vsae, views, [3], BUDGET, {"latent": 3})
    gather, filled = TensorView.batch, 0

    def batch(self: TensorView, index: Tensor) -> Batch:
        nonlocal filled
        got = gather(self, index)
        filled += int((~got.observed).sum())
        scalars = torch.where(got.observed[..., torch.as_tensor(self.schema.scalar_indices)], got.scalars, filler)
        blocks = {}
        for name, block in got.blocks.items():
            shown = got.observed[..., self.schema.names.index(name), None]
            blocks[name] = torch.where(shown, block, filler)
        return Batch(scalars, blocks, got.observed)

    monkeypatch.setattr(TensorView, "batch", batch)
    assert_same_training(trained(vsae, views, [3], BUDGET, {"latent": 3}), clean)
    assert filled > 1000


@pytest.mark.parametrize("kind", TABLES)
def test_the_network_itself_looks_at_no_hidden_number_or_block(
    vsae: VSAE, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = split_views(TABLES[kind]())
    clean = trained(vsae, views, [3], BUDGET, {"latent": 3})
    build = vsae.build

    def unguarded(self: Any, layout: Layout, replicas: int) -> Any:
        network = build(self, layout, replicas)
        loss, propose = network.loss, network.propose
        network.loss = lambda x, *rest: loss(with_filler(x, layout), *rest)
        network.propose = lambda x, *rest: propose(with_filler(x, layout), *rest)
        return network

    monkeypatch.setattr(vsae, "build", unguarded)
    assert_same_training(trained(vsae, views, [3], BUDGET, {"latent": 3}), clean)


def with_filler(x: Rows, layout: Layout) -> Rows:
    """Return the batch with 123 in its hidden numbers, images and features."""
    batch = x.target
    numeric = torch.where(batch.observed[..., : layout.numeric], batch.numeric, 123.0)
    blocks = tuple(
        torch.where(batch.observed[..., layout.group_positions(index), None], block, 123.0)
        for index, block in enumerate(batch.blocks)
    )
    return replace(x, target=replace(batch, numeric=numeric, blocks=blocks))


def network_and_batch(
    vsae: VSAE, table: Table, replicas: int, rows: int, parameter_set: str = "default", **parameters: Any
) -> tuple[Any, Encoded, dict[str, Tensor]]:
    """Return an untrained stack in float64, drawn at random throughout, an encoded batch and noise for a step."""
    views = split_views(table, replicas, ratio=0.45)
    layout = Layout(table.schema)
    method = vsae({**vsae.parameter_sets[parameter_set], "latent": 2, **parameters})
    network = method.build(layout, replicas)
    reset_parameters(network, [generator(20 + replica) for replica in range(replicas)])
    network.double()
    draw = generator(1)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
    for running in network.buffers():
        running += 0.1 * torch.rand(running.shape, generator=draw, dtype=torch.float64)
    encoder = Encoder(views[0], layout, method.parameters["scaling"], "cpu")
    index = torch.stack([torch.randperm(len(views[0]), generator=draw)[:rows] for _ in range(replicas)])
    batch = encoder.encode(views[0].tensors("cpu").batch(index))
    double = Encoded(
        batch.numeric.double(), batch.categorical.double(), tuple(b.double() for b in batch.blocks), batch.observed
    )
    noise = {
        name: torch.randn(replicas, *shape, generator=draw, dtype=torch.float64)
        for name, shape in step_noise(network, rows).items()
    }
    return network, double, noise


def altered(batch: Encoded, layout: Layout, replica: int, row: int, position: int) -> Encoded:
    """Return the batch with another value of the attribute at ``position`` (in group order) of one row."""
    numeric, categorical, blocks = batch.numeric.clone(), batch.categorical.clone(), [b.clone() for b in batch.blocks]
    column = position - layout.numeric
    if position < layout.numeric:
        numeric[replica, row, position] += 1.5
    elif column < layout.categorical:
        levels = int(layout.levels[column])
        categorical[replica, row, :levels, column] = categorical[replica, row, :levels, column].roll(1)
    else:
        for index, block in enumerate(blocks):
            place = layout.group_positions(index)
            if place.start <= position < place.stop:
                block[replica, row, position - place.start] += 0.7
    return Encoded(numeric, categorical, tuple(blocks), batch.observed)


@pytest.mark.parametrize("kind", TABLES)
def test_an_observed_attribute_proposes_from_itself_alone_and_a_hidden_one_from_what_is_observed(
    vsae: VSAE, kind: str
) -> None:
    network, batch, noise = network_and_batch(vsae, TABLES[kind](), 2, 12)
    layout, observed = network.layout, batch.observed
    network.eval()

    def proposal(other: Encoded, fill: Tensor) -> Any:
        return network.q(network.given(Rows(other), Named({"fill": fill})))

    before = proposal(batch, noise["fill"])

    def changed(other: Encoded, fill: Tensor) -> Tensor:
        """Return which attributes' proposals changed, [R, b, M]."""
        after = proposal(other, fill)
        different: Tensor = (after.mean != before.mean).any(-1)
        assert torch.equal(different, (after.log_variance != before.log_variance).any(-1))
        return different

    row = int((observed[0].sum(1) == observed.shape[2] - 2).nonzero()[0])
    assert observed[0, row].any() and not observed[0, row].all()
    for position in range(layout.attributes):
        expected = torch.zeros_like(observed)
        if observed[0, row, position]:
            # Its own proposal, and those of all hidden attributes of the same row.
            expected[0, row] = ~observed[0, row]
            expected[0, row, position] = True
            assert torch.equal(changed(altered(batch, layout, 0, row, position), noise["fill"]), expected)
        else:
            # Not even the collective encoder sees a hidden value. (A hidden category is all zeros to begin with.)
            if position < layout.numeric or position >= layout.numeric + layout.categorical:
                assert not changed(altered(batch, layout, 0, row, position), noise["fill"]).any()
    # The noise in hidden slots moves the hidden attributes' proposals and no other.
    refilled = changed(batch, noise["fill"] + 1)
    some_hidden = ~observed.all(-1, keepdim=True)
    assert torch.equal(refilled, ~observed & some_hidden) and refilled.any()


def test_while_training_an_attribute_still_proposes_from_its_own_column_alone(vsae: VSAE) -> None:
    network, batch, noise = network_and_batch(vsae, TABLES["mixed"](), 1, 12)
    before = copy.deepcopy(network).q(network.given(Rows(batch), Named(noise)))
    row = int(batch.observed[0, :, 0].nonzero()[0])
    other = altered(batch, network.layout, 0, row, 0)
    after = copy.deepcopy(network).q(network.given(Rows(other), Named(noise)))
    different = (after.mean != before.mean).any(-1) & batch.observed
    # Batch statistics carry the change to the other rows of the column, where it is observed, and nowhere else.
    assert different[0, :, 0].sum() > 1 and not different[0, :, 1:].any()


def decode(network: Any, z: Tensor) -> tuple[Tensor, Any]:
    """Return the mask's logits [R, b, M] and the data for one draw z [R, b, M, latent]."""
    logits, decoded = network.p(z.flatten(2))
    return logits, decoded


def restated_bound(
    network: Any,
    batch: Encoded,
    noise: Mapping[str, Tensor],
    progress: float,
    warm: bool,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the bound [R] written out, one replica, row, attribute and sample at a time.

    With ``mask`` [R, b, M] the batch is a complete one, of which the mask hides what was drawn.
    """
    layout, heads = network.layout, network.decoder.heads
    proposal = network.q(network.given(Rows(batch), Named(noise)))
    q = Normal(proposal.mean, torch.exp(0.5 * proposal.log_variance))
    z = q.loc + q.scale * noise["latent"]
    logits, decoded = decode(network, z)
    imagined = []
    if network.unobserved_term and not warm:
        # Of images, of which only hidden rows are decoded, by running statistics.
        with torch.no_grad(), (frozen if layout.block_groups else statistics_kept)(network):
            together = network.p((q.loc[:, None] + q.scale[:, None] * noise["target"]).flatten(3))[1]
        imagined = [together.map(lambda tensor, at=at: tensor[:, at]) for at in range(noise["target"].shape[1])]
    gaussians = layout.numeric + sum(len(group.names) for group in layout.block_groups)
    scales = torch.ones(network.replicas, gaussians).double()
    if heads.log_scale is not None:
        scales = heads.log_scale.exp().clamp(min=1e-3)
    divergence = kl_divergence(q, Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale)))
    weight = progress if network.kl_warm_up else 1.0

    def decoded_attribute(prediction: Any, r: int, b: int, i: int) -> tuple[Any, Tensor]:
        """Return the head's distribution of attribute i (in group order), and its mean or probabilities."""
        if i < layout.numeric:
            mean = prediction.numeric[r, b, i]
            return Normal(mean, scales[r, i]), mean
        i -= layout.numeric
        if i < layout.categorical:
            head = Categorical(logits=prediction.categorical[r, b, : layout.levels[i], i])
            return head, head.probs
        i -= layout.categorical
        first = layout.numeric
        for group, block in zip(layout.block_groups, prediction.blocks, strict=True):
            if i < len(group.names):
                return Independent(Normal(block[r, b, i], scales[r, first + i]), 1), block[r, b, i]
            i, first = i - len(group.names), first + len(group.names)
        raise AssertionError("no such attribute")

    def value(r: int, b: int, i: int) -> Tensor:
        if i < layout.numeric:
            return batch.numeric[r, b, i]
        i -= layout.numeric
        if i < layout.categorical:
            return batch.categorical[r, b, :, i].argmax()
        i -= layout.categorical
        for block in batch.blocks:
            if i < block.shape[2]:
                return block[r, b, i]
            i -= block.shape[2]
        raise AssertionError("no such attribute")

    def term_of_hidden(r: int, b: int, i: int) -> Tensor:
        """Return the mean over the samples of log p(x_i | z), x_i drawn from the model."""
        head, mean = decoded_attribute(decoded, r, b, i)
        terms = []
        for prediction in imagined:
            drawn_from, sample = decoded_attribute(prediction, r, b, i)
            if isinstance(head, Categorical):
                terms.append((sample.detach() * head.logits).sum())
            elif network.draw_numbers:
                # The mean of log N(x; m, s^2) over x ~ N(sample, t^2) is log N(sample; m, s^2) - t^2 / (2 s^2).
                spread = drawn_from.base_dist.scale if isinstance(drawn_from, Independent) else drawn_from.scale
                own = head.base_dist.scale if isinstance(head, Independent) else head.scale
                terms.append(head.log_prob(sample.detach()) - mean.numel() * spread.detach() ** 2 / (2 * own**2))
            else:
                terms.append(head.log_prob(sample.detach()))
        return torch.stack(terms).mean()

    bounds = []
    for r in range(network.replicas):
        rows = []
        for b in range(batch.observed.shape[1]):
            shown = batch.observed[r, b]
            told = shown if mask is None else mask[r, b]
            total = Bernoulli(logits=logits[r, b]).log_prob(told.double()).sum() - weight * divergence[r, b].sum()
            for i in range(layout.attributes):
                if shown[i]:
                    head = decoded_attribute(decoded, r, b, i)[0]
                    total = total + head.log_prob(value(r, b, i))
                    if not told[i] and kind_of(layout, i) == "image":
                        # Its mean was drawn: the noise of its pixels has as much variance as the model says.
                        own = head.base_dist.scale
                        total = total - (own.detach() ** 2 / (2 * own**2)).sum()
                elif not warm and network.unobserved_term:
                    total = total + term_of_hidden(r, b, i)
            rows.append(total)
        bounds.append(torch.stack(rows).mean())
    return torch.stack(bounds)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    ("parameter_set", "changes"),
    [
        ("default", {"reading": "independent"}),
        ("default", {"reading": "independent", "draw_numbers": True}),
        ("default", {"reading": "independent", "kl_warm_up": False}),
        ("literal", {}),
    ],
)
@pytest.mark.parametrize("kind", TABLES)
def test_the_bound_is_the_plain_one_and_so_is_its_gradient(
    vsae: VSAE, kind: str, parameter_set: str, changes: dict[str, Any], warm: bool
) -> None:
    network, batch, noise = network_and_batch(vsae, TABLES[kind](), 2, 4, parameter_set, **changes)
    assert (~batch.observed).any() and batch.observed.any()
    plain = copy.deepcopy(network)
    losses = loss_of(network, batch, noise, 0.37, warm)
    expected = restated_bound(plain, batch, noise, 0.37, warm)
    torch.testing.assert_close(-losses, expected)
    losses.sum().backward()
    (-expected).sum().backward()
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name, atol=1e-6, rtol=1e-5)
    for (name, ours), theirs in zip(network.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def kind_of(layout: Layout, i: int) -> str:
    """Return the kind of the attribute at a position in group order."""
    return layout.schema.attributes[int(layout.order[i])].kind


@pytest.mark.parametrize("kind", TABLES)
def test_the_complete_bound_is_that_of_rows_completed_by_the_model(vsae: VSAE, kind: str) -> None:
    network, batch, noise = network_and_batch(vsae, TABLES[kind](), 2, 4)
    assert network.reading == "complete" and (~batch.observed).any()
    plain = copy.deepcopy(network)
    x = plain.given(Rows(batch), Named(noise))
    rows, complete = copy.deepcopy(plain).complete(plain.q(x), x, Named(noise))
    assert complete.observed.all() and torch.equal(rows.observed, batch.observed.repeat(1, 2, 1))
    kept = torch.where(rows.observed[..., : network.layout.numeric], complete.numeric, 0.0)
    assert torch.equal(kept, batch.numeric.repeat(1, 2, 1))
    assert (complete.categorical.sum(-2) == 1).all()
    losses = loss_of(network, batch, noise, 0.37, False)
    plain = copy.deepcopy(plain)
    of_observed = restated_bound(plain, batch, noise, 0.37, warm=True)
    own = {**noise, "latent": noise["complete latent"], "fill": noise["fill"].repeat(1, 2, 1)}
    of_complete = restated_bound(plain, complete, own, 0.37, warm=True, mask=rows.observed)
    expected = 0.5 * (of_observed + of_complete)
    torch.testing.assert_close(-losses, expected)
    losses.sum().backward()
    (-expected).sum().backward()
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name, atol=1e-6, rtol=1e-5)


def test_what_the_model_draws_for_hidden_entries_is_drawn_from_its_own_distribution(vsae: VSAE) -> None:
    network, batch, _ = network_and_batch(vsae, TABLES["mixed"](), 1, 1)
    count = 4000
    many = Encoded(
        batch.numeric.repeat(1, count, 1),
        batch.categorical.repeat(1, count, 1, 1),
        (),
        torch.zeros_like(batch.observed).repeat(1, count, 1),
    ).without(torch.ones(1, count, 5, dtype=torch.bool), network.layout)
    network.eval()
    noise = Named(
        {
            name: torch.randn(1, *shape, generator=generator(3), dtype=torch.float64)
            for name, shape in step_noise(network, count).items()
        }
    )
    x = network.given(Rows(many), noise)
    q = network.q(x)
    _, complete = network.complete(q, x, noise)
    # The same by another route: the law of total variance over decoded draws.
    z = q.sample(torch.randn(1, 50, count, *network.blocks, generator=generator(4), dtype=torch.float64)).flatten(3)
    decoded = network.p_x(z, x)
    spread = torch.exp(2 * network.heads.log_scales(3))[..., :3].squeeze()
    torch.testing.assert_close(complete.numeric.mean(1), decoded.numeric.mean((1, 2)), atol=0.05, rtol=0)
    expected = decoded.numeric.var((1, 2)) + spread
    torch.testing.assert_close(complete.numeric.var(1), expected, atol=0, rtol=0.1)
    shares = decoded.probabilities().mean((1, 2))
    torch.testing.assert_close(complete.categorical.mean(1), shares, atol=0.03, rtol=0)


def test_without_the_term_of_the_unobserved_the_main_phase_is_the_warm_one(vsae: VSAE) -> None:
    network, batch, noise = network_and_batch(vsae, TABLES["mixed"](), 2, 6, unobserved_term=False)
    assert "target" not in noise
    twin = copy.deepcopy(network)
    assert torch.equal(loss_of(network, batch, noise, 1.0, True), loss_of(twin, batch, noise))


def test_log_weights_are_those_of_the_definition_with_the_masks_likelihood(vsae: VSAE) -> None:
    network, batch, _ = network_and_batch(vsae, TABLES["mixed"](), 2, 5)
    draws, layout = 3, network.layout
    noise = {
        name: torch.randn(2, *shape, generator=generator(4), dtype=torch.float64)
        for name, shape in proposal_noise(network, 5, draws).items()
    }
    network.eval()
    x = network.given(Rows(batch), Named(noise))
    log_weight, prediction, notes = network.propose(x, draws, Named(noise))
    proposal = network.q(x)
    q = Normal(proposal.mean, torch.exp(0.5 * proposal.log_variance))
    torch.testing.assert_close(
        notes["kl"], kl_divergence(q, Normal(torch.zeros_like(q.loc), torch.ones_like(q.scale))).sum((-1, -2))
    )
    scale = network.decoder.heads.log_scale.exp()[:, None]
    for k in range(draws):
        z = q.loc + q.scale * noise["latent"][:, k]
        logits, decoded = decode(network, z)
        torch.testing.assert_close(prediction.numeric[:, k], decoded.numeric)
        torch.testing.assert_close(prediction.categorical[:, k], decoded.categorical)
        shown = batch.observed
        terms = [Normal(decoded.numeric, scale).log_prob(batch.numeric)]
        for j, count in enumerate(layout.levels.tolist()):
            head = Categorical(logits=decoded.categorical[..., :count, j])
            terms.append(head.log_prob(batch.categorical[..., j].argmax(-1))[..., None])
        expected = torch.where(shown, torch.cat(terms, -1), 0.0).sum(-1)
        expected = expected + Bernoulli(logits=logits).log_prob(shown.double()).sum(-1)
        expected = expected + (Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum((-1, -2))
        torch.testing.assert_close(log_weight[:, k], expected)


def test_the_parameters_are_those_of_the_appendix(vsae: VSAE) -> None:
    table = dependent_table(30, numbers=3, levels=(2, 4))
    attributes, width, latent = 5, 3 + 2 + 4, 2
    joined = attributes * latent

    def mlp(*widths: int, norms: Sequence[int] = ()) -> int:
        return sum(i * o + o for i, o in zip(widths[:-1], widths[1:], strict=True)) + sum(2 * norm for norm in norms)

    expected = 3 * mlp(1, 16, 16, 16, 2 * latent, norms=(16, 16, 16))
    expected += sum(mlp(levels, 64, 64, 64, 2 * latent, norms=(64, 64, 64)) for levels in (2, 4))
    expected += mlp(width + attributes, 64, 64, 64, 2 * joined)
    expected += mlp(joined, 16, 16, 16, attributes, norms=(16,))
    expected += mlp(joined + attributes, 64, 64, 64, width, norms=(64,))
    for parameter_set, scales in (("default", 3), ("literal", 0)):
        network = vsae(vsae.parameter_sets[parameter_set]).build(Layout(table.schema), 4)
        assert parameter_count(network) == expected + scales


def test_the_decoder_taken_literally_is_linear_behind_its_first_layer(vsae: VSAE) -> None:
    for parameter_set, linear in (("default", False), ("literal", True)):
        network, _, _ = network_and_batch(vsae, TABLES["mixed"](), 1, 4, parameter_set)
        layers: BankedMLP = network.decoder.scalars
        x = torch.randn(1, 6, 64, generator=generator(2), dtype=torch.float64)

        def behind(x: Tensor, mlp: BankedMLP = layers) -> Tensor:
            for level in (1, 2):
                x = linear_layer(mlp, level)(x)
                x = torch.nn.functional.leaky_relu(x, 0.01) if mlp.activate[level] else x
            return linear_layer(mlp, 3)(x)

        middle = 0.5 * (behind(x) + behind(-x))
        assert torch.allclose(middle, behind(torch.zeros_like(x))) is linear


def showing(observed: torch.Tensor) -> Rows:
    """Return rows of no columns with a mask [R, b, M]."""
    none = torch.zeros(*observed.shape[:2], 0)
    return Rows(Encoded(none, none[..., None], (), observed))


def test_the_mask_reaches_the_data_decoder_as_the_mask_decoders_probabilities(vsae: VSAE) -> None:
    network, batch, _ = network_and_batch(vsae, TABLES["mixed"](), 2, 5)
    network.eval()
    z = torch.randn(2, 1, 7, 10, generator=generator(3), dtype=torch.float64)
    logits, prediction = network.p(z)
    torch.testing.assert_close(logits[:, 0], network.mask_decoder(z[:, 0]))
    expected = network.decoder(torch.cat([z, torch.sigmoid(logits)], -1))
    torch.testing.assert_close(prediction.numeric, expected.numeric)
    shown = batch.observed[:, :1].expand_as(logits[:, 0])
    bernoulli = Bernoulli(logits=logits[:, 0]).log_prob(shown.double()).sum(-1)
    torch.testing.assert_close(network.log_p_m(logits, showing(shown))[:, 0], bernoulli)
    far = network.log_p_m(torch.tensor([[[[1e4, -1e4]]]]), showing(torch.tensor([[[False, True]]])))
    assert far.tolist() == [[[-2e4]]]


def test_the_masks_gradient_has_the_same_bits_alone_and_in_a_stack(vsae: VSAE) -> None:
    network, _, _ = network_and_batch(vsae, TABLES["mixed"](), 1, 4)
    logits = torch.randn(3, 101, 5, generator=generator(5))
    observed = torch.rand(3, 101, 5, generator=generator(6)) > 0.5
    gradients = []
    for own, shown in [(logits, observed), *((logits[k : k + 1], observed[k : k + 1]) for k in range(3))]:
        own = own.clone().requires_grad_()
        network.log_p_m(own, showing(shown)).sum().backward()
        gradients.append(gradient_of(own))
    assert torch.equal(gradients[0], torch.cat(gradients[1:]))


def test_empty_views_single_rows_and_rows_that_show_nothing_are_imputed(vsae: VSAE) -> None:
    table = dependent_table(110, numbers=3, levels=(2, 4))
    scalars = table.scalars.copy()
    scalars[:, 3] = 4.0
    constant = Table(table.schema, scalars, {}, table.present)
    train, validation, test = split_views(constant)
    method, _ = trained(vsae, (train, validation, test), [3], BUDGET)
    for count in (0, 1, 5):
        shown = np.zeros((1, count, 5), dtype=bool)
        view = Incomplete(constant, rows_behind(test)[:, :count], shown)
        values = method.impute_many(view, 4)[0]
        assert values.scalars.shape == (count, 5) and np.isfinite(values.scalars).all()
        codes = values.scalars[:, [0, 1]]
        assert (codes == codes.round()).all() and (codes >= 0).all() and (codes < [2, 4]).all()


def test_importance_weights_can_be_left_out_and_are_reported(vsae: VSAE) -> None:
    views = split_views(TABLES["mixed"]())
    weighted, values = trained(vsae, views, [3], replace(BUDGET, evaluations=1))
    plain, uniform = trained(vsae, views, [3], replace(BUDGET, evaluations=1), {"importance_weights": False})
    assert not np.array_equal(values[0].scalars, uniform[0].scalars)
    for method in (weighted, plain):
        facts = method.diagnostics()[0]
        assert 1 <= facts["effective_sample_size"] <= BUDGET.draws and facts["kl"] > 0
        assert facts["parameters"] == parameter_count(method.model)
        assert facts["epochs"] == 5 and facts["steps"] == 15 and facts["best_epoch"] == 5
    states = state_of(plain.model)
    assert all(torch.equal(tensor, states[name]) for name, tensor in state_of(weighted.model).items())


def test_seeds_give_different_networks_and_the_same_seed_the_same(vsae: VSAE) -> None:
    views = split_views(TABLES["mixed"]())
    first, second, other = (trained(vsae, views, [seed], BUDGET) for seed in (3, 3, 4))
    assert_same_training(first, second)
    assert not np.array_equal(first[1][0].scalars, other[1][0].scalars)


def numbers_of(rows: int, loadings: Sequence[float], seed: int) -> tuple[FloatArray, FloatArray]:
    """Return rows x = loadings z + 0.5 e of standard normal z and e, and their covariance."""
    weights, rng = np.array(loadings), np.random.default_rng(seed)
    x = rng.normal(size=(rows, 1)) * weights + 0.5 * rng.normal(size=(rows, len(weights)))
    return x, np.outer(weights, weights) + 0.25 * np.eye(len(weights))


def three_views(x: FloatArray, observed: BoolArray, rng: np.random.Generator) -> list[Incomplete]:
    """Return the views of the first 2000, the next 200 and the other rows of a table of numbers."""
    schema = Schema(tuple(Attribute(f"x{j}", "numeric") for j in range(x.shape[1])))
    table = Table(schema, x, {}, np.ones(x.shape, dtype=bool))
    parts = np.split(np.arange(len(x)), [2000, 2200])
    folds = [None, deal_folds(observed[parts[1]], 1, rng)[None], None]
    return [Incomplete(table, part[None], observed[part][None], f) for part, f in zip(parts, folds, strict=True)]


def test_numbers_are_imputed_nearly_as_well_as_can_be(vsae: VSAE) -> None:
    x, covariance = numbers_of(2600, [1.0, 0.9, -0.8, 0.7], seed=0)
    rng = np.random.default_rng(1)
    observed: BoolArray = np.greater(rng.random(x.shape), 0.4)
    views = three_views(x, observed, rng)
    budget = Budget(steps=150, batch=128, learning_rate=1e-2, evaluations=10, draws=50, target_draws=5)
    _, values = trained(vsae, views, [0], budget)
    truth, shown = x[2200:], observed[2200:]
    best = np.zeros_like(truth)
    for row, o in enumerate(shown):
        if o.any():
            best[row] = covariance[:, o] @ np.linalg.solve(covariance[np.ix_(o, o)], truth[row, o])

    def error(guess: FloatArray) -> float:
        return float(np.sqrt(np.mean((guess - truth)[~shown] ** 2)))

    ours, mean = error(values[0].scalars), error(np.zeros_like(truth))
    # The best error is 0.65 of the mean's.
    assert error(best) < ours < 1.25 * error(best) and ours < 0.82 * mean


SLOPE = 2.5


@pytest.fixture(scope="module")
def linear_gaussian() -> dict[str, FloatArray]:
    """Return the bound of VSAE trained on numbers whose mask depends on one of them, beside exact log-likelihoods.

    The second number is the likelier to be hidden the larger the first, which is always seen. ``exact`` is the
    log-density of what each test row shows and of its mask; ``constant`` the same with the mask's mean propensities.
    """
    from bench.plugins.reader import SourceReader
    from bench.plugins.registry import load

    torch.set_num_threads(1)
    vsae = load(SourceReader().read_files([BASELINES / "vsae.py"], "user", None)[0])
    x, covariance = numbers_of(2600, [1.0, 0.9, -0.8], seed=0)
    rng = np.random.default_rng(1)
    hiding = np.stack([np.zeros(2600), 1 / (1 + np.exp(-SLOPE * x[:, 0])), np.full(2600, 0.4)], axis=1)
    observed = rng.random(x.shape) >= hiding
    # The bound alone is trained (without the samples of what is hidden), and the last state kept.
    budget = Budget(steps=400, batch=128, learning_rate=1e-2, evaluations=1, draws=200)
    method, _ = trained(vsae, three_views(x, observed, rng), [0], budget, {"unobserved_term": False})
    test, shown = x[2200:], observed[2200:]
    density = np.zeros(len(test))
    for row, o in enumerate(shown):
        part = covariance[np.ix_(o, o)]
        quadratic = test[row, o] @ np.linalg.solve(part, test[row, o])
        density[row] = -0.5 * (quadratic + np.linalg.slogdet(part)[1] + o.sum() * math.log(2 * math.pi))
    # VSAE's density is that of scaled numbers.
    density += (shown * np.log(method.encoder.scale[0].double().numpy())).sum(1)

    def log_mask(propensity: FloatArray) -> FloatArray:
        with np.errstate(divide="ignore"):
            total: FloatArray = np.where(shown, np.log(1 - propensity), np.log(propensity)).sum(1)
        return total

    constant = np.broadcast_to((~observed[:2000]).mean(0), shown.shape)
    return {
        "bound": method.notes["bound"][0].double().numpy(),
        "exact": density + log_mask(hiding[2200:]),
        "constant": density + log_mask(constant),
    }


def test_the_bound_lies_below_and_close_to_the_exact_log_likelihood(linear_gaussian: dict[str, FloatArray]) -> None:
    difference = linear_gaussian["bound"] - linear_gaussian["exact"]
    error = difference.std() / math.sqrt(len(difference))
    assert -0.2 < difference.mean() < 2 * error


def test_the_mask_decoder_learns_whom_the_mask_hides(linear_gaussian: dict[str, FloatArray]) -> None:
    # Even with the exact density of the data, constant propensities stay clearly below.
    assert linear_gaussian["constant"].mean() < linear_gaussian["exact"].mean() - 0.2
    assert linear_gaussian["bound"].mean() > linear_gaussian["constant"].mean() + 0.1


def test_categories_are_imputed_better_than_by_the_mode(vsae: VSAE) -> None:
    rng = np.random.default_rng(2)
    cause = rng.integers(0, 3, 900)
    # Five attributes that name the cause of their row, each wrong in one case of seven.
    codes = np.where(rng.random((900, 5)) < 1 / 7, rng.integers(0, 3, (900, 5)), cause[:, None])
    schema = Schema(tuple(Attribute(f"c{j}", "categorical", levels=("a", "b", "c")) for j in range(5)))
    table = Table(schema, codes.astype(float), {}, np.ones((900, 5), dtype=bool))
    views = split_views(table, ratio=0.4)
    budget = Budget(steps=300, batch=64, learning_rate=1e-2, evaluations=10, draws=30, target_draws=5)
    _, values = trained(vsae, views, [0], budget)
    hidden = ~views[2].observed[0]
    truth = codes[rows_behind(views[2])[0]]
    wrong = (values[0].scalars != truth)[hidden].mean()
    modes = [np.bincount(codes[rows_behind(views[0])[0]][views[0].observed[0][:, j], j]).argmax() for j in range(5)]
    assert wrong < 0.5 * (truth != np.array(modes))[hidden].mean()
    # The best guess is wrong in some 18 % of cases.
    assert wrong < 0.3
