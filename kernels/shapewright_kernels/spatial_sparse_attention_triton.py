"""Grouped attention on CUDA by the kernels of :mod:`.spatial_sparse_attention_tiles`: tables, launches, autograd."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from .spatial_sparse_attention_blocks import SpatialStructure
from .spatial_sparse_attention_tiles import (
    forward_tiles,
    key_gradient_tiles,
    merge_slots,
    query_gradient_tiles,
    row_products,
    sum_parts,
)
from .spatial_sparse_attention_top import top_tiles

LOG2_E = math.log2(math.e)
FORWARD_ROWS, BACKWARD_ROWS = 128, 64
"""Rows (tokens x heads of a group) of a tile."""
PART_ENTRIES = 1024
"""Entries that one program adds into gradients of keys: long lists are cut, so that no program is the last by far."""
PARTIAL_BYTES = 1 << 30
"""Most memory of partial results of selected blocks; tokens are taken in chunks that keep to it."""


@dataclass(frozen=True, slots=True)
class Segments:
    """Runs of entries paired with runs of keys; see :mod:`.spatial_sparse_attention_tiles`."""

    entries: Tensor | None
    """``(E,)`` int32 ``token * slots + slot``; ``None`` where entry and place are the same."""
    entry_offsets: Tensor
    """``(S + 1,)`` int32."""
    count: int
    """Entries, at most."""
    key_order: Tensor | None
    key_offsets: Tensor
    """``(blocks + 1,)`` int32; segment ``s`` reads block ``s % blocks``."""
    keys: int
    most_keys: int
    slots: int = 1
    per_head: bool = False
    """Segment ``s`` belongs to key head ``s // blocks``; otherwise every segment is run for every key head."""

    @property
    def segments(self) -> int:
        return self.entry_offsets.shape[0] - 1

    @property
    def blocks(self) -> int:
        return self.key_offsets.shape[0] - 1


def attend_segments(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    q_offsets: Tensor,
    k_offsets: Tensor,
    order: Tensor | None,
    most_keys: int,
) -> tuple[Tensor, Tensor]:
    """Queries of a segment attend to the keys of the same segment.

    Args:
        q_offsets, k_offsets: ``(S + 1,)`` int32; order: token at every place, of queries and keys alike, or ``None``.
    Returns:
        ``(N, Hq, d)`` and natural log-sum-exp ``(N, Hq)``.
    """
    order = None if order is None else order.int()
    segments = Segments(order, q_offsets, len(q), order, k_offsets, len(k), most_keys)
    found: tuple[Tensor, Tensor] = _SegmentAttention.apply(  # type: ignore[no-untyped-call]
        q.contiguous(), k.contiguous(), v.contiguous(), scale, segments
    )
    return found


def attend_lists(
    q: Tensor, k: Tensor, v: Tensor, scale: float, selected: Tensor, block_offsets: Tensor, most_keys: int
) -> tuple[Tensor, Tensor]:
    """Every query attends to the tokens of its own blocks.

    Args:
        selected: ``(Hkv, N, K)`` int32 blocks, numbered over the batch, -1 for none; block_offsets: ``(M + 1,)`` int32.
    Returns:
        ``(N, Hq, d)`` and natural log-sum-exp ``(N, Hq)``.
    """
    found: tuple[Tensor, Tensor] = _ListAttention.apply(  # type: ignore[no-untyped-call]
        q.contiguous(), k.contiguous(), v.contiguous(), scale, selected.contiguous(), block_offsets, most_keys
    )
    return found


def select_top_blocks(
    q: Tensor, k: Tensor, lse: Tensor, structure: SpatialStructure, count: int, scale: float
) -> Tensor:
    """See :func:`.spatial_sparse_attention.select_blocks`."""
    tokens, kv_heads = len(q), k.shape[1]
    selected = torch.full((kv_heads, tokens, count), -1, dtype=torch.int32, device=q.device)
    if tokens == 0:
        return selected
    aggregate = structure.compression is not structure.selection
    key_order = key_blocks = structure.token_offsets
    if aggregate:
        # keys in the order of their selection blocks, so that the scores of a block are summed while they pass by
        key_order = structure.parents.argsort(stable=True)
        sample = structure.compression.coords[:, 0].long()[key_order]
        key_blocks = (structure.parents[key_order] - structure.selection.sample_offsets[sample]).int()
        key_order = key_order.int()
    shape = _shape(q, k, FORWARD_ROWS)
    segment, first = _tile_table(structure.token_offsets, tokens, shape["TOKENS"])
    top_tiles[(len(segment), kv_heads)](
        q.contiguous(), k.contiguous(), (lse.mT * LOG2_E).contiguous(), selected, key_order, key_blocks, segment, first,
        structure.token_offsets, structure.compression.sample_offsets, structure.batch_size, tokens, scale * LOG2_E,
        **shape, COUNT=count, COUNT_P=max(2, triton.next_power_of_2(count)), AGGREGATE=aggregate,
    )  # fmt: skip
    return selected


class _SegmentAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, segments: Segments) -> tuple[Tensor, Tensor]:
        out, lse = _forward(q, k, v, scale, segments)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.scale, ctx.segments = scale, segments
        ctx.set_materialize_grads(False)
        return out, lse / LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out.contiguous()
        delta = _delta(out, grad_out, grad_lse)
        saved = (q, k, v, grad_out, lse, delta, ctx.scale, ctx.segments)
        return (_query_gradient(*saved), *_key_gradients(*saved), None, None)


class _ListAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, selected: Tensor, offsets: Tensor, most_keys: int
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty_like(q)
        lse = torch.empty(q.shape[:2], dtype=torch.float32, device=q.device)
        chunks = []
        for rows in _chunks(q, selected.shape[2]):
            segments = _lists(selected[:, rows], offsets, len(k), most_keys)
            parts, part_lse = _forward(q[rows], k, v, scale, segments)
            _merge(parts, part_lse, selected[:, rows], out[rows], lse[rows])
            chunks.append((rows, segments))
        ctx.save_for_backward(q, k, v, out, lse, selected)
        ctx.scale, ctx.chunks = scale, chunks
        ctx.set_materialize_grads(False)
        return out, lse / LOG2_E

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, selected = ctx.saved_tensors
        grad_out = torch.zeros_like(out) if grad_out is None else grad_out.contiguous()
        delta = _delta(out, grad_out, grad_lse)
        grad_q = torch.zeros_like(q)
        grad_k: Tensor | None = None
        grad_v: Tensor | None = None
        for rows, segments in ctx.chunks:
            saved = (q[rows], k, v, grad_out[rows], lse[rows], delta[rows], ctx.scale, segments)
            parts = _query_gradient(*saved)
            _merge(parts, None, selected[:, rows], grad_q[rows], None)
            more_k, more_v = _key_gradients(*saved, keep_float=len(ctx.chunks) > 1)
            grad_k = more_k if grad_k is None else grad_k.add_(more_k)
            grad_v = more_v if grad_v is None else grad_v.add_(more_v)
        if grad_k is None or grad_v is None:
            return grad_q, torch.zeros_like(k), torch.zeros_like(v), None, None, None, None
        return grad_q, grad_k.to(k.dtype), grad_v.to(v.dtype), None, None, None, None


def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float, segments: Segments) -> tuple[Tensor, Tensor]:
    """Results ``(N * slots, Hq, d)`` and base-2 log-sum-exp at the entries; slots without a block are left."""
    # of a single slot, every row is an entry or has no keys: those give 0 and -inf
    rows = len(q) * segments.slots
    if segments.slots == 1:
        out = torch.zeros_like(q)
        lse = torch.full((rows, q.shape[1]), -math.inf, dtype=torch.float32, device=q.device)
    else:
        out = torch.empty((rows, *q.shape[1:]), dtype=q.dtype, device=q.device)
        lse = torch.empty((rows, q.shape[1]), dtype=torch.float32, device=q.device)
    if rows and segments.keys:
        shape = _shape(q, k, FORWARD_ROWS)
        segment, first = _tile_table(segments.entry_offsets, segments.count, shape["TOKENS"])
        forward_tiles[(len(segment), 1 if segments.per_head else k.shape[1])](
            q, k, v, out, lse, *_orders(segments, q), segment, first, segments.entry_offsets, segments.key_offsets,
            segments.segments, segments.blocks, scale * LOG2_E, _typical(segments), **shape, **_flags(segments),
        )  # fmt: skip
    return out, lse


def _query_gradient(
    q: Tensor, k: Tensor, v: Tensor, grad_out: Tensor, lse: Tensor, delta: Tensor, scale: float, segments: Segments
) -> Tensor:
    """``(N * slots, Hq, d)`` gradients at the entries."""
    shape_of = (len(q) * segments.slots, *q.shape[1:])
    grad_q = torch.zeros_like(q) if segments.slots == 1 else torch.empty(shape_of, dtype=q.dtype, device=q.device)
    if len(q) and segments.keys:
        shape = _shape(q, k, FORWARD_ROWS)
        segment, first = _tile_table(segments.entry_offsets, segments.count, shape["TOKENS"])
        query_gradient_tiles[(len(segment), 1 if segments.per_head else k.shape[1])](
            q, k, v, grad_out, lse, delta, grad_q, *_orders(segments, q), segment, first, segments.entry_offsets,
            segments.key_offsets, segments.segments, segments.blocks, scale, scale * LOG2_E, _typical(segments),
            **shape, **_flags(segments),
        )  # fmt: skip
    return grad_q


def _key_gradients(
    q: Tensor, k: Tensor, v: Tensor, grad_out: Tensor, lse: Tensor, delta: Tensor, scale: float, segments: Segments,
    keep_float: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of keys and values, summed over parts in their order."""
    kind = torch.float32 if keep_float else k.dtype
    grad_k, grad_v = torch.zeros_like(k, dtype=kind), torch.zeros_like(v, dtype=kind)
    if not len(q) or not segments.keys:
        return grad_k, grad_v
    heads = k.shape[1]
    lengths, keys = segments.entry_offsets.diff(), segments.key_offsets.diff()
    keys = keys.repeat(segments.segments // segments.blocks)
    segment, first = _tile_table(segments.entry_offsets, segments.count, PART_ENTRIES)
    parts = (lengths + PART_ENTRIES - 1) // PART_ENTRIES
    ends = parts.cumsum(0)
    rows = (parts * keys).cumsum(0) - parts * keys
    of = segment.long().clamp_max(segments.segments - 1)
    number = torch.arange(len(segment), device=q.device) - (ends - parts)[of]
    part_row = rows[of] + number * keys[of]
    # no list is read back: more rows than there can be
    lists = heads if segments.per_head else 1
    most = segments.keys * lists + segments.count // PART_ENTRIES * segments.most_keys
    partial_shape = (2, most, 1 if segments.per_head else heads, k.shape[2])
    part_k, part_v = torch.empty(partial_shape, dtype=torch.float32, device=q.device)
    shape, flags = _shape(q, k, BACKWARD_ROWS), _flags(segments)
    orders = _orders(segments, q)
    copies = 1 if segments.per_head else heads

    def grid(meta: dict[str, int]) -> tuple[int, int, int]:
        return len(segment), triton.cdiv(segments.most_keys, meta["KEYS"]), copies

    key_gradient_tiles[grid](
        q, k, v, grad_out, lse, delta, part_k, part_v, *orders, segment, first, part_row, segments.entry_offsets,
        segments.key_offsets, segments.segments, segments.blocks, PART_ENTRIES, scale, scale * LOG2_E,
        _typical(segments), **shape, **flags,
    )  # fmt: skip
    step = 64
    sum_parts[(segments.segments, triton.cdiv(segments.most_keys, step), copies)](
        part_k, part_v, grad_k, grad_v, orders[1], ends, rows, segments.key_offsets, segments.segments, segments.blocks,
        KV_HEADS=heads, WIDTH=shape["WIDTH"], WIDTH_P=shape["WIDTH_P"], PER_HEAD=segments.per_head,
        HAS_KEY_ORDER=segments.key_order is not None, KEYS=step,
    )  # fmt: skip
    return grad_k, grad_v


def _merge(parts: Tensor, part_lse: Tensor | None, selected: Tensor, out: Tensor, lse: Tensor | None) -> None:
    tokens, heads, width = out.shape
    rows = 32
    merge_slots[(triton.cdiv(tokens * heads, rows),)](
        parts, parts if part_lse is None else part_lse, selected, out, parts if lse is None else lse, tokens,
        selected.stride(0), HEADS=heads, GROUP=heads // selected.shape[0], WIDTH=width,
        WIDTH_P=triton.next_power_of_2(width), SLOTS=selected.shape[2], WEIGHTED=part_lse is not None, ROWS=rows,
    )  # fmt: skip


def _delta(out: Tensor, grad_out: Tensor, grad_lse: Tensor | None) -> Tensor:
    """``(N, Hq)`` float32: what is taken from the gradients of the weights."""
    delta = torch.empty(out.shape[:2], dtype=torch.float32, device=out.device)
    rows, step = delta.numel(), 64
    if rows:
        row_products[(triton.cdiv(rows, step),)](
            out, grad_out, delta, rows, WIDTH=out.shape[2], WIDTH_P=triton.next_power_of_2(out.shape[2]), ROWS=step
        )
    return delta if grad_lse is None else delta - grad_lse


def _chunks(q: Tensor, slots: int) -> list[slice]:
    step = max(1, PARTIAL_BYTES // (slots * q.shape[1] * q.shape[2] * q.element_size()))
    return [slice(first, min(first + step, len(q))) for first in range(0, len(q), step)]


def _lists(selected: Tensor, block_offsets: Tensor, keys: int, most_keys: int) -> Segments:
    """Who selected each block: entries by key head, block, then token."""
    kv_heads, tokens, slots = selected.shape
    blocks = len(block_offsets) - 1
    heads = torch.arange(kv_heads, dtype=torch.int32, device=selected.device)[:, None, None]
    key = torch.where(selected >= 0, selected + heads * blocks, kv_heads * blocks).flatten()
    key, place = key.sort(stable=True)
    bounds = torch.arange(kv_heads * blocks + 1, dtype=key.dtype, device=key.device)
    offsets = torch.searchsorted(key, bounds).int()
    entries = (place % (tokens * slots)).int()
    return Segments(entries, offsets, len(entries), None, block_offsets, keys, most_keys, slots, per_head=True)


def _tile_table(offsets: Tensor, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Segment and first entry of every tile of ``size`` entries; the number of segments where there are fewer tiles
    than there can be, so that nothing is read back from the device."""
    segments = len(offsets) - 1
    tiles = (offsets.diff() + size - 1) // size
    ends = tiles.cumsum(0)
    numbers = torch.arange(count // size + segments, device=offsets.device)
    segment = torch.searchsorted(ends, numbers, right=True)
    of = segment.clamp_max(segments - 1)
    first = offsets[of] + (numbers - (ends - tiles)[of]) * size
    return segment.int(), first.int()


def _shape(q: Tensor, k: Tensor, rows: int) -> dict[str, Any]:
    heads, width = q.shape[1:]
    group = heads // k.shape[1]
    group_p = triton.next_power_of_2(group)
    if width > 64:
        rows //= 2
    return {
        "HEADS": heads,
        "KV_HEADS": k.shape[1],
        "GROUP": group,
        "GROUP_P": group_p,
        "WIDTH": width,
        "WIDTH_P": max(16, triton.next_power_of_2(width)),
        "TOKENS": max(1, rows // group_p),
        "PRECISION": "ieee",  # of float32; half types have one
    }


def _flags(segments: Segments) -> dict[str, Any]:
    return {
        "SLOTS": segments.slots,
        "PER_HEAD": segments.per_head,
        "HAS_ENTRIES": segments.entries is not None,
        "HAS_KEY_ORDER": segments.key_order is not None,
    }


def _orders(segments: Segments, other: Tensor) -> tuple[Tensor, Tensor]:
    """Entries and key order; any tensor stands where the kernel reads none."""
    return (
        other if segments.entries is None else segments.entries,
        other if segments.key_order is None else segments.key_order,
    )


def _typical(segments: Segments) -> int:
    """Power of two near the keys of a segment: what tuning depends on."""
    return triton.next_power_of_2(max(1, segments.keys // max(1, segments.blocks)))
