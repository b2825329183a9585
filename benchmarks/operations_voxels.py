"""Voxels that a surface meets, and the neighbours of voxels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from harness import Case, Side, note
from numpy.typing import NDArray
from operations_distances import Request
from peers import installed
from shapes import Shape
from shapewright_kernels.voxelise import surface_voxels

CENTRE = 13
"""Column of the voxel itself in a 3x3x3 map."""


def voxelisation_cases(request: Request) -> Iterator[Case]:
    """Cells of the box ±0.5 that meet the surface."""
    for shape in request.shapes:
        for resolution in request.resolutions:
            step = 1.0 / resolution
            yield Case(
                "surface-voxelisation", shape.name, resolution,
                partial(surface_voxels, shape.vertices, shape.faces, -0.5, step, resolution),
                _voxel_peers(shape, resolution), partial(_same_voxels, resolution),
                "cells in which they differ are at most 1 % (touching counts differently)",
                units=len, unit="voxels", extra={"faces": len(shape.faces)},
            )  # fmt: skip


def _same_voxels(resolution: int, ours: NDArray[Any], theirs: NDArray[Any]) -> bool:
    def keys(coords: NDArray[Any]) -> NDArray[np.int64]:
        kept = coords[((coords >= 0) & (coords < resolution)).all(axis=1)].astype(np.int64)
        return np.asarray((kept[:, 0] * resolution + kept[:, 1]) * resolution + kept[:, 2])

    return len(np.setxor1d(keys(ours), keys(theirs))) <= 0.01 * len(ours)


def _voxel_peers(shape: Shape, resolution: int) -> list[Side]:
    step = 1.0 / resolution

    def open3d() -> Any:
        import open3d as o3d

        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(shape.vertices), o3d.utility.Vector3iVector(shape.faces)
        )
        low, high = np.full(3, -0.5), np.full(3, 0.5)
        grid = o3d.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(mesh, step, low, high)
        return np.array([voxel.grid_index for voxel in grid.get_voxels()])

    def point_cloud_utils() -> Any:
        import point_cloud_utils as pcu

        # its voxels are centred on the lattice, whatever its documentation says
        moved = shape.vertices - step / 2
        return np.asarray(pcu.voxelize_triangle_mesh(moved, shape.faces, step, [-0.5] * 3))

    def trimesh() -> Any:
        import trimesh

        # its voxels are centred on multiples of the step
        grid = trimesh.Trimesh(shape.vertices - step / 2, shape.faces, process=False).voxelized(step)
        return np.round(grid.points / step).astype(np.int64) + resolution // 2

    sides = [("point_cloud_utils", "point-cloud-utils", point_cloud_utils), ("open3d", "open3d", open3d)]
    if resolution <= 64:
        sides.append(("trimesh", "trimesh", trimesh))
    return installed(sides)


def neighbour_cases(request: Request) -> Iterator[Case]:
    """Rows of the 27 neighbours of each voxel of a surface, in lexicographic order."""
    try:
        from shapewright_kernels.neighbour_map import neighbour_map
    except ImportError as error:
        note(f"neighbour-map-27 is left out: {error}")
        return
    for shape in request.shapes:
        for resolution in request.resolutions:
            voxels = surface_voxels(shape.vertices, shape.faces, -0.5, 1.0 / resolution, resolution)
            coords = np.zeros((len(voxels), 4), np.int32)
            coords[:, 1:] = voxels
            yield Case(
                "neighbour-map-27", shape.name, resolution, partial(neighbour_map, coords),
                installed(
                    [
                        ("numpy", "numpy", partial(_numpy_map, coords, resolution)),
                        ("torch", "torch", partial(_torch_map, torch.from_numpy(coords), resolution)),
                    ]
                ),
                lambda ours, theirs: np.array_equal(ours, theirs), "equal",
                {"numpy": 2.5, "torch": 10.0} if len(coords) >= 500_000 else {},
                units=len, unit="voxels",
            )  # fmt: skip


def _offsets(side: int) -> list[int]:
    steps = (-1, 0, 1)
    return [(x * side + y) * side + z for x in steps for y in steps for z in steps]


def _numpy_map(coords: NDArray[np.int32], resolution: int) -> NDArray[np.int32]:
    """Sort the keys, search those of each of the 27 offsets; the textbook way."""
    side = resolution + 2  # a rim, so that a neighbour outside has no one else's key
    x, y, z = (coords[:, axis].astype(np.int64) + 1 for axis in (1, 2, 3))
    keys = (x * side + y) * side + z
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    found = np.empty((len(keys), 27), np.int32)
    for column, offset in enumerate(_offsets(side)):
        wanted = keys + offset
        place = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
        found[:, column] = np.where(ordered[place] == wanted, order[place], -1)
    return found


def _torch_map(coords: torch.Tensor, resolution: int) -> NDArray[np.int32]:
    """The same with torch."""
    side = resolution + 2
    x, y, z = (coords[:, 1:].long() + 1).unbind(1)
    keys = (x * side + y) * side + z
    ordered, order = torch.sort(keys)
    wanted = keys[:, None] + torch.tensor(_offsets(side))
    place = torch.searchsorted(ordered, wanted).clamp_(max=len(ordered) - 1)
    found = torch.where(ordered[place] == wanted, order[place], -1).to(torch.int32)
    return np.asarray(found.numpy())
