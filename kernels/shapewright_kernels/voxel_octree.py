"""Sets of voxels in a cube as octree bytes, and the predictors that make their attributes compress better.

Voxels are Morton codes in ascending order (bit ``i`` of x, y, z is bit ``3 i + 2, 3 i + 1, 3 i``); a cube of
``2^depth`` voxels an axis has codes below ``8^depth``. The octree has one byte an inner node, in preorder; bit ``i``
says that child ``i`` is there, and the bits of the last level are voxels. Predictors work on bytes and wrap around.

Source: TRELLIS.2 (arXiv 2512.14692), .vxz files, spec section 3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Ints

Bytes = NDArray[np.uint8]

DEEPEST = 20
_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)


def morton_codes(coords: NDArray[np.integer[Any]]) -> Ints:
    """Codes of non-negative ``(N, 3)`` coordinates below 2^21.

    >>> morton_codes(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 3]])).tolist()
    [4, 2, 9]
    """
    codes = np.zeros(len(coords), np.int64)
    for axis in range(3):
        spread = coords[:, axis].astype(np.int64)
        for shift, mask in _SPREAD:
            spread = (spread | spread << shift) & mask
        codes |= spread << (2 - axis)
    return codes


def morton_coords(codes: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """``(N, 3)`` coordinates of codes; the inverse of :func:`morton_codes`."""
    coords = np.empty((len(codes), 3), np.int32)
    for axis in range(3):
        packed = (codes.astype(np.int64) >> (2 - axis)) & _SPREAD[-1][1]
        for (shift, _), mask in zip(_SPREAD[::-1], [m for _, m in _SPREAD[-2::-1]] + [0x1FFFFF], strict=True):
            packed = (packed | packed >> shift) & mask
        coords[:, axis] = packed
    return coords


def _checked(codes: NDArray[np.integer[Any]], depth: int) -> Ints:
    if not 1 <= depth <= DEEPEST:
        raise ValueError(f"depth must lie between 1 and {DEEPEST}, not {depth}")
    whole = np.ascontiguousarray(codes, np.int64)
    if len(whole) and (whole[0] < 0 or whole[-1] >> (3 * depth) or (np.diff(whole) <= 0).any()):
        raise ValueError(f"Morton codes must ascend, none twice, within 0 .. 8^{depth} - 1")
    return whole


def encode_octree(codes: NDArray[np.integer[Any]], depth: int) -> Bytes:
    """Octree bytes of voxels, none of no voxel.

    >>> encode_octree(np.array([0, 1, 63]), 2).tolist()
    [129, 3, 128]
    """
    whole = _checked(codes, depth)
    nothing = np.empty(0, np.uint8)
    count = _encode(whole, depth, nothing)
    tree = np.zeros(count, np.uint8)
    _encode(whole, depth, tree)
    return tree


@njit(nogil=True, cache=True, error_model="numpy")
def _encode(codes: Ints, depth: int, tree: Bytes) -> int:
    """Write ``tree``, unless it has no room; the number of nodes."""
    node = np.zeros(depth, np.int64)
    used = 0
    for row in range(len(codes)):
        code = codes[row]
        opened = 0  # the first level whose node is a new one
        if row > 0:
            opened = 1
            while opened < depth and codes[row - 1] >> (3 * (depth - opened)) == code >> (3 * (depth - opened)):
                opened += 1
        for level in range(opened, depth):
            node[level] = used
            used += 1
        if len(tree) > 0:
            for level in range(depth):
                tree[node[level]] |= np.uint8(1 << ((code >> (3 * (depth - 1 - level))) & 7))
    return used


def decode_octree(tree: Bytes, depth: int, most: int | None = None) -> Ints:
    """Morton codes of the voxels of octree bytes, ascending.

    Args:
        most: refuse more voxels than that, before there is room made for them.
    Raises:
        ValueError: an inner node without a child, bytes missing or left over, or too many voxels.
    """
    if not 1 <= depth <= DEEPEST:
        raise ValueError(f"depth must lie between 1 and {DEEPEST}, not {depth}")
    if len(tree) == 0:
        return np.zeros(0, np.int64)
    count = _decode(tree, depth, np.empty(0, np.int64))
    if count < 0:
        reasons = {-1: "a node has no child", -2: "bytes are missing", -3: "bytes are left over"}
        raise ValueError(f"the octree is damaged: {reasons[count]}")
    if most is not None and count > most:
        raise ValueError(f"the octree holds {count} voxels, at most {most} were announced")
    codes = np.empty(count, np.int64)
    _decode(tree, depth, codes)
    return codes


@njit(nogil=True, cache=True, error_model="numpy")
def _decode(tree: Bytes, depth: int, codes: Ints) -> int:
    rest = np.zeros(depth, np.int64)  # children of the open node of each level that are still to come
    prefix = np.zeros(depth, np.int64)
    rest[0] = tree[0]
    if rest[0] == 0:
        return -1
    level, at, count = 0, 1, 0
    while level >= 0:
        if rest[level] == 0:
            level -= 1
            continue
        child = 0
        while not (rest[level] >> child) & 1:
            child += 1
        rest[level] &= ~(1 << child)
        code = prefix[level] << 3 | child
        if level == depth - 1:
            if len(codes) > 0:
                codes[count] = code
            count += 1
            continue
        if at >= len(tree):
            return -2
        level += 1
        rest[level], prefix[level] = tree[at], code
        at += 1
        if rest[level] == 0:
            return -1
    return count if at == len(tree) else -3


def encode_parent(codes: NDArray[np.integer[Any]], depth: int, values: Bytes) -> Bytes:
    """Differences ``(N, C)`` of ``values`` ``(N, C)`` between siblings, where a node has the value of its first voxel.

    Row 0 is the first voxel's value; then, node by node in preorder, child after child minus the child before.
    """
    return _parent(codes, depth, values, False)


def decode_parent(codes: NDArray[np.integer[Any]], depth: int, stream: Bytes) -> Bytes:
    """The inverse of :func:`encode_parent`."""
    return _parent(codes, depth, stream, True)


def _parent(codes: NDArray[np.integer[Any]], depth: int, values: Bytes, back: bool) -> Bytes:
    whole = _checked(codes, depth)
    result = np.empty_like(values, order="C")
    if len(whole):
        _walk_parent(whole, depth, np.ascontiguousarray(values), back, result)
    return result


@njit(nogil=True, cache=True, error_model="numpy")
def _walk_parent(codes: Ints, depth: int, values: Bytes, back: bool, result: Bytes) -> None:
    channels = values.shape[1]
    stack = np.empty((8 * depth + 8, 3), np.int64)  # first voxel, one past the last, level
    stack[0, 0], stack[0, 1], stack[0, 2] = 0, len(codes), 0
    waiting, cursor = 1, 1
    firsts = np.empty(9, np.int64)
    for c in range(channels):
        result[0, c] = values[0, c]
    while waiting > 0:
        waiting -= 1
        start, stop, level = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2]
        shift = 3 * (depth - 1 - level)
        children, at = 0, start
        while at < stop:
            firsts[children] = at
            children += 1
            child, high = codes[at] >> shift, stop
            if shift == 0:
                at += 1
                continue
            low = at + 1
            while low < high:  # the first voxel of the next child
                middle = (low + high) >> 1
                if codes[middle] >> shift > child:
                    high = middle
                else:
                    low = middle + 1
            at = low
        firsts[children] = stop
        for k in range(1, children):
            for c in range(channels):
                if back:
                    result[firsts[k], c] = result[firsts[k - 1], c] + values[cursor, c]
                else:
                    result[cursor, c] = values[firsts[k], c] - values[firsts[k - 1], c]
            cursor += 1
        if level < depth - 1:
            for k in range(children - 1, -1, -1):
                stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = firsts[k], firsts[k + 1], level + 1
                waiting += 1


def encode_neighbor(codes: NDArray[np.integer[Any]], depth: int, values: Bytes) -> Bytes:
    """``values`` ``(N, C)`` minus those of the first voxel before them that is there: of the seven with x, y, z or
    more of them smaller by one, three smaller first."""
    return _neighbor(codes, depth, values, False)


def decode_neighbor(codes: NDArray[np.integer[Any]], depth: int, stream: Bytes) -> Bytes:
    """The inverse of :func:`encode_neighbor`."""
    return _neighbor(codes, depth, stream, True)


def _neighbor(codes: NDArray[np.integer[Any]], depth: int, values: Bytes, back: bool) -> Bytes:
    coords = morton_coords(_checked(codes, depth))
    order = np.lexsort((coords[:, 0], coords[:, 1], coords[:, 2]))
    result = np.empty_like(values, order="C")
    _walk_neighbors(coords[order], order, np.ascontiguousarray(values), back, result)
    return result


_BEFORE = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], np.int64)


@njit(nogil=True, cache=True, error_model="numpy")
def _walk_neighbors(sorted_coords: NDArray[np.int32], order: Ints, values: Bytes, back: bool, result: Bytes) -> None:
    # Voxels come by z, then y, then x; a pointer for each of the seven follows at its own distance.
    follow = np.zeros(7, np.int64)
    for place in range(len(order)):
        row, found = order[place], -1
        for k in range(7):
            x, y = sorted_coords[place, 0] - _BEFORE[k, 0], sorted_coords[place, 1] - _BEFORE[k, 1]
            z = sorted_coords[place, 2] - _BEFORE[k, 2]
            at = follow[k]
            while at < place and (
                sorted_coords[at, 2] < z
                or (sorted_coords[at, 2] == z and sorted_coords[at, 1] < y)
                or (sorted_coords[at, 2] == z and sorted_coords[at, 1] == y and sorted_coords[at, 0] < x)
            ):
                at += 1
            follow[k] = at
            here = at < place and sorted_coords[at, 0] == x and sorted_coords[at, 1] == y and sorted_coords[at, 2] == z
            if here and found < 0:
                found = order[at]
        for c in range(values.shape[1]):
            if found < 0:
                result[row, c] = values[row, c]
            elif back:
                result[row, c] = values[row, c] + result[found, c]
            else:
                result[row, c] = values[row, c] - values[found, c]
