"""Fit FlexiCubes weights to Hermite data: every dual vertex goes to where the mesh has its crease, corner or tangent
plane.

Corner values stay fixed, hence so does the topology, and weights belong to one voxel only: all voxels are independent
small problems with at most 12 equations in 20 unknowns, solved by damped Gauss-Newton steps from neutral weights, which
keeps the weights small. Weights alone keep a dual vertex in the hull of its crossed edges, and a crease near the far
corner of a voxel lies outside; such voxels pull their corners along, and the voxels around a moved corner are solved
again. Everything here is in voxel units relative to the voxel's lower corner.
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
"""Residual at which the steps of one voxel end, in voxels."""
_UNREACHED = 0.01
"""Residual from which on a voxel pulls at its corners."""
_SWEEPS, _RATE, _MARGIN = 30, 0.2, 0.05
"""Rounds of voting on diagonals, step of a raw gamma, and how clearly (in log weights) a quad must get its wish."""
_REACH = 0.45
"""Largest offset of a corner along an axis; the deformation itself allows half a voxel."""


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
        _cholesky_solve(matrix, vector, 3)
        for axis in range(3):
            result[d, axis] = min(max(mean[axis] + vector[axis], 0.0), 1.0)


@njit(nogil=True, cache=True, error_model="numpy")
def _place(
    values: Floats, edge: NDArray[np.uint8], start: Ints, first: int, duals: int, raw: Floats, scale: float,
    target: Floats, edges: Ints, corners: Floats, residual: Floats, jacobian: Floats,
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
            near = values[a] * (1.0 + scale * np.tanh(raw[a]))
            t = near / (near + values[b] * (1.0 + scale * np.tanh(raw[b])))
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
            near = values[a] * alpha_a
            t = near / (near + values[b] * alpha_b)
            slide = t * (1.0 - t) * weight / total  # by the logarithm of alpha_a; by that of alpha_b the negative
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
    todo: Ints, cubes: Ints, deform: Floats, magnitudes: Floats, edge: NDArray[np.uint8], start: Ints, first: Ints,
    number: Ints, target: Floats, scale: float, edges: Ints, offsets: Ints, low: int, high: int,
    raw: Floats, residuals: Floats,
) -> None:  # fmt: skip
    residual, trial_residual = np.empty(12), np.empty(12)
    jacobian, trial_jacobian = np.empty((12, 20)), np.empty((12, 20))
    matrix, vector = np.empty((12, 12)), np.empty(12)
    trial, weights = np.empty(20), np.empty(20)
    corners, values = np.empty((8, 3)), np.empty(8)
    for at in range(low, high):
        voxel = todo[at]
        duals = number[voxel]
        rows = 3 * duals
        for c in range(8):
            values[c] = magnitudes[cubes[voxel, c]]
            for axis in range(3):
                corners[c, axis] = offsets[c, axis] + deform[cubes[voxel, c], axis]
        weights[:] = raw[voxel]
        error = _place(
            values, edge, start, first[voxel], duals, weights, scale, target, edges, corners, residual, jacobian
        )
        damping = 1e-4
        for _ in range(_STEPS):
            if error < _TOLERANCE * _TOLERANCE:
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
                trial[k] = min(max(weights[k] + min(max(step, -1.0), 1.0), -_LIMIT), _LIMIT)
            better = _place(
                values, edge, start, first[voxel], duals, trial, scale, target, edges, corners,
                trial_residual, trial_jacobian,
            )  # fmt: skip
            if better < error:
                stuck = better > 0.999 * error
                error = better
                weights[:] = trial
                residual, trial_residual = trial_residual, residual
                jacobian, trial_jacobian = trial_jacobian, jacobian
                damping = max(damping * 0.3, 1e-8)
                if stuck:
                    break
            else:
                damping *= 10.0
                if damping > 1e2:
                    break
        raw[voxel] = weights
        for d in range(duals):
            for axis in range(3):
                residuals[first[voxel] + d, axis] = residual[3 * d + axis]


@njit(nogil=True, cache=True, error_model="numpy")
def _pull(
    cubes: Ints, magnitudes: Floats, edge: NDArray[np.uint8], start: Ints, dual_voxel: Ints, raw: Floats,
    residuals: Floats, scale: float, edges: Ints, threshold: float, pull: Floats, pullers: Ints,
) -> int:  # fmt: skip
    """Smallest corner moves that would end each residual above the threshold, summed over dual vertices."""
    share = np.empty(8)
    unreached = 0
    for d in range(len(dual_voxel)):
        if residuals[d, 0] ** 2 + residuals[d, 1] ** 2 + residuals[d, 2] ** 2 <= threshold * threshold:
            continue
        unreached += 1
        voxel = dual_voxel[d]
        share[:] = 0.0
        total = 0.0
        for i in range(start[d], start[d + 1]):
            e = edge[i]
            a, b = edges[e, 0], edges[e, 1]
            near = magnitudes[cubes[voxel, a]] * (1.0 + scale * np.tanh(raw[voxel, a]))
            t = near / (near + magnitudes[cubes[voxel, b]] * (1.0 + scale * np.tanh(raw[voxel, b])))
            weight = 1.0 + scale * np.tanh(raw[voxel, 8 + e])
            total += weight
            share[a] += weight * (1.0 - t)
            share[b] += weight * t
        square = (share * share).sum() / (total * total)
        for c in range(8):
            if share[c] > 0.0:
                corner = cubes[voxel, c]
                pullers[corner] += 1
                for axis in range(3):
                    pull[corner, axis] -= residuals[d, axis] * share[c] / total / square
    return unreached


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


def fit_weights(
    found: Topology,
    cubes: Ints,
    magnitudes: Floats,
    targets: Floats,
    *,
    weight_scale: float = 0.99,
    rounds: int = 12,
    threads: int | None = None,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Raw alpha and beta, and corner offsets, that bring the dual vertices to ``targets`` as closely as the topology
    allows.

    Args:
        found: topology of ``cubes`` with ``S`` surface voxels and ``D`` dual vertices.
        cubes: ``(N, 8)`` corner rows. magnitudes: ``(C,)`` float64, positive, of the corner values.
        targets: ``(D, 3)`` relative to the voxel, in voxels; a voxel with a NaN keeps neutral weights.
        weight_scale: of :func:`~.flexicubes.flexicubes`.
        rounds: how often corners may move; 0 leaves them on the lattice.
        threads: never changes the result.
    Returns:
        alpha ``(S, 8)`` and beta ``(S, 12)`` float64, at most 4 in magnitude; corner offsets ``(C, 3)`` in voxels, at
        most 0.45 in magnitude; what is left, ``(D, 3)`` dual vertex minus target, 0 where there is none.
    """
    count = len(found.voxels)
    surface = cubes[found.voxels]
    number = np.bincount(found.dual_voxel, minlength=count)
    first = np.zeros(count, np.int64)
    backwards = np.arange(len(found.dual_voxel))[::-1]
    first[found.dual_voxel[backwards]] = backwards  # the last write is the first dual vertex
    raw = np.zeros((count, 20))
    deform = np.zeros((len(magnitudes), 3))
    residuals = np.zeros((len(targets), 3))
    known = np.ones(count, bool)
    known[found.dual_voxel[np.isnan(targets[:, 0])]] = False

    def solve(todo: Ints) -> None:
        run_chunks(
            lambda span: _fit(
                todo, surface, deform, magnitudes, found.edge, found.dual_start, first, number, targets, weight_scale,
                EDGES, CORNERS, *span, raw, residuals,
            ),
            spans(len(todo), _CHUNK),
            threads,
        )  # fmt: skip

    solve(np.flatnonzero(known))
    for _ in range(rounds):
        pull, pullers = np.zeros_like(deform), np.zeros(len(deform), np.int64)
        unreached = _pull(
            surface, magnitudes, found.edge, found.dual_start, found.dual_voxel, raw, residuals, weight_scale,
            EDGES, _UNREACHED, pull, pullers,
        )  # fmt: skip
        if unreached == 0:
            break
        moved = pullers > 0
        deform[moved] = np.clip(deform[moved] + pull[moved] / pullers[moved, None], -_REACH, _REACH)
        solve(np.flatnonzero(known & moved[surface].any(axis=1)))
    return raw[:, :8], raw[:, 8:], deform, residuals


@njit(nogil=True, cache=True, error_model="numpy")
def _vote(quads: Ints, voxel: Ints, gains: Floats, scale: float, gamma: Floats) -> None:
    for _ in range(_SWEEPS):
        wrong = 0
        for q in range(len(quads)):
            first = 1.0
            second = 1.0
            for k in range(4):
                weight = scale / (1.0 + np.exp(-gamma[voxel[quads[q, k]]])) + (1.0 - scale) / 2.0
                if k & 1:
                    second *= weight
                else:
                    first *= weight
            want = 1.0 if gains[q] > 0.0 else -1.0
            if want * (np.log(first) - np.log(second)) < _MARGIN:
                wrong += 1
                for k in range(4):
                    at = voxel[quads[q, k]]
                    step = -want if k & 1 else want
                    gamma[at] = min(max(gamma[at] + _RATE * step, -_LIMIT), _LIMIT)
        if wrong == 0:
            break


def split_weights(quads: Ints, dual_voxel: Ints, gains: Floats, voxels: int, *, weight_scale: float = 0.99) -> Floats:
    """Raw gamma that makes quads split along the better diagonal; wishes that contradict one another are settled by
    turns.

    Args:
        quads: ``(Q, 4)`` dual vertices of quads that have a wish. dual_voxel: voxel of each dual vertex.
        gains: ``(Q,)`` positive where the diagonal of the first and third vertex is better.
        voxels: number of voxels.
    Returns:
        ``(voxels,)`` float64, 0 where nothing is asked for.
    """
    gamma = np.zeros(voxels)
    _vote(quads, dual_voxel, gains, weight_scale, gamma)
    return gamma
