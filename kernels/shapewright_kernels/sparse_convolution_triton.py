"""Sparse convolution on CUDA by Triton: implicit matrix products that gather while they multiply.

Outputs (and gradients of features, by the transposed map) are walked in tiles of rows with alike neighbours, so that a
tile skips the weights none of its rows has; nothing of the size of the pairs is written. Gradients of weights multiply
pairs grouped by weight, in parts that are added up in one order. Sums are float32.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError as error:
    raise ImportError(
        "backend='triton' needs the package 'triton' (pip install triton; Linux); backend='torch' runs everywhere"
    ) from error

from .sparse_convolution_pairs import Neighbours

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")
"""The interpreter does not multiply bfloat16, so operands are widened there."""
PARTS = 64
"""At most so many parts of the pairs of a weight are summed side by side."""
PART_PAIRS = 2048


def require(feats: Tensor) -> None:
    """
    Raises:
        ValueError: ``feats`` is not on a CUDA device, and the interpreter is off.
    """
    if feats.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"backend 'triton' needs feats on a CUDA device, not {feats.device}; "
            "use backend='torch', or set TRITON_INTERPRET=1 before the first import to try tiny inputs"
        )


def _rows_configs() -> list[Any]:
    if INTERPRETED:
        return [triton.Config({"ROWS": 16, "OUT": 16, "INNER": 16})]
    shapes = [(64, 64, 32, 4), (128, 64, 32, 4), (128, 128, 32, 8), (64, 128, 64, 4), (128, 64, 64, 8), (64, 32, 32, 4)]
    return [
        triton.Config({"ROWS": rows, "OUT": out, "INNER": inner}, num_warps=warps, num_stages=stages)
        for rows, out, inner, warps in shapes
        for stages in (2, 4)
    ]


def _taps_configs() -> list[Any]:
    if INTERPRETED:
        return [triton.Config({"IN": 16, "OUT": 16, "PAIRS": 16})]
    shapes = [(64, 64, 32, 4), (64, 64, 64, 4), (128, 64, 32, 8), (128, 128, 32, 8), (32, 32, 64, 4)]
    return [
        triton.Config({"IN": inner, "OUT": out, "PAIRS": pairs}, num_warps=warps, num_stages=3)
        for inner, out, pairs, warps in shapes
    ]


@triton.autotune(configs=_rows_configs(), key=["inner", "out", "weights", "size"])
@triton.jit
def _rows_kernel(
    feats, taps, bias, rows, order, result, count, inner, out, weights, size, stride_k, stride_i, stride_o,
    HAS_BIAS: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, ROWS: tl.constexpr, OUT: tl.constexpr,
    INNER: tl.constexpr,
):  # fmt: skip
    """``result[m] = bias + sum over k, i of feats[rows[m, k], i] taps[k, i, :]`` for a tile of rows and outputs."""
    tile = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = tile < count
    row = tl.load(order + tile, mask=inside, other=0).to(tl.int64)
    o = tl.program_id(1) * OUT + tl.arange(0, OUT)
    has_o = o < out
    total = tl.zeros((ROWS, OUT), tl.float32)
    for k in range(weights):
        source = tl.load(rows + row * weights + k, mask=inside, other=-1)
        if tl.max(source, 0) >= 0:
            present = source >= 0
            place = source.to(tl.int64) * inner
            for start in range(0, inner, INNER):
                i = start + tl.arange(0, INNER)
                has_i = i < inner
                x = tl.load(feats + place[:, None] + i[None, :], mask=present[:, None] & has_i[None, :], other=0.0)
                at = k * stride_k + i[:, None] * stride_i + o[None, :] * stride_o
                w = tl.load(taps + at, mask=has_i[:, None] & has_o[None, :], other=0.0)
                if WIDEN:
                    x, w = x.to(tl.float32), w.to(tl.float32)
                total = tl.dot(x, w, total, input_precision=PRECISION)
    if HAS_BIAS:
        total += tl.load(bias + o, mask=has_o, other=0.0).to(tl.float32)[None, :]
    where = result + row[:, None] * out + o[None, :]
    tl.store(where, total.to(result.dtype.element_ty), mask=inside[:, None] & has_o[None, :])


@triton.autotune(configs=_taps_configs(), key=["inner", "out", "parts", "size"])
@triton.jit
def _taps_kernel(
    feats, grad, sources, targets, starts, result, inner, out, weights, parts, size,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, IN: tl.constexpr, OUT: tl.constexpr, PAIRS: tl.constexpr,
):  # fmt: skip
    """``result[part, k] = sum over pairs of feats[source]^T grad[target]`` for one part of the pairs of a weight."""
    k = tl.program_id(0) // parts
    part = tl.program_id(0) % parts
    i = tl.program_id(1) * IN + tl.arange(0, IN)
    o = tl.program_id(2) * OUT + tl.arange(0, OUT)
    first, last = tl.load(starts + k), tl.load(starts + k + 1)
    length = (last - first + parts - 1) // parts
    begin = first + part * length
    end = tl.minimum(begin + length, last)
    total = tl.zeros((IN, OUT), tl.float32)
    for at in range(begin, end, PAIRS):
        pair = at + tl.arange(0, PAIRS)
        inside = pair < end
        source = tl.load(sources + pair, mask=inside, other=0).to(tl.int64)
        target = tl.load(targets + pair, mask=inside, other=0).to(tl.int64)
        x = tl.load(
            feats + source[None, :] * inner + i[:, None], mask=inside[None, :] & (i < inner)[:, None], other=0.0
        )
        g = tl.load(grad + target[:, None] * out + o[None, :], mask=inside[:, None] & (o < out)[None, :], other=0.0)
        if WIDEN:
            x, g = x.to(tl.float32), g.to(tl.float32)
        total = tl.dot(x, g, total, input_precision=PRECISION)
    where = result + ((part * weights + k) * inner + i[:, None]).to(tl.int64) * out + o[None, :]
    tl.store(where, total, mask=(i < inner)[:, None] & (o < out)[None, :])


def _precision() -> str:
    """TF32 only where the user allows it for matrix products."""
    return "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"


def _size(rows: int) -> int:
    """Order of magnitude: tuned anew for much larger inputs only."""
    return max(rows, 1).bit_length() // 2


def _product(feats: Tensor, taps: Tensor, bias: Tensor | None, neighbours: Neighbours) -> Tensor:
    feats = feats.contiguous()
    count, (weights, inner, out) = neighbours.outputs, taps.shape
    result = torch.empty(count, out, dtype=feats.dtype, device=feats.device)
    if count == 0:
        return result

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return triton.cdiv(count, meta["ROWS"]), triton.cdiv(out, meta["OUT"])

    with _on(feats):
        _rows_kernel[grid](
            feats, taps, feats if bias is None else bias.contiguous(), neighbours.rows.contiguous(), neighbours.order,
            result, count, inner, out, weights, _size(count), taps.stride(0), taps.stride(1), taps.stride(2),
            HAS_BIAS=bias is not None, PRECISION=_precision(), WIDEN=INTERPRETED,
        )  # fmt: skip
    return result


def _on(tensor: Tensor) -> torch.cuda.device:
    """Launch where the tensor is, not on the current device."""
    return torch.cuda.device(tensor.device if tensor.device.type == "cuda" else -1)


def forward(feats: Tensor, taps: Tensor, bias: Tensor | None, neighbours: Neighbours) -> Tensor:
    """As the other backends: ``taps`` ``(K, Ci, Co)``, result ``(M, Co)``."""
    return _product(feats, taps, bias, neighbours)


def backward(
    feats: Tensor, taps: Tensor, grad: Tensor, neighbours: Neighbours, wants_feats: bool, wants_taps: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of features and weights."""
    grad_feats = _product(grad, taps.transpose(1, 2), None, neighbours.transposed) if wants_feats else None
    if not wants_taps:
        return grad_feats, None
    weights, inner, out = taps.shape
    sources, targets, starts = neighbours.pairs
    longest = -(-len(sources) // max(weights, 1))
    parts = max(1, min(PARTS, longest // PART_PAIRS))
    partial = torch.empty(parts, weights, inner, out, dtype=torch.float32, device=feats.device)

    def grid(meta: dict[str, int]) -> tuple[int, int, int]:
        return weights * parts, triton.cdiv(inner, meta["IN"]), triton.cdiv(out, meta["OUT"])

    with _on(feats):
        _taps_kernel[grid](
            feats.contiguous(), grad, sources, targets, starts, partial, inner, out, weights, parts, _size(len(feats)),
            PRECISION=_precision(), WIDEN=INTERPRETED,
        )  # fmt: skip
    return grad_feats, partial.sum(0).to(taps.dtype)
