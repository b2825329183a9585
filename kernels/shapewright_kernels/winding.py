"""Generalised winding numbers of triangle meshes and soups, exactly or through a hierarchy of multipoles.

Sources: Jacobson, Kavan and Sorkine-Hornung 2013, "Robust inside-outside segmentation using generalized winding
numbers"; Barill, Dickson, Schmidt, Levin and Jacobson 2018, "Fast winding numbers for soups and clouds".
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf, pi, sqrt

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .threads import run_chunks, spans
from .triangles import solid_angle

LEAF = 8
"""Triangles in a leaf."""
STACK = 64
"""Nodes on the way down: the tree is balanced, so its depth is at most the logarithm of the number of triangles."""
CHUNK = 4096
"""Query points in one piece of work."""
ACCURACY = 2.5
"""Default of ``accuracy``: the largest error seen near and on scans and soups is 0.003."""


@dataclass(frozen=True, slots=True)
class WindingIndex:
    """Balanced binary tree over triangles with the multipole moments of every node.

    Nodes are numbered as a heap (children of ``n``: ``2 n + 1`` and ``2 n + 2``). ``moments`` columns: vector area (3),
    trace and symmetric part of the first moment (1 + 6), contracted and symmetrised second moment (3 + 10).
    """

    corners: Floats
    starts: Ints
    centres: Floats
    radii: Floats
    moments: Floats

    def query(self, points: Floats, *, accuracy: float = ACCURACY, threads: int | None = None) -> Floats:
        """Winding numbers ``(N,)`` float64 at ``points`` ``(N, 3)``; arguments as in :func:`winding_numbers`."""
        if not accuracy >= 1.5:
            raise ValueError(f"accuracy must be at least 1.5 (inf: exact), not {accuracy}")
        points = np.ascontiguousarray(points, np.float64)
        result = np.zeros(len(points))

        def work(span: tuple[int, int]) -> None:
            part = slice(*span)
            if isinf(accuracy):
                _exact(points[part], self.corners, result[part])
            else:
                _walk(points[part], self.corners, self.starts, self.centres, self.radii, self.moments,
                      accuracy * accuracy, result[part])  # fmt: skip

        if len(self.corners):
            run_chunks(work, spans(len(points), CHUNK), threads)
        return result


def winding_numbers(
    points: Floats, vertices: Floats, faces: Ints, *, accuracy: float = ACCURACY, threads: int | None = None
) -> Floats:
    """Generalised winding number of each point: 1 inside a closed outward mesh, 0 outside, fractions near openings.

    On the surface it is the mean over a small sphere (1/2 on a smooth closed surface).

    Args:
        points: ``(N, 3)``. vertices: ``(V, 3)``. faces: ``(F, 3)`` integers; any soup, watertight or not.
        accuracy: a node farther away than ``accuracy`` times its radius is replaced by its multipoles; the error falls
            with its fourth power. ``inf`` sums every triangle exactly (for tests; F x N work).
        threads: never changes the result.
    Returns:
        ``(N,)`` float64.

    >>> tetrahedron = np.vstack([np.zeros(3), np.eye(3)]), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> winding_numbers(np.array([[0.1, 0.1, 0.1], [2.0, 2.0, 2.0]]), *tetrahedron).round(3).tolist()
    [1.0, 0.0]
    """
    if isinf(accuracy):  # no hierarchy to build
        corners = np.ascontiguousarray(np.asarray(vertices, np.float64)[faces])
        none = np.empty(0)
        return WindingIndex(corners, np.empty(0, np.int64), none, none, none).query(
            points, accuracy=inf, threads=threads
        )
    return build_winding_index(vertices, faces).query(points, accuracy=accuracy, threads=threads)


def build_winding_index(vertices: Floats, faces: Ints) -> WindingIndex:
    """Sort triangles into a balanced k-d tree (median splits of the longest side), sum moments from the leaves up."""
    corners = np.asarray(vertices, np.float64)[faces]
    count = len(corners)
    depth = max(0, int(np.ceil(np.log2(max(count, 1) / LEAF)))) if count > LEAF else 0
    leaves = 1 << depth
    bounds = np.arange(leaves + 1, dtype=np.int64) * count // leaves
    corners = np.ascontiguousarray(corners[_spatial_order(corners.mean(axis=1), bounds, depth)])
    return WindingIndex(corners, bounds, *_moments(corners, bounds, depth))


def _spatial_order(centroids: Floats, bounds: Ints, depth: int) -> Ints:
    order = np.arange(len(centroids), dtype=np.int64)
    for level in range(depth):
        starts = bounds[:: 1 << (depth - level)]
        block = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        sorted_centroids = centroids[order]
        low = np.minimum.reduceat(sorted_centroids, starts[:-1])
        high = np.maximum.reduceat(sorted_centroids, starts[:-1])
        axis = np.argmax(high - low, axis=1)
        key = np.take_along_axis(sorted_centroids, axis[block][:, None], axis=1)[:, 0]
        order = order[np.lexsort((key, block))]
    return order


def _moments(corners: Floats, bounds: Ints, depth: int) -> tuple[Floats, Floats, Floats]:
    nodes = 2 * len(bounds) - 3
    centres, radii = np.zeros((nodes, 3)), np.zeros(nodes)
    packed = np.zeros((nodes, 23))
    if not len(corners):
        return centres, radii, packed
    # a triangle about its centroid: no first moment, second moment = normal x covariance
    centroid = corners.mean(axis=1)
    arm = corners - centroid[:, None]
    zeroth = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2
    first = np.zeros((len(corners), 3, 3))
    second = np.einsum("fi,fvj,fvk->fijk", zeroth, arm, arm) / 12
    # weight of the centres; the floor keeps nodes of degenerate triangles finite
    mass = np.linalg.norm(zeroth, axis=1)
    mass += max(float(mass.max()), np.finfo(float).tiny) * 1e-12
    groups, centre = bounds[:-1], centroid
    for level in range(depth, -1, -1):
        sizes = np.diff(np.append(groups, len(mass)))
        owner = np.repeat(np.arange(len(groups)), sizes)
        total = np.add.reduceat(mass, groups)
        node_centre = np.add.reduceat(centre * mass[:, None], groups) / total[:, None]
        t = centre - node_centre[owner]
        moved = first + zeroth[:, :, None] * t[:, None, :]
        second = (
            second
            + first[:, :, :, None] * t[:, None, None, :]
            + first[:, :, None, :] * t[:, None, :, None]
            + zeroth[:, :, None, None] * t[:, None, :, None] * t[:, None, None, :]
        )
        zeroth, first, second = (np.add.reduceat(m, groups) for m in (zeroth, moved, second))
        mass, centre = total, node_centre
        here = slice((1 << level) - 1, (2 << level) - 1)
        starts = bounds[:: 1 << (depth - level)]
        triangle_owner = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        reach = np.linalg.norm(corners - node_centre[triangle_owner][:, None], axis=2).max(axis=1)
        radii[here] = np.maximum.reduceat(reach, starts[:-1])
        centres[here] = node_centre
        packed[here] = _packed(zeroth, first, second)
        groups = np.arange(0, len(mass), 2)
    return centres, radii, packed


def _packed(zeroth: Floats, first: Floats, second: Floats) -> Floats:
    """Only the symmetric parts meet the derivatives of the kernel."""
    m, t = first, second
    columns = [zeroth[:, 0], zeroth[:, 1], zeroth[:, 2], np.trace(m, axis1=1, axis2=2)]
    for i, j in ((0, 0), (1, 1), (2, 2)):
        columns.append(m[:, i, j])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        columns.append(m[:, i, j] + m[:, j, i])
    contracted = 2 * np.einsum("niik->nk", t) + np.einsum("nijj->ni", t)
    columns.extend(contracted.T)
    for i in range(3):
        columns.append(t[:, i, i, i])
    for i, j in ((0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)):  # coefficient of r_i r_i r_j
        columns.append(t[:, i, i, j] + t[:, i, j, i] + t[:, j, i, i])
    columns.append(sum(t[:, i, j, k] for i, j, k in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))))
    return np.stack(columns, axis=1)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def angle_of(corners: Floats, face: int, px: float, py: float, pz: float) -> float:
    """Solid angle of one triangle from ``p``."""
    return solid_angle(
        corners[face, 0, 0] - px, corners[face, 0, 1] - py, corners[face, 0, 2] - pz,
        corners[face, 1, 0] - px, corners[face, 1, 1] - py, corners[face, 1, 2] - pz,
        corners[face, 2, 0] - px, corners[face, 2, 1] - py, corners[face, 2, 2] - pz,
    )  # fmt: skip


@njit(nogil=True, cache=True, error_model="numpy")
def _exact(points: Floats, corners: Floats, result: Floats) -> None:
    for index in range(len(points)):
        total = 0.0
        for face in range(len(corners)):
            total += angle_of(corners, face, points[index, 0], points[index, 1], points[index, 2])
        result[index] = total / (4.0 * pi)


@njit(nogil=True, cache=True, error_model="numpy")
def winding_at(
    px: float,
    py: float,
    pz: float,
    corners: Floats,
    starts: Ints,
    centres: Floats,
    radii: Floats,
    moments: Floats,
    square: float,
    stack: Ints,
) -> float:
    """Winding number at one point by the arrays of a :class:`WindingIndex`; ``square`` is the accuracy squared."""
    inner = len(centres) // 2
    total = 0.0
    stack[0] = 0
    top = 1
    while top > 0:
        top -= 1
        node = stack[top]
        x, y, z = centres[node, 0] - px, centres[node, 1] - py, centres[node, 2] - pz
        rr = x * x + y * y + z * z
        if rr > square * radii[node] * radii[node]:
            m = moments[node]
            i2 = 1.0 / rr
            i3 = i2 / sqrt(rr)
            i5 = i3 * i2
            quadratic = m[4] * x * x + m[5] * y * y + m[6] * z * z + m[7] * x * y + m[8] * x * z + m[9] * y * z
            cubic = (
                x * x * (m[13] * x + m[16] * y + m[17] * z)
                + y * y * (m[14] * y + m[18] * x + m[19] * z)
                + z * z * (m[15] * z + m[20] * x + m[21] * y)
                + m[22] * x * y * z
            )
            total += i3 * (m[0] * x + m[1] * y + m[2] * z + m[3])
            total -= 3.0 * i5 * (quadratic + 0.5 * (m[10] * x + m[11] * y + m[12] * z))
            total += 7.5 * i5 * i2 * cubic
        elif node >= inner:
            for face in range(starts[node - inner], starts[node - inner + 1]):
                total += angle_of(corners, face, px, py, pz)
        else:
            stack[top] = 2 * node + 1
            stack[top + 1] = 2 * node + 2
            top += 2
    return total / (4.0 * pi)


@njit(nogil=True, cache=True, error_model="numpy")
def _walk(
    points: Floats,
    corners: Floats,
    starts: Ints,
    centres: Floats,
    radii: Floats,
    moments: Floats,
    square: float,
    result: Floats,
) -> None:
    stack = np.empty(STACK, np.int64)
    for index in range(len(points)):
        result[index] = winding_at(
            points[index, 0], points[index, 1], points[index, 2],
            corners, starts, centres, radii, moments, square, stack,
        )  # fmt: skip
