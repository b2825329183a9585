"""Neighbour maps and the coordinate index: conventions by hand, limits, threads and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapewright_kernels.coordinate_index import CoordinateIndex
from shapewright_kernels.neighbour_map import downsample_map, neighbour_map, strided_map

FULL = np.stack(np.meshgrid(*[np.arange(n) for n in (2, 4, 5, 6)], indexing="ij"), axis=-1).reshape(-1, 4)


def shell(resolution: int) -> np.ndarray:
    """Voxels of a sphere, sorted, two batch items."""
    grid = np.stack(np.meshgrid(*[np.arange(resolution)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    radius = np.linalg.norm(grid + 0.5 - resolution / 2, axis=1)
    rows = grid[abs(radius - resolution * 0.4) < 1]
    return np.concatenate([np.insert(rows, 0, item, axis=1) for item in (0, 1)]).astype(np.int32)


def test_weights_are_counted_with_x_slowest() -> None:
    voxels = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 1, 2, 1], [0, 1, 1, 0], [1, 1, 1, 2]])
    assert np.flatnonzero(neighbour_map(voxels)[0] >= 0).tolist() == [4, 12, 13, 16]
    assert neighbour_map(voxels)[0, [4, 12, 13, 16]].tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("dilation", [1, 2])
def test_gathered_products_are_a_dense_convolution(dilation: int) -> None:
    rng = np.random.default_rng(0)
    feats = torch.from_numpy(rng.normal(size=(len(FULL), 3)))
    weight = torch.from_numpy(rng.normal(size=(2, 3, 3, 3, 3)))  # [out, kx, ky, kz, in]
    found = torch.from_numpy(neighbour_map(FULL, dilation=dilation)).long()
    padded = torch.cat([feats, torch.zeros(1, 3, dtype=feats.dtype)])
    ours = torch.einsum("nkc,okc->no", padded[found], weight.flatten(1, 3))
    dense = feats.reshape(2, 4, 5, 6, 3).permute(0, 4, 1, 2, 3)
    theirs = torch.nn.functional.conv3d(dense, weight.permute(0, 4, 1, 2, 3), padding=dilation, dilation=dilation)
    assert torch.allclose(ours, theirs.permute(0, 2, 3, 4, 1).reshape(-1, 2), atol=1e-12)


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (2, 0)])
def test_strided_products_are_a_dense_strided_convolution(kernel: int, padding: int) -> None:
    fine = FULL[FULL[:, 2] < 4]
    feats = torch.from_numpy(np.random.default_rng(0).normal(size=(len(fine), 1)))
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, kernel, kernel, kernel)))
    level = downsample_map(fine)
    found = torch.from_numpy(strided_map(fine, level.coords, kernel, padding=padding)).long()
    ours = torch.cat([feats, torch.zeros(1, 1, dtype=feats.dtype)])[found][..., 0] @ weight.flatten()
    dense = feats.reshape(2, 1, 4, 4, 6)
    theirs = torch.nn.functional.conv3d(dense, weight, stride=2, padding=padding)
    assert torch.allclose(ours, theirs.flatten(), atol=1e-12)


def test_default_padding_of_strided_maps_centres_the_kernel_on_the_first_child() -> None:
    fine = np.array([[0, 3, 4, 4], [0, 4, 4, 4], [0, 5, 4, 4]])
    assert strided_map(fine, np.array([[0, 2, 2, 2]]), (3, 1, 1)).tolist() == [[0, 1, 2]]


def test_one_index_serves_many_kernels() -> None:
    coords = shell(24)[::-1]
    index = CoordinateIndex(coords)
    assert np.array_equal(neighbour_map(index, 5), neighbour_map(coords, 5))
    assert np.array_equal(neighbour_map(index, 5)[:, 62], np.arange(len(coords)))


@pytest.mark.parametrize("threads", [2, 5])
def test_threads_do_not_change_maps(threads: int) -> None:
    coords = np.random.default_rng(0).permutation(shell(80))
    one, many = (neighbour_map(coords, threads=count) for count in (1, threads))
    assert np.array_equal(one, many)
    one_level, level = (downsample_map(coords, threads=count) for count in (1, threads))
    assert np.array_equal(one_level.coords, level.coords)
    assert np.array_equal(one_level.rows, level.rows)
    one, many = (strided_map(coords, level.coords, threads=count) for count in (1, threads))
    assert np.array_equal(one, many)


@pytest.mark.parametrize("sign", [1, -1])
def test_corners_of_the_largest_lattice_are_kept_apart(sign: int) -> None:
    """At 2^21 a batch of voxels has more cells than 64 bits count."""
    last = sign * (2**21 - 1)
    corners = np.array([[b, x, y, z] for b in (0, 15) for x in (0, last) for y in (0, last) for z in (0, last)])
    coords = np.random.default_rng(0).permutation(np.concatenate([corners, corners - np.array([0, 0, 0, sign])]))
    found = neighbour_map(coords.astype(np.int32))
    assert ((found >= 0).sum(axis=1) == 2).all()
    expected = CoordinateIndex(coords).rows(coords - [0, 0, 0, 1])
    assert np.array_equal(found[:, 12], expected)
    level = downsample_map(coords)
    assert np.array_equal(level.coords, np.unique(np.floor_divide(coords, [1, 2, 2, 2]), axis=0))


def test_queries_far_outside_are_not_found() -> None:
    index = CoordinateIndex(np.array([[0, 0, 0, 5], [0, 0, 0, 2**60]]))
    far = 2**63 - 1
    queries = np.array([[0, 0, 0, far], [0, 0, 0, -far], [far, 0, 0, 5], [0, -far, far, 5], [0, 0, 0, 2**60]])
    assert index.rows(queries).tolist() == [-1, -1, -1, -1, 1]


def test_no_voxels_make_empty_maps() -> None:
    none = np.empty((0, 4), np.int32)
    assert neighbour_map(none).shape == (0, 27)
    assert downsample_map(none).coords.shape == (0, 4)
    assert strided_map(none, FULL).tolist() == [[-1] * 27] * len(FULL)
    assert CoordinateIndex(none).rows(FULL[:2]).tolist() == [-1, -1]


def test_first_repeated_voxel_is_named() -> None:
    coords = np.array([[0, 9, 9, 9], [0, -1, 1, 1], [1, -1, 1, 1], [0, 9, 9, 9], [0, -1, 1, 1], [0, 9, 9, 9]])
    with pytest.raises(ValueError, match=r"rows 0 and 3 of coords are both \[0, 9, 9, 9\]"):
        neighbour_map(coords)
    with pytest.raises(ValueError, match=r"rows 1 and 2 of coords are both \[0, -1, 1, 1\]"):
        CoordinateIndex(coords[[0, 1, 4, 2]])


@pytest.mark.parametrize(
    ("coords", "message"),
    [
        (np.zeros((2, 3), np.int32), r"\(N, 4\)"),
        (np.zeros((2, 4)), "integers, not float64"),
        (np.array([[0, 0, 0, 2**61]]), "2\\^61"),
        (np.array([[0, 0, 0, 2**63]], np.uint64), "2\\^63"),
        (np.array([[0, 0, 0, 0], [2**30, 2**30, 2**30, 2**30]]), "split the batch"),
    ],
)
def test_bad_coords_are_refused(coords: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neighbour_map(coords)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be"):
        neighbour_map(FULL, 0)
    with pytest.raises(ValueError, match="dilation must be"):
        neighbour_map(FULL, dilation=(1, 1, 0))
    with pytest.raises(ValueError, match="factor must be"):
        downsample_map(FULL, 0)
    with pytest.raises(ValueError, match="too far out"):
        strided_map(FULL, np.array([[0, 0, 0, 2**40]]), stride=2**25)
