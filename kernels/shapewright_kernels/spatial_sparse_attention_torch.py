"""Grouped attention in plain torch: exact, any device, any float type, differentiable, in bounded memory.

All branches of Spatial Sparse Attention are one pattern: a *group* is some query rows that attend to some key rows. A
row of queries is the ``G`` heads of one token that share a key head, so ``q`` is read as ``(N * Hkv, G, d)`` and
``k``, ``v`` as ``(S * Hkv, d)``. Groups are padded into batches of bounded size; the backward recomputes the weights
from the saved log-sum-exp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BUDGET = 1 << 21
"""Elements of the largest temporaries of a batch: large enough for full speed, small enough to stay near the cache."""

Batch = tuple[Tensor, Tensor]
"""Query rows ``(S, M)`` and key rows ``(S, L)`` of ``S`` groups, padded with -1."""
Batches = Callable[[], Iterator[Batch]]


def segment_batches(
    q_offsets: Tensor, k_offsets: Tensor, q_order: Tensor | None, k_order: Tensor | None, q: Tensor, k: Tensor
) -> Batches:
    """Groups in which the queries of a segment attend to the keys of the same segment, for every key head.

    Args:
        q_offsets, k_offsets: ``(S + 1,)`` places of the segments.
        q_order, k_order: token at every place; ``None`` where they are the same.
        q, k: ``(N, Hq, d)`` and ``(S, Hkv, d)``, for their shapes.
    """
    heads, width, kv_heads = q.shape[1], q.shape[2], k.shape[1]
    q_start, k_start = q_offsets.long().cpu(), k_offsets.long().cpu()
    device = q_offsets.device

    def batches() -> Iterator[Batch]:
        q_counts, k_counts = q_start.diff(), k_start.diff()
        pieces = []
        for segment in (q_counts > 0).logical_and(k_counts > 0).nonzero().flatten().tolist():
            keys = int(k_counts[segment])
            step = max(1, BUDGET // (max(keys, width) * heads))
            for first in range(int(q_start[segment]), int(q_start[segment + 1]), step):
                pieces.append((keys, min(step, int(q_start[segment + 1]) - first), first, int(k_start[segment])))
        pieces.sort()
        start = 0
        while start < len(pieces):
            stop, most = start, 0
            while stop < len(pieces):
                most = max(most, pieces[stop][1])
                padded = (stop - start + 1) * heads * most * max(pieces[stop][0], width)
                if stop > start and padded > BUDGET:
                    break
                stop += 1
            queries = _ranges(torch.tensor([p[2] for p in pieces[start:stop]]), [p[1] for p in pieces[start:stop]])
            keys_at = _ranges(torch.tensor([p[3] for p in pieces[start:stop]]), [p[0] for p in pieces[start:stop]])
            yield (
                _of_heads(_ordered(queries.to(device), q_order), kv_heads),
                _of_heads(_ordered(keys_at.to(device), k_order), kv_heads),
            )
            start = stop

    return batches


def selected_batches(selected: Tensor, block_starts: Tensor, block_counts: Tensor, q: Tensor) -> Batches:
    """Groups in which every query attends to the tokens of its own blocks.

    Args:
        selected: ``(Hkv, N, K)`` int64 blocks, numbered over the batch, -1 where there is none.
        block_starts, block_counts: ``(M,)`` tokens of the blocks.
        q: ``(N, Hq, d)``, for its shape.
    """
    kv_heads, tokens, _ = selected.shape
    width = q.shape[1] // kv_heads + 2 * q.shape[2]
    present = selected >= 0
    counts = torch.where(present, block_counts[selected.clamp_min(0)], 0)
    totals = counts.sum(-1).amax(0)  # (N,)

    def batches() -> Iterator[Batch]:
        lengths = totals.tolist()
        start = 0
        while start < tokens:
            stop, most = start, 0
            while stop < tokens and (
                stop == start or kv_heads * (stop - start + 1) * max(most, lengths[stop]) * width <= BUDGET
            ):
                most = max(most, lengths[stop])
                stop += 1
            if most:
                count = counts[:, start:stop].flatten(0, 1)
                ends = count.cumsum(-1)
                place = torch.arange(most, device=selected.device).expand(len(ends), -1)
                slot = torch.searchsorted(ends, place.contiguous(), right=True)
                inside = slot < ends.shape[1]
                slot = slot.clamp_max(ends.shape[1] - 1)
                first = block_starts[selected[:, start:stop].flatten(0, 1).clamp_min(0)] - ends + count
                token = first.gather(1, slot) + place
                head = torch.arange(kv_heads, device=selected.device).repeat_interleave(stop - start)[:, None]
                queries = torch.arange(start, stop, device=selected.device).repeat(kv_heads)[:, None]
                yield queries * kv_heads + head, torch.where(inside, token * kv_heads + head, -1)
            start = stop

    return batches


def _ranges(starts: Tensor, counts: list[int]) -> Tensor:
    """``(S, max)`` consecutive numbers from each start, -1 beyond its count."""
    place = torch.arange(max(counts))
    return torch.where(place < torch.tensor(counts)[:, None], starts[:, None] + place, -1)


def _ordered(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else torch.where(rows >= 0, order[rows.clamp_min(0)], -1)


def _of_heads(rows: Tensor, kv_heads: int) -> Tensor:
    """``(S, L)`` tokens to ``(S * Hkv, L)`` rows."""
    heads = torch.arange(kv_heads, device=rows.device)[:, None]
    return torch.where(rows[:, None] >= 0, rows[:, None] * kv_heads + heads, -1).flatten(0, 1)


def _exact(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


class GroupedAttention(torch.autograd.Function):
    """``(N, Hq, d)`` queries, ``(S, Hkv, d)`` keys and values to outputs ``(N, Hq, d)`` and natural log-sum-exp
    ``(N, Hq)``; queries of no group give 0 and -inf. Differentiable in all three, and through the log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, batches: Batches) -> tuple[Tensor, Tensor]:
        tokens, heads, width = q.shape
        kv_heads = k.shape[1]
        group = heads // kv_heads
        kind = _exact(q.dtype)
        q_rows, k_rows, v_rows = q.reshape(-1, group, width), k.reshape(-1, width), v.reshape(-1, width)
        out = torch.zeros(tokens * kv_heads, group, width, dtype=q.dtype, device=q.device)
        lse = torch.full((tokens * kv_heads, group), -math.inf, dtype=kind, device=q.device)
        for queries, keys in batches():
            real = queries >= 0
            logits, _, values = _logits(q_rows, k_rows, v_rows, queries, keys, scale, kind)
            top = logits.amax(-1)
            top = top.masked_fill(top == -math.inf, 0.0)
            weights = logits.sub_(top[..., None]).exp_()
            mass = weights.sum(-1)
            total = top + mass.log()
            made = (weights @ values) / mass.masked_fill(mass == 0, 1.0)[..., None]
            shape = (*queries.shape, group)
            at = queries[real]
            out[at] = made.view(*shape, width)[real].to(out.dtype)
            lse[at] = total.view(shape)[real]
        out, lse = out.view(tokens, heads, width), lse.view(tokens, heads)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.batches = scale, batches
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        width = q.shape[2]
        group = q.shape[1] // k.shape[1]
        kind = _exact(q.dtype)
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out
        shift = (grad_out.to(kind) * out.to(kind)).sum(-1)
        if grad_lse is not None:
            shift = shift - grad_lse
        shift, lse = shift.reshape(-1, group), lse.view(-1, group)
        q_rows, k_rows, v_rows = q.reshape(-1, group, width), k.reshape(-1, width), v.reshape(-1, width)
        o_rows = grad_out.reshape(-1, group, width)
        grad_q = torch.zeros(q_rows.shape, dtype=kind, device=q.device)
        grad_k = torch.zeros(k_rows.shape, dtype=kind, device=q.device)
        grad_v = torch.zeros(v_rows.shape, dtype=kind, device=q.device)
        for queries, keys in ctx.batches():
            real, at = queries >= 0, queries.clamp_min(0)
            logits, (asked, known), values = _logits(q_rows, k_rows, v_rows, queries, keys, scale=ctx.scale, kind=kind)
            total = lse[at].flatten(1)
            weights = logits.sub_(total.masked_fill(total == -math.inf, 0.0)[..., None]).exp_()
            weights *= real.repeat_interleave(group, dim=1)[..., None]  # padded queries give nothing to keys
            grads = o_rows[at].to(kind).flatten(1, 2)
            row, used = keys.clamp_min(0).flatten(), (keys >= 0).flatten()[:, None]
            grad_v.index_add_(0, row, (weights.mT @ grads).flatten(0, 1) * used)
            scores = (grads @ values.mT).sub_(shift[at].flatten(1)[..., None]).mul_(weights).mul_(ctx.scale)
            grad_k.index_add_(0, row, (scores.mT @ asked).flatten(0, 1) * used)
            made = (scores @ known).view(*queries.shape, group, width)
            grad_q.index_add_(0, queries[real], made[real])
        return (
            grad_q.view(q.shape).to(q.dtype), grad_k.view(k.shape).to(k.dtype), grad_v.view(v.shape).to(v.dtype),
            None, None,
        )  # fmt: skip


def _logits(
    q_rows: Tensor, k_rows: Tensor, v_rows: Tensor, queries: Tensor, keys: Tensor, scale: float, kind: torch.dtype
) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
    """Scaled products ``(S, M * G, L)`` with -inf at padded keys; the queries and keys; the values."""
    asked = q_rows[queries.clamp_min(0)].to(kind).flatten(1, 2)
    at = keys.clamp_min(0)
    known, values = k_rows[at].to(kind), v_rows[at].to(kind)
    logits = (asked @ known.mT).mul_(scale)
    padded = keys < 0
    if bool(padded.any()):
        logits.masked_fill_(padded[:, None, :], -math.inf)
    return logits, (asked, known), values


def block_scores(q: Tensor, k: Tensor, lse: Tensor, scale: float, parents: Tensor | None, blocks: int) -> Tensor:
    """Attention mass that queries give to blocks, summed over the heads of a group, for one sample.

    Args:
        q: ``(n, Hq, d)``; k: ``(L, Hkv, d)``; lse: ``(n, Hq)`` natural, over all ``L`` keys.
        parents: ``(L,)`` column that every key is added to; ``None`` where keys are the columns.
        blocks: number of columns.
    Returns:
        ``(Hkv, n, blocks)`` float32 (float64 of float64).
    """
    kind = _exact(q.dtype)
    kv_heads = k.shape[1]
    group = q.shape[1] // kv_heads
    asked = q.to(kind).view(len(q), kv_heads, group, -1).permute(1, 2, 0, 3)  # (Hkv, G, n, d)
    total = lse.to(kind).view(len(q), kv_heads, group).permute(1, 2, 0)
    known = k.to(kind).permute(1, 2, 0)[:, None]
    mass = (asked @ known).mul_(scale).sub_(total[..., None]).exp_().sum(1)
    if parents is None:
        return mass
    return mass.new_zeros(kv_heads, len(q), blocks).index_add_(2, parents, mass)


def top_columns(scores: Tensor, count: int) -> Tensor:
    """Numbers ``(..., count)`` int32 of the largest scores of each row, ascending; -1 at the right where there are
    fewer columns. Of equal scores the lower number wins."""
    columns = scores.shape[-1]
    scores = scores.nan_to_num(nan=-1.0)  # what is not a number is chosen last
    if columns <= count:
        all_of_them = torch.arange(columns, dtype=torch.int32, device=scores.device)
        padded = torch.nn.functional.pad(all_of_them, (0, count - columns), value=-1)
        return padded.expand(*scores.shape[:-1], count).contiguous()
    least = scores.topk(count, dim=-1).values[..., -1:]
    above = scores > least
    tied = scores == least
    wanted = count - above.sum(-1, keepdim=True)
    taken = above | (tied & (tied.cumsum(-1) <= wanted))
    return taken.nonzero()[:, -1].view(*scores.shape[:-1], count).int()
