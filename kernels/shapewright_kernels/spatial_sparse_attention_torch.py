"""Grouped attention in plain torch: exact, any device, any float type, differentiable, in bounded memory.

All branches of Spatial Sparse Attention are one pattern: a *group* is some query rows that attend to some key rows. A
row of queries is the ``G`` heads of one token that share a key head, so ``q`` is read as ``(N * Hkv, G, d)`` and
``k``, ``v`` as ``(S * Hkv, d)``. Windows and samples are groups as they are. Of selected blocks, a group is a block
with the queries that selected it, so products are large; the parts of a query are joined by their log-sum-exp.

Groups are padded into batches of bounded size; the backward recomputes the weights from the saved log-sum-exp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BUDGET = 1 << 21
"""Elements of the largest temporaries of a batch: large enough for full speed, small enough to stay near the cache."""
PARTIAL = 1 << 24
"""Elements of the parts of selected blocks that are held at once."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Query rows ``(S, M)`` and key rows ``(S, L)`` of ``S`` groups, padded with -1; rows ``(S, M)`` of the results."""
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

    def batches() -> Iterator[Batch]:
        for queries, keys, _ in _padded(q_offsets, k_offsets[:-1], k_offsets.diff(), heads, width):
            rows = _of_heads(_ordered(queries, q_order), kv_heads)
            yield rows, _of_heads(_ordered(keys, k_order), kv_heads), rows

    return batches


def selected_batches(selected: Tensor, block_offsets: Tensor, q: Tensor, rows: slice) -> Batches:
    """Groups of the queries ``rows`` that selected a block, for every block and key head; results by slot.

    Args:
        selected: ``(Hkv, N, K)`` int64 blocks, numbered over the batch, -1 where there is none.
        block_offsets: ``(M + 1,)`` int64 tokens of the blocks.
        q: ``(N, Hq, d)``, for its shape.
    Returns:
        Batches whose result rows are ``((token - rows.start) * K + slot) * Hkv + head``.
    """
    part = selected[:, rows]
    kv_heads, tokens, slots = part.shape
    blocks = len(block_offsets) - 1
    device = selected.device

    def batches() -> Iterator[Batch]:
        heads = torch.arange(kv_heads, device=device)[:, None, None]
        key, place = torch.where(part >= 0, part + heads * blocks, kv_heads * blocks).flatten().sort(stable=True)
        entries = place % (tokens * slots)
        lists = torch.searchsorted(key, torch.arange(kv_heads * blocks + 1, device=device))
        starts, counts = block_offsets[:-1].repeat(kv_heads), block_offsets.diff().repeat(kv_heads)
        for places, keys, numbers in _padded(lists, starts, counts, q.shape[1] // kv_heads, q.shape[2]):
            head = (numbers // blocks)[:, None]
            entry = entries[places.clamp_min(0)]
            token = entry // slots + rows.start
            yield (
                torch.where(places >= 0, token * kv_heads + head, -1),
                torch.where(keys >= 0, keys * kv_heads + head, -1),
                torch.where(places >= 0, entry * kv_heads + head, -1),
            )

    return batches


def _padded(
    q_offsets: Tensor, k_starts: Tensor, k_counts: Tensor, heads: int, width: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Places of queries ``(S, M)`` and keys ``(S, L)``, padded with -1, and segments ``(S,)``, in batches.

    Args:
        q_offsets: ``(segments + 1,)``; k_starts, k_counts: ``(segments,)``.
        heads, width: a pair of a query and a key costs ``heads`` elements, a query at least ``heads * width``.
    """
    device = q_offsets.device
    q_start, q_count = q_offsets[:-1].tolist(), q_offsets.diff().tolist()
    k_start, k_count = k_starts.tolist(), k_counts.tolist()
    pieces = []
    for segment, keys in enumerate(k_count):
        if not keys or not q_count[segment]:
            continue
        step = max(1, BUDGET // (max(keys, width) * heads))
        end = q_start[segment] + q_count[segment]
        pieces += [(keys, min(step, end - at), at, segment) for at in range(q_start[segment], end, step)]
    pieces.sort()
    start = 0
    while start < len(pieces):
        stop = start
        most = real = 0
        while stop < len(pieces):
            keys, queries = pieces[stop][:2]
            most, cost = max(most, queries), max(keys, width) * heads
            padded, real = (stop - start + 1) * most * cost, real + queries * cost
            if stop > start and (padded > BUDGET or (padded > BUDGET // 8 and padded > 2 * real)):
                break
            stop += 1
        chosen = pieces[start:stop]
        numbers = torch.tensor([piece[3] for piece in chosen])
        yield (
            _ranges([piece[2] for piece in chosen], [piece[1] for piece in chosen]).to(device),
            _ranges([k_start[piece[3]] for piece in chosen], [piece[0] for piece in chosen]).to(device),
            numbers.to(device),
        )
        start = stop


def _ranges(starts: list[int], counts: list[int]) -> Tensor:
    """``(S, max)`` consecutive numbers from each start, -1 beyond its count."""
    place = torch.arange(max(counts))
    return torch.where(place < torch.tensor(counts)[:, None], torch.tensor(starts)[:, None] + place, -1)


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
    ``(N, Hq)``; queries of no group give 0 and -inf. Differentiable in all three, and through the log-sum-exp.

    Every query is in at most one group of each key head."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, batches: Batches) -> tuple[Tensor, Tensor]:
        out, lse = _attend(q, k, v, scale, batches, len(q))
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.batches = scale, batches
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        return (*_gradients(ctx.saved_tensors, grad_out, grad_lse, ctx.scale, [ctx.batches]), None, None)


class SelectedAttention(torch.autograd.Function):
    """The same for queries that attend to the tokens of their own blocks; see :func:`selected_batches`."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, selected: Tensor, block_offsets: Tensor
    ) -> tuple[Tensor, Tensor]:
        tokens, heads, width = q.shape
        slots = selected.shape[2]
        out = torch.zeros_like(q)
        lse = torch.zeros(tokens, heads, dtype=_exact(q.dtype), device=q.device)
        step = max(1, PARTIAL // (slots * heads * width))
        ctx.batches = []
        for start in range(0, tokens, step):
            rows = slice(start, min(start + step, tokens))
            batches = selected_batches(selected, block_offsets, q, rows)
            parts, sums = _attend(q, k, v, scale, batches, (rows.stop - start) * slots, _exact(q.dtype))
            sums = sums.view(-1, slots, heads)
            top = sums.amax(1)
            top = top.masked_fill(top == -math.inf, 0.0)
            weights = (sums - top[:, None]).exp_()
            mass = weights.sum(1)
            weights /= mass.masked_fill(mass == 0, 1.0)[:, None]
            out[rows] = torch.einsum("nsh,nshd->nhd", weights, parts.view(-1, slots, heads, width)).to(out.dtype)
            lse[rows] = top + mass.log()
            ctx.batches.append(batches)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale = scale
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        return (*_gradients(ctx.saved_tensors, grad_out, grad_lse, ctx.scale, ctx.batches), None, None, None)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, scale: float, batches: Batches, rows: int, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Results ``(rows, Hq, d)`` and log-sum-exp ``(rows, Hq)`` of all groups; 0 and -inf where there is none."""
    heads, width = q.shape[1:]
    kv_heads = k.shape[1]
    group = heads // kv_heads
    kind = _exact(q.dtype)
    q_rows, k_rows, v_rows = q.reshape(-1, group, width), k.reshape(-1, width), v.reshape(-1, width)
    out = torch.zeros(rows * kv_heads, group, width, dtype=q.dtype if dtype is None else dtype, device=q.device)
    lse = torch.full((rows * kv_heads, group), -math.inf, dtype=kind, device=q.device)
    for queries, keys, targets in batches():
        real = queries >= 0
        logits, _, values = _logits(q_rows, k_rows, v_rows, queries, keys, scale, kind)
        top = logits.amax(-1)
        top = top.masked_fill(top == -math.inf, 0.0)
        weights = logits.sub_(top[..., None]).exp_()
        mass = weights.sum(-1)
        made = (weights @ values).div_(mass.masked_fill(mass == 0, 1.0)[..., None])
        shape = (*queries.shape, group)
        at = targets[real]
        out[at] = made.view(*shape, width)[real].to(out.dtype)
        lse[at] = (top + mass.log()).view(shape)[real]
    return out.view(rows, heads, width), lse.view(rows, heads)


def _gradients(
    saved: tuple[Tensor, ...], grad_out: Tensor | None, grad_lse: Tensor | None, scale: float, parts: list[Batches]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values from all groups; a query may be in many."""
    q, k, v, out, lse = saved
    width = q.shape[2]
    group = q.shape[1] // k.shape[1]
    kind = _exact(q.dtype)
    grad_out = torch.zeros_like(out) if grad_out is None else grad_out
    shift = (grad_out.to(kind) * out.to(kind)).sum(-1)
    if grad_lse is not None:
        shift = shift - grad_lse
    shift, lse = shift.reshape(-1, group), lse.view(-1, group)
    lse = lse.masked_fill(lse == -math.inf, 0.0)
    q_rows, k_rows, v_rows = q.reshape(-1, group, width), k.reshape(-1, width), v.reshape(-1, width)
    o_rows = grad_out.reshape(-1, group, width)
    grad_q = torch.zeros(q_rows.shape, dtype=kind, device=q.device)
    grad_k = torch.zeros(k_rows.shape, dtype=kind, device=q.device)
    grad_v = torch.zeros(v_rows.shape, dtype=kind, device=q.device)
    for queries, keys, _ in chain.from_iterable(batches() for batches in parts):
        real, at = queries >= 0, queries.clamp_min(0)
        logits, (asked, known), values = _logits(q_rows, k_rows, v_rows, queries, keys, scale, kind)
        level = lse[at].masked_fill(~real[..., None], math.inf)  # padded queries give nothing to keys
        weights = logits.sub_(level.flatten(1)[..., None]).exp_()
        grads = o_rows[at].to(kind).flatten(1, 2)
        less = shift[at].flatten(1)
        row, used = keys.clamp_min(0).flatten(), (keys >= 0).flatten()[:, None]
        grad_v.index_add_(0, row, (weights.mT @ grads).flatten(0, 1) * used)
        scores = (grads @ values.mT).sub_(less[..., None]).mul_(weights).mul_(scale)
        grad_k.index_add_(0, row, (scores.mT @ asked).flatten(0, 1) * used)
        made = (scores @ known).view(*queries.shape, group, width)
        grad_q.index_add_(0, queries[real], made[real])
    return grad_q.view(q.shape).to(q.dtype), grad_k.view(k.shape).to(k.dtype), grad_v.view(v.shape).to(v.dtype)


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
