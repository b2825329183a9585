"""Where a dual vertex lies: the point of its cell nearest to all tangent planes of its patch of surface.

All lengths are in cells. The field near a lattice corner ``p`` with value ``s`` and gradient ``g`` is zero on the plane
``{x : s + g . (x - p) = 0}``. For an exact distance that plane touches the surface at the nearest point, so near a
crease or a corner of a polyhedron the planes meet exactly in the feature, whichever face is nearest to each lattice
corner. A plane enters with a weight that falls with the distance from the cell to the place where it touches the
surface, since a plane that touches elsewhere (the other side of a thin wall, a distant part of a curved surface) says
little here.

The quadratic error is minimised by iterated Tikhonov regularisation from the mass point (the mean crossing of the
patch): ``x <- x + (A + r trace(A) I)^-1 (b - A x)``. Its filter ``1 - (r t / (e + r t))^n`` over eigenvalues ``e`` is
a smooth form of the usual truncated inverse: directions in which the planes agree stay at the mass point, directions
that they fix are solved exactly. It needs one 3x3 inverse in closed form. Where the answer leaves the cell, the
point of the cell nearest to it is taken, in the metric ``A + r trace(A) I`` in which it was found.

Source: Ju, Losasso, Schaefer and Warren 2002, section 2.3; planes at lattice corners as the tangents of a distance
field.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Words, lowest_bit
from .lattice_words import Floats, bit_of, column_of, lower, rank

AGREEMENT = 0.05
"""Root mean square distance of the planes from their best point (in cells) below which it may leave the cell."""


@njit(nogil=True, cache=True, error_model="numpy")
def mark_corners(links: NDArray[np.int32], mixed: Words, corners: Words, start: Integer, stop: Integer) -> None:
    """Lattice points that are corners of mixed cells."""
    for word in range(start, stop):
        own = mixed[word] | mixed[links[word, 10]] | mixed[links[word, 12]] | mixed[links[word, 14]]
        under = mixed[links[word, 9]] | mixed[links[word, 11]] | mixed[links[word, 13]] | mixed[links[word, 15]]
        corners[word] = own | lower(own, under)


@njit(nogil=True, cache=True, error_model="numpy")
def write_slopes(
    links: NDArray[np.int32],
    ranked: Words,
    first: NDArray[np.int64],
    exists: Words,
    values: Floats,
    corners: Words,
    first_slope: NDArray[np.int64],
    slopes: Floats,
    start: Integer,
    stop: Integer,
) -> None:
    """Differences of the values at the points ``corners``, in their order."""
    near = np.empty(6)
    for word in range(start, stop):
        points = corners[word]
        if points == 0:
            continue
        here, line, start_row = exists[word], ranked[word], first[word]
        slope = first_slope[word]
        while points != 0:
            bit = lowest_bit(points)
            points &= points - np.uint64(1)
            row = start_row + rank(line, bit)
            own = np.float64(values[row])
            near[:] = np.nan
            for side in range(4):  # one column back and ahead along x, then along y
                at = links[word, (8 - 8 * (side & 1)) + (4 >> (side >> 1))]
                if bit_of(exists[at], bit) != 0:
                    near[side] = values[first[at] + rank(ranked[at], bit)]
            if bit > 0:
                if bit_of(here, bit - 1) != 0:
                    near[4] = values[row - 1]
            else:
                at = links[word, 9]
                if bit_of(exists[at], 63) != 0:
                    near[4] = values[first[at] + rank(ranked[at], 63)]
            if bit < 63:
                if bit_of(here, bit + 1) != 0:
                    near[5] = values[row + 1]
            else:
                at = links[word, 1]
                if bit_of(exists[at], 0) != 0:
                    near[5] = values[first[at]]
            for axis in range(3):
                slopes[slope, axis] = _difference(near[2 * axis], own, near[2 * axis + 1])
            slope += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _difference(under: float, own: float, above: float) -> float:
    """Central difference, one-sided where a neighbour is missing."""
    if under == under:
        return (above - under) / 2 if above == above else own - under
    return above - own if above == above else 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def crossing(low: float, high: float, low_slope: float, high_slope: float, has_slopes: bool) -> float:
    """Where a field with values of different sign at 0 and 1 is zero.

    With slopes: the field is taken for the larger or the smaller of its two tangents, whichever fits both ends; exact
    where an edge of the lattice passes a crease. Otherwise (and where no tangent crosses) linear.
    """
    if has_slopes and low_slope != 0 and high_slope != 0:
        first, second = -low / low_slope, 1 - high / high_slope
        convex = low + low_slope < high  # below the other tangent at its own end: the field is the larger of the two
        early = convex == (low < 0)
        place = min(first, second) if early else max(first, second)
        if 0 <= place <= 1:
            return place
    return low / (low - high)


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_in_box(
    m00: float,
    m01: float,
    m02: float,
    m11: float,
    m12: float,
    m22: float,
    x0: float,
    x1: float,
    x2: float,
    low: float,
    high: float,
) -> tuple[float, float, float]:
    """The point of ``[low, high]^3`` nearest to ``x`` in the metric of a positive definite matrix ``m``.

    Tries all choices of coordinates that lie on a bound and keeps the best: exact, whatever the order of the axes.
    """
    m, c, side = np.empty((3, 3)), np.empty(3), np.empty(3, np.int64)
    y, best, nearest = np.empty(3), np.empty(3), np.inf
    for choice in range(1, 27):
        side[0], side[1], side[2] = choice % 3, choice // 3 % 3, choice // 9
        m[0, 0], m[1, 1], m[2, 2] = m00, m11, m22
        m[0, 1], m[0, 2], m[1, 2] = m01, m02, m12
        m[1, 0], m[2, 0], m[2, 1] = m01, m02, m12
        c[0] = m00 * x0 + m01 * x1 + m02 * x2
        c[1] = m01 * x0 + m11 * x1 + m12 * x2
        c[2] = m02 * x0 + m12 * x1 + m22 * x2
        for axis in range(3):
            if side[axis] > 0:
                m[axis, 0], m[axis, 1], m[axis, 2], m[axis, axis] = 0.0, 0.0, 0.0, 1.0
                c[axis] = low if side[axis] == 1 else high
        k0 = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
        k1 = m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2]
        k2 = m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]
        inverse = 1 / (m[0, 0] * k0 + m[0, 1] * k1 + m[0, 2] * k2)
        y[0] = c[0] * k0 + m[0, 1] * (m[1, 2] * c[2] - c[1] * m[2, 2]) + m[0, 2] * (c[1] * m[2, 1] - m[1, 1] * c[2])
        y[1] = m[0, 0] * (c[1] * m[2, 2] - m[1, 2] * c[2]) + c[0] * k1 + m[0, 2] * (m[1, 0] * c[2] - c[1] * m[2, 0])
        y[2] = m[0, 0] * (m[1, 1] * c[2] - c[1] * m[2, 1]) + m[0, 1] * (c[1] * m[2, 0] - m[1, 0] * c[2]) + c[0] * k2
        feasible = True
        for axis in range(3):
            y[axis] *= inverse
            if side[axis] > 0:
                y[axis] = low if side[axis] == 1 else high
            feasible &= low <= y[axis] <= high
        if not feasible:
            continue
        # The nearest feasible stationary point of all faces of the box is the minimiser over the box.
        d0, d1, d2 = y[0] - x0, y[1] - x1, y[2] - x2
        distance = m00 * d0 * d0 + m11 * d1 * d1 + m22 * d2 * d2
        distance += 2 * (m01 * d0 * d1 + m02 * d0 * d2 + m12 * d1 * d2)
        if distance < nearest:
            nearest = distance
            best[:] = y
    return best[0], best[1], best[2]


@njit(nogil=True, cache=True, error_model="numpy")
def _square(
    a00: float, a01: float, a02: float, a11: float, a12: float, a22: float
) -> tuple[float, float, float, float, float, float]:
    """Square of a symmetric matrix, as entries 00, 01, 02, 11, 12, 22."""
    return (
        a00 * a00 + a01 * a01 + a02 * a02,
        a00 * a01 + a01 * a11 + a02 * a12,
        a00 * a02 + a01 * a12 + a02 * a22,
        a01 * a01 + a11 * a11 + a12 * a12,
        a01 * a02 + a11 * a12 + a12 * a22,
        a02 * a02 + a12 * a12 + a22 * a22,
    )


@njit(nogil=True, cache=True, error_model="numpy")
def _times(
    a00: float, a01: float, a02: float, a11: float, a12: float, a22: float, x0: float, x1: float, x2: float
) -> tuple[float, float, float]:
    return a00 * x0 + a01 * x1 + a02 * x2, a01 * x0 + a11 * x1 + a12 * x2, a02 * x0 + a12 * x1 + a22 * x2


@njit(nogil=True, cache=True, error_model="numpy")
def _solve(a: Floats, b: Floats, square: float, total: float, x: Floats, regularisation: float, margin: float) -> None:
    """Move ``x`` from the mass point to the minimiser of ``x A x - 2 b x + square``, bounded by the cell.

    ``a`` holds xx, xy, xz, yy, yz, zz; ``total`` is the sum of the weights.
    """
    shift = regularisation * (a[0] + a[3] + a[5])
    if not shift > 0:
        return
    m00, m11, m22 = a[0] + shift, a[3] + shift, a[5] + shift
    m01, m02, m12 = a[1], a[2], a[4]
    c00, c01, c02 = m11 * m22 - m12 * m12, m02 * m12 - m01 * m22, m01 * m12 - m02 * m11
    c11, c12, c22 = m00 * m22 - m02 * m02, m01 * m02 - m00 * m12, m00 * m11 - m01 * m01
    # Eight steps at once: with K = r trace(A) (A + r trace(A) I)^-1 they add up to (K + K^2 + ... + K^8) (b - A x) over
    # r trace(A), and the sum of powers is K (1 + K) (1 + K^2) (1 + K^4).
    factor = shift / (m00 * c00 + m01 * c01 + m02 * c02)
    k00, k01, k02, k11, k12, k22 = factor * c00, factor * c01, factor * c02, factor * c11, factor * c12, factor * c22
    p00, p01, p02, p11, p12, p22 = _square(k00, k01, k02, k11, k12, k22)
    q00, q01, q02, q11, q12, q22 = _square(p00, p01, p02, p11, p12, p22)
    x0, x1, x2 = x[0], x[1], x[2]
    r0 = (b[0] - (a[0] * x0 + a[1] * x1 + a[2] * x2)) / shift
    r1 = (b[1] - (a[1] * x0 + a[3] * x1 + a[4] * x2)) / shift
    r2 = (b[2] - (a[2] * x0 + a[4] * x1 + a[5] * x2)) / shift
    d0, d1, d2 = _times(k00, k01, k02, k11, k12, k22, r0, r1, r2)
    e0, e1, e2 = _times(k00, k01, k02, k11, k12, k22, d0, d1, d2)
    d0, d1, d2 = d0 + e0, d1 + e1, d2 + e2
    e0, e1, e2 = _times(p00, p01, p02, p11, p12, p22, d0, d1, d2)
    d0, d1, d2 = d0 + e0, d1 + e1, d2 + e2
    e0, e1, e2 = _times(q00, q01, q02, q11, q12, q22, d0, d1, d2)
    x0, x1, x2 = x0 + d0 + e0, x1 + d1 + e1, x2 + d2 + e2
    error = square - 2 * (b[0] * x0 + b[1] * x1 + b[2] * x2)
    error += a[0] * x0 * x0 + a[3] * x1 * x1 + a[5] * x2 * x2
    error += 2 * (a[1] * x0 * x1 + a[2] * x0 * x2 + a[4] * x1 * x2)
    if margin < np.inf and error > total * AGREEMENT * AGREEMENT:
        margin = 0.0
    low, high = -margin, 1 + margin
    if not (low <= x0 <= high and low <= x1 <= high and low <= x2 <= high):
        x0, x1, x2 = _nearest_in_box(m00, m01, m02, m11, m12, m22, x0, x1, x2, low, high)
    x[0], x[1], x[2] = x0, x1, x2


@njit(nogil=True, cache=True, error_model="numpy")
def place_vertex(
    s: Floats,
    g: Floats,
    used: NDArray[np.bool_],
    a: Floats,
    b: Floats,
    x: Floats,
    regularisation: float,
    margin: float,
    reach: float,
) -> None:
    """Move ``x`` from the mass point of one patch to its place, by the planes of the cell's ``used`` corners.

    Corner ``4 x + 2 y + z``; ``s`` ``(8,)`` values from the level, ``g`` ``(8, 3)`` gradients a cell. ``a`` ``(6,)``
    and ``b`` ``(3,)`` are scratch.
    """
    a00, a01, a02, a11, a12, a22 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0  # not the arrays, which live in memory
    b0, b1, b2 = 0.0, 0.0, 0.0
    square, total = 0.0, 0.0
    sharpness = 1 / (reach * reach)
    for corner in range(8):
        if not used[corner]:
            continue
        length = np.sqrt(g[corner, 0] ** 2 + g[corner, 1] ** 2 + g[corner, 2] ** 2)
        if not length > 0:
            continue
        inverse = 1 / length
        distance = s[corner] * inverse
        n0, n1, n2 = g[corner, 0] * inverse, g[corner, 1] * inverse, g[corner, 2] * inverse
        t0 = np.float64(corner >> 2 & 1) - distance * n0
        t1 = np.float64(corner >> 1 & 1) - distance * n1
        t2 = np.float64(corner & 1) - distance * n2
        away = max(max(-t0, t0 - 1), 0.0) ** 2 + max(max(-t1, t1 - 1), 0.0) ** 2 + max(max(-t2, t2 - 1), 0.0) ** 2
        offset = n0 * t0 + n1 * t1 + n2 * t2
        weight = 1.0 if away == 0 else 1 / (1 + away * sharpness) ** 2
        w0, w1, w2 = weight * n0, weight * n1, weight * n2
        a00, a01, a02 = a00 + w0 * n0, a01 + w0 * n1, a02 + w0 * n2
        a11, a12, a22 = a11 + w1 * n1, a12 + w1 * n2, a22 + w2 * n2
        b0, b1, b2 = b0 + w0 * offset, b1 + w1 * offset, b2 + w2 * offset
        square += weight * offset * offset
        total += weight
    a[0], a[1], a[2], a[3], a[4], a[5] = a00, a01, a02, a11, a12, a22
    b[0], b[1], b[2] = b0, b1, b2
    _solve(a, b, square, total, x, regularisation, margin)


@njit(nogil=True, cache=True, error_model="numpy")
def place_vertices(
    shape: tuple[Integer, Integer, Integer],
    places: NDArray[np.int64],
    links: NDArray[np.int32],
    ranked: Words,
    first: NDArray[np.int64],
    mixed: Words,
    first_cell: NDArray[np.int64],
    pattern: NDArray[np.int16],
    first_vertex: NDArray[np.int64],
    merged: bool,
    loop_of_edge: NDArray[np.int8],
    values: Floats,
    slopes: Floats,
    corner_points: Words,
    first_slope: NDArray[np.int64],
    level: float,
    regularisation: float,
    margin: float,
    reach: float,
    vertices: Floats,
    start: Integer,
    stop: Integer,
) -> None:
    """Write the vertices of the cells of words ``start..stop``, in lattice units.

    ``slopes`` are gradients per cell (times the spacing): exact ones by row, or those of :func:`write_slopes`, whose
    place is known from ``corner_points`` and ``first_slope`` (else both empty).
    """
    given = corner_points.size == 0
    s, g = np.empty(8), np.empty((8, 3))
    a, b, x = np.empty(6), np.empty(3), np.empty(3)
    used = np.empty(8, np.bool_)
    for word in range(start, stop):
        cells = mixed[word]
        if cells == 0:
            continue
        base_x, base_y, bottom = column_of(shape, places[word])
        cell = first_cell[word]
        while cells != 0:
            bit = lowest_bit(cells)
            cells &= cells - np.uint64(1)
            for column in range(4):
                at, above = links[word, 2 * column], links[word, 2 * column + 1]
                row = first[at] + rank(ranked[at], bit)
                above_row = row + 1 if bit < 63 else first[above]
                s[2 * column] = np.float64(values[row]) - level
                s[2 * column + 1] = np.float64(values[above_row]) - level
                if not given:
                    row = first_slope[at] + rank(corner_points[at], bit)
                    above_row = row + 1 if bit < 63 else first_slope[above]
                for axis in range(3):
                    g[2 * column, axis] = slopes[row, axis]
                    g[2 * column + 1, axis] = slopes[above_row, axis]
            row = pattern[cell]
            for vertex in range(first_vertex[cell], first_vertex[cell + 1]):
                loop = vertex - first_vertex[cell]
                count = 0
                used[:] = False
                x[:] = 0
                for edge in range(12):
                    owner = loop_of_edge[row, edge]
                    if owner < 0 or (owner != loop and not merged):
                        continue
                    axis, u, v = edge >> 2, edge >> 1 & 1, edge & 1
                    low = 2 * u + v if axis == 0 else (4 * u + v if axis == 1 else 4 * u + 2 * v)
                    high = low + (4 >> axis)
                    used[low], used[high] = True, True
                    t = crossing(s[low], s[high], g[low, axis], g[high, axis], given)
                    for other in range(3):
                        x[other] += t if other == axis else np.float64(low >> (2 - other) & 1)
                    count += 1
                for axis in range(3):
                    x[axis] /= count
                place_vertex(s, g, used, a, b, x, regularisation, margin, reach)
                vertices[vertex, 0] = base_x + x[0]
                vertices[vertex, 1] = base_y + x[1]
                vertices[vertex, 2] = bottom + bit + x[2]
            cell += 1
