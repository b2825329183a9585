"""Triangles: solid angle, normals, and lists of those that touch each layer of a grid."""

from __future__ import annotations

from math import atan2, sqrt

import numpy as np
from numba import njit

from .arrays import Floats, Ints

COPLANAR = 1e-14
"""A point lies in a triangle's plane where its parallelepiped with the triangle is smaller than this, relative to its
distances to the corners: below it the sign of the determinant is rounding."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def solid_angle(
    ax: float, ay: float, az: float, bx: float, by: float, bz: float, cx: float, cy: float, cz: float
) -> float:
    """Signed solid angle in steradians of the triangle ``a, b, c`` (relative to the eye), positive seen from inside.

    The eye sees the back of an outward triangle from inside. In the triangle's plane the answer is 0, the mean of both
    sides. Source: van Oosterom and Strackee 1983, "The solid angle of a plane triangle".
    """
    la = sqrt(ax * ax + ay * ay + az * az)
    lb = sqrt(bx * bx + by * by + bz * bz)
    lc = sqrt(cx * cx + cy * cy + cz * cz)
    volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    if abs(volume) <= COPLANAR * la * lb * lc:
        return 0.0
    ab = ax * bx + ay * by + az * bz
    bc = bx * cx + by * cy + bz * cz
    ca = cx * ax + cy * ay + cz * az
    return 2.0 * atan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)


def face_normals(vertices: Floats, faces: Ints) -> tuple[Floats, Floats]:
    """Unit normals ``(F, 3)`` and areas ``(F,)``; the normal of a triangle without area is zero."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    unit = np.divide(normals, lengths[:, None], out=np.zeros_like(normals), where=lengths[:, None] > 0)
    return unit, lengths / 2


@njit(nogil=True, cache=True, error_model="numpy")
def _count_layers(first: Ints, last: Ints, starts: Ints) -> None:
    for face in range(first.size):
        for layer in range(first[face], last[face] + 1):
            starts[layer + 1] += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_layers(first: Ints, last: Ints, cursor: Ints, members: Ints) -> None:
    for face in range(first.size):
        for layer in range(first[face], last[face] + 1):
            members[cursor[layer]] = face
            cursor[layer] += 1


def layer_members(first: Ints, last: Ints, layers: int) -> tuple[Ints, Ints]:
    """Lists of the items that touch each layer, ascending.

    Args:
        first, last: ``(F,)`` int64, inclusive range of layers of each item, clipped to ``0..layers - 1`` here; an empty
            range (``first > last``) is allowed.
        layers: number of layers.
    Returns:
        ``starts (layers + 1,)`` and ``members``; layer ``l`` holds ``members[starts[l]:starts[l + 1]]``.

    >>> starts, members = layer_members(np.array([0, 1]), np.array([1, 1]), 3)
    >>> starts.tolist(), members.tolist()
    ([0, 1, 3, 3], [0, 0, 1])
    """
    first, last = np.maximum(first, 0), np.minimum(last, layers - 1)
    starts = np.zeros(layers + 1, np.int64)
    _count_layers(first, last, starts)
    np.cumsum(starts, out=starts)
    members = np.empty(int(starts[-1]), np.int64)
    _fill_layers(first, last, starts[:-1].copy(), members)
    return starts, members
