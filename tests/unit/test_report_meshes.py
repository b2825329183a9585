"""Display meshes: what is kept of a mesh, how it is packed, and how it is made coarser."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from report_runs import bumpy_sphere
from shapewright import Mesh
from shapewright.report.display_mesh import DisplayMesh, DisplayMeshError, decode, encode, error_levels
from shapewright.report.simplification import edges_by_use, merge_equal_positions, simplified
from shapewright.report.views import MOST_FACES, ViewStore, display_mesh


def _triangles(mesh: DisplayMesh, decimals: int = 3) -> set[tuple[float, ...]]:
    """Corners of every face in their winding, from the smallest: independent of any order of vertices or faces."""
    corners = np.round(mesh.vertices[mesh.faces], decimals) + 0.0
    rows = set()
    for triangle in corners.tolist():
        turned = min(triangle[k:] + triangle[:k] for k in range(3))
        rows.add(tuple(value for corner in turned for value in corner))
    return rows


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(0, 90), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_packing_keeps_faces_winding_edges_and_errors(
    vertices: int, faces: int, seed: int, oriented: bool, with_errors: bool
) -> None:
    rng = np.random.default_rng(seed)
    # On a lattice far coarser than the packing's, so that rounding cannot merge or move anything that is compared.
    points = rng.permutation(np.unique(rng.integers(0, 50, (vertices, 3)), axis=0)) / 50.0
    triangles = rng.integers(0, len(points), (faces, 3))
    edges = rng.integers(0, len(points), (7, 2))
    errors = 10 ** rng.uniform(-6, 0, len(points)) if with_errors else None
    mesh = DisplayMesh(points, triangles, edges, edges[:2], errors, oriented, 1234)
    back = decode(encode(mesh))
    assert np.allclose(np.sort(back.vertices, axis=0), np.sort(points, axis=0), atol=1e-4)
    assert len(back.faces) == faces
    assert _triangles(back) == _triangles(mesh)
    assert (back.oriented, back.full_faces) == (oriented, 1234)
    assert len(back.boundary) == 7
    assert len(back.junctions) == 2
    middles = [np.sort(np.round(m.vertices[m.boundary].sum(axis=1), 3), axis=0) for m in (mesh, back)]
    assert np.allclose(*middles, atol=2e-3)
    if errors is None:
        assert back.errors is None
    else:
        assert back.errors is not None
        assert np.allclose(np.sort(back.errors), np.sort(errors), rtol=0.03)


def test_errors_are_bytes_in_steps_of_a_twelfth_octave() -> None:
    levels = error_levels(np.array([0.0, 1e-6, 2e-6, 4e-6, 1e9]))
    assert levels.tolist() == [0, 0, 12, 24, 255]


@pytest.mark.parametrize("damage", ["torn", "not deflated", "other magic", "short", "wild index"])
def test_damaged_bytes_are_refused(damage: str) -> None:
    blob = encode(bumpy_sphere(8))
    data = zlib.decompress(blob)
    damaged = {
        "torn": blob[: len(blob) // 2],
        "not deflated": b"SWDM" + blob,
        "other magic": zlib.compress(b"XXXX" + data[4:]),
        "short": zlib.compress(data[:-3]),
        "wild index": encode(replace(bumpy_sphere(8), boundary=np.array([[0, 1]]))),
    }[damage]
    if damage == "wild index":
        content = bytearray(zlib.decompress(damaged))
        content[-(6 + len(decode(damaged).vertices)) + 2] = 255  # highest byte of the only boundary edge
        damaged = zlib.compress(bytes(content))
    with pytest.raises(DisplayMeshError):
        decode(damaged)


def test_edges_are_counted_by_their_faces() -> None:
    fan = np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]])  # three faces on the edge 0-1
    boundary, junctions = edges_by_use(fan)
    assert junctions.tolist() == [[0, 1]]
    assert boundary.tolist() == [[0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4]]


def test_separate_triangles_that_touch_have_no_boundary_between_them() -> None:
    sphere = bumpy_sphere(10)
    soup = sphere.vertices[sphere.faces].reshape(-1, 3)
    vertices, faces = merge_equal_positions(soup, np.arange(len(soup)).reshape(-1, 3))
    assert len(vertices) == len(sphere.vertices)
    assert len(edges_by_use(faces)[0]) == 0


@pytest.mark.parametrize("most", [40, 300, 2000])
def test_a_coarser_mesh_keeps_to_the_limit_and_to_vertices_of_the_fine_one(most: int) -> None:
    fine = bumpy_sphere(60, 0.02)
    coarse = simplified(fine, most)
    assert 0.5 * most < len(coarse.faces) <= most
    fine_rows = {tuple(row): error for row, error in zip(fine.vertices.tolist(), fine.errors.tolist(), strict=True)}  # type: ignore[union-attr]
    assert coarse.errors is not None
    for row, error in zip(coarse.vertices.tolist(), coarse.errors.tolist(), strict=True):
        assert fine_rows[tuple(row)] == error
    assert coarse.full_faces == len(fine.faces)
    corners = coarse.vertices[coarse.faces]
    outward = (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * corners.mean(axis=1)).sum(
        axis=1
    )
    assert (outward > 0).mean() > 0.97


def test_a_coarser_cube_keeps_its_corners() -> None:
    steps = np.linspace(-0.5, 0.5, 22)
    u, v = (grid.reshape(-1) for grid in np.meshgrid(steps, steps, indexing="ij"))
    row = np.arange(21)[:, None] * 22 + np.arange(21)[None]
    quads = np.stack([row, row + 22, row + 23, row + 1], axis=-1).reshape(-1, 4)
    vertices, faces = [], []
    for axis in range(3):
        for side in (-0.5, 0.5):
            vertices.append(np.insert(np.stack([u, v], axis=1), axis, side, axis=1))
            both = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
            faces.append(both + 22 * 22 * (len(vertices) - 1))
    merged = merge_equal_positions(np.concatenate(vertices), np.concatenate(faces))
    empty = np.zeros((0, 2), np.int64)
    coarse = simplified(DisplayMesh(*merged, empty, empty, None, True, len(merged[1])), 400)
    assert len(coarse.faces) <= 400
    found = {tuple(row) for row in np.round(coarse.vertices, 9).tolist()}
    assert {(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)} <= found


def test_boundary_of_a_coarser_mesh_is_that_of_the_fine_one() -> None:
    closed, opened = simplified(bumpy_sphere(60), 300), simplified(bumpy_sphere(60, hole=True), 300)
    assert len(closed.boundary) == 0
    rim = bumpy_sphere(60, hole=True)
    rim_heights = rim.vertices[rim.boundary.reshape(-1), 1]
    assert len(opened.boundary) >= 3
    assert np.allclose(opened.vertices[opened.boundary.reshape(-1), 1], rim_heights[0], atol=0.15)


def test_errors_are_asked_only_for_the_vertices_that_stay() -> None:
    sphere = bumpy_sphere(150)
    assert len(sphere.faces) > MOST_FACES
    asked: list[int] = []

    def errors_at(points: np.ndarray) -> np.ndarray:
        asked.append(len(points))
        return np.abs(np.linalg.norm(points, axis=1) - 0.5)

    shown = display_mesh(Mesh(torch.from_numpy(sphere.vertices), torch.from_numpy(sphere.faces)), errors_at)
    assert asked == [len(shown.vertices)]
    assert len(shown.faces) <= MOST_FACES
    assert shown.full_faces == len(sphere.faces)


def test_equal_meshes_are_stored_once(tmp_path) -> None:  # type: ignore[no-untyped-def]
    store = ViewStore(tmp_path)
    first, second = store.write(bumpy_sphere(8)), store.write(bumpy_sphere(8))
    assert first == second
    assert store.write(bumpy_sphere(9)) != first
    assert store.holds(first)
    assert not store.holds("views/other.swdm")
    assert not store.holds(None)
    assert len(list((tmp_path / "views").iterdir())) == 2
