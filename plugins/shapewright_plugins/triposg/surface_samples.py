"""``transform/surface-samples``: what an encoder sees of a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from shapewright.errors import ConfigError, MeshError
from shapewright.geometry import sample_surface
from shapewright.interfaces import Transform
from shapewright.states import Frame, Mesh, SurfaceSamples

FITS = ("frame", "box")


@dataclass(frozen=True)
class SampleSurfaceConfig:
    """``count``: points (published: 20,480 in training, 204,800 in reconstruction). ``half_size``: half the edge of the
    cube that the encoder expects. ``fit``: what fills it, the longest side of the mesh's bounding ``box``, or that of
    its ``frame``, which for a normalised mesh is the same and keeps several meshes at one scale."""

    count: int = 204800
    half_size: float = 1.0
    fit: str = "box"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"count must be at least 1, not {self.count}")
        if not 0 < self.half_size < float("inf"):
            raise ConfigError(f"half_size must be positive, not {self.half_size}")
        if self.fit not in FITS:
            raise ConfigError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}")


class SampleSurface(Transform[SampleSurfaceConfig]):
    """Points drawn uniformly on the surface, with the normals of their triangles, as TripoSG's encoder was trained."""

    Config = SampleSurfaceConfig

    def apply(self, *, mesh: Mesh, rng: torch.Generator) -> SurfaceSamples:
        """``(count, 3)`` float32 points in the cube ``+-half_size`` and unit normals.

        Raises:
            MeshError: the mesh has no area, or coordinates that are not finite.
        """
        config = self.config
        points, normals = sample_surface(mesh, config.count, rng=rng)
        if config.fit == "frame":
            low, high = (points.new_tensor(corner) for corner in (mesh.frame.lower, mesh.frame.upper))
        else:
            corners = mesh.vertices[mesh.faces].reshape(-1, 3).to(points)
            low, high = corners.amin(dim=0), corners.amax(dim=0)
        size = float((high - low).max())
        if not size > 0:
            raise MeshError("a mesh with an extent is needed to sample its surface")
        centred = (points - (low + high) / 2) * (2 * config.half_size / size)
        edge = config.half_size
        frame = Frame((-edge,) * 3, (edge,) * 3, mesh.frame.up)
        return SurfaceSamples(centred.float(), normals.float(), frame)
