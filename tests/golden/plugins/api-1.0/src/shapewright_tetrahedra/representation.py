"""``representation/tetrahedral``."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from shapewright import ConfigError, Mesh, Representation, SparseField, SparseTensor

from .state import TetrahedralField


@dataclass(frozen=True)
class Config:
    """``resolution`` cells an axis; ``distance`` is a representation that measures, making ``sdf.sparse``."""

    resolution: int = 64
    distance: Any = field(default_factory=lambda: {"use": "representation/sdf"})


class Tetrahedral(Representation[Config, TetrahedralField]):
    """Distances at the corners and centres of cells: the even and the all-odd points of a lattice of half cells."""

    Config: ClassVar[type[Config]] = Config

    def from_mesh(self, mesh: Mesh, *, rng: torch.Generator) -> TetrahedralField:
        """Every tetrahedron that the surface crosses is complete: its corners lie within two half cells of it."""
        halves = 2 * self.config.resolution
        measure = self.config.distance(resolution=halves, margin=3.25, band=3.0, gradients=False)
        sdf = measure.from_mesh(mesh, rng=rng)
        if not isinstance(sdf, SparseField) or sdf.level > 0.95 * min(sdf.spacing):
            raise ConfigError("distance must make sdf.sparse with its surface at most 0.95 half cells from the mesh")
        parity = sdf.values.coords[:, 1:] & 1
        kept = (parity == parity[:, :1]).all(dim=1)
        values = SparseTensor(sdf.values.coords[kept], sdf.values.feats[kept] - sdf.level, halves)
        return TetrahedralField(values, sdf.frame)
