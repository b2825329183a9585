"""Diagonal Gaussian posterior of a variational autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shapewright.errors import StateError

LOG_VARIANCE = (-30.0, 20.0)
"""Log variances are clamped to this range."""


@dataclass(frozen=True)
class DiagonalGaussian:
    """Mean and log variance, of one shape.

    >>> DiagonalGaussian.split(torch.zeros(3, 8)).kl(-1).tolist()
    [0.0, 0.0, 0.0]
    """

    mean: Tensor
    logvar: Tensor

    @classmethod
    def split(cls, moments: Tensor, dim: int = -1) -> DiagonalGaussian:
        """From means and log variances beside each other along ``dim``; log variances are clamped to -30..20.

        Raises:
            StateError: an odd number of channels.
        """
        if moments.shape[dim] % 2:
            raise StateError(f"moments has {moments.shape[dim]} channels, not as many means as log variances")
        mean, logvar = moments.chunk(2, dim)
        return cls(mean, logvar.clamp(*LOG_VARIANCE))

    @property
    def std(self) -> Tensor:
        """Standard deviation."""
        return torch.exp(0.5 * self.logvar)

    @property
    def mode(self) -> Tensor:
        """The mean: what a deterministic reconstruction uses."""
        return self.mean

    def sample(self, rng: torch.Generator | None = None, *, noise: Tensor | None = None) -> Tensor:
        """``mean + std * noise``; noise is drawn from ``rng``, on its device, where it is not given.

        Raises:
            StateError: neither is given, or noise of another shape.
        """
        if noise is None:
            if rng is None:
                raise StateError("sample needs rng or noise; nothing here draws from the global generator")
            shape, device = self.mean.shape, rng.device
            noise = torch.randn(shape, generator=rng, device=device, dtype=torch.float32).to(self.mean)
        if noise.shape != self.mean.shape:
            raise StateError(f"noise is {tuple(noise.shape)} but the mean is {tuple(self.mean.shape)}")
        return self.mean + self.std * noise

    def kl(self, dims: int | tuple[int, ...] | None = None) -> Tensor:
        """Divergence from the standard normal, ``0.5 (mean^2 + var - 1 - logvar)``, averaged over ``dims`` (all)."""
        terms = 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar)
        return terms.mean() if dims is None else terms.mean(dims)
