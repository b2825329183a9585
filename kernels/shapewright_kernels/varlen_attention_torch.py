"""Attention between pairs of segments in torch operations: segments of equal length go through one batched call.

No padding and no masks: what a token receives does not depend on the segments beside it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from .varlen_attention_segments import SegmentPairs, permuted

SCORES = 1 << 22
"""Scores that the path with log-sum-exp holds at a time (times two): its memory grows with tokens, not with pairs."""


def attention_in_groups(
    q: Tensor, k: Tensor, v: Tensor, pairs: SegmentPairs, scale: float, *, return_lse: bool, explicit: bool
) -> tuple[Tensor, Tensor | None]:
    """``(T, Hq, dv)`` and ``(Hq, T)`` natural log-sum-exp or ``None``.

    ``explicit`` keeps all probabilities, which can be differentiated twice.
    """
    groups = pairs.groups
    q = permuted(q, pairs.order_q)
    k, v = permuted(k, pairs.order_k), permuted(v, pairs.order_k)
    parts_q = torch.split(q, [group.segments * group.queries for group in groups])
    parts_k = torch.split(k, [group.segments * group.keys for group in groups])
    parts_v = torch.split(v, [group.segments * group.keys for group in groups])
    # Empty pieces of q first, so that a result without a row still belongs to the graph.
    outputs, sums = [q[:0, :, :1].expand(-1, -1, v.shape[2])], [_accumulated(q[:0, :, 0])]
    for group, part_q, part_k, part_v in zip(groups, parts_q, parts_k, parts_v, strict=True):
        if not part_q.numel():
            continue
        if not group.keys:
            outputs.append(part_q.new_zeros(len(part_q), q.shape[1], v.shape[2]))
            sums.append(_accumulated(part_q).new_full((len(part_q), q.shape[1]), -torch.inf))
            continue
        folded = _folded(part_q, group.segments, k.shape[1])
        keys, values = (
            part.reshape(group.segments, group.keys, *part.shape[1:]).transpose(1, 2) for part in (part_k, part_v)
        )
        if explicit:
            out, lse = _explicit(folded, keys, values, scale)
        elif return_lse:
            out, lse = _Recomputed.apply(folded, keys, values, scale)  # type: ignore[no-untyped-call]
        else:
            out, lse = scaled_dot_product_attention(folded, keys, values, scale=scale), None
        outputs.append(_unfolded(out, group.queries))
        if lse is not None:
            sums.append(_unfolded(lse.unsqueeze(-1), group.queries).squeeze(-1))
    back = None if pairs.order_q is None else type(pairs.order_q)(pairs.order_q.inverse, pairs.order_q.forward)
    out = permuted(torch.cat(outputs), back)
    return out, permuted(torch.cat(sums), back).t() if return_lse else None


def _accumulated(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _folded(rows: Tensor, count: int, kv_heads: int) -> Tensor:
    """``(count * L, Hq, d)`` to ``(count, Hkv, G * L, d)``: without a mask, query heads that share a key head are only
    more queries."""
    length, group = len(rows) // count, rows.shape[1] // kv_heads
    split = rows.reshape(count, length, kv_heads, group, rows.shape[2])
    return split.permute(0, 2, 3, 1, 4).reshape(count, kv_heads, group * length, rows.shape[2])


def _unfolded(values: Tensor, length: int) -> Tensor:
    """``(count, Hkv, G * L, d)`` to ``(count * L, Hq, d)``."""
    count, kv_heads, many, width = values.shape
    split = values.reshape(count, kv_heads, many // length, length, width)
    return split.permute(0, 3, 1, 2, 4).reshape(count * length, kv_heads * (many // length), width)


def _explicit(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    scores = _accumulated(q) @ _accumulated(k).transpose(-1, -2) * scale
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.exp(scores - lse.unsqueeze(-1))
    return (weights @ _accumulated(v)).to(q.dtype), lse


class _Recomputed(torch.autograd.Function):
    """Attention with its log-sum-exp; probabilities are made anew in the backward pass, a chunk at a time.

    A gradient of the log-sum-exp enters like one of the normaliser: ``dS = P (dO V^T - rowsum(O dO) + dL)``.
    """

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        out = q.new_empty(*q.shape[:3], v.shape[3])
        lse = _accumulated(q.new_empty(0)).new_empty(q.shape[:3])
        for item, rows in _chunks(q, k):
            out[item, :, rows], lse[item, :, rows] = _explicit(q[item, :, rows], k[item], v[item], scale)
        return out, lse

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        q, k, v, scale = inputs
        ctx.save_for_backward(q, k, v, *output)
        ctx.scale = scale  # type: ignore[attr-defined]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, out, lse = ctx.saved_tensors
        d_q = torch.empty_like(q)
        d_k, d_v = torch.zeros_like(_accumulated(k)), torch.zeros_like(_accumulated(v))
        for item, rows in _chunks(q, k):
            query, key, value = (_accumulated(x) for x in (q[item, :, rows], k[item], v[item]))
            d_row = _accumulated(d_out[item, :, rows])
            weights = torch.exp(query @ key.transpose(-1, -2) * ctx.scale - lse[item, :, rows, None])
            delta = (d_row * _accumulated(out[item, :, rows])).sum(-1) - d_lse[item, :, rows]
            d_scores = weights * (d_row @ value.transpose(-1, -2) - delta.unsqueeze(-1)) * ctx.scale
            d_v[item] += weights.transpose(-1, -2) @ d_row
            d_k[item] += d_scores.transpose(-1, -2) @ query
            d_q[item, :, rows] = (d_scores @ key).to(q.dtype)
        return d_q, d_k.to(k.dtype), d_v.to(v.dtype), None


def _chunks(q: Tensor, k: Tensor) -> list[tuple[slice, slice]]:
    """Spans of the batch, or of the rows of one item, with a bounded number of scores."""
    count, heads, queries, keys = q.shape[0], q.shape[1], q.shape[2], k.shape[2]
    items = SCORES // max(heads * queries * keys, 1)
    if items >= 1:
        return [(slice(i, i + items), slice(0, queries)) for i in range(0, count, items)]
    rows = max(1, SCORES // (heads * keys))
    return [(slice(i, i + 1), slice(r, r + rows)) for i in range(count) for r in range(0, queries, rows)]
