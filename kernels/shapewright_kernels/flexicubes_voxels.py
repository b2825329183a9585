"""Voxels and their corners on a lattice: unique corners of sparse voxels, complete voxels of sparse lattice points.

Both walk sorted z columns side by side, so they are linear, need no hash and no sort, and run by x planes on threads.
Coordinates are ``(N, 3)`` int32 rows in strictly lexicographic order (x slowest), inputs and outputs alike.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Bools, Ints
from .threads import run_chunks, thread_count

Rows = NDArray[np.int32]
_BLOCKS = 64
"""Units of work along x, enough to balance uneven planes."""


@njit(nogil=True, cache=True, error_model="numpy")
def _first_unsorted(coords: Rows) -> int:
    """First row that does not follow its predecessor strictly, or -1."""
    for i in range(1, len(coords)):
        for axis in range(3):
            if coords[i, axis] != coords[i - 1, axis]:
                if coords[i, axis] < coords[i - 1, axis]:
                    return i
                break
        else:
            return i
    return -1


@njit(nogil=True, cache=True, error_model="numpy")
def _plane_starts(coords: Rows, first: int, last: int, start: Ints) -> None:
    """``start[y]`` = first row in ``first..last`` (one x plane) whose y is at least ``y``."""
    row = first
    for y in range(len(start)):
        while row < last and coords[row, 1] < y:
            row += 1
        start[y] = row


@njit(nogil=True, cache=True, error_model="numpy")
def _corner_planes(
    voxels: Rows, planes: Ints, ny: int, low: int, high: int, write: bool, at: int, corners: Rows, cubes: Ints
) -> int:
    """Corners of the planes ``low..high``: merge of the four voxel columns around each corner column; returns the next
    id."""
    behind = np.empty(ny + 2, np.int64)
    ahead = np.empty(ny + 2, np.int64)
    pointer = np.empty(4, np.int64)
    stop = np.empty(4, np.int64)
    upper = np.empty(4, np.int64)
    nx = len(planes) - 1
    for x in range(low, high):
        if x > 0:
            _plane_starts(voxels, planes[x - 1], planes[x], behind)
        else:
            behind[:] = 0
        if x < nx:
            _plane_starts(voxels, planes[x], planes[x + 1], ahead)
        else:
            ahead[:] = 0
        for y in range(ny + 1):
            # Column k: bit 0 = the corner is on the voxel's upper x side, bit 1 = on its upper y side.
            for k in range(4):
                start = behind if k & 1 else ahead
                column = y - (k >> 1)
                if column < 0:
                    pointer[k] = stop[k] = 0
                else:
                    pointer[k], stop[k] = start[column], start[column + 1]
                upper[k] = 0
            while True:
                z = np.int64(1) << 40
                for k in range(4):
                    if pointer[k] < stop[k]:
                        z = min(z, voxels[pointer[k], 2] + upper[k])
                if z == np.int64(1) << 40:
                    break
                for k in range(4):
                    if pointer[k] < stop[k] and voxels[pointer[k], 2] + upper[k] == z:
                        if upper[k]:
                            if write:
                                cubes[pointer[k], k | 4] = at
                            pointer[k] += 1
                            upper[k] = 0
                        if pointer[k] < stop[k] and voxels[pointer[k], 2] == z:
                            if write:
                                cubes[pointer[k], k] = at
                            upper[k] = 1
                if write:
                    corners[at, 0], corners[at, 1], corners[at, 2] = x, y, z
                at += 1
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def _complete_planes(
    points: Rows,
    planes: Ints,
    ny: int,
    low: int,
    high: int,
    inside: Bools,
    write: bool,
    at: int,
    voxels: Rows,
    cubes: Ints,
) -> int:
    """Voxels of the planes ``low..high`` with all eight corners given and of both signs; returns the next row."""
    behind = np.empty(ny + 2, np.int64)
    ahead = np.empty(ny + 2, np.int64)
    pointer = np.empty(4, np.int64)
    stop = np.empty(4, np.int64)
    for x in range(low, high):
        _plane_starts(points, planes[x], planes[x + 1], behind)
        _plane_starts(points, planes[x + 1], planes[x + 2], ahead)
        for y in range(ny):
            for k in range(4):
                start = ahead if k & 1 else behind
                column = y + (k >> 1)
                pointer[k], stop[k] = start[column], start[column + 1]
            while pointer[0] + 1 < stop[0]:
                z = points[pointer[0], 2]
                complete = points[pointer[0] + 1, 2] == z + 1
                for k in range(1, 4):
                    while pointer[k] < stop[k] and points[pointer[k], 2] < z:
                        pointer[k] += 1
                    complete = (
                        complete
                        and pointer[k] + 1 < stop[k]
                        and points[pointer[k], 2] == z
                        and points[pointer[k] + 1, 2] == z + 1
                    )
                if complete:
                    within = 0
                    for k in range(4):
                        within += inside[pointer[k]] + inside[pointer[k] + 1]
                    if 0 < within < 8:
                        if write:
                            voxels[at, 0], voxels[at, 1], voxels[at, 2] = x, y, z
                            for k in range(4):
                                cubes[at, k] = pointer[k]
                                cubes[at, k | 4] = pointer[k] + 1
                        at += 1
                pointer[0] += 1
    return at


@njit(nogil=True, cache=True, error_model="numpy")
def _mixed_planes(inside: Bools, low: int, high: int, write: bool, at: int, voxels: Rows) -> int:
    _, ny, nz = inside.shape
    for x in range(low, high):
        for y in range(ny - 1):
            before = np.int64(inside[x, y, 0]) + inside[x + 1, y, 0] + inside[x, y + 1, 0] + inside[x + 1, y + 1, 0]
            for z in range(nz - 1):
                after = (
                    np.int64(inside[x, y, z + 1])
                    + inside[x + 1, y, z + 1]
                    + inside[x, y + 1, z + 1]
                    + inside[x + 1, y + 1, z + 1]
                )
                if 0 < before + after < 8:
                    if write:
                        voxels[at, 0], voxels[at, 1], voxels[at, 2] = x, y, z
                    at += 1
                before = after
    return at


def _blocks(planes: int, threads: int | None) -> list[tuple[int, int]]:
    """Ranges of x planes; boundaries do not change results, only balance."""
    count = max(1, min(planes, _BLOCKS if thread_count(threads) > 1 else 1))
    edges = np.linspace(0, planes, count + 1).astype(int).tolist()
    return list(pairwise(edges))


def _checked(coords: Rows, what: str, shape: tuple[int, int, int]) -> None:
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise ValueError(f"{what} must be (N, 3), not {coords.shape}")
    if len(coords) == 0:
        return
    if (coords < 0).any() or (coords >= np.array(shape)).any():
        raise ValueError(f"{what} must lie in [0, {shape}); found {coords.min(axis=0)} to {coords.max(axis=0)}")
    row = _first_unsorted(coords)
    if row >= 0:
        raise ValueError(f"{what} must be unique and in lexicographic order; row {row} is not")


def _planes(coords: Rows, count: int) -> Ints:
    return np.searchsorted(coords[:, 0], np.arange(count + 1)).astype(np.int64)


def _starts(counts: list[int]) -> tuple[list[int], int]:
    total = np.cumsum([0, *counts])
    return total[:-1].tolist(), int(total[-1])


def ascending(coords: Rows) -> bool:
    """Whether rows ``(N, 3)`` int32 are in strictly lexicographic order."""
    return bool(_first_unsorted(coords) < 0)


def voxel_corners(voxels: Rows, shape: tuple[int, int, int], *, threads: int | None = None) -> tuple[Rows, Ints]:
    """Unique corners of sparse voxels.

    Args:
        voxels: ``(N, 3)`` int32, strictly lexicographic, in ``[0, shape)``.
        shape: voxels along each axis.
    Returns:
        Corners ``(C, 3)`` int32 in lexicographic order and, for every voxel, its ``(N, 8)`` int64 corner rows; corner
        ``c`` at offset ``(c & 1, c >> 1 & 1, c >> 2)``.

    >>> corners, cubes = voxel_corners(np.array([[0, 0, 0], [0, 0, 1]], np.int32), (1, 1, 2))
    >>> len(corners), cubes[1].tolist()
    (12, [1, 7, 4, 10, 2, 8, 5, 11])
    """
    _checked(voxels, "voxels", shape)
    planes = _planes(voxels, shape[0])
    blocks = _blocks(shape[0] + 1, threads)
    none = np.empty((0, 3), np.int32), np.empty((0, 8), np.int64)
    counts = run_chunks(lambda b: _corner_planes(voxels, planes, shape[1], *b, False, 0, *none), blocks, threads)
    starts, total = _starts(counts)
    corners = np.empty((total, 3), np.int32)
    cubes = np.empty((len(voxels), 8), np.int64)
    run_chunks(
        lambda item: _corner_planes(voxels, planes, shape[1], *item[0], True, item[1], corners, cubes),
        zip(blocks, starts, strict=True),
        threads,
    )
    return corners, cubes


def complete_voxels(
    points: Rows, inside: Bools, shape: tuple[int, int, int], *, threads: int | None = None
) -> tuple[Rows, Ints]:
    """Voxels whose eight corners are all among some lattice points and do not all have one sign.

    Args:
        points: ``(C, 3)`` int32 lattice points, strictly lexicographic, in ``[0, shape]``.
        inside: ``(C,)`` bool.
        shape: voxels along each axis; one more lattice point.
    Returns:
        Voxels ``(N, 3)`` int32 in lexicographic order and their ``(N, 8)`` int64 rows in ``points``.
    """
    _checked(points, "lattice points", (shape[0] + 1, shape[1] + 1, shape[2] + 1))
    planes = _planes(points, shape[0] + 1)
    blocks = _blocks(shape[0], threads)
    none = np.empty((0, 3), np.int32), np.empty((0, 8), np.int64)
    counts = run_chunks(
        lambda b: _complete_planes(points, planes, shape[1], *b, inside, False, 0, *none), blocks, threads
    )
    starts, total = _starts(counts)
    voxels = np.empty((total, 3), np.int32)
    cubes = np.empty((total, 8), np.int64)
    run_chunks(
        lambda item: _complete_planes(points, planes, shape[1], *item[0], inside, True, item[1], voxels, cubes),
        zip(blocks, starts, strict=True),
        threads,
    )
    return voxels, cubes


def mixed_voxels(inside: Bools, *, threads: int | None = None) -> Rows:
    """Voxels ``(N, 3)`` int32, lexicographic, of a dense lattice ``inside (X, Y, Z)`` whose corners differ in sign."""
    blocks = _blocks(inside.shape[0] - 1, threads)
    none = np.empty((0, 3), np.int32)
    counts = run_chunks(lambda b: _mixed_planes(inside, *b, False, 0, none), blocks, threads)
    starts, total = _starts(counts)
    voxels = np.empty((total, 3), np.int32)
    run_chunks(
        lambda item: _mixed_planes(inside, *item[0], True, item[1], voxels), zip(blocks, starts, strict=True), threads
    )
    return voxels
