"""Farthest point sampling: each point chosen is the one farthest from all chosen before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, error_model="numpy")
def _farthest(points: NDArray[np.float64], distance: NDArray[np.float64], chosen: NDArray[np.int64]) -> None:
    """``points`` ``(3, N)``, one row an axis: both loops run along memory."""
    x, y, z = points[0], points[1], points[2]
    for step in range(1, chosen.size):
        last = chosen[step - 1]
        at_x, at_y, at_z = x[last], y[last], z[last]
        for index in range(distance.size):
            dx, dy, dz = x[index] - at_x, y[index] - at_y, z[index] - at_z
            distance[index] = min(distance[index], dx * dx + dy * dy + dz * dz)
        best = 0
        for index in range(1, distance.size):
            if distance[index] > distance[best]:
                best = index
        chosen[step] = best


def farthest_points(points: NDArray[np.floating[Any]], count: int, *, start: int = 0) -> NDArray[np.int64]:
    """Rows of ``count`` points, in the order in which they are chosen.

    Args:
        points: ``(N, 3)`` finite coordinates.
        count: how many to choose; beyond ``N`` distinct points the first of them is repeated.
        start: row of the first one.
    Returns:
        ``(count,)`` int64 rows. The lowest row wins where several are equally far; distances are squared in float64, so
        the choice does not depend on the machine.
    Raises:
        ValueError: there are no points, a coordinate is not finite, or ``count`` or ``start`` is out of range.
    Source: Eldar et al. 1997; Qi et al. 2017.

    >>> farthest_points(np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0]]), 2).tolist()
    [0, 2]
    """
    if points.ndim != 2 or points.shape[1] != 3 or not len(points):
        raise ValueError(f"points must be (N, 3) with N > 0, not {points.shape}")
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if not 0 <= start < len(points):
        raise ValueError(f"start must lie in 0..{len(points) - 1}, not be {start}")
    columns = np.ascontiguousarray(points.T, dtype=np.float64)
    if not np.isfinite(columns).all():
        raise ValueError("points hold coordinates that are not finite")
    chosen = np.full(count, start, np.int64)
    _farthest(columns, np.full(len(points), np.inf), chosen)
    return chosen
