"""Cleaning of triangles in float64, by tolerances relative to the size of the shape; every repair is counted."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

INDEXED_TOLERANCE = 1e-9
"""Vertices nearer than this share of the diagonal are one vertex; below float32 resolution at the size of the shape."""
SOUP_TOLERANCE = 2.0**-22
"""The same for formats that repeat float32 positions instead of sharing vertices: two units in the last place there."""
ZERO_AREA = 1e-14
"""Share of the squared diagonal below which an area is none."""
SLIVER_HEIGHT = 1e-7
"""Share of the diagonal below which a height is the rounding of float32 coordinates."""


_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
_DIRECTIONS = np.array([[0.534, 0.719, 0.445], [-0.686, 0.351, 0.637], [0.417, -0.612, 0.672]])


def unit_points(points: Array) -> Array:
    """``points`` ``(N, 3)``, finite, moved and scaled to diagonal 1 about the origin without overflow; raises
    :class:`ValueError` where all of them coincide."""
    largest = np.abs(points).max()
    scaled = points / largest if largest > 0 else points
    low, high = scaled.min(axis=0), scaled.max(axis=0)
    diagonal = np.linalg.norm(high - low)
    if not diagonal > 0:
        raise ValueError("all points coincide")
    return np.asarray((scaled - (low + high) / 2) / diagonal)


def weld(points: Array, tolerance: float) -> tuple[Array, int]:
    """For each point the first point that it coincides with, and how many that were only nearly equal were joined.

    Points closer than ``tolerance`` along every axis end in one group, whatever their order; points farther apart than
    twice that along some axis do not, unless a chain of points links them.

    Args:
        points: ``(N, 3)`` float64.
    Returns:
        ``(N,)`` int64 indices into ``points``, and the count of distinct positions that were given up.
    """
    first, group = _distinct_rows((points + 0.0).view(np.uint64))  # -0.0 and 0.0 are one place
    links = _close_pairs(points[first], tolerance)
    if not len(links):
        return first[group], 0
    label = np.arange(len(first))
    while True:  # the smallest label walks along the links until nothing changes
        before = label.copy()
        smallest = np.minimum(label[links[:, 0]], label[links[:, 1]])
        for end in (0, 1):
            np.minimum.at(label, links[:, end], smallest)
        label = label[label]
        if (label == before).all():
            break
    leader = np.full(len(first), len(points))
    np.minimum.at(leader, label, first)
    return leader[label][group], len(first) - len(np.unique(label))


def _distinct_rows(rows: Array) -> tuple[Array, Array]:
    """Index of the first of each set of equal rows ``(N, 3)`` (64-bit integers), ascending, and the set of each row."""
    rows = rows.view(np.uint64)
    order = np.argsort(_mixed(rows))
    same = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    keys = _mixed(rows[order])
    if (~same & (keys[1:] == keys[:-1])).any():  # two rows with one key may stand between equal ones
        order = np.lexsort(rows.T)
        same = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    first = np.minimum.reduceat(order, starts)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    group = np.empty(len(rows), np.int64)
    group[order] = np.repeat(rank, np.diff(np.append(starts, len(rows))))
    return np.sort(first), group


def _mixed(rows: Array) -> Array:
    """One 64-bit key a row of three 64-bit integers; different rows nearly always get different keys."""
    key = np.zeros(len(rows), np.uint64)
    for column, factor in zip(rows.T, _FACTORS, strict=True):
        key = (key ^ column.astype(np.uint64, copy=False)) * factor
        key ^= key >> np.uint64(31)
    return key


def _close_pairs(points: Array, tolerance: float) -> Array:
    """Index pairs ``(L, 2)`` that link all points within ``tolerance``: neighbours in one of eight shifted grids.

    Cells have twice the tolerance as their edge, and along each axis one of two shifts has no border between two points
    that close. Points that stand alone in some projection onto a line are nobody's neighbours and take no part.
    """
    candidates = np.arange(len(points))
    reach = 1.75 * tolerance + 1e-15
    for direction in _DIRECTIONS:
        along = points[candidates] @ direction
        order = np.argsort(along)
        near = np.diff(along[order]) <= reach
        alone = ~(np.append(near, False) | np.append(False, near))
        candidates = candidates[order[~alone]]
        if not len(candidates):
            return np.zeros((0, 2), np.int64)
    chosen = points[candidates]
    found = []
    for shift in np.ndindex(2, 2, 2):
        cells = np.floor(chosen / (2 * tolerance) + np.array(shift) / 2).astype(np.int64)
        order = np.argsort(_mixed(cells.view(np.uint64)), kind="stable")
        equal = (cells[order[1:]] == cells[order[:-1]]).all(axis=1)
        found.append(np.stack([order[:-1][equal], order[1:][equal]], axis=1))
    pairs: Array = candidates[np.concatenate(found)]
    return pairs


def clean_triangles(vertices: Array, faces: Array, *, tolerance: float) -> tuple[Array, Array, Counter[str]]:
    """Weld vertices by position, then drop faces without area and repeated faces.

    Args:
        vertices: ``(V, 3)`` float64, finite.
        faces: ``(F, 3)`` int64 into ``vertices``, at least one.
        tolerance: for welding, as a share of the diagonal.
    Returns:
        Indices ``(K,)`` of the vertices that stay, in their order; faces ``(G, 3)`` into those, in their order; counts.
    """
    stay, kept, _, counts = clean_triangles_rows(vertices, faces, tolerance=tolerance)
    return stay, kept, counts


def clean_triangles_rows(
    vertices: Array, faces: Array, *, tolerance: float
) -> tuple[Array, Array, Array, Counter[str]]:
    """:func:`clean_triangles` that also says which rows ``(G,)`` of ``faces`` stayed (third)."""
    counts: Counter[str] = Counter()
    used, faces = _renumbered(faces, len(vertices))
    try:
        points = unit_points(vertices[used])
    except ValueError:
        return used[:0], faces[:0], used[:0], Counter({"zero-area faces": len(faces)})
    leader, counts["near-duplicate vertices"] = weld(points, tolerance)
    local = leader[faces]
    rows = np.flatnonzero(~_without_area(points, local))
    kept = local[rows]
    counts["zero-area faces"] = len(local) - len(kept)
    distinct = _distinct_rows(np.sort(kept, axis=1))[0] if len(kept) else kept[:, 0]
    counts["duplicate faces"] = len(kept) - len(distinct)
    stay, kept = _renumbered(kept[distinct], len(points))
    return used[stay], kept, rows[distinct], counts


def _renumbered(faces: Array, vertex_count: int) -> tuple[Array, Array]:
    """The vertices in use, ascending, and the faces as indices into those."""
    used = np.zeros(vertex_count, bool)
    used[faces] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1)[faces]


def _without_area(points: Array, faces: Array) -> Array:
    corners = points[faces]
    edges = corners[:, [1, 2, 0]] - corners
    double_area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    longest = np.sqrt(np.einsum("fek,fek->fe", edges, edges).max(axis=1))
    none: Array = double_area <= 2 * ZERO_AREA
    none |= (faces == faces[:, [1, 2, 0]]).any(axis=1)
    sliver = ~none & (double_area <= SLIVER_HEIGHT * longest)
    if (none | sliver).all():
        return np.ones(len(faces), bool)
    if sliver.any():
        # A face as thin as rounding may still be what joins its two neighbours: it goes only if no edge is opened.
        rest = np.flatnonzero(~none)
        edge = _edge_keys(faces[rest], len(points))
        _, number, uses = np.unique(edge, return_inverse=True, return_counts=True)
        joins = (uses[number.reshape(-1, 3)] == 2).any(axis=1)
        none[rest[sliver[rest] & ~joins]] = True
    return none


def _edge_keys(faces: Array, vertex_count: int) -> Array:
    """``(F, 3)`` int64, equal for equal undirected edges."""
    start, end = faces, faces[:, [1, 2, 0]]
    return np.asarray(np.minimum(start, end) * vertex_count + np.maximum(start, end))


def consistent_winding(faces: Array) -> bool:
    """Whether the winding of ``faces`` ``(F, 3)`` over welded vertices tells two sides apart.

    True where some edge joins two faces and every edge of exactly two faces is run through once each way. Unconnected
    triangles and one-sided surfaces have no such winding; a single triangle has.
    """
    if len(faces) <= 1:
        return True
    keys = 2 * _edge_keys(faces, int(faces.max()) + 1) + (faces < faces[:, [1, 2, 0]])
    keys = np.sort(keys, axis=None)  # the two directions of an edge are neighbours
    starts = np.flatnonzero(np.append(True, np.diff(keys >> 1)))
    forward = np.add.reduceat(keys & 1, starts)
    pairs = np.diff(np.append(starts, len(keys))) == 2
    return bool(pairs.any() and (forward[pairs] == 1).all())
