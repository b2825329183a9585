"""Squared distances from rows of lattice points to triangles in their own plane frames, without branches (*compiled*).

Every triangle is seen in an orthonormal frame on its longest edge (see :mod:`.plane_frames`): three projections and a
distance in the plane. Along a row the projections are linear in z, and nothing branches, so the loop over the eight
points of a row compiles to vector instructions. float64 throughout.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit

from .arrays import Floats, Ints

ROW = 8
"""Points of a row, along z."""
PLANE_COLUMNS = 20
LIMITS = 5
"""Half spaces around a triangle: two parallel to its plane, one beyond each side."""


@njit(nogil=True, cache=True, error_model="numpy")
def across(x: float, y: float, z: float) -> tuple[float, float, float]:
    """A unit vector at right angles to a unit vector."""
    if abs(x) <= abs(y) and abs(x) <= abs(z):
        hx, hy, hz = 0.0, -z, y
    elif abs(y) <= abs(z):
        hx, hy, hz = z, 0.0, -x
    else:
        hx, hy, hz = -y, x, 0.0
    scale = 1.0 / sqrt(hx * hx + hy * hy + hz * hz)
    return hx * scale, hy * scale, hz * scale


@njit(nogil=True, cache=True, error_model="numpy")
def complete_planes(frames: Floats) -> Floats:
    """Plane frames completed to orthonormal bases, ``(F, 20)``, so that degenerate triangles need no branch.

    Columns: the 12 of :mod:`.plane_frames` (ending with length, foot and height), the completed height direction (3),
    the normal (3), inverse squared lengths of the left and the right side.
    """
    planes = np.zeros((len(frames), PLANE_COLUMNS))
    for row in range(len(frames)):
        plane = planes[row]
        plane[:12] = frames[row]
        bx, by, bz = plane[3], plane[4], plane[5]
        if plane[9] == 0.0:
            bx, by, bz = 1.0, 0.0, 0.0
            plane[3] = 1.0
        hx, hy, hz = plane[6], plane[7], plane[8]
        if plane[11] == 0.0:  # any direction across the segment
            hx, hy, hz = across(bx, by, bz)
        plane[12], plane[13], plane[14] = hx, hy, hz
        plane[15], plane[16], plane[17] = by * hz - bz * hy, bz * hx - bx * hz, bx * hy - by * hx
        left = plane[10] ** 2 + plane[11] ** 2
        right = (plane[9] - plane[10]) ** 2 + plane[11] ** 2
        plane[18] = 1.0 / left if left > 0.0 else 0.0
        plane[19] = 1.0 / right if right > 0.0 else 0.0
    return planes


@njit(nogil=True, cache=True, error_model="numpy")
def limit_planes(planes: Floats, reach: float) -> Floats:
    """Half spaces ``g . p + g0 <= 0`` that hold every point within ``reach`` of a triangle, ``(F, 5, 4)``.

    Such a point is within reach of the triangle's plane and, in the plane, at most ``reach`` beyond each side; the
    bounds are widened by more than the rounding of what they are compared with.
    """
    limits = np.zeros((len(planes), LIMITS, 4))
    for face in range(len(planes)):
        plane = planes[face]
        length, foot, height = plane[9], plane[10], plane[11]
        run = length - foot
        # weights of s, t, h and a constant, for unit vectors out of the triangle
        sides = np.zeros((LIMITS, 4))
        sides[0, 2], sides[1, 2], sides[2, 1] = 1.0, -1.0, -1.0
        left, right = sqrt(plane[18]), sqrt(plane[19])
        sides[3, 0], sides[3, 1] = -height * left, foot * left
        sides[4, 0], sides[4, 1], sides[4, 3] = height * right, run * right, -height * length * right
        size = abs(plane[0]) + abs(plane[1]) + abs(plane[2]) + length
        for side in range(LIMITS):
            constant = sides[side, 3] - reach * (1.0 + 1e-9) - 1e-14 * size
            for axis in range(3):
                g = (
                    sides[side, 0] * plane[3 + axis]
                    + sides[side, 1] * plane[12 + axis]
                    + sides[side, 2] * plane[15 + axis]
                )
                limits[face, side, axis] = g
                constant -= g * plane[axis]
            limits[face, side, 3] = constant
    return limits


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def square_in_frame(
    s: float, t: float, h: float, length: float, foot: float, height: float, left_scale: float, right_scale: float
) -> float:
    """Squared distance to a triangle of a point at ``(s, t, h)`` in its frame: along the base, across it, and off the
    plane; without branches, so that a loop around it is vectorised. ``left_scale`` and ``right_scale`` are inverse
    squared lengths of the sides."""
    # Both base angles are at most 90 degrees: below the base only the base is near, above it only the side on the
    # point's half of the triangle, which is seen from its lower corner (away from the foot counts as negative).
    right = s > foot
    half = length - foot if right else foot
    scale = right_scale if right else left_scale
    inwards = length - s if right else s
    along = (inwards * half + t * height) * scale
    along = along if along > 0.0 else 0.0
    along = along if along < 1.0 else 1.0
    ds, dt = inwards - along * half, t - along * height
    side = ds * ds + dt * dt
    side = side if half * t >= height * inwards else 0.0
    over = inwards if inwards < 0.0 else 0.0
    return h * h + (side if t > 0.0 else over * over + t * t)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def lower_row(
    planes: Floats, face: int, x: float, y: float, z: float, step: float, row: int, best: Floats, nearest: Ints
) -> None:
    """Lower ``best[row]`` and ``nearest[row]`` (``(rows, 8)``) by the squared distances of ``(x, y, z + i step)`` to a
    face."""
    dx, dy, dz = x - planes[face, 0], y - planes[face, 1], z - planes[face, 2]
    s0 = dx * planes[face, 3] + dy * planes[face, 4] + dz * planes[face, 5]
    t0 = dx * planes[face, 12] + dy * planes[face, 13] + dz * planes[face, 14]
    h0 = dx * planes[face, 15] + dy * planes[face, 16] + dz * planes[face, 17]
    s_step, t_step, h_step = planes[face, 5] * step, planes[face, 14] * step, planes[face, 17] * step
    length, foot, height = planes[face, 9], planes[face, 10], planes[face, 11]
    left_scale, right_scale = planes[face, 18], planes[face, 19]
    # a row is always eight long, but a loop of known length would be unrolled instead of vectorised
    for i in range(best.shape[1]):
        s = s0 + i * s_step
        t = t0 + i * t_step
        h = h0 + i * h_step
        square = square_in_frame(s, t, h, length, foot, height, left_scale, right_scale)
        closer = square < best[row, i]
        best[row, i] = square if closer else best[row, i]
        nearest[row, i] = face if closer else nearest[row, i]
