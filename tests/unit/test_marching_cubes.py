"""Marching cubes: cases by rule, closed manifolds, positions, exact levels, gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from isosurface_shapes import (
    boundary_edges,
    euler_characteristic,
    grid_field,
    is_closed_manifold,
    random_signs,
    sparse_field,
    sphere,
    surface_distance,
    volume,
)
from shapewright.errors import StateError
from shapewright.states import Frame, FunctionField, SparseField
from shapewright_kernels.marching_cubes import marching_cubes, marching_cubes_sparse
from shapewright_kernels.marching_cubes_cases import case_tables, loops
from shapewright_plugins.isosurface.marching_cubes import Config, MarchingCubes

MESHER = MarchingCubes(Config())


def test_one_inside_point_is_an_octahedron_facing_outwards() -> None:
    values = np.ones((3, 3, 3))
    values[1, 1, 1] = -3
    vertices, faces = marching_cubes(values)
    wanted = {(1 + dx * 0.75, 1 + dy * 0.75, 1 + dz * 0.75) for d in np.eye(3) for dx, dy, dz in (d, -d)}
    assert {tuple(vertex) for vertex in vertices.tolist()} == wanted
    assert faces.shape == (8, 3)
    assert volume(vertices - 1, faces) == pytest.approx(4 / 3 * 0.75**3)


def test_all_256_cases_close_against_their_neighbours() -> None:
    for case in range(256):
        values = np.ones((4, 4, 4))
        corners = [-1.0 if case >> corner & 1 else 1.0 for corner in range(8)]
        values[1:3, 1:3, 1:3] = np.reshape(corners, (2, 2, 2))
        _, faces = marching_cubes(values)
        assert is_closed_manifold(faces), case
        assert (len(faces) > 0) == (case > 0)


def test_loops_pass_every_crossing_edge_once() -> None:
    tables = case_tables()
    for case in range(256):
        passed = sorted(edge for loop in loops(case) for edge in loop)
        bits = [case >> corner & 1 for corner in range(8)]
        crossing = []
        for edge in range(12):
            low = int(tables.edge_offset[edge] @ [4, 2, 1])
            if bits[low] != bits[low + (4 >> edge // 4)]:
                crossing.append(edge)
        assert passed == crossing
        assert tables.triangle_count[case] == sum(len(loop) - 2 for loop in loops(case))


@pytest.mark.parametrize("inner", [3, 4, 5, 6])
def test_random_fields_give_closed_manifolds(inner: int) -> None:
    rng = np.random.default_rng(inner)
    for _ in range(60):
        _, faces = marching_cubes(random_signs(rng, inner), threads=1)
        assert is_closed_manifold(faces)


@pytest.mark.parametrize("resolution", [5, 16, 31, 64, 65])
def test_sphere_is_closed_with_genus_zero_and_its_volume(resolution: int) -> None:
    vertices, faces = marching_cubes(sphere(resolution).astype(np.float32))
    assert vertices.dtype == np.float32
    assert faces.dtype == np.int64
    assert is_closed_manifold(faces)
    assert euler_characteristic(faces) == 2
    size = volume((vertices.astype(np.float64) - resolution / 2) * 2 / resolution, faces)
    assert size == pytest.approx(4 / 3 * np.pi * 0.8**3, rel=6 / resolution**2)
    assert size < 4 / 3 * np.pi * 0.8**3


def test_vertices_are_exact_on_a_plane() -> None:
    x = np.arange(5.0)
    values = np.broadcast_to(x[:, None, None] - 1.3, (5, 4, 3)).copy()
    vertices, faces = marching_cubes(values)
    assert len(vertices) == 12
    np.testing.assert_allclose(vertices[:, 0], 1.3, atol=1e-15)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 0] > 0).all()


def test_vertices_are_sorted_by_their_edges() -> None:
    vertices, _ = marching_cubes(random_signs(np.random.default_rng(0), 8))
    lower = np.floor(vertices)
    axis = (vertices != lower).argmax(axis=1)
    assert np.array_equal(np.lexsort((axis, lower[:, 2], lower[:, 1], lower[:, 0])), np.arange(len(vertices)))


def test_values_at_the_level_are_outside_and_give_finite_closed_surfaces() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = np.ones((6, 6, 6))
        values[1:-1, 1:-1, 1:-1] = rng.integers(-1, 2, (4, 4, 4))
        vertices, faces = marching_cubes(values)
        assert np.isfinite(vertices).all()
        assert is_closed_manifold(faces)
        inside = np.argwhere(values < 0)
        assert {tuple(p) for p in inside.tolist()}.isdisjoint(map(tuple, vertices.tolist()))
    assert len(marching_cubes(np.zeros((4, 4, 4)))[1]) == 0


def test_level_moves_the_surface() -> None:
    values = sphere(24)
    vertices, _ = marching_cubes(values, 0.1)
    radii = np.linalg.norm(vertices / 12 - 1, axis=1)
    np.testing.assert_allclose(radii, 0.9, atol=0.004)


def test_points_that_are_not_finite_leave_a_hole() -> None:
    values = sphere(16)
    values[8, 8, 14:] = np.nan
    values[8, 8, :3] = -np.inf
    vertices, faces = marching_cubes(values)
    coords = np.argwhere(np.isfinite(values))
    sparse = marching_cubes_sparse(coords, values[np.isfinite(values)])
    assert np.isfinite(vertices).all()
    assert boundary_edges(faces) > 0
    assert np.array_equal(vertices, sparse[0])
    assert np.array_equal(faces, sparse[1])


def test_missing_points_leave_holes_and_no_loose_vertices() -> None:
    values = sphere(16)
    keep = np.abs(values) < 0.3
    closed = marching_cubes_sparse(np.argwhere(keep), values[keep])
    assert is_closed_manifold(closed[1])
    keep[:, :, 8:] = False
    vertices, faces = marching_cubes_sparse(np.argwhere(keep), values[keep])
    assert boundary_edges(faces) > 0
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    assert vertices[:, 2].max() == 7


def test_result_equals_skimage_where_nothing_is_ambiguous() -> None:
    measure = pytest.importorskip("skimage.measure")
    for resolution, radius in ((20, 0.77), (33, 0.55)):
        values = sphere(resolution, radius).astype(np.float32)
        vertices, faces = marching_cubes(values)
        theirs = measure.marching_cubes(values, 0.0)
        assert len(vertices) == len(theirs[0])
        assert len(faces) == len(theirs[1])
        order, other = (np.lexsort(np.round(v, 3).T) for v in (vertices, theirs[0]))
        np.testing.assert_allclose(vertices[order], theirs[0][other], atol=2e-3)
        assert surface_distance(theirs[0].astype(np.float64), vertices, faces).max() < 1e-4


def test_gradients_match_finite_differences() -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(random_signs(rng, 3)).requires_grad_()
    weights = torch.from_numpy(rng.normal(size=(500, 3)))

    def vertices_of(field: torch.Tensor) -> torch.Tensor:
        mesh = MESHER.extract(replace(grid_field(np.ones((5, 5, 5))), values=field))
        return mesh.vertices * weights[: len(mesh.vertices)]

    assert torch.autograd.gradcheck(vertices_of, (values,))


def test_gradients_reach_sparse_features() -> None:
    state = sparse_field(sphere(8), np.abs(sphere(8)) < 0.6)
    feats = state.values.feats.clone().requires_grad_()
    mesh = MESHER.extract(replace(state, values=state.values.replace(feats)))
    mesh.vertices.norm(dim=1).sum().backward()
    assert feats.grad is not None
    used = feats.grad[:, 0] != 0
    assert used.any()
    assert (feats.grad[used] < 0).all()  # larger values: a smaller sphere


def test_mesh_is_in_units_of_the_frame() -> None:
    values = torch.from_numpy(sphere(20)).float()
    mesh = MESHER.extract(grid_field(sphere(20).astype(np.float32)))
    assert mesh.vertices.dtype == torch.float32
    assert mesh.oriented
    np.testing.assert_allclose(mesh.vertices.norm(dim=1).numpy(), 0.8, atol=0.01)
    half = MESHER.extract(grid_field(values.half().numpy()))
    assert half.vertices.dtype == torch.float32
    assert MarchingCubes(Config(level=0.1)).extract(grid_field(sphere(20))).vertices.norm(dim=1).mean() > 0.89
    assert MESHER.extract(grid_field(sphere(20), level=0.1)).vertices.norm(dim=1).mean() > 0.89


def test_field_without_a_surface_gives_a_mesh_without_faces() -> None:
    for state in (grid_field(np.ones((4, 4, 4))), sparse_field(np.ones((4, 4, 4)), np.zeros((4, 4, 4), bool))):
        mesh = MESHER.extract(state)
        assert mesh.faces.shape == (0, 3)
        assert mesh.vertices.shape == (0, 3)


def test_batches_and_points_outside_the_lattice_are_refused() -> None:
    state = sparse_field(sphere(6))
    with pytest.raises(StateError, match="unbind"):
        MESHER.extract(SparseField.stack([state, state]))
    outside = replace(state, values=replace(state.values, resolution=5))
    with pytest.raises(StateError, match=r"0\.\.5"):
        MESHER.extract(outside)


# --- functions --------------------------------------------------------------------------------------------------------
def test_the_surface_of_a_function_follows_what_the_function_was_made_of() -> None:
    """A sphere's vertices lie at its radius, so their distance from the centre moves with it, one to one."""
    radius = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    state = FunctionField(lambda points: points.double().norm(dim=-1) - radius, Frame())
    extractor = MarchingCubes(Config(resolution=16, coarse=16))
    mesh = extractor.extract(state)
    (slope,) = torch.autograd.grad(mesh.vertices.norm(dim=1).mean(), radius)
    assert float(slope) == pytest.approx(1, abs=0.02)
    with torch.no_grad():
        plain = extractor.extract(state)
    assert not plain.vertices.requires_grad
    assert torch.equal(plain.faces, mesh.faces)
    torch.testing.assert_close(plain.vertices, mesh.vertices.detach(), rtol=0, atol=1e-12)


def test_a_function_without_gradients_is_asked_for_one_point_more() -> None:
    calls: list[int] = []

    def ball(points: torch.Tensor) -> torch.Tensor:
        calls.append(len(points))
        return points.norm(dim=-1) - 0.3

    extractor = MarchingCubes(Config(resolution=16, coarse=16))
    with torch.no_grad():
        extractor.extract(FunctionField(ball, Frame()))
    without, calls[:] = sum(calls), []
    assert not extractor.extract(FunctionField(ball, Frame())).vertices.requires_grad
    assert sum(calls) == without + 1
