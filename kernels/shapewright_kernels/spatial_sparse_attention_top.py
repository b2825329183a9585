"""Triton kernel that finds the selection blocks of every token: scores and the running top-k stay in registers."""

# The bodies of kernels are Triton, not Python: their arguments have no Python types.
# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl

from .spatial_sparse_attention_tiles import _configs, _entry_rows, _key_rows


@triton.jit
def _add_run(value_a, run_a, value_b, run_b):
    """Sums that start anew with every run: associative."""
    return tl.where(run_a == run_b, value_a + value_b, value_b), run_b


@triton.jit
def _insert(scores, numbers, best, best_numbers):
    """Bring what is better of ``scores`` ``(T, KEYS)`` into ``best`` ``(T, SLOTS)``; of equals the lower number stays.

    One round moves at most one score a token, so rounds are as many as the tile has news for any of its tokens: few,
    once the first tiles have been seen.
    """
    top = tl.max(scores, 1)
    low = tl.min(best, 1)
    while tl.max((top > low).to(tl.int32), 0) > 0:
        enters = top > low
        place = tl.min(tl.where(scores == top[:, None], numbers, 0x7FFFFFFF), 1)
        lowest = best == low[:, None]
        leaves = tl.max(tl.where(lowest, best_numbers, -1), 1)
        swap = enters[:, None] & lowest & (best_numbers == leaves[:, None])
        best = tl.where(swap, top[:, None], best)
        best_numbers = tl.where(swap, place[:, None], best_numbers)
        scores = tl.where(enters[:, None] & (numbers == place[:, None]), float("-inf"), scores)
        top = tl.max(scores, 1)
        low = tl.min(best, 1)
    return best, best_numbers


@triton.jit
def _load_keys(
    k, key_order, start, stop, kv, KV_HEADS: tl.constexpr, WIDTH: tl.constexpr, WIDTH_P: tl.constexpr,
    AGGREGATE: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """``(WIDTH_P, KEYS)`` keys from ``start``, zero from ``stop`` on, and which there are."""
    row, inside = _key_rows(key_order, start, stop, AGGREGATE, KEYS)
    column = tl.arange(0, WIDTH_P)
    at = ((row * KV_HEADS + kv) * WIDTH)[None, :] + column[:, None]
    return tl.load(k + at, mask=inside[None, :] & (column < WIDTH)[:, None], other=0.0), inside


@triton.autotune(
    _configs((64, 4, 3), (32, 4, 3), (64, 8, 3), (128, 8, 2), (128, 4, 2)),
    key=["HEADS", "KV_HEADS", "WIDTH", "TOKENS", "COUNT", "AGGREGATE"],
)
@triton.jit
def top_tiles(
    q, k, lse, selected, key_order, key_blocks, tile_segment, tile_first, token_offsets, key_offsets, samples, tokens,
    scale_log2,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, GROUP: tl.constexpr, GROUP_P: tl.constexpr, WIDTH: tl.constexpr,
    WIDTH_P: tl.constexpr, COUNT: tl.constexpr, COUNT_P: tl.constexpr, AGGREGATE: tl.constexpr,
    PRECISION: tl.constexpr, TOKENS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """``selected`` ``(KV_HEADS, tokens, COUNT)`` int32, filled with -1 before, gets numbers of blocks, ascending.

    ``key_blocks`` is the selection block, within its sample, of every place of ``key_order``, ascending within a
    sample.
    """
    tile = tl.program_id(0)
    sample = tl.load(tile_segment + tile)
    kv = tl.program_id(1)
    if sample < samples:
        first = tl.load(tile_first + tile)
        stop = tl.load(token_offsets + sample + 1)
        key_start = tl.load(key_offsets + sample)
        key_stop = tl.load(key_offsets + sample + 1)
        _, token, head, real = _entry_rows(q, first, stop, kv, False, 1, GROUP, GROUP_P, TOKENS)
        column = tl.arange(0, WIDTH_P)
        wide = column < WIDTH
        source = token * HEADS + head
        asked = tl.load(
            q + (source * WIDTH)[:, None] + column[None, :], mask=real[:, None] & wide[None, :], other=0.0
        )  # fmt: skip
        level = tl.load(lse + source, mask=real, other=0.0)
        slot = tl.arange(0, COUNT_P)[None, :]
        # free slots hold different values below every score, slots beyond COUNT one above every score
        start_value = tl.where(slot < COUNT, -1.0 - slot.to(tl.float32), float("inf"))
        best = tl.broadcast_to(start_value, [TOKENS, COUNT_P])
        best_numbers = tl.full([TOKENS, COUNT_P], -1, tl.int32)
        carried = tl.zeros([TOKENS], tl.float32)
        carried_block = tl.full([], -1, tl.int32)
        known, inside = _load_keys(k, key_order, key_start, key_stop, kv, KV_HEADS, WIDTH, WIDTH_P, AGGREGATE, KEYS)
        for start in range(key_start, key_stop, KEYS):
            # the loop inside keeps Triton from pipelining: the next keys are asked for by hand
            following, inside_next = _load_keys(
                k, key_order, start + KEYS, key_stop, kv, KV_HEADS, WIDTH, WIDTH_P, AGGREGATE, KEYS
            )
            logits = tl.dot(asked, known, input_precision=PRECISION) * scale_log2
            mass = tl.exp2(logits - level[:, None])
            mass = tl.where(real[:, None] & inside[None, :], mass, 0.0)
            scores = tl.sum(tl.reshape(mass, [TOKENS, GROUP_P, KEYS]), 1)
            place = start + tl.arange(0, KEYS)
            if AGGREGATE:
                number = tl.load(key_blocks + place, mask=inside, other=0x7FFFFFFE)
                after = tl.load(key_blocks + place + 1, mask=place + 1 < key_stop, other=0x7FFFFFFF)
                numbers = tl.broadcast_to(number[None, :], [TOKENS, KEYS])
                leading = (tl.arange(0, KEYS) == 0) & (number == carried_block)
                scores += tl.where(leading[None, :], carried[:, None], 0.0)
                scores, numbers = tl.associative_scan((scores, numbers), 1, _add_run)
                last = tl.arange(0, KEYS) == KEYS - 1
                carried = tl.sum(tl.where(last[None, :], scores, 0.0), 1)
                carried_block = tl.sum(tl.where(last, number, 0), 0)
                ends = inside & (number != after)
            else:
                numbers = tl.broadcast_to((place - key_start)[None, :], [TOKENS, KEYS])
                ends = inside
            scores = tl.where(ends[None, :], scores, float("-inf"))
            best, best_numbers = _insert(scores, numbers, best, best_numbers)
            known, inside = following, inside_next
        found = (best_numbers >= 0) & (slot < COUNT)
        sortable = tl.where(found, best_numbers, 0x7FFFFFFF)
        rank = tl.sum((sortable[:, None, :] < sortable[:, :, None]).to(tl.int32), 2)
        mine = first + tl.arange(0, TOKENS)
        at = (kv * tokens + mine).to(tl.int64) * COUNT
        tl.store(selected + at[:, None] + rank, best_numbers, mask=found & (mine < stop)[:, None])
