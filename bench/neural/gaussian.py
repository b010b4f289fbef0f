"""Latent variables: diagonal Gaussians, their KL and densities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)
LOG_VARIANCE_RANGE = (-10.0, 10.0)


@dataclass(frozen=True)
class Gaussian:
    """A diagonal Gaussian by its ``mean`` and ``log_variance``; the last dimension is the latent one."""

    mean: Tensor
    log_variance: Tensor

    @classmethod
    def from_raw(cls, raw: Tensor) -> Gaussian:
        """Split a network's output [..., 2 d] into mean and clamped log-variance."""
        mean, log_variance = raw.chunk(2, dim=-1)
        return cls(mean, log_variance.clamp(*LOG_VARIANCE_RANGE))

    def per_draw(self) -> Gaussian:
        """Return the Gaussian with a dimension for draws behind that of the replicas, [R, 1, ...]."""
        return Gaussian(self.mean[:, None], self.log_variance[:, None])

    def sample(self, noise: Tensor) -> Tensor:
        """Return the reparameterised sample for standard normal ``noise``.

        Noise of one more dimension, [R, k, ...], makes k draws per row.
        """
        if noise.dim() > self.mean.dim():
            return self.per_draw().sample(noise)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_density(self, z: Tensor) -> Tensor:
        """Return log N(z) summed over the last dimension; ``z`` may hold several draws per row, [R, k, ...]."""
        if z.dim() > self.mean.dim():
            return self.per_draw().log_density(z)
        squared = (z - self.mean) ** 2 * torch.exp(-self.log_variance)
        return -0.5 * (squared + self.log_variance + LOG_TWO_PI).sum(-1)

    def kl(self, prior: Gaussian | None = None) -> Tensor:
        """Return KL(self || prior) summed over the last dimension; None stands for N(0, I)."""
        return self.kl_to_standard() if prior is None else self.kl_to(prior)

    def kl_to_standard(self) -> Tensor:
        """Return KL(N(mean, variance) || N(0, I)) summed over the last dimension."""
        return self.kl_per_dimension().sum(-1)

    def kl_per_dimension(self) -> Tensor:
        """Return KL(N(mean, variance) || N(0, 1)) of each latent dimension."""
        return 0.5 * (self.mean**2 + self.log_variance.exp() - 1 - self.log_variance)

    def kl_to(self, other: Gaussian) -> Tensor:
        """Return KL(self || other) of two diagonal Gaussians, summed over the last dimension."""
        log_ratio = self.log_variance - other.log_variance
        squared = (self.mean - other.mean) ** 2 * torch.exp(-other.log_variance)
        return 0.5 * (squared + log_ratio.exp() - 1 - log_ratio).sum(-1)


def standard_log_density(z: Tensor) -> Tensor:
    """Return log N(z; 0, I) summed over the last dimension."""
    return -0.5 * (z**2 + LOG_TWO_PI).sum(-1)


def log_prior_ratio(z: Tensor, q: Gaussian, prior: Gaussian | None = None) -> Tensor:
    """Return log p(z) - log q(z) of draws, summed over the last dimension; a prior of None stands for N(0, I)."""
    log_q = q.log_density(z)
    return (standard_log_density(z) if prior is None else prior.log_density(z)) - log_q


def gumbel(noise: Tensor) -> Tensor:
    """Return standard Gumbel noise for standard normal noise."""
    uniform = torch.special.ndtr(noise).clamp(1e-6, 1 - 1e-6)
    return -torch.log(-torch.log(uniform))
