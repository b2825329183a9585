"""The words around each word of a lattice index, and bits of their points moved to the places of the word itself.

*Ahead* are the four columns at ``(0, 0), (0, 1), (1, 0), (1, 1)`` from a word along x and y, own and next segment:
the corners of its cells. *Behind* are those at minus the same, own and previous segment: the cells around its edges. A
dense index computes them; for a sparse one they are stored, found by walking the sorted words once with one pointer
each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, LatticeIndex, Words
from .threads import run_chunks, spans

WORDS_PER_CHUNK = 1 << 14

Shape = tuple[Integer, Integer, Integer, Integer]
WordIds = NDArray[np.int64]
"""``(4, 2)`` words of four columns in two segments, -1 where there is none."""


def link(index: LatticeIndex, threads: int | None = None) -> LatticeIndex:
    """The index with ``links`` filled: 64 bytes a word of a sparse index, nothing for a dense one."""
    if index.dense or len(index.links) == index.words:
        return index
    if index.words >= 1 << 31:
        raise ValueError(f"{index.words} words cannot be linked by 32-bit numbers; split the batch")
    links = np.empty((index.words, 16), np.int32)
    chunks = spans(index.words, WORDS_PER_CHUNK)
    run_chunks(lambda span: _link(index.shape, index.place, links, *span), chunks, threads)
    return index._replace(links=links)


@njit(nogil=True, cache=True, error_model="numpy")
def _link(shape: Shape, place: NDArray[np.int64], links: NDArray[np.int32], start: Integer, stop: Integer) -> None:
    segments = (shape[3] + 63) >> 6
    step = np.empty((16, 3), np.int64)
    pointer = np.empty(16, np.int64)
    for link in range(16):
        sign = 1 - 2 * (link >> 3)
        step[link, 0], step[link, 1], step[link, 2] = sign * (link >> 2 & 1), sign * (link >> 1 & 1), sign * (link & 1)
        target = place[start] + (step[link, 0] * shape[2] + step[link, 1]) * segments + step[link, 2]
        low, high = np.int64(0), np.int64(place.size)
        while low < high:
            middle = (low + high) >> 1
            if place[middle] < target:
                low = middle + 1
            else:
                high = middle
        pointer[link] = low
    for word in range(start, stop):
        column = place[word] // segments
        segment = place[word] - column * segments
        row = column // shape[2]
        x, y = row % shape[1], column - row * shape[2]
        for link in range(16):
            target = place[word] + (step[link, 0] * shape[2] + step[link, 1]) * segments + step[link, 2]
            at = pointer[link]
            while at < place.size and place[at] < target:
                at += 1
            pointer[link] = at
            inside = 0 <= x + step[link, 0] < shape[1] and 0 <= y + step[link, 1] < shape[2]
            inside &= 0 <= segment + step[link, 2] < segments
            found = inside and at < place.size and place[at] == target
            links[word, link] = at if found else -1


@njit(nogil=True, cache=True, error_model="numpy")
def _words_around(shape: Shape, links: NDArray[np.int32], word: Integer, sign: Integer, words: WordIds) -> None:
    if links.shape[0] > 0:
        offset = 0 if sign > 0 else 8
        for column in range(4):
            words[column, 0] = links[word, offset + 2 * column]
            words[column, 1] = links[word, offset + 2 * column + 1]
        return
    segments = (shape[3] + 63) >> 6
    column = word // segments
    segment = word - column * segments + sign
    x = column // shape[2]
    y = column - x * shape[2]
    for column in range(4):
        dx, dy = sign * (column >> 1), sign * (column & 1)
        exists = 0 <= x + dx < shape[1] and 0 <= y + dy < shape[2]
        own = word + (dx * shape[2] + dy) * segments
        words[column, 0] = own if exists else -1
        words[column, 1] = own + sign if exists and 0 <= segment < segments else -1


@njit(nogil=True, cache=True, error_model="numpy")
def ahead_words(shape: Shape, links: NDArray[np.int32], word: Integer, words: WordIds) -> None:
    """``words``: the four columns ahead, own and next segment (*compiled*)."""
    _words_around(shape, links, word, np.int64(1), words)


@njit(nogil=True, cache=True, error_model="numpy")
def behind_words(shape: Shape, links: NDArray[np.int32], word: Integer, words: WordIds) -> None:
    """``words``: the four columns behind, own and previous segment (*compiled*)."""
    _words_around(shape, links, word, np.int64(-1), words)


@njit(nogil=True, cache=True, error_model="numpy")
def raised(bits: Words, own: Integer, above: Integer) -> Any:
    """Bits of the points one above along z, at the places of a word (*compiled*)."""
    low = bits[own] >> np.uint64(1) if own >= 0 else np.uint64(0)
    if above >= 0:
        low |= bits[above] << np.uint64(63)
    return low


@njit(nogil=True, cache=True, error_model="numpy")
def corner_words(bits: Words, words: WordIds, corners: Words) -> None:
    """``corners`` ``(8,)``: of the words ahead, the bit of each corner of a cell, at the cell's place (*compiled*)."""
    for column in range(4):
        own, above = words[column, 0], words[column, 1]
        corners[2 * column] = bits[own] if own >= 0 else np.uint64(0)
        corners[2 * column + 1] = raised(bits, own, above)


@njit(nogil=True, cache=True, error_model="numpy")
def cell_words(bits: Words, words: WordIds, cells: Words) -> None:
    """``cells`` ``(4, 2)``: of the words behind, the bits of their cells and of those one lower along z, at the places
    of the word's edges (*compiled*)."""
    for column in range(4):
        own, under = words[column, 0], words[column, 1]
        cells[column, 0] = bits[own] if own >= 0 else np.uint64(0)
        cells[column, 1] = cells[column, 0] << np.uint64(1)
        if under >= 0:
            cells[column, 1] |= bits[under] >> np.uint64(63)
