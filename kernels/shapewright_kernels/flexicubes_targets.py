"""Where the dual vertices of a mesh's voxels should be: Hermite data of all crossings of a vertex, in voxel units.

Source: dual contouring (Ju et al. 2002) with its error function regularised towards the mean crossing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
from .flexicubes_hits import Hits
from .flexicubes_topology import Topology
from .threads import run_chunks, spans

_CHUNK = 1 << 12


@njit(nogil=True, cache=True, error_model="numpy")
def cholesky_solve(matrix: Floats, vector: Floats, n: int) -> bool:
    """Solve in place for symmetric positive definite ``matrix[:n, :n]``; false where it is not."""
    for j in range(n):
        pivot = matrix[j, j]
        for k in range(j):
            pivot -= matrix[j, k] * matrix[j, k]
        if not pivot > 0.0:
            return False
        pivot = np.sqrt(pivot)
        matrix[j, j] = pivot
        for i in range(j + 1, n):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            matrix[i, j] = value / pivot
    for i in range(n):
        for k in range(i):
            vector[i] -= matrix[i, k] * vector[k]
        vector[i] /= matrix[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            vector[i] -= matrix[k, i] * vector[k]
        vector[i] /= matrix[i, i]
    return True


class Crossings(NamedTuple):
    """Surface points with normals: ``H`` hits of lattice edges come first, then ``P`` other points."""

    hits: Hits
    corners: NDArray[np.int32]
    """``(C, 3)`` lattice points that the hits' edges start at."""
    face_normals: Floats
    """``(F, 3)``"""
    points: Floats
    """``(P, 3)`` in lattice units."""
    normals: Floats
    """``(P, 3)``"""


@njit(nogil=True, cache=True, error_model="numpy")
def _surface_point(
    row: int, edge: Ints, offset: Floats, face: Ints, corners: NDArray[np.int32], face_normals: Floats,
    points: Floats, normals: Floats, point: Floats, normal: Floats,
) -> None:  # fmt: skip
    hits = len(edge)
    for axis in range(3):
        if row < hits:
            point[axis] = corners[edge[row] // 3, axis] + (offset[row] if axis == edge[row] % 3 else 0.0)
            normal[axis] = face_normals[face[row], axis]
        else:
            point[axis], normal[axis] = points[row - hits, axis], normals[row - hits, axis]


@njit(nogil=True, cache=True, error_model="numpy")
def _targets(
    start: Ints, dual_voxel: Ints, rows: Ints, voxels: NDArray[np.int32], crossing: Ints, edge: Ints, offset: Floats,
    face: Ints, corners: NDArray[np.int32], face_normals: Floats, points: Floats, normals: Floats, ridge: float,
    low: int, high: int, result: Floats,
) -> None:  # fmt: skip
    matrix = np.empty((3, 3))
    vector, mean = np.empty(3), np.empty(3)
    at, along = np.empty((12, 3)), np.empty((12, 3))
    for d in range(low, high):
        count = 0
        mean[:] = 0.0
        voxel = rows[dual_voxel[d]]
        for i in range(start[d], start[d + 1]):
            if crossing[i] >= 0:
                _surface_point(
                    crossing[i], edge, offset, face, corners, face_normals, points, normals, at[count], along[count]
                )
                for axis in range(3):
                    at[count, axis] -= voxels[voxel, axis]
                    mean[axis] += at[count, axis]
                count += 1
        if count == 0:
            result[d] = np.nan
            continue
        mean /= count
        matrix[:] = 0.0
        vector[:] = 0.0
        for axis in range(3):
            matrix[axis, axis] = ridge
        for c in range(count):
            height = 0.0
            for axis in range(3):
                height += along[c, axis] * (at[c, axis] - mean[axis])
            for row in range(3):
                vector[row] += along[c, row] * height
                for column in range(3):
                    matrix[row, column] += along[c, row] * along[c, column]
        cholesky_solve(matrix, vector, 3)
        for axis in range(3):
            result[d, axis] = min(max(mean[axis] + vector[axis], 0.0), 1.0)


def hermite_targets(
    found: Topology,
    voxels: NDArray[np.int32],
    crossing: Ints,
    crossings: Crossings,
    *,
    ridge: float = 0.12**2,
    threads: int | None = None,
) -> Floats:
    """Where each dual vertex should be: the point closest to all tangent planes of its crossings.

    Args:
        found: topology with ``E`` incidences and ``D`` dual vertices.
        voxels: ``(N, 3)`` coordinates of the voxels that ``found`` refers to.
        crossing: ``(E,)`` row in ``crossings`` of each incidence, -1 to leave it out.
        ridge: pull towards the mean crossing, against planes that hardly meet.
        threads: never changes the result.
    Returns:
        ``(D, 3)`` float64 in [0, 1] relative to the voxel, NaN where no crossing is known.
    """
    result = np.empty((len(found.dual_voxel), 3))
    hits, corners, face_normals, points, normals = crossings
    run_chunks(
        lambda span: _targets(
            found.dual_start, found.dual_voxel, found.voxels, voxels, crossing, hits.edge, hits.offset, hits.face,
            corners, face_normals, points, normals, ridge, *span, result,
        ),
        spans(len(result), _CHUNK),
        threads,
    )  # fmt: skip
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def single_face(start: Ints, crossing: Ints, face: Ints) -> Bools:
    """``(D,)`` bool: all crossings of a dual vertex are hits of one face.

    ``start (D + 1,)``: first incidence of each. ``crossing (E,)``: row of ``face (H,)``; other rows are no hits.
    """
    result = np.zeros(len(start) - 1, np.bool_)
    for dual in range(len(result)):
        alike = start[dual + 1] > start[dual]
        for i in range(start[dual], start[dual + 1]):
            hit = crossing[i]
            alike = alike and 0 <= hit < len(face) and face[hit] == face[crossing[start[dual]]]
        result[dual] = alike
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _made_edges(quad_ends: Ints, steps: Ints, made: Bools) -> None:
    for q in range(len(quad_ends)):
        low, high = min(quad_ends[q, 0], quad_ends[q, 1]), max(quad_ends[q, 0], quad_ends[q, 1])
        for axis in range(3):
            if steps[low, axis] == high:
                made[3 * low + axis] = True
                break


@njit(nogil=True, cache=True, error_model="numpy")
def _unmade(start: Ints, edges: Ints, made: Bools, rim: Bools) -> None:
    for dual in range(len(rim)):
        rim[dual] = False
        for i in range(start[dual], start[dual + 1]):
            if not made[edges[i]]:
                rim[dual] = True


def rim_vertices(found: Topology, edges: Ints, steps: Ints) -> Bools:
    """Dual vertices ``(D,)`` next to a crossed lattice edge that makes no face: the surface ends there.

    ``edges (E,)``: the lattice edge of each incidence. ``steps (C, 3)``: of :func:`.flexicubes_signs.corner_steps`.
    """
    made, rim = np.zeros(steps.size, bool), np.empty(len(found.dual_voxel), bool)
    _made_edges(found.quad_ends, steps, made)
    _unmade(found.dual_start, edges, made, rim)
    return rim


@njit(nogil=True, cache=True, error_model="numpy")
def _bent(quads: Ints, vertices: Floats, threshold: float, write: bool, ids: Ints, middles: Floats) -> int:
    count = 0
    middle = np.empty((2, 3))
    for q in range(len(quads)):
        square = 0.0
        for axis in range(3):
            for k in range(2):
                middle[k, axis] = (vertices[quads[q, k], axis] + vertices[quads[q, k + 2], axis]) / 2
            square += (middle[0, axis] - middle[1, axis]) ** 2
        if np.sqrt(square) > threshold:  # False for NaN
            if write:
                ids[count] = q
                middles[count] = middle
            count += 1
    return count


def bent_quads(quads: Ints, vertices: Floats, threshold: float) -> tuple[Ints, Floats]:
    """Quads whose diagonals pass one another by more than a threshold; none with a NaN.

    Returns their numbers ``(B,)``, ascending, and the middles ``(B, 2, 3)`` of the diagonals from the first and from
    the second vertex.
    """
    count = _bent(quads, vertices, threshold, False, np.empty(0, np.int64), np.empty((0, 2, 3)))
    ids, middles = np.empty(count, np.int64), np.empty((count, 2, 3))
    _bent(quads, vertices, threshold, True, ids, middles)
    return ids, middles
