"""What must not change an extracted surface: row order, storage, batching, threads, position, symmetry."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isosurface_shapes import is_closed_manifold, random_signs, sparse_field, sphere, volume
from shapewright.interfaces import Extractor
from shapewright.states import SparseField
from shapewright_kernels.dual_contouring import dual_contouring, dual_contouring_sparse
from shapewright_kernels.marching_cubes import marching_cubes, marching_cubes_sparse
from shapewright_plugins.isosurface.dual_contouring import Config as DualConfig
from shapewright_plugins.isosurface.dual_contouring import DualContouring
from shapewright_plugins.isosurface.marching_cubes import Config as CubesConfig
from shapewright_plugins.isosurface.marching_cubes import MarchingCubes

Surface = tuple[np.ndarray, np.ndarray]
KERNELS = [(marching_cubes, marching_cubes_sparse), (dual_contouring, dual_contouring_sparse)]
IDS = ["marching cubes", "dual contouring"]
seeds = st.integers(0, 2**32 - 1)
both = pytest.mark.parametrize(("dense", "sparse"), KERNELS, ids=IDS)
quick = settings(max_examples=25, deadline=None)


def same(first: Surface, second: Surface) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@both
@quick
@given(seed=seeds, share=st.floats(0.3, 1.0), size=st.tuples(*[st.integers(2, 9)] * 2, st.integers(2, 70)))
def test_extraction_ignores_row_order_and_storage(
    dense: Callable[..., Surface], sparse: Callable[..., Surface], seed: int, share: float, size: tuple[int, int, int]
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=size)
    keep = rng.random(size) < share
    coords = np.argwhere(keep)
    values_there = values[keep]
    order = rng.permutation(len(coords))
    sorted_rows = sparse(coords, values_there)
    assert same(sorted_rows, sparse(coords[order], values_there[order]))
    assert same(sorted_rows, dense(np.where(keep, values, np.nan)))


@both
@quick
@given(seed=seeds, shift=st.tuples(*[st.integers(0, 130)] * 3))
def test_translation_by_cells_moves_the_surface(
    dense: Callable[..., Surface], sparse: Callable[..., Surface], seed: int, shift: tuple[int, int, int]
) -> None:
    values = random_signs(np.random.default_rng(seed), 4)
    vertices, faces = dense(values)
    coords = np.argwhere(values < 2)
    moved, moved_faces = sparse(coords + shift, values.reshape(-1))
    np.testing.assert_allclose(moved - shift, vertices, atol=1e-12)
    assert np.array_equal(faces, moved_faces)


@both
@quick
@given(seed=seeds, axes=st.permutations([0, 1, 2]), flips=st.tuples(*[st.booleans()] * 3))
def test_symmetries_of_the_lattice_commute_with_extraction(
    dense: Callable[..., Surface],
    sparse: Callable[..., Surface],
    seed: int,
    axes: list[int],
    flips: tuple[bool, bool, bool],
) -> None:
    """Vertices are the same set, and so are the polygons, because faces are resolved by a symmetric rule. Which
    diagonals fill a polygon may differ, so triangles are not compared."""
    values = random_signs(np.random.default_rng(seed), 4)
    turned = values.transpose(axes)
    for axis, flip in enumerate(flips):
        turned = np.flip(turned, axis) if flip else turned
    vertices, faces = dense(values)
    found, found_faces = dense(np.ascontiguousarray(turned))
    wanted = vertices[:, axes].copy()
    for axis, flip in enumerate(flips):
        if flip:
            wanted[:, axis] = 5 - wanted[:, axis]
    order, other = (np.lexsort(np.round(v, 6).T) for v in (wanted, found))
    np.testing.assert_allclose(wanted[order], found[other], atol=1e-6)
    assert faces.shape == found_faces.shape
    assert is_closed_manifold(found_faces)


@both
@quick
@given(seed=seeds, inner=st.integers(1, 7))
def test_watertight_fields_give_closed_manifolds(
    dense: Callable[..., Surface], sparse: Callable[..., Surface], seed: int, inner: int
) -> None:
    values = random_signs(np.random.default_rng(seed), inner)
    for vertices, faces in (dense(values), sparse(np.argwhere(values < 2), values.reshape(-1))):
        assert is_closed_manifold(faces)
        assert np.isfinite(vertices).all()


@quick
@given(seed=seeds)
def test_negated_fields_without_ambiguity_give_the_reversed_surface(seed: int) -> None:
    centre = np.random.default_rng(seed).uniform(-0.2, 0.2, 3)
    ticks = np.linspace(-1, 1, 12)
    points = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1)
    values = np.linalg.norm(points - centre, axis=-1) - 0.6
    forward, backward = marching_cubes(values), marching_cubes(-values)
    assert np.array_equal(forward[0], backward[0])
    assert volume(*forward) > 0 > volume(*backward)


@both
def test_a_grid_and_all_its_points_give_the_same_surface(
    dense: Callable[..., Surface], sparse: Callable[..., Surface]
) -> None:
    """A smooth field: most of the grid is far from the surface, and is skipped."""
    values = sphere(70, 0.7).astype(np.float32)
    assert same(dense(values), sparse(np.argwhere(values < 2), values.reshape(-1)))


@both
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_change_a_bit(
    dense: Callable[..., Surface], sparse: Callable[..., Surface], threads: int
) -> None:
    values = sphere(130).astype(np.float32)  # several chunks of words
    assert same(dense(values, threads=1), dense(values, threads=threads))
    keep = np.abs(values) < 0.05
    coords, band = np.argwhere(keep).astype(np.int32), values[keep]
    assert same(sparse(coords, band, threads=1), sparse(coords, band, threads=threads))


@pytest.mark.parametrize("extractor", [MarchingCubes(CubesConfig()), DualContouring(DualConfig())], ids=IDS)
def test_batching_changes_nothing(extractor: Extractor[object, SparseField]) -> None:
    states = [sparse_field(sphere(20, radius), np.abs(sphere(20, radius)) < 0.3) for radius in (0.5, 0.8)]
    for alone, unbound in zip(states, SparseField.stack(states).unbind(), strict=True):
        first, second = extractor.extract(alone), extractor.extract(unbound)
        assert torch.equal(first.vertices, second.vertices)
        assert torch.equal(first.faces, second.faces)


def test_equal_inputs_of_other_dtypes_agree() -> None:
    values = sphere(20).astype(np.float32)
    single, double = marching_cubes(values), marching_cubes(values.astype(np.float64))
    assert single[0].dtype == np.float32
    assert double[0].dtype == np.float64
    assert np.array_equal(single[1], double[1])
    np.testing.assert_allclose(single[0], double[0], atol=1e-5)
