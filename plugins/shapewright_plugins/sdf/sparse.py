"""``representation/sdf``: signed distance in a narrow band around the surface."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from shapewright.interfaces import Representation
from shapewright.states import Mesh, SparseField, SparseTensor
from shapewright_kernels.narrow_band import narrow_band

from .config import Config
from .field import DistanceField


class SparseSdf(Representation[Config, SparseField]):
    """Exact distance (float64, stored as float32) at the lattice points within ``band`` cells of the mesh.

    Solids have union semantics: inner walls of overlapping or nested parts get no surface, though they keep the
    distance small around them. Time and memory follow the area of the surface.
    """

    Config: ClassVar[type[Config]] = Config

    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator | None = None) -> SparseField:
        """A :class:`~shapewright.states.SparseField` in the mesh's frame with the configured margin; ``rng`` is unused.

        Raises:
            MeshError: the mesh has no faces or a non-finite one, or is open and the policy is to refuse.
        """
        field = DistanceField(mesh, self.config)
        near = narrow_band(field.vertices, field.faces, field.lattice, self.config.reach)
        sides = field.sides(near.coords, near.distances)
        values = field.values(near.distances, sides)
        gradients = None
        if self.config.gradients:
            gradients = torch.from_numpy(field.gradients(near.coords, near.distances, near.faces, sides))
        coords = np.zeros((len(near.coords), 4), np.int32)
        coords[:, 1:] = near.coords
        sparse = SparseTensor(torch.from_numpy(coords), torch.from_numpy(values[:, None]), self.config.resolution)
        return SparseField(
            sparse, outside=self.config.reach * field.cell, frame=field.frame, level=field.level, gradients=gradients
        )
