"""The cells of a grid that a triangle mesh passes through."""

from __future__ import annotations

from math import floor

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from .arrays import Floats, Ints
from .threads import run_chunks
from .triangles import layer_members

LAYER = 8
"""Cells along x in one slab of the bit mask: 1 MB a thread at 1024 cells an axis."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _misses_axis(u: float, v: float, p0: float, q0: float, p1: float, q1: float, half: float) -> bool:
    """Whether the projections of two corner points on axis ``(u, v)`` lie beside a box of half size ``half``."""
    first, second = u * p0 + v * q0, u * p1 + v * q1
    low, high = (first, second) if first < second else (second, first)
    return low > half or high < -half


@njit(nogil=True, cache=True, error_model="numpy")
def cube_meets_triangle(t: Floats, x: float, y: float, z: float) -> bool:
    """Whether the closed unit cube with lower corner ``(x, y, z)`` meets triangle ``t`` ``(3, 3)``, in cell units.

    Source: Akenine-Moller 2001, "Fast 3D triangle-box overlap testing"; comparisons are strict, so touching counts.
    """
    ax, ay, az = t[0, 0] - x - 0.5, t[0, 1] - y - 0.5, t[0, 2] - z - 0.5
    bx, by, bz = t[1, 0] - x - 0.5, t[1, 1] - y - 0.5, t[1, 2] - z - 0.5
    cx, cy, cz = t[2, 0] - x - 0.5, t[2, 1] - y - 0.5, t[2, 2] - z - 0.5
    if min(ax, bx, cx) > 0.5 or max(ax, bx, cx) < -0.5:
        return False
    if min(ay, by, cy) > 0.5 or max(ay, by, cy) < -0.5:
        return False
    if min(az, bz, cz) > 0.5 or max(az, bz, cz) < -0.5:
        return False
    for edge in range(3):
        # both ends of an edge project alike on an axis perpendicular to it, so one end and the opposite corner decide
        if edge == 0:
            px, py, pz, ox, oy, oz = ax, ay, az, cx, cy, cz
            ex, ey, ez = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
        elif edge == 1:
            px, py, pz, ox, oy, oz = bx, by, bz, ax, ay, az
            ex, ey, ez = t[2, 0] - t[1, 0], t[2, 1] - t[1, 1], t[2, 2] - t[1, 2]
        else:
            px, py, pz, ox, oy, oz = cx, cy, cz, bx, by, bz
            ex, ey, ez = t[0, 0] - t[2, 0], t[0, 1] - t[2, 1], t[0, 2] - t[2, 2]
        if _misses_axis(-ez, ey, py, pz, oy, oz, 0.5 * (abs(ez) + abs(ey))):
            return False
        if _misses_axis(ez, -ex, px, pz, ox, oz, 0.5 * (abs(ez) + abs(ex))):
            return False
        if _misses_axis(-ey, ex, px, py, ox, oy, 0.5 * (abs(ey) + abs(ex))):
            return False
    e0x, e0y, e0z = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    e1x, e1y, e1z = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    nx, ny, nz = e0y * e1z - e0z * e1y, e0z * e1x - e0x * e1z, e0x * e1y - e0y * e1x
    return abs(nx * ax + ny * ay + nz * az) <= 0.5 * (abs(nx) + abs(ny) + abs(nz))


@njit(nogil=True, cache=True, error_model="numpy")
def _first_cell(low: float, bound: int) -> int:
    """Lowest cell whose closed extent reaches ``low``: a coordinate on a lattice plane touches both neighbours."""
    cell = floor(low)
    return max(cell - 1 if low == cell else cell, bound)


@njit(nogil=True, cache=True, error_model="numpy")
def _mark(corners: Floats, members: Ints, x_first: int, x_end: int, resolution: int, words: NDArray[np.uint64]) -> None:
    for member in members:
        t = corners[member]
        low, high = t[0].copy(), t[0].copy()
        for corner in range(1, 3):
            for axis in range(3):
                low[axis] = min(low[axis], t[corner, axis])
                high[axis] = max(high[axis], t[corner, axis])
        e0x, e0y, e0z = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
        e1x, e1y, e1z = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
        nx, ny, nz = e0y * e1z - e0z * e1y, e0z * e1x - e0x * e1z, e0x * e1y - e0y * e1x
        steep = abs(nz) * 1e6 <= abs(nx) + abs(ny)
        y0, y1 = _first_cell(low[1], 0), min(floor(high[1]), resolution - 1)
        z_low, z_high = _first_cell(low[2], 0), min(floor(high[2]), resolution - 1)
        for x in range(_first_cell(low[0], x_first), min(floor(high[0]), x_end - 1) + 1):
            for y in range(y0, y1 + 1):
                z0, z1 = z_low, z_high
                if not steep and z1 - z0 > 2:  # the plane bounds the column; one cell to spare covers the rounding
                    centre = t[0, 2] - (nx * (x + 0.5 - t[0, 0]) + ny * (y + 0.5 - t[0, 1])) / nz
                    reach = 0.5 * (abs(nx) + abs(ny)) / abs(nz) + 1.0
                    z0 = max(z0, floor(max(centre - reach, -1.0)))
                    z1 = min(z1, floor(min(centre + reach, resolution + 1.0)))
                row = ((x - x_first) * resolution + y) * ((resolution + 63) // 64)
                for z in range(z0, z1 + 1):
                    bit = np.uint64(1) << np.uint64(z & 63)
                    if words[row + (z >> 6)] & bit == np.uint64(0) and cube_meets_triangle(t, x, y, z):
                        words[row + (z >> 6)] |= bit


@njit(nogil=True, cache=True, error_model="numpy")
def _list_bits(words: NDArray[np.uint64], x_first: int, resolution: int) -> NDArray[np.int32]:
    count = 0
    for word in words:
        while word != np.uint64(0):
            word &= word - np.uint64(1)
            count += 1
    coords = np.empty((count, 3), np.int32)
    row_words = (resolution + 63) // 64
    count = 0
    for index in range(words.size):
        word = words[index]
        if word == np.uint64(0):
            continue
        row = index // row_words
        for bit in range(64):
            if word >> np.uint64(bit) & np.uint64(1):
                coords[count, 0] = x_first + row // resolution
                coords[count, 1] = row % resolution
                coords[count, 2] = (index % row_words) * 64 + bit
                count += 1
    return coords


def surface_voxels(
    vertices: Floats,
    faces: Ints,
    lower: ArrayLike,
    spacing: ArrayLike,
    resolution: int,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Cells whose closed box meets a triangle.

    Cell ``(i, j, k)`` spans ``lower + (i, j, k) * spacing`` to ``lower + (i + 1, j + 1, k + 1) * spacing``. The
    separating-axis test is done in float64 and touching counts, so a face that lies in a lattice plane marks the cells
    on both of its sides. What lies outside the grid is ignored.

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers.
        lower: corner of the grid. spacing: size of a cell, a number or three.
        resolution: cells an axis.
        threads: see :mod:`shapewright_kernels.threads`; never changes the result.
    Returns:
        ``(N, 3)`` int32, lexicographic. Memory follows the result plus one slab of bits a thread.

    >>> surface_voxels(np.eye(3) * 0.9, np.array([[0, 1, 2]]), 0.0, 0.5, 2).shape
    (4, 3)
    """
    if resolution < 1:
        raise ValueError(f"resolution must be at least 1, not {resolution}")
    origin, size = np.asarray(lower, np.float64), np.asarray(spacing, np.float64)
    corners = np.ascontiguousarray(((np.asarray(vertices, np.float64) - origin) / size)[faces])
    low, high = corners[..., 0].min(axis=1), corners[..., 0].max(axis=1)
    layers = -(-resolution // LAYER)
    # a lattice plane between two layers belongs to both; the bounds inside the slab drop the rest
    first = np.floor(np.clip((low - 1) / LAYER, -1, layers)).astype(np.int64)
    last = np.floor(np.clip(high / LAYER, -1, layers)).astype(np.int64)
    starts, members = layer_members(first, last, layers)

    def voxels(layer: int) -> NDArray[np.int32]:
        x_first, x_end = layer * LAYER, min((layer + 1) * LAYER, resolution)
        words = np.zeros((x_end - x_first) * resolution * ((resolution + 63) // 64), np.uint64)
        _mark(corners, members[starts[layer] : starts[layer + 1]], x_first, x_end, resolution, words)
        return _list_bits(words, x_first, resolution)

    occupied = [layer for layer in range(layers) if starts[layer + 1] > starts[layer]]
    parts = run_chunks(voxels, occupied, threads)
    return np.concatenate(parts) if parts else np.empty((0, 3), np.int32)
