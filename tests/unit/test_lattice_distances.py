"""Distances at all points of a lattice against the closest-point index, which prunes differently."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from shapewright_kernels.closest_point import ClosestPointIndex, closest_point_on_triangle
from shapewright_kernels.lattice_distances import LatticeDistances
from shapewright_kernels.narrow_band import Lattice


def soup(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(40, 3)) * 0.3
    vertices[10:13] = np.outer([0, 1, 2], rng.normal(size=3)) * 0.1  # a face without area
    return vertices, np.vstack(
        [rng.integers(0, 40, (60, 3)), [[10, 11, 12], [4, 4, 5], [6, 6, 6], [0, 1, 2], [1, 0, 2]]]
    )


def ball() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.icosphere(3, 0.3)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces)


def filled(
    vertices: np.ndarray, faces: np.ndarray, lattice: Lattice, threads: int | None = None, planes: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    side = lattice.resolution + 1
    distances = np.full((side, side, side), np.inf)
    nearest = np.full((side, side, side), -1, np.int32)
    exact = LatticeDistances(vertices, faces, lattice)
    for x in range(0, side, planes or side):
        part = slice(x, x + (planes or side))
        exact.fill(x, distances[part], nearest[part], threads=threads)
    return distances, nearest


@pytest.mark.parametrize("resolution", [1, 3, 8, 21])
@pytest.mark.parametrize("mesh", [soup(0), soup(1), ball()], ids=["soup", "other soup", "ball"])
def test_every_point_has_its_exact_distance_and_a_face_at_it(
    resolution: int, mesh: tuple[np.ndarray, np.ndarray]
) -> None:
    lattice = Lattice([-0.5, -0.4, -0.6], np.array([1.0, 1.1, 0.9]) / resolution, resolution)
    distances, nearest = filled(*mesh, lattice)
    points = lattice.points(np.indices(distances.shape).reshape(3, -1).T)
    expected, _, _ = ClosestPointIndex(*mesh).query(points)
    np.testing.assert_allclose(distances.reshape(-1), expected, rtol=0, atol=1e-14)
    own = [
        np.linalg.norm(point - closest_point_on_triangle(point, mesh[0][mesh[1][face]]))
        for point, face in zip(points[::11], nearest.reshape(-1)[::11], strict=True)
    ]
    np.testing.assert_allclose(own, expected[::11], rtol=0, atol=1e-14)


def test_what_is_known_already_is_left_alone() -> None:
    lattice = Lattice(-0.5, 0.1, 10)
    distances, nearest = np.full((11, 11, 11), np.inf), np.full((11, 11, 11), -1, np.int32)
    distances[3:5], nearest[3:5] = 0.125, 7
    LatticeDistances(*ball(), lattice).fill(0, distances, nearest)
    assert (distances[3:5] == 0.125).all()
    assert (nearest[3:5] == 7).all()
    whole, _ = filled(*ball(), lattice)
    assert np.array_equal(distances[5:], whole[5:])


def test_threads_change_nothing_and_portions_only_the_last_bits() -> None:
    lattice = Lattice(-0.5, 1 / 30, 30)
    one, three = (filled(*soup(2), lattice, threads=t) for t in (1, 3))
    assert one[0].tobytes() == three[0].tobytes()
    assert one[1].tobytes() == three[1].tobytes()
    np.testing.assert_allclose(filled(*soup(2), lattice, planes=7)[0], one[0], rtol=0, atol=1e-14)


def test_a_mesh_far_away_and_one_much_larger_than_the_lattice() -> None:
    huge = np.array([[-1e6, -1e6, 0.3], [2e6, -1e6, 0.3], [-1e6, 2e6, 0.3]])
    distances, _ = filled(huge, np.array([[0, 1, 2]]), Lattice(0.0, 0.1, 10))
    np.testing.assert_allclose(distances, np.broadcast_to(abs(np.arange(11) * 0.1 - 0.3), distances.shape), atol=1e-8)
    distances, _ = filled(huge + np.array([0, 0, 1e9]), np.array([[0, 1, 2]]), Lattice(0.0, 0.1, 10))
    np.testing.assert_allclose(distances, 1e9, rtol=1e-6)
