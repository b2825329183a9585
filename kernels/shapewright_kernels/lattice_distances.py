"""Exact distances at the lattice points away from a mesh, brick by brick.

Far from a surface, boxes along the axes prune badly: seen from a distance ``d``, all boxes of size ``b`` within
``sqrt(2 d b)`` of the foot of the perpendicular reach into the empty ball. Each node of the hierarchy here has a box
that is turned into the mean plane of its triangles, so on smooth surfaces few but the nearest ones are opened. It is
walked once for all points of a brick: a node is opened where it can come nearer to *some* point than what that point
has, which is decided for all points in one vectorised loop. Nothing is approximated.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .bvh import STACK, build_bvh, triangle_boxes
from .narrow_band import Lattice
from .plane_distance import ROW, complete_planes, lower_row
from .plane_frames import plane_frames
from .threads import run_chunks

WIDTH = 2
"""Points of a brick along x and y; along z it is a row."""
ROWS = WIDTH * WIDTH
POINTS = ROWS * ROW


class LatticeDistances:
    """Search structure over the faces of one mesh, for the points of one lattice; read-only, so threads may share it.

    Args:
        vertices: ``(V, 3)`` finite floats. faces: ``(F, 3)`` integers, at least one; degenerate ones are allowed.
    """

    def __init__(self, vertices: Floats, faces: Ints, lattice: Lattice) -> None:
        self.lattice = lattice
        corners = np.ascontiguousarray((np.asarray(vertices, np.float64) - lattice.lower)[faces])
        tree = build_bvh(*triangle_boxes(corners))
        self._first, self._size, self._ids = tree.first, tree.size, tree.order
        ordered = corners[tree.order]
        self._planes = complete_planes(plane_frames(ordered))
        self._boxes = _turned_boxes(ordered, tree.first, tree.size)

    def fill(self, x: int, distances: Floats, faces: NDArray[np.int32], threads: int | None = None) -> None:
        """Fill in what is infinite in ``distances`` ``(planes, side, side)``, and the nearest faces there.

        Args:
            x: lattice plane of ``distances[0]``. threads: never changes the result.
        """
        planes, side, _ = distances.shape
        jobs = [(i, j) for i in range(0, planes, WIDTH) for j in range(0, side, WIDTH)]

        def work(job: tuple[int, int]) -> None:
            i, j = job
            part = (slice(i, i + WIDTH), slice(j, j + WIDTH))
            _fill_line(
                distances[part], faces[part], x + i, j, self.lattice.spacing, self._boxes, self._first, self._size,
                self._ids, self._planes,
            )  # fmt: skip

        run_chunks(work, jobs, threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _turned_boxes(corners: Floats, first: Ints, size: Ints) -> Floats:
    """``(N, 15)`` for the nodes over triangles ``(F, 3, 3)`` in the order of the leaves: three orthonormal axes (the
    last one the mean normal), centre along each, half extent along each (never less than what is inside)."""
    nodes = len(first)
    begin, end = np.empty(nodes, np.int64), np.empty(nodes, np.int64)
    boxes = np.zeros((nodes, 15))
    areas = np.zeros((len(corners) + 1, 3))  # vector areas, summed up
    for face in range(len(corners)):
        t = corners[face]
        ux, uy, uz = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
        vx, vy, vz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
        areas[face + 1, 0] = areas[face, 0] + uy * vz - uz * vy
        areas[face + 1, 1] = areas[face, 1] + uz * vx - ux * vz
        areas[face + 1, 2] = areas[face, 2] + ux * vy - uy * vx
    for node in range(nodes - 1, -1, -1):  # children come after their parent
        if size[node] > 0:
            begin[node], end[node] = first[node], first[node] + size[node]
        else:
            begin[node] = min(begin[first[node]], begin[first[node] + 1])
            end[node] = max(end[first[node]], end[first[node] + 1])
        box = boxes[node]
        normal = areas[end[node]] - areas[begin[node]]
        length = sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
        nx, ny, nz = 0.0, 0.0, 1.0
        if length > 0.0:
            nx, ny, nz = normal[0] / length, normal[1] / length, normal[2] / length
        # any two directions across it (Duff et al. 2017, "Building an orthonormal basis, revisited")
        sign = 1.0 if nz >= 0.0 else -1.0
        a = -1.0 / (sign + nz)
        b = nx * ny * a
        box[0], box[1], box[2] = 1.0 + sign * nx * nx * a, sign * b, -sign * nx
        box[3], box[4], box[5] = b, sign + ny * ny * a, -ny
        box[6], box[7], box[8] = nx, ny, nz
        for axis in range(3):
            low, high = np.inf, -np.inf
            for face in range(begin[node], end[node]):
                for corner in range(3):
                    t = corners[face, corner]
                    at = t[0] * box[3 * axis] + t[1] * box[3 * axis + 1] + t[2] * box[3 * axis + 2]
                    low, high = min(low, at), max(high, at)
            box[9 + axis] = 0.5 * low + 0.5 * high
            box[12 + axis] = (0.5 * high - 0.5 * low) * (1.0 + 1e-12)
    return boxes


@njit(nogil=True, cache=True, error_model="numpy")
def _from_brick(boxes: Floats, node: int, centre: Floats, half: Floats) -> float:
    """Lower bound of the squared distance from a brick (centre and half extents) to the box of a node."""
    square = 0.0
    for axis in range(3):
        u, v, w = boxes[node, 3 * axis], boxes[node, 3 * axis + 1], boxes[node, 3 * axis + 2]
        gap = abs(centre[0] * u + centre[1] * v + centre[2] * w - boxes[node, 9 + axis]) - boxes[node, 12 + axis]
        gap -= abs(u) * half[0] + abs(v) * half[1] + abs(w) * half[2]
        if gap > 0.0:
            square += gap * gap
    return square


@njit(nogil=True, cache=True, error_model="numpy")
def _wanting(boxes: Floats, node: int, px: Floats, py: Floats, pz: Floats, best: Floats) -> int:
    """How many points have the box of a node nearer than their best."""
    u0, u1, u2 = boxes[node, 0], boxes[node, 1], boxes[node, 2]
    v0, v1, v2 = boxes[node, 3], boxes[node, 4], boxes[node, 5]
    w0, w1, w2 = boxes[node, 6], boxes[node, 7], boxes[node, 8]
    cu, cv, cw = boxes[node, 9], boxes[node, 10], boxes[node, 11]
    hu, hv, hw = boxes[node, 12], boxes[node, 13], boxes[node, 14]
    count = 0
    for i in range(len(px)):
        x, y, z = px[i], py[i], pz[i]
        u = abs(x * u0 + y * u1 + z * u2 - cu) - hu
        v = abs(x * v0 + y * v1 + z * v2 - cv) - hv
        w = abs(x * w0 + y * w1 + z * w2 - cw) - hw
        u = u if u > 0.0 else 0.0
        v = v if v > 0.0 else 0.0
        w = w if w > 0.0 else 0.0
        count += u * u + v * v + w * w < best[i]
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_line(
    distances: Floats, faces: NDArray[np.int32], x: int, y: int, spacing: Floats, boxes: Floats, first: Ints,
    size: Ints, ids: Ints, planes: Floats,
) -> None:  # fmt: skip
    """Fill a line of bricks along z; each begins with faces that its predecessor has found."""
    best, nearest = np.empty((ROWS, ROW)), np.empty((ROWS, ROW), np.int64)
    flat = best.reshape(-1)
    px, py, pz = np.empty(POINTS), np.empty(POINTS), np.empty(POINTS)
    stack, bounds = np.empty(STACK, np.int64), np.empty(STACK)
    centre, half = np.empty(3), np.empty(3)
    half[0], half[1] = 0.5 * (WIDTH - 1) * spacing[0], 0.5 * (WIDTH - 1) * spacing[1]
    half[2] = 0.5 * (ROW - 1) * spacing[2]
    seeds = np.zeros(4, np.int64)
    for z in range(0, distances.shape[2], ROW):
        open_points = 0
        for row in range(ROWS):
            i, j = row // WIDTH, row % WIDTH
            for k in range(ROW):
                px[row * ROW + k], py[row * ROW + k] = (x + i) * spacing[0], (y + j) * spacing[1]
                pz[row * ROW + k] = (z + k) * spacing[2]
                inside = i < distances.shape[0] and j < distances.shape[1] and z + k < distances.shape[2]
                wanted = inside and distances[i, j, z + k] == np.inf
                best[row, k] = np.inf if wanted else -1.0  # nothing is nearer than that
                nearest[row, k] = -1
                open_points += wanted
        if open_points == 0:
            continue
        for axis in range(3):
            start = x if axis == 0 else (y if axis == 1 else z)
            centre[axis] = start * spacing[axis] + half[axis]
        for place in range(len(seeds)):
            if place == 0 or seeds[place] != seeds[place - 1]:
                for row in range(ROWS):
                    lower_row(
                        planes, seeds[place], px[row * ROW], py[row * ROW], pz[0], spacing[2], row, best, nearest
                    )  # fmt: skip
        worst = flat.max()
        stack[0], bounds[0] = 0, _from_brick(boxes, 0, centre, half)
        top = 1
        while top > 0:
            top -= 1
            node = stack[top]
            if bounds[top] >= worst or _wanting(boxes, node, px, py, pz, flat) == 0:
                continue
            if size[node] == 0:
                near, far = first[node], first[node] + 1
                near_bound = _from_brick(boxes, near, centre, half)
                far_bound = _from_brick(boxes, far, centre, half)
                if far_bound < near_bound:
                    near, far, near_bound, far_bound = far, near, far_bound, near_bound
                stack[top], bounds[top] = far, far_bound
                stack[top + 1], bounds[top + 1] = near, near_bound
                top += 2
                continue
            for item in range(first[node], first[node] + size[node]):
                for row in range(ROWS):
                    lower_row(planes, item, px[row * ROW], py[row * ROW], pz[0], spacing[2], row, best, nearest)
            worst = flat.max()
        for row in range(ROWS):
            i, j = row // WIDTH, row % WIDTH
            for k in range(ROW):
                if nearest[row, k] >= 0:
                    distances[i, j, z + k] = sqrt(best[row, k])
                    faces[i, j, z + k] = ids[nearest[row, k]]
                    seeds[row // (ROWS // 2) * 2 + k // (ROW // 2)] = nearest[row, k]
