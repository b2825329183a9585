"""What the handlers of several systems share: layouts from stored coordinates, and parameters by prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from shapewright.nn.attention import AttentionConfig, FullAttention
from shapewright.nn.blocks import TransformerBlock
from shapewright.nn.layouts import layout_of
from shapewright.nn.windows import WindowAttention, WindowConfig
from shapewright.parity import GoldenCase
from shapewright.states import Layout, SparseTensor
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def loaded(module: AnyModule, params: Mapping[str, Tensor], prefix: str = "") -> AnyModule:
    """``module`` with the parameters below ``prefix``, all of them and no others, ready to evaluate."""
    own = {name[len(prefix) :]: tensor for name, tensor in params.items() if name.startswith(prefix)}
    module.load_state_dict(own, strict=True)
    return module.eval()


def voxels(case: GoldenCase, feats: Tensor | None = None, coords: str = "coords") -> tuple[SparseTensor, Layout]:
    """Stored voxels and their layout; the batch ends with the last sample that has a voxel."""
    rows = case.inputs[coords].to(torch.int32)
    samples = int(rows[:, 0].max()) + 1
    sparse = SparseTensor(rows, rows[:, :0].float() if feats is None else feats, int(rows[:, 1:].max()) + 1, samples)
    return sparse, layout_of(sparse)


def pre_norm_block(config: Mapping[str, Any]) -> TransformerBlock:
    """The block that TripoSF and Direct3D-S2 describe by these options."""
    widths: dict[str, Any] = {
        "channels": config["channels"],
        "heads": config["num_heads"],
        "bias": config.get("qkv_bias", True),
        "qk_norm": "per-head" if config.get("qk_rms_norm") else "none",
        "rope": config.get("use_rope", False),
    }
    window = config.get("window_size")
    mode = config.get("attn_mode", "windowed" if window else "full")
    attention: FullAttention | WindowAttention
    if mode == "full":
        attention = FullAttention(AttentionConfig(**widths))
    elif mode == "windowed":
        attention = WindowAttention(WindowConfig(**widths, window=window, shift=config.get("shift_window") or 0))
    else:
        raise ValueError(f"attn_mode must be full or windowed, not {mode!r}")
    return TransformerBlock(
        config["channels"], attention, mlp_ratio=config["mlp_ratio"], affine=config.get("ln_affine", False)
    )
