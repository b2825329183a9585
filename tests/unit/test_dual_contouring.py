"""Dual contouring: sharp features, closed manifolds, bounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from isosurface_shapes import (
    CENTRE,
    boundary_edges,
    box,
    box_edges,
    euler_characteristic,
    grid_field,
    is_closed_manifold,
    lattice,
    random_signs,
    rotation,
    sparse_field,
    sphere,
    surface_distance,
    volume,
)
from shapewright.errors import ConfigError
from shapewright_kernels.dual_contouring import Placement, dual_contouring, dual_contouring_sparse, split_quads
from shapewright_kernels.dual_contouring_cells import DualQuads
from shapewright_kernels.dual_contouring_qef import crossing, place_vertex
from shapewright_kernels.marching_cubes import marching_cubes
from shapewright_kernels.marching_cubes_cases import case_tables, loops
from shapewright_plugins.isosurface.dual_contouring import Config, DualContouring

RESOLUTION = 24
CELL = 2 / RESOLUTION


def in_space(vertices: np.ndarray, resolution: int = RESOLUTION) -> np.ndarray:
    return vertices.astype(np.float64) * 2 / resolution - 1


@pytest.fixture(scope="module")
def cube() -> tuple[np.ndarray, np.ndarray]:
    return box(lattice(RESOLUTION))


def test_edges_and_corners_of_a_cube_are_on_the_surface(cube: tuple[np.ndarray, np.ndarray]) -> None:
    values, gradients = cube
    vertices, faces = dual_contouring(values, gradients=gradients, spacing=(CELL,) * 3)
    vertices = in_space(vertices)
    to_edges = surface_distance(box_edges(200), vertices, faces) / CELL
    bevelled, bevelled_faces = marching_cubes(values)
    by_marching_cubes = surface_distance(box_edges(200), in_space(bevelled), bevelled_faces) / CELL
    assert to_edges.mean() < 1e-3
    assert np.quantile(to_edges, 0.99) < 2e-2
    assert by_marching_cubes.mean() > 0.2  # a hundred times better, not five
    assert volume(vertices, faces) == pytest.approx(1.0, abs=1e-4)
    off_surface = np.abs(box(vertices)[0]) / CELL
    assert np.quantile(off_surface, 0.95) < 1e-3
    assert off_surface.max() < 0.05
    assert is_closed_manifold(faces)
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    corners = corners @ rotation().T + CENTRE
    assert np.linalg.norm(corners[:, None] - vertices, axis=-1).min(axis=1).max() < 1e-2 * CELL


def test_spikes_are_five_times_nearer_than_with_marching_cubes() -> None:
    from shapewright.states import Frame, Mesh
    from shapewright_plugins.datasets.solids import spiked_icosahedron
    from shapewright_plugins.isosurface.marching_cubes import Config as CubesConfig
    from shapewright_plugins.isosurface.marching_cubes import MarchingCubes
    from shapewright_plugins.sdf.sparse import Config as FieldConfig
    from shapewright_plugins.sdf.sparse import SparseSdf

    shape = spiked_icosahedron()
    points = shape.vertices @ rotation().T
    points = torch.from_numpy(points / np.ptp(points, axis=0).max())
    field = SparseSdf(FieldConfig(resolution=32, gradients=True)).from_mesh(
        Mesh(points.float(), torch.from_numpy(shape.faces).long(), Frame())
    )
    edges = np.unique(np.sort(shape.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    along = np.linspace(0, 1, 40)[:, None, None]
    samples = (points.numpy()[edges[:, 0]] * along + points.numpy()[edges[:, 1]] * (1 - along)).reshape(-1, 3)
    errors = {}
    for name, extractor in {
        "cubes": MarchingCubes(CubesConfig()),
        "dual": DualContouring(Config()),
        "strict": DualContouring(Config(margin=0.0)),
    }.items():
        mesh = extractor.extract(field)
        assert is_closed_manifold(mesh.faces.numpy())
        distances = surface_distance(samples, mesh.vertices.double().numpy(), mesh.faces.numpy())
        errors[name] = distances.mean() / field.spacing[0]
    assert errors["dual"] < 0.05
    assert errors["dual"] < errors["cubes"] / 10
    assert errors["strict"] < errors["cubes"] / 4


def test_differences_of_values_are_better_than_marching_cubes(cube: tuple[np.ndarray, np.ndarray]) -> None:
    values, _ = cube
    errors = [
        surface_distance(box_edges(200), in_space(vertices), faces).mean() / CELL
        for vertices, faces in (dual_contouring(values), marching_cubes(values))
    ]
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("inner", [3, 4, 5, 7])
def test_random_fields_give_closed_manifolds(inner: int) -> None:
    rng = np.random.default_rng(inner)
    for _ in range(60):
        vertices, faces = dual_contouring(random_signs(rng, inner), threads=1)
        assert is_closed_manifold(faces)
        assert np.array_equal(np.unique(faces), np.arange(len(vertices)))


def test_one_vertex_a_cell_pinches_where_patches_meet() -> None:
    values = np.ones((4, 4, 4))
    values[1, 1, 1] = values[2, 2, 2] = -1
    vertices, faces = dual_contouring(values)
    classical, classical_faces = dual_contouring(values, placement=Placement(manifold=False))
    assert len(vertices) == 16
    assert is_closed_manifold(faces)
    assert len(classical) == 15
    assert not is_closed_manifold(classical_faces)
    assert boundary_edges(classical_faces) == 0


def test_problem_faces_are_those_of_the_literature() -> None:
    tables = case_tables()
    problems = np.flatnonzero(tables.problem >= 0)
    assert len(problems) == 36  # two classes of cases, 24 and 12 of them (C16 and C19 of Nielson)
    for case in problems.tolist():
        assert len(loops(case, int(tables.problem[case]))) == 2
        assert len(loops(case)) == 1


def test_vertices_stay_in_their_cells_unless_told_otherwise(cube: tuple[np.ndarray, np.ndarray]) -> None:
    values, gradients = cube
    rng = np.random.default_rng(0)
    noisy = gradients + rng.normal(scale=0.3, size=gradients.shape)
    for margin in (0.0, 0.5):
        placement = Placement(margin=margin, manifold=False)
        vertices, faces = dual_contouring(values, gradients=noisy, spacing=(CELL,) * 3, placement=placement)
        # With one vertex a cell and all quads present, vertices come in the order of the mixed cells.
        signs = values < 0
        corners = [
            signs[x:, y:, z:][:RESOLUTION, :RESOLUTION, :RESOLUTION] for x in (0, 1) for y in (0, 1) for z in (0, 1)
        ]
        cells = np.argwhere(np.any(corners, axis=0) & ~np.all(corners, axis=0))
        assert len(cells) == len(vertices)
        assert (vertices - cells).min() >= -margin - 1e-9
        assert (vertices - cells).max() <= 1 + margin + 1e-9
        assert boundary_edges(faces) == 0


def test_sphere_is_closed_smooth_and_outward() -> None:
    vertices, faces = dual_contouring(sphere(32).astype(np.float32))
    vertices = in_space(vertices, 32)
    assert is_closed_manifold(faces)
    assert euler_characteristic(faces) == 2
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.8).max() < 0.05 * 2 / 32
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    cosines = (normals * corners.mean(axis=1)).sum(axis=1) / np.linalg.norm(normals, axis=1) / 0.8
    assert cosines.min() > 0.98


def test_spacing_may_differ_by_axis() -> None:
    spacing = np.array([2 / 20, 2 / 28, 2 / 40])
    points = np.stack(np.meshgrid(*(np.arange(n + 1) for n in (20, 28, 40)), indexing="ij"), axis=-1) * spacing - 1
    values, gradients = box(points)
    vertices, faces = dual_contouring(values, gradients=gradients, spacing=tuple(spacing))
    assert surface_distance(box_edges(100), vertices * spacing - 1, faces).mean() < 1e-3 * spacing.min()


def test_missing_cells_are_holes() -> None:
    values = sphere(16)
    keep = np.abs(values) < 0.4
    keep[:, :, 8:] = False
    vertices, faces = dual_contouring_sparse(np.argwhere(keep), values[keep])
    assert len(faces) > 0
    assert boundary_edges(faces) > 0
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))


def test_extractor_uses_the_gradients_of_the_field(cube: tuple[np.ndarray, np.ndarray]) -> None:
    values, gradients = (part.astype(np.float32) for part in cube)
    with_gradients = DualContouring(Config()).extract(grid_field(values, gradients=torch.from_numpy(gradients)))
    without = DualContouring(Config()).extract(grid_field(values))
    errors = [
        surface_distance(box_edges(100), mesh.vertices.double().numpy(), mesh.faces.numpy()).mean() / CELL
        for mesh in (with_gradients, without)
    ]
    assert errors[0] < 1e-3 < 0.05 < errors[1]
    assert with_gradients.vertices.dtype == torch.float32
    keep = np.abs(values) < 3 * CELL
    sparse = sparse_field(values, keep, gradients=torch.from_numpy(gradients[keep]))
    banded = DualContouring(Config()).extract(sparse)
    assert torch.equal(banded.vertices, with_gradients.vertices)
    assert torch.equal(banded.faces, with_gradients.faces)


def test_empty_fields_and_wrong_options() -> None:
    assert DualContouring(Config()).extract(grid_field(np.ones((4, 4, 4)))).faces.shape == (0, 3)
    with pytest.raises(ConfigError, match="regularisation"):
        Config(regularisation=0.0)
    with pytest.raises(ConfigError, match="margin"):
        Config(margin=-1.0)
    with pytest.raises(ValueError, match="gradients"):
        dual_contouring(sphere(6), gradients=np.zeros((3, 3)))


def test_random_fields_longer_than_a_lattice_word_give_closed_manifolds() -> None:
    rng = np.random.default_rng(12)
    for long in range(3):
        shape = [6, 6, 6]
        shape[long] = 140
        for _ in range(8):
            values = np.ones(shape)
            values[1:-1, 1:-1, 1:-1] = rng.uniform(-1, 1, np.array(shape) - 2)
            assert is_closed_manifold(dual_contouring(values, threads=1)[1])


def test_crossing_of_two_tangents_is_exact_on_both_kinds_of_creases() -> None:
    for larger in (True, False):
        for place in (0.1, 0.4, 0.8):
            for crease in (0.0, 0.25, 0.6, 1.0):
                for before, after in ((2.0, 0.5), (0.5, 2.0), (-2.0, -0.5), (-0.5, -2.0), (3.0, 3.0)):
                    lines = (before, after) if (before > after) != larger else (after, before)
                    # a field of slope lines[0] up to the crease and lines[1] beyond, zero at place
                    at_crease = (crease - place) * (lines[0] if crease >= place else lines[1])
                    low, high = at_crease - crease * lines[0], at_crease + (1 - crease) * lines[1]
                    assert low * high < 0
                    slopes = lines[0] if crease > 0 else lines[1], lines[1] if crease < 1 else lines[0]
                    assert crossing(low, high, *slopes, True) == pytest.approx(place, abs=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quads_are_cut_along_the_diagonal_that_meets_the_crossing(axis: int) -> None:
    """Four corners around a lattice edge: one diagonal passes it at 0.8 of its length, the other at 0.3."""
    around = np.array([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
    heights = np.array([0.8, 0.3, 0.8, 0.3])
    vertices = np.roll(np.column_stack([around, heights]), axis + 1, axis=1) + 2.0
    quads = DualQuads(np.array([[0, 1, 2, 3]]), np.array([[2, 2, 2, axis]], np.int32), np.array([[0, 1]]))
    for place, ends in ((0.75, {0, 2}), (0.35, {1, 3})):
        values, faces = np.array([-place, 1 - place]), np.empty((2, 3), np.int64)
        split_quads(values, np.empty((0, 3)), 0.0, quads, vertices, faces, 0, 1)
        assert set(faces[0].tolist()) & set(faces[1].tolist()) == ends
    flat = np.roll(np.column_stack([around * [[1.0], [0.6], [1.0], [0.6]], np.full(4, 0.5)]), axis + 1, axis=1) + 2.0
    split_quads(np.array([-0.5, 0.5]), np.empty((0, 3)), 0.0, quads, flat, faces, 0, 1)
    assert set(faces[0].tolist()) & set(faces[1].tolist()) == {1, 3}  # a flat quad along its shorter diagonal


def test_a_vertex_leaves_its_cell_only_where_planes_agree() -> None:
    wanted = np.array([1.25, 0.5, 0.4])
    corners = np.array([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)], float)
    slopes = np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1]]
    values = ((corners - wanted) * slopes).sum(axis=1)

    def placed(values: np.ndarray) -> np.ndarray:
        x = np.array([0.5, 0.5, 0.5])
        place_vertex(values, slopes, np.ones(8, bool), np.empty(6), np.empty(3), x, 0.01, 0.5, 0.25)
        return x

    np.testing.assert_allclose(placed(values), wanted, atol=0.01)
    apart = values.copy()
    apart[[1, 4, 7]] += 0.3, -0.3, 0.3  # the planes across y no longer agree; those across x still say 1.25
    assert ((placed(apart) >= 0) & (placed(apart) <= 1)).all()
