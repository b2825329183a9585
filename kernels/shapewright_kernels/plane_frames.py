"""Triangles in plane frames of their own, with the longest edge as base, and the closest points there (*compiled*).

Both base angles are at most 90 degrees, so the closest point of a plane triangle is a few comparisons, and for a sliver
of height ``h`` and length ``L`` the rounding error stays of the order ``eps * L``: the usual barycentric formulas lose
``(L / h) ** 2`` digits instead. A triangle without area is its longest edge, one without extent a point.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Floats

FLAT = 1e-14
"""Height over length below which a triangle's height is rounding noise and the triangle counts as its longest edge."""


@njit(nogil=True, cache=True, error_model="numpy")
def plane_frames(triangles: Floats) -> Floats:
    """``(F, 12)``: base corner, unit base direction, unit height direction, base length, foot of the height, height."""
    frames = np.zeros((len(triangles), 12))
    for row in range(len(triangles)):
        plane_frame(triangles[row], frames[row])
    return frames


@njit(nogil=True, cache=True, error_model="numpy")
def plane_frame(triangle: Floats, frame: Floats) -> None:
    """Frame of one triangle, into zeros."""
    longest, start = -1.0, 0
    for corner in range(3):
        squared = 0.0
        for axis in range(3):
            squared += (triangle[(corner + 1) % 3, axis] - triangle[corner, axis]) ** 2
        if squared > longest:
            longest, start = squared, corner
    length = np.sqrt(longest)
    for axis in range(3):
        frame[axis] = triangle[start, axis]
        frame[3 + axis] = triangle[(start + 1) % 3, axis] - frame[axis]
        frame[6 + axis] = triangle[(start + 2) % 3, axis] - frame[axis]
    if length == 0.0:
        return
    foot = 0.0
    for axis in range(3):
        frame[3 + axis] /= length
        foot += frame[6 + axis] * frame[3 + axis]
    rest = 0.0  # a second projection removes what rounding left along the base; slivers need it
    for axis in range(3):
        frame[6 + axis] -= foot * frame[3 + axis]
        rest += frame[6 + axis] * frame[3 + axis]
    height = 0.0
    for axis in range(3):
        frame[6 + axis] -= rest * frame[3 + axis]
        height += frame[6 + axis] ** 2
    height = np.sqrt(height)
    if height <= FLAT * length:
        height = 0.0
    for axis in range(3):
        frame[6 + axis] = frame[6 + axis] / height if height > 0.0 else 0.0
    frame[9] = length
    frame[10] = min(max(foot + rest, 0.0), length)
    frame[11] = height


@njit(nogil=True, cache=True, error_model="numpy")
def nearest_in_plane(frames: Floats, row: int, x: float, y: float, z: float) -> tuple[float, float]:
    """Coordinates in the frame of triangle ``row`` of its point closest to ``(x, y, z)``."""
    x -= frames[row, 0]
    y -= frames[row, 1]
    z -= frames[row, 2]
    s = x * frames[row, 3] + y * frames[row, 4] + z * frames[row, 5]
    t = x * frames[row, 6] + y * frames[row, 7] + z * frames[row, 8]
    length, foot, height = frames[row, 9], frames[row, 10], frames[row, 11]
    if t <= 0.0:
        return min(max(s, 0.0), length), 0.0
    beyond_left = foot * t > height * s
    beyond_right = (length - foot) * t > height * (length - s)
    if not beyond_left and not beyond_right:
        return s, t
    left_s, left_t, right_s, right_t = s, t, s, t
    left = right = np.inf
    if beyond_left:
        along = min(max((s * foot + t * height) / (foot * foot + height * height), 0.0), 1.0)
        left_s, left_t = along * foot, along * height
        left = (s - left_s) ** 2 + (t - left_t) ** 2
    if beyond_right:
        run = length - foot
        along = min(max(((length - s) * run + t * height) / (run * run + height * height), 0.0), 1.0)
        right_s, right_t = length - along * run, along * height
        right = (s - right_s) ** 2 + (t - right_t) ** 2
    if left <= right:
        return left_s, left_t
    return right_s, right_t


@njit(nogil=True, cache=True, error_model="numpy")
def squared_distance(frames: Floats, row: int, x: float, y: float, z: float) -> float:
    s, t = nearest_in_plane(frames, row, x, y, z)
    dx = x - frames[row, 0] - s * frames[row, 3] - t * frames[row, 6]
    dy = y - frames[row, 1] - s * frames[row, 4] - t * frames[row, 7]
    dz = z - frames[row, 2] - s * frames[row, 5] - t * frames[row, 8]
    return dx * dx + dy * dy + dz * dz
