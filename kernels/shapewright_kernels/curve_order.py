"""Points in the order of a space-filling curve, so that neighbours in the order are neighbours in space."""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Floats, Ints

BITS = 10
"""Bits of a coordinate, and of a digit of the sort: three passes."""
ROW = 32
"""Bits of a row number, which travels below the key in one word."""


def curve_order(points: Floats) -> Ints:
    """Permutation that visits ``points`` ``(Q, 3)``, finite, along a Morton curve over their bounding box.

    >>> curve_order(np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.9, 0.0]])).tolist()
    [1, 2, 0]
    """
    return curve_words(points) & ((1 << ROW) - 1)


def curve_words(points: Floats) -> Ints:
    """Ascending places of ``points`` along the curve, ``(Q,)`` int64, with the row of each point in the low bits."""
    if len(points) == 0:
        return np.zeros(0, np.int64)
    if len(points) >> ROW:
        raise ValueError(f"at most 2**{ROW} points have a curve order; split them")
    return _sort(_morton_words(np.ascontiguousarray(points, np.float64)))


@njit(nogil=True, cache=True, error_model="numpy")
def _spread(value: int) -> int:
    """Insert two zero bits between the 21 low bits of ``value``."""
    value &= 0x1FFFFF
    value = (value | value << 32) & 0x1F00000000FFFF
    value = (value | value << 16) & 0x1F0000FF0000FF
    value = (value | value << 8) & 0x100F00F00F00F00F
    value = (value | value << 4) & 0x10C30C30C30C30C3
    return (value | value << 2) & 0x1249249249249249


@njit(nogil=True, cache=True, error_model="numpy")
def _morton_words(points: Floats) -> Ints:
    """Places along the curve, with the row of each point below."""
    low, high = points[0].copy(), points[0].copy()
    for row in range(len(points)):
        for axis in range(3):
            value = points[row, axis]
            low[axis] = value if value < low[axis] else low[axis]
            high[axis] = value if value > high[axis] else high[axis]
    extent = max(high[0] - low[0], high[1] - low[1], high[2] - low[2])
    scale = (2**BITS - 1) / extent if extent > 1e-300 else 0.0
    words = np.empty(len(points), np.int64)
    for row in range(len(points)):
        # masked, because beyond the range of floats these need not be numbers
        x = int((points[row, 0] - low[0]) * scale) & (2**BITS - 1)
        y = int((points[row, 1] - low[1]) * scale) & (2**BITS - 1)
        z = int((points[row, 2] - low[2]) * scale) & (2**BITS - 1)
        words[row] = (_spread(x) << 2 | _spread(y) << 1 | _spread(z)) << ROW | row
    return words


@njit(nogil=True, cache=True, error_model="numpy")
def _sort(words: Ints) -> Ints:
    """Sort by counting digits, the lowest first."""
    size = 1 << BITS
    counts = np.zeros((3, size), np.int64)
    for place in range(len(words)):
        word = words[place] >> ROW
        counts[0, word & (size - 1)] += 1
        counts[1, word >> BITS & (size - 1)] += 1
        counts[2, word >> 2 * BITS & (size - 1)] += 1
    spare = np.empty_like(words)
    for digit in range(3):
        shift = ROW + digit * BITS
        to = counts[digit]
        start = 0
        for value in range(size):
            found = to[value]
            to[value] = start
            start += found
        for place in range(len(words)):
            word = words[place]
            value = word >> shift & (size - 1)
            at = to[value]
            to[value] = at + 1
            spare[at] = word
        words, spare = spare, words
    return words
