"""Which row holds voxel ``[batch, x, y, z]``: a lattice index over coordinates of any sign, range and order.

Adds to :mod:`.lattice_index` what callers of sparse networks need: the box of the coordinates is found here, negative
ones are moved, rows are sorted once where they are not, and a voxel that stands twice is named.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import ROWS_PER_CHUNK, Integer, Integers, LatticeIndex, find_rows, index_sorted
from .threads import run_chunks, spans

KEY_LIMIT = 1 << 62
"""Packed keys stay below this."""
COORDINATE_LIMIT = 1 << 61
"""Coordinates lie strictly between minus this and this, so that no move of the origin wraps round into the box."""


class CoordinateIndex:
    """Index over ``coords`` ``(N, 4)``; ``len`` is ``N``.

    Memory is about 10 to 50 bytes a voxel beside ``coords``, plus a copy of them where they are not sorted, not
    contiguous or do not begin at zero, and a table of at most 64 MB over the columns of their box.

    >>> index = CoordinateIndex(np.array([[0, 1, 2, 3], [0, -5, 0, 0]]))
    >>> index.rows(np.array([[0, -5, 0, 0], [0, 1, 2, 3], [1, 1, 2, 3]])).tolist()
    [1, 0, -1]
    """

    def __init__(self, coords: Integers, *, threads: int | None = None) -> None:
        """
        Args:
            coords: ``(N, 4)`` integer rows ``[batch, x, y, z]`` in any order, any sign.
        Raises:
            ValueError: not integers of that shape; a row repeats (the first is named); the box of the rows has more
                than 2^62 words of 64 voxels along z (a resolution of 2^21 with 16 batch items fits).
        """
        coords = integer_rows(coords)
        lows, highs, ascending = survey(coords, threads)
        shape = box_shape(lows, highs)
        if shape[0] * shape[1] * shape[2] * -(-shape[3] // 64) >= KEY_LIMIT:
            raise ValueError(f"coords span {shape} voxels [batch, x, y, z], too many for 64-bit keys; split the batch")
        order = np.empty(0, np.int64)
        if not ascending:
            order = lexicographic_order(coords, lows, highs)
            coords = coords[order]
            chunks = spans(len(coords), ROWS_PER_CHUNK)
            if any(run_chunks(lambda span: _repeats(coords, *span), chunks, threads)):
                first, again, voxel = _first_repeat(coords, order)
                raise ValueError(f"rows {first} and {again} of coords are both {voxel}; merge them first")
        if lows.any():
            coords = coords - lows.astype(coords.dtype) if max(shape) < 1 << 31 else coords.astype(np.int64) - lows
        self.origin: NDArray[np.int64] = lows
        """``(4,)``: least coordinate of each axis."""
        self.coords: Integers = coords
        """``(N, 4)``: sorted, less ``origin``."""
        self.lattice: LatticeIndex = index_sorted(coords, shape, threads=threads)._replace(order=order)
        """Over ``self.coords``; its ``order`` leads from the sorted rows to the caller's."""

    def __len__(self) -> int:
        return len(self.coords)

    def rows(self, queries: Integers, *, threads: int | None = None) -> NDArray[np.int64]:
        """Row of each voxel of ``queries`` ``(M, 4)``, which may lie anywhere and repeat; -1 where there is none."""
        queries = integer_rows(queries)
        result = np.empty(len(queries), np.int64)

        def work(span: tuple[int, int]) -> None:
            moved = queries[slice(*span)].astype(np.int64) - self.origin
            result[slice(*span)] = find_rows(self.lattice, moved, threads=1)

        run_chunks(work, spans(len(queries), ROWS_PER_CHUNK), threads)
        return result


def integer_rows(coords: Integers) -> Integers:
    """``coords`` as contiguous int32 or int64.

    Raises:
        ValueError: not ``(N, 4)``, or not integers.
    """
    coords = np.asarray(coords)
    if coords.ndim != 2 or coords.shape[1] != 4:
        raise ValueError(f"coords must be (N, 4) rows [batch, x, y, z], not {coords.shape}")
    if not np.issubdtype(coords.dtype, np.integer):
        raise ValueError(f"coords must be integers, not {coords.dtype}; floor and convert them first")
    if coords.dtype not in (np.int32, np.int64):
        if coords.dtype == np.uint64 and coords.size and int(coords.max()) >= 1 << 63:
            raise ValueError("coords of 2^63 and above are not supported")
        coords = coords.astype(np.int64)
    return np.ascontiguousarray(coords)


def survey(coords: Integers, threads: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Least and greatest coordinate of each axis ``(4,)`` (0 and -1 where there is no row), and whether the rows are
    strictly ascending.

    Raises:
        ValueError: a coordinate is of magnitude :data:`COORDINATE_LIMIT` or above.
    """
    if len(coords) == 0:
        return np.zeros(4, np.int64), np.full(4, -1), True
    parts = np.array(run_chunks(lambda span: _survey(coords, *span), spans(len(coords), ROWS_PER_CHUNK), threads))
    lows, highs = parts[:, 0:4].min(axis=0), parts[:, 4:8].max(axis=0)
    if lows.min() <= -COORDINATE_LIMIT or highs.max() >= COORDINATE_LIMIT:
        raise ValueError(f"coords of magnitude 2^61 and above are not supported: {lows.tolist()} to {highs.tolist()}")
    return lows, highs, bool(parts[:, 8].all())


def box_shape(lows: NDArray[np.int64], highs: NDArray[np.int64]) -> tuple[int, int, int, int]:
    """Voxels along each axis between the bounds that :func:`survey` finds."""
    batch, x, y, z = (int(high) - int(low) + 1 for low, high in zip(lows, highs, strict=True))
    return batch, x, y, z


def lexicographic_order(coords: Integers, lows: NDArray[np.int64], highs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Permutation ``(N,)`` that sorts the rows by batch, x, y, z; equal rows in no particular order.

    Args:
        lows, highs: bounds of ``coords``, as :func:`survey` finds them.
    """
    shape = box_shape(lows, highs)
    if shape[0] * shape[1] * shape[2] >= KEY_LIMIT:
        raise ValueError(f"coords span {shape} voxels [batch, x, y, z], too many for 64-bit keys; split the batch")
    column = coords[:, 0].astype(np.int64) - lows[0]
    for axis in (1, 2):
        column *= shape[axis]
        column += coords[:, axis]
        column -= lows[axis]
    if shape[0] * shape[1] * shape[2] * shape[3] < KEY_LIMIT:
        column *= shape[3]
        column += coords[:, 3]
        column -= lows[3]
        return np.argsort(column)
    return np.lexsort((coords[:, 3], column))


def _first_repeat(coords: Integers, order: NDArray[np.int64]) -> tuple[int, int, list[int]]:
    """Of sorted rows: the least row of the caller that has an equal one before it, the latter, and the voxel."""
    same = np.flatnonzero((coords[1:] == coords[:-1]).all(axis=1))
    members = np.unique(np.concatenate([same, same + 1]))
    group = np.where(np.isin(members, same + 1), 0, 1).cumsum()
    ranked = np.lexsort((order[members], group))
    rows, group = order[members][ranked], group[ranked]
    later = np.flatnonzero(group[1:] == group[:-1]) + 1
    at = later[np.argmin(rows[later])]
    return int(rows[at - 1]), int(rows[at]), coords[members[ranked[at]]].tolist()


@njit(nogil=True, cache=True, error_model="numpy")
def _survey(coords: Integers, start: Integer, stop: Integer) -> NDArray[np.int64]:
    """Four least, four greatest coordinates, and 1 where every row comes after the one before it."""
    result = np.empty(9, np.int64)
    for axis in range(4):
        result[axis] = result[axis + 4] = coords[start, axis]
    result[8] = 1
    for row in range(start, stop):
        step = np.int64(1) if row == 0 else np.int64(0)
        for axis in range(4):
            value = np.int64(coords[row, axis])
            result[axis] = min(result[axis], value)
            result[axis + 4] = max(result[axis + 4], value)
            if step == 0:
                before = np.int64(coords[row - 1, axis])
                step = np.int64(value > before) - np.int64(value < before)
        if step <= 0:
            result[8] = 0
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _repeats(coords: Integers, start: Integer, stop: Integer) -> Any:
    for row in range(max(start, 1), stop):
        same = True
        for axis in range(4):
            same &= coords[row, axis] == coords[row - 1, axis]
        if same:
            return True
    return False
