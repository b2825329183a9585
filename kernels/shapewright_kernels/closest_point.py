"""Exact closest points on a triangle mesh, in float64, for any number of queries.

Every triangle is kept in its own plane frame (:mod:`.plane_frames`), where slivers keep their digits. Queries are
answered in the order of a space-filling curve, in packets (:mod:`.point_packets`), each of which starts from the
answers of its predecessor.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .bvh import RECORD, arrange
from .closest_point_search import TIE as TIE
from .closest_point_search import answer_queries
from .curve_order import curve_order as curve_order
from .plane_frames import nearest_in_plane, plane_frame, plane_frames
from .threads import run_chunks, spans

CHUNK = 4096
"""Queries a task: fixed, so that the answers do not depend on the number of threads."""
FACES = 16384
"""Faces a task while an index is built."""
LEAF = 4


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
            answer_queries(
                queries, order, *span, tree.boxes, tree.first, tree.size, tree.order, self._frames, limit * limit,
                self._scale, wanted, sources, self._normals, distances, faces, closest,
            )  # fmt: skip

        run_chunks(work, spans(len(queries), CHUNK), threads)
        return distances, faces


def closest_point_on_triangle(point: ArrayLike, triangle: ArrayLike) -> Floats:
    """Closest point ``(3,)`` of one ``triangle`` ``(3, 3)``; the same arithmetic as the index."""
    frames = plane_frames(np.asarray(triangle, dtype=np.float64).reshape(1, 3, 3))
    x, y, z = np.asarray(point, dtype=np.float64)
    s, t = nearest_in_plane(frames, 0, x, y, z)
    position: Floats = frames[0, :3] + s * frames[0, 3:6] + t * frames[0, 6:9]
    return position


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
        plane_frame(corners, frames[row])
