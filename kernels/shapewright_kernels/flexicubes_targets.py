"""Where the dual vertices of a mesh's voxels should be: Hermite data of all crossings of a vertex, in voxel units.

Source: dual contouring (Ju et al. 2002) with its error function regularised towards the mean crossing.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
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


@njit(nogil=True, cache=True, error_model="numpy")
def _targets(
    start: Ints, origin: Floats, crossing: Ints, points: Floats, normals: Floats, ridge: float, low: int, high: int,
    result: Floats,
) -> None:  # fmt: skip
    matrix = np.empty((3, 3))
    vector = np.empty(3)
    mean = np.empty(3)
    for d in range(low, high):
        count = 0
        mean[:] = 0.0
        for i in range(start[d], start[d + 1]):
            if crossing[i] >= 0:
                count += 1
                for axis in range(3):
                    mean[axis] += points[crossing[i], axis] - origin[d, axis]
        if count == 0:
            result[d] = np.nan
            continue
        mean /= count
        matrix[:] = 0.0
        vector[:] = 0.0
        for axis in range(3):
            matrix[axis, axis] = ridge
        for i in range(start[d], start[d + 1]):
            c = crossing[i]
            if c >= 0:
                height = 0.0
                for axis in range(3):
                    height += normals[c, axis] * (points[c, axis] - origin[d, axis] - mean[axis])
                for row in range(3):
                    vector[row] += normals[c, row] * height
                    for column in range(3):
                        matrix[row, column] += normals[c, row] * normals[c, column]
        cholesky_solve(matrix, vector, 3)
        for axis in range(3):
            result[d, axis] = min(max(mean[axis] + vector[axis], 0.0), 1.0)


def hermite_targets(
    found: Topology,
    voxels: NDArray[np.int32],
    crossing: Ints,
    points: Floats,
    normals: Floats,
    *,
    ridge: float = 0.12**2,
    threads: int | None = None,
) -> Floats:
    """Where each dual vertex should be: the point closest to all tangent planes of its crossings.

    Args:
        found: topology with ``E`` incidences and ``D`` dual vertices.
        voxels: ``(N, 3)`` coordinates of the voxels that ``found`` refers to.
        crossing: ``(E,)`` row in ``points`` of each incidence, -1 to leave it out.
        points, normals: ``(H, 3)`` positions in lattice units, and unit normals, of crossings.
        ridge: pull towards the mean crossing, against planes that hardly meet.
    Returns:
        ``(D, 3)`` float64 in [0, 1] relative to the voxel, NaN where no crossing is known.
    """
    result = np.empty((len(found.dual_voxel), 3))
    origin = voxels[found.voxels[found.dual_voxel]].astype(np.float64)
    run_chunks(
        lambda span: _targets(found.dual_start, origin, crossing, points, normals, ridge, *span, result),
        spans(len(result), _CHUNK),
        threads,
    )
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
