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
    order = np.lexsort(points.T[::-1])
    ordered = points[order]
    new = np.ones(len(points), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(points), np.int64)
    group[order] = np.cumsum(new) - 1
    first = order[new]  # lexsort is stable: the first index of each position
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


def _close_pairs(points: Array, tolerance: float) -> Array:
    """Index pairs ``(L, 2)`` that link all points within ``tolerance``: neighbours in one of eight shifted grids.

    Cells have twice the tolerance as their edge, and along each axis one of two shifts has no border between two points
    that close.
    """
    factors = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)
    found = []
    for shift in np.ndindex(2, 2, 2):
        cells = np.floor(points / (2 * tolerance) + np.array(shift) / 2).astype(np.int64)
        keys = (cells.view(np.uint64) * factors).sum(axis=1, dtype=np.uint64)
        keys ^= keys >> np.uint64(29)
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
        a, b = order[same], order[same + 1]
        equal = (cells[a] == cells[b]).all(axis=1)
        found.append(np.stack([a[equal], b[equal]], axis=1))
    return np.concatenate(found)


def clean_triangles(vertices: Array, faces: Array, *, tolerance: float) -> tuple[Array, Array, Counter[str]]:
    """Weld vertices by position, then drop faces without area and repeated faces.

    Args:
        vertices: ``(V, 3)`` float64, finite.
        faces: ``(F, 3)`` int64 into ``vertices``, at least one.
        tolerance: for welding, as a share of the diagonal.
    Returns:
        Indices ``(K,)`` of the vertices that stay, in their order; faces ``(G, 3)`` into those, in their order; counts.
    """
    counts: Counter[str] = Counter()
    used = np.unique(faces)
    try:
        points = unit_points(vertices[used])
    except ValueError:
        return used[:0], faces[:0], Counter({"zero-area faces": len(faces)})
    leader, counts["near-duplicate vertices"] = weld(points, tolerance)
    local = leader[np.searchsorted(used, faces)]
    kept = local[~_without_area(points, local)]
    counts["zero-area faces"] = len(local) - len(kept)
    distinct = _first_of_each(kept)
    counts["duplicate faces"] = len(kept) - len(distinct)
    kept = kept[distinct]
    stay, renumbered = np.unique(kept, return_inverse=True)
    return used[stay], renumbered.reshape(-1, 3).astype(np.int64), counts


def _without_area(points: Array, faces: Array) -> Array:
    corners = points[faces]
    edges = corners[:, [1, 2, 0]] - corners
    double_area = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    longest = np.sqrt(np.einsum("fek,fek->fe", edges, edges).max(axis=1))
    none = double_area <= 2 * ZERO_AREA
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


def _first_of_each(faces: Array) -> Array:
    """Indices of the faces that repeat no earlier face, whichever way round, in their order."""
    ordered = np.sort(faces, axis=1)
    order = np.lexsort(ordered.T[::-1])
    ranked = ordered[order]
    new = np.ones(len(faces), bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    return np.sort(order[new])


def consistent_winding(faces: Array) -> bool:
    """Whether the winding of ``faces`` ``(F, 3)`` over welded vertices tells two sides apart.

    True where some edge joins two faces and every edge of exactly two faces is run through once each way. Unconnected
    triangles and one-sided surfaces have no such winding; a single triangle has.
    """
    if len(faces) <= 1:
        return True
    edges = _edge_keys(faces, int(faces.max()) + 1).reshape(-1)
    forward = (faces < faces[:, [1, 2, 0]]).reshape(-1)
    _, number, uses = np.unique(edges, return_inverse=True, return_counts=True)
    runs_forward = np.bincount(number, weights=forward)
    pairs = uses == 2
    return bool(pairs.any() and (runs_forward[pairs] == 1).all())
