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

from .lattice_index import Integer, LatticeIndex, Words, below, locate, lowest_bit, popcount, row_of, word_at
from .lattice_index_links import ahead_words, behind_words, cell_words, corner_words
from .marching_cubes_cases import Cases, case_tables
from .marching_cubes_crossings import (
    Crossings,
    bits_before,
    case_of,
    each_chunk,
    exclusive_sum,
)


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
    index: LatticeIndex,
    inside: Words,
    mixed: Words,
    first_cell: NDArray[np.int64],
    case: NDArray[np.int16],
    start: Integer,
    stop: Integer,
) -> None:
    corners = np.empty(8, np.uint64)
    words = np.empty((4, 2), np.int64)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        cells = mixed[word]
        if cells == 0:
            continue
        ahead_words(shape, links, word, words)
        corner_words(inside, words, corners)
        cell = first_cell[word]
        while cells != 0:
            case[cell] = case_of(corners, lowest_bit(cells))
            cell += 1
            cells &= cells - np.uint64(1)


@njit(nogil=True, cache=True, error_model="numpy")
def _cell_patterns(
    index: LatticeIndex,
    mixed: Words,
    first_cell: NDArray[np.int64],
    case: NDArray[np.int16],
    cases: Cases,
    merged: bool,
    pattern: NDArray[np.int16],
    count: NDArray[np.int64],
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
            face = np.int64(cases.problem[case[cell]])
            flipped = np.int64(-1)
            if face >= 0 and not merged:
                b, x, y, segment = locate(index, word)
                step = 2 * (face & 1) - 1
                axis = face >> 1
                z = segment * 64 + bit + step * (axis == 2)
                other = word_at(index, b, x + step * (axis == 0), y + step * (axis == 1), z >> 6)
                place = z & 63
                if other >= 0 and (mixed[other] >> np.uint64(place)) & np.uint64(1) != 0:
                    neighbour = first_cell[other] + popcount(mixed[other] & below(place))
                    if cases.problem[case[neighbour]] == face ^ 1:
                        flipped = face
            pattern[cell] = case[cell] * 7 + 1 + flipped
            count[cell] = 1 if merged else cases.loop_count[pattern[cell]]
            cell += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _quad_edges(cells: Words, edges: Words, word: Integer, full: Words) -> Integer:
    """``full`` ``(3,)``: crossing edges of a word whose four cells are all active. Returns their number."""
    full[0] = edges[0, word] & cells[0, 0] & cells[0, 1] & cells[1, 0] & cells[1, 1]
    full[1] = edges[1, word] & cells[0, 0] & cells[0, 1] & cells[2, 0] & cells[2, 1]
    full[2] = edges[2, word] & cells[0, 0] & cells[1, 0] & cells[2, 0] & cells[3, 0]
    return popcount(full[0]) + popcount(full[1]) + popcount(full[2])


@njit(nogil=True, cache=True, error_model="numpy")
def _count_quads(index: LatticeIndex, mixed: Words, edges: Words, start: Integer, stop: Integer) -> Integer:
    words, cells, full = np.empty((4, 2), np.int64), np.empty((4, 2), np.uint64), np.empty(3, np.uint64)
    count = np.int64(0)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        if edges[0, word] | edges[1, word] | edges[2, word] != 0:
            behind_words(shape, links, word, words)
            cell_words(mixed, words, cells)
            count += _quad_edges(cells, edges, word, full)
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _write_quads(
    index: LatticeIndex,
    inside: Words,
    mixed: Words,
    edges: Words,
    dual: DualCells,
    cases: Cases,
    corners: NDArray[np.int64],
    edge: NDArray[np.int32],
    ends: NDArray[np.int64],
    quad: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    one = np.uint64(1)
    ahead = np.empty((4, 2), np.int64)
    words, cells, full = np.empty((4, 2), np.int64), np.empty((4, 2), np.uint64), np.empty(3, np.uint64)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        if edges[0, word] | edges[1, word] | edges[2, word] == 0:
            continue
        behind_words(shape, links, word, words)
        cell_words(mixed, words, cells)
        if _quad_edges(cells, edges, word, full) == 0:
            continue
        _, x, y, segment = locate(index, word)
        ahead_words(shape, links, word, ahead)
        points = full[0] | full[1] | full[2]
        while points != 0:
            bit = lowest_bit(points)
            points &= points - one
            outwards = (inside[word] >> np.uint64(bit)) & one != 0
            for axis in range(3):
                if (full[axis] >> np.uint64(bit)) & one == 0:
                    continue
                for turn in range(4):
                    # Around the edge, counter-clockwise seen from its upper end: offsets along axis + 1 and axis + 2.
                    first, second = np.int64(turn == 0 or turn == 3), np.int64(turn < 2)
                    dx, dy, dz = np.int64(0), np.int64(0), np.int64(0)
                    if axis == 0:
                        dy, dz = first, second
                        local = 2 * dy + dz
                    elif axis == 1:
                        dz, dx = first, second
                        local = 4 + 2 * dx + dz
                    else:
                        dx, dy = first, second
                        local = 8 + 2 * dx + dy
                    place = bit - dz
                    at = words[2 * dx + dy, 0] if place >= 0 else words[2 * dx + dy, 1]
                    cell = dual.first_cell[at] + popcount(mixed[at] & below(place & 63))
                    vertex = dual.first_vertex[cell]
                    if not dual.merged:
                        vertex += np.int64(cases.loop_of_edge[dual.pattern[cell], local])
                    corners[quad, turn if outwards else 3 - turn] = vertex
                other, place = ahead[2 >> axis, 0] if axis < 2 else word, bit + (axis == 2)
                if place == 64:
                    other, place = ahead[0, 1], 0
                ends[quad, 0], ends[quad, 1] = row_of(index, word, bit), row_of(index, other, place)
                edge[quad, 0], edge[quad, 1], edge[quad, 2], edge[quad, 3] = x, y, segment * 64 + bit, axis
                quad += 1


def dual_cells(crossings: Crossings, manifold: bool, threads: int | None) -> DualCells:
    """Vertices of all mixed cells."""
    index, inside, mixed, _, _ = crossings
    cases = case_tables()
    first_cell = bits_before(mixed, index, threads)
    total = int(first_cell[-1])
    case, pattern, count = np.empty(total, np.int16), np.empty(total, np.int16), np.empty(total, np.int64)
    each_chunk(lambda _, a, z: _cell_cases(index, inside, mixed, first_cell, case, a, z), index, threads)
    each_chunk(
        lambda _, a, z: _cell_patterns(index, mixed, first_cell, case, cases, not manifold, pattern, count, a, z),
        index,
        threads,
    )
    return DualCells(first_cell, pattern, exclusive_sum(count), not manifold)


def dual_quads(crossings: Crossings, dual: DualCells, threads: int | None) -> DualQuads:
    """Quads around all crossing edges with four active cells."""
    index, inside, mixed, edges, _ = crossings
    cases = case_tables()
    counts = each_chunk(lambda _, a, z: _count_quads(index, mixed, edges, a, z), index, threads)
    starts = exclusive_sum(np.array(counts, np.int64))
    quads = int(starts[-1])
    corners, edge = np.empty((quads, 4), np.int64), np.empty((quads, 4), np.int32)
    ends = np.empty((quads, 2), np.int64)

    def write(number: int, start: int, stop: int) -> None:
        _write_quads(index, inside, mixed, edges, dual, cases, corners, edge, ends, starts[number], start, stop)

    each_chunk(write, index, threads)
    return DualQuads(corners, edge, ends)
