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
from .bvh import RECORD, STACK, arrange
from .curve_order import curve_order as curve_order
from .point_packets import (
    BEST,
    BUDGET,
    LANES,
    NEAREST,
    ROOM,
    SECOND,
    SLACK,
    fill_lanes,
    lower_packet,
    seed_lanes,
    tied,
    undecided,
)  # fmt: skip
from .threads import run_chunks, spans

CHUNK = 4096
"""Queries a task: fixed, so that the answers do not depend on the number of threads."""
FACES = 16384
"""Faces a task while an index is built."""
LEAF = 4
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
        threads: as in :func:`~shapewright_kernels.threads.run_chunks`; does not change the index.
    Raises:
        ValueError: there is no face, or a face has a non-finite corner.

    >>> index = ClosestPointIndex([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    >>> distances, faces, closest = index.query([[0.25, 0.25, 2.0], [4.0, 0.0, 4.0]])
    >>> distances.tolist(), faces.tolist(), closest.round(12).tolist()
    ([2.0, 5.0], [0, 0], [[0.25, 0.25, 0.0], [1.0, 0.0, 0.0]])
    """

    def __init__(
        self, vertices: ArrayLike, faces: ArrayLike, normals: Floats | None = None, *, threads: int | None = None
    ) -> None:
        points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3)
        corners = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
        if len(corners) == 0:
            raise ValueError("closest points need a mesh with at least one face")
        count = len(corners)
        records = np.empty((count, RECORD))
        parts = spans(count, FACES)
        if not all(run_chunks(lambda span: _fill_records(points, corners, *span, records), parts, threads)):
            raise ValueError("closest points need faces with finite corners; drop the others first")
        self.tree = arrange(records, LEAF, threads)
        self._scale = float(np.abs(self.tree.boxes[0]).max())
        self._frames = np.zeros((count, 12))
        self._normals = np.zeros((0, 3)) if normals is None else np.ascontiguousarray(normals, np.float64)
        run_chunks(
            lambda span: _fill_frames(points, corners, self.tree.order, *span, self._frames), parts, threads
        )  # fmt: skip

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
        queries = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        closest = np.empty((len(queries), 3))
        wanted = np.zeros((0, 3)) if normals is None else np.ascontiguousarray(normals, dtype=np.float64)
        sources = np.arange(len(wanted))
        distances, faces = self._answer(queries, normals is not None, wanted, sources, limit, closest, threads)
        return distances, faces, closest

    def nearest(
        self, points: ArrayLike, face_normals: Floats, sources: Ints, *, threads: int | None = None
    ) -> tuple[Floats, Ints]:
        """Distances and faces as :meth:`query` tells them for points that lie on faces of another mesh.

        Args:
            points: ``(Q, 3)``. face_normals: ``(G, 3)`` unit normals of the other mesh.
            sources: ``(Q,)`` int64, rows of ``face_normals``; the normal of each point.
        """
        queries = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        return self._answer(queries, True, face_normals, sources, np.inf, np.empty((0, 3)), threads)

    def _answer(
        self,
        queries: Floats,
        choose: bool,
        wanted: Floats,
        sources: Ints,
        limit: float,
        closest: Floats,
        threads: int | None,
    ) -> tuple[Floats, Ints]:
        if choose and len(self._normals) == 0:
            raise ValueError("build the index with normals to choose by normal")
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite")
        order = curve_order(queries)
        distances, faces = np.empty(len(queries)), np.empty(len(queries), np.int64)
        tree = self.tree

        def work(span: tuple[int, int]) -> None:
            _query(
                queries, order, *span, tree.boxes, tree.first, tree.size, tree.order, self._frames, limit * limit,
                self._scale, wanted, sources, self._normals, distances, faces, closest,
            )  # fmt: skip

        run_chunks(work, spans(len(queries), CHUNK), threads)
        return distances, faces


def closest_point_on_triangle(point: ArrayLike, triangle: ArrayLike) -> Floats:
    """Closest point ``(3,)`` of one ``triangle`` ``(3, 3)``; the same arithmetic as the index."""
    frames = _plane_frames(np.asarray(triangle, dtype=np.float64).reshape(1, 3, 3))
    x, y, z = np.asarray(point, dtype=np.float64)
    s, t = _nearest_in_plane(frames, 0, x, y, z)
    position: Floats = frames[0, :3] + s * frames[0, 3:6] + t * frames[0, 6:9]
    return position


@njit(nogil=True, cache=True, error_model="numpy")
def _plane_frames(triangles: Floats) -> Floats:
    """``(F, 12)``: base corner, unit base direction, unit height direction, base length, foot of the height, height."""
    frames = np.zeros((len(triangles), 12))
    for row in range(len(triangles)):
        _plane_frame(triangles[row], frames[row])
    return frames


@njit(nogil=True, cache=True, error_model="numpy")
def _plane_frame(triangle: Floats, frame: Floats) -> None:
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
def _fill_records(points: Floats, faces: Ints, start: int, stop: int, records: Floats) -> bool:
    """Boxes of some faces as :mod:`.bvh` wants them; whether all their corners are finite."""
    rest = 0.0
    for face in range(start, stop):
        for axis in range(3):
            a, b, c = points[faces[face, 0], axis], points[faces[face, 1], axis], points[faces[face, 2], axis]
            low, high = (a if a < b else b), (b if a < b else a)
            records[face, axis], records[face, axis + 4] = (c if c < low else low), -(c if c > high else high)
            rest += (a - a) + (b - b) + (c - c)  # NaN where one is not finite
        records[face, 3], records[face, 7] = face, 0.0
    return rest == 0.0


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_frames(points: Floats, faces: Ints, order: Ints, start: int, stop: int, frames: Floats) -> None:
    """Plane frames of the faces ``order[start:stop]``."""
    corners = np.empty((3, 3))
    for row in range(start, stop):
        for corner in range(3):
            for axis in range(3):
                corners[corner, axis] = points[faces[order[row], corner], axis]
        _plane_frame(corners, frames[row])


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
def _choose(
    distance: float, item: int, best: float, found: int, wanted: Floats, ids: Ints, normals: Floats, scale: float
) -> tuple[int, float]:
    """Face to tell and smallest squared distance, after a face within the window of the best so far was met."""
    if found < 0 or _tie_window(distance, scale) < best:
        found = item
    elif len(wanted) == 0:
        if ids[item] < ids[found]:
            found = item
    elif item != found and _better_normal(wanted, normals[ids[item]], normals[ids[found]], ids[item] < ids[found]):
        found = item
    return found, min(best, distance)


@njit(nogil=True, cache=True, error_model="numpy")
def _settle(
    points: Floats, rows: Ints, begin: int, end: int, lanes: Floats, squares: Floats, seen: Ints, tested: int,
    slack: float, wanted: Floats, sources: Ints, ids: Ints, frames: Floats, normals: Floats, limit: float,
    scale: float,
) -> None:  # fmt: skip
    """Decide, in the lanes that have several nearest faces, which one to tell, among the faces that were ``seen``."""
    nobody = wanted[:0].ravel()
    for lane in range(end - begin):  # from here on by the one formula that also decides for single points
        found = int(lanes[NEAREST + lane])
        if found >= 0 and lanes[SECOND + lane] <= lanes[BEST + lane] * (1.0 + 2.0 * SLACK) + slack:
            row = rows[begin + lane]
            lanes[SECOND + lane] = _squared_distance(frames, found, points[row, 0], points[row, 1], points[row, 2])
        else:
            lanes[SECOND + lane] = -1.0
    for place in range(tested):
        if not tied(squares, place, lanes, LANES, slack):
            continue
        item = seen[place]
        for lane in range(end - begin):
            best = lanes[SECOND + lane]
            if best < 0.0 or squares[place, lane] > lanes[BEST + lane] * (1.0 + 2.0 * SLACK) + slack:
                continue
            row = rows[begin + lane]
            distance = _squared_distance(frames, item, points[row, 0], points[row, 1], points[row, 2])
            if distance <= _tie_window(best, scale) and distance <= limit:
                found, lanes[SECOND + lane] = _choose(
                    distance, item, best, int(lanes[NEAREST + lane]), wanted[sources[row]] if len(wanted) else nobody,
                    ids, normals, scale,
                )  # fmt: skip
                lanes[NEAREST + lane] = found
    for lane in range(end - begin):
        if lanes[SECOND + lane] >= 0.0:
            lanes[BEST + lane] = lanes[SECOND + lane]


@njit(nogil=True, cache=True, error_model="numpy")
def _search(
    x: float, y: float, z: float, seed: int, wanted: Floats, boxes: Floats, first: Ints, size: Ints, ids: Ints,
    frames: Floats, normals: Floats, limit: float, scale: float, stack: Ints, bounds: Floats,
) -> tuple[int, float]:  # fmt: skip
    """Slot of the face to tell for one point, or -1, and the squared distance; ties are decided here."""
    best, found, window = limit, -1, limit
    if seed >= 0:
        distance = _squared_distance(frames, seed, x, y, z)
        if distance <= limit:
            best, found, window = distance, seed, _tie_window(distance, scale)
    stack[0] = 0
    bounds[0] = box_distance(boxes, 0, x, y, z)
    top = 1
    while top > 0:
        top -= 1
        if bounds[top] > window:
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
                bounds[top] = far_distance
                top += 1
            if near_distance > window:
                node = -1
                break
            node = near
        if node < 0:
            continue
        for item in range(first[node], first[node] + size[node]):
            distance = _squared_distance(frames, item, x, y, z)
            if distance <= window and distance <= limit:
                found, best = _choose(distance, item, best, found, wanted, ids, normals, scale)
                window = _tie_window(best, scale)
    return found, best


@njit(nogil=True, cache=True, error_model="numpy")
def _query(
    points: Floats, rows: Ints, start: int, stop: int, boxes: Floats, first: Ints, size: Ints, ids: Ints,
    frames: Floats, limit: float, scale: float, wanted: Floats, sources: Ints, normals: Floats,
    distances: Floats, faces: Ints, closest: Floats,
) -> None:  # fmt: skip
    stack, bounds = np.empty(STACK, np.int64), np.empty(STACK)
    lanes, packet = np.zeros(ROOM), np.empty(6)
    bits = lanes.view(np.int64)
    squares, seen = np.empty((BUDGET, LANES)), np.empty(BUDGET, np.int64)
    seeds = np.full(4, -1, np.int64)
    lane_limit = np.nextafter(limit, np.inf)
    slack = SLACK * scale * scale
    seed, nobody = -1, wanted[:0].ravel()
    given_up, alone = 0, 0
    for begin in range(start, stop, LANES):
        end = min(begin + LANES, stop)
        decided = False
        if alone > 0:
            alone -= 1
        elif end - begin >= LANES // 4:
            fill_lanes(points, rows, begin, end, lane_limit, lanes)
            seed_lanes(frames, seeds, lane_limit, slack, lanes, LANES, squares)
            tested = lower_packet(
                lanes, bits, LANES, slack, boxes, first, size, frames, stack, bounds, packet, squares, seen
            )
            decided = tested >= 0
            given_up = 0 if decided else min(given_up + 1, 3)
            alone = 0 if decided else 4**given_up
            if decided:
                for place in range(len(seeds)):
                    seeds[place] = int(lanes[NEAREST + (place + 1) * LANES // len(seeds) - 1])
                if undecided(lanes, LANES, slack):
                    _settle(
                        points, rows, begin, end, lanes, squares, seen, tested, slack, wanted, sources, ids, frames,
                        normals, limit, scale,
                    )  # fmt: skip
        for slot in range(begin, end):
            row, lane = rows[slot], slot - begin
            x, y, z = points[row, 0], points[row, 1], points[row, 2]
            if decided:
                best, found = lanes[BEST + lane], int(lanes[NEAREST + lane])
            else:
                found, best = _search(
                    x, y, z, seed, wanted[sources[row]] if len(wanted) > 0 else nobody, boxes, first, size, ids, frames,
                    normals, limit, scale, stack, bounds,
                )  # fmt: skip
            if found < 0:
                distances[row] = np.inf
                faces[row] = -1
                if len(closest) > 0:
                    closest[row] = np.nan
                continue
            seed = found
            distances[row] = np.sqrt(best)
            faces[row] = ids[found]
            if len(closest) > 0:
                s, t = _nearest_in_plane(frames, found, x, y, z)
                for axis in range(3):
                    closest[row, axis] = frames[found, axis] + s * frames[found, 3 + axis] + t * frames[found, 6 + axis]
