"""Where a level set crosses a lattice: signs, mixed cells and crossing edges as bit words over a lattice index.

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

from .lattice_index import Integer, LatticeIndex, Words, below, build_index, dense_index, popcount, segments_of
from .lattice_index_links import ahead_words, behind_words, cell_words, corner_words, link, raised
from .threads import run_chunks, spans

Floats = NDArray[np.floating[Any]]
WORDS_PER_CHUNK = 1 << 14


class Crossings(NamedTuple):
    """Bit words, one entry a word of ``lattice``."""

    lattice: LatticeIndex
    inside: Words
    """Points below the level."""
    mixed: Words
    """Active cells, by their lowest corner, with corners on both sides: all active cells at a crossing edge are
    mixed."""
    edges: Words
    """``(3, W)`` crossing edges of active cells, by axis and lower end."""
    counts: NDArray[np.int64]
    """``(W,)`` number of crossing edges."""


def word_chunks(index: LatticeIndex) -> list[tuple[int, int]]:
    """Ranges of words that threads work on; they depend on the size alone, so results do not depend on the threads."""
    return spans(index.words, WORDS_PER_CHUNK)


def exclusive_sum(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """``(N + 1,)`` offsets of consecutive parts."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def each_chunk(work: Callable[..., Any], index: LatticeIndex, threads: int | None) -> list[Any]:
    """``work(number, start, stop)`` for every chunk of words."""
    jobs = [(number, start, stop) for number, (start, stop) in enumerate(word_chunks(index))]
    return run_chunks(lambda job: work(*job), jobs, threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _count_bits(words: Words, counts: NDArray[np.int64], start: Integer, stop: Integer) -> None:
    for word in range(start, stop):
        counts[word] = popcount(words[word])


def bits_before(words: Words, index: LatticeIndex, threads: int | None) -> NDArray[np.int64]:
    """``(W + 1,)`` number of set bits before each word."""
    counts = np.empty(len(words), np.int64)
    each_chunk(lambda _, a, z: _count_bits(words, counts, a, z), index, threads)
    return exclusive_sum(counts)


@njit(nogil=True, cache=True, error_model="numpy")
def _dense_signs(
    values: Floats, level: np.floating[Any], index: LatticeIndex, inside: Words, start: Integer, stop: Integer
) -> None:
    segments = segments_of(index)
    depth = index.shape[3]
    for word in range(start, stop):
        column = word // segments
        z = (word - column * segments) * 64
        count = min(64, depth - z)
        row = column * depth + z
        low, finite = np.uint64(0), np.uint64(0)
        all_finite = True
        if count == 64:  # a constant trip count, so that the compiler vectorises
            finite = ~np.uint64(0)
            for bit in range(64):
                value = values[row + bit]
                low |= np.uint64(value < level) << np.uint64(bit)
                all_finite &= value - value == 0
        else:
            finite = below(count)
            for bit in range(count):
                value = values[row + bit]
                low |= np.uint64(value < level) << np.uint64(bit)
                all_finite &= value - value == 0
        if not all_finite:
            for bit in range(count):
                value = values[row + bit]
                if value - value != 0:
                    finite ^= np.uint64(1) << np.uint64(bit)
        inside[word] = low & finite
        index.present[word] = finite


@njit(nogil=True, cache=True, error_model="numpy")
def _sparse_signs(
    values: Floats,
    level: np.floating[Any],
    index: LatticeIndex,
    exists: Words,
    inside: Words,
    start: Integer,
    stop: Integer,
) -> None:
    for word in range(start, stop):
        low, finite = np.uint64(0), np.uint64(0)
        present = index.present[word]
        rank = index.first[word]
        one = np.uint64(1)
        while present != 0:
            bit = present & (~present + one)
            row = index.order[rank] if index.order.size > 0 else rank
            value = values[row]
            if value < level:
                low |= bit
            if value - value == 0:
                finite |= bit
            rank += 1
            present ^= bit
        inside[word] = low & finite
        exists[word] = finite


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_cells(index: LatticeIndex, exists: Words, inside: Words, mixed: Words, start: Integer, stop: Integer) -> None:
    words = np.empty((4, 2), np.int64)
    corners = np.empty(8, np.uint64)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        if index.dense and mixed[word] == 0:
            continue
        ahead_words(shape, links, word, words)
        some, every = np.uint64(0), ~np.uint64(0)
        corner_words(inside, words, corners)
        for corner in range(8):
            some |= corners[corner]
            every &= corners[corner]
        cells = some & ~every
        if cells != 0:
            corner_words(exists, words, corners)
            for corner in range(8):
                cells &= corners[corner]
        mixed[word] = cells


@njit(nogil=True, cache=True, error_model="numpy")
def _scan_dense(
    shape: tuple[Integer, Integer, Integer, Integer],
    inside: Words,
    mixed: Words,
    edges: Words,
    start: Integer,
    stop: Integer,
) -> None:
    """First pass over a dense grid, by far most of whose words see no change: mark those that do.

    ``edges`` gets all sign changes, ``mixed`` all bits where a cell of the word may be mixed. Plain arithmetic on words
    in memory order: passing the index to helpers would cost more than the pass itself.
    """
    one, top = np.uint64(1), np.uint64(63)
    segments = (shape[3] + 63) >> 6
    beyond_x = shape[2] * segments
    column = start // segments
    segment = start - column * segments
    x = column // shape[2]
    y = column - x * shape[2]
    for word in range(start, stop):
        last = segment + 1 == segments
        own = inside[word]
        above = own >> one if last else (own >> one) | (inside[word + 1] << top)
        if last:  # no change between the last lattice point and the padding of the word
            above |= own & (one << np.uint64((shape[3] - 1) & 63))
        edges[2, word] = own ^ above
        changes = edges[2, word]
        has_x, has_y = x + 1 < shape[1], y + 1 < shape[2]
        edges[0, word] = own ^ inside[word + beyond_x] if has_x else np.uint64(0)
        edges[1, word] = own ^ inside[word + segments] if has_y else np.uint64(0)
        if has_x and has_y:
            # A cell is uniform if its four vertical edges and the bottom face are.
            for offset in (segments, beyond_x, beyond_x + segments):
                other = inside[word + offset]
                above = other >> one if last else (other >> one) | (inside[word + offset + 1] << top)
                changes |= (own ^ other) | (other ^ above)
            mixed[word] = changes
        else:
            mixed[word] = 0
        segment += 1
        if last:
            segment, y = 0, y + 1
            if y == shape[2]:
                y, x = 0, x + 1


@njit(nogil=True, cache=True, error_model="numpy")
def _mark_edges(
    index: LatticeIndex,
    inside: Words,
    mixed: Words,
    edges: Words,
    counts: NDArray[np.int64],
    start: Integer,
    stop: Integer,
) -> None:
    """Keep the sign changes that an active cell sees; a cell that is active and sees one is mixed."""
    words = np.empty((4, 2), np.int64)
    cells = np.empty((4, 2), np.uint64)
    shape, links = index.shape, index.links
    for word in range(start, stop):
        counts[word] = 0
        if not index.dense:
            ahead_words(shape, links, word, words)
            own = inside[word]
            edges[0, word] = own ^ (inside[words[2, 0]] if words[2, 0] >= 0 else np.uint64(0))
            edges[1, word] = own ^ (inside[words[1, 0]] if words[1, 0] >= 0 else np.uint64(0))
            edges[2, word] = own ^ raised(inside, word, words[0, 1])
        if (edges[0, word] | edges[1, word] | edges[2, word]) == 0:
            continue
        behind_words(shape, links, word, words)
        cell_words(mixed, words, cells)
        edges[0, word] &= cells[0, 0] | cells[0, 1] | cells[1, 0] | cells[1, 1]
        edges[1, word] &= cells[0, 0] | cells[0, 1] | cells[2, 0] | cells[2, 1]
        edges[2, word] &= cells[0, 0] | cells[1, 0] | cells[2, 0] | cells[3, 0]
        counts[word] = popcount(edges[0, word]) + popcount(edges[1, word]) + popcount(edges[2, word])


@njit(nogil=True, cache=True, error_model="numpy")
def case_of(corners: Words, bit: Integer) -> Integer:
    """Sign pattern of the cell at ``bit`` (*compiled*)."""
    case = np.uint64(0)
    for corner in range(8):
        case |= ((corners[corner] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(corner)
    return np.int64(case)


def find_crossings(index: LatticeIndex, values: Floats, level: float, threads: int | None) -> Crossings:
    """Mark inside points, mixed cells and crossing edges.

    Args:
        index: of the lattice points; ``present`` of a dense one is filled here.
        values: ``(N,)`` by row of the index. ``level`` must be representable in their dtype.
    """
    index = link(index, threads)
    words = index.words
    inside, mixed = np.empty(words, np.uint64), np.empty(words, np.uint64)
    edges, counts = np.empty((3, words), np.uint64), np.empty(words, np.int64)
    cut = values.dtype.type(level)
    exists = index.present
    if index.dense:
        each_chunk(lambda _, a, z: _dense_signs(values, cut, index, inside, a, z), index, threads)
        each_chunk(lambda _, a, z: _scan_dense(index.shape, inside, mixed, edges, a, z), index, threads)
    else:
        exists = np.empty(words, np.uint64)
        each_chunk(lambda _, a, z: _sparse_signs(values, cut, index, exists, inside, a, z), index, threads)
    each_chunk(lambda _, a, z: _mark_cells(index, exists, inside, mixed, a, z), index, threads)
    each_chunk(lambda _, a, z: _mark_edges(index, inside, mixed, edges, counts, a, z), index, threads)
    return Crossings(index, inside, mixed, edges, counts)


def grid_crossings(values: Floats, level: float, threads: int | None) -> tuple[Crossings, Floats]:
    """Crossings of a dense grid ``(X, Y, Z)``, and its values as ``(X * Y * Z,)``."""
    if values.ndim != 3 or min(values.shape) < 2:
        raise ValueError(f"values must be (X, Y, Z) with at least 2 lattice points an axis, not {values.shape}")
    flat = np.ascontiguousarray(_floating(values)).reshape(-1)
    shape = (values.shape[0], values.shape[1], values.shape[2])
    return find_crossings(dense_index(shape), flat, level, threads), flat


def sparse_crossings(
    coords: NDArray[np.integer[Any]], values: Floats, level: float, threads: int | None
) -> tuple[Crossings, Floats]:
    """Crossings of the lattice points ``coords`` ``(N, 3)``, non-negative, with ``values`` ``(N,)``; any row order."""
    if coords.ndim != 2 or coords.shape[1] != 3:
        raise ValueError(f"coords must be (N, 3) lattice indices of one sample, not {coords.shape}")
    if values.shape != (len(coords),):
        raise ValueError(f"values must be ({len(coords)},), one a lattice point, not {values.shape}")
    counts = coords.max(axis=0).tolist() if len(coords) else [0, 0, 0]
    shape = (1, counts[0] + 1, counts[1] + 1, counts[2] + 1)
    batched = np.zeros((len(coords), 4), coords.dtype)
    batched[:, 1:] = coords
    values = np.ascontiguousarray(_floating(values))
    return find_crossings(build_index(batched, shape, threads=threads), values, level, threads), values


def _floating(values: Floats) -> Floats:
    return values if values.dtype in (np.float32, np.float64) else values.astype(np.float32)
