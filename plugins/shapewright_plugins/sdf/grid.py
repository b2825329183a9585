"""``representation/sdf-grid``: signed distance at every lattice point."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from shapewright.interfaces import Representation
from shapewright.states import GridField, Mesh
from shapewright_kernels.lattice_distances import LatticeDistances
from shapewright_kernels.narrow_band import narrow_band

from .config import Config
from .field import DistanceField

PLANES = 8
"""Planes of lattice points handled at once."""
POINT_BYTES = 160
"""Memory of one point while its plane is handled: position, query order, distance, face, closest point, winding."""
GRADIENT_BYTES = 160
"""The same for its gradient."""
BAND_BYTES = 56
"""Memory of one point of the narrow band while its layers are joined."""


class GridSdf(Representation[Config, GridField]):
    """Exact distance at all ``(resolution + 1) ** 3`` lattice points, equal to ``representation/sdf`` in its band to
    the last bit (elsewhere exact to rounding, 1e-13 of the box, before it is stored as float32).

    The conventional dense baseline: time and memory follow the cube of the resolution.
    """

    Config: ClassVar[type[Config]] = Config

    def peak_bytes(self) -> int:
        """The result, the planes in work, and a band around a surface of twelve sides of the box."""
        side = self.config.resolution + 1
        stored, working = (16, POINT_BYTES + GRADIENT_BYTES) if self.config.gradients else (4, POINT_BYTES)
        band_points = 12 * side**2 * 2 * (self.config.reach + 1)
        return int(side**3 * stored + min(PLANES, side) * side**2 * working + band_points * BAND_BYTES)

    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator | None = None) -> GridField:
        """A :class:`~shapewright.states.GridField` in the mesh's frame with the configured margin; ``rng`` is unused.

        Raises:
            MeshError: the mesh has no faces or a non-finite one, or is open and the policy is to refuse.
        """
        field = DistanceField(mesh, self.config)
        side = self.config.resolution + 1
        near = narrow_band(field.vertices, field.faces, field.lattice, self.config.reach)
        near_sides = field.sides(near.coords, near.distances)
        exact = LatticeDistances(field.vertices, field.faces, field.lattice)
        values = np.empty((side, side, side), np.float32)
        gradients = np.empty((side, side, side, 3), np.float32) if self.config.gradients else None
        bounds = np.searchsorted(near.coords[:, 0], np.arange(0, side + PLANES, PLANES))
        for piece, x in enumerate(range(0, side, PLANES)):
            planes = min(PLANES, side - x)
            coords = _lattice_coords(x, planes, side)
            band = slice(bounds[piece], bounds[piece + 1])
            rows = _rows(near.coords[band], x, side)
            distances, sides = np.full(len(coords), np.inf), np.empty(len(coords), np.uint8)
            faces = np.empty(len(coords), np.int32)
            # the band is computed as a whole, as the sparse representation does, so that both agree to the last bit
            distances[rows], faces[rows] = near.distances[band], near.faces[band]
            far = np.isinf(distances)
            box = (planes, side, side)
            exact.fill(x, distances.reshape(box), faces.reshape(box))
            sides[rows] = near_sides[band]
            sides[far] = field.sides(coords[far], distances[far])
            values[x : x + planes] = field.values(distances, sides).reshape(planes, side, side)
            if gradients is not None:
                found = field.gradients(coords, distances, faces, sides)
                gradients[x : x + planes] = found.reshape(planes, side, side, 3)
        return GridField(
            torch.from_numpy(values),
            field.frame,
            field.level,
            None if gradients is None else torch.from_numpy(gradients),
        )


def _lattice_coords(x: int, planes: int, side: int) -> NDArray[np.int32]:
    grid = np.indices((planes, side, side), dtype=np.int32).reshape(3, -1).T.copy()
    grid[:, 0] += x
    return grid


def _rows(coords: NDArray[np.int32], x: int, side: int) -> NDArray[np.int64]:
    wide = coords.astype(np.int64)
    return ((wide[:, 0] - x) * side + wide[:, 1]) * side + wide[:, 2]
