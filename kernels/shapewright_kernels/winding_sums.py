"""Solid angles of one triangle or one far node from many points at once (*compiled*).

The loops over points have no branches and compile to vector instructions; what a library call would do for one value
(the arc tangent) is a polynomial here. Sums are in steradians: 4 pi times winding numbers.
"""

from __future__ import annotations

from math import pi, sqrt

from numba import njit

from .arrays import Floats
from .triangles import COPLANAR


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def arc_tangent(y: float, x: float) -> float:
    """``atan2(y, x)`` to 6e-9 (minimax polynomial on [0, 1]); NaN at the origin."""
    up, along = abs(y), abs(x)
    steep = up > along
    ratio = (along if steep else up) / (up if steep else along)
    square = ratio * ratio
    angle = -0.0144013354409 + square * 0.00245671904061
    angle = 0.0397811861302 + square * angle
    angle = -0.0723485406591 + square * angle
    angle = 0.10498944421 + square * angle
    angle = -0.141612287227 + square * angle
    angle = 0.19985906695 + square * angle
    angle = -0.333325970232 + square * angle
    angle = ratio * (0.999999886382 + square * angle)
    angle = 0.5 * pi - angle if steep else angle
    angle = pi - angle if x < 0.0 else angle
    return -angle if y < 0.0 else angle


@njit(nogil=True, cache=True, error_model="numpy")
def add_triangle(corners: Floats, face: int, px: Floats, py: Floats, pz: Floats, total: Floats) -> None:
    """Add the solid angle of a triangle ``corners[face]`` ``(3, 3)`` from each point; see
    :func:`~shapewright_kernels.triangles.solid_angle`."""
    a0, a1, a2 = corners[face, 0, 0], corners[face, 0, 1], corners[face, 0, 2]
    b0, b1, b2 = corners[face, 1, 0], corners[face, 1, 1], corners[face, 1, 2]
    c0, c1, c2 = corners[face, 2, 0], corners[face, 2, 1], corners[face, 2, 2]
    for i in range(len(total)):
        ax, ay, az = a0 - px[i], a1 - py[i], a2 - pz[i]
        bx, by, bz = b0 - px[i], b1 - py[i], b2 - pz[i]
        cx, cy, cz = c0 - px[i], c1 - py[i], c2 - pz[i]
        la = sqrt(ax * ax + ay * ay + az * az)
        lb = sqrt(bx * bx + by * by + bz * bz)
        lc = sqrt(cx * cx + cy * cy + cz * cz)
        volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
        product = la * lb * lc
        ab = ax * bx + ay * by + az * bz
        bc = bx * cx + by * cy + bz * cz
        ca = cx * ax + cy * ay + cz * az
        angle = 2.0 * arc_tangent(volume, product + ab * lc + bc * la + ca * lb)
        total[i] += 0.0 if abs(volume) <= COPLANAR * product else angle


@njit(nogil=True, cache=True, error_model="numpy")
def add_node(centres: Floats, moments: Floats, node: int, px: Floats, py: Floats, pz: Floats, total: Floats) -> None:
    """Add what the multipoles of a node say at each point; columns as in
    :class:`~shapewright_kernels.winding.WindingIndex`."""
    x0, y0, z0 = centres[node, 0], centres[node, 1], centres[node, 2]
    m0, m1, m2, m3 = moments[node, 0], moments[node, 1], moments[node, 2], moments[node, 3]
    m4, m5, m6 = moments[node, 4], moments[node, 5], moments[node, 6]
    m7, m8, m9 = moments[node, 7], moments[node, 8], moments[node, 9]
    m10, m11, m12 = 0.5 * moments[node, 10], 0.5 * moments[node, 11], 0.5 * moments[node, 12]
    m13, m14, m15 = moments[node, 13], moments[node, 14], moments[node, 15]
    m16, m17, m18 = moments[node, 16], moments[node, 17], moments[node, 18]
    m19, m20, m21, m22 = moments[node, 19], moments[node, 20], moments[node, 21], moments[node, 22]
    for i in range(len(total)):
        x, y, z = x0 - px[i], y0 - py[i], z0 - pz[i]
        rr = x * x + y * y + z * z
        i2 = 1.0 / rr
        i3 = i2 / sqrt(rr)
        xx, yy, zz = x * x, y * y, z * z
        quadratic = m4 * xx + m5 * yy + m6 * zz + m7 * x * y + m8 * x * z + m9 * y * z + m10 * x + m11 * y + m12 * z
        cubic = (
            xx * (m13 * x + m16 * y + m17 * z)
            + yy * (m14 * y + m18 * x + m19 * z)
            + zz * (m15 * z + m20 * x + m21 * y)
            + m22 * x * y * z
        )
        total[i] += i3 * (m0 * x + m1 * y + m2 * z + m3 - i2 * (3.0 * quadratic - 7.5 * i2 * cubic))
