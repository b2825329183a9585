"""``transform/fill-holes``: boundary loops become fans."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from shapewright.errors import ConfigError
from shapewright.interfaces import Transform
from shapewright.materials import Appearance
from shapewright.states import Mesh
from shapewright_kernels import hole_filling
from torch import Tensor

from .parts import arrays, wound


@dataclass(frozen=True)
class Config:
    """``max_perimeter``: longest loop that is filled, in units of the mesh (published for a unit box: 0.03); 0 for no
    limit."""

    max_perimeter: float = 0.03

    def __post_init__(self) -> None:
        if not self.max_perimeter >= 0:
            raise ConfigError(f"max_perimeter must be 0 (no limit) or positive, not {self.max_perimeter}")


class FillHoles(Transform[Config]):
    """Fills each simple loop of the boundary that is short enough with a fan around one new vertex.

    New faces have the material of the face at their edge, and mix what belongs to its corners.
    """

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """The mesh itself where nothing is to be filled; what was there keeps its place in front of what is new."""
        vertices, faces = arrays(mesh)
        filled = hole_filling.fill_holes(vertices, faces, max_perimeter=self.config.max_perimeter or float("inf"))
        if not len(filled.corners):
            return mesh
        loops, edges = torch.from_numpy(filled.loops), torch.from_numpy(filled.corners)
        tails = mesh.faces.reshape(-1)[edges]
        new = torch.from_numpy(filled.vertices[len(vertices) :]).to(mesh.vertices.dtype)
        return replace(
            mesh,
            vertices=torch.cat([mesh.vertices, new]),
            faces=torch.from_numpy(filled.faces),
            attributes={
                name: torch.cat([value, _mean(value[tails], loops, len(new))])
                for name, value in mesh.attributes.items()
            },
            oriented=mesh.oriented and wound(filled.vertices, filled.faces),
            appearance=None if mesh.appearance is None else _extended(mesh.appearance, edges),
        )


def _mean(values: Tensor, groups: Tensor, count: int) -> Tensor:
    total = values.new_zeros((count, *values.shape[1:]), dtype=torch.float64)
    total.index_add_(0, groups, values.double())
    return (total / torch.bincount(groups, minlength=count)[:, None]).to(values.dtype)


def _extended(appearance: Appearance, edges: Tensor) -> Appearance:
    """With a row for each new face: the head and the tail of its edge, and the middle between them."""
    owners, k = edges // 3, edges % 3

    def corners(value: Tensor) -> Tensor:
        own = value[owners]
        pick = torch.arange(len(owners))
        head, tail = own[pick, (k + 1) % 3], own[pick, k]
        return torch.cat([value, torch.stack([head, tail, (head + tail) / 2], dim=1)])

    rows = appearance.face_materials
    colors = appearance.corner_colors
    normals = appearance.corner_normals
    return replace(
        appearance,
        face_materials=None if rows is None else torch.cat([rows, rows[owners]]),
        uvs=tuple(corners(uv) for uv in appearance.uvs),
        corner_colors=None if colors is None else corners(colors),
        corner_normals=None if normals is None else corners(normals),
    )
