"""Random sparse tensors for tests of networks."""

from __future__ import annotations

import torch
from shapewright.states import SparseTensor
from torch import Tensor


def random_voxels(seed: int, resolution: int, batch_size: int = 1, share: float = 0.4) -> Tensor:
    """About ``share`` of all voxels, sorted by batch, x, y, z: ``(N, 4)`` int32."""
    rng = torch.Generator().manual_seed(seed)
    present = torch.rand(batch_size, resolution, resolution, resolution, generator=rng) < share
    return torch.nonzero(present).int()


def random_sparse(
    seed: int, channels: int, resolution: int = 6, batch_size: int = 1, share: float = 0.4,
    dtype: torch.dtype = torch.float32,
) -> SparseTensor:  # fmt: skip
    """Normal features on :func:`random_voxels`."""
    coords = random_voxels(seed, resolution, batch_size, share)
    rng = torch.Generator().manual_seed(seed + 1)
    feats = torch.randn(len(coords), channels, generator=rng, dtype=dtype)
    return SparseTensor(coords, feats, resolution, batch_size)
