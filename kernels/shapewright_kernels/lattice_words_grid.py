"""The words of a dense grid that a level set passes, found by one pass over the values and some over bit masks.

By far most words see no change of sign. Those that do, and the words that hold the other corners of their cells, make
a list of the same form as that of sparse points, so that everything after follows the surface and there is one engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Words, below
from .lattice_words import WORDS_PER_CHUNK, Floats, LatticeWords, empty_words, linked, word_chunks
from .threads import run_chunks, spans


@njit(nogil=True, cache=True, error_model="numpy")
def _signs(
    values: Floats,
    level: np.floating[Any],
    infinity: np.floating[Any],
    depth: Integer,
    inside: Words,
    start: Integer,
    stop: Integer,
) -> bool:
    """``inside`` of the columns ``start..stop``, and whether all values are finite."""
    segments, full = (depth + 63) >> 6, depth >> 6
    finite = True
    for column in range(start, stop):
        row, word = column * depth, column * segments
        for _ in range(full):  # constant trip counts and 32-bit words, so that the compiler vectorises
            low, high = np.uint32(0), np.uint32(0)
            for bit in range(32):
                value = values[row + bit]
                low |= np.uint32(value < level) << np.uint32(bit)
                finite &= abs(value) < infinity
            for bit in range(32):
                value = values[row + 32 + bit]
                high |= np.uint32(value < level) << np.uint32(bit)
                finite &= abs(value) < infinity
            inside[word] = np.uint64(low) | np.uint64(high) << np.uint64(32)
            row, word = row + 64, word + 1
        if full < segments:
            tail = np.uint64(0)
            for bit in range(depth & 63):
                value = values[row + bit]
                tail |= np.uint64(value < level) << np.uint64(bit)
                finite &= abs(value) < infinity
            inside[word] = tail
    return finite


@njit(nogil=True, cache=True, error_model="numpy")
def _changes(
    shape: tuple[Integer, Integer, Integer],
    inside: Words,
    changed: NDArray[np.uint8],
    start: Integer,
    stop: Integer,
) -> None:
    """``changed``: of the columns ``start..stop``, 1 for words that hold a cell with a change of sign, 3 where the
    uppermost cell is one, which has corners in the next word."""
    one, top = np.uint64(1), np.uint64(63)
    segments = (shape[2] + 63) >> 6
    beyond = shape[1] * segments
    for column in range(start, stop):
        x = column // shape[1]
        if x + 1 == shape[0] or column + 1 == (x + 1) * shape[1]:
            changed[column * segments : (column + 1) * segments] = 0
            continue
        for segment in range(segments):
            word = column * segments + segment
            last = segment + 1 == segments
            own, by_y = inside[word], inside[word + segments]
            by_x, by_xy = inside[word + beyond], inside[word + beyond + segments]
            if last:  # cells end below the last point
                cells = below((shape[2] - 1) & 63)
                above, above_y, above_x, above_xy = own >> one, by_y >> one, by_x >> one, by_xy >> one
            else:
                cells = ~np.uint64(0)
                above = (own >> one) | (inside[word + 1] << top)
                above_y = (by_y >> one) | (inside[word + segments + 1] << top)
                above_x = (by_x >> one) | (inside[word + beyond + 1] << top)
                above_xy = (by_xy >> one) | (inside[word + beyond + segments + 1] << top)
            some = own | by_y | by_x | by_xy | above | above_y | above_x | above_xy
            every = own & by_y & by_x & by_xy & above & above_y & above_x & above_xy
            found = some & ~every & cells
            changed[word] = np.uint64(found != 0) | found >> top << one


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    values: Floats,
    shape: tuple[Integer, Integer, Integer],
    all_inside: Words,
    all_finite: bool,
    numbers: NDArray[np.int64],
    place: NDArray[np.int64],
    ranked: Words,
    first: NDArray[np.int64],
    exists: Words,
    inside: Words,
    start: Integer,
    stop: Integer,
) -> None:
    depth = shape[2]
    segments = (depth + 63) >> 6
    for word in range(start, stop):
        number = numbers[word]
        column = number // segments
        segment = number - column * segments
        x = column // shape[1]
        place[word] = (x * (shape[1] + 1) + column - x * shape[1]) * (segments + 1) + segment
        row = column * depth + segment * 64
        size = min(64, depth - segment * 64)
        finite = ~np.uint64(0) if size == 64 else below(size)
        if not all_finite:
            for bit in range(size):
                value = values[row + bit]
                if value - value != 0:
                    finite ^= np.uint64(1) << np.uint64(bit)
        first[word], ranked[word] = row, ~np.uint64(0)
        exists[word], inside[word] = finite, all_inside[number] & finite


def grid_words(
    values: Floats, shape: tuple[int, int, int], level: float, *, around: bool = False, threads: int | None = None
) -> LatticeWords:
    """Linked words of the grid ``values`` ``(X * Y * Z,)`` that hold a corner of a cell with a change of sign.

    A value that is not finite may count as a change here; the cell is not active then. Rows are flat indices.
    ``around`` adds the words that hold the neighbours, along the axes, of these corners.
    """
    segments = -(-shape[2] // 64)
    inside = np.empty(shape[0] * shape[1] * segments, np.uint64)
    changed = np.empty(len(inside), np.uint8)
    chunks = spans(shape[0] * shape[1], max(1, WORDS_PER_CHUNK // segments))
    cut, infinity = values.dtype.type(level), values.dtype.type(np.inf)
    finite = run_chunks(lambda span: _signs(values, cut, infinity, shape[2], inside, *span), chunks, threads)
    run_chunks(lambda span: _changes(shape, inside, changed, *span), chunks, threads)
    # The other corners of a word's cells lie in words one further along each axis. Across a border this marks words
    # that are not needed, which does no harm.
    above = changed >> 1
    changed &= 1
    changed[1:] |= above[:-1]
    steps = (1, segments, shape[1] * segments)
    for step in steps[1:]:
        wanted = changed.copy()
        wanted[step:] |= changed[:-step]
        changed = wanted
    if around:
        wanted = changed.copy()
        for step in steps:
            wanted[step:] |= changed[:-step]
            wanted[:-step] |= changed[step:]
        changed = wanted
    numbers = np.flatnonzero(changed)
    words = empty_words(shape, len(numbers))
    made = (words.place, words.ranked, words.first, words.exists, words.inside)
    run_chunks(
        lambda chunk: _fill(values, shape, inside, all(finite), numbers, *made, chunk[1], chunk[2]),
        word_chunks(len(numbers)),
        threads,
    )
    return linked(words, threads)
