"""Discrete part of dual contouring: which vertices a cell has, and which four vertices surround a crossing edge.

A cell has one vertex for each loop of :mod:`.marching_cubes_cases`, that is for each patch of surface in it
(``manifold``), or always one (classical). With one vertex a patch the surface is a 2-manifold, and closed wherever all
cells around it are active.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Words, lowest_bit, popcount
from .lattice_words import bit_of, column_of, exclusive_sum, lower, rank, upper
from .marching_cubes_cases import case_tables
from .marching_cubes_crossings import Crossings, bits_before, case_of, each_chunk


class DualCells(NamedTuple):
    """Mixed cells in the order of their lowest corners, and their vertices; ``C`` cells, ``V`` vertices."""

    first_cell: NDArray[np.int64]
    """``(W + 1,)`` number of mixed cells before each word."""
    pattern: NDArray[np.int16]
    """``(C,)`` row of ``Cases.loop_of_edge``: the case and the face that is resolved the other way."""
    first_vertex: NDArray[np.int64]
    """``(C + 1,)`` number of vertices before each cell."""
    merged: bool
    """One vertex a cell, whatever its loops."""


class DualQuads(NamedTuple):
    """Quads around crossing edges, sorted by the edge (lower end in lexicographic order, then axis)."""

    corners: NDArray[np.int64]
    """``(Q, 4)`` vertices, counter-clockwise seen from the outside."""
    edge: NDArray[np.int32]
    """``(Q, 4)`` lower end ``x, y, z`` of the edge, and its axis."""
    ends: NDArray[np.int64]
    """``(Q, 2)`` rows of the lower and the upper end."""


@njit(nogil=True, cache=True, error_model="numpy")
def _cell_cases(
    links: NDArray[np.int32],
    inside: Words,
    mixed: Words,
    first_cell: NDArray[np.int64],
    case: NDArray[np.int16],
    start: Integer,
    stop: Integer,
) -> None:
    for word in range(start, stop):
        cells = mixed[word]
        if cells == 0:
            continue
        own, by_y, by_x, by_xy = inside[word], inside[links[word, 2]], inside[links[word, 4]], inside[links[word, 6]]
        own_above, by_y_above = upper(own, inside[links[word, 1]]), upper(by_y, inside[links[word, 3]])
        by_x_above, by_xy_above = upper(by_x, inside[links[word, 5]]), upper(by_xy, inside[links[word, 7]])
        cell = first_cell[word]
        while cells != 0:
            bit = lowest_bit(cells)
            case[cell] = case_of(own, own_above, by_y, by_y_above, by_x, by_x_above, by_xy, by_xy_above, bit)
            cell += 1
            cells &= cells - np.uint64(1)


@njit(nogil=True, cache=True, error_model="numpy")
def _cell_patterns(
    links: NDArray[np.int32],
    mixed: Words,
    first_cell: NDArray[np.int64],
    case: NDArray[np.int16],
    problem: NDArray[np.int8],
    loop_count: NDArray[np.int64],
    merged: bool,
    pattern: NDArray[np.int16],
    count: NDArray[np.int8],
    start: Integer,
    stop: Integer,
) -> None:
    """Resolve the problem faces that two cells share the other way, and count the vertices."""
    for word in range(start, stop):
        cells = mixed[word]
        cell = first_cell[word]
        while cells != 0:
            bit = lowest_bit(cells)
            cells &= cells - np.uint64(1)
            face = np.int64(problem[case[cell]])
            flipped = np.int64(-1)
            if face >= 0 and not merged:
                forward = face & 1
                other, place = np.int64(word), bit
                if face < 4:
                    other = np.int64(links[word, (8 - 8 * forward) + (4 if face < 2 else 2)])
                else:
                    place += 2 * forward - 1
                    if place == 64:
                        other = np.int64(links[word, 1])
                    elif place < 0:
                        other = np.int64(links[word, 9])
                    place &= 63
                if bit_of(mixed[other], place) != 0:
                    neighbour = first_cell[other] + rank(mixed[other], place)
                    if problem[case[neighbour]] == face ^ 1:
                        flipped = face
            pattern[cell] = case[cell] * 7 + 1 + flipped
            count[cell] = 1 if merged else loop_count[pattern[cell]]
            cell += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _quad_edges(
    e_x: np.uint64,
    e_y: np.uint64,
    e_z: np.uint64,
    own: np.uint64,
    under: np.uint64,
    by_y: np.uint64,
    under_y: np.uint64,
    by_x: np.uint64,
    under_x: np.uint64,
    by_xy: np.uint64,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Of the crossing edges of a word, those whose four cells are all active; the cells are those of the words behind
    (*compiled*)."""
    both = own & lower(own, under)
    full_x = e_x & both & by_y & lower(by_y, under_y)
    full_y = e_y & both & by_x & lower(by_x, under_x)
    return full_x, full_y, e_z & own & by_y & by_x & by_xy


@njit(nogil=True, cache=True, error_model="numpy")
def _count_quads(links: NDArray[np.int32], mixed: Words, edges: Words, start: Integer, stop: Integer) -> Integer:
    count = np.int64(0)
    for word in range(start, stop):
        e_x, e_y, e_z = edges[word, 0], edges[word, 1], edges[word, 2]
        if e_x | e_y | e_z != 0:
            own, under = mixed[word], mixed[links[word, 9]]
            by_y, under_y = mixed[links[word, 10]], mixed[links[word, 11]]
            by_x, under_x = mixed[links[word, 12]], mixed[links[word, 13]]
            by_xy = mixed[links[word, 14]]
            e_x, e_y, e_z = _quad_edges(e_x, e_y, e_z, own, under, by_y, under_y, by_x, under_x, by_xy)
            count += popcount(e_x) + popcount(e_y) + popcount(e_z)
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _write_quads(
    shape: tuple[Integer, Integer, Integer],
    places: NDArray[np.int64],
    links: NDArray[np.int32],
    ranked: Words,
    first: NDArray[np.int64],
    inside: Words,
    mixed: Words,
    edges: Words,
    first_cell: NDArray[np.int64],
    pattern: NDArray[np.int16],
    first_vertex: NDArray[np.int64],
    merged: bool,
    loop_of_edge: NDArray[np.int8],
    used: NDArray[np.bool_],
    corners: NDArray[np.int64],
    edge: NDArray[np.int32],
    ends: NDArray[np.int64],
    quad: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    for word in range(start, stop):
        e_x, e_y, e_z = edges[word, 0], edges[word, 1], edges[word, 2]
        if e_x | e_y | e_z == 0:
            continue
        own, under = mixed[word], mixed[links[word, 9]]
        by_y, under_y = mixed[links[word, 10]], mixed[links[word, 11]]
        by_x, under_x = mixed[links[word, 12]], mixed[links[word, 13]]
        by_xy = mixed[links[word, 14]]
        e_x, e_y, e_z = _quad_edges(e_x, e_y, e_z, own, under, by_y, under_y, by_x, under_x, by_xy)
        points = e_x | e_y | e_z
        if points == 0:
            continue
        x, y, bottom = column_of(shape, places[word])
        while points != 0:
            bit = lowest_bit(points)
            points &= points - np.uint64(1)
            outwards = bit_of(inside[word], bit) != 0
            row = first[word] + rank(ranked[word], bit)
            for axis in range(3):
                if bit_of(e_x if axis == 0 else (e_y if axis == 1 else e_z), bit) == 0:
                    continue
                for turn in range(4):
                    # Around the edge, counter-clockwise seen from its upper end: offsets along axis + 1 and axis + 2.
                    one, two = np.int64(turn == 0 or turn == 3), np.int64(turn < 2)
                    if axis == 0:
                        back, local, place = 2 * one, 2 * one + two, bit - two
                    elif axis == 1:
                        back, local, place = 4 * two, 4 + 2 * two + one, bit - one
                    else:
                        back, local, place = 4 * one + 2 * two, 8 + 2 * one + two, bit
                    at = links[word, 8 + back + (place < 0)]
                    cell = first_cell[at] + rank(mixed[at], place & 63)
                    vertex = first_vertex[cell]
                    if not merged:
                        vertex += loop_of_edge[pattern[cell], local]
                    used[vertex] = True  # whichever thread comes first
                    corners[quad, turn if outwards else 3 - turn] = vertex
                if axis < 2:
                    at = links[word, 4 >> axis]
                    other = first[at] + rank(ranked[at], bit)
                else:
                    other = row + 1 if bit < 63 else first[links[word, 1]]
                ends[quad, 0], ends[quad, 1] = row, other
                edge[quad, 0], edge[quad, 1], edge[quad, 2], edge[quad, 3] = x, y, bottom + bit, axis
                quad += 1


def dual_cells(crossings: Crossings, manifold: bool, threads: int | None) -> DualCells:
    """Vertices of all mixed cells."""
    words, mixed = crossings.words, crossings.mixed
    cases = case_tables()
    first_cell = bits_before(mixed, words, threads)
    total = int(first_cell[-1])
    case, pattern, count = np.empty(total, np.int16), np.empty(total, np.int16), np.empty(total, np.int8)
    each_chunk(_cell_cases, (words.links, words.inside, mixed, first_cell, case), words, threads)
    given = (words.links, mixed, first_cell, case, cases.problem, cases.loop_count, not manifold)
    each_chunk(_cell_patterns, (*given, pattern, count), words, threads)
    return DualCells(first_cell, pattern, exclusive_sum(count), not manifold)


def dual_quads(crossings: Crossings, dual: DualCells, threads: int | None) -> tuple[DualQuads, NDArray[np.bool_]]:
    """Quads around all crossing edges with four active cells, and which vertices they use."""
    words, mixed, edges, _ = crossings
    counts = each_chunk(_count_quads, (words.links, mixed, edges), words, threads)
    starts = exclusive_sum(np.array(counts, np.int64))
    quads = int(starts[-1])
    corners, edge = np.empty((quads, 4), np.int64), np.empty((quads, 4), np.int32)
    ends, used = np.empty((quads, 2), np.int64), np.zeros(int(dual.first_vertex[-1]), np.bool_)
    lattice = (
        words.shape,
        words.place,
        words.links,
        words.ranked,
        words.first,
        words.inside,
        mixed,
        edges,
    )
    made = (case_tables().loop_of_edge, used, corners, edge, ends)
    each_chunk(_write_quads, (*lattice, *dual, *made), words, threads, starts)
    return DualQuads(corners, edge, ends), used
