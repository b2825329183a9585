"""Compiled cutting of quads and dropping of vertices, against the same rules in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shapewright_kernels.flexible_dual_grid_triangles import cut_quads_by_weight, cut_quads_with_area, drop_unused
from shapewright_plugins.o_voxel.triangulation import cut_by_shape, cut_by_weight


def random_quads(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lattice = rng.integers(0, 3, (200, 3))  # many corners coincide or lie on one line
    return rng.integers(0, 200, (3000, 4)), lattice.astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_quads_are_cut_where_the_rule_in_torch_cuts_them(seed: int) -> None:
    quads, vertices = random_quads(seed)
    points = torch.from_numpy(vertices)
    a, b, c = points[torch.from_numpy(quads[:, :3])].unbind(1)
    with_area = (torch.linalg.cross(b - a, c - a) != 0).any(dim=1).numpy()
    assert 0.1 < with_area.mean() < 0.9
    found = cut_quads_with_area(quads, vertices, threads=1).reshape(-1, 2, 3)
    expected = np.where(with_area[:, None], quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [0, 1, 3, 3, 1, 2]])
    assert np.array_equal(found.reshape(-1, 6), expected)

    weights = np.random.default_rng(seed).integers(1, 4, 200).astype(np.float32)  # equal products: diagonal 1-3
    longer = weights[quads[:, 0]] * weights[quads[:, 2]] > weights[quads[:, 1]] * weights[quads[:, 3]]
    expected = np.where(longer[:, None], quads[:, [0, 1, 2, 0, 2, 3]], quads[:, [0, 1, 3, 3, 1, 2]])
    assert np.array_equal(cut_quads_by_weight(quads, weights).reshape(-1, 6), expected)


def test_half_precision_is_cut_in_torch_alike() -> None:
    quads, vertices = random_quads(5)
    rows, points = torch.from_numpy(quads), torch.from_numpy(vertices)
    single = cut_by_shape(rows, points, "reference")
    assert torch.equal(cut_by_shape(rows, points.bfloat16(), "reference"), single)  # small integers are exact in both
    weights = torch.arange(200, dtype=torch.float32) % 5 + 1
    assert torch.equal(cut_by_weight(rows, weights.bfloat16()), cut_by_weight(rows, weights))


def test_unused_vertices_are_dropped_in_order() -> None:
    quads = np.array([[5, 2, 2, 9], [9, 5, 4, 2]])
    used = drop_unused(quads, 12)
    assert used.tolist() == [2, 4, 5, 9]
    assert quads.tolist() == [[2, 0, 0, 3], [3, 2, 1, 0]]
    assert drop_unused(quads, 4).tolist() == [0, 1, 2, 3]
    assert quads.tolist() == [[2, 0, 0, 3], [3, 2, 1, 0]]
    assert len(drop_unused(np.empty((0, 4), np.int64), 3)) == 0
