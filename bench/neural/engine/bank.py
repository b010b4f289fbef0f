"""Banks of layers: every parameter carries leading bank dimensions, ``[replica]`` or ``[replica, attribute]``.

One batched matrix product trains all replicas, or all attributes of all replicas, at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAKY_SLOPE = 0.01
#: A unit whose values vary less than this over a batch is constant in it, up to rounding.
CONSTANT_VARIANCE = 1e-8
#: A CPU's matrix product rounds by where in memory its result lies, unless every bank's rows fill whole cache lines.
ROWS_PER_LINE = 16


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x)) by way of tanh, which rounds every element alike.

    On a CPU ``torch.sigmoid`` rounds what fills whole vector registers otherwise than what is left over.
    """
    return 0.5 * torch.tanh(0.5 * x) + 0.5


def uniform_weights(shape: torch.Size, fan_in: Tensor, generator: torch.Generator) -> Tensor:
    """Return weights [*bank, inputs, outputs] as ``torch.nn.Linear``'s: uniform within 1/sqrt(``fan_in`` [*bank])."""
    bound = fan_in.clamp(min=1).rsqrt()
    return torch.empty(shape).uniform_(-1, 1, generator=generator) * bound[..., None, None]


def orthogonal_weights(shape: torch.Size, fan_in: Tensor, generator: torch.Generator) -> Tensor:
    """Return weights [*bank, inputs, outputs] whose columns, or rows if these are fewer, are orthonormal.

    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    ICLR 2014. Inputs beyond ``fan_in`` [*bank] are padding and get 0. Computed in float64, so that the rounding of a
    decomposition is no part of the weights.
    """
    inputs, outputs = shape[-2:]
    drawn = torch.empty(shape, dtype=torch.float64).normal_(generator=generator).view(-1, inputs, outputs)
    weights = torch.zeros_like(drawn)
    for index, used in enumerate(fan_in.flatten().int().tolist()):
        if not used:
            continue
        tall = used >= outputs
        matrix = drawn[index, :used]
        q, r = torch.linalg.qr(matrix if tall else matrix.T)
        # With the signs of r's diagonal the distribution is uniform over orthonormal matrices.
        q = q * r.diagonal().sign()
        weights[index, :used] = q if tall else q.T
    return weights.view(shape).to(torch.float32)


#: How the weights of linear layers are drawn, by name.
INITIALISATIONS = {"uniform": uniform_weights, "orthogonal": orthogonal_weights}


class BankedLinear(nn.Module):
    """A bank of linear layers: ``weight`` [*bank, inputs, outputs], ``bias`` [*bank, outputs].

    Where inputs or outputs are padded to a common width, ``inputs_used`` [*bank[1:]] and ``outputs_used`` say how many
    are real: initial scale and parameter count follow those.
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        bank: tuple[int, ...],
        inputs: int,
        outputs: int,
        *,
        inputs_used: Tensor | None = None,
        outputs_used: int | None = None,
    ) -> None:
        """Allocate the bank; ``reset`` draws it."""
        super().__init__()
        self.bank = bank
        self.weight = nn.Parameter(torch.empty(*bank, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(*bank, outputs))
        used = torch.full(bank[1:], inputs, device="cpu") if inputs_used is None else inputs_used
        self._fan_in = used.to(torch.float32)
        #: Trainable parameters of one replica, padding not counted.
        self.parameters_used = int((used + 1).sum()) * (outputs if outputs_used is None else outputs_used)

    @torch.no_grad()
    def reset(self, generators: Sequence[torch.Generator], initialisation: str = "uniform") -> None:
        """Draw each replica from its own generator, weights by one of ``INITIALISATIONS``.

        Biases are uniform within 1/sqrt(fan in), as in ``torch.nn.Linear``.
        """
        draw = INITIALISATIONS[initialisation]
        bound = self._fan_in.clamp(min=1).rsqrt()[..., None]
        for replica, generator in enumerate(generators):
            self.weight[replica] = draw(self.weight.shape[1:], self._fan_in, generator)
            self.bias[replica] = bound * torch.empty(self.bias.shape[1:]).uniform_(-1, 1, generator=generator)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map ``x`` [*bank, n, inputs] to [*bank, n, outputs], to the same bits however many replicas there are.

        ``bias`` stands in for the bank's own.
        """
        return banked_product(x, self.weight, self.bias if bias is None else bias)


def banked_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight + bias`` for ``x`` [*bank, n, inputs], to the same bits however many replicas there are.

    ``weight`` is [*bank, inputs, outputs] and ``bias`` [*bank, outputs], None for none.
    """
    bank, rows, inputs, outputs = x.shape[:-2], x.shape[-2], weight.shape[-2], weight.shape[-1]
    # A single column would go to another routine when there is one bank, and so would, in the weight's gradient, a
    # single input.
    padding, columns = -rows % ROWS_PER_LINE, max(outputs, 2)
    # The weight's gradient of each replica begins at a multiple of 16 bytes: elsewhere routines round otherwise.
    whole = 4 // math.gcd(4, columns)
    lacking = max(2 - inputs, 0) + -max(inputs, 2) % whole
    if lacking:
        x, weight = functional.pad(x, (0, lacking)), functional.pad(weight, (0, 0, 0, lacking))
    inputs += lacking
    if columns > outputs:
        weight, bias = functional.pad(weight, (0, 1)), None if bias is None else functional.pad(bias, (0, 1))
    x = (functional.pad(x, (0, 0, 0, padding)) if padding else x).contiguous()
    left, right = x.view(math.prod(bank), rows + padding, inputs), weight.reshape(-1, inputs, columns)
    product = torch.bmm(left, right) if bias is None else torch.baddbmm(bias.reshape(-1, 1, columns), left, right)
    product = product.view(*bank, rows + padding, columns)
    if product.requires_grad:
        # The order in which a gradient's rows are summed depends on its strides, and those on the replicas.
        product.register_hook(Tensor.contiguous)
    return product[..., :rows, :outputs] if padding or columns > outputs else product


class _WeightedNormalise(torch.autograd.Function):
    """Batch normalisation over rows with non-negative row weights, with its gradient in closed form."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        gain: Tensor,
        shift: Tensor,
        running_mean: Tensor,
        running_variance: Tensor,
        eps: float,
    ) -> Any:
        """Normalise ``x`` [*bank, n, H] with weights [*bank, n] (None: all 1); also return moments and total weight."""
        if weight is None:
            count = torch.full_like(x[..., :1, :1], float(x.shape[-2]))
            mean = x.mean(-2, keepdim=True)
            centred = x - mean
            variance = (centred * centred).mean(-2, keepdim=True)
            enough = variance > CONSTANT_VARIANCE
        else:
            column = weight[..., None]
            count = column.sum(-2, keepdim=True)
            mean = (x * column).sum(-2, keepdim=True) / count.clamp(min=1)
            centred = x - mean
            variance = (centred * centred * column).sum(-2, keepdim=True) / count.clamp(min=1)
            enough = (count >= 2) & (variance > CONSTANT_VARIANCE)
        # What is constant has nothing to be scaled by: divided by next to nothing it would make any other value huge.
        kept = running_mean[..., None, :]
        offset = torch.where(enough, 0.0, mean - kept)
        mean = torch.where(enough, mean, kept)
        variance = torch.where(enough, variance, running_variance[..., None, :])
        count = torch.where(enough, count, 0.0)
        inverse = (variance + eps).rsqrt()
        normalised = torch.addcmul(offset * inverse, centred, inverse)
        ctx.save_for_backward(normalised, inverse, gain, count, weight)
        ctx.mark_non_differentiable(mean, variance, count)
        return torch.addcmul(shift[..., None, :], normalised, gain[..., None, :]), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return the gradients for ``x``, ``gain`` and ``shift``."""
        normalised, inverse, gain, count, weight = ctx.saved_tensors
        outer = gradients[0]
        grad_gain = (outer * normalised).sum(-2, keepdim=True)
        grad_shift = outer.sum(-2, keepdim=True)
        # The moments depend on a row in proportion to its weight, and not at all where running statistics were used.
        through_moments = (grad_shift + normalised * grad_gain) * ((count >= 2) / count.clamp(min=1))
        if weight is not None:
            through_moments = through_moments * weight[..., None]
        grad_x = (outer - through_moments) * (inverse * gain[..., None, :])
        return grad_x, None, grad_gain.squeeze(-2), grad_shift.squeeze(-2), None, None, None


class BankedBatchNorm(nn.Module):
    """A bank of batch normalisations whose statistics may be weighted per row.

    Weights of 0 and 1 are a mask: only observed entries enter the statistics. Where the weights sum to less than two,
    or a unit is constant over the batch, the running statistics are used and left alone.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, bank: tuple[int, ...], width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        """Start at gain 1, shift 0, running mean 0 and running variance 1."""
        super().__init__()
        self.gain = nn.Parameter(torch.ones(*bank, width))
        self.shift = nn.Parameter(torch.zeros(*bank, width))
        self.register_buffer("running_mean", torch.zeros(*bank, width))
        self.register_buffer("running_variance", torch.ones(*bank, width))
        self.momentum, self.eps = momentum, eps
        self.parameters_used = 2 * math.prod(bank[1:]) * width

    def forward(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Normalise ``x`` [*bank, n, H]; ``weight`` is [*bank, n] or None for all rows.

        Out of training it is by the running statistics, and without gradients ``x`` is then overwritten.
        """
        if not self.training or (weight is None and x.shape[-2] < 2):
            return self._with_running_statistics(x)
        output, mean, variance, count = _WeightedNormalise.apply(  # type: ignore[no-untyped-call]
            x, weight, self.gain, self.shift, self.running_mean, self.running_variance, self.eps
        )
        with torch.no_grad():
            enough = count.squeeze(-2) >= 2
            unbiased = variance.squeeze(-2) * (count / (count - 1).clamp(min=1)).squeeze(-2)
            for running, current in ((self.running_mean, mean.squeeze(-2)), (self.running_variance, unbiased)):
                running.copy_(torch.where(enough, torch.lerp(running, current, self.momentum), running))
        return output  # type: ignore[no-any-return]

    def _with_running_statistics(self, x: Tensor) -> Tensor:
        gain = self.gain * (self.running_variance + self.eps).rsqrt()
        shift = (self.shift - self.running_mean * gain)[..., None, :]
        if torch.is_grad_enabled():
            return torch.addcmul(shift, x, gain[..., None, :])
        # What a layer returns is nobody else's: without gradients it may be overwritten.
        return torch.addcmul(shift, x, gain[..., None, :], out=x)


class BankedMLP(nn.Module):
    """A bank of multi-layer perceptrons: hidden layers with LeakyReLU, normalised where asked, and a linear output.

    ``batch_norm`` is ``"all"``, ``"first"`` or ``"none"`` of the hidden layers; ``activate`` says which hidden layers
    are followed by LeakyReLU (VSAE's decoder taken literally has it after the first only), ``slope`` how steep that is
    below zero (0 is ReLU).
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        bank: tuple[int, ...],
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        batch_norm: str = "none",
        activate: Sequence[bool] | None = None,
        slope: float = LEAKY_SLOPE,
        inputs_used: Tensor | None = None,
        outputs_used: int | None = None,
    ) -> None:
        """Allocate; ``inputs_used`` and ``outputs_used`` count the real columns where these are padded."""
        super().__init__()
        widths = [inputs, *hidden, outputs]
        last = len(hidden)
        self.layers = nn.ModuleList(
            BankedLinear(
                bank,
                widths[level],
                widths[level + 1],
                inputs_used=inputs_used if level == 0 else None,
                outputs_used=outputs_used if level == last else None,
            )
            for level in range(last + 1)
        )
        normalised = {"all": len(hidden), "first": min(1, len(hidden)), "none": 0}[batch_norm]
        self.norms = nn.ModuleList([BankedBatchNorm(bank, hidden[level]) for level in range(normalised)])
        self.activate = tuple(activate) if activate is not None else (True,) * len(hidden)
        self.slope = slope

    def forward(self, x: Tensor | None, weight: Tensor | None = None, last_bias: Tensor | None = None) -> Tensor:
        """Map ``x`` [*bank, n, inputs] to [*bank, n, outputs]; None is the identity matrix (one row per level).

        ``weight`` [*bank, n] says how much each row counts in batch normalisation (None: all alike); ``last_bias``
        [*bank, outputs] stands in for that of the last layer.
        """
        rows = 0 if x is None else x.shape[-2]
        if x is not None and not self.training and not torch.is_grad_enabled():
            # Once, instead of in each layer: no row depends on another here.
            x = functional.pad(x, (0, 0, 0, -rows % ROWS_PER_LINE))
        for level, layer in enumerate(self.layers):
            assert isinstance(layer, BankedLinear)
            bias = last_bias if level == len(self.layers) - 1 else None
            x = layer.weight + layer.bias[..., None, :] if x is None else layer(x, bias)
            if level < len(self.norms):
                x = self.norms[level](x, weight)
            if level < len(self.activate) and self.activate[level]:
                x = functional.leaky_relu(x, self.slope, inplace=not torch.is_grad_enabled())
        assert x is not None
        return x[..., :rows, :] if rows else x


def reset_parameters(module: nn.Module, generators: Sequence[torch.Generator], initialisation: str = "uniform") -> None:
    """Draw every linear bank of ``module``, in order, each replica from its own generator."""
    for part in module.modules():
        if isinstance(part, BankedLinear):
            part.reset(generators, initialisation)


def parameter_count(module: nn.Module) -> int:
    """Return the number of trainable parameters of one replica, padding not counted."""
    banked = [part for part in module.modules() if isinstance(part, BankedLinear | BankedBatchNorm)]
    own = {id(parameter) for part in banked for parameter in part.parameters(recurse=False)}
    loose = sum(p[0].numel() for p in module.parameters() if id(p) not in own)
    return loose + sum(part.parameters_used for part in banked)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Use modules as out of training for a while: batch normalisation by its running statistics, which stay."""
    before = [part for module in modules for part in module.modules() if part.training]
    for part in before:
        part.training = False
    try:
        yield
    finally:
        for part in before:
            part.training = True


@contextmanager
def statistics_kept(*modules: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they are for a while; a training still goes by batches."""
    norms = [part for module in modules for part in module.modules() if isinstance(part, BankedBatchNorm)]
    before = [part.momentum for part in norms]
    for part in norms:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum in zip(norms, before, strict=True):
            part.momentum = momentum


def chosen_at_random(noise: Tensor, share: float | Tensor) -> Tensor:
    """Return where standard normal ``noise`` [R, b, M] is in its lowest ``share`` (or one per replica, [R, 1])."""
    if not isinstance(share, Tensor):
        return noise < normal_quantile(share)
    quantile: Tensor = torch.special.ndtri(share.to(torch.float64))
    return noise < quantile.to(noise.dtype)[..., None]


@cache
def normal_quantile(share: float) -> float:
    """Return what a standard normal number is below with the probability ``share``."""
    return float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64, device="cpu")))
