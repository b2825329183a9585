"""Attention between pairs of packed segments in Triton: one launch for all segments, memory that grows with tokens.

A program takes one tile of rows of one segment and walks the other side of that segment (Dao 2023, FlashAttention-2);
the backward pass has one kernel for the queries and one for keys and values, so no sum is atomic and results repeat.
Tiles are listed by :meth:`.SegmentPairs.tiles`, so short segments cost what they hold. Runs on CUDA, and in Triton's
interpreter (``TRITON_INTERPRET=1``) on tensors of the CPU.
"""

# Kernels are typed by Triton when they are compiled.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from triton import knobs

from .varlen_attention_segments import SegmentPairs

LOG2E = 1.4426950408889634
STEPS = [(32, 4, 1), (32, 4, 3), (64, 4, 2), (64, 4, 3), (128, 4, 2), (128, 8, 2)]
"""Rows of the other side that a step takes, warps, stages: what is tried for every width, type and tile."""


def attention_by_tiles(q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs, scale: float) -> tuple[Tensor, Tensor]:
    """``(Tq, Hq, dv)`` and the natural log-sum-exp ``(Hq, Tq)`` float32; both differentiable once."""
    out, lse = _TiledAttention.apply(q.contiguous(), k.contiguous(), v.contiguous(), pairs, scale)  # type: ignore[no-untyped-call]
    return out, lse


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs, scale: float) -> tuple[Tensor, Tensor]:
        out = q.new_empty(*q.shape[:2], v.shape[2])
        lse = torch.empty(q.shape[1], len(q), dtype=torch.float32, device=q.device)
        block = _rows(pairs, "q", q, v)
        tiles = pairs.tiles("q", block)
        if len(tiles):
            with _on(q):
                _forward[(len(tiles), q.shape[1])](
                    q, k, v, out, lse, tiles, pairs.offsets("q"), pairs.offsets("k"), scale * LOG2E, len(q),
                    ROWS=block, **_shape(q, k, v),
                )  # fmt: skip
        return out, lse

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, pairs, scale = inputs
        ctx.save_for_backward(q, k, v, *output)
        ctx.pairs, ctx.scale = pairs, scale  # type: ignore[attr-defined]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, out, lse = ctx.saved_tensors
        pairs, scale = ctx.pairs, ctx.scale
        d_out = d_out.contiguous()
        # dS = P (dO V^T - delta): a gradient of the log-sum-exp only lowers delta.
        delta = (d_out.float() * out.float()).sum(-1).t().contiguous() - d_lse
        d_q, d_k, d_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        shape, offsets = _shape(q, k, v), (pairs.offsets("q"), pairs.offsets("k"))
        rows, columns = _rows(pairs, "q", q, v), min(_rows(pairs, "k", q, v), 64)
        tiles_q, tiles_k = pairs.tiles("q", rows), pairs.tiles("k", columns)
        with _on(q):
            if len(tiles_q):
                _backward_queries[(len(tiles_q), q.shape[1])](
                    q, k, v, d_out, lse, delta, d_q, tiles_q, *offsets, scale * LOG2E, scale, len(q),
                    ROWS=rows, **shape,
                )  # fmt: skip
            if len(tiles_k):
                _backward_keys[(len(tiles_k), k.shape[1])](
                    q, k, v, d_out, lse, delta, d_k, d_v, tiles_k, *offsets, scale * LOG2E, scale, len(q),
                    ROWS=columns, **shape,
                )  # fmt: skip
        return d_q, d_k, d_v, None, None


def _on(values: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Kernels start on the current device, which need not be the one that holds the tensors."""
    return torch.cuda.device(values.device) if values.is_cuda else contextlib.nullcontext()


def _rows(pairs: SegmentPairs, side: str, q: Tensor, v: Tensor) -> int:
    """Rows of a tile: fewer where rows are so wide that no step would fit into shared memory beside them."""
    widest = max(q.shape[2], v.shape[2]) * q.element_size()
    return min(pairs.block(side), 128 if widest <= 256 else 64 if widest <= 512 else 32)


def _shape(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Any]:
    return {
        "HEADS": q.shape[1],
        "GROUP": q.shape[1] // k.shape[1],
        "WIDTH": q.shape[2],
        "WIDTH_V": v.shape[2],
        "PADDED": max(16, triton.next_power_of_2(q.shape[2])),
        "PADDED_V": max(16, triton.next_power_of_2(v.shape[2])),
        # TF32 would round float32 inputs to ten bits.
        "PRECISION": "ieee" if q.dtype == torch.float32 else "tf32",
    }


def _tuned(kernel: Any) -> Any:
    """The interpreter times nothing: it gets one choice."""
    steps = [(16, 4, 1)] if knobs.runtime.interpret else STEPS
    configs = [triton.Config({"STEP": step}, num_warps=warps, num_stages=stages) for step, warps, stages in steps]
    return triton.autotune(configs, key=["ROWS", "PADDED", "PADDED_V", "PRECISION"])(kernel)


@_tuned
@triton.jit
def _forward(
    Q, K, V, OUT, LSE, TILES, OFFSETS_Q, OFFSETS_K, scale_log2, total_q,
    ROWS: tl.constexpr, HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
    PADDED: tl.constexpr, PADDED_V: tl.constexpr, PRECISION: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1)
    segment, start = tl.load(TILES + 2 * tile), tl.load(TILES + 2 * tile + 1)
    stop_q = tl.load(OFFSETS_Q + segment + 1)
    start_k, stop_k = tl.load(OFFSETS_K + segment), tl.load(OFFSETS_K + segment + 1)
    kv_head = head // GROUP
    rows = tl.load(OFFSETS_Q + segment) + start + tl.arange(0, ROWS)
    real = rows < stop_q
    wide = rows.to(tl.int64)
    channels, channels_v = tl.arange(0, PADDED), tl.arange(0, PADDED_V)
    at = (wide[:, None] * HEADS + head) * WIDTH + channels[None, :]
    q = tl.load(Q + at, mask=real[:, None] & (channels < WIDTH)[None, :], other=0.0)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, PADDED_V], tl.float32)
    for first in range(start_k, stop_k, STEP):
        columns = first + tl.arange(0, STEP)
        there = columns < stop_k
        far = columns.to(tl.int64) * (HEADS // GROUP) + kv_head
        k = tl.load(
            K + far[None, :] * WIDTH + channels[:, None], mask=there[None, :] & (channels < WIDTH)[:, None], other=0.0
        )
        v = tl.load(
            V + far[:, None] * WIDTH_V + channels_v[None, :],
            mask=there[:, None] & (channels_v < WIDTH_V)[None, :],
            other=0.0,
        )
        scores = tl.dot(q, k, input_precision=PRECISION) * scale_log2
        scores = tl.where(there[None, :], scores, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        weights = tl.exp2(scores - higher[:, None])
        fade = tl.exp2(top - higher)
        total = total * fade + tl.sum(weights, 1)
        mixed = mixed * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision=PRECISION)
        top = higher
    some = total > 0
    mixed = mixed / tl.where(some, total, 1.0)[:, None]
    lse = tl.where(some, (top + tl.log2(tl.where(some, total, 1.0))) / 1.4426950408889634, float("-inf"))
    at_v = (wide[:, None] * HEADS + head) * WIDTH_V + channels_v[None, :]
    tl.store(OUT + at_v, mixed.to(OUT.dtype.element_ty), mask=real[:, None] & (channels_v < WIDTH_V)[None, :])
    tl.store(LSE + head.to(tl.int64) * total_q + wide, lse, mask=real)


@_tuned
@triton.jit
def _backward_queries(
    Q, K, V, D_OUT, LSE, DELTA, D_Q, TILES, OFFSETS_Q, OFFSETS_K, scale_log2, scale, total_q,
    ROWS: tl.constexpr, HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
    PADDED: tl.constexpr, PADDED_V: tl.constexpr, PRECISION: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    tile, head = tl.program_id(0), tl.program_id(1)
    segment, start = tl.load(TILES + 2 * tile), tl.load(TILES + 2 * tile + 1)
    stop_q = tl.load(OFFSETS_Q + segment + 1)
    start_k, stop_k = tl.load(OFFSETS_K + segment), tl.load(OFFSETS_K + segment + 1)
    kv_head = head // GROUP
    rows = tl.load(OFFSETS_Q + segment) + start + tl.arange(0, ROWS)
    real = rows < stop_q
    wide = rows.to(tl.int64)
    channels, channels_v = tl.arange(0, PADDED), tl.arange(0, PADDED_V)
    at = (wide[:, None] * HEADS + head) * WIDTH + channels[None, :]
    at_v = (wide[:, None] * HEADS + head) * WIDTH_V + channels_v[None, :]
    q = tl.load(Q + at, mask=real[:, None] & (channels < WIDTH)[None, :], other=0.0)
    d_out = tl.load(D_OUT + at_v, mask=real[:, None] & (channels_v < WIDTH_V)[None, :], other=0.0)
    lse = tl.load(LSE + head.to(tl.int64) * total_q + wide, mask=real, other=float("inf")) * 1.4426950408889634
    delta = tl.load(DELTA + head.to(tl.int64) * total_q + wide, mask=real, other=0.0)
    d_q = tl.zeros([ROWS, PADDED], tl.float32)
    for first in range(start_k, stop_k, STEP):
        columns = first + tl.arange(0, STEP)
        there = columns < stop_k
        far = columns.to(tl.int64) * (HEADS // GROUP) + kv_head
        k = tl.load(
            K + far[:, None] * WIDTH + channels[None, :], mask=there[:, None] & (channels < WIDTH)[None, :], other=0.0
        )
        v = tl.load(
            V + far[:, None] * WIDTH_V + channels_v[None, :],
            mask=there[:, None] & (channels_v < WIDTH_V)[None, :],
            other=0.0,
        )
        scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale_log2
        weights = tl.where(there[None, :], tl.exp2(scores - lse[:, None]), 0.0)
        d_scores = weights * (tl.dot(d_out, tl.trans(v), input_precision=PRECISION) - delta[:, None])
        d_q += tl.dot(d_scores.to(k.dtype), k, input_precision=PRECISION)
    tl.store(D_Q + at, (d_q * scale).to(D_Q.dtype.element_ty), mask=real[:, None] & (channels < WIDTH)[None, :])


@_tuned
@triton.jit
def _backward_keys(
    Q, K, V, D_OUT, LSE, DELTA, D_K, D_V, TILES, OFFSETS_Q, OFFSETS_K, scale_log2, scale, total_q,
    ROWS: tl.constexpr, HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, WIDTH_V: tl.constexpr,
    PADDED: tl.constexpr, PADDED_V: tl.constexpr, PRECISION: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    tile, kv_head = tl.program_id(0), tl.program_id(1)
    segment, start = tl.load(TILES + 2 * tile), tl.load(TILES + 2 * tile + 1)
    stop_k = tl.load(OFFSETS_K + segment + 1)
    start_q, stop_q = tl.load(OFFSETS_Q + segment), tl.load(OFFSETS_Q + segment + 1)
    rows = tl.load(OFFSETS_K + segment) + start + tl.arange(0, ROWS)
    real = rows < stop_k
    channels, channels_v = tl.arange(0, PADDED), tl.arange(0, PADDED_V)
    far = rows.to(tl.int64) * (HEADS // GROUP) + kv_head
    at = far[:, None] * WIDTH + channels[None, :]
    at_v = far[:, None] * WIDTH_V + channels_v[None, :]
    k = tl.load(K + at, mask=real[:, None] & (channels < WIDTH)[None, :], other=0.0)
    v = tl.load(V + at_v, mask=real[:, None] & (channels_v < WIDTH_V)[None, :], other=0.0)
    d_k = tl.zeros([ROWS, PADDED], tl.float32)
    d_v = tl.zeros([ROWS, PADDED_V], tl.float32)
    for member in range(GROUP):
        head = kv_head * GROUP + member
        for first in range(start_q, stop_q, STEP):
            queries = first + tl.arange(0, STEP)
            there = queries < stop_q
            wide = queries.to(tl.int64)
            near = wide * HEADS + head
            q = tl.load(
                Q + near[:, None] * WIDTH + channels[None, :],
                mask=there[:, None] & (channels < WIDTH)[None, :],
                other=0.0,
            )
            d_out = tl.load(
                D_OUT + near[:, None] * WIDTH_V + channels_v[None, :],
                mask=there[:, None] & (channels_v < WIDTH_V)[None, :],
                other=0.0,
            )
            lse = tl.load(LSE + head.to(tl.int64) * total_q + wide, mask=there, other=float("inf")) * 1.4426950408889634
            delta = tl.load(DELTA + head.to(tl.int64) * total_q + wide, mask=there, other=0.0)
            scores = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale_log2
            weights = tl.exp2(scores - lse[None, :])
            d_v += tl.dot(weights.to(d_out.dtype), d_out, input_precision=PRECISION)
            d_scores = weights * (tl.dot(v, tl.trans(d_out), input_precision=PRECISION) - delta[None, :])
            d_k += tl.dot(d_scores.to(q.dtype), q, input_precision=PRECISION)
    tl.store(D_K + at, (d_k * scale).to(D_K.dtype.element_ty), mask=real[:, None] & (channels < WIDTH)[None, :])
    tl.store(D_V + at_v, d_v.to(D_V.dtype.element_ty), mask=real[:, None] & (channels_v < WIDTH_V)[None, :])
