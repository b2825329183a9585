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

Corners = NDArray[np.int32]
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
    start: Ints
    """``(3 C + 1,)`` first hit of each edge."""

    def parity(self) -> Bools:
        """``(C, 3)``: the edge is crossed an odd number of times."""
        return (np.diff(self.start) & 1).astype(bool).reshape(-1, 3)

    def walls(self) -> Bools:
        """``(C, 3)``: as :meth:`parity`, but hits in one place, where two parts touch, count as one."""
        apart = np.ones(len(self.edge), bool)
        apart[1:] = (np.diff(self.edge) > 0) | (np.diff(self.offset) > _COINCIDENT)
        count = np.bincount(self.edge[apart], minlength=len(self.start) - 1)
        return (count & 1).astype(bool).reshape(-1, 3)

    def any(self) -> Bools:
        """``(C, 3)``: the edge is crossed."""
        return (self.start[1:] > self.start[:-1]).reshape(-1, 3)


@njit(nogil=True, cache=True, error_model="numpy")
def _row(corners: Corners, planes: Ints, x: int, y: int, z: int) -> int:
    """Row of a lattice point, or -1: bisection in its x plane."""
    if x < 0 or x + 1 >= len(planes):
        return -1
    low, high = planes[x], planes[x + 1]
    while low < high:
        middle = (low + high) >> 1
        if corners[middle, 1] < y or (corners[middle, 1] == y and corners[middle, 2] < z):
            low = middle + 1
        else:
            high = middle
    if low < planes[x + 1] and corners[low, 1] == y and corners[low, 2] == z:
        return low
    return -1


@njit(nogil=True, cache=True, error_model="numpy")
def _right_of(p: Floats, q: Floats, u: int, v: int, x: float, y: float) -> bool:
    """The edge ``p q`` crosses the line ``v = y`` beyond ``x``; half-open in ``v``, so a vertex counts once."""
    if (p[v] <= y) == (q[v] <= y):
        return False
    return p[u] + (y - p[v]) / (q[v] - p[v]) * (q[u] - p[u]) > x


@njit(nogil=True, cache=True, error_model="numpy")
def _scan(
    vertices: Floats, faces: Ints, corners: Corners, planes: Ints, low: int, high: int, write: bool,
    edge: Ints, offset: Floats, face: Ints,
) -> int:  # fmt: skip
    """Hits of the faces ``low..high`` with lattice edges whose lower corner is given; returns their number."""
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
                        row = _row(corners, planes, cell, i, j)
                    elif axis == 1:
                        row = _row(corners, planes, j, cell, i)
                    else:
                        row = _row(corners, planes, i, j, cell)
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
    lattice = np.ascontiguousarray(corners, np.int32)
    planes = np.searchsorted(lattice[:, 0], np.arange(int(lattice[-1, 0]) + 2 if len(lattice) else 1)).astype(np.int64)
    points = np.ascontiguousarray(vertices, np.float64)
    none, nothing = np.empty(0, np.int64), np.empty(0)
    chunks = spans(len(faces), _FACES)
    counts = run_chunks(
        lambda span: _scan(points, faces, lattice, planes, *span, False, none, nothing, none), chunks, threads
    )
    starts = np.cumsum([0, *counts])
    edge, offset, face = np.empty(starts[-1], np.int64), np.empty(starts[-1]), np.empty(starts[-1], np.int64)

    def fill(c: int) -> None:
        part = slice(starts[c], starts[c + 1])
        _scan(points, faces, lattice, planes, *chunks[c], True, edge[part], offset[part], face[part])

    run_chunks(fill, range(len(chunks)), threads)
    start = np.zeros(3 * len(lattice) + 1, np.int64)
    _count_edges(edge, start)
    np.cumsum(start, out=start)
    result = Hits(np.empty_like(edge), np.empty_like(offset), np.empty_like(face), start)
    _gather(edge, offset, face, start[:-1].copy(), start, result.edge, result.offset, result.face)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _count_edges(edge: Ints, start: Ints) -> None:
    for hit in range(len(edge)):
        start[edge[hit] + 1] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(
    edge: Ints, offset: Floats, face: Ints, free: Ints, start: Ints, edges: Ints, offsets: Floats, faces: Ints
) -> None:
    """Stable sort by edge, then by offset: a slot of its own for each edge, insertion within it."""
    for hit in range(len(edge)):
        at = free[edge[hit]]
        free[edge[hit]] = at + 1
        while at > start[edge[hit]] and offsets[at - 1] > offset[hit]:
            offsets[at], faces[at] = offsets[at - 1], faces[at - 1]
            at -= 1
        offsets[at], faces[at] = offset[hit], face[hit]
        edges[free[edge[hit]] - 1] = edge[hit]


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest(
    ends: Ints, steps: Ints, magnitudes: Floats, start: Ints, offset: Floats, low: int, high: int, hit: Ints,
    edges: Ints,
) -> None:  # fmt: skip
    for i in range(low, high):
        a, b = min(ends[i, 0], ends[i, 1]), max(ends[i, 0], ends[i, 1])
        axis = 0 if steps[a, 0] == b else (1 if steps[a, 1] == b else 2)
        edges[i] = 3 * a + axis
        hit[i] = -1
        at = magnitudes[a] / (magnitudes[a] + magnitudes[b])
        best = np.inf
        for candidate in range(start[edges[i]], start[edges[i] + 1]):
            if abs(offset[candidate] - at) < best:
                best = abs(offset[candidate] - at)
                hit[i] = candidate


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
        lambda span: _nearest(ends, steps, magnitudes, hits.start, hits.offset, *span, hit, edges),
        spans(len(ends), 1 << 16),
        threads,
    )
    return hit, edges
