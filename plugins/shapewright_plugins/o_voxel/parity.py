"""Answers to the golden cases ``mesh_to_flexible_dual_grid`` and ``flexible_dual_grid_to_mesh`` of TRELLIS.2."""

from __future__ import annotations

import numpy as np
import torch
from shapewright.parity import Answer, Difference, GoldenCase, exact, quantiles, share_within
from shapewright_kernels.flexible_dual_grid import mesh_to_flexible_dual_grid, place_grid
from shapewright_kernels.flexible_dual_grid_quads import flexible_dual_grid_quads
from shapewright_kernels.voxel_octree import morton_codes
from torch import Tensor

from .extractor import triangulate

WEIGHTS = (1.0, 1.0, 0.1)
"""Face, boundary and regularization weight by default in the published function (its pipelines use 1.0, 0.2, 0.01)."""


def to_grid_case(case: GoldenCase) -> Answer:
    """Component ``mesh_to_flexible_dual_grid``: rows by Morton code, dual vertices absolute from the grid's corner."""
    config = case.config
    grid = mesh_to_flexible_dual_grid(
        case.inputs["vertices"].numpy(force=True),
        case.inputs["faces"].numpy(force=True),
        grid_size=config.get("grid_size"),
        voxel_size=config.get("voxel_size"),
        aabb=config.get("aabb"),
        face_weight=config.get("face_weight", WEIGHTS[0]),
        boundary_weight=config.get("boundary_weight", WEIGHTS[1]),
        regularization_weight=config.get("regularization_weight", WEIGHTS[2]),
    )
    order = np.argsort(morton_codes(grid.coords), kind="stable")
    coords, flags, absolute = grid.coords[order], grid.intersected[order], grid.absolute()[order]
    relative = np.clip(absolute / grid.voxel_size - coords.astype(np.float32), 0, 1)
    bits = flags[:, 0] + 2 * flags[:, 1] + 4 * flags[:, 2].astype(np.uint8)
    values = {
        "coords": torch.from_numpy(coords),
        "dual_vertices": torch.from_numpy(absolute),
        "intersected": torch.from_numpy(flags),
        "dual_u8": torch.from_numpy((relative * 255).astype(np.uint8)),
        "intersected_u8": torch.from_numpy(bits.astype(np.uint8)[:, None]),
    }
    voxel_size = torch.from_numpy(grid.voxel_size).double()

    def in_voxels(got: Tensor, wanted: Tensor) -> Difference:
        return quantiles(1e-4, 2e-3, 0.1)(got.double() / voxel_size, wanted.double() / voxel_size)

    rules = {
        "coords": exact,
        "intersected": exact,
        "intersected_u8": exact,
        "dual_vertices": in_voxels,
        "dual_u8": share_within(1, 0.99),
    }
    return Answer({name: value for name, value in values.items() if name in case.outputs}, rules)


def to_mesh_case(case: GoldenCase) -> Answer:
    """Component ``flexible_dual_grid_to_mesh``: vertices of all voxels in input order, faces as published."""
    config, inputs = case.config, case.inputs
    if config.get("aabb") is None:
        raise ValueError("the published function needs an aabb, and the case gives none")
    origin, voxel_size, grid_size = place_grid(
        np.empty((0, 3), np.float32), config.get("voxel_size"), config.get("grid_size"), config["aabb"]
    )
    coords, relative = inputs["coords"], inputs["dual_vertices"]
    rows = torch.cat([torch.zeros_like(coords[:, :1]), coords], dim=1)
    flags = inputs["intersected"] != 0
    quads = torch.from_numpy(flexible_dual_grid_quads(rows.numpy(), flags.numpy(), grid_size=grid_size))
    vertices = (coords.to(relative.dtype) + relative) * torch.from_numpy(voxel_size) + torch.from_numpy(origin)
    weights = inputs.get("split_weight")
    mode = "train" if config.get("train") else "eval"
    values = dict(zip(("vertices", "faces"), triangulate(vertices, quads, weights, mode=mode), strict=True))
    if "faces_minangle" in case.outputs:
        values["faces_minangle"] = triangulate(vertices, quads, None, diagonal="min-angle")[1]
    return Answer({name: value for name, value in values.items() if name in case.outputs})
