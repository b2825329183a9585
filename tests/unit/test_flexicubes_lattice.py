"""Sparse voxels, their corners, mesh crossings and signs, against plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.flexicubes_features import Weights, feature_rows, neutral_weights
from shapewright_kernels.flexicubes_hits import lattice_hits
from shapewright_kernels.flexicubes_sheets import oriented_sheets
from shapewright_kernels.flexicubes_signs import consistent_signs, contradictions, corner_steps
from shapewright_kernels.flexicubes_tables import CORNERS
from shapewright_kernels.flexicubes_targets import bent_quads, rim_vertices, single_face
from shapewright_kernels.flexicubes_topology import topology
from shapewright_kernels.flexicubes_trim import real_voxels
from shapewright_kernels.flexicubes_voxels import complete_voxels, mixed_voxels, voxel_corners
from shapewright_kernels.pseudonormal import pseudonormal_signs
from shapewright_kernels.voxelise import surface_voxels
from shapewright_plugins.datasets.sheets import moebius_strip
from shapewright_plugins.datasets.triangles import icosphere
from shapewright_plugins.sparseflex import state

SHAPE = (9, 10, 12)


def random_voxels(seed: int, count: int = 200) -> np.ndarray:
    return np.unique(np.random.default_rng(seed).integers(0, 9, (count, 3)).astype(np.int32), axis=0)


@pytest.mark.parametrize("threads", [1, 4])
def test_voxel_corners_are_the_unique_corners(threads: int) -> None:
    voxels = random_voxels(0)
    corners, cubes = voxel_corners(voxels, SHAPE, threads=threads)
    expected, rows = np.unique((voxels[:, None] + CORNERS).reshape(-1, 3), axis=0, return_inverse=True)
    assert np.array_equal(corners, expected)
    assert np.array_equal(cubes, rows.reshape(-1, 8))


@pytest.mark.parametrize("threads", [1, 4])
def test_complete_voxels_have_all_corners_and_both_signs(threads: int) -> None:
    points, _ = voxel_corners(random_voxels(1), SHAPE)
    inside = np.random.default_rng(2).random(len(points)) < 0.3
    voxels, cubes = complete_voxels(points, inside, SHAPE, threads=threads)
    side = {tuple(point): bool(value) for point, value in zip(points.tolist(), inside, strict=True)}
    expected = []
    for x, y, z in np.ndindex(*SHAPE):
        signs = {side.get((x + a, y + b, z + c)) for a, b, c in CORNERS.tolist()}
        if signs == {True, False}:
            expected.append([x, y, z])
    assert voxels.tolist() == expected
    assert np.array_equal(points[cubes], voxels[:, None] + CORNERS)


def test_mixed_voxels_of_a_dense_lattice() -> None:
    inside = np.random.default_rng(3).random((5, 6, 7)) < 0.1
    windows = np.lib.stride_tricks.sliding_window_view(inside, (2, 2, 2)).sum(axis=(3, 4, 5))
    assert np.array_equal(mixed_voxels(inside), np.argwhere((windows > 0) & (windows < 8)))


def test_unsorted_or_outside_voxels_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 is not"):
        voxel_corners(np.array([[1, 0, 0], [0, 0, 0]], np.int32), SHAPE)
    with pytest.raises(ValueError, match="must lie in"):
        voxel_corners(np.array([[9, 0, 0]], np.int32), SHAPE)


def sphere_lattice(radius: float, lower: float = 0.0):  # type: ignore[no-untyped-def]
    ball = icosphere(3, radius)
    vertices, faces = ball.vertices + 8 + lower, ball.faces
    voxels = surface_voxels(vertices, faces, 0.0, 1.0, 16)
    corners, cubes = voxel_corners(voxels, (16, 16, 16))
    return vertices, faces, corners, cubes


@pytest.mark.parametrize("shift", [0.0, 0.137])
def test_crossings_of_a_closed_mesh_are_where_its_inside_changes(shift: float) -> None:
    """Shift 0 puts lattice points onto symmetric edges of the mesh; parity must still close up."""
    vertices, faces, corners, cubes = sphere_lattice(5.3, shift)
    hits = lattice_hits(vertices, faces, corners)
    odd = hits.parity()
    index = ClosestPointIndex(vertices, faces)
    _, nearest, closest = index.query(corners.astype(float))
    sheets = oriented_sheets(vertices, faces)
    inside = pseudonormal_signs(corners.astype(float), closest, nearest, sheets.normals) < 0
    steps = corner_steps(cubes, len(corners))
    assert contradictions(steps, odd, inside) == 0
    points = corners[hits.edge // 3].astype(float)
    points[np.arange(len(points)), hits.edge % 3] += hits.offset
    assert index.query(points)[0].max() < 1e-12
    assert len(hits.edge) > 300


def test_overlapping_parts_get_signs_that_follow_every_wall() -> None:
    first, second = icosphere(3, 4.1), icosphere(3, 4.1)
    vertices = np.concatenate(
        [first.moved(shift=(6.03, 8.07, 8.11)).vertices, second.moved(shift=(10.03, 8.07, 8.11)).vertices]
    )
    faces = np.concatenate([first.faces, second.faces + len(first.vertices)])
    corners, cubes = voxel_corners(surface_voxels(vertices, faces, 0.0, 1.0, 16), (16, 16, 16))
    odd = lattice_hits(vertices, faces, corners).parity()
    steps = corner_steps(cubes, len(corners))
    _, nearest, closest = ClosestPointIndex(vertices, faces).query(corners.astype(float))
    normals = oriented_sheets(vertices, faces).normals
    guess = pseudonormal_signs(corners.astype(float), closest, nearest, normals) < 0
    assert contradictions(steps, odd, guess) > 0
    assert contradictions(steps, odd, consistent_signs(steps, odd, odd, guess)) == 0


def test_wrongly_wound_faces_are_turned_and_the_larger_side_is_kept() -> None:
    ball = icosphere(2, 1.0)
    faces = ball.faces.copy()
    faces[::3] = faces[::3, ::-1]
    sheets = oriented_sheets(ball.vertices, faces)
    assert np.array_equal(sheets.flipped, np.arange(len(faces)) % 3 == 0)
    assert sheets.seams == 0
    centres = ball.vertices[faces].mean(axis=1)
    assert ((sheets.normals.faces * centres).sum(axis=1) > 0).all()
    assert ((sheets.normals.vertices * sheets.normals.corners).sum(axis=2) > 0.9).all()


def test_a_moebius_strip_has_a_seam() -> None:
    strip = moebius_strip(64, 4)
    sheets = oriented_sheets(strip.vertices, strip.faces)
    assert 4 <= sheets.seams <= 8  # across the strip, a face or two wide
    assert len(sheets.border) == 128


def test_doubled_faces_count_once() -> None:
    faces = np.array([[0, 1, 2], [2, 1, 0], [1, 3, 2]])
    sheets = oriented_sheets([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], faces)
    assert len(sheets.faces) == 2
    assert len(sheets.border) == 4


def test_hits_are_sorted_and_their_starts_belong_to_their_edges() -> None:
    generator = np.random.default_rng(7)
    vertices = generator.uniform(0.5, 8.5, (60, 3))
    faces = generator.integers(0, 60, (200, 3))
    corners = np.argwhere(generator.random((10, 10, 10)) < 0.7).astype(np.int32)
    one, two = (lattice_hits(vertices, faces, corners, threads=threads) for threads in (1, 3))
    order = np.lexsort((one.offset, one.edge))
    assert np.array_equal(order, np.arange(len(order)))
    assert np.array_equal(one.start, np.searchsorted(one.edge, np.arange(3 * len(corners) + 1)))
    counts = np.bincount(one.edge, minlength=3 * len(corners)).reshape(-1, 3)
    assert counts.max() > 2
    assert np.array_equal(one.parity(), counts % 2 == 1)
    assert np.array_equal(one.any(), counts > 0)
    for name in ("edge", "offset", "face", "start"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_real_voxels_are_those_of_the_crossed_quads() -> None:
    generator = np.random.default_rng(8)
    voxels = random_voxels(9, 500)
    corners, cubes = voxel_corners(voxels, SHAPE)
    inside = generator.random(len(corners)) < 0.4
    crossed = generator.random((len(corners), 3)) < 0.2
    steps = corner_steps(cubes, len(corners))
    found = topology(cubes, voxels, inside, ~inside)
    low, high = found.quad_ends.min(axis=1), found.quad_ends.max(axis=1)
    kept = crossed[low, (steps[low] == high[:, None]).argmax(axis=1)]
    expected = np.zeros(len(voxels), bool)
    expected[found.voxels[found.dual_voxel[found.quads[kept]]]] = True
    assert 0 < expected.sum() < len(voxels)
    assert np.array_equal(real_voxels(cubes, inside, crossed), expected)


def test_single_face_needs_hits_alone_and_one_face() -> None:
    start, face = np.array([0, 3, 5, 7, 8, 8]), np.array([4, 4, 9])
    crossing = np.array([0, 1, 0, 1, 2, 0, -1, 3])
    assert single_face(start, crossing, face).tolist() == [True, False, False, False, False]


def test_features_stand_in_the_columns_of_the_state() -> None:
    generator = np.random.default_rng(10)
    cubes, scalars = generator.integers(0, 30, (40, 8)), generator.normal(size=30)
    held = np.flatnonzero(generator.random(40) < 0.6)
    weights = Weights(
        generator.normal(size=(30, 3)), held, *(generator.normal(size=(len(held), width)) for width in (12, 8)),
        generator.normal(size=len(held)),
    )  # fmt: skip
    feats = feature_rows(cubes, scalars, weights)
    expected = np.zeros((40, state.CHANNELS), np.float32)
    expected[:, state.SDF] = scalars[cubes]
    expected[:, state.DEFORM] = weights.deform[cubes].reshape(-1, 24)
    expected[held, state.BETA], expected[held, state.ALPHA] = weights.beta, weights.alpha
    expected[held, state.GAMMA] = weights.gamma
    assert np.array_equal(feats, expected)
    neutral = feature_rows(cubes, scalars, neutral_weights(), threads=2)
    assert np.array_equal(neutral[:, state.SDF], expected[:, state.SDF])
    assert not neutral[:, 8:].any()


def test_rim_is_next_to_crossed_edges_without_a_face() -> None:
    """A plane through four by four voxels: the inner two by two vertices are off the rim."""
    voxels = np.array([[x, y, 0] for x in range(4) for y in range(4)], np.int32)
    corners, cubes = voxel_corners(voxels, (4, 4, 1))
    inside = corners[:, 2] == 0
    found = topology(cubes, voxels, inside, ~inside)
    steps = corner_steps(cubes, len(corners))
    low = found.ends.min(axis=1)
    rim = rim_vertices(found, 3 * low + (steps[low] == found.ends.max(axis=1)[:, None]).argmax(axis=1), steps)
    assert rim.reshape(4, 4).tolist() == [[not (0 < x < 3 and 0 < y < 3) for y in range(4)] for x in range(4)]


def test_bent_quads_are_those_whose_diagonals_miss() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.5], [0, 1, 0], [0, 1, np.nan]], float)
    ids, middles = bent_quads(np.array([[0, 1, 2, 3], [0, 1, 3, 1], [0, 1, 2, 4]]), vertices, 0.2)
    assert ids.tolist() == [0, 1]
    assert middles[0].tolist() == [[0.5, 0.5, 0.25], [0.5, 0.5, 0]]
    assert bent_quads(np.array([[0, 1, 2, 3]]), vertices, 0.25)[0].tolist() == []
