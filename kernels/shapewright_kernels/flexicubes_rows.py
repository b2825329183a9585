"""Means over all voxels that share a corner, and their derivatives, without an array of all (voxel, corner) pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from .arrays import Floats, Ints
from .threads import run_chunks, spans

_CHUNK = 1 << 14


@njit(nogil=True, cache=True, error_model="numpy")
def _sum(scalars: Floats, vectors: Floats, rows: Ints, factor: float, shift: float, sums: Floats, count: Ints) -> None:
    for row in range(rows.shape[0]):
        for c in range(8):
            corner = rows[row, c]
            count[corner] += 1
            sums[corner, 0] += scalars[row, c] * factor + shift
            for axis in range(3):
                sums[corner, axis + 1] += vectors[row, 3 * c + axis]


@njit(nogil=True, cache=True, error_model="numpy")
def _spread(
    wanted: Floats, rows: Ints, factor: float, low: int, high: int, to_scalars: Floats, to_vectors: Floats
) -> None:
    for row in range(low, high):
        for c in range(8):
            corner = rows[row, c]
            to_scalars[row, c] = wanted[corner, 0] * factor
            for axis in range(3):
                to_vectors[row, 3 * c + axis] = wanted[corner, axis + 1]


class _CornerMeans(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scalars: Tensor, vectors: Tensor, rows: NDArray[np.int64], corners: int, factor: float, shift: float,
        threads: int | None,
    ) -> Tensor:  # fmt: skip
        values, directions = scalars.detach().numpy(), vectors.detach().numpy()
        kind = values.dtype.type
        sums, count = np.zeros((corners, 4), values.dtype), np.zeros(corners, np.int64)
        _sum(values, directions, rows, kind(factor), kind(shift), sums, count)
        number = torch.from_numpy(count).to(scalars.dtype)[:, None]
        ctx.settings = rows, factor, threads
        ctx.save_for_backward(number)
        return torch.from_numpy(sums).div_(number)

    @staticmethod
    def backward(ctx: Any, wanted: Tensor) -> Any:
        rows, factor, threads = ctx.settings
        (number,) = ctx.saved_tensors
        share = wanted / number
        if torch.is_grad_enabled():  # second derivatives
            by_row = share[torch.from_numpy(rows)]
            return by_row[..., 0] * factor, by_row[..., 1:].reshape(len(rows), 24), None, None, None, None, None
        parts = share.numpy()
        to_scalars, to_vectors = (np.empty((len(rows), width), parts.dtype) for width in (8, 24))
        run_chunks(
            lambda span: _spread(parts, rows, parts.dtype.type(factor), *span, to_scalars, to_vectors),
            spans(len(rows), _CHUNK),
            threads,
        )
        return torch.from_numpy(to_scalars), torch.from_numpy(to_vectors), None, None, None, None, None


def corner_means(
    scalars: Tensor,
    vectors: Tensor,
    rows: NDArray[np.int64],
    corners: int,
    factor: float,
    shift: float,
    threads: int | None = None,
) -> Tensor:
    """``(C, 4)``: mean of ``scalars * factor + shift`` and of ``vectors`` over all rows that hold a corner.

    Args:
        scalars: ``(M, 8)`` and vectors: ``(M, 24)``, three a corner; float32 or float64 on the CPU. Differentiable.
        rows: ``(M, 8)`` the corner of each entry, every one of the ``corners`` at least once.
        threads: never changes the result.
    """
    result: Tensor = _CornerMeans.apply(scalars, vectors, rows, corners, factor, shift, threads)  # type: ignore[no-untyped-call]
    return result
