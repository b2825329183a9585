"""What travels between the two components, and the lattice it lives on."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from shapewright import Frame, SparseTensor
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TetrahedralField:
    """Signed distances, negative inside, at some points of a body-centred cubic lattice.

    ``values.coords`` count *half* cells, so ``values.resolution`` is twice the number of cells an axis: the three
    indices of a point are all even (a corner of a cell) or all odd (a centre). ``values.feats`` is ``(N, 1)``.
    """

    tag: ClassVar[str] = "tetrahedral"
    values: SparseTensor
    frame: Frame

    @property
    def positions(self) -> Tensor:
        """``(N, 3)`` in units of the frame, dtype of the distances."""
        distances = self.values.feats
        spacing = distances.new_tensor(self.frame.extent) / self.values.resolution
        return distances.new_tensor(self.frame.lower) + self.values.coords[:, 1:] * spacing


def tetrahedra(coords: Tensor, inside: Tensor, resolution: int) -> Tensor:
    """Rows of ``coords`` that make the tetrahedra with corners on both sides of the surface.

    Each edge of length 2 between corners of cells is shared by four tetrahedra, whose other edge of length 2 joins two
    of the four centres around it: that names every tetrahedron of the lattice once.

    Args:
        coords: ``(N, 3)`` indices of points in half cells, sorted.
        inside: ``(N,)`` bool.
        resolution: half cells an axis.
    Returns:
        ``(T, 4)`` int64, positively oriented. One with a missing corner is left out.
    """
    count = resolution + 3  # one more on each side, so that a neighbour outside the lattice is no other point
    stride = coords.new_tensor([count * count, count, 1], dtype=torch.int64)
    keys = (coords.long() + 1) @ stride

    def rows(start: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
        wanted = keys[start] + (offset * stride).sum()
        row = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        return row, keys[row] == wanted

    corners = (coords[:, 0] & 1 == 0).nonzero()[:, 0]
    units = torch.eye(3, dtype=torch.int64, device=coords.device)
    found = []
    for axis in range(3):
        along, u, v = units.roll(-axis, dims=0)  # right-handed, whatever the axis
        ends, present = rows(corners, 2 * along)
        start, ends = corners[present], ends[present]
        around = [rows(start, along + a * u + b * v) for a, b in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
        for (first, has_first), (second, has_second) in zip(around, around[1:] + around[:1], strict=True):
            quadruple = torch.stack([start, ends, first, second], dim=1)
            signs = inside[quadruple]
            found.append(quadruple[has_first & has_second & signs.any(dim=1) & ~signs.all(dim=1)])
    return torch.cat(found)
