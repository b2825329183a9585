"""Where the texels of a texture are on a mesh, and which voxel is nearest to a point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
from .coordinate_index import CoordinateIndex
from .lattice_index import LatticeIndex, row_of, word_at
from .threads import run_chunks, spans

ROWS = 64
"""Rows of a texture in one piece of work."""
CHUNK = 1 << 14
"""Points in one piece of work."""


def texel_points(
    vertices: Floats,
    faces: Ints,
    known: Bools,
    owners: NDArray[np.int32],
    weights: NDArray[np.float32],
    *,
    threads: int | None = None,
) -> Floats:
    """Points ``(N, 3)`` of the texels that are ``known`` ``(H, W)``, row by row.

    Args:
        owners: ``(H, W)`` the face of each. weights: ``(H, W, 3)`` of its corners.

    >>> corners = np.array([[0.0, 0, 0], [4, 0, 0], [0, 4, 0]])
    >>> weights = np.array([[[0.5, 0.25, 0.25], [0, 0, 0]]], np.float32)
    >>> owners = np.array([[0, -1]], np.int32)
    >>> texel_points(corners, np.array([[0, 1, 2]]), owners >= 0, owners, weights).tolist()
    [[1.0, 1.0, 0.0]]
    """
    starts = np.concatenate([[0], np.cumsum(known.sum(axis=1))])
    points = np.empty((int(starts[-1]), 3))
    run_chunks(
        lambda span: _points(vertices, faces, known, owners, weights, starts, *span, points),
        spans(len(known), ROWS),
        threads,
    )
    return points


@njit(nogil=True, cache=True, error_model="numpy")
def _points(
    vertices: Floats, faces: Ints, known: Bools, owners: Any, weights: Any, starts: Ints, start: int, stop: int,
    points: Floats,
) -> None:  # fmt: skip
    for row in range(start, stop):
        place = starts[row]
        for column in range(known.shape[1]):
            if known[row, column]:
                face = owners[row, column]
                for axis in range(3):
                    total = 0.0
                    for corner in range(3):
                        total += weights[row, column, corner] * vertices[faces[face, corner], axis]
                    points[place, axis] = total
                place += 1


def texel_bytes(
    values: NDArray[np.float32], channels: tuple[int, ...], *, threads: int | None = None
) -> NDArray[np.uint8]:
    """``(H, W, len(channels))``: channels of ``values`` ``(H, W, C)`` in [0, 1] as rounded bytes; a channel of -1
    is 255 everywhere.

    >>> texel_bytes(np.array([[[0.5, 2.0]]], np.float32), (1, -1, 0)).tolist()
    [[[255, 255, 128]]]
    """
    result = np.empty((*values.shape[:2], len(channels)), np.uint8)
    chosen = np.array(channels, np.int64)
    run_chunks(lambda span: _bytes(values, chosen, *span, result), spans(len(values), ROWS), threads)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _bytes(values: Any, channels: Ints, start: int, stop: int, result: Any) -> None:
    for row in range(start, stop):
        for column in range(values.shape[1]):
            for k in range(len(channels)):
                value = values[row, column, channels[k]] if channels[k] >= 0 else np.float32(1.0)
                result[row, column, k] = np.uint8(min(max(value, np.float32(0.0)), np.float32(1.0)) * 255 + 0.5)


def nearest_voxels(index: CoordinateIndex, positions: Floats, *, reach: int = 8, threads: int | None = None) -> Ints:
    """Rows ``(Q,)`` of the voxels whose centres are nearest; -1 where none is found within ``reach`` voxels.

    Args:
        index: over ``(N, 4)`` coordinates with batch 0.
        positions: ``(Q, 3)`` in voxels: the centre of voxel ``c`` is at ``c + 0.5``.
        reach: shells of voxels around that of the position that are looked through; the answer is exact where there
            is one.

    >>> index = CoordinateIndex(np.array([[0, 0, 0, 0], [0, 5, 0, 0]]))
    >>> nearest_voxels(index, np.array([[3.5, 0.5, 0.5], [99.0, 0, 0]])).tolist()
    [1, -1]
    """
    places = np.ascontiguousarray(positions, np.float64)
    rows = np.full(len(places), -1, np.int64)
    origin = np.ascontiguousarray(index.origin)
    run_chunks(
        lambda span: _nearest(index.lattice, origin, places, reach, *span, rows), spans(len(places), CHUNK), threads
    )
    return rows


@njit(nogil=True, cache=True, error_model="numpy")
def _nearest(index: LatticeIndex, origin: Ints, places: Floats, reach: int, start: int, stop: int, rows: Ints) -> None:
    limit = 1e9
    for i in range(start, stop):
        x, y, z = places[i, 0], places[i, 1], places[i, 2]
        if not (abs(x) < limit and abs(y) < limit and abs(z) < limit):
            continue
        ox, oy, oz = origin[1], origin[2], origin[3]
        cx, cy, cz = np.int64(np.floor(x)) - ox, np.int64(np.floor(y)) - oy, np.int64(np.floor(z)) - oz
        best = np.inf
        for shell in range(reach + 1):
            # a voxel of this shell is at least so far
            if shell > 0 and best <= (shell - 0.5) * (shell - 0.5):
                break
            for vx in range(max(cx - shell, 0), min(cx + shell + 1, index.shape[1])):
                for vy in range(max(cy - shell, 0), min(cy + shell + 1, index.shape[2])):
                    on_side = abs(vx - cx) == shell or abs(vy - cy) == shell
                    step = 1 if on_side or shell == 0 else 2 * shell
                    for vz in range(cz - shell, cz + shell + 1, step):
                        if vz < 0 or vz >= index.shape[3]:
                            continue
                        dx, dy, dz = vx + ox + 0.5 - x, vy + oy + 0.5 - y, vz + oz + 0.5 - z
                        far = dx * dx + dy * dy + dz * dz
                        if far >= best:
                            continue
                        word = word_at(index, np.int64(0), vx, vy, vz >> 6)
                        if word >= 0 and (index.present[word] >> np.uint64(vz & 63)) & np.uint64(1) != 0:
                            best = far
                            rows[i] = row_of(index, word, vz & 63)
        if best > (reach + 0.5) * (reach + 0.5):
            rows[i] = -1  # one beyond the last shell may be nearer
