"""``extractor/hierarchical-marching-cubes``: a field refined from coarse to fine, then marching cubes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from shapewright.errors import ConfigError, StateError
from shapewright.interfaces import Extractor
from shapewright.states import Frame, FunctionField, Mesh
from shapewright_kernels.marching_cubes import marching_cubes, marching_cubes_sparse
from torch import Tensor

from .lattice_sampling import BATCH, PointCalls, Samples, band_samples
from .published_octree import published_grid

LATTICES = ("nested", "published")
PRECISIONS = {"float32": torch.float32, "float16": torch.float16}
MAX_DEPTH = 12


@dataclass(frozen=True)
class Config:
    """``coarse_depth`` and ``fine_depth``: the coarse lattice, all of which is evaluated, has ``2^coarse_depth`` cells
    an axis, the fine one ``2^fine_depth``. Published: 8 and 9, and 8 and 8 for scribbles."""

    coarse_depth: int = 7
    fine_depth: int = 9
    lattice: str = "nested"
    """``nested``: coarse points are among the fine ones, storage is sparse. ``published``: the grids, the band and the
    scale of the published code, dense in memory (0.5 GiB at depth 9)."""
    precision: str = "float32"
    """Of coordinates and values of the published lattice; ``float16`` is what the published code computes in."""
    band: float | None = None
    """On the nested lattice, values within this of the level are near the surface. ``null``: what the field itself says
    of its values, 8.3 for TripoSG's logits, less what ``margin`` takes from it."""
    margin: float | None = 1.5
    """Where the field's own band counts: values farther from the level than so many times the steepest change between
    neighbouring points of the lattice are not near. 0.87 would do for a field that is nowhere steeper; ``null`` refines
    the whole band, as published."""
    lipschitz: float | None = 1.0
    """For fields that say nothing of their values: they change by at most this times the distance, as distances do.
    ``null`` to follow changes of sign only."""
    band_threshold: float = 1.0
    """On the published lattice, voxels with ``|2 sigmoid(v) - 1|`` below this are refined."""
    level: float = 0.0
    closed: bool = False
    """Close surfaces that reach the border of the box (nested lattice)."""
    batch: int = BATCH
    """Points a call of the field."""

    def __post_init__(self) -> None:
        if not 1 <= self.coarse_depth <= self.fine_depth <= MAX_DEPTH:
            raise ConfigError(
                f"depths must be 1 <= coarse_depth <= fine_depth <= {MAX_DEPTH}, not {self.coarse_depth} and "
                f"{self.fine_depth}"
            )
        for name, known in (("lattice", LATTICES), ("precision", tuple(PRECISIONS))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        for name in ("band", "margin", "lipschitz", "band_threshold"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be positive, not {value}")
        if self.batch < 1:
            raise ConfigError(f"batch must be at least 1 point, not {self.batch}")
        if self.lattice == "published" and (self.level != 0 or self.closed):
            raise ConfigError("level and closed belong to lattice=nested; the published one has level 0 and is open")


class HierarchicalMarchingCubes(Extractor[Config, FunctionField]):
    """Marching cubes on the fine lattice, where only cells near the surface were evaluated.

    Faces look to larger values. The surface is that of the dense fine lattice where ``lipschitz`` holds, and otherwise
    misses parts that no point of the coarse lattice tells apart from their surroundings.

    Source: TripoSG (published code; specification 10.1 and 10.5).
    """

    Config = Config

    def extract(self, state: FunctionField) -> Mesh:
        """The surface in the units of the field's frame; no faces where the field does not change sign."""
        if self.config.lattice == "published":
            return self._published(state)
        found = self.samples(state)
        vertices, faces = marching_cubes_sparse(found.coords, found.values, self.config.level)
        return mesh_in_frame(vertices, faces, found.resolution, state.frame)

    def samples(self, state: FunctionField) -> Samples:
        """The points of the nested lattice that matter, and their values."""
        config = self.config
        calls = PointCalls(state.query, state.frame, config.batch, config.closed, config.level)
        band = config.band if config.band is not None else getattr(state, "saturation", None)
        # A border that is bent outwards is no distance any more.
        lipschitz = config.lipschitz if band is None and not config.closed else None
        coarse, fine = 2**config.coarse_depth, 2**config.fine_depth
        margin = config.margin if config.band is None else None
        return band_samples(calls, coarse, fine, level=config.level, band=band, margin=margin, lipschitz=lipschitz)

    def _published(self, state: FunctionField) -> Mesh:
        config, size = self.config, half_size(state.frame)
        grid = published_grid(
            lambda points: state.query(points.float()),
            size,
            config.coarse_depth,
            config.fine_depth,
            dtype=PRECISIONS[config.precision],
            threshold=config.band_threshold,
            batch=config.batch,
        )
        vertices, faces = marching_cubes(grid.values.float().numpy())
        return mesh_in_frame(vertices, faces, 2**config.fine_depth, state.frame)


def half_size(frame: Frame) -> float:
    """Half the edge of a cube around the origin.

    Raises:
        StateError: the frame is another box.
    """
    size = frame.upper[0]
    if frame.upper != (size,) * 3 or frame.lower != (-size,) * 3:
        raise StateError(f"the published lattice spans a cube around the origin, not {frame.lower} to {frame.upper}")
    return size


def mesh_in_frame(
    vertices: np.ndarray[tuple[int, ...], np.dtype[np.floating]],
    faces: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    cells: int,
    frame: Frame,
) -> Mesh:
    """Vertices in lattice units to the units of a frame that ``cells`` an axis span."""
    found: Tensor = torch.from_numpy(vertices)
    low, extent = found.new_tensor(frame.lower), found.new_tensor(frame.extent)
    return Mesh(found / cells * extent + low, torch.from_numpy(faces), frame)
