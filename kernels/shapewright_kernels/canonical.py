"""One order for the faces of a surface, whatever order and corner rotation they were stored in, and every face once.

A sampler that walks faces in stored order gives other samples for the same surface stored differently. In this order it
does not, so numbers measured on a surface are a function of the surface.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .rows import cross_rows, norm_rows
from .topology import FLAT_AREA

STEPS = 2**21 / 1.0937


class CanonicalSurface(NamedTuple):
    """Faces in canonical order. Corners ascend by position; ``signs`` remembers the winding."""

    corners: Floats
    """``(F, 3, 3)`` float64."""
    weights: Floats
    """``(F,)``: stored copies that run along ``corners`` minus those that run against it; 0 for a wall between two
    rooms that was stored once for each of them. Winding numbers need this, distances do not."""
    source: Ints
    """``(F,)`` int64: index of the face as given."""
    normals: Floats
    """``(F, 3)``: unit normals of the stored winding."""
    areas: Floats
    """``(F,)``."""


def canonical_surface(vertices: ArrayLike, faces: ArrayLike) -> CanonicalSurface:
    """Sort the faces of a mesh and drop faces without area and exact copies (same three positions, any winding).

    Args:
        vertices: ``(V, 3)`` floats, finite where a face uses them.
        faces: ``(F, 3)`` integers.
    Returns:
        possibly fewer faces. Where copies have opposite windings, the normal is that of the winding along ``corners``.
        A face has no area by the rule of :func:`~shapewright_kernels.topology.flat_faces`.
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3) + 0.0  # turns -0.0 into 0.0
    triangles = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
    used, triangles = used_vertices(len(points), triangles)
    points = points[used]
    rank = position_ranks(points)
    names = rank[triangles]
    first, second, third = names[:, 0], names[:, 1], names[:, 2]
    low, high = np.minimum(np.minimum(first, second), third), np.maximum(np.maximum(first, second), third)
    middle = first + second + third - low - high
    follower = np.where(first == low, second, np.where(second == low, third, first))
    against = follower == high  # low, high, middle: the winding runs against the sorted corners
    keys = np.lexsort((2 * high + against, low * (len(points) + 1) + middle))
    low, middle, high = low[keys], middle[keys], high[keys]
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (low[1:] != low[:-1]) | (middle[1:] != middle[:-1]) | (high[1:] != high[:-1])
    start = np.flatnonzero(fresh)
    signs = np.where(against[keys], -1.0, 1.0)
    weights = np.add.reduceat(signs, start) if len(start) else np.zeros(0)
    position = np.zeros((int(rank.max(initial=-1)) + 1, 3))
    position[rank] = points
    corners = position[np.stack([low[start], middle[start], high[start]], axis=1)]
    cross = cross_rows(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = norm_rows(cross)
    extent = np.ptp(corners.reshape(-1, 3), axis=0) if len(corners) else np.zeros(3)
    kept = doubled > 2 * FLAT_AREA * float((extent**2).sum())
    start, cross, doubled = start[kept], cross[kept], doubled[kept]
    normals = cross * (signs[start] / doubled)[:, None]
    return CanonicalSurface(corners[kept], weights[kept], keys[start], normals, doubled / 2)


def position_ranks(points: Floats) -> Ints:
    """Place of each of ``points`` ``(P, 3)`` in an order of positions; only equal positions have equal ranks.

    The order is that of x, y, z in steps of five ten-millionths of the extent first, so that scaling and moving a mesh,
    which changes the last bits, changes no order among vertices that share a coordinate.
    """
    if len(points) == 0:
        return np.zeros(0, np.int64)
    low = points.min(axis=0)
    extent = float((points.max(axis=0) - low).max())
    # neither factor nor offset is a round number: coordinates that people choose must not lie where a step ends
    steps = ((points - low) * (STEPS / extent if extent > 1e-300 else 0.0) + 0.377964473).astype(np.int64)
    keys = steps[:, 0] << 42 | steps[:, 1] << 21 | steps[:, 2]
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    tied = np.zeros(len(points) + 1, bool)
    tied[1:-1] = ranked[1:] == ranked[:-1]
    among = np.flatnonzero(tied[:-1] | tied[1:])
    rows = order[among]
    order[among] = rows[np.lexsort((points[rows, 2], points[rows, 1], points[rows, 0], keys[rows]))]
    placed = points[order]
    ranks = np.zeros(len(points), np.int64)
    ranks[order[1:]] = np.cumsum(
        (placed[1:, 0] != placed[:-1, 0]) | (placed[1:, 1] != placed[:-1, 1]) | (placed[1:, 2] != placed[:-1, 2])
    )
    return ranks


def used_vertices(count: int, triangles: Ints) -> tuple[Ints, Ints]:
    """Ids of the vertices that faces use, and the faces over them."""
    mask = np.zeros(count, bool)
    mask[triangles] = True
    return np.flatnonzero(mask), (np.cumsum(mask) - 1)[triangles] if len(triangles) else triangles
