"""Losses that the published networks are trained with, as means over all elements unless said otherwise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from shapewright.states import SparseTensor
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, mse_loss

from .voxel_rows import aligned


def structure_losses(logits: Tensor, occupancy: Tensor) -> dict[str, Tensor]:
    """``bce``, ``l1`` and ``dice`` of occupancy logits; dice sums over the whole batch."""
    found = torch.sigmoid(logits)
    overlap, total = (found * occupancy).sum(), found.sum() + occupancy.sum()
    return {
        "bce": binary_cross_entropy_with_logits(logits, occupancy),
        "l1": l1_loss(found, occupancy),
        "dice": 1 - (2 * overlap + 1) / (total + 1),
    }


def dual_grid_losses(
    vertices: Tensor, flag_logits: Tensor, wanted_vertices: Tensor, wanted_flags: Tensor
) -> dict[str, Tensor]:
    """``vertices`` (squared error) and ``intersected`` (binary cross entropy) of ``(N, 3)`` rows."""
    return {
        "vertices": mse_loss(vertices, wanted_vertices),
        "intersected": binary_cross_entropy_with_logits(flag_logits, wanted_flags.to(flag_logits.dtype)),
    }


def subdivision_losses(logits: Sequence[SparseTensor], wanted: Sequence[SparseTensor]) -> list[Tensor]:
    """Binary cross entropy of each subdivision, coarsest first; ``wanted`` holds bool ``(N, 8)``."""
    return [
        binary_cross_entropy_with_logits(found.feats, aligned(truth, found).to(found.feats.dtype))
        for found, truth in zip(logits, wanted, strict=True)
    ]


def kl_mean(mean: Tensor, logvar: Tensor) -> Tensor:
    """Divergence from the standard normal, averaged (not summed) over channels too."""
    return 0.5 * (mean.square() + logvar.exp() - logvar - 1).mean()


SHAPE_WEIGHTS = {"intersected": 0.1, "vertices": 0.01, "subdivision": 0.1, "kl": 1e-6}
"""Published weights; those of rendered images come on top."""
