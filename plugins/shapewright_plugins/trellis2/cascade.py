"""``transform/occupied-voxels`` and ``transform/requantise-voxels``: where the latents of the next stage live."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Transform
from shapewright.states import OccupancyGrid, Voxels
from torch import Tensor

STRIDE = 16
"""Fine voxels along one latent voxel."""
STEP = 128
"""By which a target resolution is lowered until the tokens fit."""


def occupied_coords(logits: Tensor, resolution: int, level: float = 0.0) -> Tensor:
    """``(N, 4)`` int32 cells of ``logits (B, R, R, R)`` above ``level``, on a grid of ``resolution``: a coarse cell is
    occupied if one of its fine ones is. Sorted by batch, x, y, z.

    Raises:
        StateError: no cubic grid, or one that ``resolution`` does not divide.
    """
    if logits.ndim != 4 or len(set(logits.shape[1:])) != 1:
        raise StateError(f"occupancy must be (R, R, R) or (B, R, R, R), not {tuple(logits.shape)}")
    size = logits.shape[1]
    if resolution < 1 or size % resolution:
        raise StateError(f"a grid of {size} cells an axis cannot be reduced to {resolution}; use a divisor")
    factor = size // resolution
    blocks = (logits > level).reshape(len(logits), *(resolution, factor) * 3)
    return blocks.any(6).any(4).any(2).nonzero().int()


@dataclass(frozen=True)
class OccupiedConfig:
    """``resolution``: of the result, 0 for that of the grid (published: 32 for the 512 model and for cascades, 64 for
    1024). ``level``: cells above it are occupied (0 for logits)."""

    resolution: int = 0
    level: float = 0.0

    def __post_init__(self) -> None:
        if self.resolution < 0:
            raise ConfigError(f"resolution must be 0 (that of the grid) or more, not {self.resolution}")


class OccupiedVoxels(Transform[OccupiedConfig]):
    """Cells of an occupancy grid that are occupied, on its own grid or on a coarser one."""

    Config = OccupiedConfig

    def apply(self, *, occupancy: OccupancyGrid) -> Voxels:
        """Raises: StateError: nothing is occupied, or the resolutions do not fit."""
        values = occupancy.values if occupancy.values.ndim == 4 else occupancy.values[None]
        resolution = self.config.resolution or values.shape[-1]
        coords = occupied_coords(values, resolution, self.config.level)
        refuse_empty(coords, len(values), "the structure has no occupied cell; try another seed or image")
        return Voxels(coords, resolution, len(values), occupancy.frame)


def refuse_empty(coords: Tensor, samples: int, reason: str) -> None:
    """
    Raises:
        StateError: a sample has no voxel.
    """
    counts = torch.bincount(coords[:, 0].long(), minlength=samples)
    if bool((counts == 0).any()):
        which = f" (sample {int((counts == 0).nonzero()[0])})" if samples > 1 else ""
        raise StateError(f"{reason}{which}")


def requantised(
    coords: Tensor, resolution: int, target: int, max_tokens: int, *, least: int = 1024, stride: int = STRIDE
) -> tuple[Tensor, int]:
    """Latent voxels of a finer grid around the voxels ``coords`` ``(N, 4)`` of a grid of ``resolution``.

    The target is lowered by 128 while there are ``max_tokens`` or more, but not below ``least``.

    Returns:
        ``(M, 4)`` int32 sorted coordinates on a grid of ``target // stride`` cells, and the target reached.
    """
    while True:
        cells = target // stride
        scaled = ((coords[:, 1:] + 0.5) / resolution * cells).int()
        found = torch.unique(torch.cat([coords[:, :1].int(), scaled], dim=1), dim=0)
        if len(found) < max_tokens or target <= least:
            return found, target
        target = max(target - STEP, least)


@dataclass(frozen=True)
class RequantiseConfig:
    """``resolution``: fine voxels an axis that are wanted (published: 1024, 1536). ``max_tokens``: latent voxels that
    the next model may get; the resolution is lowered by 128 while they are more. ``least``: but not below this.
    ``stride``: fine voxels along a latent voxel."""

    resolution: int = 1024
    max_tokens: int = 49152
    least: int = 1024
    stride: int = STRIDE

    def __post_init__(self) -> None:
        for name in ("resolution", "max_tokens", "least", "stride"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.resolution < self.stride:
            raise ConfigError(f"resolution ({self.resolution}) must be at least stride ({self.stride})")


class RequantiseVoxels(Transform[RequantiseConfig]):
    """Voxels that a coarse model made, as the support of a finer one within a budget of tokens.

    The result's resolution says what came of the budget: ``16 *`` it is the resolution that the decoder will make.
    """

    Config = RequantiseConfig

    def apply(self, *, support: Voxels) -> Voxels:
        """Raises: StateError: no voxel, or a batch: each sample has its own budget and resolution."""
        if support.batch_size != 1:
            raise StateError(f"a budget is for one sample, not for a batch of {support.batch_size}; unbind it first")
        refuse_empty(support.coords, 1, "there is no voxel to refine; the coarse shape is empty")
        config = self.config
        coords, target = requantised(
            support.coords,
            support.resolution,
            config.resolution,
            config.max_tokens,
            least=min(config.least, config.resolution),
            stride=config.stride,
        )
        return Voxels(coords, target // config.stride, 1, support.frame)
