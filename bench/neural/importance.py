"""Self-normalised importance sampling, in one streaming pass whose memory does not grow with the number of draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from bench.neural.blocks import Encoded, Imputed
from bench.neural.heads import Heads, Prediction
from bench.neural.latent import gumbel
from bench.neural.training import Network, replica_noise

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


class LatentNetwork(Network):
    """A network with latent variables: it proposes samples with importance weights, and imputes by their average.

    With z_k ~ q(z | x_o, m): ``log r_k = log p(x_o | z_k) [+ log p(m | z_k)] + log p(z_k) - log q(z_k | x_o, m)``,
    ``w = softmax(log r)`` and ``x_u = sum_k w_k E[x_u | z_k]``.
    """

    importance_weights: bool = True
    #: Width of everything held per draw and row while decoding: decides the size of chunks.
    width_per_draw: int = 1

    def proposal_noise(self, rows: int, draws: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of standard normal noise one replica needs to propose ``draws`` samples for each row."""
        raise TypeError(f"{type(self).__name__} does not define proposal_noise")

    def propose(
        self, batch: Encoded, draws: int, noise: Mapping[str, Tensor]
    ) -> tuple[Tensor, Prediction, dict[str, Tensor]]:
        """Return log-weights [R, k, b], the decoded samples [R, k, b, ...], notes [R, b] or [R, b, blocks]."""
        raise TypeError(f"{type(self).__name__} does not define propose")

    def draws_at_a_time(self, rows: int, draws: int) -> int:
        """Return how many of ``draws`` samples a row to decode at a time, to bound the memory."""
        return max(1, min(DRAWS_AT_A_TIME, draws, CHUNK_FLOATS // max(1, rows * self.width_per_draw)))

    def draw(self, batch: Encoded, proposals: int, generators: Sequence[torch.Generator]) -> Imputed:
        """Return one draw of each row from p(x | x_o, m), by picking one of ``proposals`` samples by its weight.

        In expectation it is the imputation with as many samples: numbers and blocks as they are, categories one-hot.
        Each sample's score is its log-weight plus Gumbel noise, so the best of all chunks is one drawn by weight.
        """
        rows, device = batch.observed.shape[1], str(batch.observed.device)
        at_a_time = self.draws_at_a_time(rows, proposals)
        kept: Prediction | None = None
        highest = torch.empty(0)
        for done in range(0, proposals, at_a_time):
            count = min(at_a_time, proposals - done)
            shapes = {**self.proposal_noise(rows, count), "choice": (count, rows)}
            noise = {name: replica_noise(shape, generators, device) for name, shape in shapes.items()}
            log_weight, prediction, _ = self.propose(batch, count, noise)
            score = gumbel(noise["choice"]) + (log_weight if self.importance_weights else 0.0)
            best, index = score.max(1)
            picked = map_prediction(lambda tensor, at=index: _pick(tensor, at), prediction)
            if kept is None:
                kept, highest = picked, best
                continue
            better = best > highest
            kept = map_prediction(lambda new, old, by=better: _where(by, new, old), picked, kept)
            highest = torch.where(better, best, highest)
        assert kept is not None, "a draw needs at least one proposal"
        return self.draw_values(kept, generators)

    def draw_values(self, prediction: Prediction, generators: Sequence[torch.Generator]) -> Imputed:
        """Return values drawn from a prediction [R, b, ...] by the decoder's heads."""
        heads = self.get_submodule("decoder.heads")
        assert isinstance(heads, Heads), "a latent network decodes with heads"
        rows, device = prediction.numeric.shape[1], str(prediction.numeric.device)
        shapes = heads.value_noise(rows)
        noise = {name: replica_noise(shape, generators, device) for name, shape in shapes.items()}
        return heads.draw(prediction, noise)

    def generate(self, batch: Encoded, generators: Sequence[torch.Generator]) -> Prediction:
        """Return what rows drawn from the prior decode to, [R, b, ...]; ``batch`` has the rows and shows nothing."""
        raise TypeError(f"{type(self).__name__} does not define generate")

    def impute(
        self, batch: Encoded, draws: int, generators: Sequence[torch.Generator]
    ) -> tuple[Imputed, dict[str, Tensor]]:
        """Impute a batch with ``draws`` samples a row; also return the effective sample size and the bound."""
        rows, device = batch.observed.shape[1], str(batch.observed.device)
        at_a_time = self.draws_at_a_time(rows, draws)
        average = ImportanceAverage(uniform=not self.importance_weights)
        notes: dict[str, Tensor] = {}
        done = 0
        while done < draws:
            count = min(at_a_time, draws - done)
            shapes = self.proposal_noise(rows, count)
            noise = {name: replica_noise(shape, generators, device) for name, shape in shapes.items()}
            log_weight, prediction, notes = self.propose(batch, count, noise)
            average.add(log_weight, prediction.expectation())
            done += count
        notes = {**notes, "effective_sample_size": average.effective_sample_size(), "bound": average.log_mean_weight()}
        return average.result(), notes


def map_prediction(function: Callable[..., Tensor], *predictions: Prediction) -> Prediction:
    """Return the prediction whose tensors are a function of those of some predictions."""
    first = predictions[0]
    return Prediction(
        function(*(p.numeric for p in predictions)),
        function(*(p.categorical for p in predictions)),
        tuple(function(*blocks) for blocks in zip(*(p.blocks for p in predictions), strict=True)),
        None if first.log_scales is None else function(*(p.log_scales for p in predictions)),
    )


def _pick(tensor: Tensor, index: Tensor) -> Tensor:
    """Return one sample of each row, [R, b, ...], of samples [R, k, b, ...] by their ``index`` [R, b]."""
    chosen = index[:, None].reshape(index.shape[0], 1, index.shape[1], *(1,) * (tensor.dim() - 3))
    return tensor.gather(1, chosen.expand(-1, -1, -1, *tensor.shape[3:])).squeeze(1)


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return ``new`` [R, b, ...] in some ``rows`` [R, b] and ``old`` in the others."""
    return torch.where(rows.reshape(*rows.shape, *(1,) * (new.dim() - 2)), new, old)
