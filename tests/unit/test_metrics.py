"""The metrics: the self-checks of the evaluation protocol (5.7) and cases with known answers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from shapewright.errors import ConfigError, MeshError
from shapewright.interfaces import MeshPair
from shapewright.normalise import normalise
from shapewright.states import Mesh
from shapewright_kernels.topology import merge_vertices
from shapewright_plugins.metrics import distances, health, interior, point_to_point, sharp_edges
from shapewright_plugins.metrics.normals import NormalConsistency
from shapewright_plugins.metrics.volume import VolumeIoU

THRESHOLDS = ("0.0001", "0.0005", "0.001", "0.0025", "0.005", "0.01")


def mesh(vertices: Any, faces: Any, oriented: bool = True) -> Mesh:
    points = torch.tensor(np.asarray(vertices, float), dtype=torch.float64)
    return Mesh(points, torch.tensor(np.asarray(faces, np.int64)), oriented=oriented)


def icosphere(levels: int, radius: float = 0.5) -> Mesh:
    phi = (1 + math.sqrt(5)) / 2
    vertices = np.array([[-1, phi, 0], [1, phi, 0], [-1, -phi, 0], [1, -phi, 0]])
    vertices = np.concatenate([vertices, np.roll(vertices, 1, axis=1), np.roll(vertices, 2, axis=1)])
    hull_edges = np.linalg.norm(vertices[:, None] - vertices, axis=2).round(6) == 2
    faces = np.array(
        [(a, b, c) for a in range(12) for b in range(a) for c in range(b)
         if hull_edges[a, b] and hull_edges[b, c] and hull_edges[c, a]]
    )  # fmt: skip
    for _ in range(levels):
        a, b, c = (vertices[faces[:, k]] for k in range(3))
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        corners = np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
        vertices, group = merge_vertices(corners.reshape(-1, 3))
        faces = group.reshape(-1, 3)
    vertices = radius * vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(axis=1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return mesh(vertices, faces)


def box(size: tuple[float, float, float] = (1, 1, 1), offset: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    corners = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)]) - 0.5
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
             [0, 6, 4], [1, 5, 7], [1, 7, 3]]  # fmt: skip
    return mesh(corners * size + np.array(offset), faces)


def square(height: float = 0.0, oriented: bool = True) -> Mesh:
    vertices = [[-0.5, -0.5, height], [0.5, -0.5, height], [0.5, 0.5, height], [-0.5, 0.5, height]]
    return mesh(vertices, [[0, 1, 2], [0, 2, 3]], oriented)


def joined(*parts: Mesh) -> Mesh:
    start = np.cumsum([0] + [len(part.vertices) for part in parts])
    faces = [part.faces + int(first) for part, first in zip(parts, start, strict=False)]
    return Mesh(torch.cat([part.vertices for part in parts]), torch.cat(faces))


def flipped(part: Mesh) -> Mesh:
    return Mesh(part.vertices, part.faces.flip(1), oriented=part.oriented)


def measure(metric: type[Any], predicted: Mesh, reference: Mesh, samples: int | None = None) -> dict[str, float]:
    """Figures by id, without the mark of an unusual sample count."""
    config = metric.Config() if samples is None else metric.Config(samples=samples)
    values = metric(config).measure(MeshPair(predicted, reference, "shape"))
    return {protocol.split("@20k")[0].split("@2k")[0]: value for protocol, value in values.items()}


_OTHER_DIAGONALS = Mesh(box().vertices * torch.tensor([-1, 1, 1]) + torch.tensor([1, 0, 0]), box().faces.flip(1))
TOUCHING = joined(box(), _OTHER_DIAGONALS)
"""Two cubes that share a wall, cut along different diagonals: coincident sheets with opposite normals."""


# --- the self-checks of 5.7 -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reference", [icosphere(3), square(), joined(icosphere(2), icosphere(2, 0.3)), TOUCHING])
def test_a_mesh_against_itself_is_perfect(reference: Mesh) -> None:
    values = measure(distances.Chamfer, reference, reference) | measure(distances.Hausdorff, reference, reference)
    assert len(values) == 7
    assert max(values.values()) < 1e-12
    assert set(measure(distances.FScore, reference, reference).values()) == {1.0}
    consistency = measure(NormalConsistency, reference, reference)
    assert consistency == pytest.approx({"normal-consistency/v1": 1, "normal-consistency-signed/v1": 1}, abs=1e-12)


def test_a_shifted_square_is_off_by_the_shift() -> None:
    values = measure(distances.Chamfer, square(0.003), square(), 20_000)
    assert values == pytest.approx(
        {"chamfer-l1/v1": 0.003, "chamfer-l2/v1": 1.8e-5, "completeness/v1": 0.003, "accuracy/v1": 0.003}, rel=1e-12
    )
    scores = measure(distances.FScore, square(0.003), square(), 20_000)
    assert [scores[f"f-score@{t}/v1"] for t in THRESHOLDS] == [0, 0, 0, 0, 1, 1]
    assert measure(distances.Hausdorff, square(0.003), square(), 20_000)["hausdorff/v1"] == pytest.approx(0.003)


def test_point_to_point_floor_follows_the_formulas() -> None:
    sphere = icosphere(5)
    density = 100_000 / math.pi
    values = measure(point_to_point.ChamferPointToPoint, sphere, sphere)
    values |= measure(point_to_point.FScorePointToPoint, sphere, sphere)
    assert values["chamfer-l1-p2p/v1"] == pytest.approx(0.5 / math.sqrt(density), rel=0.02)
    assert values["chamfer-l2-p2p/v1"] == pytest.approx(2 / (math.pi * density), rel=0.02)
    for threshold in (1e-3, 5e-3, 1e-2):
        expected = 1 - math.exp(-math.pi * density * threshold**2)
        assert values[f"f-score-p2p@{threshold:g}/v1"] == pytest.approx(expected, rel=0.02)


def test_concentric_spheres_are_off_by_the_difference_of_radii() -> None:
    values = measure(distances.Chamfer, icosphere(5, 0.49), icosphere(5), 20_000)
    assert values["chamfer-l1/v1"] == pytest.approx(0.01, abs=1e-4)


def test_doubling_every_face_changes_nothing_but_the_counts() -> None:
    reference, result = icosphere(3), icosphere(2, 0.45)
    doubled = Mesh(reference.vertices, torch.cat([reference.faces, reference.faces.flip(1)]))
    for metric in (distances.Chamfer, distances.FScore, point_to_point.ChamferPointToPoint):
        assert measure(metric, result, reference) == measure(metric, result, doubled)
        assert measure(metric, reference, result) == measure(metric, doubled, result)
    values = measure(health.MeshHealth, doubled, reference)
    assert values["area-ratio/v1"] == 1.0
    assert values["duplicate-faces/v1"] == len(reference.faces)


def test_a_doubled_sheet_shows_in_the_area_ratio_only() -> None:
    result = joined(square(1e-5), square(-1e-5))
    assert measure(distances.Chamfer, result, square())["chamfer-l1/v1"] == pytest.approx(1e-5)
    assert measure(health.MeshHealth, result, square())["area-ratio/v1"] == pytest.approx(2.0)


@pytest.mark.parametrize(("scale", "shift"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e3)])
def test_scaling_and_moving_changes_nothing_after_normalising(scale: float, shift: float) -> None:
    def placed(moved: bool) -> dict[str, float]:
        parts = [icosphere(3), joined(icosphere(2, 0.4), box((0.2, 0.3, 0.4)))]
        if moved:
            parts = [Mesh(part.vertices * scale + shift, part.faces) for part in parts]
        reference, placement = normalise(parts[0])
        result = placement.place(parts[1])
        values: dict[str, float] = {}
        for metric in (distances.Chamfer, NormalConsistency, point_to_point.ChamferPointToPoint, health.MeshHealth):
            values |= measure(metric, result, reference, 20_000)
        return values | measure(VolumeIoU, result, reference, 20_000)

    assert placed(True) == pytest.approx(placed(False), abs=1e-6)


def test_a_lost_inner_sphere_shows_in_inner_completeness_only() -> None:
    reference = joined(icosphere(4), flipped(icosphere(3, 0.3)))
    whole = measure(interior.Interior, reference, reference)
    hollow = measure(interior.Interior, icosphere(4), reference)
    for name in ("completeness-outer/v1", "recall-outer@0.005/v1", "outer-share-reference/v1"):
        assert hollow[name] == whole[name]
    assert whole["recall-inner@0.005/v1"] == 1
    assert hollow["recall-inner@0.005/v1"] == 0
    assert hollow["completeness-inner/v1"] == pytest.approx(0.2, abs=0.005)
    assert whole["outer-share-reference/v1"] == pytest.approx(0.25 / (0.25 + 0.09), abs=0.01)


# --- streams ----------------------------------------------------------------------------------------------------------
def test_streams_differ_by_role_seed_and_shape_and_repeat() -> None:
    sphere = icosphere(2)

    def floor(**options: Any) -> float:
        metric = point_to_point.ChamferPointToPoint(distances.Config(samples=2_000))
        return metric.measure(MeshPair(sphere, sphere, **options))["chamfer-l1-p2p/v1@2k"]

    assert floor(sample="a") == floor(sample="a") > 0.005  # one stream for both roles would give exactly 0
    assert len({floor(sample="a"), floor(sample="b"), floor(sample="a", seed=1)}) == 3


def test_reference_work_is_kept_for_other_results_and_changes_nothing() -> None:
    reference, memo = joined(icosphere(2), box((0.5, 0.5, 0.5))), {}
    metrics = [m(m.Config(samples=2_000)) for m in (
        distances.Chamfer, point_to_point.ChamferPointToPoint, interior.Interior, sharp_edges.SharpEdges,
        health.MeshHealth,
    )]  # fmt: skip

    def values(result: Mesh, kept: dict[str, Any], seed: int) -> dict[str, float]:
        pair = MeshPair(result, reference, "shape", seed, reference_memo=kept)
        return {key: value for metric in metrics for key, value in metric.measure(pair).items()}

    for result in (reference, icosphere(2, 0.4), box()):
        for seed in (0, 1):
            assert values(result, memo, seed) == values(result, {}, seed)
    assert all(name.startswith("reference/") for name in memo)


# --- ids --------------------------------------------------------------------------------------------------------------
def test_another_sample_count_shows_in_the_id() -> None:
    values = distances.Chamfer(distances.Config(samples=1_500)).measure(MeshPair(square(), square()))
    assert set(values) == {f"{name}/v1@1500" for name in ("chamfer-l1", "chamfer-l2", "completeness", "accuracy")}


@pytest.mark.parametrize("config", [distances.Config, interior.Config, sharp_edges.Config, health.Config])
def test_no_samples_are_refused(config: type[Any]) -> None:
    with pytest.raises(ConfigError, match="samples must be at least 1"):
        config(samples=0)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (mesh(np.zeros((0, 3)), np.zeros((0, 3))), "the result has no faces"),
        (mesh(np.eye(3), [[0, 0, 1]]), "the result has no face with an area"),
        (mesh([[0, 0, math.nan], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]), "not finite"),
        (mesh(np.eye(3), [[0, 1, 3]]), "vertices it does not have"),
    ],
)
def test_an_unusable_result_is_a_clear_error(broken: Mesh, message: str) -> None:
    for metric in (distances.Chamfer, point_to_point.ChamferPointToPoint, interior.Interior, health.MeshHealth):
        with pytest.raises(MeshError, match=message):
            measure(metric, broken, square(), 2_000)


# --- known answers ----------------------------------------------------------------------------------------------------
def test_half_a_reference_halves_recall_and_keeps_precision() -> None:
    half = mesh([[-0.5, -0.5, 0], [0, -0.5, 0], [0, 0.5, 0], [-0.5, 0.5, 0]], [[0, 1, 2], [0, 2, 3]])
    scores = measure(distances.FScore, half, square())
    assert scores["precision@0.0001/v1"] == 1
    assert scores["recall@0.0001/v1"] == pytest.approx(0.5, abs=0.007)
    recall = scores["recall@0.0001/v1"]
    assert scores["f-score@0.0001/v1"] == pytest.approx(2 * recall / (1 + recall))
    values = measure(distances.Chamfer, half, square())
    assert values["accuracy/v1"] < 1e-15
    assert values["completeness/v1"] == pytest.approx(0.125, rel=0.02)
    worst = measure(distances.Hausdorff, half, square())
    assert 0.4999 < worst["hausdorff/v1"] <= 0.5
    assert worst["hausdorff-p99/v1"] == pytest.approx(0.49, abs=0.003)
    assert worst["hausdorff-p99.9/v1"] == pytest.approx(0.499, abs=0.001)


def test_flipped_normals_show_in_the_signed_variant_only() -> None:
    values = measure(NormalConsistency, flipped(icosphere(3)), icosphere(3), 20_000)
    assert values["normal-consistency/v1"] == pytest.approx(1)
    assert values["normal-consistency-signed/v1"] == pytest.approx(-1)
    assert measure(health.MeshHealth, flipped(icosphere(3)), icosphere(3))["flipped-share/v1"] == 1


def test_unoriented_meshes_have_no_signed_figures() -> None:
    for pair in ((square(oriented=False), square()), (square(), square(oriented=False))):
        assert set(measure(NormalConsistency, *pair, 2_000)) == {"normal-consistency/v1"}
        assert "flipped-share/v1" not in measure(health.MeshHealth, *pair)


def test_normal_consistency_of_tilted_planes_is_the_cosine() -> None:
    angle = math.radians(20)
    tilted = square().vertices * torch.tensor([math.cos(angle), 1, 1]) + torch.stack(
        [torch.zeros(4), torch.zeros(4), square().vertices[:, 0] * math.sin(angle)], dim=1
    )
    values = measure(NormalConsistency, Mesh(tilted, square().faces), square(), 2_000)
    assert values["normal-consistency/v1"] == pytest.approx(math.cos(angle))


def test_volume_iou_of_shifted_boxes() -> None:
    assert measure(VolumeIoU, box(), box()) == {"volume-iou/v1": 1.0}
    assert measure(VolumeIoU, box(offset=(0.5, 0, 0)), box())["volume-iou/v1"] == pytest.approx(1 / 3, abs=0.007)
    assert measure(VolumeIoU, flipped(box((0.5, 1, 1))), box())["volume-iou/v1"] == pytest.approx(0.5, abs=0.007)
    assert measure(VolumeIoU, box(offset=(3, 0, 0)), box()) == {"volume-iou/v1": 0.0}


def test_volume_iou_sees_cavities() -> None:
    hollow = joined(box(), flipped(box((0.5, 0.5, 0.5))))
    assert measure(VolumeIoU, box(), hollow)["volume-iou/v1"] == pytest.approx(7 / 8, abs=0.005)


def test_volume_iou_needs_two_volumes() -> None:
    opened = Mesh(box().vertices, box().faces[1:])
    unoriented = Mesh(box().vertices, box().faces, oriented=False)
    for other in (square(), opened, unoriented):
        assert measure(VolumeIoU, other, box()) == measure(VolumeIoU, box(), other) == {}
    pair = MeshPair(box(), box(), open_reference=True)
    assert VolumeIoU(distances.Config()).measure(pair) == {}


def test_kept_creases_are_perfect_and_shifted_ones_are_off_by_the_shift() -> None:
    values = measure(sharp_edges.SharpEdges, box(), box())
    assert values.pop("edge-f-score@0.005/v1") == 1
    assert max(values.values()) < 1e-12
    assert set(values) == {"edge-completeness/v1", "edge-accuracy/v1", "edge-surface/v1", "edge-normal/v1"}
    grown = measure(sharp_edges.SharpEdges, box((1.02, 1.02, 1.02)), box())
    assert grown["edge-completeness/v1"] == pytest.approx(0.01 * math.sqrt(2), rel=1e-6)
    assert grown["edge-f-score@0.005/v1"] == 0
    assert grown["edge-surface/v1"] == pytest.approx(0.01, rel=1e-6)


def test_rounded_creases_lose_completeness_surface_and_normals() -> None:
    sphere = measure(sharp_edges.SharpEdges, icosphere(4, 0.6), box())
    assert sphere["edge-completeness/v1"] == 0.5  # the sphere has no crease
    assert sphere["edge-f-score@0.005/v1"] == 0
    assert "edge-accuracy/v1" not in sphere
    assert sphere["edge-surface/v1"] > 0.1
    assert 20 < sphere["edge-normal/v1"] < 60


def test_chamfer_of_an_edge_turns_the_normals_beside_it() -> None:
    """A roof whose ridge of 90 degrees was cut flat over more than the offset: normals there are off by 45 degrees."""
    roof = [[-0.5, -0.5, 0], [0.5, -0.5, 0], [-0.5, 0, 0.5], [0.5, 0, 0.5], [-0.5, 0.5, 0], [0.5, 0.5, 0]]
    faces = [[0, 1, 3], [0, 3, 2], [2, 3, 5], [2, 5, 4]]
    cut = [[-0.5, -0.5, 0], [0.5, -0.5, 0], [-0.5, -0.02, 0.48], [0.5, -0.02, 0.48],
           [-0.5, 0.02, 0.48], [0.5, 0.02, 0.48], [-0.5, 0.5, 0], [0.5, 0.5, 0]]  # fmt: skip
    cut_faces = [[0, 1, 3], [0, 3, 2], [2, 3, 5], [2, 5, 4], [4, 5, 7], [4, 7, 6]]
    values = measure(sharp_edges.SharpEdges, mesh(cut, cut_faces), mesh(roof, faces))
    assert values["edge-surface/v1"] == pytest.approx(0.02)
    assert values["edge-normal/v1"] == pytest.approx(45)
    assert values["edge-completeness/v1"] == pytest.approx(0.02 * math.sqrt(2))


def test_a_smooth_reference_has_no_crease_figures() -> None:
    assert measure(sharp_edges.SharpEdges, box(), icosphere(3)) == {}


def test_a_visible_reference_has_no_inner_figures() -> None:
    values = measure(interior.Interior, icosphere(3, 0.4), icosphere(3))
    assert set(values) == {"outer-share-reference/v1", "completeness-outer/v1", "recall-outer@0.005/v1"}
    assert values["outer-share-reference/v1"] == 1


def test_health_of_a_known_mess() -> None:
    cube = box().faces.clone()
    cube[0] = cube[0].flip(0)
    messy = joined(Mesh(box().vertices, cube), square(2.0))
    extra = torch.tensor([[1, 3, 0], [0, 0, 1], [8, 9, 0]])
    values = measure(health.MeshHealth, Mesh(messy.vertices, torch.cat([messy.faces, extra])), square())
    got = {name: values[f"{name}/v1"] for name in (
        "boundary-edges", "boundary-loops", "non-manifold-edges", "inconsistent-edges", "components",
        "degenerate-faces", "duplicate-faces", "watertight",
    )}  # fmt: skip
    assert got == {
        "boundary-edges": 5,  # three of the square, two of the face that ties it to the cube
        "boundary-loops": 1,
        "non-manifold-edges": 3,  # around the copied face
        "inconsistent-edges": 1,  # where the tie meets the square; the edges of the turned face carry three faces now
        "components": 1,
        "degenerate-faces": 1,
        "duplicate-faces": 1,
        "watertight": 0,
    }
    assert values["boundary-edges-reference/v1"] == 4
    assert values["euler-reference/v1"] == 1
    assert values["boundary-length-reference/v1"] == pytest.approx(4)


def test_turned_face_makes_edges_inconsistent_and_its_share_flipped() -> None:
    faces = box().faces.clone()
    faces[0] = faces[0].flip(0)
    values = measure(health.MeshHealth, Mesh(box().vertices, faces), box())
    assert (values["inconsistent-edges/v1"], values["watertight/v1"], values["watertight-reference/v1"]) == (3, 0, 1)
    assert values["flipped-share/v1"] == pytest.approx(1 / 12, abs=0.004)


def test_boundaries_are_compared_as_lines() -> None:
    values = measure(health.MeshHealth, square(0.01), square())
    assert values["boundary-chamfer/v1"] == pytest.approx(0.01)
    assert values["boundary-length-ratio/v1"] == pytest.approx(1)
    closed = measure(health.MeshHealth, box(), square())
    assert closed["boundary-length-ratio/v1"] == 0
    assert "boundary-chamfer/v1" not in closed
    assert not {"boundary-chamfer/v1", "boundary-length-ratio/v1"} & set(measure(health.MeshHealth, square(), box()))
