"""Neighbour maps against a dictionary, on random voxels of any order, sign and batch."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from shapewright_kernels.coordinate_index import CoordinateIndex
from shapewright_kernels.neighbour_map import downsample_map, neighbour_map, strided_map

SETTINGS = settings(max_examples=40, deadline=None)
TRIPLES = st.tuples(*[st.integers(1, 4)] * 3)


@st.composite
def voxels(draw: st.DrawFn) -> np.ndarray:
    """Unique rows in random order: a small box makes neighbours, a long z crosses words, a far origin has sign."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    box = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 6)),
        draw(st.integers(1, 6)),
        draw(st.sampled_from([4, 70, 300])),
    )
    origin = np.array([0, *draw(st.tuples(*[st.sampled_from([-70, -3, 0, 2**21 - 300])] * 3))])
    rows = np.unique(rng.integers(0, box, (draw(st.integers(0, 250)), 4)), axis=0) + origin
    return rng.permutation(rows).astype(draw(st.sampled_from([np.int32, np.int64])))


def by_dictionary(coords, bases, sizes, steps, shift) -> np.ndarray:  # type: ignore[no-untyped-def]
    rows = {tuple(voxel): row for row, voxel in enumerate(coords.tolist())}
    return np.array(
        [
            [
                rows.get((b, x + i * steps[0] + shift[0], y + j * steps[1] + shift[1], z + k * steps[2] + shift[2]), -1)
                for i, j, k in np.ndindex(*sizes)
            ]
            for b, x, y, z in bases.tolist()
        ],
        np.int64,
    ).reshape(len(bases), sizes[0] * sizes[1] * sizes[2])


@SETTINGS
@given(voxels(), TRIPLES, st.tuples(*[st.sampled_from([1, 2, 21, 70])] * 3))
def test_map_equals_a_dictionary(coords: np.ndarray, sizes: tuple, steps: tuple) -> None:
    shift = [-(size // 2) * step for size, step in zip(sizes, steps, strict=True)]
    found = neighbour_map(coords, sizes, dilation=steps)
    assert found.dtype == np.int32
    assert np.array_equal(found, by_dictionary(coords, coords, sizes, steps, shift))


@SETTINGS
@given(voxels(), voxels(), TRIPLES, TRIPLES, TRIPLES, st.none() | TRIPLES)
def test_strided_map_equals_a_dictionary(coords, outputs, sizes, strides, steps, padding) -> None:  # type: ignore[no-untyped-def]
    found = strided_map(coords, outputs, sizes, stride=strides, dilation=steps, padding=padding)
    pads = padding or [size // 2 * step for size, step in zip(sizes, steps, strict=True)]
    bases = outputs.astype(np.int64) * np.array([1, *strides])
    assert np.array_equal(found, by_dictionary(coords, bases, sizes, steps, [-pad for pad in pads]))


@SETTINGS
@given(voxels(), st.sampled_from([1, 3, 5]), st.integers(1, 3))
def test_neighbours_see_each_other_from_opposite_sides(coords: np.ndarray, size: int, dilation: int) -> None:
    found = neighbour_map(coords, size, dilation=dilation)
    row, weight = np.nonzero(found >= 0)
    assert np.array_equal(found[found[row, weight], size**3 - 1 - weight], row)
    assert np.array_equal(found[:, size**3 // 2], np.arange(len(coords)))
    assert np.array_equal(coords[found[row, weight], 0], coords[row, 0])


@SETTINGS
@given(voxels(), st.integers(0, 2**32))
def test_row_order_only_renames_rows(coords: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(coords))
    place = np.append(np.argsort(order), -1)  # where each row went; -1 stays
    assert np.array_equal(neighbour_map(coords[order]), place[neighbour_map(coords)][order])


@SETTINGS
@given(voxels())
def test_batch_items_alone_give_their_part_of_the_map(coords: np.ndarray) -> None:
    whole = neighbour_map(coords)
    for item in np.unique(coords[:, 0]):
        rows = np.flatnonzero(coords[:, 0] == item)
        alone = neighbour_map(coords[rows])
        assert np.array_equal(np.append(rows, -1)[alone], whole[rows])


@SETTINGS
@given(voxels(), st.integers(1, 5))
def test_downsampling_equals_division_and_unique_rows(coords: np.ndarray, factor: int) -> None:
    level = downsample_map(coords, factor)
    coarse = coords.astype(np.int64)
    coarse[:, 1:] = np.floor_divide(coarse[:, 1:], factor)
    wanted, rows = np.unique(coarse, axis=0, return_inverse=True)
    assert level.coords.dtype == coords.dtype
    assert np.array_equal(level.coords, wanted)
    assert np.array_equal(level.rows, rows.reshape(-1))
    rest = coords[:, 1:] - coarse[:, 1:] * factor
    assert np.array_equal(level.children, rest @ factor ** np.arange(3))
    assert np.array_equal(level.children_z_fastest, rest @ factor ** np.arange(3)[::-1])


@SETTINGS
@given(voxels(), st.integers(1, 4))
def test_kernel_as_large_as_the_stride_reads_exactly_the_children(coords: np.ndarray, factor: int) -> None:
    level = downsample_map(coords, factor)
    found = strided_map(coords, level.coords, factor, stride=factor, padding=0)
    wanted = np.full(found.shape, -1)
    wanted[level.rows, level.children_z_fastest] = np.arange(len(coords))
    assert np.array_equal(found, wanted)


@SETTINGS
@given(voxels(), voxels())
def test_rows_are_found_as_by_a_dictionary(coords: np.ndarray, queries: np.ndarray) -> None:
    index = CoordinateIndex(coords)
    rows = {tuple(voxel): row for row, voxel in enumerate(coords.tolist())}
    assert index.rows(queries).tolist() == [rows.get(tuple(voxel), -1) for voxel in queries.tolist()]
    assert index.rows(coords).tolist() == list(range(len(index)))
