"""``extractor/flash-dual``: few levels from a small lattice, then one vertex a patch of surface in a cell."""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.errors import ConfigError
from shapewright.interfaces import Extractor
from shapewright.states import FunctionField, Mesh
from shapewright_kernels.dual_contouring import Placement, dual_contouring_sparse
from shapewright_kernels.marching_cubes import marching_cubes_sparse

from .flash_octree import NEAR, flash_samples, resolutions
from .hierarchical import mesh_in_frame
from .lattice_sampling import BATCH, PointCalls, Samples

SURFACES = ("dual", "marching-cubes")
SCALES = ("corrected", "published")
MASS_POINT = Placement(regularisation=1e6)
"""No plane moves a vertex off the mean of the crossings around it: dual marching cubes."""


@dataclass(frozen=True)
class Config:
    """``depth``, ``min_resolution``, ``mini_grid_num``: the published choice of levels, 63, 126, 252 and 504 cells."""

    depth: int = 9
    min_resolution: int = 63
    mini_grid_num: int = 4
    near: float | None = None
    """Values within this of the level are near the surface. ``null``: 0.95, as published, where the field says that its
    values are no distances, and a cell's edge where they are."""
    surface: str = "dual"
    """``dual``: a vertex at the mean of the crossings of each patch. ``marching-cubes``: on the same samples."""
    scale: str = "corrected"
    """``published`` divides by ``2^depth`` instead of the number of cells, which shrinks the mesh to 98.4 % and shifts
    it."""
    level: float = 0.0
    closed: bool = False
    """Close surfaces that reach the border of the box."""
    batch: int = BATCH

    def __post_init__(self) -> None:
        resolutions(self.depth, self.min_resolution, self.mini_grid_num)
        for name, known in (("surface", SURFACES), ("scale", SCALES)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.near is not None and not 0 <= self.near < float("inf"):
            raise ConfigError(f"near must be 0 or more, not {self.near}")
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1 point, not {self.batch}")


class FlashDual(Extractor[Config, FunctionField]):
    """Four levels of points near the surface, and a dual surface with about as many triangles as marching cubes, of
    better shape. Cells with a corner that was not evaluated hold no surface.

    Source: Nielson 2004 (dual marching cubes); TripoSG (published code; specification 10.2 and 10.4).
    """

    Config = Config

    def extract(self, state: FunctionField) -> Mesh:
        """The surface in the units of the field's frame, faces to larger values."""
        config, found = self.config, self.samples(state)
        if config.surface == "dual":
            vertices, faces = dual_contouring_sparse(found.coords, found.values, config.level, placement=MASS_POINT)
        else:
            vertices, faces = marching_cubes_sparse(found.coords, found.values, config.level)
        cells = found.resolution if config.scale == "corrected" else 2**config.depth
        return mesh_in_frame(vertices, faces, cells, state.frame)

    def samples(self, state: FunctionField) -> Samples:
        """The points of the last level and their values."""
        config = self.config
        calls = PointCalls(state.query, state.frame, config.batch, config.closed, config.level)
        cells = resolutions(config.depth, config.min_resolution, config.mini_grid_num).cells
        size = max(state.frame.extent)
        distances = getattr(state, "saturation", None) is None
        near = config.near if config.near is not None else (lambda count: size / count) if distances else NEAR
        return flash_samples(calls, cells, near=near, level=config.level)[0]
