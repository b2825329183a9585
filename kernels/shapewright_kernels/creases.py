"""Edges of a mesh that carry meaning: creases and boundaries, as segments with exact distances to them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Bools, Floats, Ints
from .canonical import position_ranks, used_vertices
from .closest_point import ClosestPointIndex
from .rows import cross_rows, dot_rows, norm_rows
from .topology import EdgeTopology, connected_groups, edge_topology, flat_faces, merge_vertices


class MergedMesh(NamedTuple):
    """Vertices merged by position, faces over them, edges with their faces."""

    vertices: Floats
    faces: Ints
    topology: EdgeTopology


def merged_mesh(vertices: ArrayLike, faces: ArrayLike) -> MergedMesh:
    """Merge the vertices that ``faces`` uses (:func:`~shapewright_kernels.topology.merge_vertices`); keep all faces."""
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
    corners = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
    used, corners = used_vertices(len(points), corners)
    merged, group = merge_vertices(points[used])
    joined = group[corners]
    return MergedMesh(merged, joined, edge_topology(joined))


def collapse_short_edges(mesh: MergedMesh, length: float) -> MergedMesh:
    """Shrink every group of vertices joined by edges shorter than ``length`` to its first vertex; drop flat faces.

    Removes the specks that iso-surfaces leave where they pass close to a lattice point: their angles are noise.
    """
    edges = mesh.topology.edges
    run = mesh.vertices[edges[:, 0]] - mesh.vertices[edges[:, 1]]
    short = edges[norm_rows(run) < length]
    target = np.arange(len(mesh.vertices))
    _, labels = connected_groups(short)
    if len(labels):
        first = np.full(int(labels.max()) + 1, len(target))
        np.minimum.at(first, labels, short.min(axis=1))
        target[short[:, 0]] = first[labels]
        target[short[:, 1]] = first[labels]
    faces = target[mesh.faces]
    faces = faces[~flat_faces(mesh.vertices, faces)]
    return MergedMesh(mesh.vertices, faces, edge_topology(faces))


def sharp_edges(mesh: MergedMesh, degrees: float) -> Bools:
    """``(E,)``: edges with exactly two faces whose dihedral angle exceeds ``degrees``.

    The angle is that between the two planes as the surface bends, whatever the winding of the faces; a fold back onto
    itself is 180 degrees. Edges next to a face without area are not sharp.
    """
    topology = mesh.topology
    pairs = topology.manifold_pairs
    sharp = np.zeros(len(topology.edges), bool)
    if len(pairs) == 0:
        return sharp
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    cross = cross_rows(b - a, c - a)
    lengths = norm_rows(cross)
    normals = np.divide(cross, lengths[:, None], out=np.zeros_like(cross), where=lengths[:, None] > 0)
    cosine = dot_rows(normals[pairs[:, 0]], normals[pairs[:, 1]])
    two = topology.face_counts == 2
    cosine = np.where(topology.inconsistent[two], -cosine, cosine)
    flat = flat_faces(mesh.vertices, mesh.faces)[pairs]
    sharp[two] = (cosine < np.cos(np.radians(degrees))) & ~flat[:, 0] & ~flat[:, 1]
    return sharp


def segment_index(ends: ArrayLike) -> ClosestPointIndex:
    """Exact distances to segments ``(S, 2, 3)``: triangles that have collapsed to their longest edge.

    >>> segment_index([[[0, 0, 0], [1, 0, 0]]]).query([[0.5, 2.0, 0.0], [4.0, 4.0, 0.0]])[0].tolist()
    [2.0, 5.0]
    """
    pairs = np.ascontiguousarray(ends, dtype=np.float64).reshape(-1, 2, 3)
    rows = 2 * np.arange(len(pairs))
    return ClosestPointIndex(pairs.reshape(-1, 3), np.stack([rows, rows + 1, rows + 1], axis=1))


def ordered_segments(ends: Floats) -> tuple[Floats, Ints]:
    """Segments ``(S, 2, 3)`` with ends and rows sorted by position, and the row each came from ``(S,)``.

    What is sampled from them then does not depend on how the mesh numbered its vertices.
    """
    ranks = position_ranks(ends.reshape(-1, 3)).reshape(-1, 2)
    turned = np.where((ranks[:, 0] > ranks[:, 1])[:, None, None], ends[:, ::-1], ends)
    order = np.lexsort((np.maximum(*ranks.T), np.minimum(*ranks.T)))
    return turned[order], order
