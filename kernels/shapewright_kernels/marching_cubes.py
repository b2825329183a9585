"""Marching cubes on dense grids and sparse lattice points, one engine.

After the scan of the signs, work and memory follow the surface.

Vertices are sorted by the lattice edge they lie on (lower end in lexicographic order, then axis), faces by their cell,
so the result depends neither on threads nor on the row order of sparse points, and a dense grid and its points as a
sparse set give the same arrays. The surface is a combinatorial 2-manifold, closed wherever all cells around it are
active; see :mod:`.marching_cubes_cases` for the rules.

A value exactly at the level counts as outside, and its vertices lie on the lattice point itself: at a concave corner
several coincide, and the triangles between them have no area. They stay: without them the surface would have holes, and
merging their vertices would make it touch itself at a point.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, LatticeIndex, Words, below, locate, lowest_bit, popcount, row_of
from .lattice_index_links import ahead_words, corner_words
from .marching_cubes_cases import Cases, case_tables
from .marching_cubes_crossings import (
    Crossings,
    Floats,
    case_of,
    each_chunk,
    exclusive_sum,
    grid_crossings,
    sparse_crossings,
)
from .threads import run_chunks, spans

VERTICES_PER_CHUNK = 1 << 16


class EdgeMesh(NamedTuple):
    """A surface whose ``V`` vertices are still lattice edges; where on its edge a vertex lies is the caller's
    affair."""

    ends: NDArray[np.int64]
    """``(V, 2)`` rows of the lower and the upper end: flat indices of a dense grid, rows of sparse ``coords``."""
    lower: NDArray[np.int32]
    """``(V, 3)`` lattice indices of the lower end."""
    axis: NDArray[np.int8]
    """``(V,)`` axis of the edge."""
    faces: NDArray[np.int64]
    """``(F, 3)`` counter-clockwise seen from the outside (larger values)."""


@njit(nogil=True, cache=True, error_model="numpy")
def _count_triangles(
    index: LatticeIndex, inside: Words, mixed: Words, cases: Cases, start: Integer, stop: Integer
) -> Integer:
    corners = np.empty(8, np.uint64)
    words = np.empty((4, 2), np.int64)
    count = np.int64(0)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        cells = mixed[word]
        if cells == 0:
            continue
        ahead_words(shape, links, word, words)
        corner_words(inside, words, corners)
        while cells != 0:
            count += cases.triangle_count[case_of(corners, lowest_bit(cells))]
            cells &= cells - np.uint64(1)
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _write_vertices(
    index: LatticeIndex,
    edges: Words,
    base: NDArray[np.int64],
    ends: NDArray[np.int64],
    lower: NDArray[np.int32],
    axes: NDArray[np.int8],
    start: Integer,
    stop: Integer,
) -> None:
    one = np.uint64(1)
    words = np.empty((4, 2), np.int64)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        points = edges[0, word] | edges[1, word] | edges[2, word]
        if points == 0:
            continue
        _, x, y, segment = locate(index, word)
        ahead_words(shape, links, word, words)
        vertex = base[word]
        while points != 0:
            bit = lowest_bit(points)
            own = row_of(index, word, bit)
            for axis in range(3):
                if (edges[axis, word] >> np.uint64(bit)) & one != 0:
                    if axis == 0:
                        other = row_of(index, words[2, 0], bit)
                    elif axis == 1:
                        other = row_of(index, words[1, 0], bit)
                    elif bit < 63:
                        other = row_of(index, word, bit + 1)
                    else:
                        other = row_of(index, words[0, 1], 0)
                    ends[vertex, 0], ends[vertex, 1] = own, other
                    lower[vertex, 0], lower[vertex, 1], lower[vertex, 2] = x, y, segment * 64 + bit
                    axes[vertex] = axis
                    vertex += 1
            points &= points - one


@njit(nogil=True, cache=True, error_model="numpy")
def _write_faces(
    index: LatticeIndex,
    inside: Words,
    mixed: Words,
    edges: Words,
    base: NDArray[np.int64],
    cases: Cases,
    faces: NDArray[np.int64],
    face: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    one = np.uint64(1)
    corners = np.empty(8, np.uint64)
    words = np.empty((4, 2), np.int64)
    vertex = np.empty(12, np.int64)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        cells = mixed[word]
        if cells == 0:
            continue
        ahead_words(shape, links, word, words)
        corner_words(inside, words, corners)
        while cells != 0:
            bit = lowest_bit(cells)
            case = case_of(corners, bit)
            for edge in range(12):
                dx, dy, dz = cases.edge_offset[edge, 0], cases.edge_offset[edge, 1], cases.edge_offset[edge, 2]
                place = bit + dz
                at = words[2 * dx + dy, place >> 6]
                place &= 63
                axis = edge >> 2
                if at >= 0 and (edges[axis, at] >> np.uint64(place)) & one != 0:
                    under = below(place)
                    number = base[at]
                    for other in range(3):
                        number += popcount(edges[other, at] & under)
                        if other < axis:
                            number += np.int64((edges[other, at] >> np.uint64(place)) & one)
                    vertex[edge] = number
            for triangle in range(cases.triangle_count[case]):
                for corner in range(3):
                    faces[face, corner] = vertex[cases.triangles[case, triangle, corner]]
                face += 1
            cells &= cells - one


def _edge_mesh(crossings: Crossings, threads: int | None) -> EdgeMesh:
    index, inside, mixed, edges, counts = crossings
    cases = case_tables()
    triangles = each_chunk(lambda _, a, z: _count_triangles(index, inside, mixed, cases, a, z), index, threads)
    face_starts = exclusive_sum(np.array(triangles, np.int64))
    base = exclusive_sum(counts)
    vertices = int(base[-1])
    ends, lower = np.empty((vertices, 2), np.int64), np.empty((vertices, 3), np.int32)
    axis, faces = np.empty(vertices, np.int8), np.empty((int(face_starts[-1]), 3), np.int64)

    def write(number: int, start: int, stop: int) -> None:
        _write_vertices(index, edges, base, ends, lower, axis, start, stop)
        _write_faces(index, inside, mixed, edges, base, cases, faces, face_starts[number], start, stop)

    each_chunk(write, index, threads)
    return EdgeMesh(ends, lower, axis, faces)


def grid_edge_mesh(values: Floats, level: float = 0.0, *, threads: int | None = None) -> EdgeMesh:
    """The level set of a dense grid ``(X, Y, Z)`` as an :class:`EdgeMesh`; no copy of a C-contiguous float array."""
    return _edge_mesh(grid_crossings(values, level, threads)[0], threads)


def sparse_edge_mesh(
    coords: NDArray[np.integer[Any]], values: Floats, level: float = 0.0, *, threads: int | None = None
) -> EdgeMesh:
    """The level set over the active cells of lattice points ``coords`` ``(N, 3)`` with ``values`` ``(N,)``.

    Raises:
        ValueError: wrong shapes, a lattice point twice, or a negative lattice index.
    """
    return _edge_mesh(sparse_crossings(coords, values, level, threads)[0], threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _interpolate(
    mesh: EdgeMesh, values: Floats, level: np.floating[Any], vertices: Floats, start: Integer, stop: Integer
) -> None:
    for vertex in range(start, stop):
        low, high = values[mesh.ends[vertex, 0]], values[mesh.ends[vertex, 1]]
        for axis in range(3):
            vertices[vertex, axis] = mesh.lower[vertex, axis]
        vertices[vertex, mesh.axis[vertex]] += (level - low) / (high - low)


def interpolate(mesh: EdgeMesh, values: Floats, level: float = 0.0, *, threads: int | None = None) -> Floats:
    """``(V, 3)`` vertices in lattice units by linear interpolation of ``values`` (flat), never outside their edges.

    The ends are on different sides of ``level``, so the quotient is in ``[0, 1]`` (rounding is monotone) and never 0 /
    0.
    """
    vertices = np.empty((len(mesh.ends), 3), values.dtype)
    cut = values.dtype.type(level)
    chunks = spans(len(vertices), VERTICES_PER_CHUNK)
    run_chunks(lambda span: _interpolate(mesh, values, cut, vertices, *span), chunks, threads)
    return vertices


def marching_cubes(
    values: Floats, level: float = 0.0, *, threads: int | None = None
) -> tuple[Floats, NDArray[np.int64]]:
    """Triangles where a dense grid takes the value ``level``.

    Args:
        values: ``(X, Y, Z)`` float32 or float64 (others are converted to float32); smaller inside. Points that are not
            finite do not exist: the surface has a hole there.
        threads: Python threads; ``None`` for all processors. The result does not depend on it.
    Returns:
        ``(V, 3)`` vertices in lattice units, dtype of ``values``, and ``(F, 3)`` int64 faces, counter-clockwise seen
        from larger values.
    Source: Lorensen and Cline 1987.

    >>> values = np.ones((3, 3, 3), np.float32)
    >>> values[1, 1, 1] = -1
    >>> vertices, faces = marching_cubes(values)
    >>> len(vertices), len(faces)
    (6, 8)
    """
    crossings, flat = grid_crossings(values, level, threads)
    mesh = _edge_mesh(crossings, threads)
    return interpolate(mesh, flat, level, threads=threads), mesh.faces


def marching_cubes_sparse(
    coords: NDArray[np.integer[Any]], values: Floats, level: float = 0.0, *, threads: int | None = None
) -> tuple[Floats, NDArray[np.int64]]:
    """As :func:`marching_cubes`, on the active cells of lattice points ``coords`` ``(N, 3)`` in any row order."""
    crossings, values = sparse_crossings(coords, values, level, threads)
    mesh = _edge_mesh(crossings, threads)
    return interpolate(mesh, values, level, threads=threads), mesh.faces
