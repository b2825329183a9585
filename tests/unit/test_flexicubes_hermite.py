"""Dual vertices of distance lattices by tangent planes: creases survive, topology is that of FlexiCubes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from shapewright import GridField, Mesh
from shapewright.errors import ConfigError, StateError
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.flexicubes_hermite import hermite_geometry
from shapewright_kernels.flexicubes_topology import topology
from shapewright_kernels.flexicubes_voxels import voxel_corners
from shapewright_kernels.topology import edge_topology
from shapewright_plugins.datasets import solids
from shapewright_plugins.datasets.triangles import Triangles, icosphere
from shapewright_plugins.isosurface.marching_cubes import Config as MarchingConfig
from shapewright_plugins.isosurface.marching_cubes import MarchingCubes
from shapewright_plugins.sdf.config import Config as SdfConfig
from shapewright_plugins.sdf.grid import GridSdf
from shapewright_plugins.sdf.sparse import SparseSdf
from shapewright_plugins.sparseflex.extractor import Config, FlexiCubes


def normalised(shape: Triangles) -> Mesh:
    low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
    vertices = (shape.vertices - (low + high) / 2) / (high - low).max()
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(np.ascontiguousarray(shape.faces)))


def distances(points: np.ndarray, mesh: Mesh) -> np.ndarray:
    return ClosestPointIndex(mesh.vertices.numpy(), mesh.faces.numpy()).query(points)[0]


def crease_points(mesh: Mesh) -> np.ndarray:
    """Points on all edges of a mesh, tips included."""
    vertices, edges = mesh.vertices.numpy(), edge_topology(mesh.faces).edges
    along = np.linspace(0, 1, 21)[:, None, None]
    return (vertices[edges[:, 0]] * (1 - along) + vertices[edges[:, 1]] * along).reshape(-1, 3)


def test_edges_of_the_spiked_icosahedron_are_far_sharper_than_those_of_marching_cubes() -> None:
    mesh = normalised(solids.spiked_icosahedron())
    field = SparseSdf(SdfConfig(resolution=128)).from_mesh(mesh)
    plain = MarchingCubes(MarchingConfig()).extract(field)
    sharp = FlexiCubes(Config()).extract(field)
    averaged = FlexiCubes(Config(placement="average")).extract(field)
    creases = crease_points(mesh)
    errors = [distances(creases, m).mean() for m in (sharp, plain, averaged)]
    assert errors[0] * 50 < errors[1] < errors[2]
    assert edge_topology(sharp.faces).watertight
    assert len(sharp.vertices) == len(averaged.vertices)


def test_sparse_and_dense_lattice_give_one_closed_surface_whatever_the_threads() -> None:
    mesh = normalised(solids.gear(12, 0.3))
    sparse, dense = (kind(SdfConfig(resolution=40)).from_mesh(mesh) for kind in (SparseSdf, GridSdf))
    one, two = (FlexiCubes(Config()).extract(field) for field in (sparse, dense))
    assert edge_topology(one.faces).watertight
    assert torch.equal(one.faces, two.faces)
    torch.testing.assert_close(one.vertices, two.vertices, atol=1e-6, rtol=0)
    assert distances(one.vertices.numpy(), mesh).mean() < 0.01 / 40


def test_topology_is_that_of_averaged_vertices() -> None:
    field = SparseSdf(SdfConfig(resolution=48)).from_mesh(normalised(solids.spiked_icosahedron()))
    averaged, sharp = (FlexiCubes(Config(placement=p)).surface(field).topology for p in ("average", "qef"))
    for name in ("voxels", "cases", "dual_start", "quads"):
        assert np.array_equal(getattr(averaged, name), getattr(sharp, name)), name


def test_smooth_surface_stays_as_accurate() -> None:
    mesh = normalised(icosphere(5, 1.0))
    field = SparseSdf(SdfConfig(resolution=32)).from_mesh(mesh)
    averaged, sharp = (FlexiCubes(Config(placement=p)).extract(field) for p in ("average", "qef"))
    centres = [m.corners.mean(dim=1).numpy() for m in (sharp, averaged)]
    errors = [distances(points, mesh).mean() for points in centres]
    assert errors[0] < errors[1]


def test_spacing_scales_gradients_of_boxes_that_are_no_cubes() -> None:
    """A wedge between two planes on cells of three lengths: the crease comes back (to the regularisation)."""
    shape, spacing = (7, 9, 11), np.array([0.5, 1.0, 0.25])
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int32)
    corners, cubes = voxel_corners(voxels, shape)
    normals = np.array([[0.6, 0.0, 0.8], [-0.6, 0.0, 0.8]])
    heights = (corners * spacing - np.array([1.7, 0.0, 1.6])) @ normals.T
    side = heights.argmax(axis=1)
    values, gradients = heights.max(axis=1), normals[side] * spacing
    found = topology(cubes, voxels, values < 0, values > 0)
    places, faces = hermite_geometry(found, corners, cubes, voxels, values, gradients)
    assert len(faces) > 0
    crease = np.stack([np.full(17, 1.7), np.linspace(1, 8, 17), np.full(17, 1.6)], axis=1)
    mesh = Mesh(torch.from_numpy(places * spacing), torch.from_numpy(faces))
    assert distances(crease, mesh).max() < 1e-5
    again = hermite_geometry(found, corners, cubes, voxels, values, gradients, threads=3)
    assert np.array_equal(places, again[0])
    assert np.array_equal(faces, again[1])
    with pytest.raises(ValueError, match="gradients must be"):
        hermite_geometry(found, corners, cubes, voxels, values, gradients[:-1])


def test_auto_averages_wherever_derivatives_are_wanted() -> None:
    field = SparseSdf(SdfConfig(resolution=24)).from_mesh(normalised(solids.gear(12, 0.3)))
    bare = replace(field, gradients=None)
    averaged = FlexiCubes(Config(placement="average")).extract(field)
    sharp = FlexiCubes(Config()).extract(field)
    assert not torch.equal(sharp.vertices, averaged.vertices)
    assert torch.equal(FlexiCubes(Config()).extract(bare).vertices, averaged.vertices)
    leaf = replace(field, values=field.values.replace(field.values.feats.clone().requires_grad_()))
    traced = FlexiCubes(Config()).extract(leaf)
    assert traced.vertices.requires_grad
    assert torch.equal(traced.vertices.detach(), averaged.vertices)
    with torch.no_grad():
        assert torch.equal(FlexiCubes(Config()).extract(leaf).vertices, sharp.vertices)
    trained = FlexiCubes(Config(training=True)).extract(field)
    assert torch.equal(trained.vertices[: len(averaged.vertices)], averaged.vertices)


def test_what_cannot_be_placed_is_refused() -> None:
    with pytest.raises(ConfigError, match="placement must be one of"):
        Config(placement="sharp")
    with pytest.raises(ConfigError, match="no derivatives"):
        Config(placement="qef", training=True)
    axis = torch.linspace(-1, 1, 6)
    values = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).norm(dim=3) - 0.5
    with pytest.raises(StateError, match="needs a field with gradients"):
        FlexiCubes(Config(placement="qef")).extract(GridField(values))
    broken = GridField(values, gradients=torch.full((6, 6, 6, 3), torch.nan))
    with pytest.raises(StateError, match="not finite"):
        FlexiCubes(Config()).extract(broken)


def test_empty_field_gives_no_face() -> None:
    values = torch.ones(4, 4, 4)
    mesh = FlexiCubes(Config()).extract(GridField(values, gradients=torch.ones(4, 4, 4, 3)))
    assert mesh.vertices.shape == mesh.faces.shape == (0, 3)
