"""Which rows of packed token sets attend to which: checked offsets, segments grouped by length, tiles for the GPU.

Made once for a set of offsets and passed to every attention call on them, so that the host reads the offsets once and
not once per layer.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx


class Group(NamedTuple):
    """Segments that are equally long, neighbours after sorting."""

    segments: int
    queries: int
    keys: int


class SegmentPairs:
    """Segment ``b`` of the queries attends to segment ``b`` of the keys."""

    def __init__(self, offsets_q: Tensor, offsets_k: Tensor, device: torch.device) -> None:
        same = offsets_k is offsets_q
        starts_q = checked_offsets(offsets_q, "offsets_q")
        starts_k = starts_q if same else checked_offsets(offsets_k, "offsets_k")
        if len(starts_q) != len(starts_k):
            raise ValueError(
                f"offsets_q holds {len(starts_q) - 1} segments and offsets_k {len(starts_k) - 1}; they go in pairs"
            )
        self.device = device
        self.starts_q, self.starts_k = starts_q, starts_k
        self.total_q, self.total_k = int(starts_q[-1]), int(starts_k[-1])
        self.lengths_q, self.lengths_k = np.diff(starts_q), np.diff(starts_k)
        self.longest_q = int(self.lengths_q.max(initial=0))
        self.longest_k = int(self.lengths_k.max(initial=0))
        self.has_empty = not (self.lengths_q.all() and self.lengths_k.all() and len(self.lengths_q))
        ranks = np.lexsort((self.lengths_k, self.lengths_q))
        self.groups = _groups(self.lengths_q[ranks], self.lengths_k[ranks])
        self.order_q = _row_order(starts_q, ranks, device)
        self.order_k = self.order_q if same else _row_order(starts_k, ranks, device)
        self._made: dict[Any, Tensor] = {}

    def offsets(self, side: str) -> Tensor:
        """``(B + 1,)`` int32 on the device."""
        starts = self.starts_q if side == "q" else self.starts_k
        if side not in self._made:
            self._made[side] = torch.from_numpy(starts.astype(np.int32)).to(self.device)
        return self._made[side]

    def tiles(self, side: str, block: int) -> Tensor:
        """``(n, 2)`` int32: segment, and first row within it, of every tile of ``block`` rows."""
        if (side, block) not in self._made:
            lengths = self.lengths_q if side == "q" else self.lengths_k
            counts = -(-lengths // block)
            segments = np.repeat(np.arange(len(lengths)), counts)
            first = np.arange(len(segments)) - np.repeat(np.cumsum(counts) - counts, counts)
            found = np.stack([segments, first * block], axis=1).astype(np.int32)
            self._made[side, block] = torch.from_numpy(found).to(self.device)
        return self._made[side, block]

    def block(self, side: str) -> int:
        """Rows of a tile: what wastes little on the usual segment, from 16 to 128."""
        lengths = self.lengths_q if side == "q" else self.lengths_k
        squares = float((lengths.astype(np.float64) ** 2).sum())
        usual = squares / max(float(lengths.sum()), 1.0)  # length that a token sees
        return int(min(128, max(16, 1 << int(np.ceil(np.log2(max(usual / 2, 1.0)))))))


def segment_pairs(
    offsets_q: Tensor, offsets_k: Tensor | None = None, device: torch.device | None = None
) -> SegmentPairs:
    """Check offsets and group their segments.

    Args:
        offsets_q: ``(B + 1,)`` int32 or int64, from 0, ascending: segment ``b`` is rows ``offsets[b]`` up to
            ``offsets[b + 1]``.
        offsets_k: those of the keys; ``None`` for self-attention.
        device: where the tokens are; that of ``offsets_q`` by default.
    Raises:
        ValueError, TypeError: naming the argument.

    >>> segment_pairs(torch.tensor([0, 2, 2, 4])).groups
    [Group(segments=1, queries=0, keys=0), Group(segments=2, queries=2, keys=2)]
    """
    return SegmentPairs(offsets_q, offsets_q if offsets_k is None else offsets_k, device or offsets_q.device)


def checked_offsets(offsets: Tensor, name: str) -> NDArray[np.int64]:
    """``offsets`` on the host, checked to start at 0 and to ascend."""
    if offsets.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} must be int32 or int64, not {offsets.dtype}")
    if offsets.ndim != 1 or len(offsets) < 1:
        raise ValueError(f"{name} must be (B + 1,), not {tuple(offsets.shape)}")
    starts: NDArray[np.int64] = offsets.numpy(force=True).astype(np.int64)
    if starts[0] != 0:
        raise ValueError(f"{name} must start at 0, not {starts[0]}")
    falls = np.flatnonzero(np.diff(starts) < 0)
    if len(falls):
        raise ValueError(f"{name} must ascend, but entry {falls[0] + 1} is below the one before it")
    return starts


def _groups(lengths_q: NDArray[np.int64], lengths_k: NDArray[np.int64]) -> list[Group]:
    if not len(lengths_q):
        return []
    change = (np.diff(lengths_q) != 0) | (np.diff(lengths_k) != 0)
    edges = np.concatenate([[0], np.flatnonzero(change) + 1, [len(lengths_q)]]).tolist()
    return [Group(stop - start, int(lengths_q[start]), int(lengths_k[start])) for start, stop in pairwise(edges)]


class RowOrder(NamedTuple):
    """A permutation of rows and its inverse."""

    forward: Tensor
    inverse: Tensor


def _row_order(starts: NDArray[np.int64], ranks: NDArray[np.int64], device: torch.device) -> RowOrder | None:
    """Rows with the segments in the order ``ranks``; ``None`` where nothing moves."""
    lengths = np.diff(starts)
    filled = ranks[lengths[ranks] > 0]
    if (np.diff(filled) >= 0).all():
        return None
    counts = lengths[filled]
    shift = starts[filled] - (np.cumsum(counts) - counts)
    forward = torch.from_numpy(np.repeat(shift, counts) + np.arange(int(starts[-1]))).to(device)
    return row_order(forward)


def row_order(forward: Tensor) -> RowOrder:
    """A permutation with its inverse."""
    inverse = torch.empty_like(forward)
    inverse[forward] = torch.arange(len(forward), device=forward.device)
    return RowOrder(forward, inverse)


class _Permuted(torch.autograd.Function):
    """Rows in another order; the gradient is gathered by the inverse, faster than adding and with the same bits."""

    @staticmethod
    def forward(rows: Tensor, forward: Tensor, inverse: Tensor) -> Tensor:
        return rows.index_select(0, forward)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, forward, inverse = inputs
        ctx.save_for_backward(forward, inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        forward, inverse = ctx.saved_tensors
        return permuted(gradient, RowOrder(inverse, forward)), None, None


def permuted(rows: Tensor, order: RowOrder | None) -> Tensor:
    """``rows[order.forward]``, differentiable any number of times; ``rows`` itself where there is no order."""
    if order is None:
        return rows
    result: Tensor = _Permuted.apply(rows, order.forward, order.inverse)  # type: ignore[no-untyped-call]
    return result
