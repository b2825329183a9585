"""Losses of the autoencoder's training.

Source: TripoSG (arXiv 2502.06608) section 3.1: ``L_sdf + 10 L_sn + 0.1 L_eik + 0.001 L_kl``. Means are over points and
batch; for the divergence the paper does not say what is summed, and :func:`autoencoder_loss` takes the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from shapewright.errors import StateError
from shapewright.nn.gaussian import DiagonalGaussian
from torch import Tensor

NORMAL_WEIGHT, EIKONAL_WEIGHT, KL_WEIGHT = 10.0, 0.1, 0.001


def sdf_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """``mean(|d| + d^2)`` of truncated signed distances, near the surface and in the volume."""
    _same("predicted and wanted distances", predicted, wanted)
    difference = predicted - wanted
    return (difference.abs() + difference.square()).mean()


def normal_loss(gradients: Tensor, normals: Tensor) -> Tensor:
    """``mean(1 - cos)`` between gradients of the field and outward normals, both ``(..., 3)``, on the surface."""
    _same("gradients and normals", gradients, normals)
    return (1 - torch.cosine_similarity(gradients, normals, dim=-1)).mean()


def eikonal_loss(gradients: Tensor) -> Tensor:
    """``mean((|g| - 1)^2)`` of gradients ``(..., 3)`` in the units of a distance."""
    size: Tensor = torch.linalg.vector_norm(gradients, dim=-1)
    return (size - 1).square().mean()


def kl_loss(posterior: DiagonalGaussian) -> Tensor:
    """Divergence from the standard normal, the mean over all latent numbers."""
    return posterior.kl()


def kl_per_sample(posterior: DiagonalGaussian) -> Tensor:
    """Divergence summed over the latent of a sample, the mean over samples: the other reading."""
    count = posterior.mean[0].numel()
    return posterior.kl() * count


def field_gradients(function: Callable[[Tensor], Tensor], points: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients ``(..., 3)`` of a field at points, both still differentiable."""
    points = points if points.requires_grad else points.detach().requires_grad_(True)
    with torch.enable_grad():
        values = function(points)
        (gradients,) = torch.autograd.grad(values.sum(), points, create_graph=True)
    return values, gradients


class AutoencoderLoss(NamedTuple):
    """The parts of the loss, and their weighted sum."""

    sdf: Tensor
    normal: Tensor
    eikonal: Tensor
    kl: Tensor
    total: Tensor


def autoencoder_loss(
    predicted: Tensor,
    wanted: Tensor,
    gradients: Tensor,
    normals: Tensor,
    posterior: DiagonalGaussian,
    *,
    normal_weight: float = NORMAL_WEIGHT,
    eikonal_weight: float = EIKONAL_WEIGHT,
    kl_weight: float = KL_WEIGHT,
) -> AutoencoderLoss:
    """All parts; ``gradients`` at surface points with ``normals``."""
    sdf, normal = sdf_loss(predicted, wanted), normal_loss(gradients, normals)
    eikonal, kl = eikonal_loss(gradients), kl_loss(posterior)
    total = sdf + normal_weight * normal + eikonal_weight * eikonal + kl_weight * kl
    return AutoencoderLoss(sdf, normal, eikonal, kl, total)


def _same(what: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise StateError(f"{what} must have one shape, not {tuple(first.shape)} and {tuple(second.shape)}")
