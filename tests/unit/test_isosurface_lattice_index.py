"""The lattice index against a dictionary."""

from __future__ import annotations

import numpy as np
import pytest
from shapewright_kernels.lattice_index import find_rows, index_sorted

SHAPE = (2, 9, 7, 200)


def some_points(seed: int, count: int = 1500) -> np.ndarray:
    return np.unique(np.random.default_rng(seed).integers(0, SHAPE, (count, 4)), axis=0).astype(np.int32)


@pytest.mark.parametrize("table_limit", [1 << 23, 0], ids=["table", "sorted keys"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_rows_are_found_as_by_a_dictionary(table_limit: int, shuffled: bool) -> None:
    points = some_points(0)
    index = index_sorted(points, SHAPE, table_limit=table_limit)
    if shuffled:
        order = np.random.default_rng(2).permutation(len(points))  # where the caller has each sorted point
        index = index._replace(order=order)
        points = points[np.argsort(order)]
    rows = {tuple(point): row for row, point in enumerate(points.tolist())}
    questions = np.random.default_rng(1).integers(-2, np.array(SHAPE) + 2, (5000, 4))
    found = find_rows(index, questions)
    assert found.tolist() == [rows.get(tuple(question), -1) for question in questions.tolist()]
    assert find_rows(index, points).tolist() == list(range(len(points)))


@pytest.mark.parametrize("threads", [2, 5])
def test_index_does_not_depend_on_threads(threads: int) -> None:
    points = some_points(2, 400_000)
    one, many = (index_sorted(points, SHAPE, threads=count) for count in (1, threads))
    assert all(np.array_equal(a, b) for a, b in zip(one, many, strict=True))


def test_no_points_make_an_empty_index() -> None:
    index = index_sorted(np.empty((0, 4), np.int32), SHAPE)
    assert index.words == 0
    assert find_rows(index, np.array([[0, 0, 0, 0]])).tolist() == [-1]
