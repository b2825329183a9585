"""Flexible dual grid to mesh, the connectivity: which four voxels form the quad around each crossed grid edge.

Rows in lexicographic order make every neighbour's key a constant offset of the voxel's own, so that three pointers that
only move forward follow the three neighbouring columns: no hash map, no search. Other row orders are sorted first, and
the quads come out in the caller's order all the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Ints
from .threads import run_chunks, spans

ROWS_PER_CHUNK = 1 << 17


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_keys(coords: Any, shape: tuple[int, int, int, int], start: int, stop: int, keys: Ints) -> int:
    """Keys of some rows; 0: sorted, 1: not sorted, 2: a row repeats the one before it, 3: outside ``shape``."""
    state = 0
    for row in range(start, stop):
        key = np.int64(0)
        for axis in range(4):
            if coords[row, axis] < 0 or coords[row, axis] >= shape[axis]:
                return 3
            # One more than the grid has, so that a neighbour beyond the border has a key of its own.
            key = key * (shape[axis] + 1) + np.int64(coords[row, axis])
        keys[row] = key
        if row > start and state == 0:
            state = 1 if key < keys[row - 1] else (2 if key == keys[row - 1] else 0)
    return state


@njit(nogil=True, cache=True, error_model="numpy")
def _walk_quads(
    keys: Ints,
    order: Ints,
    intersected: Any,
    step_x: int,
    step_y: int,
    start: int,
    stop: int,
    complete: NDArray[np.uint8],
    places: Ints,
    quads: Ints,
    fill: bool,
) -> None:
    """For the sorted rows ``start..stop``: note in ``complete`` (by caller's row) which quads exist or, with ``fill``,
    write them from ``places[row]`` on."""
    total = len(keys)
    # First row whose key is not below that of the neighbours (x, y + 1, z), (x + 1, y, z), (x + 1, y + 1, z).
    at_y = np.searchsorted(keys, keys[start] + step_y)
    at_x = np.searchsorted(keys, keys[start] + step_x)
    at_xy = np.searchsorted(keys, keys[start] + step_x + step_y)
    for i in range(start, stop):
        key = keys[i]
        while at_y < total and keys[at_y] < key + step_y:
            at_y += 1
        while at_x < total and keys[at_x] < key + step_x:
            at_x += 1
        while at_xy < total and keys[at_xy] < key + step_x + step_y:
            at_xy += 1
        row = order[i] if len(order) > 0 else i
        has_y = at_y < total and keys[at_y] == key + step_y
        has_x = at_x < total and keys[at_x] == key + step_x
        has_xy = at_xy < total and keys[at_xy] == key + step_x + step_y
        has_z = i + 1 < total and keys[i + 1] == key + 1
        # The voxel above a neighbour is the next row, or the pointed one where the neighbour itself is missing.
        at_yz = at_y + 1 if has_y else at_y
        at_xz = at_x + 1 if has_x else at_x
        has_yz = at_yz < total and keys[at_yz] == key + step_y + 1
        has_xz = at_xz < total and keys[at_xz] == key + step_x + 1
        along_x = intersected[row, 0] and has_z and has_yz and has_y
        along_y = intersected[row, 1] and has_x and has_xz and has_z
        along_z = intersected[row, 2] and has_y and has_xy and has_x
        if not fill:
            complete[row] = np.uint8(along_x) | (np.uint8(along_y) << np.uint8(1)) | (np.uint8(along_z) << np.uint8(2))
            continue
        place = places[row]
        here = order[i] if len(order) > 0 else i
        if along_x:
            quads[place, 0], quads[place, 1], quads[place, 2], quads[place, 3] = here, i + 1, at_yz, at_y
            place += 1
        if along_y:
            quads[place, 0], quads[place, 1], quads[place, 2], quads[place, 3] = here, at_x, at_xz, i + 1
            place += 1
        if along_z:
            quads[place, 0], quads[place, 1], quads[place, 2], quads[place, 3] = here, at_y, at_xy, at_x
            place += 1
        if len(order) > 0:
            for q in range(places[row], place):
                for k in range(1, 4):
                    quads[q, k] = order[quads[q, k]]


@njit(nogil=True, cache=True, error_model="numpy")
def _place_quads(complete: NDArray[np.uint8], places: Ints) -> int:
    total = np.int64(0)
    for row in range(len(complete)):
        places[row] = total
        bits = complete[row]
        total += (bits & 1) + ((bits >> 1) & 1) + ((bits >> 2) & 1)
    return int(total)


def flexible_dual_grid_quads(
    coords: NDArray[np.integer[Any]],
    intersected: Bools,
    *,
    grid_size: tuple[int, int, int],
    threads: int | None = None,
) -> Ints:
    """Quads around the crossed grid edges, as row numbers.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]`` inside the grid, in any order, none twice.
        intersected: ``(N, 3)`` bool flags of the edges along x, y, z at the upper corner in the other two axes.
        grid_size: cells an axis.
        threads: ``None`` for all processors; the result is the same for every number.
    Returns:
        ``(Q, 4)`` int64, in row-major order of (row, axis). A quad that lacks a voxel is left out. Corners as cell
        offsets xyz: along x 000 001 011 010, along y 000 100 101 001, along z 000 010 110 100.
    Raises:
        ValueError: shapes do not fit, a row lies outside the grid, or a voxel occurs twice.
    Source: TRELLIS.2 (arXiv 2512.14692), spec section 1.7.

    >>> coords = np.array([[0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 1, 1, 0]])
    >>> flags = np.zeros((4, 3), bool); flags[0] = True
    >>> flexible_dual_grid_quads(coords, flags, grid_size=(2, 2, 2)).tolist()
    [[0, 1, 3, 2]]
    """
    if coords.ndim != 2 or coords.shape[1] != 4 or not np.issubdtype(coords.dtype, np.integer):
        raise ValueError(f"coords must be integer (N, 4) rows [batch, x, y, z], not {coords.dtype} {coords.shape}")
    if intersected.shape != (len(coords), 3):
        raise ValueError(f"intersected must be ({len(coords)}, 3), not {intersected.shape}")
    if len(coords) == 0:
        return np.empty((0, 4), np.int64)
    batches = int(coords[:, 0].max()) + 1
    shape = (batches, int(grid_size[0]), int(grid_size[1]), int(grid_size[2]))
    if (batches + 1) * (shape[1] + 1) * (shape[2] + 1) * (shape[3] + 1) >= 1 << 62:
        raise ValueError(f"{batches} grids of {grid_size} cells have no 64-bit keys; split the batch")
    coords, flags = np.ascontiguousarray(coords), np.ascontiguousarray(intersected, np.bool_)
    step_y = shape[3] + 1
    step_x = step_y * (shape[2] + 1)
    keys = np.empty(len(coords), np.int64)
    chunks = spans(len(coords), ROWS_PER_CHUNK)
    states = run_chunks(lambda c: _fill_keys(coords, shape, *c, keys), chunks, threads)
    if 3 in states:
        raise ValueError(f"coords lie outside the grid of {shape} cells [batch, x, y, z]")
    order = np.empty(0, np.int64)
    borders = np.array([start for start, _ in chunks[1:]], np.int64)
    if any(states) or np.any(keys[borders] <= keys[borders - 1]):
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        if np.any(keys[1:] == keys[:-1]):
            raise ValueError("coords hold a voxel twice; merge the rows first")
    complete, places = np.empty(len(coords), np.uint8), np.empty(len(coords), np.int64)
    quads = np.empty((0, 4), np.int64)

    def walk(chunk: tuple[int, int], fill: bool) -> None:
        _walk_quads(keys, order, flags, step_x, step_y, *chunk, complete, places, quads, fill)

    run_chunks(lambda c: walk(c, False), chunks, threads)
    quads = np.empty((_place_quads(complete, places), 4), np.int64)
    run_chunks(lambda c: walk(c, True), chunks, threads)
    return quads
