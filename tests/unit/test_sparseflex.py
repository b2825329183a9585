"""The SparseFlex state and representation on shapes whose right answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapewright import Frame, Mesh, SparseTensor
from shapewright.errors import ConfigError, MeshError, StateError
from shapewright_kernels.closest_point import ClosestPointIndex
from shapewright_kernels.marching_cubes import marching_cubes
from shapewright_kernels.pseudonormal import pseudonormal_signs, pseudonormals
from shapewright_kernels.topology import edge_topology
from shapewright_plugins.datasets import sheets, solids
from shapewright_plugins.datasets.triangles import Triangles, concatenated, icosphere
from shapewright_plugins.sparseflex.corners import corner_field
from shapewright_plugins.sparseflex.extractor import Config as ExtractorConfig
from shapewright_plugins.sparseflex.extractor import FlexiCubes
from shapewright_plugins.sparseflex.representation import Config, SparseFlex
from shapewright_plugins.sparseflex.state import ALPHA, BETA, CHANNELS, DEFORM, GAMMA, SDF, SparseFlexState

RNG = torch.Generator()


def normalised(shape: Triangles) -> Mesh:
    low, high = shape.vertices.min(axis=0), shape.vertices.max(axis=0)
    vertices = (shape.vertices - (low + high) / 2) / (high - low).max()
    return Mesh(torch.from_numpy(vertices), torch.from_numpy(np.ascontiguousarray(shape.faces)))


def round_trip(mesh: Mesh, **options: object) -> Mesh:
    state = SparseFlex(Config(**options)).from_mesh(mesh, rng=RNG)  # type: ignore[arg-type]
    return FlexiCubes(ExtractorConfig()).extract(state)


def area(mesh: Mesh) -> float:
    a, b, c = mesh.corners.double().unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2)


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.corners.double().unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def distances(points: torch.Tensor | np.ndarray, mesh: Mesh) -> np.ndarray:
    return ClosestPointIndex(mesh.vertices.numpy(), mesh.faces.numpy()).query(np.asarray(points))[0]


def centres(mesh: Mesh) -> np.ndarray:
    return mesh.corners.mean(dim=1).numpy()


def test_sphere_comes_back_closed_outward_and_accurate() -> None:
    mesh = normalised(icosphere(4, 1.0))
    result = round_trip(mesh, resolution=32)
    assert edge_topology(result.faces).watertight
    assert volume(result) == pytest.approx(volume(mesh), rel=0.003)
    assert distances(result.vertices, mesh).max() < 0.05 / 32
    assert result.oriented


def test_flat_faces_of_a_curved_surface_lie_inside_as_often_as_outside() -> None:
    mesh = round_trip(normalised(icosphere(5)), resolution=16)
    assert volume(mesh) == pytest.approx(np.pi / 6, rel=1e-3)  # on the sphere, its vertices would lose eight times that
    a, b, c = mesh.corners.double().unbind(1)
    areas = torch.linalg.cross(b - a, c - a).norm(dim=1)
    # second-order rule: the middles of the sides
    heights = torch.stack([((p + q) / 2).norm(dim=1) for p, q in ((a, b), (b, c), (c, a))]).mean(dim=0) - 0.5
    assert abs(float((heights * areas).sum() / areas.sum())) < 0.005 / 16


def test_fit_b_is_several_times_closer_than_fit_a_on_a_sharp_solid() -> None:
    mesh = normalised(solids.gear(12, 0.3))
    rough, fitted = (round_trip(mesh, resolution=64, fit=fit) for fit in "AB")
    errors = [distances(centres(m), mesh).mean() + distances(centres(mesh), m).mean() for m in (rough, fitted)]
    assert edge_topology(fitted.faces).watertight
    assert errors[1] < errors[0] / 3


def test_spikes_keep_edges_five_times_sharper_than_marching_cubes() -> None:
    mesh = normalised(solids.spiked_icosahedron())
    resolution = 64
    state = SparseFlex(Config(resolution=resolution)).from_mesh(mesh, rng=RNG)
    result = FlexiCubes(ExtractorConfig()).extract(state)

    axes = [
        np.linspace(low, high, resolution + 1) for low, high in zip(state.frame.lower, state.frame.upper, strict=True)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy()
    unsigned, nearest, closest = ClosestPointIndex(vertices, faces).query(points)
    signs = pseudonormal_signs(points, closest, nearest, pseudonormals(vertices, faces))
    lattice, triangles = marching_cubes((unsigned * signs).reshape((resolution + 1,) * 3))
    spacing = np.array(state.frame.extent) / resolution
    plain = Mesh(torch.from_numpy(lattice * spacing + np.array(state.frame.lower)), torch.from_numpy(triangles))

    edges = edge_topology(faces).edges
    along = np.linspace(0.15, 0.85, 15)[:, None, None]  # needle tips are thinner than a voxel
    creases = (vertices[edges[:, 0]] * (1 - along) + vertices[edges[:, 1]] * along).reshape(-1, 3)
    assert np.median(distances(creases, result)) * 5 < np.median(distances(creases, plain))
    assert distances(creases, result).mean() * 5 < distances(creases, plain).mean()


def test_leaf_stays_one_open_sheet() -> None:
    mesh = normalised(sheets.leaf())
    result = round_trip(mesh, resolution=96)
    topology = edge_topology(result.faces)
    assert topology.boundary_loops == 1
    assert topology.components == 1
    assert not topology.non_manifold.any()
    assert area(result) / area(mesh) == pytest.approx(1, abs=0.03)
    assert distances(centres(result), mesh).max() < 1 / 96
    assert np.quantile(distances(centres(mesh), result), 0.99) < 0.25 / 96


def test_rim_of_a_cup_lies_on_its_border() -> None:
    mesh = normalised(sheets.cup())
    result = round_trip(mesh, resolution=48)
    topology = edge_topology(result.faces)
    assert topology.boundary_loops == 1
    rim = result.vertices[torch.from_numpy(np.unique(topology.edges[topology.boundary]))]
    top = mesh.vertices[:, 2].max()
    assert float((rim[:, 2] - top).abs().max()) < 0.02 / 48
    assert area(result) / area(mesh) == pytest.approx(1, abs=0.01)


def test_nested_shells_all_survive_with_their_orientation() -> None:
    radii = (1.0, 0.7, 0.4)
    mesh = normalised(concatenated([icosphere(4, radius) for radius in radii]))
    result = round_trip(mesh, resolution=40)
    topology = edge_topology(result.faces)
    assert topology.watertight
    assert topology.components == 3
    assert volume(result) == pytest.approx(sum(4 / 3 * np.pi * (r / 2) ** 3 for r in radii), rel=0.01)


def test_walls_of_overlapping_solids_survive_in_a_closed_result() -> None:
    mesh = normalised(concatenated([icosphere(4, 1.0), icosphere(4, 1.0).moved(shift=(0.8, 0.1, 0.05))]))
    result = round_trip(mesh, resolution=48)
    topology = edge_topology(result.faces)
    assert topology.closed
    assert area(result) / area(mesh) == pytest.approx(1, abs=0.03)
    assert np.quantile(distances(centres(mesh), result), 0.99) < 1 / 48
    union = round_trip(mesh, resolution=48, sign="winding")
    assert edge_topology(union.faces).watertight
    assert area(union) < 0.85 * area(mesh)


def test_wrongly_wound_input_gives_the_same_surface() -> None:
    mesh = normalised(icosphere(3, 1.0))
    faces = mesh.faces.clone()
    faces[::4] = faces[::4].flip(1)
    straight, turned = (round_trip(m, resolution=24) for m in (mesh, Mesh(mesh.vertices, faces)))
    assert torch.equal(straight.faces, turned.faces)
    torch.testing.assert_close(straight.vertices, turned.vertices)


def test_shell_closes_around_any_soup() -> None:
    mesh = normalised(sheets.moebius_strip(64, 4))
    result = round_trip(mesh, resolution=48, sign="shell")
    topology = edge_topology(result.faces)
    assert topology.closed
    assert 2 < area(result) / area(mesh) < 2.6  # both sides, and half a tube along the border
    gap = distances(result.vertices, mesh) * 48 / 1.05
    assert gap.min() > 0.7
    assert gap.max() < 1.3


def test_trim_drops_only_voxels_without_a_real_face() -> None:
    mesh = normalised(sheets.leaf())
    trimmed, whole = (SparseFlex(Config(resolution=48, trim=trim)).from_mesh(mesh, rng=RNG) for trim in (True, False))
    assert len(trimmed.values.coords) < len(whole.values.coords)
    kept = {tuple(row) for row in trimmed.values.coords.tolist()}
    assert kept <= {tuple(row) for row in whole.values.coords.tolist()}
    results = [FlexiCubes(ExtractorConfig()).extract(state) for state in (trimmed, whole)]
    assert distances(centres(results[0]), mesh).max() <= distances(centres(results[1]), mesh).max() + 1e-9


def test_frame_leaves_a_margin_and_the_mesh_keeps_its_place() -> None:
    frame = Frame((2.0, 0.0, -1.0), (4.0, 1.0, 0.0), up="z")
    ball = icosphere(3, 0.45).vertices + np.array([3.0, 0.5, -0.5])
    mesh = Mesh(torch.from_numpy(ball), torch.from_numpy(icosphere(3, 0.45).faces), frame)
    state = SparseFlex(Config(resolution=48)).from_mesh(mesh, rng=RNG)
    assert state.frame.up == "z"
    assert len(set(np.round(state.frame.extent, 9))) == 1
    assert state.frame.extent[0] == pytest.approx(2 * 48 / 45.5)
    result = FlexiCubes(ExtractorConfig()).extract(state)
    assert result.frame == state.frame
    assert distances(result.vertices, mesh).max() < 0.01


def test_unusable_input_and_options_are_refused() -> None:
    flat = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(MeshError, match="no face with an area"):
        SparseFlex(Config(resolution=16)).from_mesh(flat, rng=RNG)
    with pytest.raises(MeshError, match="not finite"):
        SparseFlex(Config(resolution=16)).from_mesh(
            Mesh(torch.full((3, 3), torch.nan), torch.tensor([[0, 1, 2]])), rng=RNG
        )
    outside = Mesh(3 * torch.eye(3), torch.tensor([[0, 1, 2]]))
    with pytest.raises(StateError, match="leaves its frame"):
        SparseFlex(Config(resolution=16)).from_mesh(outside, rng=RNG)
    for wrong in ({"fit": "C"}, {"sign": "flood"}, {"resolution": 2}, {"margin": 0.5}, {"shell": 2.0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SparseFlex(Config(**wrong))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="weight_scale"):
        FlexiCubes(ExtractorConfig(weight_scale=1.5))


def test_features_must_have_53_channels_and_be_finite() -> None:
    coords = torch.zeros(1, 4, dtype=torch.int32)
    with pytest.raises(StateError, match=r"\(N, 53\)"):
        SparseFlexState(SparseTensor(coords, torch.zeros(1, 52), 4))
    broken = SparseFlexState(SparseTensor(coords, torch.full((1, CHANNELS), torch.nan), 4))
    with pytest.raises(StateError, match="not finite"):
        FlexiCubes(ExtractorConfig()).extract(broken)


def test_a_batch_must_be_unbound_before_extraction() -> None:
    state = SparseFlex(Config(resolution=12)).from_mesh(normalised(icosphere(1, 1.0)), rng=RNG)
    with pytest.raises(StateError, match="unbind"):
        FlexiCubes(ExtractorConfig()).extract(SparseFlexState.stack([state, state]))
    other = SparseFlexState(state.values, Frame())
    with pytest.raises(StateError, match="one frame"):
        SparseFlexState.stack([state, other])


def test_wall_between_touching_boxes_survives() -> None:
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    box = Triangles(corners, np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]))
    mesh = normalised(concatenated([box, box.moved(shift=(1, 0, 0))]))
    result = round_trip(mesh, resolution=32)
    inner = np.stack(np.meshgrid([0.0], np.linspace(-0.2, 0.2, 9), np.linspace(-0.2, 0.2, 9)), axis=-1).reshape(-1, 3)
    assert distances(inner, result).max() < 0.05 / 32
    union = round_trip(mesh, resolution=32, sign="winding")
    assert edge_topology(union.faces).watertight
    assert distances(inner, union).min() > 1 / 32


def test_rows_of_one_voxel_share_its_corners_and_the_last_one_gives_the_weights() -> None:
    generator = torch.Generator().manual_seed(2)
    coords = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 1]], dtype=torch.int32)
    feats = torch.randn(4, CHANNELS, generator=generator, dtype=torch.float64)
    field = corner_field(coords, feats, 4, Frame((-1.0, 0.0, 0.0), (1.0, 4.0, 8.0)))
    assert field.voxels.tolist() == [[0, 1, 1], [1, 1, 1]]
    for weights, columns in ((field.beta, BETA), (field.alpha, ALPHA), (field.gamma[:, None], slice(GAMMA, GAMMA + 1))):
        torch.testing.assert_close(weights, feats[[1, 3], columns])
    at = field.corners.tolist().index([2, 2, 2])  # of the voxel with three rows only
    last = torch.tensor([0, 2, 3])
    torch.testing.assert_close(field.sdf[at], (feats[last, SDF][:, 7] * 4 / 4 - 1 / 4).mean())
    deform = feats[last, DEFORM].reshape(3, 8, 3)[:, 7].mean(dim=0)
    torch.testing.assert_close(field.deform[at], deform)
    half_cell = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)
    lattice = torch.tensor([0.0, 2.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(field.positions[at], lattice + half_cell * torch.tanh(deform))
