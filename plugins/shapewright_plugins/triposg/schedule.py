"""The rectified flow of TripoSG: noise levels, the Euler step, and how training draws and weighs its times.

Noise level ``sigma`` runs from 1 (noise) to 0 (data): ``x = (1 - sigma) x0 + sigma noise``. The velocity here is
``dx / dsigma = noise - x0``; published networks answer ``x0 - noise`` at the timestep ``1000 sigma``, and
:mod:`.dit` turns the sign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import ConfigError
from torch import Tensor

TRAIN_TIMESTEPS = 1000
DENSITIES = ("uniform", "logit_normal", "logit_normal_dist", "mode")
WEIGHTINGS = ("none", "sigma_sqrt", "cosmap")


def shifted(sigmas: NDArray[np.floating], shift: float) -> NDArray[np.float64]:
    """``s sigma / (1 + (s - 1) sigma)``: more steps at high noise where ``shift`` exceeds 1."""
    wide = np.asarray(sigmas, dtype=np.float64)
    return shift * wide / (1 + (shift - 1) * wide)


def dynamically_shifted(sigmas: NDArray[np.floating], mu: float) -> NDArray[np.float64]:
    """``e^mu / (e^mu + 1 / sigma - 1)``, which is :func:`shifted` by ``e^mu``."""
    wide = np.asarray(sigmas, dtype=np.float64)
    return math.exp(mu) / (math.exp(mu) + (1 / wide - 1))


def resolution_shift(tokens: int, base_tokens: int = 512, power: float = 0.5) -> float:
    """Shift for a number of tokens, ``(tokens / base)^power``; 2 for 2048.

    The paper's equation 11 may also be read without the root (``power=1``); the released model samples with shift 1.
    """
    if tokens < 1 or base_tokens < 1:
        raise ConfigError(f"tokens and base_tokens must be at least 1, not {tokens} and {base_tokens}")
    return float((tokens / base_tokens) ** power)


def noise_levels(
    steps: int,
    *,
    shift: float = 1.0,
    mu: float | None = None,
    sigmas: Sequence[float] | None = None,
) -> Tensor:
    """Noise levels ``(steps + 1,)`` float32, from near 1 to a last 0.

    Args:
        shift: static shift; not applied where ``mu`` asks for the dynamic one.
        sigmas: levels of one's own instead of ``1 - i / steps``; they are shifted as well, and their number counts.
    Raises:
        ConfigError: no steps, a shift that is not positive, or levels that do not descend within (0, 1].
    """
    if sigmas is None and steps < 1:
        raise ConfigError(f"steps must be at least 1, not {steps}")
    if not 0 < shift < math.inf:
        raise ConfigError(f"shift must be positive, not {shift}")
    if mu is not None and not math.isfinite(mu):
        raise ConfigError(f"mu must be finite, not {mu}")
    levels = 1 - np.arange(steps) / steps if sigmas is None else np.asarray(sigmas, dtype=np.float64)
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels <= 1)).all() or (np.diff(levels) >= 0).any():
        raise ConfigError(f"sigmas must descend within (0, 1], not {levels.tolist()}")
    levels = shifted(levels, shift) if mu is None else dynamically_shifted(levels, mu)
    return torch.from_numpy(np.append(levels, 0.0).astype(np.float32))


def training_levels(shift: float = 1.0, count: int = TRAIN_TIMESTEPS) -> Tensor:
    """The table ``(count,)`` float32 of levels that training indexes, shifted, from 1 down to ``1 / count``."""
    table = np.linspace(1, count, count, dtype=np.float32)[::-1] / np.float32(count)
    return torch.from_numpy(shifted(table, shift).astype(np.float32))


def euler_step(x: Tensor, velocity: Tensor, level: float, next_level: float) -> Tensor:
    """One step of ``dx = velocity dsigma`` in float32 at least; dtype of ``x``."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return (x.to(wide) + (next_level - level) * velocity.to(wide)).to(x.dtype)


def noised(x0: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
    """``(1 - sigma) x0 + sigma noise`` with one level ``(B,)`` a sample, without any shift."""
    sigma = levels.to(x0).view(-1, *[1] * (x0.ndim - 1))
    return (1 - sigma) * x0 + sigma * noise


def velocity_target(x0: Tensor, noise: Tensor) -> Tensor:
    """What a published network is trained to answer: ``x0 - noise``."""
    return x0 - noise


# --- times of training ----------------------------------------------------------------------------------------------
def draw_times(
    density: str,
    count: int,
    rng: torch.Generator,
    *,
    mean: float = 0.0,
    std: float = 1.0,
    mode_scale: float = 1.29,
) -> Tensor:
    """``(count,)`` draws in [0, 1] by which training indexes its levels.

    ``logit_normal`` and ``logit_normal_dist`` are one law, the sigmoid of N(mean, std^2); ``mode`` is
    ``1 - u - s (cos^2(pi u / 2) - 1 + u)`` of a uniform ``u``.

    Raises:
        ConfigError: an unknown density.
    """
    if density not in DENSITIES:
        raise ConfigError(f"density must be one of {', '.join(DENSITIES)}, not {density!r}")
    if density.startswith("logit_normal"):
        return times_of_normal(torch.randn(count, generator=rng, device=rng.device), mean, std)
    uniform = torch.rand(count, generator=rng, device=rng.device)
    return uniform if density == "uniform" else times_of_mode(uniform, mode_scale)


def times_of_normal(draws: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Logit-normal times of standard normal draws."""
    return torch.sigmoid(mean + std * draws)


def times_of_mode(uniform: Tensor, scale: float) -> Tensor:
    """The ``mode`` density of uniform draws."""
    return 1 - uniform - scale * (torch.cos(math.pi * uniform / 2) ** 2 - 1 + uniform)


def logit_normal_density(t: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """``1 / (s sqrt(2 pi) t (1 - t)) exp(-(logit t - m)^2 / (2 s^2))``, the paper's density of times."""
    scale = 1 / (std * math.sqrt(2 * math.pi))
    return scale / (t * (1 - t)) * torch.exp(-((torch.logit(t) - mean) ** 2) / (2 * std**2))


def loss_weights(weighting: str, levels: Tensor) -> Tensor:
    """Weights of the squared error at noise levels ``sigma``.

    Raises:
        ConfigError: an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise ConfigError(f"weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    if weighting == "sigma_sqrt":
        return levels**-2.0
    if weighting == "cosmap":
        return 2 / (math.pi * (1 - 2 * levels + 2 * levels**2))
    return torch.ones_like(levels)
