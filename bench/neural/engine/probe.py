"""What a dry run of a training step tells: the noise the step asks for, and whether it can be recorded."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.neural.engine.noise import AskedNoise
from bench.neural.model import Network, Warmup
from bench.neural.rows import Rows


@dataclass(frozen=True)
class DryRun:
    """What a training step does.

    ``noise`` holds the shapes of the noise one replica needs, in the order asked. A ``steady`` step depends on its
    arguments and the network's tensors alone: it neither changes what Python remembers nor draws on its own.
    """

    noise: dict[str, tuple[int, ...]]
    steady: bool


def dry_run(network: Network, batch: Callable[[], Rows]) -> DryRun:
    """Run all phases of a step on a ``batch`` after the warm-up, then within; leaves network and generators alone."""
    blank = AskedNoise(network.replicas, str(network.layout.owner.device))
    buffers = [(buffer, buffer.detach().clone()) for buffer in network.buffers()]
    generators, training = _generator_states(), network.training
    network.train()
    for warmup in (Warmup(), Warmup(1.0, lasts=True)):
        # The first run may still ready what is made on first use.
        remembered = _remembered(network)
        for phase in network.phases():
            network.phase_loss(phase.name, network.given(batch(), blank), blank, warmup)
    steady = _remembered(network) == remembered and _same_states(_generator_states(), generators)
    network.train(training)
    with torch.no_grad():
        for buffer, value in buffers:
            buffer.copy_(value)
    _set_generator_states(generators)
    return DryRun(blank.shapes, steady)


def _remembered(network: nn.Module) -> list[Any]:
    """Return what the modules hold beside tensors and modules, containers as copies."""
    held: list[Any] = []
    for module in network.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                held.append((name, _snapshot(value)))
    return held


def _snapshot(value: Any, depth: int = 3) -> Any:
    """Return a value such that another one is equal only if nothing that Python remembers has changed."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, dict) and depth:
        return {key: _snapshot(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth:
        return [_snapshot(item, depth - 1) for item in value]
    return _Same(value)


class _Same:
    """An object that equals another only if both are the same one."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _generator_states() -> tuple[Any, ...]:
    """Return the states of the random generators that nobody names."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()


def _same_states(some: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    """Return whether no generator moved."""

    def plain(states: tuple[Any, ...]) -> list[Any]:
        torch_state, cuda, numpy_state, python_state = states
        tensors: list[Tensor] = [torch_state, *cuda]
        parts = [np.asarray(part).tolist() for part in numpy_state]
        return [*(tensor.tolist() for tensor in tensors), parts, python_state]

    return plain(some) == plain(others)


def _set_generator_states(states: tuple[Any, ...]) -> None:
    """Put the generators back."""
    torch_state, cuda, numpy_state, python_state = states
    torch.set_rng_state(torch_state)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
