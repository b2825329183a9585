"""Packets of points, orders by counting and the hierarchy built along a curve tell what the plain ways tell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright_kernels.bvh import GROUP, build_bvh
from shapewright_kernels.canonical import canonical_surface, position_ranks
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.curve_order import curve_order
from shapewright_kernels.point_packets import LANES
from shapewright_kernels.radix_order import radix_order
from shapewright_kernels.sampling import sample_triangles

ALONE = LANES // 4 - 1
"""So few points are searched one by one."""


def mesh(rng: np.random.Generator, kind: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces: a height field (``sheet``), one on a plane (``flat``), loose triangles, slivers, copies."""
    side = max(2, int(np.sqrt(count / 2)) + 1)
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, side), np.linspace(-0.5, 0.5, side), indexing="ij")
    height = np.zeros(x.size) if kind == "flat" else 0.2 * np.sin(5 * x.ravel()) * np.cos(4 * y.ravel())
    vertices = np.stack([x.ravel(), y.ravel(), height], axis=1)
    corner = np.arange(side * side).reshape(side, side)
    a, b, c, d = corner[:-1, :-1].ravel(), corner[1:, :-1].ravel(), corner[1:, 1:].ravel(), corner[:-1, 1:].ravel()
    faces = np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)])
    if kind == "copies":
        faces = np.concatenate([faces, faces[:, ::-1], faces])
    elif kind == "slivers":
        vertices = vertices * [1.0, 1e-7, 1.0]
    elif kind == "soup":
        vertices = rng.uniform(-0.5, 0.5, (3 * count, 3))
        vertices[3 : 3 * (count // 3) : 3] = vertices[4 : 3 * (count // 3) + 1 : 3]  # some without area
        faces = rng.permutation(3 * count).reshape(-1, 3)
    return vertices, faces[rng.permutation(len(faces))]


def queries(rng: np.random.Generator, vertices: np.ndarray, faces: np.ndarray, where: str) -> np.ndarray:
    corners = vertices[faces[rng.integers(0, len(faces), 300)]]
    if where == "corners":
        return corners[:, 0].copy()
    if where == "edges":
        return 0.5 * corners[:, 0] + 0.5 * corners[:, 1]
    weights = rng.dirichlet(np.ones(3), len(corners))
    points = np.einsum("nk,nkd->nd", weights, corners)
    if where == "near":
        return points + rng.normal(size=points.shape) * 1e-3
    if where == "far":
        return points + 100.0 * rng.normal(size=points.shape)
    if where == "volume":
        return rng.uniform(-0.6, 0.6, points.shape)
    return points


def one_by_one(index: ClosestPointIndex, points: np.ndarray, normals: np.ndarray | None, limit: float) -> list:
    parts = [
        index.query(points[k : k + ALONE], normals=None if normals is None else normals[k : k + ALONE], limit=limit)
        for k in range(0, len(points), ALONE)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["sheet", "flat", "copies", "slivers", "soup"]),
    st.sampled_from(["surface", "near", "far", "volume", "corners", "edges"]),
    st.sampled_from([2, 40, 700]),
    st.booleans(),
    st.sampled_from([np.inf, 0.05]),
)
def test_packets_tell_what_single_queries_tell(
    seed: int, kind: str, where: str, count: int, by_normal: bool, limit: float
) -> None:
    rng = np.random.default_rng(seed)
    vertices, faces = mesh(rng, kind, count)
    directions = rng.normal(size=(len(faces) + 300, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    index = ClosestPointIndex(vertices, faces, directions[: len(faces)] if by_normal else None)
    points = queries(rng, vertices, faces, where)
    normals = directions[len(faces) :] if by_normal else None
    distances, found, closest = index.query(points, normals=normals, limit=limit)
    expected, expected_faces, expected_closest = one_by_one(index, points, normals, limit)
    scale = 1.0 + np.abs(points).max()
    edge = np.abs(expected - limit) <= 1e-13 * scale if limit < np.inf else np.zeros(len(points), bool)
    np.testing.assert_array_equal(found[~edge], expected_faces[~edge])
    np.testing.assert_allclose(distances[~edge], expected[~edge], rtol=0, atol=1e-15 * scale * 4)
    np.testing.assert_array_equal(closest[~edge], expected_closest[~edge])


def test_points_of_another_mesh_choose_by_the_normals_of_their_faces() -> None:
    rng = np.random.default_rng(1)
    vertices, faces = mesh(rng, "copies", 300)
    normals = rng.normal(size=(len(faces), 3))
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    index = ClosestPointIndex(vertices, faces, normals)
    points, sources = rng.uniform(-0.5, 0.5, (9000, 3)), rng.integers(0, 50, 9000)
    distances, found = index.nearest(points, normals[:50], sources, threads=1)
    expected, expected_found, _ = index.query(points, normals=normals[sources], threads=3)
    np.testing.assert_array_equal(distances, expected)
    np.testing.assert_array_equal(found, expected_found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, GROUP, GROUP + 1, 3000]), st.sampled_from([1, 4, 8]))
def test_hierarchy_holds_every_box_once(seed: int, count: int, leaf_size: int) -> None:
    rng = np.random.default_rng(seed)
    lower = rng.integers(0, 4, (count, 3)) * rng.choice([0.0, 1e-9, 1.0, 1e300], 3)
    upper = lower + rng.choice([0.0, 1.0], (count, 3))
    tree = build_bvh(lower, upper, leaf_size=leaf_size, threads=1)
    for one, many in zip(tree, build_bvh(lower, upper, leaf_size=leaf_size, threads=3), strict=True):
        np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(np.sort(tree.order), np.arange(count))
    inner, leaves = np.flatnonzero(tree.size == 0), np.flatnonzero(tree.size)
    children = tree.first[inner]
    assert (children > inner).all()
    np.testing.assert_array_equal(
        tree.boxes[inner, :3], np.minimum(tree.boxes[children], tree.boxes[children + 1])[:, :3]
    )
    np.testing.assert_array_equal(
        tree.boxes[inner, 3:], np.maximum(tree.boxes[children], tree.boxes[children + 1])[:, 3:]
    )
    covered = np.concatenate([np.arange(tree.first[leaf], tree.first[leaf] + tree.size[leaf]) for leaf in leaves])
    np.testing.assert_array_equal(np.sort(covered), np.arange(count))
    for leaf in leaves:
        rows = tree.order[tree.first[leaf] : tree.first[leaf] + tree.size[leaf]]
        np.testing.assert_array_equal(tree.boxes[leaf, :3], lower[rows].min(axis=0))
        np.testing.assert_array_equal(tree.boxes[leaf, 3:], upper[rows].max(axis=0))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**62), max_size=80), st.integers(0, 62))
def test_order_by_counting_is_the_stable_order(keys: list[int], shift: int) -> None:
    array = np.array(keys, np.int64) >> shift
    np.testing.assert_array_equal(radix_order(array), np.argsort(array, kind="stable"))


@pytest.mark.parametrize("spread", [[1.0, 1.0, 1.0], [1.0, 1e-3, 0.0], [0.0, 0.0, 0.0]])
def test_curve_order_is_a_permutation_along_short_steps(spread: list[float]) -> None:
    points = np.random.default_rng(2).random((4000, 3)) * spread
    order = curve_order(points)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(points)))
    steps = [np.linalg.norm(np.diff(rows, axis=0), axis=1).sum() for rows in (points[order], points)]
    assert steps[0] <= 0.3 * steps[1]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 120), st.booleans())
def test_canonical_order_is_that_of_sorted_corner_positions(seed: int, count: int, coarse: bool) -> None:
    """Against the definition: ranks of positions, faces by their three ranks in ascending order, copies together."""
    rng = np.random.default_rng(seed)
    vertices = rng.integers(0, 3, (count + 2, 3)) / 2 + (0.0 if coarse else rng.normal(size=(count + 2, 3)) * 1e-8)
    faces = rng.integers(0, len(vertices), (2 * count, 3))
    used = np.unique(faces)
    rank = np.zeros(len(vertices), np.int64)
    rank[used] = position_ranks(vertices[used])
    surface = canonical_surface(vertices, faces)
    names = [tuple(sorted(rank[face])) for face in faces]
    listed = [names[row] for row in surface.source]
    assert listed == sorted(set(listed))
    for row, name in enumerate(listed):
        copies = [k for k in range(len(faces)) if names[k] == name]
        turns = [1.0 if tuple(np.roll(rank[faces[k]], -int(rank[faces[k]].argmin()))) == name else -1.0 for k in copies]
        assert surface.weights[row] == sum(turns)
        assert surface.source[row] == next((k for k, turn in zip(copies, turns, strict=True) if turn > 0), copies[0])


def test_samples_fall_where_a_binary_search_puts_them() -> None:
    rng = np.random.default_rng(3)
    areas = rng.random(5000) * (rng.random(5000) < 0.5)
    corners, uniforms = rng.random((5000, 3, 3)), rng.random((200_000, 3))
    points, ids = sample_triangles(corners, areas, uniforms, threads=1)
    total = np.cumsum(areas)
    np.testing.assert_array_equal(ids, np.searchsorted(total, np.sort(uniforms[:, 0]) * total[-1], side="right"))
    for one, many in zip((points, ids), sample_triangles(corners, areas, uniforms, threads=3), strict=True):
        np.testing.assert_array_equal(one, many)
