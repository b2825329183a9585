"""Regularisers of FlexiCubes training. All are means, differentiable, and zero for an empty surface."""

from __future__ import annotations

import torch
from torch import Tensor

from .flexicubes_tables import EDGES


def _mean(values: Tensor) -> Tensor:
    return values.mean() if values.numel() else values.sum()


def deviation_loss(l_dev: Tensor) -> Tensor:
    """Mean of :attr:`~.flexicubes.DualMesh.l_dev`: crossings of one dual vertex should be equally far from it.

    Source: Shen et al. 2023, equation 8 (the released code has one term an incidence).
    """
    return _mean(l_dev)


def sign_change_loss(sdf: Tensor, cubes: Tensor) -> Tensor:
    """Cross entropy of both ends of every grid edge whose ends differ in sign, each against the other's sign.

    Removes floating parts and inner clutter that no image shows.

    Args:
        sdf: ``(C,)`` float, used as logits. cubes: ``(N, 8)`` integer corner ids; every grid edge counts once.
    Returns:
        Scalar, gradient to ``sdf``.
    Source: Munkberg et al. 2022 (nvdiffrec), equation 2, as used by FlexiCubes.

    >>> two = torch.tensor([-1.0, 1, 1, 1, 1, 1, 1, 1])
    >>> round(sign_change_loss(two, torch.arange(8)[None]).item(), 4)
    2.6265
    """
    pairs = cubes.long()[:, torch.from_numpy(EDGES).to(cubes.device)].reshape(-1, 2)
    inside = sdf < 0
    pairs = pairs[inside[pairs[:, 0]] != inside[pairs[:, 1]]]
    keys = torch.unique(pairs.amin(1) * len(sdf) + pairs.amax(1))
    first, second = sdf[keys // len(sdf)], sdf[keys % len(sdf)]
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    return _mean(
        cross_entropy(first, (second > 0).to(sdf.dtype), reduction="none")
        + cross_entropy(second, (first > 0).to(sdf.dtype), reduction="none")
    )


def weight_magnitude_loss(alpha: Tensor, beta: Tensor) -> Tensor:
    """Mean magnitude of all raw weights ``alpha (N, 8)`` and ``beta (N, 12)``: neutral unless the data asks.

    Source: FlexiCubes' example optimiser (factor 0.1 there; 0.2 in TRELLIS).
    """
    return _mean(torch.cat([alpha, beta], dim=1).abs())
