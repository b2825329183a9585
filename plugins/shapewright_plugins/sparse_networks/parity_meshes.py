"""Answers to the golden cases between sparse distances and meshes (Direct3D-S2)."""

from __future__ import annotations

import numpy as np
import torch
from shapewright.parity import Answer, Difference, GoldenCase, Rule, close
from shapewright_kernels.arrays import Floats
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.marching_cubes import marching_cubes
from shapewright_kernels.narrow_band import Lattice, narrow_band
from shapewright_kernels.nearest_neighbour import NearestNeighbourIndex
from torch import Tensor

OUTSIDE = 1.0
"""What voxels outside the band hold."""
TRUNCATION = 1e-7
"""Distances are stored as whole multiples of this."""


def sparse_to_mesh(case: GoldenCase) -> Answer:
    """``sparse2mesh``: marching cubes of the band in a grid of ones; vertices in ``-1..1``.

    Vertices are listed as the case lists them (each nearest one), so that they compare one by one. Which diagonal cuts
    a face in a cell is the library's choice, so faces are compared as surfaces.
    """
    resolution = case.config["voxel_resolution"]
    grid = np.full((resolution,) * 3, OUTSIDE, np.float32)
    x, y, z = case.inputs["coords"][:, -3:].long().numpy().T
    grid[x, y, z] = case.inputs["sdf"].numpy()
    vertices, faces = marching_cubes(grid, case.config["mc_threshold"])
    vertices = vertices / resolution * 2 - 1
    stored = case.outputs["vertices"].numpy().astype(np.float64)
    _, order = NearestNeighbourIndex(vertices.astype(np.float64)).query(stored)
    if len(np.unique(order)) == len(vertices):
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        vertices, faces = vertices[order], place[faces]
    rule = _same_surface(vertices.astype(np.float64), stored, 0.25 * 2 / resolution)
    values = {"vertices": torch.from_numpy(vertices).float(), "faces": torch.from_numpy(faces).int()}
    return Answer(values, {"faces": rule})


def _same_surface(ours: Floats, theirs: Floats, limit: float) -> Rule:
    """Centroids of either surface lie within ``limit`` of the other one, and both enclose the same volume within 1 %
    (with its sign, so that faces point the same way)."""

    def rule(got: Tensor, wanted: Tensor) -> Difference:
        pairs = (ours, got.long().numpy()), (theirs, wanted.long().numpy())
        worst, volumes = 0.0, []
        for (vertices, faces), (others, other_faces) in (pairs, pairs[::-1]):
            corners = vertices[faces]
            distances, _, _ = ClosestPointIndex(others, other_faces).query(corners.mean(axis=1))
            worst = max(worst, float(distances.max()))
            volumes.append(float(np.linalg.det(corners).sum() / 6))
        change = abs(volumes[0] - volumes[1]) / abs(volumes[1])
        return Difference(worst < limit and change < 0.01, worst, change, f"surfaces within {limit:g}, volumes 1 %")

    return rule


def mesh_to_index(case: GoldenCase) -> Answer:
    """``mesh2index``: blocks of the lattice that hold a point near the surface of the normalised mesh."""
    size, factor, threshold = case.config["size"], case.config["factor"], case.config["threshold"]
    vertices = case.inputs["vertices"]
    low, high = vertices.amin(0), vertices.amax(0)
    normalised = (vertices - (low + high) / 2) * (2 * case.config["scale"] / (high - low).max())
    spacing = 1 / (size - 1)
    lattice = Lattice(-0.5, spacing, size - 1)
    halved = (normalised / 2).numpy().astype(np.float64)
    near = narrow_band(halved, case.inputs["faces"].long().numpy(), lattice, threshold / size / spacing)
    stored = (near.distances / TRUNCATION).astype(np.int64)
    blocks = np.unique(near.coords[stored * TRUNCATION < threshold / size] // factor, axis=0)
    index = torch.from_numpy(np.pad(blocks, ((0, 0), (1, 0)))).int()
    # The case rounded its float64 vertices to float32 before it stored them: one unit in the last place is lost.
    return Answer({"index": index, "normalized_vertices": normalised}, {"normalized_vertices": close(2.0**-23, 0.0)})
