"""Answers to the golden cases of TripoSG's extraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from shapewright.parity import Answer, Difference, GoldenCase, Rule
from shapewright.states import Frame
from shapewright_kernels.marching_cubes import EdgeMesh, grid_edge_mesh, marching_cubes
from shapewright_kernels.word_sets import coords_of, strides_of
from torch import Tensor

from . import published_octree
from .flash_octree import FlashLevel, flash_samples, resolutions
from .hierarchical import mesh_in_frame
from .lattice_sampling import PointCalls

ALPHA = 0.4
"""Offset of ``near_surface_alpha``; the case does not name it, and its stored answer fits 0.39 to 0.40 only."""


# --- the fields of the cases ----------------------------------------------------------------------------------------
def _torus(p: Tensor) -> Tensor:
    around = torch.sqrt(p[:, 0] ** 2 + p[:, 1] ** 2) - 0.55
    return torch.sqrt(around**2 + p[:, 2] ** 2) - 0.24


def _rounded_box(p: Tensor) -> Tensor:
    q = p.abs() - p.new_tensor([0.6, 0.45, 0.3])
    outside: Tensor = torch.linalg.vector_norm(q.clamp(min=0), dim=1)
    return outside + q.max(dim=1).values.clamp(max=0) - 0.08


def _sphere(p: Tensor) -> Tensor:
    away: Tensor = torch.linalg.vector_norm(p - p.new_tensor([0.21, -0.13, 0.07]), dim=1)
    return away - 0.62


_DISTANCES = {"torus": _torus, "rbox": _rounded_box, "sphere": _sphere}
_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "tsdf": lambda distance: (distance / 0.12).clamp(-1, 1),
    "logits": lambda distance: 60 * distance,
}


def _field(config: Mapping[str, Any]) -> Callable[[Tensor], Tensor]:
    distance, kind = _DISTANCES[config["field"]], _KINDS[config["kind"]]
    return lambda points: kind(distance(points.float()))


# --- cases ----------------------------------------------------------------------------------------------------------
def helpers_case(case: GoldenCase) -> Answer:
    """Component ``extraction_helpers``; lists of voxels are compared as sets."""
    grid, invalid = case.inputs["grid"], case.inputs["grid_with_invalid"]
    edges = torch.zeros(grid.shape, dtype=torch.bool)
    edges[tuple(case.inputs["edge_coords"].long().unbind(1))] = True
    size = case.config.get("kernel", published_octree.dilation_size(case.config["grid_size"]))
    values = {
        "expanded": _coords(published_octree.upsampled(published_octree.dilated(edges, size))),
        "mesh_coords": _coords(published_octree.surface_voxels(grid)),
        "upsampled": published_octree.upsampled(grid),
        "near_surface": published_octree.differs_from_neighbours(invalid).byte(),
    }
    for name in case.outputs:
        if name.startswith("band_"):
            near = published_octree.in_band(grid, float(name.removeprefix("band_")))
            values[name] = _coords(published_octree.interior(near))
    if "near_surface_alpha" in case.outputs:
        offset = float(case.config.get("alpha", ALPHA))
        values["near_surface_alpha"] = published_octree.differs_from_neighbours(invalid, offset).byte()
    lists = [name for name in case.outputs if name in ("expanded", "mesh_coords") or name.startswith("band_")]
    return Answer(values, dict.fromkeys(lists, _same_rows))


def _coords(mask: Tensor) -> Tensor:
    return torch.nonzero(mask).int()


def _same_rows(got: Tensor, wanted: Tensor) -> Difference:
    mine, theirs = ({tuple(row) for row in rows.tolist()} for rows in (got, wanted))
    return Difference(mine == theirs, float(len(mine ^ theirs)), 0.0, "equal as sets")


def hierarchical_case(case: GoldenCase) -> Answer:
    """Component ``hierarchical_extraction``: ``grid`` and its surface in half precision, ``clean_grid`` in single."""
    config = case.config
    depths = config["dense_octree_depth"], config["hierarchical_octree_depth"]
    half, clean = (
        published_octree.published_grid(
            _field(config), config["bounds"], *depths, dtype=dtype, threshold=config["band_threshold"]
        )
        for dtype in (torch.float16, torch.float32)
    )
    size = config["bounds"]
    dense = half.values.float().numpy()
    mesh = mesh_in_frame(*marching_cubes(dense), 2 ** depths[1], Frame((-size,) * 3, (size,) * 3))
    values = {
        "grid": half.values,
        "clean_grid": clean.values.half(),
        "dense_axis": half.axis,
        "vertices": mesh.vertices,
        "faces": mesh.faces.int(),
    }
    for number, level in enumerate(half.levels, start=1):
        count = int(level.evaluated.sum())
        repeated = _with_repeats(level.band, depths[0] + number - 1)
        values |= {
            f"level{number}_band": level.band.byte(),
            f"level{number}_evaluated": level.evaluated.byte(),
            f"level{number}_written": level.evaluated.byte(),
            f"level{number}_counts": torch.tensor([int(level.band.sum()), repeated, count, count]),
        }
    surface = _SameSurface(grid_edge_mesh(dense), mesh.vertices, case.outputs["vertices"], case.atol)
    rules: dict[str, Rule] = {"vertices": surface.vertices, "faces": surface.faces}
    return Answer({name: value for name, value in values.items() if name in case.outputs}, rules)


def _with_repeats(band: Tensor, coarse_depth: int) -> int:
    """Points that the published code evaluates; it lists each voxel once as well."""
    size = published_octree.dilation_size(2**coarse_depth)
    return 8 * int(published_octree.dilated(band, size).sum())


class _SameSurface:
    """Marching cubes of two implementations on one grid: the same vertices in any order, and the same surface up to the
    diagonals inside of cells, which are a matter of tables."""

    def __init__(self, edges: EdgeMesh, mine: Tensor, theirs: Tensor, tolerance: float) -> None:
        self.tolerance = tolerance
        distances, self.nearest = torch.cdist(theirs.double(), mine.double()).min(dim=1)
        self.worst = float(distances.max()) if len(distances) else 0.0
        self.one_to_one = len(set(self.nearest.tolist())) == len(mine) == len(theirs)
        self.lower = torch.from_numpy(edges.lower).long()
        self.axis = torch.from_numpy(edges.axis).long()

    def vertices(self, got: Tensor, wanted: Tensor) -> Difference:
        ok = self.one_to_one and self.worst <= self.tolerance
        return Difference(ok, self.worst, 0.0, f"one to one within {self.tolerance:g}")

    def faces(self, got: Tensor, wanted: Tensor) -> Difference:
        mine, theirs = self._outlines(got.long()), self._outlines(self.nearest[wanted.long()])
        found = float(len(mine ^ theirs))
        return Difference(self.one_to_one and found == 0, found, 0.0, "the same directed edges on the sides of cells")

    def _outlines(self, faces: Tensor) -> set[tuple[int, int]]:
        """Directed edges that lie in a side of a cell: what the patches of two cells share."""
        edges = torch.cat([faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
        axes = torch.arange(3)
        # Both lattice edges lie in the plane of lattice points with one index along an axis.
        in_plane = (self.axis[edges][..., None] != axes).all(dim=1)
        in_side = in_plane & (self.lower[edges[:, 0]] == self.lower[edges[:, 1]])
        return {(int(a), int(b)) for a, b in edges[in_side.any(dim=1)].tolist()}


def flash_case(case: GoldenCase) -> Answer:
    """Component ``flash_extraction``: what is evaluated, what is handed on, and the published scale."""
    config, size = case.config, case.config["bounds"]
    found = resolutions(config["octree_depth"], config["min_resolution"], config["mini_grid_num"])
    calls = PointCalls(_field(config), Frame((-size,) * 3, (size,) * 3))
    samples, levels = flash_samples(calls, found.cells, level=config.get("mc_level", 0.0))
    places = tuple(torch.from_numpy(samples.coords.astype(np.int64)).unbind(1))
    handed = torch.zeros((samples.resolution + 1,) * 3)
    handed[places] = torch.from_numpy(-samples.values / found.divisor)
    masks = [_mask(level) for level in levels]
    values = {
        "counts": torch.tensor([int(mask.sum()) for mask in masks]),
        "resolutions": torch.tensor(found.cells),
        "sdf_to_dmc": handed,
        "sdf_valid": masks[-1],
        **{f"level{number}_evaluated": mask for number, mask in enumerate(masks)},
    }
    for name, stub in case.outputs.items():
        if name == "stub_vertices_in":  # what the case puts in the place of a mesh
            values["stub_vertices_in"] = stub
            frame = Frame((-size,) * 3, (size,) * 3)
            moved = mesh_in_frame(stub.numpy(), np.zeros((0, 3), np.int64), 2 ** config["octree_depth"], frame)
            values["stub_vertices_out"] = moved.vertices
        elif name == "stub_faces_out":
            values[name] = torch.tensor([[0, 1, 2]], dtype=torch.int32).flip(1)
    return Answer({name: value for name, value in values.items() if name in case.outputs})


def _mask(level: FlashLevel) -> Tensor:
    mask = torch.zeros((level.resolution + 1,) * 3, dtype=torch.uint8)
    coords = coords_of(level.points, strides_of(level.resolution)).astype(np.int64)
    mask[tuple(torch.from_numpy(coords).unbind(1))] = 1
    return mask
