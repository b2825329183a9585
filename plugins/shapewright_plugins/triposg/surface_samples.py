"""``transform/surface-samples``: what an encoder sees of a mesh; ``transform/return-to-mesh``: the way back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from shapewright.errors import ConfigError, MeshError
from shapewright.geometry import sample_surface
from shapewright.interfaces import Transform
from shapewright.normalise import Placement, bounding_frame
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
        cube = cube_placement(mesh, config.half_size, config.fit)
        edge = config.half_size
        frame = Frame((-edge,) * 3, (edge,) * 3, mesh.frame.up)
        return SurfaceSamples(cube.to_frame(points).float(), normals.float(), frame)


@dataclass(frozen=True)
class ReturnToMeshConfig:
    """``half_size`` and ``fit`` as those of ``transform/surface-samples``."""

    half_size: float = 1.0
    fit: str = "box"

    def __post_init__(self) -> None:
        SampleSurfaceConfig(1, self.half_size, self.fit)


class ReturnToMesh(Transform[ReturnToMeshConfig]):
    """The inverse of what ``transform/surface-samples`` does to positions, for a mesh that was decoded in its cube."""

    Config = ReturnToMeshConfig

    def apply(self, *, mesh: Mesh, reference: Mesh) -> Mesh:
        """``mesh`` where ``reference`` is, in its frame.

        Raises:
            MeshError: ``reference`` has no extent, or coordinates that are not finite.
        """
        placed = cube_placement(reference, self.config.half_size, self.config.fit).restore(mesh)
        return replace(placed, vertices=placed.vertices.to(mesh.vertices.dtype), frame=reference.frame)


def cube_placement(mesh: Mesh, half_size: float, fit: str) -> Placement:
    """Where the cube ``+-half_size`` of an encoder lies around ``mesh``."""
    box = mesh.frame if fit == "frame" else bounding_frame(mesh)
    size = max(box.extent)
    if not size > 0:
        raise MeshError("a mesh with an extent is needed to sample its surface")
    x, y, z = ((low + high) / 2 for low, high in zip(box.lower, box.upper, strict=True))
    return Placement((x, y, z), size / (2 * half_size))
