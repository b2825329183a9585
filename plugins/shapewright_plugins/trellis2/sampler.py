"""``sampler/trellis2-euler``: Euler steps of a rectified flow, with guidance on an interval and its rescaling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from shapewright.errors import ConfigError
from shapewright.interfaces import Sampler, Velocity
from shapewright.nn.layouts import per_token, sample_rows
from shapewright.states import Layout
from torch import Tensor

from .flow_matching import SIGMA_MIN, from_start, start_of


@dataclass(frozen=True)
class SamplerConfig:
    """Published: structure 0.7, (0.6, 1), 5; shape 0.5, (0.6, 1), 3; texture 0, (0.6, 0.9), 3.

    ``guidance_rescale``: how far the spread of a guided estimate is brought back to that of the conditional one, 0 to
    1. ``guidance_interval``: flow times, both included, between which guidance is on. ``rescale_t``: above 1 more of
    the steps lie near the noise. ``sigma_min``: noise that is left at the end.
    """

    guidance_rescale: float = 0.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    rescale_t: float = 1.0
    sigma_min: float = SIGMA_MIN

    def __post_init__(self) -> None:
        low, high = self.guidance_interval
        if not 0 <= low <= high <= 1:
            raise ConfigError(f"guidance_interval must be two flow times 0 <= low <= high <= 1, not {low}, {high}")
        if not 0 <= self.guidance_rescale <= 1:
            raise ConfigError(f"guidance_rescale must lie between 0 and 1, not be {self.guidance_rescale}")
        if not 0 < self.rescale_t < math.inf:
            raise ConfigError(f"rescale_t must be positive and finite, not {self.rescale_t}")
        if not 0 <= self.sigma_min < 1:
            raise ConfigError(f"sigma_min must lie in 0..1 (1 excluded), not be {self.sigma_min}")


class Step(NamedTuple):
    """After one step: the sample, and the data that the model saw in it."""

    x: Tensor
    start: Tensor


class Trellis2Euler(Sampler[SamplerConfig]):
    """``x -= (t - t') v`` from noise at ``t = 1`` to data at 0, where ``v = (1 - sigma_min) noise - data``.

    Guidance ``g`` is ``g c + (1 - g) u`` of the conditional and the unconditional velocity; 1 asks the conditional
    branch only, 0 the other.

    Source: Liu et al. 2022; TRELLIS.2, published samplers.
    """

    Config = SamplerConfig

    def times(self, steps: int) -> Tensor:
        """``(steps + 1,)`` float64 flow times from 1 to 0.

        Raises:
            ConfigError: ``steps`` below 1.
        """
        if steps < 1:
            raise ConfigError(f"steps must be at least 1, not {steps}")
        # NumPy's, as published: a time that lies on the border of an interval (12 steps, rescale_t 3: 0.6) falls to the
        # side that its rounding takes it to.
        times = torch.from_numpy(np.linspace(1.0, 0.0, steps + 1))
        rescale = self.config.rescale_t
        return rescale * times / (1 + (rescale - 1) * times)

    def integrate(
        self, model: Velocity, noise: Tensor, *, steps: int, guidance: float, layout: Layout | None = None
    ) -> Tensor:
        """From ``noise`` to data.

        Args:
            noise: ``(B, ...)``, or the rows ``(T, C)`` of all samples with their ``layout``; only the rescaling of
                guidance looks at samples.
        Raises:
            ConfigError: ``steps`` below 1, or a guidance that is not finite.
        """
        x = noise
        for step in self.trajectory(model, noise, steps=steps, guidance=guidance, layout=layout):
            x = step.x
        return x

    def trajectory(
        self, model: Velocity, noise: Tensor, *, steps: int, guidance: float, layout: Layout | None = None
    ) -> Iterator[Step]:
        """Every step of :meth:`integrate`."""
        if not math.isfinite(guidance):
            raise ConfigError(f"guidance must be finite, not {guidance}")
        x, times = noise, self.times(steps).tolist()
        for t, following in pairwise(times):
            velocity = self.velocity(model, x, t, guidance, layout)
            start = start_of(x, velocity, t, self.config.sigma_min)
            x = x - (t - following) * velocity
            yield Step(x, start)

    def velocity(self, model: Velocity, x: Tensor, t: float, guidance: float, layout: Layout | None = None) -> Tensor:
        """The guided velocity at flow time ``t``."""
        config = self.config
        low, high = config.guidance_interval
        if not low <= t <= high:
            guidance = 1.0
        if guidance in (0.0, 1.0):
            return model(x, t, conditional=guidance == 1)
        conditional, null = model(x, t, conditional=True), model(x, t, conditional=False)
        guided = guidance * conditional + (1 - guidance) * null
        if not config.guidance_rescale:
            return guided
        wanted = start_of(x, conditional, t, config.sigma_min)
        start = start_of(x, guided, t, config.sigma_min)
        rescaled = start * (_spread(wanted, layout) / _spread(start, layout))
        share = config.guidance_rescale
        return from_start(x, share * rescaled + (1 - share) * start, t, config.sigma_min)


def _spread(x: Tensor, layout: Layout | None) -> Tensor:
    """Standard deviation of each sample, shaped to divide ``x``: unbiased of ``(B, ...)``; of packed rows biased, as
    the published models were tuned, over all voxels and channels. At least the smallest positive number."""
    tiny = torch.finfo(x.dtype).tiny
    if layout is None:
        return x.std(dim=tuple(range(1, x.ndim)), keepdim=True).clamp_min(tiny)
    rows = sample_rows(layout)
    samples = len(layout.offsets) - 1
    counts = (layout.offsets.diff() * x.shape[1]).clamp_min(1).to(torch.float64)
    wide = x.double()
    total, squares = (
        torch.zeros(samples, dtype=torch.float64, device=x.device).index_add(0, rows, part.sum(1))
        for part in (wide, wide.square())
    )
    mean = total / counts
    variance = (squares / counts - mean.square()).clamp_min(0)
    return per_token(variance.sqrt().to(x.dtype)[:, None], layout).clamp_min(tiny)
