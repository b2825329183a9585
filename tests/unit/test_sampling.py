"""Area- and length-uniform sampling."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.sampling import sample_segments, sample_triangles

TRIANGLES = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 1], [3, 0, 1], [0, 1, 1]], [[5, 5, 5]] * 3])
AREAS = np.array([0.5, 1.5, 0.0])


def test_triangles_are_chosen_by_area_and_never_without_any() -> None:
    uniforms = np.random.default_rng(0).random((40_000, 3))
    _, ids = sample_triangles(TRIANGLES, AREAS, uniforms)
    assert np.bincount(ids, minlength=3)[2] == 0
    assert abs((ids == 1).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 40_000)
    assert (np.diff(ids) >= 0).all()


def test_points_fill_a_triangle_evenly() -> None:
    """The share in each of the four half-size triangles is a quarter."""
    points, _ = sample_triangles(TRIANGLES[:1], AREAS[:1], np.random.default_rng(1).random((40_000, 3)))
    x, y, z = points.T
    assert (z == 0).all()
    assert min(x.min(), y.min()) >= 0
    assert (x + y).max() <= 1
    for part in (x > 0.5, y > 0.5, x + y < 0.5, (x <= 0.5) & (y <= 0.5) & (x + y >= 0.5)):
        assert abs(part.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 40_000)


def test_samples_lie_on_their_triangle() -> None:
    rng = np.random.default_rng(2)
    triangles = rng.normal(size=(50, 3, 3))
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    areas = np.linalg.norm(normals, axis=1) / 2
    points, ids = sample_triangles(triangles, areas, rng.random((2000, 3)))
    offset = ((points - triangles[ids, 0]) * normals[ids]).sum(axis=1) / (2 * areas[ids])
    assert np.abs(offset).max() < 1e-14


def test_extreme_random_numbers_stay_on_the_mesh() -> None:
    last = np.nextafter(1.0, 0.0)
    points, ids = sample_triangles(TRIANGLES, AREAS, [[0.0, 0.0, 0.0], [last, last, last]])
    assert ids.tolist() == [0, 1]
    np.testing.assert_allclose(points, [[0, 0, 0], [0, 1, 1]], atol=1e-12)


def test_segments_are_chosen_by_length_and_filled_evenly() -> None:
    ends = np.array([[[0.0, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 3, 1]], [[7, 7, 7], [7, 7, 7]]])
    points, ids = sample_segments(ends, np.random.default_rng(3).random((40_000, 2)))
    assert abs((ids == 1).mean() - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 40_000)
    assert set(ids.tolist()) == {0, 1}
    assert abs(points[ids == 1, 1].mean() - 1.5) < 4 * np.sqrt(0.75 / 30_000)


def test_nothing_to_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="total area is 0"):
        sample_triangles(TRIANGLES[2:], AREAS[2:], np.zeros((1, 3)))
    with pytest.raises(ValueError, match="total length is 0"):
        sample_segments(np.zeros((0, 2, 3)), np.zeros((1, 2)))
