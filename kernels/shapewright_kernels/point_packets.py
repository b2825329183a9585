"""Closest triangles of a packet of nearby points at once (*compiled*).

A hierarchy is walked once for all points of a packet; a leaf is opened where it can be nearer to *some* point than what
that point has, and each of its triangles is measured from all points by one loop without branches, in float64, which
compiles to vector instructions (compare :mod:`.plane_distance`, which does so for rows of a lattice). Every lane keeps
its smallest and its second smallest squared distance: where the two are apart by more than rounding, the nearest face
is decided; where they are not, the caller decides among the faces that :func:`tied` finds.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .plane_distance import across, square_in_frame

LANES = 32
X, Y, Z, BEST, SECOND, NEAREST, WORST = (LANES * k for k in range(7))
"""Where columns begin in the buffer of a packet. One buffer of floats (face numbers as well), because the compiler
vectorises only where it can prove that arrays do not overlap."""
ROOM = WORST + 1
SLACK = 2e-13
"""A squared distance ``d`` is decided among those above ``d (1 + 2 SLACK) + SLACK scale ** 2``: more than the window of
:data:`~shapewright_kernels.closest_point.TIE` and all rounding, by the inequality of the means."""
BUDGET = 64 * LANES
"""Triangles measured for a packet before its points are given up to be searched one by one: where points lie far apart
or far from the surface, they share too little."""


@njit(nogil=True, cache=True, error_model="numpy")
def fill_lanes(points: Floats, rows: Ints, start: int, stop: int, limit: float, lanes: Floats) -> None:
    """Begin a packet with the points ``rows[start:stop]``; lanes without a point repeat the last one."""
    for lane in range(LANES):
        row = rows[min(start + lane, stop - 1)]
        lanes[X + lane], lanes[Y + lane], lanes[Z + lane] = points[row, 0], points[row, 1], points[row, 2]
        lanes[BEST + lane] = limit
        lanes[SECOND + lane] = np.inf
        lanes[NEAREST + lane] = -1.0


@njit(nogil=True, cache=True, error_model="numpy")
def lower_lanes(frames: Floats, face: int, lanes: Floats, count: int, squares: Floats, row: int) -> None:
    """Lower best, second and nearest of ``count`` lanes by their squared distances to a face; keep these in a row."""
    ax, ay, az = frames[face, 0], frames[face, 1], frames[face, 2]
    bx, by, bz = frames[face, 3], frames[face, 4], frames[face, 5]
    hx, hy, hz = frames[face, 6], frames[face, 7], frames[face, 8]
    length, foot, height = frames[face, 9], frames[face, 10], frames[face, 11]
    if height == 0.0:  # a segment or a point: any frame along it will do
        if length == 0.0:
            bx = 1.0
        hx, hy, hz = across(bx, by, bz)
    nx, ny, nz = by * hz - bz * hy, bz * hx - bx * hz, bx * hy - by * hx
    run = length - foot
    left, right_square = foot * foot + height * height, run * run + height * height
    left_scale = 1.0 / left if left > 0.0 else 0.0
    right_scale = 1.0 / right_square if right_square > 0.0 else 0.0
    name = float(face)
    for i in range(count):
        dx, dy, dz = lanes[X + i] - ax, lanes[Y + i] - ay, lanes[Z + i] - az
        s = dx * bx + dy * by + dz * bz
        t = dx * hx + dy * hy + dz * hz
        h = dx * nx + dy * ny + dz * nz
        square = square_in_frame(s, t, h, length, foot, height, left_scale, right_scale)
        squares[row, i] = square
        best, second = lanes[BEST + i], lanes[SECOND + i]
        closer = square < best
        other = best if closer else square
        lanes[SECOND + i] = other if other < second else second
        lanes[BEST + i] = square if closer else best
        lanes[NEAREST + i] = name if closer else lanes[NEAREST + i]


@njit(nogil=True, cache=True, error_model="numpy")
def seed_lanes(
    frames: Floats, seeds: Ints, limit: float, slack: float, lanes: Floats, count: int, squares: Floats
) -> None:
    """Bound the lanes by their distances to some faces (names below 0 and repeated ones are skipped).

    The faces themselves are left for the walk, a little nearer than the bound: met twice, a face would tie with itself.
    """
    for place in range(len(seeds)):
        if seeds[place] >= 0 and (place == 0 or seeds[place] != seeds[place - 1]):
            lower_lanes(frames, seeds[place], lanes, count, squares, 0)
    for lane in range(count):
        lanes[BEST + lane] = min(lanes[BEST + lane] * (1.0 + 1e-6) + 4.0 * slack, limit)
        lanes[SECOND + lane] = np.inf
        lanes[NEAREST + lane] = -1.0


@njit(nogil=True, cache=True, error_model="numpy")
def _wanting(boxes: Floats, node: int, lanes: Floats, count: int, slack: float) -> int:
    """How many lanes have the box of a node no farther than their best."""
    x0, y0, z0 = boxes[node, 0], boxes[node, 1], boxes[node, 2]
    x1, y1, z1 = boxes[node, 3], boxes[node, 4], boxes[node, 5]
    found = 0
    for i in range(count):
        x, y, z = lanes[X + i], lanes[Y + i], lanes[Z + i]
        x = x0 - x if x0 > x else (x - x1 if x > x1 else 0.0)
        y = y0 - y if y0 > y else (y - y1 if y > y1 else 0.0)
        z = z0 - z if z0 > z else (z - z1 if z > z1 else 0.0)
        found += x * x + y * y + z * z <= lanes[BEST + i] * (1.0 + 2.0 * SLACK) + slack
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _worst(lanes: Floats, bits: Ints, count: int, slack: float) -> float:
    """Largest squared distance that still matters to a lane. Floats that are not negative are ordered as their bits,
    and the largest of integers is found by vector instructions."""
    worst = bits[BEST]
    for i in range(count):
        worst = bits[BEST + i] if bits[BEST + i] > worst else worst
    bits[WORST] = worst
    return lanes[WORST] * (1.0 + 2.0 * SLACK) + slack


@njit(nogil=True, cache=True, error_model="numpy")
def _gap(boxes: Floats, node: int, packet: Floats) -> float:
    """Squared distance between the box of a node and that of the packet."""
    square = 0.0
    for axis in range(3):
        gap = max(boxes[node, axis] - packet[axis + 3], packet[axis] - boxes[node, axis + 3], 0.0)
        square += gap * gap
    return square


@njit(nogil=True, cache=True, error_model="numpy")
def lower_packet(
    lanes: Floats, bits: Ints, count: int, slack: float, boxes: Floats, first: Ints, size: Ints, frames: Floats,
    stack: Ints, bounds: Floats, packet: Floats, squares: Floats, seen: Ints,
) -> int:  # fmt: skip
    """Lower all lanes by all faces that matter; how many these were, or -1 where the packet was given up.

    Args:
        lanes: the packet, perhaps lowered by some faces already. bits: the same memory as int64.
        count: :data:`LANES`, as a variable (a loop of known length would be unrolled instead of vectorised).
        slack: :data:`SLACK` times the square of the scale. stack, bounds, packet: scratch.
        squares: ``(BUDGET, LANES)``, gets the squared distances to each face. seen: ``(BUDGET,)``, gets the faces.
    """
    for axis in range(3):
        low = high = lanes[axis * LANES]
        for lane in range(1, count):
            value = lanes[axis * LANES + lane]
            low = value if value < low else low
            high = value if value > high else high
        packet[axis], packet[axis + 3] = low, high
    worst = _worst(lanes, bits, count, slack)
    stack[0], bounds[0] = 0, 0.0
    top, tested = 1, 0
    while top > 0:
        top -= 1
        node = stack[top]
        if bounds[top] > worst:
            continue
        if (bounds[top] > 0.0 or size[node] > 0) and not _wanting(boxes, node, lanes, count, slack):
            continue
        if size[node] == 0:
            near, far = first[node], first[node] + 1
            near_bound, far_bound = _gap(boxes, near, packet), _gap(boxes, far, packet)
            if far_bound < near_bound:
                near, far, near_bound, far_bound = far, near, far_bound, near_bound
            if far_bound <= worst:
                stack[top], bounds[top] = far, far_bound
                top += 1
            if near_bound <= worst:
                stack[top], bounds[top] = near, near_bound
                top += 1
            continue
        if tested + size[node] > BUDGET:
            return -1
        for item in range(first[node], first[node] + size[node]):
            lower_lanes(frames, item, lanes, count, squares, tested)
            seen[tested] = item
            tested += 1
        worst = _worst(lanes, bits, count, slack)
    return tested


@njit(nogil=True, cache=True, error_model="numpy")
def undecided(lanes: Floats, count: int, slack: float) -> int:
    """How many lanes have a second face as near as their nearest."""
    found = 0
    for i in range(count):
        found += lanes[SECOND + i] <= lanes[BEST + i] * (1.0 + 2.0 * SLACK) + slack
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def tied(squares: Floats, row: int, lanes: Floats, count: int, slack: float) -> int:
    """For how many lanes the face of a row is as near as the nearest."""
    found = 0
    for i in range(count):
        found += squares[row, i] <= lanes[BEST + i] * (1.0 + 2.0 * SLACK) + slack
    return found
