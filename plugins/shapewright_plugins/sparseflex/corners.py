"""From rows of features to voxels, shared corners and weights: what FlexiCubes takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.errors import StateError
from shapewright.states import Frame
from shapewright_kernels.flexicubes_rows import corner_means
from shapewright_kernels.flexicubes_voxels import ascending, voxel_corners
from torch import Tensor

from .state import ALPHA, BETA, CHANNELS, DEFORM, GAMMA, SDF

_AXIS_BITS = 21


@dataclass(frozen=True)
class CornerField:
    """Voxels and corners in lexicographic order; ``N`` voxels, ``C`` corners. Differentiable in the features."""

    resolution: int
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
    rows: Tensor
    """``(M, 8)`` int64 corner rows of every row of features, duplicates included."""
    deform: Tensor
    """``(C, 3)`` raw deformation, before tanh."""

    def consistency_loss(self, feats: Tensor) -> Tensor:
        """Mean squared difference of the rows' own corner values (sdf and raw deformation) from the corner means.

        ``feats`` are the features this field was made from; a scalar with gradient. Source: TRELLIS' training code;
        TripoSF's release computes it and drops it.
        """
        difference = (
            _corner_values(feats, self.resolution) - torch.cat([self.sdf[:, None], self.deform], dim=1)[self.rows]
        )
        return (difference**2).mean() if difference.numel() else difference.sum()


def _unique_voxels(coords: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Distinct voxels in lexicographic order, the voxel of each row, and the last row of each voxel; ``None`` where
    rows and voxels are the same."""
    if ascending(coords.numpy(force=True)):
        return coords, None, None
    x, y, z = coords.long().unbind(1)
    keys = (x << 2 * _AXIS_BITS) | (y << _AXIS_BITS) | z
    ordered, order = torch.sort(keys, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    voxel_of = torch.empty_like(order)
    voxel_of[order] = new.cumsum(0) - 1
    last = order[torch.cat([new[1:], new.new_ones(min(len(new), 1))])]
    return coords[last], voxel_of, last


def corner_field(coords: Tensor, feats: Tensor, resolution: int, frame: Frame) -> CornerField:
    """Merge rows into corners.

    Args:
        coords: ``(N, 3)`` int32 voxels in ``[0, resolution)``, any order; a voxel may occur more than once, then all
            its rows count in the corner means and the last one gives the weights.
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

    rows = cubes if voxel_of is None else cubes[voxel_of]
    if feats.device.type == "cpu" and feats.dtype in (torch.float32, torch.float64):
        # one split, so that the gradients of all parts are put together in one pass
        parts: tuple[Tensor, ...] = torch.split(feats, [8, 24, 12, 8, 1], dim=1)
        scalars, vectors, beta, alpha, gamma = parts
        means = corner_means(scalars, vectors, rows.numpy(), len(corners), 4 / resolution, -1 / resolution)
    else:
        beta, alpha, gamma = feats[:, BETA], feats[:, ALPHA], feats[:, GAMMA, None]
        values = _corner_values(feats, resolution)
        sums = values.new_zeros(len(corners), 4).index_add(0, rows.reshape(-1), values.reshape(-1, 4))
        means = sums / torch.bincount(rows.reshape(-1), minlength=len(corners))[:, None]
    if last is not None:
        beta, alpha, gamma = beta[last], alpha[last], gamma[last]
    deform = means[:, 1:].contiguous()

    lower, extent = feats.new_tensor(frame.lower), feats.new_tensor(frame.extent)
    reach = (1 - 1e-8) / (2 * resolution)
    positions = corners.to(feats.dtype) / resolution * extent + lower + extent * reach * torch.tanh(deform)
    return CornerField(
        resolution, voxels, cubes, corners, means[:, 0], positions, alpha, beta, gamma[:, 0], rows, deform
    )


def _corner_values(feats: Tensor, resolution: int) -> Tensor:
    """``(M, 8, 4)``: signed distance in units of the frame and raw deformation, as each row sees its corners."""
    sdf = feats[:, SDF] * (4 / resolution) - 1 / resolution
    return torch.cat([sdf[..., None], feats[:, DEFORM].reshape(-1, 8, 3)], dim=2)
