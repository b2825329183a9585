"""The lattice index against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.lattice_index import build_index, find_rows

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
