"""Self-normalised importance sampling, in one streaming pass whose memory does not grow with the number of draws.

With z_k ~ q(z | x_o, m): ``log r_k = log p(x_o | z_k) [+ log p(m | z_k)] + log p(z_k) - log q(z_k | x_o, m)``,
``w = softmax(log r)`` and ``x_u = sum_k w_k E[x_u | z_k]``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.neural.rows import Imputed

#: Draws decoded at a time at most; each such chunk also redraws the noise in unobserved slots.
DRAWS_AT_A_TIME = 10
#: Floats one replica may hold in a chunk of draws.
CHUNK_FLOATS = 2**21


class ImportanceAverage:
    """Self-normalised importance average of expectations over samples that come in chunks.

    Adding [R, k, b] log-weights and [R, k, b, ...] expectations keeps one running maximum, so memory does not grow with
    the number of samples and nothing overflows. ``uniform=True`` ignores the weights but still reports their ESS.
    """

    def __init__(self, uniform: bool = False) -> None:
        """Start empty."""
        self.uniform = uniform
        self._maximum: Tensor | None = None
        self._total = self._squares = torch.empty(0)
        self._samples = 0
        self._sums: Imputed | None = None

    def add(self, log_weight: Tensor, expectation: Imputed) -> None:
        """Add a chunk of k samples."""
        chunk_maximum = log_weight.amax(1)
        maximum = chunk_maximum if self._maximum is None else torch.maximum(self._maximum, chunk_maximum)
        weight = torch.exp(log_weight - maximum[:, None])
        averaging = torch.ones_like(weight) if self.uniform else weight
        sums = Imputed(
            torch.einsum("rkb,rkba->rba", averaging, expectation.numeric),
            torch.einsum("rkb,rkbal->rbal", averaging, expectation.categorical),
            tuple(torch.einsum("rkb,rkbaw->rbaw", averaging, block) for block in expectation.blocks),
        )
        total, squares = weight.sum(1), (weight**2).sum(1)
        if self._maximum is not None and self._sums is not None:
            shrink = torch.exp(self._maximum - maximum)
            total = total + self._total * shrink
            squares = squares + self._squares * shrink**2
            old = torch.ones_like(shrink) if self.uniform else shrink
            sums = Imputed(
                sums.numeric + self._sums.numeric * old[..., None],
                sums.categorical + self._sums.categorical * old[..., None, None],
                tuple(
                    new + was * old[..., None, None] for new, was in zip(sums.blocks, self._sums.blocks, strict=True)
                ),
            )
        self._maximum, self._total, self._squares, self._sums = maximum, total, squares, sums
        self._samples += log_weight.shape[1]

    def result(self) -> Imputed:
        """Return the weighted average of everything added."""
        assert self._sums is not None, "nothing was added"
        total = torch.full_like(self._total, self._samples) if self.uniform else self._total
        return Imputed(
            self._sums.numeric / total[..., None],
            self._sums.categorical / total[..., None, None],
            tuple(block / total[..., None, None] for block in self._sums.blocks),
        )

    def effective_sample_size(self) -> Tensor:
        """Return (sum w)^2 / sum w^2 per row, [R, b]: between 1 and the number of samples."""
        return self._total**2 / self._squares

    def log_mean_weight(self) -> Tensor:
        """Return the log of the mean weight per row, [R, b]: the importance-weighted bound on log p(x_o[, m])."""
        assert self._maximum is not None, "nothing was added"
        return self._maximum + torch.log(self._total) - math.log(self._samples)


def draws_at_a_time(rows: int, draws: int, width: int) -> int:
    """Return how many of ``draws`` samples per row to decode at a time, ``width`` floats each, to bound the memory."""
    return max(1, min(DRAWS_AT_A_TIME, draws, CHUNK_FLOATS // max(1, rows * width)))


def pick_draws(tensor: Tensor, index: Tensor) -> Tensor:
    """Return D samples of each row, [R, D, b, ...], of samples [R, k, b, ...] by their ``index`` [R, D, b]."""
    chosen = index.reshape(*index.shape, *(1,) * (tensor.dim() - 3))
    return tensor.gather(1, chosen.expand(-1, -1, -1, *tensor.shape[3:]))


def choose_rows(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return ``new`` [R, ..., b, ...] in some ``rows`` [R, ..., b] and ``old`` in the others."""
    return torch.where(rows.reshape(*rows.shape, *(1,) * (new.dim() - rows.dim())), new, old)
