"""Quads of a dual grid to triangles: differentiable in the positions and the split weights.

Which diagonal cuts a quad has no gradient and is found by compiled kernels on the CPU, in torch elsewhere.

Corners of a quad are numbered 0 to 3 around it; diagonal 0-2 gives triangles (0, 1, 2), (0, 2, 3), diagonal 1-3 gives
(0, 1, 3), (3, 1, 2). Source: TRELLIS.2, spec section 1.7.
"""

from __future__ import annotations

import torch
from shapewright_kernels.flexible_dual_grid_triangles import cut_quads_by_weight, cut_quads_with_area
from torch import Tensor

DIAGONALS = ("reference", "min-angle")
_CUT_02 = (0, 1, 2, 0, 2, 3)
_CUT_13 = (0, 1, 3, 3, 1, 2)


def cut_by_weight(quads: Tensor, split_weights: Tensor) -> Tensor:
    """Triangles ``(2 Q, 3)``: diagonal 0-2 where the product of its ends' weights ``(V,)`` is the larger one."""
    if _compiled(quads, split_weights):
        return torch.from_numpy(cut_quads_by_weight(quads.numpy(), split_weights.numpy(force=True)))
    weights = split_weights[quads]
    return _cut(quads, weights[:, 0] * weights[:, 2] > weights[:, 1] * weights[:, 3])


def cut_by_shape(quads: Tensor, vertices: Tensor, diagonal: str) -> Tensor:
    """Triangles ``(2 Q, 3)`` without weights.

    ``"reference"`` is the published rule as it runs: always 0-2, but 1-3 where triangle 0-1-2 has no area.
    ``"min-angle"`` is the rule as it is described: the diagonal whose two triangles meet at the smaller angle, 0-2 if
    they are equal.
    """
    if diagonal == "reference" and _compiled(quads, vertices):
        return torch.from_numpy(cut_quads_with_area(quads.numpy(), vertices.numpy(force=True)))
    corners = vertices.detach()[quads]
    if diagonal == "reference":
        normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], dim=1)
        return _cut(quads, (normal != 0).any(dim=1))
    return _cut(quads, _flatness(corners, _CUT_02) >= _flatness(corners, _CUT_13))


def fan_around_middle(quads: Tensor, vertices: Tensor, split_weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Vertices ``(V + Q, 3)`` with one more in each quad, and triangles ``(4 Q, 3)`` around it, for training.

    The new vertex is the mean of the middles of both diagonals, weighted by the products of their ends' weights
    ``(V,)`` (equally, without weights); gradients reach the weights through it.
    """
    p0, p1, p2, p3 = vertices[quads].unbind(1)
    if split_weights is None:
        middles = ((p0 + p2) / 2 + (p1 + p3) / 2) / 2
    else:
        g0, g1, g2, g3 = split_weights[quads].unbind(1)
        w02, w13 = (g0 * g2)[:, None], (g1 * g3)[:, None]
        middles = (w02 * (p0 + p2) / 2 + w13 * (p1 + p3) / 2) / (w02 + w13)
    middle = len(vertices) + torch.arange(len(quads), device=quads.device)
    fans = [torch.stack([quads[:, k], quads[:, (k + 1) % 4], middle], dim=1) for k in range(4)]
    return torch.cat([vertices, middles]), torch.stack(fans, dim=1).reshape(-1, 3)


def _compiled(quads: Tensor, values: Tensor) -> bool:
    """Whether a kernel takes these: numpy has the type, and they are in the processor's memory."""
    known = values.dtype in (torch.float32, torch.float64) and quads.dtype == torch.int64
    return known and quads.device.type == values.device.type == "cpu"


def _cut(quads: Tensor, along_02: Tensor) -> Tensor:
    return torch.where(along_02[:, None], quads[:, _CUT_02], quads[:, _CUT_13]).reshape(-1, 3)


def _flatness(corners: Tensor, cut: tuple[int, ...]) -> Tensor:
    """``|cos|`` between the normals of the two triangles of a cut; 0 where one has no area.

    In float64: on smooth surfaces the two cuts differ by less than float32 resolves.
    """
    triangles = corners[:, cut].double().reshape(-1, 2, 3, 3)
    first, second, third = triangles.unbind(2)
    normals = torch.linalg.cross(second - first, third - first, dim=2)
    lengths = normals.norm(dim=2, keepdim=True)
    normals = torch.where(lengths > 0, normals / lengths, torch.zeros_like(normals))
    return (normals[:, 0] * normals[:, 1]).sum(dim=1).abs()
