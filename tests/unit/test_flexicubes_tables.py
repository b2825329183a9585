"""The generated case tables are the published ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from shapewright_kernels.flexicubes_tables import EDGES, tables


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("groups", "d704bd48b4b0d7a55a1d9f7647d739bc4b934c0983b877d5a4ccf5378fc515ce"),
        ("number", "a3ce4604e8fbf815bec49308d77c46029af7fabfe5438aa56bb839c3510ac2ba"),
        ("check", "2619074d39d60bb57c9d30ae29239dfd5f40b324e8f63f488d6126d4f1e24198"),
    ],
)
def test_generated_table_equals_the_published_one(name: str, digest: str) -> None:
    table = getattr(tables(), name)
    assert hashlib.sha256(np.ascontiguousarray(table, "<i2").tobytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("case", "groups"),
    [
        (1, [[0, 3, 8]]),
        (6, [[0, 1, 9], [4, 7, 8]]),
        (20, [[4, 7, 8], [2, 3, 11]]),
        (61, [[0, 1, 5, 7, 9, 10, 11]]),
        (105, [[0, 3, 8], [4, 5, 9], [1, 2, 10], [6, 7, 11]]),
        (231, [[4, 5, 9], [2, 3, 11]]),
    ],
)
def test_dual_vertices_of_known_cases(case: int, groups: list[list[int]]) -> None:
    found = [[int(e) for e in row if e >= 0] for row in tables().groups[case]]
    assert [row for row in found if row] == groups


def test_every_crossing_edge_belongs_to_exactly_one_dual_vertex() -> None:
    for case in range(256):
        crossing = {e for e, (a, b) in enumerate(EDGES) if (case >> a & 1) != (case >> b & 1)}
        listed = [int(e) for e in tables().groups[case].reshape(-1) if e >= 0]
        assert len(listed) == len(set(listed))
        assert set(listed) == crossing


def test_cases_that_may_invert_come_in_the_published_numbers() -> None:
    flagged = np.flatnonzero(tables().check[:, 0])
    sizes = (tables().groups[flagged, 0] >= 0).sum(axis=1)
    assert len(flagged) == 36
    assert np.bincount(sizes).tolist()[6:] == [12, 24]
    assert (tables().check[flagged, 4] == 255 - flagged).all()


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        tables().groups[0, 0, 0] = 1
