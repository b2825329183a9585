"""Golden cases of Spatial Sparse Attention and of the block order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from shapewright.nn.spatial_sparse_attention import (
    BlockCompressionV1,
    BlockCompressionV2,
    Blocks,
    SpatialSparseAttention,
    SpatialSparseConfig,
)
from shapewright.parity import Answer, GoldenCase
from shapewright.states import Layout
from shapewright_kernels.spatial_sparse_attention import (
    SpatialStructure,
    attend_compressed,
    attend_selected,
    attend_windows,
    block_scores,
    partition_blocks,
    select_blocks,
    sort_block,
    spatial_structure,
)
from torch import Tensor, nn

STORED_WHOLE = 8192
"""Gradients of larger parameters are stored as every :data:`STORED_STEP`-th element."""
STORED_STEP = 37


def sort_block_case(case: GoldenCase) -> Answer:
    """What the published function returns on the CPU, for every block size of the config.

    It writes ``coords // b`` and then ``% b`` into what it believes to be copies. On the CPU they share memory with its
    argument, so it returns rows ``(coords // b) % b``, ordered among themselves, and not the voxels in block order that
    the notes of the case promise. ``sort_block`` here gives the voxels; the golden case records the other.
    """
    coords = case.inputs["coords"]
    values = {}
    for size in case.config["block_sizes"]:
        rows = torch.cat([coords[:, :1], coords[:, 1:] // size % size], dim=1)
        values[f"block{size}"] = rows[sort_block(rows, size)]
    return Answer(values)


def block_score_case(case: GoldenCase) -> Answer:
    """Log-sum-exp, scores and selected blocks of given queries and compressed keys."""
    config, given = case.config, case.inputs
    tables = _tables(config, given["coords"], len(given["cu_seqlens"]) - 1, config["compression_block_size"])
    q, k = given["q"], given["compressed_k"]
    _, lse = attend_compressed(q, k, k, tables)
    return Answer(
        {
            "lse": lse,
            "score": block_scores(q, k, lse, tables, aggregate=False),
            "block_score": block_scores(q, k, lse, tables),
            "block_topk": select_blocks(q, k, lse, tables, config["topk"]),
            "cu_seqblocks": tables.selection.sample_offsets,
            "cu_block_include_tokens": tables.selection.offsets,
        }
    )


def selection_case(case: GoldenCase) -> Answer:
    """Attention to given blocks, forward and backward."""
    config, given = case.config, case.inputs
    tables = _tables(config, given["coords"], len(given["cu_seqlens"]) - 1, config["selection_block_size"])
    q, k, v = (given[name].clone().requires_grad_() for name in "qkv")
    out, lse = attend_selected(q, k, v, given["block_topk"], tables, scale=config["softmax_scale"])
    grads = torch.autograd.grad(out, (q, k, v), given["grad_out"])
    names = ("grad_q", "grad_k", "grad_v")
    return Answer({"o": out, "lse_log2": lse * math.log2(math.e), **dict(zip(names, grads, strict=True))})


def window_case(case: GoldenCase) -> Answer:
    """Attention inside shifted windows, forward and backward."""
    config, given = case.config, case.inputs
    windows = partition_blocks(given["coords"], config["window_size"], shift=config["shift_window"])
    q, k, v = (given[name].clone().requires_grad_() for name in "qkv")
    out, _ = attend_windows(q, k, v, windows)
    grads = torch.autograd.grad(out, (q, k, v), given["grad_out"])
    names = ("grad_q", "grad_k", "grad_v")
    lengths = windows.offsets.diff()
    return Answer({"o": out, "window_lengths": lengths, **dict(zip(names, grads, strict=True))})


def compression_case(case: GoldenCase) -> Answer:
    """One compression block with its positions, forward and backward."""
    config, coords = case.config, case.inputs["coords"]
    size = config["compression_block_size"]
    blocks = Blocks(coords, compression=size, selection=size, batch_size=int(coords[:, 0].max()) + 1)
    module: nn.Module
    if config["compression_version"] == "v1":
        module = BlockCompressionV1(config["channels"])
    else:
        module = BlockCompressionV2(config["channels"], config["num_groups"] or 32)
    params = dict(case.params)
    places = params.pop("intra_block_pe").clone().requires_grad_()
    module.load_state_dict(params)
    feats = case.inputs["feats"].clone().requires_grad_()
    order = sort_block(coords, size)
    made = module((feats + places[tuple((coords[:, 1:].long() % size).T)])[order], blocks)
    made.backward(case.inputs["grad_out"])
    values = {"feats": made, "coords": blocks.compression.coords, "grad_feats": feats.grad}
    values["grad_intra_block_pe"] = places.grad
    values |= {f"grad_param.{name}": _stored(value.grad) for name, value in module.named_parameters()}
    return Answer({name: value for name, value in values.items() if value is not None})


def module_case(case: GoldenCase) -> Answer:
    """The whole module, its branches, and all gradients."""
    config, given = case.config, case.inputs
    module = SpatialSparseAttention(
        SpatialSparseConfig(
            channels=config["hidden_size"],
            heads=config["num_q_heads"],
            kv_heads=config["num_kv_heads"],
            head_channels=config["head_dim"],
            compression_block=config["compression_block_size"],
            selection_block=config["selection_block_size"],
            top_k=config["topk"],
            window=config["window_size"],
            shift=config["shift_window"],
            compression=config["compression_version"],
        )
    )
    module.load_state_dict(dict(case.params))
    module.eval()
    coords = given["coords"]
    counts = torch.bincount(coords[:, 0].long())
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()
    layout = Layout(offsets, coords[:, 1:], config["resolution"])
    hidden = given["feats"].clone().requires_grad_()
    made = module(hidden, layout)
    made.backward(given["grad_out"])
    blocks = Blocks.of(layout, config["compression_block_size"], config["selection_block_size"])
    order = sort_block(coords, config["selection_block_size"])
    with torch.no_grad():
        parts = module.branches(given["feats"][order], blocks)
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order)))
    values: dict[str, Tensor | None] = {
        "feats": made,
        "grad_feats": hidden.grad,
        "gate": parts.gate[back],
        "compressed_k": parts.compressed_k,
        "compressed_v": parts.compressed_v,
        "block_topk": parts.selected[:, back],
        "compressed_attn": parts.compressed[back],
        "selection_attn": parts.selection[back],
        "window_attn": parts.window[back],
    }
    values |= {f"grad_param.{name}": _stored(value.grad) for name, value in module.named_parameters()}
    return Answer({name: value for name, value in values.items() if value is not None})


def _stored(gradient: Tensor | None) -> Tensor | None:
    if gradient is None or gradient.numel() <= STORED_WHOLE:
        return gradient
    return gradient.flatten()[::STORED_STEP]


def _tables(config: Mapping[str, Any], coords: Tensor, batch_size: int, compression: int) -> SpatialStructure:
    size = config["selection_block_size"]
    return spatial_structure(
        coords, compression=compression, selection=size, window=size, resolution=config["resolution"],
        batch_size=batch_size,
    )  # fmt: skip
