"""A dense FlexiCubes in plain torch: the peer that the sparse kernels are measured against.

It does what a careful user would write on a full grid: cases by shifted slices instead of an index of all cubes, one
``unique`` over packed 64-bit keys of crossing edges instead of over rows, weights squashed only where there is surface.
Parameters live on the whole grid, as in the published examples, so their gradients do as well. Vertices and faces come
in the published order and can be compared with ours.
Source: Shen et al. 2023, "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization"; own code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from shapewright_kernels.flexicubes_tables import CORNERS, EDGES, tables
from torch import Tensor

WEIGHT_SCALE = 0.99


class Parameters(NamedTuple):
    """What is optimised, raw: ``R`` cells an axis; the deformation and the weights may be left out (neutral)."""

    sdf: Tensor
    """``(R + 1, R + 1, R + 1)``"""
    deform: Tensor | None = None
    """``(R + 1, R + 1, R + 1, 3)``"""
    alpha: Tensor | None = None
    """``(R, R, R, 8)``"""
    beta: Tensor | None = None
    """``(R, R, R, 12)``"""
    gamma: Tensor | None = None
    """``(R, R, R)``"""


class DenseFlexiCubes:
    """Extraction on all cells of the cube ``[-0.5, 0.5]^3``; the grid and the tables are made once."""

    def __init__(self, resolution: int, dtype: torch.dtype = torch.float32) -> None:
        self.resolution = resolution
        axis = torch.arange(resolution + 1, dtype=dtype) / resolution - 0.5
        self.points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
        side = resolution + 1
        self.strides = torch.tensor([side * side, side, 1])
        self.corners = torch.from_numpy(CORNERS)
        self.edges = torch.from_numpy(EDGES)
        self.groups, self.number, self.check = (torch.from_numpy(table.astype("int64")) for table in tables())

    def __call__(self, parameters: Parameters) -> tuple[Tensor, Tensor]:
        """``(V, 3)`` vertices and ``(F, 3)`` int64 faces; differentiable in all parameters but gamma."""
        sdf, deform, alpha, beta, gamma = parameters
        points = self.points
        if deform is not None:
            points = points + (1 - 1e-8) / (2 * self.resolution) * torch.tanh(deform)
        points, values = points.reshape(-1, 3), sdf.reshape(-1)
        cells, cases = self._surface(sdf.detach() < 0)
        at = cells[:, 0] * self.resolution**2 + cells[:, 1] * self.resolution + cells[:, 2]
        cubes = ((cells[:, None] + self.corners) * self.strides).sum(2)
        q = values[cubes]
        if alpha is not None:
            q = q * (1 + WEIGHT_SCALE * torch.tanh(alpha.reshape(-1, 8)[at]))

        rows, slots, dual, count = self._incidences(cases)
        local = self.edges[slots]
        near, far = cubes[rows, local[:, 0]], cubes[rows, local[:, 1]]
        q_near, q_far = q[rows, local[:, 0]][:, None], q[rows, local[:, 1]][:, None]
        crossing = (points[near] * q_far - points[far] * q_near) / (q_far - q_near)
        if beta is None:
            share = torch.ones_like(q_near)
        else:
            share = (1 + WEIGHT_SCALE * torch.tanh(beta.reshape(-1, 12)[at]))[rows, slots][:, None]
        total = share.new_zeros(count, 1).index_add(0, dual, share)
        vertices = crossing.new_zeros(count, 3).index_add(0, dual, crossing * share) / total

        quads = self._quads(near, far, dual, values, rows)
        if gamma is None:
            first = second = vertices.new_ones(len(quads))
        else:
            weight = WEIGHT_SCALE * torch.sigmoid(gamma.detach().reshape(-1)[at]) + (1 - WEIGHT_SCALE) / 2
            by_dual = weight.new_zeros(count)
            by_dual[dual] = weight[rows]
            first, second = (by_dual[quads[:, k]] * by_dual[quads[:, k + 2]] for k in (0, 1))
        along, across = quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [0, 1, 3, 3, 1, 2]]
        return vertices, torch.where((first > second)[:, None], along, across).reshape(-1, 3)

    def _surface(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Cells with surface ``(S, 3)`` and their cases, ambiguous pairs inverted."""
        size = self.resolution
        case = torch.zeros(size, size, size, dtype=torch.uint8)
        for c, (x, y, z) in enumerate(CORNERS.tolist()):
            case |= inside[x : x + size, y : y + size, z : z + size].to(torch.uint8) << c
        cells = ((case != 0) & (case != 255)).nonzero()
        found = case[cells[:, 0], cells[:, 1], cells[:, 2]].long()
        flagged = (self.check[found, 0] == 1).nonzero()[:, 0]
        beside = cells[flagged] + self.check[found[flagged], 1:4]
        valid = ((beside >= 0) & (beside < size)).all(1)
        flagged, beside = flagged[valid], beside[valid]
        partner = case[beside[:, 0], beside[:, 1], beside[:, 2]].long()
        both = flagged[self.check[partner, 0] == 1]
        resolved = found.clone()
        resolved[both] = self.check[found[both], 4]
        return cells, resolved

    def _incidences(self, cases: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
        """Row, edge and dual vertex of each pair of a dual vertex and an edge; the number of dual vertices."""
        rows, slots, duals, count = [], [], [], 0
        for pieces in range(1, 5):
            cells = (self.number[cases] == pieces).nonzero()[:, 0]
            groups = self.groups[cases[cells], :pieces].reshape(-1, 7)  # (cells * pieces, 7)
            which, slot = (groups >= 0).nonzero(as_tuple=True)
            rows.append(cells[which // pieces])
            slots.append(groups[which, slot])
            duals.append(which + count)
            count += len(groups)
        return torch.cat(rows), torch.cat(slots), torch.cat(duals), count

    def _quads(self, near: Tensor, far: Tensor, dual: Tensor, values: Tensor, rows: Tensor) -> Tensor:
        """Four dual vertices around each edge that four surface cells share."""
        keys = near * (self.resolution + 1) ** 3 + far
        _, edge, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        full = counts[edge] == 4
        # by edge, then by cell: the four of a quad lie side by side
        order = torch.argsort(edge[full] * (int(rows.max()) + 1 if len(rows) else 1) + rows[full])
        around = dual[full][order].reshape(-1, 4)
        positive = values.detach()[near[full][order[::4]]] > 0
        return torch.cat([around[positive][:, [0, 1, 3, 2]], around[~positive][:, [2, 3, 1, 0]]])
