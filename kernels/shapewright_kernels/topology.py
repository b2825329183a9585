"""Topology of a triangle mesh: vertices merged by position, edges with their faces, components, surplus faces."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Bools, Floats, Ints
from .rows import cross_rows, norm_rows

FLAT_AREA = 1e-14
"""A face is flat when its area is at most this times the squared diagonal of the mesh's bounding box."""


def merge_vertices(vertices: ArrayLike, relative_tolerance: float = 1e-7) -> tuple[Floats, Ints]:
    """Join vertices at one position, whatever order they come in.

    Points stay apart when, within their group, a gap wider than the tolerance separates them along some axis; all
    others are joined. With the tiny tolerances meant here (the default is a few units in the last place of a float32)
    that is equality of positions up to rounding.

    Args:
        vertices: ``(V, 3)`` finite floats.
        relative_tolerance: in units of the largest extent of ``vertices``; 0 joins exactly equal positions only.
    Returns:
        ``(M, 3)`` float64 positions (of the first vertex of each group, groups ordered by their first vertex) and
        ``(V,)`` int64, the group of each vertex.
    Raises:
        ValueError: the tolerance is negative, or a coordinate is not finite.

    >>> merged, group = merge_vertices([[0, 0, 0], [1, 0, 0], [1e-9, 0, 0]])
    >>> merged.tolist(), group.tolist()
    ([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 1, 0])
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
    if relative_tolerance < 0:
        raise ValueError(f"the tolerance must not be negative, not {relative_tolerance}")
    if not np.isfinite(points).all():
        raise ValueError("vertices must be finite; drop non-finite faces first")
    if len(points) == 0:
        return points, np.zeros(0, np.int64)
    tolerance = relative_tolerance * float(np.ptp(points, axis=0).max())
    labels = np.zeros(len(points), np.int64)
    rows = np.arange(len(points))  # vertices whose group may still be split
    groups, unchanged, axis = 1, 0, 0
    while len(rows) and unchanged < 3:
        order = rows[np.lexsort((points[rows, axis], labels[rows]))]
        same = labels[order[1:]] == labels[order[:-1]]
        near = points[order[1:], axis] - points[order[:-1], axis] <= tolerance
        start = np.concatenate(([True], ~(same & near)))
        unchanged = unchanged + 1 if bool((near | ~same).all()) else 0
        labels[order] = groups + np.cumsum(start)
        groups += int(start.sum())
        alone = start & np.append(start[1:], True)
        rows = order[~alone]
        axis = (axis + 1) % 3
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return points[np.sort(first)], rank[group]


@dataclass(frozen=True)
class EdgeTopology:
    """Edges of a mesh and the faces on them; faces with a repeated corner have been left out.

    ``edges`` ``(E, 2)`` int64, smaller vertex first, sorted. ``offsets`` ``(E + 1,)`` and ``corners``: the face corners
    ``3 * face + k`` whose edge, from corner ``k`` to ``k + 1``, is edge ``e`` are
    ``corners[offsets[e]:offsets[e + 1]]``.
    """

    faces: Ints
    """``(F, 3)`` int64: all faces as given, repeated corners included."""
    edges: Ints
    offsets: Ints
    corners: Ints
    proper: Bools
    """``(F,)``: the face has three different corners."""

    @cached_property
    def face_counts(self) -> Ints:
        """``(E,)``: number of faces on each edge."""
        return np.diff(self.offsets)

    @cached_property
    def boundary(self) -> Bools:
        """``(E,)``: exactly one face."""
        return self.face_counts == 1

    @cached_property
    def non_manifold(self) -> Bools:
        """``(E,)``: three or more faces."""
        return self.face_counts > 2

    @cached_property
    def inconsistent(self) -> Bools:
        """``(E,)``: two faces that both run along the edge in the same direction, so their normals disagree."""
        return (self.face_counts == 2) & (self._forward != 1)

    @cached_property
    def _forward(self) -> Ints:
        """``(E,)``: number of faces that run along the edge from its smaller to its larger vertex."""
        forward = self.faces.reshape(-1)[self.corners] == np.repeat(self.edges[:, 0], self.face_counts)
        return np.add.reduceat(forward, self.offsets[:-1], dtype=np.int64) if len(self.edges) else self.face_counts

    @cached_property
    def manifold_pairs(self) -> Ints:
        """``(M, 2)``: the two faces of each edge that has exactly two, in the order of ``edges``."""
        start = self.offsets[:-1][self.face_counts == 2]
        return np.stack([self.corners[start], self.corners[start + 1]], axis=1) // 3

    @cached_property
    def boundary_loops(self) -> int:
        """Connected pieces of the boundary; two loops that share a vertex count as one."""
        _, labels = connected_groups(self.edges[self.boundary])
        return int(labels.max(initial=-1)) + 1

    @cached_property
    def components(self) -> int:
        """Pieces of the mesh that share no vertex; a face with a repeated corner belongs to the vertices it names."""
        _, labels = connected_groups(self.faces)
        return int(labels.max(initial=-1)) + 1

    @cached_property
    def euler(self) -> int:
        """Vertices - edges + faces over the faces with three different corners."""
        faces = self.faces[self.proper]
        return len(vertices_in_use(faces)) - len(self.edges) + len(faces)

    @property
    def closed(self) -> bool:
        """Every edge has exactly two faces (and there is one): no boundary, no branching."""
        return len(self.edges) > 0 and bool((self.face_counts == 2).all())

    @cached_property
    def cycle(self) -> bool:
        """As many faces run along every edge in one direction as in the other: winding numbers are integers. Holds for
        watertight meshes and for those whose sheets meet in an edge of four, six, ... faces."""
        if len(self.edges) == 0:
            return False
        return bool((2 * self._forward == self.face_counts).all())

    @property
    def watertight(self) -> bool:
        """Closed, and no edge joins faces of opposite winding."""
        return self.closed and not self.inconsistent.any()


def edge_topology(faces: ArrayLike) -> EdgeTopology:
    """Edges of ``faces`` ``(F, 3)``; give faces over merged vertices (:func:`merge_vertices`), seams count otherwise.

    >>> two = edge_topology([[0, 1, 2], [2, 1, 3]])
    >>> len(two.edges), int(two.boundary.sum()), two.boundary_loops, two.euler, two.inconsistent.any().item()
    (5, 4, 1, 1, False)
    """
    corners = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
    proper = _proper(corners)
    tail = corners.reshape(-1)
    head = np.roll(corners, -1, axis=1).reshape(-1)
    half_edges = np.flatnonzero(np.repeat(proper, 3))
    low = np.minimum(tail, head)[half_edges]
    high = np.maximum(tail, head)[half_edges]
    span = int(corners.max(initial=0)) + 1
    order = _order_by(low, _order_by(high, np.arange(len(high)), span), span)
    low, high = low[order], high[order]
    fresh = np.ones(len(low), bool)
    fresh[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    start = np.flatnonzero(fresh)
    edges = np.stack([low[start], high[start]], axis=1)
    return EdgeTopology(corners, edges, np.append(start, len(low)), half_edges[order], proper)


def connected_groups(tuples: ArrayLike) -> tuple[Ints, Ints]:
    """Connected pieces of the hypergraph whose rows of ``tuples`` ``(N, K)`` join ``K`` vertices each.

    Returns:
        the vertices in use, ascending, ``(U,)`` int64, and the piece of each row ``(N,)`` int64, numbered by the
        smallest vertex in the piece.
    """
    rows = np.ascontiguousarray(tuples, dtype=np.int64)
    if rows.size == 0:
        return np.zeros(0, np.int64), np.zeros(len(rows), np.int64)
    roots = _union(rows, int(rows.max()) + 1)
    used = vertices_in_use(rows)
    number = np.zeros(len(roots), np.int64)
    number[used] = np.cumsum(roots[used] == used) - 1
    return used, number[roots[rows[:, 0]]]


def vertices_in_use(rows: Ints) -> Ints:
    """Ids that occur in ``rows``, ascending."""
    mask = np.zeros(int(rows.max(initial=-1)) + 1, bool)
    mask[rows] = True
    return np.flatnonzero(mask)


def flat_faces(vertices: ArrayLike, faces: ArrayLike) -> Bools:
    """``(F,)``: a corner is repeated, or the area vanishes beside the mesh (:data:`FLAT_AREA`)."""
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
    corners = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
    if len(corners) == 0:
        return np.zeros(0, bool)
    used = points[vertices_in_use(corners)]
    diagonal = float(((used.max(axis=0) - used.min(axis=0)) ** 2).sum())
    a, b, c = (points[corners[:, k]] for k in range(3))
    doubled = norm_rows(cross_rows(b - a, c - a))
    return ~_proper(corners) | (0.5 * doubled <= FLAT_AREA * diagonal)


def duplicate_faces(faces: ArrayLike) -> Bools:
    """``(F,)``: an earlier face has the same three corners, in any order. Merge vertices first, or copies differ."""
    corners = np.sort(np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3), axis=1)
    order = np.lexsort((corners[:, 2], corners[:, 1], corners[:, 0]))
    surplus = np.zeros(len(corners), bool)
    surplus[order[1:]] = (corners[order[1:]] == corners[order[:-1]]).all(axis=1)
    return surplus


def _proper(corners: Ints) -> Bools:
    """Faces with three different corners."""
    return (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]) & (corners[:, 2] != corners[:, 0])


@njit(nogil=True, cache=True, error_model="numpy")
def _order_by(keys: Ints, order: Ints, span: int) -> Ints:
    """Sort ``order`` by ``keys[order]``, integers below ``span``; what is equal stays in its order."""
    starts = np.zeros(span + 1, np.int64)
    for row in range(len(keys)):
        starts[keys[row] + 1] += 1
    for key in range(span):
        starts[key + 1] += starts[key]
    result = np.empty_like(order)
    for place in order:
        key = keys[place]
        result[starts[key]] = place
        starts[key] += 1
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _union(rows: Ints, count: int) -> Ints:
    """Root (the smallest vertex) of the piece of each of ``count`` vertices."""
    parent = np.arange(count)
    for row in range(rows.shape[0]):
        for column in range(1, rows.shape[1]):
            a, b = rows[row, column - 1], rows[row, column]
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            if a < b:
                parent[b] = a
            else:
                parent[a] = b
    for vertex in range(count):
        parent[vertex] = parent[parent[vertex]]
    return parent
