"""Rows of features of many voxels, written once from values by corner and weights by voxel."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .arrays import Floats, Ints
from .threads import run_chunks, spans

_CHUNK = 1 << 14


@njit(nogil=True, cache=True, error_model="numpy")
def _write(
    cubes: Ints, scalars: Floats, vectors: Floats, rows: Ints, beta: Floats, alpha: Floats, gamma: Floats,
    low: int, high: int, result: NDArray[np.float32],
) -> None:  # fmt: skip
    at = np.searchsorted(rows, low)
    for voxel in range(low, high):
        for c in range(8):
            corner = cubes[voxel, c]
            result[voxel, c] = scalars[corner]
            for axis in range(3):
                result[voxel, 8 + 3 * c + axis] = vectors[corner, axis] if len(vectors) > 0 else 0.0
        if at < len(rows) and rows[at] == voxel:
            result[voxel, 32:44] = beta[at]
            result[voxel, 44:52] = alpha[at]
            result[voxel, 52] = gamma[at]
            at += 1
        else:
            result[voxel, 32:] = 0.0


class Weights(NamedTuple):
    """Raw values of the corners and of the voxels that hold surface; the others are neutral."""

    deform: Floats
    """``(C, 3)`` by corner, or no rows."""
    voxels: Ints
    """``(S,)`` ascending rows of voxels."""
    beta: Floats
    """``(S, 12)``"""
    alpha: Floats
    """``(S, 8)``"""
    gamma: Floats
    """``(S,)``"""


def neutral_weights() -> Weights:
    """Zeros everywhere."""
    return Weights(np.empty((0, 3)), np.empty(0, np.int64), np.empty((0, 12)), np.empty((0, 8)), np.empty(0))


def feature_rows(cubes: Ints, scalars: Floats, weights: Weights, *, threads: int | None = None) -> NDArray[np.float32]:
    """``(N, 53)`` float32: a scalar for each of eight corners, an offset for each, beta, alpha, gamma.

    Args:
        cubes: ``(N, 8)`` rows of ``C`` corners. scalars: ``(C,)``.
        threads: never changes the result.

    >>> feature_rows(np.zeros((1, 8), np.int64), np.ones(1), neutral_weights()).sum()
    np.float32(8.0)
    """
    result = np.empty((len(cubes), 53), np.float32)
    run_chunks(lambda span: _write(cubes, scalars, *weights, *span, result), spans(len(cubes), _CHUNK), threads)
    return result
