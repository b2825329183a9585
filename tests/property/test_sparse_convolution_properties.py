"""Sparse convolutions against dense ones, backends against each other, and what order and batching must not change."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright.nn import sparse_conv3d
from shapewright.states import SparseTensor
from shapewright_kernels.sparse_convolution_pairs import (
    Neighbours,
    _blocks_numba,
    _blocks_torch,
    strided_neighbours,
    submanifold_neighbours,
)
from sparse_voxels import random_sparse, random_voxels
from torch import Tensor

SETTINGS = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**20)
KERNELS = st.sampled_from([(1, 1, 1), (3, 3, 3), (1, 3, 5), (5, 1, 1)])


def _weights(seed: int, out: int, kernel: tuple[int, int, int], channels: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, *kernel, channels, generator=rng, dtype=torch.float64)
    return weight, torch.randn(out, generator=rng, dtype=torch.float64)


def _dense(x: SparseTensor) -> Tensor:
    grid = x.feats.new_zeros(x.batch_size, x.resolution, x.resolution, x.resolution, x.feats.shape[1])
    return grid.index_put(tuple(x.coords.long().t()), x.feats)


def _dense_convolution(x: SparseTensor, weight: Tensor, bias: Tensor) -> Tensor:
    """By torch's dense convolution of the grid with zeros where there is no voxel, read at the voxels."""
    padding = tuple(size // 2 for size in weight.shape[1:4])
    grid = _dense(x).permute(0, 4, 1, 2, 3)
    found = torch.nn.functional.conv3d(grid, weight.permute(0, 4, 1, 2, 3), bias, padding=padding)
    return found.permute(0, 2, 3, 4, 1)[tuple(x.coords.long().t())]


def _gradients(result: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    slope = torch.arange(result.numel(), dtype=result.dtype).reshape(result.shape).sin()
    return list(torch.autograd.grad(result, leaves, slope, allow_unused=True))


@SETTINGS
@given(SEEDS, KERNELS, st.integers(1, 5), st.integers(1, 5), st.sampled_from(["torch", "numba"]), st.integers(1, 2))
def test_convolution_and_gradients_equal_the_dense_ones(
    seed: int, kernel: tuple[int, int, int], channels: int, out: int, backend: str, batch_size: int
) -> None:
    x = random_sparse(seed, channels, 5, batch_size, 0.5, torch.float64)
    leaves = [x.feats.requires_grad_(), *(part.requires_grad_() for part in _weights(seed, out, kernel, channels))]
    ours = sparse_conv3d(x.feats, x.coords, leaves[1], leaves[2], backend=backend)
    dense = _dense_convolution(x, leaves[1], leaves[2])
    torch.testing.assert_close(ours, dense, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(_gradients(ours, leaves), _gradients(dense, leaves), rtol=1e-10, atol=1e-10)


def test_a_full_grid_gives_the_dense_convolution_to_the_borders() -> None:
    x = random_sparse(0, 4, 6, 2, 1.1, torch.float64)
    assert len(x.coords) == 2 * 6**3
    weight, bias = _weights(1, 7, (3, 3, 3), 4)
    ours = sparse_conv3d(x.feats, x.coords, weight, bias)
    torch.testing.assert_close(ours, _dense_convolution(x, weight, bias))


@SETTINGS
@given(SEEDS, st.sampled_from([(2, 2), (3, 2), (3, 3), (4, 2)]), st.sampled_from(["torch", "numba"]))
def test_strided_convolution_and_its_inverse_equal_the_dense_ones(
    seed: int, sizes: tuple[int, int], backend: str
) -> None:
    """Read at the occupied coarse voxels; the inverse spreads what they hold over the fine ones."""
    size, stride = sizes
    x = random_sparse(seed, 3, 6, 2, 0.3, torch.float64)
    weight, _ = _weights(seed, 4, (size, size, size), 3)
    padding = 0 if size == stride else size // 2
    neighbours, coarse = strided_neighbours(x.coords, size, stride)
    grid = _dense(x).permute(0, 4, 1, 2, 3)
    kernel = weight.permute(0, 4, 1, 2, 3)
    wide = torch.nn.functional.pad(grid, (padding, size) * 3)
    dense = torch.nn.functional.conv3d(wide, kernel, stride=stride).permute(0, 2, 3, 4, 1)
    ours = sparse_conv3d(x.feats, None, weight, neighbours=neighbours, backend=backend)
    torch.testing.assert_close(ours, dense[tuple(coarse.long().t())])
    assert torch.equal(coarse, torch.unique(x.coords // x.coords.new_tensor([1, stride, stride, stride]), dim=0))
    # the inverse convolution is the gradient of the strided one
    slope = torch.randn(len(coarse), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    back = sparse_conv3d(
        slope, None, weight.permute(4, 1, 2, 3, 0).contiguous(), neighbours=neighbours.transposed, backend=backend
    )
    leaf = x.feats.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(
        sparse_conv3d(leaf, None, weight, neighbours=neighbours, backend="torch"), leaf, slope
    )
    torch.testing.assert_close(back, wanted)


@SETTINGS
@given(SEEDS, st.integers(1, 40), st.integers(1, 40))
def test_row_order_changes_nothing(seed: int, channels: int, out: int) -> None:
    x = random_sparse(seed, channels, 5, 2, dtype=torch.float64)
    weight, bias = _weights(seed, out, (3, 3, 3), channels)
    order = torch.randperm(len(x.coords), generator=torch.Generator().manual_seed(seed))
    ours = sparse_conv3d(x.feats, x.coords, weight, bias)
    moved = sparse_conv3d(x.feats[order], x.coords[order], weight, bias)
    torch.testing.assert_close(moved, ours[order], rtol=1e-12, atol=1e-12)


@SETTINGS
@given(SEEDS, st.sampled_from(["torch", "numba"]))
def test_batching_changes_nothing(seed: int, backend: str) -> None:
    items = [random_sparse(seed + i, 6, 4) for i in range(3)]
    batch = SparseTensor.stack(items)
    weight, bias = (part.float() for part in _weights(seed, 5, (3, 3, 3), 6))
    together = sparse_conv3d(batch.feats, batch.coords, weight, bias, backend=backend)
    alone = [sparse_conv3d(item.feats, item.coords, weight, bias, backend=backend) for item in items]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


@SETTINGS
@given(SEEDS, st.integers(2, 9))
def test_both_ways_to_list_pairs_agree(seed: int, resolution: int) -> None:
    rows = submanifold_neighbours(random_voxels(seed, resolution, 2), 3).rows
    for ours, plain in zip(_blocks_numba(rows), _blocks_torch(rows), strict=True):
        assert list(ours.counts) == list(plain.counts)
        for name in ("sources", "targets", "places", "offsets"):
            assert torch.equal(getattr(ours, name), getattr(plain, name)), name


@SETTINGS
@given(SEEDS)
def test_a_map_transposed_twice_is_itself(seed: int) -> None:
    coords = random_voxels(seed, 5, 2)
    symmetric = submanifold_neighbours(coords, 3)
    plain = Neighbours(symmetric.rows, len(coords), (3, 3, 3))
    assert torch.equal(plain.transposed.rows, symmetric.transposed.rows)
    assert torch.equal(plain.transposed.transposed.rows, symmetric.rows)


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("strided", [False, True])
def test_gradients_equal_finite_differences(backend: str, strided: bool) -> None:
    x = random_sparse(3, 2, 3, 2, 0.4, torch.float64)
    neighbours = strided_neighbours(x.coords, 2, 2)[0] if strided else submanifold_neighbours(x.coords, 3)
    weight, bias = _weights(0, 3, neighbours.kernel, 2)
    leaves = (x.feats.requires_grad_(), weight.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda f, w, b: sparse_conv3d(f, None, w, b, neighbours=neighbours, backend=backend), leaves
    )


TRITON = Path(__file__).parents[1] / "triton_convolution.py"


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_triton_in_its_interpreter_agrees_with_torch() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, str(TRITON)], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["float32", "float16", "bfloat16", "strided"]
