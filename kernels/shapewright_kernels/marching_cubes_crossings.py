"""Where a level set crosses a lattice: mixed cells and crossing edges as bit masks over lattice words.

Shared by marching cubes and dual contouring, for dense grids and sparse points alike. A value is inside where it is
below the level; a value exactly at the level is outside. A point that is absent or not finite does not exist. A cell
is active when its eight corners exist, and only edges of active cells count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Words, lowest_bit, popcount
from .lattice_words import (
    Floats,
    LatticeWords,
    bit_of,
    exclusive_sum,
    lower,
    sparse_words,
    upper,
    word_chunks,
)
from .lattice_words_grid import grid_words
from .threads import run_chunks


class Crossings(NamedTuple):
    """Bit masks by word; all arrays have one more entry, an empty word."""

    words: LatticeWords
    mixed: Words
    """``(W + 1,)`` active cells, by their lowest corner, with corners on both sides: all active cells at a crossing
    edge are mixed."""
    edges: Words
    """``(W + 1, 3)`` crossing edges of active cells, by lower end and axis."""
    base: NDArray[np.int64]
    """``(W + 1,)`` number of crossing edges before each word."""


def each_chunk(
    kernel: Callable[..., Any],
    given: tuple[Any, ...],
    words: LatticeWords,
    threads: int | None,
    starts: NDArray[np.int64] | None = None,
) -> list[Any]:
    """``kernel(*given, start, stop)`` for every chunk of words; with ``starts`` the chunk's entry of it precedes
    ``start``."""

    def run(chunk: tuple[int, int, int]) -> Any:
        number, start, stop = chunk
        return kernel(*given, start, stop) if starts is None else kernel(*given, starts[number], start, stop)

    return run_chunks(run, word_chunks(words.size), threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _count_bits(words: Words, counts: NDArray[np.int64], start: Integer, stop: Integer) -> None:
    for word in range(start, stop):
        counts[word] = popcount(words[word])


def bits_before(bits: Words, words: LatticeWords, threads: int | None) -> NDArray[np.int64]:
    """``(W + 1,)`` number of set bits before each word, and of all."""
    counts = np.empty(words.size, np.int64)
    each_chunk(_count_bits, (bits, counts), words, threads)
    return exclusive_sum(counts)


@njit(nogil=True, cache=True, error_model="numpy")
def case_of(
    own: np.uint64,
    own_above: np.uint64,
    by_y: np.uint64,
    by_y_above: np.uint64,
    by_x: np.uint64,
    by_x_above: np.uint64,
    by_xy: np.uint64,
    by_xy_above: np.uint64,
    bit: Integer,
) -> Integer:
    """Sign pattern of the cell at ``bit``: corner ``4 x + 2 y + z`` is bit that of it (*compiled*).

    Arguments are the words of the four columns, and each moved down by one along z (:func:`.lattice_words.upper`).
    """
    case = bit_of(own, bit) | bit_of(own_above, bit) << 1 | bit_of(by_y, bit) << 2 | bit_of(by_y_above, bit) << 3
    case |= bit_of(by_x, bit) << 4 | bit_of(by_x_above, bit) << 5
    return case | bit_of(by_xy, bit) << 6 | bit_of(by_xy_above, bit) << 7


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_cells(
    links: NDArray[np.int32],
    exists: Words,
    inside: Words,
    weights: NDArray[np.int64],
    mixed: Words,
    start: Integer,
    stop: Integer,
) -> Integer:
    """Write ``mixed``; the sum of ``weights`` ``(256,)`` (or none) over the cases of the mixed cells."""
    total = np.int64(0)
    for word in range(start, stop):
        y, x, xy = links[word, 2], links[word, 4], links[word, 6]
        own, by_y, by_x, by_xy = inside[word], inside[y], inside[x], inside[xy]
        own_above, by_y_above = upper(own, inside[links[word, 1]]), upper(by_y, inside[links[word, 3]])
        by_x_above, by_xy_above = upper(by_x, inside[links[word, 5]]), upper(by_xy, inside[links[word, 7]])
        some = own | by_y | by_x | by_xy | own_above | by_y_above | by_x_above | by_xy_above
        every = own & by_y & by_x & by_xy & own_above & by_y_above & by_x_above & by_xy_above
        cells = some & ~every
        if cells != 0:
            cells &= exists[word] & exists[y] & exists[x] & exists[xy]
            cells &= upper(exists[word], exists[links[word, 1]]) & upper(exists[y], exists[links[word, 3]])
            cells &= upper(exists[x], exists[links[word, 5]]) & upper(exists[xy], exists[links[word, 7]])
        mixed[word] = cells
        if weights.size > 0:
            while cells != 0:
                bit = lowest_bit(cells)
                case = case_of(own, own_above, by_y, by_y_above, by_x, by_x_above, by_xy, by_xy_above, bit)
                total += weights[case]
                cells &= cells - np.uint64(1)
    return total


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_edges(
    links: NDArray[np.int32],
    inside: Words,
    mixed: Words,
    edges: Words,
    counts: NDArray[np.int64],
    start: Integer,
    stop: Integer,
) -> None:
    """The changes of sign along edges that an active cell sees; a cell that is active and sees one is mixed."""
    for word in range(start, stop):
        own, by_y, by_x, by_xy = mixed[word], mixed[links[word, 10]], mixed[links[word, 12]], mixed[links[word, 14]]
        under, under_y = mixed[links[word, 9]], mixed[links[word, 11]]
        under_x = mixed[links[word, 13]]
        at_y, at_x = own | by_y, own | by_x  # cells that share the edges along z with offsets 0 along x, along y
        here = inside[word]
        e_x = here ^ inside[links[word, 4]]
        e_y = here ^ inside[links[word, 2]]
        e_z = here ^ upper(here, inside[links[word, 1]])
        e_x &= at_y | lower(own, under) | lower(by_y, under_y)
        e_y &= at_x | lower(own, under) | lower(by_x, under_x)
        e_z &= at_y | at_x | by_xy
        edges[word, 0], edges[word, 1], edges[word, 2] = e_x, e_y, e_z
        counts[word] = popcount(e_x) + popcount(e_y) + popcount(e_z)


def find_crossings(
    words: LatticeWords, weights: NDArray[np.int64] | None, threads: int | None
) -> tuple[Crossings, NDArray[np.int64]]:
    """Mark mixed cells and crossing edges.

    Args:
        weights: ``(256,)`` by case of a cell; ``None`` for none.
    Returns:
        The crossings, and the sum of ``weights`` over the mixed cells before each chunk of words, and over all.
    """
    count = words.size
    mixed, edges, counts = (
        np.empty(count + 1, np.uint64),
        np.empty((count + 1, 3), np.uint64),
        np.empty(count, np.int64),
    )
    mixed[-1], edges[-1] = 0, 0
    links, exists, inside = words.links, words.exists, words.inside
    given = np.empty(0, np.int64) if weights is None else weights
    sums = each_chunk(_mark_cells, (links, exists, inside, given, mixed), words, threads)
    each_chunk(_mark_edges, (links, inside, mixed, edges, counts), words, threads)
    return Crossings(words, mixed, edges, exclusive_sum(counts)), exclusive_sum(np.array(sums, np.int64))


def floating(values: Floats) -> Floats:
    """float32 and float64 as they are, anything else as float32."""
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)


def dense_points(
    values: Floats, level: float, threads: int | None, *, around: bool = False
) -> tuple[LatticeWords, Floats]:
    """The words of a dense grid ``(X, Y, Z)`` that matter, and its values as ``(X * Y * Z,)``; no copy of a
    C-contiguous float array. ``around``: with the neighbours of the corners of mixed cells."""
    if values.ndim != 3 or min(values.shape) < 2:
        raise ValueError(f"values must be (X, Y, Z) with at least 2 lattice points an axis, not {values.shape}")
    flat = np.ascontiguousarray(floating(values)).reshape(-1)
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return grid_words(flat, shape, level, around=around, threads=threads), flat


def sparse_points(
    coords: NDArray[np.integer[Any]], values: Floats, level: float, threads: int | None
) -> tuple[LatticeWords, Floats, NDArray[np.int64]]:
    """The words of lattice points ``coords`` ``(N, 3)``, non-negative, with ``values`` ``(N,)``, in any row order; the
    values by row of the words, and the order of these rows (empty where they are the caller's)."""
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise ValueError(f"coords must be (N, 3) lattice indices of one sample, not {coords.shape}")
    if values.shape != (len(coords),):
        raise ValueError(f"values must be ({len(coords)},), one a lattice point, not {values.shape}")
    values = np.ascontiguousarray(floating(values))
    words, order = sparse_words(coords, values, level, threads=threads)
    return words, values[order] if len(order) else values, order
