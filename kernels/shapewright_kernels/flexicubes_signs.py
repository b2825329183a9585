"""Signs of lattice corners that change exactly where a mesh crosses the lattice, as far as that is possible.

Sides given by the nearest sheet are right near one sheet, but two sheets that cross or lie within two cells of one
another contradict between them: a false wall. The rule that is free of walls is local: the ends of a lattice edge
differ if and only if the mesh crosses the edge an odd number of times. Corners are grouped by edges on which both
agree; groups are then turned against one another so that the others agree too, wherever these do not contradict.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Bools, Ints
from .flexicubes_tables import EDGES

AXES = np.array([0, 2, 0, 2, 0, 2, 0, 2, 1, 1, 1, 1], dtype=np.int64)
"""Axis of each edge of :data:`~.flexicubes_tables.EDGES`."""
_LOST = 3
"""A lost wall is a hole; an unexplained sign change mostly makes no face, since not all voxels around it exist."""


@njit(nogil=True, cache=True, error_model="numpy")
def _steps(cubes: Ints, edges: Ints, axes: Ints, result: Ints) -> None:
    for voxel in range(len(cubes)):
        for e in range(12):
            a, b = cubes[voxel, edges[e, 0]], cubes[voxel, edges[e, 1]]
            result[min(a, b), axes[e]] = max(a, b)


@njit(nogil=True, cache=True, error_model="numpy")
def _root(parent: Ints, turned: Bools, item: int) -> tuple[int, bool]:
    """Root of ``item`` and whether it is turned against that root; halves the path on the way."""
    against = False
    while parent[item] != item:
        up = parent[item]
        turned[item] = turned[item] != turned[up]  # root entries are never turned
        parent[item] = parent[up]
        against = against != turned[item]
        item = parent[item]
    return item, against


@njit(nogil=True, cache=True, error_model="numpy")
def _turn(steps: Ints, odd: Bools, inside: Bools, flip: Bools) -> None:
    """Kruskal with parities: first edges on which ``inside`` and ``odd`` agree, then the rest."""
    count = len(inside)
    parent = np.arange(count)
    turned = np.zeros(count, np.bool_)
    for second in range(2):
        for corner in range(count):
            for axis in range(3):
                other = steps[corner, axis]
                if other < 0:
                    continue
                wrong = (inside[corner] != inside[other]) != odd[corner, axis]
                if wrong != (second == 1):
                    continue
                p, against_p = _root(parent, turned, corner)
                q, against_q = _root(parent, turned, other)
                if p != q:
                    low, high = min(p, q), max(p, q)
                    parent[high] = low
                    turned[high] = (against_p != against_q) != wrong
    votes = np.zeros(count, np.int64)
    for corner in range(count):
        root, against = _root(parent, turned, corner)
        flip[corner] = against
        votes[root] += 1 if against else -1
    for corner in range(count):
        root, _ = _root(parent, turned, corner)
        if votes[root] > 0:
            flip[corner] = not flip[corner]


@njit(nogil=True, cache=True, error_model="numpy")
def _contradictions(steps: Ints, odd: Bools, inside: Bools) -> int:
    count = 0
    for corner in range(len(inside)):
        for axis in range(3):
            other = steps[corner, axis]
            count += other >= 0 and (inside[corner] != inside[other]) != odd[corner, axis]
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _harm(steps: Ints, walls: Bools, inside: Bools) -> int:
    """Contradictions, a wall that is lost counting more than a sign change that nothing explains."""
    total = 0
    for corner in range(len(inside)):
        for axis in range(3):
            other = steps[corner, axis]
            if other >= 0 and (inside[corner] != inside[other]) != walls[corner, axis]:
                total += _LOST if walls[corner, axis] else 1
    return total


def corner_steps(cubes: Ints, corners: int) -> Ints:
    """``(corners, 3)`` corner one step up each axis, -1 where no voxel has that edge; ids ascend lexicographically."""
    result = np.full((corners, 3), -1, np.int64)
    _steps(cubes, EDGES, AXES, result)
    return result


def contradictions(steps: Ints, odd: Bools, inside: Bools) -> int:
    """Lattice edges on which signs and crossings disagree."""
    return int(_contradictions(steps, odd, inside))


def consistent_signs(steps: Ints, odd: Bools, walls: Bools, inside: Bools) -> Bools:
    """``inside``, or the signs that follow the parity of crossings if those separate the walls better.

    Args:
        steps: ``(C, 3)`` from :func:`corner_steps`. odd: ``(C, 3)`` bool, the edge is crossed an odd number of times.
        walls: ``(C, 3)`` bool, edges whose ends should differ: as ``odd``, but with one wall where two parts touch,
            which parity would lose.
        inside: ``(C,)`` bool, first guess. In each connected part the guess is kept or reversed for the smaller share
            of corners.
    Returns:
        ``(C,)`` bool. A mesh without boundary always gets signs without a contradiction: they are the parity of the
        layers around a corner, so every wall of overlapping or nested parts stays. Around the border of an open mesh
        one contradiction per turn is unavoidable.
    """
    flip = np.zeros(len(inside), bool)
    _turn(steps, odd, inside, flip)
    turned = inside ^ flip
    return turned if _harm(steps, walls, turned) < _harm(steps, walls, inside) else inside
