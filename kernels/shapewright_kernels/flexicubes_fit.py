"""Fit FlexiCubes weights to Hermite data: every dual vertex goes to where the mesh has its crease, corner or tangent
plane.

Corner values stay fixed, hence so does the topology, and weights belong to one voxel only: all voxels are independent
small problems with at most 12 equations in 20 unknowns, solved by damped Gauss-Newton steps from neutral weights, which
keeps the weights small. Weights alone keep a dual vertex in the hull of its crossed edges, and a crease near the far
corner of a voxel lies outside; such voxels pull their corners along, and the voxels around a moved corner are solved
again. Everything here is in voxel units relative to the voxel's lower corner.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
from .flexicubes_tables import CORNERS, EDGES
from .flexicubes_targets import cholesky_solve
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
def _used_weights(edge: NDArray[np.uint8], low: int, high: int, edges: Ints, used: Ints, place: Ints) -> int:
    """Number of weights that the incidences ``low..high`` of one voxel depend on; ``used`` lists them among alpha (8),
    beta (12), ``place`` is the way back."""
    place[:] = -1
    for i in range(low, high):
        place[edges[edge[i], 0]] = 0
        place[edges[edge[i], 1]] = 0
        place[8 + edge[i]] = 0
    count = 0
    for k in range(20):
        if place[k] == 0:
            place[k] = count
            used[count] = k
            count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _residuals(
    values: Floats, edge: NDArray[np.uint8], start: Ints, first: int, duals: int, raw: Floats, used: Ints, count: int,
    scale: float, target: Floats, edges: Ints, corners: Floats, tanh: Floats, vertex: Floats, residual: Floats,
) -> float:  # fmt: skip
    """Residuals of one voxel's dual vertices; squared error. ``raw`` and its ``tanh`` are alpha (8), beta
    (12); ``vertex`` gets the vertices."""
    error = 0.0
    for k in range(count):
        tanh[used[k]] = np.tanh(raw[used[k]]) if raw[used[k]] != 0.0 else 0.0
    for d in range(duals):
        total = x = y = z = 0.0
        for i in range(start[first + d], start[first + d + 1]):
            e = edge[i]
            a, b = edges[e, 0], edges[e, 1]
            near = values[a] * (1.0 + scale * tanh[a])
            t = near / (near + values[b] * (1.0 + scale * tanh[b]))
            weight = 1.0 + scale * tanh[8 + e]
            total += weight
            x += weight * (corners[a, 0] + t * (corners[b, 0] - corners[a, 0]))
            y += weight * (corners[a, 1] + t * (corners[b, 1] - corners[a, 1]))
            z += weight * (corners[a, 2] + t * (corners[b, 2] - corners[a, 2]))
        vertex[d, 0], vertex[d, 1], vertex[d, 2] = x / total, y / total, z / total
        for axis in range(3):
            residual[3 * d + axis] = vertex[d, axis] - target[first + d, axis]
            error += residual[3 * d + axis] ** 2
    return error


@njit(nogil=True, cache=True, error_model="numpy")
def _jacobian(
    values: Floats, edge: NDArray[np.uint8], start: Ints, first: int, duals: int, place: Ints, count: int,
    scale: float, edges: Ints, corners: Floats, tanh: Floats, vertex: Floats, jacobian: Floats,
) -> None:  # fmt: skip
    """Derivatives of :func:`_residuals` by the weights in use, in the order of their list."""
    jacobian[: 3 * duals, :count] = 0.0
    for d in range(duals):
        total = 0.0
        for i in range(start[first + d], start[first + d + 1]):
            total += 1.0 + scale * tanh[8 + edge[i]]
        for i in range(start[first + d], start[first + d + 1]):
            e = edge[i]
            a, b = edges[e, 0], edges[e, 1]
            alpha_a, alpha_b, weight = 1.0 + scale * tanh[a], 1.0 + scale * tanh[b], 1.0 + scale * tanh[8 + e]
            near = values[a] * alpha_a
            t = near / (near + values[b] * alpha_b)
            slide = t * (1.0 - t) * weight / total  # by the logarithm of alpha_a; by that of alpha_b the negative
            by_a = slide * scale * (1.0 - tanh[a] * tanh[a]) / alpha_a
            by_b = -slide * scale * (1.0 - tanh[b] * tanh[b]) / alpha_b
            by_weight = scale * (1.0 - tanh[8 + e] * tanh[8 + e]) / total
            for axis in range(3):
                span = corners[b, axis] - corners[a, axis]
                jacobian[3 * d + axis, place[a]] += by_a * span
                jacobian[3 * d + axis, place[b]] += by_b * span
                jacobian[3 * d + axis, place[8 + e]] += by_weight * (corners[a, axis] + t * span - vertex[d, axis])


@njit(nogil=True, cache=True, error_model="numpy")
def _fit(
    todo: Ints, rows: Ints, cubes: Ints, deform: Floats, magnitudes: Floats, edge: NDArray[np.uint8], start: Ints,
    first: Ints, number: Ints, target: Floats, scale: float, edges: Ints, offsets: Ints, low: int, high: int,
    raw: Floats, residuals: Floats,
) -> None:  # fmt: skip
    residual, trial_residual = np.empty(12), np.empty(12)
    jacobian, matrix, vector = np.empty((12, 20)), np.empty((12, 12)), np.empty(12)
    trial, weights, tanh, trial_tanh = np.empty(20), np.empty(20), np.empty(20), np.empty(20)
    corners, values = np.empty((8, 3)), np.empty(8)
    vertex, trial_vertex = np.empty((4, 3)), np.empty((4, 3))
    used, place = np.empty(20, np.int64), np.empty(20, np.int64)
    for at in range(low, high):
        voxel = todo[at]
        dual = first[voxel]
        duals = number[voxel]
        row = rows[voxel]
        size = 3 * duals
        for c in range(8):
            values[c] = magnitudes[cubes[row, c]]
            for axis in range(3):
                corners[c, axis] = offsets[c, axis] + deform[cubes[row, c], axis]
        weights[:] = raw[voxel]
        trial[:] = weights
        count = _used_weights(edge, start[dual], start[dual + duals], edges, used, place)
        error = _residuals(
            values, edge, start, dual, duals, weights, used, count, scale, target, edges, corners, tanh, vertex,
            residual,
        )  # fmt: skip
        damping = 1e-4
        stale = True
        for _ in range(_STEPS):
            if error < _TOLERANCE * _TOLERANCE:
                break
            if stale:
                _jacobian(values, edge, start, dual, duals, place, count, scale, edges, corners, tanh, vertex, jacobian)
                stale = False
            for i in range(size):
                vector[i] = -residual[i]
                for j in range(i + 1):
                    value = 0.0
                    for k in range(count):
                        value += jacobian[i, k] * jacobian[j, k]
                    matrix[i, j] = value
                matrix[i, i] += damping
            if not cholesky_solve(matrix, vector, size):
                damping *= 10.0
                continue
            for k in range(count):
                step = 0.0
                for i in range(size):
                    step += jacobian[i, k] * vector[i]
                trial[used[k]] = min(max(weights[used[k]] + min(max(step, -1.0), 1.0), -_LIMIT), _LIMIT)
            better = _residuals(
                values, edge, start, dual, duals, trial, used, count, scale, target, edges, corners, trial_tanh,
                trial_vertex, trial_residual,
            )  # fmt: skip
            if better < error:
                stuck = better > 0.999 * error
                error = better
                weights[:] = trial
                residual, trial_residual = trial_residual, residual
                tanh, trial_tanh = trial_tanh, tanh
                vertex, trial_vertex = trial_vertex, vertex
                stale = True
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
                residuals[dual + d, axis] = residual[3 * d + axis]


@njit(nogil=True, cache=True, error_model="numpy")
def _move(pull: Floats, pullers: Ints, low: int, high: int, deform: Floats, moved: Bools) -> None:
    """Offset corners by the mean of their pulls, and clear those."""
    for corner in range(low, high):
        moved[corner] = pullers[corner] > 0
        if moved[corner]:
            for axis in range(3):
                offset = deform[corner, axis] + pull[corner, axis] / pullers[corner]
                deform[corner, axis] = min(max(offset, -_REACH), _REACH)
                pull[corner, axis] = 0.0
            pullers[corner] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def _touched(rows: Ints, cubes: Ints, moved: Bools, low: int, high: int, known: Bools, found: Bools) -> None:
    """Voxels to solve again: a corner of theirs has moved."""
    for voxel in range(low, high):
        row = rows[voxel]
        touched = False
        for c in range(8):
            touched = touched or moved[cubes[row, c]]
        found[voxel] = touched and known[voxel]


@njit(nogil=True, cache=True, error_model="numpy")
def _pull(
    rows: Ints, cubes: Ints, magnitudes: Floats, edge: NDArray[np.uint8], start: Ints, dual_voxel: Ints, raw: Floats,
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
        row = rows[voxel]
        share[:] = 0.0
        total = 0.0
        for i in range(start[d], start[d + 1]):
            e = edge[i]
            a, b = edges[e, 0], edges[e, 1]
            near = magnitudes[cubes[row, a]] * (1.0 + scale * np.tanh(raw[voxel, a]))
            t = near / (near + magnitudes[cubes[row, b]] * (1.0 + scale * np.tanh(raw[voxel, b])))
            weight = 1.0 + scale * np.tanh(raw[voxel, 8 + e])
            total += weight
            share[a] += weight * (1.0 - t)
            share[b] += weight * t
        square = (share * share).sum() / (total * total)
        for c in range(8):
            if share[c] > 0.0:
                corner = cubes[row, c]
                pullers[corner] += 1
                for axis in range(3):
                    pull[corner, axis] -= residuals[d, axis] * share[c] / total / square
    return unreached


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
    count, rows = len(found.voxels), found.voxels
    first, number = np.zeros(count, np.int64), np.zeros(count, np.int64)
    known, again = np.ones(count, bool), np.zeros(count, bool)
    _voxel_duals(found.dual_voxel, targets, first, number, known)
    raw = np.zeros((count, 20))
    deform, pull = np.zeros((len(magnitudes), 3)), np.zeros((len(magnitudes), 3))
    pullers, moved = np.zeros(len(magnitudes), np.int64), np.zeros(len(magnitudes), bool)
    residuals = np.zeros((len(targets), 3))

    def solve(todo: Ints) -> None:
        run_chunks(
            lambda span: _fit(
                todo, rows, cubes, deform, magnitudes, found.edge, found.dual_start, first, number, targets,
                weight_scale, EDGES, CORNERS, *span, raw, residuals,
            ),
            spans(len(todo), _CHUNK),
            threads,
        )  # fmt: skip

    solve(np.flatnonzero(known))
    for _ in range(rounds):
        unreached = _pull(
            rows, cubes, magnitudes, found.edge, found.dual_start, found.dual_voxel, raw, residuals, weight_scale,
            EDGES, _UNREACHED, pull, pullers,
        )  # fmt: skip
        if unreached == 0:
            break
        run_chunks(lambda span: _move(pull, pullers, *span, deform, moved), spans(len(deform), 1 << 16), threads)
        run_chunks(lambda span: _touched(rows, cubes, moved, *span, known, again), spans(count, 1 << 16), threads)
        solve(np.flatnonzero(again))
    return raw[:, :8], raw[:, 8:], deform, residuals


@njit(nogil=True, cache=True, error_model="numpy")
def _voxel_duals(dual_voxel: Ints, targets: Floats, first: Ints, number: Ints, known: Bools) -> None:
    """First dual vertex of each voxel (they lie side by side), how many, and whether all have a target."""
    for d in range(len(dual_voxel)):
        voxel = dual_voxel[d]
        if number[voxel] == 0:
            first[voxel] = d
        number[voxel] += 1
        if np.isnan(targets[d, 0]):
            known[voxel] = False


@njit(nogil=True, cache=True, error_model="numpy")
def _vote(quads: Ints, voxel: Ints, gains: Floats, scale: float, gamma: Floats) -> None:
    logarithm = np.full(len(gamma), np.log(scale / 2.0 + (1.0 - scale) / 2.0))
    for _ in range(_SWEEPS):
        wrong = 0
        for q in range(len(quads)):
            lead = 0.0
            for k in range(4):
                weight = logarithm[voxel[quads[q, k]]]
                lead += -weight if k & 1 else weight
            want = 1.0 if gains[q] > 0.0 else -1.0
            if want * lead < _MARGIN:
                wrong += 1
                for k in range(4):
                    at = voxel[quads[q, k]]
                    step = -want if k & 1 else want
                    gamma[at] = min(max(gamma[at] + _RATE * step, -_LIMIT), _LIMIT)
                    logarithm[at] = np.log(scale / (1.0 + np.exp(-gamma[at])) + (1.0 - scale) / 2.0)
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
