"""Metrics are functions of the two surfaces: storage order, corner rotation and thread count change nothing."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright.interfaces import MeshPair
from shapewright.states import Mesh
from shapewright_kernels.closest_point import ClosestPointIndex, closest_point_on_triangle
from shapewright_plugins.metrics.distances import Chamfer, Config, FScore
from shapewright_plugins.metrics.health import MeshHealth
from shapewright_plugins.metrics.interior import Config as InteriorConfig
from shapewright_plugins.metrics.interior import Interior
from shapewright_plugins.metrics.normals import NormalConsistency
from shapewright_plugins.metrics.point_to_point import ChamferPointToPoint
from shapewright_plugins.metrics.sharp_edges import Config as EdgeConfig
from shapewright_plugins.metrics.sharp_edges import SharpEdges

METRICS = (
    Chamfer(Config(samples=500)),
    FScore(Config(samples=500)),
    ChamferPointToPoint(Config(samples=500)),
    NormalConsistency(Config(samples=500)),
    Interior(InteriorConfig(samples=200)),
    SharpEdges(EdgeConfig(samples=200)),
    MeshHealth(MeshHealth.Config(samples=500)),
)


def soup(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Triangles over few vertices, so that edges are shared, branch and repeat; some faces are flat or copies."""
    rng = np.random.default_rng(seed)
    vertices = rng.integers(-3, 4, (max(6, count // 2), 3)) / 6 + rng.normal(size=(max(6, count // 2), 3)) * 0.01
    faces = rng.integers(0, len(vertices), (count, 3))
    faces[: count // 4] = faces[count // 4 : 2 * (count // 4)][:, ::-1]
    return vertices, faces


def usable(vertices: np.ndarray, faces: np.ndarray) -> bool:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return bool((np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-6).any())


def figures(result: Mesh, reference: Mesh) -> dict[str, float]:
    pair = MeshPair(result, reference, "shape")
    return {key: value for metric in METRICS for key, value in metric.measure(pair).items()}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 60))
def test_metrics_ignore_how_a_mesh_is_stored(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    meshes, stored_otherwise = [], []
    for offset in (0, 1):
        vertices, faces = soup(seed + offset, count)
        if not usable(vertices, faces):
            return
        meshes.append(Mesh(torch.from_numpy(vertices), torch.from_numpy(faces)))
        names = rng.permutation(len(vertices) + 5)  # five vertices that no face uses
        moved = np.full((len(vertices) + 5, 3), 99.0)
        moved[names[: len(vertices)]] = vertices
        shuffled = names[faces][rng.permutation(len(faces))]
        shuffled = np.stack([np.roll(face, rng.integers(3)) for face in shuffled])
        stored_otherwise.append(Mesh(torch.from_numpy(moved), torch.from_numpy(shuffled)))
    expected, got = figures(*meshes), figures(*stored_otherwise)
    assert set(got) == set(expected)
    for name, value in expected.items():
        assert abs(got[name] - value) <= 1e-9 * (1 + abs(value)), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(1e-6, 1e6))
def test_closest_points_equal_brute_force(seed: int, count: int, scale: float) -> None:
    vertices, faces = soup(seed, count)
    vertices = vertices * scale
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.normal(size=(10, 3)) * scale, vertices[:3]])
    index = ClosestPointIndex(vertices, faces)
    distances, ids, closest = index.query(points)
    for row, point in enumerate(points):
        every = [np.linalg.norm(point - closest_point_on_triangle(point, vertices[face])) for face in faces]
        assert abs(distances[row] - min(every)) <= 1e-14 * scale
        assert every[ids[row]] - min(every) <= 1e-12 * scale
        assert abs(np.linalg.norm(point - closest[row]) - distances[row]) <= 1e-12 * scale
