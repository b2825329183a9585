"""From rows of features to voxels, shared corners and weights: what FlexiCubes takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from shapewright.errors import StateError
from shapewright.states import Frame
from shapewright_kernels.flexicubes_voxels import voxel_corners

from .state import ALPHA, BETA, CHANNELS, DEFORM, GAMMA, SDF

_AXIS_BITS = 21


@dataclass(frozen=True)
class CornerField:
    """Voxels and corners in lexicographic order; ``N`` voxels, ``C`` corners. Differentiable in the features."""

    voxels: Tensor
    """``(N, 3)`` int32."""
    cubes: Tensor
    """``(N, 8)`` int64 rows of corners."""
    corners: Tensor
    """``(C, 3)`` int32."""
    sdf: Tensor
    """``(C,)`` mean over all rows that hold the corner, in units of the frame's longest side."""
    positions: Tensor
    """``(C, 3)`` in frame units, deformed."""
    alpha: Tensor
    beta: Tensor
    gamma: Tensor
    consistency_loss: Tensor
    """Mean squared difference of the rows' own corner values (sdf and raw deformation) from their mean, a scalar. Source:
    TRELLIS' training code; TripoSF's release computes it and drops it."""


def _unique_voxels(coords: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct voxels in lexicographic order, the voxel of each row, and the last row of each voxel."""
    x, y, z = coords.long().unbind(1)
    keys = (x << 2 * _AXIS_BITS) | (y << _AXIS_BITS) | z
    rows = torch.arange(len(keys), device=keys.device)
    if bool((keys[1:] > keys[:-1]).all()):
        return coords, rows, rows
    ordered, order = torch.sort(keys, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    voxel_of = torch.empty_like(rows)
    voxel_of[order] = new.cumsum(0) - 1
    last = order[torch.cat([new[1:], new.new_ones(min(len(new), 1))])]
    return coords[last], voxel_of, last


def corner_field(coords: Tensor, feats: Tensor, resolution: int, frame: Frame) -> CornerField:
    """Merge rows into corners.

    Args:
        coords: ``(N, 3)`` int32 voxels in ``[0, resolution)``, any order; a voxel may occur more than once, then all its
            rows count in the corner means and the last one gives the weights.
        feats: ``(N, 53)`` float.
        resolution: voxels along each axis of ``frame``.
    Raises:
        StateError: a voxel lies outside, or a feature is not finite.
    Source: He et al. 2025; TripoSF's released extractor.
    """
    if feats.shape != (len(coords), CHANNELS):
        raise StateError(f"SparseFlex features must be ({len(coords)}, {CHANNELS}), not {tuple(feats.shape)}")
    if len(coords) and not bool(((coords >= 0) & (coords < resolution)).all()):
        raise StateError(f"voxels must lie in [0, {resolution}); found {int(coords.min())} to {int(coords.max())}")
    if not bool(torch.isfinite(feats.detach().sum())) and not bool(torch.isfinite(feats).all()):
        raise StateError("SparseFlex features hold values that are not finite")
    voxels, voxel_of, last = _unique_voxels(coords)
    corner_array, cube_array = voxel_corners(voxels.numpy(force=True), (resolution,) * 3)
    corners = torch.from_numpy(corner_array).to(feats.device)
    cubes = torch.from_numpy(cube_array).to(feats.device)

    sdf = feats[:, SDF] * (4 / resolution) - 1 / resolution
    values = torch.cat([sdf[..., None], feats[:, DEFORM].reshape(-1, 8, 3)], dim=2)
    slots = cubes[voxel_of]
    sums = values.new_zeros(len(corners), 4).index_add(0, slots.reshape(-1), values.reshape(-1, 4))
    counts = torch.bincount(slots.reshape(-1), minlength=len(corners))
    merged = sums / counts[:, None]
    difference = (values - merged[slots]) ** 2
    loss = difference.mean() if difference.numel() else difference.sum()

    lower, extent = feats.new_tensor(frame.lower), feats.new_tensor(frame.extent)
    reach = (1 - 1e-8) / (2 * resolution)
    positions = corners.to(feats.dtype) / resolution * extent + lower + extent * reach * torch.tanh(merged[:, 1:])
    weights = feats[last]
    return CornerField(
        voxels, cubes, corners, merged[:, 0], positions,
        weights[:, ALPHA], weights[:, BETA], weights[:, GAMMA], loss,
    )  # fmt: skip
