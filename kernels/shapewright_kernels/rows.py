"""Products of three-vectors row by row; reductions over an axis of length three cost several times more in numpy."""

from __future__ import annotations

import numpy as np
from numba import njit

from .arrays import Floats, Ints
from .threads import run_chunks, spans

CHUNK = 1 << 16


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


def dot_named_rows(a: Floats, a_rows: Ints, b: Floats, b_rows: Ints, threads: int | None = None) -> Floats:
    """``dot_rows(a[a_rows], b[b_rows])`` without the copies; ``a`` and ``b`` are ``(N, 3)`` and ``(M, 3)`` float64.

    >>> dot_named_rows(np.eye(3), np.array([0, 1]), 2 * np.eye(3), np.array([0, 2])).tolist()
    [2.0, 0.0]
    """
    products = np.empty(len(a_rows))
    run_chunks(lambda span: _dot(a, a_rows, b, b_rows, *span, products), spans(len(products), CHUNK), threads)
    return products


@njit(nogil=True, cache=True, error_model="numpy")
def _dot(a: Floats, a_rows: Ints, b: Floats, b_rows: Ints, start: int, stop: int, products: Floats) -> None:
    for place in range(start, stop):
        i, j = a_rows[place], b_rows[place]
        products[place] = a[i, 0] * b[j, 0] + a[i, 1] * b[j, 1] + a[i, 2] * b[j, 2]
