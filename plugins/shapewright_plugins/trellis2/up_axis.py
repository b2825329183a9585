"""``transform/up-axis``: turn a mesh so that another axis is up; lengths and winding stay."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from shapewright.errors import ConfigError
from shapewright.interfaces import Transform
from shapewright.states import Frame, Mesh
from torch import Tensor


@dataclass(frozen=True)
class UpAxisConfig:
    """``up``: ``y`` (glTF files and viewers) or ``z`` (inside TRELLIS.2)."""

    up: str = "y"

    def __post_init__(self) -> None:
        if self.up not in ("y", "z"):
            raise ConfigError(f"up must be y or z, not {self.up!r}")


class UpAxis(Transform[UpAxisConfig]):
    """Quarter turn about x: ``(x, y, z)`` to ``(x, z, -y)`` from z up to y up, and back; nothing where it is so
    already."""

    Config = UpAxisConfig

    def apply(self, *, mesh: Mesh) -> Mesh:
        """The mesh and its frame, turned."""
        up = self.config.up
        if mesh.frame.up == up:
            return mesh
        ends = turned(torch.tensor([mesh.frame.lower, mesh.frame.upper], dtype=torch.float64), up)
        low, high = ends.amin(0).tolist(), ends.amax(0).tolist()
        frame = Frame((low[0], low[1], low[2]), (high[0], high[1], high[2]), up)
        attributes = {
            name: turned(value, up) if name in ("normal", "normals") else value
            for name, value in mesh.attributes.items()
        }
        look = mesh.appearance
        if look is not None and look.corner_normals is not None:
            look = replace(look, corner_normals=turned(look.corner_normals, up))
        return replace(mesh, vertices=turned(mesh.vertices, up), frame=frame, attributes=attributes, appearance=look)


def turned(vectors: Tensor, up: str) -> Tensor:
    """``(..., 3)`` so that ``up`` is up; the other of y and z was."""
    x, y, z = vectors.unbind(-1)
    return torch.stack([x, z, -y] if up == "y" else [x, -z, y], dim=-1)
