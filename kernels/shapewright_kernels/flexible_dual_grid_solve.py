"""The dual vertex of a voxel: where its quadric is smallest inside the voxel (TRELLIS.2, spec section 1.5; *compiled*).

Systems are nearly singular where the surface is flat (condition 1 / regularization), so everything is float64 and
factored (LDL^T) rather than inverted. A system that is singular to rounding has no solution of its own and is passed
over.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats

SINGULAR = 1e-13
"""A pivot below this share of its diagonal element is rounding."""


@njit(nogil=True, cache=True, error_model="numpy")
def _energy(a: Floats, b: Floats, x: float, y: float, z: float) -> float:
    """``v^T A v - 2 b^T v``: the energy up to its constant."""
    return (
        x * (a[0, 0] * x + 2.0 * (a[0, 1] * y + a[0, 2] * z - b[0]))
        + y * (a[1, 1] * y + 2.0 * (a[1, 2] * z - b[1]))
        + z * (a[2, 2] * z - 2.0 * b[2])
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _better(a: Floats, b: Floats, trial: Floats, best: Floats, lowest: float) -> float:
    energy = _energy(a, b, trial[0], trial[1], trial[2])
    if energy < lowest:
        best[0], best[1], best[2] = trial[0], trial[1], trial[2]
        return energy
    return lowest


@njit(nogil=True, cache=True, error_model="numpy")
def _constrained(a: Floats, b: Floats, size: Floats, best: Floats, trial: Floats) -> None:
    """Smallest energy on the border of the box ``[0, size]``: 6 faces, 12 edges, 8 corners, the first of equals."""
    lowest = np.inf
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side in range(2):
            trial[axis] = size[axis] * side
            right_u, right_v = b[u] - a[u, axis] * trial[axis], b[v] - a[v, axis] * trial[axis]
            if not a[u, u] > 0.0:
                continue
            factor = a[u, v] / a[u, u]
            pivot = a[v, v] - factor * a[u, v]
            if not pivot > SINGULAR * a[v, v]:
                continue
            trial[v] = (right_v - factor * right_u) / pivot
            trial[u] = (right_u - a[u, v] * trial[v]) / a[u, u]
            if 0.0 <= trial[u] <= size[u] and 0.0 <= trial[v] <= size[v]:
                lowest = _better(a, b, trial, best, lowest)
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        for side_u in range(2):
            for side_v in range(2):
                trial[u], trial[v] = size[u] * side_u, size[v] * side_v
                trial[axis] = (b[axis] - a[axis, u] * trial[u] - a[axis, v] * trial[v]) / a[axis, axis]
                if 0.0 <= trial[axis] <= size[axis]:
                    lowest = _better(a, b, trial, best, lowest)
    for corner in range(8):  # upper bounds first
        trial[0] = 0.0 if corner & 4 else size[0]
        trial[1] = 0.0 if corner & 2 else size[1]
        trial[2] = 0.0 if corner & 1 else size[2]
        lowest = _better(a, b, trial, best, lowest)


@njit(nogil=True, cache=True, error_model="numpy")
def solve(sums: Floats, steps: NDArray[np.float32], relative: NDArray[np.float32]) -> None:
    """Dual vertices ``relative`` ``(N, 3)`` in units of the voxel, in [0, 1], from the quadrics ``sums`` ``(N, 9)``."""
    a, b = np.empty((3, 3)), np.empty(3)
    size, scale, best, trial = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    for axis in range(3):
        size[axis] = steps[axis]
        scale[axis] = 1.0 / size[axis]
    for row in range(len(sums)):
        xx, xy, xz = sums[row, 0], sums[row, 1], sums[row, 2]
        yy, yz, zz = sums[row, 3], sums[row, 4], sums[row, 5]
        b0, b1, b2 = sums[row, 6], sums[row, 7], sums[row, 8]
        inside = False
        if xx > 0.0:
            # divisions cost more than all the rest
            inverse0 = 1.0 / xx
            f1, f2 = xy * inverse0, xz * inverse0
            pivot1 = yy - f1 * xy
            mixed = yz - f1 * xz
            if pivot1 > SINGULAR * yy:
                inverse1 = 1.0 / pivot1
                f3 = mixed * inverse1
                pivot2 = zz - f2 * xz - f3 * mixed
                if pivot2 > SINGULAR * zz:
                    g1 = b1 - f1 * b0
                    best[2] = (b2 - f2 * b0 - f3 * g1) / pivot2
                    best[1] = g1 * inverse1 - f3 * best[2]
                    best[0] = b0 * inverse0 - f1 * best[1] - f2 * best[2]
                    inside = 0.0 <= best[0] <= size[0] and 0.0 <= best[1] <= size[1] and 0.0 <= best[2] <= size[2]
        if not inside:
            a[0, 0], a[0, 1], a[0, 2] = xx, xy, xz
            a[1, 0], a[1, 1], a[1, 2] = xy, yy, yz
            a[2, 0], a[2, 1], a[2, 2] = xz, yz, zz
            b[0], b[1], b[2] = b0, b1, b2
            _constrained(a, b, size, best, trial)
        for axis in range(3):
            relative[row, axis] = best[axis] * scale[axis]
