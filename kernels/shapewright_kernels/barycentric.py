"""Weights of the corners of triangles."""

from __future__ import annotations

import numpy as np

from .arrays import Floats
from .rows import cross_rows, norm_rows


def barycentrics(points: Floats, corners: Floats) -> Floats:
    """Weights ``(N, 3)`` of the corners ``(N, 3, 3)`` of triangles at ``points`` ``(N, 3)`` on them.

    Shares of the area, so never negative and summing to 1; the first corner's where a triangle has no area.

    >>> barycentrics(np.array([[0.5, 0.25, 0.0]]), np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])).tolist()
    [[0.25, 0.5, 0.25]]
    """
    ways = corners - points[:, None]
    areas = [norm_rows(cross_rows(ways[:, (k + 1) % 3], ways[:, (k + 2) % 3])) for k in range(3)]
    weights = np.stack(areas, axis=1)
    total = weights.sum(axis=1, keepdims=True)
    first = np.broadcast_to(np.array([1.0, 0.0, 0.0]), weights.shape)
    return np.asarray(np.divide(weights, total, out=first.copy(), where=total > 0), np.float64)
