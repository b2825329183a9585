"""Fit FlexiCubes weights to Hermite data: every dual vertex goes to where the mesh has its crease, corner or tangent plane.

Corner values and positions stay fixed, hence so does the topology, and weights belong to one voxel only: all voxels are
independent small problems with at most 12 equations in 20 unknowns, solved by damped Gauss-Newton steps from neutral
weights, which keeps the weights small. Everything here is in voxel units relative to the voxel's lower corner.
Source of the targets: dual contouring (Ju et al. 2002) with its error function regularised towards the mean crossing.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .flexicubes_tables import CORNERS, EDGES
from .flexicubes_topology import Topology
from .threads import run_chunks, spans

_CHUNK = 1 << 12
_LIMIT = 4.0
"""Largest raw weight: tanh is flat beyond it."""
_STEPS = 24
_TOLERANCE = 1e-5
"""A residual that counts as reached, in voxels."""


@njit(nogil=True, cache=True, error_model="numpy")
def _cholesky_solve(matrix: Floats, vector: Floats, n: int) -> bool:
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
    result: Floats, spread: Floats,
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
            spread[d] = 0.0
            continue
        mean /= count
        matrix[:] = 0.0
        vector[:] = 0.0
        for axis in range(3):
            matrix[axis, axis] = ridge
        sx = sy = sz = 0.0
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
                sx += normals[c, 0]
                sy += normals[c, 1]
                sz += normals[c, 2]
        spread[d] = 1.0 - min(np.sqrt(sx * sx + sy * sy + sz * sz) / count, 1.0)
        _cholesky_solve(matrix, vector, 3)
        for axis in range(3):
            result[d, axis] = min(max(mean[axis] + vector[axis], 0.0), 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _place(
    values: Floats, edge: NDArray[np.uint8], start: Ints, first: int, duals: int, raw: Floats, scale: float,
    target: Floats, edges: Ints, corners: Ints, residual: Floats, jacobian: Floats,
) -> float:  # fmt: skip
    """Residuals of one voxel's dual vertices and their derivatives by ``raw`` = alpha (8), beta (12); squared error."""
    error = 0.0
    vertex = np.empty(3)
    jacobian[: 3 * duals] = 0.0
    for d in range(duals):
        total = 0.0
        vertex[:] = 0.0
        for i in range(start[first + d], start[first + d + 1]):
            e = edge[i]
            a, b = edges[e, 0], edges[e, 1]
            near = abs(values[a]) * (1.0 + scale * np.tanh(raw[a]))
            t = near / (near + abs(values[b]) * (1.0 + scale * np.tanh(raw[b])))
            weight = 1.0 + scale * np.tanh(raw[8 + e])
            total += weight
            for axis in range(3):
                vertex[axis] += weight * (corners[a, axis] + t * (corners[b, axis] - corners[a, axis]))
        vertex /= total
        for i in range(start[first + d], start[first + d + 1]):
            e = edge[i]
            a, b = edges[e, 0], edges[e, 1]
            tanh_a, tanh_b, tanh_e = np.tanh(raw[a]), np.tanh(raw[b]), np.tanh(raw[8 + e])
            alpha_a, alpha_b, weight = 1.0 + scale * tanh_a, 1.0 + scale * tanh_b, 1.0 + scale * tanh_e
            near = abs(values[a]) * alpha_a
            t = near / (near + abs(values[b]) * alpha_b)
            slide = t * (1.0 - t) * weight / total  # derivative by the logarithm of alpha_a; by alpha_b it is the negative
            by_a = slide * scale * (1.0 - tanh_a * tanh_a) / alpha_a
            by_b = -slide * scale * (1.0 - tanh_b * tanh_b) / alpha_b
            by_weight = scale * (1.0 - tanh_e * tanh_e) / total
            for axis in range(3):
                span = corners[b, axis] - corners[a, axis]
                jacobian[3 * d + axis, a] += by_a * span
                jacobian[3 * d + axis, b] += by_b * span
                jacobian[3 * d + axis, 8 + e] += by_weight * (corners[a, axis] + t * span - vertex[axis])
        for axis in range(3):
            residual[3 * d + axis] = vertex[axis] - target[first + d, axis]
            error += residual[3 * d + axis] ** 2
    return error


@njit(nogil=True, cache=True, error_model="numpy")
def _fit(
    values: Floats, edge: NDArray[np.uint8], start: Ints, first: Ints, number: Ints, target: Floats, scale: float,
    edges: Ints, corners: Ints, steps: int, tolerance: float, limit: float, low: int, high: int, result: Floats,
) -> None:  # fmt: skip
    residual, trial_residual = np.empty(12), np.empty(12)
    jacobian, trial_jacobian = np.empty((12, 20)), np.empty((12, 20))
    matrix, vector = np.empty((12, 12)), np.empty(12)
    trial = np.empty(20)
    for voxel in range(low, high):
        duals = number[voxel]
        rows = 3 * duals
        known = True
        for d in range(duals):
            known = known and not np.isnan(target[first[voxel] + d, 0])
        if not known:
            continue
        raw = result[voxel]
        error = _place(
            values[voxel], edge, start, first[voxel], duals, raw, scale, target, edges, corners, residual, jacobian
        )
        damping = 1e-4
        for _ in range(steps):
            if error < tolerance * tolerance:
                break
            for i in range(rows):
                vector[i] = -residual[i]
                for j in range(i + 1):
                    value = 0.0
                    for k in range(20):
                        value += jacobian[i, k] * jacobian[j, k]
                    matrix[i, j] = value
                matrix[i, i] += damping
            if not _cholesky_solve(matrix, vector, rows):
                damping *= 10.0
                continue
            for k in range(20):
                step = 0.0
                for i in range(rows):
                    step += jacobian[i, k] * vector[i]
                trial[k] = min(max(raw[k] + min(max(step, -1.0), 1.0), -limit), limit)
            better = _place(
                values[voxel], edge, start, first[voxel], duals, trial, scale, target, edges, corners,
                trial_residual, trial_jacobian,
            )  # fmt: skip
            if better < error:
                stuck = better > 0.999 * error
                error = better
                raw[:] = trial
                residual, trial_residual = trial_residual, residual
                jacobian, trial_jacobian = trial_jacobian, jacobian
                damping = max(damping * 0.3, 1e-8)
                if stuck:
                    break
            else:
                damping *= 10.0
                if damping > 1e2:
                    break


def hermite_targets(
    found: Topology,
    voxels: NDArray[np.int32],
    crossing: Ints,
    points: Floats,
    normals: Floats,
    *,
    ridge: float = 0.05**2,
    threads: int | None = None,
) -> tuple[Floats, Floats]:
    """Where each dual vertex should be: the point closest to all tangent planes of its crossings.

    Args:
        found: topology with ``E`` incidences and ``D`` dual vertices.
        voxels: ``(N, 3)`` coordinates of the voxels that ``found`` refers to.
        crossing: ``(E,)`` row in ``points`` of each incidence, -1 to leave it out.
        points, normals: ``(H, 3)`` positions in lattice units, and unit normals, of crossings.
        ridge: pull towards the mean crossing, against planes that hardly meet.
    Returns:
        ``(D, 3)`` float64 in [0, 1] relative to the voxel, NaN where no crossing is known; ``(D,)`` spread of the normals,
        0 for a plane.
    """
    result = np.empty((len(found.dual_voxel), 3))
    spread = np.empty(len(result))
    origin = voxels[found.voxels[found.dual_voxel]].astype(np.float64)
    run_chunks(
        lambda span: _targets(found.dual_start, origin, crossing, points, normals, ridge, *span, result, spread),
        spans(len(result), _CHUNK),
        threads,
    )
    return result, spread


def fit_weights(
    found: Topology, values: Floats, targets: Floats, *, weight_scale: float = 0.99, threads: int | None = None
) -> tuple[Floats, Floats]:
    """Raw alpha and beta that bring the dual vertices to ``targets`` as closely as the topology allows.

    A dual vertex can reach any point in the hull of its crossed edges, less their ends.

    Args:
        found: topology with ``S`` surface voxels and ``D`` dual vertices.
        values: ``(S, 8)`` float64 corner values of the surface voxels, positions on the lattice (no deformation).
        targets: ``(D, 3)`` relative to the voxel, in voxels; a voxel with a NaN keeps neutral weights.
        weight_scale: of :func:`~.flexicubes.flexicubes`.
        threads: never changes the result.
    Returns:
        ``(S, 8)`` and ``(S, 12)`` float64, at most 4 in magnitude.
    """
    count = len(found.voxels)
    number = np.bincount(found.dual_voxel, minlength=count)
    first = np.zeros(count, np.int64)
    backwards = np.arange(len(found.dual_voxel))[::-1]
    first[found.dual_voxel[backwards]] = backwards  # the last write is the first dual vertex
    raw = np.zeros((count, 20))
    run_chunks(
        lambda span: _fit(
            values, found.edge, found.dual_start, first, number, targets, weight_scale, EDGES, CORNERS,
            _STEPS, _TOLERANCE, _LIMIT, *span, raw,
        ),
        spans(count, _CHUNK),
        threads,
    )  # fmt: skip
    return raw[:, :8], raw[:, 8:]
