"""Kernels under the metrics: canonical surfaces, rays, creases, nearest neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.bvh import Bvh, build_bvh
from shapewright_kernels.canonical import canonical_surface, position_ranks
from shapewright_kernels.creases import (
    collapse_short_edges,
    merged_mesh,
    ordered_segments,
    segment_index,
    sharp_edges,
)
from shapewright_kernels.nearest_neighbour import NearestNeighbourIndex
from shapewright_kernels.rays import crossing_numbers, escapes, fibonacci_directions
from shapewright_kernels.winding import winding_numbers

CUBE = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)]) - 0.5
CUBE_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def tree(corners: np.ndarray) -> Bvh:
    return build_bvh(corners.min(axis=1), corners.max(axis=1))


def bumpy_ball(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    hull = pytest.importorskip("scipy.spatial").ConvexHull
    directions = rng.normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    faces = hull(directions).simplices.astype(np.int64)
    a, b, c = directions[faces[:, 0]], directions[faces[:, 1]], directions[faces[:, 2]]
    inward = (np.cross(b - a, c - a) * a).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return directions * rng.uniform(0.2, 0.5, (300, 1)), faces


# --- canonical surfaces -----------------------------------------------------------------------------------------------
def test_canonical_surface_does_not_depend_on_storage() -> None:
    rng = np.random.default_rng(0)
    vertices, faces = bumpy_ball(rng)
    names = rng.permutation(len(vertices))
    shuffled_vertices = np.empty_like(vertices)
    shuffled_vertices[names] = vertices
    shuffled = names[faces][rng.permutation(len(faces))]
    shuffled = np.stack([np.roll(face, rng.integers(3)) for face in shuffled])
    first, second = canonical_surface(vertices, faces), canonical_surface(shuffled_vertices, shuffled)
    for name in ("corners", "weights", "normals", "areas"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_canonical_normals_follow_the_stored_winding() -> None:
    surface = canonical_surface(CUBE, CUBE_FACES)
    centres = surface.corners.mean(axis=1)
    np.testing.assert_allclose((surface.normals * centres).sum(axis=1), 0.5, atol=1e-15)
    flipped = canonical_surface(CUBE, CUBE_FACES[:, ::-1])
    np.testing.assert_array_equal(flipped.normals, -surface.normals)
    np.testing.assert_array_equal(flipped.weights, -surface.weights)
    assert surface.areas.sum() == pytest.approx(6.0)


def test_copies_and_flat_faces_leave_and_are_weighed() -> None:
    faces = np.concatenate([CUBE_FACES, CUBE_FACES[3:4], CUBE_FACES[5:6, ::-1], [[0, 0, 1]]])
    plain, surface = canonical_surface(CUBE, CUBE_FACES), canonical_surface(CUBE, faces)
    np.testing.assert_array_equal(surface.corners, plain.corners)
    weights = dict(zip(surface.source.tolist(), np.abs(surface.weights).tolist(), strict=True))
    assert weights.pop(3) == 2
    assert [w for w in weights.values() if w != 1] == [0]


def test_position_order_survives_scaling_and_moving() -> None:
    rng = np.random.default_rng(1)
    points = rng.integers(0, 9, (500, 3)) / 8.0
    ranks = position_ranks(points)
    for moved in (points * 1e6, points * 1e-6, points + 1e3, points / 3 + 0.1):
        np.testing.assert_array_equal(position_ranks(moved), ranks)
    assert len(np.unique(ranks)) == len(np.unique(points, axis=0))
    np.testing.assert_array_equal(ranks, np.unique(points, axis=0, return_inverse=True)[1].reshape(-1))


# --- rays -------------------------------------------------------------------------------------------------------------
def test_crossings_equal_winding_numbers_of_a_closed_surface() -> None:
    rng = np.random.default_rng(2)
    vertices, faces = bumpy_ball(rng)
    points = rng.uniform(-0.5, 0.5, (3000, 3))
    for stored in (faces, faces[:, ::-1]):
        surface = canonical_surface(vertices, stored)
        numbers = crossing_numbers(tree(surface.corners), surface.corners, surface.weights, points)
        np.testing.assert_array_equal(numbers, winding_numbers(points, vertices, stored, accuracy=np.inf).round())
    assert 0 < np.count_nonzero(numbers) < len(points)


def test_crossings_through_edges_and_vertices_are_counted_once() -> None:
    surface = canonical_surface(CUBE, CUBE_FACES)
    axis = np.linspace(-0.5, 0.5, 5)
    points = np.stack(np.meshgrid(axis, axis, [-0.75, 0.1, 0.75], indexing="ij"), axis=-1)
    numbers = crossing_numbers(tree(surface.corners), surface.corners, surface.weights, points.reshape(-1, 3))
    numbers = numbers.reshape(5, 5, 3)
    assert (numbers[:, :, [0, 2]] == 0).all()  # below and above, also on lines that hold edges and corners
    assert (numbers[1:4, 1:4, 1] == 1).all()


def test_wall_stored_for_both_rooms_does_not_split_the_volume() -> None:
    """Two cubes that share a wall, each closed: outside one wall the winding number stays 1 across it."""
    shifted = CUBE + np.array([1.0, 0.0, 0.0])
    surface = canonical_surface(np.concatenate([CUBE, shifted]), np.concatenate([CUBE_FACES, CUBE_FACES + 8]))
    assert len(surface.corners) == 22
    points = np.array([[0.0, 0.01, 0], [0.499, 0.01, 0], [0.501, 0.01, 0], [1.2, 0.01, 0], [1.6, 0.01, 0]])
    numbers = crossing_numbers(tree(surface.corners), surface.corners, surface.weights, points)
    assert numbers.tolist() == [1, 1, 1, 1, 0]


def test_points_in_a_closed_box_cannot_escape_until_a_wall_opens() -> None:
    rng = np.random.default_rng(3)
    corners = CUBE[CUBE_FACES]
    points = rng.uniform(-0.49, 0.49, (400, 3))
    directions = fibonacci_directions(128)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert not escapes(tree(corners), corners, points, directions, skip=1e-7).any()
    assert escapes(tree(corners[2:]), corners[2:], points, directions, skip=1e-7).mean() > 0.9
    assert escapes(tree(corners), corners, points + 2.0, directions, skip=1e-7).all()


def test_escape_starts_beyond_its_own_face() -> None:
    corners = CUBE[CUBE_FACES]
    on_faces = corners.mean(axis=1)
    assert escapes(tree(corners), corners, on_faces, fibonacci_directions(128), skip=1e-7).all()


def test_rays_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(4)
    vertices, faces = bumpy_ball(rng)
    surface = canonical_surface(vertices, faces)
    points = rng.uniform(-0.5, 0.5, (3000, 3))
    box, directions = tree(surface.corners), fibonacci_directions(16)
    one, many = (escapes(box, surface.corners, points, directions, skip=1e-5, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, many)
    one, many = (crossing_numbers(box, surface.corners, surface.weights, points, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one, many)


# --- creases ----------------------------------------------------------------------------------------------------------
def test_cube_has_twelve_creases_and_no_diagonal() -> None:
    mesh = merged_mesh(CUBE, CUBE_FACES)
    ends = mesh.vertices[mesh.topology.edges[sharp_edges(mesh, 30.0)]]
    assert len(ends) == 12
    np.testing.assert_allclose(np.linalg.norm(np.diff(ends, axis=1)[:, 0], axis=1), 1.0)


def test_creases_do_not_depend_on_the_winding() -> None:
    faces = CUBE_FACES.copy()
    faces[::3] = faces[::3, ::-1]
    mesh = merged_mesh(CUBE, faces)
    assert mesh.topology.inconsistent.any()
    assert int(sharp_edges(mesh, 30.0).sum()) == 12


@pytest.mark.parametrize(("bend", "expected"), [(29.0, 0), (31.0, 1), (179.0, 1)])
def test_crease_threshold_is_the_angle_by_which_the_surface_bends(bend: float, expected: int) -> None:
    angle = np.radians(bend)
    vertices = [[0, 0, 0], [0, 1, 0], [-1, 0.5, 0], [np.cos(angle), 0.5, np.sin(angle)]]
    for second in ([1, 0, 3], [0, 1, 3]):
        assert int(sharp_edges(merged_mesh(vertices, [[0, 1, 2], second]), 30.0).sum()) == expected


def test_collapsing_short_edges_removes_a_speck() -> None:
    """A tiny pyramid on a flat square: its creases are noise and go, the square stays."""
    speck = 1e-5
    vertices = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [0, 0, 0], [speck, 0, 0], [0, speck, speck]])
    faces = [[0, 1, 5], [1, 2, 5], [2, 6, 5], [2, 3, 6], [3, 4, 6], [3, 0, 4], [0, 5, 4], [4, 5, 6]]
    mesh = merged_mesh(vertices, faces)
    assert sharp_edges(mesh, 30.0).any()
    clean = collapse_short_edges(mesh, 1e-4)
    assert not sharp_edges(clean, 30.0).any()
    assert len(clean.faces) == 4
    assert int(clean.topology.boundary.sum()) == 4


def test_segments_are_exact_including_points() -> None:
    rng = np.random.default_rng(5)
    ends = rng.normal(size=(200, 2, 3))
    ends[::10, 1] = ends[::10, 0]
    points = rng.normal(size=(300, 3))
    run = ends[:, 1] - ends[:, 0]
    squared = np.maximum((run**2).sum(axis=1), 1e-300)
    along = np.clip(((points[:, None] - ends[:, 0]) * run).sum(axis=2) / squared, 0, 1)
    brute = np.linalg.norm(points[:, None] - ends[:, 0] - along[..., None] * run, axis=2).min(axis=1)
    np.testing.assert_allclose(segment_index(ends).query(points)[0], brute, atol=1e-14)


def test_ordered_segments_forget_the_numbering() -> None:
    rng = np.random.default_rng(6)
    ends = rng.integers(0, 4, (60, 2, 3)).astype(float)
    ends = np.unique(ends[(ends[:, 0] != ends[:, 1]).any(axis=1)], axis=0)
    turned = np.where(rng.random((len(ends), 1, 1)) < 0.5, ends[:, ::-1], ends)[rng.permutation(len(ends))]
    np.testing.assert_array_equal(ordered_segments(ends)[0], ordered_segments(turned)[0])
    found, rows = ordered_segments(turned)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(turned[rows], axis=1))


# --- nearest neighbours -----------------------------------------------------------------------------------------------
def test_nearest_neighbours_equal_brute_force() -> None:
    rng = np.random.default_rng(7)
    points = np.concatenate([rng.normal(size=(800, 3)), rng.normal(size=(200, 3)) * 1e-4, np.ones((50, 3))])
    queries = np.concatenate([rng.normal(size=(300, 3)) * 2, points[::20]])
    every = np.linalg.norm(queries[:, None] - points, axis=2)
    distances, ids = NearestNeighbourIndex(points).query(queries)
    np.testing.assert_allclose(distances, every.min(axis=1), rtol=1e-15)
    np.testing.assert_array_equal(ids, every.argmin(axis=1))


def test_nearest_neighbours_do_not_depend_on_the_number_of_threads() -> None:
    rng = np.random.default_rng(8)
    index = NearestNeighbourIndex(rng.normal(size=(5000, 3)))
    queries = rng.normal(size=(9000, 3))
    for one, many in zip(index.query(queries, threads=1), index.query(queries, threads=3), strict=True):
        np.testing.assert_array_equal(one, many)


def test_nearest_neighbours_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        NearestNeighbourIndex(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="finite"):
        NearestNeighbourIndex(np.zeros((1, 3))).query([[np.nan, 0, 0]])
    assert NearestNeighbourIndex(np.zeros((1, 3))).query(np.zeros((0, 3)))[1].shape == (0,)


def test_crowded_positions_have_one_order() -> None:
    """Many positions within one step of the order: ranks still name positions, whatever order they come in."""
    rng = np.random.default_rng(7)
    crowd = rng.integers(0, 6, (400, 3)) * 1e-9
    points = np.concatenate([crowd, [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]])
    ranks = position_ranks(points)
    assert len(np.unique(ranks)) == len(np.unique(points, axis=0))
    shuffle = rng.permutation(len(points))
    np.testing.assert_array_equal(position_ranks(points[shuffle]), ranks[shuffle])
