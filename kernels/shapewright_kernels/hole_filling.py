"""Closing the holes of a mesh one loop at a time, small holes only if asked for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Bools, Floats, Ints
from .topology import connected_groups, edge_topology, merge_vertices


class FilledHoles(NamedTuple):
    """New vertices follow the given ones, new faces follow the given ones; nothing that was there changes."""

    vertices: Floats
    """``(V + L, 3)``: one new vertex for each of ``L`` loops, at the mean of the midpoints of its edges."""
    faces: Ints
    """``(F + B, 3)``: one new face for each of ``B`` edges of these loops: head and tail of the edge as its face has
    them, then the new vertex; wound like that face."""
    corners: Ints
    """``(B,)``: ``3 * face + k`` of the edge of each new face, from corner ``k`` to ``k + 1``."""
    loops: Ints
    """``(B,)``: number of the loop of each new face."""


def fill_holes(vertices: ArrayLike, faces: ArrayLike, *, max_perimeter: float = np.inf) -> FilledHoles:
    """Fill each simple boundary loop that is shorter than ``max_perimeter`` with a fan around a new vertex.

    Vertices at one position count as one, so seams of texture coordinates are no holes. A loop is simple if the
    boundary passes each of its vertices once; where sheets touch in a vertex of the boundary, nothing is filled.

    Args:
        vertices: ``(V, 3)`` finite floats.
        faces: ``(F, 3)`` integers, wound in any way.
        max_perimeter: in units of ``vertices``.
    Source: the post-processing of TRELLIS.2 (arXiv 2512.14692).

    >>> tent = [[0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, -1, 0]]
    >>> filled = fill_holes(tent, [[0, 1, 2], [0, 2, 3], [0, 3, 1]])
    >>> filled.vertices[4].tolist(), filled.faces[3:].tolist()
    ([0.0, 0.0, 0.0], [[2, 1, 4], [3, 2, 4], [1, 3, 4]])
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
    triangles = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
    merged, group = merge_vertices(points)
    topology = edge_topology(group[triangles])
    corners = topology.corners[topology.offsets[:-1]][topology.boundary]
    corners = np.sort(corners)  # the order of the faces
    nothing = np.zeros(0, np.int64)
    if not len(corners):
        return FilledHoles(points, triangles, nothing, nothing)
    tails, heads = triangles.reshape(-1)[corners], np.roll(triangles, -1, axis=1).reshape(-1)[corners]
    edges = group[np.stack([tails, heads], axis=1)]
    _, loop = connected_groups(edges)
    wanted = _simple(edges, loop) & (_perimeters(merged, edges, loop) < max_perimeter)
    kept = wanted[loop]
    corners, tails, heads, edges = corners[kept], tails[kept], heads[kept], edges[kept]
    _, loop = np.unique(loop[kept], return_inverse=True)
    count = int(loop.max(initial=-1)) + 1
    middles = merged[edges].mean(axis=1)
    sizes = np.bincount(loop, minlength=count)
    centres = np.stack([np.bincount(loop, middles[:, axis], count) for axis in range(3)], axis=1) / sizes[:, None]
    fans = np.stack([heads, tails, len(points) + loop], axis=1)
    return FilledHoles(np.concatenate([points, centres]), np.concatenate([triangles, fans]), corners, loop)


def _simple(edges: Ints, loop: Ints) -> Bools:
    """Per connected piece of the boundary: every vertex ends exactly two edges."""
    ends = np.bincount(edges.reshape(-1))
    broken = (ends[edges] != 2).any(axis=1)
    return np.bincount(loop, broken) == 0


def _perimeters(points: Floats, edges: Ints, loop: Ints) -> Floats:
    lengths = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    return np.asarray(np.bincount(loop, lengths), np.float64)
