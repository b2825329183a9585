"""Angle-weighted pseudonormals: the sign of a point with respect to the nearest face, edge or vertex of a closed mesh.

Source: Baerentzen and Aanaes 2005, "Signed distance computation using the angle weighted pseudonormal".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, sqrt

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .threads import run_chunks, spans
from .topology import EdgeTopology, edge_topology, merge_vertices
from .triangles import face_normals

_CHUNK = 1 << 14
CANCELLED = 1e-12
"""Sums of unit normals shorter than this are what rounding leaves of opposite faces, which is no direction."""
FEATURE = 1e-9
"""A closest point whose barycentric coordinate is below this lies on the opposite edge (two of them: on the corner)."""


@dataclass(frozen=True, slots=True)
class Pseudonormals:
    """Unit normals by feature; ``edges[f, k]`` belongs to the edge from corner ``k`` to ``k + 1`` of face ``f``.

    Zero where nothing decides: faces without area, and features at which the faces' normals cancel.
    """

    corners: Floats
    """``(F, 3, 3)`` positions."""
    faces: Floats
    """``(F, 3)``"""
    edges: Floats
    """``(F, 3, 3)``"""
    vertices: Floats
    """``(F, 3, 3)``: by face and corner."""


def pseudonormals(vertices: ArrayLike, faces: ArrayLike, *, relative_tolerance: float = 1e-9) -> Pseudonormals:
    """Normals of all features of a mesh.

    An edge takes the sum of the normals of all its faces (two or more), a vertex the sum weighted by the angle of each
    face there. Vertices at one position count as one (:func:`~shapewright_kernels.topology.merge_vertices`).

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers.
        relative_tolerance: for merging, in units of the largest extent.
    """
    positions, group = merge_vertices(vertices, relative_tolerance)
    merged = group[np.asarray(faces, np.int64).reshape(-1, 3)]
    return merged_pseudonormals(positions, merged, edge_topology(merged))


def merged_pseudonormals(positions: Floats, faces: Ints, topology: EdgeTopology) -> Pseudonormals:
    """As :func:`pseudonormals` for vertices ``(V, 3)`` that are merged already, with the topology of ``faces``."""
    corners = positions[faces]
    normals, _ = face_normals(positions, faces)
    edge_of = np.full(faces.size, -1)
    edge_of[topology.corners] = np.repeat(np.arange(len(topology.edges)), topology.face_counts)
    at_edge, at_vertex = np.zeros((len(topology.edges), 3)), np.zeros((len(positions), 3))
    _gather_normals(corners, normals, faces, edge_of.reshape(-1, 3), at_edge, at_vertex)
    _make_unit(at_edge)
    _make_unit(at_vertex)
    edges, vertices = np.zeros((len(faces), 3, 3)), np.empty((len(faces), 3, 3))
    _by_corner(faces, edge_of.reshape(-1, 3), at_edge, at_vertex, edges, vertices)
    return Pseudonormals(corners, normals, edges, vertices)


@njit(nogil=True, cache=True, error_model="numpy")
def _gather_normals(
    corners: Floats, normals: Floats, faces: Ints, edge_of: Ints, at_edge: Floats, at_vertex: Floats
) -> None:
    """Add the normal of every face to its edges, and by its angle there to its vertices."""
    along, before = np.empty(3), np.empty(3)
    for face in range(len(faces)):
        for corner in range(3):
            inner = 0.0
            for axis in range(3):
                along[axis] = corners[face, (corner + 1) % 3, axis] - corners[face, corner, axis]
                before[axis] = corners[face, (corner + 2) % 3, axis] - corners[face, corner, axis]
                inner += along[axis] * before[axis]
            x = along[1] * before[2] - along[2] * before[1]
            y = along[2] * before[0] - along[0] * before[2]
            z = along[0] * before[1] - along[1] * before[0]
            angle = atan2(sqrt(x * x + y * y + z * z), inner)
            edge = edge_of[face, corner]
            for axis in range(3):
                at_vertex[faces[face, corner], axis] += angle * normals[face, axis]
                if edge >= 0:
                    at_edge[edge, axis] += normals[face, axis]


@njit(nogil=True, cache=True, error_model="numpy")
def _make_unit(vectors: Floats) -> None:
    """Divide rows ``(N, 3)`` by their lengths; what is shorter than rounding becomes zero."""
    for row in range(len(vectors)):
        length = sqrt(vectors[row, 0] ** 2 + vectors[row, 1] ** 2 + vectors[row, 2] ** 2)
        scale = 1.0 / length if length > CANCELLED else 0.0
        for axis in range(3):
            vectors[row, axis] *= scale


@njit(nogil=True, cache=True, error_model="numpy")
def _by_corner(faces: Ints, edge_of: Ints, at_edge: Floats, at_vertex: Floats, edges: Floats, vertices: Floats) -> None:
    for face in range(len(faces)):
        for corner in range(3):
            vertices[face, corner] = at_vertex[faces[face, corner]]
            if edge_of[face, corner] >= 0:
                edges[face, corner] = at_edge[edge_of[face, corner]]


def nearest_feature_normals(closest: Floats, face_ids: Ints, normals: Pseudonormals) -> Floats:
    """Pseudonormals ``(N, 3)`` of the features on which the closest points ``(N, 3)`` on faces ``(N,)`` lie."""
    result = np.empty((len(closest), 3))
    ids, points = np.ascontiguousarray(face_ids, np.int64), np.ascontiguousarray(closest, np.float64)
    run_chunks(
        lambda span: _nearest_features(
            points, ids, normals.corners, normals.faces, normals.edges, normals.vertices, *span, result
        ),
        spans(len(result), _CHUNK),
    )
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_features(
    closest: Floats, face_ids: Ints, corners: Floats, faces: Floats, edges: Floats, vertices: Floats,
    low: int, high: int, result: Floats,
) -> None:  # fmt: skip
    ab, ac, offset, n = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    weights = np.empty(3)
    for row in range(low, high):
        face = face_ids[row]
        for axis in range(3):
            origin = corners[face, 0, axis]
            ab[axis], ac[axis] = corners[face, 1, axis] - origin, corners[face, 2, axis] - origin
            offset[axis] = closest[row, axis] - origin
        n[0] = ab[1] * ac[2] - ab[2] * ac[1]
        n[1] = ab[2] * ac[0] - ab[0] * ac[2]
        n[2] = ab[0] * ac[1] - ab[1] * ac[0]
        square = n[0] * n[0] + n[1] * n[1] + n[2] * n[2]
        weights[2] = (
            (ab[1] * offset[2] - ab[2] * offset[1]) * n[0]
            + (ab[2] * offset[0] - ab[0] * offset[2]) * n[1]
            + (ab[0] * offset[1] - ab[1] * offset[0]) * n[2]
        ) / square
        weights[1] = (
            (offset[1] * ac[2] - offset[2] * ac[1]) * n[0]
            + (offset[2] * ac[0] - offset[0] * ac[2]) * n[1]
            + (offset[0] * ac[1] - offset[1] * ac[0]) * n[2]
        ) / square
        weights[0] = 1 - weights[1] - weights[2]
        result[row] = faces[face]
        # False for NaN: a face without area keeps its zero normal
        for corner in range(3):
            if weights[(corner + 2) % 3] < FEATURE:
                result[row] = edges[face, corner]
        for corner in range(3):
            if weights[(corner + 1) % 3] < FEATURE and weights[(corner + 2) % 3] < FEATURE:
                result[row] = vertices[face, corner]


def pseudonormal_signs(points: Floats, closest: Floats, face_ids: Ints, normals: Pseudonormals) -> Floats:
    """-1 inside, +1 outside, by the side of the nearest feature; exact for closed, outward, non-intersecting meshes.

    Args:
        points: ``(N, 3)``. closest, face_ids: their closest points ``(N, 3)`` and faces ``(N,)``, as
            :meth:`~shapewright_kernels.closest_point.ClosestPointIndex.query` returns them.
        normals: of the same mesh.
    Returns:
        ``(N,)`` float64. Points on the surface count as outside.
    """
    result = np.empty(len(closest))
    arrays = [np.ascontiguousarray(array, np.float64) for array in (points, closest)]
    ids = np.ascontiguousarray(face_ids, np.int64)

    def work(span: tuple[int, int]) -> None:
        found = np.empty((span[1] - span[0], 3))
        part = slice(*span)
        _nearest_features(
            arrays[1][part], ids[part], normals.corners, normals.faces, normals.edges, normals.vertices,
            0, len(found), found,
        )  # fmt: skip
        _sides(arrays[0][part], arrays[1][part], found, result[part])

    run_chunks(work, spans(len(result), _CHUNK))
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _sides(points: Floats, closest: Floats, normals: Floats, result: Floats) -> None:
    for row in range(len(result)):
        side = 0.0
        for axis in range(3):
            side += (points[row, axis] - closest[row, axis]) * normals[row, axis]
        result[row] = -1.0 if side < 0 else 1.0
