"""Standard normal noise by name: asked for where it is used, drawn per replica, laid out by a dry run for training.

What a replica gets never depends on the stack it is trained in: its numbers come from a generator of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from bench.seeds import seed_of


class Noise(Protocol):
    """Where a model asks for its random numbers."""

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return standard normal numbers [R, *shape]; within a training step a name stands for the same numbers."""


def replica_generators(stream: str, seeds: Sequence[int], device: str = "cpu") -> list[torch.Generator]:
    """Return one generator per replica for a named stream (initialisation, training, evaluation)."""
    generators = []
    for seed in seeds:
        generator = torch.Generator(device=device)
        generator.manual_seed(seed_of(stream, seed))
        generators.append(generator)
    return generators


def replica_noise(shape: tuple[int, ...], generators: Sequence[torch.Generator], device: str) -> Tensor:
    """Return standard normal noise [R, *shape], each replica's from its own generator."""
    noise = torch.empty(len(generators), *shape, device=device)
    for replica, generator in enumerate(generators):
        noise[replica].normal_(generator=generator)
    return noise


class DrawnNoise:
    """Noise that is drawn when it is asked for, new numbers each time."""

    def __init__(self, generators: Sequence[torch.Generator], device: str) -> None:
        """Draw from one generator per replica."""
        self._generators, self._device = generators, device

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return new standard normal numbers [R, *shape]."""
        return replica_noise(shape, self._generators, self._device)


class StepNoise:
    """The noise of one training step, drawn beforehand, laid out as a dry run of the step asked for it."""

    def __init__(self, numbers: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Share ``numbers`` [R, floats] out by name."""
        pieces = numbers.split([math.prod(shape) for shape in shapes.values()], dim=1)
        parts = zip(shapes.items(), pieces, strict=True)
        self._parts = {name: piece.unflatten(1, shape) for (name, shape), piece in parts}

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return the step's numbers of a name, [R, *shape]; raises ValueError unless the dry run asked for them."""
        part: Tensor | None = self._parts.get(name)
        if part is None or part.shape[1:] != shape:
            raise ValueError(f"a training step asks for noise '{name}' {shape}, which its dry run did not")
        return part


class AskedNoise:
    """The noise of a dry run: zeros; remembers what was asked for, in order."""

    def __init__(self, replicas: int, device: str) -> None:
        """Remember nothing yet."""
        self._replicas, self._device = replicas, device
        self.shapes: dict[str, tuple[int, ...]] = {}

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return zeros [R, *shape]; raises ValueError if the name was asked for with another shape."""
        if self.shapes.setdefault(name, shape) != shape:
            raise ValueError(f"a training step asks for noise '{name}' as {self.shapes[name]} and as {shape}")
        return torch.zeros(self._replicas, *shape, device=self._device)
