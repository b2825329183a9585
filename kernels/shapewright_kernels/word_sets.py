"""Sets of lattice points or cells as sorted words of 64 along z: union, difference, neighbourhoods, finer lattices.

The words and their places are those of :mod:`.lattice_words`; a cell goes by its lowest corner. All functions take time
and memory in the number of words and members, never in the volume.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .lattice_index import Integer, Words, lowest_bit, popcount
from .lattice_words import Floats, column_of, exclusive_sum, rank

_HALVES = ((16, 0x0000FFFF0000FFFF), (8, 0x00FF00FF00FF00FF), (4, 0x0F0F0F0F0F0F0F0F), (2, 0x3333333333333333))
_EVEN = 0x5555555555555555


class Strides(NamedTuple):
    """Steps between words of a cubic lattice of ``resolution`` cells, so ``resolution + 1`` points, an axis."""

    resolution: int
    y: int
    x: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lattice points an axis."""
        return (self.resolution + 1, self.resolution + 1, self.resolution + 1)


def strides_of(resolution: int) -> Strides:
    """Strides of :class:`.lattice_words.LatticeWords`."""
    segments = -(-(resolution + 1) // 64) + 1
    return Strides(resolution, segments, (resolution + 2) * segments)


class WordSet(NamedTuple):
    """Members as masks; ``place`` ascends, no mask is zero."""

    place: NDArray[np.int64]
    mask: Words


def _kept(place: NDArray[np.int64], mask: Words) -> WordSet:
    some = mask != 0
    return WordSet(place, mask) if some.all() else WordSet(place[some], mask[some])


@njit(nogil=True, cache=True, error_model="numpy")
def _union(
    a_place: NDArray[np.int64],
    a_mask: Words,
    b_place: NDArray[np.int64],
    b_mask: Words,
    place: NDArray[np.int64],
    mask: Words,
) -> Integer:
    i, j, count = 0, 0, 0
    while i < a_place.size or j < b_place.size:
        take_a = i < a_place.size and (j == b_place.size or a_place[i] <= b_place[j])
        take_b = j < b_place.size and (i == a_place.size or b_place[j] <= a_place[i])
        word = np.uint64(0)
        if take_a:
            place[count] = a_place[i]
            word |= a_mask[i]
            i += 1
        if take_b:
            place[count] = b_place[j]
            word |= b_mask[j]
            j += 1
        mask[count] = word
        count += 1
    return count


def union(a: WordSet, b: WordSet) -> WordSet:
    """Members of either set."""
    room = len(a.place) + len(b.place)
    place, mask = np.empty(room, np.int64), np.empty(room, np.uint64)
    count = _union(a.place, a.mask, b.place, b.mask, place, mask)
    return WordSet(place[:count].copy(), mask[:count].copy())


@njit(nogil=True, cache=True, error_model="numpy")
def _aligned(place: NDArray[np.int64], b_place: NDArray[np.int64], b_mask: Words, mask: Words) -> None:
    j = 0
    for i in range(place.size):
        while j < b_place.size and b_place[j] < place[i]:
            j += 1
        mask[i] = b_mask[j] if j < b_place.size and b_place[j] == place[i] else np.uint64(0)


def aligned(place: NDArray[np.int64], members: WordSet) -> Words:
    """``(W + 1,)`` masks of ``members`` at the words ``place`` ``(W,)``, and an empty word."""
    mask = np.zeros(len(place) + 1, np.uint64)
    _aligned(place, members.place, members.mask, mask)
    return mask


def difference(a: WordSet, b: WordSet) -> WordSet:
    """Members of ``a`` that are not in ``b``."""
    return _kept(a.place, a.mask & ~aligned(a.place, b)[:-1])


def moved(members: WordSet, strides: Strides, axis: int, sign: int) -> WordSet:
    """All members one step along ``axis``; those that leave the lattice have places that :func:`within` drops."""
    if axis < 2:
        return WordSet(members.place + sign * (strides.x if axis == 0 else strides.y), members.mask)
    one, top = np.uint64(1), np.uint64(63)
    own = members.mask << one if sign > 0 else members.mask >> one
    carried = members.mask >> top if sign > 0 else members.mask << top
    return union(_kept(members.place, own), _kept(members.place + sign, carried))


def within(members: WordSet, strides: Strides, size: int) -> WordSet:
    """Members whose indices are all in ``0..size - 1``."""
    column = members.place // strides.y
    segment = members.place - column * strides.y
    x = column // (strides.resolution + 2)
    y = column - x * (strides.resolution + 2)
    bits = np.clip(size - 64 * segment, 0, 64).astype(np.uint64)
    limit = np.where(bits == 64, ~np.uint64(0), (np.uint64(1) << np.minimum(bits, np.uint64(63))) - np.uint64(1))
    fits = (members.place >= 0) & (x < size) & (y < size)
    return _kept(members.place, np.where(fits, members.mask & limit, np.uint64(0)))


def corners(cells: WordSet, strides: Strides) -> WordSet:
    """The corners of all cells."""
    for axis in (2, 1, 0):
        cells = union(cells, moved(cells, strides, axis, 1))
    return cells


def dilated(cells: WordSet, strides: Strides) -> WordSet:
    """The cells and all that touch them, within the lattice."""
    for axis in (2, 1, 0):
        back, ahead = moved(cells, strides, axis, -1), moved(cells, strides, axis, 1)
        cells = within(union(cells, union(back, ahead)), strides, strides.resolution)
    return cells


def all_cells(strides: Strides) -> WordSet:
    """Every cell of the lattice."""
    size, segments = strides.resolution, np.arange(-(-strides.resolution // 64))
    ticks = np.arange(size)
    place = (ticks[:, None] * (size + 2) + ticks)[:, :, None] * strides.y + segments
    full = np.full(place.size, ~np.uint64(0))
    return within(WordSet(place.reshape(-1), full), strides, size)


def _finer_places(place: NDArray[np.int64], coarse: Strides, fine: Strides) -> NDArray[np.int64]:
    column = place // coarse.y
    x = column // (coarse.resolution + 2)
    y = column - x * (coarse.resolution + 2)
    return 2 * (x * fine.x + y * fine.y + place - column * coarse.y)


def _in_turn(first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    return np.stack([first, second], axis=1).reshape(-1)


def finer_points(points: WordSet, coarse: Strides, fine: Strides) -> WordSet:
    """The same points on the lattice of twice the resolution; their order does not change."""
    halves = []
    for half in (points.mask & np.uint64(0xFFFFFFFF), points.mask >> np.uint64(32)):
        for shift, pattern in _HALVES:
            half = (half | half << np.uint64(shift)) & np.uint64(pattern)
        halves.append((half | half << np.uint64(1)) & np.uint64(_EVEN))
    place = _finer_places(points.place, coarse, fine)
    return _kept(_in_turn(place, place + 1), _in_turn(*halves))


def children(chosen: NDArray[np.uint64], place: NDArray[np.int64], coarse: Strides, fine: Strides) -> WordSet:
    """Cells of the lattice of twice the resolution.

    Args:
        chosen: ``(W, 4, 2)`` for each word of coarse cells the masks of its children, by column ``2 dx + dy`` and by
            which of two words along z.
    """
    first = _finer_places(place, coarse, fine)
    result = WordSet(np.empty(0, np.int64), np.empty(0, np.uint64))
    for column in range(4):
        at = first + (column >> 1) * fine.x + (column & 1) * fine.y
        result = union(result, _kept(_in_turn(at, at + 1), chosen[:, column].reshape(-1)))
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _coords(
    shape: tuple[Integer, Integer, Integer],
    place: NDArray[np.int64],
    mask: Words,
    first: NDArray[np.int64],
    coords: NDArray[np.int32],
) -> None:
    for word in range(place.size):
        x, y, bottom = column_of(shape, place[word])
        bits, row = mask[word], first[word]
        while bits != 0:
            coords[row, 0], coords[row, 1], coords[row, 2] = x, y, bottom + lowest_bit(bits)
            bits &= bits - np.uint64(1)
            row += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _count(mask: Words, counts: NDArray[np.int8]) -> None:
    for word in range(mask.size):
        counts[word] = popcount(mask[word])


def first_rows(mask: Words) -> NDArray[np.int64]:
    """``(W + 1,)`` members before each word, and of all."""
    counts = np.empty(len(mask), np.int8)
    _count(mask, counts)
    return exclusive_sum(counts)


def coords_of(members: WordSet, strides: Strides) -> NDArray[np.int32]:
    """``(N, 3)`` in lexicographic order."""
    first = first_rows(members.mask)
    coords = np.empty((int(first[-1]), 3), np.int32)
    _coords(strides.shape, members.place, members.mask, first, coords)
    return coords


@njit(nogil=True, cache=True, error_model="numpy")
def _join(mask: Words, in_a: Words, a_values: Floats, b_values: Floats, values: Floats) -> None:
    row_a, row_b = 0, 0
    for word in range(mask.size):
        bits = mask[word]
        while bits != 0:
            bit = bits & (~bits + np.uint64(1))
            bits ^= bit
            if in_a[word] & bit != 0:
                values[row_a + row_b] = a_values[row_a]
                row_a += 1
            else:
                values[row_a + row_b] = b_values[row_b]
                row_b += 1


def join(a: WordSet, a_values: Floats, b: WordSet, b_values: Floats) -> tuple[WordSet, Floats]:
    """Union of two sets without common members, and the values of all members."""
    both = union(a, b)
    values = np.empty(len(a_values) + len(b_values), a_values.dtype)
    _join(both.mask, aligned(both.place, a), a_values, b_values, values)
    return both, values


@njit(nogil=True, cache=True, error_model="numpy")
def _select(
    place: NDArray[np.int64],
    mask: Words,
    first: NDArray[np.int64],
    some_place: NDArray[np.int64],
    some_mask: Words,
    values: Floats,
    found: Floats,
) -> None:
    word, row = 0, 0
    for i in range(some_place.size):
        while place[word] < some_place[i]:
            word += 1
        bits = some_mask[i]
        while bits != 0:
            found[row] = values[first[word] + rank(mask[word], lowest_bit(bits))]
            bits &= bits - np.uint64(1)
            row += 1


def select(members: WordSet, values: Floats, some: WordSet) -> Floats:
    """Values of ``some`` members, all of which must be in the set."""
    found = np.empty(int(first_rows(some.mask)[-1]), values.dtype)
    _select(members.place, members.mask, first_rows(members.mask), some.place, some.mask, values, found)
    return found
