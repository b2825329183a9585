"""Cutting polygons into triangles that cover the polygon and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_FLAT = 1e-12
"""Share of the polygon's area below which a triangle of a fan counts as collinear, so that another cut is looked
for."""
_CORNERS_AT_ONCE = 1 << 20


def triangulate(vertices: Array, sizes: Array, corners: Array) -> Array:
    """Triangles ``(T, 3)`` int64 of polygons, ``size - 2`` for each, in the order and with the winding of the polygons.

    A triangle stays as it is; a quad or larger face is fanned from its first corner where that is right, a quad is cut
    along its other diagonal where it is not, and a larger concave face is cut by ears in the plane of its mean (Newell)
    normal. A polygon without area is fanned.

    Args:
        vertices: ``(V, 3)`` float64, finite where a polygon uses them.
        sizes: ``(P,)`` int64, each at least 3.
        corners: ``(sum(sizes),)`` int64 indices into ``vertices``.

    >>> square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    >>> triangulate(square, np.array([4]), np.arange(4)).tolist()
    [[0, 1, 2], [0, 2, 3]]
    """
    if (sizes == 3).all():
        return corners.reshape(-1, 3)
    starts = np.cumsum(sizes) - sizes
    first = np.cumsum(sizes - 2) - (sizes - 2)
    result = np.empty((int((sizes - 2).sum()), 3), np.int64)
    for size in np.unique(sizes).tolist():
        same = np.flatnonzero(sizes == size)
        batch = max(1, _CORNERS_AT_ONCE // size)
        for begin in range(0, len(same), batch):
            which = same[begin : begin + batch]
            polygons = corners[starts[which, None] + np.arange(size)]
            rows = first[which, None] + np.arange(size - 2)
            result[rows] = _of_one_size(vertices, polygons)
    return result


def _of_one_size(vertices: Array, polygons: Array) -> Array:
    """Triangles ``(P, n - 2, 3)`` of polygons ``(P, n)``."""
    count, size = polygons.shape
    fan = np.stack([np.zeros(size - 2, np.int64), np.arange(1, size - 1), np.arange(2, size)], axis=1)
    triangles = np.broadcast_to(fan, (count, size - 2, 3)).copy()
    if size > 3:
        points = vertices[polygons]
        points = points - points.mean(axis=1, keepdims=True)
        scale = np.abs(points).max(axis=(1, 2), keepdims=True)
        points = points / np.where(scale > 0, scale, 1.0)
        wrong = np.flatnonzero(~_covers(points, fan))
        if size == 4 and len(wrong):
            other = np.array([[1, 2, 3], [1, 3, 0]])
            triangles[wrong[_covers(points[wrong], other)]] = other
        elif len(wrong):
            for row in wrong.tolist():
                triangles[row] = _ears(points[row], fan)
    return np.take_along_axis(polygons[:, None, :], triangles, axis=2)


def _covers(points: Array, triangles: Array) -> Array:
    """Whether every triangle turns the way its polygon ``(P, n, 3)`` does, so that none lies outside of it."""
    corners = points[:, triangles]
    areas = np.cross(corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0])
    normal = areas.sum(axis=1)
    turn = np.einsum("ptk,pk->pt", areas, normal)
    limit = _FLAT * np.einsum("pk,pk->p", normal, normal)
    convex: Array = (turn > limit[:, None]).all(axis=1)
    return convex


def _ears(points: Array, fan: Array) -> Array:
    """Triangles of one concave polygon ``(n, 3)`` as corner numbers."""
    from manifold3d import triangulate as cut_ears

    normal = np.cross(points[fan[:, 1]] - points[0], points[fan[:, 2]] - points[0]).sum(axis=0)
    length = np.linalg.norm(normal)
    if not length > 0:
        return fan
    normal /= length
    across = np.eye(3)[np.abs(normal).argmin()]
    right = np.cross(across, normal)
    right /= np.linalg.norm(right)
    flat = np.stack([points @ right, points @ np.cross(normal, right)], axis=1)
    triangles = np.asarray(cut_ears([flat]), np.int64)
    return triangles if len(triangles) == len(fan) else fan
