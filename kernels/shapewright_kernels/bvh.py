"""Bounding volume hierarchy over axis-aligned boxes, as flat arrays that compiled code can walk.

The upper nodes halve the cells of a space-filling curve (as in Lauterbach et al. 2009), groups of few primitives are
parted by the binned surface area heuristic along their longest axis (Wald 2007), on threads. The records of the boxes
are moved, not their names, so every pass reads memory in order. The hierarchy knows boxes only: closest points
(:mod:`.closest_point`) and rays (:mod:`.rays`) bring their own primitives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .curve_order import ROW, curve_words
from .threads import run_chunks, spans

BINS = 16
HEURISTIC_DEPTH = 48
"""Below this depth nodes are halved by count, which bounds the depth (and every traversal stack) for any input."""
STACK = HEURISTIC_DEPTH + 40
GROUP = 128
"""More primitives than this are parted along a space-filling curve first, which is quick; the heuristic does the rest,
where it matters."""
TASK = 16384
"""Primitives a task, about. Fixed, so that no hierarchy depends on the number of threads."""
RECORD = 8
"""Lower x, y, z, id, then upper x, y, z negated (so that merging boxes is one minimum), one unused: a cache line."""
CHUNK = 1 << 16


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


def build_bvh(lower: Floats, upper: Floats, *, leaf_size: int = 4, threads: int | None = None) -> Bvh:
    """Hierarchy over ``P`` boxes given by their corners, ``(P, 3)`` float64 each; ``P`` at least 1, all finite.

    The result does not depend on ``threads``.

    Raises:
        ValueError: there is no box, or a coordinate is not finite.
    """
    lower = np.ascontiguousarray(lower, dtype=np.float64)
    upper = np.ascontiguousarray(upper, dtype=np.float64)
    if len(lower) == 0:
        raise ValueError("a hierarchy needs at least one primitive")
    count = len(lower)
    records = np.empty((count, RECORD))
    finite = run_chunks(lambda span: _fill_records(lower, upper, *span, records), spans(count, CHUNK), threads)
    if not all(finite):
        raise ValueError("a hierarchy needs finite coordinates; drop non-finite faces first")
    return arrange(records, leaf_size, threads)


def arrange(records: Floats, leaf_size: int, threads: int | None = None) -> Bvh:
    """Hierarchy over boxes as finite records ``(P, 8)`` (see :data:`RECORD`), at least one."""
    count = len(records)
    if count > GROUP:
        words = curve_words(records[:, :3] - records[:, 4:7])
        records = _gather(records, words)
        boxes, first, size, depths = _upper_nodes(words)
    else:
        boxes, first, size, depths = np.zeros((1, 6)), np.zeros(1, np.int64), np.array([count]), np.zeros(1, np.int64)
    groups = np.flatnonzero(size)
    groups = groups[np.argsort(first[groups])]
    jobs = np.split(groups, np.flatnonzero(np.diff(first[groups] // TASK)) + 1)
    parts = run_chunks(
        lambda job: _build_groups(records, job, boxes, first, size, depths, leaf_size), jobs, threads
    )  # fmt: skip
    total = len(first)
    for job, (_, part_first, part_size) in zip(jobs, parts, strict=True):
        inner = job[size[job] == 0]
        first[inner] += total
        part_first[part_size == 0] += total
        total += len(part_first)
    upper = len(first)
    boxes = np.concatenate([boxes, *(part[0] for part in parts)])
    first = np.concatenate([first, *(part[1] for part in parts)])
    size = np.concatenate([size, *(part[2] for part in parts)])
    _fit(boxes, first, depths, upper)
    return Bvh(boxes, first, size, records[:, 3].astype(np.int64))


def triangle_boxes(corners: Floats) -> tuple[Floats, Floats]:
    """Lower and upper corners ``(F, 3)`` of the boxes around triangles ``(F, 3, 3)``."""
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    return np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)


@njit(nogil=True, cache=True, error_model="numpy")
def _gather(records: Floats, words: Ints) -> Floats:
    """The records in the order of the curve."""
    ordered = np.empty_like(records)
    for place in range(len(words)):
        row = words[place] & ((1 << ROW) - 1)
        for column in range(RECORD):
            ordered[place, column] = records[row, column]
    return ordered


@njit(nogil=True, cache=True, error_model="numpy")
def _upper_nodes(words: Ints) -> tuple[Floats, Ints, Ints, Ints]:
    """Nodes that halve the cells of the curve until few records are left: room for boxes, first, size and depth.

    Groups that are left have the first record as ``first``, like leaves; inner nodes have depth -1.
    """
    capacity = 2 * len(words)
    first, size, depths = np.empty(capacity, np.int64), np.zeros(capacity, np.int64), np.empty(capacity, np.int64)
    stack = np.empty((STACK, 4), np.int64)  # node, start, stop, depth
    stack[0] = 0, 0, len(words), 0
    nodes, top = 1, 1
    while top > 0:
        top -= 1
        node, start, stop, depth = stack[top]
        lowest, highest = words[start] >> ROW, words[stop - 1] >> ROW
        if stop - start <= GROUP or lowest == highest:
            first[node], size[node], depths[node] = start, stop - start, depth
            continue
        bit = 0
        while (lowest ^ highest) >> (bit + 1) > 0:
            bit += 1
        left, right = start, stop  # the first one with that bit
        while left < right:
            middle = (left + right) // 2
            if words[middle] >> ROW >> bit & 1:
                right = middle
            else:
                left = middle + 1
        first[node], depths[node] = nodes, -1
        stack[top] = nodes + 1, left, stop, depth + 1
        stack[top + 1] = nodes, start, left, depth + 1
        top += 2
        nodes += 2
    return np.empty((nodes, 6)), first[:nodes].copy(), size[:nodes].copy(), depths[:nodes].copy()


@njit(nogil=True, cache=True, error_model="numpy")
def _fit(boxes: Floats, first: Ints, depths: Ints, upper: int) -> None:
    """Boxes of the inner nodes that the curve made, from the last to the first, which is from below."""
    for node in range(upper - 1, -1, -1):
        if depths[node] < 0:
            left, right = first[node], first[node] + 1
            for axis in range(3):
                boxes[node, axis] = min(boxes[left, axis], boxes[right, axis])
                boxes[node, axis + 3] = max(boxes[left, axis + 3], boxes[right, axis + 3])


@njit(nogil=True, cache=True, error_model="numpy")
def _fill_records(lower: Floats, upper: Floats, start: int, stop: int, records: Floats) -> bool:
    """Records of some boxes; whether all their coordinates are finite."""
    rest = 0.0
    for row in range(start, stop):
        for axis in range(3):
            records[row, axis], records[row, axis + 4] = lower[row, axis], -upper[row, axis]
            rest += (lower[row, axis] - lower[row, axis]) + (upper[row, axis] - upper[row, axis])
        records[row, 3], records[row, 7] = row, 0.0
    return rest == 0.0  # the difference of what is not finite with itself is NaN


@njit(nogil=True, cache=True, error_model="numpy")
def _merge(boxes: Floats, row: int, others: Floats, other: int) -> None:
    """Widen a box by another one. All is read before anything is written, so that vector instructions can do it."""
    a0, a1, a2, a3 = boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3]
    a4, a5, a6, a7 = boxes[row, 4], boxes[row, 5], boxes[row, 6], boxes[row, 7]
    b0, b1, b2, b3 = others[other, 0], others[other, 1], others[other, 2], others[other, 3]
    b4, b5, b6, b7 = others[other, 4], others[other, 5], others[other, 6], others[other, 7]
    boxes[row, 0] = b0 if b0 < a0 else a0
    boxes[row, 1] = b1 if b1 < a1 else a1
    boxes[row, 2] = b2 if b2 < a2 else a2
    boxes[row, 3] = b3 if b3 < a3 else a3
    boxes[row, 4] = b4 if b4 < a4 else a4
    boxes[row, 5] = b5 if b5 < a5 else a5
    boxes[row, 6] = b6 if b6 < a6 else a6
    boxes[row, 7] = b7 if b7 < a7 else a7


@njit(nogil=True, cache=True, error_model="numpy")
def _merge_centre(boxes: Floats, row: int, records: Floats, record: int) -> None:
    """Widen a box of doubled centres, in the layout of a record, by that of a record."""
    a0, a1, a2, a3 = boxes[row, 0], boxes[row, 1], boxes[row, 2], boxes[row, 3]
    a4, a5, a6, a7 = boxes[row, 4], boxes[row, 5], boxes[row, 6], boxes[row, 7]
    r0, r1, r2, r3 = records[record, 0], records[record, 1], records[record, 2], records[record, 3]
    r4, r5, r6, r7 = records[record, 4], records[record, 5], records[record, 6], records[record, 7]
    b0, b1, b2, b3 = r0 - r4, r1 - r5, r2 - r6, r3 - r7
    b4, b5, b6, b7 = r4 - r0, r5 - r1, r6 - r2, r7 - r3
    boxes[row, 0] = b0 if b0 < a0 else a0
    boxes[row, 1] = b1 if b1 < a1 else a1
    boxes[row, 2] = b2 if b2 < a2 else a2
    boxes[row, 3] = b3 if b3 < a3 else a3
    boxes[row, 4] = b4 if b4 < a4 else a4
    boxes[row, 5] = b5 if b5 < a5 else a5
    boxes[row, 6] = b6 if b6 < a6 else a6
    boxes[row, 7] = b7 if b7 < a7 else a7


@njit(nogil=True, cache=True, error_model="numpy")
def _half_area(boxes: Floats, row: int) -> float:
    x, y, z = -boxes[row, 4] - boxes[row, 0], -boxes[row, 5] - boxes[row, 1], -boxes[row, 6] - boxes[row, 2]
    return x * y + y * z + z * x


@njit(nogil=True, cache=True, error_model="numpy")
def _bin(records: Floats, row: int, axis: int, low: float, scale: float, bins: int) -> int:
    """Bin of a record by its doubled centre."""
    b = int((records[row, axis] - records[row, axis + 4] - low) * scale)
    return b if b < bins else bins - 1


@njit(nogil=True, cache=True, error_model="numpy")
def _measure(records: Floats, start: int, stop: int, room: Floats, row: int) -> None:
    """Box of some records, and behind it that of their doubled centres."""
    room[row : row + 2] = np.inf
    for record in range(start, stop):
        _merge(room, row, records, record)
        _merge_centre(room, row + 1, records, record)


@njit(nogil=True, cache=True, error_model="numpy")
def _partition(
    records: Floats, start: int, stop: int, axis: int, low: float, scale: float, bins: int, last: int, spare: Floats
) -> int:
    """Move the records of the bins up to ``last`` to the front; where the others begin."""
    left, right = start, stop - 1
    while left <= right:
        if _bin(records, left, axis, low, scale, bins) <= last:
            left += 1
        else:
            spare[0] = records[left]
            records[left] = records[right]
            records[right] = spare[0]
            right -= 1
    return left


@njit(nogil=True, cache=True, error_model="numpy")
def _build_groups(
    records: Floats, groups: Ints, upper_boxes: Floats, upper_first: Ints, upper_size: Ints, depths: Ints,
    leaf_size: int,
) -> tuple[Floats, Ints, Ints]:  # fmt: skip
    """Boxes, first and size of the nodes below some groups; their records are reordered in place.

    The groups themselves are completed where they are; children are counted from 0 in what is returned.
    """
    capacity = 0
    for group in groups:
        capacity += 2 * upper_size[group]
    boxes, first, size = np.empty((capacity, 6)), np.empty(capacity, np.int64), np.empty(capacity, np.int64)
    stack = np.empty((2 * STACK, 4), np.int64)  # node, start, stop, depth
    room = np.empty((4 * STACK, RECORD))  # its box and that of its doubled centres, for every entry of the stack
    bins_of = np.empty((2, BINS, RECORD))  # the same of the bins
    counts, right_area = np.empty(BINS, np.int64), np.empty(BINS)
    sweep = np.empty((1, RECORD))
    nodes = 0
    for group in groups:
        box_of_root = upper_boxes[group]
        root_first, root_size = upper_first[group], upper_size[group]
        _measure(records, root_first, root_first + root_size, room, 0)
        stack[0] = -1, root_first, root_first + root_size, depths[group]
        top = 1
        while top > 0:
            top -= 1
            node, start, stop, depth = stack[top]
            box, centre = 2 * top, 2 * top + 1
            to = boxes[node] if node >= 0 else box_of_root
            for axis in range(3):
                to[axis], to[axis + 3] = room[box, axis], -room[box, axis + 4]
            count = stop - start
            if count <= leaf_size:
                if node < 0:
                    root_first, root_size = start, count
                else:
                    first[node], size[node] = start, count
                continue
            axis, extent = 0, -1.0
            for other in range(3):
                width = -room[centre, other + 4] - room[centre, other]
                if width > extent:
                    axis, extent = other, width
            split = -1
            if depth < HEURISTIC_DEPTH and 1e-300 < extent < 1e300:
                bins = BINS if count > 64 else (BINS // 2 if count > 16 else BINS // 4)
                low, scale = room[centre, axis], bins / extent
                for b in range(bins):
                    bins_of[0, b], bins_of[1, b], counts[b] = np.inf, np.inf, 0
                for row in range(start, stop):
                    b = _bin(records, row, axis, low, scale, bins)
                    counts[b] += 1
                    _merge(bins_of[0], b, records, row)
                    _merge_centre(bins_of[1], b, records, row)
                sweep[0] = np.inf
                for b in range(bins - 1, 0, -1):
                    _merge(sweep, 0, bins_of[0], b)
                    right_area[b] = _half_area(sweep, 0)
                sweep[0] = np.inf
                best, total = np.inf, 0
                for b in range(bins - 1):  # the first and the last bin are never empty
                    _merge(sweep, 0, bins_of[0], b)
                    total += counts[b]
                    cost = _half_area(sweep, 0) * total + right_area[b + 1] * (count - total)
                    if cost < best:
                        best, split = cost, b
            if split >= 0:
                half = _partition(records, start, stop, axis, low, scale, bins, split, sweep)
                room[box : box + 4] = np.inf
                for b in range(bins):
                    side = box + 2 if b <= split else box  # the left child is taken next
                    _merge(room, side, bins_of[0], b)
                    _merge(room, side + 1, bins_of[1], b)
            else:  # all centres coincide, or the tree is too deep: any balanced split will do
                half = start + count // 2
                _measure(records, start, half, room, box + 2)
                _measure(records, half, stop, room, box)
            if node < 0:
                root_first, root_size = nodes, 0
            else:
                first[node], size[node] = nodes, 0
            stack[top] = nodes + 1, half, stop, depth + 1
            stack[top + 1] = nodes, start, half, depth + 1
            top += 2
            nodes += 2
        upper_first[group], upper_size[group] = root_first, root_size
    return boxes[:nodes].copy(), first[:nodes].copy(), size[:nodes].copy()
