"""Noise by name: laid out in the order a dry run asked for it, drawn per replica, refused where nobody asked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.neural.engine.noise import AskedNoise, DrawnNoise, StepNoise, replica_noise
from bench.neural.engine.probe import dry_run
from bench.neural.model import Network, Noise, Warmup
from bench.neural.rows import Layout, Rows
from tests.neural_views import blank_rows, dependent_table, generator


def test_a_step_has_its_numbers_by_name_in_the_order_asked() -> None:
    numbers = torch.arange(2 * 11.0).view(2, 11)
    noise = StepNoise(numbers, {"first": (2, 3), "second": (5,)})
    assert torch.equal(noise.normal("second", 5), numbers[:, 6:])
    assert torch.equal(noise.normal("first", 2, 3), numbers[:, :6].view(2, 2, 3))
    # A name stands for the same numbers within a step.
    assert torch.equal(noise.normal("second", 5), noise.normal("second", 5))


def test_a_step_that_asks_for_other_noise_than_its_dry_run_is_told_so() -> None:
    noise = StepNoise(torch.zeros(1, 6), {"first": (2, 3)})
    for name, shape in (("other", (2, 3)), ("first", (3, 2))):
        with pytest.raises(ValueError, match=f"asks for noise '{name}'"):
            noise.normal(name, *shape)
    asked = AskedNoise(1, "cpu")
    asked.normal("first", 2, 3)
    asked.normal("first", 2, 3)
    with pytest.raises(ValueError, match=r"as \(2, 3\) and as \(6,\)"):
        asked.normal("first", 6)


def test_drawn_noise_is_new_each_time_and_each_replicas_own() -> None:
    noise = DrawnNoise([generator(1), generator(2)], "cpu")
    one, two = noise.normal("z", 4, 3), noise.normal("z", 4, 3)
    assert one.shape == (2, 4, 3) and not torch.equal(one, two)
    alone = [generator(2)]
    assert torch.equal(replica_noise((4, 3), alone, "cpu")[0], one[1])
    assert torch.equal(replica_noise((4, 3), alone, "cpu")[0], two[1])


class Asking(Network):
    """A network that asks for one noise in the warm-up, another after it, and one always."""

    def __init__(self) -> None:
        super().__init__(Layout(dependent_table(3, numbers=2).schema), 2, {"fill": "noise"})
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def loss(self, x: Rows, noise: Noise, warmup: Warmup) -> Tensor:
        parts = [noise.normal("always", x.size, 1), x.input.flat()]
        parts.append(noise.normal("warm", 1) if warmup.lasts else noise.normal("later", x.size))
        return self.weight + torch.stack([part.flatten(1).sum(1) for part in parts]).sum(0)


def test_a_dry_run_finds_all_noise_of_the_warm_up_and_after_it() -> None:
    network = Asking()
    step = dry_run(network, lambda: Rows(blank_rows(network, 4)))
    # That of hidden entries is asked for when the input is looked at.
    assert step.noise == {"always": (4, 1), "fill": (4, 2), "later": (4,), "warm": (1,)}
    assert list(step.noise) == ["always", "fill", "later", "warm"]
    assert step.steady and network.training
