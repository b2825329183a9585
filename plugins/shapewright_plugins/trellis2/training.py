"""What the published training loop needs beside networks and losses: image distances, clipping, memory, batches,
cameras."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from shapewright.errors import ConfigError
from torch import Tensor, nn

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SMOOTH_L1_BETA = 0.05
SSIM_CONSTANTS = (0.01**2, 0.03**2)


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity of images ``(B, C, H, W)`` in [0, 1], averaged; Gaussian window, zero padded.

    Source: Wang et al. 2004.
    """
    offsets = torch.arange(SSIM_WINDOW, dtype=first.dtype, device=first.device) - SSIM_WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    channels = first.shape[1]
    kernel = torch.outer(weights, weights).expand(channels, 1, -1, -1)

    def mean(x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, kernel, padding=SSIM_WINDOW // 2, groups=channels)

    mean1, mean2 = mean(first), mean(second)
    variance1, variance2 = mean(first * first) - mean1.square(), mean(second * second) - mean2.square()
    covariance = mean(first * second) - mean1 * mean2
    c1, c2 = SSIM_CONSTANTS
    likeness = (2 * mean1 * mean2 + c1) * (2 * covariance + c2)
    return (likeness / ((mean1.square() + mean2.square() + c1) * (variance1 + variance2 + c2))).mean()


def smooth_l1(first: Tensor, second: Tensor) -> Tensor:
    """Absolute difference, squared where it is below 0.05 (published)."""
    return nn.functional.smooth_l1_loss(first, second, beta=SMOOTH_L1_BETA)


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of values in [0, 1]."""
    return -10 * torch.log10(nn.functional.mse_loss(first, second))


class AdaptiveGradientClipper:
    """Clips to a norm that follows what gradients have been: at most ``max_norm``, and below it the percentile of the
    last ``buffer_size`` finite norms once there are so many."""

    def __init__(self, max_norm: float = 1.0, percentile: float = 95.0, buffer_size: int = 1000) -> None:
        if max_norm <= 0 or not 0 <= percentile <= 100 or buffer_size < 1:
            raise ConfigError("max_norm and buffer_size must be positive, and percentile in 0..100")
        self.ceiling, self.max_norm, self.percentile = max_norm, max_norm, percentile
        self.norms: deque[float] = deque(maxlen=buffer_size)

    def __call__(self, parameters: Iterable[Tensor]) -> Tensor:
        """Clip in place; the norm before it, which may not be finite."""
        norm = nn.utils.clip_grad_norm_(parameters, self.max_norm)
        if bool(torch.isfinite(norm)):
            self.norms.append(float(norm))
            if len(self.norms) == self.norms.maxlen:
                self.max_norm = min(self.ceiling, float(np.percentile(self.norms, self.percentile)))
        return norm

    def state_dict(self) -> dict[str, object]:
        """What continues a run."""
        return {"max_norm": self.max_norm, "norms": list(self.norms)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Inverse of :meth:`state_dict`."""
        norms = state["norms"]
        assert isinstance(norms, list)
        self.max_norm = float(state["max_norm"])  # type: ignore[arg-type]
        self.norms = deque(norms, maxlen=self.norms.maxlen)


@dataclass(frozen=True)
class LinearMemory:
    """Memory in GiB as ``slope * size * ratio + constant``: ``ratio`` of the activations is kept, the rest computed
    again."""

    slope: float
    constant: float

    @classmethod
    def fitted(cls, sizes: Sequence[float], used: Sequence[float]) -> LinearMemory:
        """Least squares over steps; ``sizes`` are input sizes times the ratios used."""
        if len(sizes) != len(used) or len(set(sizes)) < 2:
            raise ConfigError("a line needs as many sizes as measurements, and two different sizes")
        slope, constant = np.polyfit(sizes, used, 1)
        return cls(float(slope), float(constant))

    def ratio(self, size: int, available: float, *, target: float = 0.75, most: float = 1.0) -> float:
        """Share of activations to keep for an input of ``size`` so that ``target`` of ``available`` GiB is used."""
        return float(np.clip((available * target - self.constant) / (self.slope * size), 0, most))


def balanced_groups(loads: Sequence[float], groups: int, *, equal_sizes: bool = False) -> list[list[int]]:
    """Items in groups of about equal load: largest first, each to the lightest group that has room.

    Raises:
        ConfigError: no group, or sizes that cannot be equal.

    >>> balanced_groups([5, 1, 4, 2], 2)
    [[0, 1], [2, 3]]
    """
    if groups < 1 or (equal_sizes and len(loads) % groups):
        raise ConfigError(f"{len(loads)} items cannot be dealt to {groups} groups{' of one size' * equal_sizes}")
    room = len(loads) // groups if equal_sizes else len(loads)
    found: list[list[int]] = [[] for _ in range(groups)]
    totals = [0.0] * groups
    for item in sorted(range(len(loads)), key=lambda i: (-loads[i], i)):
        lightest = min((g for g in range(groups) if len(found[g]) < room), key=lambda g: totals[g])
        found[lightest].append(item)
        totals[lightest] += loads[item]
    return found


def hammersley_view(index: int, count: int, offset: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """Yaw and pitch (radians) of view ``index`` of ``count``, evenly spread over the sphere."""
    across = (index + offset[0]) / count
    around = _radical_inverse(index) + offset[1]
    return 2 * math.pi * around, math.acos(1 - 2 * across) - math.pi / 2


def _radical_inverse(index: int) -> float:
    """Binary digits mirrored at the point."""
    value, weight = 0.0, 0.5
    while index:
        value += weight * (index & 1)
        index, weight = index >> 1, weight / 2
    return value
