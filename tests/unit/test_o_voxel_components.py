"""State, representation and extractor: what survives a round trip, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import trimesh
from shapewright.errors import ConfigError, MeshError, StateError
from shapewright.normalise import normalise
from shapewright.states import Frame, Mesh
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.topology import edge_topology
from shapewright_plugins.o_voxel.extractor import Config, FlexibleDualGridMesh, positions
from shapewright_plugins.o_voxel.representation import Config as GridConfig
from shapewright_plugins.o_voxel.representation import OVoxel
from shapewright_plugins.o_voxel.state import FlexibleDualGrid
from shapewright_plugins.o_voxel.triangulation import cut_by_shape, cut_by_weight, fan_around_middle


def _mesh(vertices: object, faces: object, frame: Frame | None = None) -> Mesh:
    frame = Frame() if frame is None else frame
    return Mesh(torch.as_tensor(np.asarray(vertices), dtype=torch.float32), torch.as_tensor(np.asarray(faces)), frame)


def _round_trip(mesh: Mesh, resolution: int, *, nudge: float = 0.0, **options: object) -> Mesh:
    state = OVoxel(GridConfig(resolution=resolution, nudge=nudge)).from_mesh(mesh)
    return FlexibleDualGridMesh(Config(**options)).extract(state)  # type: ignore[arg-type]


def _area(mesh: Mesh) -> float:
    corners = mesh.corners
    return float(torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1).sum()) / 2


def _tilted(vertices: np.ndarray) -> np.ndarray:
    turn = trimesh.transformations.euler_matrix(0.31, 0.47, 0.23)[:3, :3]
    return np.asarray(vertices) @ turn.T


def test_frame_of_the_grid_is_the_frame_of_the_mesh_with_the_published_scale() -> None:
    box = trimesh.creation.box(extents=(1, 1, 1))
    state = OVoxel(GridConfig(resolution=16)).from_mesh(_mesh(box.vertices, box.faces))
    assert state.frame.extent == pytest.approx((1 / 0.99999,) * 3, abs=1e-12)
    assert state.resolution == 16
    assert state.voxel_size == pytest.approx((1 / 0.99999 / 16,) * 3)
    assert (state.coords[:, 1:].amin(0).tolist(), state.coords[:, 1:].amax(0).tolist()) == ([0, 0, 0], [15, 15, 15])
    mesh = FlexibleDualGridMesh(Config()).extract(state)
    assert mesh.vertices.abs().amax(0).tolist() == pytest.approx([0.5] * 3, abs=1e-4)


def test_coordinates_are_sorted_and_relative_to_the_voxel() -> None:
    ball = trimesh.creation.icosphere(3, 0.4)
    state = OVoxel(GridConfig(resolution=24)).from_mesh(_mesh(ball.vertices, ball.faces))
    keys = (state.coords[:, 1].long() * 24 + state.coords[:, 2]) * 24 + state.coords[:, 3]
    assert (keys.diff() > 0).all()
    assert state.dual_vertices.min() >= 0
    assert state.dual_vertices.max() <= 1
    assert positions(state).norm(dim=1).sub(0.4).abs().max() < 0.5 / 24


def _disc() -> tuple[np.ndarray, list[list[int]]]:
    angles = np.linspace(0, 2 * math.pi, 200, endpoint=False)
    rim = np.stack([0.45 * np.cos(angles), 0.45 * np.sin(angles), 0 * angles], axis=1)
    return np.concatenate([rim, [[0, 0, 0]]]), [[200, i, (i + 1) % 200] for i in range(200)]


def test_open_disc_is_one_manifold_sheet_with_one_border() -> None:
    vertices, faces = _disc()
    result = _round_trip(_mesh(vertices + np.array([0, 0, 0.0013]), faces), 64)
    topology = edge_topology(result.faces.numpy())
    assert (topology.components, topology.euler) == (1, 1)
    assert not topology.non_manifold.any()
    assert topology.boundary.sum() > 200
    assert (result.vertices[:, 2] - 0.0013).abs().max() < 1e-4


def test_tilted_disc_is_not_doubled_and_opens_only_at_its_rim() -> None:
    vertices, faces = _disc()
    centre = np.array([0.003, 0.002, 0.001])  # the hub of the fan is off the lattice, where rounding would decide
    disc = _mesh(_tilted(vertices) + centre, faces)
    result = _round_trip(disc, 64)
    assert _area(result) == pytest.approx(_area(disc), rel=0.005)
    topology = edge_topology(result.faces.numpy())
    assert topology.components == 1
    border = result.vertices[torch.as_tensor(topology.edges[topology.boundary]).unique()]
    assert (border - torch.as_tensor(centre)).norm(dim=1).min() > 0.45 - 2 / 64  # no hole
    reach = torch.cdist(disc.vertices[:200], border).amin(dim=1)
    assert reach.max() < 1 / 64  # and the whole rim is reached


def test_nested_spheres_keep_all_shells() -> None:
    shells = [trimesh.creation.icosphere(4, radius) for radius in (0.45, 0.3, 0.15)]
    nested = trimesh.util.concatenate(shells)
    result = _round_trip(_mesh(nested.vertices, nested.faces), 64)
    topology = edge_topology(result.faces.numpy())
    assert topology.components == 3
    assert not topology.boundary.any()
    assert not topology.non_manifold.any()
    assert topology.euler == 6
    radii = result.vertices.norm(dim=1)
    assert [int(((radii - r).abs() < 0.01).sum()) > 500 for r in (0.45, 0.3, 0.15)] == [True] * 3
    assert (torch.stack([(radii - r).abs() for r in (0.45, 0.3, 0.15)]).amin(0) < 0.002).all()


def test_three_quads_on_one_edge_stay_three() -> None:
    angles = np.array([0.2, 2.4, 4.3])
    outer = np.stack([0.4 * np.cos(angles), 0.4 * np.sin(angles)], axis=1)
    vertices = [[0, 0, -0.4], [0, 0, 0.4]]
    faces = []
    for x, y in outer:
        first = len(vertices)
        vertices += [[x, y, -0.4], [x, y, 0.4]]
        faces += [[0, first, first + 1], [0, first + 1, 1]]
    mesh = _mesh(vertices, faces)
    result = _round_trip(mesh, 32)
    edges = np.sort(np.concatenate([result.faces[:, [i, (i + 1) % 3]].numpy() for i in range(3)]), axis=1)
    unique, uses = np.unique(edges, axis=0, return_counts=True)
    seam = unique[uses == 3]
    assert uses.max() == 3
    assert len(seam) > 20  # along the axis, a voxel each
    along = result.vertices[torch.as_tensor(seam)].numpy()
    assert np.abs(along[..., :2]).max() < 0.25 / 32
    assert np.ptp(along[..., 2]) > 0.75
    assert _area(result) == pytest.approx(_area(mesh), rel=0.05)


def test_edges_of_a_cube_stay_sharp() -> None:
    cube = trimesh.creation.box(extents=(0.55, 0.55, 0.55))
    vertices = _tilted(cube.vertices)
    result = _round_trip(_mesh(vertices, cube.faces), 48)
    ends = [vertices[list(edge)] for edge in cube.face_adjacency_edges[cube.face_adjacency_angles > 0.1]]
    samples = np.concatenate([a + np.linspace(0.02, 0.98, 50)[:, None] * (b - a) for a, b in ends])
    index = ClosestPointIndex(result.vertices.double().numpy(), result.faces.numpy())
    distances = index.query(samples)[0]
    assert distances.max() * 48 < 0.1  # in voxels; a surface cut off within a voxel would be some 0.3 away


def test_result_is_honest_about_orientation() -> None:
    ball = trimesh.creation.icosphere(3, 0.4)
    result = _round_trip(_mesh(ball.vertices, ball.faces), 16)
    assert result.oriented is False
    assert edge_topology(result.faces.numpy()).inconsistent.any()


def test_unreferenced_vertices_are_dropped_only_when_asked() -> None:
    ball = trimesh.creation.icosphere(3, 0.4)
    state = OVoxel(GridConfig(resolution=16)).from_mesh(_mesh(ball.vertices, ball.faces))
    state = FlexibleDualGrid(state.coords[5:], state.dual_vertices[5:], state.intersected[5:], None, 16, 1, state.frame)
    kept = FlexibleDualGridMesh(Config(drop_unreferenced=False)).extract(state)
    dropped = FlexibleDualGridMesh(Config()).extract(state)
    assert len(kept.vertices) == len(state.coords)
    assert len(dropped.vertices) == len(kept.faces.unique())
    assert torch.equal(kept.corners, dropped.corners)


def test_diagonal_follows_weights_or_shape() -> None:
    # A fold over the diagonal 1-3: corners 0 and 2 lie lower.
    vertices = torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.float32)
    quads = torch.tensor([[0, 1, 2, 3]])
    across, along = [[0, 1, 2], [0, 2, 3]], [[0, 1, 3], [3, 1, 2]]
    assert cut_by_weight(quads, torch.tensor([1.0, 2.0, 1.0, 2.0])).tolist() == along
    assert cut_by_weight(quads, torch.tensor([2.0, 1.0, 2.0, 1.0])).tolist() == across
    assert cut_by_weight(quads, torch.ones(4)).tolist() == along  # published: strictly larger for 0-2
    assert cut_by_shape(quads, vertices, "reference").tolist() == across
    flat = vertices.clone()
    flat[1] = flat[0]
    assert cut_by_shape(quads, flat, "reference").tolist() == along
    folded = torch.tensor([[0, 0, 0], [1, 0, 0.1], [1.5, 1.5, 1], [0, 1, 0.1]], dtype=torch.float32)
    assert cut_by_shape(quads, folded, "min-angle").tolist() in (across, along)


def test_min_angle_takes_the_flatter_cut() -> None:
    # Two flat triangles along 0-2 would meet at a right angle, along 1-3 they lie in one plane but for a corner.
    quads = torch.tensor([[0, 1, 2, 3]])
    fold_02 = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0.5, 1]], dtype=torch.float32)
    cuts = {}
    for name, faces in (("02", [[0, 1, 2], [0, 2, 3]]), ("13", [[0, 1, 3], [3, 1, 2]])):
        corners = fold_02[torch.tensor(faces)]
        normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = normals / normals.norm(dim=1, keepdim=True)
        cuts[name] = (float((normals[0] * normals[1]).sum().abs()), faces)
    assert cut_by_shape(quads, fold_02, "min-angle").tolist() == max(cuts.values())[1]


def test_training_fan_weighs_the_diagonals() -> None:
    vertices = torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 1, 1]], dtype=torch.float32)
    made, faces = fan_around_middle(torch.tensor([[0, 1, 2, 3]]), vertices, torch.tensor([1.0, 1.0, 3.0, 1.0]))
    assert made[4].tolist() == pytest.approx([0.5, 0.5, 0.25])  # (3 * 0 + 1 * 1) / 4
    assert faces.tolist() == [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]


def test_half_precision_state_is_meshed_in_single_precision() -> None:
    ball = trimesh.creation.icosphere(2, 0.4)
    state = OVoxel(GridConfig(resolution=8)).from_mesh(_mesh(ball.vertices, ball.faces))
    half = FlexibleDualGrid(state.coords, state.dual_vertices.half(), state.intersected, None, 8, 1, state.frame)
    assert FlexibleDualGridMesh(Config()).extract(half).vertices.dtype == torch.float32


def test_frame_may_be_any_box() -> None:
    frame = Frame((1.0, 2.0, 3.0), (2.0, 4.0, 6.0), "z")
    ball = trimesh.creation.icosphere(3, 1.0)
    vertices = (ball.vertices * [0.4, 0.8, 1.2]) + [1.5, 3.0, 4.5]
    result = _round_trip(_mesh(vertices, ball.faces, frame), 24)
    assert result.vertices.amin(0).tolist() == pytest.approx([1.1, 2.2, 3.3], abs=0.03)
    assert result.vertices.amax(0).tolist() == pytest.approx([1.9, 3.8, 5.7], abs=0.03)
    assert result.frame.up == "z"


@pytest.mark.parametrize(
    "options",
    [{"resolution": 1}, {"resolution": 10**6}, {"scale": 0.0}, {"scale": 1.5}, {"boundary_weight": -1.0},
     {"face_weight": float("nan")}, {"regularization_weight": float("inf")}],
)  # fmt: skip
def test_grid_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        GridConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"mode": "test"}, {"diagonal": "longest"}])
def test_unknown_extractor_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="must be one of"):
        Config(**options)


def test_mesh_that_cannot_be_converted_is_refused() -> None:
    triangle = [[0, 0, 0], [0.2, 0, 0], [0, 0.2, 0]]
    representation = OVoxel(GridConfig(resolution=8))
    with pytest.raises(MeshError, match="no faces"):
        representation.from_mesh(_mesh(triangle, np.zeros((0, 3), int)))
    with pytest.raises(MeshError, match="finite"):
        representation.from_mesh(_mesh([[0, 0, float("nan")], *triangle[1:]], [[0, 1, 2]]))
    with pytest.raises(MeshError, match="normalise"):
        representation.from_mesh(_mesh([[0, 0, 0.7], *triangle[1:]], [[0, 1, 2]]))


def test_state_refuses_arrays_that_do_not_fit() -> None:
    coords, dual, flags = torch.zeros(2, 4, dtype=torch.int32), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    for arguments in (
        (coords.long(), dual, flags, None, 4),
        (coords, dual[:1], flags, None, 4),
        (coords, dual, flags.float(), None, 4),
        (coords, dual, flags, torch.ones(2), 4),
        (coords, dual, flags, None, 0),
    ):
        with pytest.raises(StateError):
            FlexibleDualGrid(*arguments)  # type: ignore[arg-type]


def test_extractor_refuses_batches_and_repeated_voxels() -> None:
    coords, dual, flags = torch.zeros(2, 4, dtype=torch.int32), torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)
    state = FlexibleDualGrid(coords, dual, flags, None, 4)
    with pytest.raises(StateError, match="twice"):
        FlexibleDualGridMesh(Config()).extract(state)
    batch = FlexibleDualGrid.stack([state, state])
    with pytest.raises(StateError, match="unbind"):
        FlexibleDualGridMesh(Config()).extract(batch)


def test_specs_name_the_classes(catalog) -> None:  # type: ignore[no-untyped-def]
    assert catalog.load("representation/o-voxel") is OVoxel
    assert catalog.load("extractor/flexible-dual-grid") is FlexibleDualGridMesh
    assert OVoxel(GridConfig(resolution=1024)).peak_bytes() == 6 * 80 * 1024**2


def test_a_nudged_grid_leaves_no_slit_where_a_surface_runs_through_lattice_points() -> None:
    # Normalised into the unit box, its plane meets lattice points exactly at even resolutions.
    triangle, _ = normalise(_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0.5]], [[0, 1, 2]]))
    area = _area(triangle)
    assert _area(_round_trip(triangle, 64)) < 0.8 * area
    assert _area(_round_trip(triangle, 64, nudge=0.01)) == pytest.approx(area, rel=0.02)


def test_a_nudge_moves_the_grid_and_not_the_surface() -> None:
    sphere = trimesh.creation.icosphere(4, 0.5)
    mesh = _mesh(sphere.vertices, sphere.faces)
    state = OVoxel(GridConfig(resolution=32, nudge=0.3)).from_mesh(mesh)
    plain = OVoxel(GridConfig(resolution=32)).from_mesh(mesh)
    assert state.frame != plain.frame
    assert min(low for low in state.frame.lower) < -0.5
    assert min(high for high in state.frame.upper) > 0.5
    radii = _round_trip(mesh, 32, nudge=0.3).vertices.norm(dim=1)
    assert float((radii - 0.5).abs().max()) < 0.1 / 32
