"""Geometry that a plugin's first version needs, in plain torch: the points of a lattice, random surface points."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .errors import MeshError, StateError
from .states import Frame, Mesh


def lattice(frame: Frame, resolution: int, *, like: Tensor | None = None) -> Iterator[Tensor]:
    """Positions of the lattice points of a :class:`~shapewright.states.GridField`, one slab of constant x at a time.

    Args:
        frame: the box; its faces carry lattice points.
        resolution: cells an axis, so ``R + 1`` points an axis.
        like: dtype and device of the result are this tensor's; float32 on the CPU when ``None``.
    Returns:
        An iterator of ``R + 1`` tensors ``(R + 1, R + 1, 3)``, in units of the frame.
    Raises:
        StateError: ``resolution`` is below 1.

    >>> slabs = list(lattice(Frame(), 2))
    >>> len(slabs), slabs[2][0, 1].tolist()
    (3, [0.5, -0.5, 0.0])
    """
    if resolution < 1:
        raise StateError(f"a lattice needs at least 1 cell an axis, not {resolution}")
    like = torch.empty(0) if like is None else like
    x, y, z = (
        torch.linspace(low, high, resolution + 1, dtype=like.dtype, device=like.device)
        for low, high in zip(frame.lower, frame.upper, strict=True)
    )
    plane = torch.stack(torch.meshgrid(y, z, indexing="ij"), dim=-1)
    return (torch.cat([at.expand(*plane.shape[:2], 1), plane], dim=-1) for at in x)


def sample_surface(mesh: Mesh, count: int, *, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Points spread evenly over the area of a mesh, with the unit normals of their faces.

    Args:
        mesh: any triangle mesh with some area.
        count: number of points.
        rng: a CPU generator, the only source of randomness.
    Returns:
        ``(count, 3)`` points and ``(count, 3)`` normals, dtype and device of the vertices. Points are differentiable in
        the vertices.
    Raises:
        MeshError: no face has an area, or a vertex is not finite.

    >>> square = Mesh(torch.tensor([[0., 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    >>> points, normals = sample_surface(square, 100, rng=torch.Generator().manual_seed(0))
    >>> points.shape, normals[0].tolist()
    (torch.Size([100, 3]), [0.0, 0.0, 1.0])
    """
    a, b, c = mesh.corners.unbind(dim=1)
    doubled = torch.linalg.cross(b - a, c - a)
    areas = doubled.detach().double().norm(dim=1).cpu()
    total = areas.cumsum(0)
    if not len(total) or not (torch.isfinite(total[-1]) and total[-1] > 0):
        raise MeshError("a surface with finite coordinates and an area is needed to sample points on")
    draws = torch.rand(count, 3, generator=rng, dtype=torch.float64)
    face = torch.searchsorted(total, draws[:, 0] * total[-1], right=True)
    face = face.clamp(max=int(areas.nonzero()[-1])).to(doubled.device)  # a draw of nearly 1 stays on a face with area
    u, v = draws[:, 1:].to(doubled).unbind(dim=1)
    u, v = torch.where(u + v > 1, 1 - u, u)[:, None], torch.where(u + v > 1, 1 - v, v)[:, None]
    points = a[face] + u * (b - a)[face] + v * (c - a)[face]
    return points, torch.nn.functional.normalize(doubled[face], dim=1)
