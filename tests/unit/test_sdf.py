"""``representation/sdf`` and ``representation/sdf-grid``: values, signs, policies for open surfaces, options."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import shapewright_plugins.sdf as plugin
import torch
import trimesh
from shapewright.errors import ConfigError, MeshError
from shapewright.host import discover
from shapewright.states import Frame, GridField, Mesh, SparseField
from shapewright.streams import stream
from shapewright_plugins.sdf.config import Config
from shapewright_plugins.sdf.field import OpenSurfaceWarning, OrientationWarning
from shapewright_plugins.sdf.grid import GridSdf
from shapewright_plugins.sdf.sparse import SparseSdf

RNG = stream(0, "test")


def mesh_of(*parts: trimesh.Trimesh, dtype: torch.dtype = torch.float64) -> Mesh:
    joined = trimesh.util.concatenate(parts)
    return Mesh(torch.tensor(np.array(joined.vertices), dtype=dtype), torch.tensor(np.array(joined.faces)).long())


def box(size: float = 1.0) -> trimesh.Trimesh:
    return trimesh.creation.box((size, size, size))


def sheet() -> Mesh:
    corners = torch.tensor([[-0.5, -0.5, 0.01], [0.5, -0.5, 0.01], [0.5, 0.5, 0.01], [-0.5, 0.5, 0.01]])
    return Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def convert(mesh: Mesh, **options: object) -> SparseField:
    return SparseSdf(Config(**options)).from_mesh(mesh, rng=RNG)  # type: ignore[arg-type]


def convert_grid(mesh: Mesh, **options: object) -> GridField:
    return GridSdf(Config(**options)).from_mesh(mesh, rng=RNG)  # type: ignore[arg-type]


def positions(field: SparseField) -> np.ndarray:
    coords = field.values.coords[:, 1:].numpy().astype(np.float64)
    return np.array(field.frame.lower) + coords * np.array(field.spacing)


def box_distance(points: np.ndarray, half: float) -> np.ndarray:
    offset = np.abs(points) - half
    outside = np.linalg.norm(np.maximum(offset, 0), axis=-1)
    return outside + np.minimum(offset.max(axis=-1), 0)


def test_box_has_the_analytic_signed_distance() -> None:
    field = convert(mesh_of(box()), resolution=20, band=4)
    expected = box_distance(positions(field), 0.5)
    np.testing.assert_allclose(field.values.feats[:, 0].numpy(), expected.astype(np.float32), atol=2e-7)
    assert field.values.feats.dtype == torch.float32
    assert (expected < 0).sum() > 1000


def test_sphere_has_its_distance_within_the_facets() -> None:
    ball = trimesh.creation.icosphere(4, 0.5)
    field = convert_grid(mesh_of(ball), resolution=16)
    low, spacing = np.array(field.frame.lower), np.array(field.spacing)
    points = low + np.indices((17,) * 3).reshape(3, -1).T * spacing
    expected = np.linalg.norm(points, axis=1) - 0.5
    sag = 0.5 - np.linalg.norm(ball.triangles_center, axis=1).min()
    error = field.values.numpy().reshape(-1) - expected
    assert np.abs(error).max() < sag + 1e-6


def test_lattice_has_the_margin_and_box_faces_lie_between_its_planes() -> None:
    field = convert(mesh_of(box()), resolution=20)
    assert field.frame.upper == pytest.approx([0.5 * 20 / 17.5] * 3)
    assert (0.5 - field.frame.lower[0]) / field.spacing[0] == pytest.approx(18.75)
    assert field.values.resolution == 20


def test_state_is_sorted_complete_and_within_the_lattice() -> None:
    field = convert(mesh_of(box(), trimesh.creation.icosphere(2, 0.2)), resolution=24)
    coords = field.values.coords.numpy()
    assert np.array_equal(coords, np.unique(coords, axis=0))
    assert coords.dtype == np.int32
    assert not coords[:, 0].any()
    assert coords.min() >= 0
    assert coords.max() <= 24
    assert field.tag == "sdf.sparse"
    assert torch.isfinite(field.values.feats).all()


def test_nested_parts_are_one_solid_without_inner_surface() -> None:
    field = convert(mesh_of(box(), trimesh.creation.icosphere(3, 0.3)), resolution=32, band=2)
    radius = np.linalg.norm(positions(field), axis=1)
    near_inner_wall = np.abs(radius - 0.3) < 0.02
    assert near_inner_wall.sum() > 100
    assert (field.values.feats[near_inner_wall, 0] < 0).all()


def test_inner_walls_on_lattice_points_leave_no_bubbles() -> None:
    field = convert(mesh_of(box(), box(0.5)), resolution=8, margin=0, band=2)  # inner faces on the planes 2 and 6
    points = positions(field)
    inner = np.abs(points).max(axis=1) < 0.3
    assert (box_distance(points, 0.25)[inner] == 0).any()
    assert (field.values.feats[inner, 0] < 0).all()


def test_points_on_the_surface_count_as_outside_and_no_value_is_zero() -> None:
    field = convert(mesh_of(box(0.5)), resolution=8, margin=0)
    on = np.abs(box_distance(positions(field), 0.25)) < 1e-12
    values = field.values.feats[:, 0]
    assert on.sum() == 5**3 - 3**3
    assert (values[on] > 0).all()
    assert (values[on] < 1e-6).all()
    assert (values != 0).all()


def test_inward_mesh_gives_the_same_field() -> None:
    outward = mesh_of(trimesh.creation.icosphere(2, 0.5))
    inward = Mesh(outward.vertices, outward.faces.flip(1))
    assert torch.equal(convert(outward, resolution=16).values.feats, convert(inward, resolution=16).values.feats)


def test_mixed_winding_is_repaired_with_a_warning() -> None:
    good = mesh_of(trimesh.creation.icosphere(2, 0.5))
    faces = good.faces.clone()
    faces[::3] = faces[::3].flip(1)
    with pytest.warns(OrientationWarning, match="turned 107 faces") as caught:
        repaired = convert(Mesh(good.vertices, faces), resolution=16)
    assert torch.equal(repaired.values.feats.sign(), convert(good, resolution=16).values.feats.sign())
    assert isinstance(caught[0].message, OrientationWarning)
    one = good.faces.clone()
    one[5] = one[5].flip(0)
    with pytest.warns(OrientationWarning, match="turned 1 faces"):
        convert(Mesh(good.vertices, one), resolution=16)
    assert caught[0].message.report.flipped_faces == 107


def test_open_surface_in_solid_mode_names_its_policy() -> None:
    with pytest.warns(OpenSurfaceWarning, match="policy 'solid'") as caught:
        convert(sheet(), resolution=16)
    assert isinstance(caught[0].message, OpenSurfaceWarning)
    assert caught[0].message.report.open_edges == 4


def test_open_surface_can_be_refused() -> None:
    with pytest.raises(MeshError, match="surface=refuse"):
        convert(sheet(), resolution=16, surface="refuse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(mesh_of(box()), resolution=16, surface="refuse")


def test_shell_is_unsigned_and_silent_with_its_surface_at_the_thickness() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        field = convert(sheet(), resolution=32, surface="shell", thickness=0.75)
    offset = np.maximum(np.abs(positions(field) - [0, 0, 0.01]) - [0.5, 0.5, 0], 0)
    np.testing.assert_allclose(field.values.feats[:, 0], np.linalg.norm(offset, axis=1), atol=1e-6)
    assert field.level == pytest.approx(0.75 * field.spacing[0])
    assert (field.values.feats[:, 0] != field.level).all()
    # the sheet is wrapped: on every lattice line across it some point is nearer than the level
    enclosed = field.values.coords[field.values.feats[:, 0] < field.level]
    across = {(x, y) for _, x, y, _ in enclosed.tolist()}
    assert {(x, y) for x in range(2, 31) for y in range(2, 31)} <= across
    # and every cell between is active, out to the level on both sides
    assert field.values.feats.max() >= 2.4 * field.spacing[0]


def test_shells_on_lattice_points_never_equal_their_level_and_know_how_far_they_reach() -> None:
    field = convert(mesh_of(box()), resolution=12, margin=2, surface="shell", thickness=1.0)  # cells of 1/8
    points, values = positions(field), field.values.feats[:, 0]
    on = np.abs(np.abs(box_distance(points, 0.5)) - 0.125) < 1e-12
    assert on.sum() > 100
    assert (values != field.level).all()
    np.testing.assert_allclose(values[on], field.level, atol=1e-6)
    assert field.outside == pytest.approx((1.0 + 1.75) / 8)  # what is not stored is farther than that


def test_dense_grid_equals_the_band_bit_for_bit() -> None:
    mesh = mesh_of(trimesh.creation.icosphere(2, 0.4), trimesh.creation.box((0.3, 0.9, 0.2)))
    for options in ({"gradients": True}, {"surface": "shell", "gradients": True}):
        sparse, dense = convert(mesh, resolution=21, **options), convert_grid(mesh, resolution=21, **options)
        x, y, z = sparse.values.coords[:, 1:].long().T
        assert torch.equal(dense.values[x, y, z], sparse.values.feats[:, 0])
        assert sparse.gradients is not None
        assert dense.gradients is not None
        assert torch.equal(dense.gradients[x, y, z], sparse.gradients)
        assert (dense.frame, dense.level) == (sparse.frame, sparse.level)
        outside_band = torch.ones_like(dense.values, dtype=torch.bool)
        outside_band[x, y, z] = False
        assert (dense.values[outside_band].abs() > 1.75 * dense.spacing[0]).all()


def test_dense_grid_equals_the_band_on_open_meshes_too() -> None:
    ball = trimesh.creation.icosphere(3, 0.5)
    kept = ball.faces[ball.triangles_center[:, 1] < 0.2]
    mesh = Mesh(torch.tensor(np.array(ball.vertices)), torch.tensor(np.array(kept)))
    with pytest.warns(OpenSurfaceWarning):
        sparse, dense = convert(mesh, resolution=40), convert_grid(mesh, resolution=40)
    x, y, z = sparse.values.coords[:, 1:].long().T
    assert torch.equal(dense.values[x, y, z], sparse.values.feats[:, 0])
    assert (dense.values < 0).sum() > 1000


def test_gradients_are_the_exact_unit_gradients_of_a_box() -> None:
    field = convert(mesh_of(box(0.5)), resolution=18, band=3, gradients=True)
    points = positions(field)
    assert field.gradients is not None
    gradients = field.gradients.numpy()
    np.testing.assert_allclose(np.linalg.norm(gradients, axis=1), 1, atol=1e-6)
    outside = box_distance(points, 0.25) > 1e-9
    expected = points - np.clip(points, -0.25, 0.25)
    expected[outside] /= np.linalg.norm(expected[outside], axis=1, keepdims=True)
    np.testing.assert_allclose(gradients[outside], expected[outside], atol=1e-6)
    step = points - field.values.feats[:, :1].numpy() * gradients  # walking down the distance ends on the surface
    np.testing.assert_allclose(box_distance(step, 0.25), 0, atol=1e-6)
    deep = (np.abs(points) < [0.1, 0.1, 0.25]).all(axis=1) & (points[:, 2] > 0.15)
    np.testing.assert_allclose(gradients[deep], np.broadcast_to([0, 0, 1], (deep.sum(), 3)), atol=1e-6)


@pytest.mark.parametrize("inward", [False, True])
def test_gradients_on_the_surface_point_outward_whatever_the_winding(inward: bool) -> None:
    mesh = mesh_of(box(0.5))
    if inward:
        mesh = Mesh(mesh.vertices, mesh.faces.flip(1))
    field = convert(mesh, resolution=8, margin=0, gradients=True)
    points = positions(field)
    on = np.abs(box_distance(points, 0.25)) < 1e-12
    expected = np.where(np.abs(np.abs(points) - 0.25) < 1e-9, np.sign(points), 0)[on]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert field.gradients is not None
    np.testing.assert_allclose(field.gradients.numpy()[on], expected, atol=1e-6)


def test_single_precision_and_unused_vertices_are_accepted() -> None:
    mesh = mesh_of(trimesh.creation.icosphere(1, 0.5))
    stray = torch.cat([mesh.vertices.float(), torch.tensor([[math.nan] * 3, [9e9] * 3])])
    field = convert(Mesh(stray, mesh.faces), resolution=12)
    same = convert(Mesh(mesh.vertices.float(), mesh.faces), resolution=12)
    assert torch.equal(field.values.feats, same.values.feats)


def test_frames_need_not_be_cubes_and_keep_their_up_axis() -> None:
    frame = Frame((-0.5, -0.25, -0.5), (0.5, 0.25, 0.5), up="z")
    mesh = mesh_of(trimesh.creation.box((1, 0.5, 1)))
    field = convert(Mesh(mesh.vertices, mesh.faces, frame), resolution=16)
    offset = np.abs(positions(field)) - [0.5, 0.25, 0.5]
    expected = np.linalg.norm(np.maximum(offset, 0), axis=1) + np.minimum(offset.max(axis=1), 0)
    np.testing.assert_allclose(field.values.feats[:, 0], expected, atol=2e-7)
    assert field.frame.up == "z"


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (Mesh(torch.zeros(3, 3), torch.zeros(0, 3).long()), "no faces"),
        (Mesh(torch.full((3, 3), math.nan), torch.tensor([[0, 1, 2]])), "not finite"),
        (Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 7]])), "does not exist"),
    ],
)
def test_unusable_meshes_are_errors(mesh: Mesh, message: str) -> None:
    for component in (SparseSdf, GridSdf):
        with pytest.raises(MeshError, match=message):
            component(Config(resolution=8)).from_mesh(mesh, rng=RNG)


@pytest.mark.parametrize("surface", ["solid", "shell"])
def test_a_mesh_shrunk_to_a_point_is_converted_without_a_crash(surface: str) -> None:
    mesh = Mesh(torch.full((3, 3), 0.1), torch.tensor([[0, 1, 2]]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        field = convert(mesh, resolution=8, surface=surface, gradients=True)
    assert len(field.values.coords) > 0
    assert torch.isfinite(field.values.feats).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "resolution must be at least 1"),
        ({"resolution": -4}, "resolution must be at least 1"),
        ({"resolution": 1}, "use at least 3"),
        ({"resolution": 1_000_000}, "at most 4096"),
        ({"margin": -1.0}, "margin must be"),
        ({"margin": math.nan}, "margin must be"),
        ({"band": 1.0}, "band must be at least 1.75"),
        ({"thickness": 0.5}, "thickness must be above 0.5"),
        ({"surface": "shell", "thickness": 2.0}, "margin must be above the thickness"),
        ({"surface": "shell", "thickness": 0.75, "margin": 0.75}, "margin must be above the thickness"),
        ({"surface": "auto"}, "surface must be one of solid, shell, refuse"),
    ],
)
def test_options_out_of_range_are_one_line_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config(**options)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_smallest_resolution_works() -> None:
    assert convert(mesh_of(box()), resolution=5).values.feats.min() < 0
    assert convert(mesh_of(box()), resolution=3).values.feats.shape == (32, 1)  # coarser than the box: no point inside
    assert convert(mesh_of(box()), resolution=1, margin=0).values.feats.shape == (8, 1)


def test_dense_grid_estimates_its_memory_from_the_options() -> None:
    small, large = (GridSdf(Config(resolution=r)).peak_bytes() for r in (256, 1024))
    assert 257**3 * 16 < small < 1 << 30
    assert large > 1025**3 * 16
    assert small >= GridSdf(Config(resolution=256, gradients=False)).peak_bytes() + 257**3 * 12
    assert SparseSdf(Config(resolution=1024)).peak_bytes() == 0


def test_plugin_describes_components_that_load() -> None:
    catalog = discover(points=[], extra=[plugin])
    assert [status.state for status in catalog.plugins] == ["ok"]
    assert catalog.load("representation/sdf") is SparseSdf
    assert catalog.load("representation/sdf-grid") is GridSdf
    assert not catalog.get("representation/sdf").capabilities.open_surfaces
