"""Laws of the dual grid: what order, threads, slabs, batching and symmetries of the lattice may change, and what not.

The scan line treats the axes cyclically, so cyclic permutations of the axes commute with conversion exactly. Exchanging
two axes swaps rows and columns of the scan: it commutes too, except where a triangle passes through a lattice point
exactly and rounding decides. Random meshes here keep away from such ties, which integer arithmetic checks.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapewright.states import Frame
from shapewright_kernels import flexible_dual_grid_slabs
from shapewright_kernels.flexible_dual_grid import DualGrid, mesh_to_flexible_dual_grid
from shapewright_kernels.flexible_dual_grid_quads import flexible_dual_grid_quads
from shapewright_plugins.o_voxel.extractor import Config, FlexibleDualGridMesh, positions, quads_of, triangulate
from shapewright_plugins.o_voxel.state import FlexibleDualGrid

SIZE = 16
"""Cells an axis; voxels are 1 long, so that grid lines are exact."""
FINE = 256
"""Vertices lie on this many steps a voxel."""
BOX = [[0.0] * 3, [float(SIZE)] * 3]
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])


def _soup(seed: int, low: int = 0, high: int = SIZE, count: int = 12) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Random triangles that share vertices, in fine steps."""
    rng = np.random.default_rng(seed)
    vertices = rng.integers(low * FINE, high * FINE, (count, 3))
    faces = np.stack([rng.permutation(count)[:3] for _ in range(count)])
    return vertices, faces


def _convert(vertices: NDArray[np.int64], faces: NDArray[np.int64], **options: object) -> DualGrid:
    options = {"grid_size": SIZE, "aabb": BOX} | options
    return mesh_to_flexible_dual_grid((vertices / FINE).astype(np.float32), faces, **options)  # type: ignore[arg-type]


def _has_ties(vertices: NDArray[np.int64], faces: NDArray[np.int64]) -> bool:
    """Whether an edge projects onto a lattice point, or a triangle's plane meets one: there rounding decides."""
    line = np.arange(SIZE + 1) * FINE
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), axis=-1).reshape(-1, 3)
    for a, b, c in vertices[faces]:
        normal = np.cross(b - a, c - a)
        if not normal.all() or ((grid - a) @ normal == 0).any():
            return True
        for (p, q), axis in itertools.product(((a, b), (b, c), (c, a)), range(3)):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            cross = (q[u] - p[u]) * (line[None, :] - p[v]) - (q[v] - p[v]) * (line[:, None] - p[u])
            if (cross == 0).any():
                return True
    return bool((vertices % FINE == 0).any())


def _same(first: DualGrid, second: DualGrid) -> bool:
    return (
        np.array_equal(first.coords, second.coords)
        and np.array_equal(first.intersected, second.intersected)
        and np.array_equal(first.dual_vertices, second.dual_vertices)
    )


def _sorted_rows(coords: NDArray[np.int32], *others: NDArray[np.generic]) -> list[NDArray[np.generic]]:
    order = np.lexsort(coords.T[::-1])
    return [array[order] for array in (coords, *others)]


@few
@given(seeds)
def test_order_of_faces_and_corners_changes_neither_voxels_nor_flags(seed: int) -> None:
    vertices, faces = _soup(seed)
    rng = np.random.default_rng(seed)
    shuffled = np.stack([np.roll(face, rng.integers(3)) for face in faces[rng.permutation(len(faces))]])
    first, second = _convert(vertices, faces), _convert(vertices, shuffled)
    assert np.array_equal(first.coords, second.coords)
    assert np.array_equal(first.intersected, second.intersected)
    np.testing.assert_allclose(first.dual_vertices, second.dual_vertices, atol=1e-5)


@few
@given(seeds, st.integers(2, 5))
def test_thread_count_changes_no_bit(seed: int, threads: int) -> None:
    vertices, faces = _soup(seed, -4, SIZE + 4)
    assert _same(_convert(vertices, faces, threads=1), _convert(vertices, faces, threads=threads))


@pytest.mark.parametrize("planes", [1, 3, 64])
def test_cutting_into_slabs_changes_no_bit(planes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(planes)
    vertices = rng.normal(0.5, 0.4, (40, 3)).astype(np.float32)  # many reach beyond the grid and across all slabs
    faces = np.concatenate([rng.integers(0, 40, (50, 3)), [[0, 0, 1], [5, 5, 5]]])
    options = {"grid_size": (61, 40, 70), "aabb": [[0, 0, 0], [1, 1, 1]]}
    usual = mesh_to_flexible_dual_grid(vertices, faces, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(flexible_dual_grid_slabs, "SLAB_CELLS", planes * 40 * 70)
    monkeypatch.setattr(flexible_dual_grid_slabs, "SLABS", 1)
    other = mesh_to_flexible_dual_grid(vertices, faces, **options)  # type: ignore[arg-type]
    assert len(usual.coords) > 10_000
    assert _same(usual, other)


@few
@given(seeds, st.tuples(*[st.integers(-3, 3)] * 3))
def test_translation_by_whole_voxels_commutes_with_conversion(seed: int, shift: tuple[int, int, int]) -> None:
    vertices, faces = _soup(seed, 4, SIZE - 4)
    moved = vertices + np.array(shift) * FINE
    assume(not _has_ties(vertices, faces))
    first, second = _convert(vertices, faces), _convert(moved, faces)
    assert np.array_equal(first.coords + shift, second.coords)
    assert np.array_equal(first.intersected, second.intersected)
    np.testing.assert_allclose(first.dual_vertices, second.dual_vertices, atol=1e-4)


@few
@given(seeds, st.sampled_from([(1, 2, 0), (2, 0, 1)]))
def test_cyclic_axis_permutation_commutes_with_conversion_even_in_ties(seed: int, axes: tuple[int, ...]) -> None:
    vertices, faces = _soup(seed)
    vertices[::2] = vertices[::2] // (FINE // 2) * (FINE // 2)  # half of them on lattice planes and half way between
    first, second = _convert(vertices, faces), _convert(vertices[:, axes], faces)
    coords, flags = _sorted_rows(first.coords[:, axes], first.intersected[:, axes])
    assert np.array_equal(coords, second.coords)
    assert np.array_equal(flags, second.intersected)


@few
@given(seeds, st.permutations(range(3)))
def test_any_axis_permutation_commutes_with_conversion_without_ties(seed: int, axes: list[int]) -> None:
    vertices, faces = _soup(seed)
    assume(not _has_ties(vertices, faces))
    first, second = _convert(vertices, faces), _convert(vertices[:, axes], faces)
    coords, flags, dual = _sorted_rows(first.coords[:, axes], first.intersected[:, axes], first.dual_vertices[:, axes])
    assert np.array_equal(coords, second.coords)
    assert np.array_equal(flags, second.intersected)
    np.testing.assert_allclose(dual, second.dual_vertices, atol=1e-4)


@few
@given(seeds)
def test_flags_are_the_grid_edges_that_cross_the_mesh(seed: int) -> None:
    """Against exact integer geometry: the edge's line passes the triangle's projection at a height within the cell."""
    vertices, faces = _soup(seed, count=5)
    assume(not _has_ties(vertices, faces))
    grid = _convert(vertices, faces)
    wanted = set()
    for a, b, c in vertices[faces]:
        for axis in range(3):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            normal = np.cross(b - a, c - a)
            for i, j in itertools.product(range(1, SIZE), repeat=2):
                x, y = i * FINE, j * FINE
                sides = [(q[u] - p[u]) * (y - p[v]) - (q[v] - p[v]) * (x - p[u]) for p, q in ((a, b), (b, c), (c, a))]
                if all(side > 0 for side in sides) or all(side < 0 for side in sides):
                    # Height of the plane over (x, y), as a fraction of integers.
                    top = normal[u] * (a[u] - x) + normal[v] * (a[v] - y) + normal[axis] * a[axis]
                    cell = [0, 0, 0]
                    cell[u], cell[v], cell[axis] = i - 1, j - 1, int(top // (normal[axis] * FINE))
                    wanted.add((axis, *cell))
    found = {(axis, *row) for axis in range(3) for row in grid.coords[grid.intersected[:, axis]].tolist()}
    assert found == wanted
    around = set()
    for axis, *cell in wanted:
        for i, j in itertools.product((0, 1), repeat=2):
            voxel = list(cell)
            voxel[(axis + 1) % 3] += i
            voxel[(axis + 2) % 3] += j
            around.add(tuple(voxel))
    assert set(map(tuple, grid.coords.tolist())) == around


def _state(seed: int, weights: bool = False, size: int = 6) -> FlexibleDualGrid:
    rng = np.random.default_rng(seed)
    cells = np.argwhere(rng.random((size, size, size)) < 0.7)
    coords = np.concatenate([np.zeros((len(cells), 1), np.int64), cells], axis=1)
    return FlexibleDualGrid(
        torch.as_tensor(coords, dtype=torch.int32),
        torch.as_tensor(rng.random((len(cells), 3))),
        torch.as_tensor(rng.random((len(cells), 3)) < 0.5),
        torch.as_tensor(rng.random((len(cells), 1)) + 0.5) if weights else None,
        resolution=size,
        frame=Frame((0.0, 0.0, 0.0), (float(size),) * 3),
    )


def _triangles(vertices: torch.Tensor, faces: torch.Tensor) -> NDArray[np.float64]:
    """Triangles as a sorted list of rotated corner positions: order of rows and of vertices no longer shows."""
    corners = vertices[faces].detach().double().numpy()
    first = np.array([min(range(3), key=lambda k: tuple(t[k])) for t in corners], np.int64)
    turned = np.stack([corners[np.arange(len(corners)), (first + k) % 3] for k in range(3)], axis=1).reshape(-1, 9)
    return turned[np.lexsort(turned.T[::-1])]


@few
@given(seeds, st.booleans(), st.sampled_from(["eval", "train"]))
def test_extraction_ignores_voxel_order(seed: int, weights: bool, mode: str) -> None:
    state = _state(seed, weights)
    order = torch.as_tensor(np.random.default_rng(seed).permutation(len(state.coords)))
    mixed = FlexibleDualGrid(
        state.coords[order],
        state.dual_vertices[order],
        state.intersected[order],
        None if state.split_weights is None else state.split_weights[order],
        resolution=state.resolution,
        frame=state.frame,
    )
    extractor = FlexibleDualGridMesh(Config(mode=mode))
    first, second = extractor.extract(state), extractor.extract(mixed)
    assert len(first.faces) > 0
    assert np.array_equal(_triangles(first.vertices, first.faces), _triangles(second.vertices, second.faces))
    quads = quads_of(mixed)
    assert (quads[:, 0].diff() >= 0).all()  # in the caller's order of rows


@few
@given(seeds, st.integers(0, 3), st.tuples(*[st.integers(0, 4)] * 3))
def test_extraction_commutes_with_translation_and_cyclic_permutation(
    seed: int, turns: int, shift: tuple[int, int, int]
) -> None:
    state = _state(seed, weights=True)
    axes = [(k + turns) % 3 for k in range(3)]
    cells = state.coords[:, 1:][:, axes] + torch.tensor(shift, dtype=torch.int32)
    rows = torch.as_tensor(np.lexsort(cells.numpy().T[::-1]))
    other = FlexibleDualGrid(
        torch.cat([state.coords[:, :1], cells], dim=1)[rows],
        state.dual_vertices[:, axes][rows],
        state.intersected[:, axes][rows],
        state.split_weights[rows],  # type: ignore[index]
        resolution=10,
        frame=Frame((0.0, 0.0, 0.0), (10.0, 10.0, 10.0)),
    )
    extractor = FlexibleDualGridMesh(Config())
    first, second = extractor.extract(state), extractor.extract(other)
    moved = first.vertices[:, axes] + torch.tensor(shift)
    np.testing.assert_allclose(_triangles(moved, first.faces), _triangles(second.vertices, second.faces), atol=1e-12)


@few
@given(st.lists(seeds, min_size=1, max_size=4), st.booleans())
def test_batching_changes_nothing(sample_seeds: list[int], weights: bool) -> None:
    states = [_state(seed, weights) for seed in sample_seeds]
    batch = FlexibleDualGrid.stack(states)
    assert batch.batch_size == len(states)
    for before, after in zip(states, batch.unbind(), strict=True):
        for name in ("coords", "dual_vertices", "intersected"):
            assert torch.equal(getattr(before, name), getattr(after, name))
        assert (before.split_weights is None) == (after.split_weights is None)
        if before.split_weights is not None and after.split_weights is not None:
            assert torch.equal(before.split_weights, after.split_weights)
        assert (after.batch_size, after.resolution, after.frame) == (1, before.resolution, before.frame)
    start, together = 0, quads_of(batch)
    for state in states:
        alone = quads_of(state)
        assert torch.equal(alone + start, together[: len(alone)])
        start, together = start + len(state.coords), together[len(alone) :]
    assert len(together) == 0


@few
@given(seeds, st.integers(1, 4))
def test_quads_do_not_depend_on_threads(seed: int, threads: int) -> None:
    state = _state(seed)
    arrays = state.coords.numpy(), state.intersected.numpy()
    first = flexible_dual_grid_quads(*arrays, grid_size=(6, 6, 6), threads=1)
    assert np.array_equal(first, flexible_dual_grid_quads(*arrays, grid_size=(6, 6, 6), threads=threads))


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("weights", [False, True])
def test_gradients_match_finite_differences(mode: str, weights: bool) -> None:
    state = _state(7, weights, size=3)
    probe = torch.as_tensor(np.random.default_rng(0).normal(size=(3, 3)))

    def loss(dual: torch.Tensor, split: torch.Tensor | None) -> torch.Tensor:
        moved = FlexibleDualGrid(
            state.coords, dual, state.intersected, split, resolution=state.resolution, frame=state.frame
        )
        mesh = FlexibleDualGridMesh(Config(mode=mode)).extract(moved)
        return (torch.sin(mesh.corners) @ probe).pow(2).sum()

    dual = state.dual_vertices.clone().requires_grad_()
    split = state.split_weights.clone().requires_grad_() if state.split_weights is not None else None
    assert torch.autograd.gradcheck(lambda *leaves: loss(leaves[0], leaves[1] if len(leaves) > 1 else None),
                                    (dual,) if split is None else (dual, split))  # fmt: skip
    gradient = torch.autograd.grad(loss(dual, split), dual)[0]
    used = quads_of(state).unique()
    assert (gradient[used].abs().sum(dim=1) > 0).all()
    if split is not None and mode == "train":
        assert (torch.autograd.grad(loss(dual, split), split)[0][used] != 0).all()


def test_pure_function_keeps_every_voxel_as_a_vertex() -> None:
    state = _state(3)
    vertices, faces = triangulate(positions(state), quads_of(state), None)
    assert len(vertices) == len(state.coords)
    assert len(faces.unique()) < len(vertices)
