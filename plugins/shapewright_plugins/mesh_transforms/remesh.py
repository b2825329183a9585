"""``transform/remesh``: a closed two-manifold around any mesh."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from shapewright.errors import ConfigError, MeshError
from shapewright.interfaces import Transform
from shapewright.states import Mesh
from shapewright_kernels.shell_remeshing import FILLED, SMALLEST_BAND, Filled, remesh_shell

from .parts import arrays, carried


@dataclass(frozen=True)
class Config:
    """``resolution``: cells along the longest side. ``band``: distance in cells at which the new surface runs around
    the mesh, and ``project_back`` the share of the way back to it that its vertices go then.

    ``filled``: what needs no inner wall. ``winding``: enclosed spaces that the mesh winds around, so solids get one
    skin and cavities keep theirs; ``enclosed``: all spaces without a way out, so what nobody sees is gone; ``none``:
    every surface gets a wall on both of its sides, as published. Open sheets have two walls in any case."""

    resolution: int = 256
    band: float = 1.0
    project_back: float = 0.9
    filled: str = "winding"

    def __post_init__(self) -> None:
        if not 8 <= self.resolution <= 2048:
            raise ConfigError(f"resolution lies between 8 and 2048, not {self.resolution}")
        if not SMALLEST_BAND <= self.band <= 16:
            raise ConfigError(f"band lies between {SMALLEST_BAND} and 16 cells, not {self.band}")
        if not 0 <= self.project_back <= 1:
            raise ConfigError(f"project_back lies between 0 and 1, not {self.project_back}")
        if self.filled not in FILLED:
            raise ConfigError(f"filled is one of {', '.join(FILLED)}, not {self.filled!r}")


class Remesh(Transform[Config]):
    """Dual contouring of the distance to the mesh, which may be open, cut itself and be wound in any way.

    Closed and wound outward. Attributes of vertices are taken over from the closest point; materials are not, bake them
    anew with ``transform/bake-pbr``, with the mesh as it was as ``source`` (or as ``surface`` of the voxels).
    """

    Config = Config

    def apply(self, *, mesh: Mesh) -> Mesh:
        """Raises MeshError where the mesh has no extent."""
        vertices, faces = arrays(mesh)
        filled: Filled = self.config.filled  # type: ignore[assignment]
        try:
            points, triangles = remesh_shell(
                vertices,
                faces,
                resolution=self.config.resolution,
                band=self.config.band,
                project_back=self.config.project_back,
                filled=filled,
            )
        except ValueError as error:
            raise MeshError(f"{error}; there is nothing to remesh") from None
        return replace(
            mesh,
            vertices=torch.from_numpy(points).to(mesh.vertices.dtype),
            faces=torch.from_numpy(triangles),
            attributes=carried(mesh, vertices, faces, points),
            oriented=True,
            appearance=None,
        )
