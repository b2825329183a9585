"""Generalised winding numbers at many lattice points: one far field for the points of a brick.

Within a brick of 8^3 lattice points, the winding number of the triangles that are not near is smooth. It is sampled at
3^3 nodes and interpolated quadratically; the few near triangles are summed exactly at every point. Bricks with few
points or many near triangles walk the tree for every point instead.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .closest_point import _plane_frames, _squared_distance
from .narrow_band import Coords, Lattice
from .narrow_band_bricks import BRICK
from .threads import run_chunks, spans
from .winding import ACCURACY, STACK, WindingIndex, angle_of, winding_at

NODES = 27
FEWEST = 2 * NODES
"""Points from which the samples of a brick pay."""
NEAR = 2.5
"""A triangle is near when it comes within this many half diagonals of the centre of a brick; the error of
interpolation falls with its third power and is below 0.003 here."""
MOST_NEAR = 96
"""Near triangles up to which summing them costs less than walking the tree."""


def lattice_windings(index: WindingIndex, coords: Coords, lattice: Lattice, threads: int | None = None) -> Floats:
    """Winding numbers ``(N,)`` float64 at lattice points ``coords`` ``(N, 3)`` int32, to about 0.005.

    The result depends on which points are asked for only within that error; it does not depend on their order or on the
    number of threads.
    """
    result = np.zeros(len(coords))
    if not len(index.corners) or not len(coords):
        return result
    bricks = coords.astype(np.int64) // BRICK
    side = lattice.resolution // BRICK + 1
    keys = (bricks[:, 0] * side + bricks[:, 1]) * side + bricks[:, 2]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.append(np.flatnonzero(np.append(True, keys[1:] != keys[:-1])), len(keys))
    frames = _plane_frames(index.corners)

    def work(span: tuple[int, int]) -> None:
        _bricks(
            coords, order, starts, span[0], span[1], lattice.lower, lattice.spacing, index.corners, index.starts,
            index.centres, index.radii, index.moments, frames, ACCURACY * ACCURACY, result,
        )  # fmt: skip

    run_chunks(work, spans(len(starts) - 1, 64), threads)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _near_triangles(
    x: float,
    y: float,
    z: float,
    reach: float,
    starts: Ints,
    node_centres: Floats,
    node_radii: Floats,
    frames: Floats,
    stack: Ints,
    near: Ints,
) -> int:
    """Fill ``near`` with the triangles within ``reach`` of a point and return their number; -1 if they do not fit."""
    inner = len(node_centres) // 2
    count = 0
    stack[0] = 0
    top = 1
    while top > 0:
        top -= 1
        node = stack[top]
        limit = reach + node_radii[node]
        square = (node_centres[node, 0] - x) ** 2 + (node_centres[node, 1] - y) ** 2 + (node_centres[node, 2] - z) ** 2
        if square > limit * limit:
            continue
        if node < inner:
            stack[top] = 2 * node + 1
            stack[top + 1] = 2 * node + 2
            top += 2
            continue
        for face in range(starts[node - inner], starts[node - inner + 1]):
            if _squared_distance(frames, face, x, y, z) <= reach * reach:
                if count == near.size:
                    return -1
                near[count] = face
                count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _bricks(
    coords: Coords,
    order: Ints,
    brick_starts: Ints,
    first: int,
    last: int,
    lower: Floats,
    spacing: Floats,
    corners: Floats,
    starts: Ints,
    node_centres: Floats,
    node_radii: Floats,
    moments: Floats,
    frames: Floats,
    square: float,
    result: Floats,
) -> None:
    stack = np.empty(STACK, np.int64)
    near = np.empty(MOST_NEAR, np.int64)
    samples = np.empty((3, 3, 3))
    half = 0.5 * (BRICK - 1)
    reach = NEAR * half * sqrt(spacing[0] ** 2 + spacing[1] ** 2 + spacing[2] ** 2)
    basis = np.empty((BRICK, 3))  # quadratic through the two ends and the middle of a brick
    for offset in range(BRICK):
        t = offset / half - 1.0
        basis[offset, 0], basis[offset, 1], basis[offset, 2] = 0.5 * t * (t - 1.0), 1.0 - t * t, 0.5 * t * (t + 1.0)
    for brick in range(first, last):
        rows = order[brick_starts[brick] : brick_starts[brick + 1]]
        low = coords[rows[0]] // BRICK * BRICK
        found = -1
        if rows.size >= FEWEST:
            found = _near_triangles(
                lower[0] + (low[0] + half) * spacing[0],
                lower[1] + (low[1] + half) * spacing[1],
                lower[2] + (low[2] + half) * spacing[2],
                reach, starts, node_centres, node_radii, frames, stack, near,
            )  # fmt: skip
        if found >= 0:
            for i in range(3):
                for j in range(3):
                    for k in range(3):
                        x = lower[0] + (low[0] + i * half) * spacing[0]
                        y = lower[1] + (low[1] + j * half) * spacing[1]
                        z = lower[2] + (low[2] + k * half) * spacing[2]
                        angle = 0.0
                        for place in range(found):
                            angle += angle_of(corners, near[place], x, y, z)
                        samples[i, j, k] = -angle / (4.0 * pi) + winding_at(
                            x, y, z, corners, starts, node_centres, node_radii, moments, square, stack
                        )
        for row in rows:
            x = lower[0] + coords[row, 0] * spacing[0]
            y = lower[1] + coords[row, 1] * spacing[1]
            z = lower[2] + coords[row, 2] * spacing[2]
            if found < 0:
                result[row] = winding_at(x, y, z, corners, starts, node_centres, node_radii, moments, square, stack)
                continue
            angle = 0.0
            for place in range(found):
                angle += angle_of(corners, near[place], x, y, z)
            total = angle / (4.0 * pi)
            bx, by, bz = basis[coords[row, 0] - low[0]], basis[coords[row, 1] - low[1]], basis[coords[row, 2] - low[2]]
            for i in range(3):
                for j in range(3):
                    weight = bx[i] * by[j]
                    for k in range(3):
                        total += weight * bz[k] * samples[i, j, k]
            result[row] = total
