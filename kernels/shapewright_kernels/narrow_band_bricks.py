"""The bricks of one layer of :mod:`.narrow_band`: which triangles reach them, and the points within reach (*compiled*).

What lies within reach of a triangle is bounded by its box and five half spaces
(:func:`~shapewright_kernels.plane_distance.limit_planes`). Each is linear, so a bundle of lattice lines is cut to an
interval at once and few distances are computed in vain.
"""

from __future__ import annotations

from math import ceil, floor, sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .plane_distance import LIMITS, lower_row

BRICK = 8
ROWS = BRICK**2
FLAT_LIMIT = 1e-12
"""A half space whose border is this parallel to a direction does not bound it."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _least(slope: float, low: float, high: float) -> float:
    return slope * low if slope > 0.0 else slope * high


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _first_point(position: float, spacing: float, low: int, high: int) -> int:
    """First of the lattice points ``low..high`` that is not before ``position`` (or the one before it, by rounding)."""
    index = position / spacing - 1e-6
    if not index > low:
        return low
    return high + 1 if index > high else ceil(index)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _last_point(position: float, spacing: float, low: int, high: int) -> int:
    index = position / spacing + 1e-6
    if not index < high:
        return high
    return low - 1 if index < low else floor(index)


@njit(nogil=True, cache=True, error_model="numpy")
def _cut(
    limits: Floats, face: int, axis: int, u: int, u_low: float, u_high: float, v: int, v_low: float, v_high: float,
    low: float, high: float,
) -> tuple[float, float]:  # fmt: skip
    """The part of ``low..high`` along ``axis`` that a triangle's half spaces leave of a box in the other two axes."""
    for side in range(LIMITS):
        slope = limits[face, side, axis]
        rest = (
            limits[face, side, 3]
            + _least(limits[face, side, u], u_low, u_high)
            + _least(limits[face, side, v], v_low, v_high)
        )
        if slope > FLAT_LIMIT:
            high = min(high, -rest / slope)
        elif slope < -FLAT_LIMIT:
            low = max(low, -rest / slope)
        elif rest + min(slope * low, slope * high) > 0.0:
            return 1.0, 0.0
    return low, high


@njit(nogil=True, cache=True, error_model="numpy")
def brick_lists(
    members: Ints, limits: Floats, low: Floats, high: Floats, layer: int, spacing: Floats, resolution: int
) -> tuple[Ints, Ints, Ints]:
    """Triangles that may come within reach of the bricks of a layer: bricks that have any (in order y, z), starts and
    face ids.

    ``low`` and ``high`` ``(F, 3)`` are the triangles' boxes grown by the reach.
    """
    bricks = resolution // BRICK + 1
    starts = np.zeros(bricks * bricks + 1, np.int64)
    total = np.int64(0)
    for count_only in (True, False):
        if count_only:
            pairs = np.empty(0, np.int64)
            cursor = np.empty(0, np.int64)
        else:
            pairs = np.empty(total, np.int64)
            cursor = starts[:-1].copy()
        for face in members:
            x0 = _first_point(low[face, 0], spacing[0], layer * BRICK, layer * BRICK + BRICK - 1)
            x1 = _last_point(high[face, 0], spacing[0], layer * BRICK, layer * BRICK + BRICK - 1)
            y0 = _first_point(low[face, 1], spacing[1], 0, resolution)
            y1 = _last_point(high[face, 1], spacing[1], 0, resolution)
            if x0 > x1 or y0 > y1:
                continue
            z_low, z_high = max(low[face, 2], -spacing[2]), min(high[face, 2], (resolution + 1) * spacing[2])
            for by in range(y0 // BRICK, y1 // BRICK + 1):
                begin, end = _cut(
                    limits, face, 2, 0, x0 * spacing[0], x1 * spacing[0],
                    1, max(y0, by * BRICK) * spacing[1], min(y1, by * BRICK + BRICK - 1) * spacing[1], z_low, z_high,
                )  # fmt: skip
                z0 = _first_point(begin, spacing[2], 0, resolution)
                z1 = _last_point(end, spacing[2], 0, resolution)
                if begin > end or z0 > z1:
                    continue
                for brick in range(by * bricks + z0 // BRICK, by * bricks + z1 // BRICK + 1):
                    if count_only:
                        starts[brick + 1] += 1
                    else:
                        pairs[cursor[brick]] = face
                        cursor[brick] += 1
        if count_only:
            for brick in range(bricks * bricks):
                starts[brick + 1] += starts[brick]
            total = starts[-1]
    occupied = np.flatnonzero(starts[1:] > starts[:-1])
    ends = np.zeros(len(occupied) + 1, np.int64)
    ends[1:] = starts[1:][occupied]
    return occupied, ends, pairs


@njit(nogil=True, cache=True, error_model="numpy")
def _lower_brick(
    faces: Ints, planes: Floats, limits: Floats, low: Floats, high: Floats, first: tuple[int, int, int],
    spacing: Floats, start: int, best: Floats, nearest: Ints,
) -> None:  # fmt: skip
    """Squared distances of the points of one brick, in ``best[start : start + 64]``, to the nearest of ``faces``."""
    z_low, z_high = first[2] * spacing[2], (first[2] + BRICK - 1) * spacing[2]
    at_origin, per_x = np.empty(LIMITS), np.empty(LIMITS)  # where the border of a half space crosses, along y
    for face in faces:
        x0 = _first_point(low[face, 0], spacing[0], first[0], first[0] + BRICK - 1)
        x1 = _last_point(high[face, 0], spacing[0], first[0], first[0] + BRICK - 1)
        for side in range(LIMITS):
            slope = limits[face, side, 1]
            scale = -1.0 / slope if abs(slope) > FLAT_LIMIT else 0.0
            at_origin[side] = scale * (limits[face, side, 3] + _least(limits[face, side, 2], z_low, z_high))
            per_x[side] = scale * limits[face, side, 0]
        for x_index in range(x0, x1 + 1):
            x = x_index * spacing[0]
            begin, end = low[face, 1], high[face, 1]
            for side in range(LIMITS):
                border = at_origin[side] + x * per_x[side]
                end = min(end, border) if limits[face, side, 1] > FLAT_LIMIT else end
                begin = max(begin, border) if limits[face, side, 1] < -FLAT_LIMIT else begin
            y0 = _first_point(begin, spacing[1], first[1], first[1] + BRICK - 1)
            y1 = _last_point(end, spacing[1], first[1], first[1] + BRICK - 1)
            row = start + (x_index - first[0]) * BRICK - first[1]
            for y_index in range(y0, y1 + 1):
                lower_row(
                    planes, face, x, y_index * spacing[1], z_low, spacing[2], row + y_index, best, nearest,
                )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def layer_distances(
    occupied: Ints, starts: Ints, pairs: Ints, planes: Floats, limits: Floats, low: Floats, high: Floats, layer: int,
    spacing: Floats, resolution: int, reach: float, best: Floats, nearest: Ints,
) -> tuple[NDArray[np.uint8], Ints]:  # fmt: skip
    """Squared distances and nearest faces of the points of a layer's bricks that :func:`brick_lists` found, into
    ``best`` and ``nearest`` ``(64 bricks or more, 8)``.

    Returns:
        masks of the points within reach, a byte a row of eight; and for each line along z (in order x, y) where its
        points start among all of the layer, the number of all last.
    """
    bricks = resolution // BRICK + 1
    side = resolution + 1
    used = len(occupied) * ROWS
    best[:used] = np.inf
    masks = np.zeros(used, np.uint8)
    rows = np.zeros(BRICK * side + 1, np.int64)
    square = reach * reach
    x_planes = min(BRICK, side - layer * BRICK)
    for slot in range(len(occupied)):
        y_first, z_first = occupied[slot] // bricks * BRICK, occupied[slot] % bricks * BRICK
        _lower_brick(
            pairs[starts[slot] : starts[slot + 1]], planes, limits, low, high, (layer * BRICK, y_first, z_first),
            spacing, slot * ROWS, best, nearest,
        )  # fmt: skip
        y_points, z_points = min(BRICK, side - y_first), min(BRICK, side - z_first)
        for x in range(x_planes):
            for y in range(y_points):
                place = (slot * BRICK + x) * BRICK + y
                mask, kept = 0, 0
                for z in range(z_points):
                    near = best[place, z] <= square
                    mask |= near << z
                    kept += near
                masks[place] = mask
                rows[x * side + y_first + y + 1] += kept
    for row in range(BRICK * side):
        rows[row + 1] += rows[row]
    return masks, rows


@njit(nogil=True, cache=True, error_model="numpy")
def write_layer(
    occupied: Ints, masks: NDArray[np.uint8], rows: Ints, best: Floats, nearest: Ints, layer: int, resolution: int,
    coords: NDArray[np.int32], distances: Floats, faces: NDArray[np.int32],
) -> None:  # fmt: skip
    """Write the points that :func:`layer_distances` kept, in lexicographic order; uses up ``rows``."""
    bricks = resolution // BRICK + 1
    side = resolution + 1
    for slot in range(len(occupied)):  # z grows with the brick within a row of bricks, so each line fills in order
        y_first, z_first = occupied[slot] // bricks * BRICK, occupied[slot] % bricks * BRICK
        for x in range(BRICK):
            for y in range(BRICK):
                place = (slot * BRICK + x) * BRICK + y
                mask = masks[place]
                if mask == 0:
                    continue
                row = x * side + y_first + y
                to = rows[row]
                for z in range(BRICK):
                    if mask >> z & 1:
                        coords[to, 0] = layer * BRICK + x
                        coords[to, 1] = y_first + y
                        coords[to, 2] = z_first + z
                        distances[to] = sqrt(best[place, z])
                        faces[to] = nearest[place, z]
                        to += 1
                rows[row] = to
