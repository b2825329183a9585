"""Octree refinement of functions: the surface of the whole lattice at a fraction of its evaluations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isosurface_shapes import boundary_edges, is_closed_manifold
from shapewright.errors import ConfigError, StateError
from shapewright.host import discover
from shapewright.plan import pairings
from shapewright.states import Frame, FunctionField, GridField
from shapewright_kernels.marching_cubes import marching_cubes, marching_cubes_sparse
from shapewright_plugins.isosurface.dual_contouring import Config as DualConfig
from shapewright_plugins.isosurface.dual_contouring import DualContouring
from shapewright_plugins.isosurface.marching_cubes import Config as CubesConfig
from shapewright_plugins.isosurface.marching_cubes import MarchingCubes
from shapewright_plugins.isosurface.refinement import Refined, refine
from torch import Tensor

Function = Callable[[Tensor], Tensor]
FRAME = Frame()
quick = settings(max_examples=12, deadline=None)


def sphere(points: Tensor, radius: float = 0.4) -> Tensor:
    return (points[:, 0] ** 2 + points[:, 1] ** 2 + points[:, 2] ** 2).sqrt() - radius


def torus(points: Tensor) -> Tensor:
    ring = (points[:, 0] ** 2 + points[:, 2] ** 2).sqrt() - 0.3
    return (ring**2 + points[:, 1] ** 2).sqrt() - 0.12


def rounded_box(points: Tensor) -> Tensor:
    beyond = points.abs() - torch.tensor([0.3, 0.25, 0.2])
    out = beyond.clamp(min=0)
    length = (out[:, 0] ** 2 + out[:, 1] ** 2 + out[:, 2] ** 2).sqrt()
    return length + torch.maximum(beyond[:, 0], torch.maximum(beyond[:, 1], beyond[:, 2])).clamp(max=0) - 0.08


def near_spheres(points: Tensor) -> Tensor:
    apart = torch.tensor([0.2, 0.0, 0.0])
    return torch.minimum(sphere(points - apart, 0.195), sphere(points + apart, 0.195))


SHAPES = {"sphere": sphere, "torus": torus, "rounded box": rounded_box, "near spheres": near_spheres}
SLOW = pytest.mark.slow
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
bounds = pytest.mark.parametrize("lipschitz", [1.0, None], ids=["bound", "signs"])


def lattice_values(function: Function, resolution: int, frame: Frame = FRAME) -> np.ndarray:
    coords = np.indices((resolution + 1,) * 3).reshape(3, -1).T / resolution
    points = np.array(frame.lower) + coords * np.array(frame.extent)
    return function(torch.from_numpy(points.astype(np.float32))).numpy().reshape((resolution + 1,) * 3)


def assert_same_surface(found: Refined, values: np.ndarray, level: float = 0.0) -> None:
    """The same triangles; vertices but for what a function's own vectorisation leaves to the size of its batch."""
    wanted = marching_cubes(values, level)
    vertices, faces = marching_cubes_sparse(found.coords, found.values.numpy(), level)
    assert len(wanted[1]) > 0
    assert np.array_equal(faces, wanted[1])
    np.testing.assert_allclose(vertices, wanted[0], atol=2e-4)


@shapes
@bounds
@pytest.mark.parametrize("coarse", [8, 32])
def test_the_surface_is_that_of_the_whole_lattice(shape: Function, lipschitz: float | None, coarse: int) -> None:
    found = refine(shape, FRAME, coarse, 64, lipschitz=lipschitz)
    assert_same_surface(found, lattice_values(shape, 64))
    stored = lattice_values(shape, 64)[tuple(found.coords.T)]
    np.testing.assert_allclose(found.values.numpy(), stored, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "lipschitz"),
    [
        pytest.param(shape, bound, id=f"{name} {bound}", marks=[] if name == "rounded box" and not bound else SLOW)
        for name, shape in SHAPES.items()
        for bound in (1.0, None)
    ],
)
def test_twenty_times_fewer_evaluations_at_512(shape: Function, lipschitz: float | None) -> None:
    """The rounded box has the largest surface, and signs need a thicker layer than a bound."""
    found = refine(shape, FRAME, 32, 512, lipschitz=lipschitz)
    assert found.evaluations * 20 < 513**3
    _, faces = marching_cubes_sparse(found.coords, found.values.numpy())
    assert boundary_edges(faces) == 0


@bounds
def test_no_point_is_evaluated_twice_and_batches_are_small(lipschitz: float | None) -> None:
    seen: list[Tensor] = []

    def counted(points: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert points.dtype == torch.float32
        seen.append(points)
        return torus(points)

    found = refine(counted, FRAME, 8, 64, lipschitz=lipschitz, batch=1000)
    points = torch.cat(seen)
    assert max(map(len, seen)) <= 1000
    assert len(points) == found.evaluations == len(torch.unique(points, dim=0))


@quick
@given(
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0.2, 5.0),
    coarse=st.sampled_from([3, 4, 5]),
    level=st.floats(-0.05, 0.05),
    stretch=st.tuples(*[st.floats(0.5, 2.0)] * 3),
)
def test_nothing_is_lost_under_a_true_bound(
    seed: int, scale: float, coarse: int, level: float, stretch: tuple[float, float, float]
) -> None:
    """Unions of balls of all sizes, most of which fall between the points of the coarse lattice."""
    rng = np.random.default_rng(seed)
    half = 0.5 * np.array(stretch)
    frame = Frame(tuple(-half), tuple(half))
    centres = torch.from_numpy(rng.uniform(-half, half, (6, 3)).astype(np.float32))
    radii = torch.from_numpy(rng.uniform(0.01, 0.2, 6).astype(np.float32))

    def balls(points: Tensor) -> Tensor:
        distances = [sphere(points - centre, float(radius)) for centre, radius in zip(centres, radii, strict=True)]
        return scale * torch.stack(distances).amin(dim=0)

    found = refine(balls, frame, coarse, 8 * coarse, level=level * scale, lipschitz=scale)
    values = lattice_values(balls, 8 * coarse, frame)
    wanted = marching_cubes(values, level * scale)
    vertices, faces = marching_cubes_sparse(found.coords, found.values.numpy(), level * scale)
    assert np.array_equal(faces, wanted[1])
    np.testing.assert_allclose(vertices, wanted[0], atol=1e-3)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.3])
def test_truncated_distances_keep_their_surface(width: float) -> None:
    def truncated(points: Tensor) -> Tensor:
        return near_spheres(points).clamp(-width, width)

    assert_same_surface(refine(truncated, FRAME, 16, 64), lattice_values(truncated, 64))


def test_logits_are_followed_by_their_signs() -> None:
    def logits(points: Tensor) -> Tensor:
        return torch.tanh(40 * torus(points)) * 8

    assert_same_surface(refine(logits, FRAME, 16, 64, lipschitz=None), lattice_values(logits, 64))


def test_a_wrong_bound_still_gives_a_closed_surface() -> None:
    def steep(points: Tensor) -> Tensor:
        return 20 * sphere(points)

    found = refine(steep, FRAME, 16, 128, lipschitz=1.0)
    assert_same_surface(found, lattice_values(steep, 128))


def test_surfaces_leave_through_the_border_of_the_frame_only() -> None:
    def slab(points: Tensor) -> Tensor:
        return (points[:, 0] + 0.3 * points[:, 1]).abs() - 0.1

    for lipschitz in (1.1, None):
        found = refine(slab, FRAME, 8, 64, lipschitz=lipschitz)
        assert_same_surface(found, lattice_values(slab, 64))


def test_far_surfaces_leave_nothing() -> None:
    found = refine(lambda points: sphere(points) + 2, FRAME, 8, 64)
    assert len(found.coords) == 0
    assert found.evaluations == 9**3
    state = FunctionField(lambda points: sphere(points) + 2)
    assert MarchingCubes(CubesConfig(resolution=64)).extract(state).faces.shape == (0, 3)
    assert DualContouring(DualConfig(resolution=64)).extract(state).faces.shape == (0, 3)


@bounds
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_a_bit(lipschitz: float | None, threads: int) -> None:
    one, many = (refine(torus, FRAME, 16, 256, lipschitz=lipschitz, threads=count) for count in (1, threads))
    assert np.array_equal(one.coords, many.coords)
    assert torch.equal(one.values, many.values)
    assert one.evaluations == many.evaluations


@shapes
@pytest.mark.parametrize(
    ("by_function", "by_grid"),
    [
        (MarchingCubes(CubesConfig(resolution=96, coarse=12)), MarchingCubes(CubesConfig())),
        (
            DualContouring(DualConfig(resolution=96, coarse=12, lipschitz=None)),
            DualContouring(DualConfig()),
        ),
    ],
    ids=["marching cubes", "dual contouring"],
)
def test_extractors_take_functions(
    shape: Function, by_function: MarchingCubes | DualContouring, by_grid: MarchingCubes | DualContouring
) -> None:
    frame = Frame((-0.6, -0.5, -0.5), (0.5, 0.6, 0.5))
    found = by_function.extract(FunctionField(shape, frame))
    grid = by_grid.extract(GridField(torch.from_numpy(lattice_values(shape, 96, frame)), frame))
    assert torch.equal(found.faces, grid.faces)
    assert found.frame == frame
    torch.testing.assert_close(found.vertices, grid.vertices, atol=1e-4, rtol=0)
    assert is_closed_manifold(found.faces.numpy())


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="coarse=25 would do"):
        CubesConfig(resolution=200)
    with pytest.raises(ConfigError, match="at least 1"):
        DualConfig(resolution=16)
    with pytest.raises(ConfigError, match="lipschitz must be positive"):
        DualConfig(lipschitz=0.0)
    with pytest.raises(ConfigError, match="batch"):
        refine(sphere, FRAME, 8, 16, batch=0)
    with pytest.raises(StateError, match="must answer"):
        refine(lambda points: points, FRAME, 8, 16)


def test_both_extractors_offer_functions_and_still_fit_the_other_fields() -> None:
    catalog = discover()
    for name in ("extractor/marching-cubes", "extractor/dual-contouring"):
        assert "sdf.function" in catalog.get(name).verbs["extract"].inputs["state"].split("|")
    fitting = {(pair.representation.name, pair.extractor.name) for pair in pairings(catalog) if not pair.reason}
    assert {("sdf", "marching-cubes"), ("sdf-grid", "dual-contouring")} <= fitting
