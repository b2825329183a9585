"""``representation/o-voxel``: any triangle mesh to a flexible dual grid, without repair and without a sign."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.errors import ConfigError, MeshError
from shapewright.interfaces import Representation
from shapewright.states import Frame, Mesh
from shapewright_kernels.flexible_dual_grid import MAXIMUM_GRID, mesh_to_flexible_dual_grid

from .appearance import has_appearance, sample_attributes
from .state import FlexibleDualGrid

VOXELS_PER_CELL = 6
"""Active voxels of a rather folded surface, in units of the cells of one side of the grid."""
OBLIQUE = (0.37, 0.61, 0.93)
"""Direction of the nudge: no two components alike, so that no plane of symmetry meets lattice points along it."""
BYTES_PER_VOXEL = 80
"""Peak memory of the conversion with its result."""


@dataclass(frozen=True)
class Config:
    """Options of ``representation/o-voxel``; the weights are the published ones.

    Raises:
        ConfigError: an option is out of range.
    """

    resolution: int = 128
    """Voxels an axis."""
    face_weight: float = 1.0
    """Positive: every triangle that overlaps a voxel pulls its vertex (whatever the value); 0: only crossings do."""
    boundary_weight: float = 0.2
    """Pull of open edges, which keeps borders sharp."""
    regularization_weight: float = 0.01
    """Pull of each crossing towards itself; decides along flat directions."""
    scale: float = 0.99999
    """Share of the grid that the mesh's frame takes up; published value, so that nothing lies on the outer planes."""

    nudge: float = 0.0
    """Cells by which the grid is moved against the mesh, along an oblique direction. The published rule (0) is
    ambiguous for surfaces that run exactly through lattice points, as symmetric shapes do, and leaves slits there; a
    hundredth of a cell avoids that and moves nothing else."""
    materials: bool = True
    """Sample base colour, metallic, roughness and alpha where the mesh has materials or colours."""

    def __post_init__(self) -> None:
        if not 0 <= self.nudge <= 0.5:
            raise ConfigError(f"nudge must lie between 0 and 0.5 cells, not {self.nudge}; published: 0")
        if not 2 <= self.resolution <= MAXIMUM_GRID:
            raise ConfigError(f"resolution must lie between 2 and {MAXIMUM_GRID}, not {self.resolution}")
        for name in ("face_weight", "boundary_weight", "regularization_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be finite and not negative, not {getattr(self, name)}")
        if not 0 < self.scale <= 1:
            raise ConfigError(f"scale must lie above 0 and at most at 1, not {self.scale}; published: 0.99999")


class OVoxel(Representation[Config, FlexibleDualGrid]):
    """Published conversion of TRELLIS.2: open, nested, crossing and non-manifold surfaces as they are.

    The state's frame is the mesh's frame divided by ``scale``, so that a mesh normalised into ±0.5 meets the grid as in
    the published pipeline. Deterministic; the number of threads has no influence.
    """

    Config: ClassVar[type[Config]] = Config

    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator | None = None) -> FlexibleDualGrid:
        """The dual grid of ``mesh``, with attributes if it has an appearance or colours; ``rng`` is unused.

        Raises:
            MeshError: the mesh has no faces, a non-finite one, or leaves its frame.
        """
        config = self.config
        frame = self._grid_frame(mesh.frame)
        vertices, faces = mesh.vertices.numpy(force=True), mesh.faces.numpy(force=True)
        if len(faces) == 0:
            raise MeshError("the mesh has no faces, so there is nothing to convert")
        _check_inside(vertices, frame)
        try:
            grid = mesh_to_flexible_dual_grid(
                vertices,
                faces,
                grid_size=config.resolution,
                aabb=[frame.lower, frame.upper],
                face_weight=config.face_weight,
                boundary_weight=config.boundary_weight,
                regularization_weight=config.regularization_weight,
            )
        except ValueError as error:
            raise MeshError(f"the mesh cannot be converted: {error}") from error
        coords = np.zeros((len(grid.coords), 4), np.int32)
        coords[:, 1:] = grid.coords
        return FlexibleDualGrid(
            torch.from_numpy(coords),
            torch.from_numpy(grid.dual_vertices),
            torch.from_numpy(grid.intersected),
            resolution=config.resolution,
            frame=frame,
            attributes=sample_attributes(mesh, config.resolution, frame) if self._samples(mesh) else {},
        )

    def _samples(self, mesh: Mesh) -> bool:
        return self.config.materials and has_appearance(mesh)

    def _grid_frame(self, frame: Frame) -> Frame:
        """Where the grid lies: ``frame`` over ``scale``, and by the nudge larger and moved."""
        config = self.config
        grid = frame.grown(1 / config.scale)
        if not config.nudge:
            return grid
        grid = grid.with_margin(config.resolution, config.nudge)
        steps = [n * config.nudge * e / config.resolution for n, e in zip(OBLIQUE, grid.extent, strict=True)]
        lower = [low + step for low, step in zip(grid.lower, steps, strict=True)]
        upper = [high + step for high, step in zip(grid.upper, steps, strict=True)]
        return replace(grid, lower=(lower[0], lower[1], lower[2]), upper=(upper[0], upper[1], upper[2]))

    def peak_bytes(self) -> int:
        """Follows the surface: ``VOXELS_PER_CELL * resolution^2`` voxels."""
        return VOXELS_PER_CELL * BYTES_PER_VOXEL * self.config.resolution**2


def _check_inside(vertices: NDArray[np.floating[Any]], frame: Frame) -> None:
    """What lies outside the grid would be cut off silently; a millionth is forgiven to rounding."""
    lower, upper = np.asarray(frame.lower), np.asarray(frame.upper)
    slack = 1e-6 * (upper - lower)
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    if np.any(low < lower - slack) or np.any(high > upper + slack):
        bounds = f"{np.round(low, 4).tolist()} to {np.round(high, 4).tolist()}"
        raise MeshError(
            f"the mesh spans {bounds} and leaves its frame {frame.lower} to {frame.upper}; normalise it first"
        )
