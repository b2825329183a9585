"""Which cells of a lattice may hold a level set, judged by the values at their corners: the steps of a refinement from
a coarse lattice to a fine one that evaluates a field near its surface only.

A caller holds the points evaluated so far (:class:`Evaluated`) and the cells in question, and alternates evaluation
with :func:`leaking_cells` and :func:`finer_cells`; :mod:`.word_sets` has the rest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Words, lowest_bit
from .lattice_words import Floats, LatticeWords, lower, rank, upper
from .lattice_words import linked as link_words
from .marching_cubes_crossings import each_chunk
from .word_sets import (
    Strides,
    WordSet,
    aligned,
    children,
    dilated,
    finer_points,
    first_rows,
    moved,
    strides_of,
    union,
    within,
)


class Evaluated(NamedTuple):
    """Lattice points and their values, in lexicographic order."""

    strides: Strides
    points: WordSet
    values: Floats
    """``(N,)``"""


@njit(nogil=True, cache=True, error_model="numpy")
def _inside(
    ranked: Words,
    first: NDArray[np.int64],
    values: Floats,
    level: np.floating[Any],
    inside: Words,
    start: Integer,
    stop: Integer,
) -> None:
    for word in range(start, stop):
        points, row, low = ranked[word], first[word], np.uint64(0)
        while points != 0:
            bit = points & (~points + np.uint64(1))
            points ^= bit
            if values[row] < level:
                low |= bit
            row += 1
        inside[word] = low


def _words(known: Evaluated, level: float, threads: int | None) -> LatticeWords:
    ranked = np.append(known.points.mask, np.uint64(0))
    first, inside = first_rows(known.points.mask), np.zeros(len(ranked), np.uint64)
    words = LatticeWords(
        known.strides.shape, known.points.place, ranked, first, ranked, inside, np.empty((0, 16), np.int32)
    )
    given = (ranked, first, known.values, known.values.dtype.type(level), inside)
    each_chunk(_inside, given, words, threads)
    return link_words(words, threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _near_children(
    links: NDArray[np.int32],
    ranked: Words,
    first: NDArray[np.int64],
    values: Floats,
    level: float,
    reach: NDArray[np.float64],
    cells: Words,
    chosen: NDArray[np.uint64],
    start: Integer,
    stop: Integer,
) -> None:
    """``chosen`` ``(W, 4, 2)``: children that no corner of their parent rules out; all of them where that leaves none
    in a cell with a change of sign, since the bound is wrong there.

    ``reach`` ``(8,)``: how far the value at corner ``c ^ i`` may be from the level if a surface passes the child at
    corner ``c``.
    """
    size = np.empty(8)
    for word in range(start, stop):
        chosen[word] = 0
        members = cells[word]
        while members != 0:
            bit = lowest_bit(members)
            members &= members - np.uint64(1)
            low = 0
            for column in range(4):
                at, above = links[word, 2 * column], links[word, 2 * column + 1]
                row = first[at] + rank(ranked[at], bit)
                above_row = row + 1 if bit < 63 else first[above]
                value, above_value = values[row], values[above_row]
                low += (value < level) + (above_value < level)
                size[2 * column] = abs(value - level)
                size[2 * column + 1] = abs(above_value - level)
            half, place = bit >> 5, 2 * (bit & 31)
            kept = 0
            for child in range(8):
                excluded = False
                for corner in range(8):
                    excluded |= size[corner] > reach[child ^ corner]  # false for NaN
                if not excluded:
                    kept += 1
                    chosen[word, child >> 1, half] |= np.uint64(1) << np.uint64(place + (child & 1))
            if kept == 0 and 0 < low < 8:
                for column in range(4):
                    chosen[word, column, half] |= np.uint64(3) << np.uint64(place)


@njit(nogil=True, cache=True, error_model="numpy")
def _mixed(links: NDArray[np.int32], inside: Words, cells: Words, mixed: Words, start: Integer, stop: Integer) -> None:
    for word in range(start, stop):
        own, by_y, by_x, by_xy = inside[word], inside[links[word, 2]], inside[links[word, 4]], inside[links[word, 6]]
        own_above, by_y_above = upper(own, inside[links[word, 1]]), upper(by_y, inside[links[word, 3]])
        by_x_above, by_xy_above = upper(by_x, inside[links[word, 5]]), upper(by_xy, inside[links[word, 7]])
        some = own | by_y | by_x | by_xy | own_above | by_y_above | by_x_above | by_xy_above
        every = own & by_y & by_x & by_xy & own_above & by_y_above & by_x_above & by_xy_above
        mixed[word] = cells[word] & some & ~every


@njit(nogil=True, cache=True, error_model="numpy")
def _leaks(
    links: NDArray[np.int32], inside: Words, cells: Words, leaks: NDArray[np.uint64], start: Integer, stop: Integer
) -> None:
    """``leaks`` ``(6, W)``: cells with a change of sign on face ``2 axis + side`` and no cell beyond it."""
    for word in range(start, stop):
        members = cells[word]
        for face in range(6):
            leaks[face, word] = 0
        if members == 0:
            continue
        a, b, c, d = inside[word], inside[links[word, 2]], inside[links[word, 4]], inside[links[word, 6]]
        a_up, b_up = upper(a, inside[links[word, 1]]), upper(b, inside[links[word, 3]])
        c_up, d_up = upper(c, inside[links[word, 5]]), upper(d, inside[links[word, 7]])
        leaks[0, word] = (a | a_up | b | b_up) & ~(a & a_up & b & b_up) & members & ~cells[links[word, 12]]
        leaks[1, word] = (c | c_up | d | d_up) & ~(c & c_up & d & d_up) & members & ~cells[links[word, 4]]
        leaks[2, word] = (a | a_up | c | c_up) & ~(a & a_up & c & c_up) & members & ~cells[links[word, 10]]
        leaks[3, word] = (b | b_up | d | d_up) & ~(b & b_up & d & d_up) & members & ~cells[links[word, 2]]
        leaks[4, word] = (a | b | c | d) & ~(a & b & c & d) & members & ~lower(members, cells[links[word, 9]])
        up = (a_up | b_up | c_up | d_up) & ~(a_up & b_up & c_up & d_up)
        leaks[5, word] = up & members & ~upper(members, cells[links[word, 1]])


def leaking_cells(known: Evaluated, cells: WordSet, level: float, *, threads: int | None = None) -> WordSet:
    """Cells of the lattice beyond the faces of ``cells`` through which the surface leaves them.

    ``known`` holds the corners of all ``cells``. None are left where a bound on the slope of the field chose the cells.
    """
    strides = known.strides
    words = _words(known, level, threads)
    leaks = np.empty((6, words.size), np.uint64)
    each_chunk(_leaks, (words.links, words.inside, aligned(words.place, cells), leaks), words, threads)
    found = WordSet(words.place[:0], words.ranked[:0])
    for face in range(6):
        some = leaks[face] != 0
        if some.any():
            leaving = WordSet(words.place[some], leaks[face, some])
            found = union(found, moved(leaving, strides, face >> 1, 2 * (face & 1) - 1))
    return within(found, strides, strides.resolution)


def finer_cells(
    known: Evaluated,
    cells: WordSet,
    level: float,
    reach: tuple[float, float, float] | None,
    *,
    thin: bool = False,
    threads: int | None = None,
) -> WordSet:
    """Children, on the lattice of twice the resolution, of those ``cells`` that may hold the surface.

    Args:
        known: holds the corners of all ``cells``.
        reach: by how much the field may change along the edges of a cell, by axis, if it changes at most by the length
            of the sum of a step's three parts; a child stays where this allows it to meet the level. ``None`` if
            nothing is known of the field: children of cells with a change of sign, and of all cells that touch these.
        thin: without ``reach``, children of cells with a change of sign and all cells of the finer lattice that touch
            these: a layer half as thick, for a last step.
    Returns:
        No cell that meets the level is left out under a true bound. A value that is NaN leaves nothing out.
    """
    coarse, fine = known.strides, strides_of(2 * known.strides.resolution)
    words = _words(known, level, threads)
    members = aligned(words.place, cells)
    if reach is not None:
        chosen = np.empty((words.size, 4, 2), np.uint64)
        steps = np.array(reach)
        # Farthest point of a child from a corner: half the cell where the child lies at that corner's side, else all.
        share = np.array([[1.0 if i >> (2 - axis) & 1 else 0.5 for axis in range(3)] for i in range(8)])
        given = (words.links, words.ranked, words.first, known.values, float(level))
        given_cells = (np.sqrt(((share * steps) ** 2).sum(axis=1)), members, chosen)
        each_chunk(_near_children, (*given, *given_cells), words, threads)
        return children(chosen, words.place, coarse, fine)
    mixed = np.empty(words.size, np.uint64)
    each_chunk(_mixed, (words.links, words.inside, members, mixed), words, threads)
    some = mixed != 0
    parents = WordSet(words.place[some], mixed[some])
    even = finer_points(parents if thin else dilated(parents, coarse), coarse, fine)
    both = union(even, moved(even, fine, 2, 1))
    for axis in (1, 0):
        both = union(both, moved(both, fine, axis, 1))
    return dilated(both, fine) if thin else both


def finer(known: Evaluated) -> Evaluated:
    """The same points on the lattice of twice the resolution."""
    fine = strides_of(2 * known.strides.resolution)
    return Evaluated(fine, finer_points(known.points, known.strides, fine), known.values)
