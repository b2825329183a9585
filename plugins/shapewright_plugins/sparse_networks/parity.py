"""Answers to the golden cases of single blocks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from shapewright.nn.convolution import SparseConv3d, SpconvConv3d, TorchsparseConv3d
from shapewright.nn.norms import SparseGroupNorm32
from shapewright.nn.point_encoder import LocalPoolPointNet
from shapewright.nn.resampling import (
    channel_to_spatial,
    channel_to_spatial_where,
    downsample,
    spatial_to_channel,
    subdivide,
    upsample,
    upsample_where,
)
from shapewright.nn.sampling import sample_voxels
from shapewright.nn.structure import Structure
from shapewright.nn.subdivide_blocks import (
    DownsampleGroupNormBlock3d,
    SubdivideConvBlock3d,
    SubdivideGroupNormBlock3d,
    prune,
)
from shapewright.parity import Answer, GoldenCase
from shapewright.states import SparseTensor
from torch import Tensor, nn


def sparse(case: GoldenCase, coords: str = "coords", feats: str = "feats") -> SparseTensor:
    """The sparse tensor that a case holds; its resolution is the smallest that fits."""
    found = case.inputs[coords].int()
    return SparseTensor(found, case.inputs[feats], int(found[:, 1:].max()) + 1, int(found[:, 0].max()) + 1)


def loaded(module: nn.Module, parameters: Mapping[str, Tensor], prefix: str = "") -> nn.Module:
    """``module`` with the parameters below ``prefix``; every key must be there, and no other."""
    module.load_state_dict({key.removeprefix(prefix): value for key, value in parameters.items()
                            if key.startswith(prefix)})  # fmt: skip
    return module.eval()


def answer(case: GoldenCase, values: Mapping[str, Tensor]) -> Answer:
    """Detached, integers in the stored type."""
    cast = {}
    for name, value in values.items():
        stored = case.outputs.get(name)
        exact = stored is not None and not stored.is_floating_point() and not value.is_floating_point()
        cast[name] = value.detach().to(stored.dtype) if exact and stored is not None else value.detach()
    return Answer(cast)


def torchsparse_convolution(case: GoldenCase) -> Answer:
    """Direct3D-S2 ``sparse_conv3d``: kernels 1 and 3, gradients of the latter."""
    x = sparse(case)
    leaf = x.feats.clone().requires_grad_()
    x = x.replace(leaf)
    widths = case.config["in_channels"], case.config["out_channels"]
    values: dict[str, Tensor] = {}
    for name, kernel in (("k1", 1), ("k3", 3)):
        conv = loaded(TorchsparseConv3d(*widths, kernel), case.params, f"{name}.")
        values[name] = conv(x).feats
        if name == "k3" and "grad_out" in case.inputs:
            parameters = dict(conv.named_parameters())
            found = torch.autograd.grad(values[name], [leaf, *parameters.values()], case.inputs["grad_out"])
            values["grad_feats"] = found[0]
            values |= {f"grad_param.k3.{key}": grad for key, grad in zip(parameters, found[1:], strict=True)}
    return answer(case, values)


def convolution(case: GoldenCase) -> Answer:
    """TRELLIS.2 ``SparseConv3d``."""
    config = case.config
    module = SparseConv3d(config["in_channels"], config["out_channels"], config.get("kernel_size", 3))
    return answer(case, {"feats": loaded(module, case.params)(sparse(case)).feats})


def spconv_convolution(case: GoldenCase) -> Answer:
    """TripoSF ``submanifold_conv``: one convolution for each kernel size."""
    x, structure = sparse(case), None
    values = {}
    for kernel in case.config["kernel_sizes"]:
        structure = Structure.of(x, structure)
        module = SpconvConv3d(case.config["in_channels"], case.config["out_channels"], kernel)
        values[f"conv{kernel}"] = loaded(module, case.params, f"conv{kernel}.")(x, structure).feats
    return answer(case, values)


def group_norm(case: GoldenCase) -> Answer:
    """Direct3D-S2 ``sparse_group_norm``."""
    module = SparseGroupNorm32(case.config["num_groups"], case.config["num_channels"])
    return answer(case, {"feats": loaded(module, case.params)(sparse(case)).feats})


def resample(case: GoldenCase) -> Answer:
    """Direct3D-S2 ``sparse_resample``: pooling that counts a zero element, its way back, subdivision."""
    x = sparse(case)
    structure = Structure.of(x)
    values = {}
    for factor in case.config["factors"]:
        coarse, level = downsample(x, factor, "mean-with-zero", structure)
        values[f"down{factor}_coords"], values[f"down{factor}_feats"] = coarse.coords, coarse.feats
        values[f"down{factor}_up_feats"] = upsample(coarse, level).feats
    fine = subdivide(x)
    values["subdivide_coords"] = fine.coords
    for name, stored in case.outputs.items():
        if name.startswith("subdivide_feats"):
            values[name] = fine.feats[: len(stored)]
    return answer(case, values)


def ssvae_blocks(case: GoldenCase) -> Answer:
    """Direct3D-S2 ``ssvae_blocks``: the blocks that change the level in its autoencoder."""
    x = sparse(case)
    structure = Structure.of(x)
    widths = case.config["channels"], case.config["out_channels"]
    down = loaded(DownsampleGroupNormBlock3d(*widths, groups=case.config["num_groups"]), case.params, "down.")
    finer = loaded(SubdivideConvBlock3d(*widths), case.params, "subdivide.")
    coarse, _ = down(x, structure)
    fine, _ = finer(x, structure)
    values = {"down_coords": coarse.coords, "down_feats": coarse.feats}
    return answer(case, values | {"subdivide_coords": fine.coords, "subdivide_feats": fine.feats})


def subdivide_block(case: GoldenCase) -> Answer:
    """TripoSF ``sparse_subdivide_block``, with its occupancy head."""
    config = case.config
    block = SubdivideGroupNormBlock3d(
        config["channels"], config.get("out_channels"), groups=config.get("num_groups", 32), pruning=True
    )
    fine, _, logits = loaded(block, case.params)(sparse(case))
    kept = prune(fine, logits)
    values = {"coords": fine.coords, "feats": fine.feats, "occ_logit": logits, "pruned_coords": kept.coords}
    return answer(case, values)


def local_pool_pointnet(case: GoldenCase) -> Answer:
    """TripoSF ``local_pool_pointnet``."""
    config = case.config
    module = LocalPoolPointNet(config["in_channels"], config["out_channels"], config["hidden_dim"], config["n_blocks"])
    lower, upper = config["bbox_size"]
    found = loaded(module, case.params)(
        case.inputs["points"], case.inputs["coords"].int(), config["resolution"], lower=lower, upper=upper
    )
    return answer(case, {"feats": found.feats})


def spatial_ops(case: GoldenCase) -> Answer:
    """TRELLIS.2 ``sparse_spatial_ops``."""
    x, factor = sparse(case), case.config["factor"]
    structure = Structure.of(x)
    channels = x.feats.shape[1]
    packed, level = spatial_to_channel(x, factor, structure)
    pooled, _ = downsample(x, factor, "mean", structure)
    predicted, mask = packed.replace(case.inputs["pred_feats"]), case.inputs["pred_mask"]
    results = {
        "s2c": packed,
        "down": pooled,
        "c2s_cached": channel_to_spatial(packed, level),
        "up_cached": upsample(pooled, level),
        "c2s_pred": channel_to_spatial_where(predicted, mask),
        "up_pred": upsample_where(predicted.replace(predicted.feats[:, :channels]), mask),
    }
    values = {"s2c.subdivision": level.subdivision, "down.subdivision": level.subdivision}
    for name, found in results.items():
        values[f"{name}.coords"], values[f"{name}.feats"] = found.coords, found.feats
    return answer(case, values)


def grid_sample(case: GoldenCase) -> Answer:
    """TRELLIS.2 ``grid_sample_3d``: trilinear."""
    return answer(case, {"values": sample_voxels(sparse(case), case.inputs["query"])})
