"""Products of three-vectors row by row; reductions over an axis of length three cost several times more in numpy."""

from __future__ import annotations

import numpy as np

from .arrays import Floats


def cross_rows(a: Floats, b: Floats) -> Floats:
    """Cross products ``(N, 3)``.

    >>> cross_rows(np.eye(3), np.roll(np.eye(3), 1, axis=1)).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    result = np.empty(np.broadcast_shapes(a.shape, b.shape))
    result[:, 0] = a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1]
    result[:, 1] = a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2]
    result[:, 2] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return result


def dot_rows(a: Floats, b: Floats) -> Floats:
    """Inner products over the last axis, which has three entries."""
    result: Floats = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]
    return result


def norm_rows(a: Floats) -> Floats:
    """Lengths over the last axis, which has three entries."""
    result: Floats = np.sqrt(dot_rows(a, a))
    return result
