"""Values of sparse voxels at points between their centres."""

from __future__ import annotations

from typing import Literal

import torch
from shapewright_kernels.coordinate_index import CoordinateIndex
from torch import Tensor

from shapewright.errors import ConfigError, StateError
from shapewright.states import SparseTensor


def sample_voxels(
    x: SparseTensor, points: Tensor, samples: Tensor | None = None, mode: Literal["trilinear", "nearest"] = "trilinear"
) -> Tensor:
    """Features at ``points``; differentiable in them (trilinear) and in the features.

    Voxel ``i`` has its centre at ``i + 0.5``. Weights of missing voxels are dropped and the rest scaled to sum to one;
    where no voxel is present the value is zero.

    Args:
        points: ``(P, 3)`` float, in units of voxels.
        samples: ``(P,)`` int64 batch index of each point; all 0 by default.
    Returns:
        ``(P, C)``, dtype of the features.
    Raises:
        ConfigError: an unknown mode.
        StateError: shapes do not fit; a voxel stands twice.

    >>> coords = torch.tensor([[0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.int32)
    >>> x = SparseTensor(coords, torch.tensor([[0.0], [1.0]]), 2)
    >>> sample_voxels(x, torch.tensor([[0.5, 0.5, 0.75], [0.5, 0.5, 9.0]])).tolist()
    [[0.25], [0.0]]
    """
    if mode not in ("trilinear", "nearest"):
        raise ConfigError(f"mode must be trilinear or nearest, not {mode!r}")
    if points.ndim != 2 or points.shape[1] != 3:
        raise StateError(f"points must be (P, 3), not {tuple(points.shape)}")
    if samples is None:
        samples = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    if samples.shape != points.shape[:1]:
        raise StateError(f"samples must be ({len(points)},), not {tuple(samples.shape)}")
    try:
        index = CoordinateIndex(x.coords.numpy(force=True))
    except ValueError as error:
        raise StateError(str(error)) from None
    wide = torch.float64 if x.feats.dtype == torch.float64 else torch.float32
    points = points.to(wide)
    if mode == "nearest":
        rows = _rows(index, torch.cat([samples[:, None], points.detach().floor().long()], 1))
        return torch.where((rows >= 0)[:, None], _at(x.feats, rows), x.feats.new_zeros(()))
    lower = (points.detach() - 0.5).floor()
    fraction = points - 0.5 - lower
    total = torch.zeros(len(points), dtype=wide, device=points.device)
    values = torch.zeros(len(points), x.feats.shape[1], dtype=wide, device=points.device)
    for corner in range(8):
        bits = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1], device=points.device)
        rows = _rows(index, torch.cat([samples[:, None], lower.long() + bits], 1))
        weight = torch.where(bits.bool(), fraction, 1 - fraction).prod(1) * (rows >= 0)
        total = total + weight
        values = values + weight[:, None] * _at(x.feats, rows).to(wide)
    return (values / total.clamp_min(1e-12)[:, None]).to(x.feats.dtype)


def _rows(index: CoordinateIndex, queries: Tensor) -> Tensor:
    return torch.from_numpy(index.rows(queries.numpy(force=True))).to(queries.device)


def _at(feats: Tensor, rows: Tensor) -> Tensor:
    """Features of rows, anything where the row is -1."""
    if len(feats) == 0:
        return feats.new_zeros(len(rows), feats.shape[1])
    return feats[rows.clamp_min(0)]
