"""Signs: orientation repair, closing, integer winding numbers by columns, all against the exact winding number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import trimesh
from shapewright_kernels.mesh_closing import close_mesh, oriented_boundary
from shapewright_kernels.narrow_band import Lattice, narrow_band
from shapewright_kernels.orientation import consistent_orientation
from shapewright_kernels.solid_signs import ENCLOSED, INSIDE, REVERSED, SolidSigns
from shapewright_kernels.winding import winding_numbers
from shapewright_kernels.winding_columns import column_windings

BROKEN = Path(__file__).parents[3] / "shared/data/broken"
needs_data = pytest.mark.skipif(not BROKEN.is_dir(), reason="shared test meshes are not here")


def arrays(mesh: trimesh.Trimesh) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(mesh.vertices, float), np.asarray(mesh.faces, np.int64)


def sphere(radius: float = 0.4, centre: tuple[float, float, float] = (0, 0, 0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(2, radius)
    mesh.apply_translation(centre)
    return mesh


def moebius(columns: int = 40) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    rim = [
        np.stack([(1 + s * np.cos(t / 2)) * np.cos(t), (1 + s * np.cos(t / 2)) * np.sin(t), s * np.sin(t / 2)], axis=1)
        for s in (-0.35, 0.35)
    ]
    vertices = np.concatenate(rim) / 3
    i = np.arange(columns)
    low, high, next_low, next_high = i, i + columns, (i + 1) % columns, (i + 1) % columns + columns
    next_low, next_high = np.where(i == columns - 1, [next_high, next_low], [next_low, next_high])
    faces = np.concatenate([np.stack([low, next_low, next_high], 1), np.stack([low, next_high, high], 1)])
    return vertices, faces


def signs_and_exact(
    vertices: np.ndarray, faces: np.ndarray, resolution: int = 23, repaired: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, SolidSigns]:
    lattice = Lattice(-0.51, 1.02 / resolution, resolution)
    near = narrow_band(vertices, faces, lattice, band=3)
    signs = SolidSigns(vertices, faces)
    windings = signs.windings(near.coords, near.distances, lattice)
    source = (signs.vertices, signs.faces) if repaired else (vertices, faces)
    exact = winding_numbers(lattice.points(near.coords), *source, accuracy=math.inf)
    return windings, exact, near.distances, signs


def angle_iron() -> tuple[np.ndarray, np.ndarray]:
    """A prism with a concave edge, along which three quarters of the directions lead inside."""
    outline = np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]) / 4 - 0.25
    vertices = np.concatenate([np.column_stack([outline, np.full(6, z)]) for z in (-0.25, 0.25)])
    fan = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]])
    i = np.arange(6)
    j = (i + 1) % 6
    walls = np.concatenate([np.stack([i, j, j + 6], axis=1), np.stack([i, j + 6, i + 6], axis=1)])
    return vertices, np.concatenate([fan[:, ::-1], fan + 6, walls])


@pytest.mark.parametrize("shape", ["closed", "open", "soup", "on the lattice", "open on the lattice", "inside out"])
def test_sides_say_what_the_winding_numbers_say(shape: str) -> None:
    vertices, faces = arrays(trimesh.creation.box((0.75, 0.5, 0.5)) if shape == "on the lattice" else sphere())
    if shape == "open":
        faces = faces[vertices[faces].mean(axis=1)[:, 2] < 0.2]
    elif shape == "soup":
        vertices, faces = (
            vertices[faces].reshape(-1, 3) * 1.001 ** np.arange(3 * len(faces))[:, None].clip(0, 9),
            (np.arange(3 * len(faces)).reshape(-1, 3)),
        )
    elif shape == "open on the lattice":
        vertices, faces = angle_iron()
        faces = faces[vertices[faces].min(axis=1)[:, 2] < 0.25]
    elif shape == "inside out":
        faces = faces[:, ::-1]
    lattice = Lattice(-0.5, 1 / 16, 16)
    near = narrow_band(vertices, faces, lattice, band=3)
    signs = SolidSigns(vertices, faces)
    windings = signs.windings(near.coords, near.distances, lattice)
    sides = signs.sides(near.coords, near.distances, lattice)
    limit = np.where(signs.on_surface(near.distances), ENCLOSED, 0.5)
    assert np.array_equal(sides & INSIDE, np.abs(windings) > limit)
    assert np.array_equal((sides & REVERSED) > 0, windings < 0)
    assert (sides & INSIDE).any()


def test_columns_count_nested_and_overlapping_parts_exactly() -> None:
    parts = [sphere(0.45), sphere(0.3), sphere(0.2, (0.25, 0.1, 0)), trimesh.creation.box((0.5, 0.2, 0.9))]
    windings, exact, distances, signs = signs_and_exact(*arrays(trimesh.util.concatenate(parts)))
    assert signs.report.open_edges == 0
    off = ~signs.on_surface(distances)
    assert set(np.unique(windings[off])) == {0, 1, 2, 3, 4}
    np.testing.assert_allclose(windings[off], exact[off], atol=1e-9)


def test_columns_through_lattice_aligned_vertices_edges_and_faces_are_consistent() -> None:
    # a box and a diamond whose corners, edges and faces lie on lattice lines, in lattice planes
    box = trimesh.creation.box((6, 4, 8))
    vertices = np.array([[3, 0, 0], [-3, 0, 0], [0, 3, 0], [0, -3, 0], [0, 0, 3], [0, 0, -3]], float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    lattice = Lattice(-8.0, 1.0, 16)
    coords = np.indices((17,) * 3, dtype=np.int32).reshape(3, -1).T
    for corner, triangles in (arrays(box), (vertices, faces)):
        windings = column_windings(coords, corner, triangles, lattice)
        exact = winding_numbers(lattice.points(coords), corner, triangles, accuracy=math.inf)
        clear = np.abs(exact - np.round(exact)) < 1e-9  # elsewhere the point lies on the surface
        clear &= ~((exact < 0.5) & np.isin(np.arange(len(coords)), np.flatnonzero(np.abs(exact) > 1e-9)))
        assert clear.sum() > 4000
        assert np.array_equal(windings[clear], np.round(exact[clear]).astype(int))
        assert set(np.unique(windings)) == {0, 1}  # on the surface: one of its sides


@pytest.mark.parametrize("seed", range(3))
def test_open_meshes_get_the_winding_number_of_the_mesh_as_it_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vertices, faces = arrays(sphere())
    holes = faces[rng.random(len(faces)) > 0.08]
    windings, exact, _, signs = signs_and_exact(vertices, holes)
    assert signs.report.open_edges > 10
    assert np.abs(windings - exact).max() < 5e-3


def test_planar_opening_in_a_lattice_plane_is_harmless() -> None:
    # the rim of an open box is a square in a plane of lattice points, where a flat cap would lie on them
    vertices, faces = arrays(trimesh.creation.box((0.5, 0.5, 0.5)))
    top = np.flatnonzero((vertices[faces][:, :, 2] > 0.2).all(axis=1))
    faces = np.delete(faces, top, axis=0)
    lattice = Lattice(-0.5, 1 / 16, 16)
    near = narrow_band(vertices, faces, lattice, band=16)
    signs = SolidSigns(vertices, faces)
    exact = winding_numbers(lattice.points(near.coords), vertices, faces, accuracy=math.inf)
    windings = signs.windings(near.coords, near.distances, lattice)
    assert np.abs(windings - exact).max() < 5e-3
    assert signs.report.open_edges == 4


def test_soup_of_loose_triangles_gets_its_winding_number() -> None:
    rng = np.random.default_rng(1)
    vertices = rng.uniform(-0.4, 0.4, (90, 3))
    windings, exact, distances, signs = signs_and_exact(vertices, np.arange(90).reshape(-1, 3))
    assert signs.report.open_edges == 90
    assert np.abs(windings - exact)[distances > 1e-9].max() < 5e-3


def test_turning_the_mesh_inside_out_changes_no_sign() -> None:
    vertices, faces = arrays(trimesh.util.concatenate([sphere(), sphere(0.2, (0.2, 0.2, 0.2))]))
    lattice = Lattice(-0.51, 1.02 / 20, 20)
    near = narrow_band(vertices, faces, lattice, band=4)
    inside = []
    for winding in (faces, faces[:, ::-1]):
        signs = SolidSigns(vertices, winding)
        inside.append(signs.sides(near.coords, near.distances, lattice) & INSIDE)
    assert 0 < inside[0].sum() < len(near.coords)
    assert np.array_equal(*inside)


def test_mixed_winding_is_repaired_to_the_majority_and_reported() -> None:
    vertices, faces = arrays(sphere())
    turned = np.random.default_rng(0).random(len(faces)) < 0.3
    mixed = faces.copy()
    mixed[turned] = mixed[turned][:, ::-1]
    signs = SolidSigns(vertices, mixed)
    assert signs.report.flipped_faces == turned.sum()
    assert np.array_equal(signs.flipped, turned)
    assert (signs.report.unorientable_edges, signs.report.open_edges) == (0, 0)


def test_each_component_keeps_its_own_majority() -> None:
    outer, inner = sphere(0.45), sphere(0.2)
    inner.invert()  # a hollow ball: the inner wall faces inward on purpose
    vertices, faces = arrays(trimesh.util.concatenate([outer, inner]))
    expected = faces.copy()
    faces[::7] = faces[::7][:, [0, 2, 1]]
    assert np.array_equal(np.sort(SolidSigns(vertices, faces).faces), np.sort(expected))
    windings, _, _, signs = signs_and_exact(vertices, faces)
    assert signs.report.flipped_faces == len(faces[::7])
    lattice = Lattice(-0.5, 0.5, 2)
    centre = np.array([[1, 1, 1]], np.int32)
    assert signs.windings(centre, np.array([0.2]), lattice).tolist() == [0.0]
    assert windings.max() == 1


def test_moebius_strip_is_reported_as_not_orientable() -> None:
    vertices, faces = moebius()
    report = SolidSigns(vertices, faces).report
    assert report.unorientable_edges > 0
    assert report.open_edges > 0
    windings, exact, distances, _ = signs_and_exact(vertices, faces)
    assert np.abs(windings - exact)[distances > 1e-9].max() < 5e-3


def test_consistent_meshes_come_back_as_they_were() -> None:
    _, faces = arrays(sphere())
    result = consistent_orientation(faces[:, ::-1], np.ones(len(faces)))
    assert np.array_equal(result.faces, faces[:, ::-1])
    assert not result.flipped.any()


def test_t_junctions_are_zipped_and_the_box_is_closed() -> None:
    vertices, faces = arrays(trimesh.creation.box((0.7, 0.7, 0.7)))
    vertices = np.vstack([vertices, (vertices[faces[0, 0]] + vertices[faces[0, 1]]) / 2])
    a, b, c = faces[0]
    faces = np.vstack([faces[1:], [[a, 8, c], [8, b, c]]])
    closed = close_mesh(vertices, faces)
    assert (closed.boundary_edges, closed.open_edges) == (3, 0)
    assert len(oriented_boundary(closed.faces)) == 0
    windings, exact, distances, signs = signs_and_exact(vertices, faces)
    off = ~signs.on_surface(distances)
    np.testing.assert_allclose(windings[off], exact[off], atol=1e-9)


def test_boundary_with_several_vertices_on_one_edge_is_zipped_in_order() -> None:
    vertices = np.array([[0, 0, 0], [4, 0, 0], [2, 3, 0], [3, 0, 0], [1, 0, 0], [2, 0, 0], [2, -3, 0]], float)
    faces = np.array([[0, 1, 2], [6, 4, 0], [6, 5, 4], [6, 3, 5], [6, 1, 3]])
    closed = close_mesh(vertices, faces)
    assert closed.caps - closed.surface == 3
    assert closed.open_edges == 4
    assert len(oriented_boundary(closed.faces)) == 0


def open_tube(segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Without lids; its rims lie in the planes z = -0.25 and 0.25."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    ring = np.stack([0.4 * np.cos(angle), 0.4 * np.sin(angle)], axis=1)
    vertices = np.concatenate([np.insert(ring, 2, z, axis=1) for z in (-0.25, 0.25)])
    i, j = np.arange(segments), (np.arange(segments) + 1) % segments
    return vertices, np.concatenate(
        [np.stack([i, j, i + segments], axis=1), np.stack([j, j + segments, i + segments], axis=1)]
    )


@pytest.mark.parametrize("segments", [3, 4, 5, 6, 7, 12, 13, 64, 100])
def test_caps_close_every_loop_with_few_faces_as_small_as_their_part_of_the_rim(segments: int) -> None:
    vertices, faces = open_tube(segments)
    closed = close_mesh(vertices, faces)
    assert closed.open_edges == 2 * segments
    assert len(oriented_boundary(closed.faces)) == 0
    caps = closed.vertices[closed.faces[closed.caps :]]
    assert len(caps) <= 3 * closed.open_edges
    sizes = np.linalg.norm(caps - np.roll(caps, 1, axis=1), axis=2).max(axis=1)
    edge = np.linalg.norm(vertices[1] - vertices[0])
    if segments >= 64:
        assert (sizes < 3 * edge).mean() > 0.5  # a fan over the whole rim: none


def test_rims_in_lattice_planes_get_the_exact_winding_number() -> None:
    vertices, faces = open_tube(64)
    lattice = Lattice(-0.5, 1 / 16, 16)  # z = -0.25 and 0.25 are planes of it
    coords = np.indices((17, 17, 17), dtype=np.int32).reshape(3, -1).T
    windings = SolidSigns(vertices, faces).windings(coords, np.ones(len(coords)), lattice)
    exact = winding_numbers(lattice.points(coords), vertices, faces, accuracy=math.inf)
    assert 0.5 < exact.max() < 0.95
    assert np.abs(windings - exact).max() < 5e-3


@pytest.mark.parametrize("seed", range(4))
def test_caps_of_random_soups_close_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    faces = rng.integers(0, 30, (40, 3))  # pinched rims, repeated edges, faces without area
    closed = close_mesh(rng.normal(size=(30, 3)), faces)
    assert closed.open_edges > 20
    assert len(oriented_boundary(closed.faces)) == 0


def test_edges_of_four_faces_are_no_boundary() -> None:
    boxes = [trimesh.creation.box((0.3, 0.3, 0.3)), trimesh.creation.box((0.3, 0.3, 0.3))]
    boxes[1].apply_translation([0.3, 0.3, 0])  # they share one edge
    vertices, faces = arrays(trimesh.util.concatenate(boxes))
    closed = close_mesh(vertices, faces)
    assert closed.open_edges == 0
    windings, exact, distances, signs = signs_and_exact(vertices, faces)
    off = ~signs.on_surface(distances)
    np.testing.assert_allclose(windings[off], exact[off], atol=1e-9)


def test_a_sheet_covered_from_both_sides_encloses_nothing() -> None:
    square = np.array([[0, 0, 0.125], [0.25, 0, 0.125], [0.25, 0.25, 0.125], [0, 0.25, 0.125]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [2, 1, 0], [3, 2, 0]])
    lattice = Lattice(-0.5, 1 / 16, 16)
    near = narrow_band(square, faces, lattice, band=3)
    signs = SolidSigns(square, faces)
    assert signs.report.open_edges == 0
    assert signs.on_surface(near.distances).sum() == 25
    assert not (signs.sides(near.coords, near.distances, lattice) & INSIDE).any()


def test_points_on_inner_walls_are_inside_and_on_outer_walls_outside() -> None:
    vertices, faces = arrays(
        trimesh.util.concatenate([trimesh.creation.box((0.75, 0.75, 0.75)), trimesh.creation.box((0.25, 0.25, 0.25))])
    )
    lattice = Lattice(-0.5, 1 / 16, 16)
    near = narrow_band(vertices, faces, lattice)
    signs = SolidSigns(vertices, faces)
    inside = (signs.sides(near.coords, near.distances, lattice) & INSIDE).astype(bool)
    radius = np.abs(lattice.points(near.coords)).max(axis=1)
    assert np.array_equal(inside, radius < 0.375)
    assert signs.on_surface(near.distances)[inside].sum() == 5**3 - 3**3


@needs_data
def test_broken_files_with_a_definite_inside_are_solid() -> None:
    for name, flipped in (("09_mixed_winding.stl", True), ("10_inward.ply", False), ("20_t_junction.obj", False)):
        vertices, faces = arrays(trimesh.load(BROKEN / name, process=False))
        vertices = (vertices - vertices.mean(axis=0)) / np.ptp(vertices, axis=0).max() * 0.9
        windings, exact, distances, signs = signs_and_exact(vertices, faces)
        assert signs.report.open_edges == 0, name
        assert (signs.report.flipped_faces > 0) == flipped, name
        off = ~signs.on_surface(distances)
        np.testing.assert_allclose(windings[off], exact[off], atol=1e-6, err_msg=name)
        assert 0.1 < (np.abs(windings) > 0.5).mean() < 0.9


def test_lattice_lines_through_many_walls_keep_their_winding_numbers() -> None:
    """Sixty walls on a line, listed in any order: inside the boxes the number is 1 or -1, between them 0."""
    rng = np.random.default_rng(4)
    vertices, faces = arrays(trimesh.creation.box((0.8, 0.8, 0.017)))
    count = len(vertices)
    height = (np.arange(30) + 0.5) / 30 - 0.5
    turned = rng.permutation(np.arange(30) % 2)
    pieces = [faces[:, ::-1] if turn else faces for turn in turned]
    stack = np.concatenate([piece + count * number for number, piece in enumerate(pieces)])
    stack = stack[rng.permutation(len(stack))]
    lattice = Lattice(-0.5, 1 / 97, 97)
    coords = np.argwhere(np.ones((98,) * 3)).astype(np.int32)
    found = column_windings(coords, np.concatenate([vertices + np.array([0, 0, z]) for z in height]), stack, lattice)
    points = lattice.points(coords)
    at = np.clip(np.floor((points[:, 2] + 0.5) * 30).astype(int), 0, 29)
    within = (np.abs(points[:, :2]) < 0.4).all(axis=1) & (np.abs(points[:, 2] - height[at]) < 0.0085)
    assert np.array_equal(found, np.where(within, np.where(turned[at], -1, 1), 0))
