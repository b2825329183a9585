"""One order for the faces of a surface, whatever order and corner rotation they were stored in, and every face once.

A sampler that walks faces in stored order gives other samples for the same surface stored differently. In this order it
does not, so numbers measured on a surface are a function of the surface.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from .arrays import Bools, Floats, Ints
from .radix_order import radix_order
from .threads import run_chunks, spans
from .topology import FLAT_AREA

STEPS = 2**21 / 1.0937
RUN = 32
"""Runs of positions within one step are sorted in place up to this length."""
FACES = 32768
"""Faces a task."""


class CanonicalSurface(NamedTuple):
    """Faces in canonical order. Corners ascend by position; ``signs`` remembers the winding."""

    corners: Floats
    """``(F, 3, 3)`` float64."""
    weights: Floats
    """``(F,)``: stored copies that run along ``corners`` minus those that run against it; 0 for a wall between two
    rooms that was stored once for each of them. Winding numbers need this, distances do not."""
    source: Ints
    """``(F,)`` int64: index of the face as given."""
    normals: Floats
    """``(F, 3)``: unit normals of the stored winding."""
    areas: Floats
    """``(F,)``."""


def canonical_surface(vertices: ArrayLike, faces: ArrayLike, *, threads: int | None = None) -> CanonicalSurface:
    """Sort the faces of a mesh and drop faces without area and exact copies (same three positions, any winding).

    Args:
        vertices: ``(V, 3)`` floats, finite where a face uses them.
        faces: ``(F, 3)`` integers into ``vertices``.
        threads: as in :func:`~shapewright_kernels.threads.run_chunks`; does not change the result.
    Returns:
        possibly fewer faces. Where copies have opposite windings, the normal is that of the winding along ``corners``.
        A face has no area by the rule of :func:`~shapewright_kernels.topology.flat_faces`.
    """
    points = np.ascontiguousarray(vertices, dtype=np.float64).reshape(-1, 3) + 0.0  # turns -0.0 into 0.0
    triangles = np.ascontiguousarray(faces, dtype=np.int64).reshape(-1, 3)
    used, triangles = used_vertices(len(points), triangles)
    points = points[used]
    rank = position_ranks(points)
    count = int(rank.max(initial=-1)) + 1
    position = np.zeros((count, 3))
    position[rank] = points
    parts = spans(len(triangles), FACES)
    names = np.empty((len(triangles), 3), np.int64)  # lowest, middle, twice the highest plus one where against
    run_chunks(lambda span: _sort_corners(triangles, rank, *span, names), parts, threads)
    order = _order_names(names, count)
    start, weights = _distinct(names, order)
    extent = np.ptp(position, axis=0) if count else np.zeros(3)
    least = 2 * FLAT_AREA * float((extent**2).sum())
    parts = spans(len(start), FACES)
    kept = np.empty(len(start), np.bool_)
    counts = run_chunks(lambda span: _with_area(names, order, start, position, least, *span, kept), parts, threads)
    total = sum(counts)
    found = CanonicalSurface(
        np.empty((total, 3, 3)), np.empty(total), np.empty(total, np.int64), np.empty((total, 3)), np.empty(total)
    )
    places = np.cumsum([0, *counts])
    run_chunks(
        lambda job: _fill(
            names, order, start, weights, kept, position, *parts[job], int(places[job]),
            found.corners, found.weights, found.source, found.normals, found.areas,
        ),
        range(len(parts)), threads,
    )  # fmt: skip
    return found


def position_ranks(points: Floats) -> Ints:
    """Place of each of ``points`` ``(P, 3)`` in an order of positions; only equal positions have equal ranks.

    The order is that of x, y, z in steps of five ten-millionths of the extent first, so that scaling and moving a mesh,
    which changes the last bits, changes no order among vertices that share a coordinate.
    """
    if len(points) == 0:
        return np.zeros(0, np.int64)
    keys = _step_keys(points)
    order = radix_order(keys)
    among = _settle_runs(points, keys, order)
    if len(among):
        rows = order[among]
        order[among] = rows[np.lexsort((points[rows, 2], points[rows, 1], points[rows, 0], keys[rows]))]
    return _ranks(points, order)


def used_vertices(count: int, triangles: Ints) -> tuple[Ints, Ints]:
    """Ids of the vertices that faces use, and the faces over them.

    Raises:
        IndexError: a face names a vertex outside ``0..count``.
    """
    if len(triangles) == 0:
        return np.zeros(0, np.int64), triangles
    if triangles.min() < 0 or triangles.max() >= count:
        raise IndexError(f"faces name vertices outside 0..{count}")
    return _use(count, triangles)


@njit(nogil=True, cache=True, error_model="numpy")
def _use(count: int, triangles: Ints) -> tuple[Ints, Ints]:
    place = np.zeros(count, np.int64)
    for face in range(len(triangles)):
        for corner in range(3):
            place[triangles[face, corner]] = 1
    used = np.empty(place.sum(), np.int64)
    found = 0
    for vertex in range(count):
        if place[vertex] > 0:
            used[found] = vertex
            place[vertex] = found
            found += 1
    renamed = np.empty_like(triangles)
    for face in range(len(triangles)):
        for corner in range(3):
            renamed[face, corner] = place[triangles[face, corner]]
    return used, renamed


@njit(nogil=True, cache=True, error_model="numpy")
def _step_keys(points: Floats) -> Ints:
    low, high = points[0].copy(), points[0].copy()
    for row in range(len(points)):
        for axis in range(3):
            low[axis] = min(low[axis], points[row, axis])
            high[axis] = max(high[axis], points[row, axis])
    extent = max(high[0] - low[0], high[1] - low[1], high[2] - low[2])
    scale = STEPS / extent if extent > 1e-300 else 0.0
    keys = np.empty(len(points), np.int64)
    for row in range(len(points)):
        # neither factor nor offset is a round number: coordinates that people choose must not lie where a step ends
        x = int((points[row, 0] - low[0]) * scale + 0.377964473)
        y = int((points[row, 1] - low[1]) * scale + 0.377964473)
        z = int((points[row, 2] - low[2]) * scale + 0.377964473)
        keys[row] = x << 42 | y << 21 | z
    return keys


@njit(nogil=True, cache=True, error_model="numpy")
def _behind(points: Floats, a: int, b: int) -> bool:
    """Whether position ``a`` comes after position ``b`` by x, y, z."""
    for axis in range(3):
        if points[a, axis] != points[b, axis]:
            return points[a, axis] > points[b, axis]
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _settle_runs(points: Floats, keys: Ints, order: Ints) -> Ints:
    """Sort short runs of equal keys by position in place; return the places of ``order`` in longer runs."""
    long_runs = np.zeros(len(order), np.bool_)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        if stop - start > RUN:
            long_runs[start:stop] = True
        else:
            for slot in range(start + 1, stop):
                row = order[slot]
                to = slot
                while to > start and _behind(points, order[to - 1], row):
                    order[to] = order[to - 1]
                    to -= 1
                order[to] = row
        start = stop
    return np.flatnonzero(long_runs)


@njit(nogil=True, cache=True, error_model="numpy")
def _ranks(points: Floats, order: Ints) -> Ints:
    ranks = np.empty(len(order), np.int64)
    rank = 0
    for slot in range(len(order)):
        if slot > 0 and (
            points[order[slot], 0] != points[order[slot - 1], 0]
            or points[order[slot], 1] != points[order[slot - 1], 1]
            or points[order[slot], 2] != points[order[slot - 1], 2]
        ):
            rank += 1
        ranks[order[slot]] = rank
    return ranks


@njit(nogil=True, cache=True, error_model="numpy")
def _sort_corners(triangles: Ints, rank: Ints, start: int, stop: int, names: Ints) -> None:
    for face in range(start, stop):
        first, second, third = rank[triangles[face, 0]], rank[triangles[face, 1]], rank[triangles[face, 2]]
        low, high = min(first, second, third), max(first, second, third)
        follower = second if first == low else (third if second == low else first)
        names[face, 0], names[face, 1] = low, first + second + third - low - high
        names[face, 2] = 2 * high + (follower == high)  # low, high, middle: against the sorted corners


@njit(nogil=True, cache=True, error_model="numpy")
def _order_names(names: Ints, count: int) -> Ints:
    """Stable order of the faces by their names: a counting sort by each, the least significant first."""
    order = np.arange(len(names))
    spare = np.empty_like(order)
    for column in range(2, -1, -1):
        place = np.zeros(2 * count + 1, np.int64)
        for face in range(len(names)):
            place[names[face, column] + 1] += 1
        for name in range(2 * count):
            place[name + 1] += place[name]
        for slot in range(len(order)):
            face = order[slot]
            name = names[face, column]
            spare[place[name]] = face
            place[name] += 1
        order, spare = spare, order
    return order


@njit(nogil=True, cache=True, error_model="numpy")
def _distinct(names: Ints, order: Ints) -> tuple[Ints, Floats]:
    """Places in ``order`` where copies of a face begin, and how many run along minus how many against."""
    start, weights = np.empty(len(order), np.int64), np.zeros(len(order))
    found = 0
    for slot in range(len(order)):
        face = order[slot]
        other = order[slot - 1] if slot > 0 else face
        if (
            slot == 0
            or names[face, 0] != names[other, 0]
            or names[face, 1] != names[other, 1]
            or names[face, 2] >> 1 != names[other, 2] >> 1
        ):
            start[found] = slot
            found += 1
        weights[found - 1] += 1.0 - 2.0 * (names[face, 2] & 1)
    return start[:found].copy(), weights[:found].copy()


@njit(nogil=True, cache=True, error_model="numpy")
def _cross(names: Ints, face: int, position: Floats) -> tuple[float, float, float, float]:
    """Cross product of the sides from the lowest corner, and its length."""
    a, b, c = names[face, 0], names[face, 1], names[face, 2] >> 1
    ux, uy, uz = position[b, 0] - position[a, 0], position[b, 1] - position[a, 1], position[b, 2] - position[a, 2]
    vx, vy, vz = position[c, 0] - position[a, 0], position[c, 1] - position[a, 1], position[c, 2] - position[a, 2]
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    return x, y, z, np.sqrt(x * x + y * y + z * z)


@njit(nogil=True, cache=True, error_model="numpy")
def _with_area(
    names: Ints, order: Ints, start: Ints, position: Floats, least: float, begin: int, end: int, kept: Bools
) -> int:
    count = 0
    for row in range(begin, end):
        kept[row] = _cross(names, order[start[row]], position)[3] > least
        count += kept[row]
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    names: Ints, order: Ints, start: Ints, weights: Floats, kept: Bools, position: Floats, begin: int, end: int,
    to: int, corners: Floats, signed: Floats, source: Ints, normals: Floats, areas: Floats,
) -> None:  # fmt: skip
    for row in range(begin, end):
        if not kept[row]:
            continue
        face = order[start[row]]
        x, y, z, doubled = _cross(names, face, position)
        for axis in range(3):
            corners[to, 0, axis] = position[names[face, 0], axis]
            corners[to, 1, axis] = position[names[face, 1], axis]
            corners[to, 2, axis] = position[names[face, 2] >> 1, axis]
        scale = (1.0 - 2.0 * (names[face, 2] & 1)) / doubled
        normals[to, 0], normals[to, 1], normals[to, 2] = x * scale, y * scale, z * scale
        signed[to], source[to], areas[to] = weights[row], face, doubled / 2
        to += 1
