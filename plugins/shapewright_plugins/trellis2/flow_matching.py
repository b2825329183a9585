"""Rectified flow with a little noise left at the end: interpolation, training target, and conversions between them.

``x_t = (1 - t) x_0 + (s + (1 - s) t) noise`` with ``s = sigma_min``; velocity ``v = (1 - s) noise - x_0``.
"""

from __future__ import annotations

import torch
from shapewright.errors import ConfigError
from torch import Tensor

SIGMA_MIN = 1e-5
TIMESTEP_SCALE = 1000.0
"""Networks are called with flow time times this."""


def interpolate(x0: Tensor, noise: Tensor, t: Tensor | float, sigma_min: float = SIGMA_MIN) -> Tensor:
    """``x_t``; ``t`` is one number, or ``(B,)`` for ``(B, ...)``."""
    t = _broadcast(t, x0)
    return (1 - t) * x0 + (sigma_min + (1 - sigma_min) * t) * noise


def velocity_target(x0: Tensor, noise: Tensor, sigma_min: float = SIGMA_MIN) -> Tensor:
    """What a network learns to answer at any ``t``."""
    return (1 - sigma_min) * noise - x0


def start_of(x: Tensor, velocity: Tensor, t: Tensor | float, sigma_min: float = SIGMA_MIN) -> Tensor:
    """``x_0`` from ``x_t`` and a velocity."""
    t = _broadcast(t, x)
    return (1 - sigma_min) * x - (sigma_min + (1 - sigma_min) * t) * velocity


def noise_of(x: Tensor, velocity: Tensor, t: Tensor | float) -> Tensor:
    """The noise from ``x_t`` and a velocity."""
    return (1 - _broadcast(t, x)) * velocity + x


def from_start(x: Tensor, start: Tensor, t: Tensor | float, sigma_min: float = SIGMA_MIN) -> Tensor:
    """The velocity that leads to ``x_0 = start``: inverse of :func:`start_of`."""
    t = _broadcast(t, x)
    return ((1 - sigma_min) * x - start) / (sigma_min + (1 - sigma_min) * t)


def draw_times(
    count: int, rng: torch.Generator, *, schedule: str = "uniform", mean: float = 1.0, std: float = 1.0
) -> Tensor:
    """``(count,)`` flow times for training: ``uniform`` (latents on voxels) or ``logit-normal`` (structure).

    Raises:
        ConfigError: an unknown schedule.
    """
    if schedule == "uniform":
        return torch.rand(count, generator=rng, device=rng.device)
    if schedule == "logit-normal":
        return torch.sigmoid(torch.randn(count, generator=rng, device=rng.device) * std + mean)
    raise ConfigError(f"schedule must be uniform or logit-normal, not {schedule!r}")


def _broadcast(t: Tensor | float, x: Tensor) -> Tensor | float:
    return t.reshape(-1, *[1] * (x.ndim - 1)) if isinstance(t, Tensor) and t.ndim else t
