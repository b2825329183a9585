"""Spatial Sparse Attention (Direct3D-S2, arXiv 2505.17412): attention of voxel tokens to compressed blocks, to the
blocks that matter most to each of them, and to their own window.

Heads are grouped: query head ``h`` reads key head ``h // (Hq / Hkv)``. Samples never see one another. Each function has
the backends ``torch`` (exact, any device, any float type, bounded memory) and ``triton`` (CUDA; float32, float16,
bfloat16; on the CPU in Triton's interpreter); ``auto`` takes triton where it can. All are differentiable in queries,
keys and values, and through the log-sum-exp; gradients are summed in a fixed order, so they are deterministic.
"""

from __future__ import annotations

import math
import os
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from .spatial_sparse_attention_blocks import (
    BlockPartition,
    SpatialStructure,
    check_coords,
    partition_blocks,
    sort_block,
    spatial_structure,
)
from .spatial_sparse_attention_torch import (
    BUDGET,
    GroupedAttention,
    SelectedAttention,
    segment_batches,
    top_columns,
)
from .spatial_sparse_attention_torch import block_scores as _block_scores

Backend = Literal["auto", "torch", "triton"]
BACKENDS = ("auto", "torch", "triton")
TRITON_TYPES = (torch.float32, torch.float16, torch.bfloat16)

__all__ = [
    "BACKENDS",
    "Backend",
    "BlockPartition",
    "SpatialStructure",
    "attend_compressed",
    "attend_selected",
    "attend_windows",
    "block_scores",
    "check_coords",
    "partition_blocks",
    "pool_blocks",
    "select_blocks",
    "sort_block",
    "spatial_structure",
]


def pool_blocks(feats: Tensor, blocks: BlockPartition) -> Tensor:
    """Sum of the features of each block over its number of tokens *plus one*, as every published weight expects.

    Args:
        feats: ``(N, C)``, rows as given to :func:`partition_blocks`.
    Returns:
        ``(M, C)``, summed in float32 (float64 of float64), in the dtype of ``feats``. Differentiable.
    """
    if feats.shape[0] != blocks.rows.shape[0]:
        raise ValueError(f"feats has {feats.shape[0]} rows, but blocks are over {blocks.rows.shape[0]}")
    kind = torch.float64 if feats.dtype == torch.float64 else torch.float32
    ordered = feats.to(kind) if blocks.order is None else feats.to(kind)[blocks.order]
    lengths = blocks.offsets.long().diff()
    sums = torch.segment_reduce(ordered, "sum", lengths=lengths, axis=0, unsafe=True)
    return (sums / (lengths + 1)[:, None]).to(feats.dtype)


def attend_compressed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    structure: SpatialStructure,
    *,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Every token attends to all compressed blocks of its sample.

    Args:
        q: ``(N, Hq, d)`` in selection-block order; k, v: ``(M, Hkv, d)``, a row a compression block.
        scale: default ``1 / sqrt(d)``.
    Returns:
        Outputs ``(N, Hq, d)`` and natural log-sum-exp ``(Hq, N)``.
    Raises:
        TypeError, ValueError: shapes, dtypes, devices or heads that do not fit, or an unknown backend; the message
            names the argument.
    """
    _check(q, k, v, len(structure), len(structure.compression), structure.token_offsets.device)
    scale = _scale(q, scale)
    q_offsets, k_offsets = structure.token_offsets, structure.compression.sample_offsets
    if choose_backend(backend, q) == "triton":
        from .spatial_sparse_attention_triton import attend_segments

        out, lse = attend_segments(q, k, v, scale, q_offsets, k_offsets, None, structure.compression.most_blocks)
    else:
        out, lse = GroupedAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, scale, segment_batches(q_offsets, k_offsets, None, None, q, k)
        )
    return out, lse.mT


@torch.no_grad()
def select_blocks(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    structure: SpatialStructure,
    count: int,
    *,
    scale: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """The selection blocks that receive most of a token's compressed attention, summed over the heads of a group.

    Args:
        q, k: as in :func:`attend_compressed`; lse: ``(Hq, N)``, its second result.
        count: blocks to select, at least 1.
    Returns:
        ``(Hkv, N, count)`` int32 numbers of blocks within the sample, ascending, -1 at the right where the sample has
        fewer. Of equal scores the lower number wins. Carries no gradient.
    """
    _check(q, k, k, len(structure), len(structure.compression), structure.token_offsets.device)
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    if lse.shape != (q.shape[1], q.shape[0]):
        raise ValueError(f"lse must be (Hq, N) = {(q.shape[1], q.shape[0])}, not {tuple(lse.shape)}")
    scale = _scale(q, scale)
    if choose_backend(backend, q) == "triton" and count <= 64:
        from .spatial_sparse_attention_triton import select_top_blocks

        return select_top_blocks(q, k, lse, structure, count, scale)
    chosen = torch.full((k.shape[1], len(q), count), -1, dtype=torch.int32, device=q.device)
    for rows, keys, parents, blocks in _score_chunks(q, structure):
        scores = _block_scores(q[rows], k[keys], lse[:, rows].mT, scale, parents, blocks)
        chosen[:, rows] = top_columns(scores, count)
    return chosen


@torch.no_grad()
def block_scores(
    q: Tensor,
    k: Tensor,
    lse: Tensor,
    structure: SpatialStructure,
    *,
    aggregate: bool = True,
    scale: float | None = None,
) -> Tensor:
    """The scores behind :func:`select_blocks`, written out: for looking at them, not for large inputs.

    Returns:
        ``(Hkv, N, most blocks of a sample)``, zero beyond the blocks of a token's sample; over compression blocks where
        ``aggregate`` is false.
    """
    _check(q, k, k, len(structure), len(structure.compression), structure.token_offsets.device)
    scale = _scale(q, scale)
    table = structure.selection if aggregate else structure.compression
    kind = torch.float64 if q.dtype == torch.float64 else torch.float32
    result = torch.zeros(k.shape[1], len(q), table.most_blocks, dtype=kind, device=q.device)
    for rows, keys, parents, blocks in _score_chunks(q, structure):
        if not aggregate:
            parents, blocks = None, keys.stop - keys.start
        result[:, rows, :blocks] = _block_scores(q[rows], k[keys], lse[:, rows].mT, scale, parents, blocks)
    return result


def attend_selected(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    selected: Tensor,
    structure: SpatialStructure,
    *,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Every token attends to the tokens of the blocks selected for it.

    Args:
        q: ``(N, Hq, d)``; k, v: ``(N, Hkv, d)``; all in selection-block order.
        selected: ``(Hkv, N, K)`` int32 as :func:`select_blocks` makes it: no block twice for one token; -1 is no block.
    Returns:
        Outputs ``(N, Hq, d)`` and natural log-sum-exp ``(Hq, N)``.
    """
    _check(q, k, v, len(structure), len(structure), structure.token_offsets.device)
    scale = _scale(q, scale)
    if selected.ndim != 3 or selected.shape[:2] != (k.shape[1], q.shape[0]) or selected.shape[2] < 1:
        wanted = (k.shape[1], q.shape[0], "K")
        raise ValueError(f"selected must be (Hkv, N, K) = {wanted}, not {tuple(selected.shape)}")
    if selected.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"selected must be int32 or int64, not {selected.dtype}")
    blocks = structure.selection
    sample = structure.coords[:, 0].long()
    over_batch = torch.where(selected >= 0, selected + blocks.sample_offsets[sample][None, :, None], -1)
    if choose_backend(backend, q) == "triton":
        from .spatial_sparse_attention_triton import attend_lists

        out, lse = attend_lists(q, k, v, scale, over_batch.int(), blocks.offsets, blocks.largest)
    else:
        if len(q) and int(over_batch.max()) >= len(blocks):
            raise ValueError(f"selected names block {int(selected.max())}, but no sample has so many")
        out, lse = SelectedAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, scale, over_batch.long(), blocks.offsets.long()
        )
    return out, lse.mT


def attend_windows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    windows: BlockPartition,
    *,
    scale: float | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Every token attends to the tokens of its window.

    Args:
        q: ``(N, Hq, d)``; k, v: ``(N, Hkv, d)``; rows as given to :func:`partition_blocks`.
    Returns:
        Outputs ``(N, Hq, d)`` and natural log-sum-exp ``(Hq, N)``.
    """
    _check(q, k, v, len(windows.rows), len(windows.rows), windows.offsets.device)
    scale = _scale(q, scale)
    offsets, order = windows.offsets, windows.order
    if choose_backend(backend, q) == "triton":
        from .spatial_sparse_attention_triton import attend_segments

        out, lse = attend_segments(q, k, v, scale, offsets, offsets, order, windows.largest)
    else:
        out, lse = GroupedAttention.apply(  # type: ignore[no-untyped-call]
            q, k, v, scale, segment_batches(offsets, offsets, order, order, q, k)
        )
    return out, lse.mT


def choose_backend(backend: Backend, q: Tensor) -> Literal["torch", "triton"]:
    """``auto`` resolved for ``q``.

    Raises:
        ValueError: an unknown backend, or triton asked for where it cannot run.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    fits = q.dtype in TRITON_TYPES and find_spec("triton") is not None
    if backend == "auto":
        return "triton" if q.is_cuda and fits else "torch"
    if backend == "triton":
        if find_spec("triton") is None:
            raise ValueError("backend 'triton' needs the package triton, which PyTorch for CUDA installs")
        if not fits:
            raise ValueError(f"backend 'triton' takes float32, float16 and bfloat16, not {q.dtype}")
        if not q.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
            raise ValueError(f"backend 'triton' needs tensors on CUDA, q is on {q.device}; or set TRITON_INTERPRET=1")
    return backend


def _score_chunks(
    q: Tensor, structure: SpatialStructure
) -> list[tuple[slice, slice, Tensor | None, int]]:  # fmt: skip
    """Query rows, keys, columns of the keys, number of columns: chunks of samples that bound the scores in memory."""
    tokens = structure.token_offsets.tolist()
    compressed = structure.compression.sample_offsets.tolist()
    selection = structure.selection.sample_offsets.tolist()
    same = structure.compression is structure.selection
    chunks: list[tuple[slice, slice, Tensor | None, int]] = []
    for sample in range(structure.batch_size):
        keys = slice(compressed[sample], compressed[sample + 1])
        if keys.start == keys.stop:
            continue
        parents = None if same else structure.parents[keys] - selection[sample]
        step = max(1, BUDGET // (q.shape[1] * max(keys.stop - keys.start, q.shape[2])))
        for first in range(tokens[sample], tokens[sample + 1], step):
            rows = slice(first, min(first + step, tokens[sample + 1]))
            chunks.append((rows, keys, parents, selection[sample + 1] - selection[sample]))
    return chunks


def _scale(q: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[2]) if scale is None else float(scale)


def _check(q: Tensor, k: Tensor, v: Tensor, queries: int, keys: int, device: torch.device) -> None:
    for name, tensor, rows in (("q", q, queries), ("k", k, keys), ("v", v, keys)):
        if tensor.ndim != 3:
            raise ValueError(f"{name} must be (rows, heads, d), not {tuple(tensor.shape)}")
        if tensor.shape[0] != rows:
            raise ValueError(f"{name} has {tensor.shape[0]} rows, the structure {rows}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating point, not {tensor.dtype}")
        if tensor.dtype != q.dtype:
            raise TypeError(f"{name} is {tensor.dtype}, but q is {q.dtype}")
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device}, but the structure is on {device}")
    if k.shape != v.shape:
        raise ValueError(f"k is {tuple(k.shape)}, but v is {tuple(v.shape)}")
    if q.shape[2] != k.shape[2] or q.shape[2] < 1:
        raise ValueError(f"q has width {q.shape[2]}, but k has {k.shape[2]}")
    if k.shape[1] < 1 or q.shape[1] < 1 or q.shape[1] % k.shape[1]:
        raise ValueError(f"the {q.shape[1]} heads of q are not divisible by the {k.shape[1]} heads of k")
