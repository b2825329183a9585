"""Values of sparse voxels at points, and the filling of texels between charts."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Floats, Ints
from .coordinate_index import CoordinateIndex
from .lattice_index import LatticeIndex, row_of, word_at
from .threads import run_chunks, spans

CHUNK = 1 << 15
Image = NDArray[np.float32]


def sparse_trilinear(
    index: CoordinateIndex, values: Image, positions: Floats, *, threads: int | None = None
) -> tuple[Image, Bools]:
    """Trilinear values between the centres of voxels; missing voxels are left out and the other weights grow.

    Args:
        index: over ``(N, 4)`` coordinates with batch 0. values: ``(N, C)`` float32.
        positions: ``(Q, 3)`` in voxels: the centre of voxel ``c`` is at ``c + 0.5``.
    Returns:
        ``(Q, C)`` float32, 0 where none of the eight voxels is there, and ``(Q,)`` whether one is.
    Source: TRELLIS.2 (arXiv 2512.14692), sparse ``grid_sample_3d``.

    >>> index = CoordinateIndex(np.array([[0, 0, 0, 0], [0, 1, 0, 0]]))
    >>> found, there = sparse_trilinear(
    ...     index, np.array([[0], [1]], np.float32), np.array([[0.75, 0.5, 0.5], [9.0, 9.0, 9.0]]))
    >>> found.tolist(), there.tolist()
    ([[0.25], [0.0]], [True, False])
    """
    places = np.ascontiguousarray(positions, np.float64)
    feats = np.ascontiguousarray(values, np.float32)
    result, there = np.zeros((len(places), feats.shape[1]), np.float32), np.zeros(len(places), np.bool_)
    origin = np.ascontiguousarray(index.origin)
    run_chunks(
        lambda span: _trilinear(index.lattice, origin, feats, places, *span, result, there),
        spans(len(places), CHUNK),
        threads,
    )
    return result, there


@njit(nogil=True, cache=True, error_model="numpy")
def _trilinear(
    index: LatticeIndex, origin: Ints, feats: Image, places: Floats, start: int, stop: int, result: Image, there: Bools
) -> None:
    shape = index.shape
    total = np.empty(feats.shape[1])
    for i in range(start, stop):
        x, y, z = places[i, 0] - 0.5, places[i, 1] - 0.5, places[i, 2] - 0.5
        if not (abs(x) < 1e9 and abs(y) < 1e9 and abs(z) < 1e9):
            continue
        bx, by, bz = np.floor(x), np.floor(y), np.floor(z)
        total[:] = 0.0
        weights = 0.0
        for corner in range(8):
            dx, dy, dz = corner & 1, corner >> 1 & 1, corner >> 2 & 1
            cx = np.int64(bx) + dx - origin[1]
            cy = np.int64(by) + dy - origin[2]
            cz = np.int64(bz) + dz - origin[3]
            if cx < 0 or cy < 0 or cz < 0 or cx >= shape[1] or cy >= shape[2] or cz >= shape[3]:
                continue
            word = word_at(index, np.int64(0), cx, cy, cz >> 6)
            if word < 0 or (index.present[word] >> np.uint64(cz & 63)) & np.uint64(1) == 0:
                continue
            weight = (x - bx if dx else 1 - (x - bx)) * (y - by if dy else 1 - (y - by))
            weight *= z - bz if dz else 1 - (z - bz)
            row = row_of(index, word, cz & 63)
            weights += weight
            for channel in range(feats.shape[1]):
                total[channel] += weight * feats[row, channel]
        if weights > 1e-12:
            there[i] = True
            for channel in range(feats.shape[1]):
                result[i, channel] = total[channel] / weights


def fill_between(image: Image, known: Bools, *, rings: int, threads: int | None = None) -> None:
    """Give every texel a value, in place: near charts the mean of known neighbours, ring by ring, then of ever larger
    blocks, so that neither bilinear lookup nor smaller copies of the texture mix in a colour from nowhere.

    Args:
        image: ``(H, W, C)`` float32. known: ``(H, W)``; left as it is. rings: texels around charts.
    """
    if not known.any():
        return
    filled = known.copy()
    height = image.shape[0]
    for _ in range(rings):
        if filled.all():
            return
        grown = filled.copy()
        ring = partial(_ring, image, filled, grown)
        run_chunks(lambda span, ring=ring: ring(*span), spans(height, 128), threads)  # type: ignore[misc]
        filled = grown
    _pull(image, filled, threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _ring(image: Image, filled: Bools, grown: Bools, start: int, stop: int) -> None:
    height, width, channels = image.shape
    for row in range(start, stop):
        for column in range(width):
            if filled[row, column]:
                continue
            count = 0
            for r in range(max(row - 1, 0), min(row + 2, height)):
                for c in range(max(column - 1, 0), min(column + 2, width)):
                    if filled[r, c]:
                        if count == 0:
                            for k in range(channels):
                                image[row, column, k] = 0.0
                        count += 1
                        for k in range(channels):
                            image[row, column, k] += image[r, c, k]
            if count:
                grown[row, column] = True
                for k in range(channels):
                    image[row, column, k] /= count


def _pull(image: Image, filled: Bools, threads: int | None = None) -> None:
    """What is still empty takes the mean of the 2 x 2 block of a smaller copy that is filled in the same way."""
    height, width, channels = image.shape
    if filled.all() or min(height, width) < 2:
        if not filled.all():
            image[~filled] = image[filled].mean(axis=0)
        return
    rows, columns = (height + 1) // 2, (width + 1) // 2
    small, some = np.zeros((rows, columns, channels), np.float32), np.zeros((rows, columns), np.bool_)
    parts = spans(rows, 64)
    run_chunks(lambda span: _halve(image, filled, small, some, *span), parts, threads)
    _pull(small, some, threads)
    run_chunks(lambda span: _spread(image, filled, small, *span), parts, threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _halve(image: Image, filled: Bools, small: Image, some: Bools, start: int, stop: int) -> None:
    height, width, channels = image.shape
    for row in range(start, stop):
        for column in range(small.shape[1]):
            count = 0
            for r in range(2 * row, min(2 * row + 2, height)):
                for c in range(2 * column, min(2 * column + 2, width)):
                    if filled[r, c]:
                        count += 1
                        for k in range(channels):
                            small[row, column, k] += image[r, c, k]
            some[row, column] = count > 0
            for k in range(channels):
                small[row, column, k] /= max(count, 1)


@njit(nogil=True, cache=True, error_model="numpy")
def _spread(image: Image, filled: Bools, small: Image, start: int, stop: int) -> None:
    height, width, channels = image.shape
    for row in range(2 * start, min(2 * stop, height)):
        for column in range(width):
            if not filled[row, column]:
                for k in range(channels):
                    image[row, column, k] = small[row >> 1, column >> 1, k]
