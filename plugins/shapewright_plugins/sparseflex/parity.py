"""Answers to the golden cases ``flexicubes`` and ``sparseflex_to_mesh`` of the published TripoSF extractor."""

from __future__ import annotations

import torch
from shapewright.parity import Answer, GoldenCase
from shapewright.states import Frame
from shapewright_kernels.flexicubes import WEIGHT_SCALE, DualMesh, flexicubes
from shapewright_kernels.flexicubes_losses import deviation_loss
from torch import Tensor

from .corners import corner_field


def _loss(mesh: DualMesh) -> Tensor:
    """The order-independent loss that the notes of the cases define."""
    x, y, z = mesh.vertices.unbind(1)
    return 0.1 * torch.sin(3 * x + 5 * y + 7 * z).sum() + (mesh.vertices**2).sum() + 0.5 * deviation_loss(mesh.l_dev)


def _gradients(loss: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    if not loss.requires_grad:  # nothing crosses zero
        return {f"grad_{name}": torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {
        f"grad_{name}": torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def flexicubes_case(case: GoldenCase) -> Answer:
    """Component ``flexicubes``: mesh, deviation, and gradients through the deformation formula where they are
    stored."""
    inputs = {name: tensor.detach() for name, tensor in case.inputs.items()}
    names = [name for name in ("sdf", "deform", "alpha", "beta", "gamma") if name in inputs]
    leaves: dict[str, Tensor] = {name: inputs[name].clone().requires_grad_() for name in names}
    resolution = case.config["resolution"]
    wants_gradients = any(name.startswith("grad_") for name in case.outputs)
    positions = inputs.get("x_nx3")
    if "deform" in inputs and "grid_coords" in inputs and (positions is None or wants_gradients):
        offset = (1 - 1e-8) / (2 * resolution) * torch.tanh(leaves["deform"])
        positions = inputs["grid_coords"] / resolution - 0.5 + offset
    if positions is None:
        raise ValueError(f"{case.name}: neither x_nx3 nor grid_coords with deform is given")
    mesh = flexicubes(
        positions, leaves["sdf"], inputs["cube_idx"], inputs["voxel_coords"], resolution,
        leaves.get("alpha"), leaves.get("beta"), leaves.get("gamma"),
        training=bool(case.config.get("training", False)),
        weight_scale=float(case.config.get("weight_scale", WEIGHT_SCALE)),
    )  # fmt: skip
    loss = _loss(mesh)
    values = {"vertices": mesh.vertices, "faces": mesh.faces, "l_dev": mesh.l_dev, "loss": loss.reshape(1)}
    if wants_gradients:
        values |= _gradients(loss, leaves)
    return Answer({name: value.detach() for name, value in values.items() if name in case.outputs})


def sparseflex_case(case: GoldenCase) -> Answer:
    """Component ``sparseflex_to_mesh``: features to corners to mesh."""
    feats = case.inputs["feats"].detach().clone().requires_grad_()
    resolution = case.config["res"]
    coords = case.inputs["coords"].to(torch.int32)
    field = corner_field(coords[:, -3:], feats, resolution, Frame())
    mesh = flexicubes(
        field.positions, field.sdf, field.cubes, field.voxels, resolution, field.alpha, field.beta, field.gamma,
        training=bool(case.config.get("training", False)),
    )  # fmt: skip
    loss = _loss(mesh)
    values = {
        "vertices": mesh.vertices,
        "faces": mesh.faces,
        "l_dev": mesh.l_dev,
        "loss": loss.reshape(1),
        "consistency_loss": field.consistency_loss(feats).reshape(1),
        "corner_coords": field.corners,
        "corner_pos": field.positions,
        "corner_sdf": field.sdf,
        "cube_idx": field.cubes,
        "voxel_coords": field.voxels,
    }
    if "grad_feats" in case.outputs:
        values |= _gradients(loss, {"feats": feats})
    return Answer({name: value.detach() for name, value in values.items() if name in case.outputs})
