"""Close a mesh with faces whose winding number is known, so that integer ray crossings give fractional winding numbers.

A mesh M whose oriented boundary is not empty gets *caps* C: cones over the pieces of its boundary. M + C is closed,
so its winding number is an integer, which signed ray crossings give exactly (:mod:`.winding_columns`); the
generalised winding number is linear, so w(M) = w(M + C) - w(C), and C has as few faces as M has boundary edges.
T-junctions (a long edge against the pieces of a split one) are zipped first by *fillers*, triangles without area.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .topology import connected_groups, edge_topology, merge_vertices

ZIP = 1e-7
"""A boundary vertex this close to a boundary edge (in units of the largest extent) lies on it: a few units in the last
place of a float32."""
OFF_LATTICE = np.array([0.04142135, 0.05050807, 0.02360679])
"""Shift of a cone's apex, in units of the size of its rim. It keeps caps of plane, axis-aligned rims out of lattice
planes, where crossings and solid angles would have to agree on what lies exactly on the cap."""


@dataclass(frozen=True, slots=True)
class ClosedMesh:
    """``faces[:surface]`` is the mesh, ``faces[surface:caps]`` are fillers, ``faces[caps:]`` caps."""

    vertices: Floats
    faces: Ints
    surface: int
    caps: int
    boundary_edges: int
    """Edges of the oriented boundary before T-junctions were zipped."""
    open_edges: int
    """Edges of the oriented boundary afterwards, counted with multiplicity; 0 where the mesh is closed."""


def oriented_boundary(faces: ArrayLike) -> Ints:
    """Directed edges ``(B, 2)`` that remain when opposite half-edges cancel, repeated by multiplicity, sorted.

    Empty exactly where the winding number is an integer off the surface: for every closed consistently wound mesh, also
    with overlaps and edges of four faces.
    """
    topology = edge_topology(faces)
    if not len(topology.edges):
        return np.empty((0, 2), np.int64)
    forward = topology.faces.reshape(-1)[topology.corners] == np.repeat(topology.edges[:, 0], topology.face_counts)
    surplus = np.add.reduceat(np.where(forward, 1, -1), topology.offsets[:-1])
    return _repeated(topology.edges, surplus)


def close_mesh(vertices: ArrayLike, faces: ArrayLike, *, relative_tolerance: float = 1e-9) -> ClosedMesh:
    """Merge vertices by position and add fillers and caps.

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers, whose order and winding are kept.
        relative_tolerance: for merging, in units of the largest extent.
    """
    positions, group = merge_vertices(vertices, relative_tolerance)
    merged = group[np.asarray(faces, np.int64).reshape(-1, 3)]
    boundary = oriented_boundary(merged)
    fillers, rest = _zip_t_junctions(positions, boundary)
    _, rim = connected_groups(rest)
    apexes = []
    for start, end in _runs(np.sort(rim)):
        piece = positions[rest[np.argsort(rim, kind="stable")[start:end]]].reshape(-1, 3)
        apexes.append(piece.mean(axis=0) + OFF_LATTICE * float(np.ptp(piece, axis=0).max()))
    caps = np.stack([rest[:, 1], rest[:, 0], len(positions) + rim], axis=1)
    closed = np.concatenate([merged, fillers, caps])
    return ClosedMesh(
        np.concatenate([positions, np.reshape(apexes, (-1, 3))]),
        closed,
        len(merged),
        len(merged) + len(fillers),
        len(boundary),
        len(rest),
    )


def _zip_t_junctions(positions: Floats, boundary: Ints) -> tuple[Ints, Ints]:
    """Fillers between every boundary edge and the boundary vertices on it, and the boundary that is left."""
    none = np.empty((0, 3), np.int64)
    if not len(boundary):
        return none, boundary
    used = np.unique(boundary)
    tolerance = ZIP * float(np.ptp(positions, axis=0).max())
    # along a direction without symmetry few vertices fall into the interval of an edge
    direction = np.array([0.7548777, 0.5698403, 0.3247179])
    height = positions[used] @ direction
    order = np.argsort(height, kind="stable")
    used, height = used[order], height[order]
    ends = np.sort(positions[boundary] @ direction, axis=1)
    first = np.searchsorted(height, ends[:, 0] - 2 * tolerance)
    last = np.searchsorted(height, ends[:, 1] + 2 * tolerance, side="right")
    fillers, pieces = [], []
    for rows in np.array_split(np.arange(len(boundary)), max(1, int((last - first).sum()) // (1 << 22) + 1)):
        count = (last - first)[rows]
        edge = np.repeat(rows, count)
        place = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        vertex = used[place]
        origin, along = positions[boundary[edge, 0]], positions[boundary[edge, 1]] - positions[boundary[edge, 0]]
        offset = positions[vertex] - origin
        length = np.linalg.norm(along, axis=1)
        t = (offset * along).sum(axis=1) / length  # merged ends differ, so no length is zero
        away = np.linalg.norm(offset - (t / length)[:, None] * along, axis=1)
        on = (away <= tolerance) & (t > tolerance) & (t < length - tolerance)
        on &= (vertex != boundary[edge, 0]) & (vertex != boundary[edge, 1])
        sequence = np.lexsort((t[on], edge[on]))
        edge, vertex = edge[on][sequence], vertex[on][sequence]
        for start, end in _runs(edge):
            tail, head = boundary[edge[start]]
            path = np.concatenate([[tail], vertex[start:end], [head]])
            fillers.append(np.stack([np.full(end - start, tail), path[1:-1], path[2:]], axis=1))
            pieces.append(np.stack([path[:-1], path[1:]], axis=1))
        whole = np.setdiff1d(rows, edge)
        pieces.append(boundary[whole])
    if not fillers:
        return none, boundary
    split = np.concatenate(pieces)
    low, high = split.min(axis=1), split.max(axis=1)
    edges, index = np.unique(np.stack([low, high], axis=1), axis=0, return_inverse=True)
    surplus = np.bincount(index.reshape(-1), weights=np.where(split[:, 0] == low, 1.0, -1.0)).astype(np.int64)
    return np.concatenate(fillers), _repeated(edges, surplus)


def _repeated(edges: Ints, surplus: Ints) -> Ints:
    """Edges in the direction of their surplus, as often as it says."""
    directed = np.where((surplus > 0)[:, None], edges, edges[:, ::-1])
    return np.repeat(directed, np.abs(surplus), axis=0)


def _runs(labels: Ints) -> list[tuple[int, int]]:
    """Half-open ranges of equal neighbours."""
    if not len(labels):
        return []
    cuts = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    return list(zip([0, *cuts.tolist()], [*cuts.tolist(), len(labels)], strict=True))
