from __future__ import annotations

import pytest
import torch
from shapewright import (
    Condition,
    Frame,
    GridField,
    GridLatent,
    Mesh,
    SparseField,
    SparseLatent,
    SparseTensor,
    StateError,
    TokenLatent,
    Voxels,
)


def lattice(resolution: int) -> torch.Tensor:
    axis = torch.arange(resolution + 1, dtype=torch.int32)
    points = torch.cartesian_prod(axis, axis, axis)
    return torch.cat([torch.zeros(len(points), 1, dtype=torch.int32), points], dim=1)


def sparse(rows: int, seed: int, resolution: int = 8) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(0, resolution, (rows, 3), generator=generator, dtype=torch.int32).unique(dim=0)
    coords = torch.cat([torch.zeros(len(coords), 1, dtype=torch.int32), coords], dim=1)
    return SparseTensor(coords, torch.rand(len(coords), 1, generator=generator), resolution)


def same(a: SparseTensor, b: SparseTensor) -> bool:
    return torch.equal(a.coords, b.coords) and torch.equal(a.feats, b.feats) and a.resolution == b.resolution


def test_stacking_and_unbinding_sparse_tensors_changes_nothing() -> None:
    items = [sparse(20, 0), sparse(1, 1), sparse(7, 2)]
    batch = SparseTensor.stack(items)
    assert batch.batch_size == 3
    assert batch.coords[:, 0].tolist() == sorted(batch.coords[:, 0].tolist())
    assert all(same(a, b) for a, b in zip(items, batch.unbind(), strict=True))


def test_an_empty_sample_survives_in_a_batch() -> None:
    empty = SparseTensor(torch.zeros(0, 4, dtype=torch.int32), torch.zeros(0, 1), 8)
    items = [sparse(4, 0), empty, sparse(3, 1), empty]
    assert [len(item.coords) for item in SparseTensor.stack(items).unbind()] == [len(i.coords) for i in items]


def test_every_latent_and_condition_stacks_and_unbinds() -> None:
    for cls, shape in ((TokenLatent, (1, 5, 3)), (GridLatent, (1, 2, 4, 4, 4))):
        items = [cls(torch.rand(shape)) for _ in range(3)]
        assert all(torch.equal(a.values, b.values) for a, b in zip(items, cls.stack(items).unbind(), strict=True))
    latents = [SparseLatent(sparse(6, seed)) for seed in range(2)]
    assert all(same(a.values, b.values) for a, b in zip(latents, SparseLatent.stack(latents).unbind(), strict=True))
    voxels = [Voxels(sparse(6, seed).coords, 8) for seed in range(2)]
    assert all(torch.equal(a.coords, b.coords) for a, b in zip(voxels, Voxels.stack(voxels).unbind(), strict=True))
    conditions = [Condition(torch.rand(1, 4, 2), torch.zeros(1, 4, 2), torch.ones(1, 4, dtype=torch.bool))] * 2
    parts = Condition.stack(conditions).unbind()
    assert len(parts) == 2
    assert parts[1].mask is not None
    assert torch.equal(parts[1].tokens, conditions[1].tokens)


def test_states_of_different_resolution_do_not_stack() -> None:
    with pytest.raises(StateError, match="one resolution"):
        SparseTensor.stack([sparse(3, 0, 8), sparse(3, 0, 16)])


def test_sparse_field_answers_like_the_dense_field_where_it_is_defined() -> None:
    resolution, frame = 4, Frame().grown(1.2)
    coords = lattice(resolution)
    values = torch.rand(len(coords), dtype=torch.float64)
    dense = GridField(values.reshape([resolution + 1] * 3), frame)
    field = SparseField(SparseTensor(coords, values[:, None], resolution), 9.0, frame)
    points = (torch.rand(200, 3, dtype=torch.float64) - 0.5) * 1.2
    torch.testing.assert_close(field.query(points), dense.query(points))


def test_sparse_field_is_outside_where_a_corner_is_missing() -> None:
    coords = lattice(1)[:-1]
    field = SparseField(SparseTensor(coords, torch.zeros(7, 1), 1), 3.0)
    assert field.query(torch.zeros(1, 3)).item() == 3.0


def test_grid_field_at_its_lattice_points_is_its_values() -> None:
    values = torch.rand(3, 4, 5, dtype=torch.float64)
    field = GridField(values)
    i, j, k = 2, 1, 3
    point = torch.tensor([-0.5 + i / 2, -0.5 + j / 3, -0.5 + k / 4], dtype=torch.float64)
    torch.testing.assert_close(field.query(point), values[i, j, k])


def test_margin_leaves_whole_cells_outside() -> None:
    frame = Frame().with_margin(10, 1)
    cell = frame.extent[0] / 10
    assert frame.upper[0] - 0.5 == pytest.approx(cell)
    with pytest.raises(StateError, match="resolution 2"):
        Frame().with_margin(2, 1)


def test_malformed_states_are_refused_by_name() -> None:
    with pytest.raises(StateError, match=r"faces must be int64"):
        Mesh(torch.zeros(3, 3), torch.zeros(1, 3, dtype=torch.int32))
    with pytest.raises(StateError, match="feats has 2 rows"):
        SparseTensor(torch.zeros(3, 4, dtype=torch.int32), torch.zeros(2, 1), 8)
    with pytest.raises(StateError, match="int32"):
        SparseTensor(torch.zeros(3, 4), torch.zeros(3, 1), 8)
