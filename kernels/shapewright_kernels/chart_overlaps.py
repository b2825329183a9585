"""Faces of one chart that fall onto one another in its plane, and parts of the chart in which none do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .threads import run_chunks, spans

TOUCH = 1e-9
"""Faces overlap where no line parts them; they may reach over it by this share of the larger one's extent."""
ROUNDING = 1e-15
"""The same as a share of how far the faces are from the origin of the plane."""
PAIRS_PER_CHUNK = 1 << 12


def overlapping_pairs(labels: Ints, flat: Floats, *, threads: int | None = None) -> Ints:
    """Pairs ``(P, 2)`` of faces with one label whose triangles overlap by more than rounding, each once, sorted.

    Args:
        labels: ``(F,)``. flat: ``(F, 3, 2)`` float64 corners in the plane of the chart, wound either way.
        threads: never changes the result.

    >>> one, two = [[0, 0], [2, 0], [0, 2]], [[1, 0], [3, 0], [1, 2]]
    >>> overlapping_pairs(np.zeros(2, int), np.array([one, two], float)).tolist()
    [[0, 1]]
    """
    low, high = flat.min(axis=1), flat.max(axis=1)
    # boxes of a chart in order of their left sides, so those that meet one are near
    order = np.lexsort((low[:, 0], labels))
    parts = spans(len(labels), PAIRS_PER_CHUNK)
    counts = run_chunks(
        lambda span: _pairs(labels, flat, low, high, order, *span, np.empty((0, 2), np.int64)), parts, threads
    )
    places = np.concatenate([[0], np.cumsum(counts)])
    found = np.empty((int(places[-1]), 2), np.int64)

    def fill(part: int) -> None:
        _pairs(labels, flat, low, high, order, *parts[part], found[places[part] : places[part + 1]])

    run_chunks(fill, [part for part, count in enumerate(counts) if count], threads)
    found.sort(axis=1)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def parted(labels: Ints, flat: Floats, starts: Ints, links: Ints, *, threads: int | None = None) -> Ints:
    """Labels ``(F,)`` under which no faces overlap: those of a chart fall into layers, face by face from its first one.

    Args:
        starts, links: neighbours of face ``f`` are ``links[starts[f]:starts[f + 1]]``.
    """
    pairs = overlapping_pairs(labels, flat, threads=threads)
    if not len(pairs):
        return labels
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    firsts = np.searchsorted(both[:, 0], np.arange(len(labels) + 1))
    layers = _layers(labels, starts, links, firsts, np.ascontiguousarray(both[:, 1]))
    return np.asarray(np.unique(labels * (int(layers.max()) + 1) + layers, return_inverse=True)[1], np.int64)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _apart(a: Any, b: Any, slack: float) -> bool:
    """Whether a side of triangle ``a`` ``(3, 2)`` has all of ``b`` beyond it, or within ``slack`` of it."""
    ux, uy, vx, vy = a[1, 0] - a[0, 0], a[1, 1] - a[0, 1], a[2, 0] - a[0, 0], a[2, 1] - a[0, 1]
    turn = 1.0 if ux * vy - uy * vx > 0.0 else -1.0
    for k in range(3):
        x, y = a[k, 0], a[k, 1]
        ex, ey = a[(k + 1) % 3, 0] - x, a[(k + 1) % 3, 1] - y
        most = slack * np.sqrt(ex * ex + ey * ey)
        beyond = True
        for other in range(3):
            if turn * (ex * (b[other, 1] - y) - ey * (b[other, 0] - x)) > most:
                beyond = False
                break
        if beyond:
            return True
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _pairs(
    labels: Ints, flat: Floats, low: Floats, high: Floats, order: Ints, start: int, stop: int, found: Ints
) -> int:
    """How many faces follow those at ``start..stop`` of the order and overlap them; written where there is room."""
    count = 0
    for place in range(start, stop):
        face = order[place]
        size = max(high[face, 0] - low[face, 0], high[face, 1] - low[face, 1])
        far = max(max(abs(low[face, 0]), abs(high[face, 0])), max(abs(low[face, 1]), abs(high[face, 1])))
        for after in range(place + 1, len(order)):
            other = order[after]
            if labels[other] != labels[face] or low[other, 0] >= high[face, 0]:
                break
            if low[other, 1] >= high[face, 1] or low[face, 1] >= high[other, 1]:
                continue
            extent = max(size, max(high[other, 0] - low[other, 0], high[other, 1] - low[other, 1]))
            slack = TOUCH * extent + ROUNDING * far
            if _apart(flat[face], flat[other], slack) or _apart(flat[other], flat[face], slack):
                continue
            if count < len(found):
                found[count, 0], found[count, 1] = face, other
            count += 1
    return count


@njit(nogil=True, cache=True, error_model="numpy")
def _layers(labels: Ints, starts: Ints, links: Ints, firsts: Ints, others: Ints) -> Ints:
    """The least layer of each face that no overlapping face met before it has; ``others`` by face from ``firsts``."""
    count = len(labels)
    layers, queue = np.full(count, -1, np.int64), np.empty(count, np.int64)
    queued = np.zeros(count, np.bool_)
    for seed in range(count):
        if queued[seed]:
            continue
        queue[0], queued[seed] = seed, True
        head, tail = 0, 1
        while head < tail:
            face = queue[head]
            head += 1
            layer, taken = 0, True
            while taken:
                taken = False
                for place in range(firsts[face], firsts[face + 1]):
                    if layers[others[place]] == layer:
                        taken = True
                        layer += 1
                        break
            layers[face] = layer
            for link in range(starts[face], starts[face + 1]):
                near = links[link]
                if not queued[near] and labels[near] == labels[face]:
                    queued[near] = True
                    queue[tail] = near
                    tail += 1
    return layers
