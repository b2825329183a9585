"""Where a mesh crosses the edges of a sparse lattice: exact hits, watertight between neighbouring faces.

Each face is scanned along the three axes. Whether a lattice line passes through a face is decided in the projection by
counting edges to one side, each edge evaluated from its lower vertex id: the two faces at an edge do the same
arithmetic, so a line never slips between them and never counts twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
from .threads import run_chunks, spans

_FACES = 4096
"""Faces of one unit of work."""
_COINCIDENT = 1e-4
"""Lattice units up to which two hits of one edge are the same wall."""


@dataclass(frozen=True)
class Hits:
    """Crossings sorted by ``edge``, then by ``offset``. Edge ``3 * corner + axis`` runs from a corner one step up
    ``axis``."""

    edge: Ints
    """``(H,)``"""
    offset: Floats
    """``(H,)`` in [0, 1], from the lower corner."""
    face: Ints
    """``(H,)``"""

    def parity(self, corners: int) -> Bools:
        """``(corners, 3)``: the edge is crossed an odd number of times."""
        count = np.bincount(self.edge, minlength=3 * corners)
        return (count & 1).astype(bool).reshape(-1, 3)

    def walls(self, corners: int) -> Bools:
        """``(corners, 3)``: as :meth:`parity`, but hits in one place, where two parts touch, count as one."""
        apart = np.ones(len(self.edge), bool)
        apart[1:] = (np.diff(self.edge) > 0) | (np.diff(self.offset) > _COINCIDENT)
        count = np.bincount(self.edge[apart], minlength=3 * corners)
        return (count & 1).astype(bool).reshape(-1, 3)

    def any(self, corners: int) -> Bools:
        """``(corners, 3)``: the edge is crossed."""
        result = np.zeros(3 * corners, bool)
        result[self.edge] = True
        return result.reshape(-1, 3)


@njit(nogil=True, cache=True, error_model="numpy")
def _row(keys: Ints, key: int) -> int:
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) >> 1
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low if low < len(keys) and keys[low] == key else -1


@njit(nogil=True, cache=True, error_model="numpy")
def _right_of(p: Floats, q: Floats, u: int, v: int, x: float, y: float) -> bool:
    """The edge ``p q`` crosses the line ``v = y`` beyond ``x``; half-open in ``v``, so a vertex counts once."""
    if (p[v] <= y) == (q[v] <= y):
        return False
    return p[u] + (y - p[v]) / (q[v] - p[v]) * (q[u] - p[u]) > x


@njit(nogil=True, cache=True, error_model="numpy")
def _scan(
    vertices: Floats, faces: Ints, keys: Ints, low: int, high: int, write: bool, edge: Ints, offset: Floats, face: Ints
) -> int:
    """Hits of the faces ``low..high`` with lattice edges whose lower corner is in ``keys``; returns their number."""
    count = 0
    for f in range(low, high):
        ids = np.sort(faces[f])
        a, b, c = vertices[ids[0]], vertices[ids[1]], vertices[ids[2]]
        for axis in range(3):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            area = (b[u] - a[u]) * (c[v] - a[v]) - (b[v] - a[v]) * (c[u] - a[u])
            if area == 0.0:
                continue
            bottom, top = min(a[axis], b[axis], c[axis]), max(a[axis], b[axis], c[axis])
            for j in range(int(np.ceil(min(a[v], b[v], c[v]))), int(np.floor(max(a[v], b[v], c[v]))) + 1):
                y = float(j)
                # The chord of the face on this line bounds the candidates; rounding is settled by the test below.
                left, right = np.inf, -np.inf
                for k in range(3):
                    p, q = (a, b) if k == 0 else ((a, c) if k == 1 else (b, c))
                    if (p[v] <= y) != (q[v] <= y):
                        x = p[u] + (y - p[v]) / (q[v] - p[v]) * (q[u] - p[u])
                        left, right = min(left, x), max(right, x)
                if left > right:
                    continue
                for i in range(int(np.ceil(left)), int(np.floor(right)) + 1):
                    x = float(i)
                    crossings = (
                        int(_right_of(a, b, u, v, x, y)) + _right_of(a, c, u, v, x, y) + _right_of(b, c, u, v, x, y)
                    )
                    if crossings & 1 == 0:
                        continue
                    wb = ((x - a[u]) * (c[v] - a[v]) - (y - a[v]) * (c[u] - a[u])) / area
                    wc = ((b[u] - a[u]) * (y - a[v]) - (b[v] - a[v]) * (x - a[u])) / area
                    height = a[axis] + wb * (b[axis] - a[axis]) + wc * (c[axis] - a[axis])
                    height = min(max(height, bottom), top)
                    cell = int(np.floor(height))
                    if axis == 0:
                        key = (cell << 42) | (i << 21) | j
                    elif axis == 1:
                        key = (j << 42) | (cell << 21) | i
                    else:
                        key = (i << 42) | (j << 21) | cell
                    row = _row(keys, key)
                    if row >= 0:
                        if write:
                            edge[count] = 3 * row + axis
                            offset[count] = height - cell
                            face[count] = f
                        count += 1
    return count


def lattice_hits(
    vertices: Floats, faces: Ints, corners: NDArray[np.integer[Any]], *, threads: int | None = None
) -> Hits:
    """All crossings of a mesh with the axis-parallel lattice edges that start at some lattice points.

    Args:
        vertices: ``(V, 3)`` float64 in lattice units, non-negative. faces: ``(F, 3)`` int64.
        corners: ``(C, 3)`` integers, strictly lexicographic, below 2^21.
        threads: never changes the result.

    >>> square = np.array([[0.0, 0, 0.25], [3, 0, 0.25], [0, 3, 0.25]])
    >>> hits = lattice_hits(square, np.array([[0, 1, 2]]), np.array([[1, 1, 0]]))
    >>> hits.edge.tolist(), hits.offset.tolist(), hits.face.tolist()
    ([2], [0.25], [0])
    """
    packed = np.asarray(corners, np.int64)
    keys = (packed[:, 0] << 42) | (packed[:, 1] << 21) | packed[:, 2]
    points = np.ascontiguousarray(vertices, np.float64)
    none, nothing = np.empty(0, np.int64), np.empty(0)
    chunks = spans(len(faces), _FACES)
    counts = run_chunks(lambda span: _scan(points, faces, keys, *span, False, none, nothing, none), chunks, threads)
    starts = np.cumsum([0, *counts])
    edge, offset, face = np.empty(starts[-1], np.int64), np.empty(starts[-1]), np.empty(starts[-1], np.int64)

    def fill(c: int) -> None:
        part = slice(starts[c], starts[c + 1])
        _scan(points, faces, keys, *chunks[c], True, edge[part], offset[part], face[part])

    run_chunks(fill, range(len(chunks)), threads)
    order = np.lexsort((offset, edge))
    return Hits(edge[order], offset[order], face[order])


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest(
    ends: Ints, steps: Ints, magnitudes: Floats, edge: Ints, offset: Floats, low: int, high: int, hit: Ints, edges: Ints
) -> None:
    for i in range(low, high):
        a, b = min(ends[i, 0], ends[i, 1]), max(ends[i, 0], ends[i, 1])
        axis = 0 if steps[a, 0] == b else (1 if steps[a, 1] == b else 2)
        edges[i] = 3 * a + axis
        hit[i] = -1
        at = magnitudes[a] / (magnitudes[a] + magnitudes[b])
        first, last = 0, len(edge)
        while first < last:
            middle = (first + last) >> 1
            if edge[middle] < edges[i]:
                first = middle + 1
            else:
                last = middle
        best = np.inf
        while first < len(edge) and edge[first] == edges[i]:
            if abs(offset[first] - at) < best:
                best = abs(offset[first] - at)
                hit[i] = first
            first += 1


def nearest_hits(
    hits: Hits, ends: Ints, steps: Ints, magnitudes: Floats, *, threads: int | None = None
) -> tuple[Ints, Ints]:
    """For lattice edges given by their two corners: the hit nearest to the interpolated zero, and the edge's number.

    Args:
        ends: ``(E, 2)`` corner rows, either order. steps: ``(C, 3)`` from :func:`.flexicubes_signs.corner_steps`.
        magnitudes: ``(C,)`` positive, distances of the corners from the zero set.
    Returns:
        ``(E,)`` int64 rows of ``hits`` or -1, and ``(E,)`` int64 edges numbered as in :class:`Hits`.
    """
    hit, edges = np.empty(len(ends), np.int64), np.empty(len(ends), np.int64)
    run_chunks(
        lambda span: _nearest(ends, steps, magnitudes, hits.edge, hits.offset, *span, hit, edges),
        spans(len(ends), 1 << 16),
        threads,
    )
    return hit, edges
