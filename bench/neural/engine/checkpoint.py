"""What a training keeps and continues from: all tensors that a step changes, in a file that is never half written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def trained_tensors(network: nn.Module, optimisers: Sequence[torch.optim.Optimizer] = ()) -> list[Tensor]:
    """Return parameters and running statistics, each with the replicas as its leading dimension.

    With ``optimisers`` also what these remember: all that a step changes.
    """
    remembered = [own for optimiser in optimisers for own in optimiser.state.values()]
    learned = [parameter.detach() for parameter in network.parameters() if parameter.requires_grad]
    return [*learned, *network.buffers(), *(value for own in remembered for value in own.values())]


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a kill leaves either the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(dict(state), partial)
    os.replace(partial, path)
