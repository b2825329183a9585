"""``extractor/marching-tetrahedra``."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from shapewright import Extractor, Mesh
from torch import Tensor

from .state import TetrahedralField, tetrahedra

CROSSED = {1: ((0, 1), (0, 2), (0, 3)), 2: ((0, 2), (0, 3), (1, 3), (1, 2)), 3: ((0, 3), (1, 3), (2, 3))}
"""Edges of a tetrahedron with its inside corners first, by their number: a ring, counter-clockwise from outside."""


@dataclass(frozen=True)
class Config:
    """There is nothing to choose."""


class MarchingTetrahedra(Extractor[Config, TetrahedralField]):
    """One triangle or quad a tetrahedron; vertices by linear interpolation, differentiable in the distances."""

    Config: ClassVar[type[Config]] = Config

    def extract(self, state: TetrahedralField) -> Mesh:
        """Sorting the corners of each tetrahedron by side leaves three cases, so there is no table to get wrong."""
        distances, positions = state.values.feats[:, 0], state.positions
        inside = distances < 0
        tets = tetrahedra(state.values.coords[:, 1:], inside, state.values.resolution)
        order = (~inside[tets]).to(torch.int8).argsort(dim=1, stable=True)
        swaps = torch.stack([order[:, a] > order[:, b] for a, b in combinations(range(4), 2)]).sum(dim=0)
        tets, counts = tets.gather(1, order), inside[tets].sum(dim=1)

        triangles: list[Tensor] = []  # (F, 3, 2): three crossed edges, each two rows of points
        for number, edges in CROSSED.items():
            chosen = counts == number
            ring = tets[chosen][:, torch.tensor(edges, device=tets.device)]
            ring = torch.where(swaps[chosen, None, None] % 2 == 1, ring.flip(1), ring)
            triangles += [ring[:, [0, k, k + 1]] for k in range(1, len(edges) - 1)]
        low, high = torch.cat(triangles).sort(dim=-1).values.reshape(-1, 2).unbind(1)
        keys, faces = torch.unique(low * len(distances) + high, return_inverse=True)
        low, high = keys // max(len(distances), 1), keys % max(len(distances), 1)

        # A distance of exactly zero would put all vertices around its point into one place.
        part = (distances[low] / (distances[low] - distances[high])).clamp(1e-4, 1 - 1e-4)[:, None]
        return Mesh(torch.lerp(positions[low], positions[high], part), faces.reshape(-1, 3), state.frame)
