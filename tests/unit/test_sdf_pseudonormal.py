"""Angle-weighted pseudonormals by hand, and their signs against winding numbers."""

from __future__ import annotations

import math

import numpy as np
import trimesh
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.pseudonormal import nearest_feature_normals, pseudonormal_signs, pseudonormals
from shapewright_kernels.winding import winding_numbers


def box() -> tuple[np.ndarray, np.ndarray]:
    mesh = trimesh.creation.box((1, 1, 1))
    return np.asarray(mesh.vertices, float), np.asarray(mesh.faces, np.int64)


def test_pseudonormals_of_a_box_do_not_depend_on_its_triangulation() -> None:
    vertices, faces = box()
    normals = pseudonormals(vertices, faces)
    # a corner of a box belongs to three to six triangles; angle weights make that invisible
    np.testing.assert_allclose(normals.vertices, np.sign(vertices[faces]) / math.sqrt(3), atol=1e-12)


def test_feature_of_a_closest_point_on_face_edge_and_corner() -> None:
    vertices, faces = box()
    points = np.array([[0.0, 0.1, 2.0], [0.9, 0.2, 0.9], [1.0, 1.0, 1.0]])
    _, ids, closest = ClosestPointIndex(vertices, faces).query(points)
    found = nearest_feature_normals(closest, ids, pseudonormals(vertices, faces))
    half, third = 1 / math.sqrt(2), 1 / math.sqrt(3)
    np.testing.assert_allclose(found, [[0, 0, 1], [half, 0, half], [third] * 3], atol=1e-12)


def test_signs_equal_winding_numbers_on_a_closed_mesh_split_into_a_soup() -> None:
    rng = np.random.default_rng(0)
    mesh = trimesh.creation.icosphere(1)
    spiked = np.asarray(mesh.vertices) * rng.uniform(0.4, 1.6, (len(mesh.vertices), 1))
    corners = spiked[mesh.faces]  # every face has its own vertices: merging finds the edges again
    vertices, faces = corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)
    points = rng.uniform(-1.5, 1.5, (3000, 3))
    _, ids, closest = ClosestPointIndex(vertices, faces).query(points)
    signs = pseudonormal_signs(points, closest, ids, pseudonormals(vertices, faces))
    inside = winding_numbers(points, vertices, faces, accuracy=math.inf) > 0.5
    assert 100 < inside.sum() < 2900
    assert np.array_equal(signs < 0, inside)


def test_a_face_without_area_has_no_direction() -> None:
    normals = pseudonormals(np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0]], float), np.array([[0, 1, 2], [0, 0, 1]]))
    assert not normals.faces.any()
    assert not normals.edges.any()
    assert pseudonormal_signs(np.ones((1, 3)), np.zeros((1, 3)), np.array([0]), normals).tolist() == [1.0]
