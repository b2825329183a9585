"""Which grid edges a triangle crosses, and what that adds to the quadrics of the voxels around them (*compiled*).

The functions here see one slab of the grid, some x planes cut to the box that its triangles can reach. Its active
voxels are the set bits of ``mask``, 64 voxels along z a word; ``first[word]`` plus a popcount is the row of a voxel, so
rows come out in lexicographic order without a sort.

What decides a voxel follows the published converter to the bit: float64 arithmetic on float32 vertices, grid lines at
the float32 product ``(index + 1) * step``, truncation, half-open ranges (TRELLIS.2, spec section 1.3).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats
from .lattice_index import below, popcount

SLACK = 1e-6
"""Widening of cell ranges in cells: more than the rounding of an interpolation, far less than a cell."""
GRID_LINE_ERROR = 1e-7
"""Relative error of a float32 grid line: a scan line may be read this far beyond its ends."""
LONG_LINE = 8
"""Grid lines or columns from which on a range is cut to the slab before it is walked."""


class Triangles(NamedTuple):
    """Set-up of ``F`` triangles, in the frame whose origin is the grid's lower corner."""

    corners: NDArray[np.float32]
    """``(F, 9)`` the three corners."""
    normals: Floats
    """``(F, 3)`` unit normals, zero where a triangle has no area."""
    cells: NDArray[np.int16]
    """``(F, 6)`` lowest and highest cell along x, y, z that it can reach, clamped to the grid. A hit elsewhere is
    dropped: it comes from reading a nearly vertical triangle beyond its border, more than a cell off."""


class Slab(NamedTuple):
    """Part of the grid that one thread works on."""

    low: tuple[int, int, int]
    """First cell along x, y, z."""
    high: tuple[int, int, int]
    """One past the last cell."""
    words: int
    """Mask words a (x, y) column."""
    mask: NDArray[np.uint64]
    first: NDArray[np.int32]
    sums: Floats
    """``(N, 9)`` per active voxel: xx, xy, xz, yy, yz, zz of the quadric matrix, then the right-hand side, with the
    voxel's lower corner as the origin."""
    flags: NDArray[np.uint8]
    """``(N,)`` bits 1, 2, 4: the edge along x, y, z is crossed."""


@njit(nogil=True, cache=True, error_model="numpy")
def cell_of(position: float, step: float, count: int) -> int:
    """``clamp(trunc(position / step), 0, count - 1)`` without overflow however far away ``position`` is."""
    cell = position / step
    if not cell > 0.0:
        return 0
    if cell >= count - 1:
        return count - 1
    return int(cell)


@njit(nogil=True, cache=True, error_model="numpy")
def set_up(
    vertices: NDArray[np.float32],
    faces: Any,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    start: int,
    stop: int,
    triangles: Triangles,
) -> None:
    """Fill ``triangles[start:stop]``."""
    v = np.empty((3, 3))
    for t in range(start, stop):
        for k in range(3):
            for axis in range(3):
                triangles.corners[t, 3 * k + axis] = vertices[faces[t, k], axis]
                v[k, axis] = vertices[faces[t, k], axis]
        ax, ay, az = v[1, 0] - v[0, 0], v[1, 1] - v[0, 1], v[1, 2] - v[0, 2]
        bx, by, bz = v[2, 0] - v[1, 0], v[2, 1] - v[1, 1], v[2, 2] - v[1, 2]
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        size = np.sqrt(nx * nx + ny * ny + nz * nz)
        scale = 1.0 / size if size > 0.0 else 0.0
        triangles.normals[t, 0] = nx * scale
        triangles.normals[t, 1] = ny * scale
        triangles.normals[t, 2] = nz * scale
        for axis in range(3):
            a0 = (axis + 1) % 3
            step = np.float64(steps[axis])
            slope = abs(triangles.normals[t, a0]) * steps[a0] / (abs(triangles.normals[t, axis]) * step)
            beyond = GRID_LINE_ERROR * counts[a0] * slope
            slack = (SLACK + (beyond if beyond < 1.0 else 1.0)) * step
            low = min(v[0, axis], v[1, axis], v[2, axis]) - slack
            high = max(v[0, axis], v[1, axis], v[2, axis]) + slack
            triangles.cells[t, axis] = cell_of(low, step, counts[axis])
            triangles.cells[t, 3 + axis] = cell_of(high, step, counts[axis])


@njit(nogil=True, cache=True, error_model="numpy")
def row_of(mask: NDArray[np.uint64], first: NDArray[np.int32], word: int, bit: int) -> int:
    """Row of the active voxel at ``bit`` of a mask word, -1 where that voxel is not active."""
    bits = mask[word]
    if (bits >> np.uint64(bit)) & np.uint64(1) == np.uint64(0):
        return -1
    return int(first[word]) + popcount(bits & below(bit))


@njit(nogil=True, cache=True, error_model="numpy")
def add_plane(sums: Floats, row: int, nx: float, ny: float, nz: float, distance: float) -> None:
    """Add the squared distance to the plane ``n . x + distance = 0``, ``x`` relative to the voxel's corner."""
    sums[row, 0] += nx * nx
    sums[row, 1] += nx * ny
    sums[row, 2] += nx * nz
    sums[row, 3] += ny * ny
    sums[row, 4] += ny * nz
    sums[row, 5] += nz * nz
    sums[row, 6] -= nx * distance
    sums[row, 7] -= ny * distance
    sums[row, 8] -= nz * distance


@njit(nogil=True, cache=True, error_model="numpy")
def clipped_range(corners: NDArray[np.float32], t: int, axis: int, low: float, high: float) -> tuple[float, float]:
    """Range along ``axis`` of the part of triangle ``t`` with ``low <= x <= high``; (inf, -inf) where there is none."""
    smallest, largest = np.inf, -np.inf
    for k in range(3):
        other = (k + 1) % 3
        x0, x1 = np.float64(corners[t, 3 * k]), np.float64(corners[t, 3 * other])
        u0, u1 = np.float64(corners[t, 3 * k + axis]), np.float64(corners[t, 3 * other + axis])
        if low <= x0 <= high:
            smallest, largest = min(smallest, u0), max(largest, u0)
        for bound in (low, high):
            if min(x0, x1) <= bound <= max(x0, x1) and x0 != x1:
                u = u0 + (u1 - u0) * ((bound - x0) / (x1 - x0))
                smallest, largest = min(smallest, u), max(largest, u)
    return smallest, largest


@njit(nogil=True, cache=True, error_model="numpy")
def scan_edges(
    slab: Slab,
    triangles: Triangles,
    t: int,
    steps: NDArray[np.float32],
    counts: tuple[int, int, int],
    regularization: float,
) -> None:
    """Scan line of triangle ``t`` along the three axes: add its plane and the pull to the hit point to the four voxels
    around every crossed grid edge, which are active already, and set the flag of the first one."""
    # Plain arrays and numbers: a named tuple handed to an inner function costs more than the function.
    corners, cells = triangles.corners, triangles.cells
    mask, first, sums, flags = slab.mask, slab.first, slab.sums, slab.flags
    x_low, y_low, z_low = slab.low
    x_high, words = slab.high[0], slab.words
    nx, ny, nz = triangles.normals[t, 0], triangles.normals[t, 1], triangles.normals[t, 2]
    # A voxel's place in the mask, in bits, is linear in its coordinates.
    stride_y = words * 64
    stride_x = (slab.high[1] - y_low) * stride_y
    base = x_low * stride_x + y_low * stride_y + z_low
    xx, xy, xz = nx * nx + regularization, nx * ny, nx * nz
    yy, yz, zz = ny * ny + regularization, ny * nz, nz * nz + regularization
    level0 = nx * corners[t, 0] + ny * corners[t, 1] + nz * corners[t, 2]
    step_x = np.float64(steps[0])
    leaves_slab = cells[t, 0] < x_low - 1 or cells[t, 3] > x_high
    for edge_axis in range(3):
        a0, a1 = (edge_axis + 1) % 3, (edge_axis + 2) % 3
        if cells[t, a0] == cells[t, 3 + a0] or cells[t, a1] == cells[t, 3 + a1]:
            continue  # no grid line between its corners
        step0, step1, step2 = np.float64(steps[a0]), np.float64(steps[a1]), np.float64(steps[edge_axis])
        # Corners sorted by the row coordinate.
        i, j, k = 0, 3, 6
        if corners[t, j + a1] < corners[t, i + a1]:
            i, j = j, i
        if corners[t, k + a1] < corners[t, j + a1]:
            j, k = k, j
            if corners[t, j + a1] < corners[t, i + a1]:
                i, j = j, i
        row_start = cell_of(np.float64(corners[t, i + a1]), step1, counts[a1])
        row_middle = cell_of(np.float64(corners[t, j + a1]), step1, counts[a1])
        row_end = cell_of(np.float64(corners[t, k + a1]), step1, counts[a1])
        clip_low, clip_high = row_start, row_end
        if a1 == 0:
            clip_low, clip_high = max(row_start, x_low - 1), min(row_end, x_high)
        elif leaves_slab and row_end - row_start > LONG_LINE:
            near, far = clipped_range(corners, t, a1, (x_low - 2) * step_x, (x_high + 1) * step_x)
            if near > far:
                continue
            clip_low = max(row_start, cell_of(near, step1, counts[a1]) - 2)
            clip_high = min(row_end, cell_of(far, step1, counts[a1]) + 2)
        clip_low, clip_high = max(clip_low, int(cells[t, a1])), min(clip_high, int(cells[t, 3 + a1]))
        layer_low, layer_high = int(cells[t, edge_axis]), int(cells[t, 3 + edge_axis])
        if edge_axis == 0:
            layer_low, layer_high = max(layer_low, x_low), min(layer_high, x_high - 1)
        count2 = np.float64(counts[edge_axis])
        n0, n1, n2 = triangles.normals[t, a0], triangles.normals[t, a1], triangles.normals[t, edge_axis]
        if edge_axis == 0:
            stride0, stride1, stride2, in_x0, in_x1, in_x2 = stride_y, 1, stride_x, 0, 0, 1
        elif edge_axis == 1:
            stride0, stride1, stride2, in_x0, in_x1, in_x2 = 1, stride_x, stride_y, 0, 1, 0
        else:
            stride0, stride1, stride2, in_x0, in_x1, in_x2 = stride_x, stride_y, 1, 1, 0, 0
        b0, b1 = np.float64(corners[t, j + a0]), np.float64(corners[t, j + a1])
        b2 = np.float64(corners[t, j + edge_axis])
        for half in range(2):
            apex, far_end = (i, k) if half == 0 else (k, i)
            first_row = max(clip_low, row_start if half == 0 else row_middle)
            last_row = min(clip_high, row_middle if half == 0 else row_end)
            p0, p1 = np.float64(corners[t, apex + a0]), np.float64(corners[t, apex + a1])
            p2 = np.float64(corners[t, apex + edge_axis])
            c0, c1 = np.float64(corners[t, far_end + a0]), np.float64(corners[t, far_end + a1])
            c2 = np.float64(corners[t, far_end + edge_axis])
            for r in range(first_row, last_row):
                y = np.float64(np.float32(r + 1) * steps[a1])
                left, left_z, right, right_z = p0, p2, p0, p2
                if p1 != b1:
                    q = (y - p1) / (b1 - p1)
                    left = (1.0 - q) * p0 + q * b0
                    left_z = (1.0 - q) * p2 + q * b2
                if p1 != c1:
                    q = (y - p1) / (c1 - p1)
                    right = (1.0 - q) * p0 + q * c0
                    right_z = (1.0 - q) * p2 + q * c2
                if left > right:
                    left, left_z, right, right_z = right, right_z, left, left_z
                column_start = cell_of(left, step0, counts[a0])
                column_end = cell_of(right, step0, counts[a0])
                if a0 == 0:
                    column_start, column_end = max(column_start, x_low - 1), min(column_end, x_high)
                elif edge_axis == 0 and leaves_slab and column_end - column_start > LONG_LINE:
                    # Along this line x is linear in the column: keep columns with x in the slab, with a margin.
                    bound_low, bound_high = (x_low - 2) * step_x, (x_high + 1) * step_x
                    if max(left_z, right_z) < bound_low or min(left_z, right_z) > bound_high:
                        continue
                    if left_z != right_z:
                        u = left + (right - left) * ((bound_low - left_z) / (right_z - left_z))
                        w = left + (right - left) * ((bound_high - left_z) / (right_z - left_z))
                        column_start = max(column_start, cell_of(min(u, w), step0, counts[a0]) - 2)
                        column_end = min(column_end, cell_of(max(u, w), step0, counts[a0]) + 2)
                column_start = max(column_start, int(cells[t, a0]))
                column_end = min(column_end, int(cells[t, 3 + a0]))
                for c in range(column_start, column_end):
                    x = np.float64(np.float32(c + 1) * steps[a0])
                    q = (x - left) / (right - left)
                    z = (1.0 - q) * left_z + q * right_z
                    level = z / step2
                    if not (level > -1.0 and level < count2):
                        continue
                    layer = int(level)
                    if layer < layer_low or layer > layer_high:
                        continue
                    at = c * stride0 + r * stride1 + layer * stride2 - base
                    plane = c * in_x0 + r * in_x1 + layer * in_x2  # the x plane that the voxel lies in
                    u, v, w = x - c * step0, y - r * step1, z - layer * step2
                    distance = n0 * (c * step0) + n1 * (r * step1) + n2 * (layer * step2) - level0
                    for dx in range(2):
                        for dy in range(2):
                            if not x_low <= plane + dx * in_x0 + dy * in_x1 < x_high:
                                continue
                            voxel = at + dx * stride0 + dy * stride1
                            row = row_of(mask, first, voxel >> 6, voxel & 63)
                            d = distance + dx * (n0 * step0) + dy * (n1 * step1)
                            sums[row, 0] += xx
                            sums[row, 1] += xy
                            sums[row, 2] += xz
                            sums[row, 3] += yy
                            sums[row, 4] += yz
                            sums[row, 5] += zz
                            sums[row, 6 + a0] += regularization * (u - dx * step0) - n0 * d
                            sums[row, 6 + a1] += regularization * (v - dy * step1) - n1 * d
                            sums[row, 6 + edge_axis] += regularization * w - n2 * d
                            if dx == 0 and dy == 0:
                                flags[row] |= np.uint8(1 << edge_axis)
