"""Meshes to flexible dual grids and back, and surfaces of signed distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import psutil
import torch
from harness import Case, Side, note
from numpy.typing import NDArray
from operations_distances import Request, signed_band
from peers import installed, vtk_flying_edges
from shapes import Shape, lattice
from shapewright.host import discover
from shapewright.materials import Appearance, Material, Texture
from shapewright.run import build
from shapewright.states import Mesh
from shapewright_kernels.arrays import Floats, Ints
from shapewright_kernels.dual_contouring import dual_contouring_sparse
from shapewright_kernels.flexible_dual_grid import mesh_to_flexible_dual_grid
from shapewright_kernels.flexicubes import flexicubes
from shapewright_kernels.marching_cubes import marching_cubes, marching_cubes_sparse
from shapewright_kernels.nearest_neighbour import NearestNeighbourIndex

BAND = 1.75
"""Cells: all eight corners of every cell that the surface touches, and no more."""
DENSE_SHARE = 0.2
"""A dense peer is left out where its grid alone is more than this share of the free memory: such peers need several
grids, and a run that swaps measures nothing."""
DENSE_FLEXICUBES_BYTES = 4 * (1 + 3 + 8 + 12 + 1)
"""Values, deformation and weights of a grid point."""
Coords = NDArray[np.int32]


def grid_cases(request: Request) -> Iterator[Case]:
    """Mesh to flexible dual grid. No package index has the published converter, so there is no peer."""
    for shape in request.shapes:
        for resolution in request.resolutions:
            convert = partial(
                mesh_to_flexible_dual_grid,
                shape.vertices,
                shape.faces,
                grid_size=resolution,
                aabb=[[-0.5] * 3, [0.5] * 3],
            )
            yield Case(
                "mesh-to-flexible-dual-grid", shape.name, resolution, convert, (), lambda ours, theirs: True,
                "no peer; equal to the published converter on the golden cases (shapewright parity)",
                units=lambda ours: len(ours.coords), unit="voxels",
                seconds_per_million_goal=0.1 if resolution == 1024 else None,
                extra={"faces": len(shape.faces), "bytes_per_unit_goal": 145 if resolution == 1024 else None},
            )  # fmt: skip


def textured_cases(request: Request) -> Iterator[Case]:
    """A mesh with materials to an O-Voxel with attributes. No package index has the published converter."""
    catalog = discover()
    for shape in request.shapes:
        look = shape.appearance if shape.appearance is not None and shape.appearance.materials else painted(shape)
        mesh = Mesh(torch.from_numpy(shape.vertices), torch.from_numpy(shape.faces), appearance=look)
        for resolution in request.resolutions:
            representation = build(catalog, "representation/o-voxel", {"resolution": resolution})
            yield Case(
                "textured-o-voxel", shape.name, resolution, partial(representation.from_mesh, mesh), (),
                lambda ours, theirs: True, "no peer; equal to the published converter on the golden cases",
                units=lambda ours: len(ours.coords), unit="voxels",
                extra={"faces": len(shape.faces), "materials": len(look.materials)},
            )  # fmt: skip


def painted(shape: Shape) -> Appearance:
    """One material with four textures of 2048 texels a side, projected along y: what a usual asset has."""
    random = np.random.default_rng(0)
    color, packed = (torch.from_numpy(random.integers(0, 256, (2048, 2048, width), np.uint8)) for width in (4, 3))
    material = Material(
        "painted", (1.0, 1.0, 1.0), 1.0, 1.0,
        base_color_texture=Texture(color), alpha_texture=Texture(color, (3,)), alpha_mode="blend",
        metallic_texture=Texture(packed, (2,)), roughness_texture=Texture(packed, (1,)),
    )  # fmt: skip
    uvs = torch.from_numpy(np.ascontiguousarray(shape.corners[:, :, [0, 2]] + 0.5, np.float32))
    return Appearance((material,), uvs=(uvs,))


def mesh_cases(request: Request) -> Iterator[Case]:
    """Flexible dual grid to mesh."""
    catalog = discover()
    extractor = build(catalog, "extractor/flexible-dual-grid", {})
    for shape in request.shapes:
        mesh = Mesh(torch.from_numpy(shape.vertices), torch.from_numpy(shape.faces))
        for resolution in request.resolutions:
            state = build(catalog, "representation/o-voxel", {"resolution": resolution}).from_mesh(mesh, rng=None)
            voxels = len(state.coords)

            def count(mesh: Mesh, voxels: int = voxels) -> int:
                return voxels

            yield Case(
                "flexible-dual-grid-to-mesh", shape.name, resolution, partial(extractor.extract, state), (),
                lambda ours, theirs: True, "no peer; equal to the published extractor on the golden cases",
                units=count, unit="voxels",
                seconds_per_million_goal=0.1 if resolution == 1024 else None,
            )  # fmt: skip


def dense_values(coords: Coords, values: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """The band on a dense lattice: what lies between two band points of a column has the sign of the lower one."""
    side = resolution + 1
    dense = np.full((side, side, side), np.float32(2.0 / resolution))
    x, y, z = coords.T
    follows = np.zeros(len(coords), bool)  # the next row lies in the same column
    follows[:-1] = (x[1:] == x[:-1]) & (y[1:] == y[:-1])
    rows = np.flatnonzero(follows & (values < 0))
    rows = rows[z[rows + 1] > z[rows] + 1]
    for row in rows.tolist():
        dense[x[row], y[row], z[row] + 1 : z[row + 1]] = np.float32(-2.0 / resolution)
    dense[x, y, z] = values
    return dense


def room_for_dense(resolution: int, operation: str, mesh: str, bytes_per_point: int = 4) -> bool:
    """Whether dense peers can run; says so where they cannot."""
    needed = bytes_per_point * (resolution + 1) ** 3
    if needed <= DENSE_SHARE * psutil.virtual_memory().available:
        return True
    note(f"  {operation}, {mesh}, {resolution}: dense peers are left out, their grid alone is {needed / 2**30:.1f} GiB")
    return False


def same_surface(ours: tuple[Any, Any], theirs: tuple[Any, Any], tolerance: float = 1e-3) -> bool:
    """As many vertices and faces to 0.1 %, and 99.99 % of the vertices of each within ``tolerance`` of the other's."""
    sizes = [(len(a), len(b)) for a, b in zip(ours, theirs, strict=True)]
    if any(abs(a - b) > max(2, 0.001 * a) for a, b in sizes) or not sizes[0][0]:
        return sizes[0] == (0, 0) and sizes[1] == (0, 0)
    ways = ((ours[0], theirs[0]), (theirs[0], ours[0]))
    return all(float((NearestNeighbourIndex(to).query(start)[0] <= tolerance).mean()) >= 0.9999 for start, to in ways)


SAME_SURFACE = (
    "vertices within 0.001 cell of one another at 99.99 %, as many vertices and faces to 0.1 % (tables cut ambiguous "
    "cells differently)"
)


def band_cubes(coords: Coords, resolution: int) -> tuple[Coords, Ints]:
    """Cells with all eight corners among lexicographic ``coords``: ``(M, 3)`` and rows ``(M, 8)``, corner ``c`` at
    offset ``(c & 1, c >> 1 & 1, c >> 2)``."""
    side = np.int64(resolution + 2)
    keys = (coords[:, 0] * side + coords[:, 1]) * side + coords[:, 2]
    cubes = np.empty((len(coords), 8), np.int64)
    cubes[:, 0] = np.arange(len(coords))
    complete = np.ones(len(coords), bool)
    for corner in range(1, 8):
        wanted = keys + ((corner & 1) * side + (corner >> 1 & 1)) * side + (corner >> 2)
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        complete &= keys[found] == wanted
        cubes[:, corner] = found
    return coords[complete], cubes[complete]


LIBIGL_CORNERS = [0, 1, 3, 2, 4, 5, 7, 6]
"""Our corner numbers in the order that libigl's marching cubes wants."""


def marching_cubes_cases(request: Request) -> Iterator[Case]:
    """Marching cubes on the points of a band; dense peers get the same band on a dense lattice."""
    for shape in request.shapes:
        if not shape.closed:
            continue
        for resolution in request.resolutions:
            near, signed = signed_band(shape, lattice(resolution), BAND)
            coords, values = near.coords, signed.astype(np.float32)
            peers = _sparse_peers(coords, values, resolution)
            if room_for_dense(resolution, "marching-cubes", shape.name):
                peers = _dense_peers(dense_values(coords, values, resolution)) + peers
            yield Case(
                "marching-cubes", shape.name, resolution, partial(marching_cubes_sparse, coords, values), peers,
                same_surface, SAME_SURFACE, _contour_goals(resolution),
                units=lambda ours: len(ours[1]), unit="faces", extra={"points": len(coords)},
            )  # fmt: skip
            del peers


def dense_cases(request: Request) -> Iterator[Case]:
    """Marching cubes on a dense lattice."""
    for shape in request.shapes:
        if not shape.closed:
            continue
        for resolution in request.resolutions:
            if not room_for_dense(resolution, "marching-cubes-dense", shape.name):
                continue
            near, signed = signed_band(shape, lattice(resolution), BAND)
            dense = dense_values(near.coords, signed.astype(np.float32), resolution)
            del near, signed
            yield Case(
                "marching-cubes-dense", shape.name, resolution, partial(marching_cubes, dense), _dense_peers(dense),
                same_surface, SAME_SURFACE, units=lambda ours: len(ours[1]), unit="faces",
            )  # fmt: skip
            del dense


def _contour_goals(resolution: int) -> Mapping[str, float]:
    return {"scikit-image": 8.0, "vtk": 2.0} if resolution in (256, 512) else {}


def _dense_peers(dense: NDArray[np.float32]) -> list[Side]:
    def skimage() -> Any:
        from skimage import measure

        contour: Any = measure.marching_cubes
        return contour(dense, 0.0)[:2]

    return installed([("vtk", "vtk", partial(vtk_flying_edges, dense)), ("skimage", "scikit-image", skimage)])


def _sparse_peers(coords: Coords, values: NDArray[np.float32], resolution: int) -> list[Side]:
    """libigl on the same active cells; the cells are listed beforehand, which is not timed."""
    cubes = np.ascontiguousarray(band_cubes(coords, resolution)[1][:, LIBIGL_CORNERS])
    points, doubles = coords.astype(np.float64), values.astype(np.float64)

    def libigl() -> Any:
        import igl

        return igl.marching_cubes(doubles, points, cubes, 0.0)[:2]

    return installed([("igl", "libigl", libigl)])


def contouring_cases(request: Request) -> Iterator[Case]:
    """Dual contouring on the points of a band. No package has it for CPU arrays, see docs/performance.md."""
    for shape in request.shapes:
        if not shape.closed:
            continue
        for resolution in request.resolutions:
            near, signed = signed_band(shape, lattice(resolution), BAND)
            yield Case(
                "dual-contouring", shape.name, resolution,
                partial(dual_contouring_sparse, near.coords, signed.astype(np.float32)), (), lambda ours, theirs: True,
                "no peer", units=lambda ours: len(ours[1]), unit="faces", extra={"points": len(near.coords)},
            )  # fmt: skip


def flexicubes_cases(request: Request, backward: bool) -> Iterator[Case]:
    """FlexiCubes on the cells of a band with all weights, alone or with the gradients of all inputs."""
    operation = "flexicubes-forward-backward" if backward else "flexicubes-forward"
    for shape in request.shapes:
        if not shape.closed:
            continue
        for resolution in request.resolutions:
            near, signed = signed_band(shape, lattice(resolution), BAND)
            values = signed.astype(np.float32)
            yield Case(
                operation, shape.name, resolution,
                _sparse_flexicubes(near.coords, values, resolution, backward),
                _dense_flexicubes(near.coords, values, resolution, backward, (operation, shape.name)),
                same_flexicubes, FLEXICUBES_TOLERANCE, {"*": 10.0} if resolution == 256 else {},
                units=lambda ours: len(ours[1]), unit="faces",
                extra={"points": len(near.coords), "peak_bytes_goal": 8 * 10**9 if resolution == 1024 else None},
            )  # fmt: skip


FLEXICUBES_TOLERANCE = (
    "vertices within 0.001 cell of one another at 99.99 %, as many vertices and faces to 0.1 %; sum of absolute "
    "gradients of the values within 1 %"
)


def same_flexicubes(ours: tuple[Any, Any, float], theirs: tuple[Any, Any, float]) -> bool:
    """Same surface, and gradients of the same size."""
    return same_surface(ours[:2], theirs[:2]) and abs(ours[2] - theirs[2]) <= 0.01 * max(abs(ours[2]), 1e-12)


def weights_of(cells: int) -> list[torch.Tensor]:
    """Raw alpha ``(N, 8)``, beta ``(N, 12)`` and gamma ``(N,)`` near neutral."""
    draws = torch.Generator().manual_seed(0)
    shapes = ((cells, 8), (cells, 12), (cells,))
    return [0.1 * torch.randn(shape, generator=draws) for shape in shapes]


def _result(
    vertices: torch.Tensor, faces: torch.Tensor, leaves: Sequence[torch.Tensor], resolution: int, backward: bool
) -> tuple[Floats, Ints, float]:
    """Surface in lattice units and, with ``backward``, the sum of absolute gradients of the values (the first of
    ``leaves``) for a simple loss."""
    size = 0.0
    if backward:
        for leaf in leaves:
            leaf.grad = None
        (vertices**2).sum().backward()  # type: ignore[no-untyped-call]
        assert leaves[0].grad is not None
        size = float(leaves[0].grad.abs().sum())
    return ((vertices.detach() + 0.5) * resolution).numpy(), faces.numpy(), size


def _sparse_flexicubes(
    coords: Coords, values: NDArray[np.float32], resolution: int, backward: bool
) -> Callable[[], Any]:
    voxels, cubes = band_cubes(coords, resolution)
    cells, ids = torch.from_numpy(voxels), torch.from_numpy(cubes)
    corners = torch.from_numpy(coords) / resolution - 0.5
    leaves = [torch.from_numpy(values), torch.zeros(len(coords), 3), *weights_of(len(cells))]
    for leaf in leaves:
        leaf.requires_grad_(backward)

    def run() -> Any:
        sdf, deform, *raw = leaves
        positions = corners + (1 - 1e-8) / (2 * resolution) * torch.tanh(deform)
        surface = flexicubes(positions, sdf, ids, cells, resolution, *raw, deviation=False)
        return _result(surface.vertices, surface.faces, leaves, resolution, backward)

    return run


def _dense_flexicubes(
    coords: Coords, values: NDArray[np.float32], resolution: int, backward: bool, case: tuple[str, str]
) -> list[Side]:
    """All cells of the grid, with the same weights where the band has cells."""
    if not room_for_dense(resolution, *case, bytes_per_point=DENSE_FLEXICUBES_BYTES):
        return []
    from peers_flexicubes import DenseFlexiCubes, Parameters

    voxels = torch.from_numpy(band_cubes(coords, resolution)[0]).long().unbind(1)
    side = (resolution,) * 3
    leaves = [torch.from_numpy(dense_values(coords, values, resolution))]
    leaves.append(torch.zeros(*leaves[0].shape, 3))
    for weight in weights_of(len(voxels[0])):
        dense = torch.zeros(*side, *weight.shape[1:])
        dense[voxels] = weight
        leaves.append(dense)
    for leaf in leaves:
        leaf.requires_grad_(backward)
    extract = DenseFlexiCubes(resolution)

    def run() -> Any:
        vertices, faces = extract(Parameters(*leaves))
        return _result(vertices, faces, leaves, resolution, backward)

    return [Side("dense torch", run)]
