"""Exact closest points: hand cases, degenerate triangles, limits, threads, and a second formula at higher precision."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.closest_point import ClosestPointIndex, closest_point_on_triangle


def extended_distance(point: np.ndarray, triangle: np.ndarray) -> float:
    """Distance by another route (three segments and the plane) in 80-bit arithmetic."""
    wide = np.longdouble
    p, corners = point.astype(wide), triangle.astype(wide)
    best = np.inf
    for i in range(3):
        a, b = corners[i], corners[(i + 1) % 3]
        run = b - a
        squared = (run * run).sum()
        along = min(max(((p - a) * run).sum() / squared, 0), 1) if squared > 0 else 0
        best = min(best, float(np.sqrt((((a + along * run) - p) ** 2).sum())))
    normal = np.cross((corners[1] - corners[0]).astype(wide), (corners[2] - corners[0]).astype(wide))
    area = np.sqrt((normal * normal).sum())
    if area > 0:
        inside = all(
            (np.cross(corners[(i + 1) % 3] - corners[i], p - corners[i]) * normal).sum() >= 0 for i in range(3)
        )
        if inside:
            best = min(best, abs(float(((p - corners[0]) * normal).sum() / area)))
    return best


def soup(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random triangles, a third of them slivers, collinear or single points."""
    triangles = rng.uniform(-0.5, 0.5, (count, 3, 3))
    for row in range(0, count, 3):
        a, b = triangles[row, 0], triangles[row, 1]
        kind = (row // 3) % 4
        if kind == 0:
            triangles[row, 2] = a + rng.uniform() * (b - a)
        elif kind == 1:
            triangles[row, 2] = a + rng.uniform() * (b - a) + rng.normal(size=3) * 1e-9
        elif kind == 2:
            triangles[row, 1:] = a
        else:
            triangles[row, 2] = b
    return triangles.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ((0.25, 0.25, 1.0), (0.25, 0.25, 0.0)),  # face
        ((0.5, -2.0, 0.0), (0.5, 0.0, 0.0)),  # edge
        ((1.0, 1.0, 0.5), (0.5, 0.5, 0.0)),  # longest edge
        ((-1.0, -1.0, 3.0), (0.0, 0.0, 0.0)),  # right angle
        ((4.0, -1.0, 0.0), (1.0, 0.0, 0.0)),  # sharp corner
    ],
)
def test_regions_of_a_right_triangle(point: tuple[float, ...], expected: tuple[float, ...]) -> None:
    corners = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    for turn in range(3):
        got = closest_point_on_triangle(point, np.roll(corners, turn, axis=0))
        np.testing.assert_allclose(got, expected, atol=1e-15)


def test_single_triangle_equals_extended_precision_including_slivers() -> None:
    rng = np.random.default_rng(1)
    vertices, faces = soup(rng, 300)
    for triangle in vertices[faces]:
        for point in (rng.uniform(-1, 1, 3), triangle.mean(axis=0) + 1e-6 * rng.normal(size=3)):
            got = np.linalg.norm(point - closest_point_on_triangle(point, triangle))
            assert abs(got - extended_distance(point, triangle)) < 1e-14


def test_index_equals_brute_force_on_a_soup_with_degenerate_faces() -> None:
    rng = np.random.default_rng(2)
    vertices, faces = soup(rng, 400)
    points = rng.uniform(-1, 1, (60, 3))
    distances, ids, closest = ClosestPointIndex(vertices, faces).query(points)
    for row, point in enumerate(points):
        every = np.array([extended_distance(point, triangle) for triangle in vertices[faces]])
        assert abs(distances[row] - every.min()) < 1e-14
        assert abs(every[ids[row]] - every.min()) < 1e-14
        assert abs(np.linalg.norm(closest[row] - point) - distances[row]) < 1e-14


def test_sliver_keeps_thirteen_digits() -> None:
    """Barycentric formulas lose (length / height) squared digits here; a point on the sliver must be found on it."""
    triangle = np.array([[-0.5, 0.1, 0.3], [0.5, 0.2, -0.1], [0.1, 0.16, 0.06 + 1e-7]])
    inside = triangle.T @ np.array([0.2, 0.3, 0.5])
    assert np.linalg.norm(closest_point_on_triangle(inside, triangle) - inside) < 1e-15


def test_answers_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(3)
    vertices, faces = soup(rng, 500)
    index = ClosestPointIndex(vertices, faces)
    points = rng.normal(size=(9000, 3))
    for one, many in zip(index.query(points, threads=1), index.query(points, threads=3), strict=True):
        np.testing.assert_array_equal(one, many)


def test_limit_cuts_far_points_and_changes_no_near_one() -> None:
    rng = np.random.default_rng(4)
    vertices, faces = soup(rng, 100)
    index = ClosestPointIndex(vertices, faces)
    points = rng.normal(size=(2000, 3))
    distances, ids, closest = index.query(points)
    near = distances <= 0.4
    cut_distances, cut_ids, cut_closest = index.query(points, limit=0.4)
    assert 0 < near.sum() < len(points)
    np.testing.assert_array_equal(cut_distances[near], distances[near])
    np.testing.assert_array_equal(cut_ids[near], ids[near])
    np.testing.assert_array_equal(cut_closest[near], closest[near])
    assert np.isinf(cut_distances[~near]).all()
    assert (cut_ids[~near] == -1).all()
    assert np.isnan(cut_closest[~near]).all()


def test_equally_far_faces_answer_with_the_smallest_id() -> None:
    vertices = [[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]
    index = ClosestPointIndex(vertices, [[0, 1, 2]] * 50)
    points = np.random.default_rng(5).normal(size=(500, 3))
    assert (index.query(points)[1] == 0).all()


def test_many_coincident_faces_build_a_bounded_tree() -> None:
    index = ClosestPointIndex(np.zeros((3, 3)), np.tile([[0, 1, 2]], (10_000, 1)))
    distances, ids, _ = index.query([[3.0, 4.0, 0.0]])
    assert (distances[0], ids[0]) == (5.0, 0)


def test_exponentially_clustered_faces_build_a_bounded_tree() -> None:
    """Centres at 2**-k make the surface area heuristic peel off a few faces a level."""
    scale = 2.0 ** -np.arange(900.0)
    triangles = scale[:, None, None] * np.array([[1.0, 0, 0], [1.1, 0, 0], [1, 0.1, 0]])
    index = ClosestPointIndex(triangles.reshape(-1, 3), np.arange(2700).reshape(-1, 3))
    distances, ids, _ = index.query(triangles.mean(axis=1))
    assert (distances[:40] <= 1e-16).all()
    np.testing.assert_array_equal(ids[:40], np.arange(40))


def test_no_queries_give_empty_answers() -> None:
    distances, ids, closest = ClosestPointIndex(np.eye(3), [[0, 1, 2]]).query(np.zeros((0, 3)))
    assert (distances.shape, ids.shape, closest.shape) == ((0,), (0,), (0, 3))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one face"):
        ClosestPointIndex(np.zeros((0, 3)), np.zeros((0, 3), int))
    with pytest.raises(ValueError, match="finite"):
        ClosestPointIndex([[0.0, 0, np.nan], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    with pytest.raises(ValueError, match="finite"):
        ClosestPointIndex(np.eye(3), [[0, 1, 2]]).query([[np.inf, 0, 0]])


def test_face_at_a_shared_edge_does_not_depend_on_rounding() -> None:
    """Points above the ridge of a roof are equally far from both slopes, up to the last bit."""
    roof = np.array([[-0.5, 0, 0.1], [0.5, 0, 0.1], [0, -0.3, 0], [0.1, 0.7, 0]])
    faces = [[0, 1, 2], [1, 0, 3]]
    along = np.linspace(-0.4, 0.4, 200)
    above = np.stack([along, 0.01 * along, 1.0 + along], axis=1)
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
    for matrix, shift in ((np.eye(3), 0.0), (turn, 0.0), (np.eye(3), 7.3), (1e-6 * turn, 0.0)):
        index = ClosestPointIndex(roof @ matrix + shift, faces)
        assert (index.query(above @ matrix + shift)[1] == 0).all()


def test_touching_sheets_are_told_apart_by_normal() -> None:
    """Two coincident squares with other diagonals and opposite normals, as where two solids touch."""
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    normals = np.array([[0.0, 0, 1]] * 2 + [[0.0, 0, -1]] * 2)
    index = ClosestPointIndex(vertices, faces, normals)
    points = np.random.default_rng(7).uniform(-0.2, 1.2, (500, 3)) * [1, 1, 0.1]
    for side, expected in ((1.0, [0, 1]), (-1.0, [2, 3])):
        distances, ids, _ = index.query(points, normals=np.tile([0.0, 0.0, side], (500, 1)))
        assert np.isin(ids, expected).all()
        np.testing.assert_allclose(distances, index.query(points)[0], atol=1e-15)
    with pytest.raises(ValueError, match="build the index with normals"):
        ClosestPointIndex(vertices, faces).query(points, normals=np.tile([0.0, 0.0, 1.0], (500, 1)))
