"""Banked layers against torch's own layers, one bank at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from bench.neural.engine.bank import (
    LEAKY_SLOPE,
    BankedBatchNorm,
    BankedLinear,
    BankedMLP,
    parameter_count,
    reset_parameters,
    sigmoid,
)
from bench.neural.engine.encoder import Encoder
from bench.neural.engine.packed import PackedRows
from bench.neural.heads import Heads
from bench.neural.networks import AttributiveEncoders, Sizes
from bench.neural.rows import Layout
from tests.neural_views import dependent_table, generator, gradient_of, linear_layer, split_views

Module = TypeVar("Module", bound=nn.Module)

BANK = (2, 3)
BANKS = [(r, a) for r in range(BANK[0]) for a in range(BANK[1])]


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Return standard normal numbers, float64."""
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def drawn(module: Module, replicas: int = 2) -> Module:
    """Return the module in float64, drawn, its norms' gain, shift and running statistics too."""
    reset_parameters(module, [generator(10 + replica) for replica in range(replicas)])
    module.double()
    for part in module.modules():
        if isinstance(part, BankedBatchNorm):
            shape = part.gain.shape
            part.gain.data = 1 + 0.3 * normal(*shape, seed=1)
            part.shift.data = normal(*shape, seed=2)
            part.running_mean.copy_(normal(*shape, seed=3))
            part.running_variance.copy_(0.5 + normal(*shape, seed=4) ** 2)
    return module


def test_orthogonal_weights_are_orthonormal_over_the_inputs_that_are_real() -> None:
    layers = (
        BankedLinear((2,), 7, 3),
        BankedLinear((2,), 3, 7),
        BankedLinear((2, 2), 6, 3, inputs_used=torch.tensor([4, 2])),
    )
    for layer, used in zip(layers, ((7,), (3,), (4, 2)), strict=True):
        layer.reset([generator(1), generator(2)], "orthogonal")
        inputs, outputs = layer.weight.shape[-2:]
        for replica in range(2):
            for matrix, count in zip(layer.weight[replica].detach().view(-1, inputs, outputs), used, strict=True):
                assert not matrix[count:].any()
                real = matrix[:count]
                product = real.T @ real if count >= outputs else real @ real.T
                torch.testing.assert_close(product, torch.eye(min(count, outputs)))
        assert not torch.equal(layer.weight[0], layer.weight[1])
    # A replica's weights are its generator's, whatever the stack.
    alone = BankedLinear((1,), 7, 3)
    alone.reset([generator(2)], "orthogonal")
    assert torch.equal(alone.weight[0], layers[0].weight[1])


@pytest.mark.parametrize("weighted", [True, False])
def test_a_constant_unit_is_normalised_by_running_statistics_and_leaves_them(weighted: bool) -> None:
    """Divided by its own variance of nothing, it would make any other value it ever meets huge."""
    norm = BankedBatchNorm((1,), 2).double()
    x = torch.stack([torch.full((16,), 3.0), torch.arange(16.0)], dim=-1)[None].double().requires_grad_()
    weight = torch.ones(1, 16).double() if weighted else None
    for _ in range(50):
        y = norm(x, weight)
    assert norm.running_mean[0, 0] == 0 and norm.running_variance[0, 0] == 1 != norm.running_variance[0, 1]
    torch.testing.assert_close(y[0, :, 0], x[0, :, 0] / math.sqrt(1 + norm.eps))
    plain = nn.BatchNorm1d(1).double()
    torch.testing.assert_close(y[0, :, 1:], plain(x[0, :, 1:]))
    # The gradient is that of a division by what is given: nothing goes through a mean or a variance.
    (y[..., 0] * torch.arange(16.0)).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0, :, 0], torch.arange(16.0).double() / math.sqrt(1 + norm.eps))
    norm.eval()
    with torch.no_grad():
        assert norm(torch.tensor([[[3.5, 0.0]]]).double())[0, 0, 0] == pytest.approx(3.5, rel=1e-4)


def torch_linear(layer: BankedLinear, place: tuple[int, ...]) -> nn.Linear:
    """Return one bank of a linear layer as torch's."""
    inputs, outputs = layer.weight.shape[-2:]
    linear = nn.Linear(inputs, outputs, dtype=layer.weight.dtype)
    linear.weight.data = layer.weight[place].detach().T.clone()
    linear.bias.data = layer.bias[place].detach().clone()
    return linear


def torch_norm(norm: BankedBatchNorm, place: tuple[int, ...]) -> nn.BatchNorm1d:
    """Return one bank of a batch normalisation as torch's."""
    single = nn.BatchNorm1d(norm.gain.shape[-1], eps=norm.eps, momentum=norm.momentum, dtype=norm.gain.dtype)
    single.weight.data, single.bias.data = norm.gain[place].detach().clone(), norm.shift[place].detach().clone()
    assert single.running_mean is not None and single.running_var is not None
    single.running_mean.copy_(norm.running_mean[place])
    single.running_var.copy_(norm.running_variance[place])
    return single


def norm_layer(mlp: BankedMLP, level: int) -> BankedBatchNorm:
    """Return one of a network's batch normalisations."""
    norm = mlp.norms[level]
    assert isinstance(norm, BankedBatchNorm)
    return norm


def torch_mlp(mlp: BankedMLP, place: tuple[int, ...]) -> nn.Sequential:
    """Return one bank of an MLP as torch's layers."""
    parts: list[nn.Module] = []
    for level in range(len(mlp.layers)):
        parts.append(torch_linear(linear_layer(mlp, level), place))
        if level < len(mlp.norms):
            parts.append(torch_norm(norm_layer(mlp, level), place))
        if level < len(mlp.activate) and mlp.activate[level]:
            parts.append(nn.LeakyReLU(LEAKY_SLOPE))
    return nn.Sequential(*parts)


@pytest.mark.parametrize("rows", [1, 5, 16, 33])
@pytest.mark.parametrize("outputs", [1, 4])
def test_a_bank_of_linear_layers_is_a_loop_of_them(rows: int, outputs: int) -> None:
    layer = drawn(BankedLinear(BANK, 7, outputs))
    x = normal(*BANK, rows, 7, seed=5).requires_grad_()
    # A transposed gradient, as the encoders send one back.
    weigh = normal(BANK[0], rows, BANK[1], outputs, seed=6).transpose(1, 2)
    output = layer(x)
    output.backward(weigh)
    assert output.shape == (*BANK, rows, outputs)
    for place in BANKS:
        single, own = torch_linear(layer, place), x.detach()[place].clone().requires_grad_()
        expected = single(own)
        expected.backward(weigh[place])
        torch.testing.assert_close(output[place], expected)
        torch.testing.assert_close(gradient_of(x)[place], own.grad)
        torch.testing.assert_close(gradient_of(layer.weight)[place], gradient_of(single.weight).T)
        torch.testing.assert_close(gradient_of(layer.bias)[place], single.bias.grad)


def test_no_rows_give_no_rows() -> None:
    assert BankedLinear((2, 3), 4, 5)(torch.zeros(2, 3, 0, 4)).shape == (2, 3, 0, 5)


@pytest.mark.parametrize(
    ("bank", "rows", "inputs", "outputs"),
    [
        ((5,), 33, 16, 5),
        ((5,), 7, 64, 11),
        ((5,), 16, 64, 1),
        ((3,), 21, 15, 64),
        ((3, 3), 9, 16, 4),
        ((3, 2), 13, 1, 16),
        ((3, 3), 16, 16, 4),
    ],
)
def test_the_bits_of_a_product_and_of_its_gradients_do_not_depend_on_the_stack(
    bank: tuple[int, ...], rows: int, inputs: int, outputs: int
) -> None:
    stack = BankedLinear(bank, inputs, outputs)
    stack.reset([generator(k) for k in range(bank[0])])
    x = torch.randn(*bank, rows, inputs, generator=generator(8))
    weigh = torch.randn(bank[0], rows, *bank[1:], outputs, generator=generator(9)).movedim(1, -2)
    output = stack(x)
    output.backward(weigh)
    for replica in range(bank[0]):
        alone = BankedLinear((1, *bank[1:]), inputs, outputs)
        alone.reset([generator(replica)])
        own = alone(x[replica : replica + 1])
        own.backward(weigh[replica : replica + 1])
        assert torch.equal(own[0], output[replica])
        assert torch.equal(gradient_of(alone.weight)[0], gradient_of(stack.weight)[replica])
        assert torch.equal(gradient_of(alone.bias)[0], gradient_of(stack.bias)[replica])


def test_a_replica_is_drawn_from_its_own_generator_within_one_over_the_root_of_its_inputs() -> None:
    used = torch.tensor([2, 5])
    stack, alone = (BankedLinear((r, 2), 5, 64, inputs_used=used) for r in (3, 1))
    stack.reset([generator(k) for k in range(3)])
    alone.reset([generator(2)])
    assert torch.equal(stack.weight[2:], alone.weight) and torch.equal(stack.bias[2:], alone.bias)
    assert not torch.equal(stack.weight[0], stack.weight[1])
    for attribute, count in enumerate(used.tolist()):
        bound = 1 / math.sqrt(count)
        for parameter in (stack.weight.data[:, attribute], stack.bias.data[:, attribute]):
            assert 0.95 * bound < parameter.abs().max() <= bound
            assert abs(float(parameter.mean())) < 0.2 * bound


@pytest.mark.parametrize("batch_norm", ["all", "first", "none"])
@pytest.mark.parametrize("activate", [None, (True, False, False)])
@pytest.mark.parametrize("training", [True, False])
def test_a_bank_of_mlps_is_a_loop_of_them(batch_norm: str, activate: Sequence[bool] | None, training: bool) -> None:
    mlp = drawn(BankedMLP(BANK, 4, [6, 6, 6], 3, batch_norm=batch_norm, activate=activate))
    singles = {place: torch_mlp(mlp, place).train(training) for place in BANKS}
    x = normal(*BANK, 11, 4, seed=5).requires_grad_()
    output = mlp.train(training)(x)
    output.square().sum().backward()
    for place, single in singles.items():
        own = x.detach()[place].clone().requires_grad_()
        expected = single(own)
        expected.square().sum().backward()
        torch.testing.assert_close(output[place], expected)
        torch.testing.assert_close(gradient_of(x)[place], own.grad)
        linears = [part for part in single if isinstance(part, nn.Linear)]
        torch.testing.assert_close(gradient_of(linear_layer(mlp, 0).weight)[place], gradient_of(linears[0].weight).T)
        torch.testing.assert_close(gradient_of(linear_layer(mlp, -1).bias)[place], linears[-1].bias.grad)
        norms = [norm_layer(mlp, level) for level in range(len(mlp.norms))]
        for norm, norm1d in zip(norms, [p for p in single if isinstance(p, nn.BatchNorm1d)], strict=True):
            torch.testing.assert_close(norm.running_mean[place], norm1d.running_mean)
            torch.testing.assert_close(norm.running_variance[place], norm1d.running_var)


def test_an_mlp_given_no_input_maps_every_level_and_its_dead_layers_are_linear() -> None:
    mlp = drawn(BankedMLP((2, 3), 4, [6, 6, 6], 3, batch_norm="all"))
    identity = torch.eye(4, dtype=torch.float64).expand(2, 3, 4, 4)
    counts = torch.tensor([3.0, 0.0, 1.0, 2.0], dtype=torch.float64).expand(2, 3, 4)
    torch.testing.assert_close(mlp(None, counts), mlp(identity, counts))
    literal = drawn(BankedMLP((2,), 4, [6, 6, 6], 3, activate=(False,) * 3))
    x, y = normal(2, 5, 4, seed=1), normal(2, 5, 4, seed=2)
    zero = literal(torch.zeros_like(x))
    torch.testing.assert_close(literal(x + y) + zero, literal(x) + literal(y))


def test_masked_batch_norm_is_torchs_on_the_observed_rows_over_several_steps() -> None:
    norm = drawn(BankedBatchNorm(BANK, 4))
    singles = {place: torch_norm(norm, place) for place in BANKS}
    for step in range(3):
        x = (2 + 3 * normal(*BANK, 9, 4, seed=20 + step)).requires_grad_()
        observed = normal(*BANK, 9, seed=30 + step) > -0.3
        weigh = normal(*BANK, 9, 4, seed=40 + step) * observed[..., None]
        norm.zero_grad()
        output = norm(x, observed.double())
        output.backward(weigh)
        for place, single in singles.items():
            rows = observed[place]
            assert int(rows.sum()) >= 2
            single.zero_grad()
            own = x.detach()[place][rows].clone().requires_grad_()
            expected = single(own)
            expected.backward(weigh[place][rows])
            torch.testing.assert_close(output[place][rows], expected)
            torch.testing.assert_close(gradient_of(x)[place][rows], own.grad)
            assert torch.equal(gradient_of(x)[place][~rows], torch.zeros_like(gradient_of(x)[place][~rows]))
            torch.testing.assert_close(gradient_of(norm.gain)[place], single.weight.grad)
            torch.testing.assert_close(gradient_of(norm.shift)[place], single.bias.grad)
            # torch keeps the unbiased variance: so must this.
            torch.testing.assert_close(norm.running_mean[place], single.running_mean)
            torch.testing.assert_close(norm.running_variance[place], single.running_var)
    evaluated = norm.eval()(x)
    for place, single in singles.items():
        torch.testing.assert_close(evaluated[place], single.eval()(x[place]))


def test_whole_weights_are_repeated_rows() -> None:
    norm = drawn(BankedBatchNorm((1,), 3))
    single = torch_norm(norm, (0,))
    counts = torch.tensor([3, 0, 1, 2])
    x = normal(1, 4, 3).requires_grad_()
    weigh = normal(6, 3, seed=1)
    repeated = x.detach()[0].repeat_interleave(counts, dim=0).requires_grad_()
    owner = torch.arange(4).repeat_interleave(counts)
    expected = single(repeated)
    expected.backward(weigh)
    output = norm(x, counts.double()[None])
    output[0, owner].backward(weigh)
    torch.testing.assert_close(output[0, owner], expected)
    torch.testing.assert_close(
        gradient_of(x)[0], torch.zeros(4, 3).double().index_add_(0, owner, gradient_of(repeated))
    )
    torch.testing.assert_close(gradient_of(norm.gain)[0], single.weight.grad)
    torch.testing.assert_close(norm.running_mean[0], single.running_mean)
    torch.testing.assert_close(norm.running_variance[0], single.running_var)


@pytest.mark.parametrize(
    "weight",
    [
        None,
        [[1, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 0]],
        [[3, 0, 2, 1, 0, 5], [0.5, 1.5, 0.25, 0, 1, 1], [2, 0, 0, 0, 0, 0]],
        [[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 1, 0]],
    ],
)
def test_the_gradient_of_batch_norm_is_the_numerical_one(weight: list[list[float]] | None) -> None:
    norm = drawn(BankedBatchNorm((3,), 2), 3)
    weights = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    parameters = (normal(3, 6, 2).requires_grad_(), norm.gain.detach().requires_grad_(), normal(3, 2).requires_grad_())

    def normalise(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        normalised: Tensor = torch.func.functional_call(norm, {"gain": gain, "shift": shift}, (x, weights))
        return normalised

    assert torch.autograd.gradcheck(normalise, parameters)


@pytest.mark.parametrize("shown", [0, 1])
def test_running_statistics_serve_and_stay_where_fewer_than_two_are_observed(shown: int) -> None:
    norm = drawn(BankedBatchNorm((2,), 3))
    before = [norm.running_mean.clone(), norm.running_variance.clone()]
    x, weight = normal(2, 5, 3), torch.zeros(2, 5, dtype=torch.float64)
    weight[0, :shown] = 1
    weight[1] = 1
    output = norm(x, weight)
    torch.testing.assert_close(output[0], torch_norm(norm, (0,)).eval()(x[0]))
    assert torch.equal(norm.running_mean[0], before[0][0]) and torch.equal(norm.running_variance[0], before[1][0])
    assert not torch.equal(norm.running_mean[1], before[0][1])
    # One row in the batch, all of it: the same.
    torch.testing.assert_close(norm(x[:, :1])[0], torch_norm(norm, (0,)).eval()(x[0, :1]))


def test_what_hidden_rows_hold_changes_no_bit() -> None:
    norm = BankedBatchNorm((2,), 3)
    x = torch.randn(2, 9, 3, generator=generator(1))
    observed = torch.rand(2, 9, generator=generator(2)) > 0.4
    other = torch.where(observed[..., None], x, 123.0)
    results = []
    for values in (x, other):
        norm.running_mean.zero_()
        norm.running_variance.fill_(1)
        norm.zero_grad()
        values = values.clone().requires_grad_()
        output = norm(values, observed.float())
        (output * observed[..., None]).square().sum().backward()
        results.append(
            (output[observed], norm.running_mean.clone(), norm.running_variance.clone(), norm.gain.grad, values.grad)
        )
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_encoding_a_category_per_level_is_encoding_it_per_row() -> None:
    table = dependent_table(60, levels=(3, 2, 5))
    train, _, _ = split_views(table, replicas=2)
    layout = Layout(table.schema)
    encoder = Encoder(train, layout, "standard", "cpu")
    tensors = train.tensors("cpu")
    batch = encoder.encode(tensors.batch(torch.arange(len(train)).expand(2, -1)))
    batch = type(batch)(batch.numeric.double(), batch.categorical.double(), (), batch.observed)
    by_level, by_row = (drawn(AttributiveEncoders(layout, 2, Sizes.of(layout))) for _ in range(2))
    assert by_level.categorical is not None and by_row.categorical is not None
    one_hot = batch.categorical.permute(0, 3, 1, 2).contiguous()
    observed = batch.observed.transpose(1, 2)
    for step in range(2):
        got = by_level(batch)
        raw = by_row.categorical(one_hot, observed.double()).transpose(1, 2)
        mean, log_variance = raw.chunk(2, -1)
        shown = batch.observed
        torch.testing.assert_close(got.mean[shown], mean[shown])
        torch.testing.assert_close(got.log_variance[shown], log_variance.clamp(-10, 10)[shown])
        for network in (by_level, by_row):
            network.zero_grad()
        (got.mean[shown] ** 2).sum().backward()
        (mean[shown] ** 2).sum().backward()
        for (name, ours), theirs in zip(by_level.named_parameters(), by_row.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad, msg=f"{name} in step {step}")
        for (name, buffer), other in zip(by_level.named_buffers(), by_row.buffers(), strict=True):
            torch.testing.assert_close(buffer, other, msg=f"{name} in step {step}")
    by_row.eval()
    raw = by_row.categorical(one_hot).transpose(1, 2)
    torch.testing.assert_close(by_level.eval()(batch).mean[shown], raw[..., :2][shown])


def test_parameters_are_counted_for_one_replica_and_without_padding() -> None:
    assert parameter_count(BankedLinear((3,), 4, 5)) == 4 * 5 + 5
    assert parameter_count(BankedLinear((3, 2), 7, 5, inputs_used=torch.tensor([2, 7]))) == (2 + 7) * 5 + 2 * 5
    assert parameter_count(BankedLinear((3,), 4, 9, outputs_used=6)) == 4 * 6 + 6
    assert parameter_count(BankedBatchNorm((3, 2), 5)) == 2 * (5 + 5)
    levels = torch.tensor([2, 5, 3])
    mlp = BankedMLP((4, 3), 5, [8, 8], 6, batch_norm="first", inputs_used=levels, outputs_used=4)
    by_hand = sum(k * 8 + 8 + 2 * 8 + 8 * 8 + 8 + 8 * 4 + 4 for k in levels.tolist())
    assert parameter_count(mlp) == by_hand
    layout = Layout(dependent_table(5, numbers=2, levels=(3,), images=1).schema)
    assert parameter_count(Heads(layout, 4, learned_scale=True)) == 2 + 1
    assert parameter_count(Heads(layout, 4, learned_scale=False)) == 0
    assert parameter_count(nn.ModuleList([mlp, Heads(layout, 4, learned_scale=True)])) == by_hand + 3


def test_the_logistic_function_rounds_alike_wherever_an_element_stands() -> None:
    x = 3 * torch.randn(101, generator=generator(3))
    torch.testing.assert_close(sigmoid(x), torch.sigmoid(x), atol=1e-7, rtol=0)
    assert torch.equal(sigmoid(x), torch.cat([sigmoid(part.clone()) for part in x.split(1)]))
    far = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4], requires_grad=True)
    sigmoid(far).sum().backward()
    assert sigmoid(far).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert far.grad is not None and far.grad.tolist() == [0.0, 0.0, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("width", [3, 20])
def test_packed_rows_are_the_hidden_ones_of_each_attribute_and_come_back_to_their_places(width: int) -> None:
    observed = torch.rand(2, 70, 3, generator=generator(4)) < 0.7
    observed[1, :, 2] = True
    rows = PackedRows.hidden(observed, width)
    samples = normal(2, 4, 70, 5)
    # Narrow blocks are not packed: their products would depend on how many rows the others hide.
    count = 70 if width < 16 else 32
    assert 16 < int((~observed).sum(1).max()) <= 32
    taken = rows.take(samples, 3)
    assert taken.shape == (2, 3, 4 * count, 5)
    values = taken.unflatten(2, (4, count)).sum((2, 4)).transpose(1, 2)
    placed = rows.put(values)
    assert placed.shape == (2, 70, 3)
    for r, b, i in (~observed).nonzero().tolist():
        torch.testing.assert_close(placed[r, b, i], samples[r, :, b].sum())


def test_a_batch_that_hides_nothing_can_be_packed() -> None:
    rows = PackedRows.hidden(torch.ones(1, 4, 2, dtype=torch.bool), 20)
    assert rows.put(rows.take(normal(1, 1, 4, 5), 2).transpose(1, 2)).shape == (1, 4, 2, 5)
