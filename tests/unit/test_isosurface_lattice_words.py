"""Lattice words against a dictionary of points."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.lattice_words import LatticeWords, sparse_words
from shapewright_kernels.lattice_words_grid import grid_words

SIZE = (9, 7, 200)


def some_points(seed: int, count: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Sorted points, and values of which some are not finite."""
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, SIZE, (count, 3)), axis=0).astype(np.int32)
    values = rng.normal(size=len(points)).astype(np.float32)
    values[::17], values[5::31] = np.nan, -np.inf
    return points, values


def words_of(points: np.ndarray) -> dict[tuple[int, int, int], int]:
    return {tuple(place): word for word, place in enumerate(np.unique(points // [1, 1, 64], axis=0).tolist())}


def bits(words: LatticeWords, mask: np.ndarray, names: dict[tuple[int, int, int], int]) -> set[tuple[int, int, int]]:
    return {
        (x, y, segment * 64 + bit)
        for (x, y, segment), word in names.items()
        for bit in range(64)
        if int(mask[word]) >> bit & 1
    }


def test_masks_hold_the_points_by_value() -> None:
    points, values = some_points(0)
    words, order = sparse_words(points, values, 0.1)
    names = words_of(points)
    assert words.size == len(names)
    assert len(order) == 0
    cut = np.float32(0.1)
    for mask, keep in (
        (words.ranked, np.full(len(points), True)),
        (words.exists, np.isfinite(values)),
        (words.inside, np.isfinite(values) & (values < cut)),
    ):
        assert bits(words, mask, names) == {tuple(point) for point in points[keep].tolist()}
        assert mask[-1] == 0
    for row, (x, y, z) in enumerate(points.tolist()):
        word = names[x, y, z // 64]
        below = int(words.ranked[word]) & (1 << z % 64) - 1
        assert words.first[word] + below.bit_count() == row


def test_links_name_the_words_around() -> None:
    points, values = some_points(1)
    words, _ = sparse_words(points, values, 0.0)
    names = words_of(points)
    for (x, y, segment), word in names.items():
        for number in range(16):
            sign = -1 if number >= 8 else 1
            dx, dy, dz = sign * (number >> 2 & 1), sign * (number >> 1 & 1), sign * (number & 1)
            assert words.links[word, number] == names.get((x + dx, y + dy, segment + dz), words.size)


@pytest.mark.parametrize("threads", [2, 5])
def test_words_do_not_depend_on_threads_nor_on_row_order(threads: int) -> None:
    rng = np.random.default_rng(2)
    points = np.argwhere(rng.random((40, 60, 200)) < 0.4)
    values = rng.normal(size=len(points))
    one, _ = sparse_words(points, values, 0.0, threads=1)
    shuffle = rng.permutation(len(points))
    for rows in (slice(None), shuffle):
        many, order = sparse_words(points[rows], values[rows], 0.0, threads=threads)
        assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))
        if len(order):
            assert np.array_equal(shuffle[order], np.arange(len(points)))


def test_words_of_a_grid_hold_all_corners_of_cells_with_a_change() -> None:
    rng = np.random.default_rng(3)
    for depth in (2, 63, 64, 65, 129, 200):
        shape = (6, 5, depth)
        values = np.ones(shape)
        seeds = rng.integers(0, shape, (3, 3))
        values[tuple(seeds.T)] = -1
        values[tuple(rng.integers(0, shape, (2, 3)).T)] = np.nan
        words = grid_words(values.reshape(-1), shape, 0.0)
        stride = -(-depth // 64) + 1
        names = {}
        for word, place in enumerate(words.place.tolist()):
            column, segment = divmod(place, stride)
            names[column // (shape[1] + 1), column % (shape[1] + 1), segment] = word
        corners = [values[i:, j:, k:][:5, :4, : depth - 1] < 0 for i in (0, 1) for j in (0, 1) for k in (0, 1)]
        cells = np.argwhere(np.any(corners, axis=0) & ~np.all(corners, axis=0))
        wanted = {tuple(c) for cell in cells for c in (cell + np.indices((2, 2, 2)).reshape(3, -1).T).tolist()}
        assert {(x, y, z // 64) for x, y, z in wanted} <= set(names)
        assert np.all(np.diff(words.place) > 0)
        inside, finite = bits(words, words.inside, names), bits(words, words.exists, names)
        assert inside == {point for point in map(tuple, np.argwhere(values < 0).tolist()) if point in finite}
        for x, y, z in wanted:
            word = names[x, y, z // 64]
            assert words.first[word] + z % 64 == (x * shape[1] + y) * depth + z
            assert bool(int(words.exists[word]) >> z % 64 & 1) == np.isfinite(values[x, y, z])


def test_repeated_and_outlying_points_are_refused() -> None:
    twice = np.array([[1, 1, 1], [0, 0, 0], [1, 1, 1]])
    with pytest.raises(ValueError, match="twice"):
        sparse_words(twice, np.zeros(3), 0.0)
    with pytest.raises(ValueError, match="outside the lattice"):
        sparse_words(np.array([[0, -1, 0]]), np.zeros(1), 0.0)
    with pytest.raises(ValueError, match="64-bit keys"):
        sparse_words(np.array([[1 << 31, 1 << 31, 1 << 31]]), np.zeros(1), 0.0)


def test_lattices_of_two_million_points_an_axis_have_keys() -> None:
    corner = np.array([1 << 21] * 3)
    points = corner + np.indices((2, 2, 2)).reshape(3, -1).T
    words, _ = sparse_words(points, np.arange(8.0), 3.5)
    assert words.size == 4
    assert [int(mask).bit_count() for mask in words.inside] == [2, 2, 0, 0, 0]


def test_words_around_hold_the_neighbours_of_the_corners() -> None:
    values = np.ones((9, 9, 200))
    values[4, 4, 100] = -1
    narrow, wide = (grid_words(values.reshape(-1), values.shape, 0.0, around=around) for around in (False, True))
    stride = (values.shape[1] + 1) * (-(-values.shape[2] // 64) + 1)
    assert sorted(set((narrow.place // stride).tolist())) == [3, 4, 5]
    assert sorted(set((wide.place // stride).tolist())) == [2, 3, 4, 5, 6]
