"""Triton kernels of grouped attention: tiles of (tokens x heads of a group) against runs of keys.

One family serves all branches. A *segment* pairs a run of entries (queries) with a run of keys; an entry is
``token * SLOTS + slot``. Windows and compressed attention have one slot and their segments are windows and samples. In
attention to selected blocks a segment is a block of one key head, its entries are the queries that selected it, and
every slot gets a partial result that :func:`merge_slots` puts together. So keys and values of a block are read once a
tile of queries, all heads of the group share that read, and no result is ever added to by two programs: no atomics,
the same bits every time.

Layouts, all contiguous: ``q, out`` ``(tokens, HEADS, WIDTH)``; ``k, v`` ``(rows, KV_HEADS, WIDTH)``; log-sum-exp (base
2) and ``delta`` ``(tokens, HEADS)`` float32. ``*_P`` are the next powers of two.
"""

# The bodies of kernels are Triton, not Python: their arguments have no Python types.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

import os

import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""In the interpreter nothing is timed, so there is nothing to choose between."""


def _configs(*choices: tuple[int, int, int]) -> list[triton.Config]:
    """Keys a step, warps, pipeline stages."""
    made = [triton.Config({"KEYS": keys}, num_warps=warps, num_stages=stages) for keys, warps, stages in choices]
    return made[:1] if INTERPRETED else made


@triton.jit
def _entry_rows(
    entries, first, stop, kv, HAS_ENTRIES: tl.constexpr, SLOTS: tl.constexpr, GROUP: tl.constexpr,
    GROUP_P: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    """Entry, token, head and presence of every row of a tile; a row is one head of one entry."""
    row = tl.arange(0, TOKENS * GROUP_P)
    place = first + row // GROUP_P
    inside = place < stop
    if HAS_ENTRIES:
        entry = tl.load(entries + place, mask=inside, other=0)
    else:
        entry = place
    entry = entry.to(tl.int64)
    in_group = row % GROUP_P
    return entry, entry // SLOTS, kv * GROUP + in_group, inside & (in_group < GROUP)


@triton.jit
def _key_rows(key_order, start, stop, HAS_KEY_ORDER: tl.constexpr, KEYS: tl.constexpr):
    place = start + tl.arange(0, KEYS)
    inside = place < stop
    if HAS_KEY_ORDER:
        row = tl.load(key_order + place, mask=inside, other=0)
    else:
        row = place
    return row.to(tl.int64), inside


@triton.autotune(
    _configs((64, 4, 3), (32, 4, 3), (64, 8, 3), (128, 8, 2)),
    key=["HEADS", "KV_HEADS", "WIDTH", "TOKENS", "SLOTS", "typical_keys"],
)
@triton.jit
def forward_tiles(
    q, k, v, out, lse, entries, key_order, tile_segment, tile_first, entry_offsets, key_offsets, segments, blocks,
    scale_log2, typical_keys,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_P: tl.constexpr, WIDTH: tl.constexpr,
    WIDTH_P: tl.constexpr, SLOTS: tl.constexpr, PER_HEAD: tl.constexpr, HAS_ENTRIES: tl.constexpr,
    HAS_KEY_ORDER: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Softmax of a tile of queries over the keys of its segment; results at the entries."""
    tile = tl.program_id(0)
    segment = tl.load(tile_segment + tile)
    if segment < segments:
        kv = segment // blocks if PER_HEAD else tl.program_id(1)
        first = tl.load(tile_first + tile)
        stop = tl.load(entry_offsets + segment + 1)
        key_start = tl.load(key_offsets + segment % blocks)
        key_stop = tl.load(key_offsets + segment % blocks + 1)
        entry, token, head, real = _entry_rows(
            entries, first, stop, kv, HAS_ENTRIES, SLOTS, GROUP, GROUP_P, TOKENS
        )  # fmt: skip
        column = tl.arange(0, WIDTH_P)
        wide = column < WIDTH
        asked = tl.load(
            q + ((token * HEADS + head) * WIDTH)[:, None] + column[None, :],
            mask=real[:, None] & wide[None, :],
            other=0.0,
        )
        top = tl.full([TOKENS * GROUP_P], float("-inf"), tl.float32)
        mass = tl.zeros([TOKENS * GROUP_P], tl.float32)
        total = tl.zeros([TOKENS * GROUP_P, WIDTH_P], tl.float32)
        for start in range(key_start, key_stop, KEYS):
            row, inside = _key_rows(key_order, start, key_stop, HAS_KEY_ORDER, KEYS)
            at = (row * KV_HEADS + kv) * WIDTH
            known = tl.load(k + at[None, :] + column[:, None], mask=inside[None, :] & wide[:, None], other=0.0)
            logits = tl.dot(asked, known, input_precision=PRECISION) * scale_log2
            logits = tl.where(inside[None, :], logits, float("-inf"))
            higher = tl.maximum(top, tl.max(logits, 1))
            weights = tl.exp2(logits - higher[:, None])
            fade = tl.exp2(top - higher)
            mass = mass * fade + tl.sum(weights, 1)
            values = tl.load(v + at[:, None] + column[None, :], mask=inside[:, None] & wide[None, :], other=0.0)
            total = tl.dot(weights.to(values.dtype), values, total * fade[:, None], input_precision=PRECISION)
            top = higher
        none = mass == 0.0
        result = total / tl.where(none, 1.0, mass)[:, None]
        target = entry * HEADS + head
        tl.store(
            out + (target * WIDTH)[:, None] + column[None, :],
            result.to(out.dtype.element_ty),
            mask=real[:, None] & wide[None, :],
        )
        tl.store(lse + target, tl.where(none, float("-inf"), top + tl.log2(mass)), mask=real)


@triton.autotune(
    _configs((64, 4, 3), (32, 4, 3), (64, 8, 3), (128, 8, 2), (64, 8, 2)),
    key=["HEADS", "KV_HEADS", "WIDTH", "TOKENS", "SLOTS", "typical_keys"],
)
@triton.jit
def query_gradient_tiles(
    q, k, v, grad_out, lse, delta, grad_q, entries, key_order, tile_segment, tile_first, entry_offsets, key_offsets,
    segments, blocks, scale, scale_log2, typical_keys,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_P: tl.constexpr, WIDTH: tl.constexpr,
    WIDTH_P: tl.constexpr, SLOTS: tl.constexpr, PER_HEAD: tl.constexpr, HAS_ENTRIES: tl.constexpr,
    HAS_KEY_ORDER: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries from the keys of its segment; ``lse`` and ``delta`` are those of whole tokens."""
    tile = tl.program_id(0)
    segment = tl.load(tile_segment + tile)
    if segment < segments:
        kv = segment // blocks if PER_HEAD else tl.program_id(1)
        first = tl.load(tile_first + tile)
        stop = tl.load(entry_offsets + segment + 1)
        key_start = tl.load(key_offsets + segment % blocks)
        key_stop = tl.load(key_offsets + segment % blocks + 1)
        entry, token, head, real = _entry_rows(
            entries, first, stop, kv, HAS_ENTRIES, SLOTS, GROUP, GROUP_P, TOKENS
        )  # fmt: skip
        column = tl.arange(0, WIDTH_P)
        wide = column < WIDTH
        source = token * HEADS + head
        at_rows = (source * WIDTH)[:, None] + column[None, :]
        asked = tl.load(q + at_rows, mask=real[:, None] & wide[None, :], other=0.0)
        grads = tl.load(grad_out + at_rows, mask=real[:, None] & wide[None, :], other=0.0)
        level = tl.load(lse + source, mask=real, other=0.0)
        shift = tl.load(delta + source, mask=real, other=0.0)
        total = tl.zeros([TOKENS * GROUP_P, WIDTH_P], tl.float32)
        for start in range(key_start, key_stop, KEYS):
            row, inside = _key_rows(key_order, start, key_stop, HAS_KEY_ORDER, KEYS)
            at = ((row * KV_HEADS + kv) * WIDTH)[:, None] + column[None, :]
            known = tl.load(k + at, mask=inside[:, None] & wide[None, :], other=0.0)
            values = tl.load(v + at, mask=inside[:, None] & wide[None, :], other=0.0)
            logits = tl.dot(asked, tl.trans(known), input_precision=PRECISION) * scale_log2
            weights = tl.where(inside[None, :], tl.exp2(logits - level[:, None]), 0.0)
            scores = weights * (tl.dot(grads, tl.trans(values), input_precision=PRECISION) - shift[:, None])
            total = tl.dot(scores.to(known.dtype), known, total, input_precision=PRECISION)
        tl.store(
            grad_q + ((entry * HEADS + head) * WIDTH)[:, None] + column[None, :],
            (total * scale).to(grad_q.dtype.element_ty),
            mask=real[:, None] & wide[None, :],
        )


@triton.autotune(
    _configs((64, 4, 2), (32, 4, 2), (128, 8, 2), (64, 8, 2), (64, 4, 3)),
    key=["HEADS", "KV_HEADS", "WIDTH", "TOKENS", "SLOTS", "typical_keys"],
)
@triton.jit
def key_gradient_tiles(
    q, k, v, grad_out, lse, delta, part_k, part_v, entries, key_order, part_segment, part_first, part_row,
    entry_offsets, key_offsets, segments, blocks, part_entries, scale, scale_log2, typical_keys,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_P: tl.constexpr, WIDTH: tl.constexpr,
    WIDTH_P: tl.constexpr, SLOTS: tl.constexpr, PER_HEAD: tl.constexpr, HAS_ENTRIES: tl.constexpr,
    HAS_KEY_ORDER: tl.constexpr, PRECISION: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of keys and values from one part of the entries of its segment, float32."""
    part = tl.program_id(0)
    segment = tl.load(part_segment + part)
    if segment < segments:
        kv = segment // blocks if PER_HEAD else tl.program_id(2)
        key_start = tl.load(key_offsets + segment % blocks)
        key_stop = tl.load(key_offsets + segment % blocks + 1)
        start = key_start + tl.program_id(1) * KEYS
        if start < key_stop:
            first = tl.load(part_first + part)
            stop = tl.minimum(first + part_entries, tl.load(entry_offsets + segment + 1))
            row, inside = _key_rows(key_order, start, key_stop, HAS_KEY_ORDER, KEYS)
            column = tl.arange(0, WIDTH_P)
            wide = column < WIDTH
            at = ((row * KV_HEADS + kv) * WIDTH)[:, None] + column[None, :]
            known = tl.load(k + at, mask=inside[:, None] & wide[None, :], other=0.0)
            values = tl.load(v + at, mask=inside[:, None] & wide[None, :], other=0.0)
            total_k = tl.zeros([KEYS, WIDTH_P], tl.float32)
            total_v = tl.zeros([KEYS, WIDTH_P], tl.float32)
            for begin in range(first, stop, TOKENS):
                _, token, head, real = _entry_rows(
                    entries, begin, stop, kv, HAS_ENTRIES, SLOTS, GROUP, GROUP_P, TOKENS
                )  # fmt: skip
                source = token * HEADS + head
                at_rows = (source * WIDTH)[:, None] + column[None, :]
                asked = tl.load(q + at_rows, mask=real[:, None] & wide[None, :], other=0.0)
                grads = tl.load(grad_out + at_rows, mask=real[:, None] & wide[None, :], other=0.0)
                level = tl.load(lse + source, mask=real, other=0.0)
                shift = tl.load(delta + source, mask=real, other=0.0)
                # absent rows have zero queries and gradients: whatever their weights are, they add nothing
                logits = tl.dot(known, tl.trans(asked), input_precision=PRECISION) * scale_log2
                weights = tl.exp2(logits - level[None, :])
                total_v = tl.dot(weights.to(grads.dtype), grads, total_v, input_precision=PRECISION)
                scores = weights * (tl.dot(values, tl.trans(grads), input_precision=PRECISION) - shift[None, :])
                total_k = tl.dot(scores.to(asked.dtype), asked, total_k, input_precision=PRECISION)
            target = tl.load(part_row + part) + start - key_start + tl.arange(0, KEYS)
            if PER_HEAD:
                at_parts = (target * WIDTH)[:, None] + column[None, :]
            else:
                at_parts = ((target * KV_HEADS + kv) * WIDTH)[:, None] + column[None, :]
            tl.store(part_k + at_parts, total_k * scale, mask=inside[:, None] & wide[None, :])
            tl.store(part_v + at_parts, total_v, mask=inside[:, None] & wide[None, :])


@triton.jit
def sum_parts(
    part_k, part_v, grad_k, grad_v, key_order, part_ends, row_starts, key_offsets, segments, blocks,
    KV_HEADS: tl.constexpr, WIDTH: tl.constexpr, WIDTH_P: tl.constexpr, PER_HEAD: tl.constexpr,
    HAS_KEY_ORDER: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Gradients of the keys of a segment: its parts, added in their order."""
    segment = tl.program_id(0)
    kv = segment // blocks if PER_HEAD else tl.program_id(2)
    key_start = tl.load(key_offsets + segment % blocks)
    key_stop = tl.load(key_offsets + segment % blocks + 1)
    start = key_start + tl.program_id(1) * KEYS
    if start < key_stop:
        stop = tl.load(part_ends + segment)
        begin = tl.load(part_ends + segment - 1, mask=segment > 0, other=0)
        base = tl.load(row_starts + segment) + start - key_start
        column = tl.arange(0, WIDTH_P)
        row, inside = _key_rows(key_order, start, key_stop, HAS_KEY_ORDER, KEYS)
        mask = inside[:, None] & (column < WIDTH)[None, :]
        total_k = tl.zeros([KEYS, WIDTH_P], tl.float32)
        total_v = tl.zeros([KEYS, WIDTH_P], tl.float32)
        for part in range(begin, stop):
            source = base + (part - begin).to(tl.int64) * (key_stop - key_start) + tl.arange(0, KEYS)
            if PER_HEAD:
                at = (source * WIDTH)[:, None] + column[None, :]
            else:
                at = ((source * KV_HEADS + kv) * WIDTH)[:, None] + column[None, :]
            total_k += tl.load(part_k + at, mask=mask, other=0.0)
            total_v += tl.load(part_v + at, mask=mask, other=0.0)
        at = ((row * KV_HEADS + kv) * WIDTH)[:, None] + column[None, :]
        tl.store(grad_k + at, total_k.to(grad_k.dtype.element_ty), mask=mask)
        tl.store(grad_v + at, total_v.to(grad_v.dtype.element_ty), mask=mask)


@triton.jit
def merge_slots(
    parts, part_lse, selected, out, lse, tokens, selected_stride,
    HEADS: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr, WIDTH_P: tl.constexpr, SLOTS: tl.constexpr,
    WEIGHTED: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One result a token and head from those of its slots: weighted by their log-sum-exp, or plainly added."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = row < tokens * HEADS
    token, head = row // HEADS, row % HEADS
    column = tl.arange(0, WIDTH_P)
    mask = inside[:, None] & (column < WIDTH)[None, :]
    chosen = selected + (head // GROUP) * selected_stride + token * SLOTS
    top = tl.full([ROWS], float("-inf"), tl.float32)
    if WEIGHTED:
        for slot in range(SLOTS):
            present = inside & (tl.load(chosen + slot, mask=inside, other=-1) >= 0)
            source = (token * SLOTS + slot) * HEADS + head
            top = tl.maximum(top, tl.load(part_lse + source, mask=present, other=float("-inf")))
    level = tl.where(top == float("-inf"), 0.0, top)
    mass = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS, WIDTH_P], tl.float32)
    for slot in range(SLOTS):
        present = inside & (tl.load(chosen + slot, mask=inside, other=-1) >= 0)
        source = (token * SLOTS + slot) * HEADS + head
        part = tl.load(
            parts + (source * WIDTH)[:, None] + column[None, :], mask=mask & present[:, None], other=0.0
        ).to(tl.float32)  # fmt: skip
        if WEIGHTED:
            weight = tl.exp2(tl.load(part_lse + source, mask=present, other=float("-inf")) - level)
            mass += weight
            part = part * weight[:, None]
        total += part
    if WEIGHTED:
        none = mass == 0.0
        total = total / tl.where(none, 1.0, mass)[:, None]
        tl.store(lse + row, tl.where(none, float("-inf"), level + tl.log2(mass)), mask=inside)
    tl.store(out + (row * WIDTH)[:, None] + column[None, :], total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def row_products(
    a, b, result, rows, WIDTH: tl.constexpr, WIDTH_P: tl.constexpr, ROWS: tl.constexpr
):  # fmt: skip
    """Dot product of every row of two ``(rows, WIDTH)`` arrays, float32."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH_P)
    at = (row * WIDTH)[:, None] + column[None, :]
    mask = (row < rows)[:, None] & (column < WIDTH)[None, :]
    left = tl.load(a + at, mask=mask, other=0.0).to(tl.float32)
    right = tl.load(b + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(result + row, tl.sum(left * right, 1), mask=row < rows)
