"""The published hierarchical extraction, step by step, on dense arrays: what it refines, where it samples, what it
stores.

A coarse grid spans the box with both ends; finer ones step from the lower corner and miss the upper one, so levels are
off by up to a coarse cell. Values outside the band stay what they were. The published code runs in half precision
throughout, and its band is what saturation in half precision happens to give; see specification 10.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

BAND = (-9.0078125, 8.3125)
"""Where ``|2 sigmoid(v) - 1| < 1`` holds in half precision."""
LARGE = 512
"""From this size on the band is dilated by one voxel instead of two."""
INVALID = -9000.0


class Level(NamedTuple):
    """One refinement: the voxels of the coarse grid that are kept, and those of the fine grid that are evaluated."""

    band: Tensor
    evaluated: Tensor


@dataclass(frozen=True, slots=True)
class PublishedGrid:
    """``values`` ``(n, n, n)`` in the storage type, the coordinates of the coarse grid, and the levels between."""

    values: Tensor
    axis: Tensor
    levels: tuple[Level, ...]
    evaluations: int


def in_band(values: Tensor, threshold: float = 1.0) -> Tensor:
    """``|2 sigmoid(v) - 1| < threshold`` in the precision of ``values``."""
    return (2 * torch.sigmoid(values) - 1).abs() < threshold


def interior(mask: Tensor) -> Tensor:
    """Without the outermost layer of voxels."""
    inner = torch.zeros_like(mask)
    inner[1:-1, 1:-1, 1:-1] = mask[1:-1, 1:-1, 1:-1]
    return inner


def band_mask(values: Tensor, threshold: float = 1.0) -> Tensor:
    """Voxels of a coarse grid near the surface; ``threshold`` 1 is the interval :data:`BAND` in any precision."""
    near = (values >= BAND[0]) & (values <= BAND[1]) if threshold == 1.0 else in_band(values, threshold)
    return interior(near)


def dilated(mask: Tensor, size: int) -> Tensor:
    """All voxels within a cube of ``size`` voxels (odd) around those of ``mask``, by one axis after the other."""
    found = mask[None].half() if mask.is_cuda else mask[None].float()
    for axis in range(3):
        kernel, padding = [1, 1, 1], [0, 0, 0]
        kernel[axis], padding[axis] = size, size // 2
        found = nn.functional.max_pool3d(found, tuple(kernel), stride=1, padding=tuple(padding))
    return found[0] > 0


def upsampled(values: Tensor) -> Tensor:
    """Every voxel repeated twice along each axis."""
    for axis in range(3):
        values = values.repeat_interleave(2, dim=axis)
    return values


def dilation_size(coarse: int) -> int:
    """Edge of the cube by which the band of a coarse grid is dilated."""
    return 3 if coarse >= LARGE else 5


def surface_voxels(values: Tensor) -> Tensor:
    """Interior voxels above 0 with a value below 0 among their 26 neighbours."""
    return interior((values > 0) & dilated(values < 0, 3))


def differs_from_neighbours(values: Tensor, offset: float = 0.0) -> Tensor:
    """Voxels whose sign differs from that of one of the 6 neighbours.

    The border is repeated, and a neighbour that was never evaluated (below -9000) counts as the voxel itself.
    """
    moved = values + offset
    valid, padded = moved > INVALID, nn.functional.pad(moved[None, None], (1,) * 6, mode="replicate")[0, 0]
    sign, found = torch.sign(moved), torch.zeros_like(valid)
    for axis in range(3):
        for start in (0, 2):
            place = [slice(1, -1)] * 3
            place[axis] = slice(start, start + values.shape[axis])
            neighbour = padded[tuple(place)]
            found |= torch.sign(torch.where(neighbour > INVALID, neighbour, moved)) != sign
    return found & valid


def published_grid(
    function: Callable[[Tensor], Tensor],
    bounds: float,
    coarse_depth: int,
    fine_depth: int,
    *,
    dtype: torch.dtype = torch.float32,
    threshold: float = 1.0,
    batch: int = 1 << 17,
    device: torch.device | str = "cpu",
) -> PublishedGrid:
    """Values on a grid of ``2^fine_depth`` points an axis over the cube ``+-bounds``.

    Args:
        function: ``(N, 3)`` points in ``dtype`` to ``(N,)`` values, called without autograd.
        dtype: of coordinates and stored values; float16 is the published behaviour.
    Returns:
        Dense arrays: 512 points an axis take 0.5 GiB in float32.
    """
    size = 2**coarse_depth
    axis = torch.linspace(-bounds, bounds, size, dtype=dtype)
    values = torch.empty((size, size, size), dtype=dtype, device=device)
    every = torch.ones((1, size, size), dtype=torch.bool, device=device)
    count = size**3
    for x in range(size):  # by layers: no list of all indices of the dense grid
        index = torch.nonzero(every)
        index[:, 0] = x
        values[x] = _evaluated(function, axis.to(device)[index], dtype, batch).view(size, size)
    levels = []
    for _ in range(fine_depth - coarse_depth):
        band = band_mask(values, threshold)
        wanted = upsampled(dilated(band, dilation_size(size)))
        values = upsampled(values)
        size *= 2
        for x in range(size):
            index = torch.nonzero(wanted[x])
            if len(index):
                index = torch.cat([torch.full_like(index[:, :1], x), index], dim=1)
                points = fine_points(index, size, bounds, dtype)
                values[x, index[:, 1], index[:, 2]] = _evaluated(function, points, dtype, batch)
                count += len(index)
        levels.append(Level(band, wanted))
    return PublishedGrid(values, axis, tuple(levels), count)


def fine_points(index: Tensor, size: int, bounds: float, dtype: torch.dtype) -> Tensor:
    """Where the points of a refined grid lie: from ``-bounds`` in steps of ``2 bounds / size``."""
    half = size // 2
    return (index - half).to(dtype) * (bounds / half)


def _evaluated(function: Callable[[Tensor], Tensor], points: Tensor, dtype: torch.dtype, batch: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([function(part).to(dtype) for part in torch.split(points, batch)])
