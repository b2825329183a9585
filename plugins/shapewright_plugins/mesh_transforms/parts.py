"""Meshes as arrays, and meshes with other faces that keep what belongs to vertices and corners."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from shapewright.errors import MeshError
from shapewright.materials import Appearance
from shapewright.mesh_cleaning import consistent_winding
from shapewright.states import Mesh
from shapewright_kernels.arrays import Bools, Floats, Ints
from shapewright_kernels.barycentric import barycentrics
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.topology import merge_vertices


def arrays(mesh: Mesh) -> tuple[Floats, Ints]:
    """Vertices float64 and faces int64. Raises MeshError where a face names no vertex or one that is not finite."""
    vertices = mesh.vertices.numpy(force=True).astype(np.float64)
    faces = mesh.faces.numpy(force=True)
    if len(faces) and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise MeshError("the mesh has faces that name vertices it does not have; load it with repair")
    if not np.isfinite(vertices).all():
        raise MeshError("the mesh has vertices that are not finite; load it with repair")
    return vertices, faces


def wound(vertices: Floats, faces: Ints) -> bool:
    """Whether neighbours agree about their sides, vertices at one position counting as one."""
    return len(faces) > 0 and consistent_winding(merge_vertices(vertices)[1][faces])


def with_faces_of(mesh: Mesh, rows: Ints) -> Mesh:
    """Some faces of a mesh, with the vertices that they use."""
    faces = mesh.faces[torch.from_numpy(rows)]
    used = torch.unique(faces)
    renumbered = torch.zeros(len(mesh.vertices), dtype=torch.int64)
    renumbered[used] = torch.arange(len(used))
    return replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=renumbered[faces],
        attributes={name: value[used] for name, value in mesh.attributes.items()},
        appearance=None if mesh.appearance is None else mesh.appearance.select(torch.from_numpy(rows)),
    )


def carried(mesh: Mesh, vertices: Floats, faces: Ints, points: Floats) -> dict[str, torch.Tensor]:
    """Attributes of a mesh (``vertices`` and ``faces`` are its arrays) at the closest points to ``points``."""
    if not mesh.attributes:
        return {}
    _, rows, closest = ClosestPointIndex(vertices, faces).query(points)
    corners = faces[rows]
    weights = torch.from_numpy(barycentrics(closest, vertices[corners]))
    found = {}
    for name, value in mesh.attributes.items():
        found[name] = (value.double()[torch.from_numpy(corners)] * weights[:, :, None]).sum(dim=1).to(value.dtype)
    return found


def turned(mesh: Mesh, flipped: Bools) -> Mesh:
    """The mesh with the faces ``flipped`` ``(F,)`` wound the other way, normals of their corners reversed."""
    mask = torch.from_numpy(flipped)
    order = torch.where(mask[:, None], torch.tensor([0, 2, 1]), torch.tensor([0, 1, 2]))
    faces = mesh.faces.gather(1, order)
    return replace(mesh, faces=faces, appearance=_reordered(mesh.appearance, order, mask))


def _reordered(appearance: Appearance | None, order: torch.Tensor, flipped: torch.Tensor) -> Appearance | None:
    if appearance is None:
        return None

    def corners(value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else value.gather(1, order[:, :, None].expand_as(value))

    normals = corners(appearance.corner_normals)
    return replace(
        appearance,
        uvs=tuple(uv.gather(1, order[:, :, None].expand_as(uv)) for uv in appearance.uvs),
        corner_colors=corners(appearance.corner_colors),
        corner_normals=None if normals is None else torch.where(flipped[:, None, None], -normals, normals),
    )
