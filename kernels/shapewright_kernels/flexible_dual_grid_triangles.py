"""Quads to triangles, and meshes without unused vertices: index arithmetic over millions of rows.

Corners of a quad are numbered 0 to 3 around it; diagonal 0-2 gives triangles (0, 1, 2), (0, 2, 3), diagonal 1-3 gives
(0, 1, 3), (3, 1, 2). Source: TRELLIS.2 (arXiv 2512.14692), spec section 1.7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Ints
from .threads import run_chunks, spans

CHUNK = 1 << 17


def cut_quads_with_area(quads: Ints, vertices: NDArray[np.floating[Any]], threads: int | None = None) -> Ints:
    """Triangles ``(2 Q, 3)`` of quads ``(Q, 4)``: along 0-2, but along 1-3 where triangle 0-1-2 has no area.

    Args:
        quads: int64 rows of ``vertices`` ``(V, 3)``, whose precision the test for area is done in.
        threads: never changes the result.
    """
    faces = np.empty((2 * len(quads), 3), np.int64)
    run_chunks(lambda c: _cut_with_area(quads, vertices, *c, faces), spans(len(quads), CHUNK), threads)
    return faces


def cut_quads_by_weight(quads: Ints, weights: NDArray[np.floating[Any]], threads: int | None = None) -> Ints:
    """Triangles ``(2 Q, 3)`` of quads ``(Q, 4)``: along 0-2 where the product of its ends' ``weights`` is larger."""
    faces = np.empty((2 * len(quads), 3), np.int64)
    run_chunks(lambda c: _cut_by_weight(quads, weights, *c, faces), spans(len(quads), CHUNK), threads)
    return faces


def drop_unused(faces: Ints, vertices: int, threads: int | None = None) -> Ints:
    """Rows ``(U,)`` int64, ascending, of the ``vertices`` that ``faces`` ``(F, k)`` use; renumbers ``faces`` *in place*
    in terms of them."""
    place = np.zeros(vertices, np.int64)
    run_chunks(lambda c: _mark(faces, *c, place), spans(len(faces), CHUNK), threads)  # all write the same value
    used = np.flatnonzero(place)
    if len(used) < vertices:
        place[used] = np.arange(len(used))
        run_chunks(lambda c: _renumber(faces, *c, place), spans(len(faces), CHUNK), threads)
    return used


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _write(quads: Ints, row: int, along_02: bool, faces: Ints) -> None:
    a, b, c, d = quads[row, 0], quads[row, 1], quads[row, 2], quads[row, 3]
    faces[2 * row, 0], faces[2 * row, 1], faces[2 * row, 2] = a, b, c if along_02 else d
    faces[2 * row + 1, 0] = a if along_02 else d
    faces[2 * row + 1, 1] = c if along_02 else b
    faces[2 * row + 1, 2] = d if along_02 else c


@njit(nogil=True, cache=True, error_model="numpy")
def _cut_with_area(quads: Ints, vertices: Any, start: int, stop: int, faces: Ints) -> None:
    for row in range(start, stop):
        a, b, c = quads[row, 0], quads[row, 1], quads[row, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        area = uy * vz - uz * vy != 0.0 or uz * vx - ux * vz != 0.0 or ux * vy - uy * vx != 0.0
        _write(quads, row, area, faces)


@njit(nogil=True, cache=True, error_model="numpy")
def _cut_by_weight(quads: Ints, weights: Any, start: int, stop: int, faces: Ints) -> None:
    for row in range(start, stop):
        first = weights[quads[row, 0]] * weights[quads[row, 2]]
        _write(quads, row, first > weights[quads[row, 1]] * weights[quads[row, 3]], faces)


@njit(nogil=True, cache=True, error_model="numpy")
def _mark(faces: Ints, start: int, stop: int, place: Ints) -> None:
    for row in range(start, stop):
        for corner in range(faces.shape[1]):
            place[faces[row, corner]] = 1


@njit(nogil=True, cache=True, error_model="numpy")
def _renumber(faces: Ints, start: int, stop: int, place: Ints) -> None:
    for row in range(start, stop):
        for corner in range(faces.shape[1]):
            faces[row, corner] = place[faces[row, corner]]
