"""Generalised winding numbers at many lattice points: one far field for the points of a brick.

Within a brick of 8^3 lattice points, the winding number of the triangles that are not near is smooth. It is sampled at
3^3 nodes and interpolated quadratically; the few near triangles are summed exactly at every point. The tree is walked
once a brick; what it yields is summed at all nodes or points in one vectorised loop (:mod:`.winding_sums`). Bricks with
few points are summed without samples, bricks with many near triangles octant by octant.
"""

from __future__ import annotations

from math import pi, sqrt

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .narrow_band import Coords, Lattice
from .narrow_band_bricks import BRICK
from .plane_frames import plane_frames, squared_distance
from .threads import run_chunks, spans
from .winding import ACCURACY, STACK, WindingIndex
from .winding_sums import add_node, add_triangle

NODES = 27
FEWEST = 2 * NODES
"""Points from which the samples of a brick pay."""
NEAR = 2.5
"""A triangle is near when it comes within this many half diagonals of the centre of a brick; the error of
interpolation falls with its third power and is below 0.003 here."""
MOST_NEAR = 192
"""Near triangles up to which summing them costs less than walking the tree for each octant."""
CHUNK = 32
"""Bricks in one piece of work."""


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
    frames = plane_frames(index.corners)

    def work(span: tuple[int, int]) -> None:
        _bricks(
            coords, order, starts, span[0], span[1], lattice.lower, lattice.spacing, index.corners, index.starts,
            index.centres, index.radii, index.moments, frames, result,
        )  # fmt: skip

    run_chunks(work, spans(len(starts) - 1, CHUNK), threads)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _add_far(
    centre: Floats, radius: float, reach: float, px: Floats, py: Floats, pz: Floats, total: Floats, corners: Floats,
    starts: Ints, node_centres: Floats, node_radii: Floats, moments: Floats, frames: Floats, stack: Ints, near: Ints,
) -> int:  # fmt: skip
    """Add the solid angles of all triangles but those nearer to ``centre`` than ``reach`` to ``total``, for points that
    lie within ``radius`` of it. Fill ``near`` with the others and return their number; -1 if they do not fit.

    A node is replaced by its multipoles where it is farther than ``ACCURACY`` of its radii from every point.
    """
    inner = len(node_centres) // 2
    count = 0
    stack[0] = 0
    top = 1
    while top > 0:
        top -= 1
        node = stack[top]
        x, y, z = (
            node_centres[node, 0] - centre[0],
            node_centres[node, 1] - centre[1],
            node_centres[node, 2] - centre[2],
        )
        beyond = sqrt(x * x + y * y + z * z) - node_radii[node]
        if beyond > reach and beyond > radius + (ACCURACY - 1.0) * node_radii[node]:
            add_node(node_centres, moments, node, px, py, pz, total)
        elif node < inner:
            stack[top] = 2 * node + 1
            stack[top + 1] = 2 * node + 2
            top += 2
        else:
            for face in range(starts[node - inner], starts[node - inner + 1]):
                if squared_distance(frames, face, centre[0], centre[1], centre[2]) >= reach * reach:
                    add_triangle(corners, face, px, py, pz, total)
                elif count == near.size:
                    return -1
                else:
                    near[count] = face
                    count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _octant(low: Ints, coords: Coords, row: int) -> int:
    half = BRICK // 2
    return (
        4 * ((coords[row, 0] - low[0]) // half)
        + 2 * ((coords[row, 1] - low[1]) // half)
        + (coords[row, 2] - low[2]) // half
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _bricks(
    coords: Coords, order: Ints, brick_starts: Ints, first: int, last: int, lower: Floats, spacing: Floats,
    corners: Floats, starts: Ints, node_centres: Floats, node_radii: Floats, moments: Floats, frames: Floats,
    result: Floats,
) -> None:  # fmt: skip
    stack = np.empty(STACK, np.int64)
    near, none = np.empty(MOST_NEAR, np.int64), np.empty(0, np.int64)
    samples = np.empty(NODES)
    sx, sy, sz = np.empty(NODES), np.empty(NODES), np.empty(NODES)
    x, y, z = np.empty(BRICK**3), np.empty(BRICK**3), np.empty(BRICK**3)
    angles = np.empty(BRICK**3)
    rows = np.empty(BRICK**3, np.int64)
    low, centre = np.empty(3, np.int64), np.empty(3)
    half = 0.5 * (BRICK - 1)
    diagonal = sqrt(spacing[0] ** 2 + spacing[1] ** 2 + spacing[2] ** 2)
    basis = np.empty((BRICK, 3))  # quadratic through the two ends and the middle of a brick
    for offset in range(BRICK):
        t = offset / half - 1.0
        basis[offset, 0], basis[offset, 1], basis[offset, 2] = 0.5 * t * (t - 1.0), 1.0 - t * t, 0.5 * t * (t + 1.0)
    for brick in range(first, last):
        here = order[brick_starts[brick] : brick_starts[brick + 1]]
        for axis in range(3):
            low[axis] = coords[here[0], axis] // BRICK * BRICK
            centre[axis] = lower[axis] + (low[axis] + half) * spacing[axis]
        found = -1
        if here.size >= FEWEST:
            for node in range(NODES):
                sx[node] = lower[0] + (low[0] + node // 9 * half) * spacing[0]
                sy[node] = lower[1] + (low[1] + node // 3 % 3 * half) * spacing[1]
                sz[node] = lower[2] + (low[2] + node % 3 * half) * spacing[2]
                samples[node] = 0.0
            found = _add_far(
                centre, half * diagonal, NEAR * half * diagonal, sx, sy, sz, samples, corners, starts, node_centres,
                node_radii, moments, frames, stack, near,
            )  # fmt: skip
        parts = 8 if here.size >= FEWEST and found < 0 else 1
        for part in range(parts):
            count = 0
            for row in here:
                if parts > 1 and _octant(low, coords, row) != part:
                    continue
                x[count] = lower[0] + coords[row, 0] * spacing[0]
                y[count] = lower[1] + coords[row, 1] * spacing[1]
                z[count] = lower[2] + coords[row, 2] * spacing[2]
                angles[count] = 0.0
                rows[count] = row
                count += 1
            if count == 0:
                continue
            px, py, pz, total = x[:count], y[:count], z[:count], angles[:count]
            if found >= 0:
                for place in range(found):
                    add_triangle(corners, near[place], px, py, pz, total)
            else:
                centre[0] = 0.5 * (px.min() + px.max())
                centre[1] = 0.5 * (py.min() + py.max())
                centre[2] = 0.5 * (pz.min() + pz.max())
                radius = 0.0
                for i in range(count):
                    square = (px[i] - centre[0]) ** 2 + (py[i] - centre[1]) ** 2 + (pz[i] - centre[2]) ** 2
                    radius = max(radius, sqrt(square))
                _add_far(
                    centre, radius, 0.0, px, py, pz, total, corners, starts, node_centres, node_radii, moments,
                    frames, stack, none,
                )  # fmt: skip
            for i in range(count):
                angle = total[i]
                if found >= 0:
                    row = rows[i]
                    bx, by = basis[coords[row, 0] - low[0]], basis[coords[row, 1] - low[1]]
                    bz = basis[coords[row, 2] - low[2]]
                    for j in range(9):
                        line = samples[3 * j] * bz[0] + samples[3 * j + 1] * bz[1] + samples[3 * j + 2] * bz[2]
                        angle += bx[j // 3] * by[j % 3] * line
                result[rows[i]] = angle / (4.0 * pi)
