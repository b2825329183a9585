"""The lattice index against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.lattice_index import build_index, dense_index, find_rows
from shapewright_kernels.lattice_index_links import link

SHAPE = (2, 9, 7, 200)


def some_points(seed: int, count: int = 1500) -> np.ndarray:
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, SHAPE, (count, 4)), axis=0)
    return points[rng.permutation(len(points))].astype(np.int32)


@pytest.mark.parametrize("table_limit", [1 << 23, 0], ids=["table", "sorted keys"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_are_found_as_by_a_dictionary(table_limit: int, shuffled: bool) -> None:
    points = some_points(0)
    if not shuffled:
        points = points[np.lexsort(points.T[::-1])]
    rows = {tuple(point): row for row, point in enumerate(points.tolist())}
    index = build_index(points, SHAPE, table_limit=table_limit)
    questions = np.random.default_rng(1).integers(-2, np.array(SHAPE) + 2, (5000, 4))
    found = find_rows(index, questions)
    assert found.tolist() == [rows.get(tuple(question), -1) for question in questions.tolist()]
    assert find_rows(index, points).tolist() == list(range(len(points)))
    assert (index.order.size > 0) == shuffled


@pytest.mark.parametrize("threads", [2, 5])
def test_index_does_not_depend_on_threads(threads: int) -> None:
    points = some_points(2, 400_000)
    one, many = (build_index(points, SHAPE, threads=count) for count in (1, threads))
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_links_name_the_words_around() -> None:
    index = link(build_index(some_points(3), SHAPE))
    segments = -(-SHAPE[3] // 64)
    numbers = {int(place): word for word, place in enumerate(index.place)}
    for word, place in enumerate(index.place.tolist()):
        column, segment = divmod(place, segments)
        row, y = divmod(column, SHAPE[2])
        x = row % SHAPE[1]
        for number in range(16):
            sign = -1 if number >= 8 else 1
            dx, dy, dz = sign * (number >> 2 & 1), sign * (number >> 1 & 1), sign * (number & 1)
            exists = 0 <= x + dx < SHAPE[1] and 0 <= y + dy < SHAPE[2] and 0 <= segment + dz < segments
            wanted = numbers.get(place + (dx * SHAPE[2] + dy) * segments + dz, -1) if exists else -1
            assert index.links[word, number] == wanted


def test_rows_of_a_dense_index_are_flat_indices() -> None:
    index = dense_index((3, 4, 70))
    index.present[:] = ~np.uint64(0)
    points = np.array([[0, 2, 3, 69], [0, 0, 1, 64], [0, 3, 0, 0], [0, 0, 0, 70]])
    assert find_rows(index, points).tolist() == [3 * 4 * 70 - 1, 70 + 64, -1, -1]


def test_repeated_and_outlying_points_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        build_index(np.array([[0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 1]]), SHAPE)
    with pytest.raises(ValueError, match="outside the lattice"):
        build_index(np.array([[0, 1, 1, 200]]), SHAPE)
    with pytest.raises(ValueError, match="outside the lattice"):
        build_index(np.array([[0, -1, 1, 0]]), SHAPE)


def test_no_points_make_an_empty_index() -> None:
    index = build_index(np.empty((0, 4), np.int32), SHAPE)
    assert index.words == 0
    assert find_rows(index, np.array([[0, 0, 0, 0]])).tolist() == [-1]
