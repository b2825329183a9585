"""Loading, cleaning and saving for any mesh that hypothesis can think of."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shapewright.mesh_cleaning import clean_triangles
from shapewright.mesh_io import load_mesh, normalise, save_mesh
from shapewright.states import Mesh
from shapewright.triangulation import triangulate

POINTS = arrays(np.float64, (8, 3), elements=st.integers(-3, 3).map(float))
FACES = st.lists(st.tuples(*[st.integers(0, 7)] * 3), min_size=1, max_size=12).map(np.array)


def face_set(vertices: np.ndarray, faces: np.ndarray) -> set[frozenset[tuple[float, ...]]]:
    return {frozenset(tuple(vertices[corner].tolist()) for corner in face) for face in faces}


@given(POINTS, FACES)
def test_cleaning_twice_changes_nothing(points, faces):
    stay, kept, _ = clean_triangles(points, faces, tolerance=1e-9)
    if not len(kept):
        return
    again, same, counts = clean_triangles(points[stay], kept, tolerance=1e-9)
    assert again.tolist() == list(range(len(stay)))
    assert same.tolist() == kept.tolist()
    assert not any(counts.values())


@given(POINTS, FACES, st.randoms(use_true_random=False))
def test_cleaning_ignores_the_order_of_vertices_faces_and_corners(points, faces, random):
    stay, kept, counts = clean_triangles(points, faces, tolerance=1e-9)
    order = list(range(8))
    random.shuffle(order)
    moved = np.argsort(order)[faces]
    moved = moved[random.sample(range(len(faces)), len(faces))][:, random.sample(range(3), 3)]
    stay2, kept2, counts2 = clean_triangles(points[order], moved, tolerance=1e-9)
    assert face_set(points[stay], kept) == face_set(points[order][stay2], kept2)
    assert counts == counts2


@given(POINTS, FACES)
def test_cleaning_keeps_every_face_with_area_once(points, faces):
    stay, kept, _ = clean_triangles(points, faces, tolerance=1e-9)
    a, b, c = (points[faces[:, i]] for i in range(3))
    solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 0
    assert face_set(points[stay], kept) == face_set(points, faces[solid])
    assert len(face_set(points[stay], kept)) == len(kept)


@given(st.integers(3, 9), st.lists(st.floats(0.2, 1.0), min_size=9, max_size=9), st.integers(0, 8), st.booleans())
def test_triangles_of_a_star_shaped_polygon_cover_it_exactly(size, radii, start, reverse):
    angle = 2 * np.pi * np.arange(size) / size
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1) * np.array(radii[:size])[:, None]
    corners = np.roll(np.arange(size), start)[:: -1 if reverse else 1].copy()
    faces = triangulate(points, np.array([size]), corners)
    cross = np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]])[:, 2]
    x, y = points[:, 0], points[:, 1]
    exact = float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
    assert len(faces) == size - 2
    assert np.isclose(cross.sum(), -exact if reverse else exact)
    assert (np.sign(cross) * (-1 if reverse else 1) >= 0).all()


@settings(max_examples=25)
@given(POINTS, FACES, st.sampled_from([".obj", ".off", ".ply", ".glb", ".stl"]))
def test_what_was_cleaned_survives_every_format(points, faces, suffix):
    stay, kept, _ = clean_triangles(points, faces, tolerance=1e-9)
    if not len(kept):
        return
    mesh = Mesh(torch.from_numpy(points[stay]), torch.from_numpy(kept))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        save_mesh(mesh, path)
        again = load_mesh(path)
    assert torch.equal(again.corners, mesh.corners)


@given(POINTS, FACES, st.floats(1e-6, 1e6), st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_normalising_forgets_scale_and_place(points, faces, scale, shift):
    if np.ptp(points[faces.ravel()], axis=0).max() == 0:
        return
    mesh = Mesh(torch.from_numpy(points), torch.from_numpy(faces))
    unit, _ = normalise(mesh)
    moved = Mesh(torch.from_numpy(points * scale + np.array(shift) * scale), mesh.faces)
    other, placement = normalise(moved)
    used = np.unique(faces)
    assert torch.allclose(unit.vertices[used], other.vertices[used], atol=1e-9)
    assert torch.allclose(
        placement.to_original(other.vertices)[used], moved.vertices[used], rtol=1e-9, atol=1e-9 * scale
    )
