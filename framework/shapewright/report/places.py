"""Vertices that lie at one position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def same_places(vertices: NDArray[np.float64]) -> tuple[Ints, Ints]:
    """One vertex of each position ``(P,)``, and the row of that list for every vertex ``(V,)``."""
    order = np.lexsort(vertices.T)
    rows = vertices[order]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    place = np.empty(len(rows), np.int64)
    place[order] = np.cumsum(new) - 1
    return order[new], place
