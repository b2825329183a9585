"""Generalised winding numbers against hand-computed values and the exact sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from shapewright_kernels.narrow_band import Lattice
from shapewright_kernels.winding import build_winding_index, winding_numbers
from shapewright_kernels.winding_bricks import lattice_windings
from shapewright_kernels.winding_sums import add_node, arc_tangent

CUBE_VERTICES = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
CUBE_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
     [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def test_cube_has_winding_one_inside_and_zero_outside() -> None:
    points = np.array([[0.5, 0.5, 0.5], [0.01, 0.99, 0.5], [1.01, 0.5, 0.5], [-3.0, 2.0, 9.0]])
    for accuracy in (2.5, math.inf):
        np.testing.assert_allclose(
            winding_numbers(points, CUBE_VERTICES, CUBE_FACES, accuracy=accuracy), [1, 1, 0, 0], atol=1e-4
        )


def test_winding_on_the_surface_is_the_share_of_directions_that_point_inside() -> None:
    on_face, on_edge, on_corner = [0.25, 0.5, 1.0], [0.0, 0.0, 0.5], [1.0, 1.0, 1.0]
    winding = winding_numbers(np.array([on_face, on_edge, on_corner]), CUBE_VERTICES, CUBE_FACES, accuracy=math.inf)
    np.testing.assert_allclose(winding, [1 / 2, 1 / 4, 1 / 8], atol=1e-12)


def test_flipping_all_faces_negates_the_winding_number_exactly() -> None:
    points = np.random.default_rng(0).uniform(-0.5, 1.5, (200, 3))
    there = winding_numbers(points, CUBE_VERTICES, CUBE_FACES, accuracy=math.inf)
    back = winding_numbers(points, CUBE_VERTICES, CUBE_FACES[:, ::-1], accuracy=math.inf)
    np.testing.assert_allclose(there, -back, atol=1e-14)


def test_nested_boxes_add_up() -> None:
    inner = CUBE_VERTICES * 0.5 + 0.25
    vertices, faces = np.vstack([CUBE_VERTICES, inner]), np.vstack([CUBE_FACES, CUBE_FACES + 8])
    winding = winding_numbers(np.array([[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]]), vertices, faces)
    np.testing.assert_allclose(winding, [2, 1], atol=1e-12)


def test_open_square_seen_from_its_axis_covers_the_known_solid_angle() -> None:
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    height = 0.5
    expected = 4 * math.asin(1 / (1 + height**2)) / (4 * math.pi)  # square pyramid of half side 1
    winding = winding_numbers(np.array([[0, 0, -height], [0, 0, height]]), vertices, faces)
    np.testing.assert_allclose(winding, [expected, -expected], atol=1e-12)


@pytest.mark.parametrize("faces", [9, 400, 3000])
def test_hierarchy_stays_close_to_the_exact_sum_on_soups(faces: int) -> None:
    rng = np.random.default_rng(faces)
    vertices = rng.normal(size=(faces, 3)) * 0.1 + rng.normal(size=(faces, 1)) * [1, 2, 0]
    soup = rng.integers(0, faces, (faces, 3))  # long, crossing and repeated-index triangles
    points = rng.normal(size=(500, 3))
    exact = winding_numbers(points, vertices, soup, accuracy=math.inf)
    errors = [np.abs(winding_numbers(points, vertices, soup, accuracy=a) - exact).max() for a in (1.5, 2.5, 5.0)]
    assert errors[1] < 0.01
    assert errors[2] < 1e-3
    assert errors[2] <= errors[0]


def test_empty_mesh_and_degenerate_faces_wind_around_nothing() -> None:
    points = np.random.default_rng(1).normal(size=(20, 3))
    assert not winding_numbers(points, np.zeros((3, 3)), np.zeros((0, 3), np.int64)).any()
    line = np.outer(np.linspace(0, 1, 50), [1.0, 2.0, 3.0])
    faces = np.stack([np.arange(48), np.arange(48) + 1, np.arange(48) + 2], axis=1)
    np.testing.assert_allclose(winding_numbers(points, line, faces), 0, atol=1e-9)


def test_thread_count_does_not_change_a_bit() -> None:
    rng = np.random.default_rng(3)
    vertices, faces = rng.normal(size=(300, 3)), rng.integers(0, 300, (500, 3))
    points = rng.normal(size=(9000, 3))
    one, three = (winding_numbers(points, vertices, faces, threads=t) for t in (1, 3))
    assert np.array_equal(one, three)


def test_accuracy_below_the_converging_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1\.5"):
        winding_numbers(np.zeros((1, 3)), CUBE_VERTICES, CUBE_FACES, accuracy=0.5)


@pytest.mark.parametrize("resolution", [20, 100])
def test_bricks_reproduce_the_exact_winding_number_of_open_surfaces(resolution: int) -> None:
    rng = np.random.default_rng(7)
    vertices = rng.uniform(-0.5, 0.5, (60, 3))
    faces = np.arange(60).reshape(-1, 3)  # large loose triangles: near ones and far ones in every brick
    lattice = Lattice(-0.5, 1 / resolution, resolution)
    block = np.indices((24, 24, 21), dtype=np.int32).reshape(3, -1).T + np.array([0, resolution // 3, 0], np.int32)
    coords = block[(block <= resolution).all(axis=1)]
    found = lattice_windings(build_winding_index(vertices, faces), coords, lattice)
    exact = winding_numbers(lattice.points(coords), vertices, faces, accuracy=math.inf)
    assert np.ptp(exact) > 0.5
    assert np.abs(found - exact).max() < 5e-3


def test_bricks_with_many_near_triangles_reproduce_the_exact_winding_number() -> None:
    rng = np.random.default_rng(9)
    corners = rng.uniform(-0.5, 0.5, (2000, 1, 3)) + rng.uniform(-0.05, 0.05, (2000, 3, 3))
    vertices, faces = corners.reshape(-1, 3), np.arange(6000).reshape(-1, 3)
    lattice = Lattice(-0.5, 1 / 40, 40)
    coords = np.indices((16, 16, 16), dtype=np.int32).reshape(3, -1).T  # whole bricks, each near hundreds of faces
    found = lattice_windings(build_winding_index(vertices, faces), coords, lattice)
    exact = winding_numbers(lattice.points(coords), vertices, faces, accuracy=math.inf)
    assert np.abs(found - exact).max() < 5e-3


def test_arc_tangent_in_all_directions() -> None:
    angles = np.linspace(-math.pi, math.pi, 1001)[1:-1]
    found = [arc_tangent(3 * math.sin(angle), 3 * math.cos(angle)) for angle in angles]
    np.testing.assert_allclose(found, angles, atol=1e-8)


def test_bricks_do_not_depend_on_order_or_threads() -> None:
    rng = np.random.default_rng(8)
    vertices, faces = rng.uniform(-0.5, 0.5, (60, 3)), np.arange(60).reshape(-1, 3)
    lattice = Lattice(-0.5, 1 / 60, 60)
    coords = np.indices((30, 30, 30), dtype=np.int32).reshape(3, -1).T
    index = build_winding_index(vertices, faces)
    shuffle = rng.permutation(len(coords))
    one, three = (lattice_windings(index, coords, lattice, threads=t) for t in (1, 3))
    assert one.tobytes() == three.tobytes()
    assert np.array_equal(lattice_windings(index, coords[shuffle], lattice), one[shuffle])


def test_error_of_a_far_node_falls_with_the_fifth_power_of_its_distance() -> None:
    """Moments up to the second are kept; the first that is dropped goes with the fifth power."""
    rng = np.random.default_rng(11)
    soup = rng.uniform(-0.5, 0.5, (240, 3)), np.arange(240).reshape(-1, 3)  # 80 triangles: from leaves up to the root
    index = build_winding_index(*soup)
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    errors = []
    for distance in (10.0, 100.0):
        points = index.centres[0] + distance * directions
        exact = winding_numbers(points, *soup, accuracy=math.inf)
        errors.append(np.abs(index.query(points) - exact).max())
        many = np.zeros(len(points))
        add_node(index.centres, index.moments, 0, *(np.ascontiguousarray(axis) for axis in points.T), many)
        np.testing.assert_allclose(many / (4 * math.pi), index.query(points), rtol=1e-9, atol=1e-15)
    assert 0 < errors[1] < errors[0] / 5e4
