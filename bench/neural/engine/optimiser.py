"""Adam for a stack of replicas: the step of one, its clipping and its rate never depend on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def stacked_adam(groups: Sequence[Mapping[str, Any]], learning_rate: float | Tensor) -> torch.optim.Adam:
    """Return Adam for parameter groups whose step of one replica is the same, to the bit, whatever the stack.

    On a CPU, fused Adam rounds what fills whole vector registers (16 floats at most) otherwise than what is left over:
    it is used where no replica leaves anything over.
    """
    rated = [{**group, "lr": largest_rate(group.get("lr", learning_rate))} for group in groups]
    split = [
        {**group, "params": members, "fused": fused, "foreach": False, "capturable": members[0].is_cuda}
        for group in rated
        for fused in (True, False)
        if (members := [p for p in group["params"] if (p.is_cuda or p[0].numel() % 16 == 0) is fused])
    ]
    return torch.optim.Adam(split, lr=largest_rate(learning_rate))


def largest_rate(learning_rate: float | Tensor) -> float:
    """Return a learning rate, or the largest if there is one per replica."""
    return float(learning_rate.max()) if isinstance(learning_rate, Tensor) else learning_rate


def replica_rates(
    groups: Sequence[Mapping[str, Any]], learning_rate: float | Tensor
) -> list[tuple[Sequence[nn.Parameter], Tensor]]:
    """Return the parameters whose replicas learn at rates of their own, with each rate's share of the largest, [R]."""
    rates = [(group["params"], group.get("lr", learning_rate)) for group in groups]
    return [(members, (rate / rate.max()).flatten()) for members, rate in rates if isinstance(rate, Tensor)]


@torch.no_grad()
def step_at_own_rates(optimiser: torch.optim.Optimizer, rates: Sequence[tuple[Sequence[nn.Parameter], Tensor]]) -> None:
    """Take a step of Adam at the largest rate and shrink it to each replica's own: a step is linear in its rate."""
    before = [(p, p.detach().clone(), share) for members, share in rates for p in members]
    optimiser.step()
    for parameter, old, share in before:
        parameter.copy_(torch.lerp(old, parameter, share.view(-1, *(1,) * (old.dim() - 1))))


@torch.no_grad()
def clip_per_replica(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale each replica's gradient down to the norm ``largest``, independently of the others."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients], dim=1).sum(1)
    factor = (largest / (squares.sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *(1,) * (gradient.dim() - 1)))
