"""Neighbour maps for sparse convolutions: for every output voxel and kernel weight, the row of the input voxel.

A map is ``(N, K)`` int32 with -1 where there is no voxel. Weights are in the order of a ``[kx, ky, kz]`` array read
flat (x slowest); weight ``k`` stands for the offset ``(k - K // 2) * dilation`` along each axis (cross-correlation), so
``out[i] = sum over k of weight[k] @ feats[map[i, k]]``. Voxels of other batch items are never neighbours.

Outputs are walked in sorted order. Each of the ``kx * ky`` columns of words around an output moves on with it, so its
place among the sorted words is where it was a moment ago, and a window along z is read from one or two words: no hash
map, no search.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .coordinate_index import (
    COORDINATE_LIMIT,
    CoordinateIndex,
    integer_rows,
    lexicographic_order,
    survey,
)
from .lattice_index import Integer, Integers, Words, below, popcount
from .threads import run_chunks, spans

CHUNK = 1 << 14
NUMBER_LIMIT = 1 << 31
"""Rows, and sizes of kernels, dilations and strides, lie below this."""

Rows = NDArray[np.int32]
Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class DownsampleMap:
    """A level of voxels ``factor`` times coarser, and how the finer one hangs on it."""

    coords: Integers
    """``(M, 4)`` occupied coarse voxels, sorted by batch, x, y, z; dtype of the fine ones. Coarse is ``floor(fine /
    factor)`` on x, y, z, for negative coordinates too."""
    rows: NDArray[np.int64]
    """``(N,)`` coarse row of every fine row."""
    children: NDArray[np.int64]
    """``(N,)`` place of the fine voxel in its parent, x fastest: ``dx + f * dy + f^2 * dz``, as TRELLIS.2 counts."""
    factor: int

    @property
    def children_z_fastest(self) -> NDArray[np.int64]:
        """``(N,)`` the same counted ``f^2 * dx + f * dy + dz``, as TripoSF orders the children of a voxel."""
        f = self.factor
        plane, dx = np.divmod(self.children, f)
        dz, dy = np.divmod(plane, f)
        return (dx * f + dy) * f + dz


def neighbour_map(
    coords: Integers | CoordinateIndex,
    kernel: int | Triple = 3,
    *,
    dilation: int | Triple = 1,
    threads: int | None = None,
) -> Rows:
    """Rows of the neighbours of every voxel, for submanifold convolutions.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, any sign; or their index, where there are maps
            for several kernels to make.
        kernel: voxels along x, y, z; of an even number the centre is the upper of the two in the middle.
        dilation: distance between them.
    Returns:
        ``(N, kx * ky * kz)`` int32. The only memory that grows with the kernel.
    Raises:
        ValueError: bad coords, see :class:`.CoordinateIndex`; a kernel or dilation below 1; more than 2^31 rows.

    >>> neighbour_map(np.array([[0, 5, 5, 6], [0, 5, 5, 5]]), (1, 1, 3)).tolist()
    [[1, 0, -1], [-1, 1, 0]]
    """
    index = coords if isinstance(coords, CoordinateIndex) else CoordinateIndex(coords, threads=threads)
    sizes, steps = _triple(kernel, "kernel"), _triple(dilation, "dilation")
    shift = np.array([0, *(-(size // 2) * step for size, step in zip(sizes, steps, strict=True))])
    return _map(index, index.coords, index.lattice.order, (1, 1, 1), shift, sizes, steps, threads)


def strided_map(
    coords: Integers | CoordinateIndex,
    outputs: Integers,
    kernel: int | Triple = 3,
    *,
    stride: int | Triple = 2,
    dilation: int | Triple = 1,
    padding: int | Triple | None = None,
    threads: int | None = None,
) -> Rows:
    """Rows of the voxels under the kernel of every voxel of a coarser level, for strided convolutions.

    Weight ``k`` of output voxel ``p`` reads the input voxel ``stride * p - padding + k * dilation``.

    Args:
        coords: ``(N, 4)`` input voxels or their index, see :func:`neighbour_map`.
        outputs: ``(M, 4)`` integer rows of output voxels in units of ``stride``, such as :attr:`DownsampleMap.coords`;
            any order, any sign, need not be occupied or unique.
        kernel, stride, dilation: along x, y, z.
        padding: default ``(kernel // 2) * dilation``, the kernel about the first child. With kernel = stride and
            padding 0 each output reads its own children.
    Returns:
        ``(M, kx * ky * kz)`` int32.
    Raises:
        ValueError: as :func:`neighbour_map`.

    >>> strided_map(np.array([[0, 2, 2, 4], [0, 2, 2, 5]]), np.array([[0, 1, 1, 2]]), (1, 1, 2), padding=0).tolist()
    [[0, 1]]
    """
    index = coords if isinstance(coords, CoordinateIndex) else CoordinateIndex(coords, threads=threads)
    sizes, steps, strides = _triple(kernel, "kernel"), _triple(dilation, "dilation"), _triple(stride, "stride")
    centred = (sizes[0] // 2 * steps[0], sizes[1] // 2 * steps[1], sizes[2] // 2 * steps[2])
    pads = _triple(centred if padding is None else padding, "padding", least=1 - NUMBER_LIMIT)
    outputs = integer_rows(outputs)
    lows, highs, ascending = survey(outputs, threads)
    farthest = int(max(abs(lows).max(), abs(highs).max()))
    if farthest * max(strides) >= COORDINATE_LIMIT:
        raise ValueError(f"outputs of magnitude {farthest} are too far out for stride {stride}")
    order = np.empty(0, np.int64)
    if not ascending:
        order = lexicographic_order(outputs, lows, highs)
        outputs = outputs[order]
    shift = -np.array([0, *pads]) - index.origin
    return _map(index, outputs, order, strides, shift, sizes, steps, threads)


def downsample_map(coords: Integers, factor: int = 2, *, threads: int | None = None) -> DownsampleMap:
    """The coarser level of voxels ``factor`` times as large.

    Args:
        coords: ``(N, 4)`` integer rows ``[batch, x, y, z]``, any order, any sign. Repeated rows are allowed.
        factor: along x, y and z; the batch column stays.
    Raises:
        ValueError: bad coords or factor; the box of the coarse voxels has more than 2^62 columns along z.

    >>> level = downsample_map(np.array([[0, 2, 3, 1], [0, -1, 0, 0], [0, 3, 3, 0]]))
    >>> level.coords.tolist(), level.rows.tolist(), level.children.tolist()
    ([[0, -1, 0, 0], [0, 1, 1, 0]], [1, 0, 1], [6, 1, 3])
    """
    factor = _triple(factor, "factor")[0]
    coords = integer_rows(coords)
    chunks = spans(len(coords), CHUNK)
    coarse = np.empty_like(coords)
    children = np.empty(len(coords), np.int64)
    run_chunks(lambda span: _coarsen(coords, factor, *span, coarse, children), chunks, threads)
    lows, highs, ascending = survey(coarse, threads)
    order = np.arange(len(coords)) if ascending else lexicographic_order(coarse, lows, highs)
    heads = np.array(run_chunks(lambda span: _count_groups(coarse, order, *span), chunks, threads), np.int64)
    rows = np.empty(len(coords), np.int64)
    unique = np.empty((int(heads.sum()), 4), coords.dtype)
    jobs = [(*span, int(first)) for span, first in zip(chunks, np.cumsum(heads) - heads, strict=True)]
    run_chunks(lambda job: _fill_groups(coarse, order, *job, unique, rows), jobs, threads)
    return DownsampleMap(unique, rows, children, factor)


def _triple(value: int | Triple, name: str, least: int = 1) -> Triple:
    values = (value,) * 3 if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != 3 or any(int(v) != v or not least <= v < NUMBER_LIMIT for v in values):
        raise ValueError(f"{name} must be a whole number or three of them, at least {least} each, not {value}")
    x, y, z = (int(v) for v in values)
    return x, y, z


def _map(
    index: CoordinateIndex, bases: Integers, order: NDArray[np.int64], strides: Triple, shift: NDArray[np.int64],
    sizes: Triple, steps: Triple, threads: int | None,
) -> Rows:  # fmt: skip
    if len(index) >= NUMBER_LIMIT:
        raise ValueError(f"{len(index)} voxels cannot be numbered by 32 bits; split the batch")
    lattice = index.lattice
    result = np.empty((len(bases), sizes[0] * sizes[1] * sizes[2]), np.int32)

    def work(span: tuple[int, int]) -> None:
        _fill_map(
            lattice.shape, lattice.place, lattice.present, lattice.first, lattice.order, bases, order, strides, shift,
            sizes, steps, *span, result,
        )  # fmt: skip

    run_chunks(work, spans(len(bases), CHUNK), threads)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _first_word(place: NDArray[np.int64], target: Integer, hint: Integer) -> Integer:
    """Number of words before ``target``: near ``hint`` by doubling steps, within them by halving."""
    if hint < place.size and place[hint] < target:
        low, step = hint + 1, np.int64(1)
        while low + step <= place.size and place[low + step - 1] < target:
            low += step
            step *= 2
        high = min(low + step - 1, np.int64(place.size))
    elif hint > 0 and place[hint - 1] >= target:
        low, high = np.int64(0), hint - 1
    else:
        return hint
    while low < high:
        middle = (low + high) >> 1
        if place[middle] < target:
            low = middle + 1
        else:
            high = middle
    return low


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_map(
    shape: tuple[Integer, Integer, Integer, Integer], place: NDArray[np.int64], present: Words,
    first: NDArray[np.int64], rows: NDArray[np.int64], bases: Integers, order: NDArray[np.int64],
    strides: tuple[Integer, Integer, Integer], shift: NDArray[np.int64], sizes: tuple[Integer, Integer, Integer],
    steps: tuple[Integer, Integer, Integer], start: Integer, stop: Integer, result: Rows,
) -> None:  # fmt: skip
    segments = (shape[3] + 63) >> 6
    per_window = min(63 // steps[2] + 1, sizes[2])  # offsets along z that 64 bits hold
    windows = 1 + (sizes[2] - 1) // per_window
    columns = sizes[0] * sizes[1] * windows
    dx, dy, dz = np.empty(columns, np.int64), np.empty(columns, np.int64), np.empty(columns, np.int64)
    counts = np.empty(columns, np.int64)
    for column in range(columns):  # divisions are slow, so not below
        line, window = column // windows, column % windows
        dx[column], dy[column] = line // sizes[1] * steps[0], line % sizes[1] * steps[1]
        dz[column] = window * per_window * steps[2]
        counts[column] = min(per_window, sizes[2] - window * per_window)
    hints, ranks = np.zeros(columns, np.int64), np.zeros(columns, np.int64)
    own, above = np.zeros(columns, np.uint64), np.zeros(columns, np.uint64)
    last_b = last_x = last_y = last_segment = np.int64(-1)
    for base in range(start, stop):
        row = order[base] if order.size > 0 else base
        b = np.int64(bases[base, 0]) + shift[0]
        x0 = np.int64(bases[base, 1]) * strides[0] + shift[1]
        y0 = np.int64(bases[base, 2]) * strides[1] + shift[2]
        z0 = np.int64(bases[base, 3]) * strides[2] + shift[3]
        moved = b != last_b or x0 != last_x or y0 != last_y or z0 >> 6 != last_segment
        if base == start or moved or windows > 1:
            last_b, last_x, last_y, last_segment = b, x0, y0, z0 >> 6
            for column in range(columns):
                x, y, segment = x0 + dx[column], y0 + dy[column], (z0 + dz[column]) >> 6
                own[column], above[column] = np.uint64(0), np.uint64(0)
                outside = b < 0 or x < 0 or y < 0 or b >= shape[0] or x >= shape[1] or y >= shape[2]
                if outside or segment < -1 or segment >= segments:
                    continue
                place_own = ((b * shape[1] + x) * shape[2] + y) * segments + segment
                word = _first_word(place, place_own + (segment < 0), hints[column])
                hints[column] = word
                if word == place.size:
                    continue
                ranks[column] = first[word]  # of the word above where there is none of its own
                if segment >= 0 and place[word] == place_own:
                    own[column] = present[word]
                    word += 1
                if segment + 1 < segments and word < place.size and place[word] == place_own + 1:
                    above[column] = present[word]
        slot = 0
        for column in range(columns):
            bit = np.uint64((z0 + dz[column]) & 63)
            bits = own[column] >> bit | (above[column] << np.uint64(1)) << (np.uint64(63) - bit)
            rank = ranks[column] + popcount(own[column] & below(bit)) + popcount(bits)
            for k in range(counts[column]):
                after = bits >> np.uint64(k * steps[2])
                here = np.int64(after & np.uint64(1))
                result[row, slot] = (rank - popcount(after)) * here + here - 1  # -1 where the bit is not set
                slot += 1
        if rows.size > 0:
            for k in range(slot):
                if result[row, k] >= 0:
                    result[row, k] = rows[result[row, k]]


@njit(nogil=True, cache=True, error_model="numpy")
def _coarsen(
    coords: Integers, factor: Integer, start: Integer, stop: Integer, coarse: Integers, children: NDArray[np.int64]
) -> None:
    for row in range(start, stop):
        coarse[row, 0] = coords[row, 0]
        child, weight = np.int64(0), np.int64(1)
        for axis in range(1, 4):
            value = np.int64(coords[row, axis])
            parent = value // factor  # floors
            coarse[row, axis] = parent
            child += weight * (value - parent * factor)
            weight *= factor
        children[row] = child


@njit(nogil=True, cache=True, error_model="numpy")
def _is_first(coarse: Integers, order: NDArray[np.int64], slot: Integer) -> bool:
    if slot == 0:
        return True
    same = True
    for axis in range(4):
        same &= coarse[order[slot], axis] == coarse[order[slot - 1], axis]
    return not same


@njit(nogil=True, cache=True, error_model="numpy")
def _count_groups(coarse: Integers, order: NDArray[np.int64], start: Integer, stop: Integer) -> Integer:
    count = 0
    for slot in range(start, stop):
        count += _is_first(coarse, order, slot)
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_groups(
    coarse: Integers, order: NDArray[np.int64], start: Integer, stop: Integer, group: Integer, unique: Integers,
    rows: NDArray[np.int64],
) -> None:  # fmt: skip
    for slot in range(start, stop):
        row = order[slot]
        if _is_first(coarse, order, slot):
            for axis in range(4):
                unique[group, axis] = coarse[row, axis]
            group += 1
        rows[row] = group - 1
