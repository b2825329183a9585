"""Lattice points as sorted words of 64 along z, made for passes that look at every word and its neighbours once.

A *word* is 64 neighbours along z (aligned at multiples of 64) of one column ``(x, y)``, as bit masks. In lexicographic
order the points of a word are consecutive, so the row of a point is ``first[word]`` plus a popcount, and a question
about neighbours (``z + 1``: a shift; ``x + 1``, ``y + 1``: the same bit of another word) is answered for 64 points at
once. The words around a word are *linked*, found by pointers that only move forward; where there is none, the link
leads to one extra word at the end of every array, which is empty. So no pass searches, and none tests for borders.

The other index, :mod:`.lattice_index`, answers questions about any point in any order and serves batches.

The functions marked *compiled* are for use inside other Numba kernels. They take numbers and no arrays: where
a call inside a loop is not inlined, each array is passed as seven numbers, which cost more than the work. All masks
are ``uint64``; beware that Numba turns ``int64 op uint64`` into floating point.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Integers, Words, below, popcount
from .threads import run_chunks, spans

Floats = NDArray[np.floating[Any]]
ROWS_PER_CHUNK = 1 << 16
WORDS_PER_CHUNK = 1 << 13


class LatticeWords(NamedTuple):
    """``W`` words of a lattice of ``shape`` ``(X, Y, Z)`` points; arrays but ``place`` have an empty word at the end.

    Words are sorted by ``place = (x * (Y + 1) + y) * (ceil(Z / 64) + 1) + z // 64``: one column and one word more than
    the lattice has, so that a neighbour beyond the border has a place of its own, which no word takes.
    """

    shape: tuple[int, int, int]
    place: NDArray[np.int64]
    """``(W,)``"""
    ranked: Words
    """``(W + 1,)`` points that have a row: those present, and all 64 in a dense grid."""
    first: NDArray[np.int64]
    """``(W + 1,)`` row of the first ranked point."""
    exists: Words
    """``(W + 1,)`` points that are present and have a finite value."""
    inside: Words
    """``(W + 1,)`` existing points whose value is below the level."""
    links: NDArray[np.int32]
    """``(W, 16)`` words around each word, ``W`` where there is none: link ``4 dx + 2 dy + dz`` is the word ``dx, dy``
    columns and ``dz`` words further, link ``8 + 4 dx + 2 dy + dz`` the one as many columns and words back."""

    @property
    def size(self) -> int:
        """Number of words."""
        return len(self.place)


def word_chunks(words: int) -> list[tuple[int, int, int]]:
    """``(number, start, stop)`` of the ranges of words that threads work on; they depend on the size alone."""
    return [(number, start, stop) for number, (start, stop) in enumerate(spans(words, WORDS_PER_CHUNK))]


def exclusive_sum(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """``(N + 1,)`` offsets of consecutive parts."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


@njit(nogil=True, cache=True, error_model="numpy")
def upper(own: np.uint64, above: np.uint64) -> np.uint64:
    """Bits of the points one above along z, at the places of a word; ``above`` is the next word (*compiled*)."""
    return np.uint64((own >> np.uint64(1)) | (above << np.uint64(63)))


@njit(nogil=True, cache=True, error_model="numpy")
def lower(own: np.uint64, under: np.uint64) -> np.uint64:
    """Bits of the points one below along z, at the places of a word; ``under`` is the previous word (*compiled*)."""
    return np.uint64((own << np.uint64(1)) | (under >> np.uint64(63)))


@njit(nogil=True, cache=True, error_model="numpy")
def bit_of(word: np.uint64, bit: Integer) -> Integer:
    """0 or 1 (*compiled*)."""
    return np.int64((word >> np.uint64(bit)) & np.uint64(1))


@njit(nogil=True, cache=True, error_model="numpy")
def rank(word: np.uint64, bit: Integer) -> Integer:
    """Set bits under ``bit`` (*compiled*)."""
    return popcount(word & below(bit))


@njit(nogil=True, cache=True, error_model="numpy")
def column_of(shape: tuple[Integer, Integer, Integer], place: Integer) -> tuple[Integer, Integer, Integer]:
    """``(x, y, z)`` of the lowest point of a word (*compiled*)."""
    stride = ((shape[2] + 63) >> 6) + 1
    column = place // stride
    x = column // (shape[1] + 1)
    return x, column - x * (shape[1] + 1), (place - column * stride) << 6


@njit(nogil=True, cache=True, error_model="numpy")
def _survey(coords: Integers, start: Integer, stop: Integer, found: NDArray[np.int64]) -> None:
    """``found``: words that begin in these rows; rows out of order; rows that repeat; least index; largest indices."""
    words, unsorted, repeated = np.int64(0), np.int64(0), np.int64(0)
    least, most_x, most_y, most_z = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    at = max(start - 1, 0)
    last_x, last_y, last_z = np.int64(coords[at, 0]), np.int64(coords[at, 1]), np.int64(coords[at, 2])
    if start == 0:
        last_x = last_x - 1
    for row in range(start, stop):
        x, y, z = np.int64(coords[row, 0]), np.int64(coords[row, 1]), np.int64(coords[row, 2])
        least = min(least, min(x, min(y, z)))
        most_x, most_y, most_z = max(most_x, x), max(most_y, y), max(most_z, z)
        if x == last_x and y == last_y:
            repeated += z == last_z
            unsorted += z < last_z
            words += (z >> 6) != (last_z >> 6)
        else:
            unsorted += x < last_x or (x == last_x and y < last_y)
            words += 1
        last_x, last_y, last_z = x, y, z
    found[0], found[1], found[2], found[3] = words, unsorted, repeated, least
    found[4], found[5], found[6] = most_x, most_y, most_z


@njit(nogil=True, cache=True, error_model="numpy")
def _fill(
    coords: Integers,
    values: Floats,
    level: np.floating[Any],
    shape: tuple[Integer, Integer, Integer],
    place: NDArray[np.int64],
    ranked: Words,
    first: NDArray[np.int64],
    exists: Words,
    inside: Words,
    word: Integer,
    start: Integer,
    stop: Integer,
) -> None:
    """Write the words that begin in ``start..stop``, to their end even where that lies beyond ``stop``."""
    segments = ((shape[2] + 63) >> 6) + 1
    columns = shape[1] + 1
    one = np.uint64(1)
    total = len(coords)
    row = start
    if start > 0:
        before = (np.int64(coords[start - 1, 0]) * columns + np.int64(coords[start - 1, 1])) * segments
        before += np.int64(coords[start - 1, 2]) >> 6
        while row < stop:
            here = (np.int64(coords[row, 0]) * columns + np.int64(coords[row, 1])) * segments
            if here + (np.int64(coords[row, 2]) >> 6) != before:
                break
            row += 1
    while row < stop:
        x, y, z = coords[row, 0], coords[row, 1], np.int64(coords[row, 2])
        segment = z >> 6
        place[word] = (np.int64(x) * columns + np.int64(y)) * segments + segment
        first[word] = row
        some, finite, low = np.uint64(0), np.uint64(0), np.uint64(0)
        while True:
            bit = one << np.uint64(z & 63)
            value = values[row]
            some |= bit
            if value - value == 0:
                finite |= bit
                if value < level:
                    low |= bit
            row += 1
            if row == total:
                break
            z = np.int64(coords[row, 2])
            if (z >> 6) != segment or coords[row, 1] != y or coords[row, 0] != x:
                break
        ranked[word], exists[word], inside[word] = some, finite, low
        word += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _link(
    place: NDArray[np.int64],
    segments: Integer,
    columns: Integer,
    links: NDArray[np.int32],
    start: Integer,
    stop: Integer,
) -> None:
    """Links of the words ``start..stop`` ahead, and back from where these lead: each entry has one writer."""
    words = place.size
    step = (np.int64(0), segments, columns * segments, (columns + 1) * segments)
    at = np.searchsorted(place, place[start] + segments)
    at_x = np.searchsorted(place, place[start] + columns * segments)
    at_xy = np.searchsorted(place, place[start] + (columns + 1) * segments)
    for word in range(start, stop):
        here = place[word]
        links[word, 0], links[word, 8] = word, word
        if word + 1 < words and place[word + 1] == here + 1:
            links[word, 1] = word + 1
            links[word + 1, 9] = word
        for column in range(1, 4):
            target = here + step[column]
            pointer = at if column == 1 else (at_x if column == 2 else at_xy)
            while pointer < words and place[pointer] < target:
                pointer += 1
            if column == 1:
                at = pointer
            elif column == 2:
                at_x = pointer
            else:
                at_xy = pointer
            if pointer < words and place[pointer] == target:
                links[word, 2 * column] = pointer
                links[pointer, 8 + 2 * column] = word
                pointer += 1
            if pointer < words and place[pointer] == target + 1:
                links[word, 2 * column + 1] = pointer
                links[pointer, 9 + 2 * column] = word


def linked(words: LatticeWords, threads: int | None) -> LatticeWords:
    """The words with ``links`` filled, 64 bytes a word."""
    count = words.size
    if count >= 1 << 31:
        raise ValueError(f"{count} words cannot be linked by 32-bit numbers; extract parts of the lattice")
    links = np.empty((count, 16), np.int32)
    segments, columns = -(-words.shape[2] // 64) + 1, words.shape[1] + 1
    chunks = word_chunks(count)

    def clear(chunk: tuple[int, int, int]) -> None:
        links[chunk[1] : chunk[2]] = count

    run_chunks(clear, chunks, threads)
    run_chunks(lambda chunk: _link(words.place, segments, columns, links, *chunk[1:]), chunks, threads)
    return words._replace(links=links)


def empty_words(shape: tuple[int, int, int], count: int) -> LatticeWords:
    """Room for ``count`` words, with the empty one at the end already written."""
    ranked, exists, inside = (np.empty(count + 1, np.uint64) for _ in range(3))
    first = np.empty(count + 1, np.int64)
    for array in (ranked, exists, inside, first):
        array[-1] = 0
    return LatticeWords(shape, np.empty(count, np.int64), ranked, first, exists, inside, np.empty((0, 16), np.int32))


def sparse_words(
    coords: Integers, values: Floats, level: float, *, threads: int | None = None
) -> tuple[LatticeWords, NDArray[np.int64]]:
    """Words of the lattice points ``coords`` ``(N, 3)``, and the order that sorts their rows.

    Args:
        coords: in any row order; no copy where they are sorted.
        values: ``(N,)`` in the same order.
    Returns:
        Linked words, whose rows are those of ``coords[order]``, and ``order`` ``(N,)``: empty where rows are sorted.
    Raises:
        ValueError: a lattice point twice, a negative index, or a lattice too large for 64-bit keys.
    """
    chunks = spans(len(coords), ROWS_PER_CHUNK)
    order = np.empty(0, np.int64)

    def survey() -> NDArray[np.int64]:
        found = np.zeros((len(chunks), 7), np.int64)
        run_chunks(lambda n: _survey(coords, *chunks[n], found[n]), range(len(chunks)), threads)
        return found

    found = survey()
    if len(found) and found[:, 3].min() < 0:
        raise ValueError(f"coords lie outside the lattice: the least index is {found[:, 3].min()}")
    largest = found[:, 4:].max(axis=0, initial=0).tolist()
    shape = (largest[0] + 1, largest[1] + 1, largest[2] + 1)
    if (shape[0] + 1) * (shape[1] + 1) * (-(-shape[2] // 64) + 2) >= 1 << 62:
        raise ValueError(f"a lattice of {shape} points has no 64-bit keys; extract parts of it")
    if found[:, 1].any():
        order = np.lexsort((coords[:, 2], coords[:, 1], coords[:, 0]))
        coords, values = np.take(coords, order, axis=0), values[order]
        found = survey()
    if found[:, 2].any():
        raise ValueError("coords hold a lattice point twice; merge the rows first")
    starts = exclusive_sum(found[:, 0])
    words = empty_words(shape, int(starts[-1]))
    cut = values.dtype.type(level)
    made = (words.place, words.ranked, words.first, words.exists, words.inside)

    def fill(number: int) -> None:
        start, stop = chunks[number]
        _fill(coords, values, cut, shape, *made, starts[number], start, stop)

    run_chunks(fill, range(len(chunks)), threads)
    return linked(words, threads), order
