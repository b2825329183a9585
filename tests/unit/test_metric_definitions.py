"""What the formulas of the metrics say where a near variant of them would say something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from shapewright.interfaces import MeshPair
from shapewright.states import Mesh
from shapewright_plugins.metrics.health import MeshHealth
from shapewright_plugins.metrics.interior import Interior
from shapewright_plugins.metrics.normals import NormalConsistency
from shapewright_plugins.metrics.sharp_edges import SharpEdges
from shapewright_plugins.metrics.volume import VolumeIoU

CUBE = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)]) - 0.5
FACES = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6],
                  [0, 6, 4], [1, 5, 7], [1, 7, 3]])  # fmt: skip


def mesh(vertices: Any, faces: Any) -> Mesh:
    return Mesh(torch.tensor(np.asarray(vertices, float)), torch.tensor(np.asarray(faces, np.int64)))


def cubes(*sizes: float, inward: tuple[int, ...] = ()) -> Mesh:
    faces = [(FACES[:, ::-1] if place in inward else FACES) + 8 * place for place in range(len(sizes))]
    return mesh(np.concatenate([CUBE * size for size in sizes]), np.concatenate(faces))


def measure(metric: type[Any], predicted: Mesh, reference: Mesh, samples: int = 4000) -> dict[str, float]:
    found = metric(metric.Config(samples=samples)).measure(MeshPair(predicted, reference, "shape"))
    return {name.partition("/")[0]: value for name, value in found.items()}


def test_normal_consistency_takes_the_size_of_every_cosine_and_not_of_their_mean() -> None:
    strip = np.array([[x, y, 0.0] for x in (0.0, 1, 2) for y in (0.0, 1)])
    faces = np.array([[0, 2, 3], [0, 3, 1], [2, 4, 5], [2, 5, 3]])
    turned = faces.copy()
    turned[2:] = turned[2:, ::-1]
    found = measure(NormalConsistency, mesh(strip, turned), mesh(strip, faces))
    assert found["normal-consistency"] == pytest.approx(1)
    assert found["normal-consistency-signed"] == pytest.approx(0, abs=0.05)


def test_volume_counts_what_is_enclosed_twice_as_inside_and_an_inward_shell_as_a_cavity() -> None:
    solid, twice, hollow = cubes(1.0), cubes(1.0, 0.6), cubes(1.0, 0.6, inward=(1,))
    assert measure(VolumeIoU, twice, solid)["volume-iou"] == 1
    assert measure(VolumeIoU, hollow, solid)["volume-iou"] == pytest.approx(1 - 0.6**3, abs=0.03)
    assert measure(VolumeIoU, cubes(1.0, inward=(0,)), solid)["volume-iou"] == 1


def test_area_ratio_and_flipped_share_are_those_of_the_result() -> None:
    found = measure(MeshHealth, cubes(1.0, 0.5, inward=(1,)), cubes(1.0))
    assert found["area-ratio"] == pytest.approx(1.25)
    assert found["flipped-share"] == pytest.approx(0.2, abs=0.02)
    assert measure(MeshHealth, cubes(1.0), cubes(1.0, 0.5))["area-ratio"] == pytest.approx(0.8)


def test_inner_completeness_is_that_of_what_is_hidden_alone() -> None:
    found = measure(Interior, cubes(1.0), cubes(1.0, 0.5))  # the inner cube is lost, a quarter from the outer one
    assert found["outer-share-reference"] == pytest.approx(0.8, abs=0.02)
    assert found["completeness-outer"] == pytest.approx(0, abs=1e-9)
    assert found["completeness-inner"] == pytest.approx(0.25, abs=1e-9)
    assert found["recall-inner@0.005"] == 0
    assert found["recall-outer@0.005"] == 1


def test_a_hidden_part_too_small_to_matter_has_no_inner_figures() -> None:
    found = measure(Interior, cubes(1.0), cubes(1.0, 0.075), samples=20_000)
    assert 0.99 < found["outer-share-reference"] < 1
    assert "completeness-inner" not in found


def test_normals_beside_a_crease_are_compared_on_both_of_its_faces() -> None:
    def hinge(degrees: float) -> Mesh:
        rise, run = np.cos(np.radians(degrees)), -np.sin(np.radians(degrees))
        vertices = [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [run, 0, rise], [run, 1, rise]]
        return mesh(vertices, [[0, 2, 3], [0, 3, 1], [0, 1, 5], [0, 5, 4]])

    found = measure(SharpEdges, hinge(10.0), hinge(0.0))
    assert found["edge-normal"] == pytest.approx(5.0, abs=1e-6)  # the lying face agrees, the other is 10 degrees off
    assert found["edge-completeness"] == pytest.approx(0, abs=1e-9)
