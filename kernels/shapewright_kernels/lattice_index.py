"""Index over sparse lattice points: which row holds point ``(b, x, y, z)``, without a hash map and without ``unique``.

Points are grouped into *words*: 64 neighbours along z (aligned at multiples of 64) of one column ``(b, x, y)``, as one
64-bit mask of the points that are present. In lexicographic order the points of a word are consecutive, so the rank of
a point is ``first[word]`` plus a popcount, and a question about a neighbour (``z + 1``: a shift; ``x + 1``, ``y + 1``:
the same bit of another word) is answered for 64 points at once. Words are found through a table over all columns where
that is small (:data:`TABLE_LIMIT`), by binary search in the sorted keys of the occupied columns beyond.

Extraction of level sets, which passes over all words in order, has its own form in :mod:`.lattice_words`.

The functions marked *compiled* are for use inside other Numba kernels. All words are ``uint64``; beware that Numba
turns ``int64 op uint64`` into floating point.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from .threads import run_chunks, spans

WORD = 64
"""Lattice points a word."""
TABLE_LIMIT = 1 << 23
"""Columns up to which ``starts`` is a table over all of them (64 MB); beyond, occupied columns are searched."""
ROWS_PER_CHUNK = 1 << 17

Words = NDArray[np.uint64]
Integers = NDArray[np.integer[Any]]
Integer: TypeAlias = Any
"""An ``int`` or a numpy integer: one type to Numba, two to a type checker."""


class LatticeIndex(NamedTuple):
    """Words over a lattice of ``shape`` ``(B, X, Y, Z)`` points; ``W`` words, ``N`` points. A plain tuple for Numba.

    The column of ``(b, x, y)`` is ``(b * X + x) * Y + y``. Words are sorted by column, then by segment ``z // 64``.
    """

    shape: tuple[int, int, int, int]
    keys: NDArray[np.int64]
    """Sorted occupied columns; empty where ``starts`` is a table over all columns."""
    starts: NDArray[np.int64]
    """First word of each column (or of each entry of ``keys``), and the number of words at the end."""
    place: NDArray[np.int64]
    """``(W,)`` ``column * segments + segment`` of a word, where ``segments`` is how many a full column has."""
    present: Words
    """``(W,)`` points that exist, bit ``z % 64``."""
    first: NDArray[np.int64]
    """``(W,)`` rank of the first point of a word."""
    order: NDArray[np.int64]
    """``(N,)`` row of the caller for each rank; empty where the caller's rows are sorted already."""

    @property
    def words(self) -> int:
        """Number of words."""
        return len(self.present)


def _popcount(typing_context: Any, word: Any) -> Any:

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _lowest_bit(typing_context: Any, word: Any) -> Any:

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.int64(types.uint64), generate


popcount: Any = intrinsic(_popcount)
"""Set bits of a ``uint64``, as ``int64`` (*compiled*)."""
lowest_bit: Any = intrinsic(_lowest_bit)
"""Position of the lowest set bit of a non-zero ``uint64``, as ``int64`` (*compiled*)."""


@njit(nogil=True, cache=True, error_model="numpy")
def segments_of(index: LatticeIndex) -> Integer:
    """Words that a full column has (*compiled*)."""
    return (index.shape[3] + 63) >> 6


@njit(nogil=True, cache=True, error_model="numpy")
def word_at(index: LatticeIndex, b: Integer, x: Integer, y: Integer, segment: Integer) -> Integer:
    """The word that holds segment ``segment`` of column ``(b, x, y)``, or -1 (*compiled*)."""
    if x < 0 or y < 0 or segment < 0 or x >= index.shape[1] or y >= index.shape[2] or segment >= segments_of(index):
        return np.int64(-1)
    column = (b * index.shape[1] + x) * index.shape[2] + y
    place = column * segments_of(index) + segment
    if index.keys.size > 0:
        low, high = np.int64(0), np.int64(index.keys.size)
        while low < high:
            middle = (low + high) >> 1
            if index.keys[middle] < column:
                low = middle + 1
            else:
                high = middle
        if low == index.keys.size or index.keys[low] != column:
            return np.int64(-1)
        column = low
    for word in range(index.starts[column], index.starts[column + 1]):
        if index.place[word] == place:
            return word
    return np.int64(-1)


@njit(nogil=True, cache=True, error_model="numpy")
def below(bit: Integer) -> np.uint64:
    """Mask of the bits under ``bit`` (*compiled*)."""
    return (np.uint64(1) << np.uint64(bit)) - np.uint64(1)


@njit(nogil=True, cache=True, error_model="numpy")
def row_of(index: LatticeIndex, word: Integer, bit: Integer) -> Integer:
    """The caller's row of a present point (*compiled*)."""
    rank = index.first[word] + popcount(index.present[word] & below(bit))
    return index.order[rank] if index.order.size > 0 else rank


@njit(nogil=True, cache=True, error_model="numpy")
def _same_word(coords: Integers, row: Integer) -> bool:
    if row == 0:
        return False
    same = (coords[row, 3] >> 6) == (coords[row - 1, 3] >> 6)
    for axis in range(3):
        same &= coords[row, axis] == coords[row - 1, axis]
    return same


@njit(nogil=True, cache=True, error_model="numpy")
def _count_words(coords: Integers, start: Integer, stop: Integer) -> Integer:
    count = 0
    for row in range(start, stop):
        count += not _same_word(coords, row)
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_words(coords: Integers, start: Integer, stop: Integer, word: Integer, index: LatticeIndex) -> None:
    """Write the words that begin in ``start..stop``, to their end even where that lies beyond ``stop``."""
    row = start
    while row < stop and _same_word(coords, row):
        row += 1
    while row < stop:
        index.first[word] = row
        column = np.int64(coords[row, 0])
        for axis in range(1, 3):
            column = column * index.shape[axis] + np.int64(coords[row, axis])
        index.place[word] = column * segments_of(index) + np.int64(coords[row, 3] >> 6)
        bits = np.uint64(1) << np.uint64(coords[row, 3] & 63)
        row += 1
        while row < len(coords) and _same_word(coords, row):
            bits |= np.uint64(1) << np.uint64(coords[row, 3] & 63)
            row += 1
        index.present[word] = bits
        word += 1


@njit(nogil=True, cache=True, error_model="numpy")
def _column_starts(places: NDArray[np.int64], segments: Integer, starts: NDArray[np.int64]) -> None:
    """Table form: ``starts[c]`` is the number of words in columns before ``c``."""
    word = 0
    for column in range(len(starts)):
        while word < len(places) and places[word] < column * segments:
            word += 1
        starts[column] = word


@njit(nogil=True, cache=True, error_model="numpy")
def _find_rows(index: LatticeIndex, coords: Integers, start: Integer, stop: Integer, rows: NDArray[np.int64]) -> None:
    for i in range(start, stop):
        z = np.int64(coords[i, 3])
        rows[i] = -1
        inside = 0 <= np.int64(coords[i, 0]) < index.shape[0] and 0 <= z < index.shape[3]
        if inside:
            word = word_at(index, np.int64(coords[i, 0]), np.int64(coords[i, 1]), np.int64(coords[i, 2]), z >> 6)
            if word >= 0 and (index.present[word] >> np.uint64(z & 63)) & np.uint64(1) != 0:
                rows[i] = row_of(index, word, z & 63)


def _empty_index(shape: tuple[int, int, int, int], words: int) -> LatticeIndex:
    return LatticeIndex(
        shape=shape,
        keys=np.empty(0, np.int64),
        starts=np.empty(0, np.int64),
        place=np.empty(words, np.int64),
        present=np.empty(words, np.uint64),
        first=np.empty(words, np.int64),
        order=np.empty(0, np.int64),
    )


def index_sorted(
    coords: Integers, shape: tuple[int, int, int, int], *, threads: int | None = None, table_limit: int = TABLE_LIMIT
) -> LatticeIndex:
    """Index of contiguous ``coords`` that are known to be sorted, unique and inside ``shape``: nothing is checked
    (:class:`~shapewright_kernels.coordinate_index.CoordinateIndex` takes rows in any order, and checks them).

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``.
        shape: ``(B, X, Y, Z)`` number of lattice points along each axis. Only columns have 64-bit keys, so
            ``B * X * Y * ceil(Z / 64)`` may go up to 2^62.
        table_limit: largest number of columns ``B * X * Y`` that gets a table (8 bytes each).

    >>> index = index_sorted(np.array([[0, 0, 0, 0], [0, 1, 2, 3]]), (1, 4, 4, 4))
    >>> find_rows(index, np.array([[0, 0, 0, 0], [0, 1, 2, 3], [0, 3, 3, 3]])).tolist()
    [0, 1, -1]
    """
    chunks = spans(len(coords), ROWS_PER_CHUNK)
    counts = run_chunks(lambda span: _count_words(coords, *span), chunks, threads)
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)
    index = _empty_index(shape, int(offsets[-1]))
    jobs = [(start, stop, int(word)) for (start, stop), word in zip(chunks, offsets[:-1], strict=True)]
    run_chunks(lambda job: _fill_words(coords, *job, index), jobs, threads)
    columns = shape[0] * shape[1] * shape[2]
    if columns <= table_limit:
        starts = np.empty(columns + 1, np.int64)
        _column_starts(index.place, -(-shape[3] // WORD), starts)
        return index._replace(starts=starts)
    column = index.place // -(-shape[3] // WORD)
    begins = np.flatnonzero(np.diff(column, prepend=-1))
    return index._replace(keys=column[begins], starts=np.append(begins, index.words).astype(np.int64))


def find_rows(index: LatticeIndex, coords: Integers, *, threads: int | None = None) -> NDArray[np.int64]:
    """Row of each of the points ``coords`` ``(M, 4)`` (may lie anywhere), -1 where it is not in the index."""
    rows = np.empty(len(coords), np.int64)
    coords = np.ascontiguousarray(coords)
    run_chunks(lambda span: _find_rows(index, coords, *span, rows), spans(len(coords), ROWS_PER_CHUNK), threads)
    return rows
