"""What the shape autoencoder reads from and writes about each voxel of a dual grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

MARGIN = 0.5
"""How far decoded vertices may leave their voxel, in voxels."""


def dual_grid_features(dual_vertices: Tensor, intersected: Tensor) -> Tensor:
    """``(N, 6)`` input of the encoder: vertices and flags, centred."""
    return torch.cat([dual_vertices - 0.5, intersected.to(dual_vertices.dtype) - 0.5], dim=1)


def split_channels(values: Tensor, margin: float = MARGIN) -> tuple[Tensor, Tensor, Tensor]:
    """Output ``(N, 7)`` of the decoder as vertices ``(N, 3)`` in ``-margin..1 + margin``, logits of the flags
    ``(N, 3)`` and split weights ``(N, 1)``."""
    vertices = (1 + 2 * margin) * torch.sigmoid(values[:, :3]) - margin
    return vertices, values[:, 3:6], softplus(values[:, 6:7])
