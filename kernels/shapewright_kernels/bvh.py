"""Bounding volume hierarchy over axis-aligned boxes, as flat arrays that compiled code can walk.

Built top-down with the binned surface area heuristic (Wald 2007). The hierarchy knows boxes only: closest points
(:mod:`.closest_point`) and rays (:mod:`.visibility`) bring their own primitives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .arrays import Floats, Ints

BINS = 16
HEURISTIC_DEPTH = 48
"""Below this depth nodes are halved by count, which bounds the depth (and every traversal stack) for any input."""
STACK = HEURISTIC_DEPTH + 40


class Bvh(NamedTuple):
    """Nodes in an order where children follow their parent; node 0 is the root and the two children are adjacent."""

    boxes: Floats
    """``(N, 6)``: lower x, y, z, then upper x, y, z."""
    first: Ints
    """``(N,)``: the first child of an inner node; the first row of :attr:`order` of a leaf."""
    size: Ints
    """``(N,)``: number of primitives of a leaf, 0 for an inner node."""
    order: Ints
    """``(P,)``: primitive ids, leaf by leaf."""


def build_bvh(lower: Floats, upper: Floats, *, leaf_size: int = 4) -> Bvh:
    """Hierarchy over ``P`` boxes given by their corners, ``(P, 3)`` float64 each; ``P`` at least 1, all finite.

    Raises:
        ValueError: there is no box, or a coordinate is not finite.
    """
    lower = np.ascontiguousarray(lower, dtype=np.float64)
    upper = np.ascontiguousarray(upper, dtype=np.float64)
    if len(lower) == 0:
        raise ValueError("a hierarchy needs at least one primitive")
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise ValueError("a hierarchy needs finite coordinates; drop non-finite faces first")
    capacity = 2 * len(lower)
    boxes = np.empty((capacity, 6))
    first = np.empty(capacity, np.int64)
    count = np.zeros(capacity, np.int64)
    order = np.arange(len(lower))
    nodes = _build(lower, upper, order, boxes, first, count, leaf_size)
    return Bvh(boxes[:nodes].copy(), first[:nodes].copy(), count[:nodes].copy(), order)


def triangle_boxes(corners: Floats) -> tuple[Floats, Floats]:
    """Lower and upper corners ``(F, 3)`` of the boxes around triangles ``(F, 3, 3)``."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)


@njit(nogil=True, cache=True, error_model="numpy")
def _half_area(box: Floats) -> float:
    x, y, z = box[3] - box[0], box[4] - box[1], box[5] - box[2]
    return x * y + y * z + z * x


@njit(nogil=True, cache=True, error_model="numpy")
def _reset(box: Floats) -> None:
    for axis in range(3):
        box[axis] = np.inf
        box[axis + 3] = -np.inf


@njit(nogil=True, cache=True, error_model="numpy")
def _merge(box: Floats, other: Floats) -> None:
    for axis in range(3):
        box[axis] = min(box[axis], other[axis])
        box[axis + 3] = max(box[axis + 3], other[axis + 3])


@njit(nogil=True, cache=True, error_model="numpy")
def _build(lower: Floats, upper: Floats, order: Ints, boxes: Floats, first: Ints, count: Ints, leaf_size: int) -> int:
    """Fill the node arrays, permute ``order`` in place, return the number of nodes."""
    stack = np.empty((2 * STACK, 4), np.int64)  # node, start, stop, depth
    bin_boxes = np.empty((3, BINS, 6))
    bin_counts = np.empty((3, BINS), np.int64)
    right_area = np.empty(BINS)
    right_count = np.empty(BINS, np.int64)
    sweep = np.empty(6)
    centre = np.empty(6)
    low, scale = np.empty(3), np.empty(3)
    stack[0] = 0, 0, order.size, 0
    nodes, top = 1, 1
    while top > 0:
        top -= 1
        node, start, stop, depth = stack[top]
        box = boxes[node]
        _reset(box)
        _reset(centre)
        for slot in range(start, stop):
            item = order[slot]
            for axis in range(3):
                lo, hi = lower[item, axis], upper[item, axis]
                box[axis] = min(box[axis], lo)
                box[axis + 3] = max(box[axis + 3], hi)
                middle = 0.5 * lo + 0.5 * hi
                centre[axis] = min(centre[axis], middle)
                centre[axis + 3] = max(centre[axis + 3], middle)
        size = stop - start
        if size <= leaf_size:
            first[node] = start
            count[node] = size
            continue
        split_axis, split_bin = -1, -1
        if depth < HEURISTIC_DEPTH:
            for axis in range(3):
                extent = centre[axis + 3] - centre[axis]
                low[axis] = centre[axis]
                scale[axis] = BINS / extent if extent > 1e-300 else 0.0
                for b in range(BINS):
                    _reset(bin_boxes[axis, b])
                    bin_counts[axis, b] = 0
            for slot in range(start, stop):
                item = order[slot]
                for axis in range(3):
                    lo, hi = lower[item, axis], upper[item, axis]
                    b = min(int((0.5 * lo + 0.5 * hi - low[axis]) * scale[axis]), BINS - 1)
                    bin_counts[axis, b] += 1
                    bin_box = bin_boxes[axis, b]
                    for other in range(3):
                        bin_box[other] = min(bin_box[other], lower[item, other])
                        bin_box[other + 3] = max(bin_box[other + 3], upper[item, other])
            best = np.inf
            for axis in range(3):
                if scale[axis] == 0.0:
                    continue
                _reset(sweep)
                total = 0
                for b in range(BINS - 1, 0, -1):
                    _merge(sweep, bin_boxes[axis, b])
                    total += bin_counts[axis, b]
                    right_count[b] = total
                    right_area[b] = _half_area(sweep) if total > 0 else 0.0
                _reset(sweep)
                total = 0
                for b in range(BINS - 1):
                    _merge(sweep, bin_boxes[axis, b])
                    total += bin_counts[axis, b]
                    if total == 0 or right_count[b + 1] == 0:
                        continue
                    cost = _half_area(sweep) * total + right_area[b + 1] * right_count[b + 1]
                    if cost < best:
                        best, split_axis, split_bin = cost, axis, b
        if split_axis >= 0:
            left, right = start, stop - 1
            while left <= right:
                item = order[left]
                middle = 0.5 * lower[item, split_axis] + 0.5 * upper[item, split_axis]
                if min(int((middle - low[split_axis]) * scale[split_axis]), BINS - 1) <= split_bin:
                    left += 1
                else:
                    order[left], order[right] = order[right], item
                    right -= 1
            half = left
        else:  # all centres coincide, or the tree is too deep: any balanced split will do
            half = start + size // 2
        first[node] = nodes
        stack[top] = nodes + 1, half, stop, depth + 1
        stack[top + 1] = nodes, start, half, depth + 1
        top += 2
        nodes += 2
    return nodes
