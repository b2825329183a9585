"""Which faces lie beside a face (*compiled*)."""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Ints


@njit(nogil=True, cache=True, error_model="numpy")
def face_links(pairs: Ints, count: int) -> tuple[Ints, Ints]:
    """The sides of ``pairs`` ``(P, 2)`` of neighbouring faces that belong to face ``f`` of ``count``:
    ``links[starts[f]:starts[f + 1]]``, ascending. Link ``l`` is side ``l % 2`` of pair ``l // 2``, so that the
    neighbour is ``pairs.reshape(-1)[l ^ 1]``."""
    starts = np.zeros(count + 1, np.int64)
    for pair in range(len(pairs)):
        starts[pairs[pair, 0] + 1] += 1
        starts[pairs[pair, 1] + 1] += 1
    for face in range(count):
        starts[face + 1] += starts[face]
    cursor = starts[:-1].copy()
    links = np.empty(2 * len(pairs), np.int64)
    for pair in range(len(pairs)):
        for side in range(2):
            links[cursor[pairs[pair, side]]] = 2 * pair + side
            cursor[pairs[pair, side]] += 1
    return starts, links
