"""The narrow band against hand-computed distances and a brute-force reference in plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shapewright_kernels.narrow_band import Lattice, closest_points, narrow_band


def segment_distances(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    along = b - a
    length = along @ along
    t = np.clip((points - a) @ along / length, 0, 1) if length > 0 else np.zeros(len(points))
    return np.linalg.norm(points - a - t[:, None] * along, axis=1)


def triangle_distances(points: np.ndarray, triangle: np.ndarray) -> np.ndarray:
    """Distance by projecting on the plane where the projection falls inside, else to the nearest edge."""
    a, b, c = triangle
    result = np.min([segment_distances(points, *pair) for pair in ((a, b), (b, c), (c, a))], axis=0)
    basis = np.stack([b - a, c - a], axis=1)
    if np.linalg.matrix_rank(basis) == 2:
        weights, *_ = np.linalg.lstsq(basis, (points - a).T, rcond=None)
        inside = (weights.min(axis=0) >= 0) & (weights.sum(axis=0) <= 1)
        heights = np.linalg.norm((points - a).T - basis @ weights, axis=0)
        result[inside] = heights[inside]
    return result


def brute_force(vertices: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.min([triangle_distances(points, vertices[face]) for face in faces], axis=0)


def all_coords(resolution: int) -> np.ndarray:
    return np.indices((resolution + 1,) * 3).reshape(3, -1).T


def test_distance_to_a_triangle_from_its_face_edges_and_corners() -> None:
    triangle = np.array([[1, 1, 1], [3, 1, 1], [1, 3, 1]], float)
    near = narrow_band(triangle, np.array([[0, 1, 2]]), Lattice(0.0, 1.0, 4), band=10)
    distance = {tuple(c): d for c, d in zip(near.coords.tolist(), near.distances, strict=True)}
    assert len(distance) == 125
    assert distance[1, 1, 1] == pytest.approx(0, abs=1e-15)  # corner
    assert distance[2, 1, 3] == pytest.approx(2)  # above an edge
    assert distance[2, 2, 1] == pytest.approx(0, abs=1e-15)  # middle of the hypotenuse
    assert distance[3, 3, 1] == pytest.approx(math.sqrt(2))  # beyond the hypotenuse
    assert distance[0, 0, 0] == pytest.approx(math.sqrt(3))  # beyond a corner
    assert distance[4, 1, 1] == pytest.approx(1)
    assert distance[2, 2, 4] == pytest.approx(3)


@pytest.mark.parametrize("resolution", [1, 7, 8, 19])
@pytest.mark.parametrize("seed", range(3))
def test_band_equals_brute_force_on_soups_with_degenerate_faces(resolution: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(20, 3)) * 0.4
    vertices[10:13] = np.outer([0, 1, 2], rng.normal(size=3)) * 0.2  # a face without area
    faces = np.vstack([rng.integers(0, 20, (12, 3)), [[10, 11, 12], [4, 4, 5], [6, 6, 6], [0, 1, 2], [1, 0, 3]]])
    lattice = Lattice([-0.5, -0.4, -0.6], np.array([1.0, 1.1, 0.9]) / resolution, resolution)
    coords = all_coords(resolution)
    expected = brute_force(vertices, faces, lattice.points(coords))
    near = narrow_band(vertices, faces, lattice, band=2.5)
    kept = expected <= 2.5 * lattice.spacing.max()
    assert np.array_equal(near.coords, coords[kept])
    np.testing.assert_allclose(near.distances, expected[kept], atol=1e-13)
    own = [
        triangle_distances(point[None], vertices[faces[face]])[0]
        for point, face in zip(lattice.points(near.coords[::7]), near.faces[::7], strict=True)
    ]
    np.testing.assert_allclose(own, near.distances[::7], atol=1e-13)


def test_every_cell_that_the_surface_touches_has_all_its_corners_in_the_default_band() -> None:
    from shapewright_kernels.voxelise import surface_voxels

    rng = np.random.default_rng(5)
    vertices, faces = rng.uniform(-0.4, 0.4, (9, 3)), rng.integers(0, 9, (5, 3))
    cells = surface_voxels(vertices, faces, -0.5, 1 / 40, 40)
    near = set(map(tuple, narrow_band(vertices, faces, Lattice(-0.5, 1 / 40, 40)).coords.tolist()))
    corners = (cells[:, None] + np.indices((2, 2, 2)).reshape(3, -1).T).reshape(-1, 3)
    assert len(cells) > 100
    assert set(map(tuple, corners.tolist())) <= near


def test_slivers_keep_float64_precision() -> None:
    triangle = np.array([[-0.4, 0.01, 0.02], [0.45, 0.013, 0.021], [0.1, 0.01 + 1e-9, 0.02]])
    lattice = Lattice(-0.5, 1 / 16, 16)
    near = narrow_band(triangle, np.array([[0, 1, 2]]), lattice, band=4)
    points = lattice.points(near.coords)
    bound = np.minimum.reduce([segment_distances(points, triangle[i], triangle[(i + 1) % 3]) for i in range(3)])
    assert np.abs(near.distances - bound).max() < 2e-9  # the face is no wider than that


def test_closest_points_lie_at_the_distance_and_on_the_face() -> None:
    rng = np.random.default_rng(2)
    vertices, faces = rng.normal(size=(20, 3)), rng.integers(0, 20, (30, 3))
    lattice = Lattice(-1.0, 0.1, 20)
    near = narrow_band(vertices, faces, lattice, band=3)
    points = lattice.points(near.coords)
    closest = closest_points(points, near.faces, vertices[faces])
    np.testing.assert_allclose(np.linalg.norm(points - closest, axis=1), near.distances, atol=1e-14)
    assert max(brute_force(vertices, faces[f : f + 1], c[None])[0] for f, c in zip(near.faces, closest)) < 1e-14


def test_mesh_outside_of_the_lattice_gives_an_empty_band() -> None:
    far = np.array([[1e30, 1e30, 1e30], [1e30, 2e30, 1e30], [2e30, 1e30, 1e30]])
    assert len(narrow_band(far, np.array([[0, 1, 2]]), Lattice(-0.5, 0.1, 10)).coords) == 0
    beside = np.array([[0.0, 0.0, 9.0], [1.0, 0.0, 9.0], [0.0, 1.0, 9.0]])
    assert len(narrow_band(beside, np.array([[0, 1, 2]]), Lattice(-0.5, 0.1, 10)).coords) == 0


def test_a_triangle_much_larger_than_the_lattice_is_clipped_to_it() -> None:
    huge = np.array([[-1e6, -1e6, 0.3], [2e6, -1e6, 0.3], [-1e6, 2e6, 0.3]])
    near = narrow_band(huge, np.array([[0, 1, 2]]), Lattice(0.0, 0.1, 10), band=1.75)
    assert sorted(set(near.coords[:, 2].tolist())) == [2, 3, 4]
    assert len(near.coords) == 3 * 11 * 11


def test_lattices_without_cells_or_spacing_are_refused() -> None:
    with pytest.raises(ValueError, match="resolution must be at least 1"):
        Lattice(0.0, 1.0, 0)
    with pytest.raises(ValueError, match="spacing must be positive"):
        Lattice(0.0, [1.0, 0.0, 1.0], 4)


@pytest.mark.parametrize("side", [(0, -1), (0, 1), (1, -1), (1, 1), (2, -1), (2, 1)])
def test_faces_beside_the_lattice_reach_into_it_from_every_side(side: tuple[int, int]) -> None:
    axis, sign = side
    triangles = np.random.default_rng(3).uniform(0.0, 1.0, (6, 3, 3))
    triangles[..., axis] = 0.5 + sign * (0.58 + 0.04 * triangles[..., axis])  # outside, about two cells away
    vertices, faces = triangles.reshape(-1, 3), np.arange(18).reshape(-1, 3)
    lattice, coords = Lattice(0.0, 1 / 20, 20), all_coords(20)
    expected = brute_force(vertices, faces, lattice.points(coords))
    near = narrow_band(vertices, faces, lattice, band=2.5)
    assert np.array_equal(near.coords, coords[expected <= 2.5 / 20])
    np.testing.assert_allclose(near.distances, expected[expected <= 2.5 / 20], atol=1e-13)
    assert set(near.coords[:, axis].tolist()) == ({0} if sign < 0 else {20})
