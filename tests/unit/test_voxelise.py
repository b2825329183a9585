"""Surface voxels against an independent clipping test."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from shapewright_kernels.voxelise import surface_voxels


def clipped_area_touches(triangle: np.ndarray, cell: np.ndarray) -> bool:
    """Clip the triangle to the closed unit cube (Sutherland-Hodgman): what is left, if anything, touches the cell."""
    polygon = list(triangle)
    for axis in range(3):
        for sign, bound in ((1, cell[axis]), (-1, -(cell[axis] + 1))):
            kept = []
            for one, two in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                a, b = sign * one[axis] - bound, sign * two[axis] - bound
                if a >= 0:
                    kept.append(one)
                if (a > 0 > b) or (a < 0 < b):
                    kept.append(one + (two - one) * a / (a - b))
            polygon = kept
            if not polygon:
                return False
    return True


def brute_force(triangles: np.ndarray, resolution: int) -> set[tuple[int, int, int]]:
    found = set()
    for cell in np.ndindex(resolution, resolution, resolution):
        if any(clipped_area_touches(t, np.array(cell)) for t in triangles):
            found.add(cell)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_surface_voxels_equal_brute_force_clipping(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-1, 7, (30, 3))
    faces = rng.integers(0, 30, (6, 3))  # repeated corners make segments and points
    voxels = surface_voxels(vertices, faces, 0.0, 1.0, 6)
    assert set(map(tuple, voxels.tolist())) == brute_force(vertices[faces], 6)


def test_face_in_a_lattice_plane_marks_both_sides() -> None:
    square = np.array([[1.25, 1.25, 2], [1.75, 1.25, 2], [1.75, 1.75, 2]])
    assert surface_voxels(square, np.array([[0, 1, 2]]), 0.0, 1.0, 4).tolist() == [[1, 1, 1], [1, 1, 2]]


def test_point_on_a_lattice_corner_marks_eight_cells_across_slabs() -> None:
    point = np.full((1, 3), 8.0)
    assert len(surface_voxels(point, np.array([[0, 0, 0]]), 0.0, 1.0, 16)) == 8


def test_order_is_lexicographic_and_threads_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    vertices, faces = rng.uniform(-0.6, 0.6, (90, 3)), rng.integers(0, 90, (80, 3))
    one, three = (surface_voxels(vertices, faces, -0.5, 1 / 70, 70, threads=t) for t in (1, 3))
    assert np.array_equal(one, three)
    assert one.dtype == np.int32
    assert np.array_equal(one, np.unique(one, axis=0))
    assert one.min() == 0
    assert one.max() == 69


def test_number_of_voxels_grows_with_area_not_volume() -> None:
    corners = np.array([[-0.43, -0.41, 0.3], [0.44, -0.4, -0.2], [0.1, 0.45, 0.33]])
    counts = [len(surface_voxels(corners, np.array([[0, 1, 2]]), -0.5, 1 / r, r)) for r in (64, 128, 256)]
    for coarse, fine in pairwise(counts):
        assert 3.7 < fine / coarse < 4.1


def test_cells_may_be_longer_along_one_axis() -> None:
    corner = np.array([[0.9, 0.9, 0.9]])
    assert surface_voxels(corner, np.array([[0, 0, 0]]), 0.0, [0.5, 0.25, 1.0], 4).tolist() == [[1, 3, 0]]


def test_empty_mesh_has_no_voxels() -> None:
    assert surface_voxels(np.zeros((3, 3)), np.zeros((0, 3), np.int64), 0.0, 1.0, 4).shape == (0, 3)
