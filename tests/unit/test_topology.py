"""Topology of hand-made meshes."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.topology import (
    connected_groups,
    duplicate_faces,
    edge_topology,
    flat_faces,
    merge_vertices,
)

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]])


def test_tetrahedron_is_watertight() -> None:
    topology = edge_topology(TETRAHEDRON)
    assert topology.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert (topology.face_counts == 2).all()
    assert topology.watertight
    assert (topology.euler, topology.components, topology.boundary_loops) == (2, 1, 0)
    for edge, pair in zip(topology.edges, topology.manifold_pairs, strict=True):
        assert all(set(edge) <= set(TETRAHEDRON[face]) for face in pair)
        assert pair[0] != pair[1]


def test_one_flipped_face_makes_three_edges_inconsistent() -> None:
    faces = TETRAHEDRON.copy()
    faces[2] = faces[2, ::-1]
    topology = edge_topology(faces)
    assert topology.edges[topology.inconsistent].tolist() == [[1, 2], [1, 3], [2, 3]]
    assert topology.closed
    assert not topology.watertight


def test_tetrahedron_without_a_face_has_one_loop() -> None:
    topology = edge_topology(TETRAHEDRON[:3])
    assert topology.edges[topology.boundary].tolist() == [[0, 2], [0, 3], [2, 3]]
    assert (topology.boundary_loops, topology.euler) == (1, 1)
    assert not topology.closed


def test_three_faces_on_one_edge_are_non_manifold() -> None:
    topology = edge_topology([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    assert topology.edges[topology.non_manifold].tolist() == [[0, 1]]
    assert topology.inconsistent.sum() == 0  # a question about two-face edges only
    assert int(topology.boundary.sum()) == 6


def test_components_touch_in_a_shared_vertex() -> None:
    assert edge_topology([[0, 1, 2], [2, 3, 4]]).components == 1
    assert edge_topology([[0, 1, 2], [3, 4, 5]]).components == 2


def test_face_with_a_repeated_corner_adds_no_edge() -> None:
    topology = edge_topology([[0, 1, 2], [1, 1, 2]])
    assert len(topology.edges) == 3
    assert topology.proper.tolist() == [True, False]
    assert topology.euler == 1


def test_empty_mesh_has_nothing() -> None:
    topology = edge_topology(np.zeros((0, 3), np.int64))
    assert (len(topology.edges), topology.components, topology.euler, topology.boundary_loops) == (0, 0, 0, 0)
    assert topology.inconsistent.shape == (0,)
    assert not topology.watertight
    assert duplicate_faces(np.zeros((0, 3))).shape == flat_faces(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


def test_merging_is_relative_to_the_extent() -> None:
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0.5, 0], [1, 0.5, 4e-8], [1, 0.5, 4e-7]])
    for scale in (1e-9, 1.0, 1e6):
        merged, group = merge_vertices(triangle * scale)
        assert group.tolist() == [0, 1, 2, 2, 3]
        np.testing.assert_array_equal(merged, triangle[[0, 1, 2, 4]] * scale)


def test_merging_with_tolerance_zero_is_equality() -> None:
    points = np.array([[0.0, 0, 0], [1e-300, 0, 0], [-0.0, 0, 0], [1, 1, 1]])
    assert merge_vertices(points, 0.0)[1].tolist() == [0, 1, 0, 2]


def test_merging_sees_neighbours_across_any_rounding_border() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (4000, 3))
    copies = points + rng.uniform(-2e-8, 2e-8, points.shape)
    order = rng.permutation(8000)
    merged, group = merge_vertices(np.concatenate([points, copies])[order])
    original = np.empty(8000, np.int64)
    original[np.arange(8000)] = group[np.argsort(order)]
    np.testing.assert_array_equal(original[:4000], original[4000:])
    assert len(merged) == 4000


def test_merging_keeps_a_regular_lattice_apart() -> None:
    """Every axis alone has few distinct values, so splitting must alternate between the axes until nothing changes."""
    lattice = np.stack(np.meshgrid(*[np.linspace(0, 1, 12)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    diagonal = np.array([[0.0, 0, 1e-3], [1e-3, 1e-3, 0], [1e-3, 0, 0], [0, 1e-3, 1e-3]])
    assert len(merge_vertices(lattice)[0]) == 12**3
    assert len(merge_vertices(np.concatenate([lattice, diagonal]))[0]) == 12**3 + 4


def test_merging_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="negative"):
        merge_vertices(np.eye(3), -1.0)
    with pytest.raises(ValueError, match="finite"):
        merge_vertices([[np.nan, 0, 0]])
    assert merge_vertices(np.zeros((0, 3)))[1].shape == (0,)


def test_duplicates_ignore_winding_and_keep_the_first() -> None:
    faces = [[0, 1, 2], [3, 4, 5], [1, 0, 2], [2, 0, 1], [3, 4, 6]]
    assert duplicate_faces(faces).tolist() == [False, False, True, True, False]


def test_flat_faces_are_relative_to_the_mesh() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0.5, 0, 0], [1e-5, 0, 0], [0, 1e-5, 0]])
    faces = [[0, 1, 2], [0, 3, 1], [0, 0, 2], [0, 4, 5]]
    for scale in (1e-9, 1.0, 1e6):
        assert flat_faces(vertices * scale, faces).tolist() == [False, True, True, False]


def test_groups_are_numbered_by_their_smallest_vertex() -> None:
    used, labels = connected_groups([[7, 9], [2, 3], [9, 8], [3, 5]])
    assert used.tolist() == [2, 3, 5, 7, 8, 9]
    assert labels.tolist() == [1, 0, 1, 0]
