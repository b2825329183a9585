"""Close a mesh with faces whose winding number is known, so that integer ray crossings give fractional winding numbers.

A mesh M whose oriented boundary is not empty gets *caps* C over the loops of its boundary. M + C is closed, so its
winding number is an integer, which signed ray crossings give exactly (:mod:`.winding_columns`); the generalised winding
number is linear, so w(M) = w(M + C) - w(C), and C has about three faces for each boundary edge of M.
T-junctions (a long edge against the pieces of a split one) are zipped first by *fillers*, triangles without area.

Any cap will do, so they are chosen for cheap far fields: a loop is joined by a strip to one of half as many vertices,
that one to a loop of a quarter, and so on. Faces are as small as the part of the loop that they span; a fan over the
whole loop would consist of needles that are near everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .topology import EdgeTopology, edge_topology, merge_vertices

ZIP = 1e-7
"""A boundary vertex this close to a boundary edge (in units of the largest extent) lies on it: a few units in the last
place of a float32."""
OFF_LATTICE = np.array([0.04142135, 0.05050807, 0.02360679])
"""Shift of a new vertex of a cap, in units of the boundary that it stands for. It keeps caps of plane, axis-aligned
rims out of lattice planes, where crossings and solid angles would have to agree on what lies exactly on the cap."""
SMALL_LOOP = 5
"""Edges of a loop up to which it is closed by a fan around one vertex."""


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


def oriented_boundary(faces: ArrayLike, topology: EdgeTopology | None = None) -> Ints:
    """Directed edges ``(B, 2)`` that remain when opposite half-edges cancel, repeated by multiplicity, sorted.

    Empty exactly where the winding number is an integer off the surface: for every closed consistently wound mesh, also
    with overlaps and edges of four faces.
    """
    topology = topology or edge_topology(faces)
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
    return close_merged(positions, merged, edge_topology(merged))


def close_merged(positions: Floats, merged: Ints, topology: EdgeTopology) -> ClosedMesh:
    """As :func:`close_mesh` for vertices that are merged already, with the topology of the faces."""
    boundary = oriented_boundary(merged, topology)
    fillers, rest = _zip_t_junctions(positions, boundary)
    added, caps = _caps(positions, rest)
    return ClosedMesh(
        np.concatenate([positions, added]),
        np.concatenate([merged, fillers, caps]),
        len(merged),
        len(merged) + len(fillers),
        len(boundary),
        len(rest),
    )


def _caps(positions: Floats, boundary: Ints) -> tuple[Floats, Ints]:
    """New vertices and the faces that cancel a boundary ``(B, 2)`` with as many edges into each vertex as out of it."""
    loops, starts = _loops(boundary)
    points, vertices = [positions], len(positions)
    faces = []
    while len(starts) > 1:
        lengths = np.diff(starts)
        small = lengths <= SMALL_LOOP
        # fans: one vertex for each small loop
        owner = np.repeat(np.arange(len(lengths)), lengths)
        at = np.concatenate(points)[loops]
        successor = np.arange(1, len(loops) + 1)
        successor[starts[1:] - 1] = starts[:-1]
        step = np.linalg.norm(at[successor] - at, axis=1)
        centre = np.add.reduceat(at, starts[:-1]) / lengths[:, None]
        centre += OFF_LATTICE * np.add.reduceat(step, starts[:-1])[:, None] / 2
        fan = small & (lengths > 2)  # there and back again cancels itself
        apex = vertices + np.cumsum(fan) - 1
        points.append(centre[fan])
        vertices += int(fan.sum())
        rim = fan[owner]
        faces.append(np.stack([loops[successor][rim], loops[rim], apex[owner[rim]]], axis=1))
        # strips: one new vertex for two of a large loop (for its last three, where their number is odd)
        halves = np.where(small, 0, lengths // 2)
        large = ~small[owner]
        local = np.arange(len(loops)) - starts[owner]
        half_starts = np.concatenate([[0], np.cumsum(halves)])
        coarse = half_starts[owner] + np.minimum(local // 2, halves[owner] - 1)
        first = large & (local % 2 == 0) & (local // 2 < halves[owner])
        points.append(at[first] + OFF_LATTICE * (step + step[successor])[first, None])
        mine, others = vertices + coarse[large], vertices + coarse[successor[large]]
        here, there = loops[large], loops[successor[large]]
        faces.append(np.stack([there, here, mine], axis=1))
        crossing = mine != others
        faces.append(np.stack([there, mine, others], axis=1)[crossing])
        loops = vertices + np.arange(half_starts[-1])
        vertices += int(half_starts[-1])
        starts = np.unique(half_starts)
    if not faces:
        return np.empty((0, 3)), np.empty((0, 3), np.int64)
    return np.concatenate(points[1:]), np.concatenate(faces)


def _loops(boundary: Ints) -> tuple[Ints, Ints]:
    """Closed walks along all edges: the tails of the edges, walk by walk, and where each walk starts."""
    tails = np.argsort(boundary[:, 0], kind="stable")
    heads = np.argsort(boundary[:, 1], kind="stable")
    successor = np.empty(len(boundary), np.int64)
    successor[heads] = tails  # the k-th edge into a vertex goes on as the k-th edge out of it
    sequence, starts = _follow(successor)
    return boundary[sequence, 0], starts


@njit(nogil=True, cache=True, error_model="numpy")
def _follow(successor: Ints) -> tuple[Ints, Ints]:
    sequence = np.empty(successor.size, np.int64)
    starts = np.zeros(successor.size + 1, np.int64)
    seen = np.zeros(successor.size, np.bool_)
    place, loops = 0, 0
    for seed in range(successor.size):
        if seen[seed]:
            continue
        at = seed
        while not seen[at]:
            seen[at] = True
            sequence[place] = at
            place += 1
            at = successor[at]
        loops += 1
        starts[loops] = place
    return sequence, starts[: loops + 1].copy()


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
