"""Exact nearest neighbours between point sets in 3D, by a tree of tight boxes walked near side first."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .bvh import STACK, build_bvh
from .bvh_descent import next_leaf
from .closest_point import CHUNK, curve_order
from .threads import run_chunks, spans

LEAF = 8


class NearestNeighbourIndex:
    """Search structure over ``points`` ``(P, 3)``, finite, at least one; read-only, so threads may share it.

    >>> NearestNeighbourIndex([[0, 0, 0], [1, 0, 0]]).query([[0.75, 0, 0]])
    (array([0.25]), array([1]))
    """

    def __init__(self, points: ArrayLike) -> None:
        positions = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        if len(positions) == 0:
            raise ValueError("nearest neighbours need at least one point")
        self._tree = build_bvh(positions, positions, leaf_size=LEAF)
        self._points = positions[self._tree.order]

    def query(self, points: ArrayLike, *, threads: int | None = None) -> tuple[Floats, Ints]:
        """Distance ``(Q,)`` to the nearest point and its id ``(Q,)`` int64, for ``points`` ``(Q, 3)``.

        Of equally near points the smallest id is given. The result does not depend on ``threads``.

        Raises:
            ValueError: a query is not finite.
        """
        queries = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(queries).all():
            raise ValueError("queries must be finite")
        order = curve_order(queries)
        distances, ids = np.empty(len(queries)), np.empty(len(queries), np.int64)
        tree = self._tree

        def work(span: tuple[int, int]) -> None:
            _query(
                queries, order, *span, tree.boxes, tree.first, tree.size, tree.order, self._points, distances, ids
            )  # fmt: skip

        run_chunks(work, spans(len(queries), CHUNK), threads)
        return distances, ids


@njit(nogil=True, cache=True, error_model="numpy")
def _squared_distance(points: Floats, row: int, x: float, y: float, z: float) -> float:
    return (points[row, 0] - x) ** 2 + (points[row, 1] - y) ** 2 + (points[row, 2] - z) ** 2


@njit(nogil=True, cache=True, error_model="numpy")
def _query(
    queries: Floats, rows: Ints, start: int, stop: int, boxes: Floats, first: Ints, size: Ints, ids: Ints,
    points: Floats, distances: Floats, nearest: Ints,
) -> None:  # fmt: skip
    stack = np.empty(STACK, np.int64)
    bounds = np.empty(STACK)
    found = 0
    for slot in range(start, stop):
        row = rows[slot]
        x, y, z = queries[row, 0], queries[row, 1], queries[row, 2]
        best = _squared_distance(points, found, x, y, z)  # the answer of the neighbour on the curve bounds this one
        stack[0] = 0
        bounds[0] = 0.0
        top = 1
        while True:
            leaf, top = next_leaf(boxes, first, size, x, y, z, best, stack, bounds, top)
            if leaf < 0:
                break
            for item in range(first[leaf], first[leaf] + size[leaf]):
                distance = _squared_distance(points, item, x, y, z)
                if distance < best or (distance == best and ids[item] < ids[found]):
                    best, found = distance, item
        distances[row] = np.sqrt(best)
        nearest[row] = ids[found]
