"""Exact closest points on a triangle mesh, in float64, for any number of queries.

Every triangle is kept in its own plane frame with the longest edge as base, so both base angles are at most 90 degrees.
The closest point of the plane triangle is then a few comparisons, and for a sliver of height ``h`` and length ``L`` the
rounding error stays of the order ``eps * L``: the usual barycentric formulas lose ``(L / h) ** 2`` digits instead. A
triangle without area is its longest edge, one without extent a point.

Queries are answered in the order of a space-filling curve, each starting from the answer of its predecessor.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .bvh import STACK, build_bvh, triangle_boxes
from .threads import run_chunks, spans

CHUNK = 2048
"""Queries a task: fixed, so that the answers do not depend on the number of threads."""
FLAT = 1e-14
"""Height over length below which a triangle's height is rounding noise and the triangle counts as its longest edge."""
TIE = 1e-13
"""Distances that differ by less than this, relative to themselves plus the largest coordinate, are equal. Where the
closest point lies on an edge, several faces are closest, and which one is told must not depend on the last bit."""
SAME_COSINE = 1e-9
"""Cosines that differ by less than this are equal when faces are told apart by normal."""


class ClosestPointIndex:
    """Search structure over the faces of one mesh; read-only after construction, so threads may share it.

    Args:
        vertices: ``(V, 3)`` floats, finite where a face uses them.
        faces: ``(F, 3)`` integers into ``vertices``, ``F`` at least 1; degenerate faces are allowed.
        normals: ``(F, 3)`` unit normals, for queries that choose by normal among equally far faces.
    Raises:
        ValueError: there is no face, or a face has a non-finite corner.

    >>> index = ClosestPointIndex([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> distances, faces, closest = index.query([[0.25, 0.25, 2.0], [4.0, 0.0, 4.0]])
    >>> distances.tolist(), faces.tolist(), closest.round(12).tolist()
    ([2.0, 5.0], [0, 0], [[0.25, 0.25, 0.0], [1.0, 0.0, 0.0]])
    """

    def __init__(self, vertices: ArrayLike, faces: ArrayLike, normals: Floats | None = None) -> None:
        points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
        corners = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
        if len(corners) == 0:
            raise ValueError("closest points need a mesh with at least one face")
        triangles = points[corners]
        self.tree = build_bvh(*triangle_boxes(triangles))
        self._scale = float(np.abs(triangles).max())
        self._frames = _plane_frames(triangles[self.tree.order])
        self._normals = np.zeros((0, 3)) if normals is None else np.ascontiguousarray(normals[self.tree.order])

    def query(
        self,
        points: ArrayLike,
        *,
        normals: Floats | None = None,
        limit: float = np.inf,
        threads: int | None = None,
    ) -> tuple[Floats, Ints, Floats]:
        """Closest point of the mesh for each of ``points`` ``(Q, 3)``.

        Args:
            points: finite positions in the units of the mesh.
            normals: ``(Q, 3)`` unit normals; of equally far faces the one with the most parallel normal is told, and of
                two sheets with opposite normals the one that faces the same way. Needs the index to have normals.
            limit: look no further than this; a point without a face within the limit gets distance ``inf``, face
                ``-1`` and a closest point of NaN.
            threads: as in :func:`~shapewright_kernels.threads.run_chunks`; does not change the result.
        Returns:
            distances ``(Q,)`` float64, face ids ``(Q,)`` int64, closest points ``(Q, 3)`` float64. Of faces that are
            equally far up to rounding (:data:`TIE`) and equally good by ``normals``, the smallest id is told.
        Raises:
            ValueError: a query is not finite, or ``normals`` were given to an index without any.
        """
        if normals is not None and len(self._normals) == 0:
            raise ValueError("build the index with normals to choose by normal")
        wanted = np.zeros((0, 3)) if normals is None else np.ascontiguousarray(normals, dtype=np.float64)
        queries = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite")
        order = curve_order(queries)
        distances = np.empty(len(queries))
        faces = np.empty(len(queries), np.int64)
        closest = np.empty((len(queries), 3))
        tree = self.tree

        def work(span: tuple[int, int]) -> None:
            _query(
                queries, order, *span, tree.boxes, tree.first, tree.size, tree.order, self._frames, limit * limit,
                self._scale, wanted, self._normals, distances, faces, closest,
            )  # fmt: skip

        run_chunks(work, spans(len(queries), CHUNK), threads)
        return distances, faces, closest


def curve_order(points: Floats) -> Ints:
    """Permutation that visits ``points`` ``(Q, 3)`` along a Morton curve over their bounding box."""
    if len(points) == 0:
        return np.zeros(0, np.int64)
    low = points.min(axis=0)
    extent = float((points.max(axis=0) - low).max())
    keys = _morton_keys(points, low, (2**21 - 1) / extent if extent > 1e-300 else 0.0)
    return np.argsort(keys, kind="stable")


def closest_point_on_triangle(point: ArrayLike, triangle: ArrayLike) -> Floats:
    """Closest point ``(3,)`` of one ``triangle`` ``(3, 3)``; the same arithmetic as the index."""
    frames = _plane_frames(np.asarray(triangle, dtype=np.float64).reshape(1, 3, 3))
    x, y, z = np.asarray(point, dtype=np.float64)
    s, t = _nearest_in_plane(frames, 0, x, y, z)
    position: Floats = frames[0, :3] + s * frames[0, 3:6] + t * frames[0, 6:9]
    return position


@njit(nogil=True, cache=True, error_model="numpy")
def _spread(value: int) -> int:
    """Insert two zero bits between the 21 low bits of ``value``."""
    value &= 0x1FFFFF
    value = (value | value << 32) & 0x1F00000000FFFF
    value = (value | value << 16) & 0x1F0000FF0000FF
    value = (value | value << 8) & 0x100F00F00F00F00F
    value = (value | value << 4) & 0x10C30C30C30C30C3
    return (value | value << 2) & 0x1249249249249249


@njit(nogil=True, cache=True, error_model="numpy")
def _morton_keys(points: Floats, low: Floats, scale: float) -> Ints:
    keys = np.empty(len(points), np.int64)
    for row in range(len(points)):
        x = int((points[row, 0] - low[0]) * scale)
        y = int((points[row, 1] - low[1]) * scale)
        z = int((points[row, 2] - low[2]) * scale)
        keys[row] = _spread(x) << 2 | _spread(y) << 1 | _spread(z)
    return keys


@njit(nogil=True, cache=True, error_model="numpy")
def _plane_frames(triangles: Floats) -> Floats:
    """``(F, 12)``: base corner, unit base direction, unit height direction, base length, foot of the height, height."""
    frames = np.zeros((len(triangles), 12))
    base, side = np.empty(3), np.empty(3)
    for row in range(len(triangles)):
        longest, start = -1.0, 0
        for corner in range(3):
            squared = 0.0
            for axis in range(3):
                squared += (triangles[row, (corner + 1) % 3, axis] - triangles[row, corner, axis]) ** 2
            if squared > longest:
                longest, start = squared, corner
        length = np.sqrt(longest)
        frame = frames[row]
        for axis in range(3):
            frame[axis] = triangles[row, start, axis]
            base[axis] = triangles[row, (start + 1) % 3, axis] - frame[axis]
            side[axis] = triangles[row, (start + 2) % 3, axis] - frame[axis]
        if length == 0.0:
            continue
        foot = 0.0
        for axis in range(3):
            base[axis] /= length
            foot += side[axis] * base[axis]
        rest = 0.0  # a second projection removes what rounding left along the base; slivers need it
        for axis in range(3):
            side[axis] -= foot * base[axis]
            rest += side[axis] * base[axis]
        height = 0.0
        for axis in range(3):
            side[axis] -= rest * base[axis]
            height += side[axis] ** 2
        height = np.sqrt(height)
        if height <= FLAT * length:
            height = 0.0
        for axis in range(3):
            frame[3 + axis] = base[axis]
            frame[6 + axis] = side[axis] / height if height > 0.0 else 0.0
        frame[9] = length
        frame[10] = min(max(foot + rest, 0.0), length)
        frame[11] = height
    return frames


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest_in_plane(frames: Floats, row: int, x: float, y: float, z: float) -> tuple[float, float]:
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
def _squared_distance(frames: Floats, row: int, x: float, y: float, z: float) -> float:
    s, t = _nearest_in_plane(frames, row, x, y, z)
    dx = x - frames[row, 0] - s * frames[row, 3] - t * frames[row, 6]
    dy = y - frames[row, 1] - s * frames[row, 4] - t * frames[row, 7]
    dz = z - frames[row, 2] - s * frames[row, 5] - t * frames[row, 8]
    return dx * dx + dy * dy + dz * dz


@njit(nogil=True, cache=True, error_model="numpy")
def box_distance(boxes: Floats, node: int, x: float, y: float, z: float) -> float:
    """Squared distance from a point to the box of a node of a :class:`~shapewright_kernels.bvh.Bvh`."""
    dx = max(boxes[node, 0] - x, x - boxes[node, 3], 0.0)
    dy = max(boxes[node, 1] - y, y - boxes[node, 4], 0.0)
    dz = max(boxes[node, 2] - z, z - boxes[node, 5], 0.0)
    return dx * dx + dy * dy + dz * dz


@njit(nogil=True, cache=True, error_model="numpy")
def _tie_window(squared: float, scale: float) -> float:
    """Square of the largest distance that counts as equal to one with this square."""
    slack = TIE * (np.sqrt(squared) + scale)
    return squared + slack * (2.0 * np.sqrt(squared) + slack)


@njit(nogil=True, cache=True, error_model="numpy")
def _better_normal(wanted: Floats, candidate: Floats, holder: Floats, earlier: bool) -> bool:
    new = wanted[0] * candidate[0] + wanted[1] * candidate[1] + wanted[2] * candidate[2]
    old = wanted[0] * holder[0] + wanted[1] * holder[1] + wanted[2] * holder[2]
    if abs(abs(new) - abs(old)) > SAME_COSINE:
        return abs(new) > abs(old)
    if abs(new - old) > SAME_COSINE:
        return new > old
    return earlier


@njit(nogil=True, cache=True, error_model="numpy")
def _query(
    points: Floats, rows: Ints, start: int, stop: int, boxes: Floats, first: Ints, size: Ints, ids: Ints,
    frames: Floats, limit: float, scale: float, wanted: Floats, normals: Floats,
    distances: Floats, faces: Ints, closest: Floats,
) -> None:  # fmt: skip
    stack = np.empty(STACK, np.int64)
    stack_distance = np.empty(STACK)
    seed = -1
    for slot in range(start, stop):
        row = rows[slot]
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        best, found, window = limit, -1, limit
        if seed >= 0:
            distance = _squared_distance(frames, seed, x, y, z)
            if distance <= limit:
                best, found, window = distance, seed, _tie_window(distance, scale)
        stack[0] = 0
        stack_distance[0] = box_distance(boxes, 0, x, y, z)
        top = 1
        while top > 0:
            top -= 1
            if stack_distance[top] > window:
                continue
            node = stack[top]
            while size[node] == 0:
                near = first[node]
                far = near + 1
                near_distance = box_distance(boxes, near, x, y, z)
                far_distance = box_distance(boxes, far, x, y, z)
                if far_distance < near_distance:
                    near, far = far, near
                    near_distance, far_distance = far_distance, near_distance
                if far_distance <= window:
                    stack[top] = far
                    stack_distance[top] = far_distance
                    top += 1
                if near_distance > window:
                    node = -1
                    break
                node = near
            if node < 0:
                continue
            for item in range(first[node], first[node] + size[node]):
                distance = _squared_distance(frames, item, x, y, z)
                if distance > window or distance > limit:
                    continue
                if found < 0 or _tie_window(distance, scale) < best:
                    found = item
                elif len(wanted) == 0:
                    if ids[item] < ids[found]:
                        found = item
                elif item != found and _better_normal(
                    wanted[row], normals[item], normals[found], ids[item] < ids[found]
                ):
                    found = item
                if distance < best:
                    best = distance
                if found >= 0:
                    window = _tie_window(best, scale)
        if found < 0:
            distances[row] = np.inf
            faces[row] = -1
            closest[row] = np.nan
            continue
        seed = found
        s, t = _nearest_in_plane(frames, found, x, y, z)
        distances[row] = np.sqrt(best)
        faces[row] = ids[found]
        for axis in range(3):
            closest[row, axis] = frames[found, axis] + s * frames[found, 3 + axis] + t * frames[found, 6 + axis]
