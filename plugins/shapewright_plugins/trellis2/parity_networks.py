"""Answers to the golden cases of TRELLIS.2's autoencoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from shapewright.host import discover
from shapewright.parity import Answer, GoldenCase
from shapewright.run import build
from shapewright.states import FlexibleDualGrid, Frame, SparseTensor
from torch import Tensor, nn

from .dual_grid_values import MARGIN, dual_grid_features, split_channels
from .losses import dual_grid_losses, kl_mean, structure_losses, subdivision_losses
from .sparse_unet import SparseUnetDecoder, SparseUnetEncoder, UnetConfig
from .structure_networks import StructureConfig, StructureDecoder, StructureEncoder
from .subdivisions import levels_of, subdivisions_of

Network = TypeVar("Network", bound=nn.Module)
SHAPE_CHANNELS = {"encoder": 6, "decoder": 7}


def _loaded(network: Network, case: GoldenCase) -> Network:
    network.load_state_dict(dict(case.params), strict=True)
    return network.eval()


def unet_config(options: Mapping[str, Any], channels: int | None = None) -> UnetConfig:
    """From the published constructor arguments; ``channels`` where the published class fixes them."""
    checkpoint = any(args.get("use_checkpoint") for args in options.get("block_args", ()))
    return UnetConfig(
        channels=channels or options.get("in_channels") or options["out_channels"],
        latent_channels=options["latent_channels"],
        model_channels=tuple(options["model_channels"]),
        num_blocks=tuple(options["num_blocks"]),
        block_type=tuple(options["block_type"]),
        move_type=tuple(options.get("down_block_type") or options.get("up_block_type") or ()),
        pred_subdiv=options.get("pred_subdiv", True),
        use_checkpoint=checkpoint,
    )


def _voxels(coords: Tensor, feats: Tensor, resolution: int | None = None) -> SparseTensor:
    coords = coords.int()
    return SparseTensor(
        coords, feats, resolution or 1 << int(coords[:, 1:].max()).bit_length(), int(coords[:, 0].max()) + 1
    )


def _coarse(resolution: int, network: SparseUnetDecoder) -> int:
    """Cells an axis of the latent of a grid of ``resolution``."""
    return -(-resolution // (1 << network.config.moves))


@torch.no_grad()
def shape_encoder_case(case: GoldenCase) -> Answer:
    """Component ``FlexiDualGridVaeEncoder``."""
    inputs = case.inputs
    network = _loaded(SparseUnetEncoder(unet_config(case.config, SHAPE_CHANNELS["encoder"])), case)
    return _encoded(network, inputs["coords"], dual_grid_features(inputs["vertices"], inputs["intersected"]))


@torch.no_grad()
def texture_encoder_case(case: GoldenCase) -> Answer:
    """Component ``SparseUnetVaeEncoder``."""
    network = _loaded(SparseUnetEncoder(unet_config(case.config)), case)
    return _encoded(network, case.inputs["coords"], case.inputs["feats"])


def _encoded(network: SparseUnetEncoder, coords: Tensor, feats: Tensor) -> Answer:
    found = network(_voxels(coords, feats))
    return Answer({"coords": found.voxels.coords, "mean": found.posterior.mean, "logvar": found.posterior.logvar})


@torch.no_grad()
def shape_decoder_case(case: GoldenCase) -> Answer:
    """Component ``FlexiDualGridVaeDecoder``: evaluation, structure by prediction."""
    config = case.config
    network = _loaded(SparseUnetDecoder(unet_config(config, SHAPE_CHANNELS["decoder"])), case)
    resolution = config["resolution"]
    latent = _voxels(case.inputs["coords"], case.inputs["feats"], _coarse(resolution, network))
    fine, logits = network(latent)
    margin = config.get("voxel_margin", MARGIN)
    dual, flags, weights = split_channels(fine.feats, margin)
    values = {
        "coords": fine.coords,
        "raw": fine.feats,
        "vertices": dual,
        "intersected": flags > 0,
        "quad_lerp": weights,
    }
    values |= _meshes(fine, dual, flags > 0, weights, resolution, "eval")
    for place, found in enumerate(logits):
        values |= {f"sub{place}.coords": found.coords, f"sub{place}.logits": found.feats}
    for name in case.outputs:
        if name.startswith("upsample"):
            values[name] = network.upsample(latent, int(name.removeprefix("upsample"))).coords
    return Answer({name: value for name, value in values.items() if name in case.outputs})


def shape_training_case(case: GoldenCase) -> Answer:
    """Component ``FlexiDualGridVaeDecoder.train``: teacher-forced structure, training meshes, loss terms."""
    config, inputs = case.config, case.inputs
    network = _loaded(SparseUnetDecoder(unet_config(config, SHAPE_CHANNELS["decoder"])), case).train()
    resolution = config["resolution"]
    given = _voxels(inputs["coords"], inputs["vertices"], resolution)
    levels = levels_of(given, network.config.moves)
    latent = _voxels(inputs["latent_coords"], inputs["latent"], _coarse(resolution, network))
    fine, logits = network(latent, levels=levels)
    dual, flags, weights = split_channels(fine.feats, config.get("voxel_margin", MARGIN))
    wanted_flags = inputs["intersected"] != 0
    direct = dual_grid_losses(dual, flags, inputs["vertices"], wanted_flags)
    truth = subdivisions_of(levels, given)
    values = {
        "coords": fine.coords,
        "vertices": dual,
        "intersected_logits": flags,
        "loss.direct/intersected": direct["intersected"],
        "loss.direct/vertice": direct["vertices"],
    }
    for place, (found, wanted, loss) in enumerate(zip(logits, truth, subdivision_losses(logits, truth), strict=True)):
        values |= {f"sub{place}.coords": found.coords, f"sub{place}.logits": found.feats}
        values |= {f"sub{place}.gt": wanted.feats, f"loss.bce_sub{place}": loss}
    values |= _meshes(fine, dual, wanted_flags, weights, resolution, "train")
    return Answer({name: value.detach() for name, value in values.items()})


def _meshes(
    fine: SparseTensor, dual: Tensor, flags: Tensor, weights: Tensor, resolution: int, mode: str
) -> dict[str, Tensor]:
    extractor = build(discover(), "extractor/flexible-dual-grid", {"mode": mode, "drop_unreferenced": False})
    grid = FlexibleDualGrid(fine.coords, dual, flags, weights, resolution, fine.batch_size, Frame(up="z"))
    values: dict[str, Tensor] = {}
    for sample, part in enumerate(grid.unbind()):
        mesh = extractor.extract(part)
        values |= {f"mesh{sample}.vertices": mesh.vertices, f"mesh{sample}.faces": mesh.faces}
    return values


@torch.no_grad()
def texture_decoder_case(case: GoldenCase) -> Answer:
    """Component ``SparseUnetVaeDecoder``: led by the subdivisions of a shape, and by the voxels that were encoded."""
    inputs = case.inputs
    network = _loaded(SparseUnetDecoder(unet_config(case.config)), case)
    values: dict[str, Tensor] = {}
    if "guided" in case.outputs:
        latent = _voxels(inputs["coords"], inputs["feats"])
        guides = [
            _voxels(inputs[f"sub{place}.coords"], inputs[f"sub{place}.logits"]) for place in range(network.config.moves)
        ]
        fine, _ = network(latent, guides=guides)
        values |= {"guided": fine.feats, "guided_coords": fine.coords}
    if "cached" in case.outputs:
        levels = levels_of(_voxels(inputs["fine_coords"], inputs["fine_coords"]), network.config.moves)
        latent = _voxels(inputs["cached_latent_coords"], inputs["cached_latent"])
        values["cached"] = network(latent, levels=levels).voxels.feats
    return Answer(values)


def _structure_config(options: Mapping[str, Any]) -> StructureConfig:
    names = ("latent_channels", "num_res_blocks", "num_res_blocks_middle", "norm_type")
    given = {name: options[name] for name in names if name in options}
    grid = options.get("in_channels") or options["out_channels"]
    return StructureConfig(grid_channels=grid, channels=tuple(options["channels"]), **given)


@torch.no_grad()
def structure_encoder_case(case: GoldenCase) -> Answer:
    """Component ``SparseStructureEncoder``."""
    posterior = _loaded(StructureEncoder(_structure_config(case.config)), case)(case.inputs["x"])
    return Answer({"mean": posterior.mean, "logvar": posterior.logvar})


@torch.no_grad()
def structure_decoder_case(case: GoldenCase) -> Answer:
    """Component ``SparseStructureDecoder`` and its losses."""
    inputs = case.inputs
    logits = _loaded(StructureDecoder(_structure_config(case.config)), case)(inputs["z"])
    losses = structure_losses(logits, inputs["x"])
    return Answer({"logits": logits, "kl": kl_mean(inputs["mean"], inputs["logvar"]), **losses})
