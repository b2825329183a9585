"""Golden cases of TRELLIS.2: norms and position codes, attention, codes of space-filling curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from shapewright.nn.attention import AttentionConfig, FullAttention
from shapewright.nn.layouts import dense_layout, pack
from shapewright.nn.norms import ChannelLayerNorm32, GroupNorm32, LayerNorm32, MultiHeadRMSNorm, SparseGroupNorm32
from shapewright.nn.positions import AbsolutePositionEmbedding, rotary_phases, rotate
from shapewright.nn.timesteps import TimestepEmbedding, timestep_frequencies
from shapewright.nn.windows import WindowAttention, WindowConfig
from shapewright.parity import Answer, GoldenCase
from shapewright_kernels.serialised_order import curve_codes
from torch import Tensor

from .blocks import loaded, voxels


@torch.no_grad()
def modules_case(case: GoldenCase) -> Answer:
    """Component ``modules``."""
    config, inputs, params = case.config, case.inputs, case.params
    channels, heads, width = config["channels"], config["heads"], config["head_dim"]
    first, base = config.get("rope_freq", (1.0, 10000.0))
    sparse, layout = voxels(case, inputs["sp.feats"], "sp.coords")
    assert layout.coords is not None
    wide = inputs["vol.x"].shape[1]
    phases = rotary_phases(inputs["rope.coords"], width, first=first, base=base)
    sparse_phases = rotary_phases(layout.coords, width, first=first, base=base)
    size = config["frequency_embedding_size"]
    values = {
        "ln": loaded(LayerNorm32(channels, eps=1e-6), params, "ln.")(inputs["ln.x"]),
        "channel_ln": loaded(ChannelLayerNorm32(wide), params, "cln.")(inputs["vol.x"]),
        "group_norm": loaded(GroupNorm32(config["group_norm_groups"], wide), params, "gn.")(inputs["vol.x"]),
        "sparse_group_norm": loaded(
            SparseGroupNorm32(config["sparse_groups"], inputs["sp.feats"].shape[1]), params, "sgn."
        )(sparse).feats,
        "rms": loaded(MultiHeadRMSNorm(width, heads), params, "rms.")(inputs["rms.x"]),
        "rope.cos": phases[0],
        "rope.sin": phases[1],
        "rope.applied": rotate(inputs["rms.x"], *phases),
        "srope.q": rotate(inputs["srope.q"], *sparse_phases),
        "srope.k": rotate(inputs["srope.k"], *sparse_phases),
        "ape": AbsolutePositionEmbedding(channels)(inputs["rope.coords"]),
        "t_freq": timestep_frequencies(inputs["t"], size),
        "t_emb": loaded(TimestepEmbedding(channels, size), params, "t_embedder.")(inputs["t"]),
    }
    return Answer(values)


@torch.no_grad()
def attention_case(case: GoldenCase) -> Answer:
    """Component ``SparseMultiHeadAttention``: every variant the case stores."""
    config, inputs = case.config, case.inputs
    feats, layout = inputs["feats"], voxels(case)[1]
    widths: dict[str, Any] = {"channels": config["channels"], "heads": config["num_heads"]}
    window = config["window_size"]

    def qk_norm(prefix: str) -> str:
        return "per-head" if f"{prefix}.q_rms_norm.gamma" in case.params else "none"

    def cross(prefix: str, context: Tensor, context_layout: Any) -> Tensor:
        made = FullAttention(
            AttentionConfig(**widths, context_channels=config["ctx_channels"], qk_norm=qk_norm(prefix))
        )
        result: Tensor = loaded(made, case.params, f"{prefix}.")(
            feats, layout, context=context, context_layout=context_layout
        )
        return result

    def alone(made: FullAttention | WindowAttention, prefix: str) -> Tensor:
        result: Tensor = loaded(made, case.params, f"{prefix}.")(feats, layout)
        return result

    values: dict[str, Tensor] = {}
    if "self" in case.outputs:
        made = FullAttention(AttentionConfig(**widths, rope=True, qk_norm=qk_norm("self")))
        values["self"] = alone(made, "self")
    dense = inputs["context"]
    dense_rows = dense.flatten(0, 1), dense_layout(dense.shape[0], dense.shape[1])
    for prefix in ("cross", "cross_norms_off"):
        if prefix in case.outputs:
            values[prefix] = cross(prefix, *dense_rows)
    if "cross_varlen" in case.outputs:
        values["cross_varlen"] = cross("cross", *pack(_ragged(inputs)))
    if "windowed" in case.outputs:
        values["windowed"] = alone(
            WindowAttention(
                WindowConfig(**widths, qk_norm=qk_norm("win"), window=window, shift=config["shift_window"])
            ),
            "win",
        )
    if "double_windowed" in case.outputs:
        values["double_windowed"] = alone(
            WindowAttention(
                WindowConfig(**widths, qk_norm=qk_norm("dwin"), window=window, split_heads=True, rope=True)
            ),
            "dwin",
        )
    return Answer(values)


def serialise_case(case: GoldenCase) -> Answer:
    """Component ``serialize``: codes of both curves, axes permuted as the name of the output says."""
    coords, bits = case.inputs["coords"], case.config["bits"]
    values = {}
    for name, wanted in case.outputs.items():
        curve, _, permutation = name.partition("_permute")
        axes = tuple(int(axis) for axis in permutation) or (0, 1, 2)
        codes = curve_codes(coords, "hilbert" if curve == "hilbert" else "morton", axes=axes, bits=bits)
        values[name] = codes.to(wanted.dtype)
    return Answer(values)


def _ragged(inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The contexts ``context0``, ``context1``, ... of the samples."""
    return [inputs[f"context{sample}"] for sample in range(sum(name[len("context") :].isdigit() for name in inputs))]
