"""Golden cases of Direct3D-S2: position code, windowed block, cross-attention, condition tokens."""

from __future__ import annotations

import torch
from shapewright.nn.attention import AttentionConfig, FullAttention
from shapewright.nn.conditions import foreground_tokens
from shapewright.nn.layouts import dense_layout, pack
from shapewright.nn.positions import AbsolutePositionEmbedding
from shapewright.parity import Answer, GoldenCase

from .blocks import loaded, pre_norm_block, voxels


@torch.no_grad()
def position_case(case: GoldenCase) -> Answer:
    """Component ``absolute_position_embedding``."""
    embed = AbsolutePositionEmbedding(case.config["channels"])
    coords = case.inputs["coords"]
    factors = {"factor_none": 1.0, "factor_half": 0.5}
    return Answer({name: embed(coords, factor) for name, factor in factors.items() if name in case.outputs})


@torch.no_grad()
def block_case(case: GoldenCase) -> Answer:
    """Component ``sparse_transformer_block_windowed``."""
    block = loaded(pre_norm_block(case.config), case.params)
    return Answer({"feats": block(case.inputs["feats"], voxels(case)[1])})


@torch.no_grad()
def cross_attention_case(case: GoldenCase) -> Answer:
    """Component ``sparse_cross_attention``: a dense and a ragged context."""
    config = case.config
    attention = loaded(
        FullAttention(
            AttentionConfig(config["channels"], config["num_heads"], context_channels=config["ctx_channels"])
        ),
        case.params,
    )
    feats = case.inputs["feats"]
    sparse, layout = voxels(case)
    values = {}
    if "dense_context" in case.outputs:
        dense = case.inputs["dense_context"]
        values["dense_context"] = attention(
            feats, layout, context=dense.flatten(0, 1), context_layout=dense_layout(dense.shape[0], dense.shape[1])
        )
    if "sparse_context" in case.outputs:
        rows, samples = case.inputs["sparse_context_feats"], case.inputs["sparse_context_coords"][:, 0]
        context, context_layout = pack([rows[samples == sample] for sample in range(sparse.batch_size)])
        values["sparse_context"] = attention(feats, layout, context=context, context_layout=context_layout)
    return Answer(values)


@torch.no_grad()
def condition_tokens_case(case: GoldenCase) -> Answer:
    """Component ``extract_tokens_and_coords``."""
    special = case.config["num_cls"] + case.config["num_reg"]
    feats, coords = foreground_tokens(case.inputs["cond"], case.inputs["mask"] != 0, special)
    return Answer({"feats": feats, "coords": coords})
