"""Uniform points on triangles by area and on segments by length, from random numbers that the caller draws."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Floats, Ints
from .rows import norm_rows
from .threads import run_chunks, spans

CHUNK = 1 << 16


def sample_triangles(
    corners: ArrayLike, areas: ArrayLike, uniforms: ArrayLike, *, threads: int | None = None
) -> tuple[Floats, Ints]:
    """Area-uniform points, grouped by triangle.

    Triangle by its place in the cumulative area, then ``(1 - sqrt(r1)) a + sqrt(r1) (1 - r2) b + sqrt(r1) r2 c``
    (Osada, Funkhouser, Chazelle and Dobkin 2002).

    Args:
        corners: ``(F, 3, 3)`` floats. areas: ``(F,)`` floats, at least one positive.
        uniforms: ``(N, 3)`` floats in [0, 1): which triangle, ``r1``, ``r2``.
        threads: as in :func:`~shapewright_kernels.threads.run_chunks`; does not change the result.
    Returns:
        points ``(N, 3)`` float64 and triangle ids ``(N,)`` int64, ascending.
    Raises:
        ValueError: the total area is zero or not finite.

    >>> points, ids = sample_triangles([[[0, 0, 0], [4, 0, 0], [0, 4, 0]]], [8.0], [[0.5, 0.25, 0.5]])
    >>> points.tolist(), ids.tolist()
    ([[1.0, 1.0, 0.0]], [0])
    """
    triangles = np.ascontiguousarray(corners, dtype=np.float64).reshape(-1, 3, 3)
    draws = np.ascontiguousarray(uniforms, dtype=np.float64).reshape(-1, 3)
    ids = _choose(np.asarray(areas, dtype=np.float64), draws[:, 0], "area", threads)
    points = np.empty((len(ids), 3))
    run_chunks(lambda span: _points_on_triangles(triangles, ids, draws, *span, points), spans(len(ids), CHUNK), threads)
    return points, ids


def sample_segments(ends: ArrayLike, uniforms: ArrayLike) -> tuple[Floats, Ints]:
    """Length-uniform points on segments ``ends`` ``(S, 2, 3)`` from ``uniforms`` ``(N, 2)``; as the triangles.

    Returns:
        points ``(N, 3)`` float64 and segment ids ``(N,)`` int64, ascending.
    Raises:
        ValueError: the total length is zero or not finite.
    """
    pairs = np.ascontiguousarray(ends, dtype=np.float64).reshape(-1, 2, 3)
    draws = np.ascontiguousarray(uniforms, dtype=np.float64).reshape(-1, 2)
    run = pairs[:, 1] - pairs[:, 0]
    ids = _choose(norm_rows(run), draws[:, 0], "length")
    return pairs[ids, 0] + draws[:, 1:] * run[ids], ids


def _choose(measures: Floats, uniforms: Floats, what: str, threads: int | None = None) -> Ints:
    """Index drawn with probability proportional to ``measures`` for each of ``uniforms``, ascending."""
    total = np.cumsum(measures)
    if len(total) == 0 or not 0 < total[-1] < np.inf:
        raise ValueError(f"nothing can be sampled: the total {what} is {total[-1] if len(total) else 0.0}")
    last = int(np.flatnonzero(measures)[-1])  # rounding of the product may reach the end
    wanted = np.sort(uniforms) * total[-1]
    ids = np.empty(len(wanted), np.int64)
    run_chunks(lambda span: _walk(total, wanted, *span, last, ids), spans(len(wanted), CHUNK), threads)
    return ids


@njit(nogil=True, cache=True, error_model="numpy")
def _walk(total: Floats, wanted: Floats, start: int, stop: int, last: int, ids: Ints) -> None:
    """Number of entries of ``total`` that are at most ``wanted``, both ascending; never more than ``last``."""
    place, end = 0, len(total)
    while place < end:
        middle = (place + end) // 2
        if total[middle] <= wanted[start]:
            place = middle + 1
        else:
            end = middle
    for row in range(start, stop):
        while place < last and total[place] <= wanted[row]:
            place += 1
        ids[row] = min(place, last)


@njit(nogil=True, cache=True, error_model="numpy")
def _points_on_triangles(triangles: Floats, ids: Ints, draws: Floats, start: int, stop: int, points: Floats) -> None:
    for row in range(start, stop):
        face = ids[row]
        root = np.sqrt(draws[row, 1])
        b, c = root * (1.0 - draws[row, 2]), root * draws[row, 2]
        for axis in range(3):
            a = triangles[face, 0, axis]
            points[row, axis] = a + b * (triangles[face, 1, axis] - a) + c * (triangles[face, 2, axis] - a)
