"""Mesh to dual grid on inputs whose answer can be worked out by hand."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.optimize import lsq_linear
from shapewright_kernels import flexible_dual_grid as kernel
from shapewright_kernels.flexible_dual_grid import mesh_to_flexible_dual_grid
from shapewright_kernels.flexible_dual_grid_quads import flexible_dual_grid_quads
from shapewright_kernels.flexible_dual_grid_solve import solve

UNIT = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def _convert(vertices: Any, faces: Any, **options: Any) -> kernel.DualGrid:
    options = {"grid_size": 4, "aabb": UNIT} | options
    return mesh_to_flexible_dual_grid(np.asarray(vertices, np.float32), np.asarray(faces), **options)


def test_single_triangle_marks_the_edges_under_it() -> None:
    # A triangle at z = 0.6 (cell 2) over the lattice points (1, 1), (2, 1), (1, 2) of a grid of 4.
    grid = _convert([[0.2, 0.2, 0.6], [0.65, 0.2, 0.6], [0.2, 0.65, 0.6]], [[0, 1, 2]])
    crossed = grid.coords[grid.intersected[:, 2]].tolist()
    assert crossed == [[0, 0, 2], [0, 1, 2], [1, 0, 2]]
    assert not grid.intersected[:, :2].any()
    around = {(x + i, y + j, 2) for x, y, _ in crossed for i in (0, 1) for j in (0, 1)}
    assert grid.coords.tolist() == [list(voxel) for voxel in sorted(around)]
    assert grid.dual_vertices[:, 2] == pytest.approx((0.6 - 0.5) * 4, abs=1e-5)


def test_flat_triangle_without_other_terms_puts_the_vertex_under_the_mean_hit() -> None:
    grid = _convert([[0.2, 0.2, 0.6], [0.65, 0.2, 0.6], [0.2, 0.65, 0.6]], [[0, 1, 2]], boundary_weight=0.0)
    row = grid.coords.tolist().index([1, 1, 2])
    # Hits of voxel (1, 1) at the lattice points (0.25, 0.25), (0.5, 0.25), (0.25, 0.5): mean 1/3 in voxels from 0.25.
    assert grid.dual_vertices[row] == pytest.approx([1 / 3, 1 / 3, 0.4], abs=1e-5)


def test_degenerate_triangle_pulls_but_has_no_plane() -> None:
    # No area, but it covers the lattice line x = 0.5 in projection along z: nothing is crossed, nothing breaks.
    grid = _convert([[0.1, 0.1, 0.1], [0.5, 0.5, 0.5], [0.9, 0.9, 0.9]], [[0, 1, 2]])
    assert np.isfinite(grid.dual_vertices).all()


def test_box_has_its_walls_and_nothing_else() -> None:
    box = trimesh.creation.box(extents=(0.55, 0.55, 0.55))
    grid = _convert(box.vertices + 0.5, box.faces, grid_size=8)
    # Walls at 0.225 and 0.775 of 8 voxels: cells 1 and 6. Active voxels are the shell of cells 1 .. 6.
    shell = [c for c in np.ndindex(8, 8, 8) if min(c) >= 1 and max(c) <= 6 and (min(c) == 1 or max(c) == 6)]
    assert grid.coords.tolist() == [list(c) for c in shell]
    crossed = (grid.coords[:, 0] == 1) | (grid.coords[:, 0] == 6)
    inner = (grid.coords[:, 1:] <= 5).all(axis=1)
    assert np.array_equal(grid.intersected[:, 0], crossed & inner)
    corner = grid.dual_vertices[grid.coords.tolist().index([1, 1, 1])]
    assert corner == pytest.approx([0.8, 0.8, 0.8], abs=5e-3)  # the regularisation pulls a little
    face = grid.dual_vertices[grid.coords.tolist().index([6, 3, 3])]
    assert face[0] == pytest.approx(0.2, abs=1e-5)


def test_dual_vertex_minimises_the_energy_inside_the_voxel() -> None:
    rng = np.random.default_rng(0)
    sizes = np.array([1.0, 0.5, 2.0], np.float32)
    sums, wanted = [], []
    for _ in range(300):
        planes = rng.normal(size=(rng.integers(1, 5), 3))
        roots = np.concatenate([planes, 0.1 * np.eye(3)])
        right = np.concatenate([planes @ (rng.normal(size=3) * sizes), 0.1 * rng.random(3)])
        matrix, vector = roots.T @ roots, roots.T @ right
        sums.append([*matrix[0], matrix[1, 1], matrix[1, 2], matrix[2, 2], *vector])
        wanted.append(lsq_linear(roots, right, (np.zeros(3), sizes.astype(float)), tol=1e-14).x / sizes)
    found = np.empty((300, 3), np.float32)
    solve(np.array(sums), sizes, found)
    outside = (np.abs(np.array(wanted)) < 1e-9).any(axis=1) | (np.abs(np.array(wanted) - 1) < 1e-9).any(axis=1)
    assert outside.sum() > 50  # faces, edges and corners are met
    np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_singular_energy_ends_in_the_voxel() -> None:
    found = np.full((2, 3), np.nan, np.float32)
    plane = [0, 0, 0, 0, 0, 1.0, 0, 0, 0.25]  # z = 0.25, nothing about x and y
    solve(np.array([plane, [0.0] * 9]), np.ones(3, np.float32), found)
    assert found[0, 2] == 0.25
    assert found[1].tolist() == [1, 1, 1]  # of eight equal corners the first: upper bounds come first


def test_far_away_vertices_cost_no_more_than_the_grid() -> None:
    rng = np.random.default_rng(1)
    vertices = (rng.normal(size=(60, 3)) * 10.0 ** rng.integers(0, 30, (60, 1))).astype(np.float32)
    faces = np.arange(60).reshape(-1, 3)
    _convert(vertices[:3], faces[:1])
    start = time.perf_counter()
    grid = _convert(vertices, faces, grid_size=64)
    assert time.perf_counter() - start < 5
    assert (grid.coords >= 0).all()
    assert (grid.coords < 64).all()
    assert np.isfinite(grid.dual_vertices).all()


def test_triangle_through_the_grid_from_afar_is_cut_at_the_border() -> None:
    grid = _convert([[-1e6, -1e6, 0.3], [1e6, -1e6, 0.3], [0.5, 2e6, 0.3]], [[0, 1, 2]], boundary_weight=0.0)
    assert grid.coords.tolist() == [[x, y, 1] for x in range(4) for y in range(4)]
    assert grid.intersected[:, 2].reshape(4, 4).tolist() == [[x < 3 and y < 3 for y in range(4)] for x in range(4)]


def test_voxels_need_not_be_cubes() -> None:
    grid = _convert([[0, 0, 0.7], [4, 0, 0.7], [0, 4, 0.7]], [[0, 1, 2]], grid_size=(2, 4, 8))
    assert set(grid.coords[:, 2].tolist()) == {5}
    assert grid.dual_vertices[:, 2] == pytest.approx(0.6, abs=1e-5)
    assert grid.coords[grid.intersected[:, 2]].tolist() == [[0, 0, 5], [0, 1, 5], [0, 2, 5]]


def test_mesh_without_faces_has_no_voxels() -> None:
    grid = _convert(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    assert grid.coords.shape == grid.dual_vertices.shape == grid.intersected.shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": np.full((3, 3), np.nan)}, "finite"),
        ({"vertices": np.full((3, 3), 1e300)}, "finite"),
        ({"vertices": np.zeros((3, 2))}, "vertices must be"),
        ({"vertices": np.zeros((3, 3), int)}, "vertices must be"),
        ({"faces": np.array([[0, 1, 3]])}, "must index"),
        ({"faces": np.array([[0, 1, -1]])}, "must index"),
        ({"faces": np.array([[0.0, 1.0, 2.0]])}, "faces must be"),
        ({"grid_size": None}, "voxel_size or grid_size"),
        ({"grid_size": 0}, "positive"),
        ({"grid_size": 2.5}, "whole numbers"),
        ({"grid_size": [4, 4]}, "one number or three"),
        ({"grid_size": 40000}, "at most"),
        ({"voxel_size": -1.0}, "positive"),
        ({"aabb": [[0, 0, 0], [1, 1, 0]]}, "min < max"),
        ({"aabb": None}, "flat"),
        ({"aabb": None, "grid_size": 1}, "at least 2"),
        ({"boundary_weight": -1.0}, "boundary_weight"),
        ({"regularization_weight": float("nan")}, "regularization_weight"),
    ],
)
def test_bad_input_is_a_value_error_that_says_what(change: dict[str, Any], message: str) -> None:
    good = {
        "vertices": np.array([[0, 0, 0.5], [1, 0, 0.5], [0, 1, 0.5]]),
        "faces": np.array([[0, 1, 2]]),
        "grid_size": 4,
        "aabb": UNIT,
    }
    with pytest.raises(ValueError, match=message):
        mesh_to_flexible_dual_grid(**(good | change))


def test_quads_go_around_their_edge_in_the_published_order() -> None:
    coords = np.array([[0, *cell] for cell in np.ndindex(2, 2, 2)])
    flags = np.zeros((8, 3), bool)
    flags[0] = True
    corner = {tuple(row[1:]): i for i, row in enumerate(coords.tolist())}
    digits = [["000", "001", "011", "010"], ["000", "100", "101", "001"], ["000", "010", "110", "100"]]
    wanted = [[corner[tuple(int(d) for d in text)] for text in quad] for quad in digits]
    assert flexible_dual_grid_quads(coords, flags, grid_size=(2, 2, 2)).tolist() == wanted


@pytest.mark.parametrize("missing", range(1, 8))
def test_quad_without_one_of_its_voxels_is_dropped(missing: int) -> None:
    coords = np.array([[0, *cell] for cell in np.ndindex(2, 2, 2)])
    flags = np.zeros((8, 3), bool)
    flags[0] = True
    full = flexible_dual_grid_quads(coords, flags, grid_size=(2, 2, 2))
    kept = np.delete(np.arange(8), missing)
    quads = flexible_dual_grid_quads(coords[kept], flags[kept], grid_size=(2, 2, 2))
    assert kept[quads].tolist() == [quad for quad in full.tolist() if missing not in quad]


def test_neighbours_do_not_wrap_around_the_border_or_into_the_next_sample() -> None:
    # (0, 0, 1) is followed in memory by (0, 1, 0); sample 0's last voxel by sample 1's first.
    coords = np.array([[b, *cell] for b in range(2) for cell in np.ndindex(2, 2, 2)])
    flags = np.ones((16, 3), bool)
    quads = flexible_dual_grid_quads(coords, flags, grid_size=(2, 2, 2))
    assert len(quads) == 2 * 6  # per sample: along each axis one edge line of two cells
    cells = coords[quads]
    assert (np.ptp(cells[:, :, 0], axis=1) == 0).all()
    assert (np.ptp(cells[:, :, 1:], axis=1).sum(axis=1) == 2).all()


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        ([[0, 0, 0, 0], [0, 0, 0, 0]], "twice"),
        ([[0, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]], "twice"),
        ([[0, 0, 0, 4]], "outside"),
        ([[0, -1, 0, 0]], "outside"),
    ],
)
def test_quads_refuse_rows_that_are_no_grid(coords: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flexible_dual_grid_quads(np.array(coords), np.ones((len(coords), 3), bool), grid_size=(4, 4, 4))
