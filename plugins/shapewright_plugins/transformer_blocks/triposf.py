"""Golden cases of TripoSF: the transformer block, and the collection of small pieces."""

from __future__ import annotations

import torch
from shapewright.nn.gaussian import DiagonalGaussian
from shapewright.nn.norms import ChannelLayerNorm32, GroupNorm32, LayerNorm32, MultiHeadRMSNorm, SparseGroupNorm32
from shapewright.nn.positions import AbsolutePositionEmbedding
from shapewright.nn.resampling import subdivide
from shapewright.parity import Answer, GoldenCase, close
from shapewright.states import SparseTensor
from shapewright_kernels.window_partition import window_partition
from torch import Tensor

from .blocks import loaded, pre_norm_block, voxels


@torch.no_grad()
def block_case(case: GoldenCase) -> Answer:
    """Component ``sparse_transformer_block``: the block, and its attention on the raw input."""
    block = loaded(pre_norm_block(case.config), case.params)
    feats, layout = case.inputs["feats"], voxels(case)[1]
    return Answer({"attn": block.attn(feats, layout), "block": block(feats, layout)})


@torch.no_grad()
def pieces_case(case: GoldenCase) -> Answer:
    """Component ``pieces``: norms, position code, posterior, windows, children of voxels."""
    config, inputs, params = case.config, case.inputs, case.params
    channels, groups = config["channels"], config["num_groups"]
    axes = config.get("ape_in_channels", 3)
    sparse, _ = voxels(case, inputs["gn_feats"], "gn_coords")
    sparse_norm = loaded(SparseGroupNorm32(groups, channels), params, "sparse_groupnorm32.")
    head_norm = MultiHeadRMSNorm(config["rms_head_dim"], inputs["rms_x"].shape[-2])
    posterior = DiagonalGaussian.split(inputs["posterior_params"])
    corners = inputs["subdivide_coords"].to(torch.int32)
    ones = SparseTensor(corners, _subdivide_feats(case, len(corners)), 2**20, int(corners[:, 0].max()) + 1)
    children = subdivide(ones)
    values = {
        "ape": AbsolutePositionEmbedding(channels, axes)(inputs["ape_coords"]),
        "ape_768": AbsolutePositionEmbedding(768, axes)(inputs["ape_coords"][:4]),
        "ln": loaded(LayerNorm32(channels, eps=1e-6), params, "layernorm32.")(inputs["ln_x"]),
        "ln_noaffine": LayerNorm32(channels, elementwise_affine=False, eps=1e-6)(inputs["ln_x"]),
        "channel_layernorm32": _channel_norm(case)(inputs["gn_dense"]),
        "groupnorm32": loaded(GroupNorm32(groups, channels), params, "groupnorm32.")(inputs["gn_dense"]),
        "sparse_groupnorm32": sparse_norm(sparse).feats,
        "sparse_groupnorm32_half": sparse_norm(sparse.replace(sparse.feats.half())).feats.float(),
        "multihead_rmsnorm": loaded(head_norm, params, "multihead_rmsnorm.")(inputs["rms_x"]),
        "posterior_mode": posterior.mode,
        "posterior_std": posterior.std,
        "posterior_logvar": posterior.logvar,
        "posterior_sample": posterior.sample(noise=inputs["posterior_noise"]),
        "posterior_kl_mean_over_channels": posterior.kl(-1),
        "subdivide_coords": children.coords,
        "subdivide_feats": children.feats,
    }
    for name in case.outputs:
        if name.startswith("window_id_"):
            window, shift = name.removeprefix("window_id_").split("_")
            values[name] = _window_ids(inputs["window_coords"], int(window), int(shift)).to(case.outputs[name].dtype)
    return Answer(values, {"sparse_groupnorm32_half": close(2e-3, case.rtol)})


def _channel_norm(case: GoldenCase) -> ChannelLayerNorm32:
    return loaded(ChannelLayerNorm32(case.config["channels"], eps=1e-6), case.params, "channel_layernorm32.")


def _subdivide_feats(case: GoldenCase, rows: int) -> Tensor:
    """The case stores no features; its outputs are copies of the row numbers."""
    return torch.arange(rows, dtype=torch.float32)[:, None]


def _window_ids(coords: Tensor, window: int, shift: int) -> Tensor:
    partition = window_partition(coords, window, shift)
    ids = torch.empty(len(coords), dtype=torch.int64)
    lengths = partition.offsets.diff()
    ids[partition.order] = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    return ids
