"""Extraction of functions: equal to the dense lattice with few evaluations, scale, borders, published behaviour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from shapewright import ConfigError, StateError
from shapewright.states import Frame, FunctionField, Mesh
from shapewright_kernels.farthest_point_sampling import farthest_points
from shapewright_kernels.image_regions import connected_regions
from shapewright_kernels.marching_cubes import marching_cubes
from shapewright_plugins.triposg.field import LatentField
from shapewright_plugins.triposg.flash import Config as FlashConfig
from shapewright_plugins.triposg.flash import FlashDual
from shapewright_plugins.triposg.flash_octree import resolutions
from shapewright_plugins.triposg.hierarchical import Config, HierarchicalMarchingCubes
from shapewright_plugins.triposg.lattice_sampling import PointCalls, band_samples
from torch import Tensor

FRAME = Frame((-1.005,) * 3, (1.005,) * 3)


def torus(points: Tensor) -> Tensor:
    around = torch.linalg.vector_norm(points[..., :2], dim=-1) - 0.55
    return torch.sqrt(around**2 + points[..., 2] ** 2) - 0.24


def sphere(radius: float = 0.62) -> Callable[[Tensor], Tensor]:
    return lambda points: torch.linalg.vector_norm(points - 0.1, dim=-1) - radius


def distance_field(function: Callable[[Tensor], Tensor] = torus) -> FunctionField:
    return FunctionField(function, FRAME)


def logit_field(function: Callable[[Tensor], Tensor] = torus, slope: float = 200.0) -> LatentField:
    return LatentField(lambda points: slope * function(points), FRAME, 8.3125)


def dense(function: Callable[[Tensor], Tensor], cells: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    ticks = torch.from_numpy((-1.005 + np.arange(cells + 1) / cells * 2.01).astype(np.float32))
    grid = torch.stack(torch.meshgrid(ticks, ticks, ticks, indexing="ij"), dim=-1)
    return marching_cubes(function(grid).numpy())


def volume(mesh: Mesh) -> float:
    a, b, c = mesh.vertices.double()[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def open_edges(mesh: Mesh) -> int:
    edges = torch.cat([mesh.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    forward = {tuple(edge) for edge in edges.tolist()}
    return sum((b, a) not in forward for a, b in forward)


@pytest.mark.parametrize("field", [distance_field(), logit_field()], ids=["distance", "logits"])
def test_the_nested_lattice_gives_the_surface_of_the_dense_one(field: FunctionField) -> None:
    mesher = HierarchicalMarchingCubes(Config(coarse_depth=4, fine_depth=6))
    vertices, faces = dense(field.query, 64)
    mesh = mesher.extract(field)
    assert torch.equal(mesh.faces, torch.from_numpy(faces))
    wanted = torch.from_numpy(vertices) / 64 * 2.01 - 1.005
    assert torch.allclose(mesh.vertices, wanted, atol=1e-5)
    assert open_edges(mesh) == 0
    assert volume(mesh) == pytest.approx(2 * np.pi**2 * 0.55 * 0.24**2, rel=0.02)


def test_a_distance_needs_a_twentieth_of_the_evaluations_of_the_dense_lattice() -> None:
    found = HierarchicalMarchingCubes(Config(coarse_depth=5, fine_depth=8)).samples(distance_field())
    assert found.evaluations * 20 < 257**3
    flash = FlashDual(FlashConfig(depth=8, min_resolution=31)).samples(distance_field())
    assert flash.evaluations * 8 < 249**3


@pytest.mark.parametrize("surface", ["dual", "marching-cubes"])
def test_the_flash_surface_lies_where_the_field_is_zero(surface: str) -> None:
    mesh = FlashDual(FlashConfig(depth=7, min_resolution=31, surface=surface)).extract(logit_field())
    assert open_edges(mesh) == 0
    assert float(torus(mesh.vertices).abs().max()) < 2.01 / 124 / 2
    assert volume(mesh) == pytest.approx(2 * np.pi**2 * 0.55 * 0.24**2, rel=0.02)


def test_the_published_scale_shrinks_towards_the_lower_corner() -> None:
    right, published = (
        FlashDual(FlashConfig(depth=6, min_resolution=15, scale=scale)).extract(logit_field())
        for scale in ("corrected", "published")
    )
    cells = resolutions(6, 15).cells[-1]
    assert cells == 60
    assert torch.allclose((right.vertices + 1.005) * cells / 64, published.vertices + 1.005, atol=1e-5)


def test_published_levels_are_those_of_the_specification() -> None:
    assert resolutions(9).cells == (63, 126, 252, 504)
    assert resolutions(9).divisor == 32


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_the_published_lattice_keeps_its_scale_error(precision: str) -> None:
    config = Config(coarse_depth=4, fine_depth=5, lattice="published", precision=precision)
    mesh = HierarchicalMarchingCubes(config).extract(distance_field(sphere()))
    assert len(mesh.faces)
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi * 0.62**3, rel=0.05)
    same = Config(coarse_depth=5, fine_depth=5, lattice="published", precision=precision)
    shrunk = HierarchicalMarchingCubes(same).extract(distance_field(sphere()))
    share = (volume(shrunk) / volume(mesh)) ** (1 / 3)
    assert share == pytest.approx(31 / 32, abs=0.01)  # both ends included, divided by one more


def test_a_surface_that_reaches_the_border_is_open_or_closed_as_asked() -> None:
    field = distance_field(sphere(1.2))
    for mesher in (
        lambda closed: HierarchicalMarchingCubes(Config(coarse_depth=4, fine_depth=5, closed=closed)),
        lambda closed: FlashDual(FlashConfig(depth=5, min_resolution=15, closed=closed, surface="marching-cubes")),
    ):
        assert open_edges(mesher(False).extract(field)) > 0
        assert open_edges(mesher(True).extract(field)) == 0


def test_a_field_without_a_surface_has_no_faces() -> None:
    field = distance_field(lambda points: points[..., 0] * 0 + 1)
    for mesher in (
        HierarchicalMarchingCubes(Config(coarse_depth=3, fine_depth=4)),
        HierarchicalMarchingCubes(Config(coarse_depth=3, fine_depth=4, lattice="published")),
        FlashDual(FlashConfig(depth=4, min_resolution=7)),
    ):
        assert len(mesher.extract(field).faces) == 0


def test_no_point_is_evaluated_twice() -> None:
    seen: list[Tensor] = []

    def function(points: Tensor) -> Tensor:
        seen.append(points)
        return 200 * torus(points)

    calls = PointCalls(function, FRAME, batch=777)
    found = band_samples(calls, 8, 32, band=8.3)
    points = torch.cat(seen)
    assert len(points) == found.evaluations == calls.count
    assert len({tuple(row) for row in points.tolist()}) == len(points)
    assert max(map(len, seen)) <= 777


def test_a_function_of_another_shape_is_refused() -> None:
    with pytest.raises(StateError, match="must answer"):
        HierarchicalMarchingCubes(Config(coarse_depth=2, fine_depth=3)).extract(
            FunctionField(lambda points: points, FRAME)
        )
    elsewhere = FunctionField(torus, Frame((0.0,) * 3, (1.0,) * 3))
    with pytest.raises(StateError, match="spans a cube"):
        HierarchicalMarchingCubes(Config(coarse_depth=2, fine_depth=3, lattice="published")).extract(elsewhere)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Config, {"coarse_depth": 9, "fine_depth": 8}, "depths must be"),
        (Config, {"fine_depth": 13}, "depths must be"),
        (Config, {"lattice": "dense"}, "lattice must be one of nested, published"),
        (Config, {"precision": "float64"}, "precision must be one of"),
        (Config, {"band": -1.0}, "band must be positive"),
        (Config, {"lattice": "published", "closed": True}, "belong to lattice=nested"),
        (FlashConfig, {"depth": 3, "min_resolution": 63}, "leaves no level"),
        (FlashConfig, {"surface": "quads"}, "surface must be one of"),
        (FlashConfig, {"near": -0.1}, "near must be 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(kind: Any, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        kind(**options)
    assert "\n" not in str(caught.value)


# --- kernels ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
def test_farthest_points_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 4, (40, 3)).astype(np.float32)  # many ties
    chosen = [seed]
    while len(chosen) < 45:
        distance = ((points[:, None] - points[chosen]).astype(np.float64) ** 2).sum(-1).min(1)
        chosen.append(int(np.argmax(distance)))
    assert farthest_points(points, 45, start=seed).tolist() == chosen


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (np.zeros((0, 3)), {}, "N > 0"),
        (np.zeros((4, 2)), {}, "must be"),
        (np.zeros((4, 3)), {"count": 0}, "count"),
        (np.zeros((4, 3)), {"start": 4}, "start"),
        (np.full((4, 3), np.nan), {}, "not finite"),
    ],
)
def test_points_that_cannot_be_chosen_from_are_refused(points: Any, options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        farthest_points(points, **{"count": 2, **options})


@pytest.mark.parametrize("diagonal", [False, True])
def test_regions_are_those_of_an_independent_search(diagonal: bool) -> None:
    rng = np.random.default_rng(5)
    for share in (0.3, 0.5, 0.7):
        mask = rng.random((23, 31)) < share
        found = connected_regions(mask, diagonal=diagonal)
        labels, label = np.zeros(mask.shape, np.int32), 0
        for start in zip(*np.nonzero(mask), strict=True):
            if labels[start]:
                continue
            label += 1
            stack = [start]
            while stack:
                y, x = stack.pop()
                if not (0 <= y < 23 and 0 <= x < 31) or not mask[y, x] or labels[y, x]:
                    continue
                labels[y, x] = label
                steps = [(-1, 0), (1, 0), (0, -1), (0, 1)] + [(a, b) for a in (-1, 1) for b in (-1, 1)] * diagonal
                stack += [(y + a, x + b) for a, b in steps]
        assert np.array_equal(found.labels, labels)
        assert np.array_equal(found.sizes[1:], np.bincount(labels[mask], minlength=label + 1)[1:])
