"""Which children of which coarse voxels exist: of given voxels, instead of a decoder's prediction."""

from __future__ import annotations

from collections.abc import Sequence

from shapewright.nn.structure import Level, Structure
from shapewright.states import SparseTensor


def levels_of(x: SparseTensor, moves: int) -> tuple[Level, ...]:
    """The levels above the voxels of ``x``, finest first, each twice as coarse."""
    levels = []
    structure = Structure.of(x)
    for _ in range(moves):
        level = structure.coarser(2)
        levels.append(level)
        structure = level.structure
    return tuple(levels)


def subdivisions_of(levels: Sequence[Level], x: SparseTensor) -> tuple[SparseTensor, ...]:
    """``(N, 8)`` bool for each level above ``x``, coarsest first: what a perfect decoder would predict."""
    resolution, found = x.resolution, []
    for level in levels:
        resolution = -(-resolution // level.factor)
        found.append(SparseTensor(level.structure.coords, level.subdivision, resolution, x.batch_size))
    return tuple(found[::-1])
