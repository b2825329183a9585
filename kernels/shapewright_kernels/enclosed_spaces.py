"""Spaces that a wall of lattice points cuts off from the border of the lattice, without a dense grid.

The points of a column that are no wall form runs; runs of neighbouring columns that overlap belong to one space.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Ints

Coords = NDArray[np.integer[Any]]


def spaces_beside(coords: Coords, wall: Bools, side: int) -> Ints:
    """The space of each lattice point that is no wall: 0 is the one around everything, others are numbered from 1.

    Args:
        coords: ``(N, 3)`` integer points in lexicographic order, none on the border of the lattice, all of the wall
            among them. wall: ``(N,)``. side: lattice points along an axis.
    Returns:
        ``(N,)`` int64; -1 for the points of the wall. Points touch along an axis. Memory: 8 bytes a column, 24 a run.

    >>> block = np.stack(np.meshgrid(*[np.arange(1, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    >>> middle = (block == 2).all(axis=1)
    >>> spaces_beside(block, ~middle, 5)[middle].tolist(), spaces_beside(block, ~middle & (block[:, 0] < 3), 5)[middle]
    ([1], array([0]))
    """
    walls = np.ascontiguousarray(coords[wall])
    starts, low, high = _runs(walls, side)
    spaces = _joined(starts, low, high, side)
    result = np.full(len(coords), -1, np.int64)
    rows = np.flatnonzero(~wall)
    _find(np.ascontiguousarray(coords), rows, starts, high, spaces, side, result)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _runs(walls: Any, side: int) -> tuple[Ints, Ints, Ints]:
    """Runs of points that are no wall, column by column: ``low..high`` (inclusive) from ``starts[column]``."""
    columns = side * side
    starts = np.zeros(columns + 1, np.int64)
    for row in range(len(walls)):
        column = np.int64(walls[row, 0]) * side + walls[row, 1]
        again = row > 0 and walls[row - 1, 0] == walls[row, 0] and walls[row - 1, 1] == walls[row, 1]
        before = np.int64(walls[row - 1, 2]) if again else np.int64(-1)
        if walls[row, 2] > before + 1:
            starts[column + 1] += 1
    for column in range(columns):
        starts[column + 1] += starts[column] + 1  # one above the last wall
    low, high = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.int64)
    row = 0
    for column in range(columns):
        place, begin = starts[column], np.int64(0)
        while row < len(walls) and np.int64(walls[row, 0]) * side + walls[row, 1] == column:
            z = np.int64(walls[row, 2])
            if z > begin:
                low[place], high[place] = begin, z - 1
                place += 1
            begin = z + 1
            row += 1
        low[place], high[place] = begin, side - 1
    return starts, low, high


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _root(parent: Ints, run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = parent[run]
    return run


@njit(nogil=True, cache=True, error_model="numpy")
def _joined(starts: Ints, low: Ints, high: Ints, side: int) -> Ints:
    """The space of each run, numbered by first runs; the first run lies on the border, so its space is 0."""
    parent = np.arange(len(low))
    for column in range(side * side):
        for axis in range(2):
            last = column >= (side - 1) * side if axis == 0 else column % side == side - 1
            if last:
                continue
            other = column + (side if axis == 0 else 1)
            i, j = starts[column], starts[other]
            while i < starts[column + 1] and j < starts[other + 1]:
                if max(low[i], low[j]) <= min(high[i], high[j]):
                    a, b = _root(parent, i), _root(parent, j)
                    parent[max(a, b)] = min(a, b)
                if high[i] < high[j]:
                    i += 1
                else:
                    j += 1
    spaces = np.empty(len(low), np.int64)
    count = 0
    for run in range(len(low)):
        root = _root(parent, run)
        if root == run:
            spaces[run] = count
            count += 1
        else:
            spaces[run] = spaces[root]
    return spaces


@njit(nogil=True, cache=True, error_model="numpy")
def _find(coords: Any, rows: Ints, starts: Ints, high: Ints, spaces: Ints, side: int, result: Ints) -> None:
    column, run = np.int64(-1), np.int64(0)
    for row in rows:
        here = np.int64(coords[row, 0]) * side + coords[row, 1]
        if here != column:
            column, run = here, starts[here]
        while high[run] < coords[row, 2]:
            run += 1
        result[row] = spaces[run]
