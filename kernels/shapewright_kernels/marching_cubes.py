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

from .lattice_index import Integer, Words, lowest_bit
from .lattice_words import Floats, LatticeWords, bit_of, column_of, rank, upper
from .marching_cubes_cases import case_tables
from .marching_cubes_crossings import Crossings, case_of, dense_points, each_chunk, find_crossings, sparse_points


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
def _write_vertices(
    shape: tuple[Integer, Integer, Integer],
    place: NDArray[np.int64],
    links: NDArray[np.int32],
    ranked: Words,
    first: NDArray[np.int64],
    edges: Words,
    base: NDArray[np.int64],
    values: Floats,
    level: np.floating[Any],
    vertices: Floats,
    ends: NDArray[np.int64],
    lower: NDArray[np.int32],
    axes: NDArray[np.int8],
    start: Integer,
    stop: Integer,
) -> None:
    """Interpolated vertices or, where there is no room for any, the edges they lie on."""
    interpolated = vertices.shape[0] > 0
    for word in range(start, stop):
        e_x, e_y, e_z = edges[word, 0], edges[word, 1], edges[word, 2]
        points = e_x | e_y | e_z
        if points == 0:
            continue
        x, y, bottom = column_of(shape, place[word])
        by_x, by_y, above = links[word, 4], links[word, 2], links[word, 1]
        here, there_x, there_y = ranked[word], ranked[by_x], ranked[by_y]
        row, row_x, row_y, row_z = first[word], first[by_x], first[by_y], first[above]
        vertex = base[word]
        while points != 0:
            bit = lowest_bit(points)
            points &= points - np.uint64(1)
            own = row + rank(here, bit)
            z = bottom + bit
            for axis in range(3):
                if bit_of(e_x if axis == 0 else (e_y if axis == 1 else e_z), bit) == 0:
                    continue
                if axis == 0:
                    other = row_x + rank(there_x, bit)
                elif axis == 1:
                    other = row_y + rank(there_y, bit)
                else:
                    other = own + 1 if bit < 63 else row_z
                if interpolated:
                    # The ends are on different sides of the level, so the quotient is in [0, 1] (rounding is monotone)
                    # and never 0 / 0.
                    vertices[vertex, 0], vertices[vertex, 1], vertices[vertex, 2] = x, y, z
                    vertices[vertex, axis] += (level - values[own]) / (values[other] - values[own])
                else:
                    ends[vertex, 0], ends[vertex, 1] = own, other
                    lower[vertex, 0], lower[vertex, 1], lower[vertex, 2] = x, y, z
                    axes[vertex] = axis
                vertex += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _write_faces(
    links: NDArray[np.int32],
    inside: Words,
    mixed: Words,
    edges: Words,
    base: NDArray[np.int64],
    triangle_count: NDArray[np.int64],
    triangles: NDArray[np.int8],
    faces: NDArray[np.int64],
    face: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    vertex = np.empty(12, np.int64)
    zero = np.int64(0)
    for word in range(start, stop):
        cells = mixed[word]
        if cells == 0:
            continue
        y, x, xy = links[word, 2], links[word, 4], links[word, 6]
        above, y_above, x_above, xy_above = links[word, 1], links[word, 3], links[word, 5], links[word, 7]
        in_0, in_y, in_x, in_xy = inside[word], inside[y], inside[x], inside[xy]
        up_0, up_y = upper(in_0, inside[above]), upper(in_y, inside[y_above])
        up_x, up_xy = upper(in_x, inside[x_above]), upper(in_xy, inside[xy_above])
        # Crossing edges of the four columns, by axis, and the number of the first vertex in each.
        a_x, a_y, a_z, a_base = edges[word, 0], edges[word, 1], edges[word, 2], base[word]
        b_x, b_y, b_z, b_base = edges[y, 0], edges[y, 1], edges[y, 2], base[y]
        c_x, c_y, c_z, c_base = edges[x, 0], edges[x, 1], edges[x, 2], base[x]
        d_x, d_y, d_z, d_base = edges[xy, 0], edges[xy, 1], edges[xy, 2], base[xy]
        while cells != 0:
            bit = lowest_bit(cells)
            cells &= cells - np.uint64(1)
            case = case_of(in_0, up_0, in_y, up_y, in_x, up_x, in_xy, up_xy, bit)
            # Vertices are numbered by point, then axis. Those of edges that do not cross come out wrong and unused.
            a = a_base + rank(a_x, bit) + rank(a_y, bit) + rank(a_z, bit)
            b = b_base + rank(b_x, bit) + rank(b_y, bit) + rank(b_z, bit)
            c = c_base + rank(c_x, bit) + rank(c_y, bit) + rank(c_z, bit)
            d = d_base + rank(d_x, bit) + rank(d_y, bit) + rank(d_z, bit)
            vertex[0], vertex[2] = a, b
            a, b, c, d = a + bit_of(a_x, bit), b + bit_of(b_x, bit), c + bit_of(c_x, bit), d + bit_of(d_x, bit)
            vertex[4], vertex[6] = a, c
            a, b, c, d = a + bit_of(a_y, bit), b + bit_of(b_y, bit), c + bit_of(c_y, bit), d + bit_of(d_y, bit)
            vertex[8], vertex[9], vertex[10], vertex[11] = a, b, c, d
            if bit < 63:
                a, b, c = a + bit_of(a_z, bit), b + bit_of(b_z, bit), c + bit_of(c_z, bit)
                next_a, next_c = bit_of(a_x, bit + 1), bit_of(c_x, bit + 1)
            else:
                a, b, c = base[above], base[y_above], base[x_above]
                next_a, next_c = bit_of(edges[above, 0], zero), bit_of(edges[x_above, 0], zero)
            vertex[1], vertex[3], vertex[5], vertex[7] = a, b, a + next_a, c + next_c
            for triangle in range(triangle_count[case]):
                faces[face, 0] = vertex[triangles[case, triangle, 0]]
                faces[face, 1] = vertex[triangles[case, triangle, 1]]
                faces[face, 2] = vertex[triangles[case, triangle, 2]]
                face += 1


def _faces(crossings: Crossings, starts: NDArray[np.int64], threads: int | None) -> NDArray[np.int64]:
    """``starts``: number of triangles before each chunk of words, and of all."""
    words, mixed, edges, base = crossings
    cases = case_tables()
    faces = np.empty((int(starts[-1]), 3), np.int64)
    given = (
        words.links,
        words.inside,
        mixed,
        edges,
        base,
        cases.triangle_count,
        cases.triangles,
        faces,
    )
    each_chunk(_write_faces, given, words, threads, starts)
    return faces


def _extract(
    words: LatticeWords, values: Floats, level: np.floating[Any], interpolated: bool, threads: int | None
) -> tuple[Floats, EdgeMesh]:
    """Vertices (or none), and the edges that they lie on (or none), with the faces."""
    crossings, starts = find_crossings(words, case_tables().triangle_count, threads)
    count = int(crossings.base[-1])
    places, edges = (count, 0) if interpolated else (0, count)
    vertices = np.empty((places, 3), values.dtype)
    ends, lower, axis = np.empty((edges, 2), np.int64), np.empty((edges, 3), np.int32), np.empty(edges, np.int8)
    lattice = (words.shape, words.place, words.links, words.ranked, words.first, crossings.edges, crossings.base)
    each_chunk(_write_vertices, (*lattice, values, level, vertices, ends, lower, axis), words, threads)
    return vertices, EdgeMesh(ends, lower, axis, _faces(crossings, starts, threads))


def _edge_mesh(words: LatticeWords, order: NDArray[np.int64], values: Floats, threads: int | None) -> EdgeMesh:
    _, found = _extract(words, values, values.dtype.type(0), False, threads)
    return found._replace(ends=order[found.ends]) if len(order) else found


def _mesh(words: LatticeWords, values: Floats, level: float, threads: int | None) -> tuple[Floats, NDArray[np.int64]]:
    vertices, found = _extract(words, values, values.dtype.type(level), True, threads)
    return vertices, found.faces


def grid_edge_mesh(values: Floats, level: float = 0.0, *, threads: int | None = None) -> EdgeMesh:
    """The level set of a dense grid ``(X, Y, Z)`` as an :class:`EdgeMesh`; no copy of a C-contiguous float array."""
    words, flat = dense_points(values, level, threads)
    return _edge_mesh(words, np.empty(0, np.int64), flat, threads)


def sparse_edge_mesh(
    coords: NDArray[np.integer[Any]], values: Floats, level: float = 0.0, *, threads: int | None = None
) -> EdgeMesh:
    """The level set over the active cells of lattice points ``coords`` ``(N, 3)`` with ``values`` ``(N,)``.

    Raises:
        ValueError: wrong shapes, a lattice point twice, or a negative lattice index.
    """
    words, values, order = sparse_points(coords, values, level, threads)
    return _edge_mesh(words, order, values, threads)


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
    words, flat = dense_points(values, level, threads)
    return _mesh(words, flat, level, threads)


def marching_cubes_sparse(
    coords: NDArray[np.integer[Any]], values: Floats, level: float = 0.0, *, threads: int | None = None
) -> tuple[Floats, NDArray[np.int64]]:
    """As :func:`marching_cubes`, on the active cells of lattice points ``coords`` ``(N, 3)`` in any row order."""
    words, values, _ = sparse_points(coords, values, level, threads)
    return _mesh(words, values, level, threads)
