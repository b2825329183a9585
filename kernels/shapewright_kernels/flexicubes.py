"""FlexiCubes: dual surface of a signed field on voxels, with learnable weights, differentiable in all of its inputs.

Connectivity comes from :mod:`.flexicubes_topology`. Positions of vertices are computed and differentiated by compiled
passes (:mod:`.flexicubes_vertices`) on the CPU, and by torch expressions on other devices and where deviations or
attributes are asked for. Source: Shen et al. 2023, "Flexible Isosurface Extraction for Gradient-Based Mesh
Optimization", equations 3 to 9; vertex and face order as published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .flexicubes_tables import EDGES
from .flexicubes_topology import Topology, topology
from .flexicubes_vertices import dual_vertices, split_faces

WEIGHT_SCALE = 0.99
"""Published range of the weights: 1 +- this."""


@dataclass(frozen=True)
class DualMesh:
    """Result of :func:`flexicubes`. ``D`` dual vertices come first in ``vertices``; training adds one centre a quad."""

    vertices: Tensor
    """``(V, 3)``, dtype of the positions."""
    faces: Tensor
    """``(F, 3)`` int64; normals point to positive values."""
    l_dev: Tensor
    """``(E,)`` deviation of every (dual vertex, edge) incidence, equation 8; empty unless asked for."""
    attributes: Tensor | None
    """``(V, A)`` when corner attributes were given."""
    topology: Topology


def _ordered_rows(sizes: Tensor, values: Tensor) -> Tensor:
    """Sums of consecutive rows: ``sizes (D,)`` rows each. Accumulates in order, so it is deterministic."""
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    return torch.segment_reduce(values, "sum", offsets=offsets, axis=0, unsafe=True)


def _weights(raw: Tensor | None, scale: float) -> Tensor | None:
    return None if raw is None else 1 + scale * torch.tanh(raw)


def _check(
    positions: Tensor, sdf: Tensor, cubes: Tensor, voxel_coords: Tensor, resolution: int | tuple[int, int, int],
    weights: dict[str, tuple[Tensor | None, tuple[int, ...]]],
) -> None:  # fmt: skip
    def require(ok: bool, what: str) -> None:
        if not ok:
            raise ValueError(what)

    require(positions.ndim == 2 and positions.shape[1] == 3, f"positions must be (C, 3), not {tuple(positions.shape)}")
    require(sdf.shape == positions.shape[:1], f"sdf must be ({len(positions)},), not {tuple(sdf.shape)}")
    require(cubes.ndim == 2 and cubes.shape[1] == 8, f"cubes must be (N, 8), not {tuple(cubes.shape)}")
    count = len(cubes)
    require(voxel_coords.shape == (count, 3), f"voxel_coords must be ({count}, 3), not {tuple(voxel_coords.shape)}")
    for name, (value, shape) in weights.items():
        require(
            value is None or value.shape == shape,
            f"{name} must be {shape}, not {value is not None and tuple(value.shape)}",
        )
    if count:
        least, most = (int(bound) for bound in torch.aminmax(cubes))
        require(
            least >= 0 and most < len(positions),
            f"cubes refer to corners {least}..{most}, but there are {len(positions)}",
        )
        limit = voxel_coords.new_tensor(resolution)
        require(
            bool(((voxel_coords >= 0) & (voxel_coords < limit)).all()),
            f"voxel coordinates must lie in [0, resolution), resolution {resolution}",
        )


def flexicubes(
    positions: Tensor,
    sdf: Tensor,
    cubes: Tensor,
    voxel_coords: Tensor,
    resolution: int | tuple[int, int, int],
    alpha: Tensor | None = None,
    beta: Tensor | None = None,
    gamma: Tensor | None = None,
    *,
    training: bool = False,
    weight_scale: float = WEIGHT_SCALE,
    attributes: Tensor | None = None,
    deviation: bool = True,
    threads: int | None = None,
) -> DualMesh:
    """Extract the zero set of ``sdf`` as triangles.

    Args:
        positions: ``(C, 3)`` float corner positions, already deformed, any unit.
        sdf: ``(C,)`` float, negative inside; exactly 0 counts as outside.
        cubes: ``(N, 8)`` int32 or int64 corner ids of each voxel, corner ``c`` at offset
            ``(c & 1, c >> 1 & 1, c >> 2)``.
        voxel_coords: ``(N, 3)`` integer, each voxel once, in any order; faces come out as if they were lexicographic.
        resolution: voxels an axis, one number or three.
        alpha, beta, gamma: raw weights ``(N, 8)``, ``(N, 12)``, ``(N,)`` before tanh and sigmoid; ``None`` means
            neutral.
        training: split each quad into four triangles around a centre, which lets gradients reach ``gamma``; otherwise
            into two along the diagonal that ``gamma`` prefers.
        weight_scale: range of the weights.
        attributes: ``(C, A)`` float corner attributes, interpolated like positions.
        deviation: compute ``l_dev``; leave out for plain extraction.
        threads: worker threads of the connectivity; the result is the same for every number.
    Returns:
        :class:`DualMesh`; empty where no voxel holds surface. An edge of the grid makes faces only if all four voxels
        around it are given, so missing voxels open the surface. Differentiable in positions, sdf, weights, attributes.
    Raises:
        ValueError: shapes or ids do not fit, or a voxel occurs twice.
    Source: Shen et al. 2023. The quad split in training uses a centre weighted by gamma (published code).

    >>> grid = torch.cartesian_prod(*[torch.arange(3.0)] * 3)
    >>> cell = torch.cartesian_prod(*[torch.arange(2)] * 3)
    >>> offsets = torch.tensor([[c & 1, c >> 1 & 1, c >> 2] for c in range(8)])
    >>> ids = ((cell[:, None] + offsets) * torch.tensor([9, 3, 1])).sum(2)
    >>> mesh = flexicubes(grid, (grid - 1).norm(dim=1) - 0.5, ids, cell, 2)
    >>> mesh.vertices.shape, mesh.faces.shape
    (torch.Size([8, 3]), torch.Size([12, 3]))
    """
    count = len(cubes)
    _check(
        positions, sdf, cubes, voxel_coords, resolution,
        {"alpha": (alpha, (count, 8)), "beta": (beta, (count, 12)), "gamma": (gamma, (count,))},
    )  # fmt: skip
    values = sdf.detach().cpu()
    ids = cubes.numpy(force=True)
    found = topology(
        ids if ids.dtype in (np.int32, np.int64) else ids.astype(np.int64),
        voxel_coords.numpy(force=True).astype(np.int32, copy=False),
        (values < 0).numpy(),
        (values > 0).numpy(),
        threads=threads,
    )
    return dual_geometry(
        found, positions, sdf, alpha, beta, gamma,
        training=training, weight_scale=weight_scale, attributes=attributes, deviation=deviation, threads=threads,
    )  # fmt: skip


def dual_geometry(
    found: Topology,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None = None,
    beta: Tensor | None = None,
    gamma: Tensor | None = None,
    *,
    training: bool = False,
    weight_scale: float = WEIGHT_SCALE,
    attributes: Tensor | None = None,
    deviation: bool = True,
    threads: int | None = None,
) -> DualMesh:
    """Positions of the dual vertices of a known topology; arguments and result as in :func:`flexicubes`."""
    device = positions.device
    inputs = [tensor for tensor in (positions, sdf, alpha, beta) if tensor is not None]
    plain = positions.dtype in (torch.float32, torch.float64) and all(t.dtype == positions.dtype for t in inputs)
    if device.type != "cpu" or not plain or attributes is not None or deviation:
        vertices, l_dev = _torch_vertices(
            found, positions, sdf, alpha, beta, weight_scale, attributes=attributes, deviation=deviation
        )
    else:
        vertices = dual_vertices(found, positions, sdf, alpha, beta, weight_scale, threads)
        l_dev = positions.new_zeros(0)
    if training or device.type != "cpu" or not plain:
        row = torch.from_numpy(found.voxels[found.dual_voxel]).to(device)
        vertices, faces = _split(torch.from_numpy(found.quads).to(device), vertices, gamma, row, training, weight_scale)
    else:
        faces = split_faces(found, None if gamma is None else _squashed(gamma.detach(), weight_scale), threads)
    return DualMesh(vertices[:, :3], faces, l_dev, None if attributes is None else vertices[:, 3:], found)


def _torch_vertices(
    found: Topology,
    positions: Tensor,
    sdf: Tensor,
    alpha: Tensor | None,
    beta: Tensor | None,
    scale: float,
    *,
    attributes: Tensor | None = None,
    deviation: bool = False,
) -> tuple[Tensor, Tensor]:
    """Dual vertices (with attributes behind) and their deviations in torch expressions: any device, any derivative."""
    device = positions.device

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(device)

    channels = positions if attributes is None else torch.cat([positions, attributes.to(positions.dtype)], dim=1)
    starts = tensor(found.dual_start)
    sizes = starts[1:] - starts[:-1]
    dual = torch.repeat_interleave(torch.arange(len(sizes), device=device), sizes, output_size=len(found.edge))
    row = tensor(found.voxels)[tensor(found.dual_voxel)][dual]
    near, far = tensor(found.ends).unbind(1)
    edge = tensor(found.edge).long()
    local = torch.from_numpy(EDGES).to(device)[edge]

    x_near, x_far = channels[near], channels[far]
    s_near, s_far = sdf[near], sdf[far]
    weight = _weights(alpha, scale)
    if weight is None:
        q_near, q_far = s_near, s_far
    else:
        q_near, q_far = s_near * weight[row, local[:, 0]], s_far * weight[row, local[:, 1]]
    crossing = (x_near * q_far[:, None] - x_far * q_near[:, None]) / (q_far - q_near)[:, None]
    weight = _weights(beta, scale)
    if weight is None:
        vertices = _ordered_rows(sizes, crossing) / sizes.to(crossing.dtype)[:, None]
    else:
        share = weight[row, edge][:, None]
        vertices = _ordered_rows(sizes, crossing * share) / _ordered_rows(sizes, share)
    if not deviation or len(edge) == 0:
        return vertices, positions.new_zeros(0)
    plain = crossing
    if alpha is not None:
        plain = (x_near * s_far[:, None] - x_far * s_near[:, None]) / (s_far - s_near)[:, None]
    distance = (plain[:, :3] - vertices[dual, :3]).norm(dim=1)
    mean = _ordered_rows(sizes, distance) / sizes.to(distance.dtype)
    return vertices, (distance - mean[dual]).abs()


def _squashed(gamma: Tensor, scale: float) -> Tensor:
    gamma = gamma.contiguous()  # a column of a wide array is slow to read value by value
    return scale * torch.sigmoid(gamma) + (1 - scale) / 2


def _split(
    quads: Tensor, vertices: Tensor, gamma: Tensor | None, row: Tensor, training: bool, scale: float
) -> tuple[Tensor, Tensor]:
    """Quads to triangles. ``gamma`` of a dual vertex is that of its voxel, squashed to (0, 1)."""
    if gamma is None:
        first = second = vertices.new_ones(len(quads))
    else:
        # Squash only the values in use, and gather once.
        weight = _squashed(gamma[row], scale)[quads]
        first, second = weight[:, 0] * weight[:, 2], weight[:, 1] * weight[:, 3]
    if not training:
        along = quads[:, [0, 1, 2, 0, 2, 3]]
        across = quads[:, [0, 1, 3, 3, 1, 2]]
        return vertices, torch.where((first > second)[:, None], along, across).reshape(-1, 3)
    corner = vertices[quads]
    along_mid, across_mid = (corner[:, 0] + corner[:, 2]) / 2, (corner[:, 1] + corner[:, 3]) / 2
    centre = (first[:, None] * along_mid + second[:, None] * across_mid) / (first + second + 1e-8)[:, None]
    middle = len(vertices) + torch.arange(len(quads), device=quads.device)[:, None].expand(-1, 4)
    faces = torch.stack([quads, quads.roll(-1, dims=1), middle], dim=2).reshape(-1, 3)
    return torch.cat([vertices, centre]), faces
