"""Integer winding numbers of a closed mesh at lattice points, by signed crossings of the lattice lines along z.

Above a point inside, one more face is left than entered, so the winding number is the sum of the signs of the faces
above it: also for nested, overlapping and self-intersecting surfaces, where the parity of crossings fails.

A triangle is met by the lattice plane at integer x in a segment between two of its edges. Both faces at an edge
compute its point in that plane from the same two vertices in the same order, and segments are half open, so every
lattice line meets a closed mesh consistently, vertices and edges included: there is nothing to perturb.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .narrow_band import Coords, Lattice
from .threads import run_chunks
from .triangles import layer_members

LAYER = 8
"""Planes of lattice points along x in one piece of work."""
INSERTION = 24
"""Crossings of a line up to which inserting them in order is faster than a general sort."""


def column_windings(
    coords: Coords, vertices: Floats, faces: Ints, lattice: Lattice, threads: int | None = None
) -> NDArray[np.int32]:
    """Winding number ``(N,)`` int32 of a closed mesh at lattice points.

    Args:
        coords: ``(N, 3)`` int32, lexicographic.
        vertices: ``(V, 3)``. faces: ``(F, 3)``, of empty oriented boundary
            (:func:`~shapewright_kernels.mesh_closing.oriented_boundary`).
        lattice: maps coordinates to positions.
        threads: never changes the result.
    Returns:
        On the surface (to rounding) the winding number of one of its sides.
    """
    result = np.empty(len(coords), np.int32)

    def keep(rows: slice, numbers: NDArray[np.int32]) -> None:
        result[rows] = numbers

    _by_layer(coords, vertices, faces, lattice, threads, keep)
    return result


def column_sides(
    coords: Coords, vertices: Floats, faces: Ints, lattice: Lattice, positive: int, negative: int,
    threads: int | None = None,
) -> NDArray[np.uint8]:  # fmt: skip
    """``(N,)`` uint8: ``positive`` where :func:`column_windings` is above 0, ``negative`` where it is below, else 0."""
    sides = np.empty(len(coords), np.uint8)

    def keep(rows: slice, numbers: NDArray[np.int32]) -> None:
        sides[rows] = (numbers > 0) * np.uint8(positive) + (numbers < 0) * np.uint8(negative)

    _by_layer(coords, vertices, faces, lattice, threads, keep)
    return sides


def _by_layer(
    coords: Coords, vertices: Floats, faces: Ints, lattice: Lattice, threads: int | None,
    keep: Callable[[slice, NDArray[np.int32]], None],
) -> None:  # fmt: skip
    """Give the winding numbers of each layer of points to ``keep``."""
    corners = np.ascontiguousarray(((np.asarray(vertices, np.float64) - lattice.lower) / lattice.spacing)[faces])
    layers = lattice.resolution // LAYER + 1
    first = np.floor(np.clip(corners[..., 0].min(axis=1) / LAYER, -1, layers)).astype(np.int64)
    last = np.floor(np.clip(corners[..., 0].max(axis=1) / LAYER, -1, layers)).astype(np.int64)
    starts, members = layer_members(first, last, layers)
    bounds = np.searchsorted(coords[:, 0], np.arange(layers + 1) * LAYER)

    def work(layer: int) -> None:
        rows = slice(bounds[layer], bounds[layer + 1])
        mine = members[starts[layer] : starts[layer + 1]]
        numbers = np.empty(rows.stop - rows.start, np.int32)
        _sum_layer(coords[rows], corners, mine, layer * LAYER, lattice.resolution + 1, numbers)
        keep(rows, numbers)

    run_chunks(work, [layer for layer in range(layers) if bounds[layer + 1] > bounds[layer]], threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _segment(t: Floats, x: float) -> tuple[float, float, float, float, int]:
    """Cut of triangle ``t`` by plane ``x``: ``y0, z0, y1, z1`` with ``y0 <= y1``; 1 if it faces +z, 0 without a cut."""
    y0 = z0 = y1 = z1 = 0.0
    rising = 0
    found = 0
    for edge in range(3):
        a, b = t[edge], t[(edge + 1) % 3]
        if (a[0] <= x) == (b[0] <= x):
            continue
        up = a[0] <= x
        low, high = (a, b) if up else (b, a)
        along = (x - low[0]) / (high[0] - low[0])
        y, z = low[1] + along * (high[1] - low[1]), low[2] + along * (high[2] - low[2])
        if found == 0:
            y0, z0, rising = y, z, 1 if up else -1
        else:
            y1, z1 = y, z
        found += 1
    if found < 2:
        return 0.0, 0.0, 0.0, 0.0, 0
    if y0 <= y1:
        return y0, z0, y1, z1, rising
    return y1, z1, y0, z0, -rising


@njit(nogil=True, cache=True, error_model="numpy")
def _sort_crossings(depths: Floats, signs: NDArray[np.int8]) -> None:
    if len(depths) > INSERTION:
        order = np.argsort(depths)
        depths[:], signs[:] = depths[order], signs[order]
        return
    for end in range(1, len(depths)):
        depth, sign, place = depths[end], signs[end], end
        while place > 0 and depths[place - 1] > depth:
            depths[place], signs[place] = depths[place - 1], signs[place - 1]
            place -= 1
        depths[place], signs[place] = depth, sign


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_layer(
    coords: Coords, corners: Floats, members: Ints, x_first: int, side: int, result: NDArray[np.int32]
) -> None:
    lines = LAYER * side
    starts = np.zeros(lines + 1, np.int64)
    total = np.int64(0)
    for count_only in (True, False):
        if count_only:
            depths, signs, cursor = np.empty(0), np.empty(0, np.int8), np.empty(0, np.int64)
        else:
            depths, signs, cursor = np.empty(total), np.empty(total, np.int8), starts[:-1].copy()
        for face in members:
            t = corners[face]
            x_low = min(t[0, 0], t[1, 0], t[2, 0])
            x_high = max(t[0, 0], t[1, 0], t[2, 0])
            x0 = ceil(max(x_low, float(x_first)))
            x1 = ceil(min(x_high, float(min(x_first + LAYER, side))))  # a <= x < b: the upper end is open
            for x in range(x0, x1):
                y0, z0, y1, z1, sign = _segment(t, float(x))
                if sign == 0:
                    continue
                j0, j1 = ceil(max(y0, 0.0)), ceil(min(y1, float(side)))
                slope = (z1 - z0) / (y1 - y0) if y1 > y0 else 0.0
                z_low, z_high = min(z0, z1), max(z0, z1)
                for j in range(j0, j1):
                    line = (x - x_first) * side + j
                    if count_only:
                        starts[line + 1] += 1
                    else:
                        depths[cursor[line]] = min(max(z0 + (j - y0) * slope, z_low), z_high)
                        signs[cursor[line]] = sign
                        cursor[line] += 1
        if count_only:
            for line in range(lines):
                starts[line + 1] += starts[line]
            total = starts[-1]
    row = 0
    while row < len(coords):
        line = (coords[row, 0] - x_first) * side + coords[row, 1]
        begin, end = starts[line], starts[line + 1]
        _sort_crossings(depths[begin:end], signs[begin:end])
        above = 0
        for place in range(begin, end):
            above += signs[place]
        place = begin
        while row < len(coords) and (coords[row, 0] - x_first) * side + coords[row, 1] == line:
            while place < end and depths[place] <= coords[row, 2]:
                above -= signs[place]
                place += 1
            result[row] = above
            row += 1
