"""Sparse convolution on the CPU, voxel by voxel: no buffers of pairs, so it wins where there are few channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from .lattice_index import Integer
from .neighbour_map import Rows
from .sparse_convolution_pairs import Neighbours
from .threads import run_chunks, spans

CHUNK = 4096
PARTS = 16
"""Partial sums of the gradient of the weights; fixed, so that the result does not depend on the threads."""

Floats = NDArray[np.floating[Any]]


def forward(feats: Tensor, taps: Tensor, bias: Tensor | None, neighbours: Neighbours) -> Tensor:
    """As the other backends: ``taps`` ``(K, Ci, Co)``, result ``(M, Co)``."""
    start = np.zeros(taps.shape[2], _array(feats).dtype) if bias is None else _array(bias)
    return _product(_array(feats), _array(taps), start, neighbours)


def backward(
    feats: Tensor, taps: Tensor, grad: Tensor, neighbours: Neighbours, wants_feats: bool, wants_taps: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of features and weights."""
    grad_feats = grad_taps = None
    outputs = _array(grad)
    if wants_feats:
        turned = np.ascontiguousarray(_array(taps).transpose(0, 2, 1))
        grad_feats = _product(outputs, turned, np.zeros(taps.shape[1], outputs.dtype), neighbours.transposed)
    if wants_taps:
        inputs, rows = _array(feats), _array(neighbours.rows)
        chunks = spans(len(rows), max(CHUNK, -(-len(rows) // PARTS)))
        parts = np.zeros((len(chunks), *taps.shape), outputs.dtype)

        def work(job: tuple[int, tuple[int, int]]) -> None:
            _weights(rows, inputs, outputs, *job[1], parts[job[0]])

        run_chunks(work, enumerate(chunks))
        grad_taps = torch.from_numpy(parts.sum(axis=0))
    return grad_feats, grad_taps


def _array(tensor: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().numpy())


def _product(feats: Floats, taps: Floats, start: Floats, neighbours: Neighbours) -> Tensor:
    rows = _array(neighbours.rows)
    result = np.empty((len(rows), taps.shape[2]), feats.dtype)
    run_chunks(lambda span: _rows(rows, feats, taps, start, *span, result), spans(len(rows), CHUNK))
    return torch.from_numpy(result)


@njit(nogil=True, cache=True, error_model="numpy")
def _rows(rows: Rows, feats: Floats, taps: Floats, bias: Floats, first: Integer, last: Integer, result: Floats) -> None:
    for row in range(first, last):
        total = result[row]
        for o in range(total.size):
            total[o] = bias[o]
        for k in range(rows.shape[1]):
            source = rows[row, k]
            if source >= 0:
                for i in range(feats.shape[1]):
                    value, tap = feats[source, i], taps[k, i]
                    for o in range(total.size):
                        total[o] += value * tap[o]


@njit(nogil=True, cache=True, error_model="numpy")
def _weights(rows: Rows, feats: Floats, grad: Floats, first: Integer, last: Integer, result: Floats) -> None:
    for row in range(first, last):
        slope = grad[row]
        for k in range(rows.shape[1]):
            source = rows[row, k]
            if source >= 0:
                for i in range(feats.shape[1]):
                    value, tap = feats[source, i], result[k, i]
                    for o in range(slope.size):
                        tap[o] += value * slope[o]
